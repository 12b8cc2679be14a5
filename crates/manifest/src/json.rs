//! JSON to documents, strictly, with the places that `serde_json` does not tell.

use serde_json::{Number, Value};

use crate::build::{Builder, Fault};
use crate::scalar::json_number;

/// Reads the value that begins at `at` and says where it ends.
pub(crate) fn read(text: &str, at: usize, builder: &mut Builder) -> Result<usize, Fault> {
    let mut reader = Reader { text, at, open: Vec::new() };
    reader.value(builder)?;
    Ok(reader.at)
}

/// The first byte at or after `at` that is not white space of JSON.
pub(crate) fn skip(text: &str, at: usize) -> usize {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    at + text.as_bytes().get(at..).unwrap_or_default().iter().take_while(|byte| space(byte)).count()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The closing brackets that are due.
    open: Vec<u8>,
}

impl Reader<'_> {
    /// One value with all that is in it. A loop rather than a recursion, so that no depth can overflow the stack.
    fn value(&mut self, builder: &mut Builder) -> Result<(), Fault> {
        loop {
            let at = self.space();
            match self.peek() {
                Some(b'{') => {
                    builder.start_mapping(at, 0)?;
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(b'}') {
                        self.open.push(b'}');
                        self.field(builder)?;
                        continue;
                    }
                    self.at += 1;
                    builder.end(at)?;
                }
                Some(b'[') => {
                    builder.start_list(at, 0)?;
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(b']') {
                        self.open.push(b']');
                        continue;
                    }
                    self.at += 1;
                    builder.end(at)?;
                }
                Some(b'"') => {
                    let text = self.string()?;
                    builder.leaf(at, Value::String(text))?;
                }
                Some(b'-' | b'0'..=b'9') => {
                    let number = self.number()?;
                    builder.leaf(at, Value::Number(number))?;
                }
                Some(b't') => self.word(builder, "true", Value::Bool(true))?,
                Some(b'f') => self.word(builder, "false", Value::Bool(false))?,
                Some(b'n') => self.word(builder, "null", Value::Null)?,
                _ => return Err(self.expected("a value")),
            }
            if self.close(builder)? {
                return Ok(());
            }
        }
    }

    /// What follows a value: a comma and more, or closing brackets. Says whether the outermost value is done.
    fn close(&mut self, builder: &mut Builder) -> Result<bool, Fault> {
        loop {
            let Some(due) = self.open.last().copied() else { return Ok(true) };
            let at = self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if due == b'}' {
                        self.field(builder)?;
                    }
                    return Ok(false);
                }
                Some(byte) if byte == due => {
                    self.at += 1;
                    self.open.pop();
                    builder.end(at)?;
                }
                _ => return Err(self.expected(if due == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
            }
        }
    }

    fn field(&mut self, builder: &mut Builder) -> Result<(), Fault> {
        let at = self.space();
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        let key = self.string()?;
        builder.key(at, key);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, builder: &mut Builder, word: &str, value: Value) -> Result<(), Fault> {
        let at = self.at;
        if !self.text[at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        builder.leaf(at, value)
    }

    fn number(&mut self) -> Result<Number, Fault> {
        let start = self.at;
        let mut whole = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // Kubernetes keeps what an `i64` holds and makes a float of the rest (k8s.io/apimachinery/pkg/util/json).
        if whole && let Ok(integer) = text.parse::<i64>() {
            return Ok(integer.into());
        }
        let number = text.parse().ok().filter(|float: &f64| float.is_finite()).and_then(json_number);
        number.ok_or_else(|| Fault::new(start, "the number is too large: kubectl cannot read it"))
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// A string whose opening quote is here.
    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let run = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let Some(run) = run else {
                return Err(Fault::syntax(start, "not JSON: this string has no end (a closing `\"` is missing)"));
            };
            string.push_str(&self.text[self.at..self.at + run]);
            self.at += run;
            match rest[run] {
                b'"' => {
                    self.at += 1;
                    string.shrink_to_fit();
                    return Ok(string);
                }
                b'\\' => {
                    let character = self.escape()?;
                    string.push(character);
                }
                _ => {
                    let message =
                        "not JSON: a line end, tab or control character stands in a string: write it as an escape";
                    return Err(Fault::syntax(self.at, message));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let at = self.at;
        let byte = self.text.as_bytes().get(at + 1);
        self.at += 2;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hex(at)?;
                if (0xD800..0xDC00).contains(&unit) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    let second = self.at;
                    self.at += 2;
                    let low = self.hex(second)?;
                    if (0xDC00..0xE000).contains(&low) {
                        let pair = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        return Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = second;
                }
                // Half a pair alone becomes a replacement character, as in Go.
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(Fault::syntax(at, "not JSON: there is no such escape; a backslash itself is `\\\\`")),
        })
    }

    fn hex(&mut self, escape: usize) -> Result<u32, Fault> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.ok_or_else(|| Fault::syntax(escape, "not JSON: `\\u` wants four hexadecimal digits"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) -> usize {
        self.at = skip(self.text, self.at);
        self.at
    }

    fn expected(&self, what: &str) -> Fault {
        let found = match self.text[self.at.min(self.text.len())..].chars().next() {
            // kubectl tries YAML next, which knows this one, and takes the other for text.
            Some('#') => return Fault::syntax(self.at, "JSON has no comments: remove this one"),
            Some('/') => return Fault::new(self.at, "JSON has no comments: remove this one, or write it with `#`"),
            Some('}' | ']') if self.text[..self.at].trim_end().ends_with(',') => {
                return Fault::syntax(self.at, "not JSON: the comma before this bracket is one too many");
            }
            Some(character) => format!("found `{}`", character.escape_default()),
            None => "the text ends".to_owned(),
        };
        Fault::syntax(self.at, format!("not JSON: {what} is expected here, {found}"))
    }
}
