//! Reads the `questions-ui.yml` of a policy: how Rancher asks for its settings.
//!
//! Rancher shows a form of them (`pkg/kubewarden/components/Questions` of rancher/kubewarden-ui), and writes what it is told, and
//! the defaults of what it shows, into the settings. It checks nothing. So what is read here is held to what that form can do; that
//! it names the settings of the policy, with their defaults, is for [`crate::check_policy`] to show.
//!
//! Who needs the settings of a policy as data, such as for the schema of a chart, reads them here too.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Map, Value};

use crate::root;

/// What may stand in a question.
const KEYS: [&str; 12] = [
    "variable",
    "label",
    "type",
    "options",
    "default",
    "required",
    "show_if",
    "group",
    "hide_input",
    "description",
    "subquestions",
    "sequence_questions",
];

/// A setting, as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The key, in the object that holds it: `containers`, of `exempt.containers`.
    pub key: String,
    /// What is asked for.
    pub kind: Kind,
    /// How it is labelled.
    pub label: String,
    /// What it means.
    pub help: String,
    /// The value that it has where nobody sets it; `null` if it has none.
    pub default: Value,
    /// Whether the object cannot be without it.
    pub required: bool,
}

/// What a setting is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A text.
    Text,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// One of these names.
    Choice(Vec<String>),
    /// A list of texts.
    Texts,
    /// Any keys, each with a text.
    Labels,
    /// An object with these keys.
    Object(Vec<Question>),
    /// A list of objects with these keys.
    Objects(Vec<Question>),
}

impl Kind {
    /// Whether this is a label selector of Kubernetes, whose own keys are not ours to judge.
    pub fn is_selector(&self) -> bool {
        matches!(self, Self::Object(parts)
            if parts.iter().all(|part| ["matchLabels", "matchExpressions"].contains(&part.key.as_str())))
    }
}

/// The settings of a policy, its own and the shared ones, as its `questions-ui.yml` asks for them.
///
/// # Errors
/// All that is wrong in it, one a line.
pub fn questions(policy: &str) -> Result<Vec<Question>, String> {
    let file = format!("policies/{policy}/questions-ui.yml");
    let text = fs::read(root().join(&file)).map_err(|error| format!("{file}: {error}\n"))?;
    read(&file, &text)
}

/// The settings that a `questions-ui.yml` asks for; `file` is only for what is wrong in it.
///
/// # Errors
/// All of that, one a line.
pub fn read(file: &str, text: &[u8]) -> Result<Vec<Question>, String> {
    let parsed = manifest::parse(file, text);
    let mut reader = Reader { file, problems: Vec::new(), shown: Vec::new(), choices: Vec::new() };
    for problem in &parsed.problems {
        reader.fail(&format!("{}:{}", problem.line, problem.column), &problem.message);
    }
    let mut questions = Vec::new();
    match parsed.documents.as_slice() {
        [document] => match document.value["questions"].as_array() {
            Some(list) => questions = reader.list(list, "", true),
            None => reader.fail("questions", "must be a list"),
        },
        _ => reader.fail("", "must be one document"),
    }
    reader.check_conditions();
    if reader.problems.is_empty() { Ok(questions) } else { Err(reader.problems.concat()) }
}

/// Collects what is wrong.
struct Reader<'a> {
    file: &'a str,
    problems: Vec<String>,
    /// Each `show_if`, with its variable.
    shown: Vec<(String, String)>,
    /// Each variable of which a question can depend, with the values that it may have.
    choices: Vec<(String, Vec<String>)>,
}

