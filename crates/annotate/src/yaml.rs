//! Reads a `metadata.yml`.

use std::collections::{BTreeMap, BTreeSet};

use manifest::{Document, Location, Parsed};
use semver::Version;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::metadata::{ContextAwareResource, ExecutionMode, Metadata, PolicyType, ProtocolVersion, Rule};
use crate::problem::{Error, Fault, Place, Problem, near};

const KEYS: [&str; 11] = [
    "protocolVersion",
    "rules",
    "annotations",
    "mutating",
    "backgroundAudit",
    "executionMode",
    "policyType",
    "contextAwareResources",
    "hostCapabilities",
    "minimumKubewardenVersion",
    OBSOLETE,
];
/// In most published policies still, and without effect since `contextAwareResources` came.
const OBSOLETE: &str = "contextAware";
const RULE_KEYS: [&str; 4] = ["apiGroups", "apiVersions", "resources", "operations"];
const KIND_KEYS: [&str; 2] = ["apiVersion", "kind"];
const OPERATIONS: [&str; 5] = ["CREATE", "UPDATE", "DELETE", "CONNECT", "*"];
const SEVERITIES: [&str; 5] = ["info", "low", "medium", "high", "critical"];

const SEVERITY: &str = "io.kubewarden.policy.severity";
/// Which kwctl wrote the section. We are not kwctl.
const KWCTL: &str = "io.kubewarden.kwctl";
/// The annotations that a tool reads (policy-evaluator's constants). Others are free, but not when they look like these.
const ANNOTATIONS: [&str; 17] = [
    "io.kubewarden.policy.title",
    "io.kubewarden.policy.version",
    "io.kubewarden.policy.description",
    "io.kubewarden.policy.author",
    "io.kubewarden.policy.url",
    "io.kubewarden.policy.ociUrl",
    "io.kubewarden.policy.source",
    "io.kubewarden.policy.license",
    "io.kubewarden.policy.usage",
    SEVERITY,
    "io.kubewarden.policy.category",
    "io.kubewarden.hidden-ui",
    KWCTL,
    "io.artifacthub.resources",
    "io.artifacthub.displayName",
    "io.artifacthub.keywords",
    "com.github.release.tag",
];

impl Metadata {
    /// Reads a `metadata.yml` and adds the `derived` annotations (see [`crate::Facts::annotations`]; none is fine too).
    ///
    /// Stricter than kwctl, which ignores keys that it does not know and takes `1.0` for the text "1.0": both are
    /// refused here, because nobody would notice. So are an annotation one slip away from a known one, an unknown
    /// severity, and an annotation that is also derived: there is one source for each fact. The obsolete
    /// `contextAware` may stay. A `protocolVersion` is not needed: it follows from the execution mode. In one thing it
    /// is less strict: merge keys (`<<`) are merged, which kwctl does not.
    ///
    /// # Errors
    /// [`Error::Metadata`] with every problem and its line; `file` is only for these.
    pub fn from_yaml(file: &str, text: &[u8], derived: &BTreeMap<String, String>) -> Result<Self, Error> {
        let refused = |problems| Error::Metadata { file: file.to_owned(), problems };
        let document = only_document(file, text).map_err(refused)?;

        let mut reader = Reader::default();
        let metadata = reader.metadata(&document.value, derived);
        for field in ["/mutating", "/backgroundAudit", "/contextAware"] {
            if let Some(word) = only_yaml_1_1_takes_for_a_boolean(&document, field) {
                reader.fail(field, Fault::WrongType { wanted: "true or false", found: format!("`{word}`") });
            }
        }
        let mut problems = reader.problems;
        if problems.is_empty()
            && let Err(invalid) = metadata.validate()
        {
            problems = invalid;
        }
        if problems.is_empty() {
            return Ok(metadata);
        }
        for problem in &mut problems {
            let Location { line, column } = document.locate(&problem.field);
            problem.place = Some(Place { line, column });
        }
        problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
        Err(refused(problems))
    }
}

/// The document of a file that must hold exactly one.
fn only_document(file: &str, text: &[u8]) -> Result<Document, Vec<Problem>> {
    let unreadable = |place, reason| Problem { field: String::new(), place, fault: Fault::Unreadable(reason) };
    let Parsed { documents, problems } = manifest::parse(file, text);
    if !problems.is_empty() {
        let told = |it: manifest::Problem| unreadable(Some(Place { line: it.line, column: it.column }), it.message);
        return Err(problems.into_iter().map(told).collect());
    }
    let mut documents = documents.into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        (None, _) => Err(vec![unreadable(None, "there is nothing in it".to_owned())]),
        (Some(_), Some(second)) => {
            let Location { line, column } = second.locate("");
            let reason = "a second document begins here, metadata is one document".to_owned();
            Err(vec![unreadable(Some(Place { line, column }), reason)])
        }
    }
}

