//! `disruption-budget`, and the ways from one sound set and budget to another.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::budget_make::{budget, set};
use super::budget_view::{is_settled, replicas};
use crate::api::Patch;
use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{chance, one};
use crate::mirror::{Objects, Watched};
use crate::room::{LIMIT, Room, Stage};
use crate::rules::{Change, Found, Rules, Said};

/// How many changes a way may take.
const MOST: usize = 8;

/// Every sound state can be reached from every other.
pub(super) struct Paths;

/// A set and its budget, as far as they change.
#[derive(Debug, Clone, PartialEq)]
struct State {
    members: i64,
    limit: Value,
}

impl State {
    fn key(&self) -> String {
        format!("{} {}", self.members, self.limit)
    }

    fn tolerance(&self) -> i64 {
        (self.members - 1) / 2
    }
}

impl Claim for Paths {
    fn about(&self) -> About {
        About {
            name: "budget-paths",
            policies: &["disruption-budget"],
            claims: "From every set of 3, 5 or 7 members with a sound budget, to every other with another sound budget, there is a way of \
                     changes to one object each that the rule accepts, and where a change is denied the advice or the patch of its \
                     finding names the next one. No change that is accepted lets drains take more members than may be missing; one that is \
                     denied does; one that is accepted with the warning that it blocks drains does that, and no other does.",
            tried: "the rule is asked for one change after the other, the set first or the budget first, and its advice is followed where it denies. \
                    On the API server, the set is scaled and the budget changed through every combination of both sizes with the first \
                    limit, the last one, and those that advice may name, and `disruptionsAllowed` is read in each.",
            count: 200,
            at_once: 12,
            codes: &["blocks-drains", "may-lose-quorum"],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        // No case goes more than one step.
        Ok(Vec::new())
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let (from, mut to) = (sound(random), sound(random));
        // Most denials are met where the size changes.
        while to.members == from.members && chance(random, 85) {
            to = sound(random);
        }
        let first = set("zk", from.members, &json!({ "app": "zk" }));
        let second = budget("zk", &json!({ "matchLabels": { "app": "zk" } }), &from.limit);
        let facts = json!({
            "members": to.members, "limit": to.limit, "setFirst": chance(random, 60), "raise": chance(random, 50),
        });
        Subject { name: String::new(), objects: vec![first, second], settings: Value::Null, facts }
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        let mut walk = Walk { rules, subject, state: first(subject)?, all: Said { accepted: true, ..Said::default() } };
        let last = last(subject);
        let mut set_first = subject.facts["setFirst"] == true;
        while walk.state != last && walk.all.steps.len() < MOST {
            let scales = walk.state.members != last.members && (set_first || walk.state.limit == last.limit);
            let next = if scales {
                State { members: last.members, ..walk.state.clone() }
            } else {
                State { limit: last.limit.clone(), ..walk.state.clone() }
            };
            if let Some(denied) = walk.go(next)? {
                let limit = advised(&denied, subject.facts["raise"] == true);
                let Some(limit) = limit else { break };
                let advised = State { limit, ..walk.state.clone() };
                // A limit that is as advised already waits for the set.
                if walk.state == advised && scales || walk.state != advised && walk.go(advised)?.is_some() {
                    break;
                }
                // What was denied before may go now; the other one of the two first, where that was the budget itself.
                set_first = true;
            }
        }
        Ok(walk.all)
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let mut room = stage.room().await;
            let seen = play(stage, &mut room, subject).await;
            room.close().await;
            seen
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        if said.accepted { Stance::Accepts } else { Stance::Denies }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        let mut at = first(subject).ok()?;
        for step in &said.steps {
            let state = State { members: step["members"].as_i64()?, limit: step["limit"].clone() };
            let Some(allowed) = seen[state.key()].as_i64() else {
                return Some(format!("nobody thought of {}", state.key()));
            };
            let loses = allowed > state.tolerance();
            let (accepted, blocks) = (step["accepted"] == true, step["blocks"] == true);
            if accepted == loses || accepted && blocks != (allowed == 0) {
                return Some(format!("{} allows {allowed}: accepted {accepted}, said to block {blocks}", state.key()));
            }
            if accepted {
                at = state;
            }
        }
        (at != last(subject)).then(|| format!("the way ends at {}", at.key()))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "what blocks drains is denied in an update, too",
                says: |_, said| {
                    with_steps(said, |step| {
                        if step["blocks"] == true {
                            step["accepted"] = false.into();
                        }
                    })
                },
            },
            Wrong {
                name: "a set may always be scaled",
                says: |_, said| {
                    with_steps(said, |step| {
                        if step["scales"] == true {
                            step["accepted"] = true.into();
                        }
                    })
                },
            },
            Wrong {
                name: "what is allowed of the limit alone: a share is always sound",
                says: |_, said| {
                    with_steps(said, |step| {
                        if step["limit"].to_string().contains('%') {
                            step["accepted"] = true.into();
                            step["blocks"] = false.into();
                        }
                    })
                },
            },
            Wrong {
                name: "advice is to undo the change",
                says: |_, said| {
                    let denied = said.steps.iter().position(|step| step["accepted"] == false);
                    let count = denied.map_or(said.steps.len(), |denied| denied + 1);
                    Said { steps: said.steps[..count].to_vec(), ..said.clone() }
                },
            },
        ]
    }
}

