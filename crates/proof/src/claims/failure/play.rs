//! Members are placed, and nodes fail.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::claim::{Subject, Trouble};
use crate::mirror::{Objects, Watched};
use crate::room::{LIMIT, Room, Stage};

/// More members than this are not played.
const MOST: i64 = 9;
/// The label of nodes that says which zone a node is in.
const ZONE: &str = "topology.kubernetes.io/zone";
const ENSEMBLE: &str = "quorate.dev/ensemble";

pub(super) async fn play(stage: &Stage, subject: &Subject) -> Result<Value, Trouble> {
    let mut object = subject.objects[0].clone();
    if subject.facts["scale"].is_object() {
        object["spec"]["replicas"] = subject.facts["scale"]["to"].clone();
    }
    if object["spec"]["template"].to_string().contains("cockroach") {
        return Err(Trouble::Unplayable("groups of members vote".to_owned()));
    }
    if subject.objects.iter().any(|other| count(other) > MOST) {
        return Err(Trouble::Unplayable("too many members".to_owned()));
    }
    let mut room = stage.room().await;
    let seen = in_room(&mut room, subject, &object).await;
    room.close().await;
    seen
}

fn count(set: &Value) -> i64 {
    set["spec"]["replicas"].as_i64().unwrap_or(1)
}

async fn in_room(room: &mut Room<'_>, subject: &Subject, object: &Value) -> Result<Value, Trouble> {
    let stage = room.stage;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
    let namespace = room.namespace(&name, &json!({})).await?;
    let old = &subject.facts["old"];
    // The set itself, and those that form one ensemble with it.
    let ensemble = &object["metadata"]["annotations"][ENSEMBLE];
    let is_mate = |other: &&Value| {
        other["kind"] == "StatefulSet"
            && !ensemble.is_null()
            && other["metadata"]["annotations"][ENSEMBLE] == *ensemble
            && other["metadata"]["namespace"] == object["metadata"]["namespace"]
            && other["metadata"]["name"] != object["metadata"]["name"]
    };
    let mates: Vec<&Value> = subject.objects[1..].iter().filter(is_mate).collect();
    let elsewhere: i64 = mates.iter().map(|mate| count(mate)).sum();
    let members = count(object) + elsewhere;
    let before = if old.is_object() { count(old) + elsewhere } else { 0 };
    if members.max(before) > MOST {
        return Err(Trouble::Unplayable("too many members".to_owned()));
    }
    // What cannot be there at all is seen before anything is placed.
    let first = if old.is_object() { old } else { object };
    let set = prepared(room, subject, first);
    for state in [&set, &prepared(room, subject, object)] {
        if let Err(refusal) = stage.api.dry_run(state).await {
            let is_of_count = refusal.causes.iter().any(|cause| cause.field == "spec.replicas");
            if refusal.code == 400 || is_of_count {
                return Ok(json!({ "refused": refusal.message }));
            }
            return Err(refusal.into());
        }
    }
    // At first there is one node, or one zone: what the scheduler would not do of itself, it does where it must.
    let (first_nodes, other_nodes, zone_of) = nodes(room, subject, members.max(before));
    room.add_nodes(first_nodes).await?;
    stage.api.create(&set).await?;
    for mate in &mates {
        stage.api.create(&prepared(room, subject, mate)).await?;
    }
    let first_count = if old.is_object() { before } else { members };
    let tried = |pods: &Objects| {
        (present(pods) == first_count && pods.values().all(|pod| is_ready(pod) || is_unschedulable(pod))).then_some(())
    };
    stage.mirror.until(Watched::Pods, &namespace, "every member tried on the first nodes", LIMIT, tried).await?;
    room.add_nodes(other_nodes).await?;
    all_ready(room, &namespace, first_count).await?;
    let mut before_left = 0;
    if old.is_object() {
        let olds: BTreeSet<String> = ready_ids(&stage.mirror.now(Watched::Pods, &namespace));
        let path = stage.api.path_of(&set, false);
        let change = json!({ "spec": { "replicas": count(object) } });
        let path = if subject.facts["scale"].is_object() { format!("{path}/scale") } else { path };
        stage.api.patch(&path, crate::api::Patch::Merge, &change).await?;
        all_ready(room, &namespace, members).await?;
        let now = ready_ids(&stage.mirror.now(Watched::Pods, &namespace));
        before_left = now.intersection(&olds).count();
    }
    fail(room, &namespace, &zone_of, members, json!({ "before": before, "before_left": before_left })).await
}

