//! `probes`, `resource-limits` and what the API server takes.

mod advice;
pub(super) mod objects;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{created, field_of, pod, pod_spec, subject};
use crate::room::Stage;
use crate::rules::{Change, Found, Lazily, Rules, Said};

/// What the rules call refused is refused, what they let pass is not, and what they advise is taken.
#[derive(Default)]
pub(super) struct Validity {
    /// To ask again once an advice is followed.
    rules: Lazily,
}

const POLICIES: [&str; 2] = ["probes", "resource-limits"];

/// The codes that say of an object that Kubernetes refuses it; all others say that it does not work well.
const REFUSED: [&str; 4] = ["refused-probe", "request-above-limit", "above-pod", "malformed"];

impl Claim for Validity {
    fn about(&self) -> About {
        About {
            name: "validity",
            policies: &POLICIES,
            claims: "What `probes` and `resource-limits` call refused is refused by the API server, as a pod, for the same place; nothing else \
                     that is wrong with probes and resources is, not even what they deny; and whoever follows their advice, one after the \
                     other, ends with an object that they accept and the API server takes.",
            tried: "the pod, or the one that the template makes, is created as a dry run, and the places that the API server complains of are \
                    compared with the rule's; then the patches and advices of the findings are followed until nothing is left, and the result is \
                    created as a dry run too. Containers, init containers and sidecars; probes with every handler, none, or two, numbers within and \
                    out of range; resources of containers and of pods as a whole; heaps; several settings.",
            count: 2000,
            at_once: 16,
            codes: &[
                // Refused.
                "refused-probe",
                "request-above-limit",
                "above-pod",
                "malformed",
                // Taken, and advised against.
                "missing-liveness",
                "missing-readiness",
                "missing-startup",
                "forbidden-probe",
                "liveness-asks-quorum",
                "liveness-not-advised",
                "unknown-port",
                "out-of-bounds",
                "timeout-above-period",
                "another-host",
                "identical-probes",
                "short-startup",
                "missing-request",
                "missing-limit",
                "below-min",
                "above-max",
                "wide-ratio",
                "not-guaranteed",
                "empty-pod-resources",
                "heap-without-room",
            ],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let kinds = ["Pod", "StatefulSet", "Deployment", "DaemonSet", "Job", "CronJob", "ReplicaSet"];
        let mut subjects = Vec::new();
        for policy in POLICIES {
            for case in created(policy, &kinds)? {
                let settings = case.header.settings.as_ref();
                let is_judged =
                    settings.is_none_or(|settings| settings["exempt"].is_null() && settings["ownedObjects"].is_null());
                if is_judged && case.object["metadata"]["ownerReferences"].is_null() && pod(&case.object).is_some() {
                    let mut subject = subject(case);
                    subject.facts = json!({ "policy": policy });
                    // Whether it would be mutated is another claim's.
                    if let Some(settings) = subject.settings.as_object_mut() {
                        settings.remove("mutate");
                    }
                    subjects.push(subject);
                }
            }
        }
        Ok(subjects)
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let probes = random.bool();
        objects::generate(random, probes)
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        rules.ask(policy(subject), &subject.settings, Change::Create(&subject.objects[0]), &[])
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let refused = asked(stage, &subject.objects[0]).await?;
            // What is wrong with other things goes on being wrong.
            let is_ours = refused.causes.iter().all(|cause| {
                // Huge pages and devices are not the rule's.
                place_of(policy(subject), &cause.field).is_some() && !cause.message.contains("overcommit")
            });
            let followed = if is_ours {
                let rules = self.rules.get()?;
                let (object, left) = advice::follow(rules, policy(subject), &subject.settings, &subject.objects[0])?;
                let refused = asked(stage, &object).await?;
                let object = if left.is_empty() && refused.message.is_empty() { Value::Null } else { object };
                json!({ "left": left, "refused": refused.message, "object": object })
            } else {
                Value::Null
            };
            Ok(json!({
                "unreadable": refused.is_unreadable.then_some(&refused.message),
                "causes": refused.causes,
                "followed": followed,
            }))
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        if said.accepted { Stance::Accepts } else { Stance::Denies }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        let policy = policy(subject);
        let is_malformed = said.denies("malformed");
        if let Some(why) = seen["unreadable"].as_str() {
            // The rule reads what it must: that something else cannot be read is not its concern.
            let is_ours = why.contains("Probe") || why.contains("quantit") || why.contains("resources");
            let is_refused = said.findings.iter().any(|found| REFUSED.contains(&found.code.as_str()));
            return (is_ours && !is_refused && is_judged(subject))
                .then(|| format!("the API server cannot read it: {why}"));
        }
        let causes: Vec<(&str, &str)> = seen["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|cause| Some((cause["field"].as_str()?, cause["message"].as_str()?)))
            .collect();
        let refused: BTreeSet<String> = causes.iter().filter_map(|(field, _)| place_of(policy, field)).collect();
        let told: BTreeSet<String> = said
            .findings
            .iter()
            .filter(|found| REFUSED.contains(&found.code.as_str()))
            .filter_map(|found| place_of(policy, &in_pod(&subject.objects[0], found)?))
            .collect();
        let denied: BTreeSet<String> = said
            .findings
            .iter()
            .filter(|found| found.level == "error")
            .filter_map(|found| place_of(policy, &in_pod(&subject.objects[0], found)?))
            .collect();
        // A pod and its containers are compared with each other: the two may name either side. And where one thing
        // cannot be read nothing else is told.
        let is_either_side = said.has("above-pod") && !refused.is_empty();
        let is_told = refused.is_subset(&denied) || is_malformed || !is_judged(subject);
        let agree = is_either_side || (told.is_subset(&refused) && is_told);
        if !agree {
            return Some(format!("the rule says that {told:?} are refused, the API server refuses {refused:?}"));
        }
        if !is_judged(subject) {
            return None;
        }
        let followed = &seen["followed"];
        let left = followed["left"].as_array().is_some_and(|left| !left.is_empty());
        if left {
            return Some(format!("its advice followed, the rule still denies: {}", followed["left"]));
        }
        let refused = followed["refused"].as_str().unwrap_or_default();
        (!refused.is_empty()).then(|| format!("its advice followed, the API server refuses: {refused}"))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "a probe may ask in two ways",
                says: |_, said| {
                    without(said, |found| found.code == "refused-probe" && found.message.contains("asks in one way"))
                },
            },
            Wrong {
                name: "init containers may have probes",
                says: |_, said| {
                    without(said, |found| found.code == "refused-probe" && found.path.contains("/initContainers/"))
                },
            },
            Wrong {
                name: "more may be asked for than may be used",
                says: |_, said| without(said, |found| found.code == "request-above-limit"),
            },
            Wrong {
                name: "containers may ask for more than their pod has",
                says: |_, said| without(said, |found| found.code == "above-pod"),
            },
            Wrong {
                name: "a port that nobody names is refused",
                says: |_, said| {
                    let mut said = said.clone();
                    for found in said.findings.iter_mut().filter(|found| found.code == "unknown-port") {
                        "refused-probe".clone_into(&mut found.code);
                    }
                    said
                },
            },
            Wrong {
                name: "a number of 0 is refused",
                says: |subject, said| {
                    let mut said = said.clone();
                    let object = &subject.objects[0];
                    let prefix = pod_spec(object).unwrap_or_default();
                    let containers = object.pointer(&format!("{prefix}/containers")).and_then(Value::as_array);
                    for (index, container) in containers.into_iter().flatten().enumerate() {
                        if policy(subject) == "probes" && container["livenessProbe"]["periodSeconds"] == 0 {
                            said.accepted = false;
                            said.findings.push(Found {
                                code: "refused-probe".to_owned(),
                                level: "error".to_owned(),
                                path: format!("{prefix}/containers/{index}/livenessProbe/periodSeconds"),
                                ..Found::default()
                            });
                        }
                    }
                    said
                },
            },
        ]
    }
}

