//! Host calls against a small cluster: order of the checks, texts, shapes of the answers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use cluster::calls::LogEvent;
use cluster::grants::ContextAwareResource;
use cluster::{Cluster, Grants};
use serde_json::{Value, json};

const BUDGET: (&str, &str) = ("policy/v1", "PodDisruptionBudget");

fn cluster() -> Cluster {
    let objects = [
        json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "old", "namespace": "a", "labels": {"app": "x"}}, "spec": {"minAvailable": 1, "selector": {}}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "new", "namespace": "a",
            "managedFields": [{"manager": "m"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "1"}},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "x"}}},
            "status": {"currentHealthy": 3}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "here"}, "spec": {}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "z"}}}),
        json!({"apiVersion": "e.com/v1", "kind": "Zoo", "metadata": {"name": "z", "namespace": "a"}, "spec": {"n": 1}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "a"},
            "spec": {"minReplicas": 2, "maxReplicas": 4, "targetCPUUtilizationPercentage": 70}}),
    ];
    Cluster::new(objects.into_iter().map(Arc::new))
}

fn granted() -> Grants {
    let kinds = [
        BUDGET,
        ("v1", "Node"),
        ("v1", "Secret"),
        ("e.com/v1", "Zoo"),
        ("e.com/v1", "Gone"),
        ("policy/v1beta1", "PodDisruptionBudget"),
        ("autoscaling/v1", "HorizontalPodAutoscaler"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ];
    Grants::cluster_wide(kinds.map(|(v, k)| ContextAwareResource { api_version: v.to_owned(), kind: k.to_owned() }))
}

fn call_as(grants: &Grants, operation: &str, payload: &Value) -> Result<Value, String> {
    let payload = serde_json::to_vec(payload).unwrap();
    let answer = cluster().call(grants, "kubernetes", operation, &payload).map_err(|e| e.to_string())?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

fn call(operation: &str, payload: &Value) -> Result<Value, String> {
    call_as(&granted(), operation, payload)
}

fn list(av: &str, kind: &str, namespace: &str, more: &Value) -> Result<Value, String> {
    // The SDK writes every absent option as null.
    let mut payload = json!({"api_version": av, "kind": kind, "namespace": namespace, "label_selector": null,
        "field_selector": null, "field_masks": null});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call("list_resources_by_namespace", &payload)
}

fn get(av: &str, kind: &str, namespace: Option<&str>, name: &str) -> Result<Value, String> {
    let payload =
        json!({"api_version": av, "kind": kind, "name": name, "namespace": namespace, "disable_cache": false});
    call("get_resource", &payload)
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn checks_come_in_the_hosts_order_with_the_hosts_texts() {
    let cluster = cluster();
    let told = |grants: &Grants, binding: &str, namespace: &str, operation: &str, payload: &str| {
        let answer = cluster.host_call(grants, binding, namespace, operation, payload.as_bytes(), &mut |_| {});
        answer.unwrap_err().to_string()
    };
    let (none, all) = (Grants::default(), Grants::cluster_wide([]));
    assert_eq!(told(&none, "other", "nonsense", "x", "{"), "unknown binding: other");
    assert_eq!(
        told(&none, "kubewarden", "nonsense", "x", "{"),
        "Policy has not been granted access to the 'nonsense/x' host capability. The violation has been reported."
    );
    assert_eq!(
        told(&none, "kubewarden", "kubernetes", "list_resources_by_namespace", "{"),
        "Policy has not been granted access to the 'kubernetes/list_resources_by_namespace' host capability. The violation has been \
         reported."
    );
    assert_eq!(told(&all, "kubewarden", "nonsense", "x", "{"), "unknown namespace: nonsense");
    for namespace in ["kubernetes", "oci", "net", "crypto"] {
        assert_eq!(told(&all, "kubewarden", namespace, "v9/x", "{"), "unknown operation: v9/x");
    }
    assert_eq!(told(&none, "kubewarden", "tracing", "shout", "{"), "unknown operation: shout");
    assert_eq!(
        told(&all, "kubewarden", "kubernetes", "get_resource", r#"{"api_version":"v1","kind":"Pod","name":"p"}"#),
        "missing field `disable_cache` at line 1 column 44"
    );
    let payload = r#"{"api_version":"policy/v1","kind":"PodDisruptionBudget","namespace":"a"}"#;
    assert_eq!(
        told(&all, "kubewarden", "kubernetes", "list_resources_by_namespace", payload),
        "Policy has not been granted access to Kubernetes policy/v1/PodDisruptionBudget resources. The violation has been reported."
    );
}

#[test]
fn every_look_up_needs_the_grant_for_its_kind() {
    let none = Grants::cluster_wide([]);
    let payload = json!({"api_version": "v1", "kind": "Node", "name": "n1", "namespace": "a", "disable_cache": true});
    for operation in ["list_resources_by_namespace", "list_resources_all", "get_resource"] {
        assert_eq!(
            call_as(&none, operation, &payload).unwrap_err(),
            "Policy has not been granted access to Kubernetes v1/Node resources. The violation has been reported."
        );
    }
}

#[test]
fn lists_have_the_hosts_shape_and_cleaned_metadata() {
    let list = list(BUDGET.0, BUDGET.1, "a", &json!({})).unwrap();
    let nothing = json!({"matchExpressions": [
        {"key": "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match", "operator": "Exists"}]});
    let wanted = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudgetList", "metadata": {}, "items": [
        {"metadata": {"name": "new", "namespace": "a", "managedFields": [], "annotations": {"note": "1"}},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "x"}}},
            "status": {"currentHealthy": 3}},
        {"metadata": {"name": "old", "namespace": "a", "labels": {"app": "x"}, "managedFields": [], "annotations": {}},
            "spec": {"minAvailable": 1, "selector": nothing}},
    ]});
    assert_eq!(list, wanted);
}

