//! Writes YAML: the few forms that generated files need, in the order in which they are given.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// What is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    /// A text: as it is where that is read as the same text, quoted where it is not, as a block where it has several lines.
    Text(String),
    /// True or false.
    Flag(bool),
    /// A number.
    Number(serde_json::Number),
    /// A list.
    List(Vec<Yaml>),
    /// An object.
    Map(Vec<(String, Yaml)>),
}

/// An object with these keys.
pub(crate) fn map<const N: usize>(fields: [(&str, Yaml); N]) -> Yaml {
    Yaml::Map(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A text.
pub(crate) fn text(text: impl Into<String>) -> Yaml {
    Yaml::Text(text.into())
}

/// Null becomes an empty text: nothing that is generated has any.
impl From<&Value> for Yaml {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => text(""),
            Value::Bool(flag) => Self::Flag(*flag),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(own) => text(own.as_str()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::Map(fields.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        }
    }
}

impl Display for Yaml {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(items) if !items.is_empty() => write_items(f, items, 0),
            Self::Map(fields) if !fields.is_empty() => write_fields(f, fields, 0, false),
            _ => {
                self.write_behind(f, 0)?;
                writeln!(f)
            }
        }
    }
}

impl Yaml {
    /// Writes what stands behind `key:` or `-` on the same line, or below it, more indented than `indent`.
    fn write_behind(&self, f: &mut Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(_) => write!(f, "[]"),
            Self::Map(_) => write!(f, "{{}}"),
            Self::Text(text) if is_block(text) => {
                write!(f, "|")?;
                for line in text.lines() {
                    if line.is_empty() {
                        writeln!(f)?;
                    } else {
                        write!(f, "\n{:indent$}  {line}", "")?;
                    }
                }
                Ok(())
            }
            Self::Text(text) if is_plain(text) => f.write_str(text),
            // JSON is YAML.
            Self::Text(text) => write!(f, "{}", Value::from(text.as_str())),
        }
    }
}

fn write_items(f: &mut Formatter<'_>, items: &[Yaml], indent: usize) -> fmt::Result {
    for item in items {
        write!(f, "{:indent$}- ", "")?;
        match item {
            Yaml::Map(fields) if !fields.is_empty() => write_fields(f, fields, indent + 2, true)?,
            _ => {
                item.write_behind(f, indent)?;
                writeln!(f)?;
            }
        }
    }
    Ok(())
}

/// The first line may stand behind what is written already.
fn write_fields(f: &mut Formatter<'_>, fields: &[(String, Yaml)], indent: usize, behind: bool) -> fmt::Result {
    for (index, (key, value)) in fields.iter().enumerate() {
        let indentation = if behind && index == 0 { 0 } else { indent };
        write!(f, "{:indentation$}", "")?;
        text(key.as_str()).write_behind(f, indent)?;
        match value {
            Yaml::List(items) if !items.is_empty() => {
                writeln!(f, ":")?;
                write_items(f, items, indent)?;
            }
            Yaml::Map(fields) if !fields.is_empty() => {
                writeln!(f, ":")?;
                write_fields(f, fields, indent + 2, false)?;
            }
            _ => {
                write!(f, ": ")?;
                value.write_behind(f, indent)?;
                writeln!(f)?;
            }
        }
    }
    Ok(())
}

/// Whether a block says this text: one that ends with its only last newline, begins with a letter or the like, and has
/// nothing that a line cannot hold.
fn is_block(text: &str) -> bool {
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\n'])
        && !text.chars().any(|c| c != '\n' && (c.is_control() || "\u{85}\u{2028}\u{2029}\u{feff}".contains(c)))
}

/// Whether the text, unquoted, is read as that text by YAML 1.1 and 1.2 alike.
fn is_plain(text: &str) -> bool {
    const NAMES: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || "./_)".contains(c))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " .,;:/_-()'".contains(c))
        && !text.contains(": ")
        && !NAMES.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let texts = [
            "plain",
            "a: b",
            "a:b",
            "yes",
            "Off",
            "",
            " a",
            "a ",
            "-",
            "1",
            "1.0",
            "0x1",
            "2026-01-01",
            "a #b",
            "#",
            "*",
            "~",
            "a\"b\\c",
            "ä",
            "a\nb\n",
            "a\nb",
            "\n",
            "a\n\n",
            " a\nb\n",
            "a\n\n  b\n\tc\n",
            "a\tb",
            "a\u{7}\n",
            "[a]",
            "a'b",
            "null",
        ];
        let value = json!({
            "texts": texts,
            "nested": [{ "a": { "b": ["c"], "empty": {} }, "none": [], "flag": true }, [], {}],
            "block": "first\n  second\n",
            "yes": "a key that is none",
        });
        let written = Yaml::from(&value).to_string();
        let read = manifest::parse("written", written.as_bytes());
        assert!(read.problems.is_empty(), "{:?}\n{written}", read.problems);
        assert_eq!(read.documents[0].value, value, "{written}");
        for line in written.lines() {
            assert_eq!(line.trim_end(), line);
        }
    }

    #[test]
    fn the_form_is_that_of_a_person() {
        let yaml = map([
            ("name", text("odd-replicas")),
            ("version", text("0.1.0")),
            (
                "rules",
                Yaml::List(vec![map([("groups", Yaml::List(vec![text("apps"), text("")])), ("on", Yaml::Flag(true))])]),
            ),
            ("install", text("Pull:\n\n  it\n")),
        ]);
        assert_eq!(
            yaml.to_string(),
            "name: odd-replicas\nversion: \"0.1.0\"\nrules:\n- groups:\n  - apps\n  - \"\"\n  \"on\": true\n\
             install: |\n  Pull:\n\n    it\n"
        );
    }
}
