//! Why the members are not kept apart, for a person who has to mend it.

use serde_json::Value;
use workload::selector::Answer;
use workload::texts::TextMap;
use workload::{Malformed, Node};

use crate::judgement::{Judgement, conditions, domain};
use crate::says::{self, Says};
use crate::sight::{Sight, marks};
use crate::{NODE, Require};

/// More findings than this help nobody.
const MOST_FINDINGS: usize = 10;

impl Judgement<'_, '_> {
    /// All that is wrong with what could keep the members apart; or that there is nothing of that kind.
    pub(crate) fn why_not(&mut self) -> Result<(), Malformed> {
        let placement = self.placement;
        let wishes = self.policy.require == Require::Preferred;
        let before = self.findings.len();
        self.together = placement.most_together(0, None);
        let (terms, spreads) =
            if wishes { (marks::REQUIRED | marks::PREFERRED, marks::SPREAD) } else { (marks::REQUIRED, marks::HARD) };
        for kinds in [terms, spreads] {
            for sight in placement.sights(kinds, 0) {
                if !self.blind(sight)? {
                    self.too_loose(sight)?;
                }
            }
        }
        if !wishes {
            self.only_wished()?;
        }
        if self.findings.len() == before {
            self.say_of_all(&says::NOTHING)?;
        }
        self.findings.truncate(before + MOST_FINDINGS);
        Ok(())
    }

    /// Finds what `says` says of the affinity that the members need.
    pub(crate) fn say_of_all(&mut self, says: &Says) -> Result<(), Malformed> {
        let affinity = self.placement.pod.get("affinity")?;
        let place = affinity.path();
        let place = if affinity.is_absent() { place } else { place.field("podAntiAffinity") };
        self.say(says, &Node::at(&Value::Null, place), "", &[]);
        Ok(())
    }

    /// What is wrong with a term or a constraint that does not certainly see every member; whether something is.
    fn blind(&mut self, sight: &Sight<'_>) -> Result<bool, Malformed> {
        let (set, namespace) = (&self.placement.set, self.namespace);
        let labels = set.member(set.first_ordinal);
        let (mut key, mut have, mut wants) = ("", String::new(), String::new());
        let (says, field) = if let Some(own) = sight.own_key() {
            key = own;
            (&says::PER_MEMBER_KEY, "matchLabelKeys")
        } else if sight.too_long {
            (&says::TOO_LONG, "labelSelector")
        } else if sight.open > 0 && sight.namespace == Answer::Unknown {
            (&says::OPEN_NAMESPACE, "namespaceSelector")
        } else if sight.open > 0 {
            (&says::OPEN_LABELS, "labelSelector")
        } else if sight.sure == set.replicas {
            return Ok(false);
        } else if sight.sure > 0 {
            (&says::SELECTS_SOME, "labelSelector")
        } else if sight.selector.is_nothing() {
            (&says::NO_SELECTOR, "labelSelector")
        } else if sight.namespace == Answer::No {
            let is_named = sight.node.get("namespaces")?.is_present();
            (&says::OTHER_NAMESPACE, if is_named { "namespaces" } else { "namespaceSelector" })
        } else if let Some(shared) = sight.shared_mismatch(&labels) {
            key = shared;
            (&says::SHARED_MISMATCH, "mismatchLabelKeys")
        } else {
            let mut unmet = Vec::new();
            for requirement in sight.written() {
                if requirement.matches(&labels) != Answer::Yes {
                    unmet.push(requirement);
                }
            }
            wants = conditions(&unmet);
            have = self.labels_beside(&unmet);
            (&says::OTHER_LABELS, "labelSelector")
        };
        let facts: [(_, &dyn std::fmt::Display); 5] =
            [("key", &key), ("sure", &sight.sure), ("namespace", &namespace), ("have", &have), ("wants", &wants)];
        self.say_of(says, sight, field, &facts)?;
        Ok(true)
    }

    /// What is wrong with a hard constraint that sees all members, and yet lets two share a domain. Any other term or
    /// constraint that is asked for and sees all of them keeps them apart.
    fn too_loose(&mut self, spread: &Sight<'_>) -> Result<(), Malformed> {
        let mut says = if spread.key == NODE { says::MAY_SHARE_NODE } else { says::MAY_SHARE };
        let field = if !self.placement.is_counted_alone(spread) {
            says = says::COUNTS_OTHERS;
            "labelSelector"
        } else if spread.max_skew > 1 {
            "maxSkew"
        } else {
            if spread.node.get("minDomains")?.is_absent() {
                says = Says { reason: says::MAY_SHARE_WHEN_FEWER, ..says };
            }
            "minDomains"
        };
        let most = self.placement.most_per_domain(spread);
        self.say_of(&says, spread, field, &[("most", &most), ("domain", &domain(spread.key))])
    }

    /// A preferred term or a soft constraint is all that there is.
    fn only_wished(&mut self) -> Result<(), Malformed> {
        for (kind, field) in [(marks::PREFERRED, ""), (marks::SOFT, "whenUnsatisfiable")] {
            if let Some(sight) = self.placement.sights(kind, marks::SEEING).first() {
                let place = if field.is_empty() { sight.node } else { sight.node.get(field)? };
                self.say(&says::ONLY_WISHED, &place, "", &[]);
                break;
            }
        }
        Ok(())
    }

    /// This UPDATE changes a label that the members, which had the labels `old`, are kept apart by; else `otherwise`, if that is
    /// anything.
    pub(crate) fn update_unseen(
        &mut self,
        old: &TextMap,
        separators: &[&Sight<'_>],
        otherwise: &str,
    ) -> Result<(), Malformed> {
        let new = &self.placement.set.labels;
        let mut changed = (separators.first(), otherwise);
        'labels: for sight in separators {
            for requirement in sight.selector.requirements() {
                let key = &requirement.key;
                if old.get(key) != new.get(key) {
                    changed = (Some(sight), key);
                    break 'labels;
                }
            }
        }
        match changed {
            (Some(sight), key) if !key.is_empty() => {
                self.say_of(&says::UPDATE_UNSEEN, sight, "labelSelector", &[("key", &key)])
            }
            _ => Ok(()),
        }
    }
}
