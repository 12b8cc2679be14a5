//! `openapi`: reduces what an API server says of its types to what objects can be generated from.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// The kinds that policies judge: group and kind.
const KINDS: [(&str, &str); 11] = [
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("policy", "PodDisruptionBudget"),
];
/// Fields that a server fills in and that no policy reads.
const LEFT_OUT: [&str; 2] = ["managedFields", "status"];

/// Reads `OpenAPI` documents as `kubectl get --raw /openapi/v3/apis/apps/v1` prints them, and keeps the types of the kinds that policies
/// judge, without descriptions.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The documents: of api/v1, and of apps/v1, autoscaling/v2, batch/v1 and policy/v1 below apis/
    #[arg(value_name = "FILE", required = true)]
    documents: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "test-data/openapi/kubernetes.json")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut types = BTreeMap::new();
    let mut versions = BTreeSet::new();
    for path in &args.documents {
        let document = read(path)?;
        versions.insert(document["info"]["version"].as_str().unwrap_or("unknown").to_owned());
        let Some(schemas) = document["components"]["schemas"].as_object() else {
            bail!("{}: there are no components.schemas: this is no OpenAPI 3 document", path.display());
        };
        types.extend(schemas.clone());
    }
    ensure!(versions.len() == 1, "the documents are of several servers: {versions:?}");
    let written = reduced(&types, versions.first().map_or("", String::as_str))?;
    if let Some(folder) = args.out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&args.out, written).with_context(|| format!("cannot write {}", args.out.display()))
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// One line for each kind and each type, so that a difference between two versions of Kubernetes can be read.
fn reduced(types: &BTreeMap<String, Value>, version: &str) -> Result<String> {
    let mut kinds = BTreeMap::new();
    for (group, kind) in KINDS {
        let (name, api_version) = types
            .iter()
            .find_map(|(name, schema)| Some((name, api_version(schema, group, kind)?)))
            .with_context(|| format!("no document has the kind {kind} of the group {group:?}"))?;
        kinds.insert(format!("{api_version} {kind}"), name.clone());
    }
    let mut kept = BTreeMap::new();
    let mut wanted: Vec<String> = kinds.values().cloned().collect();
    while let Some(name) = wanted.pop() {
        let Entry::Vacant(place) = kept.entry(name) else { continue };
        let schema = types.get(place.key()).with_context(|| format!("no document has the type {}", place.key()))?;
        let schema = simple(schema, &mut wanted).with_context(|| format!("type {}", place.key()))?;
        place.insert(schema);
    }
    let mut text = format!("{{\n\"version\": {},\n\"kinds\": {{\n", json!(version));
    lines(&mut text, kinds.iter().map(|(kind, name)| (kind, json!(name))));
    text.push_str("},\n\"types\": {\n");
    lines(&mut text, kept);
    text.push_str("}\n}\n");
    Ok(text)
}

fn lines(text: &mut String, entries: impl IntoIterator<Item = (impl AsRef<str>, Value)>) {
    let lines: Vec<String> =
        entries.into_iter().map(|(name, value)| format!("{}: {value}", json!(name.as_ref()))).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", lines.join(",\n"));
}

