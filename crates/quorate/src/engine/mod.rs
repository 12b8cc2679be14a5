//! Runs Kubewarden policies: the only place that knows wasmtime.
//!
//! An [`Engine`] loads a [`Module`] from the bytes of a `.wasm` file, or one of the [`builtins`]; a module answers `validate`,
//! `validate_settings` and `protocol_version`; a [`Host`] is the cluster that the policy asks meanwhile. Guests are not trusted:
//! each evaluation has [`Limits`], each pointer is checked, and every failure is an [`EngineError`] that names the module.
//!
//! A third-party policy gets an instance of its own for every evaluation, as in the policy-server. The built-in ones keep
//! nothing between calls, so an instance of theirs is used again, until it fails or its memory has grown.
//!
//! ```
//! use quorate::engine::{Engine, Host, Limits};
//! use std::sync::Arc;
//!
//! struct NoCluster;
//! impl Host for NoCluster {
//!     fn call(&self, _: &str, namespace: &str, _: &str, _: &[u8]) -> Result<Arc<[u8]>, String> {
//!         Err(format!("unknown namespace: {namespace}"))
//!     }
//!     fn console_log(&self, _: &str) {}
//! }
//!
//! let engine = Engine::new(Limits::default())?;
//! let error = engine.compile("notes.txt", b"no module at all").unwrap_err();
//! assert_eq!(error.module(), "notes.txt");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod builtin;
mod config;
mod error;
mod limits;
mod module;
mod state;
mod ticker;
mod wapc;
mod wasi;

use std::sync::Arc;

use wasmtime::Linker;

pub use self::answer::{ProtocolVersion, SettingsValidationResponse, ValidationResponse};
pub use self::builtin::{Builtin, builtins};
pub use self::error::{EngineError, Fault, SetupError};
pub use self::limits::{Limit, Limits};
pub use self::module::Module;

use self::module::Shared;
use self::ticker::Ticker;

/// What a policy can reach outside of its module.
pub trait Host: Send + Sync {
    /// Answers a call such as `kubewarden`, `kubernetes`, `get_resource`, with the payload that Kubewarden's SDK defines for it.
    ///
    /// # Errors
    /// The text is handed to the policy.
    fn call(&self, binding: &str, namespace: &str, operation: &str, payload: &[u8]) -> Result<Arc<[u8]>, String>;

    /// Takes a line that the policy logs through waPC itself; SDK-built policies log through [`Host::call`].
    fn console_log(&self, line: &str);
}

/// Compiles and loads modules. Clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl Engine {
    /// An engine whose modules have these limits.
    ///
    /// # Errors
    /// [`SetupError`] for a stack above [`Limits::MAX_STACK`] or of zero bytes, and where the machine has no thread or
    /// address space left.
    pub fn new(limits: Limits) -> Result<Self, SetupError> {
        if limits.stack == 0 || limits.stack > Limits::MAX_STACK {
            let reason = format!("a stack of {} bytes is not within 1 and {}", limits.stack, Limits::MAX_STACK);
            return Err(SetupError(reason));
        }
        let setup = |error: wasmtime::Error| SetupError(format!("{error:#}"));
        let mut config = config::config();
        config.max_wasm_stack(limits.stack);
        let engine = wasmtime::Engine::new(&config).map_err(setup)?;
        let mut linker = Linker::new(&engine);
        wapc::add_to_linker(&mut linker).map_err(setup)?;
        wasi::add_to_linker(&mut linker).map_err(setup)?;
        let ticker = Ticker::start(&engine).map_err(|error| SetupError(error.to_string()))?;
        Ok(Self(Arc::new(Shared { engine, linker, limits: Arc::new(limits), ticker })))
    }

    /// Compiles a third-party policy: bytes of a `.wasm` file. `name` is for messages.
    ///
    /// # Errors
    /// [`EngineError`] when the bytes are no module, or no waPC policy, or exceed a limit.
    pub fn compile(&self, name: &str, wasm: &[u8]) -> Result<Module, EngineError> {
        self.compile_with(&Arc::from(name), wasm, false)
    }

    /// Loads a built-in policy, from machine code where the build made some for this machine.
    ///
    /// # Errors
    /// As [`Engine::compile`].
    pub fn builtin(&self, builtin: &Builtin) -> Result<Module, EngineError> {
        let name = Arc::from(builtin.name());
        match builtin.load(&self.0.engine) {
            Some(module) => Module::link(&self.0, &name, &module, read_metadata(&name, builtin.wasm())?, true),
            None => self.compile_with(&name, builtin.wasm(), true),
        }
    }

    fn compile_with(&self, name: &Arc<str>, wasm: &[u8], reuse: bool) -> Result<Module, EngineError> {
        let (allowed, wanted) = (self.0.limits.module, wasm.len() as u64);
        if wanted > allowed {
            return Err(EngineError::new(name, Limit::Module { allowed, wanted }));
        }
        let metadata = read_metadata(name, wasm)?;
        let module = wasmtime::Module::from_binary(&self.0.engine, wasm)
            .map_err(|error| EngineError::new(name, Fault::Invalid(format!("{error:#}"))))?;
        Module::link(&self.0, name, &module, metadata, reuse)
    }
}

fn read_metadata(name: &Arc<str>, wasm: &[u8]) -> Result<Option<annotate::Metadata>, EngineError> {
    let fault = |error| match error {
        annotate::Error::NotAModule(reason) => Fault::Invalid(reason.to_owned()),
        annotate::Error::BrokenModule { offset, reason } => Fault::Invalid(format!("at byte {offset:#x}: {reason}")),
        other => Fault::Metadata(other.to_string()),
    };
    annotate::read(wasm).map_err(|error| EngineError::new(name, fault(error)))
}
