//! Label and field selectors in their text form, as a look-up's query carries them.
//!
//! Labels follow `k8s.io/apimachinery/pkg/labels/selector.go`, fields `k8s.io/apimachinery/pkg/fields/selector.go`, both of Kubernetes 1.36;
//! the texts of errors were compared with those of a running API server.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Why a selector cannot be read; the text is the API server's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

fn error<T>(text: impl Into<String>) -> Result<T, SelectorError> {
    Err(SelectorError(text.into()))
}

/// A parsed label selector: every requirement must hold. Without any, it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h,!i,j>1`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { tokens: tokens(text), position: 0 }.selector()
    }

    /// Whether labels (a mapping of strings, or nothing at all) satisfy every requirement.
    ///
    /// A null value counts as the empty string, as the API server reads it; other types count as absent.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = |key: &str| match labels?.get(key)? {
            Value::String(text) => Some(text.as_str()),
            Value::Null => Some(""),
            _ => None,
        };
        self.requirements.iter().all(|requirement| {
            let value = value(&requirement.key);
            let number = || value.and_then(parse_int);
            match &requirement.test {
                Test::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
                Test::NotIn(refused) => value.is_none_or(|value| !refused.contains(value)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
                Test::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
                Test::LessThan(bound) => number().is_some_and(|number| number < *bound),
            }
        })
    }
}

/// As Go's `strconv.ParseInt(text, 10, 64)`, which is also Rust's reading.
fn parse_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
    Identifier,
    End,
}

type Token = (Kind, String);

const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// Splits into tokens; the last one is [`Kind::End`]. As in Kubernetes, a NUL ends the text.
fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text.split('\0').next().unwrap_or_default();
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANK);
        let Some(first) = rest.chars().next() else { break };
        let (token, length) = if SPECIAL.contains(&first) { special(rest) } else { word(rest) };
        tokens.push(token);
        rest = &rest[length..];
    }
    tokens.push((Kind::End, String::new()));
    tokens
}

fn special(rest: &str) -> (Token, usize) {
    let (kind, text) = match rest.as_bytes() {
        [b'=', b'=', ..] => (Kind::DoubleEquals, "=="),
        [b'!', b'=', ..] => (Kind::NotEquals, "!="),
        [b'=', ..] => (Kind::Equals, "="),
        [b'!', ..] => (Kind::Not, "!"),
        [b'(', ..] => (Kind::Open, "("),
        [b')', ..] => (Kind::Close, ")"),
        [b'>', ..] => (Kind::Greater, ">"),
        [b'<', ..] => (Kind::Less, "<"),
        _ => (Kind::Comma, ","),
    };
    ((kind, text.to_owned()), text.len())
}

