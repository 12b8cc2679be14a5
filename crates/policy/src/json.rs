//! JSON as the kit meets it: objects of which only some fields are read, and objects without their empty fields.

use serde_json::{Map, Value};
use workload::node::read_json;

/// The fields of a payload, of a request and of an object that are read before an object is: all others are passed
/// over, however many and however deep they are.
const FIELDS: [&str; 14] = [
    "request",
    "settings",
    "kind",
    "resource",
    "subResource",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "object",
    "oldObject",
    "dryRun",
    "metadata",
    "generateName",
];

/// The [`FIELDS`] of a JSON object, with their values left unread.
///
/// The raw values of `serde_json` would do, but are 6 KB of a module, and make it take an object that users write,
/// `{"$serde_json::private::RawValue": "..."}`, for the text in it.
pub(crate) struct Fields<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Fields<'a> {
    /// Finds the fields of the object in `text`. A value is taken for JSON until it is read.
    ///
    /// # Errors
    /// What is no object, and a field that is there twice.
    pub(crate) fn read(text: &'a str) -> Result<Self, String> {
        let mut found = Vec::new();
        if (Scanner { text, at: 0 }).object(&mut found).is_none() {
            return Err(match read_json(text) {
                Ok(_) => "it must be an object".to_owned(),
                Err(error) => error.to_string(),
            });
        }
        let mut fields: Vec<(&'static str, &'a str)> = Vec::new();
        for (key, value) in found {
            // Whoever writes a name with escapes means the same field.
            let decoded = if key.contains('\\') { read_json(key).unwrap_or_default() } else { Value::Null };
            let plain = key.get(1..key.len() - 1).unwrap_or_default();
            let name = decoded.as_str().unwrap_or(plain);
            if let Some(known) = FIELDS.iter().find(|known| **known == name) {
                // Of two, nobody knows which one others read.
                if fields.iter().any(|(name, _)| name == known) {
                    return Err("the same field twice: ".to_owned() + known);
                }
                fields.push((*known, value));
            }
        }
        Ok(Self(fields))
    }

    /// The text of the field `name`; `None` where it is absent or `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(own, _)| *own == name).map(|(_, text)| *text);
        found.filter(|text| *text != "null")
    }
}

/// Goes through a text from value to value. Each step is `None` where the text is not what it must be.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        self.pass(|byte| !is_blank(byte))
    }

    /// The whole text as an object: its keys, in their quotes, and values.
    fn object(&mut self, fields: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
        if self.next()? != b'{' {
            return None;
        }
        let mut byte = self.next()?;
        while byte != b'}' {
            let key = if byte == b'"' { self.string()? } else { return None };
            if self.next()? != b':' {
                return None;
            }
            fields.push((key, self.value()?));
            byte = self.next()?;
            if byte == b',' {
                byte = self.next()?;
                // A comma has a field behind it.
                if byte == b'}' {
                    return None;
                }
            } else if byte != b'}' {
                return None;
            }
        }
        if self.next().is_none() { Some(()) } else { None }
    }

    /// Passes over all that is none of `stops`, and over the one that it stops at.
    fn pass(&mut self, stops: impl Fn(u8) -> bool) -> Option<u8> {
        for byte in self.text.as_bytes().get(self.at..)? {
            self.at += 1;
            if stops(*byte) {
                return Some(*byte);
            }
        }
        None
    }

    /// The string whose opening quote has just been passed, with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at.checked_sub(1)?;
        while self.pass(|byte| matches!(byte, b'"' | b'\\'))? != b'"' {
            self.at += 1;
        }
        self.text.get(start..self.at)
    }

    /// The next value, however deep it is.
    fn value(&mut self) -> Option<&'a str> {
        let mut byte = self.next()?;
        let start = self.at.checked_sub(1)?;
        if matches!(byte, b',' | b':' | b'}' | b']') {
            return None;
        }
        if !matches!(byte, b'"' | b'{' | b'[') {
            // A number, `true` and the like end before what follows them.
            self.pass(|byte| is_blank(byte) || matches!(byte, b',' | b'}' | b']'))?;
            self.at -= 1;
            return self.text.get(start..self.at);
        }
        let mut depth = 0_usize;
        loop {
            match byte {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => depth += 1,
                _ => depth = depth.checked_sub(1)?,
            }
            if depth == 0 {
                return self.text.get(start..self.at);
            }
            byte = self.pass(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))?;
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The JSON object with those of these fields that are not empty: `null`, or without items or fields.
#[inline(never)]
pub(crate) fn present(fields: &mut [(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        let is_empty = match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !is_empty {
            object.insert((*name).to_owned(), value.take());
        }
    }
    Value::Object(object)
}

/// A text, or `null` for an empty one.
#[inline(never)]
pub(crate) fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::String(text.to_owned()) }
}

