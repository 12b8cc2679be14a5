//! No container runs as root: the rule `non-root`.
#![doc = include_str!("../README.md")]

mod controls;
mod judgement;

use policy::settings::choice;
use policy::{Fault, Finding, Policy, Review, Settings, SettingsError, Target};
use workload::texts::join;
use workload::{Malformed, kind};

use judgement::Judgement;

policy::export!(NonRoot);

/// The settings.
#[derive(Debug)]
pub struct NonRoot {
    /// What is asked.
    pub profile: Profile,
    /// Whether a pod in a user namespace of its own may run as root, which is another user for its node.
    pub host_users_relaxes: bool,
    /// The user that a container gets, by mutation, where nobody says which one it is to be.
    pub run_as_user: Option<i64>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// That no container runs as root.
    #[default]
    NonRoot,
    /// What the Restricted standard asks of securityContexts.
    Restricted,
}

impl Policy for NonRoot {
    const NAME: &'static str = "non-root";
    const READS_RESOURCES: bool = false;
    const TARGETS: &'static [Target] = &Target::pod_templates_and(Target::EPHEMERAL_CONTAINERS);
    const MUTATES: bool = true;

    fn read(settings: &mut Settings<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            profile: choice(
                &settings.get("profile"),
                &[("non-root", Profile::NonRoot), ("restricted", Profile::Restricted)],
            )?
            .unwrap_or_default(),
            host_users_relaxes: settings.get("hostUsersRelaxes").boolean()?.unwrap_or(true),
            run_as_user: settings.get("runAsUser").int64()?,
        })
    }

    fn check(&self) -> Result<(), SettingsError> {
        match self.run_as_user {
            Some(user) if user < 1 || user > i64::from(i32::MAX) => {
                let found = user.to_string();
                let problem = ["Invalid value: ", &found, ": must be a user other than root, from 1 to 2147483647"];
                Err(SettingsError::new("runAsUser", join(&problem, "")))
            }
            _ => Ok(()),
        }
    }

    fn judge(&self, review: &Review<'_>) -> Result<Vec<Finding>, Fault> {
        let Some(place) = kind::pod_place(review.group(), review.kind()) else { return Ok(Vec::new()) };
        let spec = review.object.follow(place.spec)?;
        let judgement = Judgement::new(self, review, &spec)?;
        let mut findings = Vec::new();
        judgement.users(&mut findings)?;
        if self.profile == Profile::Restricted {
            judgement.restricted(&review.object.follow(place.metadata)?, &mut findings)?;
        }
        if review.kind() == "StatefulSet" {
            judgement.claims(&review.object, &spec, &mut findings)?;
        }
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_judged_as_it_says() {
        corpus::check_policy::<super::NonRoot>();
    }
}
