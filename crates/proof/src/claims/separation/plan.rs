//! What is played of a subject: the set as a control plane with simulated kubelets can have it, and the nodes that it needs.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::claim::{Subject, Trouble};
use crate::make::matches;
use crate::room::Room;

/// The label of nodes that every node has with a value of its own.
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
/// Labels of nodes whose domains hold whole nodes, from narrow to wide: zones, then regions.
const WIDER: [(&str, u8); 4] = [
    ("topology.kubernetes.io/zone", 1),
    ("failure-domain.beta.kubernetes.io/zone", 1),
    ("topology.kubernetes.io/region", 2),
    ("failure-domain.beta.kubernetes.io/region", 2),
];
/// More members than this are not played.
const MOST_MEMBERS: i64 = 6;
/// More terms than this the rule does not read, and says so.
const MOST_TERMS: usize = 100;
/// More domains than this are not played.
const MOST_DOMAINS: i64 = 8;

/// Where constraints and terms stand.
pub(super) const REQUIRED: &str = "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
pub(super) const PREFERRED: &str = "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution";
const ATTRACTING: &str = "/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution";
const NODE_TERMS: &str = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

/// What is played.
#[derive(Debug)]
pub(super) struct Plan {
    /// The set as it was, where an update changes the template: with as many members as it has after.
    pub(super) old: Option<Value>,
    /// The set.
    pub(super) set: Value,
    /// How many members.
    pub(super) members: i64,
    /// The ordinal of the first.
    pub(super) first: i64,
    /// Whether each member waits for the one before it.
    pub(super) is_ordered: bool,
    /// What the namespace of the set is called.
    pub(super) namespace: String,
    /// Labels of nodes that something of the set speaks about.
    keys: BTreeSet<String>,
    /// Those of which it is not known whether nodes have them.
    pub(super) unknown: BTreeSet<String>,
    /// The label that says which zone a node is in.
    pub(super) zone_key: String,
    /// Whether somebody asks how many members a zone may hold.
    pub(super) has_zones: bool,
    /// Labels of pods that are not the set's, which one of its constraints counts.
    pub(super) foreign: Vec<Value>,
    /// `minDomains` of each binding constraint.
    pub(super) domains: Vec<i64>,
    /// Whether it could be that no node suits all members, whatever keeps them apart.
    pub(super) is_choosy: bool,
}

/// A pod's spec in a set.
pub(super) fn spec(set: &Value) -> &Value {
    &set["spec"]["template"]["spec"]
}

/// The items of a list in a pod's spec.
pub(super) fn items<'a>(pod: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    pod.pointer(at).and_then(Value::as_array).into_iter().flatten()
}

/// The constraints that bind.
pub(super) fn hard(pod: &Value) -> impl Iterator<Item = &Value> {
    items(pod, "/topologySpreadConstraints").filter(|spread| spread["whenUnsatisfiable"] == "DoNotSchedule")
}

