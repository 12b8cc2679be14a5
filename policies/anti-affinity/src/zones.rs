//! The second domain: how many members the loss of one zone takes along.

use policy::quorum::tolerance;
use policy::{Level, Review};
use serde_json::Value;
use workload::edit::Edit;
use workload::node::object;
use workload::{Malformed, Node};

use crate::Zones;
use crate::judgement::{Judgement, domain};
use crate::says;
use crate::sight::{Sight, marks};

/// Neither the key nor the name of a zone.
const NO_ZONE: (&str, &str) = ("", "");

impl<'a> Judgement<'_, 'a> {
    /// Whether one zone may hold more members than may be lost.
    pub(crate) fn judge_zones(&mut self, review: &Review<'_>) -> Result<(), Malformed> {
        let placement = self.placement;
        let count = self.count();
        let bearable = if self.quorum.votes() { tolerance(count) } else { count - 1 };
        if bearable == 0 {
            // Neither of two voting members may be lost: no zone helps, a third member does.
            return Ok(());
        }
        let pin = self.pin()?;
        let with = marks::LASTING | marks::ZONE_OR_WIDER;
        self.together = if pin.is_some() { count } else { placement.most_together(with, None) };
        let mut updated = self.together;
        if let Some(old) = self.old(review)?.filter(|_| self.together <= bearable) {
            updated = placement.most_together(with, Some(&old));
        }
        if updated <= bearable {
            return Ok(());
        }
        if self.policy.zones == Zones::Warn {
            self.level = Level::Warning;
        }
        // With this many zones, `Placement::most_per_domain` of a skew of 1 is at most `bearable`.
        let zones = (count - 1).checked_div(bearable).unwrap_or(count) + 1;
        let key = self.policy.zone_key.as_str();
        let spreads = placement.sights(marks::HARD, 0);
        let constraints = placement.pod.path().field("topologySpreadConstraints");
        let (says, at, edits) = if let Some(pin) = pin {
            (&says::ZONE_PINNED, pin, Vec::new())
        } else if let Some(spread) = spreads.iter().find(|spread| spread.key == key) {
            (&says::ZONE_MAJORITY_SPREAD, spread.node.get("minDomains")?, self.tighten(spread, zones))
        } else {
            let constraint = object(&mut [
                ("labelSelector", self.selector.clone()),
                ("maxSkew", 1.into()),
                ("minDomains", zones.into()),
                ("topologyKey", key.into()),
                ("whenUnsatisfiable", "DoNotSchedule".into()),
            ]);
            let edit = Edit::append(constraints, constraint);
            (&says::ZONE_MAJORITY, Node::at(&Value::Null, constraints), vec![edit])
        };
        let (says, at, edits) = if self.together <= bearable {
            let kept = placement.sights(marks::REQUIRED | marks::HARD, with);
            let selector = kept.first().map_or(Ok(at), |sight| sight.node.get("labelSelector"))?;
            (&says::UPDATE_ZONES, selector, Vec::new())
        } else {
            (says, at, edits)
        };
        let facts: [(_, &dyn std::fmt::Display); 5] = [
            ("zone", &domain(key)),
            ("bearable", &bearable),
            ("s", if bearable == 1 { &"" } else { &"s" }),
            ("key", &key),
            ("zones", &zones),
        ];
        self.say(says, &at, key, &facts);
        self.mend(edits);
        Ok(())
    }

    /// What holds all members in one zone.
    fn pin(&self) -> Result<Option<Node<'a>>, Malformed> {
        let labels = self.placement.pod.get("nodeSelector")?;
        for (key, _) in labels.string_map()? {
            if self.is_part_of_a_zone(key) {
                return labels.entry(key).map(Some);
            }
        }
        let required = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let terms = self.placement.pod.dig(required)?;
        // One of the terms must fit, so that a node is bound to a zone only where they all name the same.
        let mut same = None;
        for term in terms.items()? {
            let zone = self.only_zone(&term)?;
            if *same.get_or_insert(zone) != zone {
                same = Some(NO_ZONE);
            }
        }
        if same.is_some_and(|zone| zone != NO_ZONE) {
            return Ok(Some(terms));
        }
        let attracting = self.placement.sights(marks::ATTRACTING, marks::ZONE_OR_PART | marks::SEEING);
        Ok(attracting.first().map(|term| term.node))
    }

    fn is_part_of_a_zone(&self, key: &str) -> bool {
        self.policy.marks(key) & marks::ZONE_OR_PART != 0
    }

    /// The key and the only zone that a term of a node affinity leaves.
    fn only_zone(&self, term: &Node<'a>) -> Result<(&'a str, &'a str), Malformed> {
        for expression in term.items_at("matchExpressions")? {
            let key = expression.text_at("key")?;
            let values = expression.strings_at("values")?;
            let is_in = expression.text_at("operator")? == "In";
            if let ([zone], true) = (values.as_slice(), is_in && self.is_part_of_a_zone(key)) {
                return Ok((key, zone));
            }
        }
        Ok(NO_ZONE)
    }

    /// The edits that make `spread` sound over so many zones; none where its selector is at fault.
    fn tighten(&self, spread: &Sight<'_>, zones: i64) -> Vec<Edit> {
        if spread.sure < self.count() || !self.placement.is_counted_alone(spread) {
            return Vec::new();
        }
        let place = spread.node.path();
        vec![Edit::set(place.field("maxSkew"), 1), Edit::set(place.field("minDomains"), zones)]
    }
}