#[test]
fn lists_of_all_namespaces_hold_all_and_absent_options_may_be_left_out() {
    let all = call("list_resources_all", &json!({"api_version": BUDGET.0, "kind": BUDGET.1})).unwrap();
    assert_eq!(names(&all), ["new", "old", "here"]);
    assert_eq!(all["items"][2]["metadata"]["namespace"], "default");
    let nodes = call("list_resources_all", &json!({"api_version": "v1", "kind": "Node"})).unwrap();
    assert_eq!((&nodes["kind"], names(&nodes)), (&json!("NodeList"), vec!["n1"]));
    assert_eq!(nodes["items"][0]["metadata"].get("namespace"), None);
    assert_eq!(names(&list(BUDGET.0, BUDGET.1, "default", &json!({})).unwrap()), ["here"]);
    // A kind that is served and that nobody uses: an empty list, no error.
    let secrets = list("v1", "Secret", "a", &json!({})).unwrap();
    assert_eq!(secrets, json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {}, "items": []}));
}

#[test]
fn selectors_choose_and_masks_prune() {
    let chosen = |more: &Value| list(BUDGET.0, BUDGET.1, "a", more).unwrap();
    assert_eq!(names(&chosen(&json!({"label_selector": "app in (x,y)"}))), ["old"]);
    assert_eq!(names(&chosen(&json!({"label_selector": "!app"}))), ["new"]);
    assert_eq!(names(&chosen(&json!({"field_selector": "metadata.name=new"}))), ["new"]);
    assert!(names(&chosen(&json!({"field_selector": "metadata.namespace!=a"}))).is_empty());
    let pruned = chosen(&json!({"field_masks": ["spec.selector.matchLabels", "metadata.name"]}));
    assert_eq!(pruned["items"][0]["spec"], json!({"selector": {"matchLabels": {"app.kubernetes.io/name": "x"}}}));
    assert_eq!(pruned["items"][0].get("status"), None);
    assert_eq!(pruned["items"][0]["metadata"]["annotations"], json!({"note": "1"}));
    assert_eq!(pruned["items"][1]["spec"], json!({"selector": {}}));
    assert_eq!(chosen(&json!({"field_masks": []})), chosen(&json!({})));
    let told = list(BUDGET.0, BUDGET.1, "a", &json!({"label_selector": "a in b"})).unwrap_err();
    assert_eq!(told, "Callback evaluation failure: unable to parse requirement: found 'b' expected: '('");
    let told = list(BUDGET.0, BUDGET.1, "a", &json!({"field_selector": "spec.x=1"})).unwrap_err();
    assert!(told.starts_with("Callback evaluation failure: field label not supported: spec.x"), "{told}");
}

