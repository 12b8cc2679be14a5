//! What a pod's template asks of the scheduler, and what that guarantees for the members of a set.

use workload::container::containers;
use workload::member::Set;
use workload::selector::{Answer, Selector};
use workload::texts::Texts;
use workload::{Malformed, Node};

use crate::AntiAffinity;
use crate::judgement::cut;
use crate::sight::{Sight, is_per_member, marks};

/// A pod with more terms, or more constraints, than this has those after it left out: no real one has, and a hostile
/// one could make this slow.
const MOST_TERMS: usize = 100;
/// Selectors that name more members one by one, or have more conditions, are not looked into: no real one does, and a
/// hostile one could make this slow.
const MOST_NAMED: usize = 64;
const MOST_CONDITIONS: usize = 100;

/// Where terms and constraints stand in a pod, and what they are. Who comes first may first name members one by one.
const LISTS: [(u16, &str); 4] = [
    (marks::REQUIRED, "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"),
    (marks::SPREAD, "topologySpreadConstraints"),
    (marks::PREFERRED, "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution"),
    (marks::ATTRACTING, "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution"),
];

/// What a template asks of the scheduler.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    /// `spec.template.spec`.
    pub(crate) pod: Node<'a>,
    /// The set, with as many members as are judged.
    pub(crate) set: Set,
    sights: Vec<Sight<'a>>,
    /// The ports of its node that every member takes: number, protocol and address, which is empty for all of them.
    pub(crate) ports: Vec<(i32, &'a str, &'a str)>,
}

impl<'a> Placement<'a> {
    /// Reads it from the `set` at `object`, which is in `namespace`.
    pub(crate) fn read(policy: &AntiAffinity, object: &Node<'a>, set: Set, namespace: &str) -> Result<Self, Malformed> {
        let pod = object.dig("spec.template.spec")?;
        let mut placement = Self { pod, set, sights: Vec::new(), ports: Vec::new() };
        let mut room = MOST_NAMED;
        for (kind, list) in LISTS {
            for mut node in pod.items_at(list)?.into_iter().take(MOST_TERMS) {
                if kind == marks::PREFERRED {
                    node = node.get("podAffinityTerm")?;
                }
                let mut sight = Sight::read(policy, node, kind, namespace)?;
                let mut named = 0;
                for requirement in sight.selector.requirements() {
                    if is_per_member(&requirement.key) {
                        named += requirement.values.len();
                    }
                }
                sight.too_long = named > room || sight.selector.requirements().len() > MOST_CONDITIONS;
                if !sight.too_long {
                    room -= named;
                }
                (sight.sure, sight.open) = placement.seen(&[&sight]);
                if sight.sure > 0 {
                    sight.marks |= marks::SEEING;
                }
                placement.sights.push(sight);
            }
        }
        for container in containers(&pod)? {
            if container.role.is_long_running() {
                for port in container.ports()? {
                    if let Some(number) = port.host_port {
                        let address = port.node.string_at("hostIP")?.unwrap_or_default();
                        let address = if address == "0.0.0.0" { "" } else { address };
                        placement.ports.push((number, port.protocol, address));
                    }
                }
            }
        }
        Ok(placement)
    }

