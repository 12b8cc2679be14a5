//! Which `metadata.yml` is accepted: at least as strict as kwctl, whose answer stands beside each case.

use std::collections::BTreeMap;

use super::{MINIMAL, from_yaml};
use crate::{ContextAwareResource, Error, Fault, Metadata, Place, ProtocolVersion};

/// What kwctl does with the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kwctl {
    Accepts,
    Refuses,
}
use Kwctl::{Accepts, Refuses};

fn rule(groups: &str, versions: &str, resources: &str, operations: &str) -> String {
    format!(
        "rules:\n- apiGroups: {groups}\n  apiVersions: {versions}\n  resources: {resources}\n  operations: {operations}\nmutating: false\n"
    )
}

/// What kwctl does, the file, and the field and words of our refusal (`None`: accepted).
type Case = (Kwctl, String, Option<(&'static str, &'static str)>);

fn check(cases: &[Case]) {
    for (kwctl, text, refusal) in cases {
        match (from_yaml(text), refusal) {
            (Ok(_), None) => assert_eq!(*kwctl, Accepts, "we accept what kwctl refuses:\n{text}"),
            (Err(Error::Metadata { problems, .. }), Some((field, words))) => {
                let found = problems.iter().any(|it| it.field == *field && it.to_string().contains(words));
                assert!(found, "wanted {field}: {words}, got {problems:?} for\n{text}");
            }
            (got, wanted) => panic!("wanted {wanted:?}, got {got:?} for\n{text}"),
        }
    }
}

