//! Whom a policy leaves alone: what must never be in the way, what a controller owns, what the administrator exempts.

use serde_json::Value;
use workload::selector::{Answer, Labels};
use workload::texts::join;
use workload::{Malformed, Node, catalogue, glob, kind};

use crate::finding::{Finding, Problem};
use crate::request::{Operation, Request};
use crate::settings::{Exempt, Shared};
use crate::{Policy, Target};

/// Users that clean up after others. Nothing that they do is ever in question: a denial here leaves namespaces that
/// never go away. Source: `ControllerInitializers` in `kubernetes/cmd/kube-controller-manager`, whose names become
/// service accounts of `kube-system`.
const CLEANERS: [&str; 2] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
];
/// The controller manager's own user, where its controllers have no service accounts of their own.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Whether the policy judges such requests at all.
pub(crate) fn concerns<P: Policy>(policy: &P, request: &Request) -> bool {
    P::TARGETS.iter().any(|target| names(target, request)) || policy.also_targets(request)
}

fn names(target: &Target, request: &Request) -> bool {
    target.operations.contains(&request.operation)
        && request.target_group() == target.group
        && request.target_kind() == target.kind
        && request.subresource.as_deref() == target.subresource
}

/// Whether the request must be let through untouched, whatever the object is.
pub(crate) fn is_never_in_the_way(request: &Request) -> bool {
    let cleans_up = CLEANERS.contains(&request.user.as_str())
        || (request.user == CONTROLLER_MANAGER && request.operation == Operation::Delete);
    cleans_up
        || request.object.as_ref().is_some_and(is_being_deleted)
        || request.old_object.as_ref().is_some_and(is_being_deleted)
}

/// Whether `object` has been deleted and only waits for its finalizers.
pub fn is_being_deleted(object: &Value) -> bool {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get("deletionTimestamp"))
        .is_some_and(|timestamp| !timestamp.is_null())
}

/// Who owns an object and so decides what is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
}

impl Owner<'_> {
    /// The field of the owner that sets the number of members, where the catalogue knows it.
    pub(crate) fn count_field(&self) -> Option<&'static str> {
        for system in catalogue::SYSTEMS {
            for resource in system.custom_resources() {
                if resource.group == self.group && resource.kind == self.kind {
                    return Some(resource.field);
                }
            }
        }
        None
    }
}

/// The controller that made the object, where it, and not whoever asks, decides what is in it: a built-in workload
/// controller in its own requests, or an operator in anybody's. A built-in controller's UPDATE counts like its CREATE,
/// so that a rolling update, which scales old replica sets down, does not stand still under `onUpdate: enforce`.
pub(crate) fn owner<'a>(object: &Node<'a>, request: &Request) -> Result<Option<Owner<'a>>, Malformed> {
    for reference in object.items_at("metadata.ownerReferences")? {
        if reference.boolean_at("controller")? != Some(true) {
            continue;
        }
        let api_version = reference.text_at("apiVersion")?;
        let group = kind::split_api_version(api_version).map_or("", |(group, _)| group);
        let owner = Owner { group, kind: reference.text_at("kind")?, name: reference.text_at("name")? };
        let Some(account) = kind::controller_account(group, owner.kind) else { return Ok(Some(owner)) };
        // The audit scanner says of nobody what it finds in the cluster; the API server names everybody, strangers too.
        let by_its_controller = request.user.is_empty()
            || request.user == CONTROLLER_MANAGER
            || request.user.strip_prefix("system:serviceaccount:kube-system:") == Some(account);
        return Ok(if by_its_controller { Some(owner) } else { None });
    }
    Ok(None)
}

/// What the exemptions by label and by annotation make of an object.
#[derive(Debug)]
pub(crate) struct Exemption {
    /// It is not judged.
    pub(crate) applies: bool,
    /// What is told of it all the same: the object's own reason, or why that has no effect.
    pub(crate) told: Option<Finding>,
}

/// Whether the administrator exempts whatever is asked of such a name, in such a namespace, or by such a user. Nothing
/// need be looked up to know that.
pub(crate) fn is_exempt(request: &Request, shared: &Shared) -> bool {
    let exempt = &shared.exempt;
    any_matches(&exempt.namespaces, request.namespace_of())
        || any_matches(&exempt.names, request.name_of())
        || any_matches(&exempt.users, &request.user)
}

#[inline(never)]
fn any_matches(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, text))
}

/// What the object's own labels and annotations say of exemption.
pub(crate) fn exemption(policy: &str, object: &Node<'_>, shared: &Shared) -> Result<Exemption, Malformed> {
    let exempt = &shared.exempt;
    if let Some(selector) = &exempt.labels {
        let labels = Labels::new(object.string_map_at("metadata.labels")?);
        if selector.matches(&labels) == Answer::Yes {
            return Ok(Exemption { applies: true, told: None });
        }
    }
    let annotation = object.dig("metadata.annotations")?.entry(&("quorate.dev/exempt-".to_owned() + policy))?;
    let Some(reason) = annotation.string()? else { return Ok(Exemption { applies: false, told: None }) };
    let applies = exempt.annotation && !reason.chars().all(char::is_whitespace);
    let (code, problem, text, advice) = if applies {
        let text = join(&["not judged by ", policy, ": this object exempts itself"], "");
        ("exempted", Problem::Invalid(reason.into()), text, "")
    } else if exempt.annotation {
        let text = "an exemption without a reason has no effect".to_owned();
        ("exemption-without-reason", Problem::Required, text, "write why as the annotation's value")
    } else {
        let advice = "ask the administrator for exempt.annotation: true in the policy's settings, or remove it";
        ("exemption-not-allowed", Problem::Forbidden, "this annotation has no effect here".to_owned(), advice)
    };
    let told = Finding::warning(code, annotation.path(), problem, text).advise(advice);
    Ok(Exemption { applies, told: Some(told) })
}

/// Drops what is about containers that the administrator exempts.
pub(crate) fn without_exempt_containers(mut findings: Vec<Finding>, shared: &Shared) -> Vec<Finding> {
    let Exempt { containers, images, .. } = &shared.exempt;
    if !(containers.is_empty() && images.is_empty()) {
        findings.retain(|finding| {
            let container = finding.container.as_ref();
            !container.is_some_and(|container| is_exempt_container(&container.name, &container.image, shared))
        });
    }
    findings
}

/// Whether the administrator exempts containers of this name, or with this image.
pub(crate) fn is_exempt_container(name: &str, image: &str, shared: &Shared) -> bool {
    any_matches(&shared.exempt.containers, name) || any_matches(&shared.exempt.images, image)
}
