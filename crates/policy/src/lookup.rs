//! Other objects of the cluster, through one narrow door.
//!
//! Every different look-up (kind, namespace, selector, mask) makes the host open a watch that it never closes. So a
//! list is always of one namespace, without a selector, and with the one mask that its kind has here.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde_json::Value;
use workload::kind;
use workload::node::{object, read_json, to_json};

use crate::request::{Operation, Request};

/// The Kubewarden host, as far as a policy calls it.
pub trait Host {
    /// Calls `operation` of `namespace` in the binding `kubewarden`.
    ///
    /// # Errors
    /// The host's own text.
    fn call(&self, namespace: &str, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String>;
}

/// A kind that policies list, with the fields that they read.
///
/// `metadata`, `apiVersion` and `kind` are always there; the mask prunes the rest.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// The API version.
    pub api_version: &'static str,
    /// The API group of `api_version`.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The fields, sorted as the host sorts them.
    pub mask: &'static [&'static str],
}

/// All disruption budgets of a namespace.
pub const DISRUPTION_BUDGETS: Listed =
    Listed { api_version: "policy/v1", group: "policy", kind: "PodDisruptionBudget", mask: &["spec"] };

/// All stateful sets of a namespace, without what their pods do.
pub const STATEFUL_SETS: Listed = Listed {
    api_version: "apps/v1",
    group: "apps",
    kind: "StatefulSet",
    mask: &[
        "spec.ordinals",
        "spec.replicas",
        "spec.selector",
        "spec.template.metadata",
        "spec.template.spec.containers.args",
        "spec.template.spec.containers.command",
        "spec.template.spec.containers.env",
        "spec.template.spec.containers.image",
        "spec.template.spec.containers.name",
    ],
};

/// All deployments of a namespace, as far as their pods are counted.
pub const DEPLOYMENTS: Listed = Listed {
    api_version: "apps/v1",
    group: "apps",
    kind: "Deployment",
    mask: &["spec.replicas", "spec.template.metadata"],
};

/// All autoscalers of a namespace.
pub const AUTOSCALERS: Listed = Listed {
    api_version: "autoscaling/v2",
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    mask: &["spec.maxReplicas", "spec.minReplicas", "spec.scaleTargetRef"],
};

/// The cluster could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The host lets this policy not see that kind. Holds the kind and the host's text.
    NotGranted {
        /// What was asked for, such as `policy/v1 PodDisruptionBudget`.
        what: String,
        /// The host's own text.
        text: String,
    },
    /// The host could not answer.
    Unavailable {
        /// What was asked for.
        what: String,
        /// The host's own text.
        text: String,
    },
    /// Another object than the judged one has a field that Kubernetes refuses. Holds the field and what it must be.
    Malformed(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted { what, .. } => write!(
                f,
                "this policy may not look up {what}; grant it: contextAwareResources of the policy, and hostCapabilities: [\"kubernetes/*\"] in the policy-server's policies.yml"
            ),
            Self::Unavailable { what, text } => {
                write!(f, "{what} cannot be looked up: {}", crate::finding::one_line(text))
            }
            Self::Malformed(text) => {
                write!(f, "an object that this one depends on cannot be read: {}", crate::finding::one_line(text))
            }
        }
    }
}

impl std::error::Error for LookupError {}

/// How the host says that it was not allowed: `runtimes/callback.rs` of the policy evaluator. The protocol has no
/// other way to tell, so the text is recognised, here and nowhere else.
const NOT_GRANTED: &str = "has not been granted access";
/// How the host says that a named object is not there: `callback_handler/kubernetes/client.rs`.
fn is_not_found(text: &str) -> bool {
    // Without the name it is `Cannot find resource`: the kind itself is unknown, and nothing can be said of objects.
    holds(text, "Cannot find ") && holds(text, " named '")
}

/// Whether `part` is somewhere in `text`. `str::contains` is a clever search, of kilobytes.
fn holds(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len()).any(|window| window == part.as_bytes())
}

/// Few as they are, they are looked through.
type Lists = Vec<(&'static str, Result<Rc<[Value]>, LookupError>)>;
type Single = Vec<(String, Result<Option<Value>, LookupError>)>;

/// Answers of the host, each asked for once in a request.
#[derive(Default)]
pub(crate) struct Lookups {
    lists: RefCell<Lists>,
    single: RefCell<Single>,
}

/// What the cluster holds in the namespace of the request, as it will be once the request is done.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    host: &'a dyn Host,
    lookups: &'a Lookups,
    request: &'a Request,
    /// The judged object, which takes the place of what the cluster holds under its name; `None` on DELETE.
    judged: Option<&'a Value>,
}

