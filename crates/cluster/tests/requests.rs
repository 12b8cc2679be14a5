//! Requests built here against reviews that a real 1.36 API server sent.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;

use cluster::request::{Operation, RequestError, UserInfo};
use cluster::{AdmissionRequest, ObjectError, Requests, Resources};
use serde_json::{Value, json};

fn captured(name: &str) -> Value {
    let path = format!("{}/tests/reviews/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut review: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut request = review["request"].take();
    // The host drops what is null.
    request.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    request
}

/// The request without what the server makes up and what tells the client.
fn comparable(mut request: Value) -> Value {
    for key in ["uid", "userInfo"] {
        assert!(request[key].is_string() || request[key].is_object(), "{key}");
        request.as_object_mut().unwrap().remove(key);
    }
    let options = request["options"].as_object_mut().unwrap();
    for key in ["fieldManager", "fieldValidation", "preconditions"] {
        options.remove(key);
    }
    request
}

fn json_of(request: &AdmissionRequest<'_>) -> Value {
    serde_json::to_value(request).unwrap()
}

fn built_in() -> Resources {
    Resources::built_in()
}

#[test]
fn creations_are_as_captured() {
    for name in ["statefulset-create", "pdb-create", "hpa-create"] {
        let wanted = captured(name);
        let resources = built_in();
        let built = Requests::new(&resources).create(&wanted["object"]).map(|r| json_of(&r)).unwrap();
        assert_eq!(comparable(built), comparable(wanted), "{name}");
    }
}

#[test]
fn updates_are_as_captured() {
    for name in ["pdb-update", "statefulset-update-set-image"] {
        let wanted = captured(name);
        let resources = built_in();
        let built =
            Requests::new(&resources).update(&wanted["object"], &wanted["oldObject"]).map(|r| json_of(&r)).unwrap();
        assert_eq!(comparable(built), comparable(wanted), "{name}");
    }
}

#[test]
fn deletions_are_as_captured_and_a_namespace_is_in_itself() {
    for name in ["statefulset-delete-background", "namespace-delete-kubectl"] {
        let wanted = captured(name);
        let resources = built_in();
        let built = Requests::new(&resources).delete(&wanted["oldObject"]).map(|r| json_of(&r)).unwrap();
        assert_eq!(built.get("object"), None);
        assert_eq!(comparable(built), comparable(wanted), "{name}");
    }
}

#[test]
fn scales_are_as_captured() {
    for (name, kind) in
        [("statefulset-scale-kubectl-scale", "StatefulSet"), ("deployment-scale-kubectl-scale", "Deployment")]
    {
        let wanted = captured(name);
        let mut metadata = wanted["object"]["metadata"].clone();
        metadata["labels"] = json!({"not": "told"});
        let (label, value) = wanted["object"]["status"]["selector"].as_str().unwrap().split_once('=').unwrap();
        let workload = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata,
            "spec": {"selector": {"matchLabels": {label: value}}}, "status": wanted["object"]["status"]});
        let count = |object: &str| i32::try_from(wanted[object]["spec"]["replicas"].as_i64().unwrap()).unwrap();
        let resources = built_in();
        let built = Requests::new(&resources).scale(&workload, count("oldObject"), count("object")).unwrap();
        assert_eq!(comparable(json_of(&built)), comparable(wanted), "{name}");
    }
}

#[test]
fn a_scale_to_zero_leaves_the_count_out_as_the_server_does() {
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {}});
    let resources = built_in();
    let request = Requests::new(&resources).scale(&set, 3, 0).unwrap();
    let object = request.object.unwrap();
    assert_eq!(object["spec"], json!({}));
    assert_eq!(object["status"], json!({"replicas": 3}));
    assert_eq!(object["metadata"], json!({"name": "s", "namespace": "default"}));
}

#[test]
fn the_request_and_the_object_name_the_default_namespace() {
    let resources = built_in();
    let requests = Requests::new(&resources);
    for metadata in
        [json!({"name": "p"}), json!({"name": "p", "namespace": ""}), json!({"name": "p", "namespace": null})]
    {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        let request = requests.create(&pod).unwrap();
        assert_eq!(request.namespace.as_deref(), Some("default"));
        assert_eq!(request.object.unwrap()["metadata"], json!({"name": "p", "namespace": "default"}));
    }
    for (bare, wanted) in [(json!({}), json!({"namespace": "default"})), (Value::Null, json!({"namespace": "default"}))]
    {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": bare});
        let request = requests.create(&pod).unwrap();
        assert_eq!((request.name, &request.object.unwrap()["metadata"]), (None, &wanted));
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    let request = json_of(&requests.create(&node).unwrap());
    assert_eq!((request.get("namespace"), &request["object"]), (None, &node));
    // An object that says it all is not copied.
    let whole = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}});
    assert!(matches!(requests.create(&whole).unwrap().object, Some(std::borrow::Cow::Borrowed(_))));
}

