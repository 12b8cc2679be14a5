//! What a pod has as a whole, and the traps in it.

use policy::{Finding, Problem};
use serde_json::Value;
use workload::complete::requested_together;
use workload::container::{Role, containers};
use workload::quantity::Quantity;
use workload::{Malformed, Node};

use crate::{Amounts, Flaw, Judge, MEMORY, NOT_GUARANTEED, Subject, WHY_GUARANTEED, heap, written};

/// The resources that a pod has as a whole, besides huge pages, which are left alone: `IsSupportedPodLevelResource` in
/// `k8s.io/component-helpers/resource/helpers.go`.
pub(crate) const OF_PODS: [&str; 2] = ["cpu", MEMORY];

/// The code of more than the pod as a whole has.
const ABOVE_POD: &str = "above-pod";
const WHY_REFUSED: &str = "Kubernetes accepts some of this in a template, and then refuses each of its pods";

impl Judge<'_> {
    /// `spec.resources`: what containers ask for beyond it, and what it does to the pod's class.
    #[inline(never)]
    pub(crate) fn judge_pod(&self, spec: &Node<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        if self.pod.is_empty() {
            findings.push(empty(self.pod));
            return Ok(());
        }
        let together = spec.value().map(requested_together).unwrap_or_default();
        for resource in OF_PODS {
            let subject = Subject { container: None, amounts: self.pod, resource };
            if above_limit(spec, &subject, findings)? {
                continue;
            }
            let finding = above_pod(&subject, &together)
                .or_else(|| subject.above_its_limit())
                .or_else(|| if self.policy.guaranteed { not_guaranteed(&subject) } else { None });
            findings.extend(finding);
        }
        Ok(())
    }
}

/// Tells each container that alone is more than the pod's limit. A limit above it is refused of regular containers
/// only; what an init container asks for becomes what the pod asks for. More than nothing is told of the pod alone.
#[inline(never)]
fn above_limit(spec: &Node<'_>, pod: &Subject<'_>, findings: &mut Vec<Finding>) -> Result<bool, Malformed> {
    let resource = pod.resource;
    let Some(limit) = pod.amounts.positive_limit(resource) else { return Ok(false) };
    let before = findings.len();
    for container in containers(spec)? {
        let amounts = Amounts::read(&container.resources()?)?;
        let subject = Subject { container: Some(&container), amounts, resource };
        let own_limit = subject.limit().filter(|own| container.role == Role::Regular && *own > limit);
        let Some(amount) = own_limit.or_else(|| subject.request().filter(|own| *own > limit)) else { continue };
        let (list, verb) =
            if own_limit.is_some() { ("limits", " may use more ") } else { ("requests", " asks for more ") };
        findings.push(subject.finding(&Flaw {
            code: ABOVE_POD,
            list,
            amount: Some(amount),
            measure: 0,
            reason: &[verb, resource, " than the pod, ", written(limit)],
            why: WHY_REFUSED,
            advice: "raise the limit of the pod, or lower that of the container",
        }));
    }
    Ok(findings.len() > before)
}

/// All containers together ask for more than the pod may use, or asks for.
#[inline(never)]
fn above_pod(pod: &Subject<'_>, together: &[(String, Value)]) -> Option<Finding> {
    let resource = pod.resource;
    let (_, sum) = together.iter().find(|(name, _)| name == resource)?;
    let sum = Quantity::of_value(sum).ok()?;
    let limit = pod.amounts.positive_limit(resource).filter(|limit| sum > **limit);
    let amount = limit.or_else(|| pod.request().filter(|request| sum > **request))?;
    Some(pod.finding(&Flaw {
        code: ABOVE_POD,
        list: if limit.is_some() { "limits" } else { "requests" },
        amount: Some(amount),
        measure: 0,
        reason: &[" has less ", resource, " than its containers ask for together, ", readable(&sum)],
        why: WHY_REFUSED,
        advice: "set it to that at least, or let the containers ask for less",
    }))
}

#[inline(never)]
fn not_guaranteed(pod: &Subject<'_>) -> Option<Finding> {
    let limit = pod.amounts.positive_limit(pod.resource);
    if limit.is_some() && pod.request() == limit {
        return None;
    }
    Some(pod.finding(&Flaw {
        code: NOT_GUARANTEED,
        list: "limits",
        amount: pod.limit(),
        measure: 0,
        reason: &[" must have a limit on ", pod.resource, " that is its request"],
        why: WHY_GUARANTEED,
        advice: "set both, or remove the pod's own resources, so that those of its containers count",
    }))
}

/// A sum as people write it: in mebibytes, where these are whole.
fn readable(sum: &Quantity) -> &'static str {
    let whole = sum.whole().filter(|bytes| bytes % heap::MEBI == 0);
    match whole.and_then(|bytes| bytes.checked_div(heap::MEBI)) {
        Some(mebibytes) => String::leak(mebibytes.to_string() + "Mi"),
        None => written(sum),
    }
}

/// Tried: a pod with `resources: {}` is `BestEffort`, whatever its containers have.
#[inline(never)]
fn empty(pod: &Amounts<'_>) -> Finding {
    let found = pod.node.value().cloned().unwrap_or_default();
    Finding::error(
        "empty-pod-resources",
        pod.node.path(),
        Problem::Invalid(found),
        "resources of the pod that hold neither cpu nor memory make it BestEffort, whatever its containers have",
    )
    .why("BestEffort pods are killed and evicted first")
    .advise("remove the pod's own resources, or set cpu and memory in them")
}
