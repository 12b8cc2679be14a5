//! The object as the API server would complete it, so that a manifest, a template and a running pod are judged alike.
//!
//! An admission webhook sees defaults, a file does not, and a template not all of them: what is defaulted for a Pod
//! alone (requests from limits, host ports, pod-level resources, merged `matchLabelKeys`) is missing there. A rule
//! therefore reads a completed copy, in which every template is completed as the pod that it will become.
//!
//! Follows Kubernetes 1.36.3: `SetDefaults_*` in `pkg/apis/{core,apps,batch}/v1/defaults.go` and
//! `pkg/apis/autoscaling/{v1,v2}/defaults.go`, called from the `zz_generated.defaults.go` beside them, and
//! `PrepareForCreate` in `pkg/registry/core/pod/strategy.go`. Compared with the answers of a real API server:
//! `tests/complete.rs`. Only what rules read is completed; that test lists what is not.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::kind::{PodPlace, pod_place};
use crate::node::{Node, object};
use crate::path::{Path, Segment};
use crate::quantity::Quantity;

/// `object`, of `kind` in `group`, as the API server would complete it.
///
/// `null` counts as absent, and so does 0 or empty text where Kubernetes cannot tell them apart. What has a wrong type
/// is left as it is, for the rule to tell. Completing a completed object changes nothing.
pub fn complete<'a>(group: &str, kind: &str, object: &'a Value) -> Cow<'a, Value> {
    complete_with(group, kind, object, Some(complete_resources))
}

/// Completes the resources of a pod spec: what [`complete`] does, and [`complete_but_resources`] leaves out.
type Resources = fn(&mut Map<String, Value>);

/// As [`complete`], without what pods and containers ask for: `resources` is left as it is. For a rule that does not
/// read it: adding up quantities is a twentieth of a module.
pub fn complete_but_resources<'a>(group: &str, kind: &str, object: &'a Value) -> Cow<'a, Value> {
    complete_with(group, kind, object, None)
}

fn complete_with<'a>(group: &str, kind: &str, object: &'a Value, resources: Option<Resources>) -> Cow<'a, Value> {
    let place = pod_place(group, kind);
    let is_autoscaler = (group, kind) == ("autoscaling", "HorizontalPodAutoscaler");
    if !object.is_object() || (place.is_none() && !is_autoscaler) {
        return Cow::Borrowed(object);
    }
    let mut copy = object.clone();
    if let Some(place) = place {
        complete_pod(&mut copy, kind, &place, resources);
    }
    if let Some(spec) = object_in(&mut copy, "spec") {
        match kind {
            "Deployment" => complete_deployment(spec),
            "StatefulSet" => complete_stateful_set(spec),
            "DaemonSet" => complete_daemon_set(spec),
            "ReplicaSet" | "ReplicationController" => set_absent(spec, "replicas", 1.into()),
            "HorizontalPodAutoscaler" => set_absent(spec, "minReplicas", 1.into()),
            _ => {}
        }
    }
    if matches!(kind, "ReplicationController" | "Job") {
        complete_labels(&mut copy, kind);
    }
    Cow::Owned(copy)
}

/// `SetDefaults_Deployment`.
fn complete_deployment(spec: &mut Map<String, Value>) {
    set_absent(spec, "replicas", 1.into());
    if let Some(rolling) = rolling_update(spec, "strategy", true) {
        set_absent(rolling, "maxUnavailable", "25%".into());
        set_absent(rolling, "maxSurge", "25%".into());
    }
}

/// `SetDefaults_StatefulSet`. `maxUnavailable` has no default while the feature gate `MaxUnavailableStatefulSet` is
/// off, as it is by default.
fn complete_stateful_set(spec: &mut Map<String, Value>) {
    set_absent(spec, "replicas", 1.into());
    set_empty(spec, "podManagementPolicy", "OrderedReady");
    if let Some(rolling) = rolling_update(spec, "updateStrategy", false) {
        set_absent(rolling, "partition", 0.into());
    }
    if let Some(retention) = object_of(spec, "persistentVolumeClaimRetentionPolicy") {
        set_empty(retention, "whenDeleted", "Retain");
        set_empty(retention, "whenScaled", "Retain");
    }
}

/// `SetDefaults_DaemonSet`.
fn complete_daemon_set(spec: &mut Map<String, Value>) {
    if let Some(rolling) = rolling_update(spec, "updateStrategy", true) {
        set_absent(rolling, "maxUnavailable", 1.into());
        set_absent(rolling, "maxSurge", 0.into());
    }
}

