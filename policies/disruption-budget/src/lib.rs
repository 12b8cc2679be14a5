#![doc = include_str!("../README.md")]

mod budget;

use policy::lookup::{DEPLOYMENTS, DISRUPTION_BUDGETS, Object, STATEFUL_SETS};
use policy::quorum::{self, majority};
use policy::settings::choice;
use policy::{Fault, Finding, Level, ObjectRef, Operation, Policy, Problem, Quorum, Review, Settings, Target};
use serde_json::Value;
use workload::edit::Edit;
use workload::int_or_percent::{IntOrPercent, Rounding};
use workload::member::Set;
use workload::node::object;
use workload::selector::{Answer, Labels, Operator};
use workload::texts::join;
use workload::{Malformed, Node, Path};

use crate::budget::{Budget, Coverage, Limit, Others};

policy::export!(DisruptionBudget);

/// The settings.
#[derive(Debug)]
pub struct DisruptionBudget {
    /// What a budget is that is not there.
    pub missing: Severity,
    /// What it is to delete the budget of a set that needs one.
    pub on_delete: Severity,
}

/// How much something weighs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Severity {
    /// The object is denied.
    Deny,
    /// The object is accepted with a warning.
    #[default]
    Warn,
}

impl Severity {
    fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        Ok(choice(node, &[("deny", Self::Deny), ("warn", Self::Warn)])?.unwrap_or_default())
    }

    fn level(self) -> Level {
        match self {
            Self::Deny => Level::Error,
            Self::Warn => Level::Warning,
        }
    }
}

impl Policy for DisruptionBudget {
    const NAME: &'static str = "disruption-budget";
    const FINDINGS_PAGE: &'static str = policy::findings_page!();
    const READS_RESOURCES: bool = false;
    const TARGETS: &'static [Target] = &[
        Target::STATEFUL_SETS,
        Target::STATEFUL_SET_SCALES,
        Target {
            group: "policy",
            kind: "PodDisruptionBudget",
            resource: "poddisruptionbudgets",
            subresource: None,
            operations: &[Operation::Create, Operation::Update, Operation::Delete],
        },
    ];

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            missing: Severity::read(&settings.get("missing"))?,
            on_delete: Severity::read(&settings.get("onDelete"))?,
        })
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        match review.kind() {
            "StatefulSet" => self.judge_set(review),
            _ if review.is_delete() => self.judge_deletion(review),
            _ => self.judge_budget(review),
        }
    }
}

/// A set of the namespace.
struct Member {
    object: Object,
    set: Set,
    ensemble: Option<String>,
    /// The set's own labels, not its pods'.
    labels: Labels,
    selector: Value,
}

impl Member {
    fn read(held: &Object) -> Result<Self, Malformed> {
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
struct Namespace {
    name: String,
    members: Vec<Member>,
    budgets: Vec<Budget>,
    others: Vec<Others>,
    /// Some object of either kind cannot be read, so that what is not found may be there all the same.
    is_incomplete: bool,
}

impl Namespace {
    fn read(review: &Review<'_>) -> Result<Self, Fault> {
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
        // A look-up more is a watch more, and few budgets need it.
        let counts_others = |budget: &Budget| {
            let selects = |member: &Member| member.set.count(&budget.selector).0 > 0;
            budget.counts_others() && namespace.members.iter().any(selects)
        };
        if namespace.budgets.iter().any(counts_others) {
            for object in review.cluster.list(&DEPLOYMENTS)? {
                namespace.others.extend(Others::read(&Node::root(object.value())).ok());
            }
        }
        Ok(namespace)
    }

    fn sets(&self) -> Vec<&Set> {
        self.members.iter().map(|member| &member.set).collect()
    }

    /// The sets whose members form one ensemble with those of `member`, itself included.
    fn ensemble<'a>(&'a self, member: &'a Member) -> Vec<&'a Set> {
        if member.ensemble.is_none() {
            return vec![&member.set];
        }
        self.members.iter().filter(|other| other.ensemble == member.ensemble).map(|member| &member.set).collect()
    }

    fn reference(&self, budget: &Budget) -> Option<ObjectRef> {
        (!budget.is_judged).then(|| ObjectRef {
            api_version: "policy/v1".to_owned(),
            kind: "PodDisruptionBudget".to_owned(),
            namespace: self.name.clone(),
            name: budget.name.clone(),
        })
    }
}

/// An ensemble, and the budgets that cover some of its pods.
struct Ensemble<'a> {
    member: &'a Member,
    /// How its members decide.
    quorum: Quorum,
    sets: Vec<&'a Set>,
    /// How many members there are.
    members: i64,
    /// How many may be missing.
    tolerance: i64,
    /// How many no budget covers.
    uncovered: i64,
    budgets: Vec<Covering<'a>>,
    /// The first two budgets that cover a same pod.
    overlap: Option<(&'a Budget, &'a Budget)>,
}

/// A budget that covers some pods of an ensemble.
struct Covering<'a> {
    budget: &'a Budget,
    coverage: Coverage,
    /// How many of the ensemble's pods.
    pods: i64,
    undecided: i64,
    /// How many of these are gone at the worst, while none that was evicted is replaced yet.
    unreplaced: i64,
}

