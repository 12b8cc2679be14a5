//! What a rule would say that counts in another way than the disruption controller: computed from the objects.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::budget_view::{Ensemble, View, members, name, of_kind, replicas};
use super::drain_play::called;
use crate::claim::Subject;
use crate::make::matches;
use crate::rules::{Found, Said};

/// How budgets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As the disruption controller does.
    Right,
    /// A share is rounded down.
    RoundsDown,
    /// A share is of the pods that are selected, whatever their controllers want.
    OfTheSelected,
    /// A budget without a selector selects every pod.
    AbsentIsAll,
    /// Of several sets under one budget the first is counted only.
    OfOne,
}

/// Something that makes pods.
struct Maker<'a> {
    object: &'a Value,
    /// Their names and labels.
    pods: Vec<(String, Value)>,
    /// How many it is to make.
    wanted: i64,
}

/// What makes the pods of a subject; a pod that nobody makes stands for itself.
fn makers(subject: &Subject) -> Vec<Maker<'_>> {
    let labelled = |made: &Value, ordinal: &str, pod: &str| {
        let mut labels = made["spec"]["template"]["metadata"]["labels"].clone();
        if made["kind"] == "StatefulSet" {
            labels["statefulset.kubernetes.io/pod-name"] = pod.into();
            labels["apps.kubernetes.io/pod-index"] = ordinal.into();
        }
        labels
    };
    let mut makers = Vec::new();
    for set in of_kind(subject, "StatefulSet") {
        let pods = members(set).into_iter().map(|pod| {
            let labels = labelled(set, pod.rsplit_once('-').map_or("", |(_, ordinal)| ordinal), &pod);
            (pod, labels)
        });
        makers.push(Maker { object: set, pods: pods.collect(), wanted: replicas(set) });
    }
    for made in of_kind(subject, "Deployment") {
        let pods = (0..replicas(made)).map(|number| (format!("{}-{number}", name(made)), labelled(made, "", "")));
        makers.push(Maker { object: made, pods: pods.collect(), wanted: replicas(made) });
    }
    for pod in of_kind(subject, "Pod") {
        makers.push(Maker {
            object: pod,
            pods: vec![(name(pod).to_owned(), pod["metadata"]["labels"].clone())],
            wanted: 1,
        });
    }
    makers
}

/// What the status of each budget would be, by this reading.
pub(super) fn counted(subject: &Subject, reading: Reading) -> Value {
    let makers = makers(subject);
    let mut all = BTreeMap::new();
    for budget in of_kind(subject, "PodDisruptionBudget") {
        let spec = &budget["spec"];
        let selects = |labels: &Value| match &spec["selector"] {
            Value::Null => reading == Reading::AbsentIsAll,
            selector => matches(selector, labels),
        };
        let (mut pods, mut scale, mut sets) = (Vec::new(), 0, 0);
        for maker in makers.iter().filter(|maker| called(maker.object) == called(budget)) {
            let is_set = maker.object["kind"] == "StatefulSet";
            if reading == Reading::OfOne && sets > 0 && is_set {
                continue;
            }
            let before = pods.len();
            pods.extend(maker.pods.iter().filter(|(_, labels)| selects(labels)).map(|(pod, _)| pod.clone()));
            if pods.len() > before {
                scale += maker.wanted;
                sets += u32::from(is_set);
            }
        }
        let healthy = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        let expected = if reading == Reading::OfTheSelected { healthy } else { scale };
        let of = |limit: &Value| match limit.as_str().and_then(|share| share.strip_suffix('%')?.parse::<i64>().ok()) {
            Some(percent) => (percent * expected + if reading == Reading::RoundsDown { 0 } else { 99 }) / 100,
            None => limit.as_i64().unwrap_or(0),
        };
        let is_neither = spec["maxUnavailable"].is_null() && spec["minAvailable"].is_null();
        let desired = if spec["maxUnavailable"].is_null() {
            of(&spec["minAvailable"])
        } else {
            (expected - of(&spec["maxUnavailable"])).max(0)
        };
        let allowed = if is_neither { 0 } else { (healthy - desired).max(0) };
        let status = json!({
            "matched": pods, "allowed": allowed, "healthy": healthy, "desired": desired, "expected": expected,
        });
        all.insert(name(budget), status);
    }
    json!(all)
}

