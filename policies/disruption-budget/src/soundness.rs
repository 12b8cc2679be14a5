//! What is wrong with the budgets of an ensemble, and with its updates.

use policy::{Finding, Level, Problem, Review};
use workload::edit::Edit;
use workload::int_or_percent::{IntOrPercent, Rounding};
use workload::texts::join;
use workload::{Malformed, Path};

use crate::budget::{Coverage, Limit};
use crate::ensemble::{Covering, Ensemble, MAX_UNAVAILABLE, MIN_AVAILABLE, Namespace};

pub(crate) const OVERLAPPING: &str = "overlapping-budgets";

/// What is wrong with the budgets that cover pods of the ensemble. `missing` is what a partner is that is not there.
pub(crate) fn unsound(
    review: &Review<'_>,
    namespace: &Namespace,
    ensemble: &Ensemble<'_>,
    missing: Level,
) -> Vec<Finding> {
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
            findings.extend(blocks_drains(review, ensemble, covering, missing));
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

fn blocks_drains(
    review: &Review<'_>,
    ensemble: &Ensemble<'_>,
    covering: &Covering<'_>,
    missing: Level,
) -> Option<Finding> {
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
    // What must stay of an ensemble is right once all of its sets are there.
    let grows = ensemble.member.ensemble.is_some() && matches!(budget.limit, Limit::MinAvailable(_));
    Some(if grows && missing == Level::Warning {
        finding.level(missing).advise("leave it, if sets of the ensemble are still to come")
    } else if ensemble.members == 1 {
        finding.advise("remove the budget: a single pod cannot be moved without being away for a moment")
    } else {
        use_right_limit(finding, ensemble, covering)
    })
}

/// Advice, and the edits where one budget will do: they give it the right limit.
fn use_right_limit(finding: Finding, ensemble: &Ensemble<'_>, covering: &Covering<'_>) -> Finding {
    let (budget, spare) = (covering.budget, ensemble.spare());
    let (mut before, mut after, mut edits) = ("use ", " instead".to_owned(), Vec::new());
    let is_alone = ensemble.uncovered == 0 && ensemble.budgets.len() == 1;
    let (field, pods) = ensemble.right_limit(is_alone.then_some(covering));
    if is_alone {
        let other = match budget.limit {
            Limit::MaxUnavailable(_) => MAX_UNAVAILABLE,
            Limit::MinAvailable(_) => MIN_AVAILABLE,
            Limit::Nothing => field,
        };
        if other == MIN_AVAILABLE && other != field && covering.coverage.disruptions > spare {
            let raised = (covering.coverage.pods - spare).to_string();
            after = join(&[&after, ", or raise minAvailable to ", &raised, " before the set grows"], "");
        }
        if budget.is_judged {
            edits.push(Edit::Set { path: Path::fields("spec").field(field), value: pods.into() });
            if other != field {
                edits.push(Edit::Remove { path: Path::fields("spec").field(other) });
            }
        }
    } else if ensemble.uncovered > 0 {
        before = "select all of them, and use ";
    } else {
        before = "use one budget for all of them, with ";
    }
    finding.advise(join(&[before, field, ": ", &pods.to_string(), &after], "")).fix(edits)
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
    let forgets = ensemble.disruptions(false) <= allowed;
    let disruptions = ensemble.disruptions(forgets);
    if !ensemble.needs_budget() || disruptions <= allowed {
        return None;
    }
    // The budget that allows most; where pods are left out, the one that leaves them out; the one that forgets most.
    let covering = ensemble.budgets.iter().max_by_key(|covering| {
        let at_once = covering.coverage.disruptions;
        if forgets { covering.unreplaced - at_once.min(covering.pods) } else { at_once }
    })?;
    let budget = covering.budget;
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
        Finding::error(
            code,
            budget.limit_path(),
            Problem::Invalid(budget.limit_value.clone()),
            match covering.coverage.pods - covering.pods {
                0 => reason,
                others => format!("{reason}: it also counts {others} pods that are not members"),
            },
        )
    }
    .about(ensemble.subject(budget))
    .at(namespace.reference(budget))
    .measure(disruptions - allowed)
    .why("a budget that lets all pods go at once holds nothing back");
    let finding = use_right_limit(finding, ensemble, covering);
    Some(ensemble.weigh(finding, if forgets { Level::Warning } else { Level::Error }))
}

/// A rolling update ignores budgets, and may itself take more members at once than the ensemble can miss.
pub(crate) fn too_fast_an_update(review: &Review<'_>, ensemble: &Ensemble<'_>) -> Result<Option<Finding>, Malformed> {
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
