//! Reads files and says how fast, and what was in them: `cargo run --release -p manifest --example speed -- [--each] FILE...`.
//!
//! With `--each` no object outlives its turn but its place, as in a program that keeps its own form of it.

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut each = false;
    for path in std::env::args().skip(1) {
        if path == "--each" {
            each = true;
            continue;
        }
        let kept;
        let bytes = fs::read(&path)?;
        let started = Instant::now();
        let busy = busy_seconds();
        let (places, problems) = if each {
            let mut places = Vec::new();
            let problems = manifest::parse_each(&path, &bytes, |document| places.push(document.into_parts().1));
            (places, problems)
        } else {
            let parsed = manifest::parse(&path, &bytes);
            kept = parsed.documents;
            (kept.iter().map(|document| document.place().clone()).collect(), parsed.problems)
        };
        // Other processes do not count, where the system tells.
        let seconds = match (busy, busy_seconds()) {
            (Some(before), Some(after)) => after - before,
            _ => started.elapsed().as_secs_f64(),
        };
        #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
        let megabytes = bytes.len() as f64 / 1e6;
        let located = Instant::now();
        let lines: u64 = places.iter().map(|place| u64::from(place.locate("/spec/replicas").line)).sum();
        writeln!(
            stdout(),
            "{path}: {} objects, {} problems, {megabytes:.1} MB in {seconds:.3} s ({:.1} MB/s); a place in each: {:.3} s (sum {lines}){}",
            places.len(),
            problems.len(),
            megabytes / seconds,
            located.elapsed().as_secs_f64(),
            peak().map(|peak| format!("; at most {peak} in memory")).unwrap_or_default(),
        )?;
        if let Some(problem) = problems.first() {
            writeln!(stdout(), "  {}:{} {}", problem.line, problem.column, problem.message)?;
        }
    }
    Ok(())
}

/// How long this thread has had a processor, where Linux tells.
fn busy_seconds() -> Option<f64> {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedule.split(' ').next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
}

/// The most memory this process has had, where Linux tells.
fn peak() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|size| size.trim().to_owned())
}
