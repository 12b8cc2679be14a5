//! The members of a set on nodes that come, go, are closed and opened, and what was seen of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::Plan;
use crate::api::Patch;
use crate::claim::Trouble;
use crate::mirror::{Objects, Watched};
use crate::room::{LIMIT, Room};
use crate::stories::are_left;

/// How often a member that should find a place is sent again: the scheduler may hear of a node later than of a pod.
const TRIES: usize = 3;

/// How long a member that waits may take to find what was opened for it, before it is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

/// A node, and what it is called in a story.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) node: String,
    labels: Value,
    title: String,
    pub(super) zone: usize,
}

/// How a node is closed to new pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// `kubectl cordon`.
    Cordon,
    /// A taint that nobody tolerates.
    Taint,
    /// It is full.
    Full,
    /// It is removed.
    Remove,
}

/// What an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// All of the template: the old set becomes the new one.
    Template,
    /// Nothing but the revision.
    Annotation,
}

/// The members and their nodes.
pub(super) struct Play<'p, 'r, 's> {
    pub(super) plan: &'p Plan,
    pub(super) room: &'r mut Room<'s>,
    namespace: String,
    pub(super) name: String,
    pub(super) spots: Vec<Spot>,
    /// What happened so far, in plain words.
    pub(super) log: Vec<String>,
}

/// Two members on one node.
#[derive(Debug, Default, Clone)]
pub(super) struct Shares {
    /// Of one revision.
    pub(super) steady: Option<String>,
    /// Of two.
    pub(super) update: Option<String>,
}

/// Where each member is, by ordinal; nothing where it has no place.
pub(super) type Places = Vec<Option<String>>;

impl<'p, 'r, 's> Play<'p, 'r, 's> {
    /// Opens the namespace.
    pub(super) async fn new(plan: &'p Plan, room: &'r mut Room<'s>) -> Result<Self, Trouble> {
        let namespace = room.namespace(&plan.namespace, &json!({})).await?;
        let name = plan.set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let scene = Self { plan, room, namespace, name, spots: Vec::new(), log: Vec::new() };
        // A pod that the API server refuses would be waited for in vain.
        for set in plan.old.iter().chain([&plan.set]) {
            let set = Plan::place(scene.room, set);
            let template = &set["spec"]["template"];
            let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
            pod["metadata"]["name"] = scene.pod(0).into();
            pod["metadata"]["namespace"] = scene.namespace.clone().into();
            for key in
                ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-revision-hash"]
            {
                pod["metadata"]["labels"][key] = "x".into();
            }
            scene.room.stage.api.dry_run(&pod).await?;
        }
        Ok(scene)
    }

    /// The name of a member, counted from 0.
    pub(super) fn pod(&self, member: i64) -> String {
        format!("{}-{}", self.name, self.plan.first + member)
    }

    /// Adds a node.
    pub(super) async fn add(&mut self, labels: Value, zone: usize) -> Result<usize, Trouble> {
        let index = self.spots.len();
        let node = self.room.node(&format!("n{index}"), &labels).await?;
        self.spots.push(Spot { node, labels, title: format!("node-{}", index + 1), zone });
        Ok(index)
    }

    /// Closes a node, or opens it again.
    pub(super) async fn close(&mut self, spot: usize, how: Closing, is_closed: bool) -> Result<(), Trouble> {
        let Some(Spot { node, labels, .. }) = self.spots.get(spot).cloned() else { return Ok(()) };
        let api = &self.room.stage.api;
        let path = api.path("v1", "Node", "", &node);
        let change = match how {
            Closing::Cordon => json!({ "spec": { "unschedulable": is_closed } }),
            Closing::Taint => {
                let taint = json!([{ "key": "quorate.dev/closed", "effect": "NoSchedule" }]);
                json!({ "spec": { "taints": if is_closed { taint } else { Value::Null } } })
            }
            Closing::Full => {
                let change = json!({ "status": { "allocatable": { "pods": if is_closed { "0" } else { "1k" } } } });
                api.patch(&format!("{path}/status"), Patch::Merge, &change).await?;
                return Ok(());
            }
            Closing::Remove if is_closed => {
                api.delete(&path).await?;
                let gone = |nodes: &Objects| (!nodes.contains_key(&node)).then_some(());
                let what = format!("node {node} gone");
                self.room.stage.mirror.until(Watched::Nodes, "", &what, LIMIT, gone).await?;
                return Ok(());
            }
            Closing::Remove => {
                let short = format!("n{spot}");
                self.room.node(&short, &labels).await?;
                return Ok(());
            }
        };
        api.patch(&path, Patch::Merge, &change).await?;
        Ok(())
    }

    fn now(&self) -> Objects {
        self.room.stage.mirror.now(Watched::Pods, &self.namespace)
    }

