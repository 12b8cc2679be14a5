//! The report for a person: each finding with its place, the line that it is about, the reason and the fix.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{safe, yaml};
use crate::finding::{Finding, Level, Note, NoteKind, Place, Problem, Report, Summary};
use crate::input::STDIN;

/// How the report looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether remarks are told.
    pub notes: bool,
    /// Whether colours are used.
    pub color: bool,
}

/// The styles of the parts; all of them plain without colours.
#[derive(Default)]
struct Styles {
    place: Style,
    error: Style,
    warning: Style,
    note: Style,
    label: Style,
    faint: Style,
}

impl Styles {
    fn colored() -> Self {
        let colored = |color: AnsiColor| color.on_default().bold();
        Self {
            place: Style::new().bold(),
            error: colored(AnsiColor::Red),
            warning: colored(AnsiColor::Yellow),
            note: colored(AnsiColor::Cyan),
            label: colored(AnsiColor::Green),
            faint: Style::new().dimmed(),
        }
    }

    fn of(&self, level: Level) -> Style {
        match level {
            Level::Error => self.error,
            Level::Warning => self.warning,
        }
    }
}

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, options: Options, out: &mut impl Write) -> io::Result<()> {
    let styles = if options.color { Styles::colored() } else { Styles::default() };
    for finding in &report.findings {
        write_finding(finding, &styles, out)?;
        writeln!(out)?;
    }
    for problem in &report.problems {
        write_problem(problem, &styles, out)?;
    }
    if options.notes {
        for note in &report.notes {
            write_note(note, &styles, out)?;
        }
    }
    let noted = options.notes && !report.notes.is_empty();
    if !report.problems.is_empty() || noted {
        writeln!(out)?;
    }
    let duplicates = report.notes.iter().filter(|note| note.kind == NoteKind::Duplicate).count();
    if duplicates > 0 && !options.notes {
        let note = styles.note;
        let are = if duplicates == 1 { "1 object is" } else { &format!("{duplicates} objects are") };
        writeln!(
            out,
            "{note}note{note:#}: {are} defined again later; look-ups see the last of its name (-v says which)"
        )?;
    }
    writeln!(out, "{}", summary(report.summary))
}

fn write_finding(finding: &Finding, styles: &Styles, out: &mut impl Write) -> io::Result<()> {
    let (level, at, faint) = (styles.of(finding.level), styles.place, styles.faint);
    writeln!(
        out,
        "{at}{}{at:#}: {level}{}[{}/{}]{level:#}: {}{}",
        place(&finding.place),
        finding.level.as_str(),
        safe(&finding.policy),
        safe(&finding.code),
        subject(finding),
        safe_lines(&finding.message, 4)
    )?;
    if let (Some(excerpt), Some(line)) = (finding.place.excerpt(), finding.place.line) {
        let text = safe(&excerpt.text);
        let shown = text.trim_end();
        let number = line.to_string();
        let (before, after) = (if excerpt.cut_before { "..." } else { "" }, if excerpt.cut_after { "..." } else { "" });
        let from = (excerpt.column as usize).saturating_sub(1);
        let width = shown.chars().count().saturating_sub(from).max(1);
        let skipped = before.len() + from;
        writeln!(out, " {faint}{number} |{faint:#} {before}{shown}{after}")?;
        writeln!(
            out,
            " {:number_width$} {faint}|{faint:#} {:skipped$}{level}{}{level:#}",
            "",
            "",
            "^".repeat(width),
            number_width = number.len()
        )?;
    }
    for (name, text) in [("why", &finding.why), ("fix", &finding.advice)] {
        if !text.is_empty() {
            write_labelled(name, &safe_lines(text, 7), styles, out)?;
        }
    }
    // A warning is told in its own words.
    if let (Level::Error, Some(page)) = (finding.level, &finding.see) {
        write_labelled("see", &safe(page), styles, out)?;
    }
    if let Some(object) = &finding.creates {
        write_labelled("add", "this object", styles, out)?;
        for line in yaml::lines(object) {
            writeln!(out, "       {line}")?;
        }
    }
    Ok(())
}

fn write_labelled(name: &str, text: &str, styles: &Styles, out: &mut impl Write) -> io::Result<()> {
    let label = styles.label;
    writeln!(out, "  {label}{name}{label:#}: {text}")
}

/// The object, where the message does not begin with it already.
fn subject(finding: &Finding) -> String {
    let spoken = format!("{}: ", finding.object.spoken());
    if finding.message.starts_with(&spoken) { String::new() } else { safe(&spoken) }
}

fn write_problem(problem: &Problem, styles: &Styles, out: &mut impl Write) -> io::Result<()> {
    let (error, at) = (styles.error, styles.place);
    if let Some(where_) = &problem.place {
        write!(out, "{at}{}{at:#}: ", place(where_))?;
    }
    writeln!(out, "{error}problem{error:#}: {}", safe_lines(&problem.message, 4))
}

fn write_note(note: &Note, styles: &Styles, out: &mut impl Write) -> io::Result<()> {
    let (color, at) = (styles.note, styles.place);
    let about = note.object.as_ref().map(|object| format!("{}: ", safe(&object.spoken()))).unwrap_or_default();
    writeln!(out, "{at}{}{at:#}: {color}note{color:#}: {about}{}", place(&note.place), safe_lines(&note.message, 4))
}

fn place(place: &Place) -> String {
    let file = if &*place.file == STDIN { "<stdin>".to_owned() } else { safe(&place.file) };
    match (place.line, place.column) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        _ => file,
    }
}

/// The text of a policy, which may have several lines: the further ones indented.
fn safe_lines(text: &str, indent: usize) -> String {
    let lines: Vec<String> = text.trim_end().lines().map(safe).collect();
    lines.join(&format!("\n{:indent$}", ""))
}

/// `3 files, 12 objects: 2 errors, 1 warning, 1 problem`.
fn summary(summary: Summary) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let Summary { files, objects, errors, warnings, problems, suppressed } = summary;
    let mut found = Vec::new();
    for (number, what) in [(errors, "error"), (warnings, "warning"), (problems, "problem")] {
        if number > 0 {
            found.push(count(number, what));
        }
    }
    if suppressed > 0 {
        found.push(format!("{suppressed} suppressed"));
    }
    let found = if found.is_empty() { "nothing found".to_owned() } else { found.join(", ") };
    format!("{}, {}: {found}", count(files, "file"), count(objects, "object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_in_words() {
        let one = Summary { files: 1, objects: 1, errors: 1, warnings: 1, problems: 1, suppressed: 1 };
        assert_eq!(summary(one), "1 file, 1 object: 1 error, 1 warning, 1 problem, 1 suppressed");
        let many = Summary { files: 3, objects: 12, errors: 2, warnings: 0, problems: 0, suppressed: 0 };
        assert_eq!(summary(many), "3 files, 12 objects: 2 errors");
        assert_eq!(summary(Summary::default()), "0 files, 0 objects: nothing found");
    }
}
