//! The members that are judged, what is found, and how it is told.

use std::fmt::{Display, Write as _};

use policy::quorum::majority;
use policy::{Finding, Level, Problem, Quorum};
use serde_json::Value;
use workload::edit::Edit;
use workload::node::object;
use workload::selector::{Operator, Requirement};
use workload::texts::join;
use workload::{Malformed, Node, Path};

use crate::placement::Placement;
use crate::says::{self, Says};
use crate::sight::{Sight, marks};
use crate::{AntiAffinity, NODE, width};

/// At most this many conditions, labels or values are repeated in a message.
pub(crate) const SHOWN: usize = 4;
/// More characters of a key or a value are not repeated, nor compared: the longest value of a label has fewer.
const LONGEST: usize = 64;

/// Where a term that keeps the members apart is put, whatever else the template says.
const TERMS: &str = "spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";

/// Facts, by the names that stand for them in a [`Says`].
pub(crate) type Facts<'f> = &'f [(&'static str, &'f dyn Display)];

/// The members that are judged, and what was found so far.
pub(crate) struct Judgement<'r, 'a> {
    pub(crate) policy: &'r AntiAffinity,
    pub(crate) quorum: &'r Quorum,
    pub(crate) namespace: &'r str,
    pub(crate) placement: &'r Placement<'a>,
    /// `spec.selector`, as it was written.
    pub(crate) selector: Value,
    /// What an error weighs.
    pub(crate) level: Level,
    /// How many members may be lost at once, by what is judged at present.
    pub(crate) together: i64,
    pub(crate) findings: Vec<Finding>,
}

impl Judgement<'_, '_> {
    /// How many members there are.
    pub(crate) fn count(&self) -> i64 {
        self.placement.set.replicas
    }

    /// Finds what `says` says of `at`, unless it was found before of the same subject: then it is not worth a line.
    /// The fewer members are left for certain, the worse.
    pub(crate) fn say(&mut self, says: &Says, at: &Node<'_>, subject: &str, facts: Facts<'_>) {
        self.find(says.codes[0], says, at, subject, facts);
    }

    /// [`Self::say`] of `field` of a term or a constraint, which is known by where it looks and what its author wrote.
    #[inline(never)]
    pub(crate) fn say_of(
        &mut self,
        says: &Says,
        sight: &Sight<'_>,
        field: &'static str,
        facts: Facts<'_>,
    ) -> Result<(), Malformed> {
        let at = sight.node.get(field)?;
        let subject = join(&[&cut(sight.key), ": ", &conditions(&sight.written())], "");
        let code = if sight.marks & marks::SPREAD == 0 { says.codes[0] } else { says.codes[1] };
        self.find(code, says, &at, &subject, facts);
        Ok(())
    }

    #[inline(never)]
    fn find(&mut self, code: &'static str, says: &Says, at: &Node<'_>, subject: &str, facts: Facts<'_>) {
        if self.findings.iter().any(|other| other.code == code && other.subject == subject) {
            return;
        }
        let problem = at.value().map_or(Problem::Required, |value| Problem::Invalid(value.clone()));
        let mut finding = Finding::error(code, at.path(), problem, self.fill(says.reason, facts));
        finding.level = says.level.min(self.level);
        finding.measure = self.together - self.count();
        subject.clone_into(&mut finding.subject);
        finding.doubt = self.quorum.doubt();
        finding.why = self.fill(says.why, facts);
        finding.advice = self.fill(says.advice, facts);
        if says.own_term && !self.placement.set.selector.requirements().is_empty() {
            let term = object(&mut [("labelSelector", self.selector.clone()), ("topologyKey", NODE.into())]);
            finding.edits = vec![Edit::append(Path::fields(TERMS), term)];
        }
        self.findings.push(finding);
    }

    /// The finding that was found last is mended by `edits`.
    pub(crate) fn mend(&mut self, edits: Vec<Edit>) {
        if let Some(last) = self.findings.last_mut() {
            last.edits = edits;
        }
    }

