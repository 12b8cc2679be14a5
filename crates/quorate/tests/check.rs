//! The check as a library, with third-party modules written as WAT: what they see, what is made of what they say, and that
//! none of them keeps the rest from being checked.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for other code")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use annotate::{ExecutionMode, Metadata, Operation, PolicyType, Rule};
use quorate::engine::{Engine, Limits};
use quorate::input::{Content, Input};
use quorate::report::human;
use quorate::{CHECKER_SETTINGS, Checker, FINDINGS_PAGE, Level, NoteKind, Policy, PolicyError, Report, Verdict};
use serde_json::{Map, Value, json};

const BUNDLE: &str = "apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: zk
spec:
  replicas: 3
---
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata:
  name: zk
spec:
  minAvailable: 67%
";

/// What a guest does with `validate`; `validate_settings` always answers `settings`.
enum Guest<'a> {
    Answers(&'a Value),
    /// Fails, with the payload as its error.
    Echoes,
    Loops,
    Traps,
}

fn wat(guest: &Guest<'_>, settings: &Value) -> String {
    let data = |text: &str| {
        text.bytes().fold(String::new(), |mut data, byte| {
            write!(data, "\\{byte:02x}").unwrap();
            data
        })
    };
    let answer = match guest {
        Guest::Answers(answer) => answer.to_string(),
        _ => String::new(),
    };
    let body = match guest {
        Guest::Answers(_) => format!("(call $response (i32.const 4096) (i32.const {}))", answer.len()),
        Guest::Echoes => "(call $error (i32.const 65536) (local.get $length)) (return (i32.const 0))".to_owned(),
        Guest::Loops => "(loop $again (br $again))".to_owned(),
        Guest::Traps => "(unreachable)".to_owned(),
    };
    let settings = settings.to_string();
    format!(
        r#"(module
        (import "wapc" "__guest_request" (func $request (param i32 i32)))
        (import "wapc" "__guest_response" (func $response (param i32 i32)))
        (import "wapc" "__guest_error" (func $error (param i32 i32)))
        (memory (export "memory") 4)
        (data (i32.const 1024) "{}") (data (i32.const 4096) "{}")
        (func (export "wapc_init"))
        (func (export "__guest_call") (param $operation i32) (param $length i32) (result i32)
          (call $request (i32.const 0) (i32.const 65536))
          (if (i32.eq (local.get $operation) (i32.const 17))
            (then (call $response (i32.const 1024) (i32.const {})) (return (i32.const 1))))
          {body} (i32.const 1)))"#,
        data(&settings),
        data(&answer),
        settings.len(),
    )
}

fn metadata(groups: &[&str], versions: &[&str], resources: &[&str]) -> Metadata {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Metadata {
        protocol_version: None,
        rules: vec![Rule {
            api_groups: own(groups),
            api_versions: own(versions),
            resources: own(resources),
            operations: vec![Operation::Create],
        }],
        annotations: None,
        mutating: false,
        background_audit: true,
        execution_mode: ExecutionMode::KubewardenWapc,
        policy_type: PolicyType::Kubernetes,
        context_aware_resources: BTreeSet::new(),
        host_capabilities: None,
        minimum_kubewarden_version: None,
    }
}

fn everything() -> Metadata {
    metadata(&["*"], &["*"], &["*"])
}

fn engine(limits: Limits) -> Engine {
    Engine::new(limits).unwrap()
}

fn load(name: &str, guest: &Guest<'_>, settings: &Value, metadata: &Metadata) -> Result<Policy, PolicyError> {
    let wasm = wat::parse_str(wat(guest, settings)).unwrap();
    let limits = match guest {
        Guest::Loops => Limits { time: Duration::from_millis(500), ..Limits::default() },
        _ => Limits::default(),
    };
    let module = engine(limits).compile(name, &annotate::annotate(&wasm, metadata).unwrap())?;
    Policy::with_own_settings(module)
}

fn policy(name: &str, guest: &Guest<'_>, metadata: &Metadata) -> Policy {
    load(name, guest, &json!({"valid": true}), metadata).unwrap()
}

fn input(name: &str, text: &str) -> Input {
    Input { name: name.to_owned(), content: Content::Text(text.as_bytes().to_vec()), found: false }
}

fn check(policies: Vec<Policy>, text: &str) -> Report {
    Checker::new(policies).check(&[input("zk.yaml", text)])
}

