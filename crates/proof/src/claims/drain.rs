//! `disruption-budget`, and what drains and updates do.

use std::collections::BTreeSet;

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::budget_make::{budget, limit, selector, sets};
use super::budget_view::{Ensemble, View, ask_each, name, of_kind, replicas};
use super::budget_wrong::{Reading, blocking, counted, sets_under};
use super::drain_play::{Play, after, called, change};
use super::drain_story::story;
use crate::beat::Beat;
use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{chance, changed, created, one, subject};
use crate::room::{Room, Stage};
use crate::rules::{Change, Found, Rules, Said};

/// How many pods one play may have.
const MOST: i64 = 12;
/// The codes that say that a drain takes too much.
const LOSES: [&str; 7] = [
    "forgets-emptied-sets",
    "may-lose-quorum",
    "holds-nothing-back",
    "uncovered-members",
    "missing-budget",
    "budget-selects-nothing",
    "leaves-set-uncovered",
];

/// Drains end and leave a majority, exactly where the rule says so.
pub(super) struct Drain;

impl Claim for Drain {
    fn about(&self) -> About {
        About {
            name: "drain",
            policies: &["disruption-budget"],
            claims: "An accepted set with its budgets, whose members vote, keeps a majority of them ready while every node is drained, one after the \
                     other or all at once, and each drain ends. Where the rule says that a budget blocks drains, none of its pods can ever be \
                     evicted; where it says that two budgets select a pod, its eviction is an error; where it says that the quorum may be lost, \
                     that members are not covered, or that there is no budget, drains do take more members than may be missing; where it warns \
                     of sets that a budget forgets once their pods are gone, drains take just as many as it says while none is replaced; where it says \
                     that an update takes too many, the update does; where it says that unready members are evicted outside of the budget, \
                     they are. All of this holds of a set that is scaled as of a new one. What is said of updates holds with the feature \
                     MaxUnavailableStatefulSet, which Kubernetes 1.36 has off by default.",
            tried: "each pod of each node is evicted through the eviction API, as often as a drain would ask, and the node uncordoned before \
                    the next; then every pod is asked for until no more go, while a quota keeps all from being replaced, the largest set that may go first. Each state of each pod is watched. A drain never \
                    ends when all pods are ready and counted and the budget allows none. Sets with `rollingUpdate.maxUnavailable` are updated. \
                    A quarter of the sets is scaled first, through the scale subresource.",
            count: 200,
            at_once: 12,
            codes: &[
                "blocks-drains",
                "budget-selects-nothing",
                "evicts-unready-members",
                "forgets-emptied-sets",
                "holds-nothing-back",
                "leaves-set-uncovered",
                "may-lose-quorum",
                "missing-budget",
                "overlapping-budgets",
                "uncovered-members",
                "update-loses-quorum",
            ],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let kinds = ["StatefulSet", "PodDisruptionBudget"];
        let mut subjects: Vec<Subject> = created("disruption-budget", &kinds)?.into_iter().map(subject).collect();
        subjects.extend(changed("disruption-budget", &kinds)?);
        let is_plain = |settings: &Value| {
            settings.as_object().is_none_or(|all| all.keys().all(|key| ["missing", "onDelete"].contains(&key.as_str())))
        };
        // One that Kubernetes refuses is the other claim's, and so is what a Deployment adds, whose pods have another name each
        // time; a set that is going away is played by nobody.
        subjects.retain(|subject| {
            is_plain(&subject.settings)
                && of_kind(subject, "Deployment").next().is_none()
                && subject.objects.iter().all(|object| object["metadata"]["deletionTimestamp"].is_null())
        });
        for subject in &mut subjects {
            subject.settings["missing"] = "deny".into();
            // Where a namespace is called as a set is, the room would give both another name.
            let old = subject.facts.pointer_mut("/change/old");
            for object in subject.objects.iter_mut().chain(old) {
                let namespace = format!("of-{}", called(object));
                object["metadata"]["namespace"] = namespace.into();
            }
        }
        Ok(subjects)
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let mut objects = loop {
            let objects = sets(random, &[1, 2, 3, 3, 3, 3, 4, 5, 5, 7], false);
            if objects.iter().map(replicas).sum::<i64>() <= MOST {
                break objects;
            }
        };
        if chance(random, 20) {
            let mut rolling = json!({ "maxUnavailable": one(random, &[json!(1), json!(2), json!(3), json!("34%"), json!("50%"), json!("70%"), json!("100%")]) });
            if chance(random, 20) {
                rolling["partition"] = random.u32(0..4).into();
            }
            objects[0]["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
        }
        let members = objects.clone();
        let count =
            if members.len() > 1 { one(random, &[1, 2, 2]) } else { one(random, &[0, 1, 1, 1, 1, 1, 1, 1, 1, 2]) };
        for index in 0..count.unwrap_or(1) {
            let meant = members.get(index).or(members.first()).cloned().unwrap_or_default();
            let selector = if chance(random, 50) {
                json!({ "matchLabels": meant["spec"]["template"]["metadata"]["labels"] })
            } else {
                selector(random, &meant)
            };
            let limit = if chance(random, 35) { json!({ "maxUnavailable": 1 }) } else { limit(random, &meant) };
            let mut budget = budget(&format!("budget-{index}"), &selector, &limit);
            if chance(random, 25) {
                let policy = one(random, &["AlwaysAllow", "IfHealthyBudget"]);
                budget["spec"]["unhealthyPodEvictionPolicy"] = json!(policy);
            }
            objects.push(budget);
        }
        let mut facts = json!({ "nodes": random.u32(2..5) });
        if chance(random, 25) {
            let to = replicas(&objects[0]);
            let from = one(random, &[1, 3, 5, 7]).filter(|from| *from != to).unwrap_or(2);
            objects[0]["spec"]["replicas"] = from.into();
            facts["change"] = json!({ "scale": { "from": from, "to": to } });
        }
        Subject { name: String::new(), objects, settings: json!({ "missing": "deny" }), facts }
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        let (object, others) = (&subject.objects[0], &subject.objects[1..]);
        let change = change(subject);
        let number = |value: &Value| value.as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
        let change = if change["scale"].is_object() {
            Change::Scale { object, from: number(&change["scale"]["from"]), to: number(&change["scale"]["to"]) }
        } else if change["old"].is_object() {
            Change::Update { object, old: &change["old"] }
        } else if change["delete"] == true {
            Change::Delete(object)
        } else {
            return ask_each(rules, subject);
        };
        let mut said = rules.ask("disruption-budget", &subject.settings, change, others)?;
        for found in said.findings.iter_mut().filter(|found| found.subject.is_empty()) {
            name(object).clone_into(&mut found.subject);
        }
        Ok(said)
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let after = after(subject);
            let pods = |subject: &Subject| of_kind(subject, "StatefulSet").map(replicas).sum::<i64>();
            if pods(&after).max(pods(subject)) > 2 * MOST {
                return Err(Trouble::Unplayable("it has too many members".to_owned()));
            }
            let mut room = stage.room().await;
            let seen = play(stage, &mut room, subject, &after).await;
            room.close().await;
            let mut seen = seen?;
            if let Some((causes, story)) = story(subject, &seen) {
                seen["story"] = json!(story);
                seen["causes"] = json!(causes);
            }
            Ok(seen)
        }
        .boxed()
    }

    fn stance(&self, subject: &Subject, said: &Said) -> Stance {
        if !said.accepted {
            return Stance::Denies;
        }
        let view = View::new(&after(subject), &Value::Null);
        let is_silent = said.findings.iter().any(|found| found.code != "evicts-unready-members");
        let needs_none = !view.ensembles.iter().any(|ensemble| ensemble.votes && ensemble.needs_budget());
        if is_silent || needs_none { Stance::Silent } else { Stance::Accepts }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        let after = after(subject);
        let drained = Drained { view: View::new(&after, &seen["counted"]), seen };
        drained.denied(said).or_else(|| drained.accepted(subject, said))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "a budget that allows nothing is the safest",
                says: |_, said| said.without(|found| found.code == "blocks-drains"),
            },
            Wrong {
                name: "two budgets on a pod are fine",
                says: |_, said| said.without(|found| found.code == "overlapping-budgets"),
            },
            Wrong {
                name: "a budget that was right stays right when the set is scaled",
                says: |subject, said| {
                    let is_scaled = change(subject)["scale"].is_object();
                    said.without(|found| is_scaled && found.code != "missing-budget")
                },
            },
            Wrong {
                name: "any budget will do that lets one pod stay",
                says: |subject, said| {
                    let after = after(subject);
                    let view = View::new(&after, &counted(&after, Reading::Right));
                    let stays = |set: &str| {
                        let mut of_set = view.ensembles.iter().filter(|it| it.sets.iter().any(|name| name == set));
                        of_set.any(|ensemble| view.at_once(ensemble).1 < ensemble.pods.len())
                    };
                    let codes = ["may-lose-quorum", "uncovered-members"];
                    said.without(|found| {
                        codes.contains(&found.code.as_str())
                            && stays(found.subject.split_once('/').map_or(&*found.subject, |(_, set)| set))
                    })
                },
            },
            Wrong {
                name: "a set is counted while it has no pod",
                says: |_, said| said.without(|found| found.code == "forgets-emptied-sets"),
            },
            Wrong {
                name: "updates ask the budget",
                says: |subject, said| {
                    let after = after(subject);
                    let view = View::new(&after, &counted(&after, Reading::Right));
                    // Where a budget lets go no more than may be missing, an update would not take more.
                    let holds = |set: &str| {
                        let mut of_set = view.ensembles.iter().filter(|it| it.sets.iter().any(|name| name == set));
                        of_set.any(|ensemble| !view.covering(ensemble).is_empty() && !view.takes_too_much(ensemble))
                    };
                    said.without(|found| {
                        found.code == "update-loses-quorum"
                            && holds(found.subject.split_once('/').map_or(&*found.subject, |(_, set)| set))
                    })
                },
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
                says: |subject, said| {
                    let after = after(subject);
                    blocking(subject, said, |budget| sets_under(&after, budget) > 1)
                },
            },
            Wrong {
                name: "AlwaysAllow is about pods that were never ready",
                says: |_, said| said.without(|found| found.code == "evicts-unready-members"),
            },
        ]
    }
}

