//! What the budgets of a namespace come to, as Kubernetes itself counts: what the words of `disruption-budget` are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use futures::future::try_join_all;
use serde_json::{Value, json};
use workload::catalogue::{Model, recognise_pod};

use crate::claim::{Subject, Trouble};
use crate::mirror::Watched;
use crate::room::{LIMIT, Stage};
use crate::rules::{Change, Found, Rules, Said};

/// The labels that only the cluster gives: of these the rule says that it does not know.
const OPEN: [&str; 3] = ["controller-revision-hash", "topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// What several sets that are one ensemble bear.
pub(super) const ENSEMBLE: &str = "quorate.dev/ensemble";
/// What a set says of itself.
pub(super) const QUORUM: &str = "quorate.dev/quorum";

/// Asks about each set and each budget as the checker does: each is judged as new, with all others beside it.
pub(super) fn ask_each(rules: &Rules, subject: &Subject) -> anyhow::Result<Said> {
    let mut all = Said { accepted: true, ..Said::default() };
    for (index, object) in subject.objects.iter().enumerate() {
        if !(is(object, "StatefulSet") || is(object, "PodDisruptionBudget")) {
            continue;
        }
        let mut others = subject.objects.clone();
        others.remove(index);
        let mut said = rules.ask("disruption-budget", &subject.settings, Change::Create(object), &others)?;
        for found in said.findings.iter_mut().filter(|found| found.subject.is_empty()) {
            name(object).clone_into(&mut found.subject);
        }
        add(&mut all, said);
    }
    Ok(all)
}

fn add(all: &mut Said, said: Said) {
    all.accepted &= said.accepted;
    if all.message.is_none() {
        all.message = said.message;
    }
    all.findings.extend(said.findings);
    all.warnings.extend(said.warnings);
}

/// The pods of a set, by their names.
pub(super) fn members(set: &Value) -> Vec<String> {
    let name = set["metadata"]["name"].as_str().unwrap_or_default();
    let first = set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
    (first..first + replicas(set)).map(|ordinal| format!("{name}-{ordinal}")).collect()
}

/// What the set's ensemble is called: the set, or `ensemble NAME` where it says that it is one of several.
pub(super) fn ensemble(set: &Value) -> String {
    let of_several = set["metadata"]["annotations"][ENSEMBLE].as_str();
    of_several.map_or_else(|| name(set).to_owned(), |ensemble| format!("ensemble {ensemble}"))
}

/// How many pods the set is to have.
pub(super) fn replicas(set: &Value) -> i64 {
    set["spec"]["replicas"].as_i64().unwrap_or(1)
}

/// Whether the object is of Kubernetes' own kind: another group may have one of that name.
pub(super) fn is(object: &Value, kind: &str) -> bool {
    let version = match kind {
        "StatefulSet" | "Deployment" => "apps/v1",
        "PodDisruptionBudget" => "policy/v1",
        _ => "v1",
    };
    object["kind"] == kind && object["apiVersion"] == version
}

/// The subject's objects of a kind.
pub(super) fn of_kind<'a>(subject: &'a Subject, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    subject.objects.iter().filter(move |object| is(object, kind))
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The names of the pods that the selector selects, as the API server sees it; none without a selector, which the API of a list
/// does not know.
pub(super) async fn selected(stage: &Stage, namespace: &str, selector: &Value) -> Result<BTreeSet<String>, Trouble> {
    if !selector.is_object() {
        return Ok(BTreeSet::new());
    }
    let path = stage.api.path("v1", "Pod", namespace, "");
    let list = stage.api.get(&format!("{path}?labelSelector={}", query(selector))).await?;
    Ok(list["items"].as_array().into_iter().flatten().map(|pod| name(pod).to_owned()).collect())
}

fn query(selector: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push(format!("{key}={}", text(value)));
    }
    for requirement in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = text(&requirement["key"]);
        let values: Vec<String> = requirement["values"].as_array().into_iter().flatten().map(text).collect();
        let values = values.join(",");
        parts.push(match requirement["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("Exists") => key,
            _ => format!("!{key}"),
        });
    }
    let mut encoded = String::new();
    for byte in parts.join(",").bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Waits until the disruption controller has counted all pods that these budgets select, every one of which is ready, and
