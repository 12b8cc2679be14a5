//! Why the members are not kept apart, for a person who has to mend it.

use policy::quorum::majority;
use policy::{Finding, Problem};
use serde_json::Value;
use workload::selector::{Answer, Operator, Requirement};
use workload::texts::TextMap;
use workload::texts::join;
use workload::{Malformed, Node};

use crate::members::Sight;
use crate::placement::Spread;
use crate::{AntiAffinity, Ensemble, NODE, REGIONS, Require, ZONES, value};

/// More findings than this help nobody.
const MOST_FINDINGS: usize = 10;
/// At most this many conditions, labels or values are repeated in a message.
const SHOWN: usize = 4;
/// More characters of a key or a value are not repeated: the longest value of a label has fewer.
const LONGEST: usize = 64;

/// The codes of what is wrong with a sight.
struct Codes {
    nothing: &'static str,
    some: &'static str,
    unproven: &'static str,
}

const TERM: Codes = Codes { nothing: "term-selects-nothing", some: "term-selects-some", unproven: "term-unproven" };
const SPREAD: Codes =
    Codes { nothing: "spread-selects-nothing", some: "spread-selects-some", unproven: "spread-unproven" };

impl AntiAffinity {
    /// All that is wrong with what could keep the members apart; or that there is nothing of that kind.
    pub(crate) fn why_not(&self, ensemble: &Ensemble<'_, '_>, selector: &Value) -> Result<Vec<Finding>, Malformed> {
        let placement = ensemble.placement;
        let wishes = self.require == Require::Preferred;
        let together = placement.most_together(|_| true);
        let mut findings = Vec::new();
        for term in placement.required.iter().chain(placement.preferred.iter().filter(|_| wishes)) {
            findings.extend(ensemble.blind(&TERM, term, together)?);
        }
        for spread in placement.spreads.iter().filter(|spread| wishes || spread.is_hard) {
            match ensemble.blind(&SPREAD, &spread.sight, together)? {
                None => findings.extend(ensemble.too_loose(spread, together)?),
                finding => findings.extend(finding),
            }
        }
        if !wishes {
            findings.extend(ensemble.only_wished(together)?);
        }
        if findings.is_empty() {
            findings.push(ensemble.nothing()?);
        }
        let mut told: Vec<Finding> = Vec::new();
        for finding in findings {
            if told.len() < MOST_FINDINGS && !is_told(&told, &finding) {
                told.push(
                    finding.why(ensemble.why(together)).fix(ensemble.separate(selector)).resting_on(ensemble.quorum),
                );
            }
        }
        Ok(told)
    }
}

impl Ensemble<'_, '_> {
    /// Why it matters that `together` members may be on one node.
    fn why(&self, together: i64) -> String {
        let count = self.count();
        let fate = if together == count {
            "when that node fails, all fail".to_owned()
        } else {
            format!("when that node fails, only {} of {count} are left", count - together)
        };
        if self.quorum.votes() {
            format!("{fate}; the members decide by majority, so that {} of {count} must be up", majority(count))
        } else {
            fate
        }
    }

    /// Nothing keeps the members apart.
    fn nothing(&self) -> Result<Finding, Malformed> {
        let affinity = self.placement.pod.get("affinity")?;
        let place = if affinity.is_absent() { affinity } else { affinity.get("podAntiAffinity")? };
        let reason = format!("nothing keeps the members apart: all {} may run on one node", self.count());
        Ok(self
            .error("no-anti-affinity", place.path(), Problem::Required, reason, self.count())
            .advise(format!("add to affinity: {}", self.advised_affinity())))
    }

    /// The affinity that keeps the members apart, as YAML on one line.
    fn advised_affinity(&self) -> String {
        format!(
            "podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: {NODE}, labelSelector: {}}}]}}",
            self.own_selector()
        )
    }