impl Plan {
    /// Reads it.
    pub(super) fn read(subject: &Subject) -> Result<Self, Trouble> {
        let no = |why: &str| Err(Trouble::Unplayable(why.to_owned()));
        let Some(object) = subject.objects.first().filter(|object| object["kind"] == "StatefulSet") else {
            return no("not a set");
        };
        let facts = &subject.facts;
        let members = match facts["scale"]["to"].as_i64() {
            Some(to) => to,
            None => object["spec"]["replicas"].as_i64().unwrap_or(1),
        };
        if !(2..=MOST_MEMBERS).contains(&members) {
            return no("fewer than two members, or more than are played");
        }
        if spec(object)["schedulerName"].as_str().is_some_and(|name| name != "default-scheduler") {
            return no("a scheduler that does not run here");
        }
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return no("a set that is being deleted");
        }
        let set = playable(object, members);
        if items(spec(&set), REQUIRED).count() > MOST_TERMS {
            return no("more terms than the rule reads");
        }
        let old = facts.get("before").map(|before| merge(object, before));
        // Where there were not two members, there is nobody to keep apart from.
        let old = old.filter(|old| old["spec"]["replicas"].as_i64().unwrap_or(1) > 1);
        let old = old.map(|old| playable(&old, members));
        let old = old.filter(|old| old["spec"]["template"] != set["spec"]["template"]);
        let mut keys = BTreeSet::new();
        for set in old.iter().chain([&set]) {
            let pod = spec(set);
            let preferred = items(pod, PREFERRED).map(|wish| &wish["podAffinityTerm"]);
            let terms = items(pod, REQUIRED).chain(items(pod, ATTRACTING)).chain(preferred);
            for term in terms.chain(items(pod, "/topologySpreadConstraints")) {
                keys.extend(term["topologyKey"].as_str().map(str::to_owned));
            }
        }
        let settings = &subject.settings;
        let zone_key = settings["zoneKey"].as_str().unwrap_or(WIDER[0].0).to_owned();
        let mut known: BTreeSet<String> = WIDER.iter().map(|(key, _)| (*key).to_owned()).collect();
        known.extend([zone_key.clone(), HOSTNAME.to_owned()]);
        known.extend(settings["domains"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        let unknown = keys.difference(&known).cloned().collect();
        keys.extend(known);
        keys.remove(HOSTNAME);
        let domains: Vec<i64> = hard(spec(&set)).map(|spread| spread["minDomains"].as_i64().unwrap_or(1)).collect();
        if domains.iter().any(|domains| *domains > MOST_DOMAINS) {
            return no("more domains than are played");
        }
        let pod = spec(&set);
        let is_choosy = old.iter().chain([&set]).any(|set| is_choosy(spec(set)));
        Ok(Self {
            members,
            first: object["spec"]["ordinals"]["start"].as_i64().unwrap_or(0),
            is_ordered: object["spec"]["podManagementPolicy"] != "Parallel",
            namespace: object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned(),
            keys,
            unknown,
            zone_key,
            has_zones: matches!(settings["zones"].as_str(), Some("warn" | "require")),
            foreign: hard(pod).filter_map(|spread| foreign(spread, &set)).collect(),
            domains,
            is_choosy,
            old,
            set,
        })
    }

    /// How many members may be lost at once, where they vote.
    pub(super) fn bearable(&self) -> i64 {
        (self.members - 1) / 2
    }

    /// Whether something looks at pods of one revision only.
    pub(super) fn is_by_revision(&self) -> bool {
        let pod = spec(&self.set);
        let mut all = items(pod, REQUIRED).chain(items(pod, "/topologySpreadConstraints"));
        all.any(|it| items(it, "/matchLabelKeys").any(|key| key == "controller-revision-hash"))
    }

    /// The set as it is in this room.
    pub(super) fn place(room: &Room<'_>, set: &Value) -> Value {
        let mut set = room.place(set);
        let pod = &mut set["spec"]["template"]["spec"];
        for spread in pod["topologySpreadConstraints"].as_array_mut().into_iter().flatten() {
            if spread["nodeAffinityPolicy"] == "Ignore"
                && let Some(key) = spread["topologyKey"].as_str()
            {
                spread["topologyKey"] = own_key(room, key).into();
            }
        }
        for (key, value) in pod["nodeSelector"].as_object_mut().into_iter().flatten() {
            if let Some(name) = value.as_str().filter(|_| key != crate::room::POOL) {
                *value = if key == HOSTNAME { first_node(room) } else { format!("{}-{name}", room.id) }.into();
            }
        }
        if let Some(terms) = pod.pointer_mut(NODE_TERMS) {
            for expression in expressions_mut(terms) {
                if expression["key"] == HOSTNAME {
                    continue;
                }
                for value in expression["values"].as_array_mut().into_iter().flatten() {
                    if let Some(name) = value.as_str() {
                        *value = format!("{}-{name}", room.id).into();
                    }
                }
            }
        }
        if pod["nodeName"].is_string() {
            pod["nodeName"] = first_node(room).into();
        }
        set
    }

    /// Whether members want to be in each other's domain of this label: it is a wide one then.
    fn attracts(&self, key: &str) -> bool {
        items(spec(&self.set), ATTRACTING).any(|term| term["topologyKey"] == key)
    }

    /// The labels of a node in a domain of its own, whatever the domain.
    pub(super) fn apart(&self, room: &Room<'_>, index: usize, is_bare: bool) -> Value {
        let value = |key: &str| {
            if is_bare && self.unknown.contains(key) {
                return None;
            }
            Some(format!("{}-{}", room.id, if self.attracts(key) { 0 } else { index }))
        };
        self.labels(room, [index, index], &value)
    }

    /// Whether its nodes are selected by one zone, or by a part of one: they are all in one zone then.
    fn is_selected(&self) -> bool {
        let zone_width = width(&self.zone_key);
        let is_part = |key: &String| *key == self.zone_key || (1..=zone_width).contains(&width(key));
        spec(&self.set)["nodeSelector"].as_object().is_some_and(|labels| labels.keys().any(is_part))
    }

    /// Whether it is bound to nodes or zones by its own words.
    pub(super) fn is_pinned(&self) -> bool {
        is_choosy(spec(&self.set))
    }

    /// The labels of a node in a zone: wider domains have its number, narrower ones the node's own.
    pub(super) fn in_zone(&self, room: &Room<'_>, index: usize, zone: usize) -> Value {
        let zone_width = width(&self.zone_key);
        let zone = if self.is_selected() { 0 } else { zone };
        let value = |key: &str| {
            let is_wider = key == self.zone_key || (width(key) > 0 && width(key) >= zone_width) || self.attracts(key);
            let number = if is_wider { zone } else { index };
            Some(format!("{}-{}{number}", room.id, if is_wider { "z" } else { "n" }))
        };
        self.labels(room, [index, zone], &value)
    }

    /// `choice` is which of the values that the members themselves name.
    fn labels(&self, room: &Room<'_>, [index, choice]: [usize; 2], value: &dyn Fn(&str) -> Option<String>) -> Value {
        let mut labels = Map::new();
        let pod = spec(&self.set);
        for key in &self.keys {
            if let Some(value) = value(key) {
                labels.insert(key.clone(), value.clone().into());
                labels.insert(own_key(room, key), value.into());
            }
        }
        labels.insert(own_key(room, HOSTNAME), format!("{}-{index}", room.id).into());
        // A node that none of the members' own choices rules out.
        for (key, wanted) in pod["nodeSelector"].as_object().into_iter().flatten() {
            if let Some(wanted) = wanted.as_str().filter(|_| key != HOSTNAME) {
                labels.insert(key.clone(), format!("{}-{wanted}", room.id).into());
            }
        }
        let mut named: Vec<(String, Vec<String>)> = Vec::new();
        for term in items(pod, NODE_TERMS) {
            for expression in items(term, "/matchExpressions").filter(|expression| expression["operator"] == "In") {
                let (Some(key), Some(values)) = (expression["key"].as_str(), expression["values"].as_array()) else {
                    continue;
                };
                let values = values.iter().filter_map(Value::as_str).map(str::to_owned);
                match named.iter_mut().find(|(name, _)| name == key) {
                    Some((_, all)) => all.extend(values),
                    None => named.push((key.to_owned(), values.collect())),
                }
            }
        }
        for (key, values) in named {
            if key != HOSTNAME
                && let Some(value) = values.get(choice % values.len().max(1))
            {
                labels.insert(key, format!("{}-{value}", room.id).into());
            }
        }
        labels.into()
    }
}

/// How wide the domains of a label are; 0 where that is not known.
fn width(key: &str) -> u8 {
    WIDER.iter().find(|(wider, _)| *wider == key).map_or(0, |(_, width)| *width)
}

/// Whether the pod asks for more of a node than room, and that no other member is there.
fn is_choosy(pod: &Value) -> bool {
    !pod["nodeSelector"].is_null()
        || items(pod, NODE_TERMS).next().is_some()
        || items(pod, ATTRACTING).next().is_some()
        || !pod["nodeName"].is_null()
}

/// The name that the first node of a room gets.
fn first_node(room: &Room<'_>) -> String {
    format!("{}-n0", room.id)
}

/// A label that only nodes of this room have: a constraint that ignores the pool, too, counts no others then.
fn own_key(room: &Room<'_>, key: &str) -> String {
    format!("{}/{}", room.id, key.replace('/', "."))
}

fn expressions_mut(terms: &mut Value) -> impl Iterator<Item = &mut Value> {
    let terms = terms.as_array_mut().into_iter().flatten();
    terms.flat_map(|term| term["matchExpressions"].as_array_mut().into_iter().flatten())
}

/// The set without what a simulated kubelet or an empty cluster cannot give, and without what is no matter of placing.
fn playable(object: &Value, members: i64) -> Value {
    let metadata = &object["metadata"];
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": metadata["name"], "namespace": metadata["namespace"] },
        "spec": object["spec"],
    });
    set["spec"]["replicas"] = members.into();
    if let Some(spec) = set["spec"].as_object_mut() {
        for field in
            ["volumeClaimTemplates", "updateStrategy", "minReadySeconds", "persistentVolumeClaimRetentionPolicy"]
        {
            spec.remove(field);
        }
    }
    if let Some(pod) = set["spec"]["template"]["spec"].as_object_mut() {
        for field in [
            "volumes",
            "serviceAccountName",
            "serviceAccount",
            "priorityClassName",
            "runtimeClassName",
            "readinessGates",
        ] {
            pod.remove(field);
        }
        for list in ["containers", "initContainers"] {
            for container in pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("volumeMounts");
                    container.remove("resources");
                }
            }
        }
    }
    set
}

