//! One case, sent to the API server as kubectl or a controller would send it, and compared with the native result.

use std::collections::BTreeMap;

use anyhow::Result;
use corpus::Case;
use proof::api::{Answer, Api, Call, Refusal};
use proof::rules::{Rules, Said};
use serde_json::{Value, json};

use crate::hooks::{self, ENTRY};

/// Who prepares what a case needs; no webhook is asked about this one.
pub(crate) const SETUP: &str = "e2e:setup";
/// RFC 7396.
const MERGE: &str = "application/merge-patch+json";
/// What keeps an object that is being deleted.
const HOLD: &str = "e2e.quorate.dev/hold";
/// From how many characters in all the API server shortens warnings, each to how many (apiserver, `endpoints/filters/warning.go`).
const WARNINGS_FROM: usize = 4 * 1024;
const WARNING_SHORTENED: usize = 256;

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The whole way gives what the rule gives natively.
    Agrees,
    /// It does, for the object as the API server writes it, which is not as the case does.
    AgreesCompleted,
    /// It does not.
    Differs(String),
    /// The API server holds no such thing, or nobody can send it.
    CannotBe(String),
}

/// Why a play stopped.
enum Stop {
    CannotBe(String),
    Failed(anyhow::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(anyhow::Error::new(refusal))
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// What is needed to play a case.
pub(crate) struct Player<'a> {
    pub(crate) api: &'a Api,
    pub(crate) rules: &'a Rules,
}

/// One request: what is sent, and what the same would be for the result that is expected.
struct Sent {
    method: &'static str,
    path: String,
    form: &'static str,
    body: Value,
    /// The object as the policy wants it, where it wants another.
    mutated: Option<Value>,
}

impl Player<'_> {
    /// Plays the case in namespaces of its own, whose names end with `number`, and which are labelled for the webhook of `entry`.
    ///
    /// # Errors
    /// The control plane fails: that is no result.
    pub(crate) async fn play(&self, case: &Case, number: &str, entry: &str) -> Result<Outcome> {
        match self.try_play(&placed(case, number), number, entry).await {
            Ok(outcome) => Ok(outcome),
            Err(Stop::CannotBe(why)) => Ok(Outcome::CannotBe(why)),
            Err(Stop::Failed(error)) => Err(error.context(format!("{}/{}", case.policy, case.name))),
        }
    }

