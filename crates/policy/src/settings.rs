//! The settings of a policy: its own, and those that all policies share, in one flat object.
//!
//! Both are read key by key, so that a mistake is told with its key, its value and what is allowed; a key that nobody
//! knows is refused by name, with the nearest one that exists.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde_json::{Map, Value};
use workload::node::shorten;
use workload::selector::Selector;
use workload::texts::Texts;
use workload::{Node, Path};

use crate::quorum::Model;
use crate::request::or_default;

/// A setting that will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The setting, such as `exempt.namespaces`; empty for the settings as a whole.
    pub key: String,
    /// What is wrong with it and what is allowed.
    pub problem: String,
}

impl SettingsError {
    /// The setting `key` will not do: `problem` says why and what is allowed.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "settings: {}", self.problem)
        } else {
            write!(f, "settings.{}: {}", self.key, self.problem)
        }
    }
}

impl std::error::Error for SettingsError {}

/// What an error does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The object is denied.
    #[default]
    Deny,
    /// The object is accepted with a warning.
    Warn,
}

/// What an UPDATE may keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUpdate {
    /// What was there before and did not get worse is a warning.
    #[default]
    Ratchet,
    /// What was there before is denied too.
    Enforce,
}

/// What happens to an object that another object's controller made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnedObjects {
    /// Its errors are warnings.
    #[default]
    Warn,
    /// It is judged like any other.
    Enforce,
    /// It is not judged.
    Ignore,
}

/// Whether a workload may say itself how its members decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Declarations {
    /// Its annotation is believed.
    #[default]
    Trust,
    /// Its annotation is not looked at.
    Ignore,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Name {
            Majority,
            None,
        }
        Ok(match Name::deserialize(deserializer)? {
            Name::Majority => Self::Majority,
            Name::None => Self::None,
        })
    }
}

/// A system that the administrator names, because the catalogue does not know it or knows it differently.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemSetting {
    /// How its members decide.
    pub model: Model,
    /// Globs over whole image names, one of which a container of the pod has.
    #[serde(default, deserialize_with = "or_default")]
    pub images: Vec<String>,
    /// Selects the workload by its own labels.
    #[serde(default, deserialize_with = "selector")]
    pub selector: Option<Selector>,
}

/// What is left alone, by the administrator's word.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exempt {
    /// Globs over namespaces.
    #[serde(deserialize_with = "or_default")]
    pub namespaces: Vec<String>,
    /// Globs over the names of objects.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// Selects objects by their own labels.
    #[serde(deserialize_with = "selector")]
    pub labels: Option<Selector>,
    /// Globs over the names of containers: findings about such a container are dropped.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<String>,
    /// Globs over image names: findings about a container with such an image are dropped.
    #[serde(deserialize_with = "or_default")]
    pub images: Vec<String>,
    /// Globs over the names of users who ask.
    #[serde(deserialize_with = "or_default")]
    pub users: Vec<String>,
    /// Whether an object may exempt itself with the annotation `quorate.dev/exempt-POLICY: reason`.
    #[serde(deserialize_with = "or_default")]
    pub annotation: bool,
}

/// The settings that all policies share.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Shared {
    /// What an error does.
    pub action: Action,
    /// What an UPDATE may keep.
    pub on_update: OnUpdate,
    /// Whether the findings' edits are applied, where the policy has any.
    pub mutate: bool,
    /// What is left alone.
    pub exempt: Exempt,
    /// What happens to objects that a controller made.
    pub owned_objects: OwnedObjects,
    /// How the members of a set decide of which nothing is known.
    pub unknown: Model,
    /// Whether a workload may say itself how its members decide.
    pub declarations: Declarations,
    /// Systems that the administrator names; the first that fits wins.
    pub systems: Vec<SystemSetting>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            action: Action::default(),
            on_update: OnUpdate::default(),
            mutate: false,
            exempt: Exempt::default(),
            owned_objects: OwnedObjects::default(),
            unknown: Model::Majority,
            declarations: Declarations::default(),
            systems: Vec::new(),
        }
    }
}

impl Shared {
    fn check(&self, mutates: bool) -> Result<(), SettingsError> {
        if self.mutate && !mutates {
            return Err(SettingsError::new("mutate", "this policy has nothing safe to change; set it to false"));
        }
        if self.exempt.labels.as_ref().is_some_and(|labels| !labels.is_nothing() && labels.requirements().is_empty()) {
            return Err(SettingsError::new(
                "exempt.labels",
                "selects every object, so that nothing would be judged; leave it out, or name a label",
            ));
        }
        for (index, system) in self.systems.iter().enumerate() {
            if system.images.is_empty() && system.selector.is_none() {
                let key = format!("systems[{index}]");
                return Err(SettingsError::new(
                    key,
                    "must have images, a selector, or both, by which it is recognised",
                ));
            }
        }
        Ok(())
    }
}

fn selector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Selector>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_null() {
        return Ok(None);
    }
    Selector::read(&Node::at(&value, Path::root())).map(Some).map_err(de::Error::custom)
}

