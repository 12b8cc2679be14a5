//! The requests that a real API server sent, put to the probe.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::probe::{Answer, Ask, FakeHost, set};

fn reviews() -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-data/admission-reviews");
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let review: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), review["request"].clone())
        })
        .collect()
}

/// What the probe says of every review under these settings, where it says anything.
fn answers(settings: &Value, host: &FakeHost) -> BTreeMap<String, Answer> {
    let reviews = reviews();
    assert_eq!(reviews.len(), 45);
    let ask = |request| Ask { request, settings: settings.clone() };
    let answers = reviews.into_iter().map(|(name, request)| (name, ask(request).answer_of(host)));
    answers.filter(|(_, answer)| !answer.is_silent()).collect()
}

fn codes(answers: &BTreeMap<String, Answer>) -> Vec<(&str, Vec<String>)> {
    answers.iter().map(|(name, answer)| (name.as_str(), answer.codes())).collect()
}

fn expected(expected: &[(&'static str, &[&str])]) -> Vec<(&'static str, Vec<String>)> {
    expected.iter().map(|(name, codes)| (*name, codes.iter().map(|code| (*code).to_owned()).collect())).collect()
}

#[test]
fn every_review_is_answered_and_only_deletions_of_budgets_by_users_are_denied() {
    let answers = answers(&json!({}), &FakeHost::default().with(set(3)));
    assert_eq!(
        codes(&answers),
        expected(&[
            ("delete-f-1-pdb-goes-first", &["error deleted"]),
            ("pdb-delete-kubectl", &["error deleted"]),
            ("pdb-deletecollection", &["error deleted"]),
        ]),
        "the namespace controller's is let through"
    );
}

#[test]
fn the_ratchet_tells_old_sins_from_new_ones() {
    // One member is too many already, so that every set is wrong; who changes nothing of it is only warned.
    let answers = answers(&json!({ "max": 1, "exempt": { "names": ["zk-pdb"] } }), &FakeHost::default().with(set(3)));
    assert_eq!(
        codes(&answers),
        expected(&[
            ("apply-k-1-statefulset-comes-first", &["error too-many"]),
            ("pdb-delete-kubectl", &["error deleted"]),
            ("pdb-deletecollection", &["error deleted"]),
            ("statefulset-create", &["error too-many"]),
            ("statefulset-scale-by-hpa", &["error too-many"]),
            ("statefulset-scale-kubectl-patch-subresource", &["warning too-many"]),
            ("statefulset-scale-kubectl-scale", &["error too-many"]),
            ("statefulset-scale-kubectl-scale-current-replicas", &["warning too-many"]),
            ("statefulset-update-annotate", &["warning too-many"]),
            ("statefulset-update-dry-run", &["error too-many"]),
            ("statefulset-update-patch-replicas", &["error too-many"]),
            ("statefulset-update-server-side-apply-without-replicas", &["warning too-many"]),
            ("statefulset-update-set-image", &["warning too-many"]),
        ]),
    );
}

#[test]
fn what_controllers_make_is_warned_about_and_what_they_clean_up_is_left_alone() {
    let settings = json!({ "labels": ["team"], "onUpdate": "enforce", "exempt": { "users": ["admin"] } });
    let answers = answers(&settings, &FakeHost::default().with(set(3)));
    assert_eq!(
        codes(&answers),
        expected(&[
            ("pod-create-by-statefulset-controller", &["warning no-label"]),
            ("statefulset-scale-by-hpa", &["error no-label"]),
        ]),
        "subresources, finalizers and deletions of controllers are nobody's business"
    );
}

#[test]
fn mutation_touches_what_is_made_or_changed_and_nothing_else() {
    let settings = json!({ "labels": ["team"], "mutate": true });
    let answers = answers(&settings, &FakeHost::default().with(set(3)));
    let mutated: Vec<&str> =
        answers.iter().filter(|(_, answer)| answer.mutated_object.is_some()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        mutated,
        ["apply-k-1-statefulset-comes-first", "apply-k-2-pdb-comes-second", "pdb-create", "statefulset-create",],
        "an UPDATE keeps the old sin"
    );
    for (name, request) in reviews() {
        let Some(mutated) = answers.get(&name).and_then(|answer| answer.mutated_object.clone()) else { continue };
        let mut expected = request["object"].clone();
        expected["metadata"]["labels"]["team"] = json!("unknown");
        assert_eq!(mutated, expected, "{name}");
    }
}

#[test]
fn the_scales_are_the_only_reviews_that_need_a_look_up() {
    let host = FakeHost::granting_nothing(&["StatefulSet"]);
    let answers = answers(&json!({ "exempt": { "names": ["zk-pdb"] } }), &host);
    let warned: Vec<&str> =
        answers.iter().filter(|(_, answer)| answer.accepted).map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        warned,
        [
            "statefulset-scale-by-hpa",
            "statefulset-scale-kubectl-patch-subresource",
            "statefulset-scale-kubectl-scale",
            "statefulset-scale-kubectl-scale-current-replicas",
        ]
    );
    for name in warned {
        assert!(answers[name].warnings[0].starts_with("probe did not judge this: this policy may not look up apps/v1"));
    }
}
