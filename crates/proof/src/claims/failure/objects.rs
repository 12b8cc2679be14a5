//! Sets of voting members, new and changed.

use anyhow::{Result, anyhow};
use fastrand::Rng;
use serde_json::{Value, json};

use super::facts;
use crate::claim::Subject;
use crate::make::{chance, one};

/// The cases of `odd-replicas` about sets: created, updated and scaled.
pub(super) fn cases() -> Result<Vec<Subject>> {
    let cases = corpus::cases("odd-replicas").map_err(|error| anyhow!("{error}"))?;
    let mut subjects = Vec::new();
    for case in cases {
        let header = case.header;
        let is_plain = header.request.is_none() && header.user.is_none() && !header.delete && header.lookups;
        let settings = header.settings.unwrap_or_else(|| json!({}));
        // What is owned or exempt, or warned of only, is not judged by the rule's own measure.
        let is_judged = ["exempt", "ownedObjects", "action"].iter().all(|key| settings[*key].is_null());
        let is_set = case.object["kind"] == "StatefulSet" && case.object["apiVersion"] == "apps/v1";
        let metadata = &case.object["metadata"];
        let is_left_alone = !metadata["ownerReferences"].is_null() || !metadata["deletionTimestamp"].is_null();
        // A set that does not vote may lose what it likes.
        let is_voting = settings["unknown"] != "none"
            && metadata["annotations"]["quorate.dev/quorum"] != "none"
            && !case.object["spec"].to_string().contains("minio");
        if !(is_plain && is_judged && is_set && is_voting) || is_left_alone {
            continue;
        }
        let mut old = Value::Null;
        if let Some(change) = &header.before {
            old = case.object.clone();
            merge(&mut old, change);
            // Of a set that is another one altogether, the old members say nothing.
            let mut other = old.clone();
            other["spec"]["replicas"] = case.object["spec"]["replicas"].clone();
            if other != case.object {
                continue;
            }
        }
        let scale = header.scale.map_or(Value::Null, |scale| {
            old = case.object.clone();
            old["spec"]["replicas"] = scale.from.into();
            json!({ "from": scale.from, "to": scale.to })
        });
        let mut objects = vec![case.object];
        objects.extend(case.others);
        let name = format!("odd-replicas/{}", case.name);
        subjects.push(Subject {
            name,
            objects,
            settings: json!({ "odd-replicas": settings }),
            facts: facts(&old, &scale),
        });
    }
    Ok(subjects)
}

/// RFC 7396.
fn merge(object: &mut Value, change: &Value) {
    let Value::Object(fields) = change else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            object.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut object[name], value);
        }
    }
}

/// A set, or a change of one.
pub(super) fn generate(random: &mut Rng) -> Subject {
    let is_known = chance(random, 60);
    let image = if is_known {
        one(random, &["zookeeper:3.9", "quay.io/coreos/etcd:v3.5.21"])
    } else {
        Some("example.com/store:1")
    };
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "zk", "namespace": "a" },
        "spec": {
            "serviceName": "zk", "replicas": random.i64(1..=7), "selector": { "matchLabels": { "app": "zk" } },
            "template": { "metadata": { "labels": { "app": "zk" } }, "spec": { "containers": [{ "name": "zk", "image": image }] } },
        },
    });
    let mut apart = json!({});
    let mut facts = facts(&Value::Null, &Value::Null);
    match random.u32(..10) {
        // Counts alone.
        0..4 => keep_apart(random, &mut set, "kubernetes.io/hostname", 85),
        4..7 => {
            let zones = random.i64(2..=4);
            facts["zones"] = zones.into();
            apart = json!({ "zones": one(random, &["require", "require", "ignore"]) });
            set["spec"]["replicas"] = one(random, &[3, 3, 5, 5, 7, 4]).into();
            zoned(random, &mut set, zones);
        }
        _ => {
            keep_apart(random, &mut set, "kubernetes.io/hostname", 100);
            let mut old = set.clone();
            let before = random.i64(1..=7);
            old["spec"]["replicas"] = before.into();
            let after = random.i64(0..=7);
            facts["old"] = old;
            if random.bool() {
                facts["scale"] = json!({ "from": before, "to": after });
                set["spec"]["replicas"] = before.into();
            } else {
                set["spec"]["replicas"] = after.into();
            }
        }
    }
    facts["votes"] = if is_known { "known" } else { "taken" }.into();
    if facts["old"].is_object() {
        // A change may pass through an even count.
        facts["votes"] = Value::Null;
    }
    let odd = one(
        random,
        &[json!({}), json!({}), json!({}), json!({ "min": 5 }), json!({ "allowZero": false, "steps": "deny" })],
    );
    let settings = json!({ "odd-replicas": odd, "anti-affinity": apart });
    Subject { name: String::new(), objects: vec![set], settings, facts }
}

/// A required term on this label, in so many of a hundred; else a wish, or nothing.
fn keep_apart(random: &mut Rng, set: &mut Value, key: &str, percent: u32) {
    let term = json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "app": "zk" } } });
    let anti = if chance(random, percent) {
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] })
    } else if random.bool() {
        json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "podAffinityTerm": term }] })
    } else {
        return;
    };
    set["spec"]["template"]["spec"]["affinity"] = json!({ "podAntiAffinity": anti });
}

/// Kept apart over nodes, and over zones by a constraint that is tight or not; or over zones by a term.
fn zoned(random: &mut Rng, set: &mut Value, zones: i64) {
    let zone = "topology.kubernetes.io/zone";
    let members = set["spec"]["replicas"].as_i64().unwrap_or(1);
    if members <= zones && chance(random, 30) {
        keep_apart(random, set, zone, 100);
        return;
    }
    keep_apart(random, set, "kubernetes.io/hostname", 100);
    if chance(random, 25) {
        return;
    }
    let mut constraint = json!({
        "topologyKey": zone, "maxSkew": one(random, &[1, 1, 1, 2]), "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "zk" } },
    });
    if chance(random, 80) {
        constraint["minDomains"] = random.i64(2..=zones).into();
    }
    set["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([constraint]);
}
