//! Members of a quorum are kept apart: the rule `anti-affinity`.
#![doc = include_str!("../README.md")]

mod explain;
mod judgement;
mod placement;
mod says;
mod sight;
mod zones;

use policy::settings::{choice, texts};
use policy::{Fault, Finding, Level, Policy, Problem, Review, Settings, SettingsError, Target};
use workload::member::Set;
use workload::node::shorten;
use workload::{Malformed, Node};

use judgement::{Judgement, cut};
use placement::Placement;
use sight::{Sight, marks};

policy::export!(AntiAffinity);

/// The label that every node has with a value of its own.
const NODE: &str = "kubernetes.io/hostname";
/// The zone of a node, and its older name.
const ZONES: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
/// The region of a node, and its older name.
const REGIONS: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];

/// The settings.
#[derive(Debug)]
pub struct AntiAffinity {
    /// What is needed to keep the members apart.
    pub require: Require,
    /// More labels of nodes whose domains are at least as wide as a node.
    pub domains: Vec<String>,
    /// Whether a zone may hold so many members that its loss is the loss of the majority.
    pub zones: Zones,
    /// The label of nodes that says which zone a node is in.
    pub zone_key: String,
}

/// What is needed to keep the members apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Require {
    /// What the scheduler guarantees.
    #[default]
    Required,
    /// What it tries.
    Preferred,
}

/// Whether a zone may hold so many members that its loss is the loss of the majority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Zones {
    /// Nobody asks.
    #[default]
    Ignore,
    /// It is told.
    Warn,
    /// It is denied.
    Require,
}

impl Policy for AntiAffinity {
    const NAME: &'static str = "anti-affinity";
    const FINDINGS_PAGE: &'static str = policy::findings_page!();
    const READS_RESOURCES: bool = false;
    const TARGETS: &'static [Target] = &[Target::STATEFUL_SETS, Target::STATEFUL_SET_SCALES];
    const MUTATES: bool = true;

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            require: choice(
                &settings.get("require"),
                &[("required", Require::Required), ("preferred", Require::Preferred)],
            )?
            .unwrap_or_default(),
            domains: texts(&settings.get("domains"))?,
            zones: choice(
                &settings.get("zones"),
                &[("ignore", Zones::Ignore), ("warn", Zones::Warn), ("require", Zones::Require)],
            )?
            .unwrap_or_default(),
            zone_key: settings.get("zoneKey").string()?.unwrap_or(ZONES[0]).to_owned(),
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.zone_key.is_empty() || self.zone_key == NODE {
            let problem = format!(
                "Invalid value: {}: must be a label of nodes that many nodes share",
                shorten(&self.zone_key.as_str().into())
            );
            return Err(SettingsError::new("zoneKey", problem));
        }
        Ok(())
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let quorum = review.quorum(&review.object)?;
        review.note(quorum.explain());
        let mut set = Set::read(&review.object)?;
        if let (0, Some(new)) = (set.replicas, &review.request.object) {
            // What was shut down before and comes back is compared with what it was: with as many members as it comes
            // back with.
            set.replicas = Node::root(new).int32_at("spec.replicas")?.map_or(0, i64::from);
        }
        if set.replicas < 2 {
            return Ok(Vec::new());
        }
        let namespace = review.cluster.namespace();
        let placement = Placement::read(self, &review.object, set, namespace)?;
        let mut judgement = Judgement {
            policy: self,
            quorum: &quorum,
            namespace,
            placement: &placement,
            selector: review.object.dig("spec.selector")?.value().cloned().unwrap_or_default(),
            level: if quorum.votes() { Level::Error } else { Level::Warning },
            together: placement.set.replicas,
            findings: Vec::new(),
        };
        judgement.beside_the_scheduler()?;
        judgement.judge_nodes(review)?;
        if self.zones != Zones::Ignore {
            judgement.judge_zones(review)?;
        }
        Ok(judgement.findings)
    }
}

/// How wide a domain of the node label `key` is, among those whose order is known.
fn width(key: &str) -> u8 {
    match key {
        _ if REGIONS.contains(&key) => 2,
        _ if ZONES.contains(&key) => 1,
        _ => 0,
    }
}

