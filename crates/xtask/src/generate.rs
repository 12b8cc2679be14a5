//! `generate`: what is derived from other files, so that each fact has one source.
//!
//! That is the README's table of policies, from the manifest and the `metadata.yml` of each; the shared part of each
//! `questions-ui.yml`; the packages for Artifact Hub; and what is installed, in `deploy/`. The page of the catalogue, docs/catalogue.md, belongs to `crates/workload`,
//! whose test compares and rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ::annotate::{Metadata, Package, Workspace};
use anyhow::{Context, Result, bail};

use crate::{artifacthub, deploy, questions, workspace};

/// What writes the files anew.
pub(crate) const COMMAND: &str = "cargo xtask generate";
/// The lines between which the table stands.
pub(crate) const MARKS: (&str, &str) = ("<!-- policies:begin -->", "<!-- policies:end -->");

/// Writes what is derived: the README's table of policies, the shared questions of each policy, the packages for Artifact Hub,
/// the chart and the manifests.
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
    let files = derived(&workspace)?;
    for Derived { file, wanted } in &files {
        let name = file.strip_prefix(&workspace.root).unwrap_or(file).display();
        match (present(file)?, wanted) {
            (present, Some(wanted)) => {
                if let Some(line) = first_difference(&present.unwrap_or_default(), wanted) {
                    bail!("{name}:{line} is not what it is derived from says; run: {COMMAND}");
                }
            }
            (Some(_), None) => bail!("{name} is there, and what it is derived from is not; run: {COMMAND}"),
            (None, None) => {}
        }
    }
    println!("{} files are as derived", files.len());
    Ok(())
}

/// Writes what is not as it is derived.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    put(workspace, derived(workspace)?)
}

/// Writes those files that are not as they must be, and removes those that must not be.
pub(crate) fn put(workspace: &Workspace, files: Vec<Derived>) -> Result<()> {
    let (count, mut changed) = (files.len(), 0);
    for Derived { file, wanted } in files {
        let name = file.strip_prefix(&workspace.root).unwrap_or(&file).display();
        let present = present(&file)?;
        if present == wanted {
            continue;
        }
        changed += 1;
        let folder = file.parent().with_context(|| format!("{name} is in no folder"))?;
        if let Some(wanted) = wanted {
            let write = || {
                fs::create_dir_all(folder)?;
                fs::write(&file, wanted)
            };
            write().with_context(|| format!("cannot write {name}"))?;
            println!("wrote {name}");
        } else {
            fs::remove_file(&file).with_context(|| format!("cannot remove {name}"))?;
            // With its last file the folder goes; what else somebody put there stays, and so does the folder.
            if fs::remove_dir(folder).is_err() {
                println!("removed {name}; something else is in its folder");
            } else {
                println!("removed {name} and its folder");
            }
        }
    }
    if changed == 0 {
        println!("{count} files are as derived");
    }
    Ok(())
}

/// A file as it must be.
pub(crate) struct Derived {
    pub(crate) file: PathBuf,
    /// What must be in it; `None` where it must not be.
    pub(crate) wanted: Option<String>,
}

/// The text of a file; `None` where there is none.
fn present(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn derived(workspace: &Workspace) -> Result<Vec<Derived>> {
    let readme = workspace.root.join("README.md");
    let text = fs::read_to_string(&readme).context("cannot read README.md")?;
    let mut files =
        vec![Derived { file: readme, wanted: Some(between("README.md", MARKS, &text, &table(workspace)?)?) }];
    let questions = questions(workspace)?;
    for policy in &workspace.policies {
        let file = policy.folder.join("questions-ui.yml");
        files.push(Derived { file, wanted: questions.get(&policy.name).cloned() });
    }
    files.extend(artifacthub::derived(workspace, &questions)?);
    files.extend(deploy::derived(workspace, &questions)?);
    Ok(files)
}

/// The `questions-ui.yml` of each policy, as it must be.
pub(crate) fn questions(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for policy in &workspace.policies {
        let name = format!("policies/{}/questions-ui.yml", policy.name);
        let present = fs::read_to_string(policy.folder.join("questions-ui.yml"))
            .with_context(|| format!("cannot read {name}"))?;
        let mutates = metadata(policy, &BTreeMap::new())?.mutating;
        all.insert(policy.name.clone(), questions::complete(&present, mutates).context(name)?);
    }
    Ok(all)
}

/// The metadata of a policy, with these annotations besides.
pub(crate) fn metadata(policy: &Package, annotations: &BTreeMap<String, String>) -> Result<Metadata> {
    let name = format!("policies/{}/metadata.yml", policy.name);
    let text = fs::read(policy.folder.join("metadata.yml")).with_context(|| format!("cannot read {name}"))?;
    Ok(Metadata::from_yaml(&name, &text, annotations)?)
}

/// The text of the file with another part between the marks.
pub(crate) fn between(file: &str, (begin, end): (&str, &str), text: &str, part: &str) -> Result<String> {
    let marks = |mark: &str| text.match_indices(mark).map(|(at, _)| at).collect::<Vec<_>>();
    match (marks(begin).as_slice(), marks(end).as_slice()) {
        ([at], [to]) if at < to => Ok(format!("{}{begin}\n{part}{}", &text[..*at], &text[*to..])),
        _ => bail!("{file} must have `{begin}` and, behind it, `{end}` once each: the policies go between"),
    }
}

/// One row for each policy.
fn table(workspace: &Workspace) -> Result<String> {
    let mut table = "| policy | what it asks | looks at |\n|---|---|---|\n".to_owned();
    for policy in &workspace.policies {
        let name = &policy.name;
        let metadata = metadata(policy, &BTreeMap::new())?;
        let kinds = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get("io.artifacthub.resources"))
            .with_context(|| format!("policies/{name}/metadata.yml: io.artifacthub.resources is missing"))?;
        let asks = policy.description.trim();
        if asks.is_empty() || asks.contains(['|', '\n']) {
            bail!("policies/{name}/Cargo.toml: the description must be one line of text without `|`");
        }
        let asks = asks.strip_suffix('.').unwrap_or(asks);
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| [`{name}`](policies/{name}/README.md) | {asks} | {kinds} |");
    }
    Ok(table)
}

/// The first line, from 1, in which the texts differ.
fn first_difference(present: &str, wanted: &str) -> Option<usize> {
    if present == wanted {
        return None;
    }
    let equal = present.lines().zip(wanted.lines()).take_while(|(present, wanted)| present == wanted).count();
    Some(equal + 1)
}