    /// Whether members of `other` and of this take a port that only one of them can have. Source: `CheckConflict` of
    /// `HostPortInfo` in `k8s.io/kube-scheduler/framework/types.go`.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        for (number, protocol, address) in &self.ports {
            for (taken, by, at) in &other.ports {
                let same_address = address == at || address.is_empty() || at.is_empty();
                if number == taken && protocol == by && same_address {
                    return true;
                }
            }
        }
        false
    }

    /// The terms and constraints that are of one of these kinds and have all of these marks.
    #[inline(never)]
    pub(crate) fn sights(&self, kinds: u16, with: u16) -> Vec<&Sight<'a>> {
        let mut chosen = Vec::new();
        for sight in &self.sights {
            if sight.marks & kinds != 0 && sight.marks & with == with {
                chosen.push(sight);
            }
        }
        chosen
    }

    /// How many members one of `sights` certainly sees, and how many more one of them may see.
    #[inline(never)]
    pub(crate) fn seen(&self, sights: &[&Sight<'_>]) -> (i64, i64) {
        let (mut selectors, mut keys) = (Vec::new(), Vec::new());
        for sight in sights {
            if !sight.too_long {
                selectors.push(&sight.selector);
                for requirement in sight.selector.requirements() {
                    keys.push(requirement.key.clone());
                }
            }
        }
        // Every group gets a copy of the labels: only of those that somebody asks for. What is cut off of one that no
        // selector can have as a value makes no difference.
        let keys = Texts::new(keys);
        let mut labels = Vec::new();
        for (key, value) in &self.set.labels {
            if keys.contains(key) {
                labels.push((key.clone(), cut(value)));
            }
        }
        let labels = labels.into_iter().collect();
        let set = Set { labels, name: self.set.name.clone(), selector: Selector::nothing(), ..self.set };
        let (mut sure, mut open) = (0, 0);
        for group in set.groups(&selectors) {
            let mut answer = Answer::No;
            for sight in sights {
                match sight.sees(&group.labels) {
                    Answer::No => {}
                    Answer::Unknown => answer = Answer::Unknown,
                    Answer::Yes => {
                        answer = Answer::Yes;
                        break;
                    }
                }
            }
            match answer {
                Answer::No => {}
                Answer::Unknown => open += group.count,
                Answer::Yes => sure += group.count,
            }
        }
        (sure, open)
    }

    /// How many members none of `terms` certainly sees. Each of the others is kept apart from everybody: all members
    /// carry the same terms, and the scheduler honours those of running pods for a new one too.
    pub(crate) fn unseen(&self, terms: &[&Sight<'_>]) -> i64 {
        self.set.replicas - self.seen(terms).0
    }

    /// Whether `spread` counts members of the set and nothing else: pods of others that it counts fill domains up, and
    /// let two members share one. A revision is of one set: it has the set's name, by `newRevision` in
    /// `pkg/controller/statefulset/stateful_set_utils.go`.
    pub(crate) fn is_counted_alone(&self, spread: &Sight<'_>) -> bool {
        spread.marks & marks::LASTING == 0 || spread.selector.implies(&self.set.selector)
    }

    /// The most members that `spread` lets share one domain: proven, or all.
    ///
    /// A pod may join a domain that holds `c` of `n` others if `c + 1 - least <= s`, where `least` is the count of the
    /// emptiest domain, and 0 while there are fewer than `m` domains. In the second case `c + 1 <= s`. In the first the
    /// other domains, at least `m - 1`, each hold `c + 1 - s` or more, so that `c + 1 + (m - 1)(c + 1 - s) <= n`.
    /// Source: `podtopologyspread/filtering.go` of the scheduler, `minMatchNum`.
    #[inline(never)]
    pub(crate) fn most_per_domain(&self, spread: &Sight<'_>) -> i64 {
        let all = self.set.replicas;
        if spread.marks & marks::HARD == 0 || spread.sure < all || !self.is_counted_alone(spread) {
            return all;
        }
        let (skew, domains) = (spread.max_skew, spread.min_domains);
        (all + (domains - 1) * skew).checked_div(domains).unwrap_or(all).max(skew).min(all)
    }

    /// The sights that together keep every two members apart, of those with these marks; none where they do not.
    /// `wishes` are as good as guarantees where that is so.
    pub(crate) fn separators(&self, wishes: bool, with: u16) -> Vec<&Sight<'a>> {
        let terms = if wishes { marks::REQUIRED | marks::PREFERRED } else { marks::REQUIRED };
        let mut separators = self.sights(terms, with | marks::SEEING);
        if self.unseen(&separators) > 1 {
            separators.clear();
            for spread in self.sights(marks::SPREAD, with) {
                if self.most_per_domain(spread) <= 1 || (wishes && spread.sure == self.set.replicas) {
                    separators.push(spread);
                    break;
                }
            }
        }
        separators
    }

    /// The most members that those of the terms and constraints with these marks leave in one domain, also while those of
    /// `old` are replaced. Where there are old ones, at least one of two that must not meet has to see the other.
    pub(crate) fn most_together(&self, with: u16, old: Option<&Self>) -> i64 {
        let terms = self.sights(marks::REQUIRED, with);
        let unseen = self.unseen(&terms);
        let mut most = unseen.max(1);
        if let Some(old) = old
            && old.unseen(&terms) > unseen
            && self.unseen(&old.sights(marks::REQUIRED, with)) > unseen
        {
            most = self.set.replicas;
        }
        for spread in self.sights(marks::HARD, with) {
            if old.is_none_or(|old| old.unseen(&[spread]) == 0) {
                most = most.min(self.most_per_domain(spread));
            }
        }
        most
    }
}
