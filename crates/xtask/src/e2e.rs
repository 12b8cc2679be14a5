//! `e2e`: runs the annotated modules in the real kwctl and policy-server, and compares with the cases of `test-data`.
//!
//! The cases expect of the real hosts what they expect of the rule run natively and of the module run by the checker: so a
//! case that agrees here says that all four agree. Look-ups go the real way too: the host's own client asks an API server,
//! which is ours ([`api`]). What kwctl is asked starts with no state; one policy-server keeps what it once looked up, so it
//! only gets the cases whose cluster is empty.

mod answer;
mod api;
mod config;
pub(crate) mod process;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::annotate::{Metadata, Workspace};
use anyhow::{Context, Result, bail};
use cluster::Cluster;
use corpus::{Case, World};
use serde_json::{Value, json};

use self::config::Entry;
use self::process::Running;
use crate::workspace;

/// With fewer, the hosts were hardly asked.
const FEWEST: usize = 10;

/// How long one call of kwctl may take. It tries to reach the Sigstore repository first, which some networks let hang.
const KWCTL_LIMIT: Duration = Duration::from_mins(2);

/// How long the policy-server may take until it is ready: it compiles each module, and tries to reach Sigstore.
const START_LIMIT: Duration = Duration::from_mins(4);

/// Compares the modules in kwctl and policy-server with the cases. These are found by the variables `KWCTL` and
/// `POLICY_SERVER`, or on PATH.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The policies; all of the workspace when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The annotated modules, instead of target/policies
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// How many cases of each policy kwctl is asked, each by a process of its own
    #[arg(long, value_name = "N", default_value_t = 16)]
    cases: usize,
    /// Ask kwctl all cases
    #[arg(long, conflicts_with = "cases")]
    all: bool,
    /// Fail when a program is absent
    #[arg(long)]
    require: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let kwctl = process::find("KWCTL", "kwctl")?;
    let server = process::find("POLICY_SERVER", "policy-server")?;
    let absent: Vec<&str> = [(&kwctl, "kwctl"), (&server, "policy-server")]
        .into_iter()
        .filter_map(|(found, name)| found.is_none().then_some(name))
        .collect();
    if !absent.is_empty() {
        let absent = absent.join(" and ");
        let hint = "set KWCTL and POLICY_SERVER, or put them on PATH";
        if args.require {
            bail!("{absent} not found; {hint}");
        }
        println!("DID NOT RUN with {absent}: not found; {hint}");
    }
    if kwctl.is_none() && server.is_none() {
        return Ok(());
    }

    let workspace = workspace::find()?;
    let bench = Bench::new(args, &workspace)?;
    let mut failures = Vec::new();
    if let Some(kwctl) = &kwctl {
        println!("{}", process::version(kwctl, &bench.folder)?);
        for policy in &bench.policies {
            let asked = if args.all { usize::MAX } else { args.cases };
            bench.kwctl(kwctl, policy, asked, &mut failures)?;
        }
    }
    if let Some(server) = &server {
        println!("{}", process::version(server, &bench.folder)?);
        bench.server(server, &mut failures)?;
    }
    if !failures.is_empty() {
        bail!("{} disagreements\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// One policy with its module and its cases.
struct Policy {
    name: String,
    module: PathBuf,
    metadata: Metadata,
    cases: Vec<Case>,
}

/// What all hosts are asked, and where.
struct Bench {
    policies: Vec<Policy>,
    /// Everything that the hosts read and write. It stays: what kwctl compiled, and the log of the policy-server.
    folder: PathBuf,
}

impl Bench {
    fn new(args: &Args, workspace: &Workspace) -> Result<Self> {
        let modules = args.modules.clone().unwrap_or_else(|| workspace.target.join("policies"));
        let mut policies = Vec::new();
        for package in workspace::select(workspace, &args.names)? {
            let module = modules.join(format!("{}.wasm", package.name));
            // policy-server takes absolute paths only.
            let module = fs::canonicalize(&module)
                .with_context(|| format!("cannot read {}; make modules builds it", module.display()))?;
            policies.push(Policy {
                metadata: ::annotate::read(&fs::read(&module)?)
                    .with_context(|| format!("in {}", module.display()))?
                    .with_context(|| format!("{} is not annotated: cargo xtask annotate", module.display()))?,
                cases: corpus::cases(&package.name)?,
                name: package.name.clone(),
                module,
            });
        }
        let folder = workspace.target.join("e2e");
        fs::create_dir_all(folder.join("home")).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { policies, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A program that keeps what it caches and downloads in the folder, and knows no cluster but that of `kubeconfig`.
    fn command(&self, program: &Path, kubeconfig: &Path) -> Command {
        let mut command = Command::new(program);
        let home = self.path("home");
        command.current_dir(&self.folder).env("HOME", &home).env("XDG_CACHE_HOME", home.join(".cache"));
        command.env("XDG_DATA_HOME", home.join(".local")).env("KUBECONFIG", kubeconfig).env("NO_COLOR", "true");
        command
    }

    /// Has kwctl read the module's metadata, then judge cases.
    fn kwctl(&self, kwctl: &Path, policy: &Policy, asked: usize, failures: &mut Vec<String>) -> Result<()> {
        let mut inspect = self.command(kwctl, &self.path("none"));
        inspect.args(["inspect", "--output", "yaml"]).arg(&policy.module);
        let inspected = process::output(inspect, &self.folder, KWCTL_LIMIT).context("kwctl inspect")?;
        if !inspected.success || !inspected.stdout.contains("protocolVersion: v1") {
            failures.push(format!("{}: kwctl inspect: {}{}", policy.name, inspected.stdout, inspected.stderr));
            return Ok(());
        }
        let judge = |payload: &[u8], world: &World| {
            self.ask_kwctl(kwctl, &policy.module, payload, world).map_err(|error| format!("  {error:#}\n"))
        };
        let tally = Tally::of("kwctl", choose(&policy.cases, asked), &judge);
        tally.report(policy, "for each a cluster of its own", failures);
        Ok(())
    }

    fn ask_kwctl(&self, kwctl: &Path, module: &Path, payload: &[u8], world: &World) -> Result<Vec<u8>> {
        ask_kwctl(self.command(kwctl, &self.path("kubeconfig")), module.as_os_str(), &self.folder, payload, world)
    }

    /// Has one policy-server, with all modules, judge every case whose cluster is empty.
    fn server(&self, server: &Path, failures: &mut Vec<String>) -> Result<()> {
        let entries = self.entries();
        let (policies, kubeconfig) = (self.path("policies.yml"), self.path("kubeconfig"));
        fs::write(&policies, config::policies(entries.values()))?;
        api::serve(&Cluster::new([]), |address| -> Result<()> {
            fs::write(&kubeconfig, config::kubeconfig(address))?;
            let (port, probe) = process::free_ports()?;
            let mut command = self.command(server, &kubeconfig);
            command.arg("--policies").arg(&policies).arg("--policies-download-dir").arg(self.path("home"));
            command.arg("--sigstore-cache-dir").arg(self.path("home")).args(["--addr", "127.0.0.1"]);
            command.args(["--port", &port.to_string(), "--readiness-probe-port", &probe.to_string()]);
            // Without it, one case with settings that the policy refuses would keep the server from starting.
            command.arg("--continue-on-errors");
            command.args(["--workers", "2", "--log-level", "warn", "--policy-timeout", "20"]);
            let mut running = Running::start(command, &self.path("policy-server.log"))?;
            running.wait_until_ready(probe, START_LIMIT)?;
            for policy in &self.policies {
                let judge = |payload: &[u8], world: &World| {
                    ask_server(port, &entries, policy, payload, world).map_err(|error| format!("  {error:#}\n"))
                };
                let (seeing, blind): (Vec<_>, Vec<_>) = policy.cases.iter().partition(|case| case.header.lookups);
                let seeing = seeing.into_iter().filter(|case| !case.has_world()).collect();
                Tally::of("policy-server", seeing, &judge).report(policy, "an empty cluster", failures);
                Tally::of("policy-server", blind, &judge).report_blind(policy, failures);
            }
            running.expect_alive()
        })?
    }

    /// An entry of policies.yml for each policy and settings that a case has, with and without grants.
    fn entries(&self) -> BTreeMap<Asked, Entry> {
        let mut entries = BTreeMap::new();
        for policy in &self.policies {
            for case in &policy.cases {
                let settings = case.header.settings.clone().unwrap_or_else(|| json!({}));
                let asked = Asked::new(policy, &settings, case.header.lookups);
                let name = format!("{}-{}", policy.name, entries.len());
                entries.entry(asked).or_insert_with(|| Entry {
                    name,
                    module: policy.module.clone(),
                    metadata: policy.metadata.clone(),
                    settings,
                    granted: case.header.lookups,
                });
            }
        }
        entries
    }
}

/// Has kwctl judge a request by a module, a file or what is at an address, in a cluster of its own. What kwctl reads and says goes
/// through the folder.
pub(crate) fn ask_kwctl(
    mut kwctl: Command,
    module: &OsStr,
    folder: &Path,
    payload: &[u8],
    world: &World,
) -> Result<Vec<u8>> {
    let payload: Value = serde_json::from_slice(payload)?;
    let [request, settings, kubeconfig] = ["request.json", "settings.json", "kubeconfig"].map(|name| folder.join(name));
    fs::write(&request, payload["request"].to_string())?;
    fs::write(&settings, payload["settings"].to_string())?;
    api::serve(world.cluster(), |address| {
        fs::write(&kubeconfig, config::kubeconfig(address))?;
        kwctl.env("KUBECONFIG", &kubeconfig);
        kwctl.arg("run").arg(module).arg("--request-path").arg(&request).arg("--settings-path").arg(&settings);
        if is_granted(world) {
            kwctl.arg("--allow-context-aware");
        }
        let answer = process::output(kwctl, folder, KWCTL_LIMIT)?;
        if !answer.success {
            return answer::settings_refused(&answer.stderr)
                .with_context(|| format!("kwctl run failed: {}", answer.stderr));
        }
        let response: Value = serde_json::from_str(&answer.stdout)
            .with_context(|| format!("kwctl run printed: {}{}", answer.stdout, answer.stderr))?;
        answer::of_policy(&response, &payload["request"])
    })?
}

/// What tells one entry of policies.yml from another.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    policy: String,
    settings: String,
    granted: bool,
}

impl Asked {
    fn new(policy: &Policy, settings: &Value, granted: bool) -> Self {
        Self { policy: policy.name.clone(), settings: settings.to_string(), granted }
    }
}

fn ask_server(
    port: u16,
    entries: &BTreeMap<Asked, Entry>,
    policy: &Policy,
    payload: &[u8],
    world: &World,
) -> Result<Vec<u8>> {
    let payload: Value = serde_json::from_slice(payload)?;
    let asked = Asked::new(policy, &payload["settings"], is_granted(world));
    let entry = entries.get(&asked).context("no entry of policies.yml has these settings")?;
    let review =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": payload["request"] });
    let (status, body) = process::post(port, &format!("/validate/{}", entry.name), &review.to_string())?;
    if status != 200 {
        bail!("policy-server answered {status}: {body}");
    }
    let body: Value = serde_json::from_str(&body).with_context(|| format!("policy-server answered {body}"))?;
    answer::of_policy(&body["response"], &payload["request"])
}

fn is_granted(world: &World) -> bool {
    world.grants().allows_capability("kubernetes/get_resource")
}

/// How the cases went in one host.
struct Tally<'c> {
    host: &'static str,
    agreed: usize,
    /// Of those that agreed, the cases with other objects in the cluster.
    with_world: usize,
    disagreed: Vec<(&'c Case, String)>,
}

impl<'c> Tally<'c> {
    fn of(host: &'static str, cases: Vec<&'c Case>, judge: corpus::Judge<'_>) -> Self {
        let mut tally = Self { host, agreed: 0, with_world: 0, disagreed: Vec::new() };
        for case in cases {
            match case.run(judge) {
                Ok(()) => {
                    tally.agreed += 1;
                    tally.with_world += usize::from(case.has_world());
                }
                Err(difference) => tally.disagreed.push((case, difference)),
            }
        }
        tally
    }

    fn asked(&self) -> usize {
        self.agreed + self.disagreed.len()
    }

    fn report(self, policy: &Policy, cluster: &str, failures: &mut Vec<String>) {
        println!(
            "  {:<20} {:>3} of {} cases agree, {} of them with more in the cluster ({cluster})",
            policy.name,
            self.agreed,
            self.asked(),
            self.with_world
        );
        // A policy of two cases passes with two: whether there are enough is another test's business.
        if self.asked() < FEWEST.min(policy.cases.len()) {
            failures.push(format!(
                "{}: {} was asked {} cases, {FEWEST} are wanted",
                policy.name,
                self.host,
                self.asked()
            ));
        }
        self.tell(policy, failures);
    }

    fn report_blind(self, policy: &Policy, failures: &mut Vec<String>) {
        println!("  {:<20} {:>3} of {} cases agree (no look-ups granted)", policy.name, self.agreed, self.asked());
        if self.asked() == 0 && !policy.metadata.context_aware_resources.is_empty() {
            failures.push(format!("{}: no case has `lookups: false`", policy.name));
        }
        self.tell(policy, failures);
    }

    fn tell(self, policy: &Policy, failures: &mut Vec<String>) {
        for (case, difference) in self.disagreed {
            failures.push(format!("{} in {}, {}:\n{difference}", policy.name, self.host, case.name));
        }
    }
}

/// At most `count` of the cases, evenly over the list, half of them with other objects in the cluster if there are as many.
fn choose(cases: &[Case], count: usize) -> Vec<&Case> {
    let (with, without): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.has_world());
    let half = count.div_ceil(2).min(with.len());
    let rest = (count - half).min(without.len());
    let mut chosen = evenly(&with, count - rest);
    chosen.extend(evenly(&without, rest));
    chosen
}

fn evenly<'a, T>(all: &[&'a T], count: usize) -> Vec<&'a T> {
    let count = count.min(all.len());
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> Vec<Case> {
        corpus::cases("disruption-budget").unwrap()
    }

    #[test]
    fn half_of_the_chosen_cases_need_the_cluster() {
        let cases = cases();
        let chosen = choose(&cases, 16);
        assert_eq!(chosen.len(), 16);
        assert_eq!(chosen.iter().filter(|case| case.has_world()).count(), 8);
        let names: std::collections::BTreeSet<_> = chosen.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), 16, "no case twice");
    }

    #[test]
    fn all_cases_are_chosen_when_all_are_asked_for() {
        let cases = cases();
        assert_eq!(choose(&cases, usize::MAX).len(), cases.len());
        assert!(choose(&cases, 0).is_empty());
    }

    #[test]
    fn the_choice_is_spread_over_the_list() {
        let all: Vec<&str> = "a b c d e f g h".split(' ').collect();
        let all: Vec<&&str> = all.iter().collect();
        assert_eq!(evenly(&all, 4), [&"a", &"c", &"e", &"g"]);
        assert_eq!(evenly(&all, 100).len(), 8);
    }

    #[test]
    fn too_few_cases_and_a_wrong_answer_are_failures() {
        let policy = Policy {
            name: "disruption-budget".into(),
            module: PathBuf::new(),
            metadata: Metadata::from_yaml("m", b"rules: [{apiGroups: [apps], apiVersions: [v1], resources: [statefulsets], operations: [CREATE]}]\nmutating: false\n", &BTreeMap::new()).unwrap(),
            cases: cases(),
        };
        let wrong = |_: &[u8], _: &World| Err("  the host is gone\n".to_owned());
        let mut failures = Vec::new();
        Tally::of("kwctl", choose(&policy.cases, 2), &wrong).report(&policy, "none", &mut failures);
        assert_eq!(failures.len(), 3, "{failures:?}");
        assert!(failures[0].contains("was asked 2 cases"), "{failures:?}");
        assert!(failures[1].contains("the host is gone"), "{failures:?}");
    }
}
