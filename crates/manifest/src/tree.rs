//! Where each field of a document stands: a flat tree of byte offsets beside the value.

use crate::source::count;

/// A value: 12 bytes, whatever it holds. The nodes of its children follow it, each with its own descendants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// The key of a field (a hash of it), and nothing for an item.
    key: u32,
    /// Where a reader should look: the key of a field, the beginning of an item.
    at: u32,
    /// How many nodes the value takes, itself included.
    size: u32,
}

/// The nodes of one document, in the order of its text.
///
/// A field that occurs twice is there twice, and the last one counts. Keys are kept as 32 bits: of two keys of one mapping
/// with the same hash (one chance in four thousand million for a pair) the later one would be shown for both.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn push_item(&mut self, at: usize) -> usize {
        self.push(0, at)
    }

    pub(crate) fn push_field(&mut self, key: &str, at: usize) -> usize {
        self.push(hash(key), at)
    }

    fn push(&mut self, key: u32, at: usize) -> usize {
        self.nodes.push(Node { key, at: count(at), size: 1 });
        self.nodes.len() - 1
    }

    /// Everything since `node` belongs to it.
    pub(crate) fn close(&mut self, node: usize) {
        let size = count(self.nodes.len() - node);
        if let Some(node) = self.nodes.get_mut(node) {
            node.size = size;
        }
    }

    /// What stands below a node that has just been closed.
    pub(crate) fn below(&self, node: usize) -> Vec<Node> {
        self.nodes.get(node + 1..).map(<[Node]>::to_vec).unwrap_or_default()
    }

    pub(crate) fn append(&mut self, nodes: &[Node]) {
        self.nodes.extend_from_slice(nodes);
    }

    /// Takes the last value out and leaves the fields of its mappings in its place: of the mapping itself, or of each
    /// mapping of a list, the last first, since earlier ones win.
    pub(crate) fn flatten(&mut self, node: usize, list: bool) {
        let below = self.below(node);
        self.nodes.truncate(node);
        if !list {
            self.nodes.extend_from_slice(&below);
            return;
        }
        let mut starts = Vec::new();
        let mut next = 0;
        while let Some(item) = below.get(next) {
            starts.push(next);
            next += item.size.max(1) as usize;
        }
        for start in starts.into_iter().rev() {
            let size = below[start].size as usize;
            self.nodes.extend_from_slice(below.get(start + 1..start + size).unwrap_or_default());
        }
    }

    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
    }

    pub(crate) fn offset(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |node| node.at as usize)
    }

    /// The last child with this key.
    pub(crate) fn field(&self, node: usize, key: &str) -> Option<usize> {
        let key = hash(key);
        self.children(node).filter(|child| self.nodes[*child].key == key).last()
    }

    /// The last child with this key before a later child, in a node that is still open.
    pub(crate) fn field_before(&self, node: usize, key: &str, later: usize) -> Option<usize> {
        let key = hash(key);
        self.children_until(node, later).filter(|child| self.nodes[*child].key == key).last()
    }

    /// The child at this index.
    pub(crate) fn item(&self, node: usize, index: usize) -> Option<usize> {
        self.children(node).nth(index).filter(|child| self.nodes[*child].key == 0)
    }

    pub(crate) fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes.get(node).map_or(node, |value| node + value.size as usize);
        self.children_until(node, end)
    }

    fn children_until(&self, node: usize, end: usize) -> impl Iterator<Item = usize> {
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let child = next;
            let size = self.nodes.get(child).filter(|_| child < end)?.size;
            next += size.max(1) as usize;
            Some(child)
        })
    }
}

/// FNV-1a, 32 bits: short keys, no state, the same on every machine. Zero is left to the items of lists.
fn hash(key: &str) -> u32 {
    key.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}
