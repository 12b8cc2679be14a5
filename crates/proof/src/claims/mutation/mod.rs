//! What policies make of objects, under `mutate: true`.

mod objects;

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{created, pod_spec, remove, set, subject};
use crate::room::Stage;
use crate::rules::{Change, Lazily, Rules, Said};

/// A mutated object is one that the API server takes and the rule accepts, and differs in nothing but what was to be mended.
#[derive(Default)]
pub(super) struct Mutation {
    /// To ask about what is stored.
    rules: Lazily,
}

/// The last one changes nothing, and proposes objects that are to be made beside.
const POLICIES: [&str; 5] = ["odd-replicas", "anti-affinity", "non-root", "resource-limits", BUDGETS];
const BUDGETS: &str = "disruption-budget";
/// What it says of a set that no budget covers.
const UNCOVERED: [&str; 2] = ["missing-budget", "budget-selects-nothing"];

impl Claim for Mutation {
    fn about(&self) -> About {
        About {
            name: "mutation",
            policies: &POLICIES,
            claims: "With `mutate: true`, what a policy makes of an object that the API server takes is taken too; as it is stored, with its \
                     defaults, the policy finds no error in it; and what is stored differs from what would have been stored of the original \
                     only where the findings' patches say so. What is denied is not changed. What a finding proposes to create is taken by the API server, and \
                     with it beside, the finding is gone.",
            tried: "the original and the mutated object are created as dry runs, the policy is asked about what would be stored, and the two \
                    are compared field by field. So are the budgets created that are proposed for sets without one. Sets with wrong counts, missing, wished and mistaken terms and constraints; pods and templates with \
                    incomplete securityContexts and resources; with and without defaults in the settings.",
            count: 2000,
            at_once: 16,
            codes: &[],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let kinds =
            ["Pod", "StatefulSet", "Deployment", "DaemonSet", "Job", "CronJob", "ReplicaSet", "ReplicationController"];
        let mut subjects = Vec::new();
        for policy in POLICIES {
            for case in created(policy, &kinds)? {
                let mut subject = subject(case);
                subject.facts = json!({ "policy": policy });
                if !subject.settings.is_object() {
                    subject.settings = json!({});
                }
                if policy == BUDGETS {
                    subject.settings["missing"] = "deny".into();
                } else {
                    subject.settings["mutate"] = true.into();
                }
                subjects.push(subject);
            }
        }
        Ok(subjects)
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        objects::generate(random)
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        ask(rules, subject, &subject.settings, &subject.objects[0])
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let rules = self.rules.get()?;
            let object = &subject.objects[0];
            let stored = dry_run(stage, object).await?;
            // What the policy makes of it, and what the wrong ones would: each is put to the server, whoever made it.
            let said = self.ask(rules, subject)?;
            let mut made: Vec<Value> = said.mutated.iter().cloned().collect();
            for wrong in self.wrong() {
                made.extend((wrong.says)(subject, &said).mutated.filter(|mutated| !made.contains(mutated)));
            }
            let mut settings = subject.settings.clone();
            remove(&mut settings, "/mutate");
            let patches: Vec<String> = ask(rules, subject, &settings, object)?
                .findings
                .iter()
                .filter_map(|found| found.patch.as_ref()?.as_array())
                .flatten()
                .filter_map(|operation| Some(operation["path"].as_str()?.to_owned()))
                .collect();
            let mut seen = Vec::new();
            for mutated in made {
                let (mut left, mut elsewhere, mut refused) = (Vec::new(), Vec::new(), Value::Null);
                match dry_run(stage, &mutated).await {
                    Ok(stored_mutated) => {
                        let said = ask(rules, subject, &settings, &stored_mutated)?;
                        let errors = said.findings.into_iter().filter(|found| found.level == "error");
                        left = errors.map(|found| found.message).collect();
                        differences(&stored, &stored_mutated, "", &mut elsewhere);
                        // What neither object says the API server makes of what they say: of a pod's requests, the sum of its containers'.
                        let is_said = |path: &str| {
                            let place = path.trim_end_matches("/-");
                            object.pointer(place).is_some() || mutated.pointer(place).is_some()
                        };
                        elsewhere.retain(|path| !is_named(path, &patches) && is_said(path));
                    }
                    Err(Trouble::Unplayable(why)) => refused = why.into(),
                    Err(trouble) => return Err(trouble),
                }
                seen.push(json!({ "object": mutated, "refused": refused, "left": left, "elsewhere": elsewhere }));
            }
            let created = created_beside(stage, rules, subject, &said, &self.wrong()).await?;
            Ok(json!({ "made": seen, "patches": patches, "created": created }))
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        match (&said.mutated, said.accepted) {
            (_, false) => Stance::Denies,
            (Some(_), true) => Stance::Accepts,
            (None, true) => Stance::Silent,
        }
    }

    fn contradiction(&self, _subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        for (code, proposed) in proposals(said) {
            let mut created = seen["created"].as_array()?.iter();
            let Some(made) = created.find(|made| made["object"] == *proposed) else {
                return Some("never seen".to_owned());
            };
            if let Some(why) = made["refused"].as_str() {
                return Some(format!("the API server refuses what is proposed: {why}"));
            }
            if made["left"].as_array().is_some_and(|left| !left.is_empty()) {
                return Some(format!("{code}: with what is proposed beside it, there is still {}", made["left"]));
            }
        }
        let mutated = said.mutated.as_ref()?;
        if !said.accepted {
            return Some("denied, and changed".to_owned());
        }
        let made = seen["made"].as_array()?.iter().find(|made| made["object"] == *mutated);
        let Some(made) = made else { return Some("never seen".to_owned()) };
        if let Some(why) = made["refused"].as_str() {
            return Some(format!("the API server refuses what was made of it: {why}"));
        }
        let is_there = |name: &str| made[name].as_array().is_some_and(|items| !items.is_empty());
        if is_there("left") {
            return Some(format!("as stored, the policy denies it: {}", made["left"]));
        }
        is_there("elsewhere").then(|| format!("more was changed than the patches say: {}", made["elsewhere"]))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "a budget may say how many may go and how many must stay",
                says: |_, said| proposing(said, |budget| budget["spec"]["minAvailable"] = 2.into()),
            },
            Wrong {
                name: "a budget without a selector is for all",
                says: |_, said| {
                    proposing(said, |budget| {
                        remove(budget, "/spec/selector");
                    })
                },
            },
            Wrong {
                name: "what the policy does not know is lost",
                says: |subject, said| {
                    changed(said, |mutated| {
                        let spec = pod_spec(&subject.objects[0]).unwrap_or_default();
                        remove(mutated, &format!("{spec}/terminationGracePeriodSeconds"));
                    })
                },
            },
            Wrong {
                name: "the next even count will do",
                says: |subject, said| {
                    changed(said, |mutated| {
                        if let (Some(count), "odd-replicas") = (mutated["spec"]["replicas"].as_i64(), policy(subject)) {
                            mutated["spec"]["replicas"] = (count + 1).into();
                        }
                    })
                },
            },
            Wrong {
                name: "the term has no topology key",
                says: |_, said| {
                    changed(said, |mutated| {
                        let terms = "/spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
                        for term in mutated.pointer_mut(terms).and_then(Value::as_array_mut).into_iter().flatten() {
                            remove(term, "/topologyKey");
                        }
                    })
                },
            },
            Wrong {
                name: "who names no user becomes root",
                says: |subject, said| {
                    changed(said, |mutated| {
                        if policy(subject) == "non-root" {
                            let spec = pod_spec(&subject.objects[0]).unwrap_or_default();
                            set(mutated, &format!("{spec}/securityContext/runAsUser"), 0.into());
                        }
                    })
                },
            },
            Wrong {
                name: "requests are filled in above the limit",
                says: |subject, said| {
                    changed(said, |mutated| {
                        let spec = pod_spec(&subject.objects[0]).unwrap_or_default();
                        let place = format!("{spec}/containers/0/resources");
                        if mutated.pointer(&format!("{place}/limits/memory")).is_some()
                            && policy(subject) == "resource-limits"
                        {
                            set(mutated, &format!("{place}/requests/memory"), "900Gi".into());
                        }
                    })
                },
            },
        ]
    }
}

