//! Compares what a policy reads of its settings with what is said of them: `questions-ui.yml`, the README and docs/settings.md.
//!
//! What the policy reads is learnt from its refusals, which list what there is: the keys of an object, the names of a choice.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use policy::Policy;
use serde_json::{Map, Value, json};

use crate::questions::{Kind, Question, questions, untouched};
use crate::{Case, root, run};

/// No key and no name; so long that none is near enough to be proposed instead.
const UNKNOWN: &str = "neither a key nor a name of any setting";

/// What all settings of all policies are told in.
const SHARED: &str = "docs/settings.md";

/// What differs; empty when nothing does.
pub(crate) fn differences<P: Policy>(cases: &[Case]) -> String {
    let questions = match questions(P::NAME) {
        Ok(questions) => questions,
        Err(problems) => return problems,
    };
    let refusal = |settings: &Value| {
        let answer: Value = serde_json::from_slice(&policy::validate_settings::<P>(settings.to_string().as_bytes()))
            .unwrap_or_default();
        answer["message"].as_str().unwrap_or_default().to_owned()
    };
    let mut differences = compare(P::NAME, &questions, &refusal, P::MUTATES);
    match pages(P::NAME) {
        Ok((own, shared)) => differences.push_str(&told(P::NAME, &questions, &own, &shared, P::MUTATES)),
        Err(error) => differences.push_str(&error),
    }
    let defaults = Value::Object(untouched(&questions));
    for case in cases {
        let answer = |settings: Value| {
            let (world, request) = run::prepare(case)?;
            let payload = json!({ "request": request, "settings": settings }).to_string();
            Ok::<_, String>(String::from_utf8_lossy(&policy::validate::<P>(payload.as_bytes(), &world)).into_owned())
        };
        let own = case.header.settings.clone().unwrap_or_else(|| json!({}));
        // A header that is no object is a mistake to be refused; nothing can be put beneath it.
        let beneath = if own.is_object() { over(&defaults, &own) } else { own.clone() };
        let (as_it_is, with_defaults) = (answer(own), answer(beneath));
        if as_it_is != with_defaults {
            // Writing to a String cannot fail.
            let _ = writeln!(
                differences,
                "{}: with the defaults of {} written out the answer is another\n  {as_it_is:?}\n  {with_defaults:?}",
                case.name,
                file(P::NAME)
            );
        }
    }
    differences
}

fn file(policy: &str) -> String {
    format!("policies/{policy}/questions-ui.yml")
}

/// What the policy refuses, and should not, or the other way round.
fn compare(policy: &str, questions: &[Question], refusal: &dyn Fn(&Value) -> String, mutates: bool) -> String {
    let mut probe = Probe { file: file(policy), refusal, differences: String::new() };
    // Read, so that it is refused with the reason where a policy has nothing to mutate; not asked for there.
    let unasked = if mutates { None } else { Some("mutate") };
    probe.object("", questions, unasked, &|fields| Value::Object(fields));
    for settings in [Value::Object(untouched(questions)), without_empties(Value::Object(untouched(questions)))] {
        let refused = refusal(&settings);
        if !refused.is_empty() {
            probe.tell("", &format!("its defaults are refused: {refused}"));
        }
    }
    probe.differences
}

/// Asks for what is asked for, and a little more.
struct Probe<'a> {
    file: String,
    refusal: &'a dyn Fn(&Value) -> String,
    differences: String,
}