/// The completed `rollingUpdate` of the strategy `field`, where that is the strategy's type. A `StatefulSet` that
/// names the type and nothing else keeps it so (`always` is false).
fn rolling_update<'a>(
    spec: &'a mut Map<String, Value>,
    field: &str,
    always: bool,
) -> Option<&'a mut Map<String, Value>> {
    let strategy = object_of(spec, field)?;
    let named = !is_empty(strategy.get("type"));
    set_empty(strategy, "type", "RollingUpdate");
    let is_rolling = strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate");
    let keeps_absence = named && !always && is_absent(strategy.get("rollingUpdate"));
    if !is_rolling || keeps_absence { None } else { object_of(strategy, "rollingUpdate") }
}

/// `SetDefaults_ReplicationController` and `SetDefaults_Job`: the template's labels stand in for absent ones.
fn complete_labels(object: &mut Value, kind: &str) {
    let Some(labels) = labels_of_template(object).filter(|labels| is_filled(labels)).cloned() else {
        return;
    };
    if kind == "ReplicationController"
        && let Some(spec) = object_in(object, "spec")
        && is_unfilled(spec.get("selector"))
    {
        spec.insert("selector".to_owned(), labels.clone());
    }
    if let Some(metadata) = object_in(object, "metadata")
        && is_unfilled(metadata.get("labels"))
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn labels_of_template(object: &Value) -> Option<&Value> {
    object.get("spec")?.get("template")?.get("metadata")?.get("labels")
}

/// `SetDefaults_PodSpec`, `SetDefaults_Pod` and what follows them, for the pod at `place`.
fn complete_pod(object: &mut Value, kind: &str, place: &PodPlace, resources: Option<Resources>) {
    let labels = Node::root(object).follow(place.metadata.field("labels")).ok().and_then(|labels| labels.value());
    let labels = labels.and_then(Value::as_object).cloned();
    // The template of a ReplicationController is a pointer: there may be none. All others have one, if an empty one.
    if kind == "ReplicationController"
        && object.get("spec").and_then(|spec| spec.get("template")).is_none_or(Value::is_null)
    {
        return;
    }
    let Some(spec) = object_at(object, place.spec) else { return };
    set_empty(spec, "restartPolicy", "Always");
    set_empty(spec, "schedulerName", "default-scheduler");
    set_absent(spec, "terminationGracePeriodSeconds", 30.into());
    // `Convert_v1_Pod_To_core_Pod`.
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
    }
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let is_ephemeral = list == "ephemeralContainers";
        for container in objects_in(spec, list) {
            complete_container(container);
            if host_network && !is_ephemeral {
                host_ports(container);
            }
        }
    }
    objects_in(spec, "volumes").for_each(complete_volume);
    if let Some(complete_resources) = resources {
        complete_resources(spec);
    }
    if let Some(labels) = labels {
        merge_label_keys(spec, &labels);
    }
}

/// The defaults of a container's ports, probes and hooks (`SetObjectDefaults_Pod`).
fn complete_container(container: &mut Map<String, Value>) {
    for port in objects_in(container, "ports") {
        set_empty(port, "protocol", "TCP");
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(Value::Object(probe)) = container.get_mut(probe) else { continue };
        // `SetDefaults_Probe`: 0 is absent.
        for (field, default) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            if is_zero(probe.get(field)) {
                probe.insert(field.to_owned(), default.into());
            }
        }
        complete_http_get(probe);
        if let Some(Value::Object(grpc)) = probe.get_mut("grpc") {
            set_absent(grpc, "service", "".into());
        }
    }
    if let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(Value::Object(hook)) = lifecycle.get_mut(hook) {
                complete_http_get(hook);
            }
        }
    }
}

/// `SetDefaults_HTTPGetAction`.
fn complete_http_get(handler: &mut Map<String, Value>) {
    if let Some(Value::Object(get)) = handler.get_mut("httpGet") {
        set_empty(get, "path", "/");
        set_empty(get, "scheme", "HTTP");
    }
}

/// `SetDefaults_Pod`: a limit is also the request, where there is none.
fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").filter(|limits| is_filled(limits)) else { return };
    let limits = limits.iter().map(|(name, limit)| (name.clone(), limit.clone())).collect();
    add_absent(resources, "requests", limits);
}

