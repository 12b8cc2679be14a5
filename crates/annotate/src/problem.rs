//! What can be wrong, and where.

use std::fmt;

/// Why metadata or a module was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metadata cannot be used; every problem is listed.
    #[error("{}", lines(.file, .problems))]
    Metadata {
        /// The file as the caller named it.
        file: String,
        /// All problems, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
    /// What Cargo knows does not make a policy.
    #[error("package `{package}`: {reason}")]
    Facts {
        /// The package.
        package: String,
        /// What is missing or unfit.
        reason: String,
    },
    /// `cargo metadata` printed something else than its format.
    #[error("cannot read what `cargo metadata` printed: {0}")]
    CargoMetadata(String),
    /// The bytes are no module at all.
    #[error("not a WebAssembly module: {0}")]
    NotAModule(&'static str),
    /// The module is broken, for example cut short.
    #[error("broken WebAssembly module, at byte {offset:#x}: {reason}")]
    BrokenModule {
        /// Where in the file, in bytes from its start.
        offset: u64,
        /// What the parser met.
        reason: String,
    },
    /// A module, but no policy that a host could call.
    #[error("not a Kubewarden policy: {0}")]
    NotAPolicy(String),
    /// The module carries a section that the host could not read either.
    #[error("section `io.kubewarden.metadata` cannot be read: {0}")]
    Section(String),
    /// A section holds at most 4 GiB.
    #[error("the metadata is too long for a section: {0} bytes")]
    TooLong(usize),
}

/// One thing wrong with the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a JSON Pointer; empty for the whole document.
    pub field: String,
    /// Where the file says it, when it came from a file.
    pub place: Option<Place>,
    /// What is wrong.
    pub fault: Fault,
}

/// A place in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The text is no YAML, or not exactly one document.
    #[error("{0}")]
    Unreadable(String),
    /// A mandatory field is absent.
    #[error("is mandatory")]
    Missing,
    /// A key that nothing reads. kwctl ignores it, and with it what the author meant.
    #[error("is not a key that Kubewarden knows{}", did_you_mean(.near.as_deref()))]
    UnknownKey {
        /// The known key that was probably meant.
        near: Option<String>,
    },
    /// A value of the wrong type.
    #[error("must be {wanted}, not {found}")]
    WrongType {
        /// The type that fits.
        wanted: &'static str,
        /// What stands there.
        found: String,
    },
    /// A value outside a closed list.
    #[error("must be one of {}, not `{found}`{}", .allowed.join(", "), did_you_mean(.near.as_deref()))]
    NotInList {
        /// The list.
        allowed: &'static [&'static str],
        /// What stands there.
        found: String,
        /// The entry that was probably meant.
        near: Option<String>,
    },
    /// Not a full semantic version.
    #[error("must be a full semantic version such as 1.36.0, not `{found}`: {reason}")]
    NotAVersion {
        /// What stands there.
        found: String,
        /// What the version parser says.
        reason: String,
    },
    /// An annotation that is derived is written by hand too; one of the two would be stale sooner or later.
    #[error("is derived, here to `{derived}`: remove the line")]
    Derived {
        /// The derived value, cut to one short line.
        derived: String,
    },
    /// `io.kubewarden.kwctl` says which kwctl wrote the section, and none did.
    #[error("is for kwctl to write")]
    Reserved,
    /// Nothing, where something is needed.
    #[error("must not be empty")]
    Empty,
    /// `*` beside other entries.
    #[error("must not have other entries beside `*`")]
    AsteriskNotAlone,
    /// `*/*` beside other entries.
    #[error("must not have other entries beside `*/*`")]
    DoubleAsteriskNotAlone,
    /// An entry that another one covers, which Kubernetes refuses.
    #[error("`{covered}` is covered by `{by}`: keep one of them")]
    Covered {
        /// The narrower entry.
        covered: String,
        /// The wider one.
        by: String,
    },
    /// A waPC policy whose protocol is not known.
    #[error("must be v1 for a policy of execution mode `kubewarden-wapc`")]
    UnknownProtocol,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(out, "{}", self.fault),
            field => write!(out, "{field} {}", self.fault),
        }
    }
}

fn lines(file: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| match problem.place {
        Some(Place { line, column }) => format!("{file}:{line}:{column}: {problem}"),
        None => format!("{file}: {problem}"),
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// The known word that a person who wrote `word` probably meant: at most one slip in three letters, and at most three.
pub(crate) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let slips_allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(slips, _)| *slips <= slips_allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known.to_owned())
}
