//! `disruption-budget`, and what the disruption controller counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::budget_make::{budget, limit, selector, sets};
use super::budget_view::{View, ask_each, counted, name, of_kind, replicas};
use super::budget_wrong::{Reading, blocking, judged, sets_under};
use super::drain_play::called;
use crate::api::Patch;
use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{chance, created, one, subject};
use crate::mirror::Watched;
use crate::room::{LIMIT, Stage};
use crate::rules::{Rules, Said};

/// How many kinds of sets are made; each is shared by many budgets.
const WORLDS: u64 = 120;
/// How many pods one subject may have.
const MOST: i64 = 40;
const TOO_MANY: &str = "it has too many members";

/// The rule and the disruption controller select and count alike.
#[derive(Debug, Default)]
pub(super) struct Arithmetic {
    /// Namespaces with sets whose pods are ready, by the sets: a budget's status does not depend on other budgets, so that
    /// those of many subjects are over the same pods. They run on no node and stay until the control plane ends.
    worlds: Mutex<HashMap<String, Arc<OnceCell<World>>>>,
    plays: AtomicUsize,
}

/// What the namespaces of a subject are called in the cluster.
type World = BTreeMap<String, String>;

impl Claim for Arithmetic {
    fn about(&self) -> About {
        About {
            name: "budget-arithmetic",
            policies: &["disruption-budget"],
            claims: "Which pods a budget selects, how many must stay and how many may be evicted, is what the disruption controller writes into \
                     the budget's status when all pods are ready. From that follows, for each ensemble, whether the rule finds no budget \
                     for it, one that blocks drains, one that lets more members go than may be missing, members that no budget selects, \
                     two budgets on a same pod, or nothing; and the numbers that the rule names are those of the status. What the rule calls \
                     malformed is refused by the API server, and so is no other budget. Nothing is claimed \
                     where a budget also selects pods of neither a StatefulSet nor a Deployment, or selects by a label that only the cluster gives.",
            tried: "sets of 1 to 9 members, one to three of them, apart or as one ensemble, with and without a Deployment or pods of no \
                    controller beside them, are made by their controllers. Budgets with every operator of a selector, empty and absent selectors, \
                    selectors for single members, numbers and percentages of both limits and neither are put over them, and their status is read. \
                    The rule is asked about every set and every budget, each with all others beside it.",
            count: 2000,
            at_once: 16,
            codes: &[
                "blocks-drains",
                "budget-selects-nothing",
                "holds-nothing-back",
                "malformed",
                "may-lose-quorum",
                "missing-budget",
                "overlapping-budgets",
                "uncovered-members",
                "undecided-selector",
            ],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let cases = created("disruption-budget", &["StatefulSet", "PodDisruptionBudget"])?;
        // Settings that change who votes or who is judged are about something else.
        let is_plain = |settings: &Value| {
            settings.as_object().is_none_or(|all| all.keys().all(|key| ["missing", "onDelete"].contains(&key.as_str())))
        };
        let cases = cases.into_iter().map(|case| Subject { ..subject(case) });
        let cases = cases.filter(|subject| is_plain(&subject.settings));
        Ok(cases.map(|subject| Subject { settings: settings(), ..subject }).collect())
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let mut of_world = Rng::with_seed(random.u64(..WORLDS));
        let sets = sets(&mut of_world, &[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7, 9], true);
        let members: Vec<Value> = sets.iter().filter(|object| object["kind"] == "StatefulSet").cloned().collect();
        let count = one(random, &[1, 1, 1, 1, 1, 1, 1, 2, 2, 3]).unwrap_or(1);
        let mut objects = Vec::new();
        for index in 0..count {
            // Often one for each set.
            let meant = members.get(index).filter(|_| chance(random, 60)).cloned();
            let meant = meant.or_else(|| one(random, &members)).unwrap_or_default();
            let (selector, limit) = (selector(random, &meant), limit(random, &meant));
            let called = if chance(random, 30) { name(&meant).to_owned() } else { format!("budget-{index}") };
            let called = if objects.iter().any(|other| name(other) == called) { format!("b-{index}") } else { called };
            objects.push(budget(&called, &selector, &limit));
        }
        objects.extend(sets);
        Subject { name: String::new(), objects, settings: settings(), facts: Value::Null }
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        ask_each(rules, subject)
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let world = match self.world(stage, subject).await {
                // That Kubernetes does not take it is something to compare, too.
                Err(Trouble::Unplayable(why)) if why != TOO_MANY => return Ok(json!({ "refused": why })),
                world => world?,
            };
            let play = self.plays.fetch_add(1, Ordering::Relaxed);
            let mut budgets: BTreeMap<&str, Vec<(String, &Value)>> = BTreeMap::new();
            for budget in of_kind(subject, "PodDisruptionBudget") {
                let own = format!("p{play}-{}", name(budget));
                budgets.entry(namespace(&world, budget)).or_default().push((own, budget));
            }
            let seen = look(stage, &budgets).await;
            for (namespace, budgets) in &budgets {
                for (own, _) in budgets {
                    drop(stage.api.delete(&stage.api.path("policy/v1", "PodDisruptionBudget", namespace, own)).await);
                }
            }
            match seen {
                Err(Trouble::Unplayable(why)) => Ok(json!({ "refused": why })),
                seen => seen,
            }
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        match said.accepted {
            false => Stance::Denies,
            true if said.has("undecided-selector") => Stance::Silent,
            true => Stance::Accepts,
        }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        let is_muddled = said.accepted == said.findings.iter().any(|found| found.level == "error");
        if is_muddled {
            return Some("what it finds is not what it decides".to_owned());
        }
        let Some(refused) = seen["refused"].as_str() else {
            if said.has("malformed") {
                return Some("Kubernetes takes what is called malformed".to_owned());
            }
            return View::new(subject, seen).differs(&said.findings);
        };
        // Of a set the rule reads a few fields only, of a budget all that can be wrong.
        let is_about_budget = refused.starts_with("PodDisruptionBudget");
        (is_about_budget && !said.has("malformed")).then(|| "Kubernetes does not take the budget".to_owned())
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong { name: "percentages round down", says: |subject, said| judged(subject, said, Reading::RoundsDown) },
            Wrong {
                name: "a percentage is of the pods that are selected, not of what their controllers want",
                says: |subject, said| judged(subject, said, Reading::OfTheSelected),
            },
            Wrong {
                name: "an absent selector selects every pod",
                says: |subject, said| judged(subject, said, Reading::AbsentIsAll),
            },
            Wrong {
                name: "a second set under the same budget does not count",
                says: |subject, said| judged(subject, said, Reading::OfOne),
            },
            Wrong {
                name: "every number as minAvailable blocks drains",
                says: |subject, said| {
                    blocking(subject, said, |budget| {
                        budget["spec"]["minAvailable"].as_i64().is_some_and(|pods| pods > 0)
                    })
                },
            },
            Wrong {
                name: "a budget over two sets is always wrong",
                says: |subject, said| blocking(subject, said, |budget| sets_under(subject, budget) > 1),
            },
            Wrong {
                name: "a Deployment under the same budget does not count",
                says: |subject, said| {
                    let is_beside = of_kind(subject, "Deployment").next().is_some();
                    said.without(|found| is_beside && found.message.contains("pods that are not members"))
                },
            },
            Wrong {
                name: "two budgets on a pod are fine",
                says: |_, said| said.without(|found| found.code == "overlapping-budgets"),
            },
            Wrong {
                name: "a budget that allows nothing is the safest",
                says: |_, said| said.without(|found| found.code == "blocks-drains"),
            },
        ]
    }
}

