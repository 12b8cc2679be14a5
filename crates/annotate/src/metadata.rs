//! What the section holds, in the order in which kwctl writes it.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};

/// The metadata of one policy: the content of `io.kubewarden.metadata`.
///
/// The order of the fields is the order of the keys in the section, so it must stay as it is. Reading a section ignores
/// keys that are not known, as the host does; reading a `metadata.yml` does not, see [`Metadata::from_yaml`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// How host and policy talk. Mandatory once annotated.
    pub protocol_version: Option<ProtocolVersion>,
    /// The requests that the policy wants to see.
    pub rules: Vec<Rule>,
    /// Facts for people and for audit reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Whether the policy may change the object.
    pub mutating: bool,
    /// Whether the audit scanner may run it on what is in the cluster already.
    #[serde(default = "background_audit_default")]
    pub background_audit: bool,
    /// How the host runs the module.
    #[serde(default)]
    pub execution_mode: ExecutionMode,
    /// Whether it judges Kubernetes requests or any JSON.
    #[serde(default)]
    pub policy_type: PolicyType,
    /// The kinds that the policy looks up in the cluster.
    #[serde(default)]
    pub context_aware_resources: BTreeSet<ContextAwareResource>,
    /// The host functions that the policy calls, such as `kubernetes/list_resources_by_namespace`. For readers only:
    /// the host does not compare it with anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_capabilities: Option<BTreeSet<String>>,
    /// The oldest Kubewarden that can run the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_kubewarden_version: Option<Version>,
}

const fn background_audit_default() -> bool {
    true
}

/// Which requests reach the policy; the same four lists as in a Kubernetes webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API groups; `""` is the core group, `*` is all of them.
    pub api_groups: Vec<String>,
    /// Versions, or `*`.
    pub api_versions: Vec<String>,
    /// Plurals, with or without a subresource: `pods`, `pods/exec`, `*/scale`, `*`, `*/*`.
    pub resources: Vec<String>,
    /// What is done to the object.
    pub operations: Vec<Operation>,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Somebody connects to it, as `kubectl exec` does.
    Connect,
    /// Any of these.
    #[serde(rename = "*")]
    All,
}

/// A kind that the policy looks up in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextAwareResource {
    /// Group and version, as an object writes them: `apps/v1`.
    pub api_version: String,
    /// The kind: `StatefulSet`.
    pub kind: String,
}

/// How host and policy talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtocolVersion {
    /// Not a waPC policy.
    Unknown,
    /// The only protocol there is.
    #[serde(rename = "v1")]
    V1,
}

/// How the host runs a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionMode {
    /// Through waPC: policies that use Kubewarden's SDK.
    #[default]
    #[serde(rename = "kubewarden-wapc")]
    KubewardenWapc,
    /// Rego, as Open Policy Agent compiles it.
    #[serde(rename = "opa")]
    Opa,
    /// Rego, with Gatekeeper's inputs.
    #[serde(rename = "gatekeeper")]
    Gatekeeper,
    /// A plain WASI program.
    #[serde(rename = "wasi")]
    Wasi,
}

/// What a policy judges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyType {
    /// Admission requests.
    #[default]
    Kubernetes,
    /// Any JSON.
    Raw,
}
