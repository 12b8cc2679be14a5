//! Small edits that mend an object: made in place, so that what nobody here knows survives, and written as a JSON
//! Patch for who would rather make them elsewhere.

use std::{fmt, mem};

use serde_json::{Map, Value};

use crate::node::object;
use crate::path::{Path, Segment};

/// One change to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The value at `path` becomes `value`. Objects on the way that are absent or `null` are made; items of lists
    /// must be there.
    Set {
        /// Where the value goes.
        path: Path,
        /// What goes there.
        value: Value,
    },
    /// `value` joins the end of the list at `path`, unless an equal item is in it. A list that is absent or `null`
    /// is made, with the objects on the way to it.
    Append {
        /// The list.
        path: Path,
        /// The new item.
        value: Value,
    },
    /// There is nothing at `path` any more; no change where there was nothing. Removing an item of a list moves those
    /// after it: only this edit is not the same twice as once, and only there.
    Remove {
        /// What goes.
        path: Path,
    },
}

impl Edit {
    /// [`Edit::Set`].
    pub fn set(path: Path, value: impl Into<Value>) -> Self {
        Self::Set { path, value: value.into() }
    }

    /// [`Edit::Append`].
    pub fn append(path: Path, value: impl Into<Value>) -> Self {
        Self::Append { path, value: value.into() }
    }

    /// [`Edit::Remove`].
    pub fn remove(path: Path) -> Self {
        Self::Remove { path }
    }

    /// What it changes.
    pub fn path(&self) -> Path {
        match self {
            Self::Set { path, .. } | Self::Append { path, .. } | Self::Remove { path } => *path,
        }
    }
}

/// An edit does not fit the object: something on its way has another type, or is no such item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditError {
    /// Where the object differs from what the edit supposes.
    pub path: Path,
    /// What had to be there.
    pub problem: &'static str,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for EditError {}

/// Makes `edits` in `object`, one after the other. On an error, those before the one that failed are made.
pub fn apply(object: &mut Value, edits: &[Edit]) -> Result<(), EditError> {
    for edit in edits {
        if let Some(change) = plan(object, edit)? {
            change.make(object);
        }
    }
    Ok(())
}

/// The operations of a JSON Patch (RFC 6902) that make `edits` in `object`; none for an edit that changes nothing.
pub fn json_patch(object: &Value, edits: &[Edit]) -> Result<Vec<Value>, EditError> {
    let mut copy = object.clone();
    let mut operations = Vec::new();
    for edit in edits {
        if let Some(change) = plan(&copy, edit)? {
            operations.push(change.operation());
            change.make(&mut copy);
        }
    }
    Ok(operations)
}

/// What an edit comes to in a given object: one operation, which makes all that is missing at once.
enum Change {
    /// A field that is not there yet, or another value for what is.
    Put { at: Path, value: Value, new: bool },
    /// One more item of a list.
    Push { at: Path, value: Value },
    /// A field or an item less.
    Take { at: Path },
}

impl Change {
    fn operation(&self) -> Value {
        match self {
            Self::Put { at, value, new } => operation(if *new { "add" } else { "replace" }, at.pointer(), Some(value)),
            Self::Push { at, value } => operation("add", at.pointer() + "/-", Some(value)),
            Self::Take { at } => operation("remove", at.pointer(), None),
        }
    }

