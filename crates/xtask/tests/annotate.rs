//! `cargo xtask annotate`, run as a person runs it, in a workspace of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const METADATA: &str = "rules: []\nmutating: false\nannotations: { io.kubewarden.policy.severity: high }\n";
const MODULE: &str = "target/wasm32-wasip1/guest/odd_one.wasm";
const ANNOTATED: &str = "target/policies/odd-one.wasm";

/// A module with `padding` bytes of ballast.
fn module(padding: usize) -> std::io::Result<Vec<u8>> {
    let text = format!(
        r#"(module
            (memory (export "memory") 9)
            (func (export "__guest_call") (param i32 i32) (result i32) i32.const 1)
            (func (export "wapc_init"))
            (data (i32.const 0) "{}"))"#,
        "x".repeat(padding)
    );
    wat::parse_str(text).map_err(std::io::Error::other)
}

/// A workspace with the policy `odd-one`, built.
fn workspace() -> std::io::Result<TempDir> {
    let folder = TempDir::new()?;
    let files: [(&str, &[u8]); 7] = [
        (
            "Cargo.toml",
            b"[workspace]\nmembers = [\"policies/*\", \"crates/*\"]\nresolver = \"3\"\n[workspace.package]\nversion = \"1.2.3\"\n\
              license = \"Apache-2.0\"\nrepository = \"https://github.com/owner/name\"\n",
        ),
        (
            "policies/odd-one/Cargo.toml",
            b"[package]\nname = \"odd-one\"\ndescription = \"Members are odd.\"\nversion.workspace = true\nlicense.workspace = true\nrepository.workspace = true\n",
        ),
        ("policies/odd-one/src/lib.rs", b""),
        ("policies/odd-one/metadata.yml", METADATA.as_bytes()),
        ("policies/odd-one/README.md", b"# odd-one\n"),
        ("crates/kit/Cargo.toml", b"[package]\nname = \"kit\"\n"),
        ("crates/kit/src/lib.rs", b""),
    ];
    for (file, content) in files {
        write(&folder, file, content)?;
    }
    write(&folder, MODULE, &module(0)?)?;
    Ok(folder)
}

fn write(folder: &TempDir, file: &str, content: &[u8]) -> std::io::Result<()> {
    let file = folder.path().join(file);
    fs::create_dir_all(file.parent().unwrap_or(Path::new("")))?;
    fs::write(file, content)
}