/// `line:column level policy/code object message` of each finding of a policy.
fn told(report: &Report) -> Vec<String> {
    let of_policies = report.findings.iter().filter(|finding| &*finding.policy != quorate::CHECKER);
    of_policies
        .map(|finding| {
            format!(
                "{}:{} {} {}/{} {} {}",
                finding.place.line.unwrap(),
                finding.place.column.unwrap(),
                finding.level.as_str(),
                finding.policy,
                finding.code,
                finding.object.spoken(),
                finding.message
            )
        })
        .collect()
}

fn problems(report: &Report) -> Vec<String> {
    report.problems.iter().map(|problem| problem.message.clone()).collect()
}

fn with_findings(findings: &Value) -> Value {
    json!({"accepted": false, "message": "no", "audit_annotations": {"findings": findings.to_string()}})
}

#[test]
fn a_denial_without_findings_is_one_finding_at_the_object() {
    let answer = json!({"accepted": false, "message": "not here\nnor there", "warnings": ["deprecated"]});
    let report = check(
        vec![policy("old.wasm", &Guest::Answers(&answer), &metadata(&["apps"], &["v1"], &["statefulsets"]))],
        BUNDLE,
    );
    assert_eq!(
        told(&report),
        [
            "1:1 error old.wasm/denied StatefulSet zk not here\nnor there",
            "1:1 warning old.wasm/warning StatefulSet zk deprecated",
        ]
    );
    let mut text = Vec::new();
    human::write(&report, human::Options::default(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("error[old.wasm/denied]: StatefulSet zk: not here\n    nor there\n"), "{text}");
}

#[test]
fn both_sides_of_a_pair_tell_a_fact_once_where_it_stands() {
    let budget =
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "namespace": "default", "name": "zk"});
    let finding = |level: &str, name: &str| {
        let mut object = budget.clone();
        object["name"] = name.into();
        json!({"code": "c", "level": level, "subject": "s", "object": object, "path": "/spec/minAvailable", "message": name})
    };
    let answer = with_findings(&json!([finding("error", "zk"), finding("warning", "gone")]));
    // Both objects are judged; the budget is there in another API version than the one that is named.
    let report = check(vec![policy("p", &Guest::Answers(&answer), &everything())], BUNDLE);
    assert_eq!(
        told(&report),
        ["1:1 warning p/c PodDisruptionBudget gone gone", "13:3 error p/c PodDisruptionBudget zk zk"]
    );
    assert_eq!(report.findings[1].object.api_version, "policy/v1beta1", "as the manifest writes it");
}

#[test]
fn the_graver_of_two_tellings_counts() {
    let finding = |level: &str| {
        json!({"code": "c", "level": level, "path": "/spec", "message": "m",
            "object": {"apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": "default", "name": "zk"}})
    };
    let answer = with_findings(&json!([finding("warning"), finding("error"), finding("warning")]));
    let report = check(vec![policy("p", &Guest::Answers(&answer), &everything())], BUNDLE);
    assert_eq!(told(&report), ["5:1 error p/c StatefulSet zk m"]);
}

