//! The objects of a check, as the cluster that policies look things up in.
//!
//! As values in memory, objects take fifteen times the room of their text. So they are kept as JSON, and made values again
//! one namespace at a time: nearly every look-up is about the namespace of the judged object. For the others there is the
//! whole cluster, made when somebody asks.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use cluster::resources::{Identity, Origin, removed, split_api_version};
use cluster::{Cluster, DEFAULT_NAMESPACE, ObjectError, Resources};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::finding::ObjectRef;

/// An object of an input.
pub(crate) struct Object {
    /// The position of its input.
    pub(crate) input: usize,
    /// Where it stands.
    pub(crate) place: manifest::Place,
    /// What it is called. Its namespace is the one that it names until the [`World`] knows which kinds live in namespaces.
    pub(crate) identity: ObjectRef,
    /// Whether it names a namespace, rather than leaving that to whoever applies it.
    pub(crate) names_namespace: bool,
    /// The object.
    json: Box<[u8]>,
    /// Whether it defines other kinds.
    defines: bool,
}

impl Object {
    /// Takes in a value, or says why it is no object.
    pub(crate) fn new(input: usize, value: &Value, place: manifest::Place) -> Result<Self, ObjectError> {
        let identity = Identity::of(value)?;
        let identity = ObjectRef {
            api_version: identity.api_version.to_owned(),
            kind: identity.kind.to_owned(),
            namespace: identity.namespace.map(str::to_owned),
            name: identity.name.map(str::to_owned),
        };
        let defines = identity.kind == "CustomResourceDefinition";
        let names_namespace = identity.namespace.is_some();
        let json = value.to_string().into_bytes().into_boxed_slice();
        Ok(Self { input, place, identity, names_namespace, json, defines })
    }

    /// The object as a value. What was written is read back: only memory could fail.
    fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// What tells which kind the object has or defines and where such objects live, and no more.
    fn skeleton(&self) -> Value {
        if self.defines {
            return definition(&self.value());
        }
        let ObjectRef { api_version, kind, namespace, name } = &self.identity;
        let mut skeleton = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name } });
        if let Some(namespace) = namespace {
            skeleton["metadata"]["namespace"] = namespace.as_str().into();
        }
        skeleton
    }
}

/// What a definition of a custom resource says of its names: its schemas are long, and nobody looks them up here.
fn definition(value: &Value) -> Value {
    let pick = |from: &Value, keys: &[&str]| -> Value {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), from.get(key)?.clone()))).collect::<Map<_, _>>().into()
    };
    let mut skeleton = pick(value, &["apiVersion", "kind"]);
    skeleton["metadata"] = pick(&value["metadata"], &["name"]);
    let mut spec = pick(&value["spec"], &["group", "scope", "names", "version", "subresources"]);
    if let Some(versions) = value["spec"]["versions"].as_array() {
        spec["versions"] = versions.iter().map(|version| pick(version, &["name", "served", "subresources"])).collect();
    }
    skeleton["spec"] = spec;
    skeleton
}

/// All objects of a check.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) objects: Vec<Object>,
    pub(crate) resources: Resources,
    /// The positions of the objects of each namespace; those outside of namespaces are under the empty name.
    pub(crate) namespaces: BTreeMap<String, Vec<usize>>,
    /// By identity; of namesakes the last.
    index: HashMap<String, usize>,
    /// For each custom kind an object by which it is known to exist, and every definition; skeletons, by position.
    witnesses: Vec<(usize, Arc<Value>)>,
    whole: OnceLock<Cluster>,
}

impl World {
    /// Takes in all objects.
    pub(crate) fn new(mut objects: Vec<Object>) -> Self {
        // What kinds there are can be told from one object of each, in their order.
        let mut kinds = HashSet::new();
        let known: Vec<usize> = (0..objects.len())
            .filter(|position| {
                let ObjectRef { api_version, kind, namespace, .. } = &objects[*position].identity;
                kinds.insert((api_version.as_str(), kind.as_str(), namespace.is_some())) || objects[*position].defines
            })
            .collect();
        let shown: Vec<Arc<Value>> = known.par_iter().map(|position| Arc::new(objects[*position].skeleton())).collect();
        let resources = Resources::with_objects(shown.iter().map(|value| &**value));
        let is_built_in = |position: usize| {
            let ObjectRef { api_version, kind, .. } = &objects[position].identity;
            resources.served(api_version, kind).is_some_and(|resource| resource.origin == Origin::BuiltIn)
        };
        let witnesses = known.into_iter().zip(shown);
        let witnesses =
            witnesses.filter(|(position, _)| objects[*position].defines || !is_built_in(*position)).collect();

        let mut namespaces: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut index = HashMap::with_capacity(objects.len());
        for (position, object) in objects.iter_mut().enumerate() {
            let ObjectRef { api_version, kind, namespace, .. } = &mut object.identity;
            let resource = resources.resolve(api_version, kind, namespace.is_some());
            let own = namespace.take().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
            *namespace = resource.namespaced.then_some(own);
            let home = namespace.clone().unwrap_or_default();
            namespaces.entry(home).or_default().push(position);
            index.insert(key(&object.identity), position);
        }
        Self { objects, resources, namespaces, index, witnesses, whole: OnceLock::new() }
    }