impl AntiAffinity {
    /// What a domain of the node label `key` is known to be.
    fn marks(&self, key: &str) -> u16 {
        let (width, zone) = (width(key), width(&self.zone_key));
        if key == self.zone_key {
            return marks::KNOWN | marks::ZONE_OR_WIDER | marks::ZONE_OR_PART;
        }
        let mut found = 0;
        if key == NODE {
            found = marks::KNOWN | marks::ZONE_OR_PART;
        }
        if width > 0 {
            found = marks::KNOWN;
            if width >= zone {
                found |= marks::ZONE_OR_WIDER;
            }
            if width == zone {
                found |= marks::ZONE_OR_PART;
            }
        }
        if self.domains.iter().any(|domain| domain == key) {
            found |= marks::KNOWN;
        }
        found
    }
}

impl Judgement<'_, '_> {
    /// What takes the scheduler's word away.
    fn beside_the_scheduler(&mut self) -> Result<(), Malformed> {
        let node_name = self.placement.pod.get("nodeName")?;
        let name = node_name.string()?.unwrap_or_default();
        if !name.is_empty() {
            self.say(&says::NODE_NAME, &node_name, "", &[("name", &name)]);
            if let Some(finding) = self.findings.last_mut() {
                finding.problem = Problem::Forbidden;
            }
        }
        let scheduler = self.placement.pod.get("schedulerName")?;
        if scheduler.string()?.is_some_and(|name| name != "default-scheduler") {
            self.say(&says::OWN_SCHEDULER, &scheduler, "", &[]);
        }
        Ok(())
    }

    /// Whether one node may hold more than one member.
    fn judge_nodes(&mut self, review: &Review<'_>) -> Result<(), Malformed> {
        if !self.placement.ports.is_empty() {
            review.note("its members take a port of their node, so that no two of them fit on one");
            let beside = self.placement.separators(false, marks::LASTING | marks::KNOWN);
            return self.updated(review, &beside);
        }
        for wishes in [false, true] {
            if wishes && self.policy.require != Require::Preferred {
                break;
            }
            for with in [marks::LASTING | marks::KNOWN, marks::KNOWN, marks::LASTING, 0] {
                let separators = self.placement.separators(wishes, with);
                if !separators.is_empty() {
                    return self.doubts(review, &separators);
                }
            }
        }
        self.why_not()
    }

    /// The members are kept apart by `separators`; but not always, or not for certain.
    fn doubts(&mut self, review: &Review<'_>, separators: &[&Sight<'_>]) -> Result<(), Malformed> {
        if let Some(sight) = separators.iter().find(|sight| sight.marks & marks::KNOWN == 0) {
            self.say(&says::UNKNOWN_DOMAIN, &sight.node.get("topologyKey")?, &cut(sight.key), &[]);
        }
        if let Some(sight) = separators.iter().find(|sight| sight.marks & marks::LASTING == 0) {
            return self.say_of(&says::PER_REVISION, sight, "matchLabelKeys", &[]);
        }
        self.updated(review, separators)
    }

    /// The members of before.
    fn old<'o>(&self, review: &'o Review<'_>) -> Result<Option<Placement<'o>>, Malformed> {
        let Some(old) = &review.old else { return Ok(None) };
        Placement::read(self.policy, old, Set::read(old)?, self.namespace).map(Some)
    }

    /// While an UPDATE replaces the members, the new ones may not see the old: unless `separators` of the new template
    /// select old members, or terms of the old one select new members, or both take the same port.
    fn updated(&mut self, review: &Review<'_>, separators: &[&Sight<'_>]) -> Result<(), Malformed> {
        let Some(old) = self.old(review)? else { return Ok(()) };
        let known = separators.iter().fold(marks::KNOWN, |known, sight| known & sight.marks);
        if self.placement.conflicts(&old) {
            return Ok(());
        }
        let old_ones = old.unseen(separators);
        let new_ones = self.placement.unseen(&old.sights(marks::REQUIRED, marks::LASTING | known));
        if old_ones == 0 || new_ones == 0 {
            return Ok(());
        }
        if !self.placement.ports.is_empty() {
            return self.say_of_all(&says::UPDATE_PORTS);
        }
        // One alone, which neither sees, is the same one: it does not meet itself.
        let others = if old_ones + new_ones > 2 { "the terms" } else { "" };
        self.update_unseen(&old.set.labels, separators, others)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::AntiAffinity>();
    }
}
