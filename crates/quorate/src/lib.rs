//! The offline checker: runs Kubewarden policies over plain manifests.
//!
//! [`input::find`] gives the inputs that paths name, a [`Checker`] judges what is in them by its [`Policy`]s, and a
//! [`Report`] is written by [`report::human`] or [`report::json`]. Policies are waPC modules that the [`engine`] runs; the
//! objects of all inputs together are the cluster that they look things up in.
//!
//! ```
//! use quorate::engine::{Engine, Limits};
//! use quorate::input::{Content, Input};
//! use quorate::{Checker, Level, Verdict, built_in};
//!
//! let (policies, errors) = built_in(&Engine::new(Limits::default())?);
//! assert!(errors.is_empty());
//! let text = b"apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: { name: b }\n".to_vec();
//! let input = Input { name: "b.yaml".to_owned(), content: Content::Text(text), found: false };
//! let report = Checker::new(policies).check(&[input]);
//! assert_eq!(report.findings[0].code, "removed-api-version");
//! assert_eq!(report.findings[0].place.line, Some(1));
//! assert_eq!(report.verdict(Level::Error), Verdict::Findings);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod check;
pub mod engine;
mod finding;
pub mod input;
mod policies;
pub mod report;
mod world;

pub use check::{Checker, REMOVED_API_VERSION};
pub use finding::{CHECKER, Finding, Level, Note, NoteKind, ObjectRef, Place, Problem, Report, Summary, Verdict};
pub use policies::{CHECKER_SETTINGS, FINDINGS_PAGE, Policy, PolicyError, built_in};
