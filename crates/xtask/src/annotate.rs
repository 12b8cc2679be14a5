//! `annotate`: writes the metadata of policies into their modules.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ::annotate::{Metadata, Package, Workspace};
use anyhow::{Context, Result, bail};

use crate::modules::GUEST;
use crate::workspace;

/// A module at most this long, in KiB, with its metadata. The API server waits for a policy, and the policy-server
/// compiles each module anew at every start: what is small is soon ready. What the guest may link keeps it possible; the
/// usual cause of more is a crate with typed Kubernetes objects.
const MODULE_LIMIT_KIB: usize = 200;

/// The annotation that `--usage` fills.
const USAGE: &str = "io.kubewarden.policy.usage";

/// Without options: all policies of the workspace, from the modules that `cargo build --profile guest` left, to
/// target/policies/NAME.wasm. With `--metadata` and `--wasm`: any one module.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The policies; all of the workspace when none is named
    #[arg(value_name = "NAME", conflicts_with_all = ["metadata", "wasm", "usage"])]
    names: Vec<String>,
    /// The folder to write to, instead of target/policies; with --wasm, the file
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// The metadata of one module that is no policy of this workspace
    #[arg(long, value_name = "FILE", requires_all = ["wasm", "out"])]
    metadata: Option<PathBuf>,
    /// That module
    #[arg(long, value_name = "FILE", requires = "metadata")]
    wasm: Option<PathBuf>,
    /// Its README, for the annotation `io.kubewarden.policy.usage`
    #[arg(long, value_name = "FILE", requires = "metadata")]
    usage: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(metadata), Some(wasm), Some(out)) = (&args.metadata, &args.wasm, &args.out) {
        return any_module(metadata, wasm, args.usage.as_deref(), out);
    }
    let workspace = workspace::find()?;
    let policies = workspace::select(&workspace, &args.names)?;
    let out = args.out.clone().unwrap_or_else(|| workspace.target.join("policies"));
    if args.out.is_none() && args.names.is_empty() {
        remove_strangers(&out, &workspace)?;
    }

    let mut failures = Vec::new();
    for policy in policies {
        if let Err(error) = policy_of_workspace(&workspace, policy, &out) {
            failures.push(format!("{}: {error:#}", policy.name));
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\nerror: "));
    }
    Ok(())
}

impl Args {
    /// Without options but these names.
    pub(crate) fn of(names: Vec<String>) -> Self {
        Self { names, out: None, metadata: None, wasm: None, usage: None }
    }
}

fn policy_of_workspace(workspace: &Workspace, policy: &Package, out: &Path) -> Result<()> {
    let annotated = annotated(workspace, policy)?;
    let size = kib(annotated.len());
    if annotated.len() > MODULE_LIMIT_KIB * 1024 {
        bail!("the module has {size} KiB, {MODULE_LIMIT_KIB} are allowed");
    }
    let file = out.join(format!("{}.wasm", policy.name));
    let note = if write_if_changed(&file, &annotated)? { "" } else { "  (unchanged)" };
    println!("{:<24}{size:>6} KiB  {}{note}", policy.name, shown(&file, workspace));
    Ok(())
}

/// The module that Cargo left, with its metadata.
pub(crate) fn annotated(workspace: &Workspace, policy: &Package) -> Result<Vec<u8>> {
    let built = workspace.target.join(GUEST).join("guest").join(policy.module_file());
    let wasm = match fs::read(&built) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{} is not built yet: cargo xtask modules {}", shown(&built, workspace), policy.name)
        }
        read => read.with_context(|| format!("cannot read {}", shown(&built, workspace)))?,
    };
    let source = policy.folder.join("metadata.yml");
    let facts = policy.facts(read_text(&policy.folder.join("README.md"))?);
    let metadata = Metadata::from_yaml(&shown(&source, workspace), &read(&source)?, &facts.annotations()?)?;
    ::annotate::annotate(&wasm, &metadata).with_context(|| format!("in {}", shown(&built, workspace)))
}

fn any_module(metadata: &Path, wasm: &Path, usage: Option<&Path>, out: &Path) -> Result<()> {
    let derived = match usage {
        Some(readme) => BTreeMap::from([(USAGE.to_owned(), read_text(readme)?)]),
        None => BTreeMap::new(),
    };
    let metadata = Metadata::from_yaml(&metadata.display().to_string(), &read(metadata)?, &derived)?;
    let annotated = ::annotate::annotate(&read(wasm)?, &metadata).with_context(|| format!("in {}", wasm.display()))?;
    let note = if write_if_changed(out, &annotated)? { "" } else { "  (unchanged)" };
    println!("{:>6} KiB  {}{note}", kib(annotated.len()), out.display());
    Ok(())
}

/// Removes the modules of policies that are gone: who takes the folder as the set of policies would keep them alive.
fn remove_strangers(folder: &Path, workspace: &Workspace) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.with_context(|| format!("cannot list {}", shown(folder, workspace)))?,
    };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", shown(folder, workspace)))?.path();
        let is_module = path.extension().is_some_and(|extension| extension == "wasm");
        let is_ours =
            workspace.policies.iter().any(|policy| path.file_stem().is_some_and(|stem| *stem == *policy.name));
        if is_module && !is_ours {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", shown(&path, workspace)))?;
            println!("removed {}: there is no such policy", shown(&path, workspace));
        }
    }
    Ok(())
}

/// Leaves an equal file alone, with its time, so that what is made from it is not made again. Says whether it wrote.
fn write_if_changed(file: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(file).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    let write = || {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        // By way of a second file: half a module, left by an interruption, would look newer than its sources.
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".unfinished");
        fs::write(&unfinished, content)?;
        fs::rename(&unfinished, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn read_text(file: &Path) -> Result<String> {
    String::from_utf8(read(file)?).with_context(|| format!("{} is not UTF-8", file.display()))
}

/// Size in KiB with one decimal, rounded up, so that what is above the limit never reads as the limit.
fn kib(bytes: usize) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1024);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A path as a person in the root of the workspace would write it.
fn shown(path: &Path, workspace: &Workspace) -> String {
    path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string()
}
