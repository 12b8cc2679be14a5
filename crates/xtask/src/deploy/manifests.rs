//! Plain manifests for those who use no Helm: what the chart makes of its default values.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Grants, Policy, rules, whole};
use crate::generate::{COMMAND, Derived};
use crate::yaml::Yaml;

/// Where they are.
const FOLDER: &str = "deploy/manifests";
/// The file of the grants.
const GRANTS: &str = "look-ups";

pub(super) fn derived(root: &Path, policies: &[Policy]) -> Result<Vec<Derived>> {
    let mut files = BTreeMap::new();
    files.insert(GRANTS.to_owned(), (grants(policies)?, "What the policies look up"));
    for policy in policies {
        files.insert(policy.name.clone(), (vec![resource(policy)?], "Denies nothing until `mode` is protect"));
    }
    let mut derived: Vec<Derived> = Vec::new();
    for (name, (objects, says)) in &files {
        let text: Vec<String> = objects.iter().map(|object| Yaml::from(object).to_string()).collect();
        let text = format!("# {says}. Written by {COMMAND}.\n{}", text.join("---\n"));
        derived.push(whole(root, &format!("{FOLDER}/{name}.yaml"), text));
    }
    // What is left of a policy that is gone would be installed still.
    for entry in fs::read_dir(root.join(FOLDER)).into_iter().flatten() {
        let file = entry.with_context(|| format!("cannot list {FOLDER}"))?.path();
        let is_known = file.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| files.contains_key(stem));
        if file.extension().is_some_and(|extension| extension == "yaml") && !is_known {
            derived.push(Derived { file, wanted: None });
        }
    }
    Ok(derived)
}

fn labels(name: &str, component: &str, version: &str) -> Value {
    json!({
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "quorate",
        "app.kubernetes.io/version": version,
    })
}

fn resource(policy: &Policy) -> Result<Value> {
    let name = &policy.name;
    let mut resource = json!({
        "apiVersion": "policies.kubewarden.io/v1",
        "kind": "ClusterAdmissionPolicy",
        "metadata": {
            "name": format!("quorate-{name}"),
            "labels": labels(name, "policy", &policy.version),
            "annotations": {
                "io.kubewarden.policy.severity": policy.severity()?,
                "io.kubewarden.policy.category": policy.category()?,
            },
        },
        "spec": {
            "policyServer": "default",
            "module": format!("registry://ghcr.io/quorate/quorate/{name}:v{}", policy.version),
            "mode": "monitor",
            "mutating": false,
            "failurePolicy": "Ignore",
            "backgroundAudit": policy.metadata.background_audit,
            "timeoutSeconds": 10,
            "namespaceSelector": {
                "matchExpressions": [
                    { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "kubewarden"] }
                ],
            },
            "matchConditions": match_conditions(),
            "rules": policy.metadata.rules,
            "settings": if policy.metadata.mutating { json!({ "mutate": false }) } else { json!({}) },
        },
    });
    if !policy.metadata.context_aware_resources.is_empty() {
        resource["spec"]["contextAwareResources"] = policy.look_ups();
    }
    Ok(resource)
}

/// What no policy judges is not even asked: so a policy server that is down keeps no namespace from going, nor what the garbage
/// collector takes, nor what only waits for its finalizers. The chart's templates have the same.
fn match_conditions() -> Value {
    json!([
        {
            "name": "not-who-cleans-up",
            "expression": "!(request.userInfo.username in ['system:serviceaccount:kube-system:generic-garbage-collector', 'system:serviceaccount:kube-system:namespace-controller'])",
        },
        {
            "name": "not-what-is-going",
            "expression": "request.operation == 'CREATE' || !has(oldObject.metadata.deletionTimestamp)",
        },
    ])
}

/// The role that allows what all policies look up, and its binding.
fn grants(policies: &[Policy]) -> Result<Vec<Value>> {
    let mut grants = Grants::new();
    for policy in policies {
        for (resource, verbs) in policy.grants()? {
            grants.entry(resource).or_default().extend(verbs);
        }
    }
    let version = policies.first().map_or("", |policy| policy.version.as_str());
    let name = format!("quorate-{GRANTS}");
    let metadata = json!({ "name": name, "labels": labels(GRANTS, "rbac", version) });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata,
        "rules": rules(&grants),
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": "policy-server", "namespace": "kubewarden" }],
    });
    Ok(vec![role, binding])
}
