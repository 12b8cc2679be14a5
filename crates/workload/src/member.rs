//! The pods that a `StatefulSet` will have, with the labels that its controller gives them.

use serde_json::{Map, Value};

use crate::node::{Malformed, Node};
use crate::selector::{Answer, Labels, Operator, Selector};
use crate::texts::TextMap;

/// The pod's own name. Source: `StatefulSetPodNameLabel` in `k8s.io/api/apps/v1/types.go`.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The pod's ordinal. Source: `PodIndexLabel` in `k8s.io/api/apps/v1/types.go`.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// The revision of the template that the pod was made from. Source: `StatefulSetRevisionLabel`, the same file.
pub const REVISION: &str = "controller-revision-hash";
/// Labels that the API server may copy from the node when the pod is bound, by version and configuration. Source:
/// the admission plugin `PodTopologyLabels` in `kubernetes/plugin/pkg/admission/podtopologylabels`.
pub const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// A `StatefulSet`, as far as its members depend on it.
#[derive(Debug, Clone)]
pub struct Set {
    /// `metadata.name`; empty where it is absent.
    pub name: String,
    /// `spec.replicas`; 1 where it is absent.
    pub replicas: i64,
    /// `spec.ordinals.start`; 0 where it is absent.
    pub first_ordinal: i64,
    /// `spec.selector`.
    pub selector: Selector,
    /// `spec.template.metadata.labels`.
    pub labels: TextMap,
}

impl Set {
    /// Reads the `StatefulSet` at `object`.
    pub fn read(object: &Node<'_>) -> Result<Self, Malformed> {
        let spec = object.get("spec")?;
        let labels = spec.string_map_at("template.metadata.labels")?;
        let replicas = spec.get("replicas")?;
        Ok(Self {
            name: object.text_at("metadata.name")?.to_owned(),
            replicas: match replicas.int32()? {
                Some(count) if count < 0 => return Err(Malformed::new(&replicas, "must not be negative")),
                count => i64::from(count.unwrap_or(1)),
            },
            first_ordinal: i64::from(spec.int32_at("ordinals.start")?.unwrap_or(0)),
            selector: Selector::read(&spec.get("selector")?)?,
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        })
    }

    /// The labels that the member with `ordinal` will have.
    pub fn member(&self, ordinal: i64) -> Labels {
        let mut labels = Labels::new(self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        labels.set(POD_NAME, format!("{}-{ordinal}", self.name));
        labels.set(POD_INDEX, ordinal.to_string());
        labels.set_unknown(REVISION);
        for key in TOPOLOGY {
            labels.set_perhaps(key);
        }
        labels
    }

    /// The members, in groups that no selector of `selectors` can tell apart.
    ///
    /// Members differ only in their name and ordinal, so that the groups are: each member that some selector names,
    /// and all the others together. A set of two thousand million members takes no longer than one of three.
    pub fn groups(&self, selectors: &[&Selector]) -> Vec<Group> {
        let last = self.first_ordinal.saturating_add(self.replicas);
        let ordinals = self.first_ordinal..last;
        let prefix = format!("{}-", self.name);
        // A JSON object orders them: every module has the code for that, and a sort of numbers has kilobytes of its own.
        let mut named = Map::new();
        for selector in selectors {
            for requirement in selector.requirements() {
                let prefix = match requirement.key.as_str() {
                    POD_NAME => prefix.as_str(),
                    POD_INDEX => "",
                    _ => continue,
                };
                for value in &requirement.values {
                    let ordinal = value.strip_prefix(prefix).and_then(|ordinal| ordinal.parse().ok());
                    if let Some(ordinal) = ordinal.filter(|ordinal| ordinals.contains(ordinal)) {
                        named.insert(format!("{ordinal:020}"), ordinal.into());
                    }
                }
            }
        }
        let mut groups = Vec::new();
        // The first that no selector names stands for all the others.
        let mut others = Group { ordinal: self.first_ordinal, count: self.replicas, labels: Labels::default() };
        for ordinal in named.values().filter_map(Value::as_i64) {
            groups.push(Group { ordinal, count: 1, labels: self.member(ordinal) });
            others.count -= 1;
            others.ordinal += i64::from(others.ordinal == ordinal);
        }
        if others.count > 0 {
            others.labels = self.member(others.ordinal);
            groups.push(others);
        }
        groups
    }

    /// How many members `selector` certainly selects, and how many more it may select.
    pub fn count(&self, selector: &Selector) -> (i64, i64) {
        if self.is_beside(selector) {
            return (0, 0);
        }
        self.groups(&[selector]).iter().fold((0, 0), |(sure, open), group| match selector.matches(&group.labels) {
            Answer::Yes => (sure + group.count, open),
            Answer::Unknown => (sure, open + group.count),
            Answer::No => (sure, open),
        })
    }

    /// Whether a label that the template gives to every member alike keeps `selector` from all of them. Of a thousand
    /// sets and budgets in a namespace nearly all are strangers to each other, and this tells them apart at once.
    fn is_beside(&self, selector: &Selector) -> bool {
        let is_alike = |key: &str| ![POD_NAME, POD_INDEX, REVISION, TOPOLOGY[0], TOPOLOGY[1]].contains(&key);
        selector.is_nothing()
            || selector.requirements().iter().any(|requirement| {
                requirement.operator == Operator::In
                    && is_alike(&requirement.key)
                    && !self.labels.get(&requirement.key).is_some_and(|value| requirement.values.contains(value))
            })
    }
}

/// Members that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The ordinal of one of them.
    pub ordinal: i64,
    /// How many they are; at least 1.
    pub count: i64,
    /// The labels of that one.
    pub labels: Labels,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(spec: &Value) -> Set {
        let object = json!({ "metadata": { "name": "zk" }, "spec": spec });
        Set::read(&Node::root(&object)).unwrap()
    }