/// A node to be added: its name, and its labels.
type Node = (String, Value);

/// The nodes that are there at first, those that come later, and the zone of each by its name.
fn nodes(room: &Room<'_>, subject: &Subject, members: i64) -> (Vec<Node>, Vec<Node>, BTreeMap<String, String>) {
    let zones = subject.facts["zones"].as_i64().unwrap_or(0);
    let (mut first, mut others, mut zone_of) = (Vec::new(), Vec::new(), BTreeMap::new());
    if zones == 0 {
        others.extend((2..=members).map(|index| (format!("node-{index}"), json!({}))));
        first.push(("node-1".to_owned(), json!({})));
    }
    for zone in 1..=zones {
        // The first zone has room for everybody, the others for as many as a sound spread puts there.
        let count = if zone == 1 { members } else { (members + zones - 1) / zones };
        for index in 1..=count {
            let label = format!("{}-zone-{zone}", room.id);
            let name = format!("node-{zone}{index}");
            zone_of.insert(format!("{}-{name}", room.id), label.clone());
            let nodes = if zone == 1 { &mut first } else { &mut others };
            nodes.push((name, json!({ ZONE: label })));
        }
    }
    (first, others, zone_of)
}

/// The set as it is played: all members at once, and on nodes of their own where `anti-affinity` is not asked about them.
fn prepared(room: &Room<'_>, subject: &Subject, set: &Value) -> Value {
    if !set["spec"].is_object() {
        // Nothing can be placed of what has no spec; it is put to the server as it is.
        let mut set = set.clone();
        set["metadata"]["namespace"] = room.own(set["metadata"]["namespace"].as_str().unwrap_or("default")).into();
        return set;
    }
    let mut set = room.place(set);
    set["spec"]["podManagementPolicy"] = "Parallel".into();
    let spec = &mut set["spec"]["template"]["spec"];
    if spec.is_object() && subject.settings["anti-affinity"].is_null() {
        let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": {} });
        spec["affinity"] = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    }
    set
}

fn present(pods: &Objects) -> i64 {
    i64::try_from(pods.len()).unwrap_or(i64::MAX)
}

fn condition(pod: &Value, kind: &str) -> Value {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True" && pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_unschedulable(pod: &Value) -> bool {
    let scheduled = condition(pod, "PodScheduled");
    scheduled["status"] == "False" && scheduled["reason"] == "Unschedulable"
}

fn ready_ids(pods: &Objects) -> BTreeSet<String> {
    let ready = pods.values().filter(|pod| is_ready(pod));
    ready.filter_map(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned())).collect()
}

async fn all_ready(room: &Room<'_>, namespace: &str, members: i64) -> Result<(), Trouble> {
    let ready = |pods: &Objects| (present(pods) == members && pods.values().all(|pod| is_ready(pod))).then_some(());
    let what = format!("{members} members ready");
    Ok(room.stage.mirror.until(Watched::Pods, namespace, &what, LIMIT, ready).await?)
}

