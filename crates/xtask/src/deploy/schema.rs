//! The schema of the chart's values: a value that nobody reads is refused by name, before anything is installed.
//!
//! What may be set is what the `questions-ui.yml` of a policy asks for, which a test of each policy holds against its own reading
//! of its settings.

use anyhow::{Result, anyhow};
use corpus::questions::{self, Kind, Question};
use serde_json::{Map, Value, json};

use super::Policy;

/// The questions on the settings that all policies share.
const SHARED: &str = include_str!("../../../policy/questions-ui.yml");

/// What the variant of a policy decides, together with `mutating` of its resource.
const MUTATE: &str = "mutate";

fn shared() -> Result<Vec<Question>> {
    questions::read("crates/policy/questions-ui.yml", SHARED.as_bytes()).map_err(|problems| anyhow!("{problems}"))
}

/// The keys of the settings that are the policy's own.
pub(super) fn own(policy: &Policy) -> Result<Vec<&str>> {
    let shared = shared()?;
    let is_own = |key: &&str| !shared.iter().any(|question| question.key == *key);
    Ok(policy.settings.iter().map(|question| question.key.as_str()).filter(is_own).collect())
}

/// The schema of a setting. `null` is allowed: a policy reads it as absent, and Helm takes it to remove a default.
fn setting(question: &Question) -> Value {
    let mut schema = match &question.kind {
        // A quantity may be written as a number.
        Kind::Text => json!({ "type": ["string", "number", "null"] }),
        Kind::Boolean => json!({ "type": ["boolean", "null"] }),
        Kind::Integer => json!({ "type": ["integer", "null"] }),
        Kind::Choice(names) => {
            json!({ "enum": names.iter().map(|name| json!(name)).chain([Value::Null]).collect::<Vec<_>>() })
        }
        Kind::Texts => json!({ "type": ["array", "null"], "items": { "type": "string" } }),
        Kind::Labels => json!({ "type": ["object", "null"], "additionalProperties": { "type": "string" } }),
        kind if kind.is_selector() => return json!({ "$ref": "#/definitions/selector" }),
        Kind::Object(parts) => fields(parts, &["object", "null"]),
        Kind::Objects(parts) => json!({ "type": ["array", "null"], "items": fields(parts, &["object"]) }),
    };
    schema["description"] = question.help.as_str().into();
    schema
}

/// The schema of an object with these keys and no others.
fn fields(parts: &[Question], kinds: &[&str]) -> Value {
    let properties: Map<String, Value> = parts.iter().map(|part| (part.key.clone(), setting(part))).collect();
    let required: Vec<&str> = parts.iter().filter(|part| part.required).map(|part| part.key.as_str()).collect();
    let mut schema = json!({ "type": kinds, "additionalProperties": false, "properties": properties });
    // An empty list of required keys was no schema once.
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A label selector of Kubernetes. A key that is none of its own selects nothing, so that it is refused.
fn selector() -> Value {
    let operators = ["In", "NotIn", "Exists", "DoesNotExist"];
    let values = json!({ "type": "array", "items": { "type": "string" } });
    let expression =
        object_of(&json!({ "key": text(), "operator": { "enum": operators }, "values": values }), &["key", "operator"]);
    json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "matchLabels": { "type": ["object", "null"], "additionalProperties": { "type": "string" } },
            "matchExpressions": { "type": ["array", "null"], "items": expression },
        },
    })
}

