//! `non-root` and the users that containers run as.

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::non_root::generated_pod;
use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{chance, created, one, pod_spec, put, subject};
use crate::room::Stage;
use crate::rules::{Change, Found, Rules, Said};

/// `profile: non-root` accepts nothing that runs as root on its node.
pub(super) struct RootUsers;

const KINDS: [&str; 9] = [
    "Pod",
    "PodTemplate",
    "StatefulSet",
    "Deployment",
    "DaemonSet",
    "Job",
    "CronJob",
    "ReplicaSet",
    "ReplicationController",
];

impl Claim for RootUsers {
    fn about(&self) -> About {
        About {
            name: "root-users",
            policies: &["non-root"],
            claims: "What `profile: non-root` accepts has, as the API server stores it, no container that is told to run as user 0 and none of \
                     which nobody says as whom it runs: each has a `runAsUser` other than 0, or `runAsNonRoot: true`, by which the kubelet refuses \
                     an image that is root; or the pod has a user namespace of its own. What it denies has such a container, or says somewhere in so many words \
                     that it may be root. (Linux; what the kubelet then does is not seen here.)",
            tried: "the object, a pod or any kind with a template of pods, is created as a dry run, and what would be stored, with its defaults, is \
                    read independently of the rule: container over pod, init containers and sidecars included. Ephemeral containers are not: nothing \
                    can be created with them.",
            count: 2000,
            at_once: 16,
            // `no-fs-group` is about storage drivers, which are not there; the other codes are those of the claim pod-security.
            codes: &["root-user", "root-allowed", "may-be-root", "malformed"],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let cases = created("non-root", &KINDS)?.into_iter().map(|case| {
            let mut subject = subject(case);
            let relaxes = subject.settings["hostUsersRelaxes"].as_bool();
            subject.settings = settings(relaxes);
            subject.settings["ownedObjects"] = "enforce".into();
            subject
        });
        Ok(cases.collect())
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let mut pod = if chance(random, 30) { generated_pod(random) } else { users(random) };
        if let Some(spec) = pod["spec"].as_object_mut()
            && spec.get("os").is_some_and(|os| os["name"] == "windows")
        {
            spec.remove("os");
        }
        let settings = settings(one(random, &[None, Some(true), Some(false), Some(false)]).flatten());
        let object = if chance(random, 30) { owner(random, &pod) } else { pod };
        Subject { name: String::new(), objects: vec![object], settings, facts: Value::Null }
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        rules.ask("non-root", &subject.settings, Change::Create(&subject.objects[0]), &[])
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let mut object = subject.objects[0].clone();
            object["metadata"]["namespace"] = "default".into();
            let stored = match stage.api.dry_run(&object).await {
                Ok(stored) => stored,
                // What cannot be read at all; what is invalid for another reason says nothing.
                Err(refusal) if refusal.code == 400 => return Ok(json!({ "unreadable": refusal.message })),
                Err(refusal) => return Err(refusal.into()),
            };
            let spec = pod_spec(&stored).and_then(|path| stored.pointer(path));
            let spec = spec.ok_or_else(|| Trouble::Unplayable("no pod in it".to_owned()))?;
            if spec["os"]["name"] == "windows" {
                return Err(Trouble::Unplayable("Windows knows no uid".to_owned()));
            }
            let reading = Reading::of(spec, &CONTAINERS, false);
            Ok(json!({
                "root": reading.root,
                "undecided": reading.undecided,
                "explicit": reading.explicit,
                "namespaced": spec["hostUsers"] == false,
            }))
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        if said.accepted { Stance::Accepts } else { Stance::Denies }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        if let Some(why) = seen["unreadable"].as_str() {
            return said.accepted.then(|| format!("the rule accepts what the API server cannot read: {why}"));
        }
        if said.denies("malformed") {
            return Some("the rule cannot read what the API server can".to_owned());
        }
        let is = |name: &str| seen[name].as_array().is_some_and(|found| !found.is_empty());
        let is_relaxed = seen["namespaced"] == true && subject.settings["hostUsersRelaxes"] != false;
        if said.accepted {
            let is_root = is("root") || is("undecided");
            return (is_root && !is_relaxed).then(|| "accepted, and may run as root on the node".to_owned());
        }
        if is_relaxed {
            return Some("denied, in a user namespace of its own".to_owned());
        }
        if said.denies("may-be-root") != is("undecided") {
            return Some("the rule and the stored object differ on whether an image decides".to_owned());
        }
        // Every place where somebody says so, and no other.
        let mut told: Vec<&str> = said
            .findings
            .iter()
            .filter(|found| ["root-user", "root-allowed"].contains(&found.code.as_str()))
            .map(|found| found.path.as_str())
            .collect();
        told.sort_unstable();
        let prefix = pod_spec(&subject.objects[0]).unwrap_or_default();
        let mut explicit: Vec<String> = seen["explicit"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|path| format!("{prefix}{path}"))
            .collect();
        explicit.sort_unstable();
        (told != explicit).then(|| format!("the rule finds root said at {told:?}, it is said at {explicit:?}"))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "init containers run before the pod does",
                says: |subject, said| judged(subject, said, &CONTAINERS[1..], false),
            },
            Wrong {
                name: "the pod's word precedes the container's",
                says: |subject, said| judged(subject, said, &CONTAINERS, true),
            },
            Wrong {
                name: "whoever names no user is no root",
                says: |_, said| {
                    let mut said = said.clone();
                    said.findings.retain(|found| found.code != "may-be-root");
                    said.accepted = !said.findings.iter().any(|found| found.level == "error");
                    said
                },
            },
            Wrong {
                name: "root in a user namespace is root on the node",
                says: |subject, said| {
                    let spec = pod_spec(&subject.objects[0]).and_then(|path| subject.objects[0].pointer(path));
                    let reading = spec.map(|spec| Reading::of(spec, &CONTAINERS, false));
                    if said.accepted && reading.is_some_and(|reading| !reading.is_sound()) {
                        said.but(false)
                    } else {
                        said.clone()
                    }
                },
            },
            Wrong {
                name: "every pod may have a user namespace, and be root in it",
                says: |_, said| {
                    let of_users =
                        |found: &Found| ["root-user", "root-allowed", "may-be-root"].contains(&found.code.as_str());
                    if said.findings.iter().any(of_users) { said.but(true) } else { said.clone() }
                },
            },
        ]
    }
}