/// The API version of the schema, if it is that of the kind.
fn api_version(schema: &Value, group: &str, kind: &str) -> Option<String> {
    // What several groups share, such as DeleteOptions, has many.
    let [own] = schema["x-kubernetes-group-version-kind"].as_array()?.as_slice() else { return None };
    let version = own["version"].as_str()?;
    let is_it = own["group"] == group && own["kind"] == kind;
    is_it.then(|| if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") })
}

/// A schema as one of: `{"fields": {..}, "required": [..]}`, `{"map": of}`, `{"list": of}`, `{"type": "name"}`, `{"any": [..]}`, `{"enum": [..]}`, or
/// the name of a plain type. Adds the types that it names to `wanted`.
fn simple(schema: &Value, wanted: &mut Vec<String>) -> Result<Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default().to_owned();
        wanted.push(name.clone());
        return Ok(json!({ "type": name }));
    }
    // With a default beside it, a reference stands in a list of one.
    if let Some([one]) = schema["allOf"].as_array().map(Vec::as_slice) {
        return simple(one, wanted);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices = choices.iter().map(|choice| simple(choice, wanted)).collect::<Result<Vec<_>>>()?;
        return Ok(json!({ "any": choices }));
    }
    if let Some(values) = schema["enum"].as_array() {
        return Ok(json!({ "enum": values }));
    }
    match schema["type"].as_str() {
        Some("array") => Ok(json!({ "list": simple(&schema["items"], wanted)? })),
        Some("object") if schema.get("properties").is_some() => {
            let mut fields = Map::new();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if !LEFT_OUT.contains(&name.as_str()) {
                    fields.insert(name.clone(), simple(field, wanted).with_context(|| format!("field {name}"))?);
                }
            }
            let required = schema.get("required").cloned().unwrap_or_else(|| json!([]));
            Ok(json!({ "fields": fields, "required": required }))
        }
        Some("object") if schema.get("additionalProperties").is_some() => {
            Ok(json!({ "map": simple(&schema["additionalProperties"], wanted)? }))
        }
        // An object of any form.
        Some("object") | None => Ok(json!({ "fields": {}, "required": [] })),
        Some("string") if schema["format"] == "date-time" => Ok(json!("time")),
        Some(plain @ ("string" | "boolean" | "integer" | "number")) => Ok(json!(plain)),
        Some(other) => bail!("its type {other} is not known here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> BTreeMap<String, Value> {
        let mut types = BTreeMap::new();
        for (group, kind) in KINDS {
            let schema = json!({
                "type": "object",
                "properties": {
                    "spec": { "allOf": [{ "$ref": "#/components/schemas/Spec" }], "default": {} },
                    "status": { "type": "object" },
                },
                "x-kubernetes-group-version-kind": [{ "group": group, "version": "v1", "kind": kind }],
            });
            types.insert(format!("{group}.{kind}"), schema);
        }
        let spec = json!({
            "type": "object", "required": ["policy"],
            "properties": {
                "policy": { "type": "string", "enum": ["Always", "Never"] },
                "amounts": { "type": "object", "additionalProperties": { "oneOf": [{ "type": "string" }, { "type": "number" }] } },
                "times": { "type": "array", "items": { "type": "string", "format": "date-time" } },
                "raw": { "type": "object" },
            },
        });
        types.insert("Spec".to_owned(), spec);
        types.insert("Stranger".to_owned(), json!({ "type": "string" }));
        types
    }

    #[test]
    fn what_the_kinds_reach_is_kept_in_one_line_each() {
        let text = reduced(&schemas(), "v1.2.3").unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&read["version"], &read["kinds"]["policy/v1 PodDisruptionBudget"]),
            (&json!("v1.2.3"), &json!("policy.PodDisruptionBudget"))
        );
        assert_eq!(read["types"].as_object().unwrap().len(), KINDS.len() + 1, "no stranger");
        assert_eq!(read["types"][".Pod"], json!({ "fields": { "spec": { "type": "Spec" } }, "required": [] }));
        assert_eq!(
            read["types"]["Spec"],
            json!({
                "fields": {
                    "policy": { "enum": ["Always", "Never"] },
                    "amounts": { "map": { "any": ["string", "number"] } },
                    "times": { "list": "time" },
                    "raw": { "fields": {}, "required": [] },
                },
                "required": ["policy"],
            })
        );
        assert!(text.lines().any(|line| line.starts_with("\"Spec\": {")), "{text}");
    }

    #[test]
    fn what_is_missing_or_unknown_is_told_with_its_place() {
        let mut types = schemas();
        types.remove("Spec");
        assert_eq!(reduced(&types, "v1").unwrap_err().to_string(), "no document has the type Spec");
        let mut types = schemas();
        types.remove("batch.Job");
        assert!(reduced(&types, "v1").unwrap_err().to_string().contains("the kind Job of the group \"batch\""));
        let mut types = schemas();
        types.insert("Spec".to_owned(), json!({ "type": "object", "properties": { "a": { "type": "bytes" } } }));
        assert_eq!(
            format!("{:#}", reduced(&types, "v1").unwrap_err()),
            "type Spec: field a: its type bytes is not known here"
        );
    }
}