/// `defaultHostNetworkPorts`: on the host's network a container's port is the host's.
fn host_ports(container: &mut Map<String, Value>) {
    for port in objects_in(container, "ports") {
        if is_zero(port.get("hostPort"))
            && let Some(number) = port.get("containerPort").filter(|number| number.is_i64()).cloned()
            && !is_zero(Some(&number))
        {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

/// `SetDefaults_Volume`: a volume that says nothing of itself is an empty directory. A source that is newer than this
/// crate is a source.
fn complete_volume(volume: &mut Map<String, Value>) {
    if volume.iter().all(|(field, value)| field == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), Value::Object(Map::new()));
    }
}

fn complete_resources(spec: &mut Map<String, Value>) {
    for list in ["initContainers", "containers"] {
        objects_in(spec, list).for_each(requests_from_limits);
    }
    complete_pod_resources(spec);
}

/// `defaultHugePagePodLimits` and `defaultPodRequests`: what the pod as a whole asks for, where it says a part of it.
fn complete_pod_resources(spec: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = spec.get("resources") else { return };
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    if is_unfilled(limits) && is_unfilled(requests) {
        return;
    }
    let has_request = |name: &String| requests.is_some_and(|requests| requests.get(name).is_some());
    let huge_pages: Vec<_> =
        used_together(spec, "limits", is_huge_page).into_iter().filter(|(name, _)| !has_request(name)).collect();
    let containers = used_together(spec, "requests", is_overcommitted);
    let Some(resources) = object_of(spec, "resources") else { return };
    add_absent(resources, "limits", huge_pages);
    let Some(Value::Object(limits)) = resources.get("limits").filter(|limits| is_filled(limits)) else { return };
    let limits: Vec<_> = limits
        .iter()
        .filter(|(name, _)| is_overcommitted(name) || is_huge_page(name))
        .map(|(name, limit)| (name.clone(), limit.clone()))
        .collect();
    add_absent(resources, "requests", containers);
    add_absent(resources, "requests", limits);
}

/// Whether a pod as a whole may ask for less of it than its limit (`IsOvercommitAllowed`, of what
/// `IsSupportedPodLevelResource` supports).
fn is_overcommitted(resource: &str) -> bool {
    resource == "cpu" || resource == "memory"
}

fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// Adds to the resource list `field` what it does not name.
fn add_absent(resources: &mut Map<String, Value>, field: &str, amounts: Vec<(String, Value)>) {
    if !amounts.is_empty()
        && let Some(list) = object_of(resources, field)
    {
        for (name, amount) in amounts {
            // A request of `null` is there, and is nothing.
            list.entry(name).or_insert(amount);
        }
    }
}

/// How much cpu and memory the containers of the pod spec `spec`, which is completed, ask for together, by resource: what
/// the pod as a whole must ask for at least (`validatePodResourceConsistency` in `pkg/apis/core/validation/validation.go`).
pub fn requested_together(spec: &Value) -> Vec<(String, Value)> {
    spec.as_object().map(|spec| used_together(spec, "requests", is_overcommitted)).unwrap_or_default()
}

/// What all containers together use of the `wanted` resources, by their `field` (`requests` or `limits`):
/// `AggregateContainerRequests` in `k8s.io/component-helpers/resource/helpers.go`. The containers and the sidecars
/// run at once; each init container runs beside the sidecars that precede it. A resource of which an amount cannot be
/// read is left out.
fn used_together(spec: &Map<String, Value>, field: &str, wanted: fn(&str) -> bool) -> Vec<(String, Value)> {
    let lists = |list| {
        let containers = spec.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        containers.iter().filter_map(move |container| {
            Some((container.get("restartPolicy"), container.get("resources")?.get(field)?.as_object()?))
        })
    };
    let mut totals = Vec::<(&str, Usage)>::new();
    for (_, amounts) in lists("containers") {
        for (name, amount) in amounts.iter().filter(|(name, _)| wanted(name)) {
            usage_of(&mut totals, name).run_beside(amount);
        }
    }
    for (restarts, amounts) in lists("initContainers") {
        for (name, amount) in amounts.iter().filter(|(name, _)| wanted(name)) {
            let usage = usage_of(&mut totals, name);
            if restarts.and_then(Value::as_str) == Some("Always") {
                usage.run_as_sidecar(amount);
            } else {
                usage.run_before(amount);
            }
        }
    }
    totals.into_iter().filter_map(|(name, usage)| Some((name.to_owned(), usage.most()?))).collect()
}

fn usage_of<'t, 'a>(totals: &'t mut Vec<(&'a str, Usage)>, name: &'a str) -> &'t mut Usage {
    let index = totals.iter().position(|(known, _)| *known == name).unwrap_or(totals.len());
    if index == totals.len() {
        totals.push((name, Usage::default()));
    }
    &mut totals[index].1
}

/// What a pod uses of one resource.
struct Usage {
    /// All that runs at once in the end; `None` once an amount could not be read or added.
    running: Option<Quantity>,
    /// The sidecars so far.
    sidecars: Option<Quantity>,
    /// The most that starting the pod takes.
    starting: Option<Quantity>,
}

impl Default for Usage {
    fn default() -> Self {
        let none = || Some(Quantity::whole_number(0));
        Self { running: none(), sidecars: none(), starting: none() }
    }
}

impl Usage {
    fn run_beside(&mut self, amount: &Value) {
        self.running = sum(self.running.as_ref(), amount);
    }

    fn run_as_sidecar(&mut self, amount: &Value) {
        self.run_beside(amount);
        self.sidecars = sum(self.sidecars.as_ref(), amount);
    }

    fn run_before(&mut self, amount: &Value) {
        self.starting = match (self.starting.take(), sum(self.sidecars.as_ref(), amount)) {
            (Some(most), Some(this)) => Some(most.max(this)),
            _ => None,
        };
    }

    fn most(self) -> Option<Value> {
        Some(Value::String(self.running?.max(self.starting?).to_string()))
    }
}

fn sum(total: Option<&Quantity>, amount: &Value) -> Option<Quantity> {
    total?.checked_add(&Quantity::of_value(amount).ok()?)
}

/// `mutatePodAffinity` and `mutateTopologySpreadConstraints`: the pod's own values of the labels that a term names by
/// key become part of its selector; a label that the pod lacks is ignored.
///
/// A template lacks the labels that its controller adds: `pod-template-hash`, `controller-revision-hash`, and those
/// that name a member.
fn merge_label_keys(spec: &mut Map<String, Value>, labels: &Map<String, Value>) {
    for constraint in objects_in(spec, "topologySpreadConstraints") {
        merge_into_selector(constraint, labels);
    }
    let Some(Value::Object(affinity)) = spec.get_mut("affinity") else { return };
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(Value::Object(affinity)) = affinity.get_mut(field) else { continue };
        for term in objects_in(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_into_selector(term, labels);
        }
        for preference in objects_in(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(Value::Object(term)) = preference.get_mut("podAffinityTerm") {
                merge_into_selector(term, labels);
            }
        }
    }
}