fn settings(relaxes: Option<bool>) -> Value {
    let mut settings = json!({ "profile": "non-root" });
    if let Some(relaxes) = relaxes {
        settings["hostUsersRelaxes"] = relaxes.into();
    }
    settings
}

/// The lists of containers.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Who runs as whom, read from a pod's spec by this file alone.
#[derive(Default)]
struct Reading {
    /// The containers that are told to run as user 0.
    root: Vec<String>,
    /// Those of which nobody says anything.
    undecided: Vec<String>,
    /// Where somebody says root in so many words, effective or not.
    explicit: Vec<String>,
}

impl Reading {
    fn of(spec: &Value, lists: &[&str], pod_first: bool) -> Self {
        let mut reading = Self::default();
        let pod = &spec["securityContext"];
        reading.explicit_in(pod, "/securityContext");
        for list in lists {
            for (index, container) in spec[*list].as_array().into_iter().flatten().enumerate() {
                let own = &container["securityContext"];
                reading.explicit_in(own, &format!("/{list}/{index}/securityContext"));
                let (first, second) = if pod_first { (pod, own) } else { (own, pod) };
                let user = first["runAsUser"].as_i64().or_else(|| second["runAsUser"].as_i64());
                let non_root = first["runAsNonRoot"].as_bool().or_else(|| second["runAsNonRoot"].as_bool());
                let name = format!("{list}/{}", container["name"].as_str().unwrap_or_default());
                match (user, non_root) {
                    (Some(0), _) => reading.root.push(name),
                    (None, None) => reading.undecided.push(name),
                    _ => {}
                }
            }
        }
        reading
    }

    fn explicit_in(&mut self, context: &Value, at: &str) {
        if context["runAsUser"] == 0 {
            self.explicit.push(format!("{at}/runAsUser"));
        }
        if context["runAsNonRoot"] == false {
            self.explicit.push(format!("{at}/runAsNonRoot"));
        }
    }

    fn is_sound(&self) -> bool {
        self.root.is_empty() && self.undecided.is_empty() && self.explicit.is_empty()
    }
}

