//! Reads the cases of test-data and the examples of the READMEs, and runs them natively and as Wasm.
