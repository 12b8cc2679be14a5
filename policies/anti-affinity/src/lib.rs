//! Members of a quorum are kept apart: the rule `anti-affinity`.
#![doc = include_str!("../README.md")]

mod explain;
mod members;
mod placement;
mod zones;

use policy::settings::{choice, texts};
use policy::{Fault, Finding, Level, Policy, Problem, Quorum, Review, Settings, SettingsError, Target};
use serde_json::Value;
use workload::edit::Edit;
use workload::member::Set;
use workload::node::{object, shorten};
use workload::{Malformed, Node, Path};

use members::Sight;
use placement::Placement;

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
        let count = judged_count(review)?;
        if count < 2 {
            return Ok(Vec::new());
        }
        let placement = Placement::read(&review.object, review.cluster.namespace(), count)?;
        let ensemble = Ensemble { quorum: &quorum, namespace: review.cluster.namespace(), placement: &placement };
        let mut findings = ensemble.beside_the_scheduler()?;
        let selector = value(&review.object.dig("spec.selector")?);
        findings.extend(self.judge_nodes(review, &ensemble, &selector)?);
        if self.zones != Zones::Ignore {
            findings.extend(self.judge_zones(&ensemble, &selector)?);
        }
        Ok(findings)
    }
}

/// How many members there are to judge.
///
/// What was shut down before and comes back is compared with what it was: with as many members as it comes back with.
fn judged_count(review: &Review<'_>) -> Result<i64, Malformed> {
    let count = Set::read(&review.object)?.replicas;
    match &review.request.object {
        Some(new) if count == 0 => Ok(Node::root(new).int32_at("spec.replicas")?.map_or(0, i64::from)),
        _ => Ok(count),
    }
}

/// The members that are judged.
struct Ensemble<'r, 'a> {
    quorum: &'r Quorum,
    namespace: &'r str,
    placement: &'r Placement<'a>,
}

impl Ensemble<'_, '_> {
    /// How many members there are.
    fn count(&self) -> i64 {
        self.placement.members.count()
    }

    /// The finding, as an error where the members vote, with what it rests on. `together` members may be lost at once:
    /// the fewer are left for certain, the worse.
    fn error(
        &self,
        code: &'static str,
        path: Path,
        problem: Problem,
        reason: impl Into<String>,
        together: i64,
    ) -> Finding {
        let level = if self.quorum.votes() { Level::Error } else { Level::Warning };
        Finding::error(code, path, problem, reason).level(level).measure(together - self.count())
    }

    fn warning(&self, code: &'static str, at: &Node<'_>, reason: impl Into<String>) -> Finding {
        Finding::warning(code, at.path(), Problem::Invalid(value(at)), reason).resting_on(self.quorum)
    }

    /// What takes the scheduler's word away.
    fn beside_the_scheduler(&self) -> Result<Vec<Finding>, Malformed> {
        let mut findings = Vec::new();
        let pod = &self.placement.pod;
        let node_name = pod.get("nodeName")?;
        if let Some(name) = node_name.string()?.filter(|name| !name.is_empty()) {
            let reason = format!("puts all {} members on the node {name}, past the scheduler", self.count());
            let finding = self
                .error("node-name", node_name.path(), Problem::Forbidden, reason, self.count())
                .why("affinity and topology spread are the scheduler's, which is not asked; when the node fails, all fail")
                .advise("remove nodeName, and keep the members apart with podAntiAffinity")
                .resting_on(self.quorum);
            findings.push(finding);
        }
        let scheduler = pod.get("schedulerName")?;
        if scheduler.string()?.is_some_and(|name| name != "default-scheduler") {
            findings.push(
                self.warning("own-scheduler", &scheduler, "this scheduler may place the members by rules of its own")
                    .advise("make sure that it honours required podAntiAffinity and topologySpreadConstraints"),
            );
        }
        Ok(findings)
    }

    /// The edit that keeps the members apart, whatever else the template says: a required term of the set's own
    /// selector.
    fn separate(&self, selector: &Value) -> Vec<Edit> {
        if self.placement.members.selector().requirements().is_empty() {
            return Vec::new();
        }
        let terms =
            Path::fields("spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution");
        vec![Edit::append(terms, object(&mut [("labelSelector", selector.clone()), ("topologyKey", NODE.into())]))]
    }
}

/// What stands at `node`; `null` where there is nothing.
fn value(node: &Node<'_>) -> Value {
    node.value().cloned().unwrap_or_default()
}

impl AntiAffinity {
    /// Whether a domain of the node label `key` is known to be a node, or to hold whole nodes.
    fn is_known(&self, key: &str) -> bool {
        key == NODE
            || ZONES.contains(&key)
            || REGIONS.contains(&key)
            || key == self.zone_key
            || self.domains.iter().any(|domain| domain == key)
    }

    /// Whether one node may hold more than one member.
    fn judge_nodes(
        &self,
        review: &Review<'_>,
        ensemble: &Ensemble<'_, '_>,
        selector: &Value,
    ) -> Result<Vec<Finding>, Malformed> {
        let placement = ensemble.placement;
        if placement.takes_port {
            review.note("its members take a port of their node, so that no two of them fit on one");
            return Ok(Vec::new());
        }
        let wishes: &[bool] = if self.require == Require::Preferred { &[false, true] } else { &[false] };
        for wishes in wishes {
            for (by_revision, unknown) in [(false, false), (true, false), (false, true), (true, true)] {
                let counts =
                    |sight: &Sight<'_>| (by_revision || !sight.by_revision) && (unknown || self.is_known(sight.key));
                if let Some(separators) = placement.separators(*wishes, counts) {
                    return self.doubts(review, ensemble, &separators);
                }
            }
        }
        self.why_not(ensemble, selector)
    }

    /// The members are kept apart; but not always, or not for certain.
    fn doubts(
        &self,
        review: &Review<'_>,
        ensemble: &Ensemble<'_, '_>,
        separators: &[&Sight<'_>],
    ) -> Result<Vec<Finding>, Malformed> {
        let mut findings = Vec::new();
        if let Some(sight) = separators.iter().find(|sight| !self.is_known(sight.key)) {
            findings.push(ensemble.unknown_domain(sight)?);
        }
        match separators.iter().find(|sight| sight.by_revision) {
            Some(sight) => findings.push(ensemble.per_revision(sight)?),
            None => findings.extend(update_unseen(review, ensemble, separators)?),
        }
        Ok(findings)
    }
}

/// While an UPDATE replaces the members, the new ones may not see the old.
fn update_unseen(
    review: &Review<'_>,
    ensemble: &Ensemble<'_, '_>,
    separators: &[&Sight<'_>],
) -> Result<Option<Finding>, Malformed> {
    let Some(old) = &review.old else { return Ok(None) };
    let old = Placement::read(old, ensemble.namespace, Set::read(old)?.replicas)?;
    // Terms of the new template that select old members, or terms of the old one that select new members.
    let new_see_old = old.members.unseen(separators) == 0;
    let old_terms: Vec<&Sight<'_>> = old.required.iter().filter(|term| !term.by_revision).collect();
    if new_see_old || ensemble.placement.members.unseen(&old_terms) == 0 {
        return Ok(None);
    }
    ensemble.unseen_by_update(old.members.labels(), separators)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::AntiAffinity>();
    }
}
