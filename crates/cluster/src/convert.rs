//! Converts objects between API versions, as far as policies on availability look.
//!
//! An API server hands a webhook the version that its rules name, whatever version the user wrote (`matchPolicy: Equivalent`), and
//! serves every object in every version of its kind. This module does so for
//!
//! * `policy/v1beta1` `PodDisruptionBudget`: its empty selector selects nothing, where that of `policy/v1` selects everything
//!   (`pkg/apis/policy/v1beta1/conversion.go` and `pkg/apis/policy/helper.go` in kubernetes/kubernetes);
//! * workloads of `apps/v1beta1`, `apps/v1beta2` and `extensions/v1beta1`: the defaults that differ from those of `apps/v1`, that is
//!   selector and labels from the template, update strategy, history limit, progress deadline (`pkg/apis/{apps,extensions}/*/defaults.go`);
//! * `Ingress`: backends and the default backend (`pkg/apis/networking/v1beta1/conversion.go`);
//! * `CustomResourceDefinition` of `v1beta1` with its single version, schema and subresources at the top;
//! * `HorizontalPodAutoscaler`: `targetCPUUtilizationPercentage` of `v1` against the CPU metric of `v2`.
//!
//! For every other pair only `apiVersion` is rewritten. So what is *not* converted: the metrics of `autoscaling/v2beta1`, autoscaler
//! metrics other than CPU utilisation (a server hides them in annotations of `v1`) and behaviour, annotations that a server writes for its
//! own memory, `rollbackTo` and `templateGeneration`, the topology of `discovery.k8s.io/v1beta1`, the names of event fields, and the
//! changed defaults of webhook configurations, API services and certificate requests. Defaults that are the same in both
//! versions are left to the reader of the object.

use serde_json::{Map, Value, json};

use crate::resources::split_api_version;

/// The label that Kubernetes uses to say "nothing" in a `policy/v1` selector that was empty in `policy/v1beta1`.
const EMPTY_SELECTOR_LABEL: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

/// The object as it reads in the API version `to`. Total: what has an unexpected type stays as it is.
pub fn convert(object: &Value, to: &str) -> Value {
    let mut object = object.clone();
    let Value::Object(fields) = &mut object else { return object };
    let from = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    if from == to {
        return object;
    }
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    fields.insert("apiVersion".to_owned(), Value::String(to.to_owned()));
    match (from.as_str(), kind.as_str(), to) {
        ("policy/v1beta1", "PodDisruptionBudget", _) => budget_to_v1(fields),
        (_, "PodDisruptionBudget", "policy/v1beta1") => budget_to_v1beta1(fields),
        (_, "Ingress", "networking.k8s.io/v1") if split_api_version(&from).1 == "v1beta1" => ingress_to_v1(fields),
        ("apps/v1beta1" | "apps/v1beta2" | "extensions/v1beta1", _, _) => workload_to_v1(fields, &from, &kind),
        ("apiextensions.k8s.io/v1beta1", _, _) => definition_to_v1(fields),
        ("autoscaling/v1", "HorizontalPodAutoscaler", _) => autoscaler_to_v2(fields),
        (_, "HorizontalPodAutoscaler", "autoscaling/v1") => autoscaler_to_v1(fields),
        _ => {}
    }
    object
}

fn mapping<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    fields.get_mut(key).and_then(Value::as_object_mut)
}

/// A mapping that may be written to: created when absent or null, `None` when something else is there.
fn mapping_or_new<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = fields.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!({});
    }
    slot.as_object_mut()
}

fn is_absent(fields: &Map<String, Value>, key: &str) -> bool {
    fields.get(key).is_none_or(Value::is_null)
}

fn default(fields: &mut Map<String, Value>, key: &str, value: Value) {
    if is_absent(fields, key) {
        fields.insert(key.to_owned(), value);
    }
}

/// Whether a selector is there and has no requirement at all.
fn selects_by_nothing(selector: &Map<String, Value>) -> bool {
    selector.values().all(|part| match part {
        Value::Null => true,
        Value::Object(labels) => labels.is_empty(),
        Value::Array(expressions) => expressions.is_empty(),
        _ => false,
    })
}

fn marks_emptiness(expression: &Value) -> bool {
    expression["key"] == EMPTY_SELECTOR_LABEL
}

fn is_only_the_mark(selector: &Map<String, Value>, operator: &str) -> bool {
    let no_labels = selector.get("matchLabels").is_none_or(|l| l.is_null() || l.as_object().is_some_and(Map::is_empty));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    matches!(expressions, [only] if no_labels && marks_emptiness(only) && only["operator"] == operator)
}