fn word(rest: &str) -> (Token, usize) {
    let length = rest.find(|c| SPECIAL.contains(&c) || BLANK.contains(&c)).unwrap_or(rest.len());
    let text = &rest[..length];
    let kind = match text {
        "in" => Kind::In,
        "notin" => Kind::NotIn,
        _ => Kind::Identifier,
    };
    ((kind, text.to_owned()), length)
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn selector(&mut self) -> Result<LabelSelector, SelectorError> {
        let mut selector = LabelSelector::default();
        loop {
            match self.peek() {
                (Kind::Identifier | Kind::Not, _) => {
                    let requirement = self.requirement();
                    let requirement =
                        requirement.map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                    selector.requirements.push(requirement);
                    match self.next() {
                        (Kind::End, _) => return Ok(selector),
                        (Kind::Comma, _) => {
                            let (kind, text) = self.peek();
                            if !matches!(kind, Kind::Identifier | Kind::Not) {
                                return error(format!("found '{text}', expected: identifier after ','"));
                            }
                        }
                        (_, text) => return error(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Kind::End, _) => return Ok(selector),
                (_, text) => return error(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    /// The token at hand, where `in` and `notin` are plain words.
    fn peek(&self) -> Token {
        match self.tokens.get(self.position) {
            Some((Kind::In | Kind::NotIn, text)) => (Kind::Identifier, text.clone()),
            Some(token) => token.clone(),
            None => (Kind::End, String::new()),
        }
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut kind, mut key) = self.next();
        let negated = kind == Kind::Not;
        if negated {
            (kind, key) = self.next();
        }
        if kind != Kind::Identifier {
            return error(format!("found '{key}', expected: identifier"));
        }
        check_key(&key)?;
        if negated {
            return Ok(Requirement { key, test: Test::DoesNotExist });
        }
        if matches!(self.peek().0, Kind::End | Kind::Comma) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let (operator, literal) = self.tokens.get(self.position).cloned().unwrap_or((Kind::End, String::new()));
        self.position += 1;
        let values = match operator {
            Kind::In | Kind::NotIn => self.values()?,
            Kind::Equals | Kind::DoubleEquals | Kind::NotEquals | Kind::Greater | Kind::Less => self.exact_value()?,
            _ => return error(format!("found '{literal}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let mut problems = Vec::new();
        let mut bound = 0;
        if matches!(operator, Kind::Greater | Kind::Less) {
            for (index, value) in values.iter().enumerate() {
                match parse_int(value) {
                    Some(number) => bound = number,
                    None => problems.push(format!(
                        "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    )),
                }
            }
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(problem) = value_problem(value) {
                problems.push(format!("values[{index}][{key}]: Invalid value: {value:?}: {problem}"));
            }
        }
        match &problems[..] {
            [] => {}
            [only] => return error(only),
            several => return error(format!("[{}]", several.join(", "))),
        }
        let test = match operator {
            Kind::NotIn | Kind::NotEquals => Test::NotIn(values),
            Kind::Greater => Test::GreaterThan(bound),
            Kind::Less => Test::LessThan(bound),
            _ => Test::In(values),
        };
        Ok(Requirement { key, test })
    }

    /// `(x,y,z)`, where values may be empty.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let (kind, text) = self.next();
        if kind != Kind::Open {
            return error(format!("found '{text}' expected: '('"));
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            (Kind::Close, _) => {
                self.position += 1;
                values.insert(String::new());
                return Ok(values);
            }
            (Kind::Identifier | Kind::Comma, _) => {}
            (_, text) => return error(format!("found '{text}', expected: ',', ')' or identifier")),
        }
        loop {
            match self.next() {
                (Kind::Identifier, text) => {
                    values.insert(text);
                    match self.peek() {
                        (Kind::Comma, _) => {}
                        (Kind::Close, _) => break,
                        (_, text) => return error(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Kind::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Kind::Close => {
                            values.insert(String::new());
                            break;
                        }
                        Kind::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return error(format!("found '{text}', expected: ',', or identifier")),
            }
        }
        self.position += 1;
        Ok(values)
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek().0, Kind::End | Kind::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            (Kind::Identifier, text) => Ok(BTreeSet::from([text])),
            (_, text) => error(format!("found '{text}', expected: identifier")),
        }
    }
}

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
    start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_BYTES: usize = 63;
const PREFIX_BYTES: usize = 253;

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    edge(text.chars().next()) && edge(text.chars().next_back()) && text.chars().all(inner)
}

fn is_subdomain(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split('.').all(|part| {
        part.chars().next().is_some_and(alphanumeric)
            && part.chars().next_back().is_some_and(alphanumeric)
            && part.chars().all(|c| alphanumeric(c) || c == '-')
    })
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let mut problems = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            let example = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return error(format!("<nil>: Invalid value: {key:?}: a valid label key {NAME_RULE} {example}"));
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > PREFIX_BYTES {
                    problems.push(format!("prefix part must be no more than {PREFIX_BYTES} bytes"));
                }
                if !is_subdomain(prefix) {
                    problems.push(format!("prefix part {PREFIX_RULE}"));
                }
            }
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > NAME_BYTES {
        problems.push(format!("name part must be no more than {NAME_BYTES} bytes"));
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME_RULE}"));
    }
    if problems.is_empty() { Ok(()) } else { error(format!("<nil>: Invalid value: {key:?}: {}", problems.join("; "))) }
}

fn value_problem(value: &str) -> Option<String> {
    let mut problems = Vec::new();
    if value.len() > NAME_BYTES {
        problems.push(format!("must be no more than {NAME_BYTES} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(VALUE_RULE.to_owned());
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// A parsed field selector.
///
/// Kubernetes knows different fields for every kind; offline there are only the two that every kind has, `metadata.name` and
/// `metadata.namespace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    is_namespace: bool,
    equals: bool,
    value: String,
}

impl FieldSelector {
    /// Reads `metadata.name=a,metadata.namespace!=b`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut selector = Self::default();
        for part in field_terms(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, equals, value)) = split_term(part) else {
                return error(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            let value = unescape(value)?;
            let is_namespace = match field {
                "metadata.name" => false,
                "metadata.namespace" => true,
                _ => {
                    return error(format!(
                        "field label not supported: {field} (offline, only metadata.name and metadata.namespace are)"
                    ));
                }
            };
            selector.terms.push(Term { is_namespace, equals, value });
        }
        Ok(selector)
    }

    /// Whether an object of this name and namespace (empty for what lives in none) is selected.
    pub fn matches(&self, name: &str, namespace: &str) -> bool {
        self.terms.iter().all(|term| {
            let found = if term.is_namespace { namespace } else { name };
            (found == term.value) == term.equals
        })
    }
}

/// Splits at commas that no backslash protects.
fn field_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether the value must be equal, and the value as written.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        for (operator, equals) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[index..].strip_prefix(operator) {
                return Some((&term[..index], equals, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return error(format!("invalid field selector: invalid escape sequence: \\{other}")),
                None => return error("invalid field selector: invalid escape sequence: \\"),
            },
            ',' | '=' => {
                return error(format!("invalid field selector: unescaped character in value: {}", u32::from(c)));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// An object's `LabelSelector` in text form, as the API server writes it into the status of a Scale.
///
/// Requirements are sorted by key, values within one too; an absent or empty selector gives an empty text.
pub fn to_text(selector: &Value) -> String {
    let mut requirements: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        requirements.push((key, format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let Some(key) = expression["key"].as_str() else { continue };
        let values: BTreeSet<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = values.into_iter().collect::<Vec<_>>().join(",");
        let text = match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("Exists") => key.to_owned(),
            Some("DoesNotExist") => format!("!{key}"),
            _ => continue,
        };
        requirements.push((key, text));
    }
    requirements.sort_by_key(|(key, _)| *key);
    let mut text = String::new();
    for (index, (_, requirement)) in requirements.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{requirement}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(text: &str) -> String {
        LabelSelector::parse(text).unwrap_err().to_string()
    }

    /// Each text on the right is what a Kubernetes 1.36.3 API server answered to the one on the left.
    #[test]
    fn label_selector_errors_read_as_the_api_servers() {
        let long = "a".repeat(79);
        let cases = [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("a,", "found '', expected: identifier after ','"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a=b!c", "found '!', expected: ',' or 'end of string'"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a ! b", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a=<b", "unable to parse requirement: found '<', expected: identifier"),
            ("/a", "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ];
        for (selector, text) in cases {
            assert_eq!(told(selector), text, "{selector}");
        }
        assert_eq!(
            told(&format!("{long}=b")),
            format!(
                "unable to parse requirement: <nil>: Invalid value: {long:?}: name part must be no more than 63 bytes"
            )
        );
        assert_eq!(
            told(&format!("a={long}")),
            format!(
                "unable to parse requirement: values[0][a]: Invalid value: {long:?}: must be no more than 63 bytes"
            )
        );
        assert_eq!(
            told("-a"),
            "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
             validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        );
        assert_eq!(
            told("A.b/c=d"),
            "unable to parse requirement: <nil>: Invalid value: \"A.b/c\": prefix part a lowercase RFC 1123 subdomain must consist of \
             lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and \
             end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        assert_eq!(
            told("a in (-,-x)"),
            format!(
                "unable to parse requirement: [values[0][a]: Invalid value: \"-\": {rule}, values[1][a]: Invalid value: \"-x\": {rule}]"
            )
        );
        assert!(told("a/b/c=d").contains("with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"));
    }

    #[test]
    fn label_selectors_match_as_kubernetes_does() {
        let labels = json!({"app": "zk", "tier": "db", "empty": "", "null": null, "number": 7, "n": "10", "in": "a"});
        let labels = labels.as_object();
        for selector in [
            "",
            " ",
            "app=zk",
            "app==zk",
            "app = zk , tier = db",
            "app in (zk, x)",
            "app notin (x)",
            "app",
            "!gone",
            "app!=x",
            "gone!=x",
            "gone notin (x)",
            "empty=",
            "empty in ()",
            "empty in (,x)",
            "null=",
            "n>9",
            "n<11",
            "in=a",
            "in in (a)",
            "!number",
        ] {
            assert!(LabelSelector::parse(selector).unwrap().matches(labels), "{selector}");
        }
        for selector in [
            "app=x",
            "app!=zk",
            "!app",
            "gone",
            "gone=",
            "gone in (x)",
            "app notin (zk)",
            "app=zk,tier=x",
            "n>10",
            "n<10",
            "app>1",
            "gone>1",
            "empty!=",
            "empty notin (,)",
            "number",
            "number=7",
        ] {
            assert!(!LabelSelector::parse(selector).unwrap().matches(labels), "{selector}");
        }
        assert!(LabelSelector::parse("!a").unwrap().matches(None));
        assert!(!LabelSelector::parse("a").unwrap().matches(None));
    }

    /// As above: left the query, right what the API server answered.
    #[test]
    fn field_selector_errors_read_as_the_api_servers() {
        let told = |text| FieldSelector::parse(text).unwrap_err().to_string();
        assert_eq!(told("metadata.name"), "invalid selector: 'metadata.name'; can't understand 'metadata.name'");
        assert_eq!(told("metadata.name=a=b"), "invalid field selector: unescaped character in value: 61");
        assert_eq!(told("metadata.name=a\\x"), "invalid field selector: invalid escape sequence: \\x");
        assert!(told("foo=bar").starts_with("field label not supported: foo"));
        assert!(told("=a").starts_with("field label not supported: "));
        let odd = "metadata.name in (a)";
        assert_eq!(told(odd), format!("invalid selector: '{odd}'; can't understand '{odd}'"));
    }

    #[test]
    fn field_selectors_compare_name_and_namespace() {
        let matches = |text: &str| FieldSelector::parse(text).unwrap().matches("a", "b");
        for text in ["", ",", "metadata.name=a,", "metadata.name==a", "metadata.name!=x,metadata.namespace=b"] {
            assert!(matches(text), "{text}");
        }
        for text in ["metadata.name=b", "metadata.name!=a", "metadata.namespace=a", "metadata.name=a\\,b"] {
            assert!(!matches(text), "{text}");
        }
        assert!(FieldSelector::parse("metadata.name=a\\,b").unwrap().matches("a,b", ""));
    }

    /// The text is what the API server wrote into the Scale of a set with this selector.
    #[test]
    fn selectors_are_written_as_the_scale_status_has_them() {
        let selector = json!({"matchLabels": {"z": "1", "b": "c"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["q", "b"]}, {"key": "aa", "operator": "DoesNotExist"},
            {"key": "b", "operator": "NotIn", "values": ["f"]}]});
        assert_eq!(to_text(&selector), "!aa,b=c,b notin (f),tier in (b,q),z=1");
        assert_eq!(to_text(&Value::Null), "");
        assert_eq!(to_text(&json!({})), "");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "[ -~\\t\\n\\u{0}é(]{0,40}") {
            let labels = LabelSelector::parse(&text);
            if let Ok(selector) = labels {
                // What has no requirement matches everything.
                prop_assert!(!selector.requirements.is_empty() || selector.matches(None));
            }
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert!(!selector.terms.is_empty() || selector.matches("", ""));
            }
        }

        #[test]
        fn whatever_is_written_is_read_back(
            labels in proptest::collection::btree_map("[a-z]{1,4}", "[a-z0-9]{0,4}", 0..4),
            some in proptest::collection::btree_set("[a-z0-9]{1,3}", 1..4),
        ) {
            let labels: Map<String, Value> = labels.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
            let one = some.first().cloned().unwrap_or_default();
            let mut own = labels.clone();
            own.insert("Q".to_owned(), Value::String(one));
            let selector = json!({"matchLabels": labels, "matchExpressions": [
                {"key": "Q", "operator": "In", "values": some}, {"key": "R", "operator": "DoesNotExist"}]});
            let parsed = LabelSelector::parse(&to_text(&selector)).unwrap();
            prop_assert!(parsed.matches(Some(&own)));
            own.insert("R".to_owned(), Value::Null);
            prop_assert!(!parsed.matches(Some(&own)));
        }
    }
}
