//! What a rule says: where, what is wrong, why it matters, how to fix it.

use std::fmt::{self, Write as _};

use serde_json::Value;
use workload::edit::{self, Edit};
use workload::node::{self, shorten};
use workload::{Malformed, Node, Path};

use crate::json::{present, text};
use crate::quorum::Quorum;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is told, and the object is accepted.
    Warning,
    /// The object is denied.
    Error,
}

impl Level {
    /// As the findings' JSON writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is wrong with a field, in the API server's own words: `Error.ErrorBody` in
/// `k8s.io/apimachinery/pkg/util/validation/field/errors.go`.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// It is absent and must not be.
    Required,
    /// Its value will not do.
    Invalid(Value),
    /// It must not be there, or not be changed so.
    Forbidden,
    /// It may be there once only.
    Duplicate(Value),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("Required value"),
            Self::Invalid(value) => write!(f, "Invalid value: {}", shorten(value)),
            Self::Forbidden => f.write_str("Forbidden"),
            Self::Duplicate(value) => write!(f, "Duplicate value: {}", shorten(value)),
        }
    }
}

/// Another object than the judged one, to which a finding points.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Its API version, such as `policy/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A container that a finding is about, so that the administrator can exempt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AboutContainer {
    /// The container's name.
    pub name: String,
    /// The container's image.
    pub image: String,
}

/// One thing that a rule found.
///
/// Its identity is the policy, the code, the subject and, where it is another than the judged one, the object; never
/// an index in a list, so that an UPDATE which only reorders adds nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which rule of the policy: kebab-case, stable.
    pub code: &'static str,
    /// What it is about inside the object: a container's name, a budget's; empty for the object as a whole.
    pub subject: String,
    /// How bad it is: more is worse. Compared only between findings of the same identity.
    pub measure: i64,
    /// How much it weighs.
    pub level: Level,
    /// The object that `path` is in; absent for the judged one.
    pub object: Option<ObjectRef>,
    /// Where.
    pub path: Path,
    /// What is wrong, in the API server's words.
    pub problem: Problem,
    /// What is wrong, in a sentence without capital and full stop.
    pub reason: String,
    /// What is not certain about it, and how to make it certain; may be empty.
    pub doubt: String,
    /// Why it matters; may be empty.
    pub why: String,
    /// What to do; may be empty.
    pub advice: String,
    /// The edits of the judged object that mend it; empty where nothing safe is known.
    pub edits: Vec<Edit>,
    /// A whole object to create, which mends it.
    pub creates: Option<Value>,
    /// The container that it is about.
    pub container: Option<AboutContainer>,
    /// Kubernetes refuses to change the field, so that an UPDATE cannot mend it.
    pub immutable: bool,
    /// It was there before this UPDATE, no better.
    pub(crate) kept: bool,
}

/// See [`Finding::identity`].
pub(crate) type Identity<'a> = (&'static str, &'a str, Option<(&'a str, &'a str)>);

impl Finding {
    /// A finding that denies.
    pub fn error(code: &'static str, path: Path, problem: Problem, reason: impl Into<String>) -> Self {
        Self::new(code, path, problem, reason.into())
    }

    // This, and what changes one text, stay calls: a finding is large, and is made in many places.
    #[inline(never)]
    fn new(code: &'static str, path: Path, problem: Problem, reason: String) -> Self {
        Self {
            code,
            subject: String::new(),
            measure: 0,
            level: Level::Error,
            object: None,
            path,
            problem,
            reason,
            doubt: String::new(),
            why: String::new(),
            advice: String::new(),
            edits: Vec::new(),
            creates: None,
            container: None,
            immutable: false,
            kept: false,
        }
    }

    /// A finding that is told only.
    pub fn warning(code: &'static str, path: Path, problem: Problem, reason: impl Into<String>) -> Self {
        Self::error(code, path, problem, reason).level(Level::Warning)
    }

    /// A field that the rule reads is one that Kubernetes refuses too.
    pub(crate) fn malformed(malformed: &Malformed, object: &Node<'_>) -> Self {
        let found = object.follow(malformed.path).ok().and_then(|node| node.value().cloned()).unwrap_or(Value::Null);
        // Only the type of an annotation is Kubernetes' business; what it says is ours.
        let annotations = Path::fields("metadata.annotations");
        let is_ours = found.is_string() && malformed.path.is_within(annotations);
        let advice =
            if is_ours { "correct the annotation" } else { "the API server refuses this too; correct the field" };
        Self::error("malformed", malformed.path, Problem::Invalid(found), malformed.problem.clone())
            .about(malformed.path.to_string())
            .advise(advice)
    }