    /// The set's own selector, as YAML on one line.
    fn own_selector(&self) -> String {
        let requirements = self.placement.members.selector().requirements();
        let labels: Vec<String> = requirements
            .iter()
            .filter(|requirement| requirement.operator == Operator::In && requirement.values.len() == 1)
            .filter_map(|requirement| {
                Some(format!("{}: {}", quoted(&requirement.key), quoted(requirement.values.first()?)))
            })
            .collect();
        if labels.len() == requirements.len() && (1..=SHOWN).contains(&labels.len()) {
            format!("{{matchLabels: {{{}}}}}", join(&labels, ", "))
        } else {
            "<the set's own spec.selector>".to_owned()
        }
    }

    /// What is wrong with a term or a constraint that does not certainly see every member.
    fn blind(&self, codes: &Codes, sight: &Sight<'_>, together: i64) -> Result<Option<Finding>, Malformed> {
        let members = &self.placement.members;
        let (sure, open) = members.seen(sight);
        let selector = sight.node.get("labelSelector")?;
        let finding = |code, at: &Node<'_>, reason: String| {
            let problem = if at.is_absent() { Problem::Required } else { Problem::Invalid(value(at)) };
            self.error(code, at.path(), problem, reason, together).about(identity(sight))
        };
        let found = if let Some(key) = sight.own_key {
            let reason = format!(
                "every member has a value of its own for {key}, so that this keeps each apart from nobody but itself"
            );
            finding("per-member-key", &sight.node.get("matchLabelKeys")?, reason)
                .advise(format!("remove {key} from matchLabelKeys"))
        } else if sight.too_long {
            let reason = "has too many conditions, or names too many members one by one, to be judged".to_owned();
            finding(codes.unproven, &selector, reason).advise(format!("set labelSelector to {}", self.own_selector()))
        } else if sight.namespace == Answer::Unknown && open > 0 {
            let reason =
                "depends on labels of the namespace, of which only kubernetes.io/metadata.name is certain".to_owned();
            finding(codes.unproven, &sight.node.get("namespaceSelector")?, reason)
                .advise("remove namespaceSelector and namespaces: the term then means the set's own namespace")
        } else if open > 0 {
            let reason = "depends on labels that a pod gets only when it runs".to_owned();
            finding(codes.unproven, &selector, reason).advise(format!("set labelSelector to {}", self.own_selector()))
        } else if sure == 0 {
            self.sees_nobody(codes, sight, &selector, &finding)?
        } else if sure < self.count() {
            let reason = format!("selects only {sure} of the {} members", self.count());
            finding(codes.some, &selector, reason).advise(format!("set labelSelector to {}", self.own_selector()))
        } else {
            return Ok(None);
        };
        Ok(Some(found))
    }

    /// What is wrong with a term or a constraint that certainly sees no member.
    fn sees_nobody(
        &self,
        codes: &Codes,
        sight: &Sight<'_>,
        selector: &Node<'_>,
        finding: &dyn Fn(&'static str, &Node<'_>, String) -> Finding,
    ) -> Result<Finding, Malformed> {
        let labels = self.placement.members.sample();
        let none = |what: &str| format!("selects none of the set's own pods: {what}");
        if sight.selector.is_nothing() {
            return Ok(finding(codes.nothing, selector, none("without a labelSelector it selects nothing"))
                .advise(format!("set labelSelector to {}", self.own_selector())));
        }
        if sight.namespace == Answer::No {
            let named = sight.node.get("namespaces")?;
            let place = if named.is_absent() { sight.node.get("namespaceSelector")? } else { named };
            let reason = none(&format!("they are in the namespace {}, where it does not look", self.namespace));
            return Ok(finding(codes.nothing, &place, reason)
                .advise("remove namespaces and namespaceSelector: the term then means the set's own namespace"));
        }
        let shared = sight.shared_mismatch(&labels);
        if shared.is_some() || sight.other_revisions_only() {
            let place = sight.node.get("mismatchLabelKeys")?;
            let key = shared.unwrap_or(workload::member::REVISION);
            let reason = none(&format!("it leaves out pods with an equal {key}, as all members are"));
            return Ok(finding(codes.nothing, &place, reason).advise(format!("remove {key} from mismatchLabelKeys")));
        }
        let unmet = sight.unmet(&labels);
        let wants = conditions(&unmet);
        let have = self.labels_beside(&unmet);
        Ok(finding(codes.nothing, selector, none(&format!("they have {have}, it wants {wants}")))
            .advise(format!("set labelSelector to {}", self.own_selector())))
    }

    /// The labels of the members that a person compares with `unmet` conditions: those of the same keys, else those
    /// that the set itself selects by.
    fn labels_beside(&self, unmet: &[&Requirement]) -> String {
        let members = &self.placement.members;
        let labels = members.labels();
        let of_keys = |requirements: &mut dyn Iterator<Item = &Requirement>| -> Vec<String> {
            let mut shown: Vec<String> = requirements
                .filter_map(|requirement| {
                    let value = labels.get(&requirement.key)?;
                    Some(format!("{}: {}", requirement.key, cut(value)))
                })
                .take(SHOWN)
                .collect();
            shown.dedup();
            shown
        };
        let mut shown = of_keys(&mut unmet.iter().copied());
        if shown.is_empty() {
            shown = of_keys(&mut members.selector().requirements().iter());
        }
        if shown.is_empty() { "no such label".to_owned() } else { join(&shown, ", ") }
    }

    /// What is wrong with a constraint that sees all members, and yet lets two share a domain.
    fn too_loose(&self, spread: &Spread<'_>, together: i64) -> Result<Option<Finding>, Malformed> {
        let members = &self.placement.members;
        let (count, sight, domain) = (self.count(), &spread.sight, domain(spread.sight.key));
        let finding = |code, field: &'static str, reason: String| -> Result<Finding, Malformed> {
            let at = sight.node.get(field)?;
            let problem = if at.is_absent() { Problem::Required } else { Problem::Invalid(value(&at)) };
            Ok(self.error(code, at.path(), problem, reason, together).about(identity(sight)))
        };
        if !spread.is_hard {
            return Ok(None);
        }
        if !spread.counts_members_only(members) {
            let reason = format!(
                "also counts pods that are not the set's, and where those are many, members may share a {domain}"
            );
            return Ok(Some(
                finding("spread-counts-others", "labelSelector", reason)?
                    .advise(format!("set labelSelector to {}", self.own_selector())),
            ));
        }
        let most = spread.most_per_domain(members);
        let reason = format!("lets up to {most} of the {count} members share a {domain}");
        let (field, reason) = if spread.max_skew > 1 {
            ("maxSkew", reason)
        } else if spread.min_domains.is_none() {
            ("minDomains", format!("{reason}, when fewer than {count} are left"))
        } else {
            ("minDomains", reason)
        };
        let advice = if sight.key == NODE {
            format!("set minDomains: {count} and maxSkew: 1")
        } else {
            format!("add to affinity: {}", self.advised_affinity())
        };
        Ok(Some(finding("spread-may-share", field, reason)?.advise(advice)))
    }

    /// A preferred term or a soft constraint is all that there is.
    fn only_wished(&self, together: i64) -> Result<Option<Finding>, Malformed> {
        let placement = self.placement;
        let sees = |sight: &Sight<'_>| placement.members.seen(sight).0 > 0;
        let place = if let Some(term) = placement.preferred.iter().find(|term| sees(term)) {
            term.node
        } else if let Some(spread) = placement.spreads.iter().find(|spread| !spread.is_hard && sees(&spread.sight)) {
            spread.sight.node.get("whenUnsatisfiable")?
        } else {
            return Ok(None);
        };
        let reason = "wished, not guaranteed: members share a node when the scheduler finds no better one";
        Ok(Some(
            self.error("only-preferred", place.path(), Problem::Invalid(value(&place)), reason, together)
                .advise(format!("make it required: {}", self.advised_affinity())),
        ))
    }

    /// The members are kept apart by domains of which nothing is known.
    pub(crate) fn unknown_domain(&self, sight: &Sight<'_>) -> Result<Finding, Malformed> {
        let reason = "whether nodes have this label, and none is in two such domains, is not known here";
        Ok(self
            .warning("unknown-domain", &sight.node.get("topologyKey")?, reason)
            .about(cut(sight.key))
            .why("nodes without the label count as apart from nobody")
            .advise(format!("use {NODE}; or list the label in the setting domains, if every node has it")))
    }

    /// The members are kept apart as long as they are of one revision.
    pub(crate) fn per_revision(&self, sight: &Sight<'_>) -> Result<Finding, Malformed> {
        let reason = "keeps apart only members of one revision: during an update, old and new ones may share a node";
        Ok(self
            .warning("per-revision-key", &sight.node.get("matchLabelKeys")?, reason)
            .about(identity(sight))
            .advise("remove controller-revision-hash from matchLabelKeys"))
    }

    /// This UPDATE changes a label that the members are kept apart by.
    pub(crate) fn unseen_by_update(
        &self,
        old: &TextMap,
        separators: &[&Sight<'_>],
    ) -> Result<Option<Finding>, Malformed> {
        let new = self.placement.members.labels();
        for sight in separators {
            let changed = |requirement: &&Requirement| old.get(&requirement.key) != new.get(&requirement.key);
            let Some(requirement) = sight.selector.requirements().iter().find(changed) else { continue };
            let reason = format!(
                "this update changes {}: until it is done, old and new members do not see each other and may share a node",
                requirement.key
            );
            return Ok(Some(
                self.warning("update-unseen", &sight.node.get("labelSelector")?, reason)
                    .about(identity(sight))
                    .advise(format!("set labelSelector to {}", self.own_selector())),
            ));
        }
        Ok(None)
    }
}

