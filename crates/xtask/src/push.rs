//! `push`: the annotated modules and the chart of target/dist into a registry, with the tools that a user has: kwctl and Helm.
//!
//! What came of it is left in target/pushed.txt, one name with its digest in each line: that is what is signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::e2e::process;
use crate::{dist, versions, workspace};

/// How long one call may take. kwctl tries to reach the Sigstore repository first, which some networks let hang.
pub(crate) const LIMIT: Duration = Duration::from_mins(5);
/// Where charts are in the registry; Helm puts the name of the chart behind it.
pub(crate) const CHARTS: &str = "charts";

/// Pushes what is in target/dist. kwctl is found by the variable KWCTL or on PATH, Helm by HELM; both read where you are logged in from
/// the configuration of Docker, and Helm from its own besides.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to: HOST/PATH. The packages for Artifact Hub name ghcr.io/quorate/quorate
    #[arg(value_name = "REGISTRY")]
    registry: String,
    /// The registry speaks HTTP, as one on loopback does
    #[arg(long)]
    plain_http: bool,
    /// Fail, before anything is pushed, when the chart cannot be
    #[arg(long)]
    require: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    let kwctl = process::find("KWCTL", "kwctl")?.context("kwctl not found; set KWCTL, or put it on PATH")?;
    let helm = process::find("HELM", "helm")?;
    let push = Push::new(&workspace, kwctl, helm, &args.registry, args.plain_http)?;
    let no_chart = "the chart: helm is not on PATH, nor named by HELM, or target/dist has no chart";
    if args.require && !push.has_chart() {
        bail!("cannot push {no_chart}");
    }
    let mut pushed = push.modules()?;
    match push.chart()? {
        Some(chart) => pushed.push(chart),
        None => println!("NOT PUSHED: {no_chart}"),
    }
    let list = workspace.target.join("pushed.txt");
    fs::write(&list, pushed.join("\n") + "\n").with_context(|| format!("cannot write {}", list.display()))?;
    println!("{} names with digests are in {}", pushed.len(), list.display());
    Ok(())
}

/// A registry, and what goes there.
pub(crate) struct Push<'a> {
    workspace: &'a Workspace,
    pub(crate) kwctl: PathBuf,
    pub(crate) helm: Option<PathBuf>,
    registry: String,
    plain_http: bool,
    pub(crate) version: String,
    pub(crate) folder: PathBuf,
    pub(crate) scratch: TempDir,
}

impl<'a> Push<'a> {
    /// Takes nothing whose checksum is wrong.
    pub(crate) fn new(
        workspace: &'a Workspace,
        kwctl: PathBuf,
        helm: Option<PathBuf>,
        registry: &str,
        plain_http: bool,
    ) -> Result<Self> {
        let folder = dist::folder(workspace);
        dist::verify(&folder)?;
        let registry = registry.trim_end_matches('/').to_owned();
        let host = registry.split('/').next().unwrap_or_default();
        if host.is_empty() || registry.contains("://") || registry != registry.to_lowercase() {
            bail!("`{registry}` is no registry: HOST/PATH is wanted, in small letters and without a scheme");
        }
        let scratch = TempDir::new()?;
        let insecure =
            if plain_http { serde_json::json!({ "insecure_sources": [host] }) } else { serde_json::json!({}) };
        fs::write(scratch.path().join(SOURCES), insecure.to_string())?;
        let version = versions::version(workspace)?;
        Ok(Self { workspace, kwctl, helm, registry, plain_http, version, folder, scratch })
    }

    /// The name of a policy in the registry.
    pub(crate) fn policy(&self, name: &str) -> String {
        format!("registry://{}/{name}:v{}", self.registry, self.version)
    }

    /// The address of the charts.
    pub(crate) fn charts(&self) -> String {
        format!("oci://{}/{CHARTS}", self.registry)
    }

    /// A call of kwctl that knows the registry.
    pub(crate) fn kwctl(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.kwctl);
        command.arg(verb).arg("--sources-path").arg(self.scratch.path().join(SOURCES)).env("NO_COLOR", "true");
        command
    }

    /// A call of Helm that knows the registry.
    pub(crate) fn helm(&self, verb: &str) -> Option<Command> {
        let mut command = Command::new(self.helm.as_ref()?);
        command.arg(verb);
        if self.plain_http {
            command.arg("--plain-http");
        }
        Some(command)
    }

    /// What the command says, if it succeeds.
    pub(crate) fn said(&self, command: Command) -> Result<process::Output> {
        let shown = format!("{command:?}");
        let output = process::output(command, self.scratch.path(), LIMIT)?;
        if !output.success {
            bail!("{shown} failed:\n{}{}", output.stdout, output.stderr);
        }
        Ok(output)
    }

    /// Pushes one module; gives its name with the digest.
    pub(crate) fn module(&self, file: &Path, name: &str) -> Result<String> {
        let mut command = self.kwctl("push");
        command.args(["--output", "json"]).arg(file).arg(self.policy(name));
        let output = self.said(command)?;
        let told: Value = serde_json::from_str(output.stdout.trim())
            .with_context(|| format!("kwctl push said: {}{}", output.stdout, output.stderr))?;
        let reference = told["immutable_ref"].as_str().context("kwctl push names no digest")?;
        let reference = reference.trim_start_matches("registry://");
        if !reference.starts_with(&format!("{}/{name}@sha256:", self.registry)) {
            bail!("kwctl pushed {name} as {reference}");
        }
        println!("  {reference}");
        Ok(reference.to_owned())
    }

    /// Pushes all modules.
    pub(crate) fn modules(&self) -> Result<Vec<String>> {
        let policies = workspace::select(self.workspace, &[])?;
        let push = |name: &str| self.module(&self.folder.join(format!("{name}.wasm")), name);
        policies.iter().map(|policy| push(&policy.name)).collect()
    }

    /// Whether there is a chart, and Helm.
    fn has_chart(&self) -> bool {
        self.helm.is_some() && self.folder.join(dist::chart_file(&self.version)).is_file()
    }

    /// Pushes the chart, where there is one and Helm; gives its name with the digest.
    pub(crate) fn chart(&self) -> Result<Option<String>> {
        let file = self.folder.join(dist::chart_file(&self.version));
        let Some(mut command) = self.helm("push").filter(|_| self.has_chart()) else { return Ok(None) };
        command.arg(file).arg(self.charts());
        let output = self.said(command)?;
        // Helm tells it on either, from one version to the next.
        let told = format!("{}\n{}", output.stdout, output.stderr);
        let digest = told.lines().find_map(|line| line.trim().strip_prefix("Digest: "));
        let digest = digest.with_context(|| format!("helm push names no digest: {told}"))?;
        let reference = format!("{}/{CHARTS}/quorate@{}", self.registry, digest.trim());
        println!("  {reference}");
        Ok(Some(reference))
    }
}

/// What kwctl is told about the registry.
const SOURCES: &str = "sources.json";
