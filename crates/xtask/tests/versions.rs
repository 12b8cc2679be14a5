//! `cargo xtask versions`, run as a person runs it: here, and in a workspace of its own where each version is made another in turn.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const CHANGELOG: &str =
    "# Changelog\n\n## 1.2.3 (2026-11-30)\n\n- Added: a thing.\n\n## 1.2.2 (2026-11-01)\n\n- Fixed: b.\n";
/// Every file in which a version is, and what stands there.
const FILES: [(&str, &str); 8] = [
    (
        "Cargo.toml",
        "[workspace]\nmembers = [\"policies/*\", \"crates/*\"]\nresolver = \"3\"\n[workspace.package]\nversion = \"1.2.3\"\n\
         repository = \"https://github.com/owner/name\"\n",
    ),
    (
        "policies/odd-one/Cargo.toml",
        "[package]\nname = \"odd-one\"\nedition = \"2024\"\ndescription = \"Odd.\"\nlicense = \"MIT\"\nversion.workspace = true\n\
         repository.workspace = true\n",
    ),
    ("policies/odd-one/src/lib.rs", ""),
    ("crates/kit/Cargo.toml", "[package]\nname = \"kit\"\nedition = \"2024\"\nversion = \"1.2.3\"\n"),
    ("crates/kit/src/lib.rs", ""),
    ("CHANGELOG.md", CHANGELOG),
    ("deploy/helm/quorate/Chart.yaml", "apiVersion: v2\nversion: 1.2.3\nappVersion: 1.2.3\n"),
    (
        "deploy/manifests/odd-one.yaml",
        "kind: ClusterAdmissionPolicy\nspec:\n  module: registry://ghcr.io/owner/name/odd-one:v1.2.3\n",
    ),
];
const PACKAGE: &str = "artifacthub/odd-one/artifacthub-pkg.yml";
const PACKAGE_TEXT: &str = "version: \"1.2.3\"\ncontainersImages:\n- image: ghcr.io/owner/name/odd-one:v1.2.3\n";

fn workspace() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (file, content) in FILES.into_iter().chain([(PACKAGE, PACKAGE_TEXT)]) {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    folder
}

/// Whether it succeeded, standard output, standard error.
fn versions(folder: &Path, args: &[&str]) -> (bool, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).arg("versions").args(args).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn all_that_names_the_version_here_names_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (done, _, told) = versions(&root, &[]);
    assert!(done, "{told}");
}

#[test]
fn a_tag_of_this_version_is_taken() {
    let folder = workspace();
    assert_eq!(versions(folder.path(), &[]), (true, "all say 1.2.3\n".to_owned(), String::new()));
    let (done, said, told) = versions(folder.path(), &["--tag", "v1.2.3"]);
    assert_eq!((done, said.as_str()), (true, "all say 1.2.3, the tag v1.2.3 too\n"), "{told}");
}

#[test]
fn another_version_anywhere_is_told() {
    for (file, from, to, told) in [
        ("crates/kit/Cargo.toml", "1.2.3", "1.2.4", "the package kit is 1.2.4"),
        ("Cargo.toml", "1.2.3", "1.2.2", "the package kit is 1.2.3"),
        (
            "CHANGELOG.md",
            "## 1.2.3 (",
            "## 1.3.0 (2026-12-01)\n\n- c\n\n## 1.2.3 (",
            "has `## 1.3.0 (2026-12-01)` on top",
        ),
        ("CHANGELOG.md", "## 1.2.3 (", "## 1.2.34 (", "CHANGELOG.md has no section `## 1.2.3"),
        (
            "deploy/helm/quorate/Chart.yaml",
            "\nversion: 1.2.3",
            "\nversion: 1.2.4",
            "Chart.yaml: version is 1.2.4, not 1.2.3",
        ),
        ("deploy/helm/quorate/Chart.yaml", "appVersion: 1.2.3", "", "Chart.yaml: appVersion is absent, not 1.2.3"),
        (PACKAGE, "version: \"1.2.3\"", "version: \"1.2.2\"", "artifacthub-pkg.yml: version is 1.2.2, not 1.2.3"),
        (PACKAGE, "odd-one:v1.2.3", "odd-one:1.2.3", "image is ghcr.io/owner/name/odd-one:1.2.3, not ghcr.io"),
        (
            "deploy/manifests/odd-one.yaml",
            "v1.2.3",
            "latest",
            "odd-one:latest, not registry://ghcr.io/owner/name/odd-one:v1.2.3",
        ),
    ] {
        let folder = workspace();
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold {from}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let (done, said, error) = versions(folder.path(), &[]);
        assert!(!done && error.contains(told), "{file}, {to}: {said}{error}");
    }
}

#[test]
fn a_tag_that_is_no_release_is_told() {
    let folder = workspace();
    let (done, _, told) = versions(folder.path(), &["--tag", "v1.2.4"]);
    assert!(!done && told.contains("the tag is v1.2.4, not v1.2.3"), "{told}");

    let open = CHANGELOG.replacen("(2026-11-30)", "(not released yet; begun 2026-11-20)", 1);
    fs::write(folder.path().join("CHANGELOG.md"), open).unwrap();
    assert!(versions(folder.path(), &[]).0, "between releases there is no tag");
    let (done, _, told) = versions(folder.path(), &["--tag", "v1.2.3"]);
    assert!(!done && told.contains("1.2.3 is not released yet"), "{told}");

    let empty = CHANGELOG.replacen("- Added: a thing.\n", "", 1);
    fs::write(folder.path().join("CHANGELOG.md"), empty).unwrap();
    let (done, _, told) = versions(folder.path(), &["--tag", "v1.2.3"]);
    assert!(!done && told.contains("names no change of 1.2.3"), "{told}");
}
