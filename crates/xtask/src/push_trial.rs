//! `push-trial`: pushes target/dist into a real registry on loopback, pulls all of it back as a user does, and compares.
//!
//! The registry is the one of the Distribution project; it lives in a temporary folder, and as long as the trial.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use corpus::{Case, Expect, World};
use serde_json::json;

use crate::e2e::process::{self, Running};
use crate::push::Push;
use crate::{dist, e2e, workspace};

/// How long the registry may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Tries `push` with a real registry on loopback. That is found by the variable `REGISTRY_BIN`, or as `docker-registry` or `registry` on
/// PATH; kwctl and Helm as by `push`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when a program is absent
    #[arg(long)]
    require: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let registry = match process::find("REGISTRY_BIN", "docker-registry")? {
        None => process::find("REGISTRY_BIN", "registry")?,
        found => found,
    };
    let (kwctl, helm) = (process::find("KWCTL", "kwctl")?, process::find("HELM", "helm")?);
    let mut absent = Vec::new();
    if registry.is_none() {
        absent.push("the registry: set REGISTRY_BIN, or put docker-registry on PATH");
    }
    if kwctl.is_none() {
        absent.push("kwctl: set KWCTL, or put it on PATH");
    }
    if helm.is_none() {
        absent.push("helm, so no chart: set HELM, or put it on PATH");
    }
    for absent in &absent {
        println!("ABSENT: {absent}");
    }
    if args.require && !absent.is_empty() {
        bail!("a program is absent");
    }
    let (Some(registry), Some(kwctl)) = (registry, kwctl) else {
        println!("DID NOT RUN");
        return Ok(());
    };

    let workspace = workspace::find()?;
    let folder = tempfile::tempdir()?;
    let (port, _) = process::free_ports()?;
    let address = format!("127.0.0.1:{port}");
    let config = folder.path().join("registry.yml");
    let store = folder.path().join("store");
    fs::write(
        &config,
        json!({
            "version": 0.1,
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": store } },
            "http": { "addr": address },
        })
        .to_string(),
    )?;
    let mut command = Command::new(&registry);
    command.arg("serve").arg(&config);
    let mut running = Running::start(command, &folder.path().join("registry.log"))?;
    running.wait_until(port, "/v2/", START_LIMIT)?;

    let push = Push::new(&workspace, kwctl, helm, &format!("{address}/trial"), true)?;
    println!("{}", process::version(&push.kwctl, push.scratch.path())?);
    let trial = Trial { workspace: &workspace, push: &push, folder: folder.path() };
    trial.modules()?;
    trial.chart()?;
    trial.refused()?;
    running.expect_alive()
}

struct Trial<'a> {
    workspace: &'a Workspace,
    push: &'a Push<'a>,
    folder: &'a Path,
}

