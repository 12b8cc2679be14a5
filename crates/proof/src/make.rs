//! What generators and cases of several claims need.

use anyhow::{Result, anyhow};
use corpus::{Case, Expect};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::claim::Subject;

/// One of these.
pub fn one<T: Clone>(random: &mut Rng, of: &[T]) -> Option<T> {
    if of.is_empty() { None } else { Some(of[random.usize(..of.len())].clone()) }
}

/// Puts one of these into the object, or leaves the field out where it is `null`.
pub fn put(random: &mut Rng, object: &mut Value, field: &str, of: &[Value]) {
    if let Some(value) = one(random, of).filter(|value| !value.is_null()) {
        object[field] = value;
    }
}

/// True in so many of a hundred draws.
pub fn chance(random: &mut Rng, percent: u32) -> bool {
    random.u32(..100) < percent
}

/// The cases of a policy that create an object: what Kubernetes itself can be asked about.
///
/// # Errors
/// Cases that cannot be read.
pub fn created(policy: &str, kinds: &[&str]) -> Result<Vec<Case>> {
    let cases = corpus::cases(policy).map_err(|error| anyhow!("{error}"))?;
    let is_plain = |case: &Case| {
        let header = &case.header;
        let kind = case.object["kind"].as_str().unwrap_or_default();
        header.before.is_none()
            && header.scale.is_none()
            && header.request.is_none()
            && header.user.is_none()
            && !header.delete
            && header.lookups
            && kinds.contains(&kind)
    };
    Ok(cases.into_iter().filter(is_plain).collect())
}

/// The case as something to play.
pub fn subject(case: Case) -> Subject {
    let mut objects = vec![case.object];
    objects.extend(case.others);
    Subject {
        name: format!("{}/{}", case.policy, case.name),
        objects,
        settings: case.header.settings.unwrap_or(Value::Null),
        facts: Value::Null,
    }
}

/// Whether the case expects the object to be accepted.
pub fn is_accepted(case: &Case) -> bool {
    case.header.expect == Expect::Accept
}

/// The spec of the pods that the object describes, and the path to it.
pub fn pod_spec(object: &Value) -> Option<&'static str> {
    match object["kind"].as_str()? {
        "Pod" => Some("/spec"),
        "PodTemplate" => Some("/template/spec"),
        "CronJob" => Some("/spec/jobTemplate/spec/template/spec"),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "ReplicationController" => {
            Some("/spec/template/spec")
        }
        _ => None,
    }
}

/// The pod that the object would make: itself, or one of its template. Nobody owns it: of what a controller owns a rule only warns.
pub fn pod(object: &Value) -> Option<Value> {
    if object["kind"] == "Pod" {
        let mut pod = object.clone();
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("ownerReferences");
        }
        return Some(pod);
    }
    let spec = object.pointer(pod_spec(object)?)?.clone();
    let template = object.pointer(pod_spec(object)?.strip_suffix("/spec")?)?;
    let mut metadata = template["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    metadata["name"] = "member".into();
    metadata["namespace"] = object["metadata"]["namespace"].clone();
    Some(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }))
}
