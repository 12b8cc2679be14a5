#![doc = include_str!("../README.md")]

mod demand;
mod heap;
mod pod;

use policy::settings::choice;
use policy::{Fault, Finding, Policy, Problem, Review, Settings, SettingsError, Target};
use workload::container::{Container, Role, containers};
use workload::edit::Edit;
use workload::quantity::{Quantity, ResourceList};
use workload::texts::join;
use workload::{Malformed, Node, Path};

use crate::demand::Demand;

policy::export!(ResourceLimits);

/// The settings.
#[derive(Debug)]
pub struct ResourceLimits {
    /// What is asked of each resource: cpu, memory and ephemeral storage, in this order.
    pub demands: [Demand; 3],
    /// Whether pods must be of the class that is evicted last.
    pub guaranteed: bool,
    /// Whether a `LimitRange` of the namespace completes the pods that a template makes.
    pub limit_range: bool,
    /// How many hundredths of the memory limit the heap must leave to all else.
    pub heap_room: i32,
}

impl Policy for ResourceLimits {
    const NAME: &'static str = "resource-limits";
    const TARGETS: &'static [Target] = &Target::pod_templates_and(Target::RESIZES);
    const MUTATES: bool = true;

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            demands: [
                Demand::read(&settings.get("cpu"), &demand::CPU)?,
                Demand::read(&settings.get("memory"), &demand::MEMORY)?,
                Demand::read(&settings.get("ephemeralStorage"), &demand::EPHEMERAL_STORAGE)?,
            ],
            guaranteed: choice(&settings.get("qos"), &[("any", false), ("guaranteed", true)])?.unwrap_or(false),
            limit_range: choice(&settings.get("limitRange"), &[("none", false), ("assumed", true)])?.unwrap_or(false),
            heap_room: settings.get("heapRoom").int32()?.unwrap_or(20),
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        if !(0..=90).contains(&self.heap_room) {
            let problem = format!("Invalid value: {}: must be from 0 to 90", i64::from(self.heap_room));
            return Err(SettingsError::new("heapRoom", problem));
        }
        self.demands.iter().try_for_each(|demand| demand.check(self.guaranteed))
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let spec = review.pod_spec()?;
        let pod = Amounts::read(&spec.get("resources")?)?;
        let judge = Judge { policy: self, pod, fills_in: self.limit_range && review.kind() != "Pod" };
        let mut findings = Vec::new();
        let mut is_best_effort = true;
        let mut budget = heap::BUDGET;
        for container in containers(&spec)? {
            if container.role == Role::Ephemeral {
                continue;
            }
            let amounts = Amounts::read(&container.resources()?)?;
            is_best_effort &= amounts.is_empty();
            for demand in &self.demands {
                let subject = Subject { container: Some(&container), amounts, resource: demand.resource };
                judge.judge_amounts(&subject, demand, &mut findings);
            }
            let limits = [amounts.positive_limit(MEMORY), pod.positive_limit(MEMORY)];
            if let Some(limit) = limits.into_iter().flatten().min() {
                findings.extend(heap::judge(&container, limit, self.heap_room, &review.cluster, &mut budget)?);
            }
        }
        // Where nobody asks for anything, and nobody has to, an empty pod takes nothing from anybody.
        let is_harmless = pod.is_empty() && is_best_effort && findings.is_empty() && !self.guaranteed;
        if judge.pod_decides() && !is_harmless {
            judge.judge_pod(&spec, &mut findings)?;
        }
        Ok(findings)
    }
}

const MEMORY: &str = "memory";

/// What a container, or a pod as a whole, asks for and may use.
struct Amounts<'a> {
    node: Node<'a>,
    requests: ResourceList<'a>,
    limits: ResourceList<'a>,
}

