//! The resources of Kubernetes: plural names, scope, served and removed API versions.
//!
//! Two data files, `data/served.tsv` and `data/removed.tsv`, hold the built-in kinds; their headers say where each comes from and
//! how it is refreshed. Custom resources come from the `CustomResourceDefinition`s among the objects, or are guessed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::Value;

use crate::MAX_DEPTH;

/// A kind of object in one API version, and what its resource is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version inside the group, such as `v1`.
    pub version: Cow<'static, str>,
    /// The kind, such as `StatefulSet`.
    pub kind: Cow<'static, str>,
    /// The resource, such as `statefulsets`.
    pub plural: Cow<'static, str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it has a `scale` subresource.
    pub scale: bool,
    /// How this is known.
    pub origin: Origin,
}

/// How a [`Resource`] is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Kubernetes itself serves it.
    BuiltIn,
    /// Kubernetes served it once. See [`removed`].
    Removed,
    /// A `CustomResourceDefinition` among the objects declares it.
    Definition,
    /// Nothing declares it: the plural is guessed from the kind, the scope from its objects.
    Guess,
}

impl Resource {
    /// `v1`, `apps/v1`: group and version as objects spell them.
    pub fn api_version(&self) -> String {
        join_api_version(&self.group, &self.version)
    }
}

/// An API version that API servers no longer serve.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed {
    /// The removed version.
    pub resource: Resource,
    /// The first Kubernetes release without it, such as `1.25`.
    pub removed_in: &'static str,
    /// The `apiVersion` to use instead, where there is one.
    pub replacement: Option<&'static str>,
}

/// Splits an `apiVersion` into group and version; the core group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The reverse of [`split_api_version`].
pub fn join_api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

struct Tables {
    /// By kind, a group's preferred version first.
    served: HashMap<&'static str, Vec<Resource>>,
    removed: HashMap<&'static str, Vec<Removed>>,
}

const SERVED: &str = include_str!("../data/served.tsv");
const REMOVED: &str = include_str!("../data/removed.tsv");

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables { served: HashMap::new(), removed: HashMap::new() };
    for row in rows(SERVED) {
        if let [api_version, plural, kind, scope, scale] = row[..] {
            let resource = built_in(api_version, plural, kind, scope, scale == "scale", Origin::BuiltIn);
            tables.served.entry(kind).or_default().push(resource);
        }
    }
    for row in rows(REMOVED) {
        if let [api_version, plural, kind, scope, removed_in, replacement] = row[..] {
            let replacement = (replacement != "-").then_some(replacement);
            let scale = replacement.is_some_and(|to| served_in(&tables.served, to, kind).is_some_and(|r| r.scale));
            let resource = built_in(api_version, plural, kind, scope, scale, Origin::Removed);
            tables.removed.entry(kind).or_default().push(Removed { resource, removed_in, replacement });
        }
    }
    tables
});

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

fn built_in(
    api_version: &'static str,
    plural: &'static str,
    kind: &'static str,
    scope: &str,
    scale: bool,
    origin: Origin,
) -> Resource {
    let (group, version) = split_api_version(api_version);
    Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced: scope == "namespaced",
        scale,
        origin,
    }
}

fn served_in<'a>(
    served: &'a HashMap<&'static str, Vec<Resource>>,
    api_version: &str,
    kind: &str,
) -> Option<&'a Resource> {
    let (group, version) = split_api_version(api_version);
    served.get(kind)?.iter().find(|r| r.group == group && r.version == version)
}

/// The removed API version of this name, if Kubernetes served it once.
pub fn removed(api_version: &str, kind: &str) -> Option<&'static Removed> {
    let (group, version) = split_api_version(api_version);
    TABLES.removed.get(kind)?.iter().find(|r| r.resource.group == group && r.resource.version == version)
}

/// What keeps an object from being looked at at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The document is a sequence or a scalar.
    #[error("not an object: {found} instead of a mapping")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A field that every object has is absent, null or empty.
    #[error("{field}: Required value")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field that says which object this is has another type than the API gives it.
    #[error("{field}: Invalid type: {found} instead of {wanted}")]
    WrongType {
        /// The field's path.
        field: &'static str,
        /// What is there.
        found: &'static str,
        /// What belongs there.
        wanted: &'static str,
    },
    /// More levels than the receiving parsers read.
    #[error("more than {MAX_DEPTH} levels of nesting: neither the Kubewarden host nor a policy could read it")]
    TooDeep,
}

