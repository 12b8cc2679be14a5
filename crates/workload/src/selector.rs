//! Label selectors, evaluated exactly as Kubernetes evaluates them, over labels that may be partly unknown.
//!
//! The source is `LabelSelectorAsSelector` in `k8s.io/apimachinery/pkg/apis/meta/v1/helpers.go` and
//! `Requirement.Matches` in `k8s.io/apimachinery/pkg/labels/selector.go`.

use crate::node::{Malformed, Node};
use crate::texts::Texts;

/// What can be said of a pod whose labels are only partly known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It matches, whatever the unknown labels are.
    Yes,
    /// It does not match, whatever the unknown labels are.
    No,
    /// It depends on labels that are only known in the cluster.
    Unknown,
}

impl Answer {
    fn of(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }

    /// Both: `No` beats `Unknown`, which beats `Yes`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

/// What is known of a label that may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Value(String),
    /// The label is there; its value is only known in the cluster.
    SomeValue,
    /// Whether the label is there is only known in the cluster.
    Perhaps,
}

/// A pod's labels, as far as they are known before the pod exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, Known)>);

impl Labels {
    /// Labels that are all known, each with a key of its own.
    pub fn new<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // The keys differ, as those of an object do: to look for each among those before it would take long for very many.
        let mut known = Vec::new();
        for (key, value) in labels {
            known.push((key.to_owned(), Known::Value(value.to_owned())));
        }
        Self(known)
    }

    /// The label `key` has `value`.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.put(key, Known::Value(value.into()));
    }

    /// The label `key` is there, with a value that nobody knows yet.
    pub fn set_unknown(&mut self, key: &str) {
        self.put(key, Known::SomeValue);
    }

    /// The label `key` may or may not be there.
    pub fn set_perhaps(&mut self, key: &str) {
        self.put(key, Known::Perhaps);
    }

    #[inline(never)]
    fn put(&mut self, key: &str, known: Known) {
        match self.0.iter_mut().find(|(own, _)| own == key) {
            Some((_, old)) => *old = known,
            None => self.0.push((key.to_owned(), known)),
        }
    }

    /// The value of `key`, where it is known.
    pub fn value(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Known::Value(value)) => Some(value),
            _ => None,
        }
    }

    #[inline(never)]
    fn get(&self, key: &str) -> Option<&Known> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, known)| known)
    }
}

/// How a requirement compares a label with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// The label is there and its value is one of the values.
    In,
    /// The label is absent, or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// What with; empty for `Exists` and `DoesNotExist`.
    pub values: Texts,
}

impl Requirement {
    /// The label `key` must have the value `value`.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), operator: Operator::In, values: Texts::one(value) }
    }

    /// The label `key` must be absent or have another value than `value`.
    pub fn differs(key: &str, value: &str) -> Self {
        Self { operator: Operator::NotIn, ..Self::equals(key, value) }
    }

    /// Whether a pod with `labels` meets it.
    #[inline(never)]
    pub fn matches(&self, labels: &Labels) -> Answer {
        match (self.operator, labels.get(&self.key)) {
            (Operator::In, Some(Known::Value(value))) => Answer::of(self.values.contains(value)),
            (Operator::NotIn, Some(Known::Value(value))) => Answer::of(!self.values.contains(value)),
            (Operator::In | Operator::Exists, None)
            | (Operator::DoesNotExist, Some(Known::Value(_) | Known::SomeValue)) => Answer::No,
            (Operator::NotIn | Operator::DoesNotExist, None)
            | (Operator::Exists, Some(Known::Value(_) | Known::SomeValue)) => Answer::Yes,
            (_, Some(Known::SomeValue | Known::Perhaps)) => Answer::Unknown,
        }
    }
}

/// Which pods are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// `None` selects nothing at all; an empty list selects everything.
    requirements: Option<Vec<Requirement>>,
}

impl Selector {
    /// Selects nothing: what an absent (nil) selector means.
    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Selects everything: what an empty selector `{}` means.
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Reads a `LabelSelector` (`matchLabels`, `matchExpressions`). Absent or `null` selects nothing, `{}` everything.
    ///
    /// # Errors
    /// What the API server refuses: wrong types, an unknown operator, `In` or `NotIn` without values, `Exists` or
    /// `DoesNotExist` with values, a key or a value that cannot be a label's.
    pub fn read(node: &Node<'_>) -> Result<Self, Malformed> {
        if node.object()?.is_none() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        let labels = node.get("matchLabels")?;
        for (key, value) in labels.string_map()? {
            check_key(key, || labels.entry(key))?;
            check_value(value, || labels.entry(key))?;
            requirements.push(Requirement::equals(key, value));
        }
        for expression in node.items_at("matchExpressions")? {
            requirements.push(read_expression(&expression)?);
        }
        Ok(Self { requirements: Some(requirements) })
    }

