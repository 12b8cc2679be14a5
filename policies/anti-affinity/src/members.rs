//! The members of a set, and which of them a separator sees.

use workload::member::{Group, POD_INDEX, POD_NAME, REVISION, Set};
use workload::selector::{Answer, Labels, Requirement, Selector};
use workload::texts::{TextMap, Texts};
use workload::{Malformed, Node};

/// The label that every namespace has, with its own name: `NamespaceLabelName` in `k8s.io/api/core/v1/types.go`.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Selectors that name more members one by one, or have more conditions, are not looked into: no real one does, and a
/// hostile one could make this slow.
const MOST_NAMED: usize = 64;
const MOST_CONDITIONS: usize = 100;

/// Which pods a term or a constraint sees, from the pod that carries it.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    /// The term or the constraint.
    pub(crate) node: Node<'a>,
    /// `topologyKey`.
    pub(crate) key: &'a str,
    /// `labelSelector`, in which the keys of the pod's own labels are merged.
    pub(crate) selector: Selector,
    /// Whether it looks into the pod's own namespace.
    pub(crate) namespace: Answer,
    /// The key in `matchLabelKeys` that every member has its own value of: it sees nobody but itself.
    pub(crate) own_key: Option<&'a str>,
    /// The key in `matchLabelKeys` that each revision has its own value of: it sees no other revision.
    pub(crate) by_revision: bool,
    /// The keys in `mismatchLabelKeys`.
    mismatched: Vec<&'a str>,
    /// All keys that the pod's labels give a value to, and not the author.
    merged: Vec<&'a str>,
    /// It is too long to be looked into: see [`limit`].
    pub(crate) too_long: bool,
}

impl<'a> Sight<'a> {
    /// Reads a `PodAffinityTerm` or a `TopologySpreadConstraint` of a pod in `namespace`. The latter has neither
    /// `namespaces` nor `mismatchLabelKeys`.
    pub(crate) fn read(node: Node<'a>, namespace: &str) -> Result<Self, Malformed> {
        let key_node = node.get("topologyKey")?;
        let Some(key) = key_node.string()?.filter(|key| !key.is_empty()) else {
            return Err(Malformed::new(&key_node, "must be a label of nodes such as kubernetes.io/hostname"));
        };
        let mut selector = Selector::read(&node.get("labelSelector")?)?;
        let matched = node.strings_at("matchLabelKeys")?;
        let mismatched = node.strings_at("mismatchLabelKeys")?;
        let by_controller = |key: &&str| [POD_NAME, POD_INDEX, REVISION].contains(key);
        let merged: Vec<&str> = matched.iter().chain(&mismatched).copied().collect();
        if merged.iter().any(by_controller) && !selector.is_nothing() {
            // A template may hold such a label; the controller overwrites it.
            let kept = selector.requirements().iter().filter(|requirement| {
                !(by_controller(&requirement.key.as_str()) && merged.contains(&requirement.key.as_str()))
            });
            selector = kept.cloned().fold(Selector::everything(), Selector::and);
        }
        Ok(Self {
            key,
            namespace: own_namespace(&node, namespace)?,
            own_key: matched.iter().copied().find(|key| [POD_NAME, POD_INDEX].contains(key)),
            by_revision: matched.contains(&REVISION),
            too_long: false,
            selector,
            mismatched,
            merged,
            node,
        })
    }

    /// Whether it sees another member that has `labels`.
    pub(crate) fn sees(&self, labels: &Labels) -> Answer {
        if self.own_key.is_some() || self.other_revisions_only() {
            Answer::No
        } else if self.too_long {
            Answer::Unknown
        } else {
            self.namespace.and(self.selector.matches(labels))
        }
    }

    /// Whether it sees none but members of another revision, of which there is none but during an update.
    pub(crate) fn other_revisions_only(&self) -> bool {
        self.mismatched.contains(&REVISION)
    }

    /// A key in `mismatchLabelKeys` that all members have the same value of, which is the value that it leaves out.
    pub(crate) fn shared_mismatch(&self, labels: &Labels) -> Option<&'a str> {
        self.mismatched.iter().copied().find(|key| labels.value(key).is_some() && ![POD_NAME, POD_INDEX].contains(key))
    }

    /// What the author wrote of the selector, whatever the values of the pod's labels; in an order of its own.
    pub(crate) fn written(&self) -> Vec<&Requirement> {
        let mut written: Vec<&Requirement> = Vec::new();
        for requirement in self.selector.requirements() {
            if !self.merged.contains(&requirement.key.as_str()) {
                let later = written.iter().position(|other| *other > requirement).unwrap_or(written.len());
                written.insert(later, requirement);
            }
        }
        written
    }

    /// The conditions that a pod with `labels` does not certainly meet.
    pub(crate) fn unmet(&self, labels: &Labels) -> Vec<&Requirement> {
        let alone = |requirement: &&&Requirement| {
            Selector::everything().and((**requirement).clone()).matches(labels) != Answer::Yes
        };
        self.written().iter().filter(alone).copied().collect()
    }
}