fn settings() -> Value {
    json!({ "missing": "deny" })
}

impl Arithmetic {
    /// Namespaces with the subject's sets, all of whose pods are ready.
    async fn world(&self, stage: &Stage, subject: &Subject) -> Result<World, Trouble> {
        let templates = || of_kind(subject, "StatefulSet").chain(of_kind(subject, "Deployment"));
        let makers: Vec<&Value> = templates().chain(of_kind(subject, "Pod")).collect();
        if templates().map(replicas).sum::<i64>() > MOST {
            return Err(Trouble::Unplayable(TOO_MANY.to_owned()));
        }
        let names: BTreeSet<&str> = subject.objects.iter().map(called).collect();
        let key = json!([names, makers]).to_string();
        let (cell, number) = {
            let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
            let number = worlds.len();
            (Arc::clone(worlds.entry(key).or_default()), number)
        };
        cell.get_or_try_init(|| make(stage, number, &names, &makers)).await.cloned()
    }
}

fn namespace<'a>(world: &'a World, object: &Value) -> &'a str {
    world.get(called(object)).map_or("", String::as_str)
}

async fn make(stage: &Stage, number: usize, names: &BTreeSet<&str>, makers: &[&Value]) -> Result<World, Trouble> {
    let mut world = World::new();
    for name in names {
        // The number is free, unless another try has failed with it.
        let own = format!("w{number}-{}-{name}", fastrand::u32(..));
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": own } });
        stage.api.create(&object).await?;
        world.insert((*name).to_owned(), own);
    }
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    for object in makers {
        let own = namespace(&world, object);
        let mut placed = (*object).clone();
        placed["metadata"]["namespace"] = own.into();
        let is_pod = object["kind"] == "Pod";
        let pod = if is_pod { &mut placed["spec"] } else { &mut placed["spec"]["template"]["spec"] };
        // On no node: a budget counts pods that are ready, wherever they are.
        pod["schedulerName"] = "nobody".into();
        if object["kind"] == "StatefulSet" {
            placed["spec"]["podManagementPolicy"] = "Parallel".into();
        }
        stage.api.create(&placed).await?;
        *wanted.entry(own).or_default() += if is_pod { 1 } else { replicas(object) };
    }
    for (own, count) in wanted {
        let count = usize::try_from(count).unwrap_or(0);
        let all = |pods: &crate::mirror::Objects| {
            (pods.len() == count).then(|| pods.keys().cloned().collect::<Vec<String>>())
        };
        let pods = stage.mirror.until(Watched::Pods, own, &format!("the pods of {own}"), LIMIT, all).await?;
        let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        let patches = pods.iter().map(|pod| {
            let path = format!("{}/status", stage.api.path("v1", "Pod", own, pod));
            let ready = &ready;
            async move { stage.api.patch(&path, Patch::Merge, ready).await }
        });
        try_join_all(patches).await?;
    }
    Ok(world)
}

async fn look(stage: &Stage, budgets: &BTreeMap<&str, Vec<(String, &Value)>>) -> Result<Value, Trouble> {
    let mut all = BTreeMap::new();
    for (namespace, budgets) in budgets {
        for (own, budget) in budgets {
            let mut placed = (*budget).clone();
            placed["metadata"]["namespace"] = (*namespace).into();
            placed["metadata"]["name"] = own.as_str().into();
            stage.api.create(&placed).await?;
        }
        all.extend(counted(stage, namespace, budgets, |_| true).await?);
    }
    Ok(json!(all))
}
