//! Puts a document together from the events of either parser: its value, and the tree of its places.

use std::collections::{BTreeSet, HashMap};
use std::mem;

use serde_json::{Map, Value};

use crate::scalar::Scalar;
use crate::tree::{Node, Tree};

/// How deep mappings and lists may nest. It is what `serde_json` takes, so that every value read here can be written and
/// read again; walking such a value recursively is safe.
pub const MAX_DEPTH: usize = 128;

/// Why a document cannot be used, and the byte that shows it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) message: String,
    /// Whether the text is not of the format it was taken for, and so may be of another.
    pub(crate) syntax: bool,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), syntax: false }
    }

    pub(crate) fn syntax(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), syntax: true }
    }
}

/// A key that a mapping has twice.
pub(crate) struct Duplicate {
    pub(crate) key: String,
    pub(crate) first: usize,
    pub(crate) second: usize,
}

/// What one document gave.
pub(crate) struct Built {
    pub(crate) value: Value,
    pub(crate) tree: Tree,
}

/// How many bytes the aliases of a file may still add, and how many it was.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    /// Aliases (and the values they stand for) may take [`Budget::FACTOR`] times the file and a bit, however many there are.
    pub(crate) fn new(size: usize) -> Self {
        Self { left: Self::FLOOR.saturating_add(size.saturating_mul(Self::FACTOR)).min(Self::MOST) }
    }

    const FLOOR: usize = 256 * 1024;
    const FACTOR: usize = 32;
    const MOST: usize = 128 * 1024 * 1024;

    fn take(&mut self, cost: usize, at: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            Fault::new(
                at,
                "the aliases of this file multiply beyond what is sensible: write the values out, or use fewer",
            )
        })?;
        Ok(())
    }
}

#[derive(Debug)]
enum Pending {
    Field(String),
    Merge { alias: bool },
}

#[derive(Debug)]
enum Open {
    Mapping {
        fields: Map<String, Value>,
        pending: Option<Pending>,
        /// Fields that a merge brought and no key of the mapping itself has set since: setting them is no duplicate.
        merged: BTreeSet<String>,
    },
    List(Vec<Value>),
}

#[derive(Debug)]
struct Frame {
    open: Open,
    node: usize,
    anchor: usize,
}

struct Anchored {
    value: Value,
    nodes: Vec<Node>,
    key: Option<String>,
    cost: usize,
    depth: usize,
}

