//! `cargo xtask generate`, run as a person runs it, in a workspace of its own.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const METADATA: &str = "rules: []\nmutating: false\nannotations: { io.artifacthub.resources: StatefulSet }\n";
const README: &str = "# Project\n\n<!-- policies:begin -->\nold\n<!-- policies:end -->\n\nMore.\n";

fn workspace(readme: &str, description: &str, metadata: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (file, content) in [
        ("Cargo.toml", "[workspace]\nmembers = [\"policies/*\"]\nresolver = \"3\"\n".to_owned()),
        (
            "policies/odd-one/Cargo.toml",
            format!(
                "[package]\nname = \"odd-one\"\nversion = \"0.1.0\"\nedition = \"2024\"\ndescription = \"{description}\"\n"
            ),
        ),
        ("policies/odd-one/src/lib.rs", String::new()),
        ("policies/odd-one/metadata.yml", metadata.to_owned()),
        ("README.md", readme.to_owned()),
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
fn the_table_is_written_between_its_marks_and_then_left_alone() {
    let folder = workspace(README, "Members are odd.", METADATA);
    assert_eq!(generate(folder.path(), &[]), (Some(0), "wrote README.md\n".to_owned(), String::new()));
    assert_eq!(
        fs::read_to_string(folder.path().join("README.md")).unwrap(),
        "# Project\n\n<!-- policies:begin -->\n| policy | what it asks | looks at |\n|---|---|---|\n\
         | [`odd-one`](policies/odd-one/README.md) | Members are odd | StatefulSet |\n<!-- policies:end -->\n\nMore.\n"
    );
    let same = (Some(0), "README.md is as derived\n".to_owned(), String::new());
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
}

#[test]
fn what_no_row_can_be_made_of_is_refused() {
    let marks = "README.md must have `<!-- policies:begin -->` and, behind it, `<!-- policies:end -->` once each";
    for (readme, description, metadata, reason) in [
        ("# Project\n", "Members are odd.", METADATA, marks),
        ("<!-- policies:end --><!-- policies:begin -->", "Members are odd.", METADATA, marks),
        (README, "", METADATA, "policies/odd-one/Cargo.toml: the description must be one line"),
        (README, "a|b", METADATA, "policies/odd-one/Cargo.toml: the description must be one line"),
        (
            README,
            "Members are odd.",
            "rules: []\nmutating: false\n",
            "metadata.yml: io.artifacthub.resources is missing",
        ),
        (README, "Members are odd.", "rules: [", "policies/odd-one/metadata.yml"),
    ] {
        let folder = workspace(readme, description, metadata);
        let (code, said, told) = generate(folder.path(), &[]);
        assert_eq!((code, said.as_str()), (Some(1), ""), "{told}");
        assert!(told.starts_with("error: ") && told.contains(reason), "{told}");
        assert_eq!(fs::read_to_string(folder.path().join("README.md")).unwrap(), readme);
    }
}
