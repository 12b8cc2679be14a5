//! Reads Kubernetes manifests as kubectl does, and remembers where each field stands.
//!
//! [`parse`] takes the bytes of one input, YAML or JSON by what they are, and gives its objects and what could not be read.
//! What is broken in one document never hides another: documents are cut apart at `---` before any of them is read. It opens
//! no file and knows no kind of object, only documents and `List`s.
//!
//! ```
//! let parsed = manifest::parse("zk.yaml", b"kind: StatefulSet\nspec:\n  replicas: 4\n---\nkind: [");
//! let set = &parsed.documents[0];
//! assert_eq!(set.value["spec"]["replicas"], 4);
//! assert_eq!((set.locate("/spec/replicas").line, set.locate("/spec/replicas").column), (3, 3));
//! // What does not exist is located at what should hold it.
//! assert_eq!(set.locate("/spec/template/spec"), set.locate("/spec"));
//! assert_eq!(parsed.problems[0].line, 5);
//! ```
//!
//! # As kubectl reads it
//!
//! The judge is kubectl's own path, `YAMLOrJSONDecoder` of k8s.io/apimachinery over sigs.k8s.io/yaml and go-yaml v2:
//! `tests/data/kubectl.jsonl` holds what it makes of some 1,500 texts, and a test compares. So scalars are those of YAML
//! 1.1 as Go knows them: `yes`, `on`, `y` are true, `0777`, `0o7`, `0x1F`, `0b1`, `1_000` numbers, `1:30` and dates texts, keys
//! become texts, merge keys are merged (and overwrite the keys above them), and a number is an integer if an `i64` holds it.
//!
//! It differs where kubectl is silent or a person is better served:
//!
//! * A key that occurs twice is a [`Problem`]; the document is still given, with the last value, as kubectl has it.
//! * What stands behind `...`, and a separator with more than a comment, are problems of that document alone.
//! * JSON with `//` comments is refused at the comment, also where go-yaml would take it for text.
//! * A byte order mark inside a document, and several JSON objects where kubectl reads but the first, are problems.
//! * The event parser (`granit-parser`) knows YAML 1.2: tabs may separate where libyaml refuses them, an anchor may have any
//!   name (`*x: 1` is an alias named `x:`), `[a:]` holds a mapping, U+0085, U+2028 and U+2029 end no line, and the further
//!   lines of a quoted text must be indented. `tests/data/differences.jsonl` names every text that is read differently.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | an input | below 4 GiB ([`MAX_SIZE`]) |
//! | nesting, also through aliases | [`MAX_DEPTH`] levels |
//! | what all aliases of an input add | 32 times its size and 256 KiB, at most 128 MiB, as memory |
//! | problems of an input | [`MAX_PROBLEMS`], then one that counts the rest |
//!
//! Time and memory are linear in the input. A field's place takes 12 bytes; lines and columns are computed when asked for.

mod build;
mod chunk;
mod document;
mod helm;
mod json;
mod list;
mod scalar;
mod source;
mod text;
mod tree;
mod yaml;

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::build::{Budget, Builder, Built, Fault};
use crate::chunk::Chunk;

pub use crate::build::MAX_DEPTH;
pub use crate::document::{Document, Place};
pub use crate::source::{Excerpt, Location, Source};

/// The largest input in bytes. Places are kept as 32 bits.
pub const MAX_SIZE: usize = u32::MAX as usize - 1;

/// How many problems of one input are told.
pub const MAX_PROBLEMS: usize = 100;

/// What could not be read, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// A sentence without a full stop, for a person.
    pub message: String,
}

impl Problem {
    fn at(source: &Source, offset: usize, message: impl Into<String>) -> Self {
        let Location { line, column } = source.location(offset);
        Self { line, column, message: message.into() }
    }
}

/// What an input holds.
#[derive(Debug)]
pub struct Parsed {
    /// The objects, in order; `List`s are taken apart.
    pub documents: Vec<Document>,
    /// What could not be read, in order.
    pub problems: Vec<Problem>,
}

/// Reads an input. `name` is what findings call it: a path, or `-`.
pub fn parse(name: &str, text: &[u8]) -> Parsed {
    let mut documents = Vec::new();
    let problems = parse_each(name, text, |document| documents.push(document));
    documents.shrink_to_fit();
    Parsed { documents, problems }
}

