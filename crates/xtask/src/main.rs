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
mod dist;
mod e2e;
mod generate;
mod image;
mod modules;
mod new;
mod openapi;
mod push;
mod push_trial;
mod questions;
mod reproducible;
mod versions;
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
    /// Put together what a release holds, as far as that needs no network
    Dist(dist::Args),
    /// Compare the modules in the real kwctl and policy-server with the cases
    E2e(e2e::Args),
    /// Write, or check, what is derived from other files
    Generate(generate::Args),
    /// Build the container image of the checker, and try it
    Image(image::Args),
    /// Build the policies for Wasm, and annotate them
    Modules(modules::Args),
    /// Write a new policy with its first cases
    New(new::Args),
    /// Reduce what an API server says of its types to what objects are generated from
    Openapi(openapi::Args),
    /// Write a policies.yml with the absolute paths of the modules
    PoliciesYml(deploy::Args),
    /// Push the modules and the chart to a registry
    Push(push::Args),
    /// Try that with a registry on loopback
    PushTrial(push_trial::Args),
    /// Build the modules in two places, and compare the bytes
    Reproducible(reproducible::Args),
    /// Compare all that names the version of the project
    Versions(versions::Args),
}

/// 0: done. 1: the chore failed, the reasons are on standard error. 2: the command line is wrong (from clap).
fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Annotate(args) => annotate::run(&args),
        Command::Artifacthub(args) => artifacthub::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchData(args) => bench_data::run(&args),
        Command::Chart(args) => chart::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::E2e(args) => e2e::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Modules(args) => modules::run(&args),
        Command::New(args) => new::run(&args),
        Command::Openapi(args) => openapi::run(&args),
        Command::PoliciesYml(args) => deploy::run(&args),
        Command::Push(args) => push::run(&args),
        Command::PushTrial(args) => push_trial::run(&args),
        Command::Reproducible(args) => reproducible::run(&args),
        Command::Versions(args) => versions::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