    /// Reads a plain map of labels, as `spec.selector` of a Service or a `ReplicationController` is one. Absent or
    /// empty selects nothing: such objects then have no pods of their own choosing.
    pub fn read_map(node: &Node<'_>) -> Result<Self, Malformed> {
        let labels = node.string_map()?;
        if labels.is_empty() {
            return Ok(Self::nothing());
        }
        Ok(Self { requirements: Some(labels.iter().map(|(key, value)| Requirement::equals(key, value)).collect()) })
    }

    /// Whether this selects nothing, whatever the labels.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The conditions; none for a selector of nothing.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    /// This selector with one more condition. A selector of nothing stays one.
    #[must_use]
    pub fn and(mut self, requirement: Requirement) -> Self {
        if let Some(requirements) = &mut self.requirements {
            requirements.push(requirement);
        }
        self
    }

    /// Whether a pod with `labels` is selected.
    pub fn matches(&self, labels: &Labels) -> Answer {
        let Some(requirements) = &self.requirements else { return Answer::No };
        requirements.iter().fold(Answer::Yes, |answer, requirement| answer.and(requirement.matches(labels)))
    }

    /// Whether every pod that this selects is also selected by `other`: proven from the conditions, so that `false`
    /// means "not proven".
    pub fn implies(&self, other: &Self) -> bool {
        let Some(mine) = &self.requirements else { return true };
        let Some(theirs) = &other.requirements else { return false };
        theirs.iter().all(|wanted| proves(mine, wanted))
    }
}

/// Whether the conditions `mine`, all of them together, can only be met where `wanted` is met.
fn proves(mine: &[Requirement], wanted: &Requirement) -> bool {
    let (mut there, mut absent) = (false, false);
    // Values of which the label must have one.
    let mut bounds = None;
    for requirement in mine {
        if requirement.key == wanted.key {
            match requirement.operator {
                Operator::In => bounds = Some(&requirement.values),
                Operator::NotIn => {}
                Operator::Exists => there = true,
                Operator::DoesNotExist => absent = true,
            }
        }
    }
    match (wanted.operator, bounds) {
        (Operator::In, None) => false,
        (Operator::In, Some(values)) => {
            values.iter().all(|value| wanted.values.contains(value) || !may_be(mine, &wanted.key, value))
        }
        (Operator::NotIn, _) => absent || !wanted.values.iter().any(|value| may_be(mine, &wanted.key, value)),
        (Operator::Exists, _) => there || bounds.is_some(),
        (Operator::DoesNotExist, _) => absent,
    }
}

/// Whether the conditions `mine` let the label `key`, where it is there, have `value`.
fn may_be(mine: &[Requirement], key: &str, value: &str) -> bool {
    mine.iter().all(|requirement| {
        requirement.key != key
            || match requirement.operator {
                Operator::In => requirement.values.contains(value),
                Operator::NotIn => !requirement.values.contains(value),
                Operator::Exists | Operator::DoesNotExist => true,
            }
    })
}

fn read_expression(node: &Node<'_>) -> Result<Requirement, Malformed> {
    let key_node = node.get("key")?;
    let key = key_node.string()?.unwrap_or_default();
    check_key(key, || Ok(key_node))?;
    let operator_node = node.get("operator")?;
    let operator = match operator_node.string()?.unwrap_or_default() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return Err(Malformed::new(&operator_node, "must be one of In, NotIn, Exists, DoesNotExist")),
    };
    let values_node = node.get("values")?;
    let values = values_node.items()?;
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            return Err(Malformed::new(&values_node, "must hold at least one value for In and NotIn"));
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            return Err(Malformed::new(&values_node, "must be empty for Exists and DoesNotExist"));
        }
        _ => {}
    }
    let mut texts = Vec::new();
    for value in values {
        let text = value.string()?.unwrap_or_default();
        check_value(text, || Ok(value))?;
        texts.push(text.to_owned());
    }
    let values = Texts::new(texts);
    Ok(Requirement { key: key.to_owned(), operator, values })
}

/// Refuses what cannot be a label's key: `IsQualifiedName` in `k8s.io/apimachinery/pkg/util/validation`.
fn check_key<'a>(key: &str, node: impl FnOnce() -> Result<Node<'a>, Malformed>) -> Result<(), Malformed> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|part| {
                is_framed(part, |byte| byte == b'-', |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            })
    });
    if prefix_fits && !name.is_empty() && is_label_text(name) {
        return Ok(());
    }
    Err(Malformed::new(&node()?, "must be a label key such as app.kubernetes.io/name"))
}

