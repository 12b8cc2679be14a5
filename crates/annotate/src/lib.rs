//! Writes policy metadata into a Wasm module, as kwctl annotate does.
