//! The files that the hosts read.

use std::net::SocketAddr;
use std::path::PathBuf;

use annotate::Metadata;
use serde_json::{Map, Value, json};

/// One entry of policies.yml.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Absolute.
    pub(crate) module: PathBuf,
    pub(crate) metadata: Metadata,
    pub(crate) settings: Value,
    /// Whether it gets what its metadata asks for.
    pub(crate) granted: bool,
}

/// A kubeconfig for a server without TLS that lets everybody in. JSON is YAML.
pub(crate) fn kubeconfig(server: SocketAddr) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "case", "cluster": { "server": format!("http://{server}") } }],
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": [{ "name": "case", "context": { "cluster": "case", "user": "nobody" } }],
        "current-context": "case",
    })
    .to_string()
}

/// The policies.yml. JSON is YAML.
pub(crate) fn policies<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> String {
    let policies: Map<String, Value> = entries.into_iter().map(|entry| (entry.name.clone(), of_entry(entry))).collect();
    Value::Object(policies).to_string()
}

fn of_entry(entry: &Entry) -> Value {
    let mut policy = json!({
        "module": format!("file://{}", entry.module.display()),
        "policyMode": "protect",
        "allowedToMutate": entry.metadata.mutating,
        "settings": entry.settings,
    });
    if entry.granted {
        policy["contextAwareResources"] = entry
            .metadata
            .context_aware_resources
            .iter()
            .map(|resource| json!({ "apiVersion": resource.api_version, "kind": resource.kind }))
            .collect();
        // The server takes no `null` for a list that is not there.
        if let Some(capabilities) = &entry.metadata.host_capabilities {
            policy["hostCapabilities"] = json!(capabilities);
        }
    }
    policy
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const METADATA: &str = "rules:
- { apiGroups: [apps], apiVersions: [v1], resources: [statefulsets], operations: [CREATE] }
mutating: true
contextAwareResources:
- { apiVersion: apps/v1, kind: StatefulSet }
hostCapabilities: [kubernetes/get_resource]
annotations: { io.kubewarden.policy.title: x }
";

    fn entry(granted: bool) -> Value {
        entry_of(METADATA, granted)
    }

    fn entry_of(metadata: &str, granted: bool) -> Value {
        let metadata = Metadata::from_yaml("metadata.yml", metadata.as_bytes(), &BTreeMap::new()).unwrap();
        let entry =
            Entry { name: "x-0".into(), module: "/m/x.wasm".into(), metadata, settings: json!({ "a": 1 }), granted };
        let file: Value = serde_json::from_str(&policies([&entry])).unwrap();
        file["x-0"].clone()
    }

    #[test]
    fn an_entry_grants_what_the_metadata_asks_for() {
        let expected = json!({
            "module": "file:///m/x.wasm",
            "policyMode": "protect",
            "allowedToMutate": true,
            "settings": { "a": 1 },
            "contextAwareResources": [{ "apiVersion": "apps/v1", "kind": "StatefulSet" }],
            "hostCapabilities": ["kubernetes/get_resource"],
        });
        assert_eq!(entry(true), expected);
    }

    #[test]
    fn a_policy_that_looks_nothing_up_has_no_list_of_capabilities() {
        let metadata = METADATA.replace("hostCapabilities: [kubernetes/get_resource]\n", "");
        assert_eq!(entry_of(&metadata, true).get("hostCapabilities"), None, "a null would be refused");
    }

    #[test]
    fn an_entry_without_grants_names_none() {
        let entry = entry(false);
        assert_eq!(entry["module"], "file:///m/x.wasm");
        assert_eq!(entry.get("contextAwareResources"), None);
        assert_eq!(entry.get("hostCapabilities"), None);
    }

    #[test]
    fn the_kubeconfig_leads_to_the_server_without_tls() {
        let config: Value = serde_json::from_str(&kubeconfig(([127, 0, 0, 1], 8080).into())).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "http://127.0.0.1:8080");
        assert_eq!(config["contexts"][0]["name"], config["current-context"]);
        assert_eq!(config["contexts"][0]["context"]["cluster"], config["clusters"][0]["name"]);
        assert_eq!(config["contexts"][0]["context"]["user"], config["users"][0]["name"]);
    }
}
