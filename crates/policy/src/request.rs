//! The admission request, as the host really sends it.
//!
//! The SDK's own request type loses `resource.resource` and refuses an explicit `null`, so the payload is read here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use workload::node::{read_json, shorten};
use workload::texts::join;
use workload::{Malformed, Node};

use crate::finding::one_line;

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Something is connected to it, such as `kubectl exec`.
    Connect,
}

impl Operation {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One admission request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The kind of `object`: for `statefulsets/scale` an `autoscaling/v1` Scale.
    pub kind: Kind,
    /// What the request is addressed to; `resource` is a plural name, or a kind where the audit scanner asks.
    pub resource: Resource,
    /// The subresource, such as `scale`.
    pub subresource: Option<String>,
    /// The object's name; absent for `generateName` and for the deletion of a collection.
    pub name: Option<String>,
    /// The object's namespace; absent for cluster-wide kinds.
    pub namespace: Option<String>,
    /// What is done.
    pub operation: Operation,
    /// Who does it; empty where the audit scanner asks.
    pub user: String,
    /// The object as it will be; absent on DELETE.
    pub object: Option<Value>,
    /// The object as it was; absent on CREATE.
    pub old_object: Option<Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// A kind of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version in the group.
    pub version: String,
    /// The kind.
    pub kind: String,
}

/// A resource of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version in the group.
    pub version: String,
    /// The plural name.
    pub resource: String,
}

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