/// What an object says of itself: only that which addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// `apiVersion`, never empty.
    pub api_version: &'a str,
    /// `kind`, never empty.
    pub kind: &'a str,
    /// `metadata.namespace`; null and empty count as absent, as in Kubernetes.
    pub namespace: Option<&'a str>,
    /// `metadata.name`; null and empty count as absent.
    pub name: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// Reads an object's identity and refuses what no API server could read either.
    pub fn of(object: &'a Value) -> Result<Self, ObjectError> {
        let identity = Self::read(object)?;
        if depth_within(object, MAX_DEPTH) { Ok(identity) } else { Err(ObjectError::TooDeep) }
    }

    /// The same without looking through the whole object for its depth.
    pub(crate) fn read(object: &'a Value) -> Result<Self, ObjectError> {
        let Value::Object(fields) = object else {
            return Err(ObjectError::NotAnObject { found: type_name(object) });
        };
        let required = |field| text(fields.get(field), field)?.ok_or(ObjectError::Missing { field });
        let api_version = required("apiVersion")?;
        let kind = required("kind")?;
        let (namespace, name) = match fields.get("metadata") {
            None | Some(Value::Null) => (None, None),
            Some(Value::Object(metadata)) => {
                (text(metadata.get("namespace"), "metadata.namespace")?, text(metadata.get("name"), "metadata.name")?)
            }
            Some(other) => {
                let found = type_name(other);
                return Err(ObjectError::WrongType { field: "metadata", found, wanted: "a mapping" });
            }
        };
        Ok(Self { api_version, kind, namespace, name })
    }
}

fn text<'a>(value: Option<&'a Value>, field: &'static str) -> Result<Option<&'a str>, ObjectError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(other) => Err(ObjectError::WrongType { field, found: type_name(other), wanted: "a string" }),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a sequence",
        Value::Object(_) => "a mapping",
    }
}

/// Whether `value` has at most `levels` levels. Looks no deeper than that, whatever the value's depth.
fn depth_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| depth_within(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|item| depth_within(item, levels - 1)),
        _ => true,
    }
}

/// The built-in resources and the custom ones that the objects at hand declare or use.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// By group, then kind.
    custom: HashMap<String, BTreeMap<String, Custom>>,
}

#[derive(Clone, Debug)]
struct Custom {
    plural: String,
    namespaced: bool,
    /// The versions, the definition's first one first, and whether each has a scale subresource.
    versions: Vec<(String, bool)>,
    origin: Origin,
}