/// What a term or a constraint is known by: where it looks and what its author wrote.
fn identity(sight: &Sight<'_>) -> String {
    format!("{}: {}", cut(sight.key), conditions(&sight.written()))
}

/// What a domain of the node label `key` is called.
pub(crate) fn domain(key: &str) -> String {
    if key == NODE {
        "node".to_owned()
    } else if ZONES.contains(&key) {
        "zone".to_owned()
    } else if REGIONS.contains(&key) {
        "region".to_owned()
    } else {
        format!("domain of {}", cut(key))
    }
}

/// `requirements` as kubectl writes them: `app in (zk)`.
fn conditions(requirements: &[&Requirement]) -> String {
    let values = |requirement: &Requirement| {
        let mut values: Vec<String> = requirement.values.iter().take(SHOWN).map(|value| cut(value)).collect();
        if requirement.values.len() > SHOWN {
            values.push("...".to_owned());
        }
        join(&values, ", ")
    };
    let mut texts: Vec<String> = requirements
        .iter()
        .take(SHOWN)
        .map(|requirement| {
            let key = cut(&requirement.key);
            match requirement.operator {
                Operator::In => format!("{key} in ({})", values(requirement)),
                Operator::NotIn => format!("{key} notin ({})", values(requirement)),
                Operator::Exists => key,
                Operator::DoesNotExist => format!("!{key}"),
            }
        })
        .collect();
    if requirements.len() > SHOWN {
        texts.push("and more".to_owned());
    }
    if texts.is_empty() { "all pods".to_owned() } else { join(&texts, ", ") }
}

/// `value` as YAML: in quotes where it would be read as something else than text.
fn quoted(value: &str) -> String {
    let is_word = value.starts_with(|first: char| first.is_ascii_alphabetic())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&value.to_ascii_lowercase().as_str());
    if is_word { value.to_owned() } else { format!("\"{value}\"") }
}

/// `text` at a length that fits a message.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}[..]", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether two terms say the same, so that the second is not worth a line.
fn is_told(told: &[Finding], finding: &Finding) -> bool {
    told.iter().any(|other| other.code == finding.code && other.subject == finding.subject)
}