impl Reader<'_> {
    fn fail(&mut self, at: &str, problem: &str) {
        self.problems.push(format!("{}: {at}: {problem}\n", self.file));
    }

    /// The questions of a list; their variables begin with the prefix. On a form of its own each has its place in a group; in
    /// an item of a list there are none.
    fn list(&mut self, list: &[Value], prefix: &str, grouped: bool) -> Vec<Question> {
        let mut questions: Vec<Question> = Vec::new();
        for value in list {
            let Some(fields) = value.as_object() else {
                self.fail(prefix, "a question must be an object");
                continue;
            };
            let variable = fields.get("variable").and_then(Value::as_str).unwrap_or_default();
            let Some(key) = variable.strip_prefix(prefix).filter(|key| !key.is_empty() && !key.contains('.')) else {
                self.fail(variable, &format!("the variable must be `{prefix}KEY`"));
                continue;
            };
            if questions.iter().any(|question| question.key == key) {
                self.fail(variable, "is asked for twice");
            }
            let question = self.question(fields, variable, key, grouped);
            questions.extend(question);
        }
        questions
    }

    fn question(&mut self, fields: &Map<String, Value>, at: &str, key: &str, grouped: bool) -> Option<Question> {
        if let Some(unknown) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
            self.fail(at, &format!("`{unknown}` is no key of a question"));
        }
        let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
        for needed in ["label", "description"].into_iter().chain(grouped.then_some("group")) {
            if text(needed).trim().is_empty() {
                self.fail(at, &format!("must have a {needed}"));
            }
        }
        if !grouped && fields.contains_key("group") {
            self.fail(at, "can have no group: it is shown with its item");
        }
        // A question whose condition fails is not asked, so that its default is not written.
        if let Some(condition) = fields.get("show_if") {
            self.shown.push((at.to_owned(), condition.as_str().unwrap_or_default().to_owned()));
        }
        let kind = self.kind(fields, at, grouped)?;
        let default = fields.get("default").cloned().unwrap_or_default();
        let fits = match &kind {
            Kind::Text => default.is_null() || default.as_str().is_some_and(|text| !text.is_empty()),
            Kind::Boolean => default.is_boolean(),
            Kind::Integer => default.is_null() || default.is_i64(),
            Kind::Choice(options) => {
                default.is_null() || default.as_str().is_some_and(|name| options.iter().any(|own| own == name))
            }
            Kind::Texts => default.as_array().is_some_and(Vec::is_empty),
            // A list in an item is written as YAML, which the form begins with an item.
            Kind::Objects(_) => default.as_array().is_some_and(Vec::is_empty) || !grouped && default.is_null(),
            Kind::Labels | Kind::Object(_) => default.is_null(),
        };
        if !fits {
            self.fail(at, &format!("{default} cannot be its default"));
        }
        // An object without a form of its own has one field for keys and texts.
        if matches!(kind, Kind::Object(_)) != flag("hide_input") {
            self.fail(at, "must have `hide_input: true` if it has subquestions, and only then");
        }
        let names = match &kind {
            Kind::Boolean => vec!["true".to_owned(), "false".to_owned()],
            Kind::Choice(options) => options.clone(),
            _ => Vec::new(),
        };
        self.choices.push((at.to_owned(), names));
        Some(Question {
            key: key.to_owned(),
            kind,
            label: text("label").to_owned(),
            help: text("description").to_owned(),
            default,
            required: flag("required"),
        })
    }

    fn kind(&mut self, fields: &Map<String, Value>, at: &str, grouped: bool) -> Option<Kind> {
        let list = |key: &str| fields.get(key).and_then(Value::as_array);
        let (parts, items, options) = (list("subquestions"), list("sequence_questions"), list("options"));
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        let kind = match (kind, parts, items, options) {
            ("string", None, None, None) => Kind::Text,
            ("boolean", None, None, None) => Kind::Boolean,
            ("int", None, None, None) => Kind::Integer,
            ("array[", None, None, None) => Kind::Texts,
            ("map[", None, None, None) => Kind::Labels,
            ("map[", Some(parts), None, None) => Kind::Object(self.list(parts, &format!("{at}."), grouped)),
            ("sequence[", None, Some(items), None) => Kind::Objects(self.list(items, "", false)),
            ("enum", None, None, Some(options)) => {
                let names: Vec<String> = options.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                if names.len() != options.len() || names.iter().collect::<BTreeSet<_>>().len() < 2 {
                    self.fail(at, "must have two options or more, all of them texts");
                }
                Kind::Choice(names)
            }
            _ => {
                let problem = "no such type with what else the question has; there are string, boolean, int, enum with \
                               options, array[, map[ with or without subquestions, and sequence[ with sequence_questions";
                self.fail(at, &format!("`{kind}`: {problem}"));
                return None;
            }
        };
        Some(kind)
    }

    /// Whether each condition can hold. The form reads `a=b`, joined by `||` or by `&&`; `!=` it splits in the wrong place.
    fn check_conditions(&mut self) {
        for (at, condition) in std::mem::take(&mut self.shown) {
            let joined = condition.replace("&&", "||");
            for part in joined.split("||") {
                let holds = part.split_once('=').is_some_and(|(variable, value)| {
                    self.choices.iter().any(|(own, values)| own == variable && values.iter().any(|own| own == value))
                });
                if !holds {
                    self.fail(&at, &format!("show_if: `{part}` can never hold: it must be VARIABLE=VALUE"));
                }
            }
            if condition.contains("||") && condition.contains("&&") {
                self.fail(&at, "show_if: must not have both `||` and `&&`");
            }
        }
    }
}