#[test]
fn rules_follow_the_webhooks_of_kubernetes() {
    let all = |resources: &str| rule("[a]", "[v1]", resources, "[CREATE]");
    check(&[
        (Accepts, rule(r#"[""]"#, "[v1]", "[pods]", "[CREATE, UPDATE, DELETE, CONNECT]"), None),
        (Accepts, rule(r#"["*"]"#, r#"["*"]"#, r#"["*"]"#, r#"["*"]"#), None),
        (Accepts, rule(r#"["", apps]"#, "[v1, v1beta1]", "[pods, pods]", "[CREATE, CREATE]"), None),
        (Refuses, rule("[]", "[v1]", "[pods]", "[CREATE]"), Some(("/rules/0/apiGroups", "must not be empty"))),
        (Refuses, rule("[a]", "[]", "[pods]", "[CREATE]"), Some(("/rules/0/apiVersions", "must not be empty"))),
        (Refuses, rule("[a]", "[v1]", "[]", "[CREATE]"), Some(("/rules/0/resources", "must not be empty"))),
        (Refuses, rule("[a]", "[v1]", "[pods]", "[]"), Some(("/rules/0/operations", "must not be empty"))),
        (Refuses, rule(r#"["*", a]"#, "[v1]", "[pods]", "[CREATE]"), Some(("/rules/0/apiGroups", "beside `*`"))),
        (Refuses, rule(r#"[a, "*"]"#, "[v1]", "[pods]", "[CREATE]"), Some(("/rules/0/apiGroups", "beside `*`"))),
        (Refuses, rule("[a]", r#"["*", v1]"#, "[pods]", "[CREATE]"), Some(("/rules/0/apiVersions", "beside `*`"))),
        (Refuses, rule("[a]", "[v1]", "[pods]", r#"[CREATE, "*"]"#), Some(("/rules/0/operations", "beside `*`"))),
        (Refuses, rule("[a]", "[v1]", "[pods]", "[create]"), Some(("/rules/0/operations/0", "did you mean `CREATE`?"))),
        (Accepts, rule("[a]", r#"[""]"#, "[pods]", "[CREATE]"), Some(("/rules/0/apiVersions/0", "must not be empty"))),
        (Refuses, all(r#"[""]"#), Some(("/rules/0/resources/0", "must not be empty"))),
        (Accepts, all(r#"["*", a/b, "a/*", "*/b"]"#).replace("a/b, ", ""), None),
        (Accepts, all(r#"["*", a/b]"#), None),
        (Accepts, all(r#"["a/*", a]"#), None),
        (Accepts, all(r#"["*/*"]"#), None),
        (Accepts, all(r#"["*/b", "a/*", c/d]"#), None),
        (Refuses, all(r#"["*/*", a]"#), Some(("/rules/0/resources", "beside `*/*`"))),
        (Refuses, all(r#"[a, "*/*"]"#), Some(("/rules/0/resources", "beside `*/*`"))),
        (Refuses, all(r#"["*/*", "*/*"]"#), Some(("/rules/0/resources", "beside `*/*`"))),
        (Refuses, all(r#"["*", a]"#), Some(("/rules/0/resources/1", "`a` is covered by `*`"))),
        (Refuses, all(r#"["a/*", a/x]"#), Some(("/rules/0/resources/1", "`a/x` is covered by `a/*`"))),
        (Refuses, all(r#"["*/a", x/a]"#), Some(("/rules/0/resources/1", "`x/a` is covered by `*/a`"))),
        (Refuses, all(r#"["a/*", "a/*"]"#), Some(("/rules/0/resources/1", "`a/*` is covered by `a/*`"))),
        (Refuses, all(r#"["*/a", "*/a"]"#), Some(("/rules/0/resources/1", "`*/a` is covered by `*/a`"))),
        // The same lists the other way round: kwctl and Kubernetes overlook them.
        (Accepts, all(r#"[a, "*"]"#), Some(("/rules/0/resources/0", "`a` is covered by `*`"))),
        (Accepts, all(r#"["*", a, "*"]"#), Some(("/rules/0/resources/1", "`a` is covered by `*`"))),
        (Accepts, all(r#"[a/x, "a/*"]"#), Some(("/rules/0/resources/0", "`a/x` is covered by `a/*`"))),
        (Accepts, all(r#"[x/a, "*/a"]"#), Some(("/rules/0/resources/0", "`x/a` is covered by `*/a`"))),
        // Upstream's own test accepts this list, which hides `a/b` behind both wildcards by coming first.
        (Accepts, all(r#"["*", a/b, "a/*", "*/b"]"#), Some(("/rules/0/resources/1", "`a/b` is covered by `a/*`"))),
    ]);
}

#[test]
fn the_other_fields_are_checked_as_kwctl_does_or_more() {
    let with = |more: &str| format!("{MINIMAL}{more}\n");
    check(&[
        (Accepts, MINIMAL.to_owned(), None),
        (Refuses, "mutating: false\n".to_owned(), Some(("/rules", "is mandatory"))),
        (Refuses, "rules: []\n".to_owned(), Some(("/mutating", "is mandatory"))),
        (Refuses, "rules: {}\nmutating: false\n".to_owned(), Some(("/rules", "must be a list, not a map"))),
        (Refuses, "rules: [pods]\nmutating: false\n".to_owned(), Some(("/rules/0", "must be a map, not a text"))),
        (Refuses, "rules: [{apiGroups: [a]}]\nmutating: false\n".to_owned(), Some(("/rules/0/operations", "is mandatory"))),
        (Refuses, "rules: []\nmutating: \"false\"\n".to_owned(), Some(("/mutating", "must be true or false, not a text"))),
        (Refuses, "rules: []\nmutating:\n".to_owned(), Some(("/mutating", "must be true or false, not nothing"))),
        (Refuses, "rules: []\nmutating: yes\n".to_owned(), Some(("/mutating", "must be true or false, not `yes`"))),
        (Refuses, "{rules: [], \"mutating\" : Off}\n".to_owned(), Some(("/mutating", "must be true or false, not `Off`"))),
        (Accepts, "{rules: [], \"mutating\": TRUE}\n".to_owned(), None),
        (Refuses, with("backgroundAudit: 1"), Some(("/backgroundAudit", "must be true or false, not `1`"))),
        (Accepts, with("backgroundAudit: false"), None),
        (Accepts, with("executionMode: wasi"), None),
        (Refuses, with("executionMode: kubewarden-wacp"), Some(("/executionMode", "did you mean `kubewarden-wapc`?"))),
        (Accepts, with("policyType: raw"), None),
        (Refuses, with("policyType: Raw"), Some(("/policyType", "must be one of kubernetes, raw, not `Raw`"))),
        (Accepts, with("protocolVersion: v1"), None),
        (Refuses, with("protocolVersion: v2"), Some(("/protocolVersion", "must be one of v1"))),
        (Accepts, with("protocolVersion: Unknown"), Some(("/protocolVersion", "must be one of v1"))),
        (Accepts, with("minimumKubewardenVersion: 1.36.0-rc1"), None),
        (Accepts, with("minimumKubewardenVersion: null"), None),
        (Refuses, with("minimumKubewardenVersion: '1.36'"), Some(("/minimumKubewardenVersion", "full semantic version"))),
        (Refuses, with("minimumKubewardenVersion: v1.36.0"), Some(("/minimumKubewardenVersion", "full semantic version"))),
        (Refuses, with("minimumKubewardenVersion: 1.36"), Some(("/minimumKubewardenVersion", "in quotes"))),
        (Accepts, with("contextAwareResources: [{apiVersion: v1, kind: Pod}, {apiVersion: v1, kind: Pod}]"), None),
        (Refuses, with("contextAwareResources: [{apiVersion: '', kind: Pod}]"), Some(("/contextAwareResources/0/apiVersion", "must not be empty"))),
        (Refuses, with("contextAwareResources: [{apiVersion: v1, kind: ''}]"), Some(("/contextAwareResources/0/kind", "must not be empty"))),
        (Refuses, with("contextAwareResources: [{apiVersion: v1}]"), Some(("/contextAwareResources/0/kind", "is mandatory"))),
        (Refuses, with("contextAwareResources: [v1]"), Some(("/contextAwareResources/0", "must be a map"))),
        (Accepts, with("contextAwareResources: [{apiVersion: v1, kind: Pod, namespace: a}]"), Some(("/contextAwareResources/0/namespace", "is not a key"))),
        (Accepts, with("hostCapabilities: [a/b, a/b]"), None),
        (Accepts, with("hostCapabilities:"), None),
        (Refuses, with("hostCapabilities: a/b"), Some(("/hostCapabilities", "must be a list, not a text"))),
        (Accepts, with("annotations:"), None),
        (Accepts, with("annotations: {my.company/own: fine}"), None),
        (Refuses, with("annotations: []"), Some(("/annotations", "must be a map"))),
        (Refuses, with("annotations: {a: [b]}"), Some(("/annotations/a", "must be a text, not a list"))),
        (Accepts, with("annotations: {a/b: 1.0}"), Some(("/annotations/a~1b", "must be a text (in quotes)"))),
        (Accepts, with("annotations: {a: true}"), Some(("/annotations/a", "must be a text (in quotes), not `true`"))),
        (Accepts, with("annotations: {io.kubewarden.policy.catagory: x}"), Some(("/annotations/io.kubewarden.policy.catagory", "did you mean `io.kubewarden.policy.category`?"))),
        (Accepts, with("annotations: {io.kubewarden.policy.severity: hihg}"), Some(("/annotations/io.kubewarden.policy.severity", "did you mean `high`?"))),
        (Accepts, with("annotations: {io.kubewarden.kwctl: 1.0.0}"), Some(("/annotations/io.kubewarden.kwctl", "is for kwctl to write"))),
        (Accepts, with("contextAware: false"), None),
        (Accepts, with("contextAwareResource: []"), Some(("/contextAwareResource", "did you mean `contextAwareResources`?"))),
        (Accepts, with("mutatign: true"), Some(("/mutatign", "did you mean `mutating`?"))),
        (Accepts, with("somethingElse: 1"), Some(("/somethingElse", "is not a key that Kubewarden knows"))),
        (Accepts, "rules: [{apiGroups: [a], apiVersions: [v1], resources: [b], operations: [CREATE], scope: '*'}]\nmutating: false\n".to_owned(), Some(("/rules/0/scope", "is not a key"))),
        (Refuses, String::new(), Some(("", ""))),
        (Refuses, "# nothing\n".to_owned(), Some(("", ""))),
        (Refuses, "- rules\n".to_owned(), Some(("", "this is a list"))),
        (Refuses, "rules: [\n".to_owned(), Some(("", ""))),
        (Refuses, format!("{MINIMAL}---\n{MINIMAL}"), Some(("", "one document"))),
        (Refuses, format!("{MINIMAL}mutating: true\n"), Some(("", "mutating"))),
    ]);
}

#[test]
fn a_problem_names_file_line_and_field() {
    let text = "rules:\n- apiGroups: [a]\n  apiVersions: [v1]\n  resources: [pods, '*']\n  operations: [CREATE]\nmutating: false\n";
    let error = from_yaml(text).unwrap_err();
    assert_eq!(error.to_string(), "metadata.yml:4:15: /rules/0/resources/0 `pods` is covered by `*`: keep one of them");
}

#[test]
fn all_problems_are_told_in_the_order_of_the_file() {
    let error = from_yaml("mutating: 1\npolicyType: cooked\nrules: [{}]\n").unwrap_err();
    let Error::Metadata { problems, .. } = error else { panic!("{error}") };
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let missing = ["/rules/0/apiGroups", "/rules/0/apiVersions", "/rules/0/resources", "/rules/0/operations"];
    assert_eq!(fields, [&["/mutating", "/policyType"][..], &missing].concat());
    // What is absent is told where it should be.
    assert_eq!(problems[2].place, Some(Place { line: 3, column: 9 }));
}

#[test]
fn a_derived_annotation_must_not_be_written_by_hand() {
    let derived = BTreeMap::from([("io.kubewarden.policy.title".to_owned(), "derived".to_owned())]);
    let read = |text: &str| Metadata::from_yaml("m.yml", text.as_bytes(), &derived);

    let text = format!("{MINIMAL}annotations:\n  io.kubewarden.policy.title: derived\n");
    let error = read(&text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "m.yml:4:3: /annotations/io.kubewarden.policy.title is derived, here to `derived`: remove the line"
    );

    let merged = read(&format!("{MINIMAL}annotations: {{a: b}}\n")).unwrap().annotations.unwrap();
    assert_eq!(
        merged.into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), "b".to_owned()), ("io.kubewarden.policy.title".to_owned(), "derived".to_owned())]
    );
    assert_eq!(read(MINIMAL).unwrap().annotations, Some(derived.clone()));
    assert_eq!(from_yaml(MINIMAL).unwrap().annotations, None);
}

#[test]
fn built_metadata_is_checked_without_a_file() {
    let mut metadata = from_yaml(MINIMAL).unwrap();
    assert_eq!(metadata.validate(), Ok(()));

    metadata.protocol_version = None;
    assert_eq!(metadata.validate().unwrap_err()[0].fault, Fault::Missing);
    metadata.protocol_version = Some(ProtocolVersion::Unknown);
    assert_eq!(metadata.validate().unwrap_err()[0].fault, Fault::UnknownProtocol);
    metadata.execution_mode = crate::ExecutionMode::Wasi;
    assert_eq!(metadata.validate(), Ok(()));

    metadata.context_aware_resources.insert(ContextAwareResource { api_version: String::new(), kind: String::new() });
    let fields: Vec<_> = metadata.validate().unwrap_err().into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["/contextAwareResources/0/apiVersion", "/contextAwareResources/0/kind"]);
}