    /// Makes this change in the object that it was planned for.
    fn make(self, object: &mut Value) {
        match self {
            Self::Put { at, value, .. } => match at.split_last() {
                None => *object = value,
                Some((parents, last)) => match (reach(object, parents), last) {
                    (Some(Value::Object(fields)), Segment::Field(name) | Segment::Key(name)) => {
                        fields.insert(name.to_owned(), value);
                    }
                    (Some(Value::Array(items)), Segment::Index(index)) => {
                        if let Some(item) = items.get_mut(index) {
                            *item = value;
                        }
                    }
                    _ => {}
                },
            },
            Self::Push { at, value } => {
                if let Some(Value::Array(items)) = reach(object, at) {
                    items.push(value);
                }
            }
            Self::Take { at } => {
                let Some((parents, last)) = at.split_last() else { return };
                match (reach(object, parents), last) {
                    (Some(Value::Object(fields)), Segment::Field(name) | Segment::Key(name)) => {
                        // Taking a field out of a map in place is kilobytes of a module.
                        let mut kept = Map::new();
                        for (own, value) in mem::take(fields) {
                            if own != name {
                                kept.insert(own, value);
                            }
                        }
                        *fields = kept;
                    }
                    (Some(Value::Array(items)), Segment::Index(index)) if index < items.len() => {
                        items.remove(index);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn operation(op: &str, path: String, value: Option<&Value>) -> Value {
    let mut fields = [("op", op.into()), ("path", path.into()), ("value", value.cloned().unwrap_or_default())];
    // Removal alone has no value; that of the others may be `null`.
    let count = if value.is_some() { 3 } else { 2 };
    fields.get_mut(..count).map_or(Value::Null, object)
}

/// What a path leads to.
enum Place<'a> {
    /// A value, which may be `null`.
    Found(&'a Value),
    /// Nothing: its first `depth` steps end at a field that is not there (`new`), or at a `null`.
    Missing { depth: usize, new: bool },
    /// An item that its list does not have, after this many steps.
    NoItem { depth: usize },
}

/// What `edit` comes to in `object`, or `None` where it changes nothing.
fn plan(object: &Value, edit: &Edit) -> Result<Option<Change>, EditError> {
    let path = edit.path();
    let place = locate(object, path)?;
    Ok(Some(match edit {
        Edit::Set { value, .. } => match place {
            Place::Found(old) if old == value => return Ok(None),
            Place::Found(_) => Change::Put { at: path, value: value.clone(), new: false },
            missing => put(path, &missing, value.clone())?,
        },
        Edit::Append { value, .. } => match place {
            Place::Found(Value::Array(items)) if items.contains(value) => return Ok(None),
            Place::Found(Value::Array(_)) => Change::Push { at: path, value: value.clone() },
            Place::Found(Value::Null) => Change::Put { at: path, value: Value::Array(vec![value.clone()]), new: false },
            Place::Found(_) => return Err(EditError { path, problem: "must be a list" }),
            missing => put(path, &missing, Value::Array(vec![value.clone()]))?,
        },
        Edit::Remove { .. } if path.is_root() => {
            return Err(EditError { path, problem: "must stay: it is the whole object" });
        }
        Edit::Remove { .. } => match place {
            Place::Found(_) => Change::Take { at: path },
            Place::Missing { .. } | Place::NoItem { .. } => return Ok(None),
        },
    }))
}

/// Puts `value` at `path`, of which the end is missing: with the objects that lead to it.
fn put(path: Path, missing: &Place<'_>, value: Value) -> Result<Change, EditError> {
    let no_item = |depth| EditError { path: prefix(path, depth), problem: "must be an item that the list has" };
    let (depth, new) = match missing {
        Place::Missing { depth, new } => (*depth, *new),
        Place::NoItem { depth } => return Err(no_item(*depth)),
        Place::Found(_) => (path.segments().len(), false),
    };
    let mut nested = value;
    for (position, segment) in path.segments().into_iter().enumerate().skip(depth).rev() {
        nested = match segment {
            Segment::Field(name) | Segment::Key(name) => {
                let mut parent = Map::new();
                parent.insert(name.to_owned(), nested);
                Value::Object(parent)
            }
            Segment::Index(_) => return Err(no_item(position + 1)),
        };
    }
    Ok(Change::Put { at: prefix(path, depth), value: nested, new })
}

/// What `path` leads to in `object`; an error where something on the way is neither absent nor of the type to go on.
fn locate(object: &Value, path: Path) -> Result<Place<'_>, EditError> {
    let mut value = object;
    for (depth, segment) in path.segments().into_iter().enumerate() {
        value = match (value, segment) {
            (Value::Null, _) => return Ok(Place::Missing { depth, new: false }),
            (Value::Object(fields), Segment::Field(name) | Segment::Key(name)) => match fields.get(name) {
                Some(value) => value,
                None => return Ok(Place::Missing { depth: depth + 1, new: true }),
            },
            (Value::Array(items), Segment::Index(index)) => match items.get(index) {
                Some(value) => value,
                None => return Ok(Place::NoItem { depth: depth + 1 }),
            },
            (_, Segment::Index(_)) => {
                return Err(EditError { path: prefix(path, depth), problem: "must be a list" });
            }
            _ => return Err(EditError { path: prefix(path, depth), problem: "must be an object" }),
        };
    }
    Ok(Place::Found(value))
}

/// The value that `path` leads to.
fn reach(object: &mut Value, path: Path) -> Option<&mut Value> {
    path.segments().into_iter().try_fold(object, |value, segment| match (value, segment) {
        (Value::Object(fields), Segment::Field(name) | Segment::Key(name)) => fields.get_mut(name),
        (Value::Array(items), Segment::Index(index)) => items.get_mut(index),
        _ => None,
    })
}

/// The first `depth` steps of `path`.
fn prefix(path: Path, depth: usize) -> Path {
    path.segments().into_iter().take(depth).fold(Path::root(), super::path::Path::with)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(mut object: Value, edit: Edit) -> Value {
        apply(&mut object, &[edit]).unwrap();
        object
    }

    #[test]
    fn missing_and_null_parents_are_made() {
        let edit = Edit::set(Path::fields("spec.template.spec").field("hostNetwork"), false);
        let expected = json!({ "spec": { "template": { "spec": { "hostNetwork": false } } } });
        assert_eq!(edited(json!({}), edit.clone()), expected);
        assert_eq!(edited(json!({ "spec": null }), edit.clone()), expected);
        assert_eq!(edited(json!({ "spec": { "template": null } }), edit.clone()), expected);
        assert_eq!(edited(Value::Null, edit), expected);
        let list = Edit::append(Path::fields("spec.args"), "a");
        assert_eq!(edited(json!({ "spec": { "args": null } }), list.clone()), json!({ "spec": { "args": ["a"] } }));
        assert_eq!(edited(json!({ "spec": null }), list), json!({ "spec": { "args": ["a"] } }));
    }

    #[test]
    fn an_equal_item_is_not_appended_again() {
        let edit = Edit::append(Path::fields("drop"), "ALL");
        assert_eq!(edited(json!({ "drop": ["ALL"] }), edit.clone()), json!({ "drop": ["ALL"] }));
        assert_eq!(edited(json!({ "drop": ["KILL"] }), edit), json!({ "drop": ["KILL", "ALL"] }));
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let object = json!({ "a": { "b": 1, "c": null }, "l": [1] });
        for absent in ["a.x", "x.y.z", "a.c.d"] {
            assert_eq!(edited(object.clone(), Edit::remove(Path::fields(absent))), object, "{absent}");
        }
        assert_eq!(edited(object.clone(), Edit::remove(Path::fields("l").index(1))), object);
        assert_eq!(
            edited(object.clone(), Edit::remove(Path::fields("l").index(0))),
            json!({ "a": { "b": 1, "c": null }, "l": [] })
        );
        assert_eq!(edited(object, Edit::remove(Path::fields("a.c"))), json!({ "a": { "b": 1 }, "l": [1] }));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        let refused = |edit: Edit| {
            let mut object = json!({ "a": "text", "l": [{}], "n": null });
            let before = object.clone();
            let error = apply(&mut object, std::slice::from_ref(&edit)).unwrap_err();
            assert_eq!(object, before, "{edit:?}");
            assert_eq!(json_patch(&object, &[edit]), Err(error.clone()));
            error.to_string()
        };
        assert_eq!(refused(Edit::set(Path::fields("a.b"), 1)), "a: must be an object");
        assert_eq!(refused(Edit::set(Path::fields("a").index(0), 1)), "a: must be a list");
        assert_eq!(refused(Edit::append(Path::fields("a"), 1)), "a: must be a list");
        assert_eq!(refused(Edit::set(Path::fields("l").index(1), 1)), "l[1]: must be an item that the list has");
        assert_eq!(refused(Edit::set(Path::fields("n").index(0), 1)), "n[0]: must be an item that the list has");
        assert_eq!(refused(Edit::set(Path::fields("l").field("x"), 1)), "l: must be an object");
        assert_eq!(refused(Edit::remove(Path::fields("a.b"))), "a: must be an object");
        assert_eq!(refused(Edit::remove(Path::root())), "<object>: must stay: it is the whole object");
    }

    #[test]
    fn a_patch_makes_what_is_missing_in_one_operation_and_nothing_for_no_change() {
        let object = json!({ "metadata": { "labels": { "a/b": "1" } }, "spec": { "x": null } });
        let edits = [
            Edit::set(Path::fields("metadata.labels").key("a/b"), "2"),
            Edit::set(Path::fields("spec.x.y"), 1),
            Edit::append(Path::fields("spec.z.list"), 1),
            Edit::append(Path::fields("spec.z.list"), 2),
            Edit::append(Path::fields("spec.z.list"), 1),
            Edit::remove(Path::fields("metadata.labels").key("a/b")),
            Edit::remove(Path::fields("status")),
        ];
        assert_eq!(
            json!(json_patch(&object, &edits).unwrap()),
            json!([
                { "op": "replace", "path": "/metadata/labels/a~1b", "value": "2" },
                { "op": "replace", "path": "/spec/x", "value": { "y": 1 } },
                { "op": "add", "path": "/spec/z", "value": { "list": [1] } },
                { "op": "add", "path": "/spec/z/list/-", "value": 2 },
                { "op": "remove", "path": "/metadata/labels/a~1b" },
            ])
        );
    }
}
