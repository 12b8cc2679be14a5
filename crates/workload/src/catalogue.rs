//! The catalogue of systems: which containers vote for a majority, and what is known of each system.
//!
//! Everything here comes from `catalogue.toml`, which names the source of every fact; `build.rs` turns it into statics, so
//! that a module parses nothing when it starts. What a policy does not ask for is not linked into its module: recognising a
//! system needs [`SYSTEMS`] alone, and each kind of fact (probes, heap, ...) is a table of its own behind a function of
//! [`System`].

use serde_json::Value;

use crate::glob;

/// How a system stays available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// More than half of the members must be up and able to talk to each other.
    Majority,
    /// Members do not vote: any number is right, and an even one wastes nothing.
    None,
}

/// A system that the catalogue knows.
#[derive(Debug)]
pub struct System {
    /// Stable identifier, as settings and the documentation write it: `zookeeper`.
    pub id: &'static str,
    /// The name people use: `Apache ZooKeeper`.
    pub name: &'static str,
    /// Whether its members vote.
    pub model: Model,
    /// Who votes on what, for [`Model::Majority`]. `None`: all members, on everything; an even count is waste. `Some(n)`: groups
    /// of `n` members (the system's default) vote on a part of the data each, so that any count from `n` up is right and
    /// losing more than `(n - 1) / 2` members at once can stop a group however many members there are.
    pub group: Option<u32>,
    row: usize,
    /// The ways to recognise it, see [`is_met`]: one text, because a structure of as many small lists is larger than all
    /// that it holds, in every module.
    rules: &'static str,
}

/// Where a fact stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The page or the file.
    pub url: &'static str,
    /// The section, heading or field.
    pub section: &'static str,
    /// The version or commit that was read.
    pub version: &'static str,
}

/// Points to a [`Source`]; resolving it links the table of sources, which a guest rarely wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceId(usize);

impl SourceId {
    /// The source.
    pub fn get(self) -> Option<&'static Source> {
        SOURCES.get(self.0)
    }
}

/// Where a value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A key of the configuration file.
    Key(&'static str),
}

/// A setting that declares the members, or one that sets the heap or cache.
#[derive(Debug)]
pub struct SettingFact {
    /// The setting; globs are possible (`server.*`).
    pub setting: Setting,
    /// Where it stands.
    pub source: SourceId,
}

/// How a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The path of an HTTP request, with its query; a glob.
    Http(&'static str),
    /// The words of a command, joined by single spaces; a glob.
    Exec(&'static str),
}

/// Whom a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// This member alone: right for liveness.
    Member,
    /// The majority: as liveness it restarts the survivors when the majority is gone.
    Quorum,
}

/// What a probe of this system really asks. Take the first whose handler matches.
#[derive(Debug)]
pub struct ProbeFact {
    /// The handler.
    pub handler: Handler,
    /// Whom it asks.
    pub asks: Asks,
    /// Where it stands.
    pub source: SourceId,
}

/// The vendor's word on a liveness probe.
#[derive(Debug)]
pub struct Liveness {
    /// Whether there should be one.
    pub advised: bool,
    /// The reason, or the right probe, as a part of a message: without capital and full stop.
    pub note: &'static str,
    /// Where it stands.
    pub source: SourceId,
}

/// A directory that holds the state that must survive.
#[derive(Debug)]
pub struct DataPath {
    /// An absolute path.
    pub path: &'static str,
    /// Where it stands.
    pub source: SourceId,
}

/// A port that members or clients use.
#[derive(Debug)]
pub struct Port {
    /// What it is for.
    pub name: &'static str,
    /// The default number.
    pub number: u16,
    /// Where it stands.
    pub source: SourceId,
}

/// The field of an operator's custom resource that sets the number of members.
#[derive(Debug)]
pub struct CustomResource {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The field, as `kubectl explain` writes it.
    pub field: &'static str,
    /// Where it stands.
    pub source: SourceId,
}

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

