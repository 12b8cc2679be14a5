//! Puts what the rules claim to a real Kubernetes control plane.
//!
//! A [`claim::Claim`] is something that a rule says of Kubernetes, and a way to see whether it is so: it takes cases of
//! `test-data`, generates objects, asks the rule about each, plays it on a [`plane::Plane`], and compares. [`drive`] does
//! that with many at once, makes what contradicts small, and holds rules that are wrong on purpose against the same facts: each
//! of these must be caught. `cargo run -p proof` is `make prove`.

pub mod api;
pub mod beat;
pub mod claim;
pub mod claims;
pub mod drive;
pub mod make;
pub mod mirror;
pub mod plane;
pub mod report;
pub mod room;
pub mod rules;
mod shrink;
pub mod stories;
