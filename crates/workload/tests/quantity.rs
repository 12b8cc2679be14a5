//! Quantities against the library that the API server reads them with.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails; clippy sees only the test functions themselves")]

use serde_json::json;
use workload::Node;
use workload::quantity::{Quantity, QuantityError, ResourceList};

/// Written by a Go program that asked `k8s.io/apimachinery` v0.36.3; its first lines say what the fields are.
const TABLE: &str = include_str!("data/quantities.tsv");

fn rows(kind: &str) -> Vec<Vec<&'static str>> {
    let rows: Vec<Vec<&str>> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|fields| fields[0] == kind)
        .collect();
    assert!(rows.len() >= 900, "the table holds only {} rows of {kind}", rows.len());
    rows
}

/// What a real API server said of 1,000 pairs of a request and a limit; its first lines say how.
const PAIRS: &str = include_str!("data/quantity-pairs.tsv");

fn number(text: &str) -> Option<i64> {
    (text != "-").then(|| text.parse().unwrap())
}

#[test]
fn the_same_texts_are_quantities_for_the_same_reasons() {
    for row in rows("parse") {
        let (text, verdict) = (row[1], row[2]);
        let found = match Quantity::parse(text) {
            Ok(_) => "ok",
            Err(QuantityError::Format) => "format",
            Err(QuantityError::Suffix(_)) => "suffix",
            Err(QuantityError::Number) => "number",
        };
        assert_eq!(found, verdict, "{text:?}");
    }
}

#[test]
fn values_are_rounded_as_the_library_rounds_them() {
    for row in rows("parse").into_iter().filter(|row| row[2] == "ok") {
        let [_, text, _, sign, milli, whole, canonical] = row[..] else { panic!("{row:?}") };
        let quantity = Quantity::parse(text).unwrap();
        let found_sign = i32::from(!quantity.is_zero()) - 2 * i32::from(quantity.is_negative());
        assert_eq!(found_sign.to_string(), sign, "{text:?}");
        // The table leaves out negative numbers: the library overflows for some, and rounds in either direction.
        if !quantity.is_negative() {
            assert_eq!(quantity.milli(), number(milli), "{text:?}");
            assert_eq!(quantity.whole(), number(whole), "{text:?}");
        }
        assert_eq!(quantity, Quantity::parse(canonical).unwrap(), "{text:?} against {canonical:?}");
    }
}

#[test]
fn pairs_have_the_order_that_the_library_gives_them() {
    for row in rows("cmp") {
        let [_, a, b, order] = row[..] else { panic!("{row:?}") };
        let (left, right) = (Quantity::parse(a).unwrap(), Quantity::parse(b).unwrap());
        assert_eq!((left.cmp(&right) as i8).to_string(), order, "{a:?} against {b:?}");
        assert_eq!(right.cmp(&left), left.cmp(&right).reverse(), "{b:?} against {a:?}");
    }
}

#[test]
fn a_sum_and_what_was_added_give_back_the_other() {
    for row in rows("cmp") {
        let (a, b) = (Quantity::parse(row[1]).unwrap(), Quantity::parse(row[2]).unwrap());
        let minus = |quantity: &Quantity| {
            let text = quantity.to_string();
            let unsigned = text.trim_start_matches(['-', '+']);
            let sign = if quantity.is_negative() { "" } else { "-" };
            Quantity::parse(&format!("{sign}{unsigned}")).unwrap()
        };
        let sum = a.checked_add(&b).unwrap();
        assert_eq!(Quantity::parse(&sum.to_string()).unwrap(), sum, "{} + {}", row[1], row[2]);
        assert_eq!(sum.checked_add(&minus(&b)).unwrap(), a, "{} + {}", row[1], row[2]);
    }
}

#[test]
fn the_api_server_accepts_the_same_pairs_of_request_and_limit() {
    let rows: Vec<Vec<&str>> =
        PAIRS.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 1000);
    for row in rows {
        let [resource, request, limit, verdict] = row[..] else { panic!("{row:?}") };
        let resources = json!({ "requests": { resource: request }, "limits": { resource: limit } });
        let list = |field| ResourceList::of(&Node::root(&resources).get(field).unwrap()).ok();
        let found = match (list("requests"), list("limits")) {
            (Some(requests), Some(limits)) => {
                let (request, limit) = (requests.get(resource).unwrap(), limits.get(resource).unwrap());
                if request.is_negative() || limit.is_negative() {
                    "negative"
                } else if request > limit {
                    "above"
                } else {
                    "accepted"
                }
            }
            _ => "unreadable",
        };
        assert_eq!(found, verdict, "{row:?}");
    }
}

#[test]
fn the_pairs_have_every_way_to_write_a_quantity() {
    let texts: Vec<&str> =
        PAIRS.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split('\t').skip(1).take(2)).collect();
    for suffix in ["n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "0"] {
        let number = texts.iter().filter(|text| text.ends_with(suffix)).count();
        assert!(number >= 20, "{number} of {suffix}");
    }
    for part in ["e+", "e-", "E+", "E-", ".", "-", "+", " "] {
        let number = texts.iter().filter(|text| text.contains(part)).count();
        assert!(number >= 5, "{number} with {part:?}");
    }
    for verdict in ["accepted", "above", "negative", "unreadable"] {
        let number = PAIRS.lines().filter(|line| line.ends_with(verdict)).count();
        assert!(number >= 40, "{number} are {verdict}");
    }
}