impl System {
    /// The globs of the images of this system, see [`is_repository`].
    pub fn images(&self) -> impl Iterator<Item = &'static str> {
        self.rules.split('\n').flat_map(|rule| rule.split('\t').next().unwrap_or_default().split(' '))
    }

    /// Why its members vote, or do not, in a sentence or two.
    pub fn why(&self) -> &'static str {
        WHY.get(self.row).copied().unwrap_or_default()
    }

    /// Where the model stands.
    pub fn source(&self) -> Option<&'static Source> {
        SourceId(*BASIS.get(self.row)?).get()
    }

    /// The settings that say who the members are.
    pub fn membership(&self) -> &'static [SettingFact] {
        row(MEMBERSHIP, self.row)
    }

    /// The settings of heap or cache, which must leave room under the memory limit.
    pub fn heap(&self) -> &'static [SettingFact] {
        row(HEAP, self.row)
    }

    /// What known probes really ask.
    pub fn probes(&self) -> &'static [ProbeFact] {
        row(PROBES, self.row)
    }

    /// The vendor's word on liveness probes, where there is one.
    pub fn liveness(&self) -> Option<&'static Liveness> {
        LIVENESS.get(self.row)?.as_ref()
    }

    /// The directories that must survive.
    pub fn data_paths(&self) -> &'static [DataPath] {
        row(DATA_PATHS, self.row)
    }

    /// The default ports.
    pub fn ports(&self) -> &'static [Port] {
        row(PORTS, self.row)
    }

    /// Where operators keep the number of members.
    pub fn custom_resources(&self) -> &'static [CustomResource] {
        row(CUSTOM_RESOURCES, self.row)
    }
}

/// The facts of one row; the tables have one entry per system, in the order of [`SYSTEMS`].
fn row<T>(table: &'static [&'static [T]], row: usize) -> &'static [T] {
    table.get(row).copied().unwrap_or_default()
}

/// The system with this identifier.
pub fn system(id: &str) -> Option<&'static System> {
    SYSTEMS.iter().find(|system| system.id == id)
}

/// What of a container decides which system it is. Borrowed from the object; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct ContainerFacts<'a> {
    /// The image as written; empty where it is absent.
    pub image: &'a str,
    /// `command`, `args` and `env` as they stand; entries of a wrong type say nothing.
    command: &'a [Value],
    args: &'a [Value],
    env: &'a [Value],
}

impl<'a> ContainerFacts<'a> {
    /// Reads a container of a pod spec. Whatever is absent, null or of a wrong type counts as absent: saying what is
    /// malformed is the business of the rule that needs the field.
    pub fn read(container: &'a Value) -> Self {
        let list = |field| container.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        Self {
            image: container.get("image").and_then(Value::as_str).unwrap_or_default(),
            command: list("command"),
            args: list("args"),
            env: list("env"),
        }
    }

    /// Whether a word of the command line matches, those inside a script too.
    fn has_word(&self, pattern: &str) -> bool {
        let is_separator =
            |c: char| c.is_ascii_whitespace() || matches!(c, ';' | '"' | '\'' | '`' | '(' | ')' | '&' | '|');
        for list in [self.command, self.args] {
            for text in list.iter().filter_map(Value::as_str) {
                if text.split(is_separator).any(|word| glob::matches(pattern, word)) {
                    return true;
                }
            }
        }
        false
    }

    /// The last variable whose name matches: the kubelet lets a later entry of a name replace an earlier one.
    fn variable(&self, name: &str) -> Option<&'a Value> {
        let named =
            |entry: &&Value| entry.get("name").and_then(Value::as_str).is_some_and(|found| glob::matches(name, found));
        self.env.iter().rev().find(named)
    }

    /// The literal value of a variable; `None` where it is absent or comes from elsewhere.
    fn value(&self, name: &str) -> Option<&'a str> {
        let entry = self.variable(name)?;
        match entry.get("value") {
            Some(Value::String(value)) => Some(value),
            None | Some(Value::Null) if entry.get("valueFrom").is_none_or(Value::is_null) => Some(""),
            _ => None,
        }
    }
}

/// Whether a rule fits: one of its images matches, one of the conditions after `?` holds, where there are any, and none of
/// those after `!`. `build.rs` writes it: images with spaces between, then a tab before each condition.
fn is_met(rule: &str, repository: &str, container: &ContainerFacts<'_>) -> bool {
    let mut parts = rule.split('\t');
    if !parts.next().unwrap_or_default().split(' ').any(|pattern| is_repository(pattern, repository)) {
        return false;
    }
    let (mut is_asked, mut is_given) = (false, false);
    for part in parts {
        let (sign, condition) = part.split_at_checked(1).unwrap_or_default();
        let holds = holds(condition, container);
        if sign == "!" && holds {
            return false;
        }
        if sign == "?" {
            is_asked = true;
            is_given |= holds;
        }
    }
    is_given || !is_asked
}

