//! `make prove`: the claims of the rules, tried against a real control plane.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use proof::claim::{About, Claim};
use proof::claims;
use proof::drive::{self, Extent, Tally};
use proof::plane::{Options, Plane, Programs};
use proof::report;
use proof::room::Stage;
use proof::rules::Rules;
use proof::stories::{self, Stories};
use tokio::signal::unix::{SignalKind, signal};

/// The seed of the pages that the repository holds.
const SEED: u64 = 1;

/// Tries what the rules claim of Kubernetes against a control plane of its own, with simulated nodes.
///
/// The programs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok are looked for in the folder that
/// `QUORATE_CLUSTER_BIN` names, or on PATH.
#[derive(Parser)]
#[command(name = "prove")]
struct Args {
    /// The claims to try; all when none is named
    #[arg(value_name = "CLAIM")]
    claims: Vec<String>,
    /// How many generated objects of each claim, instead of its own number
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    /// What the generated objects follow from; the pages of the repository are those of the default
    #[arg(long, value_name = "S", default_value_t = SEED)]
    seed: u64,
    /// Only the generated object of this number, as a contradiction names it
    #[arg(long, value_name = "I")]
    object: Option<u64>,
    /// List the claims
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("prove: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let claims = chosen(&args.claims)?;
    if args.list {
        for claim in &claims {
            println!("{:<20} {}", claim.about().name, claim.about().claims);
        }
        return Ok(true);
    }
    let programs = Programs::find(&[])?;
    let rules = Rules::load()?;
    eprintln!("== starting a control plane");
    // Beta, and off by default: without it a set is updated one by one, whatever its `maxUnavailable` says.
    let options = Options { features: vec!["MaxUnavailableStatefulSet"], ..Options::default() };
    let plane = Plane::start(&programs, &options).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut tallies = Vec::new();
    let result = tokio::select! {
        result = prove(args, &claims, &plane, &rules, &mut tallies) => result,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        _ = hangup.recv() => Err(anyhow::anyhow!("hung up")),
    };
    plane.stop().await;
    // What was found until then is told in any case.
    let holds = told(args, &tallies);
    let version = result?;
    if let Some(why) = why_no_pages(args, &claims, &tallies, holds) {
        eprintln!("== docs/proof.md and docs/findings are left as they are: {why}");
    } else {
        write_pages(&tallies, &version, args.seed)?;
        eprintln!("== docs/proof.md and docs/findings are written");
    }
    Ok(holds)
}

fn chosen(names: &[String]) -> Result<Vec<Box<dyn Claim>>> {
    let mut claims = claims::all();
    if let Some(unknown) = names.iter().find(|name| !claims.iter().any(|claim| claim.about().name == **name)) {
        let known: Vec<&str> = claims.iter().map(|claim| claim.about().name).collect();
        bail!("there is no claim \"{unknown}\"; there are: {}", known.join(", "));
    }
    claims.retain(|claim| names.is_empty() || names.iter().any(|name| name == claim.about().name));
    Ok(claims)
}

/// Tries one claim after the other, and gives the version of Kubernetes.
async fn prove(
    args: &Args,
    claims: &[Box<dyn Claim>],
    plane: &Plane,
    rules: &Rules,
    tallies: &mut Vec<Tally>,
) -> Result<String> {
    let version = plane.version().await?;
    eprintln!("== Kubernetes {version}; seed {}", args.seed);
    let extent = Extent { seed: args.seed, count: args.count, only: args.object };
    let stage = Stage::new(plane.api.clone());
    for claim in claims {
        eprintln!("== {}", claim.about().name);
        let tally = drive::run(claim.as_ref(), &stage, rules, extent).await;
        let given_up = tally.given_up;
        tallies.push(tally);
        if given_up {
            bail!("{} is given up, and no other claim is tried", claim.about().name);
        }
    }
    Ok(version)
}

/// Prints what came of it; whether all holds.
fn told(args: &Args, tallies: &[Tally]) -> bool {
    println!("{}", report::table(tallies));
    for tally in tallies {
        for line in report::unplayed(tally) {
            println!("{}: not played: {line}", tally.about.name);
        }
    }
    let mut holds = true;
    for tally in tallies {
        // A single object says nothing about the others.
        let failures = if args.object.is_some() { tally.broken.clone() } else { tally.failures() };
        for failure in &failures {
            println!("{}: {failure}", tally.about.name);
        }
        for contradiction in tally.contradictions.iter().take(drive::SHOWN) {
            println!("\n{}: {}", tally.about.name, report::contradiction(contradiction));
        }
        holds &= failures.is_empty() && tally.contradictions.is_empty();
    }
    holds
}

/// Why the pages of the repository are not written: they tell of a whole run, as everybody can repeat it.
fn why_no_pages(args: &Args, claims: &[Box<dyn Claim>], tallies: &[Tally], holds: bool) -> Option<String> {
    if !args.claims.is_empty() || args.object.is_some() {
        return Some("not every claim was tried".to_owned());
    }
    if !holds || tallies.len() < claims.len() {
        return Some("not every claim holds".to_owned());
    }
    if let Some(tally) = tallies.iter().find(|tally| !tally.is_full()) {
        let About { name, count, .. } = tally.about;
        return Some(format!("{name} was tried with {} objects, and is to be with {count}", tally.generated));
    }
    (args.seed != SEED).then(|| format!("they are about seed {SEED}"))
}

/// What the repository says of the proof.
fn write_pages(tallies: &[Tally], version: &str, seed: u64) -> Result<()> {
    let write = |path: String, text: String| {
        let path = corpus::root().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write("docs/proof.md".to_owned(), report::page(tallies, version, seed))?;
    let mut stories = Stories::new();
    for tally in tallies {
        stories.extend(tally.stories.clone());
    }
    for policy in stories::POLICIES {
        let codes = stories::codes(policy)?;
        write(format!("docs/findings/{policy}.md"), stories::page(policy, &codes, &stories, version))?;
    }
    Ok(())
}