impl Trial<'_> {
    /// A call that keeps what it stores in the folder.
    fn at_home(&self, mut command: Command) -> Command {
        let home = self.folder.join("home");
        command.env("HOME", &home).env("XDG_CACHE_HOME", home.join(".cache")).env("XDG_DATA_HOME", home.join(".local"));
        command.env("XDG_CONFIG_HOME", home.join(".config"));
        command
    }

    /// Each module: pushed, its digest asked for, pulled, looked at and run.
    fn modules(&self) -> Result<()> {
        fs::create_dir_all(self.folder.join("home"))?;
        let pushed = self.push.modules()?;
        for (policy, reference) in workspace::select(self.workspace, &[])?.into_iter().zip(pushed) {
            let (name, address) = (&policy.name, self.push.policy(&policy.name));
            let mut ask = self.at_home(self.push.kwctl("digest"));
            ask.arg(&address);
            let told = self.push.said(ask)?.stdout;
            // ADDRESS:TAG@DIGEST
            let digest = |name: &str| name.trim().split_once('@').map(|(_, digest)| digest.to_owned());
            if digest(&told).is_none() || digest(&told) != digest(&reference) {
                bail!("{name}: pushed as {reference}, but the registry has {told}");
            }
            self.same_bytes(name, &address, &reference)?;
            self.inspected(name, &address)?;
            let judged = self.judged(name, &address)?;
            println!("  {name:<24}the same bytes and digest; judged as written: {judged}");
        }
        Ok(())
    }

    /// By tag and by digest, what is pulled is what is in target/dist.
    fn same_bytes(&self, name: &str, address: &str, reference: &str) -> Result<()> {
        let wanted = dist::digest(&self.push.folder.join(format!("{name}.wasm")))?;
        let file = self.folder.join(format!("{name}.wasm"));
        for address in [address.to_owned(), format!("registry://{reference}")] {
            let mut pull = self.at_home(self.push.kwctl("pull"));
            pull.arg("--output-path").arg(&file).arg(&address);
            self.push.said(pull)?;
            let pulled = dist::digest(&file)?;
            if pulled != wanted {
                bail!("{name}: {wanted} was pushed, {pulled} was pulled from {address}");
            }
            fs::remove_file(&file)?;
        }
        // Into the store, for those who name it by its address.
        let mut pull = self.at_home(self.push.kwctl("pull"));
        pull.arg(address);
        self.push.said(pull)?;
        Ok(())
    }

    /// kwctl reads the version and the name in the pulled module.
    fn inspected(&self, name: &str, address: &str) -> Result<()> {
        let mut inspect = self.at_home(self.push.kwctl("inspect"));
        inspect.args(["--output", "yaml"]).arg(address);
        let told = self.push.said(inspect)?.stdout;
        let version = &self.push.version;
        for wanted in ["protocolVersion: v1", &format!("title: {name}"), &format!("version: {version}")] {
            if !told.contains(wanted) {
                bail!("{name}: kwctl inspect does not say `{wanted}`:\n{told}");
            }
        }
        Ok(())
    }

    /// The pulled module answers a case that must be denied and one that must be accepted as they are written down.
    fn judged(&self, name: &str, address: &str) -> Result<String> {
        let cases = corpus::cases(name)?;
        let judge = |payload: &[u8], world: &World| {
            let mut kwctl = Command::new(&self.push.kwctl);
            kwctl.env("NO_COLOR", "true");
            e2e::ask_kwctl(self.at_home(kwctl), OsStr::new(address), self.folder, payload, world)
                .map_err(|error| format!("  {error:#}\n"))
        };
        let mut judged = Vec::new();
        for expect in [Expect::Deny, Expect::Accept] {
            // A denial without a finding is one of the settings.
            let fits = |case: &&Case| {
                case.header.expect == expect && (expect == Expect::Accept || !case.header.findings.is_empty())
            };
            let case = cases.iter().find(fits).with_context(|| format!("{name} has no case to {expect:?}"))?;
            if let Err(difference) = case.run(&judge) {
                bail!("{name}: {}:\n{difference}", case.name);
            }
            judged.push(case.name.as_str());
        }
        Ok(judged.join(" and "))
    }

    /// The chart that is pulled is the one that was pushed.
    fn chart(&self) -> Result<()> {
        let Some(reference) = self.push.chart()? else {
            println!("NOT TRIED: the chart");
            return Ok(());
        };
        let mut pull = self.at_home(self.push.helm("pull").context("helm is gone")?);
        pull.arg(format!("{}/quorate", self.push.charts())).args(["--version", &self.push.version]);
        pull.arg("--destination").arg(self.folder);
        self.push.said(pull)?;
        let name = dist::chart_file(&self.push.version);
        let (wanted, pulled) = (dist::digest(&self.push.folder.join(&name))?, dist::digest(&self.folder.join(&name))?);
        if wanted != pulled {
            bail!("the chart: {wanted} was pushed, {pulled} was pulled");
        }
        println!("  {:<24}the same bytes, as {reference}", "chart");
        Ok(())
    }

    /// What must not get out: a module without metadata.
    fn refused(&self) -> Result<()> {
        let bare = self.folder.join("bare.wasm");
        // The shortest module there is.
        fs::write(&bare, b"\0asm\x01\0\0\0")?;
        if self.push.module(&bare, "bare").is_ok() {
            bail!("kwctl pushed a module without metadata");
        }
        println!("  {:<24}refused, as it must be", "a bare module");
        Ok(())
    }
}
