//! `cargo xtask generate`, run as a person runs it, in a workspace of its own.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const METADATA: &str = "rules: []\nmutating: false\nannotations:\n  io.artifacthub.resources: StatefulSet\n  \
                        io.artifacthub.displayName: Odd one\n  io.artifacthub.keywords: quorum, members\n  \
                        io.kubewarden.policy.category: Reliability\n  io.kubewarden.policy.severity: high\n";
const README: &str = "# Project\n\n<!-- policies:begin -->\nold\n<!-- policies:end -->\n\nMore.\n";
const QUESTIONS: &str = "questions:\n# shared\n";
const CHANGELOG: &str = "# Changelog\n\n## 0.1.0 (2026-11-30)\n\n- The policy `odd-one`.\n";
const CHART: &str = "apiVersion: v2\nversion: 0.0.0\nappVersion: 0.0.0\n";
const VALUES: &str = "mode: monitor\npolicies:\n  # policies:begin\n  # policies:end\n";
/// What is derived to `deploy`, in this order.
const DEPLOYED: [&str; 8] = [
    "helm/quorate/Chart.yaml",
    "helm/quorate/policies.yaml",
    "helm/quorate/values.yaml",
    "helm/quorate/values.schema.json",
    "helm/quorate/README.md",
    "manifests/look-ups.yaml",
    "manifests/odd-one.yaml",
    "policy-server/policies.yml",
];
const QUESTIONS_FILE: &str = "policies/odd-one/questions-ui.yml";
const PACKAGE: &str = "artifacthub/odd-one/artifacthub-pkg.yml";

fn workspace(readme: &str, description: &str, metadata: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let manifest = format!(
        "[package]\nname = \"odd-one\"\nversion = \"0.1.0\"\nedition = \"2024\"\ndescription = \"{description}\"\n\
         license = \"MIT\"\nrepository = \"https://github.com/owner/name\"\n"
    );
    for (file, content) in [
        ("Cargo.toml", "[workspace]\nmembers = [\"policies/*\"]\nresolver = \"3\"\n"),
        ("policies/odd-one/Cargo.toml", &manifest),
        ("policies/odd-one/src/lib.rs", ""),
        ("policies/odd-one/metadata.yml", metadata),
        ("policies/odd-one/README.md", "# odd-one\n"),
        (QUESTIONS_FILE, QUESTIONS),
        ("CHANGELOG.md", CHANGELOG),
        ("deploy/helm/quorate/Chart.yaml", CHART),
        ("deploy/helm/quorate/values.yaml", VALUES),
        ("deploy/helm/quorate/README.md", README),
        ("README.md", readme),
    ] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    folder
}

/// Exit code, standard output, standard error.
fn generate(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).arg("generate").args(args).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_derived_here_is_as_derived() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (code, said, told) = generate(&root, &["--check"]);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{said}");
}

#[test]
fn all_is_written_and_then_left_alone() {
    let folder = workspace(README, "Members are odd.", METADATA);
    let (code, said, told) = generate(folder.path(), &[]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
    let deployed = DEPLOYED.map(|file| format!("wrote deploy/{file}\n")).concat();
    assert_eq!(
        said,
        format!(
            "wrote README.md\nwrote {QUESTIONS_FILE}\nwrote {PACKAGE}\nwrote artifacthub/odd-one/README.md\n{deployed}"
        )
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("README.md")).unwrap(),
        "# Project\n\n<!-- policies:begin -->\n| policy | what it asks | looks at |\n|---|---|---|\n\
         | [`odd-one`](policies/odd-one/README.md) | Members are odd | StatefulSet |\n<!-- policies:end -->\n\nMore.\n"
    );
    let questions = fs::read_to_string(folder.path().join(QUESTIONS_FILE)).unwrap();
    assert!(questions.starts_with(QUESTIONS) && questions.contains("- variable: exempt\n"), "{questions}");
    let same = (Some(0), "12 files are as derived\n".to_owned(), String::new());
    assert_eq!(generate(folder.path(), &[]), same);
    assert_eq!(generate(folder.path(), &["--check"]), same);
}

#[test]
fn a_check_names_the_line_and_the_command_and_writes_nothing() {
    let folder = workspace(README, "Members are odd.", METADATA);
    let (code, _, told) = generate(folder.path(), &["--check"]);
    assert_eq!(code, Some(1));
    assert_eq!(told, "error: README.md:4 is not what it is derived from says; run: cargo xtask generate\n");
    assert_eq!(fs::read_to_string(folder.path().join("README.md")).unwrap(), README);
    assert!(!folder.path().join("artifacthub").exists());

    generate(folder.path(), &[]);
    fs::remove_file(folder.path().join(PACKAGE)).unwrap();
    let (code, _, told) = generate(folder.path(), &["--check"]);
    assert_eq!((code, told.contains(&format!("{PACKAGE}:1 is not"))), (Some(1), true), "{told}");
}

