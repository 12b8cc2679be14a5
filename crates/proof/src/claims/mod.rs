//! The claims, one file each.

use crate::claim::Claim;

mod budget;
mod budget_make;
mod budget_paths;
mod budget_view;
mod budget_wrong;
mod drain;
mod drain_play;
mod drain_story;
mod failure;
mod mutation;
mod non_root;
mod quantities;
mod root_users;
mod separation;
mod validity;

/// All of them, in the order in which they are tried.
pub fn all() -> Vec<Box<dyn Claim>> {
    vec![
        Box::new(non_root::Restricted),
        Box::new(root_users::RootUsers),
        Box::new(quantities::Quantities),
        Box::<validity::Validity>::default(),
        Box::<mutation::Mutation>::default(),
        Box::new(failure::Failure),
        Box::new(separation::Separation),
        Box::<budget::Arithmetic>::default(),
        Box::new(drain::Drain),
        Box::new(budget_paths::Paths),
    ]
}