/// tells what it wrote, by the names of `budgets`. Each is the name in the cluster, and the object.
pub(super) async fn counted(
    stage: &Stage,
    namespace: &str,
    budgets: &[(String, &Value)],
    is_whole: impl Fn(&Value) -> bool + Copy,
) -> Result<BTreeMap<String, Value>, Trouble> {
    let each = budgets.iter().map(|(own, budget)| async move {
        let selector = &budget["spec"]["selector"];
        let matched = selected(stage, namespace, selector).await?;
        let path = stage.api.path("policy/v1", "PodDisruptionBudget", namespace, own);
        let what = format!("status of {path}");
        let wanted = selector.is_object().then_some(matched.len());
        let status = stage
            .mirror
            .until(Watched::DisruptionBudgets, namespace, &what, LIMIT, |all| {
                let object = all.get(own)?;
                (is_settled(object, wanted) && is_whole(object)).then(|| object["status"].clone())
            })
            .await?;
        let seen = json!({
            "matched": matched,
            "allowed": status["disruptionsAllowed"],
            "healthy": status["currentHealthy"],
            "desired": status["desiredHealthy"],
            "expected": status["expectedPods"],
            "reason": status["conditions"][0]["reason"],
        });
        Ok::<_, Trouble>((name(budget).to_owned(), seen))
    });
    Ok(try_join_all(each).await?.into_iter().collect())
}

/// Whether the budget's status is about this spec, and about so many pods, all healthy and none on its way out, and not one that an
/// eviction has left: that lowers what is allowed, and nothing else.
pub(super) fn is_settled(budget: &Value, pods: Option<usize>) -> bool {
    let status = &budget["status"];
    let is_current =
        status["observedGeneration"].is_i64() && status["observedGeneration"] == budget["metadata"]["generation"];
    let leaves = status["disruptedPods"].as_object().is_some_and(|pods| !pods.is_empty());
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let spare = (number("currentHealthy") - number("desiredHealthy")).max(0);
    let is_whole = number("expectedPods") == 0 || number("disruptionsAllowed") == spare;
    is_failed(status) || is_current && !leaves && is_whole && pods.is_none_or(|pods| status["currentHealthy"] == pods)
}

/// Whether the pods of this status cannot be counted: it says nothing of a generation.
pub(super) fn is_failed(status: &Value) -> bool {
    status["conditions"][0]["reason"] == "SyncFailed"
}

/// Whether the budget's status may be of the controllers as they are now: after they were scaled, the disruption controller hears
/// of that later than of their pods. Pods of no controller are never expected.
pub(super) fn is_of_now(budget: &Value) -> bool {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    number("expectedPods") == 0 || number("expectedPods") >= number("currentHealthy")
}

/// A budget, as it was counted.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) name: String,
    /// The pods that it selects.
    pub(super) pods: BTreeSet<String>,
    /// How many may be evicted.
    pub(super) allowed: i64,
    healthy: i64,
    desired: i64,
    expected: i64,
    /// It selects by a label of which the rule says that it does not know it.
    pub(super) is_open: bool,
    /// It selects pods of neither a set nor a Deployment, which the rule does not see.
    pub(super) has_strangers: bool,
}

/// Sets that vote together, or one of them.
#[derive(Debug)]
pub(super) struct Ensemble {
    /// What it is called in what was seen: the set, or `ensemble NAME`.
    pub(super) key: String,
    pub(super) sets: Vec<String>,
    pub(super) pods: BTreeSet<String>,
    pub(super) votes: bool,
    /// How many may be missing.
    pub(super) tolerance: usize,
}

impl Ensemble {
    /// Whether a budget can do it any good.
    pub(super) fn needs_budget(&self) -> bool {
        if self.votes { self.tolerance >= 1 } else { self.pods.len() >= 2 }
    }

    /// How many may be missing before something is lost.
    pub(super) fn spare(&self) -> usize {
        if self.votes { self.tolerance } else { self.pods.len().saturating_sub(1) }
    }
}

/// What a subject's sets and budgets come to.
#[derive(Debug)]
pub(super) struct View {
    pub(super) ensembles: Vec<Ensemble>,
    pub(super) budgets: Vec<Counted>,
}

