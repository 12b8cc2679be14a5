//! The policies that the checker brings along: built, annotated and compiled by `build.rs`.

use std::fmt;

/// A policy inside this binary. Nothing of it is loaded before [`super::Engine::builtin`].
#[derive(Clone, Copy)]
pub struct Builtin {
    name: &'static str,
    digest: &'static str,
    wasm: &'static [u8],
    /// Empty when the build could not compile for the target.
    compiled: &'static [u8],
}

impl Builtin {
    /// The name of the policy, which is that of its folder.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The module as it is distributed: annotated, to be run by any Kubewarden host.
    pub fn wasm(&self) -> &'static [u8] {
        self.wasm
    }

    /// The SHA-256 of [`Self::wasm`], in hexadecimal.
    pub fn digest(&self) -> &'static str {
        self.digest
    }

    /// Whether the module was compiled ahead of time, for this machine.
    pub fn is_precompiled(&self) -> bool {
        !self.compiled.is_empty()
    }

    /// Loads what was compiled ahead of time; `None` when there is nothing for this engine.
    #[expect(
        unsafe_code,
        reason = "wasmtime cannot check machine code, so it must come from a trusted place: only build.rs makes a `Builtin`"
    )]
    pub(super) fn load(&self, engine: &wasmtime::Engine) -> Option<wasmtime::Module> {
        if self.compiled.is_empty() {
            return None;
        }
        // SAFETY: `compiled` is private to this file and comes from `Engine::precompile_module` in build.rs.
        unsafe { wasmtime::Module::deserialize(engine, self.compiled) }.ok()
    }
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builtin").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The built-in policies, by name.
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
