//! The settings of a policy: its own, and those that all policies share, in one flat object.
//!
//! Both are read key by key, so that a mistake is told with its key, its value and what is allowed; a key that nobody
//! knows is refused by name, with the nearest one that exists.

use std::fmt;

use serde_json::{Map, Value};
use workload::node::shorten;
use workload::path::Segment;
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
    #[inline(never)]
    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        let mut shared = Self::default();
        let action = [("deny", Action::Deny), ("warn", Action::Warn)];
        shared.action = choice(&settings.get("action"), &action)?.unwrap_or_default();
        let on_update = [("ratchet", OnUpdate::Ratchet), ("enforce", OnUpdate::Enforce)];
        shared.on_update = choice(&settings.get("onUpdate"), &on_update)?.unwrap_or_default();
        shared.mutate = settings.get("mutate").boolean()?.unwrap_or(false);
        let exempt = settings.get("exempt");
        if exempt.is_present() {
            shared.exempt = Exempt::read(&exempt)?;
        }
        let owned_objects =
            [("warn", OwnedObjects::Warn), ("enforce", OwnedObjects::Enforce), ("ignore", OwnedObjects::Ignore)];
        shared.owned_objects = choice(&settings.get("ownedObjects"), &owned_objects)?.unwrap_or_default();
        shared.unknown = choice(&settings.get("unknown"), &MODELS)?.unwrap_or(Model::Majority);
        let declarations = [("trust", Declarations::Trust), ("ignore", Declarations::Ignore)];
        shared.declarations = choice(&settings.get("declarations"), &declarations)?.unwrap_or_default();
        for system in settings.get("systems").items()? {
            shared.systems.push(SystemSetting::read(&system)?);
        }
        Ok(shared)
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
        object(node, |fields| {
            let model = fields.get("model");
            Ok(Self {
                model: choice(&model, &MODELS)?
                    .ok_or_else(|| unknown_name(&model, "variant", None, &MODELS.map(|(name, _)| name)))?,
                images: texts(&fields.get("images"))?,
                selector: selector(&fields.get("selector"))?,
            })
        })
    }
}

impl Exempt {
    fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        object(node, |fields| {
            let mut exempt = Self::default();
            for (list, key) in [
                (&mut exempt.namespaces, "namespaces"),
                (&mut exempt.names, "names"),
                (&mut exempt.containers, "containers"),
                (&mut exempt.images, "images"),
                (&mut exempt.users, "users"),
            ] {
                *list = texts(&fields.get(key))?;
            }
            exempt.labels = selector(&fields.get("labels"))?;
            exempt.annotation = fields.get("annotation").boolean()?.unwrap_or(false);
            Ok(exempt)
        })
    }
}

const MODELS: [(&str, Model); 2] = [("majority", Model::Majority), ("none", Model::None)];

fn selector(node: &Node<'_>) -> Result<Option<Selector>, Malformed> {
    if node.is_absent() { Ok(None) } else { Selector::read(node).map(Some) }
}

/// An object of settings. It learns its keys as they are read: a key that nobody has read does not exist.
///
/// Read by hand, because what serde derives for as many types is a fifth of a module.
#[derive(Debug)]
pub struct Settings<'a> {
    fields: &'a Map<String, Value>,
    path: Path,
    keys: Vec<&'static str>,
}

impl<'a> Settings<'a> {
    fn new(fields: &'a Map<String, Value>, path: Path) -> Self {
        Self { fields, path, keys: Vec::with_capacity(16) }
    }

    #[inline(never)]
    fn of(node: &Node<'a>) -> Result<Self, Malformed> {
        match node.object()? {
            Some(fields) => Ok(Self::new(fields, node.path())),
            None => Err(Malformed::new(node, "must be an object")),
        }
    }

    /// Refuses what nobody has read of the object at `node`.
    #[inline(never)]
    fn done(&self, node: &Node<'_>) -> Result<(), Malformed> {
        match self.unread() {
            Some(key) => Err(unknown_name(node, "field", Some(key), &self.keys)),
            None => Ok(()),
        }
    }

    /// The setting `key`. An explicit `null` is the default, as Helm values and custom resources write it: absent.
    #[inline(never)]
    pub fn get(&mut self, key: &'static str) -> Node<'a> {
        self.keys.push(key);
        Node::at(self.fields.get(key).unwrap_or(&Value::Null), self.path.field(key))
    }

    /// The first key that nobody has read.
    fn unread(&self) -> Option<&'a str> {
        self.fields.keys().map(String::as_str).find(|key| !self.keys.contains(key))
    }
}

/// The object at `node`, of which `read` reads all fields that there may be.
pub fn object<T>(
    node: &Node<'_>,
    read: impl FnOnce(&mut Settings<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut settings = Settings::of(node)?;
    let object = read(&mut settings)?;
    settings.done(node)?;
    Ok(object)
}

/// This text, which must be there.
pub fn text(node: &Node<'_>) -> Result<String, Malformed> {
    Ok(node.string()?.ok_or_else(|| Malformed::new(node, "must be a string"))?.to_owned())
}

/// These texts; none where the list is absent.
#[inline(never)]
pub fn texts(node: &Node<'_>) -> Result<Vec<String>, Malformed> {
    let mut texts = Vec::new();
    for item in node.items()? {
        texts.push(text(&item)?);
    }
    Ok(texts)
}

/// What this name stands for, of the names that are `allowed`; `None` where it is absent.
pub fn choice<T: Copy>(node: &Node<'_>, allowed: &[(&str, T)]) -> Result<Option<T>, Malformed> {
    let place = place(node, &|place| allowed.get(place).map(|(name, _)| *name))?;
    Ok(place.and_then(|place| allowed.get(place)).map(|(_, meaning)| *meaning))
}

/// Which of the names this is; apart from [`choice`], because that is made anew for every type.
#[inline(never)]
fn place<'n>(node: &Node<'_>, name: &dyn Fn(usize) -> Option<&'n str>) -> Result<Option<usize>, Malformed> {
    let Some(value) = node.value() else { return Ok(None) };
    let mut names = Vec::new();
    while let Some(own) = name(names.len()) {
        if value.as_str() == Some(own) {
            return Ok(Some(names.len()));
        }
        names.push(own);
    }
    Err(unknown_name(node, "variant", value.as_str(), &names))
}