impl Probe<'_> {
    fn tell(&mut self, at: &str, problem: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.differences, "{}: {at}: {problem}", self.file);
    }

    /// Compares the keys of the object that `place` puts into settings, and what they hold.
    fn object(
        &mut self,
        at: &str,
        parts: &[Question],
        unasked: Option<&str>,
        place: &dyn Fn(Map<String, Value>) -> Value,
    ) {
        let needed = || -> Map<String, Value> {
            parts.iter().filter(|part| part.required).map(|part| (part.key.clone(), sample(part))).collect()
        };
        let with = |key: &str, value: Value| {
            let mut fields = needed();
            fields.insert(key.to_owned(), value);
            place(fields)
        };
        let refused = (self.refusal)(&with(UNKNOWN, json!(1)));
        let asked: BTreeSet<&str> = parts.iter().map(|part| part.key.as_str()).chain(unasked).collect();
        let read = names(&refused);
        if read.iter().map(String::as_str).ne(asked.iter().copied()) {
            self.tell(at, &format!("asks for {asked:?}, the policy reads {read:?}: {refused}"));
        }
        for part in parts {
            self.part(&format!("{at}.{}", part.key), part, &|value| with(&part.key, value));
        }
    }

    fn part(&mut self, at: &str, part: &Question, place: &dyn Fn(Value) -> Value) {
        let wrong = if part.kind == Kind::Boolean { json!("true") } else { json!(true) };
        let refused = (self.refusal)(&place(wrong));
        if refused.is_empty() {
            self.tell(at, &format!("another type than {:?} is accepted", part.kind));
        }
        match &part.kind {
            Kind::Object(parts) if !part.kind.is_selector() => {
                self.object(at, parts, None, &|fields| place(Value::Object(fields)));
            }
            Kind::Objects(parts) => self.object(at, parts, None, &|fields| place(json!([fields]))),
            Kind::Choice(options) => {
                let read = names(&(self.refusal)(&place(json!(UNKNOWN))));
                if read.iter().ne(options.iter().collect::<BTreeSet<_>>()) {
                    self.tell(at, &format!("offers {options:?}, the policy reads {read:?}"));
                }
            }
            _ => {
                let refused = (self.refusal)(&place(sample(part)));
                if refused.contains("must be a string")
                    || refused.contains("must be a list")
                    || refused.contains("must be an object")
                    || refused.contains("must be true or false")
                    || refused.contains("must be a whole number")
                {
                    self.tell(at, &format!("{:?} is not its type: {refused}", part.kind));
                }
            }
        }
    }
}

/// A value of the type.
fn sample(question: &Question) -> Value {
    match &question.kind {
        _ if !question.default.is_null() && question.kind != Kind::Texts => question.default.clone(),
        // A quantity is one too.
        Kind::Text => json!("4"),
        Kind::Boolean => json!(true),
        Kind::Integer => json!(4),
        Kind::Choice(options) => json!(options.first()),
        Kind::Texts => json!(["text"]),
        Kind::Labels => json!({ "key": "value" }),
        Kind::Object(_) => json!({ "matchLabels": { "key": "value" } }),
        Kind::Objects(_) => json!([]),
    }
}

/// The names that a refusal lists, sorted: behind `this policy knows`, or in backticks behind `expected`.
fn names(refusal: &str) -> BTreeSet<String> {
    if let Some((_, known)) = refusal.split_once("; this policy knows ") {
        return known.split(", ").map(str::to_owned).collect();
    }
    let known = refusal.split_once(", expected ").map(|(_, known)| known).unwrap_or_default();
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// As Rancher writes settings: without what is empty, save in lists.
fn without_empties(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let kept = fields.into_iter().map(|(key, value)| (key, without_empties(value)));
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
}

/// The settings, with others beneath them.
fn over(beneath: &Value, settings: &Value) -> Value {
    let (Value::Object(beneath), Value::Object(own)) = (beneath, settings) else { return settings.clone() };
    let mut merged = beneath.clone();
    for (key, value) in own {
        let value = beneath.get(key).map_or_else(|| value.clone(), |beneath| over(beneath, value));
        merged.insert(key.clone(), value);
    }
    Value::Object(merged)
}

/// The section on settings of the README, and the page on those that all policies share.
fn pages(policy: &str) -> Result<(String, String), String> {
    let readme = format!("policies/{policy}/README.md");
    let read = |file: &str| fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}\n"));
    let text = read(&readme)?;
    let section = text.split("\n## ").find_map(|section| section.strip_prefix("Settings\n"));
    Ok((section.ok_or_else(|| format!("{readme}: there is no section `## Settings`\n"))?.to_owned(), read(SHARED)?))
}

