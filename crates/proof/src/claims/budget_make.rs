//! Sets and budgets to try.

use fastrand::Rng;
use serde_json::{Value, json};

use super::budget_view::{ENSEMBLE, QUORUM, name, replicas};
use crate::make::{chance, one};

/// A set of so many members that bear these labels.
pub(super) fn set(name: &str, replicas: i64, labels: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": name, "namespace": "prod" },
        "spec": {
            "replicas": replicas, "serviceName": name, "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": labels["app"] } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": "zookeeper:3.9" }] },
            },
        },
    })
}

/// A budget.
pub(super) fn budget(name: &str, selector: &Value, limit: &Value) -> Value {
    let mut spec = limit.clone();
    if !selector.is_null() {
        spec["selector"] = selector.clone();
    }
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name, "namespace": "prod" }, "spec": spec,
    })
}

/// One, two or three sets, and sometimes a Deployment, or pods of none.
pub(super) fn sets(random: &mut Rng, counts: &[i64], strangers: bool) -> Vec<Value> {
    let count = one(random, &[1, 1, 1, 1, 2, 2, 3]).unwrap_or(1);
    let together = chance(random, 40);
    let alike = chance(random, 25);
    // One set for each zone.
    let single = together && count > 1 && chance(random, 25);
    let mut objects: Vec<Value> = Vec::new();
    for name in ["zk", "keeper", "store"].into_iter().take(count) {
        let app = if alike { "zk" } else { name };
        let mut labels = json!({ "app": app, "part-of": "ensemble" });
        if chance(random, 50) {
            labels["tier"] = if name == "store" { "cache" } else { "data" }.into();
        }
        let replicas = if single { 1 } else { one(random, counts).unwrap_or(3) };
        let mut set = set(name, replicas, &labels);
        if alike {
            // Each counts its own pods only: a selector of its own, where the budget's is for both.
            set["spec"]["selector"]["matchLabels"]["set"] = name.into();
            set["spec"]["template"]["metadata"]["labels"]["set"] = name.into();
        }
        if together && count > 1 {
            set["metadata"]["annotations"][ENSEMBLE] = "one".into();
        } else if chance(random, 12) {
            set["metadata"]["annotations"][QUORUM] = "none".into();
        }
        if chance(random, 12) {
            set["spec"]["ordinals"] = json!({ "start": random.u32(1..4) });
        }
        objects.push(set);
    }
    if strangers && chance(random, 25) {
        let labels =
            one(random, &[json!({ "app": "zk", "part-of": "ensemble" }), json!({ "app": "keeper" }), json!({})]);
        let mut labels = labels.unwrap_or_default();
        labels["tool"] = "exporter".into();
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "exporter", "namespace": "prod" },
            "spec": {
                "replicas": random.u32(0..4),
                "selector": { "matchLabels": { "tool": "exporter" } },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "main", "image": "example.com/exporter:1" }] },
                },
            },
        }));
    } else if strangers && chance(random, 15) {
        for index in 0..random.usize(1..3) {
            let labels = one(random, &[json!({ "app": "zk" }), json!({ "app": "tool" }), json!({})]);
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("alone-{index}"), "namespace": "prod", "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": "zookeeper:3.9" }] },
            }));
        }
    }
    objects
}

/// A selector that is more or less that of the set.
pub(super) fn selector(random: &mut Rng, set: &Value) -> Value {
    let set_name = name(set);
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let app = &labels["app"];
    let of = |key: &str, operator: &str, values: Value| match operator {
        "In" | "NotIn" => json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }),
        _ => json!({ "matchExpressions": [{ "key": key, "operator": operator }] }),
    };
    let pod = format!("{set_name}-{}", random.u32(..4));
    match random.u32(..100) {
        0..50 => json!({ "matchLabels": { "app": app } }),
        50..56 => json!({}),
        56..60 => Value::Null,
        60..65 => json!({ "matchLabels": { "part-of": "ensemble" } }),
        65..69 => of("app", "In", json!([app, "other"])),
        69..72 => of("app", "NotIn", json!(["store", "tool"])),
        72..75 => of("app", "Exists", Value::Null),
        75..78 => of("tier", "DoesNotExist", Value::Null),
        78..80 => of("tier", "NotIn", json!(["cache"])),
        80..83 => {
            let tier = of("tier", "Exists", Value::Null);
            json!({ "matchLabels": { "app": app }, "matchExpressions": tier["matchExpressions"] })
        }
        83..86 => json!({ "matchLabels": { "statefulset.kubernetes.io/pod-name": pod } }),
        86..89 => of("statefulset.kubernetes.io/pod-name", "NotIn", json!([pod])),
        89..92 => of("apps.kubernetes.io/pod-index", "In", json!(["0", "1", "2"])),
        92..94 => of("apps.kubernetes.io/pod-index", "NotIn", json!(["1"])),
        94..96 => of("controller-revision-hash", "Exists", Value::Null),
        96..97 => of("controller-revision-hash", "In", json!([format!("{set_name}-6d4cf56db6")])),
        97..98 => of("app", "DoesNotExist", Value::Null),
        _ => json!({ "matchLabels": { "app": format!("{set_name}s") } }),
    }
}

