#![doc = include_str!("../README.md")]

mod judge;
mod pod;
mod probe;

use policy::settings::{self, choice, texts};
use policy::{Fault, Finding, Level, Policy, Review, Settings, SettingsError, Target};
use workload::container::Container;
use workload::{Malformed, Node, glob};

use crate::judge::Judge;
use crate::pod::Pod;

policy::export!(Probes);

/// The kinds of probes, in the order in which findings tell of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether the container is to be restarted.
    Liveness,
    /// Whether it is to be sent work, and whether an update or a drain may go on to the next pod.
    Readiness,
    /// Whether it has started; until then the others wait.
    Startup,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    /// As settings name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }

    /// The field of a container.
    pub fn field(self) -> &'static str {
        match self {
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
            Self::Startup => "startupProbe",
        }
    }
}

/// What is asked of a kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Each container has one.
    Required,
    /// The container that serves has one; a warning for each other.
    Serving,
    /// Each container has one, or a warning.
    Advised,
    /// Nothing.
    Optional,
    /// No container has one.
    Forbidden,
}

const WANTS: [(&str, Want); 5] = [
    ("required", Want::Required),
    ("serving", Want::Serving),
    ("advised", Want::Advised),
    ("optional", Want::Optional),
    ("forbidden", Want::Forbidden),
];

/// What is asked of each kind, in the order of [`Kind`].
type Wants = [Option<Want>; 3];

/// What is asked of some containers instead.
#[derive(Debug)]
pub struct Exception {
    /// Globs over the names of containers.
    pub names: Vec<String>,
    /// Globs over images.
    pub images: Vec<String>,
    /// What is asked of them; what is absent is asked as of all.
    pub wants: Wants,
}

/// Bounds of a number of a kind of probe.
#[derive(Debug)]
pub struct Bound {
    /// The kind.
    pub kind: Kind,
    /// The number: a field of a probe, or [`BUDGET`].
    pub field: &'static str,
    /// The least.
    pub min: Option<i32>,
    /// The most.
    pub max: Option<i32>,
}

/// How long a probe may fail before it has consequences: `periodSeconds` times `failureThreshold`.
pub const BUDGET: &str = "budgetSeconds";

/// What can have bounds. The success threshold is another's: Kubernetes allows it for readiness alone.
const BOUNDED: [&str; 5] = ["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold", BUDGET];

/// The settings.
#[derive(Debug)]
pub struct Probes {
    /// What is asked of each kind of probe.
    pub wants: Wants,
    /// What is asked of some containers instead; the first that fits counts.
    pub exceptions: Vec<Exception>,
    /// Bounds of the numbers of probes.
    pub bounds: Vec<Bound>,
    /// What a probe is that may take longer than until the next one.
    pub timeout_above_period: Level,
}

impl Policy for Probes {
    const NAME: &'static str = "probes";
    const READS_RESOURCES: bool = false;
    const TARGETS: &'static [Target] = Target::LASTING_PODS;

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        let mut exceptions = Vec::new();
        for node in settings.get("containers").items()? {
            exceptions.push(Exception::read(&node)?);
        }
        let levels = [("warn", Level::Warning), ("deny", Level::Error)];
        Ok(Self {
            wants: read_wants(settings)?,
            exceptions,
            bounds: read_bounds(&settings.get("bounds"))?,
            timeout_above_period: choice(&settings.get("timeoutAbovePeriod"), &levels)?.unwrap_or(Level::Warning),
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        for (index, exception) in self.exceptions.iter().enumerate() {
            if exception.names.is_empty() && exception.images.is_empty() {
                let key = format!("containers[{}]", i64::try_from(index).unwrap_or_default());
                return Err(SettingsError::new(key, "must have names, images, or both, by which containers are known"));
            }
        }
        for bound in &self.bounds {
            let (min, max) = (bound.min.unwrap_or(0), bound.max.unwrap_or(i32::MAX));
            // Kubernetes reads 0 as the default, except for the delay.
            let least = i32::from(bound.field != "initialDelaySeconds");
            let problem = if min < 0 || max < least {
                "no probe can have such a number"
            } else if min > max {
                "min must not be above max"
            } else {
                continue;
            };
            return Err(SettingsError::new(
                workload::texts::join(&["bounds", bound.kind.name(), bound.field], "."),
                problem,
            ));
        }
        Ok(())
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let spec = review.pod_spec()?;
        let mut told = Vec::new();
        // A pod that is to end is left alone, as Jobs are.
        if spec.text_at("restartPolicy")? == "Always" {
            let pod = Pod::read(&spec, review.kind() == "StatefulSet")?;
            for (index, container) in pod.containers.iter().enumerate() {
                Judge { settings: self, pod: &pod, index, container, told: &mut told }.judge()?;
            }
        }
        Ok(told)
    }
}

impl Probes {
    /// What is asked of this kind of probe for a container, and whether an exception says so.
    pub(crate) fn want(&self, kind: Kind, container: &Container<'_>) -> (Want, bool) {
        for exception in &self.exceptions {
            if exception.fits(container) {
                if let Some(want) = exception.wants[kind as usize] {
                    return (want, true);
                }
                break;
            }
        }
        let default = match kind {
            Kind::Liveness => Want::Advised,
            Kind::Readiness => Want::Serving,
            Kind::Startup => Want::Optional,
        };
        (self.wants[kind as usize].unwrap_or(default), false)
    }
}

impl Exception {
    fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        settings::object(node, |fields| {
            Ok(Self {
                names: texts(&fields.get("names"))?,
                images: texts(&fields.get("images"))?,
                wants: read_wants(fields)?,
            })
        })
    }

    /// Whether it is about this container: one of its names fits and one of its images, where there are any.
    fn fits(&self, container: &Container<'_>) -> bool {
        let fits =
            |globs: &[String], text: &str| globs.is_empty() || globs.iter().any(|glob| glob::matches(glob, text));
        fits(&self.names, container.name) && fits(&self.images, container.image)
    }
}

fn read_wants(fields: &mut Settings<'_>) -> Result<Wants, Malformed> {
    let mut wants = [None; 3];
    for kind in Kind::ALL {
        wants[kind as usize] = choice(&fields.get(kind.name()), &WANTS)?;
    }
    Ok(wants)
}

fn read_bounds(node: &Node<'_>) -> Result<Vec<Bound>, Malformed> {
    let mut bounds = Vec::new();
    if node.is_absent() {
        return Ok(bounds);
    }
    settings::object(node, |kinds| {
        for kind in Kind::ALL {
            let of_kind = kinds.get(kind.name());
            if of_kind.is_present() {
                settings::object(&of_kind, |fields| {
                    for field in BOUNDED {
                        read_bound(kind, field, &fields.get(field), &mut bounds)?;
                    }
                    if kind == Kind::Readiness {
                        let field = "successThreshold";
                        read_bound(kind, field, &fields.get(field), &mut bounds)?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    })?;
    Ok(bounds)
}

fn read_bound(kind: Kind, field: &'static str, node: &Node<'_>, bounds: &mut Vec<Bound>) -> Result<(), Malformed> {
    if node.is_present() {
        settings::object(node, |limits| {
            bounds.push(Bound { kind, field, min: limits.get("min").int32()?, max: limits.get("max").int32()? });
            Ok(())
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::Probes>();
    }
}