fn with_steps(said: &Said, change: impl Fn(&mut Value)) -> Said {
    let mut said = said.clone();
    said.steps.iter_mut().for_each(change);
    said
}

/// Where it begins.
fn first(subject: &Subject) -> Result<State> {
    let [set, budget, ..] = &subject.objects[..] else { anyhow::bail!("a set and a budget are needed") };
    let mut limit = budget["spec"].clone();
    limit.as_object_mut().context("a budget has a spec")?.remove("selector");
    Ok(State { members: replicas(set), limit })
}

/// Where it ends.
fn last(subject: &Subject) -> State {
    let facts = &subject.facts;
    State { members: facts["members"].as_i64().unwrap_or(0), limit: facts["limit"].clone() }
}

/// The limit that a denial says to use: that of the patch, or of the advice.
fn advised(denied: &Said, raise: bool) -> Option<Value> {
    let found: &Found = denied.findings.iter().find(|found| found.level == "error")?;
    let raised = found.advice.split_once("raise minAvailable to ").and_then(|(_, rest)| rest.split(' ').next());
    if let (true, Some(raised)) = (raise, raised.and_then(|raised| raised.parse::<i64>().ok())) {
        return Some(json!({ "minAvailable": raised }));
    }
    let patched = found.patch.as_ref().and_then(Value::as_array).into_iter().flatten();
    let mut patched = patched.filter(|edit| edit["path"] == "/spec/maxUnavailable").map(|edit| edit["value"].clone());
    let advised = found.advice.contains("use maxUnavailable: 1").then(|| json!(1));
    patched.next().or(advised).map(|most| json!({ "maxUnavailable": most }))
}

/// A way, as far as it is gone.
struct Walk<'a> {
    rules: &'a Rules,
    subject: &'a Subject,
    state: State,
    all: Said,
}

impl Walk<'_> {
    /// Asks for one change, and goes there where it is accepted; otherwise gives the denial.
    fn go(&mut self, next: State) -> Result<Option<Said>> {
        let [set, budget] = [&self.subject.objects[0], &self.subject.objects[1]];
        let of = |state: &State| {
            let (mut set, mut budget) = (set.clone(), budget.clone());
            set["spec"]["replicas"] = state.members.into();
            let selector = budget["spec"]["selector"].take();
            budget["spec"] = state.limit.clone();
            budget["spec"]["selector"] = selector;
            (set, budget)
        };
        let (old_set, old_budget) = of(&self.state);
        let (_, new_budget) = of(&next);
        let scales = next.members != self.state.members;
        let said = if scales {
            let (from, to) = (i32::try_from(self.state.members)?, i32::try_from(next.members)?);
            let change = Change::Scale { object: &old_set, from, to };
            self.rules.ask("disruption-budget", &Value::Null, change, &[old_budget])?
        } else {
            let change = Change::Update { object: &new_budget, old: &old_budget };
            self.rules.ask("disruption-budget", &Value::Null, change, &[old_set])?
        };
        self.all.steps.push(json!({
            "members": next.members, "limit": next.limit, "scales": scales,
            "accepted": said.accepted, "blocks": said.has("blocks-drains"),
        }));
        self.all.accepted &= said.accepted;
        self.all.findings.extend(said.findings.iter().cloned());
        if !said.accepted {
            return Ok(Some(said));
        }
        self.state = next;
        Ok(None)
    }
}

