//! Writes an object as YAML for a person to paste.
//!
//! Block style as kubectl prints it. Every text that any reader could take for something else is quoted as in JSON, which is
//! YAML too; so the writer needs to know what is surely plain, not all that is not.

use std::fmt::Write as _;

use serde_json::Value;

use super::is_unsafe;

/// The lines of the value.
pub(super) fn lines(value: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(value, 0, &mut lines),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut lines),
        other => lines.push(flow(other)),
    }
    lines
}

/// A mapping or a list that is not empty.
fn block(value: &Value, indent: usize, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = format!("{:indent$}{}:", "", text(key));
                if is_block(value) {
                    lines.push(key);
                    let deeper = if value.is_array() { indent } else { indent + 2 };
                    block(value, deeper, lines);
                } else {
                    lines.push(format!("{key} {}", flow(value)));
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if is_block(item) {
                    let from = lines.len();
                    block(item, indent + 2, lines);
                    // The dash takes the place of the indentation of the item's first line.
                    if let Some(first) = lines.get_mut(from) {
                        first.replace_range(indent..=indent, "-");
                    }
                } else {
                    lines.push(format!("{:indent$}- {}", "", flow(item)));
                }
            }
        }
        other => lines.push(format!("{:indent$}{}", "", flow(other))),
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// What stands on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        // Numbers, constants, `{}` and `[]` are written as in JSON.
        other => other.to_string(),
    }
}

fn text(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// Whether the text is a text without quotes, for YAML 1.1 and 1.2: a letter, then letters, digits and `-._/`, and none of the
/// words that mean a constant. Nothing that begins with a letter is a number.
fn is_plain(text: &str) -> bool {
    const CONSTANTS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let rest_is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && text.bytes().all(rest_is_plain)
        && !CONSTANTS.iter().any(|constant| text.eq_ignore_ascii_case(constant))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            character if is_unsafe(character) || u32::from(character) & 0xFFFE == 0xFFFE => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\U{:08X}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn is_read_back(value: &Value) {
        let text = lines(value).join("\n");
        let parsed = manifest::parse("t.yaml", text.as_bytes());
        assert_eq!(parsed.problems, [], "{text}");
        assert_eq!(parsed.documents.first().map(|document| &document.value), Some(value), "{text}");
    }

    #[test]
    fn a_budget_looks_as_people_write_it() {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "zk", "namespace": "default"},
            "spec": {"maxUnavailable": 1, "selector": {"matchExpressions": [
                {"key": "app", "operator": "In", "values": ["zk", "on"]}, {"key": "x", "operator": "Exists", "values": []},
            ]}},
        });
        let expected = "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: zk
  namespace: default
spec:
  maxUnavailable: 1
  selector:
    matchExpressions:
    - key: app
      operator: In
      values:
      - zk
      - \"on\"
    - key: x
      operator: Exists
      values: []";
        assert_eq!(lines(&budget).join("\n"), expected);
        is_read_back(&budget);
    }

    #[test]
    fn every_text_is_read_back_as_that_text() {
        let texts = [
            "",
            " ",
            "yes",
            "No",
            "~",
            "null",
            "0777",
            "0x1F",
            "1_000",
            "1e3",
            "12e03",
            ".5",
            ".inf",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a`",
            "{a}",
            "[a]",
            "a,b",
            "'a'",
            "\"a\"",
            "\\",
            "a\nb",
            "a\n",
            "\t",
            "---",
            "...",
            "1:30",
            "2001-01-01",
            "=",
            "<<",
            "?",
            "? a",
            "é",
            "日本",
            "😀",
            "\u{1b}[31m",
            "\u{85}",
            "\u{2028}",
            "\u{202e}",
            "\u{feff}",
            "\u{7f}",
            "a b",
            "a.b/c-d",
            "n",
            "Y",
            "nan",
            ".nan",
            "\u{fffe}",
            "\u{1fffe}",
        ];
        for text in texts {
            is_read_back(&json!({ "k": text, "list": [text, [text], {"a": text}] }));
            let mut keyed = json!({"deep": {}});
            keyed["deep"][text] = json!(1);
            is_read_back(&keyed);
        }
    }

    #[test]
    fn lists_and_mappings_nest_in_any_way() {
        is_read_back(&json!({"a": [[], {}, [[1, [2]], {"b": {"c": [null, true, -1.5]}}], 1], "e": {}}));
    }
}