    fn selector(value: &Value) -> Selector {
        Selector::read(&Node::root(value)).unwrap()
    }

    fn zk(replicas: i64) -> Value {
        json!({ "replicas": replicas, "selector": { "matchLabels": { "app": "zk" } },
            "template": { "metadata": { "labels": { "app": "zk" } } } })
    }

    #[test]
    fn members_have_the_labels_that_the_controller_gives() {
        let mut spec = zk(3);
        spec["ordinals"] = json!({ "start": 5 });
        let set = set(&spec);
        let labels = set.member(6);
        assert_eq!(labels.value(POD_NAME), Some("zk-6"));
        assert_eq!(labels.value(POD_INDEX), Some("6"));
        let by_hash = selector(&json!({ "matchLabels": { REVISION: "zk-1" } }));
        assert_eq!(by_hash.matches(&labels), Answer::Unknown);
        assert_eq!(set.count(&selector(&json!({ "matchLabels": { POD_NAME: "zk-0" } }))), (0, 0));
        assert_eq!(set.count(&selector(&json!({ "matchLabels": { POD_NAME: "zk-7" } }))), (1, 0));
        assert_eq!(set.count(&selector(&json!({ "matchLabels": { POD_NAME: "zk-8" } }))), (0, 0));
    }

    #[test]
    fn counts_by_name_by_ordinal_and_by_revision() {
        let set = set(&zk(5));
        assert_eq!(set.count(&selector(&json!({}))), (5, 0));
        assert_eq!(set.count(&Selector::nothing()), (0, 0));
        let but_two =
            json!({ "matchExpressions": [{ "key": POD_INDEX, "operator": "NotIn", "values": ["0", "4", "9"] }] });
        assert_eq!(set.count(&selector(&but_two)), (3, 0));
        assert_eq!(set.count(&selector(&json!({ "matchLabels": { REVISION: "x" } }))), (0, 5));
        assert_eq!(set.count(&selector(&json!({ "matchLabels": { TOPOLOGY[0]: "x", "app": "zk" } }))), (0, 5));
    }

    #[test]
    fn a_huge_set_is_as_quick_as_a_small_one() {
        let set = set(&zk(i64::from(i32::MAX)));
        assert_eq!(set.count(&selector(&json!({ "matchLabels": { "app": "zk" } }))), (i64::from(i32::MAX), 0));
        assert_eq!(set.groups(&[]).len(), 1);
    }

    #[test]
    fn every_member_named_leaves_no_group_of_others() {
        let set = set(&zk(2));
        let all =
            selector(&json!({ "matchExpressions": [{ "key": POD_INDEX, "operator": "In", "values": ["0", "1"] }] }));
        let groups = set.groups(&[&all]);
        assert_eq!(groups.iter().map(|group| (group.ordinal, group.count)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
        assert_eq!(set.count(&all), (2, 0));
        assert!(super::Set { replicas: 0, ..set }.groups(&[]).is_empty());
    }

    #[test]
    fn what_is_absent_has_kubernetes_defaults() {
        let set = set(&json!({ "replicas": null }));
        assert_eq!((set.replicas, set.first_ordinal), (1, 0));
        assert!(set.selector.is_nothing() && set.labels.is_empty());
        let negative = json!({ "spec": { "replicas": -1 } });
        assert!(Set::read(&Node::root(&negative)).unwrap_err().to_string().starts_with("spec.replicas"));
    }
}