fn budget_to_v1(fields: &mut Map<String, Value>) {
    let Some(selector) = mapping(fields, "spec").and_then(|spec| mapping(spec, "selector")) else { return };
    if selects_by_nothing(selector) {
        selector.clear();
        let nothing = json!([{"key": EMPTY_SELECTOR_LABEL, "operator": "Exists"}]);
        selector.insert("matchExpressions".to_owned(), nothing);
    } else if is_only_the_mark(selector, "DoesNotExist") {
        selector.clear();
    } else if let Some(Value::Array(expressions)) = selector.get_mut("matchExpressions") {
        expressions.retain(|expression| !marks_emptiness(expression));
    }
}

fn budget_to_v1beta1(fields: &mut Map<String, Value>) {
    let Some(selector) = mapping(fields, "spec").and_then(|spec| mapping(spec, "selector")) else { return };
    if selects_by_nothing(selector) {
        let everything = json!([{"key": EMPTY_SELECTOR_LABEL, "operator": "DoesNotExist"}]);
        selector.insert("matchExpressions".to_owned(), everything);
    } else if is_only_the_mark(selector, "Exists") {
        selector.clear();
    }
}

fn workload_to_v1(fields: &mut Map<String, Value>, from: &str, kind: &str) {
    if from != "apps/v1beta2" && matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") {
        labels_from_template(fields);
    }
    let Some(spec) = mapping(fields, "spec") else { return };
    match (from, kind) {
        ("apps/v1beta1", "StatefulSet") | ("extensions/v1beta1", "DaemonSet") => {
            if let Some(strategy) = mapping_or_new(spec, "updateStrategy") {
                default(strategy, "type", json!("OnDelete"));
            }
        }
        ("apps/v1beta1", "Deployment") => default(spec, "revisionHistoryLimit", json!(2)),
        ("extensions/v1beta1", "Deployment") => {
            default(spec, "revisionHistoryLimit", json!(i32::MAX));
            default(spec, "progressDeadlineSeconds", json!(i32::MAX));
            if let Some(strategy) = mapping_or_new(spec, "strategy") {
                let rolling = is_absent(strategy, "type") || strategy.get("type") == Some(&json!("RollingUpdate"));
                if rolling && let Some(update) = mapping_or_new(strategy, "rollingUpdate") {
                    default(update, "maxUnavailable", json!(1));
                    default(update, "maxSurge", json!(1));
                }
            }
        }
        _ => {}
    }
    spec.remove("rollbackTo");
    spec.remove("templateGeneration");
}

/// The oldest versions took selector and labels from the pod template; `apps/v1` demands a selector.
fn labels_from_template(fields: &mut Map<String, Value>) {
    let labels = fields.get("spec").map(|spec| spec["template"]["metadata"]["labels"].clone()).unwrap_or_default();
    if !labels.is_object() {
        return;
    }
    if let Some(spec) = mapping(fields, "spec") {
        default(spec, "selector", json!({"matchLabels": labels}));
    }
    if let Some(metadata) = mapping_or_new(fields, "metadata")
        && metadata.get("labels").is_none_or(|own| own.is_null() || own.as_object().is_some_and(Map::is_empty))
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn ingress_to_v1(fields: &mut Map<String, Value>) {
    let Some(spec) = mapping(fields, "spec") else { return };
    if let Some(mut backend) = spec.remove("backend") {
        backend_to_v1(&mut backend);
        spec.insert("defaultBackend".to_owned(), backend);
    }
    for rule in spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        for path in rule.pointer_mut("/http/paths").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(path) = path else { continue };
            default(path, "pathType", json!("ImplementationSpecific"));
            if let Some(backend) = path.get_mut("backend") {
                backend_to_v1(backend);
            }
        }
    }
}

fn backend_to_v1(backend: &mut Value) {
    let Value::Object(backend) = backend else { return };
    let name = backend.remove("serviceName");
    let port = backend.remove("servicePort");
    if name.is_none() && port.is_none() {
        return;
    }
    let port = match port {
        Some(number @ Value::Number(_)) => json!({"number": number}),
        Some(name @ Value::String(_)) => json!({"name": name}),
        _ => json!({}),
    };
    backend.insert("service".to_owned(), json!({"name": name.unwrap_or_else(|| json!("")), "port": port}));
}