/// What findings propose to create, by their codes.
fn proposals(said: &Said) -> impl Iterator<Item = (&str, &Value)> {
    said.findings.iter().filter_map(|found| Some((found.code.as_str(), found.creates.as_ref()?)))
}

/// What the policy would say that proposes something else.
fn proposing(said: &Said, change: impl Fn(&mut Value)) -> Said {
    let mut said = said.clone();
    said.findings.iter_mut().filter_map(|found| found.creates.as_mut()).for_each(change);
    said
}

/// What is proposed, by the policy and by the wrong ones: whether the API server takes it, and what is still found with it beside.
async fn created_beside(
    stage: &Stage,
    rules: &Rules,
    subject: &Subject,
    said: &Said,
    wrong: &[Wrong],
) -> Result<Vec<Value>, Trouble> {
    let mut proposed: Vec<Value> = proposals(said).map(|(_, object)| object.clone()).collect();
    for wrong in wrong {
        for (_, object) in proposals(&(wrong.says)(subject, said)) {
            if !proposed.contains(object) {
                proposed.push(object.clone());
            }
        }
    }
    let mut created = Vec::new();
    for object in proposed {
        let refused = match dry_run(stage, &object).await {
            Err(Trouble::Unplayable(why)) => Value::from(why),
            answer => answer.map(|_| Value::Null)?,
        };
        let mut beside = subject.clone();
        beside.objects.push(object.clone());
        let left: Vec<String> = ask(rules, &beside, &subject.settings, &subject.objects[0])?
            .findings
            .into_iter()
            .filter(|found| UNCOVERED.contains(&found.code.as_str()))
            .map(|found| found.code)
            .collect();
        created.push(json!({ "object": object, "refused": refused, "left": left }));
    }
    Ok(created)
}