/// A list of texts.
#[inline(never)]
pub(crate) fn texts(texts: Vec<String>) -> Value {
    let mut list = Vec::with_capacity(texts.len());
    for text in texts {
        list.push(Value::String(text));
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(text: &str) -> Result<Vec<(&'static str, &str)>, String> {
        Fields::read(text).map(|fields| fields.0)
    }

    #[test]
    fn known_fields_are_found_with_their_text() {
        for (text, found) in [
            ("{}", vec![]),
            (" {\n\t} \r\n", vec![]),
            (r#"{"kind":1}"#, vec![("kind", "1")]),
            (r#" { "kind" : -1.5e3 , "more" : [ ] , "name" : "a" } "#, vec![("kind", "-1.5e3"), ("name", r#""a""#)]),
            (
                r#"{"object":{"kind":{"a":["}",{}]}},"name":null}"#,
                vec![("object", r#"{"kind":{"a":["}",{}]}}"#), ("name", "null")],
            ),
            (r#"{"name":"a\"}{\\","kind":true}"#, vec![("name", r#""a\"}{\\""#), ("kind", "true")]),
            (r#"{"n\u0061me":"é","x\"name":1}"#, vec![("name", r#""é""#)]),
        ] {
            assert_eq!(fields(text), Ok(found), "{text}");
        }
        let read = Fields::read(r#"{"name":null,"kind":7}"#).unwrap();
        assert_eq!((read.get("name"), read.get("kind"), read.get("object")), (None, Some("7"), None));
    }

    #[test]
    fn what_is_no_object_is_refused_with_the_place() {
        for text in [
            "",
            "{",
            "{,}",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":}",
            "{\"a\":,}",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{\"a\":1 2}",
            "{\"a\":1}}",
            "{\"a\":1}x",
            "{\"a\":[1}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":\"\\\"}",
            "{1:1}",
            "{\"a\" 1}",
            "{\"a\":]}",
        ] {
            let error = fields(text).unwrap_err();
            assert!(error.contains("line 1 column "), "{text}: {error}");
        }
        for text in ["[]", "1", "null", "\"{}\""] {
            assert_eq!(fields(text), Err("it must be an object".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        for text in [r#"{"name":1,"name":1}"#, r#"{"name":1,"na\u006de":1}"#] {
            assert_eq!(fields(text), Err("the same field twice: name".to_owned()));
        }
        assert_eq!(fields(r#"{"other":1,"other":1}"#), Ok(vec![]));
    }

    #[test]
    fn an_object_that_looks_like_a_raw_value_is_an_object() {
        let text = r#"{"$serde_json::private::RawValue":"1"}"#;
        assert_eq!(read_json(text).unwrap(), json!({ "$serde_json::private::RawValue": "1" }));
    }

    #[test]
    fn empty_fields_are_left_out() {
        let mut fields = [
            ("a", json!(null)),
            ("b", json!([])),
            ("c", json!({})),
            ("d", json!("")),
            ("e", json!(false)),
            ("f", text("")),
        ];
        assert_eq!(present(&mut fields), json!({ "d": "", "e": false }));
    }
}
