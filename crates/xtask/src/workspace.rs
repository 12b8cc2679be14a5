//! Finds the workspace and its policies. Cargo is asked, so that inherited fields and a moved target folder are right.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use ::annotate::{Package, Workspace};
use anyhow::{Context, Result, bail};

/// The Cargo to call. It names itself to what it runs; a plain `cargo` serves when xtask is started by hand.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What Cargo knows about the packages of the workspace around the current folder, as JSON.
pub(crate) fn described() -> Result<Vec<u8>> {
    described_in(Path::new("."))
}

fn described_in(folder: &Path) -> Result<Vec<u8>> {
    let output = Command::new(cargo())
        .current_dir(folder)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .context("cannot start cargo, which describes the workspace")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}

/// The workspace around the current folder.
pub(crate) fn find() -> Result<Workspace> {
    Ok(Workspace::from_cargo_metadata(&described()?)?)
}

/// The workspace in another folder.
pub(crate) fn at(folder: &Path) -> Result<Workspace> {
    Ok(Workspace::from_cargo_metadata(&described_in(folder)?)?)
}

/// The policies of these names; all when there are none.
pub(crate) fn select<'a>(workspace: &'a Workspace, names: &[String]) -> Result<Vec<&'a Package>> {
    if names.is_empty() {
        if workspace.policies.is_empty() {
            bail!("there is no policy in {}", workspace.root.join("policies").display());
        }
        return Ok(workspace.policies.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            workspace.policies.iter().find(|policy| policy.name == *name).with_context(|| {
                let known: Vec<_> = workspace.policies.iter().map(|policy| policy.name.as_str()).collect();
                format!("there is no policy `{name}`; there are: {}", known.join(", "))
            })
        })
        .collect()
}