/// The schema of all values.
pub(super) fn of_values(policies: &[Policy]) -> Result<String> {
    let mut definitions = Map::from_iter([("selector".to_owned(), selector())]);
    let mut all = Map::new();
    for question in shared()?.iter().filter(|question| question.key != MUTATE) {
        let name = format!("shared.{}", question.key);
        all.insert(question.key.clone(), json!({ "$ref": format!("#/definitions/{name}") }));
        definitions.insert(name, setting(question));
    }
    let mut of_policies = Map::new();
    let mut of_members = Vec::new();
    for policy in policies {
        let name = &policy.name;
        let mut settings = Map::new();
        for question in policy.settings.iter().filter(|question| question.key != MUTATE) {
            let shared = all.get(&question.key).cloned();
            settings.insert(question.key.clone(), shared.unwrap_or_else(|| setting(question)));
        }
        definitions.insert(format!("settings.{name}"), object(&settings.into()));
        let settings = json!({ "$ref": format!("#/definitions/settings.{name}") });
        let variants: &[&str] =
            if policy.metadata.mutating { &["validating", "mutating", "both"] } else { &["validating"] };
        let mut fields = common();
        fields.extend(module());
        fields.insert("enabled".into(), json!({ "type": "boolean" }));
        fields.insert("variant".into(), json!({ "enum": variants }));
        fields.insert("timeoutEvalSeconds".into(), seconds());
        fields.insert("settings".into(), settings.clone());
        of_policies.insert(name.clone(), object(&fields.into()));
        of_members.push(json!({
            "if": { "properties": { "policy": { "const": name } } },
            "then": { "properties": { "settings": settings } },
        }));
    }
    definitions.insert("settings".into(), object(&all.into()));
    definitions.insert("member".into(), member(policies, of_members));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart quorate",
        "type": "object",
        "additionalProperties": false,
        "required": ["mode", "registry", "namePrefix", "policyServer", "excludedNamespaces", "timeoutSeconds"],
        "properties": {
            // Helm hands these to every chart that is part of another.
            "global": { "type": "object" },
            "mode": mode(),
            "registry": text(),
            "namePrefix": { "type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 100 },
            "policyServer": object_of(&json!({ "name": text(), "namespace": text(), "serviceAccountName": text() }), &["name", "namespace", "serviceAccountName"]),
            "rbac": object_of(&json!({ "create": { "type": "boolean" } }), &["create"]),
            "excludedNamespaces": namespaces(),
            "failurePolicy": failure_policy(),
            "timeoutSeconds": seconds(),
            "timeoutEvalSeconds": seconds(),
            "backgroundAudit": { "type": "boolean" },
            "settings": { "$ref": "#/definitions/settings" },
            "additionalLabels": texts_by_name(),
            "additionalAnnotations": texts_by_name(),
            "policies": object(&of_policies.into()),
            "groups": {
                "type": "object",
                "propertyNames": { "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" },
                "additionalProperties": group(),
            },
        },
        "definitions": definitions,
    });
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// A group of policies.
fn group() -> Value {
    let mut fields = common();
    fields.insert("enabled".into(), json!({ "type": "boolean" }));
    fields.insert("expression".into(), text());
    fields.insert("message".into(), text());
    let members = json!({
        "type": "object",
        "minProperties": 1,
        // They are called in the expression.
        "propertyNames": { "pattern": "^[a-z_][a-zA-Z0-9_]*$" },
        "additionalProperties": { "$ref": "#/definitions/member" },
    });
    fields.insert("members".into(), members);
    object_of(&fields.into(), &["expression", "message", "members"])
}

/// A member of a group: one of the policies, with settings of its own.
fn member(policies: &[Policy], settings: Vec<Value>) -> Value {
    let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    let mut fields = module();
    fields.insert("policy".into(), json!({ "enum": names }));
    fields.insert("timeoutEvalSeconds".into(), seconds());
    fields.insert("settings".into(), json!({ "type": "object" }));
    let mut member = object_of(&fields.into(), &["policy"]);
    member["allOf"] = settings.into();
    member
}

/// What policies and groups both have.
fn common() -> Map<String, Value> {
    let rule = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["apiGroups", "apiVersions", "resources", "operations"],
        "properties": {
            "apiGroups": some_texts(), "apiVersions": some_texts(), "resources": some_texts(),
            "operations": { "type": "array", "minItems": 1, "items": { "enum": ["CREATE", "UPDATE", "DELETE", "CONNECT", "*"] } },
            "scope": { "enum": ["Cluster", "Namespaced", "*"] },
        },
    });
    let condition = object_of(&json!({ "name": text(), "expression": text() }), &["name", "expression"]);
    [
        ("mode", mode()),
        ("failurePolicy", failure_policy()),
        ("timeoutSeconds", seconds()),
        ("backgroundAudit", json!({ "type": "boolean" })),
        ("excludedNamespaces", namespaces()),
        ("matchConditions", json!({ "type": "array", "maxItems": 64, "items": condition })),
        ("objectSelector", json!({ "$ref": "#/definitions/selector" })),
        ("extraRules", json!({ "type": "array", "items": rule })),
        ("severity", json!({ "enum": ["info", "low", "medium", "high", "critical"] })),
        ("category", text()),
    ]
    .into_iter()
    .map(|(name, schema)| (name.to_owned(), schema))
    .collect()
}

/// Where a module is, other than by the version of the chart.
fn module() -> Map<String, Value> {
    [("module", text()), ("tag", text()), ("digest", json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" }))]
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect()
}

fn object(properties: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn object_of(properties: &Value, required: &[&str]) -> Value {
    let mut object = object(properties);
    object["required"] = json!(required);
    object
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn some_texts() -> Value {
    json!({ "type": "array", "minItems": 1, "items": { "type": "string" } })
}

fn texts_by_name() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

fn namespaces() -> Value {
    json!({ "type": "array", "items": text() })
}

fn mode() -> Value {
    json!({ "enum": ["monitor", "protect"] })
}

fn failure_policy() -> Value {
    json!({ "enum": ["Fail", "Ignore"] })
}

/// The bounds of Kubewarden's resources.
fn seconds() -> Value {
    json!({ "type": "integer", "minimum": 2, "maximum": 30 })
}