impl fmt::Debug for Cluster<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.request.namespace_of()).finish_non_exhaustive()
    }
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(host: &'a dyn Host, lookups: &'a Lookups, request: &'a Request, judged: &'a Value) -> Self {
        let judged = (request.operation != Operation::Delete).then_some(judged);
        Self { host, lookups, request, judged }
    }

    /// The namespace that is looked at.
    pub fn namespace(&self) -> &'a str {
        self.request.namespace_of()
    }

    /// The objects of `listed` in the namespace, the judged one as it will be. What is being deleted is left out.
    /// Objects may be missing that have just been made: look-ups lag behind the API server.
    pub fn list(&self, listed: &'static Listed) -> Result<Vec<Object>, LookupError> {
        let held = self.held(listed)?;
        let judges_this_kind = self.request.target_group() == listed.group && self.request.target_kind() == listed.kind;
        let judged_name = self.request.name_of();
        let mut objects: Vec<Object> = (0..held.len())
            .map(|index| Object::Held(Rc::clone(&held), index))
            .filter(|object| !(judges_this_kind && name_of(object.value()) == judged_name))
            .collect();
        if let Some(judged) = self.judged.filter(|_| judges_this_kind) {
            objects.push(Object::Judged(Rc::new(judged.clone())));
        }
        objects.retain(|object| {
            object
                .value()
                .get("metadata")
                .and_then(|metadata| metadata.get("deletionTimestamp"))
                .is_none_or(Value::is_null)
        });
        Ok(objects)
    }

    /// The object of that kind and name in the namespace, the judged one as it will be; `None` where there is none.
    pub fn get(&self, api_version: &str, kind: &str, name: &str) -> Result<Option<Value>, LookupError> {
        let group = kind::split_api_version(api_version).map_or("", |(group, _)| group);
        if (group, kind, name) == (self.request.target_group(), self.request.target_kind(), self.request.name_of()) {
            return Ok(self.judged.cloned());
        }
        self.get_held(api_version, kind, name)
    }

    /// The object of that kind and name as the cluster holds it.
    pub(crate) fn get_held(&self, api_version: &str, kind: &str, name: &str) -> Result<Option<Value>, LookupError> {
        let what = format!("{api_version} {kind} {name}");
        if let Some((_, answer)) = self.lookups.single.borrow().iter().find(|(known, _)| *known == what) {
            return answer.clone();
        }
        let answer = self.ask_for(api_version, kind, name, &what);
        self.lookups.single.borrow_mut().push((what, answer.clone()));
        answer
    }

    fn ask_for(&self, api_version: &str, kind: &str, name: &str, what: &str) -> Result<Option<Value>, LookupError> {
        let payload = object(&mut [
            ("api_version", api_version.into()),
            ("kind", kind.into()),
            ("name", name.into()),
            ("namespace", self.namespace().into()),
            ("disable_cache", true.into()),
        ]);
        match self.call("get_resource", &payload, what) {
            Ok(bytes) => parse(&bytes, what).map(Some),
            Err(LookupError::Unavailable { text, .. }) if is_not_found(&text) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn held(&self, listed: &'static Listed) -> Result<Rc<[Value]>, LookupError> {
        if let Some((_, answer)) = self.lookups.lists.borrow().iter().find(|(kind, _)| *kind == listed.kind) {
            return answer.clone();
        }
        let what = format!("{} {}", listed.api_version, listed.kind);
        let payload = object(&mut [
            ("api_version", listed.api_version.into()),
            ("kind", listed.kind.into()),
            ("namespace", self.namespace().into()),
            ("label_selector", Value::Null),
            ("field_selector", Value::Null),
            ("field_masks", Value::Array(listed.mask.iter().map(|field| (*field).into()).collect())),
        ]);
        let answer = self.call("list_resources_by_namespace", &payload, &what).and_then(|bytes| {
            match parse(&bytes, &what)?.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => Ok(Rc::from(items)),
                _ => Err(LookupError::Unavailable { what: what.clone(), text: "the answer has no items".to_owned() }),
            }
        });
        self.lookups.lists.borrow_mut().push((listed.kind, answer.clone()));
        answer
    }

    fn call(&self, operation: &str, payload: &Value, what: &str) -> Result<Vec<u8>, LookupError> {
        self.host.call("kubernetes", operation, to_json(payload).as_bytes()).map_err(|text| {
            let what = what.to_owned();
            if holds(&text, NOT_GRANTED) {
                LookupError::NotGranted { what, text }
            } else {
                LookupError::Unavailable { what, text }
            }
        })
    }
}

/// One object of a list.
#[derive(Debug, Clone)]
pub enum Object {
    /// As the cluster holds it.
    Held(Rc<[Value]>, usize),
    /// The judged one, as it will be.
    Judged(Rc<Value>),
}

impl Object {
    /// The object.
    pub fn value(&self) -> &Value {
        match self {
            Self::Held(list, index) => list.get(*index).unwrap_or(&Value::Null),
            Self::Judged(value) => value,
        }
    }

    /// Whether it is the judged object.
    pub fn is_judged(&self) -> bool {
        matches!(self, Self::Judged(_))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        name_of(self.value())
    }
}

fn name_of(object: &Value) -> &str {
    object.get("metadata").and_then(|metadata| metadata.get("name")?.as_str()).unwrap_or_default()
}

fn parse(bytes: &[u8], what: &str) -> Result<Value, LookupError> {
    let answer = std::str::from_utf8(bytes).map_err(|error| error.to_string());
    answer.and_then(|text| read_json(text).map_err(|error| error.to_string())).map_err(|error| {
        LookupError::Unavailable { what: what.to_owned(), text: "the answer cannot be read: ".to_owned() + &error }
    })
}
