//! What is exempt, and what must never be in the way.

use serde_json::{Value, json};

use crate::probe::{Ask, FakeHost, annotated, budget, set, set_of};

fn exempt(ask: &Ask, exempt: Value) -> bool {
    ask.clone().set("exempt", exempt).answer().is_silent()
}

#[test]
fn the_administrator_exempts_namespaces_names_labels_and_users() {
    let ask = Ask::create(&set(6));
    for (hit, miss) in [
        (json!({ "namespaces": ["kube-*", "a"] }), json!({ "namespaces": ["kube-*", "A", "aa", ""] })),
        (json!({ "names": ["z?"] }), json!({ "names": ["z", "zkk", "a/zk"] })),
        (
            json!({ "labels": { "matchLabels": { "app": "zk" } } }),
            json!({ "labels": { "matchLabels": { "app": "x" } } }),
        ),
        (
            json!({ "labels": { "matchExpressions": [{ "key": "app", "operator": "Exists" }] } }),
            json!({ "labels": { "matchExpressions": [{ "key": "app", "operator": "DoesNotExist" }] } }),
        ),
        (json!({ "users": ["ev*"] }), json!({ "users": ["mallory", "system:*"] })),
    ] {
        assert!(exempt(&ask, hit.clone()), "{hit}");
        assert!(!exempt(&ask, miss.clone()), "{miss}");
    }
    assert!(exempt(&Ask::delete(&budget("zk", 1)), json!({ "names": ["zk"] })), "a deletion too");
}

#[test]
fn the_namespace_is_the_requests_before_the_objects() {
    let mut elsewhere = set(6);
    elsewhere["metadata"]["namespace"] = json!("exempt");
    assert!(!exempt(&Ask::create(&elsewhere), json!({ "namespaces": ["exempt"] })));
    assert!(exempt(&Ask::create(&elsewhere).without("namespace"), json!({ "namespaces": ["exempt"] })));
}

#[test]
fn whom_the_administrator_exempts_nothing_is_looked_up_for() {
    let host = FakeHost::granting_nothing(&["StatefulSet"]);
    let scale = Ask::scale("zk", &json!({ "replicas": 3 }), &json!({ "replicas": 9 }));
    assert!(!scale.answer_of(&host).is_silent());
    let calls = host.calls.borrow().len();
    assert!(scale.set("exempt", json!({ "users": ["eve"] })).answer_of(&host).is_silent());
    assert_eq!(host.calls.borrow().len(), calls);
}

#[test]
fn a_scale_is_exempt_by_the_labels_of_what_it_scales() {
    let host = FakeHost::default().with(set(3));
    let scale = Ask::scale("zk", &json!({ "replicas": 3 }), &json!({ "replicas": 9 }));
    assert_eq!(scale.answer_of(&host).codes(), ["error too-many"]);
    let labels = json!({ "labels": { "matchLabels": { "app": "zk" } } });
    assert!(scale.set("exempt", labels).answer_of(&host).is_silent());
}

#[test]
fn only_findings_about_an_exempt_container_are_dropped() {
    let object = set_of(&[("app", "app:latest"), ("istio-proxy", "docker.io/istio/proxyv2:latest")]);
    let ask = Ask::create(&object);
    assert_eq!(ask.answer().codes(), ["error latest", "error latest"]);
    for exempt in [json!({ "containers": ["istio-*"] }), json!({ "images": ["*/istio/*"] })] {
        let answer = ask.clone().set("exempt", exempt).answer();
        assert_eq!(answer.codes(), ["error latest"]);
        assert_eq!(answer.findings()[0]["subject"], "app");
    }
    let both = ask.set("exempt", json!({ "containers": ["app", "istio-proxy"] })).set("max", json!(2)).answer();
    assert_eq!(both.codes(), ["error too-many"], "what is about no container stays");
}

