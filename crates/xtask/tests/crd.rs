//! What is deployed, read as Kubewarden's own types, which refuse a field that they do not know.
//!
//! The plain manifests always; what Helm makes of the chart where the variable `QUORATE_RENDERED` names the folder in which
//! `cargo xtask chart` left it, as `make chart` does.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

use kubewarden_policy_sdk::crd::policies::{ClusterAdmissionPolicy, ClusterAdmissionPolicyGroup};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The resources of Kubewarden in the files of a folder.
fn resources(folder: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if !file.is_file() || file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let parsed = manifest::parse(&name, &fs::read(&file).unwrap());
        assert!(parsed.problems.is_empty(), "{name}: {:?}", parsed.problems);
        let ours = parsed.documents.into_iter().map(|document| document.value);
        let ours = ours.filter(|object| object["apiVersion"] == "policies.kubewarden.io/v1");
        found.extend(ours.map(|object| (name.clone(), object)));
    }
    found
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<(), String> {
    serde_json::from_value::<T>(object.clone()).map(drop).map_err(|error| error.to_string())
}

fn problem(object: &Value) -> Option<String> {
    match object["kind"].as_str() {
        Some("ClusterAdmissionPolicy") => read::<ClusterAdmissionPolicy>(object).err(),
        Some("ClusterAdmissionPolicyGroup") => read::<ClusterAdmissionPolicyGroup>(object).err(),
        kind => Some(format!("{kind:?} is deployed by nothing here")),
    }
}

fn check(resources: &[(String, Value)]) {
    let wrong: Vec<String> = resources
        .iter()
        .filter_map(|(file, object)| Some(format!("{file}: {}: {}", object["metadata"]["name"], problem(object)?)))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_manifests_are_what_kubewarden_reads() {
    let resources = resources(&root().join("deploy/manifests"));
    let policies = fs::read_dir(root().join("policies")).unwrap().count();
    assert_eq!(resources.len(), policies, "one for each policy");
    check(&resources);
}

#[test]
fn what_helm_rendered_is_what_kubewarden_reads() {
    let folder = std::env::var_os("QUORATE_RENDERED").map(PathBuf::from).filter(|folder| folder.is_dir());
    let Some(folder) = folder else {
        println!("DID NOT RUN: QUORATE_RENDERED names no folder; `make chart` fills one where helm is installed");
        return;
    };
    let resources = resources(&folder);
    for kind in ["ClusterAdmissionPolicy", "ClusterAdmissionPolicyGroup"] {
        assert!(resources.iter().any(|(_, object)| object["kind"] == kind), "no {kind}");
    }
    check(&resources);
}

#[test]
fn a_field_that_kubewarden_does_not_know_is_a_failure() {
    let (_, sound) = resources(&root().join("deploy/manifests")).remove(0);
    assert_eq!(problem(&sound), None);
    for (pointer, field) in [("/spec", "modes"), ("/spec", "backgroundaudit")] {
        let mut broken = sound.clone();
        broken.pointer_mut(pointer).unwrap()[field] = json!(true);
        assert!(problem(&broken).is_some_and(|problem| problem.contains(field)), "{field}");
    }
    let mut broken = sound;
    broken["spec"]["mode"] = json!("enforce");
    assert!(problem(&broken).is_some_and(|problem| problem.contains("enforce")));
}
