//! Pods with all kinds of probes and resources.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::claim::Subject;
use crate::make::{chance, one, put};

const IMAGES: [&str; 6] = [
    "zookeeper:3.9",
    "quay.io/coreos/etcd:v3.5.21",
    "registry.example.com/shop:2",
    "registry.example.com/helper:1",
    "apache/kafka:4.0.0",
    "hashicorp/consul:1.20",
];

/// A subject of `probes`, or of `resource-limits`.
pub(in crate::claims) fn generate(random: &mut Rng, probes: bool) -> Subject {
    // Some pods are sound, some have one fault, some are full of them.
    let bad = one(random, &[0, 0, 0, 4, 15]).unwrap_or_default();
    let mut spec = json!({});
    for (list, most) in [("containers", 3), ("initContainers", 2)] {
        let fewest = usize::from(list == "containers");
        let count = random.usize(fewest..=most);
        let containers: Vec<Value> = (0..count)
            .map(|index| {
                let image = one(random, &IMAGES).unwrap_or_default();
                let mut container = json!({ "name": format!("{}-{index}", list.to_lowercase()), "image": image });
                let is_init = list == "initContainers";
                let is_sidecar = is_init && chance(random, 60);
                if is_sidecar {
                    container["restartPolicy"] = "Always".into();
                }
                if probes {
                    add_probes(random, &mut container, bad, is_init && !is_sidecar);
                } else {
                    add_resources(random, &mut container, bad);
                }
                container
            })
            .collect();
        if count > 0 {
            spec[list] = containers.into();
        }
    }
    if !probes && chance(random, 30) {
        add_pod_resources(random, &mut spec, bad);
    }
    if probes && chance(random, 15) {
        spec["hostNetwork"] = true.into();
    }
    let (policy, settings) =
        if probes { ("probes", probe_settings(random)) } else { ("resource-limits", resource_settings(random)) };
    let facts = json!({ "policy": policy });
    Subject { name: String::new(), objects: vec![owned(random, &spec)], settings, facts }
}

/// Puts one of the odd values into the object in so many of a hundred draws, else one of the usual.
fn either(random: &mut Rng, object: &mut Value, field: &str, percent: u32, odd: &[Value], usual: &[Value]) {
    let of = if chance(random, percent) { odd } else { usual };
    put(random, object, field, of);
}

/// A pod, or something that makes such pods.
fn owned(random: &mut Rng, spec: &Value) -> Value {
    let kind = one(random, &["Pod", "Pod", "StatefulSet", "StatefulSet", "Deployment"]).unwrap_or_default();
    if kind == "Pod" {
        return json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "member" }, "spec": spec });
    }
    let labels = json!({ "app": "zk" });
    let template = json!({ "metadata": { "labels": labels }, "spec": spec });
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": "zk" },
        "spec": { "selector": { "matchLabels": labels }, "template": template },
    })
}

fn add_probes(random: &mut Rng, container: &mut Value, bad: u32, is_plain_init: bool) {
    if chance(random, 70) {
        let mut ports = vec![json!({ "name": "client", "containerPort": 2181 })];
        if chance(random, 30) {
            ports.push(json!({ "containerPort": 9000 }));
        }
        container["ports"] = ports.into();
    }
    let has_port = container["ports"].is_array();
    for (kind, often) in [("readinessProbe", 95), ("livenessProbe", 70), ("startupProbe", 30)] {
        let often = if is_plain_init { bad.min(20) } else { often };
        if chance(random, often) {
            container[kind] = probe(random, kind, bad, has_port);
        }
    }
}

