//! `anti-affinity` and the scheduler.

mod generate;
mod nodes;
mod plan;
mod play;
mod zones;

use anyhow::{Result, anyhow};
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make;
use crate::room::Stage;
use crate::rules::{Change, Found, Rules, Said};
use plan::{Plan, hard, items, merge, spec};

/// Findings that say: two members may share a node.
const MAY_SHARE: [&str; 10] = [
    "no-anti-affinity",
    "term-selects-nothing",
    "term-selects-some",
    "per-member-key",
    "spread-may-share",
    "spread-counts-others",
    "spread-selects-nothing",
    "spread-selects-some",
    "only-preferred",
    "node-name",
];
/// Findings that say: this cannot be told.
const UNPROVEN: [&str; 2] = ["term-unproven", "spread-unproven"];
/// Findings that say: not while an update goes on.
const UPDATE: [&str; 2] = ["per-revision-key", "update-unseen"];
/// Findings that say: a zone may hold too many members.
const ZONE: [&str; 2] = ["zone-majority", "zone-pinned"];
/// What says that all is well where nodes have a label.
const DOMAIN: &str = "unknown-domain";

/// What `anti-affinity` accepts is kept apart, what it denies is not.
pub(super) struct Separation;

impl Claim for Separation {
    fn about(&self) -> About {
        About {
            name: "separation",
            policies: &["anti-affinity"],
            claims: "Of an accepted set, two members are never on one node, and with `zones: require` never more members in one zone than may \
                     be lost: with fewer nodes than members, while nodes are cordoned, tainted, removed and added, and throughout a rolling \
                     update; members without a place stay pending, and all are scheduled when there are as many nodes as members. Of a set for \
                     which the rule says that members may share a node, or that a zone may hold too many, some do; the same, during an update or on \
                     nodes without a label, where a warning says that. A member that is being deleted counts as gone, and no zone has tainted \
                     nodes. A set that is bound to one zone has too many members there, or never a majority. Nodes have \
                     the labels of zones and regions that a term or constraint names, and those of the setting `domains`: the rule takes that for granted, \
                     and where nodes lack them, a term on them keeps nobody apart. Nothing is claimed of sets denied for \
                     several constraints of which one counts other pods (each is judged alone), nor for terms that name the namespaces they do \
                     not look into (the scheduler of 1.36 looks into these as well); nor of the zones of a set with a `nodeName`, or of one that \
                     names the key of its revision and may lose more than one member, for which it would take three revisions at a time; nor that all \
                     are scheduled of pods that ask for certain nodes or for pods beside them.",
            tried: "the set is created with one node, then there are two, and so on; each member's node is closed in turn while all others \
                    are open; and an update replaces the members one by one, each while its own node is closed. Where a constraint counts other \
                    pods, nodes full of these are there first. Zones are filled as unevenly as the scheduler allows. Every state that a \
                    watch tells of is looked at. Sets have 2 to 5 members, of either pod management policy; what a simulated kubelet cannot give, \
                    such as volumes, is taken out, and the update strategy is the default. A constraint that ignores node affinity gets a label that only \
                    the nodes of its room have.",
            count: 200,
            at_once: 12,
            // Not here: `malformed`, which the API server says itself, and `own-scheduler`, of which nothing is claimed.
            codes: &[
                "no-anti-affinity",
                "term-selects-nothing",
                "term-selects-some",
                "term-unproven",
                "per-member-key",
                "per-revision-key",
                "unknown-domain",
                "update-unseen",
                "spread-may-share",
                "spread-counts-others",
                "spread-selects-nothing",
                "spread-selects-some",
                "spread-unproven",
                "only-preferred",
                "node-name",
                "zone-majority",
                "zone-pinned",
            ],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let cases = corpus::cases("anti-affinity").map_err(|error| anyhow!("{error}"))?;
        let is_plain = |case: &corpus::Case| {
            let header = &case.header;
            header.request.is_none() && header.user.is_none() && !header.delete && header.lookups && !header.nameless
        };
        let subjects = cases.into_iter().filter(is_plain).map(|case| {
            let facts = match (&case.header.before, case.header.scale) {
                (Some(before), _) => json!({ "before": before }),
                (None, Some(scale)) => json!({ "scale": { "from": scale.from, "to": scale.to } }),
                (None, None) => Value::Null,
            };
            let mutated = case.header.mutated.clone();
            let mut subject = Subject { facts, ..make::subject(case) };
            // What is accepted is the object as it is mutated.
            if let (Some(mutated), Some(object)) = (mutated, subject.objects.first_mut()) {
                *object = merge(object, &mutated);
                subject.settings["mutate"] = false.into();
            }
            subject
        });
        Ok(subjects.collect())
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        generate::subject(random)
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        let Some((object, others)) = subject.objects.split_first() else { return Ok(Said::default()) };
        let facts = &subject.facts;
        let old = facts.get("before").map(|before| merge(object, before));
        let count = |at: &str| facts["scale"][at].as_i64().and_then(|count| i32::try_from(count).ok());
        let change = match (&old, count("from"), count("to")) {
            (Some(old), ..) => Change::Update { object, old },
            (None, Some(from), Some(to)) => Change::Scale { object, from, to },
            _ => Change::Create(object),
        };
        rules.ask("anti-affinity", &subject.settings, change, others)
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let plan = Plan::read(subject)?;
            let nodes = nodes::play(stage, &plan, false).await?;
            let mut story = nodes.story;
            let mut causes = match (&nodes.shares.steady, &nodes.shares.update) {
                (Some(_), _) => [&MAY_SHARE[..], &UNPROVEN].concat(),
                (None, Some(_)) => UPDATE.to_vec(),
                (None, None) => Vec::new(),
            };
            let mut seen = json!({
                "members": plan.members,
                "shared": nodes.shares.steady,
                "shared in an update": nodes.shares.update,
                "all placed": nodes.all_placed || plan.is_choosy,
            });
            if !plan.unknown.is_empty() && nodes.shares.steady.is_none() {
                let bare = nodes::play(stage, &plan, true).await?;
                seen["shared without the label"] = json!(bare.shares.steady.or(bare.shares.update));
                if story.is_empty() {
                    (story, causes) = (bare.story, vec![DOMAIN]);
                }
            }
            if plan.has_zones && plan.bearable() > 0 {
                let zones = zones::play(stage, &plan).await?;
                seen["most in a zone"] = zones.steady.into();
                seen["most with a place"] = zones.placed.into();
                seen["most in a zone, also in an update"] = zones.rolling.into();
                if story.is_empty() {
                    (story, causes) = (zones.story, [&ZONE[..], &UPDATE].concat());
                }
            }
            // Such as one that asks for a pod beside it that there can never be: it says nothing of who shares what.
            if plan.is_choosy && !nodes.ever_placed && seen["most with a place"].as_i64().unwrap_or(0) == 0 {
                return Err(Trouble::Unplayable("no member ever finds a place".to_owned()));
            }
            seen["story"] = json!(story);
            seen["causes"] = json!(causes);
            Ok(seen)
        }
        .boxed()
    }

