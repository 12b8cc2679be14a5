//! Ensembles of a namespace, and the budgets that cover their pods.

use policy::lookup::{DEPLOYMENTS, DISRUPTION_BUDGETS, Object, STATEFUL_SETS};
use policy::quorum::{self, majority};
use policy::{Fault, Finding, Level, ObjectRef, Quorum, Review};
use serde_json::Value;
use workload::member::Set;
use workload::node::object;
use workload::selector::{Answer, Labels};
use workload::texts::join;
use workload::{Malformed, Node};

use crate::budget::{Budget, Coverage, Others};

pub(crate) const MAX_UNAVAILABLE: &str = "maxUnavailable";
pub(crate) const MIN_AVAILABLE: &str = "minAvailable";

/// A set of the namespace.
pub(crate) struct Member {
    pub(crate) object: Object,
    pub(crate) set: Set,
    pub(crate) ensemble: Option<String>,
    /// The set's own labels, not its pods'.
    pub(crate) labels: Labels,
    pub(crate) selector: Value,
}

impl Member {
    pub(crate) fn read(held: &Object) -> Result<Self, Malformed> {
        let object = Node::root(held.value());
        Ok(Self {
            object: held.clone(),
            set: Set::read(&object)?,
            ensemble: quorum::ensemble(&object)?.map(str::to_owned),
            labels: Labels::new(object.string_map_at("metadata.labels")?),
            selector: object.dig("spec.selector")?.value().cloned().unwrap_or_default(),
        })
    }
}

/// What the namespace holds that matters here.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) others: Vec<Others>,
    /// Some object of either kind cannot be read, so that what is not found may be there all the same.
    pub(crate) is_incomplete: bool,
}

impl Namespace {
    pub(crate) fn read(review: &Review<'_>) -> Result<Self, Fault> {
        let mut namespace = Self {
            name: review.cluster.namespace().to_owned(),
            members: Vec::new(),
            budgets: Vec::new(),
            others: Vec::new(),
            is_incomplete: false,
        };
        for object in review.cluster.list(&STATEFUL_SETS)? {
            match Member::read(&object) {
                Ok(member) => namespace.members.push(member),
                // What the judged object gets wrong is told with its place; what another does, with that one.
                Err(malformed) if object.is_judged() => return Err(malformed.into()),
                Err(_) => namespace.is_incomplete = true,
            }
        }
        for object in review.cluster.list(&DISRUPTION_BUDGETS)? {
            match Budget::read(&Node::root(object.value()), object.is_judged()) {
                Ok(budget) => namespace.budgets.push(budget),
                Err(malformed) if object.is_judged() => return Err(malformed.into()),
                Err(_) => namespace.is_incomplete = true,
            }
        }
        // A look-up more is a watch more, and few budgets need it: those whose advice is a number of pods, too.
        let counts_others = |budget: &Budget| {
            let selects = |member: &Member| {
                (budget.counts_others() || member.ensemble.is_some()) && member.set.count(&budget.selector).0 > 0
            };
            namespace.members.iter().any(selects)
        };
        if namespace.budgets.iter().any(counts_others) {
            for object in review.cluster.list(&DEPLOYMENTS)? {
                namespace.others.extend(Others::read(&Node::root(object.value())).ok());
            }
        }
        Ok(namespace)
    }

    pub(crate) fn sets(&self) -> Vec<&Set> {
        self.members.iter().map(|member| &member.set).collect()
    }

    /// The sets whose members form one ensemble with those of `member`, itself included.
    pub(crate) fn ensemble<'a>(&'a self, member: &'a Member) -> Vec<&'a Set> {
        if member.ensemble.is_none() {
            return vec![&member.set];
        }
        self.members.iter().filter(|other| other.ensemble == member.ensemble).map(|member| &member.set).collect()
    }

    pub(crate) fn reference(&self, budget: &Budget) -> Option<ObjectRef> {
        (!budget.is_judged).then(|| ObjectRef {
            api_version: "policy/v1".to_owned(),
            kind: "PodDisruptionBudget".to_owned(),
            namespace: self.name.clone(),
            name: budget.name.clone(),
        })
    }
}

/// An ensemble, and the budgets that cover some of its pods.
pub(crate) struct Ensemble<'a> {
    pub(crate) member: &'a Member,
    /// How its members decide.
    pub(crate) quorum: Quorum,
    pub(crate) sets: Vec<&'a Set>,
    /// How many members there are.
    pub(crate) members: i64,
    /// How many may be missing.
    pub(crate) tolerance: i64,
    /// How many no budget covers.
    pub(crate) uncovered: i64,
    pub(crate) budgets: Vec<Covering<'a>>,
    /// The first two budgets that cover a same pod.
    pub(crate) overlap: Option<(&'a Budget, &'a Budget)>,
}

/// A budget that covers some pods of an ensemble.
pub(crate) struct Covering<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) coverage: Coverage,
    /// How many of the ensemble's pods.
    pub(crate) pods: i64,
    pub(crate) undecided: i64,
    /// How many of these are gone at the worst, while none that was evicted is replaced yet.
    pub(crate) unreplaced: i64,
}