    async fn try_play(&self, case: &Case, number: &str, entry: &str) -> Result<Outcome, Stop> {
        let header = &case.header;
        if let Some(request) = &header.request {
            let fields: Vec<&str> = request.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            if let Some(made_up) = fields.iter().find(|name| !["subResource", "requestSubResource"].contains(*name)) {
                return Err(Stop::CannotBe(format!("the request has a {made_up} of its own")));
            }
        }
        let expected = self.natively(case)?;

        for namespace in namespaces(case, number) {
            let labels = json!({ ENTRY: entry });
            let object =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } });
            self.api.create(&object).await?;
        }
        for other in &case.others {
            self.prepare(other, "what else it holds").await?;
        }
        let sent = self.request(case, expected.mutated.as_ref()).await?;
        self.compare(case, entry, &sent, &expected).await
    }

    /// Creates something before anybody is asked; what is being deleted in the case is being deleted then.
    async fn prepare(&self, object: &Value, what: &str) -> Result<(), Stop> {
        let is_going = object["metadata"]["deletionTimestamp"].is_string();
        let mut object = object.clone();
        if let (true, Some(metadata)) = (is_going, object["metadata"].as_object_mut()) {
            metadata.remove("deletionTimestamp");
            if metadata.get("finalizers").is_none_or(|held| held.as_array().is_none_or(Vec::is_empty)) {
                metadata.insert("finalizers".to_owned(), json!([HOLD]));
            }
        }
        let answer = self.send("POST", &self.api.path_of(&object, true), "", &object, SETUP).await?;
        if !answer.is_done() {
            return Err(Stop::CannotBe(format!("{what}: {}", refused(&answer))));
        }
        if is_going {
            self.send("DELETE", &self.api.path_of(&object, false), "", &Value::Null, SETUP).await?;
        }
        Ok(())
    }

    /// Sees to it that there is what the case changes, and gives the request.
    async fn request(&self, case: &Case, mutated: Option<&Value>) -> Result<Sent, Stop> {
        let header = &case.header;
        let (object, whole) = (&case.object, self.api.path_of(&case.object, false));
        let dry = if header.dry_run { "?dryRun=All" } else { "" };
        if let Some(scale) = header.scale {
            let mut before = object.clone();
            before["spec"]["replicas"] = scale.from.into();
            self.prepare(&before, "the object before").await?;
            // As kubectl scale does.
            let body = json!({ "spec": { "replicas": scale.to } });
            let path = format!("{whole}/scale{dry}");
            return Ok(Sent { method: "PATCH", path, form: MERGE, body, mutated: None });
        }
        if header.delete {
            // It may be among what the cluster holds.
            if !case.others.iter().any(|other| self.api.path_of(other, false) == whole) {
                self.prepare(object, "the object before").await?;
            }
            // A collection is deleted without naming what is in it.
            let path = if header.nameless { self.api.path_of(object, true) } else { whole };
            return Ok(Sent { method: "DELETE", path: path + dry, form: "", body: Value::Null, mutated: None });
        }
        if header.nameless {
            return Err(Stop::CannotBe("a change without a name".to_owned()));
        }
        let Some(mut old) = case.old() else {
            let path = self.api.path_of(object, true) + dry;
            return Ok(Sent { method: "POST", path, form: "", body: object.clone(), mutated: mutated.cloned() });
        };
        let subresource = header.request.as_ref().and_then(|request| request["subResource"].as_str());
        if subresource == Some("ephemeralcontainers") {
            // There is no other way for those that are there already.
            let there = old["spec"]["ephemeralContainers"].take();
            self.prepare(&old, "the object before").await?;
            if there.as_array().is_some_and(|there| !there.is_empty()) {
                old["spec"]["ephemeralContainers"] = there;
                let change = json!({ "spec": { "ephemeralContainers": old["spec"]["ephemeralContainers"] } });
                let path = format!("{whole}/ephemeralcontainers");
                let answer = self.send("PATCH", &path, MERGE, &change, SETUP).await?;
                if !answer.is_done() {
                    return Err(Stop::CannotBe(format!("the object before: {}", refused(&answer))));
                }
            }
        } else {
            self.prepare(&old, "the object before").await?;
        }
        let path = whole + &subresource.map(|name| format!("/{name}")).unwrap_or_default() + dry;
        // As kubectl apply and patch do: only what differs.
        let (body, mutated) = (difference(&old, object), mutated.map(|mutated| difference(&old, mutated)));
        Ok(Sent { method: "PATCH", path, form: MERGE, body, mutated })
    }

    /// Sends it, first without webhooks and without effect, and compares what comes back.
    async fn compare(&self, case: &Case, entry: &str, sent: &Sent, expected: &Said) -> Result<Outcome, Stop> {
        // Without effect, and without webhooks: whether the server takes it at all, what it makes of it and warns of by itself.
        let plain = if sent.path.contains('?') { sent.path.clone() } else { format!("{}?dryRun=All", sent.path) };
        let bare = self.change(sent, &plain, &sent.body, SETUP).await?;
        if !bare.is_done() {
            return Err(Stop::CannotBe(refused(&bare)));
        }
        let stored = match &sent.mutated {
            Some(mutated) => self.change(sent, &plain, mutated, SETUP).await?,
            None => bare.clone(),
        };
        let user = case.header.user.as_deref().unwrap_or_default();
        let answer = self.change(sent, &sent.path, &sent.body, user).await?;
        let mut differences = told_otherwise(&answer, &bare, entry, expected);
        // The server writes some things in another place before anybody is asked, such as AppArmor's annotations.
        let is_whole = case.header.request.is_none() && case.header.scale.is_none() && !case.header.delete;
        let completed = !differences.is_empty() && is_whole && answer.is_done() == expected.accepted;
        if completed {
            let expected = self.natively(&Case { object: bare.body.clone(), ..case.clone() })?;
            differences = told_otherwise(&answer, &bare, entry, &expected);
        }
        if !stored.is_done() {
            differences.push(format!("what the policy makes of it is refused: {}", stored.message()));
        } else if answer.is_done() && expected.accepted && sent.method != "DELETE" {
            let (is, should) = (lasting(&answer.body), lasting(&stored.body));
            if is != should {
                differences.push(format!("stored: {is}\n    natively: {should}"));
            }
        }
        Ok(match (differences.is_empty(), completed) {
            (true, false) => Outcome::Agrees,
            (true, true) => Outcome::AgreesCompleted,
            (false, _) => Outcome::Differs(differences.join("\n    ")),
        })
    }

    /// What the rule says without a cluster.
    fn natively(&self, case: &Case) -> Result<Said, Stop> {
        let (world, request) = case.prepare().map_err(|error| Stop::CannotBe(format!("no request: {error}")))?;
        let settings = case.header.settings.clone().unwrap_or_else(|| json!({}));
        Ok(self.rules.answer(&case.policy, &settings, &request, world)?)
    }

    async fn change(&self, sent: &Sent, path: &str, body: &Value, user: &str) -> Result<Answer, Refusal> {
        self.send(sent.method, path, sent.form, body, user).await
    }

    async fn send(&self, method: &str, path: &str, form: &str, body: &Value, user: &str) -> Result<Answer, Refusal> {
        let user = (!user.is_empty()).then_some(user);
        let body = (!body.is_null()).then_some(body);
        self.api.ask(&Call { method, path, form, body, user }).await
    }
}

