//! The admission request, as the host really sends it.
//!
//! The SDK's own request type loses `resource.resource` and refuses an explicit `null`, so the payload is read here.

use serde_json::{Map, Value};
use workload::node::{read_json, shorten};
use workload::texts::join;
use workload::{Malformed, Node};

use crate::finding::one_line;
use crate::json::Fields;

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

/// The request cannot be read, so that nothing can be said of its object.
#[cold]
#[inline(never)]
pub(crate) fn unreadable(problem: &str) -> String {
    "the admission request cannot be read: ".to_owned() + problem
}

impl Request {
    /// Reads all but the objects: who asks for what is enough to see that a request is none of a policy's business,
    /// whatever the objects are.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, String> {
        let mut small = Map::new();
        for name in ["kind", "resource", "subResource", "name", "namespace", "operation", "userInfo", "dryRun"] {
            if let Some(text) = fields.get(name) {
                let value = read_json(text).map_err(|error| unreadable(&join(&[name, &error.to_string()], ": ")))?;
                small.insert(name.to_owned(), value);
            }
        }
        let small = Value::Object(small);
        let mut request = Self::empty();
        request.read_small(&Node::root(&small)).map_err(|error| unreadable(&error.to_string()))?;
        request.operation = match small.get("operation").and_then(Value::as_str) {
            Some("CREATE") => Operation::Create,
            Some("UPDATE") => Operation::Update,
            Some("DELETE") => Operation::Delete,
            Some("CONNECT") => Operation::Connect,
            _ => {
                let found = shorten(small.get("operation").unwrap_or(&Value::Null));
                let problem = [
                    "the admission request of ",
                    &request.whose(fields),
                    " cannot be read: operation: ",
                    &found,
                    ": must be CREATE, UPDATE, DELETE or CONNECT",
                ];
                return Err(join(&problem, ""));
            }
        };
        Ok(request)
    }

    fn empty() -> Self {
        Self {
            kind: Kind::default(),
            resource: Resource::default(),
            subresource: None,
            name: None,
            namespace: None,
            operation: Operation::Connect,
            user: String::new(),
            object: None,
            old_object: None,
            dry_run: false,
        }
    }

    /// All but the operation and the objects. An explicit `null` is the zero value, as Go reads it.
    fn read_small(&mut self, fields: &Node<'_>) -> Result<(), Malformed> {
        for (place, field) in [
            (&mut self.kind.group, "kind.group"),
            (&mut self.kind.version, "kind.version"),
            (&mut self.kind.kind, "kind.kind"),
            (&mut self.resource.group, "resource.group"),
            (&mut self.resource.version, "resource.version"),
            (&mut self.resource.resource, "resource.resource"),
            (&mut self.user, "userInfo.username"),
        ] {
            place.push_str(fields.text_at(field)?);
        }
        for (place, field) in
            [(&mut self.subresource, "subResource"), (&mut self.name, "name"), (&mut self.namespace, "namespace")]
        {
            *place = fields.string_at(field)?.filter(|name| !name.is_empty()).map(str::to_owned);
        }
        self.dry_run = fields.boolean_at("dryRun")?.unwrap_or(false);
        Ok(())
    }

    /// Reads the objects too.
    pub(crate) fn read_objects(&mut self, fields: &Fields<'_>) -> Result<(), String> {
        self.object = self.parse("object", fields)?;
        self.old_object = self.parse("oldObject", fields)?;
        if self.object.is_none() && matches!(self.operation, Operation::Create | Operation::Update) {
            return Err(self.no_object("object", &(self.operation.as_str().to_owned() + " must have one"), fields));
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
    #[inline(never)]
    fn whose(&self, fields: &Fields<'_>) -> String {
        let own_name = || {
            let object = Fields::read(fields.get("object").or(fields.get("oldObject"))?).ok()?;
            let metadata = Fields::read(object.get("metadata")?).ok()?;
            let name = read_json(metadata.get("name").or_else(|| metadata.get("generateName"))?).ok()?;
            name.as_str().map(str::to_owned)
        };
        let kind = if self.kind.kind.is_empty() { "an object" } else { &self.kind.kind };
        let name = self.name.clone().or_else(own_name);
        one_line(&join(&[kind, name.as_deref().unwrap_or("without a name")], " "))
    }

    #[cold]
    #[inline(never)]
    fn no_object(&self, field: &str, problem: &str, fields: &Fields<'_>) -> String {
        join(&[field, " of ", &self.whose(fields), " cannot be read: ", problem], "")
    }

    /// Reads one of the two objects. `serde_json` refuses more than 128 levels, which no real object has, instead of
    /// overflowing the stack; the error then names the object.
    #[inline(never)]
    fn parse(&self, field: &str, fields: &Fields<'_>) -> Result<Option<Value>, String> {
        let Some(text) = fields.get(field) else { return Ok(None) };
        let mut problem = match read_json(text) {
            Ok(value @ Value::Object(_)) => return Ok(Some(value)),
            Ok(_) => "it must be an object".to_owned(),
            Err(error) => error.to_string(),
        };
        if problem.starts_with("recursion limit") {
            problem.push_str("; it is nested more than 128 levels deep, which no Kubernetes object needs");
        }
        Err(self.no_object(field, &problem, fields))
    }
}