    fn stance(&self, subject: &Subject, said: &Said) -> Stance {
        if says_of_nodes(subject, said) == Nodes::MayShare || ZONE.iter().any(|code| said.has(code)) {
            Stance::Denies
        } else if says_of_nodes(subject, said) == Nodes::Apart
            && !said.has(DOMAIN)
            && !UPDATE.iter().any(|code| said.has(code))
        {
            Stance::Accepts
        } else {
            Stance::Silent
        }
    }

    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        nodes_contradict(subject, said, seen).or_else(|| zones_contradict(subject, said, seen))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "any required term on the node's label keeps members apart, whatever it selects",
                says: |subject, said| {
                    let pod = subject.objects.first().map(spec);
                    let has_term = pod.is_some_and(|pod| {
                        items(pod, plan::REQUIRED).any(|term| term["topologyKey"] == plan::HOSTNAME)
                    });
                    if has_term { without(said, &MAY_SHARE) } else { said.clone() }
                },
            },
            Wrong {
                name: "maxSkew: 1 keeps members apart, without minDomains",
                says: |subject, said| {
                    let pod = subject.objects.first().map(spec);
                    let has_one = pod.is_some_and(|pod| hard(pod).any(|spread| spread["maxSkew"] == 1));
                    if has_one { without(said, &["spread-may-share"]) } else { said.clone() }
                },
            },
            Wrong { name: "other pods never matter", says: |_, said| without(said, &["spread-counts-others"]) },
            Wrong { name: "a wish is as good as a guarantee", says: |_, said| without(said, &["only-preferred"]) },
            Wrong { name: "a revision key is fine", says: |_, said| without(said, &["per-revision-key"]) },
            Wrong { name: "an update changes nothing", says: |_, said| without(said, &["update-unseen"]) },
            Wrong { name: "every node has every label", says: |_, said| without(said, &[DOMAIN]) },
            Wrong { name: "nodes that are apart are in zones that are apart", says: |_, said| without(said, &ZONE) },
            Wrong {
                name: "only the set's own selector, word for word, keeps its members apart",
                says: |subject, said| {
                    let is_own = |object: &Value| {
                        items(spec(object), plan::REQUIRED)
                            .any(|term| term["labelSelector"] == object["spec"]["selector"])
                    };
                    if subject.objects.first().is_some_and(is_own) {
                        return said.clone();
                    }
                    let found =
                        Found { code: "no-anti-affinity".to_owned(), level: "error".to_owned(), ..Found::default() };
                    Said { accepted: false, findings: vec![found], ..said.clone() }
                },
            },
        ]
    }
}

/// What is said of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Apart,
    MayShare,
    /// Nothing that could be held against it.
    Nothing,
}

