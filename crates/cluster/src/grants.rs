//! What a policy may do: the host capabilities and the kinds that its administrator grants it.
//!
//! Patterns and their errors follow the host (`host_capabilities.rs` and `errors.rs` of its policy evaluator); so does an empty list,
//! which denies everything.

use serde::{Deserialize, Serialize};

/// Every operation that the host offers, besides logging, which needs no grant.
pub(crate) const OPERATIONS: [&str; 11] = [
    "crypto/v1/is_certificate_trusted",
    "kubernetes/can_i",
    "kubernetes/get_resource",
    "kubernetes/list_resources_all",
    "kubernetes/list_resources_by_namespace",
    "net/v1/dns_lookup_host",
    "oci/v1/manifest_digest",
    "oci/v1/oci_manifest",
    "oci/v1/oci_manifest_config",
    "oci/v1/verify",
    "oci/v2/verify",
];

/// A kind that a policy may look up. Compared letter by letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextAwareResource {
    /// Such as `policy/v1`.
    pub api_version: String,
    /// Such as `PodDisruptionBudget`.
    pub kind: String,
}

/// What one policy is granted. The default is nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    patterns: Vec<String>,
    context_aware: Vec<ContextAwareResource>,
}

/// Why a pattern of capabilities is refused; the texts are the host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An empty pattern.
    #[error("invalid pattern: pattern must not be empty")]
    Empty,
    /// A `*` elsewhere than as the last segment.
    #[error(
        "invalid pattern {pattern:?}: wildcard '*' must be the entire last path segment (e.g. 'oci/*'), not a partial match"
    )]
    InvalidWildcard {
        /// The pattern.
        pattern: String,
    },
    /// A segment that no operation has at this place.
    #[error("invalid pattern {pattern:?}: unknown segment {segment:?}, valid options at this level are: {valid}")]
    UnknownSegment {
        /// The pattern.
        pattern: String,
        /// Its first wrong segment.
        segment: String,
        /// What could stand there.
        valid: String,
    },
    /// A path that stops short of an operation.
    #[error(
        "invalid pattern {pattern:?}: not a complete capability path; use {suggestion:?} to allow all capabilities under it"
    )]
    Incomplete {
        /// The pattern.
        pattern: String,
        /// The pattern that was probably meant.
        suggestion: String,
    },
}

impl Grants {
    /// Grants the capabilities that `patterns` name (`*`, `kubernetes/*`, `oci/v1/*`, `kubernetes/get_resource`) and look-ups of
    /// `context_aware` kinds.
    pub fn new(
        patterns: impl IntoIterator<Item = impl AsRef<str>>,
        context_aware: impl IntoIterator<Item = ContextAwareResource>,
    ) -> Result<Self, PatternError> {
        let patterns = patterns.into_iter().map(|p| check(p.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { patterns, context_aware: context_aware.into_iter().collect() })
    }

    /// Every capability, and look-ups of these kinds: what the Kubewarden controller configures for a cluster-wide policy.
    pub fn cluster_wide(context_aware: impl IntoIterator<Item = ContextAwareResource>) -> Self {
        Self { patterns: vec!["*".to_owned()], context_aware: context_aware.into_iter().collect() }
    }

    /// Whether the capability of this path, `<namespace>/<operation>`, is granted.
    pub fn allows_capability(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => pattern == path,
        })
    }

    /// Whether look-ups of this kind are granted.
    pub fn allows_resource(&self, api_version: &str, kind: &str) -> bool {
        self.context_aware.iter().any(|granted| granted.api_version == api_version && granted.kind == kind)
    }
}

