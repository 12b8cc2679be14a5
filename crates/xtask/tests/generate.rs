//! `cargo xtask generate`, run as a person runs it, in a workspace of its own.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const METADATA: &str = "rules: []\nmutating: false\nannotations:\n  io.artifacthub.resources: StatefulSet\n  \
                        io.artifacthub.displayName: Odd one\n  io.artifacthub.keywords: quorum, members\n  \
                        io.kubewarden.policy.category: Reliability\n";
const README: &str = "# Project\n\n<!-- policies:begin -->\nold\n<!-- policies:end -->\n\nMore.\n";
const QUESTIONS: &str = "questions:\n# shared\n";
const CHANGELOG: &str = "# Changelog\n\n## 0.1.0 (2026-11-30)\n\n- The policy `odd-one`.\n";
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
    assert_eq!(
        said,
        format!("wrote README.md\nwrote {QUESTIONS_FILE}\nwrote {PACKAGE}\nwrote artifacthub/odd-one/README.md\n")
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("README.md")).unwrap(),
        "# Project\n\n<!-- policies:begin -->\n| policy | what it asks | looks at |\n|---|---|---|\n\
         | [`odd-one`](policies/odd-one/README.md) | Members are odd | StatefulSet |\n<!-- policies:end -->\n\nMore.\n"
    );
    let questions = fs::read_to_string(folder.path().join(QUESTIONS_FILE)).unwrap();
    assert!(questions.starts_with(QUESTIONS) && questions.contains("- variable: exempt\n"), "{questions}");
    let same = (Some(0), "4 files are as derived\n".to_owned(), String::new());
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
