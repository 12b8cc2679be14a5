//! The requests that a real API server sent, as inputs of every policy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cluster::Grants;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::case::{CaseError, Expect, documents};
use crate::run::{self, Outcome};
use crate::{Judge, World, root};

/// The file in a policy's folder that says what must come of each request. It is no case.
pub(crate) const TABLE: &str = "reviews.yaml";

/// What must come of one request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    expect: Expect,
    /// Every finding, as in a case.
    #[serde(default)]
    findings: Vec<String>,
    /// Texts that the answer must hold.
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    settings: Option<Value>,
}

/// What is not listed is none of the policy's business.
impl Default for Expected {
    fn default() -> Self {
        Self { expect: Expect::Accept, findings: Vec::new(), says: Vec::new(), settings: None }
    }
}

/// Asks the policy each of the requests, and tells where the answer is not as the policy's table says: nothing, if it
/// always is.
///
/// # Errors
/// A file that cannot be read, or a table that names a request which is not there.
pub(crate) fn failures(policy: &str, judge: Judge<'_>) -> Result<String, CaseError> {
    let folder = root().join("test-data/admission-reviews");
    let table_file = root().join("test-data").join(policy).join(TABLE);
    let (mut table, objects) = read_table(&table_file)?;
    let grants = run::context_aware(policy).map_err(|error| CaseError::new(&table_file, error))?;
    let world = World::new(objects, Grants::cluster_wide(grants));
    if let Some(refused) = world.cluster().refused().first() {
        return Err(CaseError::new(&table_file, format!("document {}: {}", refused.position + 2, refused.error)));
    }
    let mut failures = String::new();
    for (name, file) in requests(&folder)? {
        let expected = table.remove(&name).unwrap_or_default();
        let text = fs::read(&file).map_err(|error| CaseError::new(&file, error.to_string()))?;
        let review: Value = serde_json::from_slice(&text).map_err(|error| CaseError::new(&file, error.to_string()))?;
        let mut failure = String::new();
        if let Err(error) = ask(&review["request"], &expected, judge, &world, &mut failure) {
            failure.push_str(&error);
        }
        if !failure.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(failures, "\nadmission-reviews/{name}\n{failure}");
        }
    }
    match table.keys().next() {
        Some(name) => Err(CaseError::new(&table_file, format!("there is no request {name}"))),
        None => Ok(failures),
    }
}

/// The requests by name.
fn requests(folder: &Path) -> Result<BTreeMap<String, PathBuf>, CaseError> {
    let files: BTreeMap<String, PathBuf> = fs::read_dir(folder)
        .map_err(|error| CaseError::new(folder, error.to_string()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    if files.is_empty() {
        return Err(CaseError::new(folder, "there are no requests"));
    }
    Ok(files)
}

/// What a policy's table says, and the objects of the cluster: the documents after the first. No file, no expectation.
fn read_table(file: &Path) -> Result<(BTreeMap<String, Expected>, Vec<Value>), CaseError> {
    if !file.exists() {
        return Ok((BTreeMap::new(), Vec::new()));
    }
    let text = fs::read(file).map_err(|error| CaseError::new(file, error.to_string()))?;
    let mut documents = documents(file, &text)?.into_iter();
    let table = documents.next().unwrap_or_default();
    let table = serde_json::from_value(table).map_err(|error| CaseError::new(file, error.to_string()))?;
    Ok((table, documents.collect()))
}

fn ask(
    request: &Value,
    expected: &Expected,
    judge: Judge<'_>,
    world: &World,
    failure: &mut String,
) -> Result<(), String> {
    let settings = expected.settings.clone().unwrap_or_else(|| json!({}));
    let payload = json!({ "request": request, "settings": settings });
    let bytes = judge(payload.to_string().as_bytes(), world)?;
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let outcome: Outcome =
        serde_json::from_slice(&bytes).map_err(|error| format!("  the answer cannot be read: {error}\n"))?;
    let found: Vec<String> = outcome.findings().iter().map(|finding| run::describe(finding, false)).collect();
    if outcome.accepted != (expected.expect == Expect::Accept) || found != expected.findings {
        let _ = writeln!(
            failure,
            "  accepted: {}, findings: {found:#?}\n  expected: {:?}, {:#?}",
            outcome.accepted, expected.expect, expected.findings
        );
    }
    run::check_told(&outcome, &expected.says, failure);
    for text in expected.says.iter().filter(|text| !answer.contains(text.as_str())) {
        let _ = writeln!(failure, "  does not say {text:?}, but: {answer}");
    }
    if outcome.mutated_object.is_some() {
        let _ = writeln!(failure, "  mutated, although nobody asked for that");
    }
    run::check_form(&outcome, failure);
    Ok(())
}
