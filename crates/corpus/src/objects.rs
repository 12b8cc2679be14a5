//! Objects of every kind that policies judge, made from the API server's own description of its types: what no case thought of.
//!
//! `cargo xtask openapi` writes that description, `test-data/openapi/kubernetes.json`. An object follows from its kind and a number, so that a
//! failure is found again by them. Types are right and values often are not: the API server refuses many of these objects.

use std::fs;
use std::path::Path;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::case::CaseError;
use crate::root;

/// Where the types are, below the root of the workspace.
const FILE: &str = "test-data/openapi/kubernetes.json";
/// Deeper than this only what is required is made. `JSONSchemaProps` and its like hold themselves.
const DEEPEST: usize = 12;
/// Texts for fields without a list of values: names, labels, quantities, percentages, ports, nonsense.
const TEXTS: [&str; 16] = [
    "",
    "a",
    "zk",
    "zk-0",
    "app.kubernetes.io/name",
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "1",
    "500m",
    "1Gi",
    "50%",
    "In",
    "linux",
    "Always",
    "/healthz",
    "é\u{7}${X}",
];
const IMAGES: [&str; 6] =
    ["zookeeper:3.9", "quay.io/coreos/etcd:v3.5.0", "minio/minio", "redis", "busybox:latest", "x"];
const NUMBERS: [i64; 10] = [0, 1, 2, 3, 4, 5, 10, 1000, -1, i32::MAX as i64];

/// The types of an API server.
pub(crate) struct Types(Value);

impl Types {
    pub(crate) fn read() -> Result<Self, CaseError> {
        let file = root().join(FILE);
        let failed = |error: String| CaseError::new(Path::new(FILE), error);
        let text = fs::read(&file).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&text).map(Self).map_err(|error| failed(error.to_string()))
    }

    /// The API versions and kinds that there are.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        let kinds = self.0["kinds"].as_object().into_iter().flatten();
        kinds.filter_map(|(name, _)| name.split_once(' '))
    }

    /// The object of this kind that follows from `seed`.
    pub(crate) fn object(&self, api_version: &str, kind: &str, seed: u64) -> Value {
        let mut random = Rng::with_seed(seed);
        // Some objects are bare, some have nearly everything.
        let share = [0.02, 0.1, 0.3, 0.6][random.usize(..4)];
        let schema = json!({ "type": self.0["kinds"][format!("{api_version} {kind}")] });
        let mut object = Maker { types: &self.0["types"], random, share }.value(&schema, "", 0);
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        // A set that does not select its own pods is refused by the server before any policy sees it.
        if object["spec"]["selector"]["matchLabels"].is_object() || (kind == "StatefulSet" && seed % 4 != 3) {
            object["spec"]["selector"] = json!({ "matchLabels": { "app": "zk" } });
            if object["spec"]["template"].is_object() {
                object["spec"]["template"]["metadata"] = json!({ "labels": { "app": "zk" } });
            }
        }
        let metadata = &mut object["metadata"];
        metadata["name"] = json!("zk");
        metadata["namespace"] = json!("a");
        // These would be left alone.
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("deletionTimestamp");
            fields.remove("ownerReferences");
        }
        object
    }
}

struct Maker<'a> {
    types: &'a Value,
    random: Rng,
    /// How many of the optional fields are there.
    share: f64,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, name: &str, depth: usize) -> Value {
        match schema {
            Value::String(plain) => self.plain(plain, name),
            Value::Object(form) => self.form(form, name, depth),
            _ => Value::Null,
        }
    }

    fn plain(&mut self, plain: &str, name: &str) -> Value {
        match plain {
            "boolean" => self.random.bool().into(),
            "integer" | "number" => NUMBERS[self.random.usize(..NUMBERS.len())].into(),
            "time" => "2026-01-01T00:00:00Z".into(),
            _ if name == "image" => IMAGES[self.random.usize(..IMAGES.len())].into(),
            _ => TEXTS[self.random.usize(..TEXTS.len())].into(),
        }
    }

    fn form(&mut self, form: &Map<String, Value>, name: &str, depth: usize) -> Value {
        let types = self.types;
        if let Some(of) = form.get("type").and_then(Value::as_str) {
            return self.value(&types[of], name, depth);
        }
        if let Some(choices) = form.get("any").or_else(|| form.get("enum")).and_then(Value::as_array) {
            let choice = &choices[self.random.usize(..choices.len())];
            return if form.contains_key("enum") { choice.clone() } else { self.value(choice, name, depth) };
        }
        if let Some(of) = form.get("list") {
            let length = self.random.usize(..=2);
            let mut items: Vec<Value> = (0..length).map(|_| self.value(of, name, depth + 1)).collect();
            // Kubernetes refuses two containers of one name, and one without; of a policy they would be one.
            if matches!(name, "initContainers" | "containers" | "ephemeralContainers") {
                for (index, item) in items.iter_mut().enumerate().filter(|(_, item)| item.is_object()) {
                    let own = item["name"].as_str().unwrap_or_default();
                    item["name"] = format!("{own}{name}{index}").into();
                }
            }
            return Value::Array(items);
        }
        if let Some(of) = form.get("map") {
            let length = self.random.usize(..=2);
            let entries =
                (0..length).map(|_| (TEXTS[self.random.usize(1..12)].to_owned(), self.value(of, name, depth + 1)));
            return Value::Object(entries.collect());
        }
        let mut object = Map::new();
        for (field, schema) in form.get("fields").and_then(Value::as_object).into_iter().flatten() {
            let is_required = form["required"].as_array().is_some_and(|names| names.iter().any(|name| name == field));
            // What leads to the pods is there more often than not: without it there is little to judge.
            let leads = matches!(field.as_str(), "spec" | "template" | "jobTemplate" | "containers" | "replicas");
            let share = if leads { 0.95 } else { self.share };
            if is_required || (depth < DEEPEST && self.random.f64() < share) {
                let value = if self.random.u8(..) < 5 { Value::Null } else { self.value(schema, field, depth + 1) };
                object.insert(field.clone(), value);
            }
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_object_follows_from_its_kind_and_number() {
        let types = Types::read().unwrap();
        let make = |seed| types.object("apps/v1", "StatefulSet", seed);
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn the_objects_reach_deep_into_the_types_of_pods() {
        let types = Types::read().unwrap();
        assert_eq!(types.kinds().count(), 11);
        let mut places = BTreeSet::new();
        for seed in 0..200 {
            collect(&types.object("batch/v1", "CronJob", seed), String::new(), &mut places);
        }
        let pod = "/spec/jobTemplate/spec/template/spec";
        for place in [
            "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey",
            "/containers/0/image",
            "/containers/0/resources/limits",
            "/containers/0/securityContext/runAsUser",
            "/initContainers/0/livenessProbe/httpGet/port",
            "/topologySpreadConstraints/0/maxSkew",
        ] {
            assert!(places.contains(&format!("{pod}{place}")), "{place}");
        }
    }

    fn collect(value: &Value, at: String, places: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    collect(value, format!("{at}/{name}"), places);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    collect(value, format!("{at}/{index}"), places);
                }
            }
            _ => {}
        }
        places.insert(at);
    }
}
