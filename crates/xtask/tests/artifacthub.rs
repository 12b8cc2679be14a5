//! `cargo xtask artifacthub`: what Artifact Hub is told is what the sources say, and true.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const METADATA: &str = "\
rules:
- { apiGroups: [apps], apiVersions: [v1], resources: [statefulsets], operations: [CREATE] }
mutating: true
contextAwareResources: [{ apiVersion: apps/v1, kind: StatefulSet }]
annotations:
  io.artifacthub.resources: StatefulSet
  io.artifacthub.displayName: Odd one
  io.artifacthub.keywords: quorum, members
  io.kubewarden.policy.category: Security
  io.kubewarden.hidden-ui: 'true'
";
const README: &str =
    "# odd-one\n\nSee [settings](../../docs/settings.md).\n\n```yaml deny even {\"a\": 1}\n[a](b)\n```\n";
const CHANGELOG: &str = "# Changelog\n\n## 0.2.0 (not released yet; begun 2026-12-01)\n\n- Security: `odd-one` looks closer,\n  and \
                         says so.\n- `even-one` goes.\n- `odd-one`: more.\n\n## 0.1.0 (2026-11-30)\n\n- Added: the policy `odd-one`.\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn workspace(version: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let manifest = format!(
        "[package]\nname = \"odd-one\"\nversion = \"{version}\"\nedition = \"2024\"\ndescription = \"Members: odd.\"\n\
         license = \"Apache-2.0\"\nrepository = \"https://github.com/Owner/name\"\n"
    );
    for (file, content) in [
        ("Cargo.toml", "[workspace]\nmembers = [\"policies/*\"]\nresolver = \"3\"\n"),
        ("policies/odd-one/Cargo.toml", &manifest),
        ("policies/odd-one/src/lib.rs", ""),
        ("policies/odd-one/metadata.yml", METADATA),
        ("policies/odd-one/README.md", README),
        ("policies/odd-one/questions-ui.yml", "questions:\n# shared\n"),
        ("CHANGELOG.md", CHANGELOG),
    ] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    folder
}

fn xtask(folder: &Path, args: &[&str], ah: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("artifacthub").args(args).current_dir(folder);
    if !args.is_empty() {
        // No linter is found there.
        command.env("PATH", folder).env("CARGO", env!("CARGO"));
    }
    command.env("AH", ah).output().unwrap()
}

fn document(text: &[u8]) -> Value {
    let parsed = manifest::parse("package", text);
    assert!(parsed.problems.is_empty() && parsed.documents.len() == 1, "{:?}", parsed.problems);
    parsed.documents[0].value.clone()
}

/// The list that a text holds.
fn list(text: &str) -> Value {
    document(format!("list:\n{text}").as_bytes())["list"].clone()
}

fn package(folder: &Path) -> Value {
    document(&fs::read(folder.join("artifacthub/odd-one/artifacthub-pkg.yml")).unwrap())
}

