//! `new`: writes a policy that works, with its first cases, to be edited from there.

use std::fs;
use std::path::Path;
use std::process::Command;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};

use crate::{generate, workspace};

/// What the templates call the policy.
const NAME: &str = "new-policy";
/// What the templates call the type of its settings.
const TYPE: &str = "NewPolicy";
/// What the templates call it for people.
const TITLE: &str = "New policy";

/// Longer names make image names and columns that nobody can read.
const LONGEST_NAME: usize = 40;

/// The files, with their places; `new-policy` stands for the name there too.
const FILES: [(&str, &str); 7] = [
    ("policies/new-policy/Cargo.toml", include_str!("../templates/Cargo.toml.txt")),
    ("policies/new-policy/README.md", include_str!("../templates/README.md")),
    ("policies/new-policy/metadata.yml", include_str!("../templates/metadata.yml")),
    ("policies/new-policy/questions-ui.yml", include_str!("../templates/questions-ui.yml")),
    ("policies/new-policy/src/lib.rs", include_str!("../templates/lib.rs")),
    ("test-data/new-policy/accepts-the-bound.yaml", include_str!("../templates/accepts.yaml")),
    ("test-data/new-policy/denies-below-the-bound.yaml", include_str!("../templates/denies.yaml")),
];

/// Writes policies/NAME and test-data/NAME: an example rule that works, to be replaced by yours. Nothing else needs to be
/// edited by hand.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the policy asks for, in words joined by dashes, such as `odd-replicas`
    name: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = args.name.as_str();
    let workspace = workspace::find()?;
    check_name(name, &workspace)?;

    for (path, template) in FILES {
        let path = path.replace(NAME, name);
        let file = workspace.root.join(&path);
        let text = template.replace(NAME, name).replace(TYPE, &in_camel_case(name)).replace(TITLE, &as_title(name));
        let write = || {
            fs::create_dir_all(file.parent().unwrap_or(Path::new("")))?;
            fs::write(&file, text)
        };
        write().with_context(|| format!("cannot write {path}"))?;
        println!("wrote {path}");
    }
    lock(&workspace)?;
    generate::write(&workspace::find()?)?;
    println!(
        "\nNow: replace the example rule in policies/{name}/src/lib.rs, say what it asks for in Cargo.toml, metadata.yml and\n\
         README.md, ask for its settings in questions-ui.yml, and write its cases in test-data/{name}.\n\
         `cargo test --package {name}` runs them, and compares."
    );
    Ok(())
}

/// Refuses a name that Cargo, Kubernetes or a reader would stumble over.
fn check_name(name: &str, workspace: &Workspace) -> Result<()> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !name.split('-').all(is_word) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        bail!("`{name}` is no name for a policy: it must be lower-case words joined by dashes, such as `odd-replicas`");
    }
    if name.len() > LONGEST_NAME {
        bail!("`{name}` is too long: {} characters, at most {LONGEST_NAME}", name.len());
    }
    if name.ends_with("-policy") {
        bail!("`{name}`: leave out `-policy`, everything in policies/ is one");
    }
    for folder in ["policies", "test-data", "crates"] {
        if workspace.root.join(folder).join(name).exists() {
            bail!("`{name}` is taken: there is {folder}/{name}");
        }
    }
    // `cargo test --package NAME` could not tell the two apart.
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    if lock.lines().any(|line| line == format!("name = \"{name}\"")) {
        bail!("`{name}` is taken: a crate of that name is in Cargo.lock");
    }
    Ok(())
}

/// Enters the package in Cargo.lock, so that builds with `--locked` go on.
fn lock(workspace: &Workspace) -> Result<()> {
    let output = Command::new(workspace::cargo())
        .args(["update", "--workspace", "--offline", "--quiet"])
        .current_dir(&workspace.root)
        .output()
        .context("cannot start cargo, which writes Cargo.lock")?;
    if !output.status.success() {
        bail!("`cargo update --workspace` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

/// `odd-replicas` as a type: `OddReplicas`.
fn in_camel_case(name: &str) -> String {
    name.split('-').map(capitalised).collect()
}

/// `odd-replicas` as people write it: `Odd replicas`.
fn as_title(name: &str) -> String {
    capitalised(&name.replace('-', " "))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}
