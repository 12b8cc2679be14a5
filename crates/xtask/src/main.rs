//! The chores of the workspace: `cargo xtask COMMAND`.
//!
//! One module per command, each with its `Args` and a `run`; what they share about the workspace is in `workspace`.

mod annotate;
mod artifacthub;
mod bench;
mod bench_data;
mod changelog;
mod chart;
mod deploy;
mod e2e;
mod generate;
mod new;
mod openapi;
mod questions;
mod workspace;
mod yaml;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the metadata of policies into their modules
    Annotate(annotate::Args),
    /// Write, or have judged, the packages for Artifact Hub
    Artifacthub(artifacthub::Args),
    /// Measure the checker and the modules, and print a Markdown table
    Bench(bench::Args),
    /// Write manifests to measure with
    BenchData(bench_data::Args),
    /// Compare what Helm makes of the chart with what must come of it
    Chart(chart::Args),
    /// Compare the modules in the real kwctl and policy-server with the cases
    E2e(e2e::Args),
    /// Write, or check, what is derived from other files
    Generate(generate::Args),
    /// Write a new policy with its first cases
    New(new::Args),
    /// Reduce what an API server says of its types to what objects are generated from
    Openapi(openapi::Args),
    /// Write a policies.yml with the absolute paths of the modules
    PoliciesYml(deploy::Args),
}

/// 0: done. 1: the chore failed, the reasons are on standard error. 2: the command line is wrong (from clap).
fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Annotate(args) => annotate::run(&args),
        Command::Artifacthub(args) => artifacthub::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchData(args) => bench_data::run(&args),
        Command::Chart(args) => chart::run(&args),
        Command::E2e(args) => e2e::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::New(args) => new::run(&args),
        Command::Openapi(args) => openapi::run(&args),
        Command::PoliciesYml(args) => deploy::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
