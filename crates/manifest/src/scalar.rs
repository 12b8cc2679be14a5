//! What a YAML scalar means to kubectl: YAML 1.1 as go-yaml v2 has it, then through JSON.
//!
//! The rules are those of `resolve.go` in go.yaml.in/yaml/v2 and of `convertToJSONableObject` in sigs.k8s.io/yaml, and are
//! held against them by `tests/data/kubectl.jsonl`.

use serde_json::{Number, Value};

/// A scalar, before it becomes a value or a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// More than an `i64` holds. As a value it loses its last digits, as it does in kubectl; it cannot be a key.
    Large(u64),
    Float(f64),
    Text(String),
}

const CORE: &str = "tag:yaml.org,2002:";

impl Scalar {
    /// What a plain scalar without a tag means.
    pub(crate) fn plain(text: &str) -> Self {
        let Some(first) = text.bytes().next() else { return Self::Null };
        // Most scalars are words. Nothing but these beginnings can mean anything else.
        if !matches!(
            first,
            b'0'..=b'9'
                | b'+'
                | b'-'
                | b'.'
                | b'~'
                | b'y'
                | b'Y'
                | b'n'
                | b'N'
                | b't'
                | b'T'
                | b'f'
                | b'F'
                | b'o'
                | b'O'
        ) {
            return Self::Text(text.to_owned());
        }
        match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Self::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Self::Bool(false),
            "~" | "null" | "Null" | "NULL" => Self::Null,
            ".nan" | ".NaN" | ".NAN" => Self::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Self::Float(f64::NEG_INFINITY),
            _ => match first {
                b'.' => fraction(text),
                b'0'..=b'9' | b'+' | b'-' => number(text),
                _ => None,
            }
            .unwrap_or_else(|| Self::Text(text.to_owned())),
        }
    }

    /// What a scalar with a tag means, or why kubectl refuses it.
    pub(crate) fn tagged(tag: &str, text: &str) -> Result<Self, String> {
        let words = || Self::Text(text.to_owned());
        let fits = match tag.strip_prefix(CORE) {
            Some("binary") => {
                return base64(text)
                    .map(|bytes| Self::Text(String::from_utf8_lossy(&bytes).into_owned()))
                    .ok_or_else(|| "the value of `!!binary` is not base64".to_owned());
            }
            Some("timestamp") => looks_like_date(text).then(words),
            Some("int") => Some(Self::plain(text)).filter(|scalar| matches!(scalar, Self::Int(_) | Self::Large(_))),
            Some("bool") => Some(Self::plain(text)).filter(|scalar| matches!(scalar, Self::Bool(_))),
            Some("null") => Some(Self::plain(text)).filter(|scalar| *scalar == Self::Null),
            Some("float") => match Self::plain(text) {
                #[expect(clippy::cast_precision_loss, reason = "kubectl loses it, too")]
                Self::Int(integer) => Some(Self::Float(integer as f64)),
                scalar => Some(scalar).filter(|scalar| matches!(scalar, Self::Float(_))),
            },
            // `!!str`, a tag of the user's own, or one that go-yaml does not know: the text as it stands.
            _ => return Ok(words()),
        };
        let name = tag.strip_prefix(CORE).unwrap_or(tag);
        fits.ok_or_else(|| format!("`{}` does not fit its tag `!!{name}`: correct it or remove the tag", shorten(text)))
    }

    /// The value as kubectl sends it, or why JSON cannot hold it.
    pub(crate) fn into_value(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(integer) => Value::Number(integer.into()),
            #[expect(clippy::cast_precision_loss, reason = "kubectl loses it, too")]
            Self::Large(integer) => Value::Number(Number::from_f64(integer as f64).ok_or_else(String::new)?),
            Self::Float(float) => match json_number(float) {
                Some(number) => Value::Number(number),
                None => return Err("a manifest becomes JSON, which has no infinity and no not-a-number".to_owned()),
            },
            Self::Text(text) => Value::String(text),
        })
    }

    /// The name of the field whose key this is, or why it cannot be a key.
    pub(crate) fn into_key(self) -> Result<String, String> {
        Ok(match self {
            Self::Text(text) => text,
            Self::Bool(bool) => bool.to_string(),
            Self::Int(integer) => integer.to_string(),
            Self::Float(float) => key_of_float(float),
            Self::Null => {
                return Err(
                    "a key is missing here (or is `null`, which cannot be a key): write it, or quote it".to_owned()
                );
            }
            Self::Large(integer) => return Err(format!("the number {integer} is too large for a key: quote it")),
        })
    }
}

