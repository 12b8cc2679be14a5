//! Workloads inside Kubernetes objects: pods, containers, selectors, quantities, and the catalogue of quorum systems.
//!
//! Pure facts over JSON: no request, no settings, no host. Everything works on the object as it was received, so
//! that a field newer than this crate is never lost.

pub mod catalogue;
pub mod complete;
pub mod container;
pub mod edit;
pub mod glob;
pub mod int_or_percent;
pub mod kind;
pub mod member;
pub mod node;
pub mod path;
pub mod quantity;
pub mod selector;
pub mod texts;

pub use node::{Malformed, Node};
pub use path::Path;
