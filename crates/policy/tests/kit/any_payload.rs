//! Whatever is asked, there is an answer that can be read.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::probe::{Ask, FakeHost, Probe, budget, set};

/// Any JSON, with the names that the kit reads among its keys and values.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("metadata".to_owned()),
        Just("spec".to_owned()),
        Just("annotations".to_owned()),
        Just("labels".to_owned()),
        Just("ownerReferences".to_owned()),
        Just("controller".to_owned()),
        Just("apiVersion".to_owned()),
        Just("kind".to_owned()),
        Just("name".to_owned()),
        Just("replicas".to_owned()),
        Just("template".to_owned()),
        Just("containers".to_owned()),
        Just("image".to_owned()),
        Just("args".to_owned()),
        Just("wish/budgets".to_owned()),
        Just("quorate.dev/exempt-probe".to_owned()),
        Just("quorate.dev/quorum".to_owned()),
        Just("x:latest".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(word.clone(), inner, 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The pointer of some place in `value`, by a number.
fn place(value: &Value, mut which: usize) -> String {
    let mut pointer = String::new();
    let mut here = value;
    loop {
        let children: Vec<(String, &Value)> = match here {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
            _ => return pointer,
        };
        if children.is_empty() {
            return pointer;
        }
        let choice = which % (children.len() + 1);
        which /= children.len() + 1;
        let Some((key, child)) = children.get(choice) else { return pointer };
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        here = child;
    }
}

fn check(payload: &[u8], held: Option<Value>) -> Result<(), TestCaseError> {
    let host = held.into_iter().fold(FakeHost::default(), |host, mut object| {
        object["kind"] = json!("PodDisruptionBudget");
        host.with(object)
    });
    let bytes = policy::validate::<Probe>(payload, &host);
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    let accepted = answer["accepted"].as_bool();
    prop_assert!(accepted.is_some());
    prop_assert_eq!(accepted == Some(false), answer["message"].is_string(), "{}", answer);
    prop_assert!(answer.get("mutated_object").is_none() || accepted == Some(true));
    let settings: Value = serde_json::from_slice(&policy::validate_settings::<Probe>(payload)).unwrap();
    prop_assert!(settings["valid"].is_boolean());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes, None)?;
    }

    #[test]
    fn any_json_is_answered(payload in any_json()) {
        check(payload.to_string().as_bytes(), None)?;
    }

    #[test]
    fn any_object_is_answered(object in any_json(), old in option::of(any_json()), settings in any_json(), mutate: bool) {
        let sets = Ask::create(&set(3)).field("object", object.clone());
        let sets = match &old { Some(old) => sets.field("operation", json!("UPDATE")).field("oldObject", old.clone()), None => sets };
        for settings in [json!({ "mutate": mutate, "labels": ["x"] }), settings] {
            check(json!({ "request": sets.request, "settings": settings }).to_string().as_bytes(), None)?;
        }
    }

    /// One thing somewhere in an otherwise sound request, or in what is looked up, is anything else.
    #[test]
    fn anything_anywhere_in_a_sound_request_is_answered(which: usize, anything in any_json(), mutate: bool, shape in 0..4) {
        let mut asks = crate::probe::annotated(set(9), "wish/budgets", "");
        asks["metadata"]["ownerReferences"] = json!([{ "apiVersion": "a/v1", "kind": "K", "name": "n", "controller": false }]);
        let ask = match shape {
            0 => Ask::create(&asks),
            1 => Ask::update(&set(6), &asks),
            2 => Ask::delete(&crate::probe::annotated(budget("b", 1), "wish/budgets", "")),
            _ => Ask::scale("zk", &json!({ "replicas": 3 }), &json!({ "replicas": 9 })),
        };
        let mut payload = json!({ "request": ask.request, "settings": { "mutate": mutate, "labels": ["x"] } });
        let pointer = place(&payload, which);
        *payload.pointer_mut(&pointer).unwrap() = anything.clone();
        check(payload.to_string().as_bytes(), Some(budget("held", 1)))?;
        let mut held = budget("held", 1);
        let pointer = place(&held["spec"], which);
        *held["spec"].pointer_mut(&pointer).unwrap() = anything;
        check(json!({ "request": ask.request }).to_string().as_bytes(), Some(held))?;
    }
}