fn xtask(folder: &TempDir, args: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .output()
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_policy_gets_what_its_folder_and_its_manifest_say() {
    let folder = workspace().unwrap();
    let (code, said, errors) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{said}");
    assert!(said.starts_with("odd-one ") && said.ends_with("KiB  target/policies/odd-one.wasm\n"), "{said}");

    let annotated = fs::read(folder.path().join(ANNOTATED)).unwrap();
    assert!(annotated.starts_with(&module(0).unwrap()));
    let annotations = annotate::read(&annotated).unwrap().unwrap().annotations.unwrap();
    let expected = [
        ("author", "The Quorate maintainers <maintainers@quorate.dev>"),
        ("description", "Members are odd."),
        ("license", "Apache-2.0"),
        ("ociUrl", "ghcr.io/owner/name/odd-one"),
        ("severity", "high"),
        ("source", "https://github.com/owner/name"),
        ("title", "odd-one"),
        ("url", "https://github.com/owner/name"),
        ("usage", "# odd-one\n"),
        ("version", "1.2.3"),
    ];
    let expected = expected.map(|(key, value)| (format!("io.kubewarden.policy.{key}"), value.to_owned()));
    assert_eq!(annotations.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_second_run_writes_nothing() {
    let folder = workspace().unwrap();
    xtask(&folder, &["annotate"]).unwrap();
    let modified = || fs::metadata(folder.path().join(ANNOTATED)).unwrap().modified().unwrap();
    let before = modified();
    let (code, said, _) = told(&xtask(&folder, &["annotate", "odd-one"]).unwrap());
    assert_eq!(code, Some(0));
    assert!(said.ends_with("(unchanged)\n"), "{said}");
    assert_eq!(modified(), before);

    write(&folder, "policies/odd-one/README.md", b"# changed\n").unwrap();
    let (_, said, _) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert!(!said.contains("unchanged"), "{said}");
    let names: Vec<_> =
        fs::read_dir(folder.path().join("target/policies")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["odd-one.wasm"]);
}

#[test]
fn the_modules_of_removed_policies_go_and_other_files_stay() {
    let folder = workspace().unwrap();
    write(&folder, "target/policies/gone.wasm", b"").unwrap();
    write(&folder, "target/policies/notes.txt", b"").unwrap();
    write(&folder, "elsewhere/gone.wasm", b"").unwrap();

    xtask(&folder, &["annotate", "odd-one"]).unwrap();
    assert!(folder.path().join("target/policies/gone.wasm").exists());
    let (code, said, _) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert_eq!(code, Some(0));
    assert!(said.contains("removed target/policies/gone.wasm"), "{said}");
    assert!(!folder.path().join("target/policies/gone.wasm").exists());
    assert!(folder.path().join("target/policies/notes.txt").exists());

    xtask(&folder, &["annotate", "--out", "elsewhere"]).unwrap();
    assert!(folder.path().join("elsewhere/gone.wasm").exists());
    assert!(folder.path().join("elsewhere/odd-one.wasm").exists());
}

#[test]
fn a_module_above_the_limit_fails_and_is_not_written() {
    let folder = workspace().unwrap();
    // The largest that fits, then one byte more.
    write(&folder, MODULE, &module(150_000).unwrap()).unwrap();
    xtask(&folder, &["annotate"]).unwrap();
    let with_150_000 = fs::read(folder.path().join(ANNOTATED)).unwrap().len();
    let fitting = 150_000 + 200 * 1024 - with_150_000;

    write(&folder, MODULE, &module(fitting).unwrap()).unwrap();
    let (code, said, errors) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(said.contains(" 200.0 KiB"), "{said}");

    fs::remove_file(folder.path().join(ANNOTATED)).unwrap();
    write(&folder, MODULE, &module(fitting + 1).unwrap()).unwrap();
    let (code, _, errors) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert_eq!((code, errors.as_str()), (Some(1), "error: odd-one: the module has 200.1 KiB, 200 are allowed\n"));
    assert!(!folder.path().join(ANNOTATED).exists());
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let cases: [(&str, Option<&[u8]>, &str); 6] = [
        (MODULE, None, "target/wasm32-wasip1/guest/odd_one.wasm is not built yet: cargo xtask modules odd-one"),
        (
            MODULE,
            Some(b"\0asm\x0d\0\x01\0"),
            "in target/wasm32-wasip1/guest/odd_one.wasm: not a WebAssembly module: it is a component",
        ),
        ("policies/odd-one/metadata.yml", None, "metadata.yml"),
        ("policies/odd-one/metadata.yml", Some(b"rules: []\nmutatin: true\n"), "policies/odd-one/metadata.yml:2:"),
        ("policies/odd-one/README.md", None, "README.md"),
        ("policies/odd-one/README.md", Some(b"\xff"), "README.md is not UTF-8"),
    ];
    for (file, content, words) in cases {
        let folder = workspace().unwrap();
        match content {
            Some(content) => write(&folder, file, content).unwrap(),
            None => fs::remove_file(folder.path().join(file)).unwrap(),
        }
        let (code, _, errors) = told(&xtask(&folder, &["annotate"]).unwrap());
        assert_eq!(code, Some(1));
        assert!(errors.starts_with("error: odd-one: ") && errors.contains(words), "{words}: {errors}");
        assert!(!folder.path().join(ANNOTATED).exists(), "{file}");
    }
}

#[test]
fn one_bad_policy_does_not_hide_another() {
    let folder = workspace().unwrap();
    let manifest = fs::read_to_string(folder.path().join("policies/odd-one/Cargo.toml")).unwrap();
    for name in ["bad-one", "worse-one"] {
        write(&folder, &format!("policies/{name}/Cargo.toml"), manifest.replace("odd-one", name).as_bytes()).unwrap();
        write(&folder, &format!("policies/{name}/src/lib.rs"), b"").unwrap();
    }
    let (code, said, errors) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert_eq!(code, Some(1));
    assert!(said.starts_with("odd-one "), "{said}");
    assert!(errors.contains("error: bad-one: ") && errors.contains("error: worse-one: "), "{errors}");
}

#[test]
fn an_unknown_name_or_a_place_without_policies_is_an_error() {
    let folder = workspace().unwrap();
    let (code, _, errors) = told(&xtask(&folder, &["annotate", "odd-on"]).unwrap());
    assert_eq!((code, errors.as_str()), (Some(1), "error: there is no policy `odd-on`; there are: odd-one\n"));

    write(&folder, "Cargo.toml", b"[workspace]\nmembers = [\"crates/*\"]\n").unwrap();
    let (code, _, errors) = told(&xtask(&folder, &["annotate"]).unwrap());
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: there is no policy in "), "{errors}");

    let nowhere = TempDir::new().unwrap();
    let (code, _, errors) = told(&xtask(&nowhere, &["annotate"]).unwrap());
    assert_eq!(code, Some(1));
    assert!(errors.contains("`cargo metadata` failed"), "{errors}");
}

#[test]
fn any_module_can_be_annotated_by_itself() {
    let folder = TempDir::new().unwrap();
    let module = module(300_000).unwrap();
    for (file, content) in [("m.yml", METADATA.as_bytes()), ("in.wasm", &module), ("USAGE.md", b"how")] {
        write(&folder, file, content).unwrap();
    }
    let args =
        ["annotate", "--metadata", "m.yml", "--wasm", "in.wasm", "--out", "made/out.wasm", "--usage", "USAGE.md"];
    let (code, said, errors) = told(&xtask(&folder, &args).unwrap());
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(said.ends_with("KiB  made/out.wasm\n"), "{said}");
    let annotated = fs::read(folder.path().join("made/out.wasm")).unwrap();
    let annotations = annotate::read(&annotated).unwrap().unwrap().annotations.unwrap();
    assert_eq!(annotations["io.kubewarden.policy.usage"], "how");
    assert_eq!(annotations.len(), 2);

    let (code, _, errors) =
        told(&xtask(&folder, &args.map(|arg| if arg == "in.wasm" { "m.yml" } else { arg })).unwrap());
    assert_eq!(
        (code, errors.as_str()),
        (Some(1), "error: in m.yml: not a WebAssembly module: it does not begin with `\\0asm`\n")
    );
}

#[test]
fn half_a_command_line_is_refused_with_code_2() {
    let folder = TempDir::new().unwrap();
    for args in [
        &["annotate", "--metadata", "m.yml"][..],
        &["annotate", "--wasm", "in.wasm", "--out", "out.wasm"],
        &["annotate", "--metadata", "m.yml", "--wasm", "in.wasm"],
        &["annotate", "--usage", "README.md"],
        &["annotate", "name", "--metadata", "m.yml", "--wasm", "in.wasm", "--out", "out.wasm"],
        &["annnotate"],
        &[],
    ] {
        let (code, _, errors) = told(&xtask(&folder, args).unwrap());
        assert_eq!(code, Some(2), "{args:?}: {errors}");
    }
}
