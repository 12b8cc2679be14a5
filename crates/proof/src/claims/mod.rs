//! The claims, one file each.

use crate::claim::Claim;

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
    ]
}