/// The pattern without blanks around it, if it is one.
fn check(pattern: &str) -> Result<String, PatternError> {
    let trimmed = pattern.trim();
    if trimmed.is_empty() {
        return Err(PatternError::Empty);
    }
    if trimmed == "*" {
        return Ok(trimmed.to_owned());
    }
    let path = trimmed.strip_suffix("/*").unwrap_or(trimmed);
    if path.contains('*') || path.is_empty() {
        return Err(PatternError::InvalidWildcard { pattern: pattern.to_owned() });
    }
    let segments: Vec<&str> = path.split('/').collect();
    for (depth, segment) in segments.iter().enumerate() {
        let before = &segments[..depth];
        let mut valid: Vec<&str> = OPERATIONS
            .iter()
            .map(|operation| operation.split('/').collect::<Vec<_>>())
            .filter(|operation| operation.len() > depth && operation.starts_with(before))
            .map(|operation| operation[depth])
            .collect();
        valid.dedup();
        if !valid.contains(segment) {
            let valid = valid.join(", ");
            return Err(PatternError::UnknownSegment {
                pattern: trimmed.to_owned(),
                segment: (*segment).to_owned(),
                valid,
            });
        }
    }
    let is_operation = OPERATIONS.contains(&path);
    match (is_operation, path == trimmed) {
        (true, true) | (false, false) => Ok(trimmed.to_owned()),
        (true, false) => {
            let (pattern, segment) = (trimmed.to_owned(), "*".to_owned());
            Err(PatternError::UnknownSegment { pattern, segment, valid: String::new() })
        }
        (false, true) => {
            Err(PatternError::Incomplete { pattern: trimmed.to_owned(), suggestion: format!("{trimmed}/*") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(patterns: &[&str]) -> Result<Grants, PatternError> {
        Grants::new(patterns, [])
    }

    #[test]
    fn nothing_is_granted_by_default() {
        for path in OPERATIONS {
            assert!(!Grants::default().allows_capability(path), "{path}");
        }
        assert!(!Grants::default().allows_resource("v1", "Pod"));
    }

    #[test]
    fn patterns_grant_what_they_name() {
        let all = grants(&["*"]).unwrap();
        assert!(OPERATIONS.iter().all(|path| all.allows_capability(path)));
        // The host does not ask whether the operation exists.
        assert!(all.allows_capability("nonsense/x"));
        let some = grants(&[" kubernetes/* ", "oci/v1/*", "net/v1/dns_lookup_host"]).unwrap();
        for path in ["kubernetes/can_i", "oci/v1/verify", "net/v1/dns_lookup_host"] {
            assert!(some.allows_capability(path), "{path}");
        }
        for path in ["oci/v2/verify", "crypto/v1/is_certificate_trusted", "net/v1/dns_lookup_hosts", "kubernetes"] {
            assert!(!some.allows_capability(path), "{path}");
        }
    }

    #[test]
    fn patterns_that_name_nothing_are_refused_in_the_hosts_words() {
        let told = |pattern: &str| grants(&[pattern]).unwrap_err().to_string();
        assert_eq!(told("  "), "invalid pattern: pattern must not be empty");
        for pattern in ["oci*", "oci/v1/oci_*", "*/v1", "oci/*/verify", "/*"] {
            assert_eq!(
                told(pattern),
                format!(
                    "invalid pattern {pattern:?}: wildcard '*' must be the entire last path segment (e.g. 'oci/*'), not a partial match"
                )
            );
        }
        assert_eq!(
            told("oci/v3/verify"),
            "invalid pattern \"oci/v3/verify\": unknown segment \"v3\", valid options at this level are: v1, v2"
        );
        assert_eq!(
            told("kube/*"),
            "invalid pattern \"kube/*\": unknown segment \"kube\", valid options at this level are: crypto, kubernetes, net, oci"
        );
        assert_eq!(
            told("kubernetes"),
            "invalid pattern \"kubernetes\": not a complete capability path; use \"kubernetes/*\" to allow all capabilities under it"
        );
        assert!(matches!(grants(&["kubernetes/can_i/*"]), Err(PatternError::UnknownSegment { .. })));
        assert!(matches!(grants(&["kubernetes/can_i/x"]), Err(PatternError::UnknownSegment { .. })));
    }

    #[test]
    fn kinds_are_granted_letter_by_letter() {
        let budget =
            ContextAwareResource { api_version: "policy/v1".to_owned(), kind: "PodDisruptionBudget".to_owned() };
        let grants = Grants::cluster_wide([budget]);
        assert!(grants.allows_resource("policy/v1", "PodDisruptionBudget"));
        assert!(!grants.allows_resource("policy/v1beta1", "PodDisruptionBudget"));
        assert!(!grants.allows_resource("policy/v1", "poddisruptionbudget"));
    }
}