    /// What it is about inside the object.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        replace(&mut self.subject, subject.into());
        self
    }

    /// How bad it is: more is worse.
    #[must_use]
    #[inline(never)]
    pub fn measure(mut self, measure: i64) -> Self {
        self.measure = measure;
        self
    }

    /// Why it matters.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        replace(&mut self.why, why.into());
        self
    }

    /// Says first why the members are taken to vote, where nothing but a setting says that they do.
    #[must_use]
    pub fn resting_on(self, quorum: &Quorum) -> Self {
        self.doubt(quorum.doubt())
    }

    /// What is not certain about it, and how to make it certain: told before all else, and never left out.
    #[must_use]
    pub fn doubt(mut self, doubt: impl Into<String>) -> Self {
        replace(&mut self.doubt, doubt.into());
        self
    }

    /// What to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        replace(&mut self.advice, advice.into());
        self
    }

    /// The edits of the judged object that mend it.
    #[must_use]
    #[inline(never)]
    pub fn fix(mut self, edits: Vec<Edit>) -> Self {
        self.edits = edits;
        self
    }

    /// The whole object whose creation mends it.
    #[must_use]
    #[inline(never)]
    pub fn create(mut self, object: Value) -> Self {
        self.creates = Some(object);
        self
    }

    /// The path is in another object than the judged one.
    #[must_use]
    #[inline(never)]
    pub fn at(mut self, object: Option<ObjectRef>) -> Self {
        self.object = object;
        self
    }

    /// The level, if not the one that it was made with.
    #[must_use]
    #[inline(never)]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Kubernetes refuses to change the field: an UPDATE is never denied for it, not even under `onUpdate: enforce`.
    #[must_use]
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// The container that it is about.
    #[must_use]
    pub fn in_container(mut self, name: impl Into<String>, image: impl Into<String>) -> Self {
        self.container = Some(AboutContainer { name: name.into(), image: image.into() });
        self
    }

    /// What makes two findings of a policy the same finding, whatever its measure.
    pub(crate) fn identity(&self) -> Identity<'_> {
        let object = self.object.as_ref().map(|object| (object.kind.as_str(), object.name.as_str()));
        (self.code, &self.subject, object)
    }

    /// Where and what, without why and what to do: `spec.replicas: Invalid value: 4: an even number of members`.
    pub fn message(&self) -> String {
        let mut text = String::new();
        if let Some(object) = &self.object {
            // Writing to a String cannot fail.
            let _ = write!(text, "{} {}: ", object.kind, object.name);
        }
        let _ = write!(text, "{}: {}: {}", self.path, self.problem, self.reason);
        one_line(&text)
    }

    /// The whole finding on one line.
    pub fn line(&self) -> String {
        join(&[&self.message(), &one_line(&self.doubt), &one_line(&self.why), &one_line(&self.advice)])
    }

    /// The finding on one line for a warning, of which the API server wants 120 characters where it can be: what is
    /// longer loses the why, which the JSON of the findings has. The advice stays, since a warning that nobody can
    /// act on is noise, up to the length at which the API server may cut it off.
    pub fn short_line(&self) -> String {
        let message = join(&[&self.message(), &one_line(&self.doubt)]);
        let advised = join(&[&message, &one_line(&self.advice)]);
        let whole = self.line();
        let fits = |text: &str, length: usize| text.chars().count() <= length;
        if fits(&whole, WARNING_LENGTH) {
            whole
        } else if fits(&advised, CUT_OFF_LENGTH) {
            advised
        } else {
            message
        }
    }

    /// The finding as JSON, for `audit_annotations`. `received` is the judged object as it was received, on which
    /// the patch works.
    pub fn to_json(&self, policy: &str, received: &Value) -> Value {
        let object = self.object.as_ref().map_or(Value::Null, |object| {
            node::object(&mut [
                ("apiVersion", object.api_version.as_str().into()),
                ("kind", object.kind.as_str().into()),
                ("namespace", object.namespace.as_str().into()),
                ("name", object.name.as_str().into()),
            ])
        });
        // Edits that do not fit the object, which is malformed then, are no patch.
        let patch = if self.edits.is_empty() { None } else { edit::json_patch(received, &self.edits).ok() };
        present(&mut [
            ("policy", text(policy)),
            ("code", text(self.code)),
            ("level", text(self.level.as_str())),
            ("subject", text(&self.subject)),
            ("object", object),
            ("path", self.path.pointer().into()),
            ("message", self.message().into()),
            ("why", text(&one_line(&join(&[&self.doubt, &self.why])))),
            ("advice", text(&one_line(&self.advice))),
            ("kept", if self.kept { Value::Bool(true) } else { Value::Null }),
            ("patch", Value::Array(patch.unwrap_or_default())),
            ("creates", self.creates.clone().unwrap_or_default()),
        ])
    }
}

