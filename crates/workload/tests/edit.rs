//! Edits over made-up objects: what holds for every one of them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops where it fails; clippy sees only the test functions themselves"
)]

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use workload::Path;
use workload::edit::{Edit, apply, json_patch};
use workload::path::Segment;

/// Few names, so that edits meet each other and the object; two that a JSON Pointer must escape.
const NAMES: [&str; 5] = ["a", "b", "c", "d/e", "~1"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3).prop_map(Value::from)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(name(), inner, 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn path() -> impl Strategy<Value = Path> {
    let segment = prop_oneof![
        4 => name().prop_map(|name| Segment::Field(name.leak())),
        1 => name().prop_map(|name| Segment::Key(name.leak())),
        1 => (0_usize..3).prop_map(Segment::Index),
    ];
    vec(segment, 0..4).prop_map(|segments| {
        segments.iter().fold(Path::root(), |path, segment| match segment {
            Segment::Field(name) => path.field(name),
            Segment::Key(name) => path.key(name),
            Segment::Index(index) => path.index(*index),
        })
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (path(), value()).prop_map(|(path, value)| Edit::set(path, value)),
        (path(), value()).prop_map(|(path, value)| Edit::append(path, value)),
        path().prop_map(Edit::remove),
    ]
}

/// Whether it is the same twice as once by itself: removing an item of a list is not.
fn repeats(edit: &Edit) -> bool {
    !matches!((edit, edit.path().split_last().map(|(_, last)| last)), (Edit::Remove { .. }, Some(Segment::Index(_))))
}

/// RFC 6902, of its own: as strict as the standard is.
fn patched(mut object: Value, operations: &[Value]) -> Value {
    for operation in operations {
        let pointer = operation["path"].as_str().unwrap();
        let value = operation.get("value").cloned();
        let Some((parent, last)) = pointer.rsplit_once('/') else {
            assert_eq!(operation["op"], "replace");
            object = value.unwrap();
            continue;
        };
        let last = last.replace("~1", "/").replace("~0", "~");
        let parent = object.pointer_mut(parent).expect("a patch's parent must be there");
        match (operation["op"].as_str().unwrap(), parent) {
            ("add", Value::Object(fields)) => assert!(fields.insert(last, value.unwrap()).is_none(), "not new"),
            ("add", Value::Array(items)) if last == "-" => items.push(value.unwrap()),
            ("replace", Value::Object(fields)) => *fields.get_mut(&last).expect("is there") = value.unwrap(),
            ("replace", Value::Array(items)) => items[last.parse::<usize>().unwrap()] = value.unwrap(),
            ("remove", Value::Object(fields)) => drop(fields.remove(&last).expect("is there")),
            ("remove", Value::Array(items)) => drop(items.remove(last.parse::<usize>().unwrap())),
            (other, parent) => panic!("{other} in {parent}"),
        }
    }
    object
}

/// `object` with a field that nobody knows in every map.
fn planted(object: &Value) -> Value {
    match object {
        Value::Array(items) => items.iter().map(planted).collect(),
        Value::Object(fields) => {
            let mut fields: serde_json::Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), planted(value))).collect();
            fields.insert("future".to_owned(), json!({ "kept": [true] }));
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

/// Every place in `object` and its value.
fn places(object: &Value, path: Path, all: &mut Vec<(Path, Value)>) {
    all.push((path, object.clone()));
    match object {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, path.index(index), all);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                places(value, path.field(name.clone().leak()), all);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        max_global_rejects: 50_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_patch_and_the_edits_come_to_the_same(object in value(), edits in vec(edit(), 0..6)) {
        let mut edited = object.clone();
        match (apply(&mut edited, &edits), json_patch(&object, &edits)) {
            (Ok(()), Ok(operations)) => prop_assert_eq!(patched(object, &operations), edited),
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert!(false, "{:?} and {:?}", one, other),
        }
    }

    #[test]
    fn an_edit_made_twice_is_made_once(object in value(), edit in edit()) {
        let mut once = object;
        prop_assume!(repeats(&edit) && apply(&mut once, std::slice::from_ref(&edit)).is_ok());
        let mut twice = once.clone();
        prop_assert_eq!(apply(&mut twice, std::slice::from_ref(&edit)), Ok(()));
        prop_assert_eq!(&twice, &once);
        prop_assert_eq!(json_patch(&once, &[edit]), Ok(vec![]));
    }

    #[test]
    fn a_field_that_nobody_knows_survives(object in value(), edit in edit()) {
        let mut with = planted(&object);
        let before = with.clone();
        prop_assume!(apply(&mut with, std::slice::from_ref(&edit)).is_ok());
        // What the edit itself replaces or moves is its own affair.
        let target = edit.path().pointer();
        let list = match (&edit, edit.path().split_last()) {
            (Edit::Remove { .. }, Some((_, Segment::Index(_)))) => target.rsplit_once('/').map(|(list, _)| list.to_owned()),
            _ => None,
        };
        let mut all = Vec::new();
        places(&before, Path::root(), &mut all);
        for (path, value) in all {
            let pointer = path.pointer();
            let inside = |outer: &str| pointer == outer || pointer.starts_with(&format!("{outer}/"));
            // Null is where nothing is: an edit may make an object of it.
            let holds_target = target.starts_with(&format!("{pointer}/")) || target == pointer;
            if inside(&target) || list.as_deref().is_some_and(inside) || (holds_target && !value.is_object()) {
                continue;
            }
            match with.pointer(&pointer) {
                Some(after) if holds_target => prop_assert!(after.is_object(), "{} is no object any more", pointer),
                after => prop_assert_eq!(after, Some(&value), "{}", pointer),
            }
        }
    }

    #[test]
    fn what_is_set_is_there_and_what_is_removed_is_not(object in value(), edit in edit()) {
        let mut edited = object.clone();
        prop_assume!(apply(&mut edited, std::slice::from_ref(&edit)).is_ok());
        let pointer = edit.path().pointer();
        match &edit {
            Edit::Set { value, .. } => prop_assert_eq!(edited.pointer(&pointer), Some(value)),
            Edit::Append { value, .. } => {
                prop_assert!(edited.pointer(&pointer).and_then(Value::as_array).is_some_and(|list| list.contains(value)));
            }
            Edit::Remove { .. } if repeats(&edit) => prop_assert_eq!(edited.pointer(&pointer), None),
            Edit::Remove { .. } => {
                let list = pointer.rsplit_once('/').map_or("", |(list, _)| list);
                let items = |object: &Value| object.pointer(list).and_then(Value::as_array).map(Vec::len);
                let had = object.pointer(&pointer).is_some();
                prop_assert_eq!(items(&edited), items(&object).map(|count| count - usize::from(had)));
            }
        }
    }
}