impl<'a> Amounts<'a> {
    /// The `resources` at `node`. Never given back, as a path is not: an evaluation reads each once.
    ///
    /// # Errors
    /// What the API server refuses: no quantities, and negative ones (`ValidateResourceQuantityValue` in
    /// `pkg/apis/core/validation/validation.go`).
    #[inline(never)]
    fn read(node: &Node<'a>) -> Result<&'a Self, Malformed> {
        // First the limits: what is wrong with one is wrong with the request that it stands for, too.
        let limits = amounts(&node.get("limits")?)?;
        let requests = amounts(&node.get("requests")?)?;
        Ok(Box::leak(Box::new(Self { node: *node, requests, limits })))
    }

    /// What is reserved for it. A request of 0 reserves nothing.
    #[inline(never)]
    fn positive_request(&self, resource: &str) -> Option<&Quantity> {
        self.requests.get(resource).filter(|amount| !amount.is_zero())
    }

    /// What it may use at most. A limit of 0 is none: container runtimes read it so.
    #[inline(never)]
    fn positive_limit(&self, resource: &str) -> Option<&Quantity> {
        self.limits.get(resource).filter(|amount| !amount.is_zero())
    }

    /// Whether it names nothing that the class of a pod depends on.
    #[inline(never)]
    fn is_empty(&self) -> bool {
        pod::OF_PODS.iter().all(|name| self.positive_request(name).or(self.positive_limit(name)).is_none())
    }
}

#[inline(never)]
fn amounts<'a>(node: &Node<'a>) -> Result<ResourceList<'a>, Malformed> {
    let list = ResourceList::of(node)?;
    for (name, amount) in list.iter() {
        if amount.is_negative() {
            return Err(Malformed::new(&node.entry(name)?, "must be greater than or equal to 0"));
        }
    }
    Ok(list)
}

/// One resource of one container, or of the pod as a whole.
struct Subject<'a> {
    container: Option<&'a Container<'a>>,
    amounts: &'a Amounts<'a>,
    resource: &'static str,
}

/// What is wrong with an amount. The reason begins with whose it is.
struct Flaw<'a> {
    code: &'static str,
    list: &'static str,
    /// Absent for what must be there.
    amount: Option<&'a Quantity>,
    measure: i64,
    reason: &'a [&'a str],
    why: &'a str,
    advice: &'a str,
}

impl Subject<'_> {
    fn request(&self) -> Option<&Quantity> {
        self.amounts.requests.get(self.resource)
    }

    fn limit(&self) -> Option<&Quantity> {
        self.amounts.limits.get(self.resource)
    }

    fn place(&self, list: &'static str) -> Path {
        self.amounts.node.path().field(list).key(self.resource)
    }

    #[inline(never)]
    fn finding(&self, flaw: &Flaw<'_>) -> Finding {
        let problem = match flaw.amount {
            Some(amount) => Problem::Invalid(written(amount).into()),
            None => Problem::Required,
        };
        let whose = self.container.map_or("the pod".to_owned(), |container| quoted(container.name));
        let reason = whose + &join(flaw.reason, "");
        let finding = Finding::error(flaw.code, self.place(flaw.list), problem, reason)
            .measure(flaw.measure)
            .why(flaw.why)
            .advise(flaw.advice);
        match self.container {
            Some(container) => {
                finding.about(join(&[container.name, self.resource], "/")).in_container(container.name, container.image)
            }
            None => finding.about(self.resource),
        }
    }

    /// More is asked for than may be used, which Kubernetes refuses: offline, nobody else does.
    #[inline(never)]
    fn above_its_limit(&self) -> Option<Finding> {
        let (amount, limit) = (self.request()?, self.limit()?);
        if amount <= limit {
            return None;
        }
        Some(self.finding(&Flaw {
            code: "request-above-limit",
            list: "requests",
            amount: Some(amount),
            measure: 0,
            reason: &[" must not ask for more ", self.resource, " than its limit, ", written(limit)],
            why: "Kubernetes refuses this",
            advice: "raise the limit or lower the request",
        }))
    }
}

struct Judge<'a> {
    policy: &'a ResourceLimits,
    pod: &'a Amounts<'a>,
    /// Whether what a container does not say will be filled in.
    fills_in: bool,
}