#[test]
fn what_a_policy_offers_to_mend_it_is_kept_and_shown() {
    let answer = with_findings(&json!([
        {"code": "a", "level": "error", "path": "/spec/replicas", "message": "m", "why": "w", "advice": "f",
            "patch": [{"op": "replace", "path": "/spec/replicas", "value": 5}]},
        {"code": "b", "level": "error", "path": "", "message": "n", "creates": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "on"}}},
        {"code": "c", "level": "error", "path": "/spec/none", "message": "o", "patch": []},
    ]));
    let report = check(vec![policy("p", &Guest::Answers(&answer), &metadata(&["apps"], &["v1"], &["*"]))], BUNDLE);
    assert_eq!(told(&report).len(), 3);
    let fixable: Vec<_> =
        report.findings.iter().filter(|f| &*f.policy == "p").map(|f| (f.code.as_str(), f.fixable())).collect();
    assert_eq!(fixable, [("b", true), ("c", false), ("a", true)]);
    let mut text = Vec::new();
    human::write(&report, human::Options::default(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let shown = " 6 |   replicas: 3\n   |   ^^^^^^^^^^^\n  why: w\n  fix: f\n";
    assert!(text.contains(shown), "{text}");
    assert!(
        text.contains(
            "  add: this object\n       apiVersion: v1\n       kind: Pod\n       metadata:\n         name: \"on\"\n"
        ),
        "{text}"
    );
}

#[test]
fn an_object_to_add_names_a_namespace_if_its_partner_does() {
    let created = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"}});
    let answer = with_findings(&json!([{"code": "c", "level": "error", "message": "m", "creates": created}]));
    let namespace = |text: &str| {
        let sets = metadata(&["apps"], &["v1"], &["statefulsets"]);
        let report = check(vec![policy("p", &Guest::Answers(&answer), &sets)], text);
        let finding = report.findings.iter().find(|finding| &*finding.policy == "p").unwrap();
        finding.creates.as_ref().unwrap()["metadata"].get("namespace").cloned()
    };
    assert_eq!(namespace(BUNDLE), None);
    let named = BUNDLE.replace("metadata:\n", "metadata:\n  namespace: default\n");
    assert_eq!(namespace(&named), Some(json!("default")));
}

#[test]
fn a_policy_sees_the_version_that_its_rules_name() {
    let report =
        check(vec![policy("p", &Guest::Echoes, &metadata(&["policy"], &["v1"], &["poddisruptionbudgets"]))], BUNDLE);
    let [problem] = &problems(&report)[..] else { panic!("{report:#?}") };
    let (_, payload) = problem.split_once("Guest call failure: ").unwrap();
    let payload: Value = serde_json::from_str(payload).unwrap();
    let request = &payload["request"];
    assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v1"), &json!("v1beta1")));
    assert_eq!(request["object"]["apiVersion"], "policy/v1");
    assert_eq!((&request["operation"], &request["namespace"]), (&json!("CREATE"), &json!("default")));
    assert_eq!(payload["settings"], json!({}));
    // An older cluster's version has no equivalent here.
    let report = check(vec![policy("p", &Guest::Echoes, &metadata(&["policy"], &["v2"], &["*"]))], BUNDLE);
    assert_eq!(problems(&report), Vec::<String>::new());
}

#[test]
fn settings_for_the_checker_come_from_the_module_itself() {
    let annotated = |text: &str| {
        let annotations = BTreeMap::from([(CHECKER_SETTINGS.to_owned(), text.to_owned())]);
        Metadata { annotations: Some(annotations), ..metadata(&["apps"], &["v1"], &["*"]) }
    };
    let report = check(vec![policy("p", &Guest::Echoes, &annotated(r#"{"missing": "deny"}"#))], BUNDLE);
    assert!(problems(&report)[0].ends_with(r#""settings":{"missing":"deny"}}"#), "{report:#?}");

    let error =
        |text: &str| load("p", &Guest::Traps, &json!({"valid": true}), &annotated(text)).unwrap_err().to_string();
    for text in ["[]", "{", "\"x\""] {
        assert!(
            error(text).starts_with("module \"p\": its annotation quorate.dev/checker-settings is no JSON object"),
            "{}",
            error(text)
        );
    }
}

#[test]
fn an_error_points_to_the_page_that_its_policy_names() {
    let annotations = BTreeMap::from([(FINDINGS_PAGE.to_owned(), "https://example.com/p.md".to_owned())]);
    let with_page = Metadata { annotations: Some(annotations), ..metadata(&["apps"], &["v1"], &["*"]) };
    let answer = with_findings(&json!([
        {"code": "a", "level": "error", "path": "/spec", "message": "m", "advice": "f"},
        {"code": "b", "level": "warning", "path": "/spec", "message": "n", "advice": "g"},
    ]));
    let report = check(vec![policy("p", &Guest::Answers(&answer), &with_page)], BUNDLE);
    let see = |code: &str| report.findings.iter().find(|finding| finding.code == code).unwrap().see.as_deref();
    assert_eq!(see("a"), Some("https://example.com/p.md#a"));
    assert_eq!(see("b"), Some("https://example.com/p.md#b"));
    let mut text = Vec::new();
    human::write(&report, human::Options::default(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("  fix: f\n  see: https://example.com/p.md#a\n"), "{text}");
    assert_eq!(text.matches("see: ").count(), 1, "a warning is told in its own words: {text}");
}

#[test]
fn a_policy_that_cannot_take_part_says_why() {
    let error =
        |settings: &Value, metadata: &Metadata| load("p", &Guest::Traps, settings, metadata).unwrap_err().to_string();
    let valid = json!({"valid": true});
    assert_eq!(
        error(&json!({"valid": false, "message": "min: too small"}), &everything()),
        "policy \"p\" refuses its settings: min: too small"
    );
    assert!(error(&json!([]), &everything()).contains("`validate_settings` that cannot be read"));
    let raw = Metadata { policy_type: PolicyType::Raw, ..everything() };
    assert!(error(&valid, &raw).contains("is a raw policy"));
    let capabilities = Metadata { host_capabilities: Some(["kube/*".to_owned()].into()), ..everything() };
    assert!(error(&valid, &capabilities).contains("unknown segment \"kube\""));

    let bare =
        engine(Limits::default()).compile("bare.wasm", &wat::parse_str(wat(&Guest::Traps, &valid)).unwrap()).unwrap();
    let error = Policy::new(bare, &Map::new()).unwrap_err().to_string();
    assert!(error.starts_with("module \"bare.wasm\": has no Kubewarden metadata"), "{error}");
}

#[test]
fn a_failing_policy_is_told_by_name_and_object_and_the_others_go_on() {
    let denies = json!({"accepted": false, "message": "no"});
    let sets = metadata(&["apps"], &["v1"], &["statefulsets"]);
    let policies = vec![
        policy("traps.wasm", &Guest::Traps, &sets),
        policy("loops.wasm", &Guest::Loops, &sets),
        policy("garbage.wasm", &Guest::Answers(&json!({"accepted": "yes"})), &sets),
        policy("good.wasm", &Guest::Answers(&denies), &everything()),
    ];
    let report = check(policies, BUNDLE);
    let told_problems = problems(&report);
    let expected = ["garbage.wasm", "loops.wasm", "traps.wasm"]
        .map(|name| format!("StatefulSet zk: not judged: module \"{name}\": "));
    for start in expected {
        assert_eq!(told_problems.iter().filter(|problem| problem.starts_with(&start)).count(), 1, "{told_problems:#?}");
    }
    assert!(
        told_problems.iter().any(
            |problem| problem.contains("the time limit of 500 ms") && problem.ends_with("(--time-limit raises it)")
        )
    );
    assert!(report.problems.iter().all(|problem| problem.place.as_ref().unwrap().line == Some(1)));
    assert_eq!(told(&report).len(), 2, "{report:#?}");
    assert_eq!(report.verdict(Level::Error), Verdict::Problems);
}

#[test]
fn a_policy_that_hangs_is_not_asked_for_ever() {
    let mut pods = String::new();
    for number in 0..200 {
        write!(pods, "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: p{number} }}\n").unwrap();
    }
    let report = check(vec![policy("loops.wasm", &Guest::Loops, &everything())], &pods);
    let told = problems(&report);
    assert!((4..50).contains(&told.len()), "{told:#?}");
    let unasked = 200 - (told.len() - 1);
    assert_eq!(
        told[0],
        format!("policy \"loops.wasm\" exceeded its time limit 3 times and was not asked about {unasked} more objects")
    );
}

#[test]
fn what_is_accepted_with_a_remark_is_a_warning() {
    let answer = json!({"accepted": true, "warnings": ["p did not judge this: x"], "audit_annotations": {"notes": "[\"by the catalogue\"]"}});
    let report = check(vec![policy("p", &Guest::Answers(&answer), &metadata(&["apps"], &["v1"], &["*"]))], BUNDLE);
    assert_eq!(told(&report), ["1:1 warning p/warning StatefulSet zk p did not judge this: x"]);
    assert_eq!(report.notes.len(), 1);
    assert_eq!((report.notes[0].kind, report.notes[0].message.as_str()), (NoteKind::Judgement, "by the catalogue"));
}

#[test]
fn findings_come_in_the_order_of_inputs_and_lines() {
    let answer = with_findings(&json!([
        {"code": "b", "level": "warning", "path": "/metadata/name", "message": "later"},
        {"code": "a", "level": "warning", "path": "", "message": "early"},
        {"code": "z", "level": "error", "path": "", "message": "early and grave"},
    ]));
    let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n");
    let inputs = [input("z.yaml", &format!("{}---\n{}", pod("one"), pod("two"))), input("a.yaml", &pod("three"))];
    let report = Checker::new(vec![policy("p", &Guest::Answers(&answer), &everything())]).check(&inputs);
    let order: Vec<_> =
        report.findings.iter().map(|f| (&*f.place.file, f.place.line.unwrap(), f.code.as_str())).collect();
    let of = |file: &'static str, line: u32| [(file, line, "z"), (file, line, "a"), (file, line + 3, "b")];
    assert_eq!(order, [of("z.yaml", 1), of("z.yaml", 6), of("a.yaml", 1)].concat());
}
