//! How many members are ever in one zone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::plan::{HOSTNAME, Plan, REQUIRED, items, spec};
use super::play::{Change, Closing, Play, listed};
use crate::claim::Trouble;
use crate::room::{Room, Stage};

/// What was seen in zones.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// The most members in one, while all were of one revision.
    pub(super) steady: i64,
    /// The most members in one, also during an update.
    pub(super) rolling: i64,
    /// The most that ever had a place.
    pub(super) placed: i64,
    /// The failure.
    pub(super) story: Vec<String>,
}

/// Plays the set in so many zones as let most of its members come together, by its own constraints, and in one for each member.
pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Zones, Trouble> {
    let most = plan.domains.iter().copied().max().unwrap_or(1);
    let mut plays: Vec<(i64, Option<&Value>)> = vec![(most, None)];
    if most < plan.members {
        plays.push((plan.members, None));
    }
    if let Some(old) = &plan.old {
        // So few that one member more in one of them is too many; but each member may need one.
        let (members, bearable) = (plan.members, plan.bearable());
        let is_wide = |term: &Value| term["topologyKey"] != HOSTNAME;
        let needs_own = plan.old.iter().chain([&plan.set]).any(|set| items(spec(set), REQUIRED).any(is_wide));
        let count = if needs_own { members } else { (members + bearable - 1) / bearable };
        plays.push((most.max(count), Some(old)));
    }
    let mut seen = Zones::default();
    for (count, old) in plays {
        let mut room = stage.room().await;
        let came = play_in(&mut room, plan, usize::try_from(count).unwrap_or(1), old).await;
        room.close().await;
        let came = came?;
        if came.rolling > seen.rolling {
            seen.story = came.story;
        }
        seen.placed = seen.placed.max(came.placed);
        seen.steady = seen.steady.max(came.steady);
        seen.rolling = seen.rolling.max(came.rolling);
        if seen.steady == plan.members {
            break;
        }
    }
    Ok(seen)
}

/// The zones: of each, a node that is full until it is opened for one member.
struct Spread<'q, 'p, 'r, 's> {
    scene: &'q mut Play<'p, 'r, 's>,
    free: Vec<usize>,
    /// How many members are in each.
    counts: Vec<i64>,
}

async fn play_in(room: &mut Room<'_>, plan: &Plan, zones: usize, old: Option<&Value>) -> Result<Zones, Trouble> {
    let mut scene = Play::new(plan, room).await?;
    let mut spread = Spread { scene: &mut scene, free: Vec::new(), counts: vec![0; zones] };
    for zone in 0..zones {
        let free = spread.full_node(zone).await?;
        spread.free.push(free);
    }
    let set = old.unwrap_or(&plan.set);
    let mut all = true;
    for member in 0..plan.members {
        // What is old stands as well as it may; what is judged, as badly.
        let order = if old.is_some() { vec![usize::try_from(member).unwrap_or(0) % zones] } else { spread.order() };
        all = spread.put(member, &order, set).await?;
        if !all {
            break;
        }
    }
    let (steady, _) = spread.scene.most_in_zone();
    spread.tell(zones);
    // What was there before may be too much already; and an update changes this set from that one, or an annotation of it.
    if all && (if old.is_some() { steady <= plan.bearable() } else { plan.old.is_none() && steady < plan.members }) {
        spread.roll().await?;
    }
    let (rolling, placed) = scene.most_in_zone();
    if old.is_some() && steady > plan.bearable() {
        return Ok(Zones::default());
    }
    let mut story = scene.zone_story();
    if story.is_empty() && plan.is_pinned() && placed <= plan.members / 2 {
        story.clone_from(&scene.log);
        let verb = if placed == 1 { "finds" } else { "find" };
        story.push(format!(
            "by its own constraints no more than {placed} of {} members ever {verb} a place: no majority",
            plan.members
        ));
    }
    Ok(Zones { steady, rolling, placed, story })
}