impl Judge<'_> {
    /// Whether what a pod as a whole has decides on its class, which then does not depend on its containers:
    /// `ComputePodQOS` in `pkg/apis/core/v1/helper/qos/qos.go`.
    fn pod_decides(&self) -> bool {
        self.pod.node.is_present()
    }

    /// Whether the amounts of a container can keep its pod from the class that the settings ask for.
    fn is_class_at_stake(&self, demand: &Demand) -> bool {
        self.policy.guaranteed && demand.decides_class && !self.pod_decides()
    }

    /// The most that a container may use: by its own limit, else by that of the pod.
    fn bound<'s>(&'s self, subject: &'s Subject<'_>) -> Option<&'s Quantity> {
        subject.amounts.positive_limit(subject.resource).or_else(|| self.pod.positive_limit(subject.resource))
    }

    /// One resource of one container.
    fn judge_amounts(&self, subject: &Subject<'_>, demand: &Demand, findings: &mut Vec<Finding>) {
        // Nothing more is said of what must be written anew.
        if let Some(finding) = subject.above_its_limit().or_else(|| self.missing(subject, demand)) {
            findings.push(finding);
            return;
        }
        findings.extend(self.out_of_bounds(subject, demand));
        findings.extend(self.too_far_apart(subject, demand));
    }

    /// A request or a limit that must be there and is not.
    #[inline(never)]
    fn missing(&self, subject: &Subject<'_>, demand: &Demand) -> Option<Finding> {
        let resource = subject.resource;
        let (request, limit) = (subject.request(), subject.limit());
        let is_reserved =
            subject.amounts.positive_request(resource).is_some() || self.pod.positive_request(resource).is_some();
        let lacks_limit = (demand.limits || self.is_class_at_stake(demand))
            && self.bound(subject).is_none()
            && !(self.fills_in && limit.is_none());
        let lacks_request = demand.requests && !is_reserved && !(self.fills_in && request.is_none());
        if !(lacks_limit || lacks_request) {
            return None;
        }
        let both = lacks_limit && lacks_request;
        let amount = if lacks_limit { limit } else { request };
        let mut flaw = Flaw {
            code: "missing-request",
            list: "requests",
            amount,
            // Having neither is worse than having a request, and what is no limit is worse than a wrong one.
            measure: if both { 3 } else { 2 },
            reason: &[
                if lacks_limit { " must have a limit on " } else { " must have a request for " },
                resource,
                if both { " and a request for it" } else { "" },
                if amount.is_some() { ": 0 is none" } else { "" },
            ],
            why: demand.defaults.without_request,
            advice: "set it to what the container uses in ordinary operation",
        };
        if lacks_limit {
            flaw.code = "missing-limit";
            flaw.list = "limits";
            flaw.why = demand.defaults.without_limit;
            flaw.advice = if both {
                "set it to the most that the container may ever need; it is the request too, unless that is set"
            } else {
                "set it to the most that the container may ever need"
            };
            if self.is_class_at_stake(demand) {
                (flaw.code, flaw.why) = (NOT_GUARANTEED, WHY_GUARANTEED);
            }
        }
        Some(subject.finding(&flaw).fix(self.fill_in(subject, demand, lacks_limit, lacks_request)))
    }

    /// The edits that give a container the defaults of the settings for what is missing; none where they would not do,
    /// or where somebody has written 0.
    fn fill_in(&self, subject: &Subject<'_>, demand: &Demand, lacks_limit: bool, lacks_request: bool) -> Vec<Edit> {
        let mut edits = Vec::new();
        if lacks_limit {
            let Some(default) = demand.default.filter(|_| subject.limit().is_none()) else { return edits };
            if let Some(request) = subject.request()
                && (request > default || (request < default && self.is_class_at_stake(demand)))
            {
                return edits;
            }
            edits.push(Edit::set(subject.place("limits"), written(default)));
        }
        if lacks_request
            && subject.request().is_none()
            && let Some(default) = demand.default_request
        {
            edits.push(Edit::set(subject.place("requests"), written(default)));
        }
        edits
    }

    /// Less than the minimum, or more than the maximum, as a `LimitRange` would say
    /// (`minConstraint` and `maxConstraint` in `plugin/pkg/admission/limitranger/admission.go`).
    #[inline(never)]
    fn out_of_bounds(&self, subject: &Subject<'_>, demand: &Demand) -> Option<Finding> {
        if let Some(limit) = subject.limit().filter(|limit| subject.resource == MEMORY && is_slip(limit)) {
            return Some(subject.finding(&Flaw {
                code: "below-min",
                list: "limits",
                amount: Some(limit),
                measure: -measure(limit),
                reason: &[" has less memory than any process needs"],
                why: "m means thousandths, here of a byte, and a number alone means bytes",
                advice: "write Mi for mebibytes",
            }));
        }
        let request = subject.request();
        if let (Some(min), Some(request)) = (demand.min, request)
            && request < min
        {
            return Some(subject.finding(&Flaw {
                code: "below-min",
                list: "requests",
                amount: Some(request),
                measure: -measure(request),
                reason: &[" must ask for at least ", written(min), " of ", subject.resource],
                why: "",
                advice: "",
            }));
        }
        let max = demand.max?;
        let bound = self.bound(subject);
        let amount = bound.or(request).filter(|amount| *amount > max)?;
        let is_the_pods = bound.is_some() && subject.limit().is_none();
        Some(subject.finding(&Flaw {
            code: "above-max",
            list: if bound.is_some() { "limits" } else { "requests" },
            amount: Some(amount),
            measure: measure(amount),
            reason: &[
                " must not use more than ",
                written(max),
                " of ",
                subject.resource,
                if is_the_pods { ", and may by the pod's limit" } else { "" },
            ],
            why: "",
            advice: "",
        }))
    }

    /// A limit that is not the request, where it must be, or many times the request.
    #[inline(never)]
    fn too_far_apart(&self, subject: &Subject<'_>, demand: &Demand) -> Option<Finding> {
        let resource = subject.resource;
        let (request, limit) = (subject.request()?, subject.amounts.positive_limit(resource)?);
        if self.is_class_at_stake(demand) {
            if request == limit {
                return None;
            }
            return Some(subject.finding(&Flaw {
                code: NOT_GUARANTEED,
                list: "limits",
                amount: Some(limit),
                measure: 1,
                reason: &[" must ask for as much ", resource, " as it may use, not ", written(request)],
                why: WHY_GUARANTEED,
                advice: "set the request to the limit",
            }));
        }
        // Where 0 may be asked for, any limit is too many times that.
        let ratio = demand.ratio.filter(|_| !request.is_zero())?;
        if limit.times(1000) <= request.times(u32::try_from(ratio.milli()?).ok()?) {
            return None;
        }
        let finding = subject.finding(&Flaw {
            code: "wide-ratio",
            list: "limits",
            amount: Some(limit),
            measure: measure(limit).saturating_mul(100).checked_div(measure(request))?,
            reason: &[
                " may use more than ",
                written(ratio),
                " times the ",
                resource,
                " that it asks for, ",
                written(request),
            ],
            why: "what is not asked for is not reserved: the node may have given it to others by then",
            advice: "raise the request or lower the limit",
        });
        Some(finding.level(demand.ratio_level))
    }
}