#[test]
fn an_exempt_container_is_not_mutated() {
    let object = set_of(&[("app", "app:latest"), ("proxy", "proxy:latest")]);
    let answer =
        Ask::create(&object).set("mutate", json!(true)).set("exempt", json!({ "containers": ["proxy"] })).answer();
    let containers = &answer.mutated_object.unwrap()["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("app:1"), &json!("proxy:latest")));
}

#[test]
fn an_owner_exempts_only_where_the_administrator_allows_it_and_with_a_reason() {
    let key = "quorate.dev/exempt-probe";
    let allowed = |object: &Value| Ask::create(object).set("exempt", json!({ "annotation": true })).answer();
    let object = annotated(set(6), key, "moves to the operator in May");

    let refused = Ask::create(&object).answer();
    assert_eq!(refused.codes(), ["error too-many", "warning exemption-not-allowed"]);
    assert_eq!(refused.warnings.len(), 1);

    let told = allowed(&object);
    assert!(told.accepted && told.warnings.len() == 1 && told.mutated_object.is_none());
    assert!(told.warnings[0].contains("moves to the operator in May"), "{:?}", told.warnings);
    assert_eq!(told.findings()[0]["path"], "/metadata/annotations/quorate.dev~1exempt-probe");

    for reason in ["", "  \t"] {
        let answer = allowed(&annotated(set(6), key, reason));
        assert_eq!(answer.codes(), ["error too-many", "warning exemption-without-reason"]);
    }
    assert_eq!(allowed(&annotated(set(6), "quorate.dev/exempt-other", "x")).codes(), ["error too-many"]);
    let mut wrong = set(6);
    wrong["metadata"]["annotations"][key] = json!(true);
    assert_eq!(allowed(&wrong).codes(), ["error malformed"]);
}

#[test]
fn other_operations_kinds_groups_and_subresources_are_none_of_its_business() {
    let set = set(6);
    let create = Ask::create(&set);
    for (what, ask) in [
        ("the deletion of a workload", Ask::delete(&set)),
        ("a connection", create.clone().field("operation", json!("CONNECT"))),
        ("another group", create.clone().field("kind", json!({ "group": "apps.kruise.io", "kind": "StatefulSet" }))),
        ("no group", create.clone().field("kind", json!({ "kind": "StatefulSet" }))),
        ("another kind", create.clone().field("kind", json!({ "group": "apps", "kind": "Deployment" }))),
        ("a status", Ask::update(&set, &set).field("subResource", json!("status"))),
        ("an unknown subresource", create.clone().field("subResource", json!("scale2"))),
        (
            "the scale of another kind",
            Ask::scale("zk", &json!({}), &json!({ "replicas": 9 }))
                .field("resource", json!({ "group": "apps", "version": "v1", "resource": "deployments" })),
        ),
        (
            "the scale of another group",
            Ask::scale("zk", &json!({}), &json!({ "replicas": 9 }))
                .field("resource", json!({ "group": "x.io", "version": "v1", "resource": "statefulsets" })),
        ),
    ] {
        assert!(ask.answer().is_silent(), "{what}: {:?}", ask.answer());
    }
    assert!(!create.answer().accepted);
}

#[test]
fn the_audit_scanner_writes_the_kind_where_the_plural_name_belongs() {
    let scanned = Ask::create(&set(6))
        .field("resource", json!({ "group": "apps", "version": "v1", "resource": "StatefulSet" }))
        .field("userInfo", json!({}));
    assert_eq!(scanned.answer().codes(), ["error too-many"]);
}

#[test]
fn the_settings_may_ask_for_another_kind() {
    let object = json!({ "apiVersion": "example.com/v1", "kind": "Ensemble", "metadata": { "name": "e" }, "spec": { "replicas": 6 } });
    assert!(Ask::create(&object).answer().is_silent());
    assert_eq!(Ask::create(&object).set("also", json!("Ensemble")).answer().codes(), ["error too-many"]);
}

#[test]
fn what_is_being_deleted_is_left_alone() {
    let mut going = set(6);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T23:16:37Z");
    assert!(Ask::update(&going, &going).answer().is_silent());
    let mut budget = budget("zk", 1);
    assert!(!Ask::delete(&budget).answer().accepted);
    budget["metadata"]["deletionTimestamp"] = json!("2026-11-21T23:16:37Z");
    assert!(Ask::delete(&budget).answer().is_silent(), "a second deletion of what is going already");
    let mut not_going = set(6);
    not_going["metadata"]["deletionTimestamp"] = Value::Null;
    assert!(!Ask::create(&not_going).answer().accepted);
}

#[test]
fn whoever_cleans_up_is_let_through() {
    let (create, update, delete) = (Ask::create(&set(6)), Ask::update(&set(3), &set(6)), Ask::delete(&budget("zk", 1)));
    for cleaner in ["generic-garbage-collector", "namespace-controller"] {
        let user = format!("system:serviceaccount:kube-system:{cleaner}");
        for ask in [&create, &update, &delete] {
            assert!(ask.clone().user(&user).answer().is_silent(), "{cleaner}");
        }
        let forged = format!("system:serviceaccount:default:{cleaner}");
        assert!(!delete.clone().user(&forged).answer().accepted, "of another namespace");
    }
    let manager = "system:kube-controller-manager";
    assert!(delete.clone().user(manager).answer().is_silent());
    assert!(!update.user(manager).answer().accepted, "but it is an autoscaler too");
}
