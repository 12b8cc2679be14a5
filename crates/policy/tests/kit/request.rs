//! Requests as the host really sends them, and as it never would.

use serde_json::{Value, json};

use crate::probe::{Ask, FakeHost, ask, budget, set};

fn refusal(payload: &str) -> String {
    let answer = ask(payload.as_bytes(), &FakeHost::default());
    assert!(!answer.accepted, "{answer:?}");
    answer.message.unwrap()
}

#[test]
fn an_even_simpler_request_than_the_api_servers_is_read() {
    let request =
        json!({ "kind": { "group": "apps", "kind": "StatefulSet" }, "operation": "CREATE", "object": set(6) });
    let answer = ask(json!({ "request": request }).to_string().as_bytes(), &FakeHost::default());
    assert_eq!(answer.codes(), ["error too-many"]);
}

#[test]
fn an_explicit_null_is_an_absent_field() {
    let mut request = Ask::create(&set(6)).request;
    for field in ["oldObject", "subResource", "name", "namespace", "userInfo", "dryRun", "options", "resource"] {
        request[field] = Value::Null;
    }
    request["kind"]["version"] = Value::Null;
    let payload = json!({ "request": request, "settings": null }).to_string();
    assert_eq!(ask(payload.as_bytes(), &FakeHost::default()).codes(), ["error too-many"]);

    let mut core = Ask::create(&json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "x:latest" }] } }));
    core.request["kind"]["group"] = Value::Null;
    core.request["resource"]["group"] = Value::Null;
    core.request["userInfo"]["username"] = Value::Null;
    assert_eq!(core.answer().codes(), ["error latest"]);
}

#[test]
fn fields_that_nobody_reads_are_left_unread() {
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    let request = Ask::create(&set(6)).request.to_string();
    let request = request.replacen('{', &format!("{{\"options\": {deep}, \"extra\": {{\"a\": {deep}}},"), 1);
    let answer = ask(format!("{{\"more\": {deep}, \"request\": {request}}}").as_bytes(), &FakeHost::default());
    assert_eq!(answer.codes(), ["error too-many"]);
}

#[test]
fn a_name_may_be_absent() {
    let mut generated = set(6);
    generated["metadata"] = json!({ "generateName": "zk-" });
    assert_eq!(Ask::create(&generated).without("name").answer().codes(), ["error too-many"]);
    // The deletion of a collection has no name, and so none to be exempt by but the object's.
    let one_of_many = Ask::delete(&budget("zk", 1)).without("name");
    assert_eq!(one_of_many.answer().codes(), ["error deleted"]);
    assert!(one_of_many.set("exempt", json!({ "names": ["zk"] })).answer().is_silent());
}

#[test]
fn broken_json_is_denied_with_the_place() {
    assert!(refusal("").contains("the admission request cannot be read: EOF"));
    assert!(refusal("{\"request\": {").contains("line 1 column"));
    assert!(refusal("{}").contains("missing field `request`"));
    assert!(refusal("[]").contains("the admission request cannot be read"));
    assert!(refusal("{\"request\": null}").contains("the admission request cannot be read"));
    let answer = ask(b"{\"request\": \xff}", &FakeHost::default());
    assert!(answer.message.unwrap().contains("cannot be read"));
}

#[test]
fn a_field_that_is_there_twice_is_denied() {
    for payload in [r#"{"request": {}, "request": {}}"#, r#"{"request": {"object": {}, "object": {}}}"#] {
        assert!(refusal(payload).contains("the same field twice: "), "{payload}");
    }
}

#[test]
fn a_request_of_wrong_types_is_denied() {
    for (field, value) in [
        ("kind", json!("StatefulSet")),
        ("resource", json!("statefulsets")),
        ("name", json!(1)),
        ("namespace", json!({})),
        ("operation", json!(["CREATE"])),
        ("userInfo", json!("eve")),
        ("dryRun", json!("yes")),
        ("subResource", json!(false)),
    ] {
        let answer = Ask::create(&set(3)).field(field, value).answer();
        assert!(!answer.accepted, "{field}");
        let message = answer.message.unwrap();
        assert!(message.contains(&format!("{field}: ")) && message.contains(": must be "), "{message}");
    }
    for value in [json!("text"), json!([1]), json!(7)] {
        let answer = Ask::create(&set(3)).field("object", value).answer();
        assert_eq!(answer.message.unwrap(), "object of StatefulSet zk cannot be read: it must be an object");
    }
}

#[test]
fn an_unknown_operation_is_denied_by_name() {
    let message = |ask: Ask| ask.answer().message.unwrap();
    assert_eq!(
        message(Ask::create(&set(3)).field("operation", json!("PATCH"))),
        "the admission request of StatefulSet zk cannot be read: operation: \"PATCH\": must be CREATE, UPDATE, DELETE or CONNECT"
    );
    assert!(message(Ask::create(&set(3)).without("operation")).contains("operation: null: must be"));
}

