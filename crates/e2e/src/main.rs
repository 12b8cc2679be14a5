//! The last part of `make e2e`: the real control plane asks the real policy-server, the whole way.

mod cases;
mod hooks;
mod load;
mod never;
mod play;
mod server;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use proof::plane::{Options, Plane, Programs};
use proof::rules::Rules;
use tokio::signal::unix::{SignalKind, signal};

use crate::cases::Cases;
use crate::server::Server;

/// The variable that names the policy-server.
const SERVER: &str = "POLICY_SERVER";

/// Sends every case of test-data through a real control plane and the real policy-server, and tries what may never be blocked.
///
/// The programs etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok and kubectl are looked for in the folder that
/// `QUORATE_CLUSTER_BIN` names, or on PATH; policy-server by the variable `POLICY_SERVER`, or on PATH.
#[derive(Parser)]
#[command(name = "e2e")]
struct Args {
    /// Only this part
    #[arg(long)]
    part: Option<Part>,
    /// Only the cases whose POLICY/FILE holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Of the load: requests a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Of the load: how long
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Fail when a program is absent
    #[arg(long)]
    require: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The cases of test-data
    Cases,
    /// What may never be blocked
    Never,
    /// What the server carries; not without being asked for
    Load,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let (programs, server) = match (Programs::find(&["kubectl"]), policy_server()) {
        (Ok(programs), Ok(server)) => (programs, server),
        (programs, server) => {
            let absent: Vec<String> =
                [programs.err(), server.err()].into_iter().flatten().map(|error| format!("{error:#}")).collect();
            if args.require {
                bail!("{}", absent.join("\n"));
            }
            println!("DID NOT RUN with a control plane: {}", absent.join("\n"));
            return Ok(true);
        }
    };
    let rules = Rules::load()?;
    let whole = args.only.is_none();
    let mut failures = Vec::new();
    if args.part.is_none_or(|part| part == Part::Cases) {
        let tally = with_plane(&programs, async |plane| {
            println!("Kubernetes {}", plane.version().await?);
            server::grant(plane).await?;
            let mut server = Server::new(&server, plane, &rules)?;
            let cases = Cases::new(&rules, &mut server)?;
            eprintln!("== starting policy-server with {} policies", server.policies());
            server.start().await?;
            eprintln!("== the cases");
            let tally = cases.play(plane, &server, &rules, args.only.as_deref()).await?;
            server.expect_alive()?;
            server.stop().await;
            Ok(tally)
        });
        let tally = tally.await?;
        tally.print(whole);
        failures.extend(tally.failures(whole));
    }
    if whole && args.part.is_none_or(|part| part == Part::Never) {
        let tally = with_plane(&programs, async |plane| never::play(&programs, &server, plane, &rules).await).await?;
        tally.print();
        failures.extend(tally.failures());
    }
    if args.part == Some(Part::Load) {
        let extent = load::Extent { rate: args.rate, seconds: args.seconds };
        let play = async |plane: &Plane| load::play(&programs, &server, plane, &rules, extent).await;
        failures.extend(with_plane(&programs, play).await?);
    }
    for failure in &failures {
        println!("\n{failure}");
    }
    println!("\n{}", if failures.is_empty() { "All agrees." } else { "Something does not agree." });
    Ok(failures.is_empty())
}

/// Does something with a control plane that ends with it, or when somebody interrupts.
async fn with_plane<T>(programs: &Programs, work: impl AsyncFnOnce(&Plane) -> Result<T>) -> Result<T> {
    eprintln!("== starting a control plane");
    // Each controller asks as itself, as in a cluster.
    let controller_manager = vec!["--use-service-account-credentials=true".to_owned()];
    // Beta, and off by default: without it the field `maxUnavailable` of a set is dropped before anybody is asked.
    let features = vec!["MaxUnavailableStatefulSet"];
    let plane = Plane::start(programs, &Options { controller_manager, features, ..Options::default() }).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let result = tokio::select! {
        result = work(&plane) => result,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        _ = hangup.recv() => Err(anyhow::anyhow!("hung up")),
    };
    plane.stop().await;
    result
}

/// The policy-server that the variable names, or the one on `PATH`.
fn policy_server() -> Result<PathBuf> {
    let found = tools::named_or_on_path(SERVER, "policy-server")?;
    found.with_context(|| format!("policy-server not found; set {SERVER}, or put it on PATH"))
}
