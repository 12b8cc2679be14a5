//! Asks a policy what a case asks, and compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use cluster::grants::ContextAwareResource;
use cluster::request::UserInfo;
use cluster::{Grants, Requests};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::case::{Case, Expect};
use crate::{Judge, World, root};

/// What a policy answered.
#[derive(Debug, Default, Deserialize)]
pub struct Outcome {
    /// Whether the object is accepted.
    pub accepted: bool,
    /// Why not.
    #[serde(default)]
    pub message: Option<String>,
    /// The mutated object.
    #[serde(default)]
    pub mutated_object: Option<Value>,
    /// The findings as JSON.
    #[serde(default)]
    pub audit_annotations: Option<Map<String, Value>>,
    /// What is told.
    #[serde(default)]
    pub warnings: Option<Vec<String>>,
}

impl Outcome {
    pub(crate) fn findings(&self) -> Vec<Value> {
        self.annotation("findings").as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn annotation(&self, key: &str) -> Value {
        let text = self.audit_annotations.as_ref().and_then(|annotations| annotations.get(key)?.as_str());
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
    }
}

/// The cluster of a case, and the request that it asks.
pub(crate) fn prepare(case: &Case) -> Result<(World, Value), String> {
    let grants =
        if case.header.lookups { Grants::cluster_wide(context_aware(&case.policy)?) } else { Grants::default() };
    let mut objects = case.others.clone();
    if case.header.scale.is_some() {
        objects.push(case.object.clone());
    }
    let world = World::new(objects, grants);
    if let Some(refused) = world.cluster().refused().first() {
        return Err(format!("  document {}: {}\n", refused.position + 3, refused.error));
    }
    let payload = payload(case, &world)?;
    Ok((world, payload))
}

/// Runs one case; the error lists everything that is not as the case says.
pub(crate) fn run(case: &Case, judge: Judge<'_>) -> Result<(), String> {
    let (world, payload) = prepare(case)?;
    let ask = |request: &Value| -> Result<Outcome, String> {
        let payload =
            json!({ "request": request, "settings": case.header.settings.clone().unwrap_or_else(|| json!({})) });
        let bytes = judge(payload.to_string().as_bytes(), &world)?;
        serde_json::from_slice(&bytes).map_err(|error| format!("  the answer cannot be read: {error}\n"))
    };
    let outcome = ask(&payload)?;
    let mut failures = String::new();
    compare(case, &payload, &outcome, &mut failures);
    check_form(&outcome, &mut failures);
    if let Some(mutated) = &outcome.mutated_object {
        let mut again = payload.clone();
        again["object"] = mutated.clone();
        let second = ask(&again)?;
        if second.mutated_object.is_some() || !second.accepted {
            let _ = writeln!(
                failures,
                "  mutating twice is not mutating once, or the mutated object is denied: {second:?}"
            );
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn payload(case: &Case, world: &World) -> Result<Value, String> {
    let header = &case.header;
    let requests = Requests::new(world.cluster().resources()).dry_run(header.dry_run);
    let requests = match &header.user {
        Some(user) => requests.user(UserInfo { username: user.clone(), ..UserInfo::default() }),
        None => requests,
    };
    let before = case.old();
    let request = if let Some(scale) = header.scale {
        requests.scale(&case.object, scale.from, scale.to)
    } else if header.delete {
        requests.delete(&case.object)
    } else if let Some(before) = &before {
        requests.update(&case.object, before)
    } else {
        requests.create(&case.object)
    };
    let request = request.map_err(|error| format!("  no request can be built: {error}\n"))?;
    let mut request = serde_json::to_value(&request).map_err(|error| format!("  {error}\n"))?;
    if header.nameless
        && let Some(fields) = request.as_object_mut()
    {
        fields.remove("name");
    }
    Ok(match &header.request {
        Some(patch) => merged(&request, patch),
        None => request,
    })
}

/// What `metadata.yml` of the policy asks to be granted.
pub(crate) fn context_aware(policy: &str) -> Result<Vec<ContextAwareResource>, String> {
    let file = root().join("policies").join(policy).join("metadata.yml");
    let text = fs::read(&file).map_err(|error| format!("  {}: {error}\n", file.display()))?;
    let parsed = manifest::parse(&file.display().to_string(), &text);
    let metadata = parsed.documents.into_iter().next().map(|document| document.value).unwrap_or_default();
    match metadata.get("contextAwareResources") {
        None => Ok(Vec::new()),
        Some(resources) => {
            serde_json::from_value(resources.clone()).map_err(|error| format!("  {}: {error}\n", file.display()))
        }
    }
}

fn compare(case: &Case, request: &Value, outcome: &Outcome, failures: &mut String) {
    let header = &case.header;
    let expected = header.expect == Expect::Accept;
    if outcome.accepted != expected {
        let _ = writeln!(failures, "  accepted: {}, expected: {expected}; {:?}", outcome.accepted, outcome.message);
    }
    let by_code_only = case.file.is_none();
    let mut found: Vec<String> = outcome.findings().iter().map(|finding| describe(finding, by_code_only)).collect();
    let mut wanted = header.findings.clone();
    if by_code_only {
        found.sort();
        wanted.sort();
    }
    if found != wanted && !bless(case, &found) {
        let _ = writeln!(failures, "  findings: {found:#?}\n  expected: {wanted:#?}");
    }
    let notes = outcome.annotation("notes").as_array().cloned().unwrap_or_default();
    let findings = outcome.findings();
    // A warning leaves the why out where it would get too long, and the checker shows it all the same.
    let reasons = findings.iter().flat_map(|finding| [&finding["why"], &finding["advice"]]);
    let told = outcome.message.iter().chain(outcome.warnings.iter().flatten()).map(String::as_str);
    let said = told.chain(notes.iter().chain(reasons).filter_map(Value::as_str)).collect::<Vec<_>>().join("\n");
    for text in header.says.iter().filter(|text| !said.contains(text.as_str())) {
        let _ = writeln!(failures, "  does not say {text:?}, but:\n{said}");
    }
    check_told(outcome, &header.says, failures);
    let remedies = |key: &str, values: fn(&Value) -> Vec<Value>| {
        let mut remedies: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (code, value) in outcome.findings().iter().filter_map(|finding| Some((&finding["code"], finding.get(key)?)))
        {
            remedies.entry(code.as_str().unwrap_or("?").to_owned()).or_default().extend(values(value));
        }
        remedies
    };
    let patches = remedies("patch", |patch| patch.as_array().cloned().unwrap_or_default());
    let creates = remedies("creates", |object| vec![object.clone()]);
    for (key, found, wanted) in [("patches", patches, &header.patches), ("creates", creates, &header.creates)] {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| **wanted != found) {
            let _ = writeln!(failures, "  {key}: {}\n  expected: {}", json!(found), json!(wanted));
        }
    }
    let object = &request["object"];
    let mutated = header.mutated.as_ref().map(|patch| merged(object, patch));
    if outcome.mutated_object != mutated {
        let shown = |value: &Option<Value>| value.as_ref().map_or("not at all".to_owned(), Value::to_string);
        let _ = writeln!(failures, "  mutated: {}\n  expected: {}", shown(&outcome.mutated_object), shown(&mutated));
    }
}

/// A warning that is no finding says that something could not be judged: where nobody expects that, it is a failure.
pub(crate) fn check_told(outcome: &Outcome, says: &[String], failures: &mut String) {
    let warned = outcome.findings().iter().filter(|finding| finding["level"] == "warning").count();
    let told = outcome.warnings.as_ref().map_or(0, Vec::len);
    if says.is_empty() && told > warned {
        let _ = writeln!(failures, "  tells more than its findings: {:?}", outcome.warnings);
    }
}

/// A finding as a case writes it.
pub(crate) fn describe(finding: &Value, by_code_only: bool) -> String {
    let field = |name: &str| finding[name].as_str().unwrap_or("?");
    if by_code_only {
        return field("code").to_owned();
    }
    let object = match &finding["object"] {
        Value::Null => String::new(),
        object => format!(" {}/{}", object["kind"].as_str().unwrap_or("?"), object["name"].as_str().unwrap_or("?")),
    };
    format!("{} {}{object} {}", field("level"), field("code"), field("path")).trim_end().to_owned()
}

/// What holds for every answer of every policy.
pub(crate) fn check_form(outcome: &Outcome, failures: &mut String) {
    let findings = outcome.findings();
    let of_level = |level: &str| findings.iter().filter(|finding| finding["level"] == level).count();
    let message = outcome.message.as_deref().unwrap_or_default();
    // Behind the errors, where one may be seen.
    let errors = match message.rsplit_once('\n') {
        Some((errors, see)) if see.starts_with("see https://") => errors,
        _ => message,
    };
    let lines = errors.lines().count();
    if !findings.is_empty() && (lines != of_level("error") || outcome.accepted == (lines > 0)) {
        let _ = writeln!(failures, "  one line for each error, none without: {:?}", outcome.message);
    }
    if outcome.accepted && outcome.message.is_some() {
        let _ = writeln!(failures, "  accepted with a message: {:?}", outcome.message);
    }
    for finding in &findings {
        let message = finding["message"].as_str().unwrap_or_default();
        let (why, advice) = (finding["why"].as_str().unwrap_or("x"), finding["advice"].as_str().unwrap_or("x"));
        for text in [message, why, advice] {
            if text.is_empty() || text.ends_with('.') || text.contains('\n') || text.contains("  ") {
                let _ =
                    writeln!(failures, "  a sentence is one line, neither empty nor ended by a full stop: {text:?}");
            }
        }
        let forms = [": Invalid value: ", ": Required value: ", ": Forbidden: ", ": Duplicate value: "];
        if !forms.iter().any(|form| message.contains(form)) {
            let _ = writeln!(failures, "  not in the API server's form: {message:?}");
        }
        let unique = findings.iter().filter(|other| {
            other["code"] == finding["code"]
                && other["subject"] == finding["subject"]
                && other["object"] == finding["object"]
        });
        if unique.count() > 1 {
            let _ = writeln!(failures, "  told twice: {message:?}");
        }
    }
}

/// Rewrites the expected findings of a case file, where `QUORATE_BLESS=1` asks for it.
fn bless(case: &Case, found: &[String]) -> bool {
    let (Some(file), Ok("1")) = (&case.file, std::env::var("QUORATE_BLESS").as_deref()) else { return false };
    let Ok(text) = fs::read_to_string(file) else { return false };
    let mut lines: Vec<&str> = text.lines().collect();
    let header = lines.iter().position(|line| *line == "---").unwrap_or(lines.len());
    let start = lines[..header].iter().position(|line| line.starts_with("findings:"));
    let end = start.map(|start| {
        start
            + 1
            + lines[start + 1..header]
                .iter()
                .take_while(|line| line.starts_with("- ") || line.starts_with("  - "))
                .count()
    });
    let block: Vec<String> = if found.is_empty() {
        Vec::new()
    } else {
        std::iter::once("findings:".to_owned()).chain(found.iter().map(|line| format!("- {line}"))).collect()
    };
    let (start, end) = match (start, end) {
        (Some(start), Some(end)) => (start, end),
        _ => (header, header),
    };
    lines.splice(start..end, block.iter().map(String::as_str));
    fs::write(file, lines.join("\n") + "\n").is_ok()
}

/// `patch` merged into `target` as RFC 7396 says: `null` removes.
pub(crate) fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut fields = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            let merged = merged(fields.get(key).unwrap_or(&Value::Null), value);
            fields.insert(key.clone(), merged);
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a case of odd-replicas with this header, if the policy answers so.
    fn outcome(header: Value, answer: &Value) -> Result<(), String> {
        let case = Case {
            policy: "odd-replicas".to_owned(),
            name: "case".to_owned(),
            file: Some("case.yaml".into()),
            header: serde_json::from_value(header).unwrap(),
            object: json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "zk" } }),
            others: Vec::new(),
        };
        case.run(&|_, _| Ok(answer.to_string().into_bytes()))
    }

    #[test]
    fn a_case_that_names_another_patch_or_object_than_the_finding_has_fails() {
        let set = json!({ "op": "replace", "path": "/spec/replicas", "value": 5 });
        let budget = json!({ "kind": "PodDisruptionBudget" });
        let finding = json!({
            "level": "warning", "code": "even-members", "path": "/spec/replicas",
            "message": "spec.replicas: Invalid value: 4: must be odd", "patch": [set], "creates": budget,
        });
        let answer = json!({ "accepted": true, "audit_annotations": { "findings": json!([finding]).to_string() } });
        let run = |key: &str, wanted: Value| {
            let findings = ["warning even-members /spec/replicas"];
            outcome(json!({ "expect": "accept", "findings": findings, key: wanted }), &answer)
        };
        assert_eq!(run("patches", Value::Null), Ok(()), "what a case does not name is not looked at");
        assert_eq!(run("patches", json!({ "even-members": [set] })), Ok(()));
        assert_eq!(run("creates", json!({ "even-members": [budget] })), Ok(()));
        for wrong in [json!({}), json!({ "even-members": [] }), json!({ "other": [set] })] {
            for key in ["patches", "creates"] {
                let failure = run(key, wrong.clone()).unwrap_err();
                assert!(failure.starts_with(&format!("  {key}: {{\"even-members\":[")), "{failure}");
            }
        }
        let seven = json!({ "op": "replace", "path": "/spec/replicas", "value": 7 });
        assert!(run("patches", json!({ "even-members": [seven] })).is_err(), "another value");
        assert!(run("patches", json!({ "even-members": [set, set] })).is_err(), "one operation more");
    }

    #[test]
    fn what_a_case_says_may_be_the_why_of_a_finding_whose_warning_leaves_it_out() {
        let message = "spec.replicas: Invalid value: 4: must be odd";
        let finding = json!({ "level": "warning", "code": "even-members", "path": "/spec/replicas",
            "message": message, "why": "3 of 4 must be up" });
        let annotations = json!({ "findings": json!([finding]).to_string() });
        let answer = json!({ "accepted": true, "warnings": [message], "audit_annotations": annotations });
        let findings = ["warning even-members /spec/replicas"];
        let run = |text: &str| outcome(json!({ "expect": "accept", "findings": findings, "says": [text] }), &answer);
        assert_eq!((run("must be odd"), run("3 of 4 must be up")), (Ok(()), Ok(())));
        assert!(run("even-members").unwrap_err().contains("does not say"), "a code is nothing that is said");
    }

    #[test]
    fn a_warning_that_is_no_finding_has_to_be_expected() {
        let answer = json!({ "accepted": true, "warnings": ["odd-replicas cannot judge this"] });
        let failure = outcome(json!({ "expect": "accept" }), &answer).unwrap_err();
        assert!(failure.contains("tells more than its findings"), "{failure}");
        assert_eq!(outcome(json!({ "expect": "accept", "says": ["cannot judge"] }), &answer), Ok(()));
    }

    #[test]
    fn merges_as_rfc_7396_says() {
        let target = json!({ "a": "b", "c": { "d": "e", "f": "g" } });
        assert_eq!(merged(&target, &json!({ "a": "z", "c": { "f": null } })), json!({ "a": "z", "c": { "d": "e" } }));
        assert_eq!(merged(&json!({ "a": [1] }), &json!({ "a": { "b": { "c": null } } })), json!({ "a": { "b": {} } }));
        assert_eq!(merged(&target, &json!([1])), json!([1]));
    }
}