#[cold]
#[inline(never)]
fn unknown_name(node: &Node<'_>, what: &str, name: Option<&str>, known: &[&str]) -> Malformed {
    let (expected, separator) = if known.len() == 2 { ("expected `", "` or `") } else { ("expected one of `", "`, `") };
    let known = join(known, separator);
    let found = name.map(|name| join(&["unknown ", what, " `", name, "`, "], "")).unwrap_or_default();
    Malformed::new(node, &join(&[&found, expected, &known, "`"], ""))
}

/// Reads the policy's `own` settings and the shared ones from one object; absent or `null` means all defaults.
///
/// # Errors
/// The first setting that will not do, with its key, its value and what is allowed.
pub(crate) fn read<P>(
    settings: &Value,
    own: impl FnOnce(&mut Settings<'_>) -> Result<P, Malformed>,
    mutates: bool,
) -> Result<(P, Shared), SettingsError> {
    let none = Map::new();
    let fields = match settings {
        Value::Null => &none,
        Value::Object(fields) => fields,
        other => return Err(SettingsError::new("", "must be an object, not ".to_owned() + &shorten(other))),
    };
    let mut settings = Settings::new(fields, Path::root());
    let own = own(&mut settings).map_err(|malformed| invalid(fields, &malformed))?;
    let shared = Shared::read(&mut settings).map_err(|malformed| invalid(fields, &malformed))?;
    if let Some(key) = settings.unread() {
        return Err(SettingsError::new(key, unknown_key(key, settings.keys)));
    }
    shared.check(mutates)?;
    Ok((own, shared))
}

/// Tells the setting as a whole and, where a part of it will not do, that part.
#[cold]
#[inline(never)]
fn invalid(fields: &Map<String, Value>, malformed: &Malformed) -> SettingsError {
    let segments = malformed.path.segments();
    let Some(&Segment::Field(key)) = segments.first() else { return SettingsError::new("", malformed.to_string()) };
    let told = malformed.to_string();
    let told = told.strip_prefix(key).unwrap_or_default();
    let problem = if let Some(problem) = told.strip_prefix(": ") {
        problem.to_owned()
    } else {
        let value = shorten(fields.get(key).unwrap_or(&Value::Null));
        join(&["Invalid value: ", &value, ": ", told.strip_prefix('.').unwrap_or(told)], "")
    };
    SettingsError::new(key, problem)
}

#[cold]
#[inline(never)]
fn unknown_key(key: &str, known: Vec<&'static str>) -> String {
    let known = Texts::new(known.into_iter().map(str::to_owned).collect());
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

/// How many bytes must be changed, added or removed to get from one name to the other, letter case aside.
fn distance(from: &str, to: &str) -> usize {
    // A hostile key must not cost more than a real one.
    let from = from.as_bytes().get(..64).unwrap_or(from.as_bytes());
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (line, letter) in to.bytes().enumerate() {
        let (mut diagonal, mut left) = (line, line + 1);
        for (above, other) in row.iter_mut().skip(1).zip(from) {
            let replaced = diagonal + usize::from(!letter.eq_ignore_ascii_case(other));
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
    }
    // Without a letter, all of the other name is added.
    if from.is_empty() { to.len() } else { row.last().copied().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Own {
        max_replicas: Option<i32>,
        names: Vec<String>,
    }

    fn own(settings: &mut Settings<'_>) -> Result<Own, Malformed> {
        Ok(Own { max_replicas: settings.get("maxReplicas").int32()?, names: texts(&settings.get("names"))? })
    }

    fn refused(settings: &Value) -> String {
        read(settings, own, true).unwrap_err().to_string()
    }

    #[test]
    fn own_and_shared_settings_live_in_one_object() {
        let (own, shared) =
            read(&json!({ "maxReplicas": 7, "action": "warn", "unknown": "none", "names": null }), own, true).unwrap();
        assert_eq!((own.max_replicas, own.names.len()), (Some(7), 0));
        assert_eq!((shared.action, shared.unknown), (Action::Warn, Model::None));
        assert_eq!(read(&Value::Null, self::own, true).unwrap().1, Shared::default());
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
        assert_eq!(
            refused(&json!({ "maxReplicas": 0.5 })),
            "settings.maxReplicas: Invalid value: 0.5: must be a whole number"
        );
        assert_eq!(
            refused(&json!({ "names": ["a", 1] })),
            "settings.names: Invalid value: [...]: [1]: Invalid value: 1: must be a string"
        );
        assert!(
            refused(&json!({ "exempt": { "namespace": [] } })).contains("unknown field `namespace`, expected one of")
        );
        assert!(refused(&json!({ "exempt": { "labels": { "matchLabels": { "a": 1 } } } })).contains("matchLabels[a]"));
        assert!(
            refused(&json!({ "systems": [{ "model": "none" }] })).starts_with("settings.systems[0]: must have images")
        );
        assert!(refused(&json!([])).contains("must be an object"));
        assert!(read(&json!({ "mutate": true }), own, false).unwrap_err().to_string().contains("nothing safe"));
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("action", "Action"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
