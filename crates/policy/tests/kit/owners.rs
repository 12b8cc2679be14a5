//! Objects that another object's controller made.

use serde_json::{Value, json};

use crate::probe::{Ask, set};

const STATEFUL_SETS: &str = "system:serviceaccount:kube-system:statefulset-controller";

fn owned(mut object: Value, api_version: &str, kind: &str) -> Value {
    object["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "no-controller", "uid": "1" },
        { "apiVersion": api_version, "kind": kind, "name": "owner", "uid": "2", "controller": true },
    ]);
    object
}

fn pod(owner: &str) -> Value {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "zk-0", "namespace": "a" },
        "spec": { "containers": [{ "name": "c", "image": "x:latest" }] } });
    owned(pod, "apps/v1", owner)
}

#[test]
fn what_a_built_in_controller_makes_is_judged_at_its_owner() {
    // The audit scanner names no user.
    for user in [STATEFUL_SETS, "system:kube-controller-manager", ""] {
        let ask = Ask::create(&pod("StatefulSet")).user(user).set("mutate", json!(true));
        let answer = ask.answer();
        assert!(answer.accepted && answer.message.is_none() && answer.mutated_object.is_none());
        assert_eq!(answer.codes(), ["warning latest"]);
        assert!(answer.findings()[0]["advice"].as_str().unwrap().starts_with("StatefulSet owner owns this object"));
        assert!(answer.findings()[0].get("patch").is_none(), "a change here would not last");
    }
}

#[test]
fn a_controllers_update_is_no_more_in_question_than_its_create() {
    let old = owned(set(9), "apps/v1", "StatefulSet");
    let ask = Ask::update(&old, &old).user(STATEFUL_SETS).set("onUpdate", json!("enforce"));
    let answer = ask.answer();
    assert!(answer.accepted, "{answer:?}");
    assert_eq!(answer.codes(), ["warning too-many"]);
}

#[test]
fn a_user_who_forges_such_an_owner_gains_nothing() {
    for (user, kind) in [
        ("eve", "StatefulSet"),
        ("system:serviceaccount:default:statefulset-controller", "StatefulSet"),
        ("system:serviceaccount:kube-system:statefulset-controller2", "StatefulSet"),
        (STATEFUL_SETS, "Deployment"),
    ] {
        let answer = Ask::create(&pod(kind)).user(user).answer();
        assert!(!answer.accepted, "{user} {kind}");
        assert_eq!(answer.codes(), ["error latest"]);
    }
}

#[test]
fn a_reference_that_is_no_controllers_makes_nobody_an_owner() {
    for controller in [json!(false), Value::Null] {
        let mut object = pod("StatefulSet");
        object["metadata"]["ownerReferences"][1]["controller"] = controller;
        assert!(!Ask::create(&object).user(STATEFUL_SETS).answer().accepted);
    }
}

#[test]
fn what_an_operator_owns_is_warned_about_whoever_asks() {
    let object = owned(set(9), "example.com/v1", "Ensemble");
    for ask in [Ask::create(&object), Ask::update(&owned(set(3), "example.com/v1", "Ensemble"), &object)] {
        let answer = ask.set("mutate", json!(true)).answer();
        assert!(answer.accepted && answer.mutated_object.is_none());
        assert_eq!(answer.codes(), ["warning too-many"]);
        assert_eq!(answer.findings()[0]["advice"], "Ensemble owner owns this object: change it there: set it to 5");
    }
    // The same kind of another group is no built-in controller's.
    let other = owned(set(9), "apps.kruise.io/v1", "StatefulSet");
    assert!(Ask::create(&other).answer().accepted);
}

#[test]
fn the_field_of_the_custom_resource_is_told_where_the_catalogue_knows_it() {
    let known = workload::catalogue::SYSTEMS.iter().flat_map(workload::catalogue::System::custom_resources).next();
    let known = known.expect("the catalogue knows at least one operator");
    let answer = Ask::create(&owned(set(9), &format!("{}/v1", known.group), known.kind)).answer();
    let advice = answer.findings()[0]["advice"].as_str().unwrap().to_owned();
    assert_eq!(advice, format!("{} owner owns this object: change {} there: set it to 5", known.kind, known.field));
}

#[test]
fn the_administrator_decides_what_becomes_of_owned_objects() {
    let by_operator = Ask::create(&owned(set(9), "example.com/v1", "Ensemble")).set("mutate", json!(true));
    let by_controller = Ask::create(&pod("StatefulSet")).user(STATEFUL_SETS).set("mutate", json!(true));
    for ask in [by_operator, by_controller] {
        assert!(ask.clone().set("ownedObjects", json!("ignore")).answer().is_silent());
        let enforced = ask.set("ownedObjects", json!("enforce")).answer();
        assert!(!enforced.accepted && enforced.mutated_object.is_none(), "and its owner would undo a change");
        assert!(!enforced.message.unwrap().contains("owns this object"));
    }
}
