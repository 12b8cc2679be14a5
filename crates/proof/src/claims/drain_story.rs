//! What went wrong in a drain, as it is told.

use serde_json::Value;

use super::budget_view::{name, of_kind, replicas};
use super::drain_play::{after, change};
use crate::claim::Subject;
use crate::stories::are_left;

/// The findings that say that drains take too many.
const TAKES: [&str; 8] = [
    "may-lose-quorum",
    "holds-nothing-back",
    "uncovered-members",
    "missing-budget",
    "budget-selects-nothing",
    "leaves-set-uncovered",
    "undecided-selector",
    "forgets-emptied-sets",
];

/// What went wrong, in a few sentences, with the findings that may tell of that; nothing where nothing did, or more than one thing.
pub(super) fn story(subject: &Subject, seen: &Value) -> Option<(&'static [&'static str], Vec<String>)> {
    let mut stories: Vec<(&[&str], Vec<String>)> = Vec::new();
    let mut began = Vec::new();
    let scale = &change(subject)["scale"];
    if let (Some(from), Some(to)) = (scale["from"].as_i64(), scale["to"].as_i64()) {
        began.push(format!("{} is scaled from {from} to {to}", name(&subject.objects[0])));
    }
    let after = after(subject);
    for budget in of_kind(&after, "PodDisruptionBudget") {
        let limit = ["maxUnavailable", "minAvailable"].into_iter().find_map(|field| {
            let value = &budget["spec"][field];
            (!value.is_null()).then(|| format!("{field}: {}", value.to_string().trim_matches('"')))
        });
        let limit = limit.unwrap_or_else(|| "no limit".to_owned());
        let pods = seen["counted"][name(budget)]["matched"].as_array().map_or(0, Vec::len);
        began.push(format!(
            "budget {} has {limit} and selects {pods} {}",
            name(budget),
            if pods == 1 { "pod" } else { "pods" }
        ));
    }
    let refused = seen["in_turn"]["refused"].as_object();
    let first = |code: u16| refused.into_iter().flatten().find(|(_, answer)| **answer == code).map(|(pod, _)| pod);
    if let Some(pod) = first(500) {
        let steps = vec![
            format!("the node of {pod} is drained"),
            format!("the eviction of {pod} is answered with an error (500), since two budgets select it"),
            "the drain never ends".to_owned(),
        ];
        stories.push((&["overlapping-budgets"], steps));
    } else if let Some(pod) = first(429) {
        let steps = vec![
            format!("the node of {pod} is drained"),
            format!("all pods are ready, and yet {pod} may not be evicted (429)"),
            "the drain never ends".to_owned(),
        ];
        stories.push((&["blocks-drains"], steps));
    }
    for (ensemble, drained) in seen["at_once"].as_object().into_iter().flatten() {
        let (total, left) = (drained["members"].as_i64().unwrap_or(0), drained["least"].as_i64().unwrap_or(0));
        if 2 * left <= total && left < total {
            let texts = |field: &str| -> Vec<&str> {
                drained[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            };
            let steps = vec![
                format!(
                    "{} are drained at the same time, before any evicted pod is replaced",
                    texts("nodes").join(" and ")
                ),
                format!("{} are evicted, none of them refused", texts("evicted").join(", ")),
                are_left(left, total, &format!("members of {ensemble}")),
            ];
            stories.push((&TAKES, steps));
        }
    }
    for set in of_kind(&after, "StatefulSet") {
        let (total, set) = (replicas(set), name(set));
        let left = seen["update"][set].as_i64().unwrap_or(total);
        if total > 0 && 2 * left <= total && left < total {
            let steps = vec![
                format!("the template of {set} is changed"),
                format!("the update takes {} members at once, and no budget is asked", total - left),
                are_left(left, total, &format!("members of {set}")),
            ];
            stories.push((&["update-loses-quorum"], steps));
        }
    }
    for (budget, evicted) in seen["unready"].as_object().into_iter().flatten() {
        let counts = &seen["counted"][budget.as_str()];
        let pods: Vec<&str> = counts["matched"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let count = counts["allowed"].as_u64().and_then(|allowed| usize::try_from(allowed).ok()).unwrap_or(0) + 1;
        if let (true, Some(unready)) = (evicted == true, pods.get(..count)) {
            stories.push((
                &["evicts-unready-members"][..],
                vec![
                    format!("{} are not ready for a while, which is one more than budget {budget} lets go", unready.join(" and ")),
                    format!("the node of {} is drained, and it is evicted all the same: of pods that are not ready the budget is not asked", unready[0]),
                    are_left(i64::try_from(pods.len() - count).unwrap_or(0), i64::try_from(pods.len()).unwrap_or(0), "pods"),
                ],
            ));
        }
    }
    match (stories.pop(), stories.is_empty()) {
        (Some((causes, story)), true) => Some((causes, began.into_iter().chain(story).collect())),
        _ => None,
    }
}