fn definition_to_v1(fields: &mut Map<String, Value>) {
    let Some(spec) = mapping(fields, "spec") else { return };
    default(spec, "scope", json!("Namespaced"));
    let version = spec.remove("version");
    let shared: Vec<(&str, Option<Value>)> = vec![
        ("schema", spec.remove("validation")),
        ("subresources", spec.remove("subresources")),
        ("additionalPrinterColumns", spec.remove("additionalPrinterColumns")),
    ];
    if is_absent(spec, "versions") {
        spec.insert("versions".to_owned(), json!([{"name": version, "served": true, "storage": true}]));
    }
    for version in spec.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Value::Object(version) = version else { continue };
        for (key, value) in &shared {
            if let Some(value) = value {
                default(version, key, value.clone());
            }
        }
    }
}

fn autoscaler_to_v2(fields: &mut Map<String, Value>) {
    let Some(spec) = mapping(fields, "spec") else { return };
    let target = spec.remove("targetCPUUtilizationPercentage").filter(|target| !target.is_null());
    if let Some(target) = target {
        let metric = json!({"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
}

fn autoscaler_to_v1(fields: &mut Map<String, Value>) {
    let Some(spec) = mapping(fields, "spec") else { return };
    spec.remove("behavior");
    let metrics = spec.remove("metrics");
    let target = metrics.as_ref().and_then(Value::as_array).into_iter().flatten().find_map(|metric| {
        let resource = &metric["resource"];
        (metric["type"] == "Resource" && resource["name"] == "cpu")
            .then(|| resource["target"]["averageUtilization"].clone())
            .filter(Value::is_number)
    });
    if let Some(target) = target {
        spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(api_version: &str, selector: &Value) -> Value {
        json!({"apiVersion": api_version, "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
            "spec": {"minAvailable": "67%", "selector": selector}})
    }

    #[test]
    fn an_empty_selector_of_the_old_budget_selects_nothing_in_the_new_one() {
        let nothing = json!({"matchExpressions": [{"key": EMPTY_SELECTOR_LABEL, "operator": "Exists"}]});
        for empty in [json!({}), json!({"matchLabels": {}}), json!({"matchLabels": null, "matchExpressions": []})] {
            assert_eq!(convert(&budget("policy/v1beta1", &empty), "policy/v1"), budget("policy/v1", &nothing));
        }
        let everything = json!({"matchExpressions": [{"key": EMPTY_SELECTOR_LABEL, "operator": "DoesNotExist"}]});
        assert_eq!(convert(&budget("policy/v1beta1", &everything), "policy/v1"), budget("policy/v1", &json!({})));
        assert_eq!(convert(&budget("policy/v1", &json!({})), "policy/v1beta1"), budget("policy/v1beta1", &everything));
        assert_eq!(convert(&budget("policy/v1", &nothing), "policy/v1beta1"), budget("policy/v1beta1", &json!({})));
    }

    #[test]
    fn other_selectors_of_a_budget_stay() {
        for selector in [json!({"matchLabels": {"app": "x"}}), Value::Null, json!("odd")] {
            assert_eq!(convert(&budget("policy/v1beta1", &selector), "policy/v1"), budget("policy/v1", &selector));
        }
        let both = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": EMPTY_SELECTOR_LABEL, "operator": "Exists"}, {"key": "k", "operator": "Exists"}]});
        let kept = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]});
        assert_eq!(convert(&budget("policy/v1beta1", &both), "policy/v1"), budget("policy/v1", &kept));
        let bare = json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget"});
        assert_eq!(convert(&bare, "policy/v1")["apiVersion"], "policy/v1");
    }

    #[test]
    fn the_first_statefulset_takes_selector_and_labels_from_its_template_and_updates_on_delete() {
        let old = json!({"apiVersion": "apps/v1beta1", "kind": "StatefulSet", "metadata": {"name": "s"},
            "spec": {"template": {"metadata": {"labels": {"app": "zk"}}}}});
        let new = convert(&old, "apps/v1");
        assert_eq!(new["spec"]["selector"], json!({"matchLabels": {"app": "zk"}}));
        assert_eq!(new["metadata"]["labels"], json!({"app": "zk"}));
        assert_eq!(new["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
        // What is said stays said.
        let told = json!({"apiVersion": "apps/v1beta1", "kind": "StatefulSet",
            "metadata": {"name": "s", "labels": {"own": "1"}},
            "spec": {"selector": {"matchLabels": {"x": "y"}}, "updateStrategy": {"type": "RollingUpdate"},
                "template": {"metadata": {"labels": {"app": "zk"}}}}});
        let mut wanted = told.clone();
        wanted["apiVersion"] = json!("apps/v1");
        assert_eq!(convert(&told, "apps/v1"), wanted);
        // v1beta2 already demanded a selector.
        let mut second = old.clone();
        second["apiVersion"] = json!("apps/v1beta2");
        assert_eq!(convert(&second, "apps/v1")["spec"].get("selector"), None);
    }

    #[test]
    fn the_first_deployment_surges_by_one() {
        let old = json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"rollbackTo": {"revision": 1}, "template": {"metadata": {"labels": {"a": "b"}}}}});
        let new = convert(&old, "apps/v1");
        assert_eq!(new["spec"]["strategy"]["rollingUpdate"], json!({"maxUnavailable": 1, "maxSurge": 1}));
        assert_eq!(new["spec"]["revisionHistoryLimit"], i32::MAX);
        assert_eq!(new["spec"].get("rollbackTo"), None);
        let mut recreate = old;
        recreate["spec"]["strategy"] = json!({"type": "Recreate"});
        assert_eq!(convert(&recreate, "apps/v1")["spec"]["strategy"], json!({"type": "Recreate"}));
    }

    #[test]
    fn ingress_backends_become_services() {
        let old = json!({"apiVersion": "extensions/v1beta1", "kind": "Ingress", "spec": {
            "backend": {"serviceName": "all", "servicePort": "web"},
            "rules": [{"http": {"paths": [{"path": "/", "backend": {"serviceName": "one", "servicePort": 80}}]}}, {"host": "h"}]}});
        let new = convert(&old, "networking.k8s.io/v1");
        assert_eq!(new["spec"]["defaultBackend"], json!({"service": {"name": "all", "port": {"name": "web"}}}));
        let path = json!({"path": "/", "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": "one", "port": {"number": 80}}}});
        assert_eq!(new["spec"]["rules"][0]["http"]["paths"][0], path);
        assert_eq!(new["spec"].get("backend"), None);
    }

    #[test]
    fn definitions_get_a_list_of_versions() {
        let old = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
            "spec": {"group": "g", "version": "v2", "subresources": {"scale": {}}}});
        let new = convert(&old, "apiextensions.k8s.io/v1");
        let wanted = json!({"group": "g", "scope": "Namespaced",
            "versions": [{"name": "v2", "served": true, "storage": true, "subresources": {"scale": {}}}]});
        assert_eq!(new["spec"], wanted);
    }

    /// The second object is what a 1.36 API server answered when asked for the first as `autoscaling/v2`.
    #[test]
    fn autoscalers_convert_both_ways() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec":
            {"maxReplicas": 5, "minReplicas": 2, "targetCPUUtilizationPercentage": 70}});
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec":
            {"maxReplicas": 5, "minReplicas": 2, "metrics": [{"type": "Resource", "resource":
                {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}});
        assert_eq!(convert(&v1, "autoscaling/v2"), v2);
        assert_eq!(convert(&v2, "autoscaling/v1"), v1);
    }

    #[test]
    fn odd_types_survive_every_conversion() {
        let kinds = [
            ("policy/v1beta1", "PodDisruptionBudget", "policy/v1"),
            ("apps/v1beta1", "StatefulSet", "apps/v1"),
            ("extensions/v1beta1", "Deployment", "apps/v1"),
            ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1"),
            ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition", "apiextensions.k8s.io/v1"),
            ("autoscaling/v1", "HorizontalPodAutoscaler", "autoscaling/v2"),
            ("autoscaling/v2", "HorizontalPodAutoscaler", "autoscaling/v1"),
        ];
        for (from, kind, to) in kinds {
            for spec in [json!(null), json!(7), json!([1]), json!("x")] {
                let object = json!({"apiVersion": from, "kind": kind, "metadata": 3, "spec": spec});
                assert_eq!(convert(&object, to), json!({"apiVersion": to, "kind": kind, "metadata": 3, "spec": spec}));
            }
            let odd = json!({"apiVersion": from, "kind": kind, "spec":
                {"selector": 1, "strategy": 2, "updateStrategy": 3, "rules": [4, {"http": 5}], "versions": 6, "metrics": 7}});
            assert_eq!(convert(&odd, to)["apiVersion"], to);
        }
        assert_eq!(convert(&json!([1]), "v1"), json!([1]));
    }
}