impl Resources {
    /// The built-in resources alone.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// The built-in resources, and what these objects tell of custom ones. Objects that cannot be read are passed over.
    pub fn with_objects<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut resources = Self::default();
        for object in objects {
            if let Ok(identity) = Identity::of(object) {
                resources.learn(&identity, object);
            }
        }
        resources
    }

    /// Takes in what one object tells of custom resources: by being a definition, or by being of a kind nobody declared.
    pub(crate) fn learn(&mut self, identity: &Identity<'_>, object: &Value) {
        let (group, version) = split_api_version(identity.api_version);
        if identity.kind == "CustomResourceDefinition" && group == "apiextensions.k8s.io" {
            self.define(object);
            return;
        }
        if is_built_in(group, identity.kind) || removed(identity.api_version, identity.kind).is_some() {
            return;
        }
        let kinds = self.custom.entry(group.to_owned()).or_default();
        let custom = kinds.entry(identity.kind.to_owned()).or_insert_with(|| Custom {
            plural: guess_plural(identity.kind),
            namespaced: false,
            versions: Vec::new(),
            origin: Origin::Guess,
        });
        if custom.origin == Origin::Guess {
            custom.namespaced |= identity.namespace.is_some();
            if !custom.versions.iter().any(|(known, _)| known == version) {
                custom.versions.push((version.to_owned(), false));
            }
        }
    }

    /// Reads a `CustomResourceDefinition` of `apiextensions.k8s.io/v1` or `v1beta1`; one that lacks what a server insists on is ignored.
    fn define(&mut self, definition: &Value) {
        let spec = &definition["spec"];
        let (Some(group), Some(kind), Some(plural)) =
            (spec["group"].as_str(), spec["names"]["kind"].as_str(), spec["names"]["plural"].as_str())
        else {
            return;
        };
        let scale_of = |holder: &Value| holder["subresources"]["scale"].is_object();
        let mut versions: Vec<(String, bool)> = Vec::new();
        for version in spec["versions"].as_array().into_iter().flatten() {
            if version["served"] != Value::Bool(false)
                && let Some(name) = version["name"].as_str()
            {
                versions.push((name.to_owned(), scale_of(version) || scale_of(spec)));
            }
        }
        if versions.is_empty()
            && let Some(name) = spec["version"].as_str()
        {
            versions.push((name.to_owned(), scale_of(spec)));
        }
        let custom = Custom {
            plural: plural.to_owned(),
            namespaced: spec["scope"] != "Cluster",
            versions,
            origin: Origin::Definition,
        };
        self.custom.entry(group.to_owned()).or_default().insert(kind.to_owned(), custom);
    }

    /// The resource of a served API version: what discovery on a cluster with these objects would find.
    ///
    /// `None` for removed versions and for kinds that nothing at hand declares or uses.
    pub fn served(&self, api_version: &str, kind: &str) -> Option<Resource> {
        if let Some(resource) = served_in(&TABLES.served, api_version, kind) {
            return Some(resource.clone());
        }
        let (group, version) = split_api_version(api_version);
        let custom = self.custom.get(group)?.get(kind)?;
        let (_, scale) = custom.versions.iter().find(|(known, _)| known == version)?;
        Some(Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: kind.to_owned().into(),
            plural: custom.plural.clone().into(),
            namespaced: custom.namespaced,
            scale: *scale,
            origin: custom.origin,
        })
    }

    /// The resource of whatever kind: served, removed, or guessed from the kind (and from whether `object_has_namespace`).
    pub fn resolve(&self, api_version: &str, kind: &str, object_has_namespace: bool) -> Resource {
        if let Some(resource) = self.served(api_version, kind) {
            return resource;
        }
        if let Some(removed) = removed(api_version, kind) {
            return removed.resource.clone();
        }
        let (group, version) = split_api_version(api_version);
        // A version that this table does not know, of a kind that it does: only the version is new.
        let sibling = TABLES.served.get(kind).and_then(|rows| rows.iter().find(|r| r.group == group));
        let custom = self.custom.get(group).and_then(|kinds| kinds.get(kind));
        Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: kind.to_owned().into(),
            plural: match (sibling, custom) {
                (Some(sibling), _) => sibling.plural.clone(),
                (None, Some(custom)) => custom.plural.clone().into(),
                (None, None) => guess_plural(kind).into(),
            },
            namespaced: match (sibling, custom) {
                (Some(sibling), _) => sibling.namespaced,
                (None, Some(custom)) => custom.namespaced,
                (None, None) => object_has_namespace,
            },
            scale: sibling.is_some_and(|r| r.scale),
            origin: Origin::Guess,
        }
    }

    /// The API versions in which an API server serves the objects of this resource, the preferred one first.
    ///
    /// For a removed version those of its replacement; empty where there is none.
    pub fn equivalents(&self, group: &str, version: &str, kind: &str) -> Vec<Resource> {
        let api_version = join_api_version(group, version);
        let group = match removed(&api_version, kind) {
            Some(removed) => match removed.replacement {
                Some(replacement) => split_api_version(replacement).0,
                None => return Vec::new(),
            },
            None => group,
        };
        if let Some(rows) = TABLES.served.get(kind) {
            let same: Vec<_> = rows.iter().filter(|r| r.group == group).cloned().collect();
            if !same.is_empty() {
                return same;
            }
        }
        let Some(custom) = self.custom.get(group).and_then(|kinds| kinds.get(kind)) else { return Vec::new() };
        custom.versions.iter().filter_map(|(v, _)| self.served(&join_api_version(group, v), kind)).collect()
    }
}

fn is_built_in(group: &str, kind: &str) -> bool {
    TABLES.served.get(kind).is_some_and(|rows| rows.iter().any(|r| r.group == group))
}

