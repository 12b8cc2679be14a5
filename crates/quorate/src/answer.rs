//! What a policy's answer says: findings where it gives them, else what its message and warnings tell.

use serde::Deserialize;
use serde_json::Value;

use crate::engine::ValidationResponse;
use crate::finding::Level;

/// Where our own policies put the JSON of their findings, and their remarks.
const FINDINGS: &str = "findings";
const NOTES: &str = "notes";

/// The code of what a policy without findings says when it denies.
pub(crate) const DENIED: &str = "denied";
/// The code of a warning that belongs to no finding.
pub(crate) const WARNING: &str = "warning";

/// One finding as a policy tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Told {
    pub(crate) code: String,
    pub(crate) level: ToldLevel,
    #[serde(default)]
    pub(crate) subject: String,
    #[serde(default)]
    pub(crate) object: Option<ToldObject>,
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) advice: String,
    #[serde(default)]
    pub(crate) patch: Option<Value>,
    #[serde(default)]
    pub(crate) creates: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToldLevel {
    Warning,
    Error,
}

impl From<ToldLevel> for Level {
    fn from(level: ToldLevel) -> Self {
        match level {
            ToldLevel::Warning => Self::Warning,
            ToldLevel::Error => Self::Error,
        }
    }
}

/// Another object than the judged one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToldObject {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) name: String,
}

impl Told {
    fn plain(code: &str, level: ToldLevel, message: String) -> Self {
        Self {
            code: code.to_owned(),
            level,
            subject: message.clone(),
            object: None,
            path: String::new(),
            message,
            why: String::new(),
            advice: String::new(),
            patch: None,
            creates: None,
        }
    }
}

/// Reads an answer. Nothing that it says is lost: a denial without an error among the findings, and a warning without its
/// finding, become findings themselves.
pub(crate) fn read(answer: ValidationResponse) -> (Vec<Told>, Vec<String>) {
    let annotation = |key| answer.audit_annotations.as_ref()?.get(key);
    let mut told: Vec<Told> = annotation(FINDINGS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let notes = annotation(NOTES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();

    if !answer.accepted && !told.iter().any(|told| told.level == ToldLevel::Error) {
        let message = answer.message.filter(|message| !message.trim().is_empty());
        let message = message.unwrap_or_else(|| "denied; the policy does not say why".to_owned());
        told.push(Told::plain(DENIED, ToldLevel::Error, message));
    }
    for warning in answer.warnings.unwrap_or_default() {
        // A warning begins with the message of its finding; why and advice may follow.
        if !told.iter().any(|told| !told.message.is_empty() && warning.starts_with(&told.message)) {
            told.push(Told::plain(WARNING, ToldLevel::Warning, warning));
        }
    }
    (told, notes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(answer: Value) -> (Vec<Told>, Vec<String>) {
        read(serde_json::from_value(answer).unwrap())
    }

    fn spoken(told: &[Told]) -> Vec<(ToldLevel, &str, &str)> {
        told.iter().map(|told| (told.level, told.code.as_str(), told.message.as_str())).collect()
    }

    #[test]
    fn findings_are_read_and_their_warnings_are_not_told_twice() {
        let findings = json!([
            {"policy": "p", "code": "even", "level": "error", "path": "/spec/replicas", "message": "spec.replicas: m"},
            {"policy": "p", "code": "wish", "level": "warning", "path": "/spec", "message": "spec: n", "advice": "do"},
        ]);
        let (told, notes) = answer(json!({
            "accepted": false, "message": "spec.replicas: m", "warnings": ["spec: n; do", "another thing"],
            "audit_annotations": {"findings": findings.to_string(), "notes": "[\"by the catalogue\"]"},
        }));
        assert_eq!(
            spoken(&told),
            [
                (ToldLevel::Error, "even", "spec.replicas: m"),
                (ToldLevel::Warning, "wish", "spec: n"),
                (ToldLevel::Warning, "warning", "another thing"),
            ]
        );
        assert_eq!(notes, ["by the catalogue"]);
    }

    #[test]
    fn a_policy_without_findings_is_told_by_its_message_and_warnings() {
        let (told, _) = answer(json!({"accepted": false, "message": "no", "warnings": ["old"]}));
        assert_eq!(spoken(&told), [(ToldLevel::Error, "denied", "no"), (ToldLevel::Warning, "warning", "old")]);
        assert_eq!(answer(json!({"accepted": true, "message": "fine"})).0, []);
    }

    #[test]
    fn a_denial_is_never_lost() {
        for annotations in [json!(null), json!({"findings": "not JSON"}), json!({"findings": "[]"}), json!({})] {
            let (told, _) = answer(json!({"accepted": false, "audit_annotations": annotations}));
            assert_eq!(spoken(&told), [(ToldLevel::Error, "denied", "denied; the policy does not say why")]);
        }
        let warning = json!([{"code": "c", "level": "warning", "message": "m"}]).to_string();
        let (told, _) = answer(json!({"accepted": false, "message": "no", "audit_annotations": {"findings": warning}}));
        assert_eq!(told.last().unwrap().code, "denied");
    }
}
