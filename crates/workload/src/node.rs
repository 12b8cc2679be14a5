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
    #[cold]
    #[inline(never)]
    pub fn new(node: &Node<'_>, problem: &str) -> Self {
        Self(Box::new(Fault {
            path: node.path,
            found: shorten(node.value.unwrap_or(&Value::Null)),
            problem: problem.to_owned(),
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

/// Reads `text`, of at most 128 levels.
///
/// The one place where guests read JSON: each kind of source, and each type that is read, is kilobytes of a module.
///
/// # Errors
/// What is no JSON.
#[inline(never)]
pub fn read_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
}

/// `value` as JSON. Its `Display` says the same, by a writer of its own, which is kilobytes of a module.
#[inline(never)]
pub fn to_json(value: &Value) -> String {
    // Only a map with keys that are no texts cannot be written, which a `Value` cannot hold.
    serde_json::to_string(value).unwrap_or_default()
}

/// The JSON object with these fields.
#[inline(never)]
pub fn object(fields: &mut [(&str, Value)]) -> Value {
    let mut map = Map::new();
    for (name, value) in fields {
        map.insert((*name).to_owned(), value.take());
    }
    Value::Object(map)
}

/// `value` as JSON of a length that fits a message.
pub fn shorten(value: &Value) -> String {
    match value {
        Value::Array(items) if !items.is_empty() => "[...]".to_owned(),
        Value::Object(fields) if !fields.is_empty() => "{...}".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN => {
            let head: String = text.chars().take(SHOWN).collect();
            to_json(&Value::String(head)) + "..."
        }
        other => to_json(other),
    }
}

/// A value inside an object, or the place where one could be.
///
/// An explicit `null` is absent, as it is for Kubernetes (`k8s.io/apimachinery` decodes JSON with Go's rules,
/// where `null` leaves the zero value). Looking into an absent value finds absent values; looking into a value
/// of another type is [`Malformed`].
#[derive(Debug, Clone, Copy)]
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
    pub fn path(&self) -> Path {
        self.path
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
    #[inline(never)]
    pub fn get(&self, name: &'static str) -> Result<Self, Malformed> {
        self.step(Segment::Field(name))
    }

    /// The entry `key` of this map, whose keys users choose.
    #[inline(never)]
    pub fn entry(&self, key: &str) -> Result<Self, Malformed> {
        self.step(Segment::Key(String::leak(key.to_owned())))
    }

    /// The value at `path` from here.
    #[inline(never)]
    pub fn follow(&self, path: Path) -> Result<Self, Malformed> {
        let mut node = *self;
        for segment in path.segments() {
            node = node.step(segment)?;
        }
        Ok(node)
    }

    /// The value at the fields of `dotted` (`spec.template.spec`) from here.
    #[inline(never)]
    pub fn dig(&self, dotted: &'static str) -> Result<Self, Malformed> {
        let mut node = *self;
        for name in dotted.split('.') {
            node = node.get(name)?;
        }
        Ok(node)
    }

    /// The items of this list; none where it is absent.
    #[inline(never)]
    pub fn items(&self) -> Result<Vec<Self>, Malformed> {
        match self.value {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    nodes.push(Self::at(item, self.path.index(index)));
                }
                Ok(nodes)
            }
            Some(_) => Err(Malformed::new(self, "must be a list")),
        }
    }

    /// This object's fields, or `None` where it is absent.
    #[inline(never)]
    pub fn object(&self) -> Result<Option<&'a Map<String, Value>>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(Malformed::new(self, "must be an object")),
        }
    }

    /// This text, or `None` where it is absent.
    #[inline(never)]
    pub fn string(&self) -> Result<Option<&'a str>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Malformed::new(self, "must be a string")),
        }
    }

    /// This truth value, or `None` where it is absent.
    #[inline(never)]
    pub fn boolean(&self) -> Result<Option<bool>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(_) => Err(Malformed::new(self, "must be true or false")),
        }
    }

    /// This whole number of 32 bits (Kubernetes' `int32`: replicas, ports, skews), or `None` where it is absent.
    #[inline(never)]
    pub fn int32(&self) -> Result<Option<i32>, Malformed> {
        self.int64()?
            .map(|number| i32::try_from(number).map_err(|_| Malformed::new(self, "must be a whole number of 32 bits")))
            .transpose()
    }

    /// This whole number of 64 bits, or `None` where it is absent. `3.0` is no whole number: the API server
    /// refuses it in an integer field.
    #[inline(never)]
    pub fn int64(&self) -> Result<Option<i64>, Malformed> {
        match self.value {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| Malformed::new(self, "must be a whole number")),
        }
    }

    /// This map of strings, such as labels; empty where it is absent. A `null` value is the empty string, as Go
    /// reads it.
    #[inline(never)]
    pub fn string_map(&self) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
        let mut texts = Vec::new();
        for (key, value) in self.object()?.into_iter().flatten() {
            texts.push((key.as_str(), Self::at(value, self.path.key(key)).string()?.unwrap_or_default()));
        }
        Ok(texts)
    }

    /// These texts; none where the list is absent. A `null` item is the empty string, as Go reads it.
    #[inline(never)]
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
            .map(|value| T::deserialize(value).map_err(|error| Malformed::new(self, &error.to_string())))
            .transpose()
    }

    /// [`Self::string`] at the fields of `dotted` from here. This and its likes are what rules mostly ask: a call of
    /// one is a third of the code of the two calls.
    #[inline(never)]
    pub fn string_at(&self, dotted: &'static str) -> Result<Option<&'a str>, Malformed> {
        self.dig(dotted)?.string()
    }

    /// The text at the fields of `dotted` from here; empty where it is absent.
    #[inline(never)]
    pub fn text_at(&self, dotted: &'static str) -> Result<&'a str, Malformed> {
        Ok(self.dig(dotted)?.string()?.unwrap_or_default())
    }

    /// [`Self::items`] at the fields of `dotted` from here.
    #[inline(never)]
    pub fn items_at(&self, dotted: &'static str) -> Result<Vec<Self>, Malformed> {
        self.dig(dotted)?.items()
    }

    /// [`Self::strings`] at the fields of `dotted` from here.
    #[inline(never)]
    pub fn strings_at(&self, dotted: &'static str) -> Result<Vec<&'a str>, Malformed> {
        self.dig(dotted)?.strings()
    }

    /// [`Self::string_map`] at the fields of `dotted` from here.
    #[inline(never)]
    pub fn string_map_at(&self, dotted: &'static str) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
        self.dig(dotted)?.string_map()
    }

    /// [`Self::int32`] at the fields of `dotted` from here.
    #[inline(never)]
    pub fn int32_at(&self, dotted: &'static str) -> Result<Option<i32>, Malformed> {
        self.dig(dotted)?.int32()
    }

    /// [`Self::boolean`] at the fields of `dotted` from here.
    #[inline(never)]
    pub fn boolean_at(&self, dotted: &'static str) -> Result<Option<bool>, Malformed> {
        self.dig(dotted)?.boolean()
    }

    #[inline(never)]
    fn step(&self, segment: Segment) -> Result<Self, Malformed> {
        let value = match (self.value, segment) {
            (None, _) => None,
            (Some(Value::Object(fields)), Segment::Field(name) | Segment::Key(name)) => fields.get(name),
            (Some(Value::Array(items)), Segment::Index(index)) => items.get(index),
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
