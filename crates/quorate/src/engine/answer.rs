//! What policies answer, as Kubewarden's SDK defines it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The answer to `validate`. A field that is missing and one that is null are both `None`; unknown fields are ignored, as the
/// host does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ValidationResponse {
    /// Whether the request may pass.
    pub accepted: bool,
    /// Why not, or a remark.
    pub message: Option<String>,
    /// An HTTP status.
    pub code: Option<u16>,
    /// The whole object as the policy wants it; null means that it wants no change.
    pub mutated_object: Option<Value>,
    /// For the audit log. Our own policies give their findings here.
    pub audit_annotations: Option<BTreeMap<String, String>>,
    /// For the user who sent the request.
    pub warnings: Option<Vec<String>>,
}

/// The answer to `validate_settings`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SettingsValidationResponse {
    /// Whether the policy can work with them.
    pub valid: bool,
    /// Why not.
    pub message: Option<String>,
}

/// The answer to `protocol_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ProtocolVersion {
    /// What every policy speaks today.
    #[serde(rename = "v1")]
    V1,
    /// The SDK has this one too; no policy is known that gives it.
    Unknown,
}