/// Whether a condition holds; all texts are globs. `WORD`: a word of the command or the arguments, also inside
/// `sh -c "..."`. `$NAME`: a variable is there, whatever its value and wherever that comes from. `$NAME=VALUE`: it has a
/// literal value that matches. `$NAME/ONE/OTHER`: it has a literal value that matches none of these.
fn holds(condition: &str, container: &ContainerFacts<'_>) -> bool {
    let Some(variable) = condition.strip_prefix('$') else {
        return container.has_word(condition);
    };
    if let Some((name, value)) = variable.split_once('=') {
        return container.value(name).is_some_and(|found| glob::matches(value, found));
    }
    match variable.split_once('/') {
        Some((name, values)) => {
            container.value(name).is_some_and(|found| !values.split('/').any(|value| glob::matches(value, found)))
        }
        None => container.variable(variable).is_some(),
    }
}

/// The path in an image name `[registry/]repository[:tag][@digest]`. `library/` of the default registry stands only where it
/// was written. What no runtime would accept is not told apart: a name that a tool has yet to complete shows the system too.
///
/// Source: the grammar of `distribution/reference`, <https://github.com/distribution/reference/blob/v0.6.0/reference.go>, and
/// `splitDockerDomain` in its `normalize.go`.
pub fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    // A colon before the last slash belongs to the registry's port.
    let mut end = name.len();
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'/' => end = name.len(),
            b':' if end == name.len() => end = at,
            _ => {}
        }
    }
    let name = name.get(..end).unwrap_or_default();
    match name.split_once('/') {
        Some((first, path)) if is_registry(first) => path,
        _ => name,
    }
}

/// Whether the last segments of `repository` match `pattern`, segment by segment.
///
/// `zookeeper` matches `zookeeper`, `bitnami/zookeeper` and `registry.example/mirror/bitnami/zookeeper`, since companies
/// mirror images below paths of their own; `bitnami/zookeeper` matches the last two. A `*` stays within its segment.
pub fn is_repository(pattern: &str, repository: &str) -> bool {
    let deeper = repository.split('/').count().checked_sub(pattern.split('/').count());
    let mut segments = repository.split('/');
    for _ in 0..deeper.unwrap_or(usize::MAX) {
        if segments.next().is_none() {
            return false;
        }
    }
    pattern.split('/').all(|part| segments.next().is_some_and(|segment| glob::matches(part, segment)))
}

/// A first segment is a registry if it cannot be a path component of the default one.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.bytes().any(|byte| matches!(byte, b'.' | b':' | b'A'..=b'Z'))
}

/// The system that one container runs: the first row of [`SYSTEMS`] with a rule that fits.
pub fn system_of(container: &ContainerFacts<'_>) -> Option<&'static System> {
    // No runtime accepts a longer one, and a hostile one is longer by far.
    let repository = Some(repository(container.image)).filter(|repository| repository.len() <= 255)?;
    SYSTEMS.iter().find(|system| system.rules.split('\n').any(|rule| is_met(rule, repository, container)))
}

/// The system of a pod, and the index of the container that shows it. Give it the regular containers only: init and
/// ephemeral containers come and go, and say nothing about who votes.
///
/// A container that votes decides before one that does not: the sentinels beside Redis servers vote, although the
/// servers stand first. Among equals the first decides. Sidecars (exporters, reloaders) are in no row.
pub fn recognise<'a>(containers: impl Iterator<Item = ContainerFacts<'a>>) -> Option<(&'static System, usize)> {
    let mut first = None;
    for (index, container) in containers.enumerate() {
        match system_of(&container) {
            Some(system) if system.model == Model::Majority => return Some((system, index)),
            Some(system) => first = first.or(Some((system, index))),
            None => {}
        }
    }
    first
}

/// [`recognise`] over `containers` of a pod spec.
pub fn recognise_pod(spec: &Value) -> Option<(&'static System, usize)> {
    recognise(spec.get("containers")?.as_array()?.iter().map(ContainerFacts::read))
}
