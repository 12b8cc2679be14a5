//! Which metadata the host accepts, and which webhook rules Kubernetes does.

use std::collections::HashSet;

use crate::metadata::{ExecutionMode, Metadata, Operation, ProtocolVersion, Rule};
use crate::problem::{Fault, Problem};

impl Metadata {
    /// Refuses what `kwctl annotate` refuses, and what the API server would refuse later in the webhook that
    /// Kubewarden makes of the rules.
    ///
    /// The rules on resources are those of `validateResources` in Kubernetes
    /// (pkg/apis/admissionregistration/validation/validation.go). There and in kwctl their outcome depends on the order
    /// of the list: `["*", "pods"]` and `["pods/*", "pods/exec"]` are refused, the same entries the other way round pass.
    /// Here the order makes no difference. An empty version passes in kwctl and fails in Kubernetes; here it fails.
    ///
    /// # Errors
    /// All problems, with fields as JSON Pointers and without places.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut report = |field: String, fault| problems.push(Problem { field, place: None, fault });

        match (self.protocol_version, self.execution_mode) {
            (None, _) => report("/protocolVersion".into(), Fault::Missing),
            (Some(ProtocolVersion::Unknown), ExecutionMode::KubewardenWapc) => {
                report("/protocolVersion".into(), Fault::UnknownProtocol);
            }
            _ => {}
        }
        for (i, rule) in self.rules.iter().enumerate() {
            check_rule(rule, |list, fault| report(format!("/rules/{i}/{list}"), fault));
        }
        for (i, kind) in self.context_aware_resources.iter().enumerate() {
            for (key, value) in [("apiVersion", &kind.api_version), ("kind", &kind.kind)] {
                if value.is_empty() {
                    report(format!("/contextAwareResources/{i}/{key}"), Fault::Empty);
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Reports each fault with the field below the rule.
fn check_rule(rule: &Rule, mut report: impl FnMut(String, Fault)) {
    for (list, entries) in [("apiGroups", &rule.api_groups), ("apiVersions", &rule.api_versions)] {
        if entries.is_empty() {
            report(list.into(), Fault::Empty);
        }
        if entries.len() > 1 && entries.iter().any(|entry| entry == "*") {
            report(list.into(), Fault::AsteriskNotAlone);
        }
    }
    for (i, _) in rule.api_versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        report(format!("apiVersions/{i}"), Fault::Empty);
    }
    if rule.operations.is_empty() {
        report("operations".into(), Fault::Empty);
    }
    if rule.operations.len() > 1 && rule.operations.contains(&Operation::All) {
        report("operations".into(), Fault::AsteriskNotAlone);
    }
    check_resources(&rule.resources, report);
}

fn check_resources(resources: &[String], mut report: impl FnMut(String, Fault)) {
    if resources.is_empty() {
        report("resources".into(), Fault::Empty);
    }
    if resources.len() > 1 && resources.iter().any(|entry| entry == "*/*") {
        report("resources".into(), Fault::DoubleAsteriskNotAlone);
        return;
    }
    // Looked up by text, so that the cost stays linear in a list of any length.
    let present: HashSet<&str> = resources.iter().map(String::as_str).collect();
    let mut wildcards_seen = HashSet::new();
    for (i, entry) in resources.iter().enumerate() {
        let wider = match entry.split_once('/') {
            None if entry.is_empty() => {
                report(format!("resources/{i}"), Fault::Empty);
                continue;
            }
            None if entry == "*" => continue,
            None => vec!["*".to_owned()],
            Some(("*", _) | (_, "*")) => {
                // A wildcard covers its own repetition.
                if !wildcards_seen.insert(entry) {
                    report(format!("resources/{i}"), Fault::Covered { covered: entry.clone(), by: entry.clone() });
                }
                continue;
            }
            Some((resource, subresource)) => vec![format!("{resource}/*"), format!("*/{subresource}")],
        };
        if let Some(by) = wider.into_iter().find(|wider| present.contains(wider.as_str())) {
            report(format!("resources/{i}"), Fault::Covered { covered: entry.clone(), by });
        }
    }
}
