//! Everything that the rule can say, in one table.

use policy::Level;
use policy::Level::{Error, Warning};

/// What is said of one thing that is wrong. A name between two `$` stands for a fact: see `Judgement::fill`.
pub(crate) struct Says {
    /// The code; and the one for a constraint, where that is another.
    pub(crate) codes: [&'static str; 2],
    /// How much it weighs where the members vote.
    pub(crate) level: Level,
    pub(crate) reason: &'static str,
    pub(crate) why: &'static str,
    pub(crate) advice: &'static str,
    /// Whether a required term of the set's own selector mends it.
    pub(crate) own_term: bool,
}

const WARNING: Says = Says { codes: [""; 2], level: Warning, reason: "", why: "", advice: "", own_term: false };

/// The affinity that keeps the members apart, as YAML on one line.
pub(crate) const AFFINITY: &str = "podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: $own$}]}";
/// Why it matters that members may share a node: all of them, or some; and what that means for those that vote.
pub(crate) const ALL_FAIL: &str = "when that node fails, all fail";
pub(crate) const SOME_FAIL: &str = "when that node fails, only $left$ of $count$ are left";
pub(crate) const VOTE: &str = "; the members decide by majority, so that $majority$ of $count$ must be up";

const ADD_AFFINITY: &str = "add to affinity: $affinity$";
const SET_SELECTOR: &str = "set labelSelector to $own$";
const SELECTS_NOTHING: [&str; 2] = ["term-selects-nothing", "spread-selects-nothing"];
const UNPROVEN: [&str; 2] = ["term-unproven", "spread-unproven"];

// Beside the scheduler.

pub(crate) const NODE_NAME: Says = Says {
    codes: ["node-name"; 2],
    level: Error,
    reason: "puts all $count$ members on the node $name$, past the scheduler",
    why: "affinity and topology spread are the scheduler's, which is not asked; when the node fails, all fail",
    advice: "remove nodeName, and keep the members apart with podAntiAffinity",
    ..WARNING
};
pub(crate) const OWN_SCHEDULER: Says = Says {
    codes: ["own-scheduler"; 2],
    reason: "this scheduler may place the members by rules of its own",
    advice: "make sure that it honours required podAntiAffinity and topologySpreadConstraints",
    ..WARNING
};

// The members are not kept apart.

pub(crate) const NOTHING: Says = Says {
    codes: ["no-anti-affinity"; 2],
    level: Error,
    reason: "nothing keeps the members apart: all $count$ may run on one node",
    why: "$fate$",
    advice: ADD_AFFINITY,
    own_term: true,
};
pub(crate) const ONLY_WISHED: Says = Says {
    codes: ["only-preferred"; 2],
    reason: "wished, not guaranteed: members share a node when the scheduler finds no better one",
    advice: "make it required: $affinity$",
    ..NOTHING
};
pub(crate) const PER_MEMBER_KEY: Says = Says {
    codes: ["per-member-key"; 2],
    reason: "every member has a value of its own for $key$, so that this keeps each apart from nobody but itself",
    advice: "remove $key$ from matchLabelKeys",
    ..NOTHING
};
pub(crate) const TOO_LONG: Says = Says {
    codes: UNPROVEN,
    reason: "has too many conditions, or names too many members one by one, to be judged",
    advice: SET_SELECTOR,
    ..NOTHING
};
pub(crate) const OPEN_NAMESPACE: Says = Says {
    codes: UNPROVEN,
    reason: "depends on labels of the namespace, of which only kubernetes.io/metadata.name is certain",
    advice: "remove namespaceSelector and namespaces: the term then means the set's own namespace",
    ..NOTHING
};
pub(crate) const OPEN_LABELS: Says = Says {
    codes: UNPROVEN,
    reason: "depends on labels that a pod gets only when it runs",
    advice: SET_SELECTOR,
    ..NOTHING
};
pub(crate) const SELECTS_SOME: Says = Says {
    codes: ["term-selects-some", "spread-selects-some"],
    reason: "selects only $sure$ of the $count$ members",
    advice: SET_SELECTOR,
    ..NOTHING
};
pub(crate) const NO_SELECTOR: Says = Says {
    codes: SELECTS_NOTHING,
    reason: "selects none of the set's own pods: without a labelSelector it selects nothing",
    advice: SET_SELECTOR,
    ..NOTHING
};
pub(crate) const OTHER_NAMESPACE: Says = Says {
    codes: SELECTS_NOTHING,
    reason: "selects none of the set's own pods: they are in the namespace $namespace$, where it does not look",
    advice: "remove namespaces and namespaceSelector: the term then means the set's own namespace",
    ..NOTHING
};
pub(crate) const SHARED_MISMATCH: Says = Says {
    codes: SELECTS_NOTHING,
    reason: "selects none of the set's own pods: it leaves out pods with an equal $key$, as all members are",
    advice: "remove $key$ from mismatchLabelKeys",
    ..NOTHING
};
pub(crate) const OTHER_LABELS: Says = Says {
    codes: SELECTS_NOTHING,
    reason: "selects none of the set's own pods: they have $have$, it wants $wants$",
    advice: SET_SELECTOR,
    ..NOTHING
};
pub(crate) const COUNTS_OTHERS: Says = Says {
    codes: ["spread-counts-others"; 2],
    reason: "also counts pods that are not the set's, and where those are many, members may share a $domain$",
    advice: SET_SELECTOR,
    ..NOTHING
};
/// On a domain other than the node, tighter numbers would not do.
pub(crate) const MAY_SHARE: Says = Says {
    codes: ["spread-may-share"; 2],
    reason: "lets up to $most$ of the $count$ members share a $domain$",
    ..NOTHING
};
pub(crate) const MAY_SHARE_NODE: Says = Says { advice: "set minDomains: $count$ and maxSkew: 1", ..MAY_SHARE };
pub(crate) const MAY_SHARE_WHEN_FEWER: &str =
    "lets up to $most$ of the $count$ members share a $domain$, when fewer than $count$ are left";

// The members are kept apart; but not always, or not for certain.

pub(crate) const UNKNOWN_DOMAIN: Says = Says {
    codes: ["unknown-domain"; 2],
    reason: "whether nodes have this label, and none is in two such domains, is not known here",
    why: "nodes without the label count as apart from nobody",
    advice: "use kubernetes.io/hostname; or list the label in the setting domains, if every node has it",
    ..WARNING
};
pub(crate) const PER_REVISION: Says = Says {
    codes: ["per-revision-key"; 2],
    reason: "keeps apart only members of one revision: during an update, old and new ones may share a node",
    advice: "remove controller-revision-hash from matchLabelKeys",
    ..WARNING
};
pub(crate) const UPDATE_UNSEEN: Says = Says {
    codes: ["update-unseen"; 2],
    reason: "this update changes $key$: until it is done, old and new members do not see each other and may share a node",
    advice: SET_SELECTOR,
    ..WARNING
};

pub(crate) const UPDATE_PORTS: Says = Says {
    reason: "this update changes the ports of the node that the members take: until it is done, old and new members may share a node",
    advice: ADD_AFFINITY,
    own_term: true,
    ..UPDATE_UNSEEN
};
pub(crate) const UPDATE_ZONES: Says = Says {
    reason: "does not select the members as they were: until this update is done, old and new ones may be too many in one $zone$",
    ..UPDATE_UNSEEN
};

// Zones.

pub(crate) const ZONE_PINNED: Says = Says {
    codes: ["zone-pinned"; 2],
    level: Error,
    reason: "binds all $count$ members to one $zone$",
    why: "when that $zone$ fails, all that it holds fails, but at most $bearable$ member$s$ may be lost",
    advice: "remove it, so that members can spread",
    ..WARNING
};
pub(crate) const ZONE_MAJORITY: Says = Says {
    codes: ["zone-majority"; 2],
    reason: "up to $together$ of the $count$ members may be in one $zone$",
    advice: "add to it: {topologyKey: $key$, whenUnsatisfiable: DoNotSchedule, maxSkew: 1, minDomains: $zones$, labelSelector: <the set's own>}",
    ..ZONE_PINNED
};
pub(crate) const ZONE_MAJORITY_SPREAD: Says =
    Says { advice: "set minDomains: $zones$ and maxSkew: 1, and labelSelector to the set's own", ..ZONE_MAJORITY };