#[test]
fn the_package_of_a_policy_that_is_gone_goes_and_what_is_not_ours_stays() {
    let folder = workspace(README, "Members are odd.", METADATA);
    for (file, content) in
        [("gone/artifacthub-pkg.yml", "a"), ("gone/README.md", "b"), ("kept/README.md", "c"), ("kept/logo.svg", "d")]
    {
        let file = folder.path().join("artifacthub").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let home = folder.path().join("artifacthub");
    fs::write(home.join("artifacthub-repo.yml"), "owners: []\n").unwrap();
    let (_, _, told) = generate(folder.path(), &["--check"]);
    assert!(told.starts_with("error: README.md:4"), "{told}");
    let (code, said, told) = generate(folder.path(), &[]);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("removed artifacthub/gone/README.md and its folder\n"), "{said}");
    assert!(said.contains("removed artifacthub/kept/README.md; something else is in its folder\n"), "{said}");
    assert!(!home.join("gone").exists() && home.join("kept/logo.svg").exists());
    assert_eq!(fs::read_to_string(home.join("artifacthub-repo.yml")).unwrap(), "owners: []\n");

    fs::write(home.join("kept/README.md"), "c").unwrap();
    let (code, _, told) = generate(folder.path(), &["--check"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("artifacthub/kept/README.md is there, and what it is derived from is not"), "{told}");
}

#[test]
fn what_nothing_can_be_made_of_is_refused() {
    let marks = "README.md must have `<!-- policies:begin -->` and, behind it, `<!-- policies:end -->` once each";
    let without = |line: &str| METADATA.split_inclusive('\n').filter(|own| !own.contains(line)).collect();
    for (readme, description, metadata, reason) in [
        ("# Project\n", "Members are odd.", METADATA.to_owned(), marks),
        ("<!-- policies:end --><!-- policies:begin -->", "Members are odd.", METADATA.to_owned(), marks),
        (README, "", METADATA.to_owned(), "policies/odd-one/Cargo.toml: the description must be one line"),
        (README, "a|b", METADATA.to_owned(), "policies/odd-one/Cargo.toml: the description must be one line"),
        (README, "Members are odd.", without("resources"), "metadata.yml: io.artifacthub.resources is missing"),
        (README, "Members are odd.", without("displayName"), "metadata.yml: io.artifacthub.displayName is missing"),
        (README, "Members are odd.", without("keywords"), "metadata.yml: io.artifacthub.keywords is missing"),
        (
            README,
            "Members are odd.",
            METADATA.replace("quorum,", "quorum, ,"),
            "io.artifacthub.keywords has an empty item",
        ),
        (README, "Members are odd.", without("severity"), "metadata.yml: io.kubewarden.policy.severity is missing"),
        (
            README,
            "Members are odd.",
            format!(
                "{METADATA}contextAwareResources: [{{ apiVersion: apps/v1, kind: StatefulSets }}]\n\
                 hostCapabilities: [kubernetes/get_resource]\n"
            ),
            "policies/odd-one/metadata.yml: Kubernetes serves no apps/v1 StatefulSets",
        ),
        (
            README,
            "Members are odd.",
            format!("{METADATA}contextAwareResources: [{{ apiVersion: apps/v1, kind: StatefulSet }}]\n"),
            "policies/odd-one/metadata.yml: nothing in hostCapabilities looks up the StatefulSet",
        ),
        (README, "Members are odd.", "rules: [".to_owned(), "policies/odd-one/metadata.yml"),
    ] {
        let folder = workspace(readme, description, &metadata);
        let (code, said, told) = generate(folder.path(), &[]);
        assert_eq!((code, said.as_str()), (Some(1), ""), "{told}");
        assert!(told.starts_with("error: ") && told.contains(reason), "{told}");
        assert_eq!(fs::read_to_string(folder.path().join("README.md")).unwrap(), readme);
    }
    for (file, content, reason) in [
        (QUESTIONS_FILE, "questions:\n", "policies/odd-one/questions-ui.yml: must have the line `# shared` once"),
        ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n", "CHANGELOG.md has no section `## 0.1.0 (YYYY-MM-DD)`"),
    ] {
        let folder = workspace(README, "Members are odd.", METADATA);
        fs::write(folder.path().join(file), content).unwrap();
        let (code, _, told) = generate(folder.path(), &[]);
        assert_eq!(code, Some(1));
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn what_is_deployed_follows_from_the_policy() {
    let looks_up = METADATA.replace("mutating: false", "mutating: true").replace(
        "rules: []",
        "rules: [{ apiGroups: [apps], apiVersions: [v1], resources: [statefulsets], operations: [CREATE] }]\n\
         contextAwareResources: [{ apiVersion: apps/v1, kind: StatefulSet }]\nhostCapabilities: [kubernetes/get_resource]",
    );
    let folder = workspace(README, "Members are odd.", &looks_up);
    let own = "questions:\n- { variable: atLeast, type: int, label: At least, group: Settings, description: How many }\n# shared\n";
    fs::write(folder.path().join(QUESTIONS_FILE), own).unwrap();
    let (code, _, told) = generate(folder.path(), &[]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
    let read = |file: &str| fs::read_to_string(folder.path().join("deploy").join(file)).unwrap();
    let has = |file: &str, lines: &[&str]| {
        let text = read(file);
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{file}: {line}\n{text}");
        }
    };
    assert_eq!(read("helm/quorate/Chart.yaml"), "apiVersion: v2\nversion: 0.1.0\nappVersion: 0.1.0\n");
    assert_eq!(
        read("helm/quorate/values.yaml"),
        "mode: monitor\npolicies:\n  # policies:begin\n  odd-one:\n    enabled: true\n    variant: validating\n    settings: {}\n  \
         # policies:end\n"
    );
    has(
        "helm/quorate/policies.yaml",
        &["  version: \"0.1.0\"", "  severity: high", "  mutates: true", "  - apiGroups:"],
    );
    has(
        "manifests/odd-one.yaml",
        &["  mode: monitor", "  module: registry://ghcr.io/quorate/quorate/odd-one:v0.1.0", "  timeoutSeconds: 10"],
    );
    has("manifests/look-ups.yaml", &["  - statefulsets", "  - get", "  name: policy-server"]);
    assert!(!read("manifests/look-ups.yaml").contains("watch"), "nothing is listed");
    has("policy-server/policies.yml", &["  module: \"file://@MODULES@/odd-one.wasm\"", "  - kubernetes/get_resource"]);

    let schema: serde_json::Value = serde_json::from_str(&read("helm/quorate/values.schema.json")).unwrap();
    let settings = &schema["definitions"]["settings.odd-one"];
    assert_eq!(settings["additionalProperties"], false);
    assert_eq!(settings["properties"]["atLeast"]["type"], serde_json::json!(["integer", "null"]));
    assert_eq!(settings["properties"]["onUpdate"]["$ref"], "#/definitions/shared.onUpdate");
    assert_eq!(settings["properties"].get("mutate"), None, "the variant decides that");
}

#[test]
fn a_manifest_of_a_policy_that_is_gone_is_told_and_removed() {
    let folder = workspace(README, "Members are odd.", METADATA);
    assert_eq!(generate(folder.path(), &[]).0, Some(0));
    let left = folder.path().join("deploy/manifests/old-one.yaml");
    fs::write(&left, "kind: ClusterAdmissionPolicy\n").unwrap();
    let (code, _, told) = generate(folder.path(), &["--check"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("deploy/manifests/old-one.yaml is there, and what it is derived from is not"), "{told}");
    assert!(generate(folder.path(), &[]).1.contains("removed deploy/manifests/old-one.yaml"));
    assert!(!left.exists());
}

/// What the questions ask for is what the policy reads: `corpus::check_policy`, the body of each policy's own test.
#[test]
fn the_chart_takes_the_settings_that_each_policy_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let schema = fs::read(root.join("deploy/helm/quorate/values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    let policies = schema["properties"]["policies"]["properties"].as_object().unwrap();
    assert_eq!(policies.len(), fs::read_dir(root.join("policies")).unwrap().count());
    for name in policies.keys() {
        let settings = &schema["definitions"][format!("settings.{name}")];
        let taken: Vec<&str> = settings["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let questions = corpus::questions::questions(name).unwrap();
        let mut read: Vec<&str> = questions.iter().map(|question| question.key.as_str()).collect();
        // The variant decides whether a policy mutates.
        read.retain(|key| *key != "mutate");
        read.sort_unstable();
        assert_eq!(taken, read, "{name}");
    }
}
