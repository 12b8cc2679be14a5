//! Admission requests, as the API server sends them and the Kubewarden host hands them to a policy.
//!
//! The host omits what is absent instead of writing `null` (`admission_request.rs` in its policy evaluator), and a Rust policy that uses the
//! SDK's type cannot even read a `null` for a text. Compared with reviews captured from a 1.36 API server, a request built here lacks
//! only what the server makes up: defaults inside the object, `metadata.uid`, `creationTimestamp`, `generation`, `managedFields`,
//! a status, and the client's name and validation mode in `options`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cluster::effective_namespace;
use crate::convert::convert;
use crate::resources::{
    Identity, ObjectError, Origin, Resource, Resources, join_api_version, removed, split_api_version, stored_version,
};
use crate::selector;

/// A kind, as requests spell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupVersionKind {
    /// The API group, empty for the core group.
    pub group: Cow<'static, str>,
    /// The version inside the group.
    pub version: Cow<'static, str>,
    /// The kind.
    pub kind: Cow<'static, str>,
}

/// A resource, as requests spell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupVersionResource {
    /// The API group, empty for the core group.
    pub group: Cow<'static, str>,
    /// The version inside the group.
    pub version: Cow<'static, str>,
    /// The plural.
    pub resource: Cow<'static, str>,
}

impl From<&Resource> for GroupVersionKind {
    fn from(from: &Resource) -> Self {
        Self { group: from.group.clone(), version: from.version.clone(), kind: from.kind.clone() }
    }
}

impl From<&Resource> for GroupVersionResource {
    fn from(from: &Resource) -> Self {
        Self { group: from.group.clone(), version: from.version.clone(), resource: from.plural.clone() }
    }
}

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Something connects to it.
    Connect,
}

impl Operation {
    /// As rules and requests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// The name.
    pub username: String,
    /// The unique id, if any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whatever the authenticator adds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Default for UserInfo {
    /// An ordinary user: not one that policies exempt.
    fn default() -> Self {
        Self {
            username: "quorate".to_owned(),
            uid: String::new(),
            groups: vec!["system:authenticated".to_owned()],
            extra: BTreeMap::new(),
        }
    }
}

/// One admission request. Serialises to what a policy receives as `request`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionRequest<'a> {
    /// The same for the same operation on the same object, in every run.
    pub uid: String,
    /// The kind of `object` as sent.
    pub kind: GroupVersionKind,
    /// The resource in the version of `object` as sent.
    pub resource: GroupVersionResource,
    /// The part of the resource that is asked for, such as `scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_resource: Option<Cow<'static, str>>,
    /// The kind that the user wrote.
    pub request_kind: GroupVersionKind,
    /// The resource that the user addressed.
    pub request_resource: GroupVersionResource,
    /// The part of the resource that the user addressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_sub_resource: Option<Cow<'static, str>>,
    /// The object's name; absent where it is still to be generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The object's namespace, for a Namespace its own name; absent for other kinds outside of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What is done.
    pub operation: Operation,
    /// Who does it.
    pub user_info: UserInfo,
    /// The object as it will be; absent on DELETE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Cow<'a, Value>>,
    /// The object as it is; absent on CREATE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_object: Option<Cow<'a, Value>>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options of the API call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// Why no request can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The object cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The old object cannot be read.
    #[error("the old object: {0}")]
    OldObject(ObjectError),
    /// Old and new are not the same object.
    #[error("{field} differs between the old object ({old:?}) and the new one ({new:?}): an update keeps it")]
    Mismatch {
        /// What differs.
        field: &'static str,
        /// In the old object.
        old: String,
        /// In the new object.
        new: String,
    },
    /// An object without a name can be created, but not be there already.
    #[error("metadata.name: Required value: only what has a name can be changed, deleted or scaled")]
    NoName,
    /// The kind has no `scale` subresource.
    #[error("{api_version}/{kind} has no scale subresource")]
    NoScale {
        /// The object's `apiVersion`.
        api_version: String,
        /// The object's kind.
        kind: String,
    },
}

/// Builds requests.
#[derive(Clone, Debug)]
pub struct Requests<'r> {
    resources: &'r Resources,
    user: UserInfo,
    dry_run: bool,
    sent_as: Option<String>,
}

