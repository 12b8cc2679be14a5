//! A term of an affinity or a topology spread constraint, and which pods it sees.

use workload::member::{POD_INDEX, POD_NAME, REVISION};
use workload::selector::{Answer, Labels, Requirement, Selector};
use workload::{Malformed, Node};

use crate::AntiAffinity;

/// What a [`Sight`] is, and what it is good for: marks of one number, so that one loop chooses among all.
pub(crate) mod marks {
    /// A required term of `podAntiAffinity`.
    pub(crate) const REQUIRED: u16 = 1;
    /// A preferred one.
    pub(crate) const PREFERRED: u16 = 1 << 1;
    /// A topology spread constraint with `DoNotSchedule`.
    pub(crate) const HARD: u16 = 1 << 2;
    /// One with `ScheduleAnyway`.
    pub(crate) const SOFT: u16 = 1 << 3;
    /// A topology spread constraint.
    pub(crate) const SPREAD: u16 = HARD | SOFT;
    /// A required term of `podAffinity`.
    pub(crate) const ATTRACTING: u16 = 1 << 4;

    /// Wherever it puts members, its domain is a node or holds whole nodes.
    pub(crate) const KNOWN: u16 = 1 << 5;
    /// Its domain is a zone, or holds whole zones.
    pub(crate) const ZONE_OR_WIDER: u16 = 1 << 6;
    /// Its domain is a zone, or a part of one.
    pub(crate) const ZONE_OR_PART: u16 = 1 << 7;
    /// It sees members of every revision, so that it also holds during an update.
    pub(crate) const LASTING: u16 = 1 << 8;
    /// It certainly sees some member.
    pub(crate) const SEEING: u16 = 1 << 9;
}

/// The label that every namespace has, with its own name: `NamespaceLabelName` in `k8s.io/api/core/v1/types.go`.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Which pods a term or a constraint sees, from the pod that carries it.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    /// The term or the constraint.
    pub(crate) node: Node<'a>,
    /// See [`marks`].
    pub(crate) marks: u16,
    /// `topologyKey`.
    pub(crate) key: &'a str,
    /// `labelSelector`, in which the keys of the pod's own labels are merged.
    pub(crate) selector: Selector,
    /// Whether it looks into the pod's own namespace.
    pub(crate) namespace: Answer,
    /// `matchLabelKeys`.
    matched: Vec<&'a str>,
    /// `mismatchLabelKeys`.
    mismatched: Vec<&'a str>,
    /// It is too long to be looked into.
    pub(crate) too_long: bool,
    /// How many members it certainly sees.
    pub(crate) sure: i64,
    /// How many more it may see.
    pub(crate) open: i64,
    /// `maxSkew` of a constraint.
    pub(crate) max_skew: i64,
    /// `minDomains` of a constraint.
    pub(crate) min_domains: i64,
}

impl<'a> Sight<'a> {
    /// Reads a `PodAffinityTerm` or a `TopologySpreadConstraint` of a pod in `namespace`. The latter has neither
    /// `namespaces` nor `mismatchLabelKeys`. `kind` is what it is; a constraint says itself whether it is hard.
    pub(crate) fn read(
        policy: &AntiAffinity,
        node: Node<'a>,
        mut kind: u16,
        namespace: &str,
    ) -> Result<Self, Malformed> {
        let (mut max_skew, mut min_domains) = (1, 1);
        if kind == marks::SPREAD {
            max_skew = positive(&node, "maxSkew", 0)?;
            min_domains = positive(&node, "minDomains", 1)?;
            let action = node.get("whenUnsatisfiable")?;
            kind = match action.string()? {
                Some("DoNotSchedule") => marks::HARD,
                Some("ScheduleAnyway") => marks::SOFT,
                _ => return Err(Malformed::new(&action, "must be DoNotSchedule or ScheduleAnyway")),
            };
        }
        let key = node.text_at("topologyKey")?;
        if key.is_empty() {
            let field = node.get("topologyKey")?;
            return Err(Malformed::new(&field, "must be a label of nodes such as kubernetes.io/hostname"));
        }
        let written = Selector::read(&node.get("labelSelector")?)?;
        let mut sight = Self {
            marks: kind | policy.marks(key),
            key,
            selector: Selector::nothing(),
            matched: node.strings_at("matchLabelKeys")?,
            mismatched: node.strings_at("mismatchLabelKeys")?,
            namespace: own_namespace(&node, namespace)?,
            too_long: false,
            sure: 0,
            open: 0,
            max_skew,
            min_domains,
            node,
        };
        if kind == marks::HARD {
            // Whatever the label: nodes without it get no member, and each of the others is in one domain.
            sight.marks |= marks::KNOWN;
        }
        if !holds(&sight.matched, REVISION) {
            sight.marks |= marks::LASTING;
        }
        if !written.is_nothing() {
            sight.selector = Selector::everything();
        }
        for requirement in written.requirements() {
            // A template may hold such a label; the controller overwrites it.
            let key = requirement.key.as_str();
            if !(sight.merges(key) && holds(&[POD_NAME, POD_INDEX, REVISION], key)) {
                sight.selector = sight.selector.and(requirement.clone());
            }
        }
        Ok(sight)
    }

