//! `generate`: what is derived from other files, so that each fact has one source.
//!
//! So far that is the README's table of policies, from the manifest and the `metadata.yml` of each. The page of the
//! catalogue, docs/catalogue.md, belongs to `crates/workload`, whose test compares and rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use ::annotate::{Metadata, Workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace;

/// What writes the files anew.
const COMMAND: &str = "cargo xtask generate";
/// The lines between which the table stands.
const BEGIN: &str = "<!-- policies:begin -->";
const END: &str = "<!-- policies:end -->";

/// Writes the table of policies into README.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when something is not as it would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    if !args.check {
        return write(&workspace);
    }
    for Derived { file, present, wanted } in derived(&workspace)? {
        let name = file.strip_prefix(&workspace.root).unwrap_or(&file).display();
        if let Some(line) = first_difference(&present, &wanted) {
            bail!("{name}:{line} is not what it is derived from says; run: {COMMAND}");
        }
        println!("{name} is as derived");
    }
    Ok(())
}

/// Writes what is not as it is derived.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for Derived { file, present, wanted } in derived(workspace)? {
        let name = file.strip_prefix(&workspace.root).unwrap_or(&file).display();
        if present == wanted {
            println!("{name} is as derived");
        } else {
            fs::write(&file, wanted).with_context(|| format!("cannot write {name}"))?;
            println!("wrote {name}");
        }
    }
    Ok(())
}

/// A file as it is, and as it must be.
struct Derived {
    file: PathBuf,
    present: String,
    wanted: String,
}

fn derived(workspace: &Workspace) -> Result<Vec<Derived>> {
    let file = workspace.root.join("README.md");
    let present = fs::read_to_string(&file).context("cannot read README.md")?;
    let wanted = with_table(&present, &table(workspace)?)?;
    Ok(vec![Derived { file, present, wanted }])
}

/// The text with another table between the marks.
fn with_table(text: &str, table: &str) -> Result<String> {
    let marks = |mark: &str| text.match_indices(mark).map(|(at, _)| at).collect::<Vec<_>>();
    match (marks(BEGIN).as_slice(), marks(END).as_slice()) {
        ([begin], [end]) if begin < end => Ok(format!("{}{BEGIN}\n{table}{}", &text[..*begin], &text[*end..])),
        _ => {
            bail!("README.md must have `{BEGIN}` and, behind it, `{END}` once each: the table of policies goes between")
        }
    }
}

/// One row for each policy.
fn table(workspace: &Workspace) -> Result<String> {
    let descriptions = descriptions()?;
    let mut table = "| policy | what it asks | looks at |\n|---|---|---|\n".to_owned();
    for policy in &workspace.policies {
        let name = &policy.name;
        let source = policy.folder.join("metadata.yml");
        let text = fs::read(&source).with_context(|| format!("cannot read policies/{name}/metadata.yml"))?;
        let metadata = Metadata::from_yaml(&format!("policies/{name}/metadata.yml"), &text, &BTreeMap::new())?;
        let kinds = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get("io.artifacthub.resources"))
            .with_context(|| format!("policies/{name}/metadata.yml: io.artifacthub.resources is missing"))?;
        let asks = descriptions.get(name).map(String::as_str).unwrap_or_default().trim();
        if asks.is_empty() || asks.contains(['|', '\n']) {
            bail!("policies/{name}/Cargo.toml: the description must be one line of text without `|`");
        }
        let asks = asks.strip_suffix('.').unwrap_or(asks);
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| [`{name}`](policies/{name}/README.md) | {asks} | {kinds} |");
    }
    Ok(table)
}

/// The description of each package.
fn descriptions() -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Described {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        description: Option<String>,
    }
    let described: Described =
        serde_json::from_slice(&workspace::described()?).context("cannot read what `cargo metadata` printed")?;
    let text = |package: Package| (package.name, package.description.unwrap_or_default());
    Ok(described.packages.into_iter().map(text).collect())
}

/// The first line, from 1, in which the texts differ.
fn first_difference(present: &str, wanted: &str) -> Option<usize> {
    if present == wanted {
        return None;
    }
    let equal = present.lines().zip(wanted.lines()).take_while(|(present, wanted)| present == wanted).count();
    Some(equal + 1)
}
