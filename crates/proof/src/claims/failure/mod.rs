//! `odd-replicas`, with `anti-affinity`: what the loss of nodes and of members leaves.

mod objects;
mod play;

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::room::Stage;
use crate::rules::{Change, Rules, Said};

/// After as many failures as a set is said to bear, a majority is left; and what is denied would buy or leave none.
pub(super) struct Failure;

/// What `anti-affinity` denies for, where members may be together.
const TOGETHER: [&str; 4] = ["no-anti-affinity", "only-preferred", "zone-majority", "zone-pinned"];

impl Claim for Failure {
    fn about(&self) -> About {
        About {
            name: "failure",
            policies: &["odd-replicas", "anti-affinity"],
            claims: "Of `n` members that both rules accept, a majority is left whichever `(n - 1) / 2` nodes fail, and, with `zones: require`, \
                     whichever zone fails. An even count bears no more failures than one member less, as the finding says with its number; and a change \
                     takes away the old members' majority exactly where the rule says so.",
            tried: "the members are scheduled, at first on one node or in one zone alone, where that is allowed, then everywhere. All choices of \
                    failing nodes are counted; the worst is played: all nodes are cordoned, those nodes and their pods deleted, and the pods that stay ready counted. \
                    Changes of the count are made by update or by scale, and the old members that are left are counted.",
            count: 200,
            at_once: 12,
            // Not played: `too-many-members` is the administrator's word; `declared-not-voting` is the catalogue's, about a system that does
            // not run here; `autoscaled-members` is about what an autoscaler may do, whose metrics nobody serves here.
            codes: &["even-members", "too-few-members", "big-step-down", "no-members", "malformed"],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        objects::cases()
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        objects::generate(random)
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        let object = &subject.objects[0];
        let others = &subject.objects[1..];
        let (old, scale) = (&subject.facts["old"], &subject.facts["scale"]);
        let count = |name: &str| scale[name].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
        let change = if scale.is_object() {
            Change::Scale { object: old, from: count("from"), to: count("to") }
        } else if old.is_object() {
            Change::Update { object, old }
        } else {
            Change::Create(object)
        };
        let mut said = rules.ask("odd-replicas", &subject.settings["odd-replicas"], change, others)?;
        let apart = &subject.settings["anti-affinity"];
        if apart.is_object() {
            let more = rules.ask("anti-affinity", apart, Change::Create(object), &[])?;
            said.accepted &= more.accepted;
            said.findings.extend(more.findings);
            said.message = said.message.or(more.message);
        }
        Ok(said)
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        play::play(stage, subject).boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        let is_silent = said.findings.iter().all(|found| found.level != "error" || found.code == "too-many-members");
        match (said.accepted, is_silent) {
            (true, _) => Stance::Accepts,
            (false, true) => Stance::Silent,
            (false, false) => Stance::Denies,
        }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        if let Some(why) = seen["refused"].as_str() {
            return said.accepted.then(|| format!("the rule accepts what the API server refuses: {why}"));
        }
        if let Some(found) = said.findings.iter().find(|found| found.code == "malformed") {
            // Annotations are the rule's own.
            if !found.path.starts_with("/spec") {
                return None;
            }
            return Some("the rule cannot read what the API server can".to_owned());
        }
        let number = |name: &str| seen[name].as_i64().unwrap_or(0);
        let (members, tolerated) = (number("members"), number("tolerated"));
        let (majority, bearable) = (members / 2 + 1, (members - 1) / 2);
        let is_together = said.findings.iter().any(|found| TOGETHER.contains(&found.code.as_str()));
        if members > 0 && !is_together {
            if tolerated < bearable {
                return Some(format!("{tolerated} node losses are borne, not {bearable}"));
            }
            let zones = &subject.settings["anti-affinity"]["zones"];
            if *zones == "require" && number("zone_left") < majority && bearable > 0 {
                return Some(format!("a zone fails: {} of {members} members left", number("zone_left")));
            }
        }
        if let Some(found) =
            said.findings.iter().find(|found| ["even-members", "too-few-members"].contains(&found.code.as_str()))
        {
            let failures = match bearable {
                0 => "no failure".to_owned(),
                1 => "1 failure".to_owned(),
                many => format!("{many} failures"),
            };
            let says = |verb: &str| found.message.contains(&format!(" {verb} {failures}"));
            if !is_together && (tolerated != bearable || !(says("tolerate") || says("tolerates"))) {
                return Some(format!("{tolerated} node losses are borne; the rule: {}", found.message));
            }
            if found.code == "even-members" && (members % 2 != 0 || bearable != (members - 2) / 2) {
                return Some("the last member is said to buy nothing, and does".to_owned());
            }
        } else if said.accepted && !subject.facts["votes"].is_null() && members > 0 {
            if members % 2 == 0 {
                return Some(format!("accepted: {members} members, of which {} would bear as much", members - 1));
            }
            if tolerated == 0 && subject.facts["votes"] == "known" {
                return Some("accepted: members that are known to vote, and bear no failure".to_owned());
            }
        }
        let (before, left) = (number("before"), number("before_left"));
        let loses = before > 0 && members > 0 && left < before / 2 + 1;
        if loses != said.has("big-step-down") {
            return Some(format!("of {before} old members {left} are left; a majority is {}", before / 2 + 1));
        }
        (said.has("no-members") && members > 0).then(|| "members are left".to_owned())
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong { name: "an even count is as good as an odd one", says: |_, said| without(said, &["even-members"]) },
            Wrong {
                name: "members may leave by halves",
                says: |subject, said| match counts(subject) {
                    Some((old, new)) if (old - new) * 2 <= old => without(said, &["big-step-down"]),
                    _ => said.clone(),
                },
            },
            Wrong {
                name: "a zone may hold the majority",
                says: |_, said| without(said, &["zone-majority", "zone-pinned"]),
            },
            Wrong { name: "nothing need keep members apart", says: |_, said| without(said, &TOGETHER) },
            Wrong { name: "one voting member is enough", says: |_, said| without(said, &["too-few-members"]) },
            Wrong {
                name: "every step down loses the majority",
                says: |subject, said| {
                    let mut said = said.clone();
                    if said.accepted && counts(subject).is_some_and(|(old, new)| old > new && new > 0) {
                        let found = crate::rules::Found {
                            code: "big-step-down".to_owned(),
                            level: "error".to_owned(),
                            ..Default::default()
                        };
                        said.findings.push(found);
                        said.accepted = false;
                    }
                    said
                },
            },
        ]
    }
}

/// The count before and the count after, of a change.
fn counts(subject: &Subject) -> Option<(i64, i64)> {
    let old = subject.facts["old"]["spec"]["replicas"].as_i64()?;
    let new = subject.facts["scale"]["to"].as_i64().or_else(|| subject.objects[0]["spec"]["replicas"].as_i64())?;
    Some((old, new))
}

/// What the rules would say without these codes.
fn without(said: &Said, codes: &[&str]) -> Said {
    let mut said = said.clone();
    said.findings.retain(|found| !codes.contains(&found.code.as_str()));
    said.accepted = !said.findings.iter().any(|found| found.level == "error");
    said
}

/// The facts of a subject.
fn facts(old: &Value, scale: &Value) -> Value {
    json!({ "old": old, "scale": scale })
}
