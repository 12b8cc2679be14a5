//! Reads files and says how fast, and what was in them: `cargo run --release -p manifest --example speed -- FILE...`.

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let bytes = fs::read(&path)?;
        let started = Instant::now();
        let parsed = manifest::parse(&path, &bytes);
        let seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
        let megabytes = bytes.len() as f64 / 1e6;
        let located = Instant::now();
        let lines: u64 =
            parsed.documents.iter().map(|document| u64::from(document.locate("/spec/replicas").line)).sum();
        writeln!(
            stdout(),
            "{path}: {} objects, {} problems, {megabytes:.1} MB in {seconds:.3} s ({:.1} MB/s); a place in each: {:.3} s (sum {lines}){}",
            parsed.documents.len(),
            parsed.problems.len(),
            megabytes / seconds,
            located.elapsed().as_secs_f64(),
            peak().map(|peak| format!("; at most {peak} in memory")).unwrap_or_default(),
        )?;
        if let Some(problem) = parsed.problems.first() {
            writeln!(stdout(), "  {}:{} {}", problem.line, problem.column, problem.message)?;
        }
    }
    Ok(())
}

/// The most memory this process has had, where Linux tells.
fn peak() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|size| size.trim().to_owned())
}
