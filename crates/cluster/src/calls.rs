//! The calls that a policy makes to its host, answered from a [`Cluster`].
//!
//! The order of the checks and the texts are those of the host (`runtimes/callback.rs` and `callback_handler/kubernetes` in its policy
//! evaluator). Where a cluster in memory must differ:
//!
//! * The host opens a watch with any selector it is given and waits for it for ever when the API server refuses the selector;
//!   here the API server's refusal is the answer.
//! * A kind is known if Kubernetes 1.36 serves it, if a `CustomResourceDefinition` among the objects declares it, or if an object
//!   of that kind is at hand: a manifest that uses a custom resource expects it to be installed. Anything else, removed API versions
//!   included, is `Cannot find resource`; the host words it differently where not even the group exists.
//! * Objects written in a removed or another served API version are listed in the one asked for, see [`crate::convert`]. Events of
//!   `v1` and of `events.k8s.io/v1` are kept apart.
//! * Built-in objects in lists have neither `apiVersion` nor `kind`, as an API server lists them. The host's watch may add both
//!   later; a policy must not rely on either.
//! * `can_i` is an error: there are no roles and no users to ask about, and both "yes" and "no" would be a guess that decides.
//! * Registries, the network and certificates are out of reach: an offline check opens no connection.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::cache::Key;
use crate::cluster::Cluster;
use crate::convert::convert;
use crate::grants::{Grants, OPERATIONS};
use crate::mask::Mask;
use crate::resources::{Origin, Resource, stored_version};
use crate::selector::{FieldSelector, LabelSelector, SelectorError};
use crate::view::{Style, View};

/// The only binding of a Kubewarden host.
pub const BINDING: &str = "kubewarden";

/// Why a call is refused or fails. The text is what the host passes to the guest.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The binding is not [`BINDING`].
    #[error("unknown binding: {0}")]
    UnknownBinding(String),
    /// The administrator has not granted the capability of this path.
    #[error("Policy has not been granted access to the '{0}' host capability. The violation has been reported.")]
    CapabilityDenied(String),
    /// No such namespace of operations.
    #[error("unknown namespace: {0}")]
    UnknownNamespace(String),
    /// No such operation.
    #[error("unknown operation: {0}")]
    UnknownOperation(String),
    /// The payload is not the JSON that the operation takes.
    #[error("{0}")]
    Payload(#[from] serde_json::Error),
    /// The administrator has not granted look-ups of this kind.
    #[error(
        "Policy has not been granted access to Kubernetes {api_version}/{kind} resources. The violation has been reported."
    )]
    ResourceDenied {
        /// The `apiVersion` asked for.
        api_version: String,
        /// The kind asked for.
        kind: String,
    },
    /// The call was allowed and could not be answered.
    #[error("Callback evaluation failure: {0}")]
    Evaluation(#[from] LookupError),
}

/// Why an allowed call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Discovery does not know the kind.
    #[error("Cannot find resource {api_version}/{kind}")]
    UnknownResource {
        /// The `apiVersion` asked for.
        api_version: String,
        /// The kind asked for.
        kind: String,
    },
    /// A kind outside of namespaces was asked for inside of one.
    #[error("resource {api_version}/{kind} is cluster wide. Cannot search for it inside of a namespace")]
    ClusterWide {
        /// The `apiVersion` asked for.
        api_version: String,
        /// The kind asked for.
        kind: String,
    },
    /// An object of a namespaced kind was asked for without saying where.
    #[error("Resource {api_version}/{kind} is namespaced, but no namespace was provided")]
    NamespaceMissing {
        /// The `apiVersion` asked for.
        api_version: String,
        /// The kind asked for.
        kind: String,
    },
    /// No object of this name.
    #[error("Cannot find {api_version}/{kind} named '{name}' inside of namespace '{namespace:?}'")]
    NotFound {
        /// The `apiVersion` asked for.
        api_version: String,
        /// The kind asked for.
        kind: String,
        /// The name asked for.
        name: String,
        /// The namespace asked for.
        namespace: Option<String>,
    },
    /// The label or field selector cannot be read.
    #[error("{0}")]
    Selector(#[from] SelectorError),
    /// There is nobody who could say what a user may do.
    #[error("kubernetes/can_i cannot be answered offline: there is no API server to ask what {user:?} may do")]
    NoAuthorizer {
        /// The user asked about.
        user: String,
    },
    /// The operation needs a network or a trust store.
    #[error("{capability} cannot be answered offline: this host opens no connection")]
    Offline {
        /// The path of the capability.
        capability: String,
    },
    /// The answer could not be written as JSON.
    #[error("the answer could not be written: {0}")]
    Unwritable(String),
}