/// Counts what the loss of nodes and zones would leave, and plays the worst.
async fn fail(
    room: &Room<'_>,
    namespace: &str,
    zone_of: &BTreeMap<String, String>,
    members: i64,
    mut seen: Value,
) -> Result<Value, Trouble> {
    let stage = room.stage;
    let pods = stage.mirror.now(Watched::Pods, namespace);
    let mut by_node: BTreeMap<String, i64> = BTreeMap::new();
    let mut by_zone: BTreeMap<&str, i64> = BTreeMap::new();
    for pod in pods.values() {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        if let Some(zone) = zone_of.get(&node) {
            *by_zone.entry(zone).or_default() += 1;
        }
        *by_node.entry(node).or_default() += 1;
    }
    // The nodes with the most members first: no choice of as many nodes takes more.
    let mut fullest: Vec<(&String, &i64)> = by_node.iter().collect();
    fullest.sort_by_key(|(_, count)| -**count);
    let left_after = |failures: usize| members - fullest.iter().take(failures).map(|(_, count)| **count).sum::<i64>();
    let majority = members / 2 + 1;
    let tolerated =
        (0..=fullest.len()).take_while(|failures| left_after(*failures) >= majority).count().saturating_sub(1);
    let worst_zone = by_zone.iter().max_by_key(|(_, count)| **count);
    // The zone that fails, or as many nodes as an even count would have to bear to be worth it.
    let lost: Vec<String> = match worst_zone {
        Some((zone, _)) => {
            by_node.keys().filter(|node| zone_of.get(*node).is_some_and(|of| of == zone)).cloned().collect()
        }
        None => fullest
            .iter()
            .take(usize::try_from(members / 2).unwrap_or(0).max(1))
            .map(|(node, _)| (*node).clone())
            .collect(),
    };
    let gone: i64 = lost.iter().filter_map(|node| by_node.get(node)).sum();
    let zone_left = worst_zone.map_or(members, |(_, count)| members - count);
    let nodes = if by_node.len() == 1 { "one node".to_owned() } else { format!("{} nodes", by_node.len()) };
    let mut story = vec![format!("{members} members run on {nodes}")];
    if members > 0 {
        try_join_all(room.nodes().iter().map(|node| room.cordon(node, true))).await?;
        let paths: Vec<String> = lost.iter().map(|node| stage.api.path("v1", "Node", "", node)).collect();
        try_join_all(paths.iter().map(|path| stage.api.delete(path))).await?;
        for (name, pod) in &pods {
            if pod["spec"]["nodeName"].as_str().is_some_and(|node| lost.iter().any(|lost| lost == node)) {
                drop(stage.api.delete(&stage.api.path("v1", "Pod", namespace, name)).await?);
            }
        }
        let all_gone = |pods: &Objects| {
            let stays =
                |pod: &Value| pod["spec"]["nodeName"].as_str().is_some_and(|node| lost.iter().any(|lost| lost == node));
            (!pods.values().any(|pod| stays(pod))).then(|| ready_ids(pods).len())
        };
        let left = stage.mirror.until(Watched::Pods, namespace, "members of lost nodes gone", LIMIT, all_gone).await?;
        if i64::try_from(left).ok() != Some(members - gone) {
            return Err(Trouble::Failed(anyhow::anyhow!(
                "{left} members are left, where {} were counted",
                members - gone
            )));
        }
        let what = if worst_zone.is_some() {
            "the fullest zone fails".to_owned()
        } else if lost.len() == 1 {
            "the fullest node fails".to_owned()
        } else {
            format!("the {} fullest nodes fail", lost.len())
        };
        story.push(format!("{what}: {left} of {members} members left, and a majority would be {majority}"));
    }
    let more = json!({
        "members": members, "tolerated": tolerated, "zone_left": zone_left, "by_node": by_node.values().collect::<Vec<_>>(),
        "lost": lost.len(), "left": members - gone,
        // Where a majority is left there is no failure to tell of.
        "story": if members - gone < majority { story } else { Vec::new() },
    });
    if let (Some(seen), Value::Object(more)) = (seen.as_object_mut(), more) {
        seen.extend(more);
    }
    Ok(seen)
}
