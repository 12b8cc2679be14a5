//! What a Quorate policy is: its settings and its rule. Everything else is done here, once, for all of them.
//!
//! A rule is a pure function from an object, and what the cluster holds, to [`Finding`]s. This crate reads the
//! request ([`request`]), splits and checks the settings ([`settings`]), leaves alone what must never be in the way
//! and what the administrator exempts ([`scope`]), looks up other objects ([`lookup`]), compares an UPDATE with what
//! was there before, mutates, and writes the answer ([`verdict`]).
//!
//! A policy crate implements [`Policy`] for its settings and calls [`export!`].

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
#[cfg(target_arch = "wasm32")]
mod heap;

pub mod finding;
mod json;
pub mod lookup;
pub mod quorum;
pub mod request;
pub mod scope;
pub mod settings;
pub mod verdict;

use std::cell::RefCell;

use serde_json::Value;
use workload::container::Container;
use workload::{Malformed, Node, kind};

pub use finding::{Finding, Level, ObjectRef, Problem};
pub use lookup::{Cluster, Host, LookupError};
pub use quorum::{Model, Quorum};
pub use request::{Operation, Request};
pub use settings::{Settings, SettingsError, Shared};
pub use verdict::{validate, validate_settings};

/// Why a rule could not judge an object at all.
#[derive(Debug)]
pub enum Fault {
    /// A field that the rule reads is one that Kubernetes refuses too: the object is denied, with the place.
    Malformed(Malformed),
    /// The cluster could not be asked: the object is accepted with a warning that says so.
    Lookup(LookupError),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<LookupError> for Fault {
    fn from(error: LookupError) -> Self {
        Self::Lookup(error)
    }
}

/// Requests that a policy judges. `metadata.yml` asks the API server for the same ones; a test compares the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The kind of the object itself, also where a subresource is meant.
    pub kind: &'static str,
    /// The plural name that `metadata.yml` and a subresource's request use.
    pub resource: &'static str,
    /// `None` for the object itself, else the subresource.
    pub subresource: Option<&'static str>,
    /// The operations.
    pub operations: &'static [Operation],
}

impl Target {
    /// Stateful sets as they arrive and change.
    pub const STATEFUL_SETS: Self = Self {
        group: "apps",
        kind: "StatefulSet",
        resource: "statefulsets",
        subresource: None,
        operations: &[Operation::Create, Operation::Update],
    };
    /// Stateful sets whose count changes through the subresource, which the rule sees as the set with the new count.
    pub const STATEFUL_SET_SCALES: Self =
        Self { subresource: Some("scale"), operations: &[Operation::Update], ..Self::STATEFUL_SETS };
    /// Containers that are added to a running pod, to look into it. The request holds the whole pod.
    pub const EPHEMERAL_CONTAINERS: Self =
        Self { subresource: Some("ephemeralcontainers"), operations: &[Operation::Update], ..Self::PODS };
    /// What a running pod asks for, changed in place. The request holds the whole pod.
    pub const RESIZES: Self = Self { subresource: Some("resize"), ..Self::EPHEMERAL_CONTAINERS };
    const PODS: Self = Self::template("", "Pod", "pods");
    /// Every built-in kind that describes pods: those of [`workload::kind::pod_place`].
    pub const POD_TEMPLATES: [Self; 9] = [
        Self::PODS,
        Self::template("", "PodTemplate", "podtemplates"),
        Self::template("", "ReplicationController", "replicationcontrollers"),
        Self::template("apps", "DaemonSet", "daemonsets"),
        Self::template("apps", "Deployment", "deployments"),
        Self::template("apps", "ReplicaSet", "replicasets"),
        Self::STATEFUL_SETS,
        Self::template("batch", "CronJob", "cronjobs"),
        Self::template("batch", "Job", "jobs"),
    ];

    const fn template(group: &'static str, kind: &'static str, resource: &'static str) -> Self {
        Self { group, kind, resource, subresource: None, operations: &[Operation::Create, Operation::Update] }
    }

    /// Those of [`Target::POD_TEMPLATES`] whose pods may run on, without end: all but the last two, whose pods end.
    pub const LASTING_PODS: &'static [Self] = Self::POD_TEMPLATES.split_at(7).0;

    /// [`Target::POD_TEMPLATES`], and one more.
    pub const fn pod_templates_and(other: Self) -> [Self; 10] {
        let mut all = [other; 10];
        let mut index = 0;
        // A constant can have no `for`.
        while index < Self::POD_TEMPLATES.len() {
            all[index] = Self::POD_TEMPLATES[index];
            index += 1;
        }
        all
    }
}

/// A policy: the settings are the type, the rule is [`Policy::judge`].
pub trait Policy: Sized {
    /// The policy's name: its crate's, its folder's and its module's.
    const NAME: &'static str;
    /// What it judges; everything else is accepted untouched.
    const TARGETS: &'static [Target];
    /// Whether its findings carry edits that `mutate: true` applies.
    const MUTATES: bool = false;

    /// Whether it reads what pods and containers ask for, `resources`: else they are not completed.
    const READS_RESOURCES: bool = true;

