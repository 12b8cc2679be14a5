//! What the rule says of pods that a real API server was asked about.

use policy::Host;
use serde_json::{Value, json};

use crate::ResourceLimits;

/// Generated pods with all kinds of resources, each with the answer of Kubernetes 1.36.3 to a dry run: `refused`, or the
/// class of the pod.
const PODS: &str = include_str!("../tests/pods.jsonl");

/// Codes of what Kubernetes refuses.
const REFUSED: [&str; 3] = ["above-pod", "malformed", "request-above-limit"];
/// The codes of what costs a pod its class.
const OF_CLASS: [&str; 2] = ["empty-pod-resources", "not-guaranteed"];

struct Nobody;

impl Host for Nobody {
    fn call(&self, _: &str, _: &str, _: &[u8]) -> Result<Vec<u8>, String> {
        Err("this policy asks nobody".to_owned())
    }
}

fn pods() -> Vec<(String, Value)> {
    PODS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The answer about a pod with this spec, and the codes of its findings.
fn ask(spec: &Value, settings: &Value) -> (Value, Vec<String>) {
    let pods = json!({ "group": "", "version": "v1", "kind": "Pod", "resource": "pods" });
    let payload = json!({ "settings": settings, "request": {
        "operation": "CREATE", "kind": pods, "resource": pods, "userInfo": {}, "name": "x",
        "object": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" }, "spec": spec },
    } });
    let answer = policy::validate::<ResourceLimits>(payload.to_string().as_bytes(), &Nobody);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let findings = answer["audit_annotations"]["findings"].as_str().unwrap_or("[]");
    let findings: Vec<Value> = serde_json::from_str(findings).unwrap();
    let codes = findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect();
    (answer, codes)
}

fn asking_for_nothing() -> Value {
    let optional = json!({ "requests": "optional", "limits": "optional" });
    json!({ "cpu": optional, "memory": optional })
}

fn has(codes: &[String], of: &[&str]) -> bool {
    codes.iter().any(|code| of.contains(&code.as_str()))
}

#[test]
fn what_kubernetes_refuses_is_denied_and_nothing_else_is_said_to_be_refused() {
    let mut refused = 0;
    for (answer, spec) in pods() {
        let (ours, codes) = ask(&spec, &asking_for_nothing());
        if answer == "refused" {
            refused += 1;
            assert_eq!(ours["accepted"], false, "{spec}");
        } else {
            assert!(!has(&codes, &REFUSED), "{codes:?} {spec}");
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_pod_is_said_to_be_guaranteed_where_it_is() {
    let mut settings = asking_for_nothing();
    settings["qos"] = "guaranteed".into();
    let mut guaranteed = 0;
    for (answer, spec) in pods().into_iter().filter(|(answer, _)| answer != "refused") {
        let (_, codes) = ask(&spec, &settings);
        guaranteed += usize::from(answer == "Guaranteed");
        assert_eq!(!has(&codes, &OF_CLASS), answer == "Guaranteed", "{codes:?} {spec}");
    }
    assert!(guaranteed >= 5, "{guaranteed}");
}

#[test]
fn the_trap_of_empty_resources_is_told_where_containers_are_in_it() {
    let mut trapped = 0;
    for (answer, spec) in pods().into_iter().filter(|(answer, _)| answer != "refused") {
        let (_, codes) = ask(&spec, &asking_for_nothing());
        let asks = |resources: &Value| {
            let lists = resources.as_object().into_iter().flat_map(|lists| lists.values());
            lists.filter_map(Value::as_object).flatten().any(|(_, amount)| !amount.is_null() && amount != "0")
        };
        let containers =
            ["initContainers", "containers"].map(|list| spec[list].as_array().cloned().unwrap_or_default());
        let is_trap =
            answer == "BestEffort" && containers.iter().flatten().any(|container| asks(&container["resources"]));
        trapped += usize::from(is_trap);
        assert_eq!(has(&codes, &["empty-pod-resources"]), is_trap, "{codes:?} {spec}");
    }
    assert!(trapped > 10, "{trapped}");
}
