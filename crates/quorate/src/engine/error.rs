//! What can go wrong with a module, told by the module's name.

use std::sync::Arc;

use super::limits::Limit;

/// Why a module could not be loaded, or an evaluation gave no answer. The text begins with the module's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("module \"{module}\": {fault}")]
pub struct EngineError {
    module: Arc<str>,
    fault: Fault,
}

impl EngineError {
    pub(super) fn new(module: &Arc<str>, fault: impl Into<Fault>) -> Self {
        Self { module: Arc::clone(module), fault: fault.into() }
    }

    /// The module's name, as the caller gave it.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// What happened, without the name.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// What happened to a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are no module that this engine understands.
    #[error("is not a valid Wasm module: {0}")]
    Invalid(String),
    /// A module, but none that speaks waPC.
    #[error("is not a waPC policy: {0}")]
    NotAPolicy(String),
    /// The `io.kubewarden.metadata` section cannot be read.
    #[error("{0}")]
    Metadata(String),
    /// The module cannot even start without something that no Kubewarden host has: a memory, a table or a global, or a
    /// function of another type than the host's.
    #[error("cannot be linked: {0}")]
    Link(String),
    /// The guest called a function that this host does not have.
    #[error("called `{0}`, a function that this host does not have")]
    UnknownImport(String),
    /// It used more than it may.
    #[error("exceeded {0}; raise `{setting}` if it truly needs more", setting = .0.setting())]
    Limit(Limit),
    /// The guest named a place that is not in its memory.
    #[error("gave `{function}` {length} bytes at {pointer:#x}, which are not in its memory of {size} bytes")]
    Pointer {
        /// The import that was called.
        function: &'static str,
        /// Where, in bytes from the start of the memory.
        pointer: u32,
        /// How many bytes.
        length: u64,
        /// The size of the memory, in bytes.
        size: u64,
    },
    /// The guest trapped.
    #[error("trapped in `{function}`: {reason}{}", wrote(.output))]
    Trap {
        /// The export that the host had called; `start` for the module's start section and its data.
        function: &'static str,
        /// What the engine says of it.
        reason: String,
        /// The end of what the guest had written to its output, such as the message of a panic.
        output: String,
    },
    /// The guest ended itself.
    #[error("ended itself with the exit code {code}{}", wrote(.output))]
    Exit {
        /// The code.
        code: u32,
        /// The end of what the guest had written to its output.
        output: String,
    },
    /// The guest answered with an error: `No handler registered for function x`, for example. The host's words for it
    /// are Kubewarden's own.
    #[error("Guest call failure: {0}")]
    Guest(String),
    /// The guest reported success, but gave no answer.
    #[error("gave no answer to `{0}`")]
    NoAnswer(String),
    /// The answer is not what the operation asks for.
    #[error("gave an answer to `{operation}` that cannot be read: {reason}")]
    Answer {
        /// The operation.
        operation: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// By hand: with `#[from]` the limit would be the error's source too, and told twice.
impl From<Limit> for Fault {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}

fn wrote(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it wrote: {output}") }
}

/// The engine itself cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Wasm engine cannot start: {0}")]
pub struct SetupError(pub(super) String);