fn probe(random: &mut Rng, kind: &str, bad: u32, has_port: bool) -> Value {
    let mut probe = json!({});
    let count = if chance(random, bad) { random.usize(0..=2) } else { 1 };
    let mut kinds = vec!["exec", "httpGet", "tcpSocket", "grpc"];
    for _ in 0..count {
        let name = kinds.remove(random.usize(..kinds.len()));
        probe[name] = handler(random, name, bad, has_port);
    }
    let is_readiness = kind == "readinessProbe";
    let sound = [Value::Null, Value::Null, json!(0), json!(1), json!(5), json!(30)];
    let wrong = [json!(-1), json!(-2_147_483_648_i64), json!("5"), json!(4_294_967_296_i64), json!(2.5)];
    for field in ["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"] {
        either(random, &mut probe, field, bad / 4, &wrong, &sound);
    }
    let successes: &[Value] = if is_readiness { &sound } else { &[Value::Null, json!(0), json!(1)] };
    either(random, &mut probe, "successThreshold", bad / 2, &sound, successes);
    let grace: &[Value] = if is_readiness { &[Value::Null] } else { &[Value::Null, json!(1), json!(60)] };
    let odd = [json!(0), json!(-5), json!(30)];
    either(random, &mut probe, "terminationGracePeriodSeconds", bad / 3, &odd, grace);
    probe
}

fn handler(random: &mut Rng, name: &str, bad: u32, has_port: bool) -> Value {
    let wrong = chance(random, bad);
    let mut ports = vec![json!(2181), json!(65535)];
    if has_port && name != "grpc" {
        ports.push(json!("client"));
    }
    if wrong {
        ports = vec![
            json!(0),
            json!(65536),
            json!(-1),
            json!("9000"),
            json!("nobody"),
            json!("CLIENT"),
            json!(""),
            json!(true),
            Value::Null,
        ];
    }
    let port = one(random, &ports).unwrap_or_default();
    let mut handler = json!({ "port": port });
    match name {
        "exec" => {
            let commands =
                [json!(["true"]), json!(["sh", "-c", "echo ruok"]), json!(["curl", "http://localhost:2379/health"])];
            let odd = [json!([]), Value::Null, json!([""]), json!("true")];
            handler = json!({});
            put(random, &mut handler, "command", if wrong { &odd } else { &commands });
        }
        "httpGet" => {
            put(
                random,
                &mut handler,
                "path",
                &[Value::Null, json!(""), json!("/health"), json!("livez"), json!("/v1/status/leader")],
            );
            let schemes = [Value::Null, Value::Null, json!("HTTPS"), json!("HTTP"), json!("")];
            let odd = [json!("http"), json!("TCP")];
            either(random, &mut handler, "scheme", bad / 4, &odd, &schemes);
            let headers = [Value::Null, Value::Null, json!([]), json!([{ "name": "X-A", "value": "1" }])];
            let odd = [
                json!([{ "name": "", "value": "" }]),
                json!([{ "name": "a b", "value": "" }]),
                json!([{ "name": "a_b" }]),
            ];
            either(random, &mut handler, "httpHeaders", bad / 4, &odd, &headers);
        }
        "grpc" => put(random, &mut handler, "service", &[Value::Null, json!(""), json!("ready")]),
        _ => {}
    }
    if matches!(name, "httpGet" | "tcpSocket") && chance(random, 5) {
        handler["host"] = "127.0.0.1".into();
    }
    handler
}

fn probe_settings(random: &mut Rng) -> Value {
    let bound = |kind: &str, field: &str, min: i64, max: i64| json!({ "bounds": { kind: { field: { "min": min, "max": max } } } });
    let choices = [
        Value::Null,
        Value::Null,
        json!({ "readiness": "required", "liveness": "required", "startup": "required" }),
        json!({ "liveness": "required" }),
        json!({ "liveness": "optional", "readiness": "optional" }),
        json!({ "timeoutAbovePeriod": "deny" }),
        bound("readiness", "failureThreshold", 3, 10),
        bound("readiness", "periodSeconds", 5, 20),
        bound("readiness", "budgetSeconds", 20, 100),
        bound("readiness", "initialDelaySeconds", 1, 10),
    ];
    one(random, &choices).unwrap_or_default()
}

const CPU: [&str; 9] = ["100m", "0.1", "1", "1.5", "500m", "2", "1e-1", "4", "2k"];
const MEMORY: [&str; 9] = ["128Mi", "256Mi", "512Mi", "1Gi", "1G", "1.5Gi", "2Gi", "4Gi", "1e9"];
const STORAGE: [&str; 3] = ["1Gi", "10Gi", "5e9"];

