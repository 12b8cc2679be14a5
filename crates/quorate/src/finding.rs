//! What a check gives: findings, problems, notes and their count.

use std::sync::Arc;

use manifest::Source;
use serde::Serialize;
use serde_json::Value;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is told.
    Warning,
    /// A cluster with this policy would deny the object.
    Error,
}

impl Level {
    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Which object something is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its API version, as the manifest writes it.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace: `default` where the manifest names none, absent for what lives outside of namespaces.
    pub namespace: Option<String>,
    /// Its name; absent where it is still to be generated.
    pub name: Option<String>,
}

impl ObjectRef {
    /// Kind and name, as people speak of it: `StatefulSet zk`.
    pub fn spoken(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.kind),
            None => self.kind.clone(),
        }
    }
}

/// A place in an input.
#[derive(Debug, Clone)]
pub struct Place {
    /// The input's name: a path as it was given, or `-` for standard input.
    pub file: Arc<str>,
    /// The line, from 1; absent where it is about the input as a whole.
    pub line: Option<u32>,
    /// The column, from 1, in characters; absent where the line is.
    pub column: Option<u32>,
    /// The text, from which an excerpt can be shown.
    pub(crate) source: Option<Arc<Source>>,
}

impl Place {
    /// The input as a whole.
    pub(crate) fn whole(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), line: None, column: None, source: None }
    }

    /// A line and a column of an input of which there is no text to show.
    pub(crate) fn of_problem(file: &Arc<str>, problem: &manifest::Problem) -> Self {
        Self { file: Arc::clone(file), line: Some(problem.line), column: Some(problem.column), source: None }
    }

    /// The field at a JSON Pointer.
    pub(crate) fn of_field(file: &Arc<str>, place: &manifest::Place, pointer: &str) -> Self {
        let location = place.locate(pointer);
        Self {
            file: Arc::clone(file),
            line: Some(location.line),
            column: Some(location.column),
            source: Some(Arc::clone(place.source())),
        }
    }

    /// The line that it is on, cut to what a terminal shows.
    pub fn excerpt(&self) -> Option<manifest::Excerpt> {
        let location = manifest::Location { line: self.line?, column: self.column? };
        self.source.as_ref()?.excerpt(location)
    }
}

/// One thing that a policy, or the checker itself, found wrong with an object.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The policy; [`CHECKER`] for what the checker itself finds.
    pub policy: Arc<str>,
    /// Which rule of the policy.
    pub code: String,
    /// How much it weighs.
    pub level: Level,
    /// The object that `path` is in.
    pub object: ObjectRef,
    /// The field, as a JSON Pointer; empty for the object as a whole.
    pub path: String,
    /// Where that is.
    pub place: Place,
    /// What is wrong, in the API server's form.
    pub message: String,
    /// Why it matters; may be empty.
    pub why: String,
    /// What to do; may be empty.
    pub advice: String,
    /// The address of a page that says more; absent where the policy names none.
    pub see: Option<String>,
    /// The JSON Patch (RFC 6902) of the judged object that mends it.
    pub patch: Option<Value>,
    /// A whole object to create, which mends it.
    pub creates: Option<Value>,
}

impl Finding {
    /// Whether it comes with all that is needed to mend it.
    pub fn fixable(&self) -> bool {
        self.patch.is_some() || self.creates.is_some()
    }
}

/// The name under which the checker itself finds something.
pub const CHECKER: &str = "quorate";

/// What could not be read or run.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Where; absent where no input is to blame.
    pub place: Option<Place>,
    /// A sentence without a full stop.
    pub message: String,
}

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// A file was passed over.
    Skipped,
    /// An object is defined more than once.
    Duplicate,
    /// How a policy came to its judgement.
    Judgement,
}

/// A remark: neither praise nor blame, told on request.
#[derive(Debug, Clone)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// Where.
    pub place: Place,
    /// The object; absent where it is about a file.
    pub object: Option<ObjectRef>,
    /// A sentence without a full stop.
    pub message: String,
}

/// How much there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Inputs that were read; those passed over are not counted.
    pub files: usize,
    /// Kubernetes objects in them.
    pub objects: usize,
    /// Findings of [`Level::Error`].
    pub errors: usize,
    /// Findings of [`Level::Warning`].
    pub warnings: usize,
    /// Problems.
    pub problems: usize,
    /// Findings that were suppressed.
    pub suppressed: usize,
}

/// All that a check gives.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of the inputs, then by line.
    pub findings: Vec<Finding>,
    /// In the order of the inputs, then by line; those of no input first.
    pub problems: Vec<Problem>,
    /// In the order of the inputs, then by line.
    pub notes: Vec<Note>,
    /// The count.
    pub summary: Summary,
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that counts was found.
    Good,
    /// Findings that count.
    Findings,
    /// Something could not be read or run: what was not found there may still be there.
    Problems,
}

impl Verdict {
    /// The exit code of the command.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Findings => 1,
            Self::Problems => 2,
        }
    }
}

impl Report {
    /// Adds problems that are of no input.
    pub fn add_problems(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.splice(0..0, problems);
        self.summary.problems = self.problems.len();
    }

    /// What it comes to, where findings count from `fail_on` upwards. A problem outweighs every finding.
    pub fn verdict(&self, fail_on: Level) -> Verdict {
        if !self.problems.is_empty() {
            Verdict::Problems
        } else if self.findings.iter().any(|finding| finding.level >= fail_on) {
            Verdict::Findings
        } else {
            Verdict::Good
        }
    }
}