/// Reads an input and hands out each object as soon as it is read, so that not all values need to be in memory at once.
/// Gives the problems, in order.
pub fn parse_each(name: &str, text: &[u8], mut visit: impl FnMut(Document)) -> Vec<Problem> {
    if text.len() > MAX_SIZE {
        let message = "the file is larger than 4 GiB: split it".to_owned();
        return vec![Problem { line: 1, column: 1, message }];
    }
    let read = match text::read(text) {
        Ok(read) => read,
        Err(not) => {
            let before = String::from_utf8_lossy(text.get(..not.at).unwrap_or_default());
            let source = Source::new(name, Arc::from(before.as_ref()));
            return vec![Problem::at(&source, not.at, not.message)];
        }
    };
    let source = Arc::new(Source::new(name, Arc::from(read.text)));
    let mut reader = Reader {
        budget: Budget::new(text.len()),
        broken: read.broken,
        problems: Problems { source: Arc::clone(&source), told: Vec::new(), untold: 0 },
        source,
        stream: false,
        visit: &mut visit,
    };
    let text = Arc::clone(&reader.source);
    for (index, chunk) in chunk::split(text.text()).enumerate() {
        reader.chunk(index, chunk);
    }
    reader.problems.finish()
}

/// Problems with their places, up to [`MAX_PROBLEMS`].
struct Problems {
    source: Arc<Source>,
    told: Vec<Problem>,
    untold: usize,
}

impl Problems {
    fn push(&mut self, offset: usize, message: impl Into<String>) {
        if self.told.len() < MAX_PROBLEMS {
            self.told.push(Problem::at(&self.source, offset, message));
        } else {
            self.untold += 1;
        }
    }

    fn room(&self) -> usize {
        // One more than fits, so that what is left out is counted.
        MAX_PROBLEMS + 1 - self.told.len()
    }

    fn finish(mut self) -> Vec<Problem> {
        self.told.sort_by_key(|problem| (problem.line, problem.column));
        if self.untold > 0 {
            let (line, column) = self.told.last().map_or((1, 1), |last| (last.line, last.column));
            let message = "more problems follow that are not told: correct these first".to_owned();
            self.told.push(Problem { line, column, message });
        }
        self.told
    }
}

struct Reader<'a, V> {
    source: Arc<Source>,
    budget: Budget,
    broken: Vec<usize>,
    problems: Problems,
    /// Whether the input began with several JSON objects, after which kubectl expects nothing but more of them.
    stream: bool,
    visit: &'a mut V,
}

/// A document that could be read, and what was wrong with it all the same.
struct Read {
    built: Option<Built>,
    duplicates: Vec<build::Duplicate>,
}

