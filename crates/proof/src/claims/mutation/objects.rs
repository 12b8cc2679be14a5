//! Objects that can be mended, and some that cannot.

use fastrand::Rng;
use serde_json::{Value, json};

use super::POLICIES;
use crate::claim::Subject;
use crate::claims::budget_make::{budget, limit, selector, sets};
use crate::claims::non_root::generated_pod;
use crate::claims::root_users::{owner, users};
use crate::claims::validity;
use crate::make::{chance, one, pod_spec, put, set};

pub(super) fn generate(random: &mut Rng) -> Subject {
    let policy = one(random, &POLICIES).unwrap_or_default();
    let (mut object, mut settings) = match policy {
        "odd-replicas" => count(random),
        "anti-affinity" => apart(random),
        "non-root" => users_of(random),
        "resource-limits" => resources(random),
        _ => return budgetless(random, policy),
    };
    settings["mutate"] = true.into();
    if chance(random, 50)
        && let Some(spec) = pod_spec(&object)
    {
        set(&mut object, &format!("{spec}/terminationGracePeriodSeconds"), 45.into());
        set(&mut object, &format!("{spec}/nodeSelector"), json!({ "disk": "ssd" }));
    }
    Subject { name: String::new(), objects: vec![object], settings, facts: json!({ "policy": policy }) }
}

/// A set with no budget, or with one that may not be for it.
fn budgetless(random: &mut Rng, policy: &str) -> Subject {
    let mut objects = sets(random, &[1, 2, 3, 3, 3, 4, 5, 7], true);
    if chance(random, 20) {
        let (selector, limit) = (selector(random, &objects[0]), limit(random, &objects[0]));
        objects.push(budget("there", &selector, &limit));
    }
    let settings = json!({ "missing": one(random, &["deny", "deny", "warn"]) });
    Subject { name: String::new(), objects, settings, facts: json!({ "policy": policy }) }
}

fn voting_set(random: &mut Rng) -> Value {
    let image = one(random, &["zookeeper:3.9", "quay.io/coreos/etcd:v3.5.21", "example.com/shop:1", "minio/minio"]);
    let labels = json!({ "app": "zk", "tier": "db" });
    let selector = one(
        random,
        &[
            json!({ "matchLabels": { "app": "zk" } }),
            json!({ "matchLabels": { "app": "zk", "tier": "db" } }),
            json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["zk", "kafka"] }] }),
            json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }, { "key": "x", "operator": "NotIn", "values": ["1"] }] }),
        ],
    );
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "zk", "namespace": "default" },
        "spec": {
            "serviceName": "zk", "selector": selector,
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "zk", "image": image }] } },
        },
    });
    put(random, &mut set["spec"], "podManagementPolicy", &[Value::Null, json!("Parallel")]);
    let annotation = json!({ "quorate.dev/quorum": "majority" });
    put(random, &mut set["metadata"], "annotations", &[Value::Null, Value::Null, annotation]);
    set
}

/// A set with any count.
fn count(random: &mut Rng) -> (Value, Value) {
    let mut set = voting_set(random);
    set["spec"]["replicas"] = random.i64(0..=8).into();
    if chance(random, 10) {
        set["spec"]["replicas"] = Value::Null;
    }
    let settings =
        [json!({}), json!({ "max": 3 }), json!({ "max": 5 }), json!({ "min": 5 }), json!({ "unknown": "none" })];
    (set, one(random, &settings).unwrap_or_default())
}

/// A set whose members are kept apart more or less.
fn apart(random: &mut Rng) -> (Value, Value) {
    let mut set = voting_set(random);
    set["spec"]["replicas"] = random.i64(1..=6).into();
    let spec = &mut set["spec"]["template"]["spec"];
    let term = |key: &str, labels: Value| json!({ "topologyKey": key, "labelSelector": { "matchLabels": labels } });
    let (node, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    let sound = term(node, json!({ "app": "zk" }));
    let terms = [
        json!([]),
        json!([term(node, json!({ "app": "other" }))]),
        json!([term("example.com/rack", json!({ "app": "zk" }))]),
        json!([{ "topologyKey": node }]),
        json!([term(zone, json!({ "app": "zk" }))]),
        json!([sound]),
    ];
    let wishes = [Value::Null, Value::Null, json!([{ "weight": 100, "podAffinityTerm": sound }])];
    let mut anti = json!({});
    put(random, &mut anti, "requiredDuringSchedulingIgnoredDuringExecution", &terms);
    put(random, &mut anti, "preferredDuringSchedulingIgnoredDuringExecution", &wishes);
    let affinities = [Value::Null, json!({}), json!({ "podAntiAffinity": anti }), json!({ "podAntiAffinity": anti })];
    put(random, spec, "affinity", &affinities);
    if chance(random, 40) {
        let mut constraint = json!({
            "topologyKey": one(random, &[node, zone]), "maxSkew": random.i64(1..=2),
            "whenUnsatisfiable": one(random, &["DoNotSchedule", "ScheduleAnyway"]),
            "labelSelector": { "matchLabels": { "app": "zk" } },
        });
        if constraint["whenUnsatisfiable"] == "DoNotSchedule" {
            put(random, &mut constraint, "minDomains", &[Value::Null, json!(2), json!(3)]);
        }
        spec["topologySpreadConstraints"] = json!([constraint]);
    }
    if chance(random, 20) {
        spec["nodeName"] = "node-1".into();
    }
    if chance(random, 10) {
        spec["hostNetwork"] = true.into();
    }
    let settings = [
        json!({}),
        json!({}),
        json!({ "zones": "require" }),
        json!({ "require": "preferred" }),
        json!({ "zones": "warn" }),
    ];
    (set, one(random, &settings).unwrap_or_default())
}

/// A pod, or what makes pods, with users and the rest of the standard.
fn users_of(random: &mut Rng) -> (Value, Value) {
    let pod = if random.bool() { users(random) } else { generated_pod(random) };
    let object = if random.bool() && pod["spec"]["os"].is_null() { owner(random, &pod) } else { pod };
    let settings = [
        json!({}),
        json!({ "runAsUser": 1000 }),
        json!({ "profile": "restricted" }),
        json!({ "profile": "restricted", "runAsUser": 65534 }),
        json!({ "profile": "restricted", "hostUsersRelaxes": false }),
    ];
    (object, one(random, &settings).unwrap_or_default())
}

/// A pod, or what makes pods, with resources.
fn resources(random: &mut Rng) -> (Value, Value) {
    let subject = validity::objects::generate(random, false);
    let with_defaults =
        json!({ "cpu": { "defaultRequest": "100m" }, "memory": { "default": "2Gi", "defaultRequest": "1Gi" } });
    let settings = [
        with_defaults.clone(),
        with_defaults,
        json!({ "memory": { "default": "1Gi" }, "cpu": { "limits": "required", "default": "1" } }),
        json!({ "qos": "guaranteed", "memory": { "default": "1Gi" }, "cpu": { "default": "500m" } }),
        json!({
            "memory": { "default": "512Mi", "min": "64Mi", "max": "8Gi" }, "cpu": { "defaultRequest": 0.25 },
            "ephemeralStorage": { "requests": "required", "limits": "required", "default": "10Gi", "defaultRequest": "1G" },
        }),
    ];
    (subject.objects.into_iter().next().unwrap_or_default(), one(random, &settings).unwrap_or_default())
}