/// What the form writes that nobody has touched: the defaults.
pub(crate) fn untouched(questions: &[Question]) -> Map<String, Value> {
    let value = |question: &Question| match &question.kind {
        // No default: the form says nothing of it.
        Kind::Labels => None,
        Kind::Object(parts) => {
            Some(Value::Object(untouched(parts))).filter(|value| *value != Value::Object(Map::new()))
        }
        _ => Some(question.default.clone()),
    };
    questions.iter().filter_map(|question| Some((question.key.clone(), value(question)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HEAD: &str = "label: A, group: Settings, description: It is a";

    fn refused(question: &str) -> String {
        let text = format!(
            "questions:\n- {{ variable: steps, type: enum, options: [a, b], default: a, {HEAD} }}\n- {question}\n"
        );
        read("q.yml", text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_question_is_read_with_its_parts() {
        let text = format!(
            "questions:\n- {{ variable: open, type: boolean, default: true, {HEAD} }}\n\
             - {{ variable: exempt, type: 'map[', hide_input: true, {HEAD}, subquestions: [\n\
                 {{ variable: exempt.names, type: 'array[', default: [], show_if: open=true, {HEAD} }},\n\
                 {{ variable: exempt.labels, type: 'map[', hide_input: true, {HEAD}, subquestions: [\n\
                   {{ variable: exempt.labels.matchLabels, type: 'map[', {HEAD} }}] }}] }}\n\
             - {{ variable: systems, type: 'sequence[', default: [], {HEAD}, sequence_questions: [\n\
                 {{ variable: model, type: enum, options: [a, b], default: b, required: true, label: M, description: D }}] }}\n"
        );
        let questions = read("q.yml", text.as_bytes()).unwrap();
        let keys: Vec<&str> = questions.iter().map(|question| question.key.as_str()).collect();
        assert_eq!(keys, ["open", "exempt", "systems"]);
        let Kind::Object(parts) = &questions[1].kind else { unreachable!("{:?}", questions[1]) };
        assert_eq!((parts[0].key.as_str(), &parts[0].kind), ("names", &Kind::Texts));
        assert!(parts[1].kind.is_selector() && !questions[1].kind.is_selector());
        let Kind::Objects(parts) = &questions[2].kind else { unreachable!("{:?}", questions[2]) };
        assert_eq!((parts[0].required, &parts[0].help), (true, &"D".to_owned()));
        let untouched = Value::Object(untouched(&questions));
        assert_eq!(untouched, json!({ "open": true, "exempt": { "names": [] }, "systems": [] }));
    }

    #[test]
    fn what_the_form_cannot_do_is_told() {
        for (question, problem) in [
            (format!("{{ variable: a.b, type: int, {HEAD} }}"), "a.b: the variable must be `KEY`"),
            (format!("{{ variable: steps, type: int, {HEAD} }}"), "steps: is asked for twice"),
            (format!("{{ variable: a, type: int, tooltip: t, {HEAD} }}"), "a: `tooltip` is no key of a question"),
            ("{ variable: a, type: int, label: A, group: S }".to_owned(), "a: must have a description"),
            ("{ variable: a, type: int, label: A, description: d }".to_owned(), "a: must have a group"),
            (format!("{{ variable: a, type: integer, {HEAD} }}"), "a: `integer`: no such type"),
            (format!("{{ variable: a, type: enum, {HEAD} }}"), "a: `enum`: no such type"),
            (format!("{{ variable: a, type: enum, options: [b], {HEAD} }}"), "a: must have two options"),
            (
                format!("{{ variable: a, type: enum, options: [b, c], default: d, {HEAD} }}"),
                "a: \"d\" cannot be its default",
            ),
            (format!("{{ variable: a, type: string, default: '', {HEAD} }}"), "a: \"\" cannot be its default"),
            (format!("{{ variable: a, type: boolean, {HEAD} }}"), "a: null cannot be its default"),
            (
                format!("{{ variable: a, type: 'map[', hide_input: true, {HEAD} }}"),
                "a: must have `hide_input: true` if",
            ),
            (format!("{{ variable: a, type: int, show_if: steps=c, {HEAD} }}"), "show_if: `steps=c` can never hold"),
            (format!("{{ variable: a, type: int, show_if: steps!=a, {HEAD} }}"), "show_if: `steps!=a` can never hold"),
            (
                format!("{{ variable: a, type: int, show_if: steps=a||steps=b&&steps=a, {HEAD} }}"),
                "must not have both `||` and `&&`",
            ),
            (
                format!(
                    "{{ variable: a, type: 'sequence[', default: [], {HEAD}, sequence_questions: [\n\
                     {{ variable: b, type: int, {HEAD} }}] }}"
                ),
                "b: can have no group",
            ),
        ] {
            let told = refused(&question);
            assert!(told.contains(problem) && told.lines().count() == 1, "{question}\n{told}");
        }
        assert_eq!(read("q.yml", b"questions: 1").unwrap_err(), "q.yml: questions: must be a list\n");
        assert_eq!(read("q.yml", b"").unwrap_err(), "q.yml: : must be one document\n");
        assert!(read("q.yml", b"questions: [").unwrap_err().starts_with("q.yml: 1:"));
    }
}
