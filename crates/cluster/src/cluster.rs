//! The objects of a cluster that exists only in memory, found by kind, namespace and name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::DEFAULT_NAMESPACE;
use crate::cache::Cache;
use crate::convert::convert;
use crate::resources::{Identity, ObjectError, Resource, Resources, split_api_version, stored_version};

/// How many bytes of answers a [`Cluster`] remembers.
const CACHE_BYTES: usize = 32 << 20;

/// A set of objects that answers look-ups as a cluster holding them would.
///
/// Built once, in time linear in the objects (besides sorting the names in each namespace), then shared freely between threads.
/// Differences to a real cluster: objects have no defaults filled in, no status beyond their own, and every look-up sees
/// everything at once.
///
/// Of two objects with the same kind, namespace and name the later one counts, as when both are applied in turn.
#[derive(Debug)]
pub struct Cluster {
    resources: Resources,
    objects: Vec<Arc<Value>>,
    index: HashMap<String, Namespaces>,
    refused: Vec<Refused>,
    replaced: Vec<usize>,
    pub(crate) cache: Cache,
}

/// By effective namespace (empty for kinds outside of namespaces) the positions of objects, sorted by name.
type Namespaces = BTreeMap<String, Vec<usize>>;

/// An object that the cluster could not take in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its position among the objects given.
    pub position: usize,
    /// What is wrong with it.
    pub error: ObjectError,
}

impl Cluster {
    /// Takes in the objects. One that cannot be read is left out and listed by [`Cluster::refused`].
    pub fn new(objects: impl IntoIterator<Item = Arc<Value>>) -> Self {
        Self::with_cache(objects, CACHE_BYTES)
    }

    pub(crate) fn with_cache(objects: impl IntoIterator<Item = Arc<Value>>, bytes: usize) -> Self {
        let mut objects: Vec<Arc<Value>> = objects.into_iter().collect();
        let mut resources = Resources::built_in();
        let mut refused = Vec::new();
        for (position, object) in objects.iter().enumerate() {
            match Identity::of(object) {
                Ok(identity) => resources.learn(&identity, object),
                Err(error) => refused.push(Refused { position, error }),
            }
        }
        // Only now is every definition known, and with it the scope of every kind.
        let mut index: HashMap<String, Namespaces> = HashMap::new();
        let mut refusals = refused.iter().map(|r| r.position).peekable();
        for (position, object) in objects.iter_mut().enumerate() {
            if refusals.next_if_eq(&position).is_some() {
                continue;
            }
            let Ok(identity) = Identity::read(object) else { continue };
            let resource = resources.resolve(identity.api_version, identity.kind, identity.namespace.is_some());
            let namespace = effective_namespace(&resource, identity.namespace);
            let stored = stored_version(identity.api_version, identity.kind);
            let stored = stored.as_deref().unwrap_or(identity.api_version);
            let by_namespace = index.entry(index_key(stored, identity.kind)).or_default();
            match by_namespace.get_mut(namespace) {
                Some(positions) => positions.push(position),
                None => drop(by_namespace.insert(namespace.to_owned(), vec![position])),
            }
            if stored != identity.api_version {
                let converted = convert(object, stored);
                *object = Arc::new(converted);
            }
        }
        let mut replaced = Vec::new();
        for positions in index.values_mut().flat_map(BTreeMap::values_mut) {
            // Stable: of equal names the later object comes last.
            positions.sort_by(|a, b| name_of(&objects[*a]).cmp(name_of(&objects[*b])));
            let names: Vec<usize> = std::mem::take(positions);
            for (at, position) in names.iter().enumerate() {
                let name = name_of(&objects[*position]);
                let again = names.get(at + 1).is_some_and(|next| name_of(&objects[*next]) == name);
                // What has no name yet (`generateName`) is never the same object.
                if again && !name.is_empty() { replaced.push(*position) } else { positions.push(*position) }
            }
        }
        replaced.sort_unstable();
        Self { resources, objects, index, refused, replaced, cache: Cache::new(bytes) }
    }

    /// What is known of resources with these objects: the built-in ones, and the custom ones among them.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The objects that could not be read.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// The positions of objects that a later one with the same kind, namespace and name replaces, in order.
    pub fn replaced(&self) -> &[usize] {
        &self.replaced
    }

    /// The object of this name, in the API version in which the cluster keeps it. `namespace` is empty for kinds outside of namespaces.
    pub fn find(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let stored = stored_version(api_version, kind);
        let kinds = self.index.get(&index_key(stored.as_deref().unwrap_or(api_version), kind))?;
        let positions = kinds.get(namespace)?;
        let at = positions.binary_search_by(|position| name_of(&self.objects[*position]).cmp(name)).ok()?;
        Some(&self.objects[positions[at]])
    }

