//! The form of the answer.

use serde_json::json;

use crate::probe::{Ask, FakeHost, annotated, set, set_of};

#[test]
fn the_message_has_one_line_for_each_error_and_warnings_are_apart() {
    let object = annotated(set(9), "wish/warning", "mind\nthe \u{1b}[31mgap");
    let answer = Ask::create(&object).set("labels", json!(["team", "b"])).answer();
    assert_eq!(
        answer.message.as_deref(),
        Some(
            "metadata.labels[team]: Required value: must be there; whoever is woken at night must know whose it is; write the team that owns it\n\
             metadata.labels[b]: Required value: must be there; whoever is woken at night must know whose it is; write the team that owns it\n\
             spec.replicas: Invalid value: 9: too many; set it to 5"
        )
    );
    assert_eq!(answer.warnings, ["metadata.name: Forbidden: mind the  [31mgap"]);
    assert_eq!(answer.codes(), ["error no-label", "error no-label", "error too-many", "warning told"]);
}

#[test]
fn the_findings_are_json_with_all_that_is_known() {
    let answer = Ask::create(&set(9)).set("labels", json!(["team/x"])).answer();
    assert_eq!(
        answer.findings(),
        [
            json!({
                "policy": "probe", "code": "no-label", "level": "error", "subject": "team/x",
                "path": "/metadata/labels/team~1x",
                "message": "metadata.labels[team/x]: Required value: must be there",
                "why": "whoever is woken at night must know whose it is",
                "advice": "write the team that owns it",
                "patch": [{ "op": "add", "path": "/metadata/labels/team~1x", "value": "unknown" }],
            }),
            json!({
                "policy": "probe", "code": "too-many", "level": "error", "path": "/spec/replicas",
                "message": "spec.replicas: Invalid value: 9: too many", "advice": "set it to 5",
                "patch": [{ "op": "replace", "path": "/spec/replicas", "value": 5 }],
            }),
        ]
    );
}

#[test]
fn warnings_keep_to_120_characters_where_they_can() {
    let answer = Ask::create(&set(3)).set("labels", json!(["team"])).set("action", json!("warn")).answer();
    assert_eq!(
        answer.warnings,
        ["metadata.labels[team]: Required value: must be there; write the team that owns it"],
        "without the why, which the findings have"
    );
    let long = "x".repeat(300);
    let answer = Ask::create(&annotated(set(3), "wish/warning", &long)).answer();
    assert_eq!(answer.warnings, [format!("metadata.name: Forbidden: {long}")], "what is wrong is never cut");
}

#[test]
fn notes_are_told_once_and_alone_are_no_warning() {
    let answer = Ask::create(&annotated(set(3), "wish/note", "seen")).answer();
    assert!(answer.accepted && answer.warnings.is_empty() && answer.message.is_none());
    assert_eq!(answer.notes(), ["seen"]);
    assert!(!answer.audit_annotations.contains_key("findings"));
}

#[test]
fn nothing_to_say_is_nothing_said() {
    let payload = json!({ "request": Ask::create(&set(3)).request }).to_string();
    let bytes = policy::validate::<crate::probe::Probe>(payload.as_bytes(), &FakeHost::default());
    assert_eq!(String::from_utf8(bytes).unwrap(), "{\"accepted\":true}");
}

#[test]
fn the_same_question_has_the_same_bytes_for_an_answer() {
    let object = annotated(set_of(&[("a", "a:latest"), ("b", "b:latest")]), "wish/note", "seen");
    let ask = Ask::create(&object).set("labels", json!(["x", "y"]));
    let payload = json!({ "request": ask.request, "settings": ask.settings }).to_string();
    let bytes = || policy::validate::<crate::probe::Probe>(payload.as_bytes(), &FakeHost::default());
    let first = bytes();
    assert!((0..20).all(|_| bytes() == first));
}

#[test]
fn the_sdk_of_the_host_reads_the_answer() {
    let asks = annotated(set(9), "wish/note", "seen");
    for ask in [Ask::create(&asks), Ask::create(&asks).set("mutate", json!(true)), Ask::create(&set(3))] {
        let payload = json!({ "request": ask.request, "settings": ask.settings }).to_string();
        let bytes = policy::validate::<crate::probe::Probe>(payload.as_bytes(), &FakeHost::default());
        let read: kubewarden_policy_sdk::response::ValidationResponse = serde_json::from_slice(&bytes).unwrap();
        let ours = ask.answer();
        assert_eq!(read.accepted, ours.accepted);
        assert_eq!(read.message, ours.message);
        assert_eq!(read.mutated_object, ours.mutated_object);
        assert_eq!(read.warnings.unwrap_or_default(), ours.warnings);
        assert_eq!(read.audit_annotations.unwrap_or_default().len(), ours.audit_annotations.len());
    }
}