impl View {
    /// Of the subject, and of what [`counted`] told of its budgets.
    pub(super) fn new(subject: &Subject, counted: &Value) -> Self {
        let mut ensembles: BTreeMap<String, Ensemble> = BTreeMap::new();
        let mut all_pods = BTreeSet::new();
        for set in of_kind(subject, "StatefulSet") {
            let pods = members(set);
            all_pods.extend(pods.iter().cloned());
            if pods.is_empty() {
                continue;
            }
            let annotations = &set["metadata"]["annotations"];
            let known = recognise_pod(&set["spec"]["template"]["spec"]).map(|(system, _)| system);
            let votes = match annotations[QUORUM].as_str() {
                Some(declared) => declared == "majority",
                None => known.is_none_or(|system| system.model == Model::Majority),
            };
            let group = known.and_then(|system| system.group).filter(|_| annotations[QUORUM].is_null());
            let key = ensemble(set);
            let ensemble = ensembles.entry(key.clone()).or_insert_with(|| Ensemble {
                key,
                sets: Vec::new(),
                pods: BTreeSet::new(),
                votes,
                tolerance: 0,
            });
            ensemble.sets.push(name(set).to_owned());
            ensemble.pods.extend(pods);
            let group = group.and_then(|group| usize::try_from(group).ok()).unwrap_or(usize::MAX);
            let deciding = group.min(ensemble.pods.len());
            ensemble.tolerance = (deciding - 1) / 2;
        }
        let deployments: Vec<String> = of_kind(subject, "Deployment").map(|made| format!("{}-", name(made))).collect();
        let is_known = |pod: &String| all_pods.contains(pod) || deployments.iter().any(|made| pod.starts_with(made));
        let number = |value: &Value| value.as_i64().unwrap_or(0);
        let budgets = of_kind(subject, "PodDisruptionBudget").map(|budget| {
            let seen = &counted[name(budget)];
            let matched = seen["matched"].as_array().into_iter().flatten();
            let pods: BTreeSet<String> = matched.filter_map(Value::as_str).map(str::to_owned).collect();
            Counted {
                name: name(budget).to_owned(),
                has_strangers: !pods.iter().all(is_known),
                pods,
                allowed: number(&seen["allowed"]),
                healthy: number(&seen["healthy"]),
                desired: number(&seen["desired"]),
                expected: number(&seen["expected"]),
                is_open: is_open(&budget["spec"]["selector"]),
            }
        });
        Self { budgets: budgets.collect(), ensembles: ensembles.into_values().collect() }
    }

    /// The budgets that select pods of the ensemble.
    pub(super) fn covering(&self, ensemble: &Ensemble) -> Vec<&Counted> {
        self.budgets.iter().filter(|budget| !budget.pods.is_disjoint(&ensemble.pods)).collect()
    }

    /// Whether the rule claims nothing of the ensemble: a label that it cannot know decides, or pods that it does not see count.
    pub(super) fn is_beyond(&self, ensemble: &Ensemble) -> bool {
        self.budgets.iter().any(|budget| budget.is_open)
            || self.covering(ensemble).iter().any(|budget| budget.has_strangers)
    }

    /// How many pods no budget selects, and how many may be evicted at once.
    pub(super) fn at_once(&self, ensemble: &Ensemble) -> (usize, usize) {
        let covering = self.covering(ensemble);
        let is_free = |pod: &&String| !covering.iter().any(|budget| budget.pods.contains(*pod));
        let free = ensemble.pods.iter().filter(is_free).count();
        let of_each = covering.iter().map(|budget| {
            let pods = budget.pods.intersection(&ensemble.pods).count();
            usize::try_from(budget.allowed).unwrap_or(0).min(pods)
        });
        (free, free + of_each.sum::<usize>())
    }

    fn covered<'a>(&'a self, budget: &'a Counted) -> impl Iterator<Item = &'a Ensemble> {
        self.ensembles.iter().filter(|ensemble| !ensemble.pods.is_disjoint(&budget.pods))
    }

    /// Whether the budget blocks drains. Of two that vote none can be spared, which another rule tells.
    pub(super) fn blocks(&self, budget: &Counted) -> bool {
        budget.allowed == 0 && self.covered(budget).any(|ensemble| !(ensemble.votes && ensemble.pods.len() == 2))
    }

    /// Whether the ensemble needs a budget, and no budget selects any of its pods.
    pub(super) fn is_missing(&self, ensemble: &Ensemble) -> bool {
        self.covering(ensemble).is_empty() && ensemble.needs_budget()
    }

    /// Whether its budgets let more of the ensemble go than may be missing.
    pub(super) fn takes_too_much(&self, ensemble: &Ensemble) -> bool {
        let covering = self.covering(ensemble);
        let is_twice = |pod: &String| covering.iter().filter(|budget| budget.pods.contains(pod)).count() > 1;
        !covering.is_empty()
            && !ensemble.pods.iter().any(is_twice)
            && ensemble.needs_budget()
            && self.at_once(ensemble).1 > ensemble.spare()
    }