    /// Whether the pod's labels give `key` its value, and not the author.
    fn merges(&self, key: &str) -> bool {
        holds(&self.matched, key) || holds(&self.mismatched, key)
    }

    /// The key in `matchLabelKeys` that every member has its own value of: it sees nobody but itself.
    pub(crate) fn own_key(&self) -> Option<&'a str> {
        self.matched.iter().copied().find(|key| is_per_member(key))
    }

    /// Whether it sees another member that has `labels`.
    pub(crate) fn sees(&self, labels: &Labels) -> Answer {
        // Of members of another revision there is none but during an update.
        if self.own_key().is_some() || holds(&self.mismatched, REVISION) {
            Answer::No
        } else if self.too_long {
            Answer::Unknown
        } else {
            self.namespace.and(self.selector.matches(labels))
        }
    }

    /// A key in `mismatchLabelKeys` that all members, which have `labels`, have the same value of: the value that it
    /// leaves out.
    pub(crate) fn shared_mismatch(&self, labels: &Labels) -> Option<&'a str> {
        let mut revision = None;
        for key in self.mismatched.iter().copied() {
            if labels.value(key).is_some() && !is_per_member(key) {
                return Some(key);
            }
            if key == REVISION {
                revision = Some(key);
            }
        }
        revision
    }

    /// What the author wrote of the selector, whatever the values of the pod's labels; in an order of its own.
    pub(crate) fn written(&self) -> Vec<&Requirement> {
        let mut written: Vec<&Requirement> = Vec::new();
        for requirement in self.selector.requirements() {
            if !self.merges(&requirement.key) {
                let later = written.iter().position(|other| *other > requirement).unwrap_or(written.len());
                written.insert(later, requirement);
            }
        }
        written
    }
}

#[inline(never)]
fn holds(keys: &[&str], key: &str) -> bool {
    keys.contains(&key)
}

/// Whether every member has a value of its own for the label `key`.
pub(crate) fn is_per_member(key: &str) -> bool {
    holds(&[POD_NAME, POD_INDEX], key)
}

/// The number in `field` of a constraint, or `absent`; either must be positive.
fn positive(node: &Node<'_>, field: &'static str, absent: i64) -> Result<i64, Malformed> {
    let number = node.get(field)?;
    let count = number.int32()?.map_or(absent, i64::from);
    if count < 1 { Err(Malformed::new(&number, "must be at least 1")) } else { Ok(count) }
}

/// Whether the term at `node`, of a pod in `namespace`, looks into that namespace.
///
/// `namespaces` and what `namespaceSelector` matches add up; without both it is the pod's own. An empty selector
/// matches all: `PodAffinityTerm` in `k8s.io/api/core/v1/types.go`.
fn own_namespace(node: &Node<'_>, namespace: &str) -> Result<Answer, Malformed> {
    let namespaces = node.strings_at("namespaces")?;
    let selector = node.get("namespaceSelector")?;
    if holds(&namespaces, namespace) || (namespaces.is_empty() && selector.is_absent()) {
        return Ok(Answer::Yes);
    }
    let selector = Selector::read(&selector)?;
    let mut labels = Labels::default();
    for requirement in selector.requirements() {
        labels.set_perhaps(&requirement.key);
    }
    labels.set(NAMESPACE_NAME, namespace);
    Ok(selector.matches(&labels))
}