    /// `text`, with facts in place of the names between two `$`.
    #[inline(never)]
    fn fill(&self, text: &str, facts: Facts<'_>) -> String {
        let (count, together) = (self.count(), self.together);
        let common: Facts<'_> = &[
            ("count", &count),
            ("together", &together),
            ("left", &(count - together)),
            ("majority", &majority(count)),
        ];
        let mut filled = String::new();
        for (position, part) in text.split('$').enumerate() {
            match part {
                _ if position % 2 == 0 => filled += part,
                "own" => filled += &self.own_selector(),
                "affinity" => filled += &self.fill(says::AFFINITY, facts),
                "fate" => {
                    filled += &self.fill(if together == count { says::ALL_FAIL } else { says::SOME_FAIL }, facts);
                    if self.quorum.votes() {
                        filled += &self.fill(says::VOTE, facts);
                    }
                }
                _ => {
                    let mut known = false;
                    for (name, fact) in common.iter().chain(facts) {
                        if *name == part {
                            known = true;
                            // Writing to a String cannot fail.
                            let _ = write!(filled, "{fact}");
                        }
                    }
                    debug_assert!(known, "no fact {part} for {text}");
                }
            }
        }
        filled
    }

    /// The set's own selector, as YAML on one line.
    fn own_selector(&self) -> String {
        let mut labels = Vec::new();
        for requirement in self.placement.set.selector.requirements() {
            if let (Operator::In, [value]) = (requirement.operator, requirement.values.as_slice()) {
                labels.push(join(&[&quoted(&requirement.key), ": ", &quoted(value)], ""));
            }
        }
        if labels.len() == self.placement.set.selector.requirements().len() && (1..=SHOWN).contains(&labels.len()) {
            join(&["{matchLabels: {", &join(&labels, ", "), "}}"], "")
        } else {
            "<the set's own spec.selector>".to_owned()
        }
    }

    /// The labels of the members that a person compares with `unmet` conditions: those of the same keys, else those that
    /// the set itself selects by.
    pub(crate) fn labels_beside(&self, unmet: &[&Requirement]) -> String {
        let own: Vec<&Requirement> = self.placement.set.selector.requirements().iter().collect();
        let mut shown: Vec<String> = Vec::new();
        for requirements in [unmet, &own] {
            if shown.is_empty() {
                for requirement in requirements {
                    if let Some(value) = self.placement.set.labels.get(&requirement.key) {
                        let label = join(&[&requirement.key, ": ", &cut(value)], "");
                        if shown.len() < SHOWN && shown.last() != Some(&label) {
                            shown.push(label);
                        }
                    }
                }
            }
        }
        if shown.is_empty() { "no such label".to_owned() } else { join(&shown, ", ") }
    }
}

/// What a domain of the node label `key` is called.
pub(crate) fn domain(key: &str) -> String {
    match width(key) {
        _ if key == NODE => "node".to_owned(),
        1 => "zone".to_owned(),
        2 => "region".to_owned(),
        _ => "domain of ".to_owned() + &cut(key),
    }
}

/// `requirements` as kubectl writes them: `app in (zk)`.
pub(crate) fn conditions(requirements: &[&Requirement]) -> String {
    let mut text = String::new();
    for (position, requirement) in requirements.iter().enumerate() {
        text += if position == 0 { "" } else { ", " };
        if position == SHOWN {
            text += "and more";
            break;
        }
        let (before, between, after) = match requirement.operator {
            Operator::In => ("", " in (", ")"),
            Operator::NotIn => ("", " notin (", ")"),
            Operator::Exists => ("", "", ""),
            Operator::DoesNotExist => ("!", "", ""),
        };
        text += before;
        text += &cut(&requirement.key);
        text += between;
        for (position, value) in requirement.values.iter().enumerate() {
            text += if position == 0 { "" } else { ", " };
            if position == SHOWN {
                text += "...";
                break;
            }
            text += &cut(value);
        }
        text += after;
    }
    if text.is_empty() { "all pods".to_owned() } else { text }
}

/// `value` as YAML: in quotes where it would be read as something else than text.
fn quoted(value: &str) -> String {
    let is_word = value.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .iter()
            .any(|other| value.eq_ignore_ascii_case(other));
    if is_word { value.to_owned() } else { join(&["\"", value, "\""], "") }
}

/// `text` at a length that fits a message.
pub(crate) fn cut(text: &str) -> String {
    let head: String = text.chars().take(LONGEST).collect();
    if head.len() < text.len() { head + "[..]" } else { head }
}