/// What the tables leave out, or name besides, and defaults that are others there.
fn told(policy: &str, questions: &[Question], own: &str, shared: &str, mutates: bool) -> String {
    let readme = format!("policies/{policy}/README.md");
    let mut differences = String::new();
    let (own_rows, shared_rows) = (rows(own), rows(shared));
    let mut tell = |file: &str, key: &str, problem: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(differences, "{file}: `{key}`: {problem}");
    };
    for (file, rows) in [(&*readme, &own_rows), (SHARED, &shared_rows)] {
        for (key, default) in rows {
            match find(questions, key) {
                Some(question) if !is_said(&question.default, default, &question.kind) => {
                    tell(file, key, &format!("the default {default} is {} in questions-ui.yml", question.default));
                }
                Some(_) => {}
                None if key == "mutate" && !mutates => {}
                None => tell(file, key, "is not in questions-ui.yml"),
            }
        }
    }
    for question in questions {
        let is_in = |rows: &[(String, String)]| {
            let within = format!("{}.", question.key);
            rows.iter().any(|(key, _)| *key == question.key || key.starts_with(&within))
        };
        match (is_in(&own_rows), is_in(&shared_rows)) {
            (false, false) => tell(&readme, &question.key, "has no row in the table of settings"),
            (true, true) => tell(&readme, &question.key, "is a setting that all policies share"),
            (is_own, _) => {
                let (file, text) = if is_own { (&*readme, own) } else { (SHARED, shared) };
                let is_word = |word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|own| own == word);
                let mut keys = Vec::new();
                parts(question, &mut keys);
                for key in keys.into_iter().filter(|key| !is_word(key)) {
                    tell(file, &question.key, &format!("its key `{key}` is not told"));
                }
            }
        }
    }
    differences
}

/// The rows of the first table: key and default.
fn rows(text: &str) -> Vec<(String, String)> {
    let table = text.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        Some((cells.nth(1)?, cells.next()?))
    };
    table.filter_map(cells).collect()
}

fn find<'q>(questions: &'q [Question], path: &str) -> Option<&'q Question> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let question = questions.iter().find(|question| question.key == key)?;
    match (rest, &question.kind) {
        (None, _) => Some(question),
        (Some(rest), Kind::Object(parts)) => find(parts, rest),
        _ => None,
    }
}

/// Whether the cell of a table says this default. What an object is by default takes a sentence.
fn is_said(default: &Value, cell: &str, kind: &Kind) -> bool {
    match (default, kind) {
        (_, Kind::Object(_)) => true,
        (Value::Null, _) => cell == "none",
        (Value::Array(_), _) => cell == "none" || cell == "[]",
        (Value::String(text), _) => cell == text,
        (other, _) => serde_json::from_str(cell).is_ok_and(|said: Value| said == *other),
    }
}

