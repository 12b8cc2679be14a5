//! What is asked of the host, and what is made of its answers.

use serde_json::{Value, json};

use crate::probe::{Ask, FakeHost, annotated, budget, set};

fn scale(from: i64, to: i64) -> Ask {
    Ask::scale("zk", &json!({ "replicas": from }), &json!({ "replicas": to }))
}

#[test]
fn a_scale_is_judged_with_the_object_that_it_scales() {
    let host = FakeHost::default().with(annotated(set(3), "wish/immutable", "must be set"));
    let answer = scale(3, 9).answer_of(&host);
    assert_eq!(
        answer.codes(),
        ["error too-many", "warning no-service"],
        "the ratchet is in force for all but the count"
    );
    let findings = answer.findings();
    assert!(findings[0].get("object").is_none(), "the count is in the Scale");
    assert_eq!(
        findings[1]["object"],
        json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": "a", "name": "zk" })
    );
    let calls = host.calls.borrow();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].0, "get_resource");
    assert_eq!(
        calls[0].1,
        json!({ "api_version": "apps/v1", "kind": "StatefulSet", "name": "zk", "namespace": "a", "disable_cache": true })
    );
}

#[test]
fn a_scale_is_compared_with_the_scale_before() {
    let host = FakeHost::default().with(set(7));
    assert_eq!(scale(9, 8).answer_of(&host).codes(), ["warning too-many"]);
    assert_eq!(scale(8, 9).answer_of(&host).codes(), ["error too-many"]);
    assert_eq!(scale(8, 9).answer_of(&host).notes(), ["was 8"]);
    assert!(scale(9, 3).answer_of(&host).is_silent());
}

#[test]
fn a_scale_without_a_count_means_none() {
    let host = FakeHost::default().with(annotated(set(3), "wish/sets", ""));
    for spec in [json!({}), Value::Null, json!({ "replicas": null })] {
        let answer = Ask::scale("zk", &spec, &spec).answer_of(&host);
        assert_eq!(answer.notes(), ["set zk 0"], "{spec}");
    }
    let wrong = Ask::scale("zk", &json!({}), &json!({ "replicas": "9" })).answer_of(&host);
    assert_eq!(wrong.codes(), ["error malformed"]);
    assert_eq!(wrong.findings()[0]["path"], "/spec/replicas");
}

#[test]
fn a_scale_is_never_mutated_and_offers_no_patch_of_what_was_not_sent() {
    let host = FakeHost::default().with(set(3));
    let answer = scale(3, 9).set("mutate", json!(true)).answer_of(&host);
    assert!(!answer.accepted && answer.mutated_object.is_none());
    let warned = scale(3, 9).set("mutate", json!(true)).set("action", json!("warn")).answer_of(&host);
    assert!(warned.accepted && warned.mutated_object.is_none());
}

#[test]
fn a_scale_of_what_is_gone_or_going_is_accepted() {
    assert!(scale(3, 9).answer().is_silent());
    let mut going = set(3);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T23:16:37Z");
    assert!(scale(3, 9).answer_of(&FakeHost::default().with(going)).is_silent());
}

#[test]
fn without_the_grant_a_warning_says_what_is_missing() {
    let answer = scale(3, 9).answer_of(&FakeHost::granting_nothing(&["StatefulSet"]));
    assert!(answer.accepted && answer.codes().is_empty());
    assert_eq!(
        answer.warnings,
        [
            "probe did not judge this: this policy may not look up apps/v1 StatefulSet zk; grant it: contextAwareResources of the policy, and hostCapabilities: [\"kubernetes/*\"] in the policy-server's policies.yml"
        ]
    );
}

#[test]
fn a_host_that_cannot_answer_is_told_in_its_own_words() {
    let host = FakeHost::default().refusing("StatefulSet", "kube::Client was not\ninitialized properly");
    let answer = scale(3, 9).answer_of(&host);
    assert!(answer.accepted);
    assert_eq!(
        answer.warnings,
        [
            "probe did not judge this: apps/v1 StatefulSet zk cannot be looked up: kube::Client was not initialized properly"
        ]
    );
}

#[test]
fn an_unknown_kind_is_not_a_missing_object() {
    let unknown = "Host error: Callback evaluation failure: Cannot find resource v1/ConfigMap";
    let host = FakeHost::default().refusing("ConfigMap", unknown);
    let answer = Ask::create(&annotated(set(3), "wish/config", "c")).answer_of(&host);
    assert!(answer.codes().is_empty() && answer.warnings[0].contains("Cannot find resource"), "{answer:?}");
    let missing = Ask::create(&annotated(set(3), "wish/config", "c")).answer();
    assert_eq!(missing.codes(), ["error no-config"]);
}

#[test]
fn an_answer_that_cannot_be_read_is_told() {
    struct Garbled(&'static [u8]);
    impl policy::Host for Garbled {
        fn call(&self, _: &str, _: &str, _: &[u8]) -> Result<Vec<u8>, String> {
            Ok(self.0.to_vec())
        }
    }
    let asks = annotated(set(3), "wish/budgets", "");
    let payload = json!({ "request": Ask::create(&asks).request }).to_string();
    for (bytes, text) in [
        (&b""[..], "the answer cannot be read"),
        (b"{\"items\": [", "the answer cannot be read"),
        (b"{}", "the answer has no items"),
        (b"[]", "the answer has no items"),
        (b"{\"items\": {}}", "the answer has no items"),
    ] {
        let answer = policy::validate::<crate::probe::Probe>(payload.as_bytes(), &Garbled(bytes));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["accepted"], true);
        assert!(answer["warnings"][0].as_str().unwrap().contains(text), "{answer}");
    }
    let odd = policy::validate::<crate::probe::Probe>(payload.as_bytes(), &Garbled(b"{\"items\": [1, null, []]}"));
    assert!(String::from_utf8(odd).unwrap().contains("cannot be read"), "an item of another type");
}