    /// Where the members are.
    pub(super) fn places(&self) -> Places {
        let pods = self.now();
        (0..self.plan.members).map(|member| pods.get(&self.pod(member)).and_then(|pod| node_of(pod))).collect()
    }

    /// The number of the node where a member is.
    pub(super) fn spot_of(&self, member: i64) -> Option<usize> {
        let node = self.now().get(&self.pod(member)).and_then(|pod| node_of(pod))?;
        self.spots.iter().position(|spot| spot.node == node)
    }

    /// Applies the set with so many members.
    pub(super) async fn apply(&self, set: &Value, members: i64) -> Result<(), Trouble> {
        let mut set = Plan::place(self.room, set);
        set["spec"]["replicas"] = members.into();
        self.room.stage.api.create(&set).await?;
        Ok(())
    }

    /// Changes the set.
    pub(super) async fn change(&self, change: &Value) -> Result<(), Trouble> {
        let path = self.room.stage.api.path("apps/v1", "StatefulSet", &self.namespace, &self.name);
        self.room.stage.api.patch(&path, Patch::Merge, change).await?;
        Ok(())
    }

    /// Replaces the old set by the new one, or changes an annotation of its template.
    pub(super) async fn update(&self, change: Change) -> Result<(), Trouble> {
        if change == Change::Annotation {
            let annotations = json!({ "quorate.dev/change": "1" });
            return self
                .change(&json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } }))
                .await;
        }
        let path = self.room.stage.api.path("apps/v1", "StatefulSet", &self.namespace, &self.name);
        let set = Plan::place(self.room, &self.plan.set);
        self.room.stage.api.replace(&path, &set).await?;
        Ok(())
    }

    /// How many members have a place.
    pub(super) fn placed(&self) -> usize {
        self.places().iter().flatten().count()
    }

    /// Waits a little until more members than `before` have a place; whether they do. A member that the scheduler has just given one is not
    /// to be deleted: for a moment the scheduler would count both it and the one that follows.
    pub(super) async fn more_placed(&self, before: usize) -> bool {
        let more = |pods: &Objects| {
            let members = (0..self.plan.members).filter_map(|member| pods.get(&self.pod(member)));
            (members.filter(|pod| node_of(pod).is_some()).count() > before).then_some(())
        };
        self.room.stage.mirror.until(Watched::Pods, &self.namespace, "", PATIENCE, more).await.is_ok()
    }

    /// Deletes the members that have no place: the new ones are looked at by the scheduler at once, and it is seen when it has.
    pub(super) async fn refresh(&self) -> Result<BTreeSet<String>, Trouble> {
        let mut gone = BTreeSet::new();
        for member in 0..self.plan.members {
            let pods = self.now();
            if let Some(pod) = pods.get(&self.pod(member)).filter(|pod| node_of(pod).is_none()) {
                gone.extend(uid(pod));
                self.delete(member).await?;
            }
        }
        Ok(gone)
    }

    /// Deletes a member, at once.
    pub(super) async fn delete(&self, member: i64) -> Result<(), Trouble> {
        let api = &self.room.stage.api;
        match api.delete(&api.path("v1", "Pod", &self.namespace, &self.pod(member))).await {
            Err(refusal) if refusal.code != 404 => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn uid(&self, member: i64) -> Option<String> {
        self.now().get(&self.pod(member)).and_then(|pod| uid(pod))
    }

    /// Waits until each of so many members has its place, or the scheduler has said that there is none: those of `gone` are not meant.
    pub(super) async fn settle(&self, members: i64, gone: &BTreeSet<String>) -> Result<Places, Trouble> {
        let what = format!("every member of {} in {} placed or refused", self.name, self.namespace);
        let settled = |pods: &Objects| {
            let mut places = Places::new();
            for member in 0..members {
                let pod = pods.get(&self.pod(member))?;
                if uid(pod).is_some_and(|uid| gone.contains(&uid)) || !pod["metadata"]["deletionTimestamp"].is_null() {
                    return None;
                }
                let node = node_of(pod);
                let is_settled = match node {
                    Some(_) => has_condition(pod, "Ready", "True", ""),
                    None => has_condition(pod, "PodScheduled", "False", "Unschedulable"),
                };
                if !is_settled {
                    return None;
                }
                let waits = node.is_none() && self.plan.is_ordered;
                places.push(node);
                if waits {
                    break;
                }
            }
            places.resize(usize::try_from(members).unwrap_or_default(), None);
            Some(places)
        };
        let settled = self.room.stage.mirror.until(Watched::Pods, &self.namespace, &what, LIMIT, settled).await;
        settled.map_err(|late| Trouble::Failed(anyhow::Error::from(late).context(self.state())))
    }

    /// What there is of the members, for whoever looks for a fault.
    fn state(&self) -> String {
        let pods = self.now();
        let line = |(name, pod): (&String, &std::sync::Arc<Value>)| {
            let (metadata, status) = (&pod["metadata"], &pod["status"]);
            format!(
                "{name} {} {} on {} {} {}",
                metadata["uid"], metadata["labels"], pod["spec"]["nodeName"], status["phase"], status["conditions"]
            )
        };
        format!("{}\n{}", self.log.join("; "), pods.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Whether all find a place in the end.
    pub(super) async fn all_placed(&self, members: i64) -> Result<bool, Trouble> {
        let mut gone = BTreeSet::new();
        for _ in 0..TRIES {
            if self.more_placed(usize::try_from(members - 1).unwrap_or_default()).await {
                let places = self.settle(members, &gone).await?;
                return Ok(places.iter().all(Option::is_some));
            }
            gone = self.refresh().await?;
            self.settle(members, &gone).await?;
        }
        Ok(self.placed() == usize::try_from(members).unwrap_or_default())
    }

    /// Whether a member that was refused finds a place now. The controller may go on as soon as it has.
    pub(super) async fn comes_back(&self, member: i64) -> Result<bool, Trouble> {
        let what = format!("{} in {} placed or refused", self.pod(member), self.namespace);
        // The controller goes on once this one is back, so that the number of the others says nothing.
        let back = |pods: &Objects| pods.get(&self.pod(member)).and_then(|pod| node_of(pod)).map(drop);
        if self.room.stage.mirror.until(Watched::Pods, &self.namespace, &what, PATIENCE, back).await.is_ok() {
            return Ok(true);
        }
        for _ in 0..TRIES {
            let gone = self.refresh().await?;
            let told = |pods: &Objects| {
                let pod = pods.get(&self.pod(member)).filter(|pod| !uid(pod).is_some_and(|uid| gone.contains(&uid)))?;
                let is_placed = node_of(pod).is_some();
                (is_placed || has_condition(pod, "PodScheduled", "False", "Unschedulable")).then_some(is_placed)
            };
            let told = self.room.stage.mirror.until(Watched::Pods, &self.namespace, &what, LIMIT, told).await;
            if told.map_err(|late| Trouble::Failed(anyhow::Error::from(late).context(self.state())))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes through all that was seen of the members, and asks after each step.
    fn replay(&self, mut ask: impl FnMut(&str, &BTreeMap<String, (String, String)>)) {
        let mut members: BTreeMap<String, (String, String)> = BTreeMap::new();
        for pod in self.room.stage.mirror.history(Watched::Pods, &self.namespace) {
            let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            if text("/metadata/ownerReferences/0/kind") != "StatefulSet" {
                continue;
            }
            let name = text("/metadata/name");
            match node_of(&pod).filter(|_| pod["metadata"]["deletionTimestamp"].is_null()) {
                Some(node) => {
                    members.insert(name.clone(), (node, text("/metadata/labels/controller-revision-hash")));
                    ask(&name, &members);
                }
                None => drop(members.remove(&name)),
            }
        }
    }

    /// Whether some member ever had a place.
    pub(super) fn ever_placed(&self) -> bool {
        let mut any = false;
        self.replay(|_, _| any = true);
        any
    }

    /// Members that ever shared a node.
    pub(super) fn shares(&self) -> Shares {
        let mut shares = Shares::default();
        self.replay(|name, members| {
            let Some((node, revision)) = members.get(name) else { return };
            for (other, (at, of)) in members {
                if other != name && at == node {
                    let found = if of == revision { &mut shares.steady } else { &mut shares.update };
                    found.get_or_insert_with(|| format!("{other} and {name} on {node}"));
                }
            }
        });
        shares
    }

    /// The most members that ever were in one zone, and that ever had a place.
    pub(super) fn most_in_zone(&self) -> (i64, i64) {
        let key = &self.plan.zone_key;
        let zones: BTreeMap<&str, &Value> =
            self.spots.iter().map(|spot| (spot.node.as_str(), &spot.labels[key.as_str()])).collect();
        let (mut most, mut placed) = (0, 0);
        self.replay(|_, members| {
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for (node, _) in members.values() {
                if let Some(zone) = zones.get(node.as_str()).and_then(|zone| zone.as_str()) {
                    *counts.entry(zone).or_default() += 1;
                }
            }
            most = most.max(counts.values().copied().max().unwrap_or_default());
            placed = placed.max(counts.values().sum());
        });
        (most, placed)
    }

    /// What a story calls the node of a spot.
    pub(super) fn title(&self, spot: usize) -> &str {
        self.spots.get(spot).map_or("", |spot| spot.title.as_str())
    }

    /// What happened until members shared a node, and what its failure takes.
    pub(super) fn story(&self) -> Vec<String> {
        let places = self.places();
        let mut worst: (Vec<String>, &str) = (Vec::new(), "");
        for spot in &self.spots {
            let on: Vec<String> = (0..self.plan.members)
                .zip(&places)
                .filter(|(_, place)| place.as_ref() == Some(&spot.node))
                .map(|(member, _)| self.pod(member))
                .collect();
            if on.len() > worst.0.len() {
                worst = (on, &spot.title);
            }
        }
        let (on, title) = worst;
        if on.len() < 2 {
            return Vec::new();
        }
        let mut story = self.log.clone();
        story.push(format!("{} run on {title}", listed(&on)));
        story.push(self.loss(title, on.len(), places.iter().flatten().count()));
        story
    }

    /// The zone with most members, if these are more than may be lost, and what its failure takes.
    pub(super) fn zone_story(&self) -> Vec<String> {
        let places = self.places();
        let mut zones: Vec<(&Value, Vec<String>)> = Vec::new();
        for (member, place) in (0..self.plan.members).zip(&places) {
            let Some(spot) = self.spots.iter().find(|spot| place.as_ref() == Some(&spot.node)) else { continue };
            let zone = &spot.labels[self.plan.zone_key.as_str()];
            match zones.iter_mut().find(|(known, _)| *known == zone) {
                Some((_, members)) => members.push(self.pod(member)),
                None => zones.push((zone, vec![self.pod(member)])),
            }
        }
        let most = zones.iter().enumerate().max_by_key(|(_, (_, members))| members.len());
        let Some((number, (_, on))) = most
            .filter(|(_, (_, members))| i64::try_from(members.len()).is_ok_and(|count| count > self.plan.bearable()))
        else {
            return Vec::new();
        };
        let title = format!("zone-{}", number + 1);
        let mut story = self.log.clone();
        story.push(format!("{} run in {title}", listed(on)));
        story.push(self.loss(&title, on.len(), places.iter().flatten().count()));
        story
    }

    /// What is left when `lost` of `up` members fail with something.
    pub(super) fn loss(&self, title: &str, lost: usize, up: usize) -> String {
        let left = i64::try_from(up.saturating_sub(lost)).unwrap_or(i64::MAX);
        format!("{title} fails: {}", are_left(left, self.plan.members, "members"))
    }

    /// Replaces the members one by one, from the last to the first, as the controller does: each finds its own node closed by `closing`
    /// and all others open, and gets its own node back only when the scheduler has refused the others.
    pub(super) async fn roll(&mut self, change: Change) -> Result<(), Trouble> {
        let last = self.plan.members - 1;
        let names: Vec<String> = (0..self.plan.members).map(|member| self.pod(member)).collect();
        self.log.push(format!("{} run on a node each", listed(&names)));
        let Some(mut own) = self.spot_of(last) else { return Ok(()) };
        self.close(own, Closing::Cordon, true).await?;
        self.log.push(format!("{}, where {} runs, is cordoned", self.title(own), self.pod(last)));
        let mut gone: BTreeSet<String> = self.uid(last).into_iter().collect();
        self.update(change).await?;
        self.log.push(format!("the template is changed, and {} is replaced", self.pod(last)));
        for member in (0..=last).rev() {
            self.settle(self.plan.members, &gone).await?;
            let shares = self.shares();
            if shares.steady.is_some() || shares.update.is_some() {
                return Ok(());
            }
            // The next one's node is closed before it is replaced, which is as soon as this one is ready.
            let next = if member > 0 { self.spot_of(member - 1) } else { None };
            if let Some(next) = next {
                self.close(next, Closing::Cordon, true).await?;
            }
            gone = self.uid(member - 1).into_iter().collect();
            self.close(own, Closing::Cordon, false).await?;
            if !self.comes_back(member).await? {
                return Ok(());
            }
            if let Some(next) = next {
                own = next;
                let (back, next) = (self.pod(member), self.pod(member - 1));
                let title = self.title(own);
                self.log.push(format!("{back} comes back; {title} is cordoned, and {next} is replaced"));
            }
        }
        Ok(())
    }
}

/// `a, b and c`.
pub(super) fn listed(names: &[String]) -> String {
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn node_of(pod: &Value) -> Option<String> {
    pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()).map(str::to_owned)
}

fn uid(pod: &Value) -> Option<String> {
    pod["metadata"]["uid"].as_str().map(str::to_owned)
}

fn has_condition(pod: &Value, kind: &str, status: &str, reason: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| {
            condition["type"] == kind
                && condition["status"] == status
                && (reason.is_empty() || condition["reason"] == reason)
        })
    })
}
