//! A disruption budget, and what it allows: the arithmetic of the disruption controller.
//!
//! The source is `pkg/controller/disruption/disruption.go` of Kubernetes: `getExpectedPodCount`, `countHealthyPods`
//! and `updatePdbStatus`, at full health.

use serde_json::Value;
use workload::int_or_percent::{IntOrPercent, Rounding};
use workload::member::{Set, TOPOLOGY};
use workload::selector::{Answer, Labels, Selector};
use workload::{Malformed, Node, Path};

/// What a budget asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// At most so many pods may be missing.
    MaxUnavailable(IntOrPercent),
    /// At least so many pods must be there.
    MinAvailable(IntOrPercent),
    /// Neither is set: nothing may be evicted.
    Nothing,
}

/// A `PodDisruptionBudget`.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) name: String,
    pub(crate) selector: Selector,
    /// The selector as it was written.
    pub(crate) selector_value: Value,
    pub(crate) limit: Limit,
    /// The limit as it was written.
    pub(crate) limit_value: Value,
    /// Pods that are running but not ready may be evicted although the budget is used up.
    pub(crate) evicts_unhealthy: bool,
    /// It is the object that is judged.
    pub(crate) is_judged: bool,
}

impl Budget {
    pub(crate) fn read(object: &Node<'_>, is_judged: bool) -> Result<Self, Malformed> {
        let spec = object.get("spec")?;
        let (max, min) = (spec.get("maxUnavailable")?, spec.get("minAvailable")?);
        let (limit, limit_node) = match (IntOrPercent::read(&max)?, IntOrPercent::read(&min)?) {
            (Some(_), Some(_)) => {
                return Err(Malformed::new(&max, "must not be set together with minAvailable: remove one of the two"));
            }
            (Some(limit), None) => (Limit::MaxUnavailable(limit), &max),
            (None, Some(limit)) => (Limit::MinAvailable(limit), &min),
            (None, None) => (Limit::Nothing, &spec),
        };
        let selector = spec.get("selector")?;
        let policy = spec.get("unhealthyPodEvictionPolicy")?;
        Ok(Self {
            name: object.text_at("metadata.name")?.to_owned(),
            selector: Selector::read(&selector)?,
            selector_value: selector.value().cloned().unwrap_or_default(),
            limit,
            limit_value: limit_node.value().cloned().unwrap_or_default(),
            evicts_unhealthy: policy.string()? == Some("AlwaysAllow"),
            is_judged,
        })
    }

    /// Where the limit stands.
    pub(crate) fn limit_path(&self) -> Path {
        Path::fields(match self.limit {
            Limit::MaxUnavailable(_) => "spec.maxUnavailable",
            Limit::MinAvailable(_) => "spec.minAvailable",
            Limit::Nothing => "spec",
        })
    }

    /// Whether what it allows one set depends on what else it selects.
    pub(crate) fn counts_others(&self) -> bool {
        !matches!(self.limit, Limit::MaxUnavailable(IntOrPercent::Int(_)) | Limit::Nothing)
    }

    /// What the budget covers and allows over `sets` and `others`, all of the namespace.
    pub(crate) fn coverage(&self, sets: &[&Set], others: &[Others]) -> Coverage {
        let mut coverage = Coverage { pods: 0, scale: 0, disruptions: 0 };
        for set in sets {
            let (sure, _) = set.count(&self.selector);
            coverage.pods += sure;
            if sure > 0 {
                coverage.scale += set.replicas;
            }
        }
        for Others { labels, count } in others {
            if self.selector.matches(labels) == Answer::Yes {
                coverage.pods += count;
                coverage.scale += count;
            }
        }
        coverage.disruptions = coverage.allowed(self.limit);
        coverage
    }
}

/// The pods of a `Deployment`, which a budget may select beside those of sets.
#[derive(Debug)]
pub(crate) struct Others {
    labels: Labels,
    count: i64,
}

impl Others {
    pub(crate) fn read(deployment: &Node<'_>) -> Result<Self, Malformed> {
        let mut labels = Labels::new(deployment.string_map_at("spec.template.metadata.labels")?);
        for key in TOPOLOGY {
            labels.set_perhaps(key);
        }
        Ok(Self { labels, count: i64::from(deployment.int32_at("spec.replicas")?.unwrap_or(1)) })
    }
}

/// What a budget covers and allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// The pods that it matches, all of them healthy.
    pub(crate) pods: i64,
    /// The pods that the controllers of the matched pods want, matched or not.
    pub(crate) scale: i64,
    /// How many pods may be evicted when all are healthy.
    pub(crate) disruptions: i64,
}

impl Coverage {
    /// How many of these `pods` of an ensemble are gone at the worst, while none that was evicted is replaced yet: `sets` are its
    /// sets, by how many pods they have here and how many they want. The controllers are found by the pods that are there, so
    /// that a set without any is expected no more, and does not count as missing: `getExpectedPodCount`.
    ///
    /// The largest set that may go goes first. Of a number of pods any order comes to the same. Of a share it is no more than a lower
    /// bound: of all sound budgets over two to five sets of up to five members that can lose a majority so, 11,379 by every
    /// order there is, it finds all but 16, of shares over sets of different sizes.
    pub(crate) fn unreplaced(mut self, limit: Limit, pods: i64, mut sets: Vec<(i64, i64)>) -> i64 {
        let mut left = pods;
        loop {
            let mut largest: Option<&mut (i64, i64)> = None;
            for set in &mut sets {
                let most = largest.as_ref().map_or(0, |largest| largest.0);
                if set.0 > most && set.0 <= self.disruptions {
                    largest = Some(set);
                }
            }
            let Some((pods, scale)) = largest else { break };
            left -= *pods;
            self.pods -= *pods;
            self.scale -= *scale;
            self.disruptions = self.allowed(limit);
            *pods = 0;
        }
        pods - left + self.disruptions.min(left)
    }

    fn allowed(&self, limit: Limit) -> i64 {
        let (expected, desired) = match limit {
            Limit::Nothing => return 0,
            Limit::MaxUnavailable(limit) => (self.scale, (self.scale - limit.of(self.scale, Rounding::Up)).max(0)),
            Limit::MinAvailable(IntOrPercent::Int(pods)) => (self.pods, i64::from(pods)),
            Limit::MinAvailable(share @ IntOrPercent::Percent(_)) => (self.scale, share.of(self.scale, Rounding::Up)),
        };
        if expected == 0 { 0 } else { (self.pods - desired).max(0) }
    }
}