impl<'a> Ensemble<'a> {
    fn new(review: &Review<'_>, namespace: &'a Namespace, member: &'a Member) -> Result<Self, Malformed> {
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

    fn votes(&self) -> bool {
        self.quorum.votes()
    }

    /// Whether a budget can do any good: two members that vote cannot lose one, and a single one nothing.
    fn needs_budget(&self) -> bool {
        if self.votes() { self.tolerance >= 1 } else { self.members >= 2 }
    }

    /// How many pods may be evicted at once, wherever they are.
    fn disruptions(&self) -> i64 {
        self.uncovered
            + self.budgets.iter().map(|covering| covering.coverage.disruptions.min(covering.pods)).sum::<i64>()
    }

    /// How many are gone at the worst, while no pod that was evicted is replaced yet.
    fn disruptions_unreplaced(&self) -> i64 {
        self.uncovered + self.budgets.iter().map(|covering| covering.unreplaced).sum::<i64>()
    }

    /// The limit that is right for an ensemble that can miss a member at all: one that stays right when it is scaled, wherever
    /// the members that may go are enough beside sets of one member, which a budget forgets with it.
    fn right_limit(&self) -> (&'static str, i64) {
        let single: i64 = self.sets.iter().map(|set| i64::from(set.replicas == 1)).sum();
        if single > 0 && single >= self.spare() { (MIN_AVAILABLE, self.members - 1) } else { (MAX_UNAVAILABLE, 1) }
    }

    fn right_limit_text(&self) -> String {
        let (field, pods) = self.right_limit();
        join(&[field, &pods.to_string()], ": ")
    }

    /// How many may be missing before something is lost.
    fn spare(&self) -> i64 {
        if self.votes() { self.tolerance } else { self.members - 1 }
    }

    fn pods(&self) -> String {
        match (self.sets.len(), self.members) {
            (1, 1) => "its 1 pod".to_owned(),
            (1, members) => format!("its {members} pods"),
            (sets, members) => format!("the {members} pods of the ensemble's {sets} sets"),
        }
    }

    /// What a finding about `budget` and all of the ensemble is about: the same whichever of its sets is looked at.
    fn subject(&self, budget: &Budget) -> String {
        let first = self.sets.first().map_or("", |set| &set.name);
        join(&[budget.name.as_str(), first], "/")
    }

    /// Why it matters how many are missing.
    fn why(&self) -> String {
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
    fn weigh(&self, finding: Finding, level: Level) -> Finding {
        if self.votes() {
            finding.level(level).why(self.why()).resting_on(&self.quorum)
        } else {
            finding.level(Level::Warning)
        }
    }

    /// The budget that would be right.
    fn right_budget(&self, namespace: &Namespace) -> Option<Value> {
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

const MAX_UNAVAILABLE: &str = "maxUnavailable";
const MIN_AVAILABLE: &str = "minAvailable";

impl DisruptionBudget {
    fn judge_set(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let quorum = review.quorum(&review.object)?;
        review.note(quorum.explain());
        let namespace = Namespace::read(review)?;
        let name = review.object.text_at("metadata.name")?;
        let Some(member) = namespace.members.iter().find(|member| member.set.name == name) else {
            return Ok(Vec::new());
        };
        if member.set.replicas == 0 {
            return Ok(Vec::new());
        }
        let ensemble = Ensemble::new(review, &namespace, member)?;
        let mut findings: Vec<Finding> = too_fast_an_update(review, &ensemble)?.into_iter().collect();
        if ensemble.budgets.is_empty() {
            findings.extend(self.missing(review, &namespace, &ensemble));
        } else {
            findings.extend(unsound(review, &namespace, &ensemble));
        }
        Ok(findings)
    }

    fn judge_budget(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let namespace = Namespace::read(review)?;
        let Some(budget) = namespace.budgets.iter().find(|budget| budget.is_judged) else { return Ok(Vec::new()) };
        let mut findings: Vec<Finding> = Vec::new();
        for member in namespace.members.iter().filter(|member| member.set.replicas > 0) {
            // A namespace may hold a thousand sets, which this budget has nothing to do with.
            let is_covered = namespace.ensemble(member).iter().any(|set| set.count(&budget.selector) != (0, 0));
            if !is_covered && !looks_meant_for(budget, member) {
                continue;
            }
            // What another object gets wrong is told where that one is judged.
            let Ok(ensemble) = Ensemble::new(review, &namespace, member) else { continue };
            if ensemble.budgets.is_empty() {
                findings.extend(self.missing(review, &namespace, &ensemble));
            }
            if ensemble.budgets.iter().any(|covering| covering.budget.is_judged) {
                for finding in unsound(review, &namespace, &ensemble) {
                    // What another budget gets wrong is told where that one, or the set, is judged.
                    let is_about_this = finding.object.is_none() || finding.code == OVERLAPPING;
                    if is_about_this
                        && !findings.iter().any(|told| (told.code, &told.subject) == (finding.code, &finding.subject))
                    {
                        findings.push(finding);
                    }
                }
            }
        }
        if budget.selector.is_nothing() && findings.is_empty() {
            findings.push(
                Finding::warning(
                    SELECTS_NOTHING,
                    Path::fields("spec.selector"),
                    Problem::Required,
                    "selects no pods at all",
                )
                .about(budget.name.clone())
                .why("an absent selector selects nothing, an empty one ({}) every pod of the namespace")
                .advise("set spec.selector to that of the set whose pods are meant"),
            );
        }
        if let Some(old) = &review.old {
            findings.extend(self.left_alone(review, &namespace, &Budget::read(old, true)?));
        }
        Ok(findings)
    }

    fn judge_deletion(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        // The list is what is left once the budget is gone.
        let namespace = Namespace::read(review)?;
        Ok(self.left_alone(review, &namespace, &Budget::read(&review.object, true)?))
    }

    /// The sets that `budget` covered and that nothing covers any more.
    fn left_alone(&self, review: &Review<'_>, namespace: &Namespace, budget: &Budget) -> Vec<Finding> {
        let was_covered = |member: &&Member| member.set.count(&budget.selector).0 > 0;
        let mut findings = Vec::new();
        for member in namespace.members.iter().filter(was_covered) {
            let Ok(ensemble) = Ensemble::new(review, namespace, member) else { continue };
            if ensemble.uncovered == 0 || !ensemble.needs_budget() || namespace.is_incomplete {
                continue;
            }
            let name = &member.set.name;
            let finding = Finding::error(
                "leaves-set-uncovered",
                Path::fields("metadata.name"),
                Problem::Invalid(budget.name.as_str().into()),
                format!(
                    "without it nothing keeps a drain from evicting {} pods of StatefulSet {name} at once",
                    ensemble.uncovered
                ),
            )
            .about(name.as_str())
            .measure(ensemble.uncovered)
            .advise("if the set stays, create the budget that replaces this one first");
            findings.push(ensemble.weigh(finding, self.on_delete.level()));
        }
        findings
    }

    /// No budget covers any pod of the ensemble.
    fn missing(&self, review: &Review<'_>, namespace: &Namespace, ensemble: &Ensemble<'_>) -> Option<Finding> {
        if !ensemble.needs_budget() || namespace.is_incomplete {
            return None;
        }
        let member = ensemble.member;
        let meant = namespace.budgets.iter().find(|budget| looks_meant_for(budget, member));
        let finding = if let Some(budget) = meant {
            Finding::error(
                SELECTS_NOTHING,
                Path::fields("spec.selector"),
                Problem::Invalid(budget.selector_value.clone()),
                selects_nothing(budget, member),
            )
            .at(namespace.reference(budget))
            .about(format!("{}/{}", budget.name, member.set.name))
            .advise("give it the selector of the set")
            .fix(if budget.is_judged {
                vec![Edit::Set { path: Path::fields("spec.selector"), value: member.selector.clone() }]
            } else {
                Vec::new()
            })
        } else {
            let finding = Finding::error(
                "missing-budget",
                Path::fields("metadata.name"),
                Problem::Invalid(member.set.name.as_str().into()),
                format!("no PodDisruptionBudget covers {}, so that drains may evict them all at once", ensemble.pods()),
            );
            match ensemble.right_budget(namespace) {
                Some(budget) => finding
                    .advise("create a PodDisruptionBudget with maxUnavailable: 1 and the set's selector")
                    .create(budget),
                None => finding.advise(format!(
                    "create one PodDisruptionBudget with {}, and a selector for the pods of all its sets",
                    ensemble.right_limit_text()
                )),
            }
        };
        // A dry run stores nothing, so that what belongs together cannot be there yet.
        let severity = if review.request.dry_run { Severity::Warn } else { self.missing };
        Some(ensemble.weigh(finding, severity.level()))
    }
}

const SELECTS_NOTHING: &str = "budget-selects-nothing";
const OVERLAPPING: &str = "overlapping-budgets";

/// Whether somebody who wrote `budget` probably meant the pods of `member`, none of which it selects: it bears the
/// set's name, or it selects the labels of the set instead of those of its pods.
fn looks_meant_for(budget: &Budget, member: &Member) -> bool {
    let name = &member.set.name;
    let by_name = budget.name == *name
        || budget.name.strip_prefix(name.as_str()).is_some_and(|rest| matches!(rest, "-pdb" | "-budget"));
    // A selector that only excludes fits almost anything, and says nothing of what is meant.
    let names_something = budget
        .selector
        .requirements()
        .iter()
        .any(|requirement| matches!(requirement.operator, Operator::In | Operator::Exists));
    let by_labels = names_something && budget.selector.matches(&member.labels) == Answer::Yes;
    member.set.count(&budget.selector) == (0, 0) && (by_name || by_labels)
}

fn selects_nothing(budget: &Budget, member: &Member) -> String {
    let name = &member.set.name;
    if budget.selector.is_nothing() {
        return format!("is absent and so selects nothing, not the pods of StatefulSet {name}");
    }
    let mut labels = Vec::new();
    for (key, value) in &member.set.labels {
        labels.push(join(&[key, ": ", value], ""));
    }
    let labels = if labels.is_empty() { "no labels".to_owned() } else { join(&labels, ", ") };
    format!("selects none of the pods of StatefulSet {name}, which have {labels}")
}

/// What is wrong with the budgets that cover pods of the ensemble.
fn unsound(review: &Review<'_>, namespace: &Namespace, ensemble: &Ensemble<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for covering in &ensemble.budgets {
        let budget = covering.budget;
        if covering.undecided > 0 {
            findings.push(
                Finding::warning(
                    "undecided-selector",
                    Path::fields("spec.selector"),
                    Problem::Invalid(budget.selector_value.clone()),
                    "selects by a label that only the cluster gives, so that its pods change with every update",
                )
                .about(budget.name.as_str())
                .advise("select by the labels of the set's own selector"),
            );
        } else if covering.coverage.disruptions == 0 {
            findings.extend(blocks_drains(review, ensemble, covering));
        }
        if budget.evicts_unhealthy && ensemble.votes() && ensemble.needs_budget() {
            findings.push(
                Finding::warning(
                    "evicts-unready-members",
                    Path::fields("spec.unhealthyPodEvictionPolicy"),
                    Problem::Invalid("AlwaysAllow".into()),
                    "members that run but are not ready yet may be evicted outside of the budget",
                )
                .about(budget.name.as_str())
                .why("a member that still copies data from the others is not ready, and is lost again")
                .advise("set it to IfHealthyBudget, or remove it"),
            );
        }
        for finding in findings.iter_mut().filter(|finding| finding.subject == budget.name) {
            finding.object = namespace.reference(budget);
        }
    }
    findings.extend(overlapping(review, namespace, ensemble));
    // With two budgets on a pod nothing can be evicted at all, and with an undecided one nobody knows.
    let is_decided = ensemble.overlap.is_none() && ensemble.budgets.iter().all(|covering| covering.undecided == 0);
    if is_decided {
        findings.extend(too_many(namespace, ensemble));
    }
    findings
}

fn blocks_drains(review: &Review<'_>, ensemble: &Ensemble<'_>, covering: &Covering<'_>) -> Option<Finding> {
    // Two members that vote can spare none: what is wrong is their number, which odd-replicas tells.
    if ensemble.votes() && ensemble.members == 2 {
        return None;
    }
    let budget = covering.budget;
    let Coverage { pods, scale, .. } = covering.coverage;
    let (problem, reason) = match budget.limit {
        Limit::Nothing => (
            Problem::Required,
            "neither maxUnavailable nor minAvailable is set, so that no pod may be evicted".to_owned(),
        ),
        Limit::MaxUnavailable(_) => {
            (Problem::Invalid(budget.limit_value.clone()), "allows no pod to be evicted".to_owned())
        }
        Limit::MinAvailable(limit) => {
            let wanted = match limit {
                IntOrPercent::Int(number) => number.to_string(),
                IntOrPercent::Percent(percent) => {
                    format!("{percent}% of {scale}, which is {} rounded up,", limit.of(scale, Rounding::Up))
                }
            };
            (
                Problem::Invalid(budget.limit_value.clone()),
                format!("{wanted} must stay of {pods} pods, so that none may be evicted"),
            )
        }
    };
    let finding = Finding::error("blocks-drains", budget.limit_path(), problem, reason)
        .about(budget.name.as_str())
        .why("every drain of a node with such a pod waits until somebody changes the budget")
        // Nothing is lost by an UPDATE to it: drains wait, and the way to another sound state leads through it.
        .level(if review.is_create() { Level::Error } else { Level::Warning });
    Some(if ensemble.members == 1 {
        finding.advise("remove the budget: a single pod cannot be moved without being away for a moment")
    } else {
        finding.advise(format!("use {} instead", ensemble.right_limit_text())).fix(set_right_limit(ensemble, budget))
    })
}

/// The edits that give the judged budget the right limit.
fn set_right_limit(ensemble: &Ensemble<'_>, budget: &Budget) -> Vec<Edit> {
    if !budget.is_judged {
        return Vec::new();
    }
    let (field, pods) = ensemble.right_limit();
    let other = match budget.limit {
        Limit::MaxUnavailable(_) => MAX_UNAVAILABLE,
        Limit::MinAvailable(_) => MIN_AVAILABLE,
        Limit::Nothing => field,
    };
    let mut edits = vec![Edit::Set { path: Path::fields("spec").field(field), value: pods.into() }];
    if other != field {
        edits.push(Edit::Remove { path: Path::fields("spec").field(other) });
    }
    edits
}

fn overlapping(review: &Review<'_>, namespace: &Namespace, ensemble: &Ensemble<'_>) -> Option<Finding> {
    let (first, second) = ensemble.overlap?;
    // The one of the two that is judged, where it is one of them: a finding points at what is being changed.
    let (budget, other) = if first.is_judged { (first, second) } else { (second, first) };
    let alone = ensemble.budgets.iter().find(|covering| covering.budget.name == budget.name);
    let is_sound_alone = alone.is_some_and(|covering| {
        let most = if ensemble.votes() { ensemble.tolerance } else { ensemble.members - 1 };
        (1..=most).contains(&covering.coverage.disruptions)
    });
    // A budget cannot be replaced without a moment with both.
    let replaces = budget.is_judged && review.is_create() && is_sound_alone;
    Some(
        Finding::error(
            OVERLAPPING,
            Path::fields("spec.selector"),
            Problem::Invalid(budget.selector_value.clone()),
            format!(
                "selects pods of StatefulSet {} that PodDisruptionBudget {} selects too",
                ensemble.member.set.name, other.name
            ),
        )
        .at(namespace.reference(budget))
        .about(join(&[first.name.as_str(), second.name.as_str()], "+"))
        .why("the eviction API answers an error for pods with two budgets, so that no drain ends")
        .advise("keep one of the two budgets")
        .level(if replaces { Level::Warning } else { Level::Error }),
    )
}

/// More pods may be evicted at once than the ensemble can miss; or no more, unless a set has no pod for a moment.
fn too_many(namespace: &Namespace, ensemble: &Ensemble<'_>) -> Option<Finding> {
    let (members, allowed) = (ensemble.members, ensemble.spare());
    let mut disruptions = ensemble.disruptions();
    let forgets = disruptions <= allowed;
    if forgets {
        disruptions = ensemble.disruptions_unreplaced();
    }
    if !ensemble.needs_budget() || disruptions <= allowed {
        return None;
    }
    // The budget that allows most; where pods are left out, the one that leaves them out.
    let covering = ensemble
        .budgets
        .iter()
        .max_by_key(|covering| if forgets { covering.unreplaced } else { covering.coverage.disruptions })?;
    let budget = covering.budget;
    let right = ensemble.right_limit_text();
    let finding = if ensemble.uncovered > 0 && !forgets {
        Finding::error(
            "uncovered-members",
            Path::fields("spec.selector"),
            Problem::Invalid(budget.selector_value.clone()),
            format!(
                "covers only {} of {}, so that {disruptions} may be evicted at once",
                members - ensemble.uncovered,
                ensemble.pods()
            ),
        )
        .advise(format!("select all of them, and use {right}"))
    } else {
        let taken = disruptions.min(members);
        let (code, lets) = match (forgets, ensemble.votes()) {
            (true, _) => {
                ("forgets-emptied-sets", "counts no set whose pods are all gone and not yet replaced, and then lets")
            }
            (false, true) => ("may-lose-quorum", "lets"),
            (false, false) => ("holds-nothing-back", "lets"),
        };
        let reason =
            format!("{lets} drains take {taken} of {members} members at once, but only {allowed} may be missing");
        let finding = Finding::error(
            code,
            budget.limit_path(),
            Problem::Invalid(budget.limit_value.clone()),
            match covering.coverage.pods - covering.pods {
                0 => reason,
                others => format!("{reason}: it also counts {others} pods that are not members"),
            },
        );
        let raised = covering.coverage.pods - allowed;
        match budget.limit {
            _ if ensemble.budgets.len() > 1 => finding.advise(format!("use one budget with {right} for all of them")),
            Limit::MinAvailable(_) if !forgets => finding
                .advise(format!("use {right} instead, or raise minAvailable to {raised} before the set grows"))
                .fix(set_right_limit(ensemble, budget)),
            _ => finding.advise(format!("use {right}")).fix(set_right_limit(ensemble, budget)),
        }
    }
    .about(ensemble.subject(budget))
    .at(namespace.reference(budget))
    .measure(disruptions - allowed)
    .why("a budget that lets all pods go at once holds nothing back");
    Some(ensemble.weigh(finding, if forgets { Level::Warning } else { Level::Error }))
}

/// A rolling update ignores budgets, and may itself take more members at once than the ensemble can miss.
fn too_fast_an_update(review: &Review<'_>, ensemble: &Ensemble<'_>) -> Result<Option<Finding>, Malformed> {
    let strategy = review.object.dig("spec.updateStrategy")?;
    let rolling = strategy.get("rollingUpdate")?;
    let node = rolling.get("maxUnavailable")?;
    let Some(limit) = IntOrPercent::read(&node)? else { return Ok(None) };
    let set = &ensemble.member.set;
    let is_rolling = strategy.string_at("type")?.is_none_or(|kind| kind == "RollingUpdate");
    if !is_rolling || !ensemble.votes() || ensemble.tolerance == 0 {
        return Ok(None);
    }
    // Members below the partition are left as they are: `pkg/controller/statefulset/stateful_set_control.go`.
    let partition = i64::from(rolling.int32_at("partition")?.unwrap_or(0));
    let updated = (set.first_ordinal + set.replicas - partition.max(set.first_ordinal)).max(0);
    let at_once = limit.of(set.replicas, Rounding::Down).max(1).min(updated);
    if at_once <= ensemble.tolerance {
        return Ok(None);
    }
    Ok(Some(
        Finding::error(
            "update-loses-quorum",
            node.path(),
            Problem::Invalid(node.value().cloned().unwrap_or_default()),
            format!(
                "an update may take {at_once} of {} members at once, but only {} may be missing",
                ensemble.members, ensemble.tolerance
            ),
        )
        .measure(at_once - ensemble.tolerance)
        .why(format!("updates ignore budgets; {}", ensemble.why()))
        .resting_on(&ensemble.quorum)
        .advise("remove it: members are then updated one at a time")
        .fix(vec![Edit::Remove { path: node.path() }]),
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::DisruptionBudget>();
    }
}
