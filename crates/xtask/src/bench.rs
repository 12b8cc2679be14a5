//! `bench`: measures the checker on generated manifests and the modules by size, as a Markdown table.
//!
//! Numbers of one machine compare only with numbers of the same run, so the table names the machine, and peers that are
//! installed are measured beside it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bench_data::Bundles;
use crate::workspace;

/// How often the single bundle is checked, after some unmeasured times that fill the caches.
const SHORT_RUNS: usize = 31;
const WARM_UP: usize = 5;
/// How often many bundles are.
const LONG_RUNS: usize = 3;
/// In all but one measurement.
const PER_NAMESPACE: usize = 10;
/// How often the memory of a run is read. What it grows by in its last such time is missed.
const SAMPLE: Duration = Duration::from_millis(1);

/// Linters of the same kind of files, with what is before the file on their command lines.
const PEERS: [(&str, &[&str]); 2] = [("kube-score", &["score"]), ("kube-linter", &["lint"])];

/// Measures `quorate check` on one bundle, and on many; bundles are those of `bench-data`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many bundles, several times
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,10000,50000")]
    bundles: Vec<std::num::NonZeroUsize>,
    /// The checker, instead of target/release/quorate
    #[arg(long, value_name = "FILE")]
    checker: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    let checker = match &args.checker {
        Some(checker) => checker.clone(),
        None => workspace.target.join("release/quorate"),
    };
    if !checker.is_file() {
        bail!("there is no {}: make build", checker.display());
    }
    let folder = workspace.target.join("bench");
    let bench = Bench { checker, folder };

    println!("{}\n", machine());
    println!("| what | time | for each | memory |\n|---|---|---|---|");
    bench.one_bundle()?;
    for count in &args.bundles {
        bench.many(count.get(), PER_NAMESPACE)?;
    }
    bench.many(1000, 1000)?;
    println!("\n| module | size |\n|---|---|");
    modules(&workspace)
}

struct Bench {
    checker: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn one_bundle(&self) -> Result<()> {
        self.write(Bundles { count: 1, per_namespace: PER_NAMESPACE, broken: 0 })?;
        self.expect_sound(1)?;
        let file = self.folder.join("bundles-000.yaml");
        let ours = short(Command::new(&self.checker).arg("check").arg(&file))?;
        println!("| one bundle, all rules, warm | {} | | |", shown(ours));
        for (peer, args) in PEERS {
            // Peers find faults in it by other rules than ours, so that only what they print tells a failure.
            match short(Command::new(peer).args(args).arg(&file)) {
                Ok(time) => println!("| the same, {peer} | {} | | |", shown(time)),
                Err(error) if is_not_found(&error) => eprintln!("{peer} is not installed"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn many(&self, count: usize, per_namespace: usize) -> Result<()> {
        eprintln!("{count} bundles, {per_namespace} to a namespace ...");
        self.write(Bundles { count, per_namespace, broken: 0 })?;
        self.expect_sound(count)?;
        let mut runs = Vec::new();
        for _ in 0..LONG_RUNS {
            runs.push(long(Command::new(&self.checker).arg("check").arg(&self.folder))?);
        }
        let time = median(runs.iter().map(|run| run.time).collect());
        let memory = runs.iter().filter_map(|run| run.memory_kib).max();
        println!(
            "| {count} bundles, {per_namespace} to a namespace | {} | {} us | {} |",
            shown(time),
            time.as_micros() / u128::try_from(count)?,
            memory.map_or("unknown".to_owned(), |kib| format!("{} MB", kib * 1024 / 1_000_000)),
        );
        Ok(())
    }

    fn write(&self, bundles: Bundles) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", self.folder.display()));
            }
            _ => {}
        }
        bundles.write(&self.folder)?;
        Ok(())
    }

    /// A checker that stops early would be measured as a fast one: it must have seen every object and found nothing.
    fn expect_sound(&self, count: usize) -> Result<()> {
        let output = Command::new(&self.checker)
            .args(["check", "--format", "json"])
            .arg(&self.folder)
            .output()
            .with_context(|| format!("cannot start {}", self.checker.display()))?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no JSON report, but: {}", String::from_utf8_lossy(&output.stderr).trim_end()))?;
        let counted = |what: &str| report["summary"][what].as_u64();
        if counted("objects") != u64::try_from(count * 3).ok() {
            bail!("{:?} objects were checked, not {}", counted("objects"), count * 3);
        }
        if !output.status.success() || counted("errors") != Some(0) || counted("problems") != Some(0) {
            bail!("the bundles are sound, but the checker finds fault with them: {:.2000}", report.to_string());
        }
        Ok(())
    }
}

/// The median time of a command that takes little of it.
fn short(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut times = Vec::new();
    for run in 0..WARM_UP + SHORT_RUNS {
        let start = Instant::now();
        command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        if run >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    Ok(median(times))
}

struct Run {
    time: Duration,
    /// The most that was resident; known only where /proc tells it.
    memory_kib: Option<u64>,
}

/// One run of a command that takes long enough to read its memory meanwhile.
fn long(command: &mut Command) -> Result<Run> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut memory_kib = None;
    loop {
        memory_kib = memory_kib.max(high_water(&status));
        if let Some(code) = child.try_wait().context("cannot wait for the checker")? {
            if !code.success() {
                bail!("the checker ended with {code}");
            }
            return Ok(Run { time: start.elapsed(), memory_kib });
        }
        thread::sleep(SAMPLE);
    }
}

/// The field `VmHWM` of proc(5).
fn high_water(status: &Path) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// The annotated modules, as they are shipped.
fn modules(workspace: &Workspace) -> Result<()> {
    for policy in &workspace.policies {
        let file = workspace.target.join("policies").join(format!("{}.wasm", policy.name));
        let size = fs::metadata(&file).with_context(|| format!("cannot read {}: make build", file.display()))?.len();
        println!("| `{}` | {}.{} KiB |", policy.name, size / 1024, size % 1024 * 10 / 1024);
    }
    Ok(())
}

/// The machine, the compiler and the day.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = thread::available_parallelism().map_or("unknown".to_owned(), |cores| cores.to_string());
    let told = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    format!(
        "Measured on {cpu}, {cores} cores, {}, with {}, on {}.",
        std::env::consts::OS,
        told("rustc", &["--version"]).unwrap_or_else(unknown),
        told("date", &["+%Y-%m-%d"]).unwrap_or_else(unknown),
    )
}