async fn play(stage: &Stage, room: &mut Room<'_>, subject: &Subject, after: &Subject) -> Result<Value, Trouble> {
    let names: BTreeSet<&str> = subject.objects.iter().map(called).collect();
    if names.len() > 1 {
        return Err(Trouble::Unplayable("it is in several namespaces".to_owned()));
    }
    for name in names {
        room.namespace(name, &Value::Null).await?;
    }
    let nodes = 1..=subject.facts["nodes"].as_u64().unwrap_or(3);
    room.add_nodes(nodes.map(|number| (format!("node-{number}"), Value::Null)).collect()).await?;
    let beat = Beat::start(stage, &room.id).await?;
    let seen = play_on(stage, room, &beat, subject, after).await;
    beat.end().await;
    seen
}

async fn play_on(
    stage: &Stage,
    room: &Room<'_>,
    beat: &Beat<'_>,
    subject: &Subject,
    after: &Subject,
) -> Result<Value, Trouble> {
    let (play, counted) = Play::open(stage, room, beat, subject, after).await?;
    let in_turn = play.drain_in_turn().await?;
    let at_once = play.drain_at_once().await?;
    let update = play.update().await?;
    let unready = play.evict_unready(&counted).await?;
    Ok(json!({ "counted": counted, "in_turn": in_turn, "at_once": at_once, "update": update, "unready": unready }))
}

