//! `non-root` and Pod Security.

use std::collections::BTreeSet;

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{chance, created, one, pod, put, subject};
use crate::room::Stage;
use crate::rules::{Change, Found, Rules, Said};

/// The controls of Pod Security whose field lies in a securityContext, each with the codes of the rule that speak of it.
const CONTROLS: [(&str, &[&str]); 11] = [
    ("allowPrivilegeEscalation != false", &["privilege-escalation"]),
    ("forbidden AppArmor profile", &["apparmor", "apparmor-annotation"]),
    ("forbidden sysctls", &["sysctl"]),
    ("hostProcess", &["host-process"]),
    ("privileged", &["privileged"]),
    ("procMount", &["proc-mount"]),
    ("runAsNonRoot != true", &["root-allowed", "may-be-root"]),
    ("runAsUser=0", &["root-user"]),
    ("seLinuxOptions", &["selinux-type", "selinux-user", "selinux-role"]),
    ("seccompProfile", &["no-seccomp", "seccomp"]),
    ("unrestricted capabilities", &["capabilities-kept", "capability-added"]),
];

/// What Pod Security asks beyond securityContexts, which the rule leaves to it.
const BEYOND: [&str; 6] = [
    "host namespaces",
    "hostPath volumes",
    "hostPort",
    "restricted volume types",
    "hostProbesAndHostLifecycle",
    "probe or lifecycle host",
];

/// The namespace that enforces the standard.
const NAMESPACE: &str = "restricted";

/// `profile: restricted` decides each control as Pod Security does.
pub(super) struct Restricted;

impl Claim for Restricted {
    fn about(&self) -> About {
        About {
            name: "pod-security",
            policies: &["non-root"],
            claims: "With `profile: restricted`, a pod is denied for exactly those controls of the Restricted standard, among those whose field \
                     lies in a securityContext, that Pod Security itself finds violated; and accepted where it finds none.",
            tried: "the pod is created as a dry run in a namespace that enforces the standard, and the controls that Pod Security names \
                    are compared with the rule's, one by one. Pods are generated for Linux and Windows, with and without user namespaces, with \
                    init containers and sidecars, with nulls, empty and wrong values.",
            count: 2000,
            at_once: 16,
            codes: &[
                "privilege-escalation",
                "apparmor",
                "apparmor-annotation",
                "sysctl",
                "host-process",
                "privileged",
                "proc-mount",
                "root-allowed",
                "may-be-root",
                "root-user",
                "selinux-type",
                "selinux-user",
                "selinux-role",
                "no-seccomp",
                "seccomp",
                "capabilities-kept",
                "capability-added",
            ],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let kinds = ["Pod", "StatefulSet", "Deployment", "DaemonSet", "Job", "CronJob", "ReplicaSet"];
        let cases = created("non-root", &kinds)?;
        // Every case is asked about as a pod, by the standard: what its own settings make of it is another claim's.
        let pods = cases.into_iter().filter_map(|case| {
            let mut subject = subject(case);
            let pod = pod(&subject.objects[0])?;
            subject.objects = vec![pod];
            subject.settings = json!({ "profile": "restricted" });
            Some(subject)
        });
        Ok(pods.collect())
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let pod = generated_pod(random);
        Subject {
            name: String::new(),
            objects: vec![pod],
            settings: json!({ "profile": "restricted" }),
            facts: Value::Null,
        }
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        rules.ask("non-root", &subject.settings, Change::Create(&subject.objects[0]), &[])
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
            stage.lasting_namespace(NAMESPACE, &labels).await?;
            let mut pod = subject.objects[0].clone();
            if is_newer(&pod, &stage.api.get("/version").await?) {
                return Err(Trouble::Unplayable(
                    "it sets a sysctl that is safe since a newer Kubernetes only".to_owned(),
                ));
            }
            // Whether the object is valid at all is seen where nothing is enforced.
            pod["metadata"]["namespace"] = "default".into();
            stage.api.dry_run(&pod).await?;
            pod["metadata"]["namespace"] = NAMESPACE.into();
            let violated = match stage.api.dry_run(&pod).await {
                Ok(_) => BTreeSet::new(),
                Err(refusal) => match refusal.message.split_once("violates PodSecurity \"restricted:latest\": ") {
                    Some((_, controls)) => controls_in(controls)?,
                    None => return Err(refusal.into()),
                },
            };
            Ok(json!({ "violated": violated }))
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        if said.accepted { Stance::Accepts } else { Stance::Denies }
    }

    fn contradiction(&self, _subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        // Pod Security does not know ContainerAdministrator, which is root on Windows: a difference on purpose.
        let is_of_pod_security =
            |found: &&Found| found.level == "error" && !found.path.ends_with("/windowsOptions/runAsUserName");
        let errors: Vec<&str> =
            said.findings.iter().filter(is_of_pod_security).map(|found| found.code.as_str()).collect();
        let denied: BTreeSet<&str> = CONTROLS
            .iter()
            .filter(|(_, codes)| codes.iter().any(|code| errors.contains(code)))
            .map(|(control, _)| *control)
            .collect();
        let violated: BTreeSet<&str> =
            seen["violated"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_muddled = said.accepted == said.findings.iter().any(|found| found.level == "error");
        if denied != violated || is_muddled {
            return Some(format!("the rule finds {denied:?}, Pod Security finds {violated:?}"));
        }
        None
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "capabilities that are added are not looked at",
                says: |_, said| without(said, "capability-added"),
            },
            Wrong { name: "a user of 0 is no root", says: |_, said| without(said, "root-user") },
            Wrong {
                name: "what init containers do is not told",
                says: |_, said| {
                    let mut said = said.clone();
                    said.findings.retain(|found| !found.path.starts_with("/spec/initContainers"));
                    said.accepted = !said.findings.iter().any(|found| found.level == "error");
                    said
                },
            },
            Wrong {
                name: "Windows has the controls of Linux",
                says: |subject, said| {
                    let mut said = said.clone();
                    if subject.objects[0]["spec"]["os"]["name"] == "windows" {
                        let found =
                            Found { code: "no-seccomp".to_owned(), level: "error".to_owned(), ..Found::default() };
                        said.findings.push(found);
                        said.accepted = false;
                    }
                    said
                },
            },
        ]
    }
}

