//! The second domain: how many members the loss of one zone takes along.

use policy::quorum::tolerance;
use policy::{Finding, Level, Problem};
use serde_json::Value;
use workload::edit::Edit;
use workload::node::object;
use workload::{Malformed, Node};

use crate::explain::domain;
use crate::placement::Spread;
use crate::{AntiAffinity, Ensemble, NODE, REGIONS, ZONES, Zones, value};

/// How wide a domain of the node label `key` is, among those whose order is known.
fn width(key: &str) -> u8 {
    match key {
        _ if REGIONS.contains(&key) => 2,
        _ if ZONES.contains(&key) => 1,
        _ => 0,
    }
}

impl AntiAffinity {
    /// Whether a domain of `key` is a zone, or holds whole zones.
    fn is_as_wide_as_a_zone(&self, key: &str) -> bool {
        key == self.zone_key || (width(key) > 0 && width(key) >= width(&self.zone_key))
    }

    /// Whether a domain of `key` is a zone, or a part of one.
    fn is_within_a_zone(&self, key: &str) -> bool {
        key == self.zone_key || key == NODE || (width(key) > 0 && width(key) == width(&self.zone_key))
    }

    /// Whether one zone may hold more members than may be lost.
    pub(crate) fn judge_zones(
        &self,
        ensemble: &Ensemble<'_, '_>,
        selector: &Value,
    ) -> Result<Option<Finding>, Malformed> {
        let placement = ensemble.placement;
        let count = ensemble.count();
        let bearable = if ensemble.quorum.votes() { tolerance(count) } else { count - 1 };
        if bearable == 0 {
            // Neither of two voting members may be lost: no zone helps, a third member does.
            return Ok(None);
        }
        let zone = domain(&self.zone_key);
        let finding = |code, at: &Node<'_>, together: i64, reason: String| {
            let problem = if at.is_absent() { Problem::Required } else { Problem::Invalid(value(at)) };
            let finding = ensemble.error(code, at.path(), problem, reason, together);
            let level = if self.zones == Zones::Warn { Level::Warning } else { finding.level };
            let of_them = if bearable == 1 { "1 member".to_owned() } else { format!("{bearable} members") };
            finding
                .level(level)
                .about(self.zone_key.as_str())
                .why(format!("when that {zone} fails, all that it holds fails, but at most {of_them} may be lost"))
                .resting_on(ensemble.quorum)
        };
        if let Some(pin) = self.pin(ensemble)? {
            let reason = format!("holds all {count} members in one {zone}");
            return Ok(Some(
                finding("zone-pinned", &pin, count, reason).advise("remove it, so that members can spread"),
            ));
        }
        let together = placement.most_together(|sight| !sight.by_revision && self.is_as_wide_as_a_zone(sight.key));
        if together <= bearable {
            return Ok(None);
        }
        // With this many zones, `Spread::most_per_domain` of a skew of 1 is at most `bearable`.
        let zones = (count - 1) / bearable + 1;
        let reason = format!("up to {together} of the {count} members may be in one {zone}");
        let own = placement.spreads.iter().find(|spread| spread.is_hard && spread.sight.key == self.zone_key);
        if let Some(spread) = own {
            let found = finding("zone-majority", &spread.sight.node.get("minDomains")?, together, reason);
            let advice = format!("set minDomains: {zones} and maxSkew: 1, and labelSelector to the set's own");
            return Ok(Some(found.advise(advice).fix(tighten(spread, ensemble, zones)?)));
        }
        let constraints = placement.pod.get("topologySpreadConstraints")?.path();
        let constraint = object(&mut [
            ("labelSelector", selector.clone()),
            ("maxSkew", 1.into()),
            ("minDomains", zones.into()),
            ("topologyKey", self.zone_key.as_str().into()),
            ("whenUnsatisfiable", "DoNotSchedule".into()),
        ]);
        let found = finding("zone-majority", &Node::at(&Value::Null, constraints), together, reason);
        let advice = format!(
            "add to it: {{topologyKey: {}, whenUnsatisfiable: DoNotSchedule, maxSkew: 1, minDomains: {zones}, labelSelector: <the set's own>}}",
            self.zone_key
        );
        Ok(Some(found.advise(advice).fix(vec![Edit::append(constraints, constraint)])))
    }

    /// What holds all members in one zone.
    fn pin<'a>(&self, ensemble: &Ensemble<'_, 'a>) -> Result<Option<Node<'a>>, Malformed> {
        let placement = ensemble.placement;
        let labels = placement.pod.get("nodeSelector")?;
        if let Some(key) = labels.string_map()?.into_iter().map(|(key, _)| key).find(|key| self.is_within_a_zone(key)) {
            return Ok(Some(labels.entry(key)?));
        }
        let required = placement.pod.dig("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution")?;
        let terms = required.get("nodeSelectorTerms")?;
        // One of the terms must fit, so that a node is bound to a zone only where they all name the same.
        let mut zones = Vec::new();
        for term in terms.items()? {
            zones.push(self.only_zone(&term)?);
        }
        if let Some(Some(first)) = zones.first()
            && zones.iter().all(|zone| zone.as_ref() == Some(first))
        {
            return Ok(Some(terms));
        }
        let attracts = |term: &&crate::Sight<'_>| self.is_within_a_zone(term.key) && placement.members.seen(term).0 > 0;
        Ok(placement.attracting.iter().find(attracts).map(|term| term.node))
    }

    /// The key and the only zone that a term of a node affinity leaves.
    fn only_zone<'a>(&self, term: &Node<'a>) -> Result<Option<(&'a str, &'a str)>, Malformed> {
        for expression in term.items_at("matchExpressions")? {
            let key = expression.text_at("key")?;
            let values = expression.strings_at("values")?;
            if let [zone] = values[..]
                && expression.string_at("operator")? == Some("In")
                && self.is_within_a_zone(key)
            {
                return Ok(Some((key, zone)));
            }
        }
        Ok(None)
    }
}

/// The edits that make `spread` sound over so many zones; none where its selector is at fault.
fn tighten(spread: &Spread<'_>, ensemble: &Ensemble<'_, '_>, zones: i64) -> Result<Vec<Edit>, Malformed> {
    let members = &ensemble.placement.members;
    if members.seen(&spread.sight).0 < members.count() || !spread.counts_members_only(members) {
        return Ok(Vec::new());
    }
    let set = |field: &'static str, number: i64| -> Result<Edit, Malformed> {
        Ok(Edit::set(spread.sight.node.get(field)?.path(), number))
    };
    Ok(vec![set("maxSkew", 1)?, set("minDomains", zones)?])
}