impl<'r> Requests<'r> {
    /// Requests of an ordinary user on a cluster with these resources.
    pub fn new(resources: &'r Resources) -> Self {
        Self { resources, user: UserInfo::default(), dry_run: false, sent_as: None }
    }

    /// The same, from this user.
    #[must_use]
    pub fn user(mut self, user: UserInfo) -> Self {
        self.user = user;
        self
    }

    /// The same, with nothing to be stored, or with.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// The same, with objects sent in this API version: what [`crate::rules::Matched::As`] asks for.
    #[must_use]
    pub fn sent_as(mut self, api_version: impl Into<String>) -> Self {
        self.sent_as = Some(api_version.into());
        self
    }

    /// The request to create `object`.
    ///
    /// As the API server does, it puts a namespaced object that names no namespace into [`crate::DEFAULT_NAMESPACE`]. An object in a removed
    /// API version is sent in its replacement: `kind` and `resource` tell that one, `requestKind` and `requestResource` the old one.
    pub fn create<'a>(&self, object: &'a Value) -> Result<AdmissionRequest<'a>, RequestError> {
        let target = self.target(object)?;
        let mut request = self.request(Operation::Create, &target);
        request.object = Some(target.send(object));
        Ok(request)
    }

    /// The request to replace `old` by `object`; both may come in different API versions of their kind.
    pub fn update<'a>(&self, object: &'a Value, old: &'a Value) -> Result<AdmissionRequest<'a>, RequestError> {
        let target = self.target(object)?;
        let before = self.target(old).map_err(|error| match error {
            RequestError::Object(error) => RequestError::OldObject(error),
            other => other,
        })?;
        let same = |field, old: &str, new: &str| {
            let (old, new) = (old.to_owned(), new.to_owned());
            if old == new { Ok(()) } else { Err(RequestError::Mismatch { field, old, new }) }
        };
        same("kind", &before.asked.kind, &target.asked.kind)?;
        same("group", &before.stored_group(), &target.stored_group())?;
        same("metadata.namespace", before.namespace, target.namespace)?;
        same("metadata.name", before.name.unwrap_or_default(), target.name.unwrap_or_default())?;
        target.name.ok_or(RequestError::NoName)?;
        let mut request = self.request(Operation::Update, &target);
        request.object = Some(target.send(object));
        request.old_object = Some(target.send(old));
        Ok(request)
    }

    /// The request to delete `old`, as `kubectl delete` sends it.
    pub fn delete<'a>(&self, old: &'a Value) -> Result<AdmissionRequest<'a>, RequestError> {
        let target = self.target(old)?;
        target.name.ok_or(RequestError::NoName)?;
        let mut request = self.request(Operation::Delete, &target);
        request.old_object = Some(target.send(old));
        Ok(request)
    }

    /// The request of `kubectl scale` to change the replicas of `object` (a `StatefulSet`, a `Deployment`) between two counts.
    ///
    /// The API server sends an `autoscaling/v1` Scale that tells nothing of the object but its name and its selector as text. A count of 0
    /// is left out there, as the server leaves it out.
    pub fn scale(&self, object: &Value, from: i32, to: i32) -> Result<AdmissionRequest<'static>, RequestError> {
        let target = self.target(object)?;
        target.name.ok_or(RequestError::NoName)?;
        if !target.asked.scale {
            let (api_version, kind) = (target.asked.api_version(), target.asked.kind.to_string());
            return Err(RequestError::NoScale { api_version, kind });
        }
        let sent = target.send(object);
        let mut metadata = Map::new();
        for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = sent["metadata"].get(key).filter(|value| !value.is_null()) {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        let running = sent["status"]["replicas"].as_i64().unwrap_or(from.into());
        let mut status = json!({"replicas": running});
        let selector = match &*target.sent.kind {
            // Its selector is a plain mapping of labels.
            "ReplicationController" => selector::to_text(&json!({"matchLabels": sent["spec"]["selector"]})),
            _ => selector::to_text(&sent["spec"]["selector"]),
        };
        if !selector.is_empty() {
            status["selector"] = Value::String(selector);
        }
        let scale = |count: i32| {
            let spec = if count == 0 { json!({}) } else { json!({"replicas": count}) };
            let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status});
            Some(Cow::Owned(scale))
        };
        let mut request = self.request(Operation::Update, &target);
        let kind = GroupVersionKind { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() };
        request.uid = target.uid("UPDATE/scale");
        request.request_kind = kind.clone();
        request.kind = kind;
        request.sub_resource = Some("scale".into());
        request.request_sub_resource = Some("scale".into());
        request.object = scale(to);
        request.old_object = scale(from);
        Ok(request)
    }

    fn target<'a>(&self, object: &'a Value) -> Result<Target<'a>, RequestError> {
        let identity = Identity::of(object)?;
        let asked = self.resources.resolve(identity.api_version, identity.kind, identity.namespace.is_some());
        let replacement = removed(identity.api_version, identity.kind).and_then(|removed| removed.replacement);
        let sent = match self.sent_as.as_deref().or(replacement) {
            Some(api_version) if api_version != identity.api_version => {
                self.resources.resolve(api_version, identity.kind, identity.namespace.is_some())
            }
            _ => asked.clone(),
        };
        let namespace = effective_namespace(&asked, identity.namespace);
        Ok(Target { asked, sent, name: identity.name, namespace })
    }

    fn request<'a>(&self, operation: Operation, target: &Target<'_>) -> AdmissionRequest<'a> {
        let Target { asked, sent, name, namespace } = target;
        let is_namespace = asked.origin == Origin::BuiltIn && asked.group.is_empty() && asked.kind == "Namespace";
        let namespace = if is_namespace { name.unwrap_or_default() } else { namespace };
        AdmissionRequest {
            uid: target.uid(operation.as_str()),
            kind: sent.into(),
            resource: sent.into(),
            sub_resource: None,
            request_kind: asked.into(),
            request_resource: asked.into(),
            request_sub_resource: None,
            name: name.map(str::to_owned),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            operation,
            user_info: self.user.clone(),
            object: None,
            old_object: None,
            dry_run: self.dry_run,
            options: Some(options(operation, self.dry_run)),
        }
    }
}