#[derive(Deserialize)]
struct ListByNamespace {
    api_version: String,
    kind: String,
    namespace: String,
    label_selector: Option<String>,
    field_selector: Option<String>,
    field_masks: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct ListAll {
    api_version: String,
    kind: String,
    label_selector: Option<String>,
    field_selector: Option<String>,
    field_masks: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Get {
    api_version: String,
    kind: String,
    name: String,
    namespace: Option<String>,
    /// Mandatory for the host, and without meaning where nothing changes.
    #[serde(rename = "disable_cache")]
    _disable_cache: bool,
    field_masks: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct CanI {
    subject_access_review: SubjectAccessReview,
    #[serde(rename = "disable_cache")]
    _disable_cache: bool,
}

#[derive(Deserialize)]
struct SubjectAccessReview {
    user: String,
}

/// A line that a policy logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// `trace`, `debug`, `info`, `warning` or `error`, in lower case.
    pub level: String,
    /// What the policy says.
    pub message: String,
    /// Everything else that it sends along, as JSON values by name.
    pub fields: serde_json::Map<String, Value>,
}

impl LogEvent {
    /// Reads the payload of `tracing/log`: a flat JSON object. `None` for anything that the host would not log either.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_slice(payload).ok()?;
        let mut take = |key| match fields.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let level = take("level")?.to_lowercase();
        let message = take("message").unwrap_or_default();
        let known = matches!(level.as_str(), "trace" | "debug" | "info" | "warning" | "error");
        known.then_some(Self { level, message, fields })
    }
}

impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.level, self.message)
    }
}

impl Cluster {
    /// Answers one call of a policy and drops what it logs.
    ///
    /// `namespace` and `operation` are those of waPC, such as `kubernetes` and `get_resource`; the binding must have been checked.
    pub fn call(
        &self,
        grants: &Grants,
        namespace: &str,
        operation: &str,
        payload: &[u8],
    ) -> Result<Arc<[u8]>, CallError> {
        self.host_call(grants, BINDING, namespace, operation, payload, &mut |_| {})
    }

    /// Answers one call of a policy, binding included, and hands what it logs to `log`.
    pub fn host_call(
        &self,
        grants: &Grants,
        binding: &str,
        namespace: &str,
        operation: &str,
        payload: &[u8],
        log: &mut dyn FnMut(LogEvent),
    ) -> Result<Arc<[u8]>, CallError> {
        if binding != BINDING {
            return Err(CallError::UnknownBinding(binding.to_owned()));
        }
        if namespace == "tracing" {
            if operation != "log" {
                return Err(CallError::UnknownOperation(operation.to_owned()));
            }
            // The host answers the same whether it could read the event or not.
            if let Some(event) = LogEvent::parse(payload) {
                log(event);
            }
            return Ok(Arc::default());
        }
        let path = format!("{namespace}/{operation}");
        if !grants.allows_capability(&path) {
            return Err(CallError::CapabilityDenied(path));
        }
        match (namespace, operation) {
            ("kubernetes", "list_resources_by_namespace") => {
                let request: ListByNamespace = serde_json::from_slice(payload)?;
                self.list(
                    grants,
                    Key {
                        api_version: request.api_version,
                        kind: request.kind,
                        namespace: Some(request.namespace),
                        label_selector: request.label_selector,
                        field_selector: request.field_selector,
                        field_masks: request.field_masks,
                    },
                )
            }
            ("kubernetes", "list_resources_all") => {
                let request: ListAll = serde_json::from_slice(payload)?;
                self.list(
                    grants,
                    Key {
                        api_version: request.api_version,
                        kind: request.kind,
                        namespace: None,
                        label_selector: request.label_selector,
                        field_selector: request.field_selector,
                        field_masks: request.field_masks,
                    },
                )
            }
            ("kubernetes", "get_resource") => self.get(grants, &serde_json::from_slice(payload)?),
            ("kubernetes", "can_i") => {
                let request: CanI = serde_json::from_slice(payload)?;
                Err(LookupError::NoAuthorizer { user: request.subject_access_review.user }.into())
            }
            ("oci" | "net" | "crypto", _) if OPERATIONS.contains(&path.as_str()) => {
                Err(LookupError::Offline { capability: path }.into())
            }
            ("kubernetes" | "oci" | "net" | "crypto", _) => Err(CallError::UnknownOperation(operation.to_owned())),
            _ => Err(CallError::UnknownNamespace(namespace.to_owned())),
        }
    }