impl Spread<'_, '_, '_, '_> {
    async fn full_node(&mut self, zone: usize) -> Result<usize, Trouble> {
        let labels = self.scene.plan.in_zone(self.scene.room, self.scene.spots.len(), zone);
        let spot = self.scene.add(labels, zone).await?;
        self.scene.close(spot, Closing::Full, true).await?;
        Ok(spot)
    }

    /// The fullest zone, then the others from the emptiest on: it is only for these to let one more into the first.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.counts.len()).collect();
        order.sort_by_key(|zone| (self.counts[*zone], *zone));
        if let Some((at, _)) = order.iter().enumerate().rev().max_by_key(|(_, zone)| self.counts[**zone]) {
            let fullest = order.remove(at);
            order.insert(0, fullest);
        }
        order
    }

    /// Adds a member in the first zone of `order` that has a place for it.
    async fn put(&mut self, member: i64, order: &[usize], set: &Value) -> Result<bool, Trouble> {
        for (attempt, zone) in order.iter().enumerate() {
            let spot = self.free[*zone];
            let before = self.scene.placed();
            self.scene.close(spot, Closing::Full, false).await?;
            let gone = if attempt > 0 {
                if self.scene.more_placed(before).await { BTreeSet::new() } else { self.scene.refresh().await? }
            } else {
                match member {
                    0 => self.scene.apply(set, 1).await?,
                    _ => self.scene.change(&json!({ "spec": { "replicas": member + 1 } })).await?,
                }
                BTreeSet::new()
            };
            let places = self.scene.settle(member + 1, &gone).await?;
            self.scene.close(spot, Closing::Full, true).await?;
            if places.iter().all(Option::is_some) {
                self.counts[*zone] += 1;
                self.free[*zone] = self.full_node(*zone).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tell(&mut self, zones: usize) {
        let members: Vec<String> = (0..self.scene.plan.members).map(|member| self.scene.pod(member)).collect();
        let text = if zones == 1 {
            format!("{} find room in one zone only", listed(&members))
        } else {
            format!("{} find room in {zones} zones", listed(&members))
        };
        self.scene.log.push(text);
    }

    /// An update: each member may first go to another zone, the fullest one, and then back to its own node.
    async fn roll(&mut self) -> Result<(), Trouble> {
        let members = self.scene.plan.members;
        let mut back: Option<(i64, usize)> = None;
        for member in (0..members).rev() {
            let Some(own) = self.scene.spot_of(member) else { return Ok(()) };
            let zone = self.scene.spots[own].zone;
            let others = self.order().into_iter().filter(|other| *other != zone);
            let Some(target) = others.max_by_key(|other| self.counts[*other]) else { return Ok(()) };
            let spot = self.free[target];
            self.scene.close(spot, Closing::Full, false).await?;
            let gone = self.scene.uid(member).into_iter().collect();
            match back.take() {
                None => {
                    let change = if self.scene.plan.old.is_some() { Change::Template } else { Change::Annotation };
                    self.scene.update(change).await?;
                    self.scene.log.push(format!("the template is changed, and {} is replaced", self.scene.pod(member)));
                }
                // The one before comes back, and this one is replaced.
                Some((before, node)) => {
                    self.scene.close(node, Closing::Full, false).await?;
                    if !self.scene.comes_back(before).await? {
                        return Ok(());
                    }
                }
            }
            let places = self.scene.settle(members, &gone).await?;
            self.scene.close(spot, Closing::Full, true).await?;
            let index = usize::try_from(member).unwrap_or_default();
            if places.get(index).is_some_and(Option::is_some) {
                // It went elsewhere, and the controller goes on by itself.
                return Ok(());
            }
            back = Some((member, own));
        }
        if let Some((member, node)) = back {
            self.scene.close(node, Closing::Full, false).await?;
            self.scene.comes_back(member).await?;
        }
        Ok(())
    }
}