    /// The page that shows the failure which its errors prevent, each under the heading of its code; empty where there is none.
    const FINDINGS_PAGE: &'static str = "";

    /// Reads its own settings, each once: what is read is what there may be, and what is absent gets its default here.
    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed>;

    /// Refuses settings whose single values are fine but which cannot work together.
    fn check(&self) -> Result<(), SettingsError> {
        Ok(())
    }

    /// Whether an object of another kind is judged too, because the settings ask for it. Asked before the objects of
    /// the request are read, which it therefore does not hold yet.
    fn also_targets(&self, _request: &Request) -> bool {
        false
    }

    /// The rule.
    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault>;
}

/// What a rule judges.
#[derive(Debug)]
pub struct Review<'a> {
    /// The request; its `object` is the one received, before completion.
    pub request: &'a Request,
    /// The settings that all policies share.
    pub shared: &'a Shared,
    /// The object, completed as the API server would complete it. On DELETE, what is deleted. For a scale, the
    /// scaled object with the new count.
    pub object: Node<'a>,
    /// What the object was before an UPDATE; absent where `object` itself is what was there before, and where the rule
    /// has found that what was there before is malformed.
    pub old: Option<Node<'a>>,
    /// Other objects of the cluster, as they will be once this request is done.
    pub cluster: Cluster<'a>,
    notes: &'a RefCell<Vec<String>>,
}

impl Review<'_> {
    /// The group of the judged object.
    pub fn group(&self) -> &str {
        self.request.target_group()
    }

    /// The kind of the judged object: for a scale, the scaled object's.
    pub fn kind(&self) -> &str {
        self.request.target_kind()
    }

    /// The spec of the pods that the judged object describes; absent where its kind describes none.
    pub fn pod_spec(&self) -> Result<Node<'_>, Malformed> {
        match kind::pod_place(self.group(), self.kind()) {
            Some(place) => self.object.follow(place.spec),
            None => Ok(Node::root(&Value::Null)),
        }
    }

    /// Whether the administrator exempts the container. A finding about one container says which, and is dropped; one
    /// about several must leave those out of which this is true.
    pub fn is_exempt(&self, container: &Container<'_>) -> bool {
        scope::is_exempt_container(container.name, container.image, self.shared)
    }

    /// Whether the judged object is deleted by this request.
    pub fn is_delete(&self) -> bool {
        self.request.operation == Operation::Delete
    }

    /// Whether this is the first state of the object: a CREATE.
    pub fn is_create(&self) -> bool {
        self.request.operation == Operation::Create
    }

    /// How the members of the set at `set` decide: by majority or not at all, and how that is known.
    pub fn quorum(&self, set: &Node<'_>) -> Result<Quorum, Malformed> {
        quorum::of(set, self.shared)
    }

    /// The other sets of the namespace whose members form one ensemble with those of the set at `set`.
    pub fn rest_of_ensemble(&self, set: &Node<'_>) -> Result<Vec<lookup::Object>, Fault> {
        let Some(ensemble) = quorum::ensemble(set)? else { return Ok(Vec::new()) };
        let name = set.text_at("metadata.name")?;
        let mut sets = self.cluster.list(&lookup::STATEFUL_SETS)?;
        sets.retain(|other| {
            let other_ensemble = quorum::ensemble(&Node::root(other.value())).ok().flatten();
            other.name() != name && other_ensemble == Some(ensemble)
        });
        Ok(sets)
    }

    /// Tells something that is no finding, such as how a system was recognised; `quorate check -v` shows it.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&text) {
            notes.push(text);
        }
    }
}

/// The address of the page with what the findings of the policy of this crate prevent: `docs/findings/NAME.md`, written by `make prove`.
#[macro_export]
macro_rules! findings_page {
    () => {
        concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/findings/", env!("CARGO_PKG_NAME"), ".md")
    };
}

/// Makes a crate a policy module: `policy::export!(TypeOfTheSettings);`
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        /// Called by the host after it has made an instance.
        #[cfg(target_arch = "wasm32")]
        #[expect(unsafe_code, reason = "the name is the protocol's, so it must not be mangled")]
        #[unsafe(no_mangle)]
        pub extern "C" fn wapc_init() {
            $crate::guest::register::<$policy>();
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_that_describe_pods_are_those_whose_pods_are_found() {
        for target in Target::POD_TEMPLATES {
            assert!(kind::pod_place(target.group, target.kind).is_some(), "{}", target.kind);
            assert_eq!(target.resource, format!("{}s", target.kind.to_lowercase()));
        }
        let ending: Vec<_> = Target::POD_TEMPLATES.iter().filter(|kind| !Target::LASTING_PODS.contains(kind)).collect();
        assert!(ending.iter().all(|target| target.group == "batch") && ending.len() == 2, "{ending:?}");
        let more = Target::pod_templates_and(Target::RESIZES);
        assert_eq!((&more[..9], more[9]), (&Target::POD_TEMPLATES[..], Target::RESIZES));
    }
}
