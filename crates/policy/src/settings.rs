//! The settings of a policy: its own, and those that all policies share, in one flat object.
//!
//! Both are read key by key, so that a mistake is told with its key, its value and what is allowed; a key that nobody
//! knows is refused by name, with the nearest one that exists.

use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde_json::{Map, Value};
use workload::node::shorten;
use workload::selector::Selector;
use workload::texts::{Texts, join};
use workload::{Malformed, Node, Path};

use crate::quorum::Model;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// The object is denied.
    #[default]
    Deny,
    /// The object is accepted with a warning.
    Warn,
}

/// What an UPDATE may keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUpdate {
    /// What was there before and did not get worse is a warning.
    #[default]
    Ratchet,
    /// What was there before is denied too.
    Enforce,
}

/// What happens to an object that another object's controller made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Declarations {
    /// Its annotation is believed.
    #[default]
    Trust,
    /// Its annotation is not looked at.
    Ignore,
}

/// A system that the administrator names, because the catalogue does not know it or knows it differently.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemSetting {
    /// How its members decide.
    pub model: Model,
    /// Globs over whole image names, one of which a container of the pod has.
    pub images: Vec<String>,
    /// Selects the workload by its own labels.
    pub selector: Option<Selector>,
}

/// What is left alone, by the administrator's word.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exempt {
    /// Globs over namespaces.
    pub namespaces: Vec<String>,
    /// Globs over the names of objects.
    pub names: Vec<String>,
    /// Selects objects by their own labels.
    pub labels: Option<Selector>,
    /// Globs over the names of containers: findings about such a container are dropped.
    pub containers: Vec<String>,
    /// Globs over image names: findings about a container with such an image are dropped.
    pub images: Vec<String>,
    /// Globs over the names of users who ask.
    pub users: Vec<String>,
    /// Whether an object may exempt itself with the annotation `quorate.dev/exempt-POLICY: reason`.
    pub annotation: bool,
}