#[test]
fn a_look_up_by_name_shows_the_object_as_it_is() {
    let new = get(BUDGET.0, BUDGET.1, Some("a"), "new").unwrap();
    assert_eq!((&new["apiVersion"], &new["kind"]), (&json!("policy/v1"), &json!("PodDisruptionBudget")));
    assert_eq!(new["metadata"]["managedFields"], json!([{"manager": "m"}]));
    assert!(new["metadata"]["annotations"].get("kubectl.kubernetes.io/last-applied-configuration").is_some());
    let here = get(BUDGET.0, BUDGET.1, Some("default"), "here").unwrap();
    assert_eq!(here["metadata"], json!({"name": "here", "namespace": "default"}));
    // A namespace is no hindrance where there is none.
    assert_eq!(get("v1", "Node", Some("a"), "n1").unwrap()["metadata"]["name"], "n1");
    let mut payload =
        json!({"api_version": BUDGET.0, "kind": BUDGET.1, "name": "new", "namespace": "a", "disable_cache": true});
    payload["field_masks"] = json!(["spec.maxUnavailable"]);
    let masked = call("get_resource", &payload).unwrap();
    assert_eq!((&masked["spec"], masked.get("status")), (&json!({"maxUnavailable": 1}), None));
}

#[test]
fn what_is_not_there_is_told_in_the_hosts_words() {
    assert_eq!(
        get(BUDGET.0, BUDGET.1, Some("a"), "x").unwrap_err(),
        "Callback evaluation failure: Cannot find policy/v1/PodDisruptionBudget named 'x' inside of namespace 'Some(\"a\")'"
    );
    assert_eq!(
        get("v1", "Node", None, "x").unwrap_err(),
        "Callback evaluation failure: Cannot find v1/Node named 'x' inside of namespace 'None'"
    );
    assert_eq!(
        get(BUDGET.0, BUDGET.1, None, "new").unwrap_err(),
        "Callback evaluation failure: Resource policy/v1/PodDisruptionBudget is namespaced, but no namespace was provided"
    );
    assert_eq!(
        list("v1", "Node", "a", &json!({})).unwrap_err(),
        "Callback evaluation failure: resource v1/Node is cluster wide. Cannot search for it inside of a namespace"
    );
    for (api_version, kind) in [("e.com/v1", "Gone"), ("policy/v1beta1", "PodDisruptionBudget")] {
        let text = format!("Callback evaluation failure: Cannot find resource {api_version}/{kind}");
        assert_eq!(list(api_version, kind, "a", &json!({})).unwrap_err(), text);
        assert_eq!(get(api_version, kind, Some("a"), "x").unwrap_err(), text);
    }
}

#[test]
fn custom_resources_keep_their_type_in_lists() {
    let zoos = list("e.com/v1", "Zoo", "a", &json!({})).unwrap();
    assert_eq!(zoos["kind"], "ZooList");
    assert_eq!((&zoos["items"][0]["apiVersion"], &zoos["items"][0]["kind"]), (&json!("e.com/v1"), &json!("Zoo")));
}

#[test]
fn objects_are_shown_in_the_version_that_is_asked_for() {
    for (version, field) in [("v1", "targetCPUUtilizationPercentage"), ("v2", "metrics")] {
        let api_version = format!("autoscaling/{version}");
        let found = get(&api_version, "HorizontalPodAutoscaler", Some("a"), "h").unwrap();
        assert_eq!(found["apiVersion"], *api_version);
        assert!(found["spec"].get(field).is_some(), "{found}");
        let listed = list(&api_version, "HorizontalPodAutoscaler", "a", &json!({})).unwrap();
        assert!(listed["items"][0]["spec"].get(field).is_some(), "{listed}");
        assert_eq!(listed["items"][0]["spec"]["minReplicas"], 2);
    }
}