/// How verdict, message and warnings are not as they should be.
fn told_otherwise(answer: &Answer, bare: &Answer, entry: &str, expected: &Said) -> Vec<String> {
    let mut differences = Vec::new();
    if answer.is_done() != expected.accepted {
        differences.push(format!("answered {}, natively accepted: {}", answer.code, expected.accepted));
    }
    let message = if answer.is_done() { "" } else { answer.message() };
    let denial = format!("admission webhook \"{}\" denied the request: ", hooks::webhook_name(entry));
    let denied = expected.message.as_ref().map(|message| format!("{denial}{message}")).unwrap_or_default();
    if message != denied {
        differences.push(format!("said: {message}\n    natively: {denied}"));
    }
    let own: Vec<&String> = answer.warnings.iter().filter(|text| !is_of(text, &bare.warnings)).collect();
    let wanted = shortened(&expected.warnings, &bare.warnings);
    let told: Vec<&String> = wanted.iter().filter(|text| !is_of(text, &bare.warnings)).collect();
    if own != told {
        differences.push(format!("warned: {own:#?}\n    natively: {told:#?}"));
    }
    differences
}

/// The case with namespaces of its own.
fn placed(case: &Case, number: &str) -> Case {
    let mut case = case.clone();
    for object in std::iter::once(&mut case.object).chain(&mut case.others) {
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "a".into();
        }
        rename(object, number);
    }
    if let Some(before) = &mut case.header.before {
        rename(before, number);
    }
    case
}

/// Writes the namespaces' own names where namespaces are named: in `metadata`, in lists of namespaces, in the label that has the name.
fn rename(value: &mut Value, number: &str) {
    let own = |value: &mut Value| {
        if let Value::String(name) = value {
            *name = format!("{name}{number}");
        }
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, number)),
        Value::Object(fields) => {
            let is_expression = fields.get("key").is_some_and(|key| key == "kubernetes.io/metadata.name");
            for (name, value) in fields.iter_mut() {
                match (name.as_str(), &mut *value) {
                    ("namespace" | "kubernetes.io/metadata.name", _) => own(value),
                    ("namespaces", Value::Array(items)) => items.iter_mut().for_each(own),
                    ("values", Value::Array(items)) if is_expression => items.iter_mut().for_each(own),
                    _ => rename(value, number),
                }
            }
        }
        _ => {}
    }
}

/// Every namespace that the case needs.
fn namespaces(case: &Case, number: &str) -> Vec<String> {
    let of = |object: &Value| object["metadata"]["namespace"].as_str().map(str::to_owned);
    let mut names: Vec<String> = std::iter::once(&case.object).chain(&case.others).filter_map(of).collect();
    names.push(format!("a{number}"));
    names.sort();
    names.dedup();
    names
}