#[test]
fn one_call_for_each_kind_however_often_the_rule_asks() {
    let host = FakeHost::default().with(budget("one", 1));
    let object = |count| {
        let asks = annotated(annotated(set(count), "wish/budgets", ""), "wish/config", "c");
        annotated(asks, "wish/sets", "")
    };
    // Judged three times: the new state, the old one, and the mutated one.
    let answer = Ask::update(&object(8), &object(9)).set("mutate", json!(true)).answer_of(&host);
    assert!(answer.mutated_object.is_some());
    assert_eq!(answer.codes(), ["warning no-config"]);
    let calls = host.calls.borrow();
    let asked: Vec<_> =
        calls.iter().map(|(operation, payload)| (operation.as_str(), payload["kind"].as_str())).collect();
    assert_eq!(
        asked,
        [
            ("list_resources_by_namespace", Some("PodDisruptionBudget")),
            ("list_resources_by_namespace", Some("StatefulSet")),
            ("get_resource", Some("ConfigMap")),
        ]
    );
}

#[test]
fn a_list_is_always_of_one_namespace_with_the_mask_of_its_kind() {
    let host = FakeHost::default();
    let _ = Ask::create(&annotated(set(3), "wish/budgets", "")).answer_of(&host);
    let mut other = annotated(set(3), "wish/budgets", "");
    other["metadata"]["labels"] = json!({ "other": "labels" });
    let _ = Ask::create(&other).answer_of(&host);
    let calls = host.calls.borrow();
    assert_eq!(calls[0].1, calls[1].1, "nothing of the object is in it, so that the host opens one watch");
    assert_eq!(
        calls[0].1,
        json!({ "api_version": "policy/v1", "kind": "PodDisruptionBudget", "namespace": "a",
            "label_selector": null, "field_selector": null, "field_masks": ["spec"] })
    );
    let masks = [policy::lookup::DISRUPTION_BUDGETS, policy::lookup::STATEFUL_SETS, policy::lookup::AUTOSCALERS];
    for listed in masks {
        assert!(listed.mask.is_sorted(), "the host sorts them: {listed:?}");
    }
}

#[test]
fn the_incoming_object_takes_the_place_of_the_held_one() {
    let asking = |min| annotated(budget("mine", min), "wish/budgets", "");
    let host = FakeHost::default().with(budget("mine", 1)).with(budget("other", 1));
    let expected = ["budget other", "budget mine, judged"];
    assert_eq!(Ask::create(&asking(2)).answer_of(&host).notes(), expected);
    assert_eq!(Ask::update(&budget("mine", 1), &asking(2)).answer_of(&host).notes(), expected);
    let empty = FakeHost::default();
    assert_eq!(Ask::create(&asking(2)).answer_of(&empty).notes(), ["budget mine, judged"], "not held yet");
    assert_eq!(Ask::delete(&asking(2)).answer_of(&host).notes(), ["budget other"]);
    assert_eq!(Ask::delete(&asking(2)).without("name").answer_of(&host).notes(), ["budget other"]);
    let of_a_set = Ask::create(&annotated(set(3), "wish/budgets", "")).answer_of(&host);
    assert_eq!(of_a_set.notes(), ["budget mine", "budget other"], "another kind of any name takes nobody's place");
}

#[test]
fn a_scaled_object_is_listed_with_its_new_count() {
    let host = FakeHost::default().with(annotated(set(3), "wish/sets", ""));
    assert_eq!(scale(3, 5).answer_of(&host).notes(), ["set zk 5"]);
}

#[test]
fn an_object_that_is_got_by_name_is_the_incoming_one_too() {
    let config = |value: &str| {
        annotated(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "a" }, "data": { "value": value } }),
            "wish/config",
            "c",
        )
    };
    let host = FakeHost::default().with(config("held"));
    assert_eq!(Ask::update(&config("held"), &config("new")).answer_of(&host).notes(), ["config new"]);
    assert!(host.calls.borrow().is_empty(), "it is at hand");
    let other = Ask::create(&annotated(set(3), "wish/config", "c")).answer_of(&host);
    assert_eq!(other.notes(), ["config held"]);
}

#[test]
fn what_is_being_deleted_is_not_listed() {
    let mut going = budget("going", 1);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T23:16:37Z");
    let host = FakeHost::default().with(going).with(budget("staying", 1));
    assert_eq!(Ask::create(&annotated(set(3), "wish/budgets", "")).answer_of(&host).notes(), ["budget staying"]);
}

#[test]
fn another_object_that_is_malformed_is_not_told_as_the_judged_ones_fault() {
    let mut broken = budget("broken", 1);
    broken["spec"]["minAvailable"] = json!({ "a": 1 });
    let answer = Ask::create(&annotated(set(3), "wish/budgets", "")).answer_of(&FakeHost::default().with(broken));
    assert!(answer.accepted && answer.codes().is_empty(), "{answer:?}");
    assert_eq!(
        answer.warnings,
        [
            "probe did not judge this: an object that this one depends on cannot be read: spec.minAvailable: Invalid value: {...}: must be a whole number"
        ]
    );
}
