//! Reads the cases of test-data and the examples of the READMEs, and runs them natively and as Wasm.
//!
//! A case is one file: a header that says what is asked and what must come of it, the object, and what else the
//! cluster holds. The same cases go through the rule natively ([`check_policy`]) and through the module ([`check_with`]), so
//! that there is one place to look at for what a policy does. `QUORATE_BLESS=1` rewrites the expected findings.
//!
//! ```yaml
//! # Why this case is there.
//! expect: deny                    # or accept
//! findings:
//! - error even-members /spec/replicas
//! ---
//! apiVersion: apps/v1
//! kind: StatefulSet
//! ...
//! ---                             # what else the cluster holds
//! ```
//!
//! Each case is asked again in many ways that the rule knows nothing of: exempted, warned only, unchanged in an UPDATE, owned, being
//! deleted, with mistaken settings, mutated with fields that nobody knows. What must come of these is in `laws.rs`, for all policies.
//!
//! Every policy also answers each request of `test-data/admission-reviews`, as a real API server sent it. What must
//! come of those is in `test-data/POLICY/reviews.yaml`; one that is not listed there is accepted without a word.

mod case;
mod laws;
mod metadata;
mod objects;
pub mod questions;
mod reviews;
mod run;
mod settings;
mod world;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

pub use case::{Case, CaseError, Expect, Header, Scale};
pub use run::Outcome;
pub use world::World;

/// The bytes that a policy answers to a payload, with the host that answers its look-ups.
pub type Judge<'a> = &'a dyn Fn(&[u8], &World) -> Result<Vec<u8>, String>;

/// The root of the workspace: of the one whose tests run. A copy of it may share with it what was built, this crate too.
pub fn root() -> PathBuf {
    let tested = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    tested.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("../..")
}

/// Runs every case of the policy natively, and compares what it judges with what its `metadata.yml` asks for, and what it reads of
/// its settings with what its `questions-ui.yml`, its README and docs/settings.md say of them.
///
/// # Panics
/// With all failures at once, each with its case: this is the body of a test.
pub fn check_policy<P: policy::Policy>() {
    let cases = match cases(P::NAME) {
        Ok(cases) => cases,
        Err(error) => fail(&error.to_string()),
    };
    let differences = metadata::differences::<P>() + &settings::differences::<P>(&cases);
    if !differences.is_empty() {
        fail(&differences);
    }
    check_with(P::NAME, &|payload, world| Ok(policy::validate::<P>(payload, world)));
}

/// Runs every case of the policy through `judge`.
///
/// # Panics
/// With all failures at once, each with its case: this is the body of a test.
pub fn check_with(policy: &str, judge: Judge<'_>) {
    let cases = match cases(policy) {
        Ok(cases) => cases,
        Err(error) => fail(&error.to_string()),
    };
    let mutates = match metadata::mutates(policy) {
        Ok(mutates) => mutates,
        Err(error) => fail(&error),
    };
    let (mut failures, mut planted) = (String::new(), 0);
    for case in &cases {
        let mut lawful = || {
            let (world, request) = run::prepare(case)?;
            let (broken, count) = laws::broken(case, judge, &world, &request, mutates);
            planted += count;
            if broken.is_empty() { Ok(()) } else { Err(broken) }
        };
        if let Err(failure) = case.run(judge).and_then(|()| lawful()) {
            // Writing to a String cannot fail.
            let _ = write!(failures, "\n{}\n{failure}", case.name);
        }
    }
    if mutates && planted == 0 {
        failures.push_str("\nno case is mutated with a field that nobody knows, so that its survival is not tried\n");
    }
    // The defaults, and those with which some case is mutated; or denied, in a policy that mutates none.
    let mut settings = vec![Map::new()];
    let is_denied = |case: &Case| case.header.expect == Expect::Deny && !case.header.findings.is_empty();
    for case in cases.iter().filter(|case| if mutates { case.header.mutated.is_some() } else { is_denied(case) }) {
        settings.extend(case.header.settings.as_ref().and_then(Value::as_object).cloned());
    }
    match laws::broken_by_generated(policy, judge, mutates, &settings) {
        Ok(broken) => failures.push_str(&broken),
        Err(error) => fail(&error),
    }
    match reviews::failures(policy, judge) {
        Ok(more) => failures.push_str(&more),
        Err(error) => fail(&error.to_string()),
    }
    if !failures.is_empty() {
        fail(&format!("{policy}: {} cases\n{failures}", cases.len()));
    }
}

#[expect(clippy::panic, reason = "this is how a test fails")]
fn fail(text: &str) -> ! {
    panic!("{text}")
}

/// The cases of a policy: those in `test-data/POLICY` and the examples in its README.
///
/// # Errors
/// The first file that cannot be read, or a folder without cases.
pub fn cases(policy: &str) -> Result<Vec<Case>, CaseError> {
    let folder = root().join("test-data").join(policy);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(|error| CaseError::new(&folder, error.to_string()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml") && !path.ends_with(reviews::TABLE))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(CaseError::new(&folder, "there are no cases"));
    }
    let mut cases = files.iter().map(|file| Case::read(policy, file)).collect::<Result<Vec<_>, _>>()?;
    cases.extend(case::examples(policy, &root().join("policies").join(policy).join("README.md"))?);
    Ok(cases)
}
