//! Whether two members are ever on one node.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::plan::Plan;
use super::play::{Change, Closing, Play, Shares, listed};
use crate::claim::Trouble;
use crate::room::{Room, Stage};

/// What was seen on nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Members that shared one.
    pub(super) shares: Shares,
    /// Whether all members had a place once there was a node for each.
    pub(super) all_placed: bool,
    /// Whether some member ever had one.
    pub(super) ever_placed: bool,
    /// The failure.
    pub(super) story: Vec<String>,
}

/// Plays the set on nodes; `is_bare` without the labels of nodes that are not known.
pub(super) async fn play(stage: &Stage, plan: &Plan, is_bare: bool) -> Result<Nodes, Trouble> {
    let mut room = stage.room().await;
    let came = play_in(&mut room, plan, is_bare).await;
    room.close().await;
    came
}

async fn play_in(room: &mut Room<'_>, plan: &Plan, is_bare: bool) -> Result<Nodes, Trouble> {
    let mut scene = Play::new(plan, room).await?;
    let without = if is_bare { " without the label that the term names" } else { "" };
    crowd(&mut scene).await?;
    let mut all_placed = match &plan.old {
        None => grow(&mut scene, is_bare, without).await?,
        Some(old) => arrange(&mut scene, old, is_bare).await?,
    };
    let shared = |scene: &Play<'_, '_, '_>| {
        let shares = scene.shares();
        shares.steady.is_some() || shares.update.is_some()
    };
    if all_placed && !shared(&scene) {
        if plan.old.is_some() {
            scene.roll(Change::Template).await?;
        }
        if !shared(&scene) {
            all_placed = lose(&mut scene).await?;
        }
        // What holds of one revision only ends with the next update, if not with the one that brought it.
        if (plan.old.is_none() || plan.is_by_revision()) && all_placed && !shared(&scene) {
            scene.log.clear();
            scene.roll(Change::Annotation).await?;
        }
    }
    let found = scene.shares();
    let story = if found.steady.is_some() || found.update.is_some() { scene.story() } else { Vec::new() };
    Ok(Nodes { shares: found, all_placed, ever_placed: scene.ever_placed(), story })
}

/// Nodes that are full of other pods, which a constraint of the set counts.
async fn crowd(scene: &mut Play<'_, '_, '_>) -> Result<(), Trouble> {
    let asked = scene.plan;
    if asked.foreign.is_empty() {
        return Ok(());
    }
    let count = asked.domains.iter().copied().max().unwrap_or(1) - 1;
    for number in 0..count {
        // Numbers beyond those of the members' own nodes.
        let index = usize::try_from(100 + number).unwrap_or_default();
        let labels = asked.apart(scene.room, index, false);
        let node = scene.room.node(&format!("full-{number}"), &labels).await?;
        for (position, labels) in asked.foreign.iter().enumerate() {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("other-{number}-{position}"), "namespace": scene.room.own(&asked.namespace), "labels": labels },
                "spec": { "nodeName": node, "containers": [{ "name": "other", "image": "other" }] },
            });
            scene.room.stage.api.create(&pod).await?;
        }
        let path = scene.room.stage.api.path("v1", "Node", "", &node);
        let full = json!({ "status": { "allocatable": { "pods": "0" } } });
        scene.room.stage.api.patch(&format!("{path}/status"), crate::api::Patch::Merge, &full).await?;
    }
    if count > 0 {
        let nodes = if count == 1 { "one node is".to_owned() } else { format!("{count} nodes are") };
        scene.log.push(format!("{nodes} full of other pods that the constraint counts"));
    }
    Ok(())
}

/// The set with one node, with two, and so on; whether all members have a place when there are as many nodes.
async fn grow(scene: &mut Play<'_, '_, '_>, is_bare: bool, without: &str) -> Result<bool, Trouble> {
    let asked = scene.plan;
    let mut is_done = false;
    let before = scene.log.len();
    for index in 0..usize::try_from(asked.members).unwrap_or_default() {
        let labels = asked.apart(scene.room, index, is_bare);
        let before_it = scene.placed();
        scene.add(labels, index).await?;
        let gone = if index == 0 {
            scene.apply(&asked.set, asked.members).await?;
            BTreeSet::new()
        } else {
            scene.more_placed(before_it).await;
            scene.refresh().await?
        };
        scene.settle(asked.members, &gone).await?;
        scene.log.truncate(before);
        let nodes = if index == 0 { "one node has".to_owned() } else { format!("{} nodes have", index + 1) };
        scene.log.push(format!("only {nodes} room{without}, for {} members", asked.members));
        if scene.shares().steady.is_some() {
            return Ok(false);
        }
        if index + 1 == usize::try_from(asked.members).unwrap_or_default() {
            is_done = scene.all_placed(asked.members).await?;
        }
    }
    scene.log.truncate(before);
    Ok(is_done)
}

/// The set as it was, each member on a node of its own, whatever the set asks for.
async fn arrange(scene: &mut Play<'_, '_, '_>, old: &Value, is_bare: bool) -> Result<bool, Trouble> {
    let asked = scene.plan;
    for member in 0..asked.members {
        let index = usize::try_from(member).unwrap_or_default();
        if index > 0 {
            scene.close(index - 1, Closing::Cordon, true).await?;
        }
        let labels = asked.apart(scene.room, index, is_bare);
        scene.add(labels, index).await?;
        if index == 0 {
            scene.apply(old, 1).await?;
        } else {
            scene.change(&json!({ "spec": { "replicas": member + 1 } })).await?;
        }
        if !scene.all_placed(member + 1).await? {
            return Ok(false);
        }
        if scene.shares().steady.is_some() {
            return Err(Trouble::Unplayable("what was there before is on one node from the beginning".to_owned()));
        }
    }
    for spot in 0..scene.spots.len() {
        scene.close(spot, Closing::Cordon, false).await?;
    }
    Ok(true)
}

/// Each member loses its node, in one way or another, while the nodes of all others are open; and gets it back. Whether all have a
/// place in the end.
async fn lose(scene: &mut Play<'_, '_, '_>) -> Result<bool, Trouble> {
    let members = scene.plan.members;
    let names: Vec<String> = (0..members).map(|member| scene.pod(member)).collect();
    let ways = [(Closing::Cordon, "cordoned"), (Closing::Remove, "removed"), (Closing::Taint, "tainted")];
    for (member, (how, word)) in (0..members).zip(ways.into_iter().cycle()) {
        let Some(spot) = scene.spot_of(member) else { return Ok(false) };
        scene.log = vec![
            format!("{} run on a node each, and there is no other", listed(&names)),
            format!("{}, where {} runs, is {word}, and the pod is deleted", scene.title(spot), scene.pod(member)),
        ];
        let gone: BTreeSet<String> = scene.uid(member).into_iter().collect();
        scene.close(spot, how, true).await?;
        scene.delete(member).await?;
        scene.settle(members, &gone).await?;
        let shares = scene.shares();
        if shares.steady.is_some() || shares.update.is_some() {
            return Ok(true);
        }
        scene.close(spot, how, false).await?;
        if !scene.all_placed(members).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