#[test]
fn a_removed_version_is_sent_as_its_replacement() {
    let old = json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": "67%", "selector": {"matchLabels": {"app": "x"}}}});
    let resources = built_in();
    let request = json_of(&Requests::new(&resources).create(&old).unwrap());
    assert_eq!(request["kind"], json!({"group": "policy", "version": "v1", "kind": "PodDisruptionBudget"}));
    assert_eq!(request["resource"], json!({"group": "policy", "version": "v1", "resource": "poddisruptionbudgets"}));
    assert_eq!(request["requestKind"]["version"], "v1beta1");
    assert_eq!(request["requestResource"]["version"], "v1beta1");
    assert_eq!(request["object"]["apiVersion"], "policy/v1");
    assert_eq!(request["object"]["spec"], old["spec"]);

    let extension =
        json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {}});
    let request = json_of(&Requests::new(&resources).create(&extension).unwrap());
    assert_eq!(
        (&request["resource"]["group"], &request["requestResource"]["group"]),
        (&json!("apps"), &json!("extensions"))
    );
    // Without a replacement it stays what it is.
    let gone = json!({"apiVersion": "policy/v1beta1", "kind": "PodSecurityPolicy", "metadata": {"name": "p"}});
    let request = json_of(&Requests::new(&resources).create(&gone).unwrap());
    assert_eq!((&request["resource"]["resource"], &request["object"]), (&json!("podsecuritypolicies"), &gone));
    assert_eq!(request.get("namespace"), None);
}

#[test]
fn an_update_may_change_the_version_but_not_the_object() {
    let resources = built_in();
    let requests = Requests::new(&resources);
    let budget = |api_version: &str, namespace: &str, name: &str| json!({"apiVersion": api_version, "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": namespace}});
    let (old, new) = (budget("policy/v1beta1", "a", "b"), budget("policy/v1", "a", "b"));
    let request = requests.update(&new, &old).unwrap();
    assert_eq!(request.old_object.unwrap()["apiVersion"], "policy/v1");
    let workload =
        |api_version: &str| json!({"apiVersion": api_version, "kind": "Deployment", "metadata": {"name": "d"}});
    assert!(requests.update(&workload("apps/v1"), &workload("extensions/v1beta1")).is_ok());
    let field = |old: &Value| match requests.update(&new, old).unwrap_err() {
        RequestError::Mismatch { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(&budget("policy/v1", "a", "c")), "metadata.name");
    assert_eq!(field(&budget("policy/v1", "c", "b")), "metadata.namespace");
    assert_eq!(field(&budget("other.io/v1", "a", "b")), "group");
    assert_eq!(field(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}})), "kind");
    let nameless = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "b-"}});
    assert_eq!(requests.update(&nameless, &nameless).unwrap_err(), RequestError::NoName);
    let told = requests.update(&new, &json!({})).unwrap_err().to_string();
    assert_eq!(told, "the old object: apiVersion: Required value");
}

#[test]
fn what_cannot_be_asked_for_is_an_error() {
    let resources = built_in();
    let requests = Requests::new(&resources);
    assert_eq!(requests.create(&json!([])).unwrap_err(), ObjectError::NotAnObject { found: "a sequence" }.into());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    assert_eq!(requests.scale(&pod, 1, 2).unwrap_err().to_string(), "v1/Pod has no scale subresource");
    let nameless = json!({"apiVersion": "v1", "kind": "Pod"});
    assert_eq!(requests.delete(&nameless).unwrap_err(), RequestError::NoName);
}

#[test]
fn uids_are_the_same_in_every_run_and_different_for_every_request() {
    let resources = built_in();
    let requests = Requests::new(&resources);
    let set = |name: &str| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}});
    let (a, b) = (set("a"), set("b"));
    let uids = [
        requests.create(&a).unwrap().uid,
        requests.update(&a, &a).unwrap().uid,
        requests.delete(&a).unwrap().uid,
        requests.scale(&a, 1, 2).unwrap().uid,
        requests.create(&b).unwrap().uid,
    ];
    assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), uids.len());
    assert_eq!(uids[0], requests.create(&a).unwrap().uid);
    for uid in &uids {
        let groups: Vec<usize> = uid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{uid}");
        assert_eq!(&uid[14..15], "8", "{uid}");
        assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"), "{uid}");
    }
}

#[test]
fn user_and_dry_run_are_told() {
    let resources = built_in();
    let user = UserInfo { username: "jane".to_owned(), groups: vec![], ..UserInfo::default() };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    let request = Requests::new(&resources).user(user).dry_run(true).create(&pod).unwrap();
    assert_eq!(request.operation, Operation::Create);
    let request = json_of(&request);
    assert_eq!(request["userInfo"], json!({"username": "jane"}));
    assert_eq!((&request["dryRun"], &request["options"]["dryRun"]), (&json!(true), &json!(["All"])));
    let request = json_of(&Requests::new(&resources).create(&pod).unwrap());
    assert_eq!((&request["dryRun"], request["options"].get("dryRun")), (&json!(false), None));
    assert_eq!(request["userInfo"], json!({"username": "quorate", "groups": ["system:authenticated"]}));
}