fn says_of_nodes(subject: &Subject, said: &Said) -> Nodes {
    let known = |found: &Found| {
        let code = found.code.as_str();
        MAY_SHARE.contains(&code)
            || UNPROVEN.contains(&code)
            || UPDATE.contains(&code)
            || ZONE.contains(&code)
            || code == DOMAIN
    };
    // Settings or objects that cannot be read are no matter of placing.
    if UNPROVEN.iter().any(|code| said.has(code)) || !said.findings.iter().all(known) {
        return Nodes::Nothing;
    }
    if MAY_SHARE.iter().any(|code| said.has(code)) {
        let is_mixed = said.has("spread-counts-others") && subject.objects.iter().any(|it| hard(spec(it)).count() > 1);
        let is_left_out = is_mixed || subject.objects.iter().any(has_negative_namespaces);
        return if is_left_out { Nodes::Nothing } else { Nodes::MayShare };
    }
    if subject.settings["require"] == "preferred" || (!said.accepted && said.findings.is_empty()) {
        return Nodes::Nothing;
    }
    Nodes::Apart
}

/// Whether a term names the namespaces that it does not look into. Schedulers of some versions, 1.36 among them, ask such a selector
/// about a namespace without labels, whatever the namespace (`mergeAffinityTermNamespacesIfNotEmpty` changes a copy of the term), and keep
/// more pods apart than is promised: nothing that a rule could rely on.
fn has_negative_namespaces(object: &Value) -> bool {
    let mut selectors = items(spec(object), plan::REQUIRED).filter_map(|term| term.get("namespaceSelector"));
    selectors
        .any(|selector| selector.as_object().is_some_and(|it| !it.is_empty()) && make::matches(selector, &json!({})))
}

fn nodes_contradict(subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
    let at = |name: &str| seen[name].as_str();
    let (steady, update) = (at("shared"), at("shared in an update"));
    match says_of_nodes(subject, said) {
        Nodes::Nothing => return None,
        Nodes::MayShare => {
            return if steady.or(update).is_none() {
                Some("members may share a node, it says, but never did".to_owned())
            } else {
                None
            };
        }
        Nodes::Apart => {}
    }
    if let Some(shared) = steady {
        return Some(format!("members are kept apart, it says, but there were {shared}"));
    }
    let bare = at("shared without the label");
    let updates = said.findings.iter().any(|found| UPDATE.contains(&found.code.as_str()) && !is_of_zones(found));
    match (updates, update.or(bare)) {
        (false, _) if update.is_none() => {}
        (false, Some(shared)) => {
            return Some(format!("members are kept apart, it says, but in an update there were {shared}"));
        }
        (true, None) => return Some("members may share a node in an update, it says, but never did".to_owned()),
        _ => {}
    }
    if update.is_none() && seen["all placed"] == false {
        return Some("a member had no place, although there were as many nodes as members".to_owned());
    }
    match (said.has(DOMAIN), bare) {
        (false, Some(_)) if updates => None,
        (false, Some(shared)) => {
            Some(format!("members are kept apart, it says, but on nodes without some label there were {shared}"))
        }
        (true, None) => Some("members may share a node without the label, it says, but never did".to_owned()),
        _ => None,
    }
}

fn zones_contradict(subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
    let (Some(most), Some(members)) = (seen["most in a zone, also in an update"].as_i64(), seen["members"].as_i64())
    else {
        return None;
    };
    if says_of_nodes(subject, said) == Nodes::Nothing || said.has("node-name") {
        return None;
    }
    let object = subject.objects.first()?;
    // The only ones of the cases and of what is generated that do not vote.
    let declares = object["metadata"]["annotations"]["quorate.dev/quorum"] == "none";
    let is_minio =
        items(spec(object), "/containers").any(|it| it["image"].as_str().is_some_and(|it| it.starts_with("minio/")));
    let bearable = if declares || is_minio { members - 1 } else { (members - 1) / 2 };
    let by_revision = |list: &str| {
        items(spec(object), list).any(|it| items(it, "/matchLabelKeys").any(|key| key == "controller-revision-hash"))
    };
    if bearable > 1 && (by_revision(plan::REQUIRED) || by_revision("/topologySpreadConstraints")) {
        // It takes three revisions at a time, which only an update by hand makes.
        return None;
    }
    if said.has("zone-pinned") && seen["most with a place"].as_i64().is_some_and(|most| most <= members / 2) {
        // What holds the members in one zone may leave them none but that, and a constraint may keep them out of it.
        return None;
    }
    let steady = seen["most in a zone"].as_i64()?;
    let denied = ZONE.iter().any(|code| said.has(code));
    let updates = said.findings.iter().any(is_of_zones);
    if (denied || updates) && most <= bearable {
        return Some(format!("a zone may hold too many members, it says, but none held more than {most}"));
    }
    if !denied && (if updates { steady } else { most }) > bearable {
        return Some(format!("no zone holds more than {bearable} members, it says, but one held {most}"));
    }
    None
}

/// Whether it is about zones that an update makes too full.
fn is_of_zones(found: &Found) -> bool {
    found.code == "update-unseen" && found.message.contains("too many in one ")
}

/// What the rule would say without these codes.
fn without(said: &Said, codes: &[&str]) -> Said {
    let mut said = said.clone();
    said.findings.retain(|found| !codes.contains(&found.code.as_str()));
    said.accepted = !said.findings.iter().any(|found| found.level == "error");
    said
}