/// The first characters of a text for a message.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None if line.len() < text.trim_end().len() => format!("{line}..."),
        None => line.to_owned(),
    }
}

/// Kubernetes keeps a number as an integer if its JSON is one, and Go prints a float without a fraction as one.
pub(crate) fn json_number(float: f64) -> Option<Number> {
    // Beyond this Go prints an exponent; below it, the shortest digits and zeros, as `Display` does.
    if float.fract() == 0.0
        && float.abs() < 1e21
        && let Ok(integer) = format!("{float}").parse::<i64>()
    {
        return Some(integer.into());
    }
    Number::from_f64(float)
}

fn number(text: &str) -> Option<Scalar> {
    let joined;
    let plain = if text.contains('_') {
        joined = text.replace('_', "");
        joined.as_str()
    } else {
        text
    };
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would take a second sign.
    if digits.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && let Ok(magnitude) = i128::from_str_radix(digits, radix)
    {
        let value = if negative { -magnitude } else { magnitude };
        if let Ok(integer) = i64::try_from(value) {
            return Some(Scalar::Int(integer));
        }
        // Go's `ParseUint` takes no sign at all.
        if !plain.starts_with(['-', '+'])
            && let Ok(integer) = u64::try_from(value)
        {
            return Some(Scalar::Large(integer));
        }
    }
    if plain.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        && let Some(float) = float(plain)
    {
        return Some(float);
    }
    // go-yaml's own second try for binary numbers lets a sign pass behind the prefix.
    let binary = plain.strip_prefix("0b")?;
    i64::from_str_radix(binary, 2).ok().map(Scalar::Int)
}

/// A number that begins with its point goes to Go's `ParseFloat` as it stands, which takes `_` between digits.
fn fraction(text: &str) -> Option<Scalar> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let between = |(at, byte): (usize, &u8)| *byte != b'_' || digit(at.checked_sub(1)) && digit(Some(at + 1));
    bytes.iter().enumerate().all(between).then(|| float(&text.replace('_', "")))?
}

/// Beyond the range Go reports an error, and the text stays a text.
fn float(text: &str) -> Option<Scalar> {
    text.parse::<f64>().ok().filter(|float| float.is_finite()).map(Scalar::Float)
}

/// `strconv.FormatFloat(f, 'g', -1, 32)`, with go-yaml's names for what is not finite.
fn key_of_float(float: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "keys have 32 bits in sigs.k8s.io/yaml")]
    let float = float as f32;
    if float.is_nan() {
        return ".nan".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        format!("{float}")
    } else {
        format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

/// Standard base64 with padding; line ends are skipped, as Go's decoder does.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in &digits[..digits.len() - padding] {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xFF) as u8);
        }
    }
    Some(bytes)
}

/// A date as go-yaml wants it behind `!!timestamp`: year, month and day; a time of day is not looked into.
fn looks_like_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let day: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let within = |digits: &str, most: u32| {
        matches!(digits.len(), 1 | 2) && digits.parse::<u32>().is_ok_and(|number| (1..=most).contains(&number))
    };
    year.len() == 4
        && year.bytes().all(|byte| byte.is_ascii_digit())
        && within(month, 12)
        && within(&day, 31)
        && matches!(rest.as_bytes().get(day.len()), None | Some(b'T' | b't' | b' '))
}