fn ask(rules: &Rules, subject: &Subject, settings: &Value, object: &Value) -> Result<Said> {
    rules.ask(policy(subject), settings, Change::Create(object), &subject.objects[1..])
}

fn policy(subject: &Subject) -> &'static str {
    let named = subject.facts["policy"].as_str();
    POLICIES.into_iter().find(|policy| Some(*policy) == named).unwrap_or(POLICIES[0])
}

/// What the policy would say whose mutated object is changed so.
fn changed(said: &Said, change: impl FnOnce(&mut Value)) -> Said {
    let mut said = said.clone();
    if let Some(mutated) = &mut said.mutated {
        change(mutated);
    }
    said
}

/// What would be stored, in the namespace that the object names.
async fn dry_run(stage: &Stage, object: &Value) -> Result<Value, Trouble> {
    let mut object = object.clone();
    if object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = "default".into();
    }
    match stage.api.dry_run(&object).await {
        Err(refusal) if refusal.code == 404 && refusal.reason != "NotFound" => {
            Err(Trouble::Unplayable("no such kind".to_owned()))
        }
        Err(refusal) if refusal.code == 404 => {
            let name = object["metadata"]["namespace"].as_str().unwrap_or_default();
            stage.lasting_namespace(name, &json!({})).await?;
            Ok(stage.api.dry_run(&object).await?)
        }
        answer => Ok(answer?),
    }
}

/// The places in which two stored objects differ, whose own life aside.
fn differences(before: &Value, after: &Value, at: &str, found: &mut Vec<String>) {
    // Each dry run has these of its own; and a pod's class follows from its resources.
    let own = ["/metadata/uid", "/metadata/creationTimestamp", "/metadata/managedFields", "/status/qosClass"];
    // So has a Job, in the labels of its pods.
    if before == after || own.contains(&at) || at.ends_with("controller-uid") {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                let field = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                differences(&field(old), &field(new), &place, found);
            }
        }
        (Value::Array(old), Value::Array(new)) if new.len() >= old.len() => {
            for (index, item) in new.iter().enumerate() {
                match old.get(index) {
                    Some(old) => differences(old, item, &format!("{at}/{index}"), found),
                    None => found.push(format!("{at}/-")),
                }
            }
        }
        _ => found.push(at.to_owned()),
    }
}

/// Whether one of the patches leads there; or to what is on the way, where nothing else was before.
fn is_named(place: &str, patches: &[String]) -> bool {
    let is_inside =
        |place: &str, of: &str| place.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // A limit without a request is the request too, in a pod.
    let limit = place.replace("/requests", "/limits");
    patches.iter().any(|patch| {
        is_inside(place, patch) || is_inside(patch, place) || is_inside(&limit, patch) || is_inside(patch, &limit)
    })
}