/// The [`FIELDS`] of a JSON object, with their values left unread. One type for all of them: each that serde derives
/// is kilobytes of a module.
pub(crate) struct Fields<'a>(Vec<(&'static str, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(crate) fn read(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The text of the field `name`; `None` where it is absent or `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(own, _)| *own == name).map(|(_, raw)| raw.get());
        found.filter(|text| *text != "null")
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(&'static str, &RawValue)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value()?;
            if let Some(known) = FIELDS.iter().find(|known| **known == key) {
                // Of two, nobody knows which one others read.
                if fields.iter().any(|(name, _)| name == known) {
                    return Err(A::Error::custom("the same field twice: ".to_owned() + known));
                }
                fields.push((*known, value));
            }
        }
        Ok(Fields(fields))
    }
}

/// The request cannot be read, so that nothing can be said of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError(String);

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RequestError {}

impl RequestError {
    #[cold]
    #[inline(never)]
    pub(crate) fn payload(problem: &str) -> Self {
        Self("the admission request cannot be read: ".to_owned() + problem)
    }
}

/// The two objects of a request, not read yet.
#[derive(Clone, Copy)]
pub(crate) struct RawObjects<'a> {
    object: Option<&'a str>,
    old_object: Option<&'a str>,
}

impl Request {
    /// Reads all but the objects: who asks for what is enough to see that a request is none of a policy's business,
    /// whatever the objects are.
    pub(crate) fn read<'a>(raw: &Fields<'a>) -> Result<(Self, RawObjects<'a>), RequestError> {
        let objects = RawObjects { object: raw.get("object"), old_object: raw.get("oldObject") };
        let mut small = Map::new();
        for name in ["kind", "resource", "subResource", "name", "namespace", "operation", "userInfo", "dryRun"] {
            if let Some(text) = raw.get(name) {
                let value = read_json(text).map_err(|error| RequestError::payload(&format!("{name}: {error}")))?;
                small.insert(name.to_owned(), value);
            }
        }
        let small = Value::Object(small);
        let mut request =
            Self::read_small(&Node::root(&small)).map_err(|error| RequestError::payload(&error.to_string()))?;
        request.operation = match small.get("operation").and_then(Value::as_str) {
            Some("CREATE") => Operation::Create,
            Some("UPDATE") => Operation::Update,
            Some("DELETE") => Operation::Delete,
            Some("CONNECT") => Operation::Connect,
            _ => {
                let found = shorten(small.get("operation").unwrap_or(&Value::Null));
                let whose = request.whose(&objects);
                return Err(RequestError(format!(
                    "the admission request of {whose} cannot be read: operation: {found}: must be CREATE, UPDATE, DELETE or CONNECT"
                )));
            }
        };
        Ok((request, objects))
    }

    /// All but the operation and the objects. An explicit `null` is the zero value, as Go reads it.
    fn read_small(fields: &Node<'_>) -> Result<Self, Malformed> {
        let text = |dotted: &'static str| -> Result<String, Malformed> { Ok(fields.text_at(dotted)?.to_owned()) };
        let name = |dotted: &'static str| -> Result<Option<String>, Malformed> {
            Ok(Some(text(dotted)?).filter(|name| !name.is_empty()))
        };
        Ok(Self {
            kind: Kind { group: text("kind.group")?, version: text("kind.version")?, kind: text("kind.kind")? },
            resource: Resource {
                group: text("resource.group")?,
                version: text("resource.version")?,
                resource: text("resource.resource")?,
            },
            subresource: name("subResource")?,
            name: name("name")?,
            namespace: name("namespace")?,
            operation: Operation::Connect,
            user: text("userInfo.username")?,
            object: None,
            old_object: None,
            dry_run: fields.boolean_at("dryRun")?.unwrap_or(false),
        })
    }

    /// Reads the objects too.
    pub(crate) fn read_objects(&mut self, objects: RawObjects<'_>) -> Result<(), RequestError> {
        self.object = self.parse("object", objects.object, &objects)?;
        self.old_object = self.parse("oldObject", objects.old_object, &objects)?;
        if self.object.is_none() && matches!(self.operation, Operation::Create | Operation::Update) {
            let operation = self.operation.as_str();
            return Err(RequestError(format!(
                "object of {} cannot be read: {operation} must have one",
                self.whose(&objects)
            )));
        }
        Ok(())
    }

    /// Whether this is a change of the count through the `scale` subresource.
    pub fn is_scale(&self) -> bool {
        self.subresource.as_deref() == Some("scale")
    }

    /// The group of the object that is meant: for a subresource, of the object that it belongs to.
    pub fn target_group(&self) -> &str {
        if self.is_scale() { &self.resource.group } else { &self.kind.group }
    }

    /// The kind of the object that is meant: for a scale, of the scaled object, as far as a policy's targets name it.
    pub fn target_kind(&self) -> &str {
        match (self.is_scale(), self.resource.group.as_str(), self.resource.resource.as_str()) {
            (true, "apps", "statefulsets") => "StatefulSet",
            _ => &self.kind.kind,
        }
    }

    /// The namespace of the request, else the one that the object names; empty for cluster-wide kinds.
    pub fn namespace_of(&self) -> &str {
        self.namespace.as_deref().or_else(|| self.metadata("namespace")).unwrap_or_default()
    }

    /// The name of the request, else the one that the object bears: the deletion of a collection has only the latter.
    pub fn name_of(&self) -> &str {
        self.name.as_deref().or_else(|| self.metadata("name")).unwrap_or_default()
    }

    fn metadata(&self, field: &str) -> Option<&str> {
        let objects = [&self.object, &self.old_object].into_iter().flatten();
        objects.into_iter().find_map(|object| object.get("metadata")?.get(field)?.as_str())
    }

    /// The kind and the name of what is asked about, for a message: it is not read any deeper than its name for that.
    #[cold]
    fn whose(&self, objects: &RawObjects<'_>) -> String {
        let own_name = || {
            let object = Fields::read(objects.object.or(objects.old_object)?).ok()?;
            let metadata = Fields::read(object.get("metadata")?).ok()?;
            let name = read_json(metadata.get("name").or_else(|| metadata.get("generateName"))?).ok()?;
            name.as_str().map(str::to_owned)
        };
        let kind = if self.kind.kind.is_empty() { "an object" } else { &self.kind.kind };
        let name = self.name.clone().or_else(own_name);
        one_line(&join(&[kind, name.as_deref().unwrap_or("without a name")], " "))
    }

    /// Reads one of the two objects. `serde_json` refuses more than 128 levels, which no real object has, instead of
    /// overflowing the stack; the error then names the object.
    fn parse(&self, field: &str, text: Option<&str>, objects: &RawObjects<'_>) -> Result<Option<Value>, RequestError> {
        let Some(text) = text else { return Ok(None) };
        let problem = match read_json(text) {
            Ok(value @ Value::Object(_)) => return Ok(Some(value)),
            Ok(_) => "it must be an object".to_owned(),
            Err(error) => {
                let problem = error.to_string();
                if problem.starts_with("recursion limit") {
                    problem + "; it is nested more than 128 levels deep, which no Kubernetes object needs"
                } else {
                    problem
                }
            }
        };
        Err(RequestError(format!("{field} of {} cannot be read: {problem}", self.whose(objects))))
    }
}