/// `applyLabelKeysToLabelSelector`. A running pod's terms have been merged already: what is there is not added again.
fn merge_into_selector(term: &mut Map<String, Value>, labels: &Map<String, Value>) {
    let mut merged = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for key in keys.iter().filter_map(Value::as_str) {
            if let Some(Value::String(value)) = labels.get(key) {
                merged.push(object(&mut [
                    ("key", key.into()),
                    ("operator", operator.into()),
                    ("values", Value::Array(vec![value.as_str().into()])),
                ]));
            }
        }
    }
    if merged.is_empty() {
        return;
    }
    let Some(Value::Object(selector)) = term.get_mut("labelSelector") else { return };
    set_absent(selector, "matchExpressions", Value::Array(Vec::new()));
    if let Some(Value::Array(expressions)) = selector.get_mut("matchExpressions") {
        for expression in merged {
            if !expressions.contains(&expression) {
                expressions.push(expression);
            }
        }
    }
}

fn is_absent(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

/// Absent, or text that is empty: the same for a string of Go.
fn is_empty(value: Option<&Value>) -> bool {
    is_absent(value) || value.and_then(Value::as_str) == Some("")
}

/// Absent, or 0: the same for a number of Go.
fn is_zero(value: Option<&Value>) -> bool {
    is_absent(value) || value.and_then(Value::as_i64) == Some(0)
}

/// Whether `value` is a map with something in it.
fn is_filled(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| !fields.is_empty())
}

/// Absent, or a map with nothing in it: the same for a map of Go.
fn is_unfilled(value: Option<&Value>) -> bool {
    is_absent(value) || value.and_then(Value::as_object).is_some_and(Map::is_empty)
}

// These stay calls: inlined at every default, they would make up a tenth of a module.
#[inline(never)]
fn set_absent(fields: &mut Map<String, Value>, name: &str, default: Value) {
    if is_absent(fields.get(name)) {
        fields.insert(name.to_owned(), default);
    }
}

#[inline(never)]
fn set_empty(fields: &mut Map<String, Value>, name: &str, default: &str) {
    if is_empty(fields.get(name)) {
        fields.insert(name.to_owned(), Value::String(default.to_owned()));
    }
}

/// The object `name` in `fields`, made where it is absent; `None` where something else is there.
#[inline(never)]
fn object_of<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    set_absent(fields, name, Value::Object(Map::new()));
    fields.get_mut(name)?.as_object_mut()
}

/// [`object_of`], of a value that should be an object itself.
fn object_in<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    object_of(value.as_object_mut()?, name)
}

/// The object at `path`, made where it is absent.
fn object_at(value: &mut Value, path: Path) -> Option<&mut Map<String, Value>> {
    path.segments().into_iter().try_fold(value.as_object_mut()?, |fields, segment| match segment {
        Segment::Field(name) | Segment::Key(name) => object_of(fields, name),
        Segment::Index(_) => None,
    })
}

/// The objects in the list `name`; what is no object is passed over.
fn objects_in<'a>(
    fields: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    let items = fields.get_mut(name).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default();
    items.iter_mut().filter_map(Value::as_object_mut)
}
