//! What a case file holds.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{Judge, World, run};

/// A case cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseError {
    file: PathBuf,
    problem: String,
}

impl CaseError {
    pub(crate) fn new(file: &Path, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for CaseError {}

/// What must come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Accepted, with or without warnings.
    Accept,
    /// Denied.
    Deny,
}

/// A change through the `scale` subresource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The count before.
    pub from: i32,
    /// The count after.
    pub to: i32,
}

/// The first document of a case.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file, absent in most")]
pub struct Header {
    /// What must come of it.
    pub expect: Expect,
    /// Every finding: level, code, place; with the object before the place where it is another one.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Texts that the message, the warnings, the notes, or the why or advice of a finding must hold.
    #[serde(default)]
    pub says: Vec<String>,
    /// The settings.
    #[serde(default)]
    pub settings: Option<Value>,
    /// An UPDATE: what must be merged (RFC 7396) into the object to get the one before.
    #[serde(default)]
    pub before: Option<Value>,
    /// A DELETE.
    #[serde(default)]
    pub delete: bool,
    /// An UPDATE of the `scale` subresource.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Who asks.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether nothing will be stored.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether the request carries no name, as the deletion of a collection.
    #[serde(default)]
    pub nameless: bool,
    /// Whether the host grants look-ups.
    #[serde(default = "yes")]
    pub lookups: bool,
    /// What must be merged (RFC 7396) into the object to get the mutated one. Absent: it must not be mutated.
    #[serde(default)]
    pub mutated: Option<Value>,
    /// The JSON Patches (RFC 6902) of all findings, by code; where several have the code, one after the other. Absent:
    /// not looked at; empty: there are none.
    #[serde(default)]
    pub patches: Option<BTreeMap<String, Vec<Value>>>,
    /// The objects whose creation the findings propose, by code. Absent: not looked at; empty: there are none.
    #[serde(default)]
    pub creates: Option<BTreeMap<String, Vec<Value>>>,
    /// Fields of the request, merged (RFC 7396) last, for what no real API server sends.
    #[serde(default)]
    pub request: Option<Value>,
}

fn yes() -> bool {
    true
}

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The policy.
    pub policy: String,
    /// The file's name, or the README and the line of the example.
    pub name: String,
    /// The file, where the expected findings can be rewritten.
    pub file: Option<PathBuf>,
    /// What is asked and what must come of it.
    pub header: Header,
    /// The object.
    pub object: Value,
    /// What else the cluster holds.
    pub others: Vec<Value>,
}

impl Case {
    /// Asks `judge` what the case asks.
    ///
    /// # Errors
    /// Everything that is not as the case says.
    pub fn run(&self, judge: Judge<'_>) -> Result<(), String> {
        run::run(self, judge)
    }

    /// The cluster of the case, and the request that it asks.
    ///
    /// # Errors
    /// No request can be built of it.
    pub fn prepare(&self) -> Result<(World, Value), String> {
        run::prepare(self)
    }

    /// The object before the update that the case is, if it is one.
    pub fn old(&self) -> Option<Value> {
        self.header.before.as_ref().map(|patch| run::merged(&self.object, patch))
    }

    /// Whether the cluster holds anything: other objects, or the one that is scaled.
    pub fn has_world(&self) -> bool {
        !self.others.is_empty() || self.header.scale.is_some()
    }

    /// Reads one case file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(policy: &str, file: &Path) -> Result<Self, CaseError> {
        let text = fs::read(file).map_err(|error| CaseError::new(file, error.to_string()))?;
        let mut documents = documents(file, &text)?.into_iter();
        let header = documents.next().ok_or_else(|| CaseError::new(file, "there is no header"))?;
        let header =
            serde_json::from_value(header).map_err(|error| CaseError::new(file, format!("header: {error}")))?;
        let object = documents.next().ok_or_else(|| CaseError::new(file, "there is no object after the header"))?;
        Ok(Self {
            policy: policy.to_owned(),
            name: file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            file: Some(file.to_owned()),
            header,
            object,
            others: documents.collect(),
        })
    }
}

/// The examples in a README: fenced blocks that begin with `yaml accept` or `yaml deny`, then the codes of all
/// findings. A setting may follow as JSON: `yaml deny even-members {"min": 5}`.
pub(crate) fn examples(policy: &str, file: &Path) -> Result<Vec<Case>, CaseError> {
    let text = fs::read_to_string(file).map_err(|error| CaseError::new(file, error.to_string()))?;
    let mut cases = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```yaml ") else { continue };
        let name = format!("README.md:{}", number + 1);
        let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let (words, settings) = match info.find('{') {
            Some(start) => (&info[..start], Some(&info[start..])),
            None => (info, None),
        };
        let settings = settings
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| CaseError::new(file, format!("{name}: settings: {error}")))?;
        let mut words = words.split_whitespace();
        let expect = match words.next() {
            Some("accept") => Expect::Accept,
            Some("deny") => Expect::Deny,
            other => {
                return Err(CaseError::new(file, format!("{name}: {other:?} is neither accept nor deny")));
            }
        };
        let mut documents = documents(file, block.join("\n").as_bytes())?.into_iter();
        let object = documents.next().ok_or_else(|| CaseError::new(file, format!("{name}: the example is empty")))?;
        cases.push(Case {
            policy: policy.to_owned(),
            name,
            file: None,
            header: Header {
                expect,
                findings: words.map(str::to_owned).collect(),
                says: Vec::new(),
                settings,
                before: None,
                delete: false,
                scale: None,
                user: None,
                dry_run: false,
                nameless: false,
                lookups: true,
                mutated: None,
                patches: None,
                creates: None,
                request: None,
            },
            object,
            others: documents.collect(),
        });
    }
    Ok(cases)
}

pub(crate) fn documents(file: &Path, text: &[u8]) -> Result<Vec<Value>, CaseError> {
    let parsed = manifest::parse(&file.display().to_string(), text);
    if let Some(problem) = parsed.problems.first() {
        return Err(CaseError::new(file, format!("line {}: {}", problem.line, problem.message)));
    }
    Ok(parsed.documents.into_iter().map(|document| document.value).collect())
}