/// Sysctls that the rule knows to be safe, and the minor version of Kubernetes since which Pod Security does.
const NEW_SYSCTLS: [(&str, u32); 2] = [("net.ipv4.tcp_notsent_lowat", 37), ("net.ipv4.tcp_slow_start_after_idle", 37)];

/// Whether the pod sets a sysctl that this version of the API server does not know to be safe: a difference that the README names.
fn is_newer(pod: &Value, version: &Value) -> bool {
    let minor = version["minor"].as_str().and_then(|minor| minor.trim_end_matches('+').parse().ok()).unwrap_or(0);
    let sysctls = pod["spec"]["securityContext"]["sysctls"].as_array();
    sysctls
        .into_iter()
        .flatten()
        .any(|sysctl| NEW_SYSCTLS.iter().any(|(name, since)| sysctl["name"] == *name && minor < *since))
}

/// What the rule would say without this code.
fn without(said: &Said, code: &str) -> Said {
    let mut said = said.clone();
    said.findings.retain(|found| found.code != code);
    said.accepted = !said.findings.iter().any(|found| found.level == "error");
    said
}

/// The covered controls in Pod Security's sentence: `control (detail), control (detail)`, with texts in quotes inside.
fn controls_in(text: &str) -> Result<BTreeSet<String>, Trouble> {
    let mut controls = BTreeSet::new();
    let (mut depth, mut is_quoted, mut start) = (0, false, 0);
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    for part in parts {
        let name = part.split(" (").next().unwrap_or_default().trim();
        // One, or several.
        let name = if name == "forbidden AppArmor profiles" { "forbidden AppArmor profile" } else { name };
        if CONTROLS.iter().any(|(control, _)| *control == name) {
            controls.insert(name.to_owned());
        } else if !BEYOND.contains(&name) {
            return Err(Trouble::Failed(anyhow::anyhow!(
                "Pod Security names a control that is not known here: {part}"
            )));
        }
    }
    Ok(controls)
}