/// What was seen of a subject.
struct Drained<'a> {
    view: View,
    seen: &'a Value,
}

impl Drained<'_> {
    /// Which answer the pod's eviction gets for ever; nothing where it could be evicted.
    fn refused(&self, pod: &str) -> Option<i64> {
        self.seen["in_turn"]["refused"][pod].as_i64()
    }

    /// How many members were missing at the worst moment, when the nodes were drained in turn, and when they were at once.
    fn missing(&self, ensemble: &Ensemble) -> (usize, usize) {
        let all = ensemble.pods.len();
        let missing = |least: &Value| {
            let least = least.as_u64().and_then(|least| usize::try_from(least).ok());
            all.saturating_sub(least.unwrap_or(all))
        };
        let key = &ensemble.key;
        (missing(&self.seen["in_turn"]["least"][key]), missing(&self.seen["at_once"][key]["least"]))
    }

    /// The most that the update of one of its sets took.
    fn updated(&self, ensemble: &Ensemble) -> usize {
        let of_set = |set: &String| {
            let least = usize::try_from(self.seen["update"][set].as_u64()?).ok()?;
            let prefix = format!("{set}-");
            let is_ours = |pod: &&String| {
                pod.strip_prefix(&prefix).is_some_and(|ordinal| ordinal.bytes().all(|byte| byte.is_ascii_digit()))
            };
            Some(ensemble.pods.iter().filter(is_ours).count().saturating_sub(least))
        };
        ensemble.sets.iter().filter_map(of_set).max().unwrap_or(0)
    }

    fn ensembles_of<'a>(&'a self, found: &'a Found) -> impl Iterator<Item = &'a Ensemble> {
        let set = found.subject.split_once('/').map_or(found.subject.as_str(), |(_, set)| set);
        self.view.ensembles.iter().filter(move |ensemble| {
            ensemble.sets.iter().any(|name| {
                name == set || found.code == "missing-budget" && found.message.contains(&format!("\"{name}\""))
            })
        })
    }

    /// A finding that is not so.
    fn denied(&self, said: &Said) -> Option<String> {
        said.findings.iter().find_map(|found| {
            let budget = self.view.budgets.iter().find(|budget| budget.name == found.subject);
            let wrong = match found.code.as_str() {
                "blocks-drains" => {
                    let is_beyond = |ensemble: &&Ensemble| self.view.is_beyond(ensemble);
                    let budget = budget.filter(|_| !self.view.ensembles.iter().any(|ensemble| is_beyond(&ensemble)))?;
                    let free: Vec<&String> = budget.pods.iter().filter(|pod| self.refused(pod).is_none()).collect();
                    (budget.pods.is_empty() || !free.is_empty()).then(|| format!("{free:?} can be evicted"))
                }
                "overlapping-budgets" => {
                    let both: Vec<_> = self
                        .view
                        .budgets
                        .iter()
                        .filter(|budget| found.subject.split('+').any(|name| name == budget.name))
                        .collect();
                    let [first, second] = both[..] else {
                        return Some(format!("no two budgets are {}", found.subject));
                    };
                    let mut shared = first.pods.intersection(&second.pods).peekable();
                    let is_so = shared.peek().is_some() && shared.all(|pod| self.refused(pod) == Some(500));
                    (!is_so).then(|| "the evictions are no error".to_owned())
                }
                "update-loses-quorum" => self.ensembles_of(found).find_map(|ensemble| {
                    let taken = self.updated(ensemble);
                    (taken <= ensemble.spare()).then(|| format!("the update took {taken}"))
                }),
                "evicts-unready-members" => {
                    let evicted = &self.seen["unready"][&found.subject];
                    (evicted == false).then(|| "an unready pod is not evicted outside of the budget".to_owned())
                }
                "forgets-emptied-sets" => self.ensembles_of(found).find_map(|ensemble| {
                    let (_, missing) = self.missing(ensemble);
                    let is_so = found.message.contains(&format!("take {missing} of {} members", ensemble.pods.len()));
                    (!self.view.is_beyond(ensemble) && (missing <= ensemble.spare() || !is_so))
                        .then(|| format!("drains took {missing}, and {} may be missing", ensemble.spare()))
                }),
                code if LOSES.contains(&code) => self.ensembles_of(found).find_map(|ensemble| {
                    let ((_, missing), spare) = (self.missing(ensemble), ensemble.spare());
                    let is_claimed = !self.view.is_beyond(ensemble);
                    (is_claimed && missing <= spare)
                        .then(|| format!("drains took {missing}, and {spare} may be missing"))
                }),
                _ => None,
            };
            wrong.map(|wrong| format!("{}, but {wrong}: {}", found.code, found.message))
        })
    }

    /// Something that goes wrong and is not told.
    fn accepted(&self, subject: &Subject, said: &Said) -> Option<String> {
        let change = change(subject);
        let is_judged = |ensemble: &&Ensemble| {
            change.is_null()
                || change["scale"].is_object() && ensemble.sets.iter().any(|set| set == name(&subject.objects[0]))
        };
        let mut judged = self.view.ensembles.iter().filter(is_judged).filter(|ensemble| !self.view.is_beyond(ensemble));
        judged.find_map(|ensemble| {
            let covering = self.view.covering(ensemble);
            let about = |found: &Found, codes: &[&str]| {
                codes.contains(&found.code.as_str()) && self.ensembles_of(found).any(|other| other.key == ensemble.key)
            };
            let of_budget = |found: &Found, code: &str| {
                found.code == code
                    && found.subject.split('+').any(|name| covering.iter().any(|budget| budget.name == name))
            };
            let told = |tells: &dyn Fn(&Found) -> bool| said.findings.iter().any(tells);
            let (all, spare, key) = (ensemble.pods.len(), ensemble.spare(), &ensemble.key);
            let blocks = told(&|found| of_budget(found, "blocks-drains"));
            let overlaps = told(&|found| of_budget(found, "overlapping-budgets"));
            let is_stuck = ensemble.pods.iter().any(|pod| self.refused(pod).is_some());
            // Of two that vote none may be missing, which odd-replicas tells.
            let is_pair = ensemble.votes && all == 2;
            if is_stuck && !(blocks || overlaps || is_pair) {
                return Some(format!("{key}: a drain never ends, and that is not told"));
            }
            if !ensemble.needs_budget() {
                return None;
            }
            let updated = self.updated(ensemble);
            if ensemble.votes && updated > spare && !told(&|found| about(found, &["update-loses-quorum"])) {
                return Some(format!("{key}: an update took {updated} of {all}, and {spare} may be missing"));
            }
            let evicts = covering.iter().any(|budget| self.seen["unready"][&budget.name] == true);
            if ensemble.votes && evicts && !told(&|found| of_budget(found, "evicts-unready-members")) {
                return Some(format!("{key}: an unready member was evicted outside of the budget"));
            }
            let (in_turn, at_once) = self.missing(ensemble);
            let missing = in_turn.max(at_once);
            // Where two budgets select a pod nothing is said of how many the others may go.
            let loses = told(&|found| about(found, &LOSES));
            (missing > spare && !loses && !overlaps)
                .then(|| format!("{key}: drains took {missing} of {all}, and {spare} may be missing"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget_view::is;
    use super::*;

    #[test]
    fn a_scaled_set_is_asked_about_as_it_was() {
        let mut random = Rng::with_seed(1);
        let scaled =
            (0..200).map(|_| Drain.generate(&mut random)).filter(|subject| change(subject)["scale"].is_object());
        for subject in scaled {
            let scale = &change(&subject)["scale"];
            assert!(is(&subject.objects[0], "StatefulSet"));
            assert_eq!(subject.objects[0]["spec"]["replicas"], scale["from"]);
            assert_eq!(after(&subject).objects[0]["spec"]["replicas"], scale["to"]);
            assert_ne!(scale["from"], scale["to"]);
        }
    }
}
