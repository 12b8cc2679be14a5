//! The claims, one file each.

use crate::claim::Claim;

mod non_root;

/// All of them, in the order in which they are tried.
pub fn all() -> Vec<Box<dyn Claim>> {
    vec![Box::new(non_root::Restricted)]
}