/// What a budget allows, some of it sound for the set.
pub(super) fn limit(random: &mut Rng, set: &Value) -> Value {
    let members = replicas(set);
    let shares =
        ["0%", "1%", "10%", "20%", "25%", "33%", "34%", "40%", "50%", "51%", "66%", "67%", "80%", "99%", "100%"];
    let share = |random: &mut Rng| {
        // Above all there is: Kubernetes does not take it.
        if chance(random, 2) { json!("101%") } else { json!(one(random, &shares)) }
    };
    match random.u32(..100) {
        0..33 => json!({ "maxUnavailable": one(random, &[1, 1, 1, 1, 2, 2, 3, 0, 5, 1000]) }),
        33..50 => json!({ "maxUnavailable": share(random) }),
        50..78 => {
            let near = [
                members - 1,
                members - 1,
                members / 2 + 1,
                members / 2 + 1,
                members,
                members - 2,
                1,
                0,
                members + 2,
                1000,
            ];
            json!({ "minAvailable": one(random, &near).map(|pods| pods.max(0)) })
        }
        78..97 => json!({ "minAvailable": share(random) }),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Arithmetic;
    use super::super::budget_view::of_kind;
    use super::super::budget_wrong::sets_under;
    use super::super::drain::Drain;
    use crate::claim::Subject;
    use crate::make::{Variety, assert_varied};

    use super::*;

    fn budgets(subject: &Subject) -> impl Iterator<Item = &Value> {
        of_kind(subject, "PodDisruptionBudget").map(|budget| &budget["spec"])
    }

    fn of(name: String, has: impl Fn(&Subject) -> bool + 'static) -> Variety<'static> {
        (name, Box::new(has))
    }

    /// What the objects of both claims have.
    fn varieties() -> Vec<Variety<'static>> {
        let mut all: Vec<Variety<'static>> = Vec::new();
        for field in ["maxUnavailable", "minAvailable"] {
            all.push(of(format!("{field} as a number"), move |it| {
                budgets(it).any(|spec| spec[field].is_i64() || spec[field].is_u64())
            }));
            all.push(of(format!("{field} as a share"), move |it| budgets(it).any(|spec| spec[field].is_string())));
            all.push(of(format!("{field} of 0"), move |it| budgets(it).any(|spec| spec[field] == 0)));
        }
        for operator in ["In", "NotIn", "Exists", "DoesNotExist"] {
            all.push(of(format!("a selector with {operator}"), move |it| {
                let mut expressions =
                    budgets(it).filter_map(|spec| spec["selector"]["matchExpressions"].as_array()).flatten();
                expressions.any(|expression| expression["operator"] == operator)
            }));
        }
        for label in ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-revision-hash"]
        {
            all.push(of(format!("a selector on {label}"), move |it| {
                budgets(it).any(|spec| spec["selector"].to_string().contains(label))
            }));
        }
        all.push(of("no limit".to_owned(), |it| {
            budgets(it).any(|spec| spec["maxUnavailable"].is_null() && spec["minAvailable"].is_null())
        }));
        all.push(of("no selector".to_owned(), |it| budgets(it).any(|spec| spec["selector"].is_null())));
        all.push(of("an empty selector".to_owned(), |it| budgets(it).any(|spec| spec["selector"] == json!({}))));
        all.push(of("several sets".to_owned(), |it| of_kind(it, "StatefulSet").count() > 1));
        all.push(of("several budgets".to_owned(), |it| budgets(it).count() > 1));
        all.push(of("a budget over several sets".to_owned(), |it| {
            of_kind(it, "PodDisruptionBudget").any(|budget| sets_under(it, budget) > 1)
        }));
        for annotation in [ENSEMBLE, QUORUM] {
            all.push(of(annotation.to_owned(), move |it| {
                of_kind(it, "StatefulSet").any(|set| !set["metadata"]["annotations"][annotation].is_null())
            }));
        }
        all.push(of("ordinals that start later".to_owned(), |it| {
            of_kind(it, "StatefulSet").any(|set| set["spec"]["ordinals"].is_object())
        }));
        all
    }

    #[test]
    fn every_kind_of_budget_is_counted() {
        let mut all = varieties();
        all.push(of("pods of no controller".to_owned(), |it| of_kind(it, "Pod").next().is_some()));
        all.push(of("a Deployment".to_owned(), |it| of_kind(it, "Deployment").next().is_some()));
        assert_varied(&Arithmetic::default(), &all);
    }

    #[test]
    fn every_kind_of_budget_is_drained() {
        let mut all = varieties();
        for value in ["AlwaysAllow", "IfHealthyBudget"] {
            all.push(of(value.to_owned(), move |it| {
                budgets(it).any(|spec| spec["unhealthyPodEvictionPolicy"] == value)
            }));
        }
        let rolling = |it: &Subject, field: &str| {
            of_kind(it, "StatefulSet").any(|set| !set["spec"]["updateStrategy"]["rollingUpdate"][field].is_null())
        };
        for field in ["maxUnavailable", "partition"] {
            all.push(of(format!("an update with {field}"), move |it| rolling(it, field)));
        }
        all.push(of("no budget".to_owned(), |it| budgets(it).next().is_none()));
        for (name, sign) in [("up", 1), ("down", -1)] {
            all.push(of(format!("scaled {name}"), move |it| {
                let number = |field: &str| it.facts["change"]["scale"][field].as_i64().unwrap_or(0);
                (number("to") - number("from")).signum() == sign
            }));
        }
        all.push(of("sets of one member under one budget".to_owned(), |it| {
            let is_single = |set: &Value| replicas(set) == 1;
            of_kind(it, "PodDisruptionBudget").any(|budget| sets_under(it, budget) > 1)
                && of_kind(it, "StatefulSet").all(is_single)
        }));
        assert_varied(&Drain, &all);
    }
}
