//! A view of a JSON value that knows where it stands, so that a wrong type is told with its place.

use std::fmt;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::path::{Path, Segment};

/// A field that a rule reads has a type, or a value, that Kubernetes refuses too.
///
/// Kept in a box, because every step into an object may return one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(Box<Fault>);

/// What a [`Malformed`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the field stands.
    pub path: Path,
    /// What was found, as JSON, shortened.
    pub found: String,
    /// What Kubernetes wants there: `must be a whole number`.
    pub problem: String,
}

impl Malformed {
    /// `node`'s value is not what Kubernetes wants: `problem` says what it must be.
    pub fn new(node: &Node<'_>, problem: impl Into<String>) -> Self {
        Self(Box::new(Fault {
            path: node.path.clone(),
            found: shorten(node.value.unwrap_or(&Value::Null)),
            problem: problem.into(),
        }))
    }
}

impl Deref for Malformed {
    type Target = Fault;

    fn deref(&self) -> &Fault {
        &self.0
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Invalid value: {}: {}", self.path, self.found, self.problem)
    }
}

impl std::error::Error for Malformed {}

/// At most this many characters of a bad value are repeated in a message.
const SHOWN: usize = 60;

/// `value` as JSON of a length that fits a message.
pub fn shorten(value: &Value) -> String {
    match value {
        Value::Array(items) if !items.is_empty() => "[...]".to_owned(),
        Value::Object(fields) if !fields.is_empty() => "{...}".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN => {
            let head: String = text.chars().take(SHOWN).collect();
            format!("{}...", Value::String(head))
        }
        other => other.to_string(),
    }
}

/// A value inside an object, or the place where one could be.
///
/// An explicit `null` is absent, as it is for Kubernetes (`k8s.io/apimachinery` decodes JSON with Go's rules,
/// where `null` leaves the zero value). Looking into an absent value finds absent values; looking into a value
/// of another type is [`Malformed`].
#[derive(Debug, Clone)]
pub struct Node<'a> {
    value: Option<&'a Value>,
    path: Path,
}

impl<'a> Node<'a> {
    /// The whole of `object`.
    pub fn root(object: &'a Value) -> Self {
        Self::at(object, Path::root())
    }

    /// `value`, which stands at `path`.
    pub fn at(value: &'a Value, path: Path) -> Self {
        Self { value: Some(value).filter(|value| !value.is_null()), path }
    }

    /// Where this stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value, unless it is absent or `null`.
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// Whether there is nothing here, or `null`.
    pub fn is_absent(&self) -> bool {
        self.value.is_none()
    }

    /// Whether there is a value here.
    pub fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// The field `name` of this object.
    pub fn get(&self, name: &str) -> Result<Self, Malformed> {
        self.step(Segment::Field(name.to_owned()))
    }

    /// The entry `key` of this map, whose keys users choose.
    pub fn entry(&self, key: &str) -> Result<Self, Malformed> {
        self.step(Segment::Key(key.to_owned()))
    }

    /// The value at `path` from here.
    pub fn follow(&self, path: &Path) -> Result<Self, Malformed> {
        path.segments().into_iter().try_fold(self.clone(), |node, segment| node.step(segment.clone()))
    }

    /// The value at the fields of `dotted` (`spec.template.spec`) from here.
    pub fn dig(&self, dotted: &str) -> Result<Self, Malformed> {
        dotted.split('.').try_fold(self.clone(), |node, name| node.get(name))
    }

