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

/// The cases of a policy that change what is there, as something to play: what changes, in `facts`, is `{ "change": { "scale": { "from",
/// "to" } } }`, `{ "change": { "old": OBJECT } }` or `{ "change": { "delete": true } }`.
///
/// # Errors
/// Cases that cannot be read.
pub fn changed(policy: &str, kinds: &[&str]) -> Result<Vec<Subject>> {
    let cases = corpus::cases(policy).map_err(|error| anyhow!("{error}"))?;
    let mut subjects = Vec::new();
    for case in cases {
        let header = &case.header;
        let is_plain =
            header.request.is_none() && header.user.is_none() && !header.nameless && !header.dry_run && header.lookups;
        if !is_plain || !kinds.contains(&case.object["kind"].as_str().unwrap_or_default()) {
            continue;
        }
        let change = if let Some(scale) = header.scale {
            json!({ "scale": { "from": scale.from, "to": scale.to } })
        } else if let Some(before) = &header.before {
            let mut old = case.object.clone();
            merge(&mut old, before);
            json!({ "old": old })
        } else if header.delete {
            json!({ "delete": true })
        } else {
            continue;
        };
        subjects.push(Subject { facts: json!({ "change": change }), ..subject(case) });
    }
    Ok(subjects)
}

/// Merges `change` into the object: RFC 7396.
pub fn merge(object: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let Value::Object(fields) = object else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
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

/// Whether a label selector selects a pod with these labels.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let all =
        selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    all && selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
        let value = expression["key"].as_str().and_then(|key| labels.get(key));
        let is_in =
            value.is_some_and(|value| expression["values"].as_array().is_some_and(|values| values.contains(value)));
        match expression["operator"].as_str() {
            Some("In") => is_in,
            Some("NotIn") => !is_in,
            Some("Exists") => value.is_some(),
            _ => value.is_none(),
        }
    })
}

/// A JSON pointer as the API server writes it: `spec.containers[0].image` for `/spec/containers/0/image`.
pub fn field_of(pointer: &str) -> Option<String> {
    let mut text = String::new();
    for part in pointer.strip_prefix('/')?.split('/') {
        if part.parse::<usize>().is_ok() {
            text = format!("{text}[{part}]");
        } else {
            let dot = if text.is_empty() { "" } else { "." };
            text = format!("{text}{dot}{part}");
        }
    }
    Some(text)
}

/// The object with the operations of a JSON Patch (RFC 6902) done, of those that findings have: `add`, `replace`, `remove`.
pub fn patched(object: &Value, patch: &Value) -> Option<Value> {
    let mut object = object.clone();
    for operation in patch.as_array()? {
        let (parent, last) = operation["path"].as_str()?.rsplit_once('/')?;
        let last = last.replace("~1", "/").replace("~0", "~");
        let removes = operation["op"] == "remove";
        let value = operation["value"].clone();
        match object.pointer_mut(parent)? {
            Value::Object(fields) if removes => drop(fields.remove(&last)?),
            Value::Object(fields) => drop(fields.insert(last, value)),
            Value::Array(items) if last == "-" => items.push(value),
            Value::Array(items) => {
                let index = last.parse().ok().filter(|index| *index < items.len())?;
                if removes {
                    items.remove(index);
                } else if operation["op"] == "add" {
                    items.insert(index, value);
                } else {
                    items[index] = value;
                }
            }
            _ => return None,
        }
    }
    Some(object)
}

/// Sets what the pointer leads to, with the objects on the way.
pub fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        place = match (place.is_array(), part.parse::<usize>()) {
            (true, Ok(index)) if place.get(index).is_some() => &mut place[index],
            (true, _) => return,
            _ if place.is_object() || place.is_null() => &mut place[part],
            _ => {
                *place = json!({});
                &mut place[part]
            }
        };
    }
    *place = value;
}

/// Removes what the pointer leads to, a field or an item.
pub fn remove(object: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&last.replace("~1", "/").replace("~0", "~")).is_some(),
        Some(Value::Array(items)) => match last.parse() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Something that generated objects can have, and whether this one does.
#[cfg(test)]
pub(crate) type Variety<'a> = (String, Box<dyn Fn(&Subject) -> bool + 'a>);

/// Asserts that the first objects of the seed of the pages have all of these.
#[cfg(test)]
pub(crate) fn assert_varied(claim: &dyn crate::claim::Claim, varieties: &[Variety<'_>]) {
    let subjects: Vec<Subject> = (0..200).map(|number| crate::drive::generate(claim, 1, number)).collect();
    let missing: Vec<&str> =
        varieties.iter().filter(|(_, has)| !subjects.iter().any(has)).map(|(name, _)| name.as_str()).collect();
    assert!(missing.is_empty(), "of 200 objects none has: {missing:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_written_as_the_api_server_writes_a_field() {
        assert_eq!(
            field_of("/spec/containers/0/resources/requests/cpu").unwrap(),
            "spec.containers[0].resources.requests.cpu"
        );
    }

    #[test]
    fn a_patch_is_done_in_order() {
        let patch = json!([
            { "op": "add", "path": "/a", "value": { "b/c": [1] } },
            { "op": "add", "path": "/a/b~1c/-", "value": 3 },
            { "op": "add", "path": "/a/b~1c/1", "value": 2 },
            { "op": "replace", "path": "/a/b~1c/0", "value": 0 },
            { "op": "remove", "path": "/x" },
        ]);
        assert_eq!(patched(&json!({ "x": 1, "y": 1 }), &patch).unwrap(), json!({ "a": { "b/c": [0, 2, 3] }, "y": 1 }));
        assert!(patched(&json!({}), &json!([{ "op": "replace", "path": "/a/b", "value": 1 }])).is_none());
    }

    #[test]
    fn what_is_missing_on_the_way_is_made() {
        let mut object = json!({ "l": [{}], "n": null });
        set(&mut object, "/l/0/a/b~1c", 1.into());
        set(&mut object, "/n/x", 2.into());
        assert_eq!(object, json!({ "l": [{ "a": { "b/c": 1 } }], "n": { "x": 2 } }));
        assert!(remove(&mut object, "/l/0") && !remove(&mut object, "/l/0"));
    }
}
