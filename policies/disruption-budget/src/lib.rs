#![doc = include_str!("../README.md")]

mod budget;
mod ensemble;
mod soundness;

use policy::settings::choice;
use policy::{Fault, Finding, Level, Operation, Policy, Problem, Review, Settings, Target};
use workload::edit::Edit;
use workload::selector::{Answer, Operator};
use workload::texts::join;
use workload::{Malformed, Node, Path};

use crate::budget::Budget;
use crate::ensemble::{Ensemble, Member, Namespace};
use crate::soundness::{OVERLAPPING, too_fast_an_update, unsound};

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
            findings.extend(unsound(review, &namespace, &ensemble, self.missing_level(review)));
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
                for finding in unsound(review, &namespace, &ensemble, self.missing_level(review)) {
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
            if let Some(budget) = ensemble.right_budget(namespace) {
                finding
                    .advise("create a PodDisruptionBudget with maxUnavailable: 1 and the set's selector")
                    .create(budget)
            } else {
                let (field, pods) = ensemble.right_limit(None);
                finding.advise(format!(
                    "create one PodDisruptionBudget with {field}: {pods}, and a selector for the pods of all its sets"
                ))
            }
        };
        Some(ensemble.weigh(finding, self.missing_level(review)))
    }

    /// What a partner is that is not there.
    fn missing_level(&self, review: &Review<'_>) -> Level {
        // A dry run stores nothing, so that what belongs together cannot be there yet.
        if review.request.dry_run { Level::Warning } else { self.missing.level() }
    }
}

const SELECTS_NOTHING: &str = "budget-selects-nothing";

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

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::DisruptionBudget>();
    }
}