impl<'a> Ensemble<'a> {
    pub(crate) fn new(review: &Review<'_>, namespace: &'a Namespace, member: &'a Member) -> Result<Self, Malformed> {
        let quorum = review.quorum(&Node::root(member.object.value()))?;
        let sets = namespace.ensemble(member);
        let members = sets.iter().map(|set| set.replicas).sum();
        let all = namespace.sets();
        let mut budgets: Vec<Covering<'_>> = Vec::new();
        for budget in &namespace.budgets {
            let (mut pods, mut undecided) = (0, 0);
            let mut parts = Vec::new();
            for set in &sets {
                let (sure, open) = set.count(&budget.selector);
                pods += sure;
                undecided += open;
                parts.push((sure, set.replicas));
            }
            if pods + undecided > 0 {
                // By name, so that the same two budgets are told from whichever side is judged.
                let later = budgets.iter().position(|other| other.budget.name > budget.name).unwrap_or(budgets.len());
                let coverage = budget.coverage(&all, &namespace.others);
                let unreplaced = coverage.unreplaced(budget.limit, pods, parts);
                budgets.insert(later, Covering { budget, coverage, pods, undecided, unreplaced });
            }
        }
        let selectors: Vec<_> = budgets.iter().map(|covering| &covering.budget.selector).collect();
        let (mut uncovered, mut overlap) = (0, None);
        for set in &sets {
            for group in set.groups(&selectors) {
                let (mut first, mut is_open) = (None, false);
                for Covering { budget, .. } in &budgets {
                    match (budget.selector.matches(&group.labels), first) {
                        (Answer::Yes, None) => first = Some(*budget),
                        (Answer::Yes, Some(first)) => overlap = overlap.or(Some((first, *budget))),
                        (Answer::Unknown, _) => is_open = true,
                        (Answer::No, _) => {}
                    }
                }
                if first.is_none() && !is_open {
                    uncovered += group.count;
                }
            }
        }
        let tolerance = quorum.tolerance(members);
        Ok(Self { member, quorum, sets, members, tolerance, uncovered, budgets, overlap })
    }

    pub(crate) fn votes(&self) -> bool {
        self.quorum.votes()
    }

    /// Whether a budget can do any good: two members that vote cannot lose one, and a single one nothing.
    pub(crate) fn needs_budget(&self) -> bool {
        if self.votes() { self.tolerance >= 1 } else { self.members >= 2 }
    }

    /// How many pods may be evicted at once, wherever they are; or how many are gone at the worst, while no pod that was evicted is
    /// replaced yet.
    pub(crate) fn disruptions(&self, unreplaced: bool) -> i64 {
        let mut all = self.uncovered;
        for covering in &self.budgets {
            all += if unreplaced { covering.unreplaced } else { covering.coverage.disruptions.min(covering.pods) };
        }
        all
    }

    /// The limit that is right, in place of `covering`'s or of all, for an ensemble that can miss a member at all.
    /// `maxUnavailable: 1` stays right when a set is scaled; but with it the budget forgets sets of one member, so that all of
    /// these and one more may go.
    pub(crate) fn right_limit(&self, covering: Option<&Covering<'_>>) -> (&'static str, i64) {
        let single: i64 = self.sets.iter().map(|set| i64::from(set.replicas == 1)).sum();
        if single >= self.spare() {
            (MIN_AVAILABLE, covering.map_or(self.members, |covering| covering.coverage.pods) - 1)
        } else {
            (MAX_UNAVAILABLE, 1)
        }
    }

    /// How many may be missing before something is lost.
    pub(crate) fn spare(&self) -> i64 {
        if self.votes() { self.tolerance } else { self.members - 1 }
    }

    pub(crate) fn pods(&self) -> String {
        match (self.sets.len(), self.members) {
            (1, 1) => "its 1 pod".to_owned(),
            (1, members) => format!("its {members} pods"),
            (sets, members) => format!("the {members} pods of the ensemble's {sets} sets"),
        }
    }

    /// What a finding about `budget` and all of the ensemble is about: the same whichever of its sets is looked at.
    pub(crate) fn subject(&self, budget: &Budget) -> String {
        let mut first = &self.member.set.name;
        for set in &self.sets {
            if set.replicas > 0 && set.name < *first {
                first = &set.name;
            }
        }
        join(&[&budget.name, first], "/")
    }

    /// Why it matters how many are missing.
    pub(crate) fn why(&self) -> String {
        let members = self.members;
        match self.quorum.group {
            Some(group) if group < members => format!(
                "data is kept by groups of {group} members that decide by majority, so that each can miss {} of them",
                self.tolerance
            ),
            _ => format!("the members decide by majority, so that {} of {members} must be up", majority(members)),
        }
    }

    /// `finding` at this level, with why it matters to members that vote; of others, it is a warning.
    pub(crate) fn weigh(&self, finding: Finding, level: Level) -> Finding {
        if self.votes() {
            finding.level(level).why(self.why()).resting_on(&self.quorum)
        } else {
            finding.level(Level::Warning)
        }
    }

    /// The budget that would be right.
    pub(crate) fn right_budget(&self, namespace: &Namespace) -> Option<Value> {
        let name = &self.member.set.name;
        (self.sets.len() == 1).then(|| {
            let metadata = object(&mut [("name", name.as_str().into()), ("namespace", namespace.name.as_str().into())]);
            let spec = object(&mut [(MAX_UNAVAILABLE, 1.into()), ("selector", self.member.selector.clone())]);
            object(&mut [
                ("apiVersion", "policy/v1".into()),
                ("kind", "PodDisruptionBudget".into()),
                ("metadata", metadata),
                ("spec", spec),
            ])
        })
    }
}
