//! The command: arguments in, a report and an exit code out.
#![expect(clippy::doc_markdown, reason = "the documentation of the arguments is their help, which is plain text")]

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate::engine::{Engine, Limits};
use quorate::report::{human, json};
use quorate::{Checker, Level, Problem, Report, built_in, input};

/// The exit code when the command could not do its work.
const TROUBLE: u8 = 2;

/// Checks that quorum-based systems (ZooKeeper, etcd, Kafka, Consul, ...) stay available on Kubernetes.
///
/// The rules are Kubewarden policies. The same modules answer admission requests in a cluster; this command runs them over
/// plain manifests. It reads no kubeconfig and opens no connection.
#[derive(Parser)]
#[command(
    name = "quorate",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(CheckArgs),
}

/// Check manifests: tell what is wrong, where, why, and how to fix it.
///
/// All objects of all PATHs are looked at together, as if they were in one cluster.
#[derive(Args)]
#[command(after_help = "Exit codes:
  0  nothing to say, or warnings only
  1  errors (with --fail-on warning: or warnings)
  2  something could not be read or run, so that not all was checked; this beats 1")]
struct CheckArgs {
    /// Files, folders, or - for standard input
    ///
    /// YAML or JSON, several documents, Lists. In folders: *.yaml, *.yml and *.json, in all folders below; hidden ones and files
    /// that hold no Kubernetes object are passed over.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// The form of the report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    format: Format,

    /// What makes the exit code 1
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = FailOn::Error)]
    fail_on: FailOn,

    /// Also tell how each judgement came about and what was passed over
    #[arg(short, long)]
    verbose: bool,

    /// Whether the report has colours
    ///
    /// With auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    color: Color,

    /// How long a policy may think about one object, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    time_limit: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs; see docs/json.md
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    Error,
    Warning,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is wanted, such as 5 or 0.5".to_owned())?;
    // A day: longer is a mistake, and the clock of the limit has no need to know more.
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it has to be within 0.001 and 86400".to_owned())
    }
}

fn main() -> ExitCode {
    let Cli { command: Command::Check(args) } = Cli::parse();
    let code = match check(&args) {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be left to read this either.
            let _ = writeln!(io::stderr(), "quorate: {error:#}");
            TROUBLE
        }
    };
    ExitCode::from(code)
}

fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let engine = Engine::new(Limits { time: args.time_limit, ..Limits::default() })?;
    let (policies, errors) = built_in(&engine);
    let mut report = Checker::new(policies).check(&input::find(&args.paths));
    report.add_problems(errors.into_iter().map(|error| Problem { place: None, message: error.to_string() }));

    let mut out = BufWriter::new(io::stdout().lock());
    match write(&report, args, &mut out).and_then(|()| out.flush()) {
        // Who closes the pipe has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            anyhow::bail!("the report cannot be written: {error}");
        }
        _ => {}
    }
    let fail_on = match args.fail_on {
        FailOn::Error => Level::Error,
        FailOn::Warning => Level::Warning,
    };
    let code = report.verdict(fail_on).exit_code();
    // The process ends here: to take apart all that was read would only take time.
    std::mem::forget(report);
    Ok(code)
}

fn write(report: &Report, args: &CheckArgs, out: &mut impl Write) -> io::Result<()> {
    match args.format {
        Format::Json => json::write(report, args.verbose, out),
        Format::Human => {
            let color = match args.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => wants_color(),
            };
            human::write(report, human::Options { notes: args.verbose, color }, out)
        }
    }
}

/// As <https://no-color.org> asks, and not where the terminal says that it cannot.
fn wants_color() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}