/// A state whose budget lets one member go, and none too many.
fn sound(random: &mut Rng) -> State {
    loop {
        let members = one(random, &[3, 5, 7]).unwrap_or(3);
        let share = random.i64(1..100);
        let limit = match random.u32(..5) {
            0 => json!({ "maxUnavailable": random.i64(1..4) }),
            1 => json!({ "minAvailable": random.i64(1..7) }),
            2 => json!({ "maxUnavailable": format!("{share}%") }),
            3 => json!({ "minAvailable": format!("{share}%") }),
            // The majority of one size is too few of the next.
            _ => json!({ "minAvailable": members / 2 + 1 }),
        };
        let number = |value: &Value| match value.as_str().and_then(|text| text.strip_suffix('%')) {
            Some(share) => share.parse::<i64>().map_or(0, |share| (share * members + 99) / 100),
            None => value.as_i64().unwrap_or(0),
        };
        let allowed = match limit.get("maxUnavailable") {
            Some(most) => number(most),
            None => members - number(&limit["minAvailable"]),
        };
        let state = State { members, limit };
        if (1..=state.tolerance()).contains(&allowed) {
            return state;
        }
    }
}

/// What is allowed in every combination of the sizes and the limits.
async fn play(stage: &Stage, room: &mut Room<'_>, subject: &Subject) -> Result<Value, Trouble> {
    if subject.objects[0]["metadata"]["namespace"] != subject.objects[1]["metadata"]["namespace"] {
        return Err(Trouble::Unplayable("the two are in different namespaces".to_owned()));
    }
    let namespace = room.namespace("prod", &Value::Null).await?;
    room.node("node-1", &Value::Null).await?;
    let (from, to) = (first(subject)?, last(subject));
    let placed = [room.place(&subject.objects[0]), room.place(&subject.objects[1])];
    for object in &placed {
        stage.api.create(object).await?;
    }
    let [set, budget] = placed.map(|object| stage.api.path_of(&object, false));
    let majority = |state: &State| json!({ "minAvailable": state.members - state.tolerance() });
    let limits = [from.limit.clone(), to.limit.clone(), json!({ "maxUnavailable": 1 }), majority(&from), majority(&to)];
    let mut sizes = vec![from.members, to.members];
    sizes.dedup();
    let mut seen = BTreeMap::new();
    for members in sizes {
        let scale = json!({ "spec": { "replicas": members } });
        stage.api.patch(&format!("{set}/scale"), Patch::Merge, &scale).await?;
        let count = usize::try_from(members).unwrap_or(0);
        let there = |pods: &Objects| (pods.len() == count).then_some(());
        stage.mirror.until(Watched::Pods, &namespace, "as many pods as members", LIMIT, there).await?;
        for limit in &limits {
            let mut spec = json!({ "maxUnavailable": null, "minAvailable": null });
            for (field, value) in limit.as_object().into_iter().flatten() {
                spec[field] = value.clone();
            }
            let patched = stage.api.patch(&budget, Patch::Merge, &json!({ "spec": spec })).await?;
            let generation = patched["metadata"]["generation"].as_i64();
            let counted = |budgets: &Objects| {
                let budget = budgets.get("zk")?;
                // What is of the old size is not what is asked for: the controller may have seen the pods and not yet the set.
                let is_new = budget["metadata"]["generation"].as_i64() == generation;
                let is_whole = limit["minAvailable"].is_i64() || budget["status"]["expectedPods"] == members;
                (is_new && is_whole && is_settled(budget, Some(count)))
                    .then(|| budget["status"]["disruptionsAllowed"].clone())
            };
            let what = "a status of the new limit";
            let allowed = stage.mirror.until(Watched::DisruptionBudgets, &namespace, what, LIMIT, counted).await?;
            seen.insert(State { members, limit: limit.clone() }.key(), allowed);
        }
    }
    for end in [from, to] {
        let is_sound = seen[&end.key()].as_i64().is_some_and(|allowed| (1..=end.tolerance()).contains(&allowed));
        if !is_sound {
            return Err(Trouble::Unplayable(format!("{} is no sound end", end.key())));
        }
    }
    Ok(json!(seen))
}
