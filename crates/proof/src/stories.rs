//! The failures that the findings prevent, as the proof has reproduced them: `docs/findings/POLICY.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Result, anyhow};
use serde_json::Value;

use crate::claim::Subject;
use crate::rules::Said;

/// The policies that have such a page: their metadata names it.
pub const POLICIES: [&str; 2] = ["anti-affinity", "disruption-budget"];

const UNPLAYED: &str = "No failure of a cluster was played for this: see the policy's page for what it means.\n";
const MALFORMED: &str = "No failure of a cluster was played for this: a field has a value that Kubernetes refuses too, or that no object of \
                         Kubernetes can have.\n";

/// A failure that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// What happened, step by step.
    pub steps: Vec<String>,
    /// The case file, or the seed and number of a generated object.
    pub subject: String,
    /// The first sentence of the finding.
    pub message: String,
    /// Whether the subject is a case.
    pub is_case: bool,
}

/// By policy and code.
pub type Stories = BTreeMap<(String, String), Story>;

/// `1 of 3 members is left`.
pub(crate) fn are_left(left: i64, total: i64, members: &str) -> String {
    let verb = if left == 1 { "is" } else { "are" };
    format!("{left} of {total} {members} {verb} left")
}

/// Remembers what was seen of a subject, if it tells of one finding alone, and nothing better is known. Where the claim names, as
/// `causes`, the findings that such a failure comes of, none but these is told of.
pub(crate) fn remember(
    stories: &mut Stories,
    policy: &str,
    subject: &Subject,
    said: &Said,
    seen: &Value,
    is_case: bool,
) {
    let steps: Vec<String> =
        seen["story"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let gravest = if said.accepted { "warning" } else { "error" };
    let causes = seen["causes"].as_array();
    let explains = |code: &str| causes.is_none_or(|causes| causes.iter().any(|cause| cause == code));
    let told: Vec<_> = said.findings.iter().filter(|found| found.level == gravest).collect();
    let codes: BTreeSet<&str> = told.iter().map(|found| found.code.as_str()).collect();
    let (false, 1, Some(found)) = (steps.is_empty(), codes.len(), told.first()) else { return };
    if !explains(&found.code) {
        return;
    }
    let story = Story { steps, subject: subject.name.clone(), message: found.message.clone(), is_case };
    // A case that is there for what is wrong with it; another one; a generated object.
    let is_about = |story: &Story| {
        let file = story.subject.split_once('/').map_or("", |(_, file)| file);
        story.is_case && (file.starts_with("denies-") || file.starts_with("warns-"))
    };
    let rank = |story: &Story| {
        (
            !is_about(story),
            !story.is_case,
            story.steps.len(),
            story.steps.concat().len(),
            story.subject.len(),
            story.subject.clone(),
        )
    };
    let key = (policy.to_owned(), found.code.clone());
    if stories.get(&key).is_none_or(|known| rank(&story) < rank(known)) {
        stories.insert(key, story);
    }
}

/// Every code of the policy: each occurs in a case, a test of the workspace holds that.
///
/// # Errors
/// Cases that cannot be read.
pub fn codes(policy: &str) -> Result<BTreeSet<String>> {
    let cases = corpus::cases(policy).map_err(|error| anyhow!("{error}"))?;
    // A README's example names codes alone; a case file also level and place.
    let code = |finding: &String| {
        let mut words = finding.split(' ');
        let first = words.next()?;
        if matches!(first, "error" | "warning") { words.next().map(str::to_owned) } else { Some(first.to_owned()) }
    };
    Ok(cases.iter().flat_map(|case| case.header.findings.iter().filter_map(code)).collect())
}

/// The page of a policy.
pub fn page(policy: &str, codes: &BTreeSet<String>, stories: &Stories, version: &str) -> String {
    let mut text = format!(
        "# What the findings of {policy} prevent\n\n<!-- Written by `make prove`; do not edit. -->\n\n\
         Each of these was reproduced on a control plane of Kubernetes {version} with simulated nodes: the objects named were applied, and what is \
         told here happened. [docs/proof.md](../proof.md) says how; [the policy's page](../../policies/{policy}/README.md) what each finding means and \
         what to do.\n"
    );
    for code in codes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {code}\n\n");
        let Some(story) = stories.get(&(policy.to_owned(), code.clone())) else {
            text.push_str(if code == "malformed" { MALFORMED } else { UNPLAYED });
            continue;
        };
        let _ = writeln!(text, "> {}\n", story.message);
        for (number, step) in story.steps.iter().enumerate() {
            let _ = writeln!(text, "{}. {step}", number + 1);
        }
        let origin = match story.subject.split_once('/') {
            Some((_, file)) if story.is_case && !file.starts_with("README") => {
                format!("[{file}](../../test-data/{})", story.subject)
            }
            Some(_) if story.is_case => format!("an example of [the policy's page](../../policies/{policy}/README.md)"),
            _ => format!("a generated object ({})", story.subject),
        };
        let _ = writeln!(text, "\nReproduced with {origin}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::Found;

    fn said(codes: &[(&str, &str)]) -> Said {
        let found = |(level, code): &(&str, &str)| Found {
            code: (*code).to_owned(),
            level: (*level).to_owned(),
            message: format!("{code} is wrong"),
            ..Found::default()
        };
        let accepted = !codes.iter().any(|(level, _)| *level == "error");
        Said { accepted, findings: codes.iter().map(found).collect(), ..Said::default() }
    }

    fn subject(name: &str) -> Subject {
        Subject { name: name.to_owned(), objects: Vec::new(), settings: Value::Null, facts: Value::Null }
    }

    #[test]
    fn the_shortest_story_of_a_single_finding_is_told_and_a_case_before_a_generated_object() {
        let mut stories = Stories::new();
        let mut remember = |name: &str, codes: &[(&str, &str)], steps: Value, is_case: bool| {
            super::remember(&mut stories, "p", &subject(name), &said(codes), &json!({ "story": steps }), is_case);
        };
        remember("g", &[("error", "a")], json!(["one"]), false);
        remember("p/two.yaml", &[("error", "a"), ("warning", "b")], json!(["one", "two"]), true);
        remember("p/three.yaml", &[("error", "a")], json!(["one", "two", "three"]), true);
        remember("p/both.yaml", &[("error", "a"), ("error", "c")], json!(["one"]), true);
        remember("p/none.yaml", &[("warning", "b")], json!([]), true);
        remember("p/warned.yaml", &[("warning", "b")], json!(["one"]), true);
        remember("p/accepts-it.yaml", &[("error", "d")], json!(["one"]), true);
        remember("p/denies-it.yaml", &[("error", "d")], json!(["one", "two"]), true);
        remember("h", &[("error", "d")], json!(["one"]), false);
        let told: Vec<_> = stories.iter().map(|((_, code), story)| (code.as_str(), story.subject.as_str())).collect();
        assert_eq!(told, [("a", "p/two.yaml"), ("b", "p/warned.yaml"), ("d", "p/denies-it.yaml")]);
        let codes = ["a", "b", "c", "malformed"].map(str::to_owned).into();
        let page = page("p", &codes, &stories, "v1");
        assert!(page.contains(
            "\n## a\n\n> a is wrong\n\n1. one\n2. two\n\nReproduced with [two.yaml](../../test-data/p/two.yaml)."
        ));
        assert!(page.contains("\n## c\n\nNo failure of a cluster was played for this: see the policy's page"));
        assert!(page.contains("\n## malformed\n\nNo failure of a cluster was played for this: a field has a value"));
    }

    #[test]
    fn a_finding_that_is_not_the_cause_has_no_story() {
        let mut stories = Stories::new();
        let seen = json!({ "story": ["one"], "causes": ["a"] });
        for code in ["a", "b"] {
            remember(&mut stories, "p", &subject("p/denies-it.yaml"), &said(&[("error", code)]), &seen, true);
        }
        assert!(stories.keys().map(|(_, code)| code).eq(["a"]));
    }

    #[test]
    fn every_code_of_a_policy_is_known() {
        let codes = codes("disruption-budget").unwrap();
        assert!(codes.contains("may-lose-quorum") && !codes.contains("error"), "{codes:?}");
    }
}
