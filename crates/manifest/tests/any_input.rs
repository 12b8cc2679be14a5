//! Properties: no input makes it panic or hang, and what is written is read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test panics, also in its helpers"
)]

use std::fmt::Write;

use manifest::{Source, parse};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Pieces of which YAML and JSON are made, so that random texts get beyond the first error.
const PIECES: &[&str] = &[
    "a",
    "b: ",
    "c:\n",
    "- ",
    "\n",
    "  ",
    "    ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "? ",
    "\"",
    "'",
    "\\",
    "\\u00e9",
    "# x\n",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "&x ",
    "*x",
    "<<: ",
    "!!int ",
    "!e!x ",
    "%YAML 1.2\n",
    "1",
    "0x1F",
    "~",
    "{{ .x }}",
    "\r\n",
    "\r",
    "é",
    "😀",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\0",
    "\u{7f}",
    "kind: List\nitems:\n",
    "{\"a\": 1}",
    "true",
    ".inf",
    "@",
    "`",
    "&",
    "*",
    "!",
];

/// Looks at everything that a parsed input offers.
fn use_up(bytes: &[u8]) {
    let parsed = parse("t.yaml", bytes);
    let lines = u32::try_from(bytes.split(|byte| *byte == b'\n').count()).unwrap();
    for problem in &parsed.problems {
        assert!(problem.line >= 1 && problem.column >= 1 && problem.line <= lines.max(1) * 2, "{problem:?}");
        assert!(!problem.message.is_empty());
    }
    for document in &parsed.documents {
        assert!(document.value.is_object());
        for pointer in pointers(&document.value).iter().chain([&"/nothing/0".to_owned()]) {
            let location = document.locate(pointer);
            let line = document.place().source().line(location.line).expect("the line exists");
            assert!(location.column as usize <= line.chars().count() + 2, "{pointer} at {location:?} in {line:?}");
            assert!(document.excerpt(location).unwrap().text.chars().count() <= Source::EXCERPT);
        }
    }
}

fn pointers(value: &Value) -> Vec<String> {
    fn walk(value: &Value, pointer: &mut String, all: &mut Vec<String>) {
        all.push(pointer.clone());
        let length = pointer.len();
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        for (token, child) in children {
            write!(pointer, "/{token}").unwrap();
            walk(child, pointer, all);
            pointer.truncate(length);
        }
    }
    let mut all = Vec::new();
    walk(value, &mut String::new(), &mut all);
    all
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,6}",
        "[ -~]{0,12}",
        "[\\PC]{0,8}",
        Just("yes".to_owned()),
        Just("0777".to_owned()),
        Just(String::new())
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(|float| Value::from(float + 0.25)),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            fields(inner).prop_map(Value::Object),
        ]
    });
    // The last key keeps a generated object from looking like a `List`.
    fields(value).prop_map(|mut fields| {
        fields.insert("kind".to_owned(), "Pod".into());
        Value::Object(fields)
    })
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((text(), value), 1..5).prop_map(|fields| fields.into_iter().collect())
}

/// YAML in blocks, with every text in the quotes that Rust and YAML share for these characters.
fn block(value: &Value, indent: usize, out: &mut String) {
    let quoted = |text: &str| Value::from(text).to_string().replace('\u{7f}', "\\u007f");
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                write!(out, "\n{}{}:", " ".repeat(indent), quoted(key)).unwrap();
                block(value, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                write!(out, "\n{}-", " ".repeat(indent)).unwrap();
                block(item, indent + 2, out);
            }
        }
        Value::String(text) => write!(out, " {}", quoted(text)).unwrap(),
        other => write!(out, " {other}").unwrap(),
    }
}

#[track_caller]
fn reads_back(text: &str, value: &Value) {
    let parsed = parse("t", text.as_bytes());
    assert_eq!(parsed.problems, [], "{text}");
    assert_eq!(parsed.documents.len(), 1, "{text}");
    assert_eq!(&parsed.documents[0].value, value, "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use_up(&bytes);
    }

    #[test]
    fn any_mix_of_yaml_is_survived(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        use_up(pieces.concat().as_bytes());
    }

    #[test]
    fn what_is_written_is_read(value in json()) {
        reads_back(&value.to_string(), &value);
        reads_back(&serde_json::to_string_pretty(&value).unwrap(), &value);
        let mut text = String::new();
        block(&value, 0, &mut text);
        reads_back(&text, &value);
        // As a flow mapping of YAML: a comment above makes it no JSON.
        reads_back(&format!("# yaml\n{value}").replace('\u{7f}', "\\u007f"), &value);
    }

    #[test]
    fn every_field_is_located_where_its_key_is_written(value in json()) {
        let mut yaml = String::new();
        block(&value, 0, &mut yaml);
        for text in [serde_json::to_string_pretty(&value).unwrap(), yaml] {
            let document = &parse("t", text.as_bytes()).documents[0];
            for pointer in pointers(&value) {
                let Some((parent, token)) = pointer.rsplit_once('/') else { continue };
                if !value.pointer(parent).unwrap().is_object() {
                    continue;
                }
                let location = document.locate(&pointer);
                let line = document.place().source().line(location.line).unwrap();
                let here: String = line.chars().skip(location.column as usize - 1).collect();
                let key = Value::from(token.replace("~1", "/").replace("~0", "~")).to_string().replace('\u{7f}', "\\u007f");
                let here = here.replace('\u{7f}', "\\u007f");
                prop_assert!(here.starts_with(&key), "{pointer} is not at {location:?} of {text}");
            }
        }
    }
}
