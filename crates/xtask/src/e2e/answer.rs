//! From what a host answers to what the policy answered.

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use json_patch::Patch;
use serde_json::{Map, Value, json};

/// How the hosts begin when they pass on that the policy refuses its settings: policy-server, kwctl.
const SETTINGS_REFUSED: [&str; 2] = ["Policy settings are invalid: ", "Provided settings are not valid: "];

/// The denial that the policy itself answers to settings that it refuses. The hosts ask it about its settings before any
/// request, and then say this text in place of a verdict. None, if `said` is something else.
pub(crate) fn settings_refused(said: &str) -> Option<Vec<u8>> {
    let text = SETTINGS_REFUSED.iter().find_map(|beginning| Some(said.split_once(beginning)?.1.lines().next()))??;
    Some(json!({ "accepted": false, "message": text }).to_string().into_bytes())
}

/// The `ValidationResponse` that the host made this `AdmissionResponse` of, as bytes. The patch is applied to the object of
/// the request, since the cases say what object must come out.
pub(crate) fn of_policy(response: &Value, request: &Value) -> Result<Vec<u8>> {
    let Some(allowed) = response["allowed"].as_bool() else { bail!("no AdmissionResponse: {response}") };
    // A host that stops a policy, or cannot start one, denies with a code of its own.
    if let Some(code) = response["status"]["code"].as_u64().filter(|code| *code >= 500) {
        let message = response["status"]["message"].as_str().unwrap_or_default();
        return settings_refused(message).with_context(|| format!("the host failed with {code}: {message}"));
    }
    if response["uid"] != request["uid"] {
        bail!("the answer is for {}, not for {}", response["uid"], request["uid"]);
    }
    let mut answer = Map::new();
    answer.insert("accepted".to_owned(), allowed.into());
    for (field, value) in [
        ("message", &response["status"]["message"]),
        ("audit_annotations", &response["auditAnnotations"]),
        ("warnings", &response["warnings"]),
    ] {
        if !value.is_null() {
            answer.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(patch) = response["patch"].as_str() {
        answer.insert("mutated_object".to_owned(), patched(&request["object"], patch)?);
    }
    Ok(serde_json::to_vec(&answer)?)
}

fn patched(object: &Value, patch: &str) -> Result<Value> {
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).context("the patch is not base64")?;
    let patch: Patch = serde_json::from_slice(&patch).context("the patch is not a JSON patch")?;
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch).context("the patch cannot be applied")?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(response: &Value) -> Value {
        let request = json!({ "uid": "1", "object": { "spec": { "replicas": 4 } } });
        serde_json::from_slice(&of_policy(response, &request).unwrap()).unwrap()
    }

    #[test]
    fn a_denial_keeps_message_warnings_and_annotations() {
        let response = json!({ "uid": "1", "allowed": false, "status": { "message": "no", "code": 400 },
            "auditAnnotations": { "findings": "[]" }, "warnings": ["w"] });
        let expected =
            json!({ "accepted": false, "message": "no", "audit_annotations": { "findings": "[]" }, "warnings": ["w"] });
        assert_eq!(converted(&response), expected);
    }

    #[test]
    fn nulls_are_absent() {
        let response =
            json!({ "uid": "1", "allowed": true, "status": null, "auditAnnotations": null, "warnings": null });
        assert_eq!(converted(&response), json!({ "accepted": true }));
    }

    #[test]
    fn a_patch_is_applied_to_the_object() {
        let patch = r#"[{"op":"replace","path":"/spec/replicas","value":5}]"#;
        let patch = base64::engine::general_purpose::STANDARD.encode(patch);
        let response = json!({ "uid": "1", "allowed": true, "patchType": "JSONPatch", "patch": patch });
        assert_eq!(converted(&response)["mutated_object"], json!({ "spec": { "replicas": 5 } }));
    }

    #[test]
    fn settings_that_the_policy_refuses_are_a_denial_in_its_words() {
        let told = json!({ "uid": "1", "allowed": false, "status": {
            "message": "Policy settings are invalid: settings.min: Invalid value: 0", "code": 500 } });
        let expected = json!({ "accepted": false, "message": "settings.min: Invalid value: 0" });
        assert_eq!(converted(&told), expected);
        let told =
            "WARN x\nError: Provided settings are not valid: settings.min: Invalid value: 0\n\nStack backtrace:\n";
        let denial: Value = serde_json::from_slice(&settings_refused(told).unwrap()).unwrap();
        assert_eq!(denial, expected);
        assert_eq!(settings_refused("Error: no such file"), None);
    }

    #[test]
    fn what_the_host_itself_says_is_no_verdict() {
        let request = json!({ "uid": "1" });
        for (response, part) in [
            (json!({ "uid": "1", "allowed": false, "status": { "message": "deadline", "code": 500 } }), "deadline"),
            (json!({ "uid": "2", "allowed": true }), "not for"),
            (json!({ "message": "unknown policy" }), "no AdmissionResponse"),
            (json!({ "uid": "1", "allowed": true, "patch": "%" }), "base64"),
        ] {
            let error = of_policy(&response, &request).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
