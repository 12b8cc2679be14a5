//! Quantities against the library that the API server reads them with.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails; clippy sees only the test functions themselves")]

use workload::quantity::{Quantity, QuantityError};

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
