//! Whom a policy leaves alone: what must never be in the way, what a controller owns, what the administrator exempts.

use serde_json::Value;
use workload::selector::{Answer, Labels};
use workload::{Malformed, Node, catalogue, glob, kind};

use crate::finding::{Finding, Problem};
use crate::request::{Operation, Request};
use crate::settings::{OwnedObjects, Shared};
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
    cleans_up || [&request.object, &request.old_object].into_iter().flatten().any(is_being_deleted)
}

/// Whether `object` has been deleted and only waits for its finalizers.
pub fn is_being_deleted(object: &Value) -> bool {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get("deletionTimestamp"))
        .is_some_and(|timestamp| !timestamp.is_null())
}

/// Who owns an object and so decides what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Owner {
    /// The field of the owner that sets the number of members, where the catalogue knows it.
    pub(crate) fn count_field(&self) -> Option<&'static str> {
        let mut fields = catalogue::SYSTEMS.iter().flat_map(catalogue::System::custom_resources);
        fields
            .find(|resource| resource.group == self.group && resource.kind == self.kind)
            .map(|resource| resource.field)
    }
}

/// The controller that made the object, where it, and not whoever asks, decides what is in it: a built-in workload
/// controller in its own requests, or an operator in anybody's. A built-in controller's UPDATE counts like its CREATE,
/// so that a rolling update, which scales old replica sets down, does not stand still under `onUpdate: enforce`.
pub(crate) fn owner(object: &Node<'_>, request: &Request) -> Result<Option<Owner>, Malformed> {
    for reference in object.items_at("metadata.ownerReferences")? {
        if reference.boolean_at("controller")? != Some(true) {
            continue;
        }
        let api_version = reference.text_at("apiVersion")?;
        let group = kind::split_api_version(api_version).map_or("", |(group, _)| group);
        let owner = Owner {
            group: group.to_owned(),
            kind: reference.text_at("kind")?.to_owned(),
            name: reference.text_at("name")?.to_owned(),
        };
        let Some(account) = kind::controller_account(group, &owner.kind) else { return Ok(Some(owner)) };
        let by_its_controller = request.user == CONTROLLER_MANAGER
            || request.user.strip_prefix("system:serviceaccount:kube-system:") == Some(account);
        return Ok(Some(owner).filter(|_| by_its_controller));
    }
    Ok(None)
}

/// What the administrator's exemptions make of an object.
#[derive(Debug)]
pub(crate) enum Exemption {
    /// It is judged.
    None,
    /// It is not judged, and nothing is told.
    Silent,
    /// It is not judged, and its own reason is told.
    Told(Finding),
    /// It is judged, although it says that it is exempt.
    Refused(Finding),
}

/// Whether the administrator exempts whatever is asked of such a name, in such a namespace, or by such a user. Nothing
/// need be looked up to know that.
pub(crate) fn is_exempt(request: &Request, shared: &Shared) -> bool {
    let exempt = &shared.exempt;
    let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| glob::matches(pattern, text));
    any(&exempt.namespaces, request.namespace_of())
        || any(&exempt.names, request.name_of())
        || any(&exempt.users, &request.user)
}

/// What the object's own labels and annotations say of exemption.
pub(crate) fn exemption(policy: &str, object: &Node<'_>, shared: &Shared) -> Result<Exemption, Malformed> {
    let exempt = &shared.exempt;
    let labels = || -> Result<Labels, Malformed> { Ok(Labels::new(object.string_map_at("metadata.labels")?)) };
    let by_label = match &exempt.labels {
        Some(selector) => selector.matches(&labels()?) == Answer::Yes,
        None => false,
    };
    if by_label {
        return Ok(Exemption::Silent);
    }
    let annotation = object.dig("metadata.annotations")?.entry(&format!("quorate.dev/exempt-{policy}"))?;
    let Some(reason) = annotation.string()? else { return Ok(Exemption::None) };
    let told = |code, problem, text: String| Finding::warning(code, annotation.path(), problem, text);
    Ok(if !exempt.annotation {
        Exemption::Refused(
            told("exemption-not-allowed", Problem::Forbidden, "this annotation has no effect here".to_owned())
                .advise("ask the administrator for exempt.annotation: true in the policy's settings, or remove it"),
        )
    } else if reason.trim().is_empty() {
        Exemption::Refused(
            told(
                "exemption-without-reason",
                Problem::Required,
                "an exemption without a reason has no effect".to_owned(),
            )
            .advise("write why as the annotation's value"),
        )
    } else {
        Exemption::Told(told(
            "exempted",
            Problem::Invalid(reason.into()),
            format!("not judged by {policy}: this object exempts itself"),
        ))
    })
}

/// Drops what is about containers that the administrator exempts.
pub(crate) fn without_exempt_containers(findings: Vec<Finding>, shared: &Shared) -> Vec<Finding> {
    let exempt = |finding: &Finding| {
        finding.container.as_ref().is_some_and(|container| {
            shared.exempt.containers.iter().any(|pattern| glob::matches(pattern, &container.name))
                || shared.exempt.images.iter().any(|pattern| glob::matches(pattern, &container.image))
        })
    };
    findings.into_iter().filter(|finding| !exempt(finding)).collect()
}

/// What `ownedObjects` makes of an owned object: whether it is judged at all.
pub(crate) fn is_left_to_owner(owner: Option<&Owner>, shared: &Shared) -> bool {
    owner.is_some() && shared.owned_objects == OwnedObjects::Ignore
}
