//! Compares what a policy judges with what its `metadata.yml` asks the API server for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use cluster::Resources;
use policy::{Operation, Policy, Target};
use serde_json::Value;

use crate::root;

/// One operation on one resource: group, resource with its subresource, operation.
type Asked = BTreeSet<(String, String, String)>;

/// What differs between the constants of the policy and its `metadata.yml`; empty when nothing does.
pub(crate) fn differences<P: Policy>() -> String {
    let path = format!("policies/{}/metadata.yml", P::NAME);
    match fs::read(root().join(&path)) {
        Ok(text) => compare::<P>(&path, &text),
        Err(error) => format!("{path}: {error}\n"),
    }
}

/// Whether the policy's `metadata.yml` says that it mutates.
pub(crate) fn mutates(policy: &str) -> Result<bool, String> {
    let path = format!("policies/{policy}/metadata.yml");
    let text = fs::read(root().join(&path)).map_err(|error| format!("{path}: {error}"))?;
    Ok(document(&path, &text)["mutating"].as_bool().unwrap_or(false))
}

/// Whether the rules of the policy's `metadata.yml` name the kind.
pub(crate) fn names(policy: &str, api_version: &str, kind: &str) -> bool {
    let path = format!("policies/{policy}/metadata.yml");
    let Ok(text) = fs::read(root().join(&path)) else { return false };
    let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
    let resources = Resources::built_in();
    let Some(resource) = resources.served(api_version, kind) else { return false };
    asked(&document(&path, &text)).iter().any(|(own_group, own, _)| own_group == group && *own == resource.plural)
}

fn document(path: &str, text: &[u8]) -> Value {
    manifest::parse(path, text).documents.into_iter().next().map(|document| document.value).unwrap_or_default()
}

fn compare<P: Policy>(path: &str, text: &[u8]) -> String {
    let metadata = document(path, text);
    let (asked, judged) = (asked(&metadata), judged(P::TARGETS));
    let mut differences = String::new();
    // Writing to a String cannot fail.
    for (group, resource, operation) in asked.difference(&judged) {
        let _ = writeln!(differences, "{path} asks for {operation} of {resource} ({group}), which TARGETS leaves out");
    }
    for (group, resource, operation) in judged.difference(&asked) {
        let _ = writeln!(differences, "TARGETS has {operation} of {resource} ({group}), which {path} does not ask for");
    }
    for target in P::TARGETS {
        if !is_resource(target, &metadata) {
            let _ = writeln!(differences, "{} is not the resource of {}", target.resource, target.kind);
        }
    }
    if metadata["mutating"].as_bool() != Some(P::MUTATES) {
        let _ = writeln!(differences, "{path}: mutating is {}, MUTATES is {}", metadata["mutating"], P::MUTATES);
    }
    let page = metadata["annotations"]["quorate.dev/findings"].as_str().unwrap_or_default();
    if page != P::FINDINGS_PAGE {
        let _ =
            writeln!(differences, "{path}: quorate.dev/findings is {page:?}, FINDINGS_PAGE is {:?}", P::FINDINGS_PAGE);
    }
    differences
}

fn asked(metadata: &Value) -> Asked {
    let mut asked = Asked::new();
    for rule in metadata["rules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for operation in texts(&rule["operations"]) {
                    asked.insert((group.to_owned(), resource.to_owned(), operation.to_owned()));
                }
            }
        }
    }
    asked
}

fn judged(targets: &[Target]) -> Asked {
    let mut judged = Asked::new();
    for Target { group, resource, subresource, operations, .. } in targets {
        let resource = match subresource {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => (*resource).to_owned(),
        };
        for operation in operations.iter().copied().map(Operation::as_str) {
            judged.insert(((*group).to_owned(), resource.clone(), operation.to_owned()));
        }
    }
    judged
}

/// Whether the kind is served, in some version that the metadata names, as the resource.
fn is_resource(target: &Target, metadata: &Value) -> bool {
    let resources = Resources::built_in();
    let rules = metadata["rules"].as_array().into_iter().flatten();
    rules.flat_map(|rule| texts(&rule["apiVersions"])).any(|version| {
        let api_version = cluster::resources::join_api_version(target.group, version);
        resources.served(&api_version, target.kind).is_some_and(|served| served.plural == target.resource)
    })
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use policy::{Fault, Finding, Review, Settings};
    use workload::Malformed;

    use super::*;

    struct Example;

    impl Policy for Example {
        const NAME: &'static str = "example";
        const TARGETS: &'static [Target] = &[
            Target {
                group: "apps",
                kind: "StatefulSet",
                resource: "statefulsets",
                subresource: None,
                operations: &[Operation::Create],
            },
            Target {
                group: "apps",
                kind: "StatefulSet",
                resource: "statefulsets",
                subresource: Some("scale"),
                operations: &[Operation::Update],
            },
        ];

        fn read(_settings: &mut Settings<'_>) -> Result<Self, Malformed> {
            Ok(Self)
        }

        fn judge(&self, _review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
            Ok(Vec::new())
        }
    }

    fn metadata(resource: &str, operation: &str, mutating: bool) -> String {
        format!(
            "rules:\n- {{ apiGroups: [apps], apiVersions: [v1], resources: [{resource}], operations: [{operation}] }}\n\
             - {{ apiGroups: [apps], apiVersions: [v1], resources: [statefulsets/scale], operations: [UPDATE] }}\n\
             mutating: {mutating}\n"
        )
    }

    fn compared(text: &str) -> String {
        compare::<Example>("m.yml", text.as_bytes())
    }

    #[test]
    fn what_agrees_is_not_told() {
        assert_eq!(compared(&metadata("statefulsets", "CREATE", false)), "");
    }

    #[test]
    fn each_difference_is_told() {
        assert_eq!(
            compared(&metadata("statefulsets", "DELETE", true)),
            "m.yml asks for DELETE of statefulsets (apps), which TARGETS leaves out\n\
             TARGETS has CREATE of statefulsets (apps), which m.yml does not ask for\n\
             m.yml: mutating is true, MUTATES is false\n"
        );
        assert_eq!(
            compared("mutating: false").lines().last(),
            Some("statefulsets is not the resource of StatefulSet"),
            "no version is named, so that none serves it"
        );
    }
}