/// Reads the settings of the policy `P` and the shared ones from one object; absent or `null` means all defaults.
///
/// # Errors
/// The first key that will not do, with its value and what is allowed.
pub fn read<P: DeserializeOwned>(settings: &Value, mutates: bool) -> Result<(P, Shared), SettingsError> {
    let none = Map::new();
    let settings = match settings {
        Value::Null => &none,
        Value::Object(settings) => settings,
        other => return Err(SettingsError::new("", format!("must be an object, not {}", shorten(other)))),
    };
    let own = field_names::<P>();
    let shared = field_names::<Shared>();
    let (mut own_settings, mut shared_settings) = (Map::new(), Map::new());
    for (key, value) in settings {
        let key = key.as_str();
        let into = match (own.contains(&key), shared.contains(&key)) {
            (true, _) => &mut own_settings,
            (false, true) => &mut shared_settings,
            (false, false) => {
                return Err(SettingsError::new(key, unknown_key(key, own.iter().chain(shared).copied())));
            }
        };
        // An explicit null is the default, as Helm values and custom resources write it.
        if !value.is_null() {
            into.insert(key.to_owned(), value.clone());
        }
    }
    let shared: Shared = from_object(shared_settings)?;
    shared.check(mutates)?;
    Ok((from_object(own_settings)?, shared))
}

/// Reads `T`, naming the key that will not do: each key is tried alone, which all have defaults to allow.
fn from_object<T: DeserializeOwned>(settings: Map<String, Value>) -> Result<T, SettingsError> {
    for (key, value) in &settings {
        let mut alone = Map::new();
        alone.insert(key.clone(), value.clone());
        if let Err(error) = T::deserialize(Value::Object(alone)) {
            return Err(SettingsError::new(key.as_str(), format!("Invalid value: {}: {error}", shorten(value))));
        }
    }
    T::deserialize(Value::Object(settings)).map_err(|error| SettingsError::new("", error.to_string()))
}

fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known = Texts::new(known.map(str::to_owned).collect());
    let nearest = known.iter().map(|name| (distance(key, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2.max(name.len() / 3) => format!("unknown; did you mean {name}?"),
        _ => {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            format!("unknown; this policy knows {}", known.join(", "))
        }
    }
}

/// How many letters must be changed, added or removed to get from one name to the other, letter case aside.
fn distance(from: &str, to: &str) -> usize {
    // A hostile key must not cost more than a real one.
    let from: Vec<char> = from.chars().take(64).map(|letter| letter.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (line, letter) in to.chars().map(|letter| letter.to_ascii_lowercase()).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in from.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The keys of a settings type, as serde knows them, so that no list of them is kept by hand.
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The deserializer below always fails, after it has been told the names.
    let _ = T::deserialize(FieldNames(&mut names));
    names
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

#[derive(Debug)]
struct Told;

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the names are told")
    }
}

impl std::error::Error for Told {}

impl de::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Told;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
        Err(Told)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        *self.0 = fields;
        Err(Told)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
    struct Own {
        max_replicas: Option<u32>,
        names: Vec<String>,
    }

    fn refused(settings: &Value) -> String {
        read::<Own>(settings, true).unwrap_err().to_string()
    }

    #[test]
    fn own_and_shared_settings_live_in_one_object() {
        let (own, shared) =
            read::<Own>(&json!({ "maxReplicas": 7, "action": "warn", "unknown": "none", "names": null }), true)
                .unwrap();
        assert_eq!((own.max_replicas, own.names.len()), (Some(7), 0));
        assert_eq!((shared.action, shared.unknown), (Action::Warn, Model::None));
        assert_eq!(read::<Own>(&Value::Null, true).unwrap().1, Shared::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_with_the_nearest() {
        assert_eq!(refused(&json!({ "maxreplica": 7 })), "settings.maxreplica: unknown; did you mean maxReplicas?");
        assert_eq!(refused(&json!({ "acton": "warn" })), "settings.acton: unknown; did you mean action?");
        let listed = refused(&json!({ "completelyDifferent": 7 }));
        assert!(listed.contains("this policy knows action, declarations, exempt, maxReplicas, mutate"), "{listed}");
        assert!(refused(&json!({ "x".repeat(100_000): 7 })).contains("unknown"));
    }

    #[test]
    fn a_wrong_value_is_told_with_its_key_and_what_is_allowed() {
        assert_eq!(
            refused(&json!({ "action": "block" })),
            "settings.action: Invalid value: \"block\": unknown variant `block`, expected `deny` or `warn`"
        );
        assert!(refused(&json!({ "maxReplicas": -1 })).starts_with("settings.maxReplicas: Invalid value: -1: "));
        assert!(
            refused(&json!({ "exempt": { "namespace": [] } })).contains("unknown field `namespace`, expected one of")
        );
        assert!(refused(&json!({ "exempt": { "labels": { "matchLabels": { "a": 1 } } } })).contains("matchLabels[a]"));
        assert!(
            refused(&json!({ "systems": [{ "model": "none" }] })).starts_with("settings.systems[0]: must have images")
        );
        assert!(refused(&json!([])).contains("must be an object"));
        assert!(read::<Own>(&json!({ "mutate": true }), false).unwrap_err().to_string().contains("nothing safe"));
    }

    #[test]
    fn the_names_come_from_serde() {
        assert_eq!(field_names::<Own>(), ["maxReplicas", "names"]);
        assert!(field_names::<Shared>().contains(&"ownedObjects"));
        assert!(field_names::<Vec<String>>().is_empty());
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("action", "Action"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
