//! Objects as the host shows them, written straight to JSON: nothing is copied to leave something out.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value};

use crate::mask::{Mask, Node};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How objects of one answer are shown.
#[derive(Clone, Copy)]
pub(crate) struct Style<'a> {
    /// The `apiVersion` and `kind` to write, if any. In the lists of an API server the items of built-in kinds have neither.
    pub(crate) types: Option<(&'a str, &'a str)>,
    /// Whether the object comes out of the host's reflector, which cleans `metadata` (`callback_handler/kubernetes/reflector.rs`).
    pub(crate) reflected: bool,
    /// What to keep of everything but `apiVersion`, `kind` and `metadata`, which always stay.
    pub(crate) mask: Option<&'a Mask>,
}

/// One object in its effective namespace (empty for what lives in none).
pub(crate) struct View<'a> {
    pub(crate) object: &'a Map<String, Value>,
    pub(crate) namespace: &'a str,
    pub(crate) style: Style<'a>,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some((api_version, kind)) = self.style.types {
            map.serialize_entry("apiVersion", api_version)?;
            map.serialize_entry("kind", kind)?;
        }
        let metadata = Metadata {
            fields: self.object.get("metadata").and_then(Value::as_object),
            namespace: self.namespace,
            reflected: self.style.reflected,
        };
        map.serialize_entry("metadata", &metadata)?;
        let root = self.style.mask.map(Mask::root).filter(|root| !root.keeps_all());
        for (key, value) in self.object {
            if matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            match root {
                None => map.serialize_entry(key, value)?,
                Some(root) => {
                    if let Some(node) = root.below(key) {
                        map.serialize_entry(key, &Masked { value, node })?;
                    }
                }
            }
        }
        map.end()
    }
}

struct Metadata<'a> {
    fields: Option<&'a Map<String, Value>>,
    namespace: &'a str,
    reflected: bool,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.namespace.is_empty() {
            map.serialize_entry("namespace", self.namespace)?;
        }
        if self.reflected {
            let annotations = self.fields.and_then(|fields| fields.get("annotations"));
            map.serialize_entry("annotations", &Annotations(annotations.and_then(Value::as_object)))?;
            map.serialize_entry("managedFields", &[(); 0])?;
        }
        for (key, value) in self.fields.into_iter().flatten() {
            let written = match key.as_str() {
                "namespace" => !self.namespace.is_empty(),
                "annotations" | "managedFields" => self.reflected,
                _ => false,
            };
            // The host reads metadata into a typed value, which has no nulls.
            if !written && !value.is_null() {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

struct Annotations<'a>(Option<&'a Map<String, Value>>);

impl Serialize for Annotations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.into_iter().flatten().filter(|(key, _)| *key != LAST_APPLIED))
    }
}

struct Masked<'a> {
    value: &'a Value,
    node: Node<'a>,
}

impl Serialize for Masked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.node.keeps_all() {
            return self.value.serialize(serializer);
        }
        match self.value {
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in fields {
                    if let Some(node) = self.node.below(key) {
                        map.serialize_entry(key, &Masked { value, node })?;
                    }
                }
                map.end()
            }
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for value in items {
                    seq.serialize_element(&Masked { value, node: self.node })?;
                }
                seq.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn shown(object: &Value, namespace: &str, style: Style<'_>) -> Value {
        let object = object.as_object().unwrap();
        serde_json::from_str(&serde_json::to_string(&View { object, namespace, style }).unwrap()).unwrap()
    }

    fn masked(object: &Value, paths: &[&str]) -> Value {
        let paths: BTreeSet<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        shown(object, "", Style { types: None, reflected: false, mask: Some(&Mask::new(&paths)) })
    }

    #[test]
    fn masks_see_through_sequences_and_leave_metadata_alone() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}, [{"name": "d", "x": 1}], "odd"], "nodeName": "n"}, "status": {}});
        let metadata = &object["metadata"];
        assert_eq!(
            masked(&object, &["spec.containers.name"]),
            json!({"metadata": metadata, "spec": {"containers": [{"name": "c"}, [{"name": "d"}], "odd"]}})
        );
        assert_eq!(masked(&object, &["metadata.name"]), json!({"metadata": metadata}));
        assert_eq!(masked(&object, &["spec.nodeName.deeper", "status"])["spec"], json!({"nodeName": "n"}));
        assert_eq!(masked(&object, &["spec", "spec.nodeName"])["spec"], json!({"nodeName": "n"}));
        assert_eq!(masked(&object, &["gone"]), json!({"metadata": metadata}));
        assert_eq!(masked(&object, &[])["spec"], object["spec"]);
    }

    #[test]
    fn label_keys_with_dots_need_a_mask_that_ends_above_them() {
        let object = json!({"spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "x"}}}});
        let whole = masked(&object, &["spec.selector"]);
        assert_eq!(whole["spec"], object["spec"]);
        let lost = masked(&object, &["spec.selector.matchLabels.app.kubernetes.io/name"]);
        assert_eq!(lost["spec"]["selector"]["matchLabels"], json!({}));
    }

    #[test]
    fn reflected_metadata_is_clean_and_the_rest_is_not() {
        let object = json!({"metadata": {"name": "x", "managedFields": [{"manager": "m"}], "creationTimestamp": null,
            "annotations": {LAST_APPLIED: "{}", "kept": "1"}}});
        let reflected = Style { types: None, reflected: true, mask: None };
        assert_eq!(
            shown(&object, "ns", reflected)["metadata"],
            json!({"name": "x", "namespace": "ns", "managedFields": [], "annotations": {"kept": "1"}})
        );
        assert_eq!(shown(&json!({}), "", reflected)["metadata"], json!({"managedFields": [], "annotations": {}}));
        let plain = shown(&object, "ns", Style { types: Some(("v1", "Pod")), reflected: false, mask: None });
        let mut wanted = object["metadata"].clone();
        wanted["namespace"] = json!("ns");
        wanted.as_object_mut().unwrap().remove("creationTimestamp");
        assert_eq!(plain, json!({"apiVersion": "v1", "kind": "Pod", "metadata": wanted}));
    }
}