    fn list(&self, grants: &Grants, key: Key) -> Result<Arc<[u8]>, CallError> {
        check_resource(grants, &key.api_version, &key.kind)?;
        if let Some(answer) = self.cache.get(&key) {
            return Ok(answer);
        }
        let resource = self.discover(&key.api_version, &key.kind)?;
        if key.namespace.is_some() && !resource.namespaced {
            let (api_version, kind) = (key.api_version, key.kind);
            return Err(LookupError::ClusterWide { api_version, kind }.into());
        }
        let labels = LabelSelector::parse(key.label_selector.as_deref().unwrap_or_default());
        let fields = FieldSelector::parse(key.field_selector.as_deref().unwrap_or_default());
        let mask = key.field_masks.as_ref().map(Mask::new);
        let list = List {
            cluster: self,
            key: &key,
            labels: labels.map_err(LookupError::from)?,
            fields: fields.map_err(LookupError::from)?,
            style: Style {
                types: (resource.origin != Origin::BuiltIn).then_some((&key.api_version, &key.kind)),
                reflected: true,
                mask: mask.as_ref(),
            },
        };
        let answer = to_json(&list)?;
        self.cache.put(key, Arc::clone(&answer));
        Ok(answer)
    }

    fn get(&self, grants: &Grants, request: &Get) -> Result<Arc<[u8]>, CallError> {
        let Get { api_version, kind, name, namespace, .. } = request;
        check_resource(grants, api_version, kind)?;
        let resource = self.discover(api_version, kind)?;
        let place = match (resource.namespaced, namespace) {
            (false, _) => "",
            (true, Some(namespace)) => namespace,
            (true, None) => {
                let (api_version, kind) = (api_version.clone(), kind.clone());
                return Err(LookupError::NamespaceMissing { api_version, kind }.into());
            }
        };
        let Some(found) = self.find(api_version, kind, place, name).filter(|_| !name.is_empty()) else {
            let (api_version, kind) = (api_version.clone(), kind.clone());
            let (name, namespace) = (name.clone(), namespace.clone());
            return Err(LookupError::NotFound { api_version, kind, name, namespace }.into());
        };
        let mask = request.field_masks.as_ref().map(Mask::new);
        let style = Style { types: Some((api_version, kind)), reflected: false, mask: mask.as_ref() };
        let converted = is_kept_otherwise(api_version, kind).then(|| convert(found, api_version));
        match converted.as_ref().unwrap_or(found).as_object() {
            Some(object) => to_json(&View { object, namespace: place, style }),
            None => to_json(found),
        }
    }

    /// What discovery would find.
    fn discover(&self, api_version: &str, kind: &str) -> Result<Resource, LookupError> {
        self.resources().served(api_version, kind).ok_or_else(|| {
            let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
            LookupError::UnknownResource { api_version, kind }
        })
    }
}

/// Whether the objects of this kind are kept in another version, which has its own shape.
fn is_kept_otherwise(api_version: &str, kind: &str) -> bool {
    stored_version(api_version, kind).is_some_and(|stored| stored != api_version)
}

fn check_resource(grants: &Grants, api_version: &str, kind: &str) -> Result<(), CallError> {
    if grants.allows_resource(api_version, kind) {
        return Ok(());
    }
    Err(CallError::ResourceDenied { api_version: api_version.to_owned(), kind: kind.to_owned() })
}

fn to_json(value: &impl Serialize) -> Result<Arc<[u8]>, CallError> {
    let bytes = serde_json::to_vec(value).map_err(|error| LookupError::Unwritable(error.to_string()))?;
    Ok(bytes.into())
}

struct List<'a> {
    cluster: &'a Cluster,
    key: &'a Key,
    labels: LabelSelector,
    fields: FieldSelector,
    style: Style<'a>,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("apiVersion", &self.key.api_version)?;
        map.serialize_entry("kind", &format_args!("{}List", self.key.kind))?;
        map.serialize_entry("metadata", &serde_json::Map::new())?;
        map.serialize_entry("items", &Items(self))?;
        map.end()
    }
}

struct Items<'a>(&'a List<'a>);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let List { cluster, key, labels, fields, style } = self.0;
        let convert_each = is_kept_otherwise(&key.api_version, &key.kind);
        let objects = cluster.of_kind(&key.api_version, &key.kind, key.namespace.as_deref());
        let selected = objects.filter(|(namespace, object)| {
            let metadata = object.get("metadata");
            let name = metadata.and_then(|m| m["name"].as_str()).unwrap_or_default();
            fields.matches(name, namespace) && labels.matches(metadata.and_then(|m| m["labels"].as_object()))
        });
        serializer.collect_seq(selected.map(|(namespace, object)| Item {
            object,
            namespace,
            style: *style,
            convert_to: convert_each.then_some(key.api_version.as_str()),
        }))
    }
}

struct Item<'a> {
    object: &'a serde_json::Map<String, Value>,
    namespace: &'a str,
    style: Style<'a>,
    convert_to: Option<&'a str>,
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let converted = self.convert_to.map(|to| convert(&Value::Object(self.object.clone()), to));
        let object = converted.as_ref().and_then(Value::as_object).unwrap_or(self.object);
        View { object, namespace: self.namespace, style: self.style }.serialize(serializer)
    }
}
