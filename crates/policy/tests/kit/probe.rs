//! A policy with one small rule for each duty of the kit, a host that counts its calls, and requests to ask it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use policy::lookup::{DISRUPTION_BUDGETS, STATEFUL_SETS};
use policy::settings::texts;
use policy::{
    Fault, Finding, Host, ObjectRef, Operation, Policy, Problem, Request, Review, Settings, SettingsError, Target,
};
use serde::Deserialize;
use serde_json::{Value, json};
use workload::container::containers;
use workload::edit::Edit;
use workload::{Malformed, Node, Path, kind};

/// The settings, and the rules with them.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The highest count.
    pub(crate) max: i64,
    /// Labels that an object must have.
    pub(crate) labels: Vec<String>,
    /// A kind of the group `example.com` that is judged too.
    pub(crate) also: Option<String>,
}

const CHANGES: &[Operation] = &[Operation::Create, Operation::Update];

const fn target(
    group: &'static str,
    kind: &'static str,
    resource: &'static str,
    operations: &'static [Operation],
) -> Target {
    Target { group, kind, resource, subresource: None, operations }
}

impl Policy for Probe {
    const NAME: &'static str = "probe";
    const TARGETS: &'static [Target] = &[
        target("apps", "StatefulSet", "statefulsets", CHANGES),
        Target {
            group: "apps",
            kind: "StatefulSet",
            resource: "statefulsets",
            subresource: Some("scale"),
            operations: &[Operation::Update],
        },
        target("", "Pod", "pods", CHANGES),
        target("", "ConfigMap", "configmaps", CHANGES),
        target(
            "policy",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            &[Operation::Create, Operation::Update, Operation::Delete],
        ),
    ];
    const MUTATES: bool = true;

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            max: settings.get("max").int64()?.unwrap_or(5),
            labels: texts(&settings.get("labels"))?,
            also: settings.get("also").string()?.map(str::to_owned),
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.max < 1 {
            return Err(SettingsError::new("max", format!("Invalid value: {}: must be at least 1", self.max)));
        }
        Ok(())
    }

    fn also_targets(&self, request: &Request) -> bool {
        request.kind.group == "example.com" && Some(&request.kind.kind) == self.also.as_ref()
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let mut findings = Vec::new();
        if review.is_delete() {
            findings.push(
                Finding::error("deleted", Path::fields("metadata.name"), Problem::Forbidden, "must stay")
                    .fix(vec![Edit::set(Path::fields("metadata.labels").key("deleted"), "true")]),
            );
        }
        self.labels(review, &mut findings)?;
        self.count(review, &mut findings)?;
        pods(review, &mut findings)?;
        service(review, &mut findings)?;
        cluster(review, &mut findings)?;
        Ok(findings)
    }
}

/// What the object asks of the rule itself, so that a test can say so in the object.
fn wish<'a>(review: &Review<'a>, name: &str) -> Result<Option<&'a str>, Malformed> {
    review.object.dig("metadata.annotations")?.entry(name)?.string()
}

impl Probe {
    /// Every label of the settings must be there.
    fn labels(&self, review: &Review<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        let labels = review.object.dig("metadata.labels")?;
        for label in &self.labels {
            let node = labels.entry(label)?;
            if node.is_absent() {
                findings.push(
                    Finding::error("no-label", node.path(), Problem::Required, "must be there")
                        .about(label.as_str())
                        .why("whoever is woken at night must know whose it is")
                        .advise("write the team that owns it")
                        .fix(vec![Edit::set(node.path(), "unknown")]),
                );
            }
        }
        Ok(())
    }

    /// A count above the highest is the worse the higher it is; one of 100 and more cannot be mended.
    fn count(&self, review: &Review<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
        let replicas = review.object.dig("spec.replicas")?;
        let Some(count) = replicas.int64()?.filter(|count| *count > self.max) else { return Ok(()) };
        let edits = if count < 100 { vec![Edit::set(replicas.path(), self.max)] } else { Vec::new() };
        findings.push(
            Finding::error("too-many", replicas.path(), Problem::Invalid(count.into()), "too many")
                .measure(count)
                .advise(format!("set it to {}", self.max))
                .fix(edits),
        );
        if let Some(old) = &review.old {
            let before = old.dig("spec.replicas")?.int64()?.unwrap_or(1);
            review.note(format!("was {before}"));
        }
        Ok(())
    }
}

/// Images without a fixed tag, and dangerous arguments, in every container.
fn pods(review: &Review<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
    for container in containers(&review.pod_spec()?)? {
        let image = container.node.get("image")?;
        if let Some(name) = container.image.strip_suffix(":latest") {
            findings.push(
                Finding::error("latest", image.path(), Problem::Invalid(container.image.into()), "not fixed")
                    .about(container.name)
                    .in_container(container.name, container.image)
                    .fix(vec![Edit::set(image.path(), format!("{name}:1"))]),
            );
        }
        for argument in container.node.get("args")?.items()? {
            let Some(text) = argument.string()?.filter(|text| text.starts_with("--unsafe")) else { continue };
            findings.push(
                Finding::error("unsafe", argument.path(), Problem::Forbidden, "unsafe")
                    .about(format!("{} {text}", container.name))
                    .fix(vec![Edit::remove(argument.path())]),
            );
        }
    }
    Ok(())
}

