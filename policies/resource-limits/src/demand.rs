//! What the settings ask of one resource.

use policy::settings::{self, choice};
use policy::{Level, SettingsError};
use serde_json::{Map, Value};
use workload::quantity::{MILLI, Quantity};
use workload::texts::join;
use workload::{Malformed, Node};

/// What is asked of one resource of each container.
#[derive(Debug)]
pub struct Demand {
    /// The resource as Kubernetes writes it: `ephemeral-storage`.
    pub resource: &'static str,
    /// What it is where the settings say nothing, and why it is asked for.
    pub(crate) defaults: &'static Defaults,
    /// Whether there must be a request.
    pub requests: bool,
    /// Whether there must be a limit.
    pub limits: bool,
    /// The least that may be asked for.
    pub min: Option<&'static Quantity>,
    /// The most that may be used.
    pub max: Option<&'static Quantity>,
    /// The limit that mutation fills in.
    pub default: Option<&'static Quantity>,
    /// The request that mutation fills in, where it also fills in the limit or no limit is needed.
    pub default_request: Option<&'static Quantity>,
    /// How many times the request the limit may be.
    pub ratio: Option<&'static Quantity>,
    /// What a wider ratio is: a warning by default, an error where the settings set the bound.
    pub ratio_level: Level,
    /// Whether the class of a pod depends on it.
    pub decides_class: bool,
}

/// What is asked of a resource where the settings say nothing.
#[derive(Debug)]
pub(crate) struct Defaults {
    key: &'static str,
    resource: &'static str,
    requests: bool,
    limits: bool,
    ratio: Option<u64>,
    /// Why a limit must be there.
    pub(crate) without_limit: &'static str,
    /// Why a request must be there.
    pub(crate) without_request: &'static str,
}

/// A limit on cpu throttles: a member that is not let run misses its heartbeats and is taken for dead. What it does not
/// use is lost to others. So only the request is asked for, which gives each container its share under load. Nor is a
/// limit bad for being far above the request: that is nearer to none, and throttles less.
pub(crate) const CPU: Defaults = Defaults {
    key: "cpu",
    resource: "cpu",
    requests: true,
    limits: false,
    ratio: None,
    without_limit: "without one it may use all processors of its node",
    without_request: "nothing is reserved for it, so that it gets next to no time on a busy node",
};

/// Memory cannot be taken back: what has no limit takes that of its neighbours.
pub(crate) const MEMORY: Defaults = Defaults {
    key: "memory",
    resource: "memory",
    requests: true,
    limits: true,
    ratio: Some(4),
    without_limit: "without one it can take the memory of the whole node, whose kernel then kills any of its processes",
    without_request: "nothing is reserved for it, so that it is evicted first when memory runs short",
};

pub(crate) const EPHEMERAL_STORAGE: Defaults = Defaults {
    key: "ephemeralStorage",
    resource: "ephemeral-storage",
    requests: false,
    limits: false,
    ratio: None,
    without_limit: "without one its logs and its writable layer can fill the disk of the node",
    without_request: "nothing is reserved for it, so that it is evicted first when the disk of the node fills up",
};

impl Demand {
    /// The demand that the setting at `node` makes.
    #[inline(never)]
    pub(crate) fn read(node: &Node<'_>, defaults: &'static Defaults) -> Result<Self, Malformed> {
        let nothing = Value::Object(Map::new());
        let node = if node.is_absent() { Node::at(&nothing, node.path()) } else { *node };
        settings::object(&node, |fields| {
            let min = amount(&fields.get("min"))?;
            let max = amount(&fields.get("max"))?;
            let necessity = [("required", true), ("optional", false)];
            let ratio = amount(&fields.get("maxLimitRequestRatio"))?;
            Ok(Self {
                resource: defaults.resource,
                defaults,
                // What is not there cannot be compared: a bound asks for what it bounds, as that of a LimitRange does.
                requests: choice(&fields.get("requests"), &necessity)?.unwrap_or(defaults.requests || min.is_some()),
                limits: choice(&fields.get("limits"), &necessity)?.unwrap_or(defaults.limits || max.is_some()),
                min,
                max,
                default: amount(&fields.get("default"))?,
                default_request: amount(&fields.get("defaultRequest"))?,
                ratio_level: if ratio.is_some() { Level::Error } else { Level::Warning },
                ratio: ratio.or_else(|| defaults.ratio.map(|ratio| kept(Quantity::whole_number(ratio)))),
                decides_class: defaults.resource != EPHEMERAL_STORAGE.resource,
            })
        })
    }

    /// Refuses settings that no object can meet, and defaults that the rule would deny.
    #[inline(never)]
    pub(crate) fn check(&self, guaranteed: bool) -> Result<(), SettingsError> {
        let ordered =
            [("min", self.min), ("defaultRequest", self.default_request), ("default", self.default), ("max", self.max)];
        let mut least: Option<(&str, &Quantity)> = None;
        for (name, amount) in ordered {
            let Some(amount) = amount else { continue };
            if let Some((other, least)) = least
                && amount < least
            {
                return Err(self.mistake(name, amount, &["must not be less than ", other, ", ", &least.to_string()]));
            }
            least = Some((name, amount));
        }
        let guaranteed = guaranteed && self.decides_class;
        if let Some(default) = self.default {
            if !(self.limits || guaranteed) {
                return Err(self.mistake("default", default, &["is never filled in: set limits to required"]));
            }
            if let Some(request) = self.default_request.filter(|request| guaranteed && *request != default) {
                return Err(self.mistake(
                    "defaultRequest",
                    request,
                    &["must be the default, ", &default.to_string(), ", where pods must be Guaranteed"],
                ));
            }
        }
        if let Some(request) = self.default_request.filter(|_| !self.requests) {
            return Err(self.mistake("defaultRequest", request, &["is never filled in: set requests to required"]));
        }
        match self.ratio {
            Some(ratio) if *ratio < Quantity::whole_number(1) => {
                Err(self.mistake("maxLimitRequestRatio", ratio, &["must be at least 1"]))
            }
            _ => Ok(()),
        }
    }

    #[cold]
    #[inline(never)]
    fn mistake(&self, name: &str, amount: &Quantity, problem: &[&str]) -> SettingsError {
        let problem = join(&["Invalid value: ", &amount.to_string(), ": ", &join(problem, "")], "");
        SettingsError::new(join(&[self.defaults.key, name], "."), problem)
    }
}

/// The amount at `node`, more than 0, as exactly as Kubernetes keeps it.
#[inline(never)]
fn amount(node: &Node<'_>) -> Result<Option<&'static Quantity>, Malformed> {
    match Quantity::of(node)? {
        Some(amount) if amount.is_zero() || amount.is_negative() => Err(Malformed::new(node, "must be more than 0")),
        Some(amount) => Ok(Some(kept(amount.rounded_up(MILLI)))),
        None => Ok(None),
    }
}

/// Settings are read once in an evaluation, and never given back, as a path is not.
fn kept(amount: Quantity) -> &'static Quantity {
    Box::leak(Box::new(amount))
}