/// The settings that all policies share.
#[derive(Debug, Clone, PartialEq)]
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
    /// The keys that [`Shared::set`] knows.
    const KEYS: [&str; 8] =
        ["action", "onUpdate", "mutate", "exempt", "ownedObjects", "unknown", "declarations", "systems"];

    /// Gives the setting `key` its value; `false` where there is no such key.
    ///
    /// Read by hand, because what serde derives for as many types is a fifth of a module.
    fn set(&mut self, key: &str, value: &Node<'_>) -> Result<bool, Malformed> {
        match key {
            "action" => self.action = [Action::Deny, Action::Warn][choice(value, &["deny", "warn"])?],
            "onUpdate" => {
                self.on_update = [OnUpdate::Ratchet, OnUpdate::Enforce][choice(value, &["ratchet", "enforce"])?];
            }
            "mutate" => self.mutate = value.boolean()?.unwrap_or(false),
            "exempt" => self.exempt = Exempt::read(value)?,
            "ownedObjects" => {
                self.owned_objects = [OwnedObjects::Warn, OwnedObjects::Enforce, OwnedObjects::Ignore]
                    [choice(value, &["warn", "enforce", "ignore"])?];
            }
            "unknown" => self.unknown = model(value)?,
            "declarations" => {
                self.declarations = [Declarations::Trust, Declarations::Ignore][choice(value, &["trust", "ignore"])?];
            }
            "systems" => {
                self.systems.clear();
                for system in value.items()? {
                    self.systems.push(SystemSetting::read(&system)?);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

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

impl SystemSetting {
    fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        only(node, &["model", "images", "selector"])?;
        Ok(Self {
            model: model(&node.get("model")?)?,
            images: texts(&node.get("images")?)?,
            selector: selector(&node.get("selector")?)?,
        })
    }
}

impl Exempt {
    fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        only(node, &["namespaces", "names", "labels", "containers", "images", "users", "annotation"])?;
        Ok(Self {
            namespaces: texts(&node.get("namespaces")?)?,
            names: texts(&node.get("names")?)?,
            labels: selector(&node.get("labels")?)?,
            containers: texts(&node.get("containers")?)?,
            images: texts(&node.get("images")?)?,
            users: texts(&node.get("users")?)?,
            annotation: node.boolean_at("annotation")?.unwrap_or(false),
        })
    }
}

fn model(node: &Node<'_>) -> Result<Model, Malformed> {
    Ok([Model::Majority, Model::None][choice(node, &["majority", "none"])?])
}

fn selector(node: &Node<'_>) -> Result<Option<Selector>, Malformed> {
    if node.is_absent() { Ok(None) } else { Selector::read(node).map(Some) }
}

/// These texts; none where the list is absent.
pub fn texts(node: &Node<'_>) -> Result<Vec<String>, Malformed> {
    let mut texts = Vec::new();
    for item in node.items()? {
        let text = item.string()?.ok_or_else(|| Malformed::new(&item, "must be a string"))?;
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// Which of `names` this is.
pub fn choice(node: &Node<'_>, names: &[&str]) -> Result<usize, Malformed> {
    let name = node.value().and_then(Value::as_str);
    names.iter().position(|own| Some(*own) == name).ok_or_else(|| unknown_name(node, "variant", name, names))
}

/// Refuses fields that are none of `names`.
fn only(node: &Node<'_>, names: &[&str]) -> Result<(), Malformed> {
    let fields = node.object()?.ok_or_else(|| Malformed::new(node, "must be an object"))?;
    for key in fields.keys() {
        if !names.contains(&key.as_str()) {
            return Err(unknown_name(node, "field", Some(key), names));
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn unknown_name(node: &Node<'_>, what: &str, name: Option<&str>, known: &[&str]) -> Malformed {
    let (expected, separator) = if known.len() == 2 { ("expected `", "` or `") } else { ("expected one of `", "`, `") };
    let known = join(known, separator);
    let found = name.map(|name| join(&["unknown ", what, " `", name, "`, "], "")).unwrap_or_default();
    Malformed::new(node, &join(&[&found, expected, &known, "`"], ""))
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
    let mut own_settings = Map::new();
    let mut shared = Shared::default();
    for (key, value) in settings {
        let key = key.as_str();
        let is_own = own.contains(&key);
        // An explicit null is the default, as Helm values and custom resources write it.
        if value.is_null() && (is_own || Shared::KEYS.contains(&key)) {
            continue;
        }
        if is_own {
            own_settings.insert(key.to_owned(), value.clone());
        } else if !shared.set(key, &Node::at(value, Path::root())).map_err(|error| invalid(key, value, &error))? {
            return Err(SettingsError::new(key, unknown_key(key, own)));
        }
    }
    shared.check(mutates)?;
    Ok((from_object(own_settings)?, shared))
}

#[cold]
#[inline(never)]
fn invalid(key: &str, value: &Value, malformed: &Malformed) -> SettingsError {
    let problem = if malformed.path.is_root() { malformed.problem.clone() } else { malformed.to_string() };
    SettingsError::new(key, join(&["Invalid value: ", &shorten(value), ": ", &problem], ""))
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

#[cold]
#[inline(never)]
fn unknown_key(key: &str, own: &[&str]) -> String {
    let known = Texts::new(own.iter().chain(&Shared::KEYS).map(|name| (*name).to_owned()).collect());
    let mut nearest: Option<(usize, &str)> = None;
    for name in &known {
        let distance = distance(key, name);
        if nearest.is_none_or(|(least, _)| distance < least) {
            nearest = Some((distance, name));
        }
    }
    match nearest {
        Some((distance, name)) if distance <= 2.max(name.len() / 3) => join(&["unknown; did you mean ", name, "?"], ""),
        _ => "unknown; this policy knows ".to_owned() + &join(known.as_slice(), ", "),
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
    use serde::Deserialize;
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
        let nothing = Node::root(&Value::Null);
        for key in Shared::KEYS {
            assert!(!matches!(Shared::default().set(key, &nothing), Ok(false)), "{key} is read");
        }
        assert!(field_names::<Vec<String>>().is_empty());
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("action", "Action"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