#[test]
fn what_an_offline_check_cannot_know_is_an_error() {
    let cluster = cluster();
    let told = |namespace: &str, operation: &str, payload: &Value| {
        let payload = serde_json::to_vec(payload).unwrap();
        cluster.call(&granted(), namespace, operation, &payload).unwrap_err().to_string()
    };
    let review = json!({"subject_access_review": {"groups": null, "user": "jane", "resource_attributes":
        {"verb": "get", "resource": "pods"}}, "disable_cache": false});
    assert_eq!(
        told("kubernetes", "can_i", &review),
        "Callback evaluation failure: kubernetes/can_i cannot be answered offline: there is no API server to ask what \"jane\" may do"
    );
    for (namespace, operation) in
        [("oci", "v1/manifest_digest"), ("net", "v1/dns_lookup_host"), ("crypto", "v1/is_certificate_trusted")]
    {
        assert_eq!(
            told(namespace, operation, &json!("x")),
            format!(
                "Callback evaluation failure: {namespace}/{operation} cannot be answered offline: this host opens no connection"
            )
        );
    }
}

#[test]
fn logging_needs_no_grant_and_never_fails() {
    let cluster = cluster();
    let mut events = Vec::new();
    let payloads = [r#"{"level":"INFO","message":"hello","line":7}"#, "not json", r#"{"level":"loud"}"#, "[]", ""];
    for payload in payloads {
        let mut log = |event: LogEvent| events.push(event);
        let answer = cluster
            .host_call(&Grants::default(), "kubewarden", "tracing", "log", payload.as_bytes(), &mut log)
            .unwrap();
        assert!(answer.is_empty());
    }
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].to_string(), "info: hello");
    assert_eq!(events[0].fields.get("line"), Some(&json!(7)));
}

#[test]
fn the_same_question_is_answered_from_the_same_bytes() {
    let cluster = cluster();
    let ask = |payload: &Value| {
        let payload = serde_json::to_vec(payload).unwrap();
        cluster.call(&granted(), "kubernetes", "list_resources_by_namespace", &payload).unwrap()
    };
    let payload =
        json!({"api_version": BUDGET.0, "kind": BUDGET.1, "namespace": "a", "field_masks": ["spec", "status"]});
    let mut other_order = payload.clone();
    other_order["field_masks"] = json!(["status", "spec"]);
    let first = ask(&payload);
    assert!(Arc::ptr_eq(&first, &ask(&other_order)));
    let mut other = payload;
    other["namespace"] = json!("default");
    assert_ne!(first, ask(&other));
}

#[test]
fn a_cluster_is_shared_between_threads() {
    let cluster = Arc::new(cluster());
    let payload = json!({"api_version": BUDGET.0, "kind": BUDGET.1, "namespace": "a"}).to_string();
    let answers: Vec<Arc<[u8]>> = std::thread::scope(|scope| {
        let ask = || cluster.call(&granted(), "kubernetes", "list_resources_by_namespace", payload.as_bytes()).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn hostile_payloads_are_refused_and_nothing_else() {
    let cluster = cluster();
    let deep = "[".repeat(100_000);
    let long_mask = format!(
        r#"{{"api_version":"policy/v1","kind":"PodDisruptionBudget","namespace":"a","field_masks":["{}"]}}"#,
        "x.".repeat(100_000)
    );
    for payload in ["", "null", "[]", "{}", "\u{0}", &deep] {
        for operation in ["list_resources_by_namespace", "list_resources_all", "get_resource", "can_i"] {
            let answer = cluster.call(&granted(), "kubernetes", operation, payload.as_bytes());
            assert!(matches!(answer, Err(cluster::calls::CallError::Payload(_))), "{operation} {payload:.9}");
        }
    }
    let answer = cluster.call(&granted(), "kubernetes", "list_resources_by_namespace", long_mask.as_bytes()).unwrap();
    let list: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(list["items"][0].get("spec"), None);
}