/// The `apiVersion` in which objects of this kind are kept: the replacement of a removed one, else the group's preferred one.
/// `None` for what is not built in, which is kept as it comes.
pub(crate) fn stored_version(api_version: &str, kind: &str) -> Option<String> {
    if let Some(removed) = removed(api_version, kind) {
        return removed.replacement.map(str::to_owned);
    }
    served_in(&TABLES.served, api_version, kind)?;
    let (group, _) = split_api_version(api_version);
    TABLES.served.get(kind)?.iter().find(|r| r.group == group).map(Resource::api_version)
}

/// The plural that Kubernetes itself guesses (`UnsafeGuessKindToResource` in `k8s.io/apimachinery/pkg/api/meta/restmapper.go`).
fn guess_plural(kind: &str) -> String {
    let singular = kind.to_lowercase();
    if singular == "endpoints" {
        singular
    } else if singular.ends_with('s') {
        singular + "es"
    } else if let Some(stem) = singular.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        singular + "s"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_row_of_the_tables_is_read() {
        let served: usize = TABLES.served.values().map(Vec::len).sum();
        assert_eq!(served, SERVED.lines().filter(|l| !l.starts_with('#')).count());
        assert!(served > 80, "{served}");
        let removed: usize = TABLES.removed.values().map(Vec::len).sum();
        assert_eq!(removed, REMOVED.lines().filter(|l| !l.starts_with('#')).count());
        assert!(removed > 50, "{removed}");
        for row in TABLES.removed.values().flatten() {
            let kind = &row.resource.kind;
            let api_version = row.resource.api_version();
            assert!(served_in(&TABLES.served, &api_version, kind).is_none(), "{api_version}/{kind} is both");
            if let Some(to) = row.replacement {
                let found = served_in(&TABLES.served, to, kind);
                assert!(found.is_some_and(|r| r.plural == row.resource.plural), "{api_version}/{kind} -> {to}");
            }
        }
    }

    #[test]
    fn built_in_kinds_have_their_resource_scope_and_scale() {
        let resources = Resources::built_in();
        let set = resources.served("apps/v1", "StatefulSet").unwrap();
        assert_eq!((&*set.group, &*set.version, &*set.plural), ("apps", "v1", "statefulsets"));
        assert!(set.namespaced && set.scale);
        let node = resources.served("v1", "Node").unwrap();
        assert_eq!((&*node.group, &*node.plural, node.namespaced, node.scale), ("", "nodes", false, false));
        assert_eq!(resources.served("v1", "Endpoints").unwrap().plural, "endpoints");
        assert_eq!(resources.served("networking.k8s.io/v1", "NetworkPolicy").unwrap().plural, "networkpolicies");
        // The kind alone does not make it the built-in one.
        assert_eq!(resources.served("batch.volcano.sh/v1alpha1", "Job"), None);
        assert_eq!(resources.served("policy/v1beta1", "PodDisruptionBudget"), None);
    }

    #[test]
    fn removed_versions_name_release_and_replacement() {
        let budget = removed("policy/v1beta1", "PodDisruptionBudget").unwrap();
        assert_eq!((budget.removed_in, budget.replacement), ("1.25", Some("policy/v1")));
        for api_version in ["apps/v1beta1", "apps/v1beta2"] {
            let set = removed(api_version, "StatefulSet").unwrap();
            assert_eq!((set.removed_in, set.replacement, set.resource.scale), ("1.16", Some("apps/v1"), true));
        }
        assert_eq!(removed("extensions/v1beta1", "Deployment").unwrap().replacement, Some("apps/v1"));
        assert_eq!(removed("autoscaling/v2beta2", "HorizontalPodAutoscaler").unwrap().removed_in, "1.26");
        assert_eq!(removed("batch/v1beta1", "CronJob").unwrap().replacement, Some("batch/v1"));
        assert_eq!(removed("policy/v1beta1", "PodSecurityPolicy").unwrap().replacement, None);
        assert_eq!(removed("policy/v1", "PodDisruptionBudget"), None);
    }

    #[test]
    fn unknown_kinds_get_a_guessed_plural_and_their_own_scope() {
        let resources = Resources::built_in();
        for (kind, plural) in [("Kafka", "kafkas"), ("Proxy", "proxies"), ("Redis", "redises")] {
            let guess = resources.resolve("example.com/v1", kind, true);
            assert_eq!((&*guess.plural, guess.namespaced, guess.origin), (plural, true, Origin::Guess));
        }
        assert!(!resources.resolve("example.com/v1", "Kafka", false).namespaced);
        // A version from the future of a kind that is known.
        let future = resources.resolve("apps/v9", "StatefulSet", false);
        assert_eq!((&*future.plural, future.namespaced, future.scale), ("statefulsets", true, true));
    }

    #[test]
    fn definitions_say_plural_scope_versions_and_scale() {
        let v1 = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Zoo", "plural": "zoo"}, "versions": [
                {"name": "v1", "served": true, "subresources": {"scale": {"specReplicasPath": ".spec.n"}}},
                {"name": "v0", "served": false}]}});
        let v1beta1 = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "y"},
            "spec": {"group": "example.com", "scope": "Cluster", "version": "v2", "names": {"kind": "Ark", "plural": "arks"}}});
        let resources = Resources::with_objects([&v1, &v1beta1]);
        let zoo = resources.served("example.com/v1", "Zoo").unwrap();
        assert_eq!((&*zoo.plural, zoo.namespaced, zoo.scale, zoo.origin), ("zoo", true, true, Origin::Definition));
        assert_eq!(resources.served("example.com/v0", "Zoo"), None);
        let ark = resources.served("example.com/v2", "Ark").unwrap();
        assert_eq!((&*ark.plural, ark.namespaced, ark.scale), ("arks", false, false));
    }

    #[test]
    fn kinds_in_use_are_known_without_a_definition() {
        let first = json!({"apiVersion": "e.com/v1", "kind": "Zoo", "metadata": {"name": "a"}});
        let second = json!({"apiVersion": "e.com/v2", "kind": "Zoo", "metadata": {"name": "b", "namespace": "n"}});
        let resources = Resources::with_objects([&first, &second]);
        assert!(resources.served("e.com/v1", "Zoo").unwrap().namespaced);
        assert!(resources.served("e.com/v2", "Zoo").is_some());
        assert_eq!(resources.served("e.com/v3", "Zoo"), None);
        let versions: Vec<_> = resources.equivalents("e.com", "v1", "Zoo").iter().map(Resource::api_version).collect();
        assert_eq!(versions, ["e.com/v1", "e.com/v2"]);
    }

    #[test]
    fn equivalents_of_a_removed_version_are_those_of_its_replacement() {
        let resources = Resources::built_in();
        let of = |g, v, k| resources.equivalents(g, v, k).iter().map(Resource::api_version).collect::<Vec<_>>();
        assert_eq!(of("policy", "v1beta1", "PodDisruptionBudget"), ["policy/v1"]);
        assert_eq!(of("extensions", "v1beta1", "Deployment"), ["apps/v1"]);
        assert_eq!(of("autoscaling", "v1", "HorizontalPodAutoscaler"), ["autoscaling/v2", "autoscaling/v1"]);
        assert_eq!(of("policy", "v1beta1", "PodSecurityPolicy"), Vec::<String>::new());
    }

    #[test]
    fn identities_refuse_what_no_server_reads() {
        let missing = |field| Err(ObjectError::Missing { field });
        assert_eq!(Identity::of(&json!({})), missing("apiVersion"));
        assert_eq!(Identity::of(&json!({"apiVersion": "v1", "kind": null})), missing("kind"));
        assert_eq!(Identity::of(&json!({"apiVersion": "v1", "kind": ""})), missing("kind"));
        assert_eq!(Identity::of(&json!([])).unwrap_err().to_string(), "not an object: a sequence instead of a mapping");
        let named = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 7}});
        let told = "metadata.name: Invalid type: a number instead of a string";
        assert_eq!(Identity::of(&named).unwrap_err().to_string(), told);
        let odd = json!({"apiVersion": "v1", "kind": "Pod", "metadata": "x"});
        assert!(Identity::of(&odd).is_err());
        let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "", "namespace": null}});
        let identity = Identity::of(&bare).unwrap();
        assert_eq!((identity.name, identity.namespace), (None, None));
    }

    #[test]
    fn depth_is_counted_to_the_limit_and_no_further() {
        let nested = |levels: usize| (0..levels).fold(Value::Null, |inner, _| json!([inner]));
        // The object itself is one level.
        let object = |levels| json!({"apiVersion": "v1", "kind": "Pod", "deep": nested(levels)});
        assert!(Identity::of(&object(MAX_DEPTH - 1)).is_ok());
        assert_eq!(Identity::of(&object(MAX_DEPTH)), Err(ObjectError::TooDeep));
    }
}