/// The keys of what a setting holds, at any depth; those of a selector are Kubernetes's.
fn parts<'q>(question: &'q Question, keys: &mut Vec<&'q str>) {
    if let Kind::Object(inner) | Kind::Objects(inner) = &question.kind
        && !question.kind.is_selector()
    {
        for part in inner {
            keys.push(&part.key);
            parts(part, keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::settings::{choice, object, text, texts};
    use policy::{Fault, Finding, Review, Settings, Target};
    use workload::Malformed;

    use super::*;
    use crate::questions::read;

    struct Example;

    impl Policy for Example {
        const NAME: &'static str = "example";
        const TARGETS: &'static [Target] = &[];

        fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
            settings.get("max").int32()?;
            choice(&settings.get("steps"), &[("allow", ()), ("deny", ())])?;
            for item in settings.get("items").items()? {
                object(&item, |fields| {
                    text(&fields.get("name"))?;
                    texts(&fields.get("images"))
                })?;
            }
            Ok(Self)
        }

        fn judge(&self, _review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
            Ok(Vec::new())
        }
    }

    const MAX: &str = "- { variable: max, type: int, label: M, group: G, description: D }\n";
    const STEPS: &str = "- { variable: steps, type: enum, options: [allow, deny], default: allow, label: S, group: G, description: D }\n";
    const ITEMS: &str = "\
- variable: items
  type: sequence[
  label: I
  group: G
  description: D
  default: []
  sequence_questions:
  - { variable: name, type: string, required: true, label: Name, description: D }
  - { variable: images, type: 'array[', default: [], label: I, description: D }
";
    const OWN: &str = "| key | default | meaning |\n|---|---|---|\n| `max` | none | `a` |\n| `steps` | `allow` | m |\n\
                       | `items` | none | `[{name: a, images: [b]}]` |\n\n| `more` | 1 |\n";

    fn questions_of(own: &[&str]) -> Vec<Question> {
        let shared = include_str!("../../policy/questions-ui.yml");
        let (shared, rest) = shared.split_once("- variable: mutate\n").unwrap();
        let (_, rest) = rest.split_once("\n- ").unwrap();
        read("q.yml", format!("{shared}- {rest}{}", own.concat()).as_bytes()).unwrap()
    }

    fn compared(own: &[&str]) -> String {
        let refusal = |settings: &Value| {
            let answer = policy::validate_settings::<Example>(settings.to_string().as_bytes());
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            answer["message"].as_str().unwrap_or_default().to_owned()
        };
        compare("example", &questions_of(own), &refusal, false)
    }

    #[test]
    fn questions_on_all_that_is_read_are_right() {
        assert_eq!(compared(&[MAX, STEPS, ITEMS]), "");
    }

    #[test]
    fn each_difference_from_what_is_read_is_told() {
        let asked = |own: &[&str], told: &str| {
            let differences = compared(own);
            assert!(differences.contains(told), "{differences}");
            assert!(differences.starts_with("policies/example/questions-ui.yml: "), "{differences}");
        };
        asked(&[MAX, STEPS], r#"the policy reads {"action", "declarations", "exempt", "items""#);
        asked(&[MAX, STEPS, ITEMS, &MAX.replace("max", "min")], r#""max", "min", "mutate""#);
        asked(&[&MAX.replace("int", "string"), STEPS, ITEMS], ".max: Text is not its type");
        asked(
            &[MAX, &STEPS.replace("deny", "refuse"), ITEMS],
            r#".steps: offers ["allow", "refuse"], the policy reads"#,
        );
        asked(&[MAX, &STEPS.replace("allow", "refuse"), ITEMS], "its defaults are refused: settings.steps");
        asked(&[MAX, STEPS, &ITEMS.replace("images", "image")], r#".items: asks for {"image", "name"}"#);
    }

    #[test]
    fn each_difference_from_the_tables_is_told() {
        let questions = questions_of(&[MAX, STEPS, ITEMS]);
        let shared = fs::read_to_string(root().join(SHARED)).unwrap();
        let compared = |own: &str| told("example", &questions, own, &shared, false);
        assert_eq!(compared(OWN), "");
        let readme = "policies/example/README.md";
        for (from, to, problem) in [
            ("`max`", "`most`", "`most`: is not in questions-ui.yml"),
            ("`max`", "`most`", "`max`: has no row"),
            ("`allow`", "`deny`", "`steps`: the default deny is \"allow\" in questions-ui.yml"),
            ("images: ", "i: ", "`items`: its key `images` is not told"),
            ("\n\n", "\n| `action` | `deny` | m |\n", "`action`: is a setting that all policies share"),
        ] {
            let told = compared(&OWN.replace(from, to));
            assert!(told.contains(&format!("{readme}: {problem}")), "{told}");
        }
        let less = shared.replace("| `exempt.users` ", "| `exempt.user` ");
        let differences = told("example", &questions, OWN, &less, false);
        assert!(differences.contains("docs/settings.md: `exempt.user`: is not in questions-ui.yml"), "{differences}");
        assert!(told("example", &questions, OWN, &shared, true).contains("`mutate`: is not in questions-ui.yml"));
    }

    #[test]
    fn settings_are_laid_over_others() {
        let merged = over(&json!({ "a": { "b": 1, "c": [1] }, "d": 1 }), &json!({ "a": { "c": [] }, "d": null }));
        assert_eq!(merged, json!({ "a": { "b": 1, "c": [] }, "d": null }));
        let cleaned =
            without_empties(json!({ "a": { "b": [], "c": "" }, "d": null, "e": [{ "f": null }], "g": false }));
        assert_eq!(cleaned, json!({ "e": [{ "f": null }], "g": false }));
    }
}