/// Takes the events of one document. Offsets are bytes of the whole text.
pub(crate) struct Builder<'a> {
    stack: Vec<Frame>,
    tree: Tree,
    root: Option<Value>,
    anchors: HashMap<usize, Anchored>,
    budget: &'a mut Budget,
    pub(crate) duplicates: Vec<Duplicate>,
    /// How many duplicates are still worth naming.
    room: usize,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(budget: &'a mut Budget, room: usize) -> Self {
        Self {
            stack: Vec::new(),
            tree: Tree::default(),
            root: None,
            anchors: HashMap::new(),
            budget,
            duplicates: Vec::new(),
            room,
        }
    }

    /// Whether the next scalar is a key.
    pub(crate) fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { open: Open::Mapping { pending: None, .. }, .. }))
    }

    pub(crate) fn start_mapping(&mut self, at: usize, anchor: usize) -> Result<(), Fault> {
        self.start(at, anchor, Open::Mapping { fields: Map::new(), pending: None, merged: BTreeSet::new() })
    }

    pub(crate) fn start_list(&mut self, at: usize, anchor: usize) -> Result<(), Fault> {
        self.start(at, anchor, Open::List(Vec::new()))
    }

    fn start(&mut self, at: usize, anchor: usize, open: Open) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(Fault::new(at, "a mapping or list cannot be a key: quote the key if it is meant as text"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        let node = self.node(at);
        self.stack.push(Frame { open, node, anchor });
        Ok(())
    }

    /// The node of the value that begins here: its field's, or a new one.
    fn node(&mut self, at: usize) -> usize {
        match self.stack.last() {
            Some(Frame { open: Open::Mapping { pending: Some(Pending::Field(_)), .. }, .. }) => self.tree.len() - 1,
            _ => self.tree.push_item(at),
        }
    }

    pub(crate) fn key(&mut self, at: usize, key: String) {
        if let Some(Frame { open: Open::Mapping { pending, .. }, .. }) = self.stack.last_mut() {
            self.tree.push_field(&key, at);
            *pending = Some(Pending::Field(key));
        }
    }

    pub(crate) fn merge_key(&mut self) {
        if let Some(Frame { open: Open::Mapping { pending, .. }, .. }) = self.stack.last_mut() {
            *pending = Some(Pending::Merge { alias: false });
        }
    }

    /// Remembers the text of a key that has an anchor.
    pub(crate) fn anchor_key(&mut self, at: usize, anchor: usize, key: &str) -> Result<(), Fault> {
        if anchor != 0 {
            let value = Value::String(key.to_owned());
            let cost = cost(&value).0;
            self.budget.take(cost, at)?;
            let anchored = Anchored { value, nodes: Vec::new(), key: Some(key.to_owned()), cost, depth: 0 };
            self.anchors.insert(anchor, anchored);
        }
        Ok(())
    }

    /// A value that is no collection, from YAML.
    pub(crate) fn scalar(&mut self, at: usize, scalar: Scalar, anchor: usize) -> Result<(), Fault> {
        let key = if anchor == 0 { None } else { scalar.clone().into_key().ok() };
        let value = scalar.into_value().map_err(|message| Fault::new(at, message))?;
        let node = self.node(at);
        self.complete(value, node, anchor, key, at)
    }

    /// A value that is no collection, from JSON.
    pub(crate) fn leaf(&mut self, at: usize, value: Value) -> Result<(), Fault> {
        let node = self.node(at);
        self.complete(value, node, 0, None, at)
    }

    pub(crate) fn alias(&mut self, at: usize, anchor: usize) -> Result<(), Fault> {
        let wants_key = self.wants_key();
        let level = self.stack.len();
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(Fault::new(at, "this alias stands within the value it names: kubectl cannot read that"));
        };
        self.budget.take(anchored.cost, at)?;
        if level + anchored.depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        if wants_key {
            let key = anchored.key.clone();
            let key = key.ok_or_else(|| Fault::new(at, "this alias stands for a value that cannot be a key"))?;
            self.key(at, key);
            return Ok(());
        }
        let value = anchored.value.clone();
        let node = match self.stack.last_mut() {
            Some(Frame { open: Open::Mapping { pending: Some(pending), .. }, .. }) => match pending {
                Pending::Field(_) => self.tree.len() - 1,
                Pending::Merge { alias } => {
                    *alias = true;
                    self.tree.push_item(at)
                }
            },
            _ => self.tree.push_item(at),
        };
        self.tree.append(&anchored.nodes);
        self.complete(value, node, 0, None, at)
    }

    pub(crate) fn end(&mut self, at: usize) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::Mapping { fields, .. } => Value::Object(fields),
            Open::List(mut items) => {
                items.shrink_to_fit();
                Value::Array(items)
            }
        };
        self.complete(value, frame.node, frame.anchor, None, at)
    }

    fn complete(
        &mut self,
        value: Value,
        node: usize,
        anchor: usize,
        key: Option<String>,
        at: usize,
    ) -> Result<(), Fault> {
        self.tree.close(node);
        if anchor != 0 {
            let (cost, depth) = cost(&value);
            self.budget.take(cost, at)?;
            let nodes = self.tree.below(node);
            self.anchors.insert(anchor, Anchored { value: value.clone(), nodes, key, cost, depth });
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match &mut frame.open {
            Open::List(items) => items.push(value),
            Open::Mapping { fields, pending, merged } => match pending.take() {
                Some(Pending::Field(key)) => {
                    if fields.contains_key(&key) && !merged.remove(&key) && self.duplicates.len() < self.room {
                        let first = self.tree.field_before(frame.node, &key, node).unwrap_or(node);
                        self.duplicates.push(Duplicate {
                            key: key.clone(),
                            first: self.tree.offset(first),
                            second: self.tree.offset(node),
                        });
                    }
                    fields.insert(key, value);
                }
                Some(Pending::Merge { alias }) => {
                    let list = value.is_array();
                    for mapping in
                        mappings_to_merge(value, alias).ok_or_else(|| not_mergeable(self.tree.offset(node)))?
                    {
                        for (key, value) in mapping {
                            merged.insert(key.clone());
                            fields.insert(key, value);
                        }
                    }
                    self.tree.flatten(node, list);
                }
                // The parsers never give a value where a key is due.
                None => return Err(Fault::new(at, "a key is missing here")),
            },
        }
        Ok(())
    }

    /// The document, or nothing if it was empty.
    pub(crate) fn finish(mut self) -> Option<Built> {
        let value = mem::take(&mut self.root)?;
        self.tree.shrink();
        Some(Built { value, tree: self.tree })
    }
}

/// The mappings behind `<<`, in the order in which they are set: go-yaml lets the earlier of a list win (`merge` in
/// decode.go), and lets a merge overwrite the keys above it.
fn mappings_to_merge(value: Value, alias: bool) -> Option<Vec<Map<String, Value>>> {
    match value {
        Value::Object(fields) => Some(vec![fields]),
        Value::Array(items) if !alias => items
            .into_iter()
            .rev()
            .map(|item| match item {
                Value::Object(fields) => Some(fields),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn not_mergeable(at: usize) -> Fault {
    Fault::new(at, "`<<` takes a mapping, or a list of mappings: give it one, or quote the key")
}

fn too_deep(at: usize) -> Fault {
    Fault::new(at, format!("nested deeper than {MAX_DEPTH} levels: nothing in Kubernetes needs that"))
}

/// About how many bytes a value takes in memory, and how many levels it has. The recursion is bounded by [`MAX_DEPTH`].
fn cost(value: &Value) -> (usize, usize) {
    const SLOT: usize = size_of::<Value>();
    match value {
        Value::String(text) => (SLOT + text.len(), 0),
        Value::Array(items) => {
            items.iter().map(cost).fold((SLOT, 1), |(sum, depth), (cost, below)| (sum + cost, depth.max(below + 1)))
        }
        Value::Object(fields) => {
            // The nodes of a B-tree hold eleven entries, used or not.
            let entries = fields.len().max(11) * (SLOT + size_of::<String>());
            fields.iter().fold((SLOT + entries, 1), |(sum, depth), (key, value)| {
                let (cost, below) = cost(value);
                (sum + key.len() + cost, depth.max(below + 1))
            })
        }
        _ => (SLOT, 0),
    }
}
