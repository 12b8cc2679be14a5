//! Mutation is nothing but applying the findings' edits.

use serde_json::{Value, json};

use crate::probe::{Answer, Ask, annotated, budget, set, set_of};

fn mutating(ask: Ask) -> Answer {
    ask.set("mutate", json!(true)).answer()
}

#[test]
fn it_is_off_unless_the_settings_say_otherwise() {
    assert!(Ask::create(&set(9)).answer().mutated_object.is_none());
    assert_eq!(mutating(Ask::create(&set(9))).mutated_object, Some(set(5)));
}

#[test]
fn the_received_object_is_edited_in_place_and_everything_else_survives() {
    let mut object = set(9);
    object["metadata"]["creationTimestamp"] = Value::Null;
    object["metadata"]["labels"] = json!({ "app": "zk", "": null });
    object["spec"]["futureField"] = json!({ "a": [1, 2.5, null, { "b": [] }], "c": {} });
    object["spec"]["template"]["spec"]["containers"][0]["futureField"] = json!(18_446_744_073_709_551_615_u64);
    object["status"] = json!({});
    let mut expected = object.clone();
    expected["spec"]["replicas"] = json!(5);
    expected["metadata"]["labels"]["team"] = json!("unknown");
    let answer = mutating(Ask::create(&object).set("labels", json!(["team"])));
    assert!(answer.accepted && answer.message.is_none());
    assert_eq!(answer.mutated_object, Some(expected), "no default of the completed copy is in it either");
    assert!(answer.codes().is_empty(), "nothing is left to say of it: {answer:?}");
}

#[test]
fn twice_is_once() {
    let first = mutating(Ask::create(&set(9))).mutated_object.unwrap();
    let second = mutating(Ask::create(&first));
    assert!(second.is_silent());
}

#[test]
fn items_are_removed_without_moving_each_other() {
    let mut object = set_of(&[("a", "a:latest"), ("b", "b:latest")]);
    let containers = &mut object["spec"]["template"]["spec"]["containers"];
    containers[0]["args"] = json!(["--unsafe-1", "x", "--unsafe-2", "--unsafe-3", "y"]);
    containers[1]["args"] = json!(["--unsafe-1"]);
    let answer = mutating(Ask::create(&object));
    assert!(answer.accepted, "{answer:?}");
    let mutated = answer.mutated_object.unwrap();
    let containers = &mutated["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["args"], &containers[1]["args"]), (&json!(["x", "y"]), &json!([])));
    assert_eq!(containers[1]["image"], "b:1");
}

#[test]
fn a_template_is_changed_on_create_and_where_the_update_changes_it() {
    let image = |answer: Answer| {
        answer.mutated_object.map(|object| object["spec"]["template"]["spec"]["containers"][0]["image"].clone())
    };
    let (sound, latest) = (set_of(&[("a", "a:2")]), set_of(&[("a", "a:latest")]));
    assert_eq!(image(mutating(Ask::create(&latest))), Some(json!("a:1")));
    assert_eq!(image(mutating(Ask::update(&sound, &latest))), Some(json!("a:1")));
    // The template stays, and only the settings make it wrong: to change it would restart every member.
    let enforced = mutating(Ask::update(&latest, &latest).set("onUpdate", json!("enforce")));
    assert!(!enforced.accepted && enforced.mutated_object.is_none());
    let warned = mutating(
        Ask::update(&latest, &annotated(latest.clone(), "a", "b"))
            .set("onUpdate", json!("enforce"))
            .set("action", json!("warn")),
    );
    assert!(warned.accepted && warned.mutated_object.is_none());
}

#[test]
fn the_count_is_mended_where_the_template_must_stay() {
    let (mut old, mut new) = (set_of(&[("a", "a:latest")]), set_of(&[("a", "a:latest")]));
    old["spec"]["replicas"] = json!(3);
    new["spec"]["replicas"] = json!(9);
    let answer = mutating(Ask::update(&old, &new));
    assert!(answer.accepted);
    assert_eq!(answer.codes(), ["warning latest"]);
    new["spec"]["replicas"] = json!(5);
    assert_eq!(answer.mutated_object, Some(new));
}

#[test]
fn a_pods_own_spec_is_changed_on_create_only() {
    let pod = |image: &str| json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": image }] } });
    assert!(mutating(Ask::create(&pod("x:latest"))).mutated_object.is_some());
    let update = mutating(Ask::update(&pod("x:1"), &pod("x:latest")));
    assert!(!update.accepted && update.mutated_object.is_none(), "the API server would refuse the change");
}

#[test]
fn what_is_kept_is_not_mended() {
    let answer = mutating(Ask::update(&set(9), &set(8)));
    assert!(answer.accepted && answer.mutated_object.is_none());
    assert_eq!(answer.codes(), ["warning too-many"]);
}

#[test]
fn a_denied_object_is_not_mutated_and_all_its_findings_are_told() {
    let answer = mutating(Ask::create(&set(100)).set("labels", json!(["team"])));
    assert!(!answer.accepted && answer.mutated_object.is_none());
    assert_eq!(answer.codes(), ["error no-label", "error too-many"], "also those that could have been mended");
    assert_eq!(answer.findings()[0]["patch"][0]["op"], "add");
}

#[test]
fn under_action_warn_what_can_be_mended_is() {
    let answer = mutating(Ask::create(&set(100)).set("labels", json!(["team"])).set("action", json!("warn")));
    assert!(answer.accepted);
    assert_eq!(answer.codes(), ["warning too-many"]);
    assert_eq!(answer.mutated_object.unwrap()["metadata"]["labels"]["team"], "unknown");
}

#[test]
fn a_deletion_is_not_mutated() {
    let answer = mutating(Ask::delete(&budget("zk", 1)).set("action", json!("warn")));
    assert!(answer.accepted && answer.mutated_object.is_none(), "the host denies what changes nothing that is there");
    assert_eq!(answer.codes(), ["warning deleted"]);
}

#[test]
fn edits_that_do_not_fit_change_nothing() {
    let mut object = set(9);
    object["metadata"]["labels"] = json!({ "app": "zk" });
    object["spec"]["replicas"] = json!(9.5);
    let answer = mutating(Ask::create(&object).set("labels", json!(["team"])));
    assert!(!answer.accepted && answer.mutated_object.is_none());
    assert_eq!(answer.codes(), ["error malformed"]);
}