    /// The objects of a kind with their effective namespace, sorted by namespace and name; all of them, or those of one namespace.
    pub(crate) fn of_kind<'a>(
        &'a self,
        api_version: &str,
        kind: &str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
        let stored = stored_version(api_version, kind);
        let kinds = self.index.get(&index_key(stored.as_deref().unwrap_or(api_version), kind));
        let all =
            kinds.filter(|_| namespace.is_none()).into_iter().flatten().map(|(ns, positions)| (ns.as_str(), positions));
        let one = kinds.zip(namespace).and_then(|(kinds, ns)| kinds.get(ns).map(|positions| (ns, positions)));
        all.chain(one).flat_map(move |(ns, positions)| {
            positions.iter().filter_map(move |position| Some((ns, self.objects[*position].as_object()?)))
        })
    }
}

/// Where an object lives: nowhere for kinds outside of namespaces, else where it says, else in [`DEFAULT_NAMESPACE`].
pub(crate) fn effective_namespace<'a>(resource: &Resource, own: Option<&'a str>) -> &'a str {
    if resource.namespaced { own.unwrap_or(DEFAULT_NAMESPACE) } else { "" }
}

/// Objects of one group and kind are kept together, in whatever version they come.
fn index_key(api_version: &str, kind: &str) -> String {
    let (group, _) = split_api_version(api_version);
    format!("{group}/{kind}")
}

pub(crate) fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str, mark: i32) -> Arc<Value> {
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": {"mark": mark}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        Arc::new(object)
    }

    fn names(cluster: &Cluster, api_version: &str, kind: &str, namespace: Option<&str>) -> Vec<String> {
        let found = cluster.of_kind(api_version, kind, namespace);
        found.map(|(ns, o)| format!("{ns}/{}", o["metadata"]["name"].as_str().unwrap())).collect()
    }

    #[test]
    fn objects_are_found_by_kind_namespace_and_name() {
        let cluster = Cluster::new([
            object("apps/v1", "StatefulSet", Some("b"), "z", 1),
            object("apps/v1", "StatefulSet", Some("b"), "a", 2),
            object("apps/v1", "StatefulSet", None, "d", 3),
            object("apps/v1", "StatefulSet", Some("default"), "c", 4),
            object("v1", "Node", None, "n", 5),
            object("other.io/v1", "StatefulSet", Some("b"), "q", 6),
        ]);
        assert_eq!(names(&cluster, "apps/v1", "StatefulSet", None), ["b/a", "b/z", "default/c", "default/d"]);
        assert_eq!(names(&cluster, "apps/v1", "StatefulSet", Some("b")), ["b/a", "b/z"]);
        assert!(names(&cluster, "apps/v1", "StatefulSet", Some("gone")).is_empty());
        assert_eq!(names(&cluster, "v1", "Node", None), ["/n"]);
        assert_eq!(cluster.find("apps/v1", "StatefulSet", "b", "z").unwrap()["spec"]["mark"], 1);
        assert_eq!(cluster.find("apps/v1", "StatefulSet", "b", "c"), None);
        assert_eq!(cluster.find("v1", "Node", "", "n").unwrap()["spec"]["mark"], 5);
        assert_eq!(cluster.find("other.io/v1", "StatefulSet", "b", "q").unwrap()["spec"]["mark"], 6);
    }

    #[test]
    fn the_later_of_two_namesakes_counts() {
        let cluster = Cluster::new([
            object("v1", "Service", None, "s", 1),
            object("v1", "Service", Some("default"), "s", 2),
            object("v1", "Service", Some("other"), "s", 3),
            object("policy/v1beta1", "PodDisruptionBudget", None, "b", 4),
            object("policy/v1", "PodDisruptionBudget", None, "b", 5),
            object("v1", "Pod", None, "", 6),
            object("v1", "Pod", None, "", 7),
        ]);
        assert_eq!(cluster.replaced(), [0, 3]);
        assert_eq!(cluster.find("v1", "Service", "default", "s").unwrap()["spec"]["mark"], 2);
        assert_eq!(cluster.find("policy/v1", "PodDisruptionBudget", "default", "b").unwrap()["spec"]["mark"], 5);
        assert_eq!(names(&cluster, "v1", "Pod", None).len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_listed_and_the_rest_is_there() {
        let cluster =
            Cluster::new([Arc::new(json!([])), object("v1", "Pod", None, "p", 1), Arc::new(json!({"kind": "Pod"}))]);
        let positions: Vec<_> = cluster.refused().iter().map(|r| r.position).collect();
        assert_eq!(positions, [0, 2]);
        assert_eq!(cluster.refused()[1].error, ObjectError::Missing { field: "apiVersion" });
        assert_eq!(names(&cluster, "v1", "Pod", None), ["default/p"]);
    }

    #[test]
    fn a_definition_after_its_objects_still_says_where_they_live() {
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "z"},
            "spec": {"group": "e.com", "scope": "Namespaced", "names": {"kind": "Zoo", "plural": "zoos"},
                "versions": [{"name": "v1", "served": true}]}});
        let cluster = Cluster::new([object("e.com/v1", "Zoo", None, "a", 1), Arc::new(definition)]);
        assert_eq!(names(&cluster, "e.com/v1", "Zoo", None), ["default/a"]);
    }
}
