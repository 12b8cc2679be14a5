//! Stands in for the API server and the Kubewarden host: resources, admission requests, look-ups.
//!
//! Everything here works on [`serde_json::Value`]s that are already in memory: no Wasm, no YAML, no files, no network.
//!
//! * [`resources`] knows which kinds there are, what their resources are called and which API versions are gone.
//! * [`convert`] turns an object of one API version into another, as an API server that serves both does.
//! * [`request`] builds the admission request that the API server would send for an object.
//! * [`rules`] decides which requests a policy sees.
//! * [`Cluster`] holds the objects and answers a policy's host calls, with the checks and texts of the real host.
//! * [`grants`] says what a policy may call and look up.
//!
//! The texts of errors that reach a policy are those of the Kubewarden host (`crates/policy-evaluator` in
//! kubewarden/kubewarden-controller, 1.36) and, inside them, of Kubernetes 1.36, because policies and their tests match on them.

mod cache;
pub mod calls;
mod cluster;
pub mod convert;
pub mod grants;
mod mask;
pub mod request;
pub mod resources;
pub mod rules;
pub mod selector;
mod view;

pub use cluster::{Cluster, Refused};
pub use grants::Grants;
pub use request::{AdmissionRequest, Requests};
pub use resources::{ObjectError, Resource, Resources};
pub use rules::Matcher;

/// The namespace of a namespaced object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How many levels of mappings and sequences an object may have, itself included.
///
/// The parser on the other side (`serde_json`, in the host and in a Rust policy) stops at 128, and a list or a request wraps the object
/// in a few levels of its own: one deeper object would make every list that holds it unreadable.
pub const MAX_DEPTH: usize = 120;