#[inline(never)]
fn replace(old: &mut String, new: String) {
    *old = new;
}

/// What the API server asks of a warning: "Limit warnings to 120 characters if possible", `k8s.io/api/admission/v1`.
const WARNING_LENGTH: usize = 120;
/// "Individual warning messages larger than 256 characters [...] may be truncated", the same file.
const CUT_OFF_LENGTH: usize = 256;

fn join(parts: &[&str]) -> String {
    let mut joined = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !joined.is_empty() {
            joined.push_str("; ");
        }
        joined.push_str(part);
    }
    joined
}

/// `text` without line breaks and other control characters: names and values come from users, and a finding is one
/// line of a message, a log, a terminal.
pub fn one_line(text: &str) -> String {
    // The control characters beyond ASCII begin with this byte. Nearly all texts have none.
    if !text.bytes().any(|byte| byte.is_ascii_control() || byte == 0xC2) {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn even() -> Finding {
        Finding::error("even", Path::fields("spec.replicas"), Problem::Invalid(json!(4)), "an even number of members")
            .why("4 members tolerate 1 failure, as 3 do")
            .advise("set spec.replicas to 5")
    }

    #[test]
    fn a_line_has_the_api_servers_form() {
        assert_eq!(
            even().line(),
            "spec.replicas: Invalid value: 4: an even number of members; 4 members tolerate 1 failure, as 3 do; set spec.replicas to 5"
        );
        assert_eq!(
            even().short_line(),
            "spec.replicas: Invalid value: 4: an even number of members; set spec.replicas to 5"
        );
    }

    #[test]
    fn a_warning_drops_the_why_beyond_120_characters_and_the_advice_beyond_256() {
        let short = even().why("4 do as 3");
        assert_eq!(short.short_line(), short.line());
        let long = even().advise("x".repeat(120));
        assert_eq!(long.short_line(), format!("{}; {}", long.message(), "x".repeat(120)));
        let cut_off = even().advise("x".repeat(256));
        assert_eq!(cut_off.short_line(), cut_off.message());
        let doubtful = even().doubt("taken for a voting set").advise("x".repeat(256));
        assert!(doubtful.short_line().ends_with("; taken for a voting set"), "why it may be wrong stays");
    }

    #[test]
    fn another_object_is_named_first() {
        let budget = ObjectRef {
            api_version: "policy/v1".to_owned(),
            kind: "PodDisruptionBudget".to_owned(),
            namespace: "a".to_owned(),
            name: "zk\n-pdb".to_owned(),
        };
        let finding = even().at(Some(budget));
        assert!(finding.message().starts_with("PodDisruptionBudget zk -pdb: spec.replicas: "), "and on one line");
    }

    #[test]
    fn one_line_has_no_control_character_of_any_kind() {
        assert_eq!(one_line("a\nb\u{7f}c\u{85}dé"), "a b c dé");
        assert_eq!(one_line("Ünï\u{ad}cødé ok"), "Ünï\u{ad}cødé ok");
    }

    #[test]
    fn the_json_has_a_pointer_and_a_patch() {
        let finding = even().fix(vec![Edit::Set { path: Path::fields("spec.replicas"), value: json!(5) }]);
        let json = finding.to_json("odd-replicas", &json!({ "spec": { "replicas": 4 } }));
        assert_eq!(json["path"], "/spec/replicas");
        assert_eq!(json["level"], "error");
        assert_eq!(json["patch"], json!([{ "op": "replace", "path": "/spec/replicas", "value": 5 }]));
        assert!(json.get("object").is_none() && json.get("subject").is_none());
    }
}
