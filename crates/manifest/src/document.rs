//! A document, and the way from its fields to lines and columns.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::source::{Excerpt, Location, Source};
use crate::tree::Tree;

/// One object of an input: a document, or an item of a `List`.
#[derive(Debug, Clone)]
pub struct Document {
    /// The object, always a mapping when it comes from [`parse`](crate::parse).
    ///
    /// It may be changed or taken out (`std::mem::take`) to save memory: finding places does not need it.
    pub value: Value,
    place: Place,
}

/// Where a document stands. It shares the text of the input and the places of the fields, and so is cheap to clone and
/// can be kept without the value.
#[derive(Clone)]
pub struct Place {
    source: Arc<Source>,
    tree: Arc<Tree>,
    root: usize,
    index: usize,
    range: Range<usize>,
}

impl Document {
    pub(crate) fn new(value: Value, place: Place) -> Self {
        Self { value, place }
    }

    /// Where the field at a JSON Pointer stands: see [`Place::locate`].
    pub fn locate(&self, pointer: &str) -> Location {
        self.place.locate(pointer)
    }

    /// The name of the input, as it was given.
    pub fn source_name(&self) -> &str {
        self.place.source.name()
    }

    /// The line at a location, cut to what a terminal shows.
    pub fn excerpt(&self, location: Location) -> Option<Excerpt> {
        self.place.source.excerpt(location)
    }

    /// `apiVersion` and `kind`, if the document has both and they are texts and not empty.
    pub fn type_meta(&self) -> Option<(&str, &str)> {
        let text = |key| self.value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some((text("apiVersion")?, text("kind")?))
    }

    /// Where it stands, to be kept when the value is not.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The value and the place, each on its own.
    pub fn into_parts(self) -> (Value, Place) {
        (self.value, self.place)
    }
}

impl Place {
    pub(crate) fn new(source: Arc<Source>, tree: Arc<Tree>, root: usize, index: usize, range: Range<usize>) -> Self {
        Self { source, tree, root, index, range }
    }

    /// The same document, one of its values.
    pub(crate) fn at(&self, root: usize) -> Self {
        Self { root, ..self.clone() }
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn root(&self) -> usize {
        self.root
    }

    /// The byte of this value.
    pub(crate) fn offset(&self) -> usize {
        self.tree.offset(self.root)
    }

    /// The line and column of the field at a JSON Pointer (RFC 6901): of its key, so that an editor jumps to
    /// `replicas: 4`; of an item of a list, its beginning. For what does not exist, of the nearest ancestor that does; for
    /// `""`, of the document itself.
    ///
    /// What an alias or a merge key brought is located where it is written, at its anchor; the field that holds the alias,
    /// at its own key. Of a key that occurs twice the last one is meant, as kubectl does.
    pub fn locate(&self, pointer: &str) -> Location {
        let mut node = self.root;
        for token in pointer.split('/').skip(1) {
            let Some(child) = self.child(node, token) else { break };
            node = child;
        }
        self.source.location(self.tree.offset(node))
    }

    fn child(&self, node: usize, token: &str) -> Option<usize> {
        if token.contains('~') {
            return self.tree.field(node, &token.replace("~1", "/").replace("~0", "~"));
        }
        self.tree.field(node, token).or_else(|| {
            let canonical = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
            self.tree.item(node, token.parse().ok().filter(|_| canonical)?)
        })
    }

    /// The input this came from.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Which document of the input this is, from 0, empty and unreadable ones counted; the items of a `List` share it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The document's text, between its separators. For an item of a `List` it is the text of the whole `List`.
    pub fn text(&self) -> &str {
        self.source.text().get(self.range.clone()).unwrap_or_default()
    }
}

/// The text and the tree would drown whoever prints a place to look at it.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{} (document {})", self.source.name(), self.locate("").line, self.index)
    }
}
