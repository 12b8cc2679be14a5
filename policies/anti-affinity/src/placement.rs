//! What a pod's template asks of the scheduler, and what that guarantees for the members of a set.

use workload::container::containers;
use workload::member::Set;
use workload::{Malformed, Node};

use crate::members::{self, Members, Sight};

/// A pod with more terms, or more constraints, than this has those after it left out: no real one has, and a hostile
/// one could make this slow.
const MOST_TERMS: usize = 100;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// A topology spread constraint.
#[derive(Debug)]
pub(crate) struct Spread<'a> {
    pub(crate) sight: Sight<'a>,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: Option<i64>,
    /// `DoNotSchedule`, rather than `ScheduleAnyway`.
    pub(crate) is_hard: bool,
}

impl<'a> Spread<'a> {
    fn read(node: Node<'a>, namespace: &str) -> Result<Self, Malformed> {
        let positive = |field: &'static str| -> Result<Option<i64>, Malformed> {
            let number = node.get(field)?;
            match number.int32()? {
                Some(count) if count < 1 => Err(Malformed::new(&number, "must be at least 1")),
                count => Ok(count.map(i64::from)),
            }
        };
        let max_skew = positive("maxSkew")?
            .ok_or(())
            .or_else(|()| Err(Malformed::new(&node.get("maxSkew")?, "must be at least 1")))?;
        let min_domains = positive("minDomains")?;
        let action = node.get("whenUnsatisfiable")?;
        let is_hard = match action.string()? {
            Some("DoNotSchedule") => true,
            Some("ScheduleAnyway") => false,
            _ => return Err(Malformed::new(&action, "must be DoNotSchedule or ScheduleAnyway")),
        };
        Ok(Self { max_skew, min_domains, is_hard, sight: Sight::read(node, namespace)? })
    }

    /// Whether it counts members of the set and nothing else: pods of others that it counts fill domains up, and let
    /// two members share one.
    pub(crate) fn counts_members_only(&self, members: &Members) -> bool {
        self.sight.selector.implies(members.selector())
    }

    /// The most members that it lets share one domain: proven, or all.
    ///
    /// A pod may join a domain that holds `c` of `n` others if `c + 1 - least <= s`, where `least` is the count of the
    /// emptiest domain, and 0 while there are fewer than `m` domains. In the second case `c + 1 <= s`. In the first the
    /// other domains, at least `m - 1`, each hold `c + 1 - s` or more, so that `c + 1 + (m - 1)(c + 1 - s) <= n`.
    /// Source: `podtopologyspread/filtering.go` of the scheduler, `minMatchNum`.
    pub(crate) fn most_per_domain(&self, members: &Members) -> i64 {
        let all = members.count();
        if !self.is_hard || members.seen(&self.sight).0 < all || !self.counts_members_only(members) {
            return all;
        }
        let (skew, domains) = (self.max_skew, self.min_domains.unwrap_or(1));
        skew.max((all + (domains - 1) * skew) / domains).min(all)
    }
}

/// What a template asks of the scheduler.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    /// `spec.template.spec`.
    pub(crate) pod: Node<'a>,
    pub(crate) members: Members,
    /// The required terms of `podAntiAffinity`.
    pub(crate) required: Vec<Sight<'a>>,
    /// The preferred ones.
    pub(crate) preferred: Vec<Sight<'a>>,
    pub(crate) spreads: Vec<Spread<'a>>,
    /// The required terms of `podAffinity`.
    pub(crate) attracting: Vec<Sight<'a>>,
    /// Whether every member takes a port of its node.
    pub(crate) takes_port: bool,
}

impl<'a> Placement<'a> {
    /// Reads it from the set at `object`, which is in `namespace`, as if it had `count` members.
    pub(crate) fn read(object: &Node<'a>, namespace: &str, count: i64) -> Result<Self, Malformed> {
        let pod = object.dig("spec.template.spec")?;
        let affinity = pod.get("affinity")?;
        let terms = |kind: &'static str, list: &'static str| -> Result<Vec<Sight<'a>>, Malformed> {
            let mut terms = Vec::new();
            for item in affinity.get(kind)?.items_at(list)?.into_iter().take(MOST_TERMS) {
                let item = if list == PREFERRED { item.get("podAffinityTerm")? } else { item };
                terms.push(Sight::read(item, namespace)?);
            }
            Ok(terms)
        };
        let mut required = terms("podAntiAffinity", REQUIRED)?;
        let mut preferred = terms("podAntiAffinity", PREFERRED)?;
        let mut attracting = terms("podAffinity", REQUIRED)?;
        let constraints = pod.items_at("topologySpreadConstraints")?;
        let mut spreads = Vec::new();
        for node in constraints.into_iter().take(MOST_TERMS) {
            spreads.push(Spread::read(node, namespace)?);
        }
        let mut takes_port = false;
        for container in containers(&pod)?.iter().filter(|container| container.role.is_long_running()) {
            takes_port |= container.ports()?.iter().any(|port| port.host_port.is_some());
        }
        let sights = required.iter_mut().chain(spreads.iter_mut().map(|spread| &mut spread.sight));
        members::limit(sights.chain(&mut preferred).chain(&mut attracting));
        let members = Members::of(Set::read(object)?, count);
        Ok(Self { pod, members, required, preferred, spreads, attracting, takes_port })
    }

    /// The sights that together keep every two members apart, of those that `counts` lets count; `None` where they do
    /// not. `wishes` are as good as guarantees where that is so.
    pub(crate) fn separators(&self, wishes: bool, counts: impl Fn(&Sight<'_>) -> bool) -> Option<Vec<&Sight<'a>>> {
        let preferred = self.preferred.iter().filter(|_| wishes);
        let terms: Vec<&Sight<'a>> = self.required.iter().chain(preferred).filter(|sight| counts(sight)).collect();
        if self.members.unseen(&terms) <= 1 {
            return Some(terms.into_iter().filter(|term| self.members.seen(term).0 > 0).collect());
        }
        let separates = |spread: &&Spread<'_>| {
            counts(&spread.sight)
                && (spread.most_per_domain(&self.members) <= 1
                    || (wishes && self.members.seen(&spread.sight).0 == self.members.count()))
        };
        self.spreads.iter().find(separates).map(|spread| vec![&spread.sight])
    }

    /// The most members that those of the terms and constraints which `counts` lets count leave in one domain.
    pub(crate) fn most_together(&self, counts: impl Fn(&Sight<'_>) -> bool) -> i64 {
        let terms: Vec<&Sight<'_>> = self.required.iter().filter(|term| counts(term)).collect();
        let by_terms = self.members.unseen(&terms).max(1);
        let by_spreads = self.spreads.iter().filter(|spread| counts(&spread.sight));
        by_spreads.map(|spread| spread.most_per_domain(&self.members)).fold(by_terms, i64::min)
    }
}