/// What a rule says that reads the pod in another way, where that makes a difference.
fn judged(subject: &Subject, said: &Said, lists: &[&str], pod_first: bool) -> Said {
    let object = &subject.objects[0];
    let Some(spec) = pod_spec(object).and_then(|path| object.pointer(path)) else { return said.clone() };
    let is_of_users = |found: &Found| ["root-user", "root-allowed", "may-be-root"].contains(&found.code.as_str());
    let reading = Reading::of(spec, lists, pod_first);
    // Only what is effective: where a word stands that nobody obeys is another matter.
    let is_sound = reading.root.is_empty() && reading.undecided.is_empty();
    let is_relaxed = spec["hostUsers"] == false && subject.settings["hostUsersRelaxes"] != false;
    if !said.accepted && said.findings.iter().any(is_of_users) && is_sound && !is_relaxed {
        return said.but(true);
    }
    if said.accepted && !is_sound && !is_relaxed { said.but(false) } else { said.clone() }
}

/// A pod that is about users and nothing else.
pub(super) fn users(random: &mut Rng) -> Value {
    let bad = one(random, &[0, 0, 5, 20, 60]).unwrap_or_default();
    let context = |random: &mut Rng, silent: u32| {
        let mut context = json!({});
        if chance(random, silent) {
            return if random.bool() { context } else { Value::Null };
        }
        let wrong = chance(random, bad);
        let user = if wrong {
            vec![json!(0), Value::Null]
        } else {
            vec![Value::Null, json!(1), json!(1000), json!(2_147_483_647)]
        };
        put(random, &mut context, "runAsUser", &user);
        let wrong = chance(random, bad);
        let non_root =
            if wrong { vec![json!(false), Value::Null] } else { vec![Value::Null, json!(true), json!(true)] };
        put(random, &mut context, "runAsNonRoot", &non_root);
        for field in ["runAsUser", "runAsNonRoot"] {
            if context[field].is_null() && chance(random, 10) {
                context[field] = Value::Null;
            }
        }
        put(random, &mut context, "runAsGroup", &[Value::Null, Value::Null, json!(0), json!(1000)]);
        context
    };
    let mut spec = json!({});
    put(random, &mut spec, "hostUsers", &[Value::Null, Value::Null, Value::Null, json!(true), json!(false)]);
    let silent = one(random, &[10, 10, 90]).unwrap_or_default();
    spec["securityContext"] = context(random, silent);
    for (list, most) in [("containers", 3), ("initContainers", 2)] {
        let fewest = usize::from(list == "containers");
        let count = random.usize(fewest..=most);
        let mut containers = Vec::new();
        for index in 0..count {
            let mut container = json!({ "name": format!("{}-{index}", list.to_lowercase()), "image": "zookeeper:3.9" });
            let context = context(random, 60);
            if !context.is_null() {
                container["securityContext"] = context;
            }
            if list == "initContainers" && chance(random, 40) {
                container["restartPolicy"] = "Always".into();
            }
            containers.push(container);
        }
        if count > 0 {
            spec[list] = containers.into();
        }
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "member" }, "spec": spec })
}

/// Something whose template is this pod.
pub(super) fn owner(random: &mut Rng, pod: &Value) -> Value {
    let labels = json!({ "app": "zk" });
    let mut template = json!({ "metadata": { "labels": labels }, "spec": pod["spec"] });
    if pod["metadata"]["annotations"].is_object() {
        template["metadata"]["annotations"] = pod["metadata"]["annotations"].clone();
    }
    let selector = json!({ "matchLabels": labels });
    let metadata = json!({ "name": "zk" });
    match random.u32(..6) {
        0 => {
            template["spec"]["restartPolicy"] = "Never".into();
            json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": { "template": template } })
        }
        1 => {
            template["spec"]["restartPolicy"] = "OnFailure".into();
            let job = json!({ "spec": { "template": template } });
            json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": { "schedule": "0 0 * * *", "jobTemplate": job } })
        }
        2 => json!({ "apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": template }),
        3 => {
            json!({ "apiVersion": "v1", "kind": "ReplicationController", "metadata": metadata, "spec": { "template": template } })
        }
        other => {
            let kind = if other == 4 { "Deployment" } else { "StatefulSet" };
            json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": { "selector": selector, "template": template } })
        }
    }
}