#[test]
fn an_object_that_must_be_there_and_is_not_is_no_silent_pass() {
    for operation in ["CREATE", "UPDATE"] {
        let answer = Ask::create(&set(3)).field("operation", json!(operation)).field("object", Value::Null).answer();
        assert_eq!(
            answer.message.unwrap(),
            format!("object of StatefulSet zk cannot be read: {operation} must have one")
        );
    }
    // A DELETE without its object comes from an API server of long ago, and is not in anybody's way.
    assert!(Ask::delete(&budget("zk", 1)).without("oldObject").answer().is_silent());
}

/// An object whose annotations, or what stands in their place, are nested so deep.
fn nested(levels: usize, name: &str) -> String {
    let deep = "[".repeat(levels) + &"]".repeat(levels);
    format!("{{\"apiVersion\":\"apps/v1\",\"kind\":\"StatefulSet\",{name},\"spec\":{{\"deep\":{deep}}}}}")
}

fn with_object(request: &Ask, field: &str, object: &str) -> String {
    let text = json!({ "request": request.clone().field(field, json!("HERE")).request }).to_string();
    text.replace("\"HERE\"", object)
}

#[test]
fn more_than_128_levels_are_denied_with_the_objects_name() {
    let named = "\"metadata\":{\"name\":\"zk\"}";
    let create = Ask::create(&set(3));
    let readable = ask(with_object(&create, "object", &nested(120, named)).as_bytes(), &FakeHost::default());
    assert!(readable.is_silent(), "{readable:?}");
    for levels in [128, 1_000, 100_000] {
        let message = refusal(&with_object(&create, "object", &nested(levels, named)));
        assert!(message.starts_with("object of StatefulSet zk cannot be read: recursion limit exceeded"), "{message}");
        assert!(message.contains("nested more than 128 levels deep"), "{message}");
    }
    let message = refusal(&with_object(&create.clone().without("name"), "object", &nested(1_000, named)));
    assert!(message.starts_with("object of StatefulSet zk cannot"), "the request had no name: {message}");
    let generated = "\"metadata\":{\"generateName\":\"zk-\"}";
    let message = refusal(&with_object(&create.clone().without("name"), "object", &nested(1_000, generated)));
    assert!(message.starts_with("object of StatefulSet zk- cannot"), "{message}");
    let update = Ask::update(&set(3), &set(3));
    assert!(
        refusal(&with_object(&update, "oldObject", &nested(1_000, named))).starts_with("oldObject of StatefulSet zk")
    );
}

#[test]
fn what_cannot_be_read_is_in_nobodys_way_where_nothing_would_be_judged() {
    let named = "\"metadata\":{\"name\":\"zk\"}";
    let volcano = Ask::create(&set(3)).field("kind", json!({ "group": "x.io", "kind": "StatefulSet" }));
    let cleaner = Ask::update(&set(3), &set(3)).user("system:serviceaccount:kube-system:generic-garbage-collector");
    for request in [volcano, cleaner] {
        let payload = with_object(&request, "object", &nested(1_000, named));
        assert!(ask(payload.as_bytes(), &FakeHost::default()).is_silent());
    }
}

#[test]
fn a_huge_object_is_read() {
    let mut object = set(6);
    object["metadata"]["annotations"] = json!({ "big": "x".repeat(8_000_000) });
    assert_eq!(Ask::create(&object).answer().codes(), ["error too-many"]);
}

#[test]
fn a_field_that_kubernetes_refuses_is_denied_with_its_place() {
    let mut object = set(3);
    object["spec"]["replicas"] = json!("three");
    let answer = Ask::create(&object).answer();
    assert_eq!(
        answer.message.as_deref(),
        Some(
            "spec.replicas: Invalid value: \"three\": must be a whole number; the API server refuses this too; correct the field"
        )
    );
    for (pointer, value) in [
        ("/metadata", json!([])),
        ("/metadata/labels", json!("a")),
        ("/metadata/annotations", json!([1])),
        ("/metadata/ownerReferences", json!({})),
        ("/spec", json!(1)),
        ("/spec/template/spec/containers", json!({})),
    ] {
        let mut object = set(3);
        object["metadata"]["annotations"] = json!({});
        object["metadata"]["ownerReferences"] = json!([]);
        *object.pointer_mut(pointer).unwrap() = value;
        let answer = Ask::create(&object).set("labels", json!(["app"])).answer();
        assert_eq!(answer.codes(), ["error malformed"], "{pointer}: {answer:?}");
        assert_eq!(answer.findings()[0]["path"], pointer);
    }
}

#[test]
fn control_characters_of_a_name_do_not_reach_the_message() {
    let payload = with_object(&Ask::create(&set(3)).field("name", json!("a\nb\u{1b}[31m")), "object", "[]");
    assert_eq!(refusal(&payload), "object of StatefulSet a b [31m cannot be read: it must be an object");
}
