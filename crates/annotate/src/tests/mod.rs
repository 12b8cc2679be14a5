//! What the crate promises, by what it is about.

mod facts;
mod hostile;
mod metadata;
mod origin;
mod section;

use std::collections::BTreeMap;

use crate::{Error, Metadata};

/// The smallest policy: what a host looks up, and nothing behind it.
fn guest() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (memory (export "memory") 1)
            (func (export "__guest_call") (param i32 i32) (result i32) i32.const 1)
            (func (export "wapc_init")))"#,
    )
    .unwrap()
}

/// A `metadata.yml` without derived annotations.
fn from_yaml(text: &str) -> Result<Metadata, Error> {
    Metadata::from_yaml("metadata.yml", text.as_bytes(), &BTreeMap::new())
}

const MINIMAL: &str = "rules: []\nmutating: false\n";