/// A set with an annotation of that name has a field wrong that Kubernetes does not let anybody change.
fn service(review: &Review<'_>, findings: &mut Vec<Finding>) -> Result<(), Malformed> {
    if let Some(reason) = wish(review, "wish/immutable")? {
        findings.push(
            Finding::error("no-service", Path::fields("spec.serviceName"), Problem::Required, reason)
                .advise("make the set anew")
                .immutable(),
        );
    }
    if let Some(text) = wish(review, "wish/warning")? {
        findings.push(Finding::warning("told", Path::fields("metadata.name"), Problem::Forbidden, text));
    }
    if let Some(text) = wish(review, "wish/note")? {
        review.note(text);
        review.note(text);
    }
    if wish(review, "quorate.dev/quorum")?.is_some() {
        let quorum = match &review.old {
            Some(old) => review.quorum(old).and_then(|_| review.quorum(&review.object)),
            None => review.quorum(&review.object),
        }?;
        review.note(quorum.explain());
    }
    Ok(())
}

/// What the object wants to be looked up.
fn cluster(review: &Review<'_>, findings: &mut Vec<Finding>) -> Result<(), Fault> {
    if wish(review, "wish/budgets")?.is_some() {
        let _first = review.cluster.list(&DISRUPTION_BUDGETS)?;
        for budget in review.cluster.list(&DISRUPTION_BUDGETS)? {
            review.note(format!("budget {}{}", budget.name(), if budget.is_judged() { ", judged" } else { "" }));
            let object = Node::root(budget.value());
            let Some(unsound) = object.dig("spec.minAvailable")?.int64()?.filter(|min| *min > 9) else { continue };
            let reference = ObjectRef {
                api_version: "policy/v1".to_owned(),
                kind: "PodDisruptionBudget".to_owned(),
                namespace: review.cluster.namespace().to_owned(),
                name: budget.name().to_owned(),
            };
            let place = Path::fields("spec.minAvailable");
            findings.push(
                Finding::error("unsound", place, Problem::Invalid(unsound.into()), "too much")
                    .measure(unsound)
                    .at(Some(reference).filter(|_| !budget.is_judged())),
            );
        }
    }
    if wish(review, "wish/sets")?.is_some() {
        for set in review.cluster.list(&STATEFUL_SETS)? {
            let replicas = Node::root(set.value()).dig("spec.replicas")?.int64()?.unwrap_or(-1);
            review.note(format!("set {} {replicas}", set.name()));
        }
    }
    if let Some(name) = wish(review, "wish/config")? {
        let _first = review.cluster.get("v1", "ConfigMap", name)?;
        match review.cluster.get("v1", "ConfigMap", name)? {
            None => findings.push(
                Finding::error("no-config", Path::fields("metadata.annotations"), Problem::Required, "no such config")
                    .about(name),
            ),
            Some(config) => {
                let data = Node::root(&config).dig("data.value")?.string()?.unwrap_or_default();
                review.note(format!("config {data}"));
            }
        }
    }
    Ok(())
}

/// A host that holds some objects, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct FakeHost {
    /// By kind.
    objects: BTreeMap<String, Vec<Value>>,
    /// What it answers instead, by kind.
    refusals: BTreeMap<String, String>,
    /// Every call: the operation and its payload.
    pub(crate) calls: RefCell<Vec<(String, Value)>>,
}

impl FakeHost {
    pub(crate) fn with(mut self, object: Value) -> Self {
        let kind = object["kind"].as_str().unwrap().to_owned();
        self.objects.entry(kind).or_default().push(object);
        self
    }

    pub(crate) fn refusing(mut self, kind: &str, text: &str) -> Self {
        self.refusals.insert(kind.to_owned(), text.to_owned());
        self
    }

    /// The text with which the real host refuses what the administrator has not granted.
    pub(crate) fn granting_nothing(kinds: &[&str]) -> Self {
        kinds.iter().fold(Self::default(), |host, kind| {
            host.refusing(
                kind,
                &format!(
                    "Host error: Policy has not been granted access to Kubernetes x/{kind} resources. The violation has been reported."
                ),
            )
        })
    }
}