fn add_resources(random: &mut Rng, container: &mut Value, bad: u32) {
    let mut lists = [Map::new(), Map::new()];
    for (resource, amounts) in [("cpu", &CPU[..]), ("memory", &MEMORY), ("ephemeral-storage", &STORAGE)] {
        if resource == "ephemeral-storage" && chance(random, 80) {
            continue;
        }
        // In ascending order, where nothing is wrong.
        let (low, high) = (random.usize(..=amounts.len() / 2), random.usize(amounts.len() / 2..amounts.len()));
        let mut pair = [amounts[low.min(high)], amounts[low.max(high)]];
        if chance(random, 30) || amount_order(resource, pair) {
            pair[0] = pair[1];
        }
        if chance(random, bad) {
            pair.swap(0, 1);
        }
        for (list, amount) in lists.iter_mut().zip(pair) {
            if chance(random, 90 - bad) {
                let odd = [json!("0"), json!(0), Value::Null, json!("-1"), json!("1X"), json!(true)];
                let amount =
                    if chance(random, bad / 4) { one(random, &odd).unwrap_or_default() } else { amount.into() };
                list.insert(resource.to_owned(), amount);
            }
        }
    }
    let [requests, limits] = lists;
    let mut resources = json!({ "requests": requests, "limits": limits });
    for list in ["requests", "limits"] {
        if resources[list].as_object().is_some_and(Map::is_empty) && chance(random, 70) {
            resources[list] = Value::Null;
        }
    }
    if !chance(random, bad / 2) {
        container["resources"] = resources;
    }
    if chance(random, 20) {
        let heap = one(random, &["-Xmx256m", "-Xmx512m -Xms64m", "-Xmx1g", "-Xmx3g", "-Xmx100m"]).unwrap_or_default();
        let name = one(random, &["JAVA_TOOL_OPTIONS", "KAFKA_HEAP_OPTS", "SERVER_JVMFLAGS"]).unwrap_or_default();
        container["env"] = json!([{ "name": name, "value": heap }]);
    }
}

/// Whether the first of these is more than the second: the lists are nearly in order.
fn amount_order(resource: &str, [low, high]: [&str; 2]) -> bool {
    let order = |text: &str| {
        let list = ["100m", "0.1", "1e-1", "500m", "1", "1.5", "2", "4", "2k"];
        let memory = ["128Mi", "256Mi", "512Mi", "1G", "1e9", "1Gi", "1.5Gi", "2Gi", "4Gi"];
        let storage = ["1Gi", "5e9", "10Gi"];
        let list: &[&str] = match resource {
            "cpu" => &list,
            "memory" => &memory,
            _ => &storage,
        };
        list.iter().position(|item| *item == text)
    };
    order(low) > order(high)
}

fn add_pod_resources(random: &mut Rng, spec: &mut Value, bad: u32) {
    let mut lists = [json!({}), json!({})];
    for (resource, most) in [("cpu", json!("8k")), ("memory", json!("32Gi"))] {
        for list in &mut lists {
            let odd = [json!("500m"), json!("700Mi"), json!(1), json!("0"), json!("-1")];
            if chance(random, 70) {
                list[resource] =
                    if chance(random, bad * 2) { one(random, &odd).unwrap_or_default() } else { most.clone() };
            }
        }
    }
    let [requests, limits] = lists;
    spec["resources"] = match random.u32(..6) {
        0 => json!({}),
        1 => json!({ "limits": limits }),
        2 => json!({ "requests": requests }),
        _ => json!({ "requests": requests, "limits": limits }),
    };
}

fn resource_settings(random: &mut Rng) -> Value {
    let optional = json!({ "requests": "optional", "limits": "optional" });
    let choices = [
        Value::Null,
        json!({ "cpu": optional, "memory": optional }),
        json!({ "cpu": optional, "memory": optional }),
        json!({ "cpu": optional, "memory": { "limits": "optional" } }),
        json!({ "qos": "guaranteed" }),
        json!({ "memory": { "maxLimitRequestRatio": 2 } }),
        json!({ "cpu": { "min": "200m" }, "ephemeralStorage": { "requests": "required" } }),
        json!({ "cpu": { "max": "1" } }),
        json!({ "cpu": { "default": "1", "defaultRequest": "500m", "limits": "required" }, "memory": { "default": "1Gi" } }),
    ];
    one(random, &choices).unwrap_or_default()
}