/// The word, such as `yes`, when only YAML 1.1 reads it as a boolean. kubectl does, and so `manifest`; kwctl takes it
/// for a text and refuses it.
fn only_yaml_1_1_takes_for_a_boolean(document: &Document, field: &str) -> Option<String> {
    document.value.pointer(field).filter(|value| value.is_boolean())?;
    let Location { line, column } = document.locate(field);
    let text = document.place().source().line(line)?;
    let from_key: String = text.chars().skip(usize::try_from(column).ok()?.saturating_sub(1)).collect();
    let (_, value) = from_key.split_once(':')?;
    let word: String = value.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let only_1_1 = ["y", "n", "yes", "no", "on", "off"].contains(&word.to_ascii_lowercase().as_str());
    only_1_1.then_some(word)
}

/// Walks the document and collects what is wrong, so that all of it can be told at once. What it returns means
/// something only when nothing was.
#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn metadata(&mut self, document: &Value, derived: &BTreeMap<String, String>) -> Metadata {
        let empty = Map::new();
        let top = self.object(document, "", Some(&KEYS)).unwrap_or(&empty);

        for key in ["rules", "mutating"] {
            if document.is_object() && !top.contains_key(key) {
                self.fail(&format!("/{key}"), Fault::Missing);
            }
        }
        if let Some(obsolete) = top.get(OBSOLETE) {
            self.boolean(obsolete, "/contextAware");
        }
        let execution_mode = top
            .get("executionMode")
            .and_then(|mode| self.choice(mode, "/executionMode", &["kubewarden-wapc", "opa", "gatekeeper", "wasi"]));
        let execution_mode = execution_mode.unwrap_or_default();
        if let Some(protocol) = top.get("protocolVersion") {
            // kwctl overwrites it, so this is only held to be no lie.
            let _: Option<ProtocolVersion> = self.choice(protocol, "/protocolVersion", &["v1"]);
        }
        Metadata {
            protocol_version: Some(match execution_mode {
                ExecutionMode::KubewardenWapc => ProtocolVersion::V1,
                ExecutionMode::Opa | ExecutionMode::Gatekeeper | ExecutionMode::Wasi => ProtocolVersion::Unknown,
            }),
            rules: top.get("rules").map(|rules| self.rules(rules)).unwrap_or_default(),
            annotations: self.annotations(present(top, "annotations"), derived),
            mutating: top.get("mutating").is_some_and(|it| self.boolean(it, "/mutating").unwrap_or_default()),
            background_audit: top
                .get("backgroundAudit")
                .is_none_or(|it| self.boolean(it, "/backgroundAudit").unwrap_or_default()),
            execution_mode,
            policy_type: top
                .get("policyType")
                .and_then(|it| self.choice(it, "/policyType", &["kubernetes", "raw"]))
                .unwrap_or(PolicyType::Kubernetes),
            context_aware_resources: top.get("contextAwareResources").map(|it| self.kinds(it)).unwrap_or_default(),
            host_capabilities: present(top, "hostCapabilities")
                .map(|it| self.texts(it, "/hostCapabilities").into_iter().collect()),
            minimum_kubewarden_version: present(top, "minimumKubewardenVersion")
                .and_then(|it| self.version(it, "/minimumKubewardenVersion")),
        }
    }

    fn rules(&mut self, rules: &Value) -> Vec<Rule> {
        let mut read = Vec::new();
        for (at, rule) in self.list(rules, "/rules") {
            let Some(rule) = self.object(rule, &at, Some(&RULE_KEYS)) else { continue };
            let mut field = |key: &str| {
                let at = format!("{at}/{key}");
                let value = rule.get(key);
                if value.is_none() {
                    self.fail(&at, Fault::Missing);
                }
                (value.unwrap_or(&Value::Array(Vec::new())).clone(), at)
            };
            let [groups, versions, resources, operations] = RULE_KEYS.map(&mut field);
            read.push(Rule {
                api_groups: self.texts(&groups.0, &groups.1),
                api_versions: self.texts(&versions.0, &versions.1),
                resources: self.texts(&resources.0, &resources.1),
                operations: self
                    .list(&operations.0, &operations.1)
                    .into_iter()
                    .filter_map(|(at, operation)| self.choice(operation, &at, &OPERATIONS))
                    .collect(),
            });
        }
        read
    }

    fn kinds(&mut self, kinds: &Value) -> BTreeSet<ContextAwareResource> {
        let mut read = BTreeSet::new();
        for (at, kind) in self.list(kinds, "/contextAwareResources") {
            let Some(kind) = self.object(kind, &at, Some(&KIND_KEYS)) else { continue };
            let [api_version, kind] = KIND_KEYS.map(|key| {
                let at = format!("{at}/{key}");
                match kind.get(key) {
                    None => self.fail(&at, Fault::Missing),
                    // Told here, because the set that validation sees is sorted and would name another line.
                    Some(Value::String(text)) if text.is_empty() => self.fail(&at, Fault::Empty),
                    Some(text) => return self.text(text, &at).unwrap_or_default(),
                }
                String::new()
            });
            read.insert(ContextAwareResource { api_version, kind });
        }
        read
    }

    fn annotations(
        &mut self,
        written: Option<&Value>,
        derived: &BTreeMap<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        let mut all = derived.clone();
        let Some(written) = written else { return (!all.is_empty()).then_some(all) };
        for (key, value) in self.object(written, "/annotations", None).into_iter().flatten() {
            let at = format!("/annotations/{}", key.replace('~', "~0").replace('/', "~1"));
            if key == KWCTL {
                self.fail(&at, Fault::Reserved);
            } else if let Some(derived) = derived.get(key) {
                self.fail(&at, Fault::Derived { derived: short(derived) });
            } else if !ANNOTATIONS.contains(&key.as_str())
                && let Some(near) = near(key, ANNOTATIONS)
            {
                self.fail(&at, Fault::UnknownKey { near: Some(near) });
            }
            let Some(text) = self.text(value, &at) else { continue };
            if key == SEVERITY && !SEVERITIES.contains(&text.as_str()) {
                let near = near(&text, SEVERITIES);
                self.fail(&at, Fault::NotInList { allowed: &SEVERITIES, found: text.clone(), near });
            }
            all.insert(key.clone(), text);
        }
        Some(all)
    }

    /// The value as an object; with `known`, other keys are refused.
    fn object<'a>(&mut self, value: &'a Value, at: &str, known: Option<&[&str]>) -> Option<&'a Map<String, Value>> {
        let Value::Object(object) = value else {
            self.wrong_type(value, at, "a map");
            return None;
        };
        let unknown = object.keys().filter(|key| known.is_some_and(|known| !known.contains(&key.as_str())));
        for key in unknown {
            let near = near(key, known.into_iter().flatten().copied().filter(|known| *known != OBSOLETE));
            self.fail(&format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), Fault::UnknownKey { near });
        }
        Some(object)
    }

    fn list<'a>(&mut self, value: &'a Value, at: &str) -> Vec<(String, &'a Value)> {
        let Value::Array(items) = value else {
            self.wrong_type(value, at, "a list");
            return Vec::new();
        };
        items.iter().enumerate().map(|(i, item)| (format!("{at}/{i}"), item)).collect()
    }

    fn texts(&mut self, value: &Value, at: &str) -> Vec<String> {
        self.list(value, at).into_iter().filter_map(|(at, item)| self.text(item, &at)).collect()
    }

    fn text(&mut self, value: &Value, at: &str) -> Option<String> {
        let text = value.as_str();
        if text.is_none() {
            let quotes_help = matches!(value, Value::Number(_) | Value::Bool(_));
            self.wrong_type(value, at, if quotes_help { "a text (in quotes)" } else { "a text" });
        }
        text.map(str::to_owned)
    }

    fn boolean(&mut self, value: &Value, at: &str) -> Option<bool> {
        let boolean = value.as_bool();
        if boolean.is_none() {
            self.wrong_type(value, at, "true or false");
        }
        boolean
    }

    fn choice<T: DeserializeOwned>(&mut self, value: &Value, at: &str, allowed: &'static [&'static str]) -> Option<T> {
        let text = self.text(value, at)?;
        let choice = allowed.contains(&text.as_str()).then(|| serde_json::from_value(value.clone()).ok()).flatten();
        if choice.is_none() {
            let near = near(&text, allowed.iter().copied());
            self.fail(at, Fault::NotInList { allowed, found: text, near });
        }
        choice
    }

    fn version(&mut self, value: &Value, at: &str) -> Option<Version> {
        let found = self.text(value, at)?;
        match Version::parse(&found) {
            Ok(version) => Some(version),
            Err(reason) => {
                self.fail(at, Fault::NotAVersion { found, reason: reason.to_string() });
                None
            }
        }
    }

    fn wrong_type(&mut self, value: &Value, at: &str, wanted: &'static str) {
        let found = match value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
            Value::String(_) => "a text".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a map".to_owned(),
        };
        self.fail(at, Fault::WrongType { wanted, found });
    }

    fn fail(&mut self, field: &str, fault: Fault) {
        self.problems.push(Problem { field: field.to_owned(), place: None, fault });
    }
}

/// An optional field; an explicit null counts as absent, as in kwctl.
fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// The first line, and not much of it: a README may be long.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line.to_owned(),
    }
}