/// A pod that is more or less sound: some break one control, some nearly all.
pub(super) fn generated_pod(random: &mut Rng) -> Value {
    let bad = one(random, &[0, 2, 5, 10, 30, 60]).unwrap_or_default();
    let mut spec = json!({});
    put(random, &mut spec, "os", &[Value::Null, Value::Null, json!({ "name": "linux" }), json!({ "name": "windows" })]);
    let windows = spec["os"]["name"] == "windows";
    if !windows {
        put(random, &mut spec, "hostUsers", &[Value::Null, Value::Null, json!(true), json!(false)]);
    }
    spec["securityContext"] = context(random, true, bad, windows);
    for (list, most) in [("containers", 3), ("initContainers", 2)] {
        let fewest = usize::from(list == "containers");
        let count = random.usize(fewest..=most);
        let containers: Vec<Value> = (0..count)
            .map(|index| {
                let mut container =
                    json!({ "name": format!("{list}-{index}").to_lowercase(), "image": "zookeeper:3.9" });
                let context = context(random, false, bad, windows);
                if !context.is_null() {
                    container["securityContext"] = context;
                }
                if list == "initContainers" && chance(random, 30) {
                    container["restartPolicy"] = "Always".into();
                }
                container
            })
            .collect();
        if count > 0 {
            spec[list] = containers.into();
        }
    }
    let mut metadata = json!({ "name": "member" });
    if !windows && chance(random, 20) {
        let name = spec["containers"][0]["name"].as_str().unwrap_or_default();
        let profile = one(random, &["runtime/default", "localhost/x", "unconfined", ""]).unwrap_or_default();
        metadata["annotations"] = json!({ format!("container.apparmor.security.beta.kubernetes.io/{name}"): profile });
    }
    if windows && chance(random, 20) {
        spec["hostNetwork"] = true.into();
        spec["securityContext"]["windowsOptions"] =
            json!({ "hostProcess": true, "runAsUserName": "NT AUTHORITY\\SYSTEM" });
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

/// Stands for a field that is not there: `null` is another thing.
const ABSENT: &str = "absent";

/// A securityContext that is being filled in.
struct Context {
    fields: Value,
    /// How many of a hundred fields are bad.
    bad: u32,
}

impl Context {
    fn field(&mut self, random: &mut Rng, name: &str, sound: &[Value], broken: &[Value]) {
        let values = if chance(random, self.bad) { broken } else { sound };
        if let Some(value) = one(random, values).filter(|value| *value != ABSENT) {
            self.fields[name] = value;
        }
    }
}

/// A securityContext: a sound value for each field, or a bad one in so many of a hundred.
fn context(random: &mut Rng, is_pod: bool, bad: u32, windows: bool) -> Value {
    let mut context = Context { fields: json!({}), bad };
    let absent = json!(ABSENT);
    let or_absent = |value: Value| if is_pod { value } else { absent.clone() };
    context.field(
        random,
        "runAsNonRoot",
        &[json!(true), or_absent(json!(true))],
        &[absent.clone(), Value::Null, json!(false)],
    );
    if windows {
        context.field(
            random,
            "windowsOptions",
            &[absent.clone(), json!({ "runAsUserName": "ContainerUser" })],
            &[json!({}), json!({ "hostProcess": false }), json!({ "hostProcess": null })],
        );
        return context.fields;
    }
    let runtime = json!({ "type": "RuntimeDefault" });
    let local = json!({ "type": "Localhost", "localhostProfile": "profiles/a.json" });
    let unconfined = json!({ "type": "Unconfined" });
    context.field(
        random,
        "runAsUser",
        &[absent.clone(), json!(1000)],
        &[json!(0), Value::Null, json!(1), json!(2_147_483_647)],
    );
    context.field(
        random,
        "seccompProfile",
        &[runtime.clone(), or_absent(local.clone())],
        &[absent.clone(), unconfined.clone(), Value::Null],
    );
    context.field(
        random,
        "appArmorProfile",
        &[absent.clone(), absent.clone(), runtime, local],
        &[unconfined, Value::Null],
    );
    context.field(
        random,
        "seLinuxOptions",
        &[
            absent.clone(),
            absent.clone(),
            json!({}),
            json!({ "type": "container_t" }),
            json!({ "level": "s0:c1,c2" }),
            json!({ "type": "container_init_t" }),
            json!({ "type": "container_kvm_t", "user": "" }),
            json!({ "type": "container_engine_t" }),
        ],
        &[
            json!({ "type": "spc_t" }),
            json!({ "user": "system_u" }),
            json!({ "role": "r" }),
            json!({ "type": "x", "user": "u", "role": "r" }),
            Value::Null,
        ],
    );
    if is_pod {
        context.field(
            random,
            "sysctls",
            &[
                absent.clone(),
                absent.clone(),
                Value::Null,
                json!([]),
                json!([{ "name": "net.ipv4.tcp_syncookies", "value": "1" }]),
                json!([{ "name": "net.ipv4.tcp_rmem", "value": "1" }, { "name": "kernel.shm_rmid_forced", "value": "1" }]),
            ],
            &[
                json!([{ "name": "kernel.msgmax", "value": "1" }]),
                json!([{ "name": "net/ipv4/tcp_syncookies", "value": "1" }]),
                json!([{ "name": "net.ipv4.tcp_keepalive_time", "value": "1" }, { "name": "net.core.somaxconn", "value": "1" }]),
            ],
        );
        return context.fields;
    }
    container_context(random, context)
}

/// What only a container's context has.
fn container_context(random: &mut Rng, mut context: Context) -> Value {
    let absent = json!(ABSENT);
    context.field(random, "allowPrivilegeEscalation", &[json!(false)], &[absent.clone(), Value::Null, json!(true)]);
    context.field(random, "privileged", &[absent.clone(), json!(false), Value::Null], &[absent.clone(), json!(true)]);
    context.field(
        random,
        "procMount",
        &[absent.clone(), json!("Default"), Value::Null],
        &[absent.clone(), json!("Unmasked")],
    );
    let all = |add: Value| json!({ "drop": ["ALL"], "add": add });
    context.field(
        random,
        "capabilities",
        &[
            json!({ "drop": ["ALL"] }),
            json!({ "drop": ["KILL", "ALL"] }),
            all(json!(["NET_BIND_SERVICE"])),
            all(json!([])),
            all(Value::Null),
        ],
        &[
            absent,
            Value::Null,
            json!({}),
            json!({ "drop": [] }),
            json!({ "drop": ["all"] }),
            json!({ "drop": ["NET_RAW"] }),
            all(json!(["SYS_ADMIN"])),
            all(json!(["NET_BIND_SERVICE", "NET_RAW"])),
            all(json!(["ALL"])),
            all(json!(["CAP_NET_BIND_SERVICE"])),
            json!({ "add": ["CHOWN"] }),
        ],
    );
    if chance(random, context.bad / 3) { Value::Null } else { context.fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controls_are_read_from_pod_securitys_sentence() {
        let text = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
                    forbidden AppArmor profiles (a=\"x, (y\", b=\"z\"), host namespaces (hostNetwork=true), runAsUser=0 (pod must not set runAsUser=0)";
        let controls = controls_in(text).unwrap();
        let wanted = ["allowPrivilegeEscalation != false", "forbidden AppArmor profile", "runAsUser=0"];
        assert_eq!(controls, wanted.map(str::to_owned).into());
        assert!(controls_in("something new (because)").is_err(), "a control that nobody knows is not dropped");
    }
}