/// Why the API server does not take it, without what differs from case to case.
fn refused(answer: &Answer) -> String {
    let causes = answer.body["details"]["causes"].as_array();
    let fields = causes.into_iter().flatten().map(|cause| {
        let field: String =
            cause["field"].as_str().unwrap_or("?").chars().filter(|letter| !letter.is_ascii_digit()).collect();
        format!("{}: {}", field.replace("[]", ""), cause["reason"].as_str().unwrap_or("?"))
    });
    let mut fields: Vec<String> = fields.collect();
    fields.dedup();
    if fields.is_empty() { format!("refused, {}", answer.message()) } else { format!("refused, {}", fields.join(", ")) }
}

/// Whether it is one of the warnings that come without webhooks too.
fn is_of(text: &str, bare: &[String]) -> bool {
    bare.iter().any(|one| one == text || (one.len() > text.len() && one.starts_with(text)))
}

/// What the API server makes of warnings where they are long: it says none twice.
fn shortened(warnings: &[String], others: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for warning in warnings {
        if !once.contains(warning) {
            once.push(warning.clone());
        }
    }
    let length: usize = once.iter().chain(others).map(|text| text.chars().count()).sum();
    if length > WARNINGS_FROM {
        once = once.iter().map(|text| text.chars().take(WARNING_SHORTENED).collect()).collect();
    }
    once
}

/// What must be merged into `old` to get `new`, by RFC 7396.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut patch = serde_json::Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(before) if before == value => {}
            Some(before) => drop(patch.insert(name.clone(), difference(before, value))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// The object without what differs from one request to the next.
fn lasting(object: &Value) -> Value {
    // A Job is labelled with its own uid.
    let uid = object["metadata"]["uid"].as_str().unwrap_or("-");
    let mut object: Value = serde_json::from_str(&object.to_string().replace(uid, "")).unwrap_or_default();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
            metadata.remove(field);
        }
    }
    object
}

/// The cases that cannot be, by reason.
pub(crate) type Reasons = BTreeMap<String, Vec<String>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_renamed_where_they_are_named_and_nowhere_else() {
        let mut object = json!({
            "metadata": { "namespace": "a", "name": "a", "labels": { "app": "a" } },
            "spec": { "namespaces": ["a", "b"], "namespaceSelector": {
                "matchLabels": { "kubernetes.io/metadata.name": "a" },
                "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"] }, { "key": "x", "values": ["a"] }],
            }},
        });
        rename(&mut object, "7");
        let expected = json!({
            "metadata": { "namespace": "a7", "name": "a", "labels": { "app": "a" } },
            "spec": { "namespaces": ["a7", "b7"], "namespaceSelector": {
                "matchLabels": { "kubernetes.io/metadata.name": "a7" },
                "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a7"] }, { "key": "x", "values": ["a"] }],
            }},
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn long_warnings_are_expected_as_the_api_server_shortens_them() {
        let long = "x".repeat(3000);
        let warnings = [long.clone(), "y".repeat(2000), long.clone()];
        let shown = shortened(&warnings, &[]);
        assert_eq!(shown.iter().map(String::len).collect::<Vec<_>>(), [256, 256]);
        assert_eq!(shortened(std::slice::from_ref(&long), &[]), [long]);
    }

    #[test]
    fn a_difference_is_what_changes() {
        let (old, new) = (json!({ "a": 1, "b": { "c": 1, "d": [1] } }), json!({ "b": { "c": 2, "d": [1] }, "e": {} }));
        assert_eq!(difference(&old, &new), json!({ "a": null, "b": { "c": 2 }, "e": {} }));
        assert_eq!(difference(&old, &old), json!({}));
    }

    #[test]
    fn what_is_compared_of_an_object_is_what_lasts() {
        let object = json!({ "metadata": { "name": "x", "uid": "1" }, "spec": {}, "status": {} });
        assert_eq!(lasting(&object), json!({ "metadata": { "name": "x" }, "spec": {} }));
    }
}
