//! Writes policy metadata into a Wasm module, as kwctl annotate does.
//!
//! Kubewarden knows a policy by one custom section of its module, `io.kubewarden.metadata`: which requests it wants,
//! which kinds it may look up, whether it changes objects. This crate reads a `metadata.yml` ([`Metadata::from_yaml`]),
//! adds what Cargo already knows ([`Facts`]), and writes the section ([`annotate`]); [`read`] gives it back.
//!
//! Two differences from kwctl, both on purpose. kwctl writes the whole module anew, functions reordered and names
//! dropped; here everything but the section stays as the compiler left it. kwctl adds a second section when there is
//! one already, and the host then obeys the older; here the older goes.
//!
//! The module is not run: that its `protocol_version` answers `v1` is for the host's tests to show.

mod facts;
mod metadata;
mod module;
mod origin;
mod problem;
mod rules;
#[cfg(test)]
mod tests;
mod yaml;

pub use facts::{Facts, Package, Workspace};
pub use metadata::{ContextAwareResource, ExecutionMode, Metadata, Operation, PolicyType, ProtocolVersion, Rule};
pub use module::{SECTION, annotate, read};
pub use origin::without_origin;
pub use problem::{Error, Fault, Place, Problem};
