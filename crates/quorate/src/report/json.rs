//! The report as JSON: a stable interface, described in `docs/json.md`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::is_unsafe;
use crate::finding::{Finding, Level, Note, ObjectRef, Place, Problem, Report, Summary};

/// The version of the format. Fields may be added to a version; a field that goes or changes makes a new one.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    findings: Vec<FindingEntry<'a>>,
    problems: Vec<ProblemEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<Vec<NoteEntry<'a>>>,
    summary: Summary,
}

#[derive(Serialize)]
struct FindingEntry<'a> {
    policy: &'a str,
    code: &'a str,
    level: Level,
    object: &'a ObjectRef,
    path: &'a str,
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    message: &'a str,
    why: &'a str,
    advice: &'a str,
    see: Option<&'a str>,
    fixable: bool,
}

#[derive(Serialize)]
struct ProblemEntry<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    message: &'a str,
}

#[derive(Serialize)]
struct NoteEntry<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    object: Option<&'a ObjectRef>,
    message: &'a str,
}

/// Writes the report; with `notes`, the remarks too.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, notes: bool, out: &mut impl Write) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA,
        findings: report.findings.iter().map(finding).collect(),
        problems: report.problems.iter().map(problem).collect(),
        notes: notes.then(|| report.notes.iter().map(note).collect()),
        summary: report.summary,
    };
    document.serialize(&mut Serializer::with_formatter(&mut *out, Escaped(PrettyFormatter::new())))?;
    out.write_all(b"\n")
}

fn finding(finding: &Finding) -> FindingEntry<'_> {
    let Place { file, line, column, .. } = &finding.place;
    FindingEntry {
        policy: &finding.policy,
        code: &finding.code,
        level: finding.level,
        object: &finding.object,
        path: &finding.path,
        file,
        line: *line,
        column: *column,
        message: &finding.message,
        why: &finding.why,
        advice: &finding.advice,
        see: finding.see.as_deref(),
        fixable: finding.fixable(),
    }
}

fn problem(problem: &Problem) -> ProblemEntry<'_> {
    let place = problem.place.as_ref();
    ProblemEntry {
        file: place.map(|place| &*place.file),
        line: place.and_then(|place| place.line),
        column: place.and_then(|place| place.column),
        message: &problem.message,
    }
}

fn note(note: &Note) -> NoteEntry<'_> {
    let Place { file, line, column, .. } = &note.place;
    NoteEntry { file, line: *line, column: *column, object: note.object.as_ref(), message: &note.message }
}

/// Escapes more than JSON asks for, since this too ends up on terminals.
struct Escaped(PrettyFormatter<'static>);

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, character)| is_unsafe(*character)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            // None of them is outside of the plane that one escape reaches.
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &rest[at + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_written_and_all_is_read_back() {
        let message = "a\u{1b}[2J \u{9b}31m \u{202e}é\u{7f}";
        let problems = vec![Problem { place: None, message: message.to_owned() }];
        let report = Report { problems, ..Report::default() };
        let mut out = Vec::new();
        write(&report, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.chars().all(|character| character == '\n' || !is_unsafe(character)), "{text:?}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["problems"][0]["message"], message);
        assert_eq!(read["problems"][0]["file"], Value::Null);
    }
}
