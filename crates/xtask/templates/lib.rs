#![doc = include_str!("../README.md")]

use policy::{Fault, Finding, Operation, Policy, Problem, Review, Settings, SettingsError, Target};
use workload::Malformed;

policy::export!(NewPolicy);

/// The settings.
#[derive(Debug)]
pub struct NewPolicy {
    /// How many former revisions a set must keep.
    pub at_least: i32,
}

impl Policy for NewPolicy {
    const NAME: &'static str = "new-policy";
    const TARGETS: &'static [Target] = &[Target {
        group: "apps",
        kind: "StatefulSet",
        resource: "statefulsets",
        subresource: None,
        operations: &[Operation::Create, Operation::Update],
    }];

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        Ok(Self { at_least: settings.get("atLeast").int32()?.unwrap_or(1) })
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.at_least < 1 {
            let problem = format!("Invalid value: {}: must be at least 1", self.at_least);
            return Err(SettingsError::new("atLeast", problem));
        }
        Ok(())
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        // The object is completed as the API server completes it, so that what is left out is there with its default.
        let limit = review.object.dig("spec.revisionHistoryLimit")?;
        let Some(kept) = limit.int32()?.filter(|kept| *kept < self.at_least) else {
            return Ok(Vec::new());
        };
        Ok(vec![
            Finding::error(
                "short-history",
                limit.path().clone(),
                Problem::Invalid(kept.into()),
                format!("must be at least {}", self.at_least),
            )
            // An UPDATE is denied for what it makes worse by this measure.
            .measure(-i64::from(kept))
            .why("an update that goes wrong is undone by going back to a revision that was kept")
            .advise(format!("set {} to {} or more", limit.path(), self.at_least)),
        ])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::NewPolicy>();
    }
}