/// What a rule says that reads budgets so: where that changes a verdict, it is dropped or added.
pub(super) fn judged(subject: &Subject, said: &Said, reading: Reading) -> Said {
    let right = View::new(subject, &counted(subject, Reading::Right));
    let wrong = View::new(subject, &counted(subject, reading));
    let is_of = |found: &Found, ensemble: &Ensemble| {
        let set = found.subject.split_once('/').map_or("", |(_, set)| set);
        ensemble.sets.iter().any(|name| name == set || found.message.contains(&format!("\"{name}\"")))
    };
    let mut added = Vec::new();
    let mut said = said.clone();
    let mut add = |code: &str, subject: String| {
        added.push(Found { code: code.to_owned(), level: "error".to_owned(), subject, ..Found::default() });
    };
    for (before, after) in right.budgets.iter().zip(&wrong.budgets) {
        match (right.blocks(before), wrong.blocks(after)) {
            (true, false) => {
                said = said.without(|found| found.code == "blocks-drains" && found.subject == before.name);
            }
            (false, true) => add("blocks-drains", before.name.clone()),
            _ => {}
        }
    }
    for (before, after) in right.ensembles.iter().zip(&wrong.ensembles) {
        if right.is_missing(before) && !wrong.is_missing(after) {
            let codes = ["missing-budget", "budget-selects-nothing"];
            said = said.without(|found| codes.contains(&found.code.as_str()) && is_of(found, before));
        }
        match (right.takes_too_much(before), wrong.takes_too_much(after)) {
            (true, false) => {
                let codes = ["may-lose-quorum", "holds-nothing-back", "uncovered-members"];
                said = said.without(|found| codes.contains(&found.code.as_str()) && is_of(found, before));
            }
            (false, true) => {
                let budget = wrong.covering(after).first().map_or("", |budget| budget.name.as_str());
                add("may-lose-quorum", format!("{budget}/{}", before.sets.first().map_or("", String::as_str)));
            }
            _ => {}
        }
    }
    denying(&said, added)
}

/// What a rule says that finds this too.
pub(super) fn denying(said: &Said, found: Vec<Found>) -> Said {
    let mut said = said.clone();
    said.findings.extend(found);
    said.accepted = said.findings.iter().all(|found| found.level != "error");
    said
}

/// Says of each of these budgets that it blocks drains, where that is not said already: what denies too much.
pub(super) fn blocking(subject: &Subject, said: &Said, is_wrong: impl Fn(&Value) -> bool) -> Said {
    let is_told = |budget: &Value| said.findings.iter().any(|f| f.code == "blocks-drains" && f.subject == name(budget));
    let budgets = of_kind(subject, "PodDisruptionBudget").filter(|budget| is_wrong(budget) && !is_told(budget));
    let found = budgets.map(|budget| Found {
        code: "blocks-drains".to_owned(),
        level: "error".to_owned(),
        subject: name(budget).to_owned(),
        ..Found::default()
    });
    denying(said, found.collect())
}

/// How many sets a budget selects pods of.
pub(super) fn sets_under(subject: &Subject, budget: &Value) -> usize {
    let view = View::new(subject, &counted(subject, Reading::Right));
    let counted = view.budgets.iter().find(|counted| counted.name == name(budget));
    let sets = of_kind(subject, "StatefulSet");
    counted.map_or(0, |counted| sets.filter(|set| members(set).iter().any(|pod| counted.pods.contains(pod))).count())
}

#[cfg(test)]
mod tests {
    use super::super::budget_make::{budget, set};
    use super::*;

    #[test]
    fn a_reading_counts_as_it_says() {
        let set = set("zk", 5, &json!({ "app": "zk" }));
        let some = json!({ "matchExpressions": [{ "key": "apps.kubernetes.io/pod-index", "operator": "In", "values": ["0", "1", "2"] }] });
        let half = budget("b", &some, &json!({ "minAvailable": "50%" }));
        let none = budget("none", &Value::Null, &json!({ "maxUnavailable": 1 }));
        let subject =
            Subject { name: String::new(), objects: vec![set, half, none], settings: Value::Null, facts: Value::Null };
        let allowed = |reading: Reading| {
            let counted = counted(&subject, reading);
            (counted["b"]["allowed"].as_i64().unwrap(), counted["none"]["allowed"].as_i64().unwrap())
        };
        assert_eq!(allowed(Reading::Right), (0, 0));
        assert_eq!(allowed(Reading::RoundsDown), (1, 0));
        assert_eq!(allowed(Reading::OfTheSelected), (1, 0));
        assert_eq!(allowed(Reading::AbsentIsAll), (0, 1));
        assert_eq!(sets_under(&subject, &subject.objects[1]), 1);
    }
}
