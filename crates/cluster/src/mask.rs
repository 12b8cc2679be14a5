//! Field masks: which fields of a looked-up object a policy wants to see.
//!
//! The rules are those of the host (`callback_handler/kubernetes/field_mask.rs`): a mask is a path of keys joined by dots, sequences
//! are transparent, the end of a path keeps everything below it *unless another mask goes on from there*, and no mask at all
//! keeps everything. A key that holds a dot cannot be named.

use std::collections::{BTreeMap, BTreeSet};

/// The masks of one look-up as a tree. The nodes lie in one vector: a mask of a million dots costs memory, but no stack.
#[derive(Debug)]
pub(crate) struct Mask {
    nodes: Vec<BTreeMap<Box<str>, usize>>,
}

impl Mask {
    pub(crate) fn new(paths: &BTreeSet<String>) -> Self {
        let mut nodes = vec![BTreeMap::new()];
        for path in paths {
            let mut node = 0;
            for key in path.split('.') {
                let next = nodes.len();
                let known = *nodes[node].entry(key.into()).or_insert(next);
                if known == next {
                    nodes.push(BTreeMap::new());
                }
                node = known;
            }
        }
        Self { nodes }
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { mask: self, index: 0 }
    }
}

/// A place in the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    mask: &'a Mask,
    index: usize,
}

impl<'a> Node<'a> {
    /// Whether everything from here on stays.
    pub(crate) fn keeps_all(self) -> bool {
        self.mask.nodes[self.index].is_empty()
    }

    /// The place below a key, or `None` if the key is dropped. Only to be asked where not everything stays.
    pub(crate) fn below(self, key: &str) -> Option<Node<'a>> {
        self.mask.nodes[self.index].get(key).map(|index| Node { mask: self.mask, index: *index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Mask {
        Mask::new(&paths.iter().map(|path| (*path).to_owned()).collect())
    }

    #[test]
    fn no_mask_keeps_all_and_a_leaf_keeps_what_is_below() {
        assert!(mask(&[]).root().keeps_all());
        let mask = mask(&["spec.selector", "status"]);
        assert!(!mask.root().keeps_all());
        let spec = mask.root().below("spec").unwrap();
        assert!(!spec.keeps_all());
        assert!(spec.below("selector").unwrap().keeps_all());
        assert!(spec.below("minAvailable").is_none());
        assert!(mask.root().below("status").unwrap().keeps_all());
        assert!(mask.root().below("data").is_none());
    }

    #[test]
    fn a_longer_mask_narrows_a_shorter_one() {
        let mask = mask(&["spec", "spec.replicas"]);
        let spec = mask.root().below("spec").unwrap();
        assert!(spec.below("replicas").is_some());
        assert!(spec.below("selector").is_none());
    }

    #[test]
    fn empty_and_endless_masks_are_no_accident() {
        assert!(mask(&[""]).root().below("spec").is_none());
        let long = "a.".repeat(200_000);
        assert!(mask(&[&long]).root().below("a").is_some());
    }
}