/// Refuses what cannot be a label's value: `IsValidLabelValue` in `k8s.io/apimachinery/pkg/util/validation`.
fn check_value<'a>(value: &str, node: impl FnOnce() -> Result<Node<'a>, Malformed>) -> Result<(), Malformed> {
    if value.is_empty() || is_label_text(value) {
        return Ok(());
    }
    Err(Malformed::new(
        &node()?,
        "must be a label value: at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends",
    ))
}

fn is_label_text(text: &str) -> bool {
    text.len() <= 63 && is_framed(text, |byte| matches!(byte, b'-' | b'_' | b'.'), |byte| byte.is_ascii_alphanumeric())
}

/// Whether `text` is not empty, starts and ends with an `edge` byte and holds nothing but `edge` and `inner` bytes.
fn is_framed(text: &str, inner: impl Fn(u8) -> bool, edge: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if edge(*first) && edge(*last))
        && bytes.iter().all(|byte| edge(*byte) || inner(*byte))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selector(value: &Value) -> Selector {
        Selector::read(&Node::root(value)).unwrap()
    }

    fn refused(value: &Value) -> String {
        Selector::read(&Node::root(value)).unwrap_err().to_string()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
    }

    #[test]
    fn absent_selects_nothing_and_empty_selects_everything() {
        let labels = Labels::new([("app", "zk")]);
        assert_eq!(selector(&Value::Null).matches(&labels), Answer::No);
        assert_eq!(selector(&json!({})).matches(&labels), Answer::Yes);
        assert_eq!(selector(&json!({ "matchLabels": null, "matchExpressions": [] })).matches(&labels), Answer::Yes);
        assert_eq!(selector(&json!({})).matches(&Labels::default()), Answer::Yes);
    }

    #[test]
    fn every_operator_on_present_other_and_absent_labels() {
        let with = |value| Labels::new([("app", value)]);
        let table = [
            ("In", vec!["zk", "zoo"], [Answer::Yes, Answer::No, Answer::No]),
            ("NotIn", vec!["zk", "zoo"], [Answer::No, Answer::Yes, Answer::Yes]),
            ("Exists", vec![], [Answer::Yes, Answer::Yes, Answer::No]),
            ("DoesNotExist", vec![], [Answer::No, Answer::No, Answer::Yes]),
        ];
        for (operator, values, expected) in table {
            let selector = selector(&expression("app", operator, &values));
            let answers = [with("zk"), with("etcd"), Labels::default()].map(|labels| selector.matches(&labels));
            assert_eq!(answers, expected, "{operator}");
        }
    }

    #[test]
    fn conditions_are_all_needed() {
        let both = selector(&json!({
            "matchLabels": { "app": "zk", "tier": "" },
            "matchExpressions": [{ "key": "old", "operator": "DoesNotExist" }],
        }));
        assert_eq!(both.matches(&Labels::new([("app", "zk"), ("tier", "")])), Answer::Yes);
        assert_eq!(both.matches(&Labels::new([("app", "zk")])), Answer::No);
        assert_eq!(both.matches(&Labels::new([("app", "zk"), ("tier", ""), ("old", "1")])), Answer::No);
    }

    #[test]
    fn unknown_labels_leave_the_answer_open_only_where_they_matter() {
        let mut labels = Labels::new([("app", "zk")]);
        labels.set_unknown("hash");
        labels.set_perhaps("zone");
        let ask = |value: &Value| selector(value).matches(&labels);
        assert_eq!(ask(&expression("hash", "In", &["a"])), Answer::Unknown);
        assert_eq!(ask(&expression("hash", "NotIn", &["a"])), Answer::Unknown);
        assert_eq!(ask(&expression("hash", "Exists", &[])), Answer::Yes);
        assert_eq!(ask(&expression("hash", "DoesNotExist", &[])), Answer::No);
        assert_eq!(ask(&expression("zone", "Exists", &[])), Answer::Unknown);
        assert_eq!(ask(&expression("zone", "DoesNotExist", &[])), Answer::Unknown);
        assert_eq!(ask(&json!({ "matchLabels": { "app": "other", "hash": "a" } })), Answer::No);
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_with_its_place() {
        assert_eq!(
            refused(&expression("app", "in", &["zk"])),
            r#"matchExpressions[0].operator: Invalid value: "in": must be one of In, NotIn, Exists, DoesNotExist"#
        );
        assert!(refused(&expression("app", "In", &[])).contains("matchExpressions[0].values"));
        assert!(refused(&expression("app", "Exists", &["zk"])).contains("must be empty"));
        assert!(refused(&expression("", "Exists", &[])).starts_with("matchExpressions[0].key"));
        assert!(refused(&expression("a/b/c", "Exists", &[])).contains("label key"));
        assert!(refused(&expression("Upper.case/x", "Exists", &[])).contains("label key"));
        assert!(refused(&expression("app", "In", &["-zk"])).contains("matchExpressions[0].values[0]"));
        assert!(refused(&json!({ "matchLabels": { "app": "a".repeat(64) } })).starts_with("matchLabels[app]"));
        assert!(refused(&json!({ "matchLabels": { "app": 1 } })).contains("must be a string"));
        assert!(refused(&json!({ "matchLabels": [] })).contains("must be an object"));
        assert!(refused(&json!([])).contains("must be an object"));
        assert!(refused(&json!({ "matchExpressions": {} })).contains("must be a list"));
    }

    #[test]
    fn label_keys_and_values_at_their_longest() {
        let name = "n".repeat(63);
        let prefix = ["p".repeat(63), "q".repeat(63), "r".repeat(63), "s".repeat(61)].join(".");
        assert_eq!(prefix.len(), 253);
        let fits = json!({ "matchLabels": { format!("{prefix}/{name}"): name } });
        assert!(Selector::read(&Node::root(&fits)).is_ok());
        let long = json!({ "matchLabels": { format!("{prefix}p/{name}"): name } });
        assert!(Selector::read(&Node::root(&long)).is_err());
        assert!(refused(&json!({ "matchLabels": { "/name": "a" } })).contains("label key"));
        assert!(refused(&json!({ "matchLabels": { "prefix/": "a" } })).contains("label key"));
    }

    #[test]
    fn a_plain_map_selects_nothing_when_empty() {
        let labels = Labels::new([("app", "zk")]);
        let read = |value: &Value| Selector::read_map(&Node::root(value)).unwrap().matches(&labels);
        assert_eq!(read(&json!({})), Answer::No);
        assert_eq!(read(&Value::Null), Answer::No);
        assert_eq!(read(&json!({ "app": "zk" })), Answer::Yes);
    }

    #[test]
    fn implication_is_proven_from_the_conditions() {
        let app = |values: &[&str]| expression("app", "In", values);
        let table = [
            (app(&["zk"]), app(&["zk", "zoo"]), true),
            (app(&["zk", "zoo"]), app(&["zk"]), false),
            (app(&["zk"]), json!({}), true),
            (json!({}), app(&["zk"]), false),
            (Value::Null, app(&["zk"]), true),
            (app(&["zk"]), Value::Null, false),
            (app(&["zk"]), expression("app", "Exists", &[]), true),
            (expression("app", "Exists", &[]), app(&["zk"]), false),
            (expression("app", "Exists", &[]), expression("app", "Exists", &[]), true),
            (app(&["zk"]), expression("app", "NotIn", &["etcd"]), true),
            (app(&["zk"]), expression("app", "NotIn", &["zk"]), false),
            (expression("app", "NotIn", &["a", "b"]), expression("app", "NotIn", &["a"]), true),
            (expression("app", "NotIn", &["a"]), expression("app", "NotIn", &["a", "b"]), false),
            (expression("app", "DoesNotExist", &[]), expression("app", "NotIn", &["a"]), true),
            (expression("app", "DoesNotExist", &[]), expression("app", "DoesNotExist", &[]), true),
            (expression("app", "NotIn", &["a"]), expression("app", "DoesNotExist", &[]), false),
            (app(&["zk"]), expression("tier", "Exists", &[]), false),
        ];
        for (mine, theirs, expected) in table {
            assert_eq!(selector(&mine).implies(&selector(&theirs)), expected, "{mine} implies {theirs}");
        }
        let narrowed = selector(&json!({ "matchExpressions": [
            { "key": "app", "operator": "In", "values": ["zk", "zoo"] },
            { "key": "app", "operator": "NotIn", "values": ["zoo"] },
        ] }));
        assert!(narrowed.implies(&selector(&app(&["zk"]))), "conditions on one key work together");
        let twice = selector(&json!({ "matchLabels": { "app": "zk" }, "matchExpressions": [
            { "key": "app", "operator": "In", "values": ["zk", "zoo"] },
        ] }));
        assert!(twice.implies(&selector(&app(&["zk"]))));
    }
}
