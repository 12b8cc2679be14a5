//! How Wasm is compiled: shared with `build.rs`, because a module compiled ahead of time only loads into an engine with
//! the very same settings.

/// The settings of compiler and run time, limits apart: those do not change the code that is generated.
///
/// What the policy-server switches on stays on: function references, which Go's compiler uses, and wasmtime's own defaults.
/// Threads are the exception: nobody could interrupt `memory.atomic.wait`, nor limit a shared memory.
pub(crate) fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .epoch_interruption(true)
        .wasm_function_references(true)
        // Nobody sees the frames of a trap: modules come without names. The tables for them double the code's size.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    config
}
