//! Holds what is read here against what kubectl makes of the same texts.
//!
//! `data/kubectl.jsonl` was written by a Go program that takes kubectl's path: `NewYAMLOrJSONDecoder` of
//! k8s.io/apimachinery v0.36.3 into a `runtime.RawExtension`, then its `util/json`, over sigs.k8s.io/yaml v1.6.0 and
//! go.yaml.in/yaml/v2 v2.4.3. A line holds the text, the objects that kubectl has read, and its error, where it stops.
//! `data/differences.jsonl` names every text that is read differently here, how, and why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test panics, also in its helpers"
)]

use std::collections::BTreeMap;

use manifest::parse;
use serde_json::Value;

fn cases(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Equal, but that a float that was printed and read again may have lost its last digit.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) if ours.is_f64() => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            (ours - theirs).abs() <= ours.abs() * 1e-15
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, ours)| theirs.get(key).is_some_and(|theirs| same(ours, theirs)))
        }
        _ => ours == theirs,
    }
}

/// How a text is read here, compared with kubectl; nothing if it is read as kubectl does.
fn difference(case: &Value) -> Option<&'static str> {
    let parsed = parse("t.yaml", case["text"].as_str().unwrap().as_bytes());
    let ours: Vec<&Value> = parsed.documents.iter().map(|document| &document.value).collect();
    let theirs = case["documents"].as_array().unwrap();
    // Behind an error kubectl reads nothing; here the next document is read.
    let begins = ours.len() >= theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs));
    let duplicates =
        !parsed.problems.is_empty() && parsed.problems.iter().all(|problem| problem.message.contains("second time"));
    match (case.get("error"), parsed.problems.is_empty()) {
        (None, true) if begins && ours.len() == theirs.len() => None,
        (None, false) if duplicates && begins => None,
        (Some(_), false) if begins => None,
        (None, false) => Some("refused"),
        (Some(_), true) => Some("accepted"),
        (None, true) | (Some(_), false) => Some("another value"),
    }
}

#[test]
fn reads_what_kubectl_reads() {
    let cases = cases(include_str!("data/kubectl.jsonl"));
    assert!(cases.len() > 1400);
    let found: BTreeMap<String, String> = cases
        .iter()
        .filter_map(|case| Some((case["text"].as_str()?.to_owned(), difference(case)?.to_owned())))
        .collect();
    if let Ok(path) = std::env::var("MANIFEST_DIFFERENCES") {
        std::fs::write(path, serde_json::to_string_pretty(&found).unwrap()).unwrap();
    }
    let known: BTreeMap<String, String> = self::cases(include_str!("data/differences.jsonl"))
        .iter()
        .map(|known| {
            assert!(!known["why"].as_str().unwrap().is_empty());
            (known["text"].as_str().unwrap().to_owned(), known["how"].as_str().unwrap().to_owned())
        })
        .collect();
    for (text, how) in &found {
        assert_eq!(
            known.get(text),
            Some(how),
            "{text:?} is read otherwise than by kubectl: {:?}",
            parse("t", text.as_bytes())
        );
    }
    for text in known.keys() {
        assert!(found.contains_key(text), "{text:?} is read as kubectl does: it is no difference any more");
    }
}
