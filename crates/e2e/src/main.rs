//! The last part of `make e2e`: the real control plane asks the real policy-server, the whole way.

mod cases;
mod hooks;
mod play;
mod server;

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
    /// Only the cases whose POLICY/FILE holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Fail when a program is absent
    #[arg(long)]
    require: bool,
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
    eprintln!("== starting a control plane");
    // Each controller asks as itself, as in a cluster.
    let controller_manager = vec!["--use-service-account-credentials=true".to_owned()];
    // Beta, and off by default: without it the field `maxUnavailable` of a set is dropped before anybody is asked.
    let features = vec!["MaxUnavailableStatefulSet"];
    let plane = Plane::start(&programs, &Options { controller_manager, features, ..Options::default() }).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let result = tokio::select! {
        result = whole_way(args, &programs, &server, &plane, &rules) => result,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        _ = hangup.recv() => Err(anyhow::anyhow!("hung up")),
    };
    plane.stop().await;
    result
}

async fn whole_way(
    args: &Args,
    _programs: &Programs,
    program: &std::path::Path,
    plane: &Plane,
    rules: &Rules,
) -> Result<bool> {
    println!("Kubernetes {}", plane.version().await?);
    server::grant(plane).await?;
    let mut server = Server::new(program, plane, rules)?;
    let cases = Cases::new(rules, &mut server)?;
    eprintln!("== starting policy-server with {} policies", server.policies());
    server.start().await?;
    eprintln!("== the cases");
    let tally = cases.play(plane, &server, rules, args.only.as_deref()).await?;
    server.expect_alive()?;
    server.stop().await;
    let whole = args.only.is_none();
    tally.print(whole);
    let failures = tally.failures(whole);
    for failure in &failures {
        println!("\n{failure}");
    }
    Ok(failures.is_empty())
}

/// The policy-server that the variable names, or the one on `PATH`.
fn policy_server() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(SERVER).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return std::fs::canonicalize(&named)
            .with_context(|| format!("{SERVER} names {}, which cannot be read", named.display()));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).find_map(|folder| folder.join("policy-server").canonicalize().ok());
    found
        .filter(|path| path.is_file())
        .with_context(|| format!("policy-server not found; set {SERVER}, or put it on PATH"))
}
