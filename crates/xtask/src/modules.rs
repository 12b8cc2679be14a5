//! `modules`: builds the policies for Wasm, and annotates them.
//!
//! The same commit gives the same bytes, wherever it lies and wherever Cargo keeps the dependencies (`cargo xtask reproducible` tries
//! that). So flags of the environment have no say here; those of the workspace are in `.cargo/config.toml`.

use std::path::Path;
use std::process::Command;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};

use crate::{annotate, workspace};

/// What guests are compiled to.
pub(crate) const GUEST: &str = "wasm32-wasip1";

/// What would change the code of a module.
const FLAGS: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS"];

/// Builds the policies of the workspace, and writes them with their metadata to target/policies.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The policies; all of the workspace when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    Build { workspace: &workspace, home: None, mapped: true }.run(&args.names)?;
    annotate::run(&annotate::Args::of(args.names.clone()))
}

/// How the policies of a workspace are built.
pub(crate) struct Build<'a> {
    pub(crate) workspace: &'a Workspace,
    /// Another home of Cargo than one's own.
    pub(crate) home: Option<&'a Path>,
    /// Whether the places of the sources are kept out.
    pub(crate) mapped: bool,
}

impl Build<'_> {
    /// Builds those of these names; all when there are none.
    pub(crate) fn run(&self, names: &[String]) -> Result<()> {
        let policies = workspace::select(self.workspace, names)?;
        let mut command = self.cargo();
        command.args(["build", "--profile", "guest", "--locked", "--target", GUEST]);
        command.arg("--target-dir").arg(&self.workspace.target);
        if self.mapped {
            command.arg("--config").arg(::annotate::without_origin(&self.resolved()?, GUEST)?);
        }
        for policy in policies {
            command.args(["--package", &policy.name]);
        }
        if !command.status().context("cannot start cargo")?.success() {
            bail!("the policies cannot be built for {GUEST}");
        }
        Ok(())
    }

    /// What Cargo knows about the guests and all that they depend on. It may have to fetch something first.
    pub(crate) fn resolved(&self) -> Result<Vec<u8>> {
        let mut command = self.cargo();
        command.args(["metadata", "--locked", "--filter-platform", GUEST, "--format-version", "1"]);
        let output = command.output().context("cannot start cargo, which describes the workspace")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(output.stdout)
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new(workspace::cargo());
        command.current_dir(&self.workspace.root);
        for flags in FLAGS {
            command.env_remove(flags);
        }
        if let Some(home) = self.home {
            command.env("CARGO_HOME", home);
        }
        command
    }
}
