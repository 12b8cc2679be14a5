//! Settings, as `validate_settings` and `validate` read them.

use serde_json::{Value, json};

use crate::probe::{Ask, Probe, set};

fn verdict(payload: &[u8]) -> Result<(), String> {
    let bytes = policy::validate_settings::<Probe>(payload);
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    if answer["valid"] == true { Ok(()) } else { Err(answer["message"].as_str().unwrap().to_owned()) }
}

fn refusal(settings: &Value) -> String {
    verdict(settings.to_string().as_bytes()).unwrap_err()
}

#[test]
fn all_settings_have_defaults() {
    for payload in ["{}", "null", "{\"max\": null, \"exempt\": null, \"action\": null}"] {
        assert_eq!(verdict(payload.as_bytes()), Ok(()), "{payload}");
    }
    let nulls = json!({ "exempt": { "namespaces": null, "names": null, "labels": null, "containers": null,
        "images": null, "users": null, "annotation": null }, "systems": [{ "model": "none", "images": null,
        "selector": { "matchLabels": { "a": "b" } } }] });
    assert_eq!(verdict(nulls.to_string().as_bytes()), Ok(()));
}

#[test]
fn an_unknown_key_is_refused_by_name_with_the_near_match() {
    assert_eq!(refusal(&json!({ "maxx": 1 })), "settings.maxx: unknown; did you mean max?");
    assert_eq!(refusal(&json!({ "onupdate": "ratchet" })), "settings.onupdate: unknown; did you mean onUpdate?");
    assert!(refusal(&json!({ "zzzzzzzzzzz": 1 })).contains("this policy knows action, also, declarations, exempt"));
    assert!(refusal(&json!({ "exempt": { "namespace": [] } })).starts_with("settings.exempt: "));
}

#[test]
fn wrong_values_are_refused_with_the_key_and_what_is_allowed() {
    assert!(refusal(&json!({ "action": "block" })).ends_with("expected `deny` or `warn`"));
    assert!(refusal(&json!({ "ownedObjects": "deny" })).contains("`warn`, `enforce`, `ignore`"));
    assert_eq!(refusal(&json!({ "max": 0 })), "settings.max: Invalid value: 0: must be at least 1");
    assert!(refusal(&json!({ "max": "5" })).starts_with("settings.max: Invalid value: \"5\": "));
    assert!(refusal(&json!({ "exempt": { "labels": { "matchLabels": 1 } } })).starts_with("settings.exempt: "));
    assert!(
        refusal(&json!({ "exempt": { "names": [null] } })).contains("names[0]: Invalid value: null: must be a string")
    );
    assert!(
        refusal(&json!({ "systems": [{ "images": ["a"] }] }))
            .ends_with("[0].model: Invalid value: null: expected `majority` or `none`")
    );
    assert!(refusal(&json!({ "mutate": "yes" })).ends_with("\"yes\": must be true or false"));
    assert!(refusal(&json!("text")).contains("must be an object"));
}

#[test]
fn a_selector_that_would_exempt_everything_is_refused() {
    for everything in [json!({}), json!({ "matchLabels": {} }), json!({ "matchExpressions": [] })] {
        let message = refusal(&json!({ "exempt": { "labels": everything } }));
        assert!(message.starts_with("settings.exempt.labels: selects every object"), "{message}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    assert!(verdict(b"").unwrap_err().starts_with("settings: cannot be read: "));
    assert!(verdict(b"{\"max\": ").unwrap_err().contains("cannot be read"));
    assert!(verdict(b"\xff\xfe").unwrap_err().contains("cannot be read"));
    let deep = "[".repeat(100_000);
    assert!(verdict(deep.as_bytes()).unwrap_err().contains("recursion limit"));
}

#[test]
fn a_request_with_settings_that_will_not_do_is_denied_with_them() {
    let answer = Ask::create(&set(3)).set("maxx", json!(1)).answer();
    assert!(!answer.accepted);
    assert_eq!(answer.message.as_deref(), Some("settings.maxx: unknown; did you mean max?"));
    let deep: Value = serde_json::from_str(&("[".repeat(100) + &"]".repeat(100))).unwrap();
    let answer = Ask::create(&set(3)).set("labels", deep).answer();
    assert!(answer.message.unwrap().starts_with("settings.labels: "));
}

#[test]
fn settings_decide() {
    assert!(Ask::create(&set(5)).answer().is_silent());
    assert_eq!(Ask::create(&set(5)).set("max", json!(4)).answer().codes(), ["error too-many"]);
    let warned = Ask::create(&set(6)).set("action", json!("warn")).answer();
    assert!(warned.accepted && warned.message.is_none());
    assert_eq!(warned.codes(), ["warning too-many"]);
    assert_eq!(warned.warnings, ["spec.replicas: Invalid value: 6: too many; set it to 5"]);
}