/// RFC 7396.
pub(super) fn merge(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut fields = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            let merged = merge(fields.get(key).unwrap_or(&Value::Null), value);
            fields.insert(key.clone(), merged);
        }
    }
    Value::Object(fields)
}

/// Labels of a pod that the constraint counts and that is not the set's; nothing where there is none so simple.
fn foreign(spread: &Value, set: &Value) -> Option<Value> {
    let selector = spread.get("labelSelector").filter(|selector| !selector.is_null())?;
    for choice in 0..4 {
        let mut labels = selector["matchLabels"].as_object().cloned().unwrap_or_default();
        for expression in items(selector, "/matchExpressions") {
            let key = expression["key"].as_str()?;
            let values = expression["values"].as_array().map(Vec::as_slice).unwrap_or_default();
            let value = match expression["operator"].as_str()? {
                "In" => values.get(choice % values.len().max(1)).cloned(),
                "Exists" => Some("x".into()),
                _ => None,
            };
            if let Some(value) = value {
                labels.insert(key.to_owned(), value);
            }
        }
        for key in spread["matchLabelKeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = set["spec"]["template"]["metadata"]["labels"].get(key) {
                labels.insert(key.to_owned(), value.clone());
            }
        }
        let labels = Value::Object(labels);
        if matches(selector, &labels) && !matches(&set["spec"]["selector"], &labels) {
            return Some(labels);
        }
    }
    None
}