    /// The object that is called so; of namesakes the last.
    pub(crate) fn find(&self, object: &ObjectRef) -> Option<usize> {
        self.index.get(&key(object)).copied()
    }

    /// Each object that a later one of the same name replaces in look-ups, with that one.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = (&Object, &Object)> {
        self.objects.iter().enumerate().filter_map(|(position, object)| {
            // What has no name yet is never the same object.
            object.identity.name.as_ref()?;
            let last = self.find(&object.identity)?;
            (last != position).then(|| (object, &self.objects[last]))
        })
    }

    fn whole(&self) -> &Cluster {
        self.whole.get_or_init(|| Cluster::new(self.objects.iter().map(|object| Arc::new(object.value()))))
    }
}

/// The same for all API versions of one object: what is written in a removed one is kept in its replacement's group.
pub(crate) fn key(object: &ObjectRef) -> String {
    let replacement = removed(&object.api_version, &object.kind).and_then(|removed| removed.replacement);
    let (group, _) = split_api_version(replacement.unwrap_or(&object.api_version));
    let namespace = object.namespace.as_deref().unwrap_or_default();
    [group, &object.kind, namespace, object.name.as_deref().unwrap_or_default()].join("\0")
}

/// The cluster, seen from one namespace.
pub(crate) struct View {
    world: Arc<World>,
    namespace: String,
    /// All objects of the namespace, and all kinds.
    near: Cluster,
}

/// What a look-up is about.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
}

impl View {
    /// The view, and the objects of the namespace with their positions.
    pub(crate) fn of(world: &Arc<World>, namespace: &str) -> (Self, Vec<(usize, Arc<Value>)>) {
        let positions = world.namespaces.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let values: Vec<(usize, Arc<Value>)> =
            positions.par_iter().map(|position| (*position, Arc::new(world.objects[*position].value()))).collect();
        let elsewhere = world.witnesses.iter().filter(|(position, _)| positions.binary_search(position).is_err());
        let near = Cluster::new(
            elsewhere.map(|(_, value)| Arc::clone(value)).chain(values.iter().map(|(_, value)| Arc::clone(value))),
        );
        (Self { world: Arc::clone(world), namespace: namespace.to_owned(), near }, values)
    }

    /// The cluster that can answer the call.
    pub(crate) fn cluster(&self, namespace: &str, operation: &str, payload: &[u8]) -> &Cluster {
        let near = match (namespace, operation) {
            ("kubernetes", "list_resources_all") => false,
            ("kubernetes", "list_resources_by_namespace" | "get_resource") => {
                // What cannot be read is refused by any cluster in the same words.
                serde_json::from_slice::<Asked<'_>>(payload).map_or(true, |asked| self.is_near(&asked))
            }
            _ => true,
        };
        if near { &self.near } else { self.world.whole() }
    }

    fn is_near(&self, asked: &Asked<'_>) -> bool {
        match (self.world.resources.served(&asked.api_version, &asked.kind), &asked.namespace) {
            (Some(resource), _) if !resource.namespaced => self.namespace.is_empty(),
            (Some(_), Some(namespace)) => *namespace == self.namespace,
            // An unknown kind, and no place to look for a known one: errors everywhere.
            (None, _) | (Some(_), None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::Grants;
    use cluster::grants::ContextAwareResource;

    use super::*;

    const TEXT: &str = "
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b}, spec: {old: true}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b}, spec: {old: false}}
---
{apiVersion: v1, kind: Service, metadata: {name: s}}
---
{apiVersion: v1, kind: Node, metadata: {name: worker}}
---
{apiVersion: example.com/v1, kind: Zoo, metadata: {name: z, namespace: b}}
---
{apiVersion: example.com/v1, kind: Zoo, metadata: {name: z}}
---
{apiVersion: example.com/v1, kind: Cage, metadata: {name: c}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cages.example.com}
spec: {group: example.com, scope: Namespaced, names: {kind: Cage, plural: cages}, versions: [{name: v1, served: true, schema: {long: true}}]}
---
{apiVersion: policy/v1beta1, kind: PodDisruptionBudget, metadata: {name: p, namespace: a}}
---
{apiVersion: v1, kind: Pod, metadata: {generateName: p-}}
---
{apiVersion: v1, kind: Pod, metadata: {generateName: p-}}
";

