//! What the kit does for every policy, tried on a policy that has one small rule for each of its duties.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod answer;
mod any_payload;
mod lookups;
mod mutation;
mod owners;
mod probe;
mod ratchet;
mod request;
mod reviews;
mod scope;
mod settings;