/// What a request is about.
struct Target<'a> {
    asked: Resource,
    sent: Resource,
    name: Option<&'a str>,
    namespace: &'a str,
}

impl Target<'_> {
    /// The object in the version to send, with its namespace filled in.
    fn send<'a>(&self, object: &'a Value) -> Cow<'a, Value> {
        let api_version = self.sent.api_version();
        let mut object = Cow::Borrowed(object);
        if object["apiVersion"] != *api_version {
            object = Cow::Owned(convert(&object, &api_version));
        }
        if !self.namespace.is_empty()
            && object["metadata"]["namespace"] != *self.namespace
            && let Some(fields) = object.to_mut().as_object_mut()
        {
            let metadata = fields.entry("metadata").or_insert(Value::Null);
            if metadata.is_null() {
                *metadata = json!({});
            }
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("namespace".to_owned(), json!(self.namespace));
            }
        }
        object
    }

    /// The group under which objects of all versions of this kind are the same ones.
    fn stored_group(&self) -> String {
        let api_version = join_api_version(&self.asked.group, &self.asked.version);
        let stored = stored_version(&api_version, &self.asked.kind).unwrap_or(api_version);
        split_api_version(&stored).0.to_owned()
    }

    /// A UUID of version 8 (RFC 9562: "vendor-specific"), by FNV-1a with 128 bits over what the request is about.
    fn uid(&self, operation: &str) -> String {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let Target { asked, name, namespace, .. } = self;
        let parts = [operation, &asked.group, &asked.version, &asked.kind, namespace, name.unwrap_or_default()];
        let mut hash = OFFSET;
        for part in parts {
            for byte in part.bytes().chain([0]) {
                hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
            }
        }
        let hash = (hash & !(0xf000_u128 << 64) & !(0xc000_u128 << 48)) | (0x8000_u128 << 64) | (0x8000_u128 << 48);
        let hex = format!("{hash:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

fn options(operation: Operation, dry_run: bool) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => "PodProxyOptions",
    };
    let mut options = json!({"apiVersion": "meta.k8s.io/v1", "kind": kind});
    if operation == Operation::Delete {
        options["propagationPolicy"] = json!("Background");
    }
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}
