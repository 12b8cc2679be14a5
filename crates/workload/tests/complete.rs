//! The completed copy against the answers of a real API server.
//!
//! Each file of `data/complete` holds an object and what the API server of Kubernetes 1.36.3, with its default feature
//! gates, made of it. For a kind with a template it also holds what the server made of the Pod that the template
//! describes. To ask again: `QUORATE_CAPTURE=<kubeconfig> cargo test -p workload --test complete`, with that server's
//! `kubectl` on `PATH`.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails; clippy sees only the test functions themselves")]

use std::borrow::Cow;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use workload::complete::complete;
use workload::kind::{pod_place, split_api_version};
use workload::quantity::Quantity;
use workload::{Node, Path};

/// What the server adds and no rule reads, or what only the server can know.
const LEFT_OUT: &[&str] = &[
    // Of the object.
    "annotations",
    "apiVersion",
    "creationTimestamp",
    "generation",
    "kind",
    "namespace",
    "status",
    "uid",
    // The labels of a job's own making.
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
    // Of a pod.
    "dnsPolicy",
    "enableServiceLinks",
    "preemptionPolicy",
    "priority",
    "securityContext",
    "tolerations",
    // Of its containers and volumes.
    "defaultMode",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMode",
    // Of workloads.
    "backoffLimit",
    "completionMode",
    "completions",
    "concurrencyPolicy",
    "failedJobsHistoryLimit",
    "manualSelector",
    "parallelism",
    "podReplacementPolicy",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
    "successfulJobsHistoryLimit",
    "suspend",
    // Of autoscalers.
    "metrics",
    "targetCPUUtilizationPercentage",
];

/// What the server writes although it says nothing.
const EMPTY: &[&str] = &["metadata", "resources", "serviceName"];

struct Case {
    name: String,
    file: PathBuf,
    content: Value,
}

impl Case {
    fn all() -> Vec<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/complete");
        let mut cases: Vec<Self> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let file = entry.unwrap().path();
                let content = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
                Self { name: file.file_stem().unwrap().to_string_lossy().into_owned(), file, content }
            })
            .collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(cases.len() >= 38, "only {} cases", cases.len());
        cases
    }

    fn object(&self) -> &Value {
        &self.content["object"]
    }

    /// Group and kind.
    fn kind(&self) -> (&str, &str) {
        let (group, _) = split_api_version(self.object()["apiVersion"].as_str().unwrap()).unwrap();
        (group, self.object()["kind"].as_str().unwrap())
    }

    fn completed(&self) -> Value {
        let (group, kind) = self.kind();
        complete(group, kind, self.object()).into_owned()
    }

    /// The path of the pod template, for the kinds that have one.
    fn template(&self) -> Option<Path> {
        let (group, kind) = self.kind();
        let spec = pod_place(group, kind)?.spec;
        let dotted = spec.to_string();
        dotted.strip_suffix(".spec").filter(|template| template.ends_with("emplate")).map(Path::parse)
    }

    fn capture(&mut self, kubeconfig: &str) {
        let answer = ask(kubeconfig, self.object());
        let pod = self.template().map(|template| {
            let template = Node::root(self.object()).follow(template).unwrap().value().unwrap();
            let labels = template["metadata"]["labels"].clone();
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "zk", "labels": labels },
                "spec": template["spec"],
            });
            ask(kubeconfig, &pod)
        });
        self.content["server"] = json!("kube-apiserver 1.36.3");
        self.content["answer"] = answer;
        if let Some(pod) = pod {
            self.content["pod"] = pod;
        }
        fs::write(&self.file, serde_json::to_string_pretty(&self.content).unwrap() + "\n").unwrap();
    }
}