#[test]
fn each_field_is_what_its_source_says() {
    let folder = workspace("0.1.0");
    let made = xtask(folder.path(), &[], "");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut package = package(folder.path());
    let annotations = package.as_object_mut().unwrap().remove("annotations").unwrap();
    let install = package.as_object_mut().unwrap().remove("install").unwrap();
    let recommended =
        |chart: &str| json!({ "url": format!("https://artifacthub.io/packages/helm/kubewarden/{chart}") });
    assert_eq!(
        package,
        json!({
            "version": "0.1.0",
            "name": "odd-one",
            "displayName": "Odd one",
            "createdAt": "2026-11-30T00:00:00Z",
            "description": "Members: odd.",
            "category": "security",
            "license": "Apache-2.0",
            "homeURL": "https://github.com/Owner/name",
            "containersImages": [{ "name": "policy", "image": "ghcr.io/owner/name/odd-one:v0.1.0" }],
            "keywords": ["quorum", "members"],
            "links": [
                { "name": "policy", "url": "https://github.com/Owner/name/releases/download/v0.1.0/odd-one.wasm" },
                { "name": "source", "url": "https://github.com/Owner/name" },
            ],
            "changes": [{ "kind": "added", "description": "The policy `odd-one`." }],
            "maintainers": [{ "name": "The Quorate maintainers", "email": "maintainers@quorate.dev" }],
            "provider": { "name": "Quorate" },
            "recommendations": [recommended("kubewarden-controller"), recommended("kubewarden-defaults")],
        })
    );
    let install = install.as_str().unwrap();
    assert!(install.starts_with("Pull the policy"), "{install}");
    for command in [
        "kwctl pull registry://ghcr.io/owner/name/odd-one:v0.1.0\n",
        "kwctl scaffold manifest --type ClusterAdmissionPolicy --allow-context-aware registry://ghcr.io/owner/name/odd-one:v0.1.0\n",
    ] {
        assert!(install.contains(&format!("```console\n{command}```\n")), "{install}");
    }
    let text = |key: &str| annotations[format!("kubewarden/{key}")].as_str().unwrap();
    assert_eq!(annotations.as_object().unwrap().len(), 6);
    assert_eq!((text("mutation"), text("resources"), text("hidden-ui")), ("true", "StatefulSet", "true"));
    let questions = fs::read(folder.path().join("policies/odd-one/questions-ui.yml")).unwrap();
    assert_eq!(questions, b"questions:\n# shared\n", "that is another's to write");
    assert!(text("questions-ui").starts_with("questions:\n# shared\n- variable: action\n"));
    assert_eq!(list(text("contextAwareResources")), json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet" }]));
    let rule = json!({ "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["statefulsets"], "operations": ["CREATE"] });
    assert_eq!(list(text("rules")), json!([rule]));
    assert_eq!(
        fs::read_to_string(folder.path().join("artifacthub/odd-one/README.md")).unwrap(),
        "# odd-one\n\nSee [settings](https://github.com/Owner/name/blob/v0.1.0/docs/settings.md).\n\n```yaml\n[a](b)\n```\n"
    );
}

#[test]
fn what_is_not_released_is_not_said_to_be() {
    let folder = workspace("0.2.0");
    assert!(xtask(folder.path(), &[], "").status.success());
    let package = package(folder.path());
    assert_eq!(package["createdAt"], "2026-12-01T00:00:00Z");
    assert_eq!((&package["prerelease"], &package["containsSecurityUpdates"]), (&json!(true), &json!(true)));
    assert_eq!(package["links"], json!([{ "name": "source", "url": "https://github.com/Owner/name" }]));
    let security = json!({ "kind": "security", "description": "`odd-one` looks closer, and says so." });
    assert_eq!(package["changes"], json!([security, { "description": "`odd-one`: more." }]));
    assert!(package["install"].as_str().unwrap().starts_with("This version is not released yet."));
    let readme = fs::read_to_string(folder.path().join("artifacthub/odd-one/README.md")).unwrap();
    assert!(readme.contains("/blob/main/docs/settings.md"), "{readme}");
}

#[test]
fn the_same_sources_give_the_same_bytes() {
    let bytes = |folder: &TempDir| {
        assert!(xtask(folder.path(), &[], "").status.success());
        fs::read(folder.path().join("artifacthub/odd-one/artifacthub-pkg.yml")).unwrap()
    };
    assert_eq!(bytes(&workspace("0.1.0")), bytes(&workspace("0.1.0")));
}

#[test]
fn the_linter_is_asked_where_there_is_one_and_named_where_there_is_none() {
    let folder = workspace("0.1.0");
    assert!(xtask(folder.path(), &[], "").status.success());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let absent = xtask(folder.path(), &["--lint"], "");
    assert_eq!(absent.status.code(), Some(0), "{}", text(&absent.stderr));
    assert!(text(&absent.stdout).starts_with("DID NOT RUN with ah,"), "{}", text(&absent.stdout));
    let required = xtask(folder.path(), &["--lint", "--require"], "");
    assert_eq!(required.status.code(), Some(1));
    assert!(text(&required.stderr).contains("ah, the linter of Artifact Hub, not found"), "{}", text(&required.stderr));
    let misnamed = xtask(folder.path(), &["--lint"], "no/such/program");
    assert_eq!(misnamed.status.code(), Some(1));
    assert!(text(&misnamed.stderr).contains("AH names no/such/program"), "{}", text(&misnamed.stderr));

    // A linter that knows its work: it refuses a folder without the package.
    if cfg!(unix) {
        let ah = folder.path().join("linter");
        fs::write(&ah, "#!/bin/sh\n[ \"$*\" = 'lint --kind kubewarden --path artifacthub' ] && [ -f artifacthub/odd-one/README.md ]\n")
            .unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&ah).status().unwrap().success());
        let ah = ah.to_str().unwrap();
        let passed = xtask(folder.path(), &["--lint"], ah);
        assert_eq!(passed.status.code(), Some(0), "{}", text(&passed.stderr));
        fs::remove_file(folder.path().join("artifacthub/odd-one/README.md")).unwrap();
        let refused = xtask(folder.path(), &["--lint"], ah);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("lint refuses what is in artifacthub/"), "{}", text(&refused.stderr));
    }
}

#[test]
fn the_packages_are_those_of_the_policies_and_of_one_owner() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let packages = names("artifacthub");
    assert_eq!(packages, names("policies"));
    let repository = document(&fs::read(root().join("artifacthub/artifacthub-repo.yml")).unwrap());
    let mut links = 0;
    for name in packages {
        let folder = root().join("artifacthub").join(&name);
        let package = document(&fs::read(folder.join("artifacthub-pkg.yml")).unwrap());
        assert_eq!(package["name"], *name);
        assert_eq!(package["maintainers"], repository["owners"], "{name}");
        // Who reads it there has no other files of ours.
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        let targets: Vec<&str> = readme.split("](").skip(1).collect();
        let is_elsewhere = |target: &&str| target.starts_with("https://") || target.starts_with('#');
        assert!(targets.iter().all(is_elsewhere), "{name}: {targets:?}");
        links += targets.len();
    }
    assert!(links > 5, "{links} links");
}