    /// Where the findings are not what the counts come to.
    pub(super) fn differs(&self, findings: &[Found]) -> Option<String> {
        let decided: Vec<&Ensemble> = self.ensembles.iter().filter(|ensemble| !self.is_beyond(ensemble)).collect();
        decided.iter().find_map(|ensemble| self.differs_in(ensemble, findings)).or_else(|| {
            self.budgets.iter().find_map(|budget| {
                let is_claimed = self.covered(budget).all(|ensemble| !self.is_beyond(ensemble));
                let blocks = self.blocks(budget);
                let told = findings.iter().find(|found| found.code == "blocks-drains" && found.subject == budget.name);
                if !is_claimed {
                    return None;
                }
                let allowed = budget.allowed;
                match told {
                    None if blocks => Some(format!("{} blocks, and that is not told", budget.name)),
                    Some(_) if !blocks => Some(format!("{} is said to block, and allows {allowed}", budget.name)),
                    Some(found) => budget.differs(found),
                    None => None,
                }
            })
        })
    }

    fn differs_in(&self, ensemble: &Ensemble, findings: &[Found]) -> Option<String> {
        let sets = &ensemble.sets;
        let of_set =
            |found: &Found| found.subject.split_once('/').is_some_and(|(_, set)| sets.iter().any(|name| name == set));
        let named = |found: &Found, before: &str, after: &str| {
            sets.iter().any(|set| found.message.contains(&format!("{before}{set}{after}")))
        };
        let covering = self.covering(ensemble);
        let is_missing = self.is_missing(ensemble);
        let told = findings.iter().any(|found| match found.code.as_str() {
            "missing-budget" => named(found, "\"", "\""),
            "budget-selects-nothing" => of_set(found),
            _ => false,
        });
        if told != is_missing {
            return Some(format!("{sets:?}: no budget selects its pods: {is_missing}; that is told: {told}"));
        }
        let has_two =
            ensemble.pods.iter().any(|pod| covering.iter().filter(|budget| budget.pods.contains(pod)).count() > 1);
        let told =
            findings.iter().any(|found| found.code == "overlapping-budgets" && named(found, "StatefulSet ", " that"));
        if told != has_two {
            return Some(format!("{sets:?}: two budgets select a same pod: {has_two}; that is told: {told}"));
        }
        let (free, at_once) = self.at_once(ensemble);
        let is_too_much = self.takes_too_much(ensemble);
        let code = match (free, ensemble.votes) {
            (0, true) => "may-lose-quorum",
            (0, false) => "holds-nothing-back",
            _ => "uncovered-members",
        };
        let loses = ["may-lose-quorum", "holds-nothing-back", "uncovered-members"];
        let mut told = findings.iter().filter(|found| loses.contains(&found.code.as_str()) && of_set(found)).peekable();
        if told.peek().is_some() != is_too_much {
            let spare = ensemble.spare();
            return Some(format!(
                "{sets:?}: {at_once} may be evicted at once, {spare} may be missing: {:?}",
                told.peek()
            ));
        }
        told.find_map(|found| {
            let total = ensemble.pods.len();
            let wanted = if free == 0 {
                format!(
                    "takes {} of {total} members at once, but only {} may be missing",
                    at_once.min(total),
                    ensemble.spare()
                )
            } else {
                format!("covers only {} of", total - free)
            };
            let says = found.message.replace("lets drains take ", "takes ");
            let counts = free == 0 || says.contains(&format!("so that {at_once} may be evicted"));
            let is_so = found.code == code && says.contains(&wanted) && counts;
            (!is_so).then(|| format!("{code}: {wanted}, {at_once} at once; the rule says: {}", found.message))
        })
    }
}

impl Counted {
    /// Where the numbers of a `blocks-drains` are not what was counted.
    fn differs(&self, found: &Found) -> Option<String> {
        let Self { healthy, desired, expected, .. } = self;
        let message = &found.message;
        let is_so = if message.contains("neither") {
            true
        } else if message.contains("rounded up") {
            message.contains(&format!("% of {expected}, which is {desired} rounded up, must stay of {healthy} pods"))
        } else if message.contains("must stay") {
            message.contains(&format!("{desired} must stay of {healthy} pods"))
        } else {
            message.contains("allows no pod to be evicted") && healthy <= desired
        };
        (!is_so).then(|| format!("{desired} of {expected} must stay, of {healthy}; the rule says: {message}"))
    }
}

/// Whether the selector asks for the value of a label that only the cluster gives.
fn is_open(selector: &Value) -> bool {
    let labels = selector["matchLabels"].as_object();
    let by_label = labels.is_some_and(|labels| labels.keys().any(|key| OPEN.contains(&key.as_str())));
    by_label
        || selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|requirement| requirement["key"].as_str().is_some_and(|key| OPEN.contains(&key)))
}