/// What the API server would store for `object`.
fn ask(kubeconfig: &str, object: &Value) -> Value {
    let mut kubectl = Command::new("kubectl")
        .args(["--kubeconfig", kubeconfig, "create", "--dry-run=server", "--validate=ignore", "-o", "json", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    kubectl.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = kubectl.wait_with_output().unwrap();
    assert!(output.status.success(), "kubectl refused {object}");
    let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    // These differ at each asking; a job's labels hold its uid.
    answer["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
    let uid = answer["metadata"]["uid"].as_str().unwrap();
    serde_json::from_str(&answer.to_string().replace(uid, "00000000-0000-0000-0000-000000000000")).unwrap()
}

/// Every place where `ours` and `theirs` differ, save what is [`LEFT_OUT`].
fn differences(path: Path, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(our_fields), Value::Object(their_fields)) => {
            for (name, our) in our_fields {
                match their_fields.get(name) {
                    Some(their) => differences(path.field(name.clone().leak()), our, their, found),
                    // The server drops what it does not know, and what says nothing.
                    None if name == "futureField" || says_nothing(our) => {}
                    None => found.push(format!("{path}: ours alone has {name}: {our}")),
                }
            }
            for (name, their) in their_fields {
                let is_left_out = |names: &[&str]| names.contains(&name.as_str());
                let expected = is_left_out(LEFT_OUT) || (is_left_out(EMPTY) && says_nothing(their));
                if !our_fields.contains_key(name) && !expected {
                    found.push(format!("{path}: the server alone has {name}: {their}"));
                }
            }
        }
        (Value::Array(our_items), Value::Array(their_items)) if our_items.len() == their_items.len() => {
            for (index, (our, their)) in our_items.iter().zip(their_items).enumerate() {
                differences(path.index(index), our, their, found);
            }
        }
        (our, their) if our == their => {}
        (our, their) if is_amount(path) => {
            let quantity = |value| Quantity::of_value(value).unwrap().rounded_up(workload::quantity::MILLI);
            if quantity(our) != quantity(their) {
                found.push(format!("{path}: {our} and {their}"));
            }
        }
        (our, their) => found.push(format!("{path}: {our} and {their}")),
    }
}

fn is_amount(path: Path) -> bool {
    let path = path.to_string();
    path.contains("resources.limits.") || path.contains("resources.requests.")
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[test]
fn the_completed_copy_is_what_the_server_makes_of_the_object() {
    let mut failures = Vec::new();
    for mut case in Case::all() {
        if let Ok(kubeconfig) = std::env::var("QUORATE_CAPTURE") {
            case.capture(&kubeconfig);
        }
        let mut completed = case.completed();
        let mut answer = case.content["answer"].clone();
        let mut found = Vec::new();
        if let Some(template) = case.template() {
            let pod = completed.pointer_mut(&template.pointer()).unwrap().take();
            let theirs = answer.pointer_mut(&template.pointer()).unwrap().take();
            differences(template.field("spec"), &pod["spec"], &case.content["pod"]["spec"], &mut found);
            assert!(theirs.is_object(), "{}", case.name);
        }
        if case.kind() == ("batch", "Job") {
            // Made of the job's uid.
            answer["spec"].as_object_mut().unwrap().remove("selector");
        }
        differences(Path::root(), &completed, &answer, &mut found);
        failures.extend(found.into_iter().map(|difference| format!("{}: {difference}", case.name)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn completing_again_changes_nothing() {
    for case in Case::all() {
        let (group, kind) = case.kind();
        let once = case.completed();
        assert_eq!(complete(group, kind, &once), Cow::Owned(once.clone()) as Cow<'_, Value>, "{}", case.name);
        // Nor does completing what the server has completed.
        let answer = &case.content["answer"];
        let again = complete(group, kind, answer);
        let mut found = Vec::new();
        if case.template().is_none() {
            differences(Path::root(), &again, answer, &mut found);
        }
        assert_eq!(found, Vec::<String>::new(), "{}", case.name);
    }
}

#[test]
fn nothing_is_lost_or_changed_that_was_there() {
    for case in Case::all() {
        kept(Path::root(), case.object(), &case.completed(), &case.name);
    }
}

/// Whatever `before` says, `after` says too: nulls, zeros and empty texts may have become defaults.
fn kept(path: Path, before: &Value, after: &Value, case: &str) {
    match (before, after) {
        (Value::Object(fields), Value::Object(_)) => {
            for (name, value) in fields {
                kept(path.field(name.clone().leak()), value, after.get(name).unwrap_or(&json!("nothing")), case);
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            assert!(items.len() <= others.len(), "{case}: {path}");
            for (index, (item, other)) in items.iter().zip(others).enumerate() {
                kept(path.index(index), item, other, case);
            }
        }
        (before, after) => {
            let is_negative = before.as_i64().is_some_and(|number| number < 0);
            assert!(before == after || says_nothing(before) || is_negative, "{case}: {path}: {before} became {after}");
        }
    }
}

#[test]
fn wrong_types_stay_as_they_are_wherever_they_stand() {
    for case in Case::all() {
        let (group, kind) = case.kind();
        let mut places = Vec::new();
        pointers(&case.completed(), String::new(), &mut places);
        for pointer in places {
            for wrong in [json!(1.5), json!("text"), json!([[]]), json!([null, 1, {}]), json!({ "x": [] }), json!(-1)] {
                let mut object = case.completed();
                *object.pointer_mut(&pointer).unwrap() = wrong.clone();
                let completed = complete(group, kind, &object).into_owned();
                if !wrong.is_object() && !wrong.is_array() && !pointer.ends_with("/terminationGracePeriodSeconds") {
                    assert_eq!(completed.pointer(&pointer), Some(&wrong), "{}: {pointer}", case.name);
                }
                assert_eq!(*complete(group, kind, &completed), completed, "{}: {pointer}: {wrong}", case.name);
            }
        }
    }
}

fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                pointers(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
    all.push(at);
}

#[test]
fn other_kinds_and_other_groups_are_left_alone() {
    let object = json!({ "spec": { "template": { "spec": { "containers": [{}] } } } });
    for (group, kind) in [("", "Service"), ("batch.volcano.sh", "Job"), ("policy", "PodDisruptionBudget")] {
        assert!(matches!(complete(group, kind, &object), Cow::Borrowed(_)), "{group}/{kind}");
    }
    for odd in [Value::Null, json!([]), json!("pod")] {
        assert_eq!(*complete("", "Pod", &odd), odd);
    }
    let without_template = json!({ "spec": { "selector": {}, "template": null } });
    let completed = complete("", "ReplicationController", &without_template);
    assert_eq!(*completed, json!({ "spec": { "replicas": 1, "selector": {}, "template": null } }));
}