    fn world() -> (Arc<World>, Cluster) {
        let documents = manifest::parse("t.yaml", TEXT.as_bytes()).documents;
        let all = Cluster::new(documents.iter().map(|document| Arc::new(document.value.clone())));
        let objects = documents.into_iter().map(|document| {
            let (value, place) = document.into_parts();
            Object::new(0, &value, place).unwrap()
        });
        (Arc::new(World::new(objects.collect())), all)
    }

    #[test]
    fn a_view_answers_as_the_whole_cluster_does() {
        let (world, all) = world();
        let kinds = [
            ("v1", "Service"),
            ("v1", "Node"),
            ("v1", "Pod"),
            ("v1", "Nonsense"),
            ("example.com/v1", "Zoo"),
            ("example.com/v1", "Cage"),
            ("policy/v1", "PodDisruptionBudget"),
            ("policy/v1beta1", "PodDisruptionBudget"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ];
        let granted = kinds
            .map(|(api_version, kind)| ContextAwareResource { api_version: api_version.into(), kind: kind.into() });
        let grants = Grants::cluster_wide(granted);
        let mut answered = 0;
        for home in ["", "a", "b", "default", "empty"] {
            let (view, _) = View::of(&world, home);
            for (api_version, kind) in kinds {
                for namespace in [None, Some("a"), Some("b"), Some("default"), Some("c"), Some("")] {
                    for operation in ["list_resources_all", "list_resources_by_namespace", "get_resource", "can_i", "x"]
                    {
                        for name in ["s", "worker", "z", "c", "p", "none"] {
                            let payload =
                                json!({ "api_version": api_version, "kind": kind, "namespace": namespace, "name": name,
                                "disable_cache": true })
                                .to_string();
                            let payload = payload.as_bytes();
                            let ask = |cluster: &Cluster| {
                                cluster
                                    .call(&grants, "kubernetes", operation, payload)
                                    .map_err(|error| error.to_string())
                            };
                            let told = ask(view.cluster("kubernetes", operation, payload));
                            answered += usize::from(told.is_ok());
                            assert_eq!(
                                told,
                                ask(&all),
                                "from {home:?}: {operation} {}",
                                String::from_utf8_lossy(payload)
                            );
                        }
                    }
                }
            }
        }
        assert!(answered > 100, "{answered} answers");
    }

    #[test]
    fn objects_are_at_home_where_their_kind_lives() {
        let (world, all) = world();
        let of = |namespace: &str| world.namespaces.get(namespace).cloned().unwrap_or_default();
        assert_eq!((of(""), of("a"), of("b")), (vec![4, 8], vec![0, 9], vec![1, 2, 5]));
        assert_eq!(of("default"), [3, 6, 7, 10, 11]);
        let replaced: Vec<_> = world.replaced().map(|(object, by)| (object.place.index(), by.place.index())).collect();
        assert_eq!(replaced, [(1, 2)]);
        assert_eq!(all.replaced(), [1]);
        let budget = ObjectRef {
            api_version: "policy/v1".into(),
            kind: "PodDisruptionBudget".into(),
            namespace: Some("a".into()),
            name: Some("p".into()),
        };
        assert_eq!(world.find(&budget), Some(9));
    }

    #[test]
    fn only_what_lies_elsewhere_takes_the_whole_cluster() {
        let (world, _) = world();
        let (view, _) = View::of(&world, "a");
        let ask = |operation: &str, payload: &str| {
            view.cluster("kubernetes", operation, payload.as_bytes());
            world.whole.get().is_some()
        };
        let near = r#"{"api_version": "v1", "kind": "Service", "namespace": "\u0061"}"#;
        assert!(!ask("list_resources_by_namespace", near));
        assert!(!ask("get_resource", near));
        assert!(!ask("get_resource", "no JSON"));
        assert!(ask("get_resource", r#"{"api_version": "v1", "kind": "Node"}"#));
    }

    #[test]
    fn a_definition_shrinks_to_its_names() {
        let (world, _) = world();
        let (_, witness) = world.witnesses.iter().find(|(position, _)| *position == 8).unwrap();
        let spec = json!({"group": "example.com", "scope": "Namespaced", "names": {"kind": "Cage", "plural": "cages"},
            "versions": [{"name": "v1", "served": true}]});
        assert_eq!(witness["spec"], spec);
        assert_eq!(definition(&json!({"kind": "x", "spec": 1}))["spec"], json!({}));
    }
}