impl<V: FnMut(Document)> Reader<'_, V> {
    fn chunk(&mut self, index: usize, chunk: Chunk) {
        let source = Arc::clone(&self.source);
        let Chunk { range, bad_separator } = chunk;
        let text = &source.text()[range.clone()];
        if let Some(at) = bad_separator {
            let message = "a line that begins with `---` separates documents and may hold nothing else but a comment: \
                           kubectl reads no further here, put the rest on the next line";
            self.problems.push(at, message);
            return;
        }
        if self.stream {
            let message = "kubectl refuses `---` after several JSON objects: put one between all of them, or nowhere";
            self.problems.push(range.start, message);
            self.stream = false;
        }
        let hole = self.broken.partition_point(|at| *at < range.start);
        if let Some(at) = self.broken.get(hole).filter(|at| range.contains(at)) {
            self.problems.push(*at, "not a text file: this is not UTF-8 (save the file as UTF-8)");
            return;
        }
        if is_blank(text) {
            return;
        }
        let mut at = range.start;
        let begins = text.trim_start_matches('\u{feff}').trim_start();
        if begins.starts_with('{') {
            at = range.end - begins.len();
            match self.json(index, &range, at) {
                Some(rest) => at = rest,
                None => return,
            }
        }
        match self.yaml(at..range.end) {
            Ok(read) => self.object(index, &range, read),
            Err(fault) => self.refuse(&range, fault),
        }
    }

    /// Reads JSON objects as long as there are some. Gives where YAML should go on, or nothing if nothing is left.
    fn json(&mut self, index: usize, range: &Range<usize>, mut at: usize) -> Option<usize> {
        let source = Arc::clone(&self.source);
        let text = &source.text()[..range.end];
        let start = at;
        loop {
            let mut builder = Builder::new(&mut self.budget, self.problems.room());
            match json::read(text, at, &mut builder) {
                Ok(end) => {
                    let duplicates = std::mem::take(&mut builder.duplicates);
                    let built = builder.finish();
                    self.object(index, range, Read { built, duplicates });
                    at = json::skip(text, end);
                }
                // What begins as JSON may be YAML all the same: `{a: 1}`, or a comma too many.
                Err(fault) if fault.syntax => {
                    let looks_like_json = text[json::skip(text, at + 1)..].starts_with('"');
                    match self.yaml(at..range.end) {
                        Ok(read) => self.object(index, range, read),
                        Err(other) if !looks_like_json => self.refuse(range, other),
                        _ => self.refuse(range, fault),
                    }
                    return None;
                }
                Err(fault) => {
                    self.refuse(range, fault);
                    return None;
                }
            }
            match text.as_bytes().get(at) {
                None => return None,
                Some(b'{') if index == 0 => self.stream = true,
                // Once it reads YAML, kubectl takes the first value between two separators for all of it.
                Some(b'{') => self.problems.push(at, "kubectl ignores this object: put `---` before it"),
                // kubectl tries YAML with the rest of what began as JSON.
                Some(_) => {
                    let own_line = text[start..at].ends_with('\n');
                    match self.yaml(at..range.end) {
                        Ok(Read { built: None, .. }) => {}
                        Ok(read) if own_line && read.built.as_ref().is_some_and(|built| built.value.is_object()) => {
                            self.object(index, range, read);
                        }
                        _ => {
                            let message = "this follows a complete JSON object: remove it, or put `---` before it";
                            self.problems.push(at, message);
                        }
                    }
                    return None;
                }
            }
        }
    }

    fn yaml(&mut self, range: Range<usize>) -> Result<Read, Fault> {
        let text = &self.source.text()[range.clone()];
        if let Some((at, character)) = text::forbidden(text) {
            let message = format!("the control character U+{:04X} is not allowed: remove it", u32::from(character));
            return Err(Fault::new(range.start + at, message));
        }
        let mut builder = Builder::new(&mut self.budget, self.problems.room());
        yaml::read(text, range.start, &mut builder)?;
        let duplicates = std::mem::take(&mut builder.duplicates);
        Ok(Read { built: builder.finish(), duplicates })
    }

    /// Hands out what was read, if it is an object.
    fn object(&mut self, index: usize, range: &Range<usize>, read: Read) {
        for duplicate in read.duplicates {
            let first = self.source.location(duplicate.first).line;
            let second = self.source.location(duplicate.second).line;
            let key = scalar::shorten(&duplicate.key);
            let message = format!(
                "the key `{key}` is here a second time (line {second}), it was set in line {first}: kubectl silently keeps the last, remove one"
            );
            self.problems.push(duplicate.second, message);
        }
        let Some(Built { value, tree }) = read.built else { return };
        let at = tree.offset(0);
        match &value {
            Value::Object(_) => {}
            Value::Null => return,
            Value::Array(_) => {
                let message = "a Kubernetes object is a mapping, this is a list: make it `kind: List` with `apiVersion: v1` and these as `items`, \
                               or separate the objects by `---`";
                return self.problems.push(at, message);
            }
            other => {
                let text = &self.source.text()[range.clone()];
                if let Some(template) = helm::first(text) {
                    return self.problems.push(range.start + template, helm::ADVICE);
                }
                let what = what(other);
                let message =
                    format!("a Kubernetes object is a mapping (`apiVersion: ...`, `kind: ...`), this is {what}");
                return self.problems.push(at, message);
            }
        }
        let place = Place::new(Arc::clone(&self.source), Arc::new(tree), 0, index, range.clone());
        let problems = &mut self.problems;
        list::expand(Document::new(value, place), self.visit, &mut |at, message| problems.push(at, message));
    }

    fn refuse(&mut self, range: &Range<usize>, fault: Fault) {
        let text = &self.source.text()[range.clone()];
        match helm::first(text) {
            Some(at) => self.problems.push(range.start + at, helm::ADVICE),
            None if text.contains("{{") && text.contains("}}") => {
                let message =
                    format!("{} (if this is a Helm template, render it first with `helm template`)", fault.message);
                self.problems.push(fault.at, message);
            }
            None => self.problems.push(fault.at, fault.message),
        }
    }
}

/// Whether a document has nothing but comments and space, which no parser needs to see. A tab is left to the parser.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim_start_matches(' ');
        line.is_empty() || line.starts_with('#') && text::forbidden(line).is_none()
    })
}

/// What a value is, in a message.
fn what(value: &Value) -> String {
    match value {
        Value::Null => "nothing (null)".to_owned(),
        Value::Bool(bool) => format!("`{bool}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", scalar::shorten(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}
