//! Webhooks, as Kubewarden's controller makes them of a ClusterAdmissionPolicy.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Where the controller and the policy server are.
pub(crate) const HOME: &str = "kubewarden";
/// What every object of ours is labelled with in tests: the case namespaces.
pub(crate) const ENTRY: &str = "e2e.quorate.dev/entry";

/// How the API server reaches the policy server.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// On loopback.
    pub(crate) port: u16,
    /// In base64, the certificate that it shows.
    pub(crate) certificate: String,
}

/// The documents of a file below the root.
pub(crate) fn documents(file: &str) -> Result<Vec<Value>> {
    let text = fs::read(corpus::root().join(file)).with_context(|| format!("cannot read {file}"))?;
    let parsed = manifest::parse(file, &text);
    if let Some(problem) = parsed.problems.first() {
        bail!("{file}:{}: {}", problem.line, problem.message);
    }
    Ok(parsed.documents.into_iter().map(|document| document.value).collect())
}

/// The ClusterAdmissionPolicy with which a policy is deployed.
pub(crate) fn deployed(policy: &str) -> Result<Value> {
    let file = format!("deploy/manifests/{policy}.yaml");
    let resource = documents(&file)?.into_iter().find(|document| document["kind"] == "ClusterAdmissionPolicy");
    resource.with_context(|| format!("{file} holds no ClusterAdmissionPolicy"))
}

/// What the policy server calls the policy of this resource.
pub(crate) fn id(resource: &Value) -> String {
    format!("clusterwide-{}", resource["metadata"]["name"].as_str().unwrap_or_default())
}

/// What the API server calls its webhook; a denial begins with it.
pub(crate) fn webhook_name(id: &str) -> String {
    format!("{id}.kubewarden.admission")
}

/// The entry of policies.yml. A cluster-wide policy is granted every capability (`policyserver_controller_configmap.go`).
pub(crate) fn entry(resource: &Value, module: &str) -> Value {
    let spec = &resource["spec"];
    let mut entry = json!({
        "module": module,
        "policyMode": spec["mode"],
        "allowedToMutate": spec["mutating"],
        "settings": spec["settings"],
        "hostCapabilities": ["*"],
    });
    if spec["contextAwareResources"].is_array() {
        entry["contextAwareResources"] = spec["contextAwareResources"].clone();
    }
    if spec["timeoutEvalSeconds"].is_number() {
        entry["timeoutEvalSeconds"] = spec["timeoutEvalSeconds"].clone();
    }
    entry
}

/// The webhook configuration (`policy_subreconciler_webhook.go`): of labels in the namespace selector only the expressions are
/// taken over, and the controller's own namespace is always left out.
pub(crate) fn configuration(resource: &Value, to: &Endpoint) -> Value {
    let (id, spec) = (id(resource), &resource["spec"]);
    let kind = if spec["mutating"] == true { "MutatingWebhookConfiguration" } else { "ValidatingWebhookConfiguration" };
    let mut expressions = spec["namespaceSelector"]["matchExpressions"].as_array().cloned().unwrap_or_default();
    expressions.push(json!({ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [HOME] }));
    let mut webhook = json!({
        "name": webhook_name(&id),
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "url": format!("https://127.0.0.1:{}/validate/{id}", to.port),
            "caBundle": to.certificate,
        },
        "sideEffects": "None",
        "namespaceSelector": { "matchExpressions": expressions },
    });
    for field in ["rules", "failurePolicy", "matchPolicy", "matchConditions", "objectSelector", "timeoutSeconds"] {
        if !spec[field].is_null() {
            webhook[field] = spec[field].clone();
        }
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": { "name": id, "labels": { "kubewarden": "true" } },
        "webhooks": [webhook],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_asks_for_what_is_deployed_and_leaves_the_server_alone() {
        let resource = deployed("odd-replicas").unwrap();
        let made = configuration(&resource, &Endpoint { port: 7, certificate: "Y2E=".to_owned() });
        let webhook = &made["webhooks"][0];
        assert_eq!(made["kind"], "ValidatingWebhookConfiguration");
        assert_eq!(webhook["clientConfig"]["url"], "https://127.0.0.1:7/validate/clusterwide-quorate-odd-replicas");
        assert_eq!(webhook["rules"], resource["spec"]["rules"]);
        assert_eq!(webhook["matchConditions"], resource["spec"]["matchConditions"]);
        assert_eq!(webhook["failurePolicy"], "Ignore", "monitor");
        let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let left_out: Vec<&Value> = expressions.iter().flat_map(|one| one["values"].as_array().unwrap()).collect();
        assert!(left_out.contains(&&json!("kube-system")) && left_out.contains(&&json!(HOME)), "{left_out:?}");
    }

    #[test]
    fn an_entry_has_the_mode_and_the_grants_of_the_resource() {
        let resource = deployed("disruption-budget").unwrap();
        let made = entry(&resource, "file:///m.wasm");
        assert_eq!(made["policyMode"], "monitor");
        assert_eq!(made["contextAwareResources"], resource["spec"]["contextAwareResources"]);
        assert_eq!(entry(&deployed("probes").unwrap(), "file:///m.wasm").get("contextAwareResources"), None);
    }
}
