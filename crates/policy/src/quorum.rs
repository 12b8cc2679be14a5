//! Whether the members of a set vote, and how that is known.

use workload::catalogue;
use workload::selector::{Answer, Labels};
use workload::{Malformed, Node, glob};

use crate::settings::{Declarations, Shared};

/// How the members of a set decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// By majority: more than half of them must be up.
    Majority,
    /// They do not vote.
    None,
}

/// How the model is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The administrator's `systems` settings, by position.
    Settings(usize),
    /// The workload's own annotation.
    Declaration,
    /// The catalogue, by the image of a container.
    Catalogue {
        /// The system's name.
        system: &'static str,
        /// The container's image.
        image: String,
    },
    /// Nothing says: the administrator's `unknown` setting decides.
    Unknown,
}

/// How the members of a set decide, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// The model.
    pub model: Model,
    /// Where it comes from.
    pub origin: Origin,
    /// The name of the system that the catalogue knows to vote, where the set declares that it does not.
    pub contradicts: Option<&'static str>,
    /// Not all members vote together, but groups of this many: the replicas of one range, shard or region.
    pub group: Option<i64>,
}

/// The annotation with which a workload says how its members decide: `majority` or `none`.
pub const QUORUM: &str = "quorate.dev/quorum";
/// The annotation with which several sets say that their members form one ensemble.
pub const ENSEMBLE: &str = "quorate.dev/ensemble";

impl Quorum {
    /// Whether the members vote.
    pub fn votes(&self) -> bool {
        self.model == Model::Majority
    }

    /// Whether the members are known to vote, rather than taken to because nothing says otherwise.
    pub fn is_known(&self) -> bool {
        self.origin != Origin::Unknown
    }

    /// How many of `members` may fail at once, wherever they are, while every vote still has a majority.
    pub fn tolerance(&self, members: i64) -> i64 {
        tolerance(self.group.map_or(members, |group| group.min(members)))
    }

    /// What to say first where a finding rests on nothing but the `unknown` setting: why, and the line that corrects
    /// it. Empty where more is known.
    pub fn doubt(&self) -> String {
        if self.is_known() || !self.votes() {
            return String::new();
        }
        format!(
            "taken for a voting set because no image of it is in the catalogue; if its members do not vote, annotate it with {QUORUM}: none"
        )
    }

    /// How the model is known, in a sentence.
    pub fn explain(&self) -> String {
        let model = match self.model {
            Model::Majority => "its members vote (majority)",
            Model::None => "its members do not vote (none)",
        };
        let origin = match &self.origin {
            Origin::Settings(index) => format!("by the policy's settings, systems[{index}]"),
            Origin::Declaration => format!("by its annotation {QUORUM}"),
            Origin::Catalogue { system, image } => format!("by the catalogue: image {image} is {system}"),
            Origin::Unknown => "by the setting unknown: nothing else says".to_owned(),
        };
        format!("{model}, {origin}")
    }
}

/// How many members may fail while more than half of `members` is left: `(members - 1) / 2`, and 0 for no members.
pub fn tolerance(members: i64) -> i64 {
    (members - 1).max(0) / 2
}

/// How many of `members` are more than half.
pub fn majority(members: i64) -> i64 {
    members / 2 + 1
}

/// The ensemble that the set at `set` says it belongs to.
pub fn ensemble<'a>(set: &Node<'a>) -> Result<Option<&'a str>, Malformed> {
    Ok(annotation(set, ENSEMBLE)?.string()?.filter(|name| !name.is_empty()))
}

fn annotation<'a>(set: &Node<'a>, key: &str) -> Result<Node<'a>, Malformed> {
    set.dig("metadata.annotations")?.entry(key)
}

/// How the members of the set at `set` decide; the first that says so wins.
pub(crate) fn of(set: &Node<'_>, shared: &Shared) -> Result<Quorum, Malformed> {
    let pod = set.dig("spec.template.spec")?;
    let mut images = Vec::new();
    for container in pod.items_at("containers")? {
        images.push(container.text_at("image")?);
    }
    let labels = set.string_map_at("metadata.labels")?;
    let labels = Labels::new(labels);
    for (index, system) in shared.systems.iter().enumerate() {
        let by_image = system.images.iter().any(|pattern| images.iter().any(|image| glob::matches(pattern, image)));
        let by_label = system.selector.as_ref().is_some_and(|selector| selector.matches(&labels) == Answer::Yes);
        if by_image || by_label {
            return Ok(Quorum { model: system.model, origin: Origin::Settings(index), contradicts: None, group: None });
        }
    }
    let known = pod.value().and_then(catalogue::recognise_pod);
    let declaration = annotation(set, QUORUM)?;
    if shared.declarations == Declarations::Trust {
        let declared = match declaration.string()? {
            None => None,
            Some("majority") => Some(Model::Majority),
            Some("none") => Some(Model::None),
            Some(_) => return Err(Malformed::new(&declaration, "must be majority or none")),
        };
        if let Some(model) = declared {
            let contradicts = known
                .filter(|(system, _)| model == Model::None && system.model == catalogue::Model::Majority)
                .map(|(system, _)| system.name);
            return Ok(Quorum { model, origin: Origin::Declaration, contradicts, group: None });
        }
    }
    Ok(match known {
        Some((system, container)) => Quorum {
            model: match system.model {
                catalogue::Model::Majority => Model::Majority,
                catalogue::Model::None => Model::None,
            },
            origin: Origin::Catalogue {
                system: system.name,
                image: images.get(container).copied().unwrap_or_default().to_owned(),
            },
            contradicts: None,
            group: system.group.map(i64::from),
        },
        None => Quorum { model: shared.unknown, origin: Origin::Unknown, contradicts: None, group: None },
    })
}