/// The code of what keeps a pod from the class that is evicted last.
const NOT_GUARANTEED: &str = "not-guaranteed";
const WHY_GUARANTEED: &str = "only a pod whose limits are its requests is Guaranteed, and evicted last";

/// Whether that little memory, below half a mebibyte, was meant as something else. Kubernetes takes it, and no container
/// starts in it.
fn is_slip(limit: &Quantity) -> bool {
    !limit.is_zero() && limit.whole().is_some_and(|bytes| bytes < heap::MEBI / 2)
}

/// An amount as a measure: in thousandths, as far as these go.
#[inline(never)]
fn measure(amount: &Quantity) -> i64 {
    amount.milli().unwrap_or(i64::MAX)
}

/// An amount as it was written: never given back, as the pieces of a path are not.
#[inline(never)]
fn written(amount: &Quantity) -> &'static str {
    String::leak(amount.to_string())
}

/// How messages name a container.
#[inline(never)]
fn quoted(name: &str) -> String {
    join(&["container \"", name, "\""], "")
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};

    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::ResourceLimits>();
    }

    /// Tells no one anything, and keeps what it was asked.
    struct Asked(RefCell<Vec<String>>);

    impl policy::Host for Asked {
        fn call(&self, _: &str, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
            let payload: Value = serde_json::from_slice(payload).unwrap();
            self.0.borrow_mut().push([operation, " ", payload["name"].as_str().unwrap()].concat());
            Err("not granted".to_owned())
        }
    }

    #[test]
    fn only_names_are_looked_up() {
        let names = ["zk.config-1", "zk/../../secrets/x", "zk?watch=true", "zk#", "zk%2e", "zk config", "zk_config"];
        let from = |name| json!({ "configMapKeyRef": { "name": name, "key": "heap" } });
        let env: Vec<Value> = names.iter().map(|name| json!({ "name": "A_OPTS", "valueFrom": from(name) })).collect();
        let resources = json!({ "limits": { "cpu": 1, "memory": "1Gi" } });
        let containers = json!([{ "name": "app", "image": "x", "resources": resources, "env": env }]);
        let pods = json!({ "group": "", "version": "v1", "kind": "Pod", "resource": "pods" });
        let payload = json!({ "settings": {}, "request": {
            "operation": "CREATE", "kind": pods, "resource": pods, "userInfo": {}, "name": "x", "namespace": "a",
            "object": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" }, "spec": { "containers": containers } },
        } });
        let host = Asked(RefCell::default());
        let answer = policy::validate::<super::ResourceLimits>(payload.to_string().as_bytes(), &host);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["accepted"], true, "{answer}");
        assert_eq!(*host.0.borrow(), ["get_resource zk.config-1"]);
    }
}