/// Whether the term at `node`, of a pod in `namespace`, looks into that namespace.
///
/// `namespaces` and what `namespaceSelector` matches add up; without both it is the pod's own. An empty selector
/// matches all: `PodAffinityTerm` in `k8s.io/api/core/v1/types.go`.
fn own_namespace(node: &Node<'_>, namespace: &str) -> Result<Answer, Malformed> {
    let namespaces = node.strings_at("namespaces")?;
    let selector = node.get("namespaceSelector")?;
    if namespaces.contains(&namespace) || (namespaces.is_empty() && selector.is_absent()) {
        return Ok(Answer::Yes);
    }
    let selector = Selector::read(&selector)?;
    let mut labels = Labels::new([(NAMESPACE_NAME, namespace)]);
    for requirement in selector.requirements().iter().filter(|requirement| requirement.key != NAMESPACE_NAME) {
        labels.set_perhaps(&requirement.key);
    }
    Ok(selector.matches(&labels))
}

/// Marks those of `sights` that are too long to be looked into.
pub(crate) fn limit<'s, 'a: 's>(sights: impl Iterator<Item = &'s mut Sight<'a>>) {
    let mut room = MOST_NAMED;
    for sight in sights {
        let requirements = sight.selector.requirements();
        let named: usize = requirements
            .iter()
            .filter(|requirement| [POD_NAME, POD_INDEX].contains(&requirement.key.as_str()))
            .map(|requirement| requirement.values.len())
            .sum();
        sight.too_long = requirements.len() > MOST_CONDITIONS || named > room;
        room -= if sight.too_long { 0 } else { named };
    }
}

/// The members of a set.
#[derive(Debug)]
pub(crate) struct Members(Set);

impl Members {
    /// The members that `set` would have, if they were `count`.
    pub(crate) fn of(set: Set, count: i64) -> Self {
        Self(Set { replicas: count, ..set })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> i64 {
        self.0.replicas
    }

    /// The set's own selector.
    pub(crate) fn selector(&self) -> &Selector {
        &self.0.selector
    }

    /// The labels that the template gives to all of them.
    pub(crate) fn labels(&self) -> &TextMap {
        &self.0.labels
    }

    /// All labels of one of them.
    pub(crate) fn sample(&self) -> Labels {
        self.0.member(self.0.first_ordinal)
    }

    /// How many members `sight` certainly sees, and how many more it may see.
    pub(crate) fn seen(&self, sight: &Sight<'_>) -> (i64, i64) {
        self.groups(&[sight]).iter().fold((0, 0), |(sure, open), group| match sight.sees(&group.labels) {
            Answer::Yes => (sure + group.count, open),
            Answer::Unknown => (sure, open + group.count),
            Answer::No => (sure, open),
        })
    }

    /// How many members none of `terms` certainly sees. Each of the others is kept apart from everybody: all members
    /// carry the same terms, and the scheduler honours those of running pods for a new one too.
    pub(crate) fn unseen(&self, terms: &[&Sight<'_>]) -> i64 {
        let is_seen = |group: &Group| terms.iter().any(|term| term.sees(&group.labels) == Answer::Yes);
        self.groups(terms).iter().filter(|group| !is_seen(group)).map(|group| group.count).sum()
    }

    /// The members, in groups that none of `sights` tells apart.
    fn groups(&self, sights: &[&Sight<'_>]) -> Vec<Group> {
        let selectors: Vec<&Selector> =
            sights.iter().filter(|sight| !sight.too_long).map(|sight| &sight.selector).collect();
        let keys =
            selectors.iter().flat_map(|selector| selector.requirements()).map(|requirement| requirement.key.clone());
        let keys = Texts::new(keys.collect());
        // Every group gets a copy of the labels: only of those that somebody asks for. No value of a selector is longer
        // than 63 characters, so that what is cut off makes no difference.
        let labels = self.0.labels.iter().filter(|(key, _)| keys.contains(key));
        let labels = labels.map(|(key, value)| (key.clone(), value.chars().take(64).collect())).collect();
        Set { labels, name: self.0.name.clone(), selector: Selector::nothing(), ..self.0 }.groups(&selectors)
    }
}
