//! The form of `catalogue.toml`: read by the build script, and by the tests that render and check the file.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    pub(crate) source: BTreeMap<String, Source>,
    pub(crate) near_miss: Vec<Seen>,
    pub(crate) system: Vec<System>,
}

/// Where a fact stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) url: String,
    pub(crate) section: String,
    pub(crate) version: String,
}

/// One row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct System {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) model: Model,
    pub(crate) group: Option<u32>,
    pub(crate) why: String,
    pub(crate) source: String,
    pub(crate) rule: Vec<Rule>,
    pub(crate) seen: Vec<Seen>,
    #[serde(default)]
    pub(crate) membership: Vec<Setting>,
    #[serde(default)]
    pub(crate) heap: Vec<Setting>,
    #[serde(default)]
    pub(crate) probe: Vec<Probe>,
    pub(crate) liveness: Option<Liveness>,
    #[serde(default)]
    pub(crate) data: Vec<Data>,
    #[serde(default)]
    pub(crate) port: Vec<Port>,
    #[serde(default)]
    pub(crate) resource: Vec<Resource>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Model {
    Majority,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) images: Vec<String>,
    #[serde(default)]
    pub(crate) when: Vec<Condition>,
    #[serde(default)]
    pub(crate) unless: Vec<Condition>,
    /// Needed where there are conditions.
    pub(crate) source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) word: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) is: Option<String>,
    #[serde(default)]
    pub(crate) lacks: Vec<String>,
}

/// An image found in a published manifest or chart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) image: String,
    /// `repository:path@commit`.
    #[serde(rename = "in")]
    pub(crate) place: String,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    pub(crate) flag: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) source: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Asks {
    Member,
    Quorum,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    pub(crate) http: Option<String>,
    pub(crate) exec: Option<String>,
    pub(crate) asks: Asks,
    pub(crate) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Liveness {
    pub(crate) advised: bool,
    pub(crate) note: String,
    pub(crate) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    pub(crate) path: String,
    pub(crate) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) field: String,
    pub(crate) source: String,
}