    /// The items of this list; none where it is absent.
    pub fn items(&self) -> Result<Vec<Self>, Malformed> {
        match self.value {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                Ok(items.iter().enumerate().map(|(index, item)| Self::at(item, self.path.index(index))).collect())
            }
            Some(_) => Err(Malformed::new(self, "must be a list")),
        }
    }

    /// This object's fields, or `None` where it is absent.
    pub fn object(&self) -> Result<Option<&'a Map<String, Value>>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(Malformed::new(self, "must be an object")),
        }
    }

    /// This text, or `None` where it is absent.
    pub fn string(&self) -> Result<Option<&'a str>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Malformed::new(self, "must be a string")),
        }
    }

    /// This truth value, or `None` where it is absent.
    pub fn boolean(&self) -> Result<Option<bool>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(_) => Err(Malformed::new(self, "must be true or false")),
        }
    }

    /// This whole number of 32 bits (Kubernetes' `int32`: replicas, ports, skews), or `None` where it is absent.
    pub fn int32(&self) -> Result<Option<i32>, Malformed> {
        self.int64()?
            .map(|number| i32::try_from(number).map_err(|_| Malformed::new(self, "must be a whole number of 32 bits")))
            .transpose()
    }

    /// This whole number of 64 bits, or `None` where it is absent. `3.0` is no whole number: the API server
    /// refuses it in an integer field.
    pub fn int64(&self) -> Result<Option<i64>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| Malformed::new(self, "must be a whole number")),
        }
    }

    /// This map of strings, such as labels; empty where it is absent. A `null` value is the empty string, as Go
    /// reads it.
    pub fn string_map(&self) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
        let mut texts = Vec::new();
        for (key, value) in self.object()?.into_iter().flatten() {
            texts.push((key.as_str(), Self::at(value, self.path.key(key)).string()?.unwrap_or_default()));
        }
        Ok(texts)
    }

    /// These texts; none where the list is absent. A `null` item is the empty string, as Go reads it.
    pub fn strings(&self) -> Result<Vec<&'a str>, Malformed> {
        let mut texts = Vec::new();
        for item in self.items()? {
            texts.push(item.string()?.unwrap_or_default());
        }
        Ok(texts)
    }

    /// This value as a type of `k8s-openapi`, or `None` where it is absent.
    ///
    /// For small whole values only: a type that holds `ObjectMeta` or a `PodSpec` makes a module several times as
    /// large, and forgets fields newer than itself.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<Option<T>, Malformed> {
        self.value
            .map(|value| T::deserialize(value).map_err(|error| Malformed::new(self, error.to_string())))
            .transpose()
    }

    fn step(&self, segment: Segment) -> Result<Self, Malformed> {
        let value = match (self.value, &segment) {
            (None, _) => None,
            (Some(Value::Object(fields)), Segment::Field(name) | Segment::Key(name)) => fields.get(name),
            (Some(Value::Array(items)), Segment::Index(index)) => items.get(*index),
            (Some(_), Segment::Index(_)) => return Err(Malformed::new(self, "must be a list")),
            (Some(_), _) => return Err(Malformed::new(self, "must be an object")),
        };
        Ok(Self { value: value.filter(|value| !value.is_null()), path: self.path.with(segment) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_absent_at_every_depth() {
        let object = json!({ "spec": null, "metadata": { "labels": { "a": null } } });
        let root = Node::root(&object);
        assert!(root.dig("spec.replicas").unwrap().is_absent());
        assert_eq!(root.dig("metadata.labels").unwrap().string_map().unwrap(), [("a", "")]);
        assert!(Node::root(&Value::Null).is_absent());
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        let object = json!({ "spec": { "replicas": "3", "template": [], "list": {}, "big": 2_147_483_648_u64 } });
        let root = Node::root(&object);
        let error = |result: Result<_, Malformed>| result.map(|_: Option<i32>| ()).unwrap_err().to_string();
        assert_eq!(
            error(root.dig("spec.replicas").unwrap().int32()),
            r#"spec.replicas: Invalid value: "3": must be a whole number"#
        );
        assert_eq!(
            error(root.dig("spec.big").unwrap().int32()),
            "spec.big: Invalid value: 2147483648: must be a whole number of 32 bits"
        );
        assert_eq!(root.dig("spec.template.spec").unwrap_err().problem, "must be an object");
        assert_eq!(root.dig("spec.list").unwrap().items().unwrap_err().problem, "must be a list");
    }

    #[test]
    fn a_float_is_no_whole_number_even_when_it_is_round() {
        let value = json!(3.0);
        assert!(Node::root(&value).int64().is_err());
    }

    #[test]
    fn a_long_value_is_shortened_at_a_character() {
        let text = "é".repeat(100);
        assert_eq!(shorten(&json!(text)), format!("\"{}\"...", "é".repeat(60)));
        assert_eq!(shorten(&json!({ "a": 1 })), "{...}");
        assert_eq!(shorten(&json!([])), "[]");
    }
}
