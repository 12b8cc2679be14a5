//! `cargo xtask new`: the policy that it writes works, and nothing else needs to be edited.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What git tracks, or would track, of this workspace, in a folder of this name: always the same folder and with the
/// same times, so that Cargo finds built what was built there the last time.
fn copy(name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if copy.exists() {
        fs::remove_dir_all(&copy).unwrap();
    }
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(args).current_dir(root()).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("Cargo.toml"), "git lists no files");
    // A file may be tracked and deleted.
    for name in listed.split_terminator('\0').filter(|name| root().join(name).is_file()) {
        let to = copy.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(name), &to).unwrap();
        let modified = fs::metadata(root().join(name)).unwrap().modified().unwrap();
        fs::File::options().write(true).open(to).unwrap().set_modified(modified).unwrap();
    }
    copy
}

fn new(folder: &Path, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(["new", name]).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_new_policy_works_and_is_listed() {
    let copy = copy("new-policy-works");
    let made = new(&copy, "named-members");
    assert!(made.status.success(), "{}{}", text(&made.stdout), text(&made.stderr));

    let source = fs::read_to_string(copy.join("policies/named-members/src/lib.rs")).unwrap();
    assert!(source.contains("pub struct NamedMembers"), "{source}");
    let readme = fs::read_to_string(copy.join("README.md")).unwrap();
    assert!(readme.contains("| [`named-members`](policies/named-members/README.md) |"), "{readme}");

    // Its questions, with the shared ones, are what Artifact Hub is given.
    let questions = fs::read_to_string(copy.join("policies/named-members/questions-ui.yml")).unwrap();
    assert!(
        questions.contains("\n- variable: atLeast\n") && questions.contains("\n- variable: onUpdate\n"),
        "{questions}"
    );
    let package = fs::read_to_string(copy.join("artifacthub/named-members/artifacthub-pkg.yml")).unwrap();
    assert!(package.contains("\n    - variable: atLeast\n"), "{package}");

    // What the policy depends on was built for this test already: the same folder, the same profile.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let tested = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--locked", "--package", "named-members", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(&copy)
        .output()
        .unwrap();
    let said = text(&tested.stdout);
    assert!(tested.status.success(), "{said}{}", text(&tested.stderr));
    assert!(said.contains("every_case_is_judged_as_it_says ... ok"), "{said}");
}

#[test]
fn no_template_name_is_left() {
    let copy = copy("new-policy-names");
    let made = new(&copy, "named-members");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let said = text(&made.stdout);
    let files: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("wrote ")).collect();
    // The shared questions are added to the policy's own, which makes its file one that is written twice.
    let kinds = "five files of the policy, one of them twice, two cases, the README's table, the two of the package and six to deploy";
    assert_eq!(files.len(), 17, "{kinds}: {said}");
    for file in files {
        let is_derived = file == "README.md" || file.starts_with("deploy/");
        assert!(is_derived || file.contains("/named-members/"), "{file}");
        let written = fs::read_to_string(copy.join(file)).unwrap();
        for name in ["new-policy", "NewPolicy", "New policy"] {
            assert!(!written.contains(name), "{file} has {name}");
        }
    }
}

#[test]
fn a_bad_name_is_refused_with_the_reason() {
    let copy = copy("new-policy-refused");
    let long = "very-".repeat(9) + "long";
    for (name, reason) in [
        ("", "lower-case words joined by dashes"),
        ("Odd-Members", "lower-case words joined by dashes"),
        ("odd_members", "lower-case words joined by dashes"),
        ("odd--members", "lower-case words joined by dashes"),
        ("../odd-members", "lower-case words joined by dashes"),
        ("3-members", "lower-case words joined by dashes"),
        (&long, "too long: 49 characters, at most 40"),
        ("odd-members-policy", "leave out `-policy`"),
        ("odd-replicas", "there is policies/odd-replicas"),
        ("wapc-guest", "a crate of that name is in Cargo.lock"),
    ] {
        let refused = new(&copy, name);
        assert_eq!(refused.status.code(), Some(1), "{name}: {}", text(&refused.stdout));
        assert_eq!(text(&refused.stdout), "", "{name}");
        let said = text(&refused.stderr);
        assert!(said.starts_with("error: ") && said.contains(reason), "{name}: {said}");
    }
}