impl Host for FakeHost {
    fn call(&self, namespace: &str, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        assert_eq!(namespace, "kubernetes");
        let payload: Value = serde_json::from_slice(payload).unwrap();
        self.calls.borrow_mut().push((operation.to_owned(), payload.clone()));
        let kind = payload["kind"].as_str().unwrap();
        if let Some(text) = self.refusals.get(kind) {
            return Err(text.clone());
        }
        let none = Vec::new();
        let objects = self.objects.get(kind).unwrap_or(&none);
        match operation {
            "list_resources_by_namespace" => Ok(json!({ "items": objects }).to_string().into_bytes()),
            "get_resource" => {
                let found = objects.iter().find(|object| object["metadata"]["name"] == payload["name"]);
                let missing = || {
                    let name = payload["name"].as_str().unwrap();
                    format!(
                        "Host error: Callback evaluation failure: Cannot find v1/{kind} named '{name}' inside of namespace 'Some(\"a\")'"
                    )
                };
                found.map(|object| object.to_string().into_bytes()).ok_or_else(missing)
            }
            other => Err(format!("unknown operation: {other}")),
        }
    }
}

/// What the kit answered.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) accepted: bool,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) mutated_object: Option<Value>,
    #[serde(default)]
    pub(crate) audit_annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    /// Accepted, and not a word.
    pub(crate) fn is_silent(&self) -> bool {
        *self == Self { accepted: true, ..Self::default() }
    }

    pub(crate) fn findings(&self) -> Vec<Value> {
        self.audit_annotations.get("findings").map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
    }

    /// Level and code of every finding.
    pub(crate) fn codes(&self) -> Vec<String> {
        let field = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        self.findings()
            .iter()
            .map(|finding| format!("{} {}", field(finding, "level"), field(finding, "code")))
            .collect()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.audit_annotations.get("notes").map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
    }
}

/// One question to the probe.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) request: Value,
    pub(crate) settings: Value,
}

impl Ask {
    fn new(operation: &str, object: &Value) -> Self {
        let api_version = object["apiVersion"].as_str().unwrap();
        let (group, version) = kind::split_api_version(api_version).unwrap();
        let kind = object["kind"].as_str().unwrap();
        let plural = format!("{}s", kind.to_lowercase());
        Self {
            request: json!({
                "uid": "1",
                "kind": { "group": group, "version": version, "kind": kind },
                "resource": { "group": group, "version": version, "resource": plural },
                "name": object["metadata"]["name"],
                "namespace": "a",
                "operation": operation,
                "userInfo": { "username": "eve" },
            }),
            settings: json!({}),
        }
    }

    pub(crate) fn create(object: &Value) -> Self {
        Self::new("CREATE", object).field("object", object.clone())
    }

    pub(crate) fn update(old: &Value, object: &Value) -> Self {
        Self::new("UPDATE", object).field("object", object.clone()).field("oldObject", old.clone())
    }

    pub(crate) fn delete(object: &Value) -> Self {
        Self::new("DELETE", object).field("oldObject", object.clone())
    }

    /// An UPDATE of `statefulsets/scale`, with what the two Scales' specs are.
    pub(crate) fn scale(name: &str, old: &Value, new: &Value) -> Self {
        let scale = |spec: &Value| json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": name, "namespace": "a" }, "spec": spec });
        Self::update(&scale(old), &scale(new))
            .field("resource", json!({ "group": "apps", "version": "v1", "resource": "statefulsets" }))
            .field("subResource", json!("scale"))
    }

    pub(crate) fn field(mut self, name: &str, value: Value) -> Self {
        self.request[name] = value;
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.request.as_object_mut().unwrap().remove(name);
        self
    }

    pub(crate) fn user(self, name: &str) -> Self {
        self.field("userInfo", json!({ "username": name }))
    }

    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        self.settings[key] = value;
        self
    }

    pub(crate) fn answer(&self) -> Answer {
        self.answer_of(&FakeHost::default())
    }

    pub(crate) fn answer_of(&self, host: &FakeHost) -> Answer {
        ask(json!({ "request": self.request, "settings": self.settings }).to_string().as_bytes(), host)
    }
}

/// The answer to any bytes.
pub(crate) fn ask(payload: &[u8], host: &FakeHost) -> Answer {
    let bytes = policy::validate::<Probe>(payload, host);
    serde_json::from_slice(&bytes).unwrap()
}

/// A stateful set with this many replicas, which nothing is wrong with up to 5.
pub(crate) fn set(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": "zk", "namespace": "a", "labels": { "app": "zk" } },
        "spec": {
            "replicas": replicas,
            "template": {
                "metadata": { "labels": { "app": "zk" } },
                "spec": { "containers": [{ "name": "zookeeper", "image": "zookeeper:3.9" }] },
            },
        },
    })
}

/// `object` with this annotation.
pub(crate) fn annotated(mut object: Value, key: &str, value: &str) -> Value {
    object["metadata"]["annotations"][key] = json!(value);
    object
}

/// A set with these containers, as pairs of name and image.
pub(crate) fn set_of(containers: &[(&str, &str)]) -> Value {
    let mut object = set(3);
    let containers: Vec<Value> =
        containers.iter().map(|(name, image)| json!({ "name": name, "image": image })).collect();
    object["spec"]["template"]["spec"]["containers"] = json!(containers);
    object
}

/// A budget that wants so many pods.
pub(crate) fn budget(name: &str, min: i64) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name, "namespace": "a" }, "spec": { "minAvailable": min },
    })
}
