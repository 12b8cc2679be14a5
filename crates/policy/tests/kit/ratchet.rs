//! What an UPDATE may keep.

use serde_json::{Value, json};

use crate::probe::{Answer, Ask, FakeHost, annotated, budget, set, set_of};

fn update(old: &Value, new: &Value) -> Answer {
    Ask::update(old, new).answer()
}

#[test]
fn what_was_there_and_is_no_worse_is_a_warning() {
    for count in [9, 8, 6] {
        let answer = update(&set(9), &set(count));
        assert!(answer.accepted && answer.message.is_none());
        assert_eq!(answer.codes(), ["warning too-many"], "{count}");
        assert_eq!(answer.findings()[0]["kept"], true);
    }
    assert!(update(&set(9), &set(5)).is_silent());
}

#[test]
fn what_is_worse_or_new_is_denied() {
    let worse = update(&set(8), &set(9));
    assert_eq!(worse.codes(), ["error too-many"]);
    assert!(!worse.accepted && worse.findings()[0].get("kept").is_none());
    assert_eq!(update(&set(5), &set(6)).codes(), ["error too-many"]);
    let mut other = set(9);
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("zookeeper:latest");
    assert_eq!(update(&set(9), &other).codes(), ["warning too-many", "error latest"], "of another code");
}

#[test]
fn a_list_in_another_order_adds_nothing() {
    let old = set_of(&[("a", "a:latest"), ("b", "b:2"), ("c", "c:latest")]);
    let new = set_of(&[("new", "new:1"), ("c", "c:latest"), ("a", "a:latest"), ("b", "b:2")]);
    assert_eq!(update(&old, &new).codes(), ["warning latest", "warning latest"]);
    let moved = set_of(&[("a", "a:1"), ("b", "b:latest"), ("c", "c:latest")]);
    let answer = update(&old, &moved);
    assert_eq!(answer.codes(), ["error latest", "warning latest"], "the same place is not the same subject");
    assert_eq!(answer.findings()[0]["subject"], "b");
}

#[test]
fn one_old_finding_excuses_one_new_one() {
    let old = set_of(&[("a", "a:latest"), ("b", "b:1")]);
    let new = set_of(&[("a", "a:latest"), ("a", "b:latest")]);
    assert_eq!(update(&old, &new).codes(), ["warning latest", "error latest"]);
}

#[test]
fn enforce_denies_what_was_there_too() {
    let ask = Ask::update(&set(9), &set(9)).set("onUpdate", json!("enforce"));
    assert_eq!(ask.answer().codes(), ["error too-many"]);
}

#[test]
fn an_immutable_field_is_kept_even_then() {
    let sinner = annotated(set(3), "wish/immutable", "must be set");
    for mode in ["ratchet", "enforce"] {
        let answer = Ask::update(&sinner, &sinner).set("onUpdate", json!(mode)).answer();
        assert!(answer.accepted, "{mode}");
        assert_eq!(answer.codes(), ["warning no-service"]);
    }
    assert_eq!(Ask::create(&sinner).answer().codes(), ["error no-service"]);
}

#[test]
fn a_finding_in_another_object_is_another_finding() {
    let host =
        |first: i64, second: i64| FakeHost::default().with(budget("first", first)).with(budget("second", second));
    let asks = annotated(set(3), "wish/budgets", "");
    let both = Ask::update(&asks, &asks).answer_of(&host(10, 11));
    assert_eq!(both.codes(), ["warning unsound", "warning unsound"]);
    // The budget itself was bad before: what is in another one is still new to it, if its own was no worse.
    let (old, new) = (budget("first", 10), annotated(budget("first", 3), "wish/budgets", ""));
    let answer = Ask::update(&old, &new).answer_of(&host(10, 11));
    assert_eq!(answer.codes(), ["error unsound"], "{answer:?}");
    assert_eq!(answer.findings()[0]["object"]["name"], "second");
}

#[test]
fn what_was_malformed_before_is_not_in_the_way_of_its_repair() {
    let (broken, mended) =
        (annotated(set(3), "quorate.dev/quorum", "perhaps"), annotated(set(3), "quorate.dev/quorum", "none"));
    for mode in ["ratchet", "enforce"] {
        let answer = Ask::update(&broken, &mended).set("onUpdate", json!(mode)).answer();
        assert!(answer.accepted && answer.codes().is_empty(), "{answer:?}");
    }
    let answer = Ask::create(&broken).answer();
    assert_eq!(
        answer.message.as_deref(),
        Some(
            "metadata.annotations[quorate.dev/quorum]: Invalid value: \"perhaps\": must be majority or none; correct the annotation"
        )
    );
    let kept = Ask::update(&broken, &broken).answer();
    assert_eq!(kept.codes(), ["warning malformed"], "an old sin like any other");
}

#[test]
fn an_update_without_its_old_object_is_judged_as_if_all_were_new() {
    let answer = Ask::update(&set(9), &set(9)).without("oldObject").answer();
    assert_eq!(answer.codes(), ["error too-many"]);
}

#[test]
fn where_the_old_object_cannot_be_judged_nothing_is_denied_and_that_is_told() {
    let old = annotated(set(9), "wish/budgets", "");
    let host = FakeHost::granting_nothing(&["PodDisruptionBudget"]);
    let answer = Ask::update(&old, &set(9)).answer_of(&host);
    assert!(answer.accepted);
    assert_eq!(answer.codes(), ["warning too-many"]);
    assert!(answer.warnings[1].starts_with("probe cannot tell what is new: this policy may not look up policy/v1"));
    let enforced = Ask::update(&old, &set(9)).set("onUpdate", json!("enforce")).answer_of(&host);
    assert_eq!(enforced.codes(), ["error too-many"], "which does not compare");
}
