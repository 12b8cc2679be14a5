//! Keeps out of a module where its sources were: a panic tells its place in them, and for a dependency that is a file below the
//! home of Cargo. The same sources shall give the same bytes for everybody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::problem::Error;

/// What the folders of dependencies are called in a module, on every machine.
const NEUTRAL: &str = "/cargo";

/// A setting for `cargo build --config` that gives the folders of all dependencies one neutral name in what is built for `guest`.
/// `metadata` is what `cargo metadata --format-version 1` printed, dependencies included. What the configuration of the workspace asks
/// for besides stays: Cargo joins the lists.
///
/// Not Cargo's own `trim-paths`, which is not stable yet. The workspace needs nothing: Cargo names its files from its root.
///
/// # Errors
/// [`Error::CargoMetadata`] when it is something else, or a path is not UTF-8.
pub fn without_origin(metadata: &[u8], guest: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::CargoMetadata(reason);
    let read: Resolved = serde_json::from_slice(metadata).map_err(|reason| failed(reason.to_string()))?;
    let mut folders = BTreeSet::new();
    for package in read.packages.iter().filter(|package| package.source.is_some()) {
        // REGISTRY/NAME-VERSION/Cargo.toml
        let folder = package.manifest_path.parent().and_then(Path::parent);
        folders.insert(folder.ok_or_else(|| failed(format!("{} is in no folder", package.manifest_path.display())))?);
    }
    let mut flags = Vec::new();
    for folder in folders {
        let folder = folder.to_str().ok_or_else(|| failed(format!("{} is not UTF-8", folder.display())))?;
        flags.push(format!("--remap-path-prefix={folder}={NEUTRAL}"));
    }
    // A list of strings is written alike in JSON and TOML.
    let flags = serde_json::to_string(&flags).map_err(|reason| failed(reason.to_string()))?;
    Ok(format!("target.{guest}.rustflags={flags}"))
}

#[derive(Deserialize)]
struct Resolved {
    packages: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    /// Absent for what is in the workspace.
    source: Option<String>,
    manifest_path: PathBuf,
}
