//! The admission request, as the host really sends it.
//!
//! The SDK's own request type loses `resource.resource` and refuses an explicit `null`, so the payload is read here.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use workload::node::shorten;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kind {
    /// The API group; empty for the core group.
    #[serde(deserialize_with = "or_default")]
    pub group: String,
    /// The version in the group.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// The kind.
    #[serde(deserialize_with = "or_default")]
    pub kind: String,
}

/// A resource of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// The API group; empty for the core group.
    #[serde(deserialize_with = "or_default")]
    pub group: String,
    /// The version in the group.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// The plural name.
    #[serde(deserialize_with = "or_default")]
    pub resource: String,
}

/// An explicit `null` is the zero value, as Go reads it.
pub(crate) fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The payload of `validate`, with the parts of any depth left unread.
#[derive(Deserialize)]
pub(crate) struct Payload<'a> {
    #[serde(borrow)]
    pub(crate) request: RawRequest<'a>,
    #[serde(borrow, default)]
    pub(crate) settings: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawRequest<'a> {
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    resource: Option<Resource>,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    operation: Option<String>,
    #[serde(default)]
    user_info: Option<UserInfo>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: Option<String>,
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
    pub(crate) fn payload(error: &serde_json::Error) -> Self {
        Self(format!("the admission request cannot be read: {error}"))
    }
}

/// The two objects of a request, not read yet.
#[derive(Clone, Copy)]
pub(crate) struct RawObjects<'a> {
    object: Option<&'a RawValue>,
    old_object: Option<&'a RawValue>,
}

impl Request {
    /// Reads all but the objects: who asks for what is enough to see that a request is none of a policy's business,
    /// whatever the objects are.
    pub(crate) fn read(raw: RawRequest<'_>) -> Result<(Self, RawObjects<'_>), RequestError> {
        let kind = raw.kind.unwrap_or_default();
        let name = raw.name.filter(|name| !name.is_empty());
        let objects = RawObjects { object: raw.object, old_object: raw.old_object };
        let operation = match raw.operation.as_deref() {
            Some("CREATE") => Operation::Create,
            Some("UPDATE") => Operation::Update,
            Some("DELETE") => Operation::Delete,
            Some("CONNECT") => Operation::Connect,
            other => {
                let other = other.map_or("null".to_owned(), |other| shorten(&other.into()));
                let whose = whose(&kind, name.as_deref(), &objects);
                return Err(RequestError(format!(
                    "the admission request of {whose} cannot be read: operation: {other}: must be CREATE, UPDATE, DELETE or CONNECT"
                )));
            }
        };
        let request = Self {
            object: None,
            old_object: None,
            kind,
            resource: raw.resource.unwrap_or_default(),
            subresource: raw.sub_resource.filter(|name| !name.is_empty()),
            name,
            namespace: raw.namespace.filter(|namespace| !namespace.is_empty()),
            operation,
            user: raw.user_info.and_then(|user| user.username).unwrap_or_default(),
            dry_run: raw.dry_run.unwrap_or(false),
        };
        Ok((request, objects))
    }

    /// Reads the objects too.
    pub(crate) fn read_objects(&mut self, objects: RawObjects<'_>) -> Result<(), RequestError> {
        let whose = || whose(&self.kind, self.name.as_deref(), &objects);
        self.object = parse("object", objects.object, whose)?;
        self.old_object = parse("oldObject", objects.old_object, whose)?;
        if self.object.is_none() && matches!(self.operation, Operation::Create | Operation::Update) {
            let operation = self.operation.as_str();
            return Err(RequestError(format!("object of {} cannot be read: {operation} must have one", whose())));
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
        self.namespace.as_deref().or_else(|| self.metadata("/metadata/namespace")).unwrap_or_default()
    }

    /// The name of the request, else the one that the object bears: the deletion of a collection has only the latter.
    pub fn name_of(&self) -> &str {
        self.name.as_deref().or_else(|| self.metadata("/metadata/name")).unwrap_or_default()
    }

    fn metadata(&self, pointer: &str) -> Option<&str> {
        [&self.object, &self.old_object].into_iter().flatten().find_map(|object| object.pointer(pointer)?.as_str())
    }
}

/// The kind and the name of what is asked about, for a message: it is not read any deeper than its name for that.
fn whose(kind: &Kind, name: Option<&str>, objects: &RawObjects<'_>) -> String {
    #[derive(Deserialize)]
    struct Named {
        metadata: Option<Metadata>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        name: Option<String>,
        generate_name: Option<String>,
    }
    let own_name = || {
        let raw = objects.object.filter(|raw| raw.get() != "null").or(objects.old_object)?;
        let metadata = serde_json::from_str::<Named>(raw.get()).ok()?.metadata?;
        metadata.name.or(metadata.generate_name)
    };
    let kind = if kind.kind.is_empty() { "an object" } else { &kind.kind };
    let name = name.map(str::to_owned).or_else(own_name);
    one_line(&format!("{kind} {}", name.as_deref().unwrap_or("without a name")))
}

/// Reads one of the two objects. `serde_json` refuses more than 128 levels, which no real object has, instead of
/// overflowing the stack; the error then names the object.
fn parse(field: &str, raw: Option<&RawValue>, whose: impl Fn() -> String) -> Result<Option<Value>, RequestError> {
    let Some(raw) = raw else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(Value::Null) => Ok(None),
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(RequestError(format!("{field} of {} cannot be read: it must be an object", whose()))),
        Err(error) => {
            let hint = if error.to_string().contains("recursion limit") {
                "; it is nested more than 128 levels deep, which no Kubernetes object needs"
            } else {
                ""
            };
            Err(RequestError(format!("{field} of {} cannot be read: {error}{hint}", whose())))
        }
    }
}