/// The policy that this subject is for.
fn policy(subject: &Subject) -> &'static str {
    let named = subject.facts["policy"].as_str();
    POLICIES.into_iter().find(|policy| Some(*policy) == named).unwrap_or(POLICIES[0])
}

/// What the API server says of the pod.
#[derive(Default)]
struct Refused {
    is_unreadable: bool,
    causes: Vec<crate::api::Cause>,
    message: String,
}

async fn asked(stage: &Stage, object: &Value) -> Result<Refused, Trouble> {
    let mut pod = pod(object).context("no pod in it")?;
    pod["metadata"]["namespace"] = "default".into();
    match stage.api.dry_run(&pod).await {
        Ok(_) => Ok(Refused::default()),
        Err(refusal) if [400, 422].contains(&refusal.code) => {
            Ok(Refused { is_unreadable: refusal.code == 400, causes: refusal.causes, message: refusal.message })
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// The probe or the resources that a field of a pod belongs to, where that is what the policy is about.
fn place_of(policy: &str, field: &str) -> Option<String> {
    let ends: &[&str] =
        if policy == "probes" { &["livenessProbe", "readinessProbe", "startupProbe"] } else { &["resources"] };
    let end = ends.iter().filter_map(|end| Some(field.find(&format!(".{end}"))? + 1 + end.len())).min()?;
    Some(field[..end].to_owned())
}

/// The field of the pod that a finding points to, wherever the pod's spec is in the object.
fn in_pod(object: &Value, found: &Found) -> Option<String> {
    let inside = found.path.strip_prefix(pod_spec(object)?)?;
    field_of(&format!("/spec{inside}"))
}

/// Whether the rule looks at all of the pod: probes are not judged in a pod or a container that ends, nor those whose handler is
/// newer than the rule, which this API server does not know either.
fn is_judged(subject: &Subject) -> bool {
    let spec = pod_spec(&subject.objects[0]).and_then(|path| subject.objects[0].pointer(path));
    let Some(spec) = spec else { return false };
    let goes_on = |policy: &Value| policy.is_null() || policy == "Always" || policy == "";
    let containers = spec["containers"].as_array();
    let is_lasting = containers.into_iter().flatten().all(|container| goes_on(&container["restartPolicy"]));
    let is_known = spec["containers"].as_array().into_iter().flatten().all(|container| {
        ["livenessProbe", "readinessProbe", "startupProbe"].iter().all(|kind| {
            let known = ["exec", "httpGet", "tcpSocket", "grpc"];
            let fields = container[*kind].as_object();
            fields.into_iter().flatten().all(|(name, value)| !value.is_object() || known.contains(&name.as_str()))
        })
    });
    let is_allowed = !subject.settings.to_string().contains("forbidden");
    policy(subject) != "probes" || (goes_on(&spec["restartPolicy"]) && is_lasting && is_known && is_allowed)
}

/// What the rule would say without these findings.
fn without(said: &Said, is_out: impl Fn(&Found) -> bool) -> Said {
    let mut said = said.clone();
    said.findings.retain(|found| !is_out(found));
    said.accepted = !said.findings.iter().any(|found| found.level == "error");
    said
}
