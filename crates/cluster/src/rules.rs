//! Which requests a policy sees.
//!
//! Follows the API server's own matcher: `plugin/webhook/predicates/rules/rules.go` for one rule, and `shouldCallHook` of
//! `plugin/webhook/generic/webhook.go` for versions that stand for each other, both in `k8s.io/apiserver/pkg/admission`.
//! Selectors of objects and namespaces, and CEL conditions, belong to a policy's installation and not to its metadata; they
//! would be further fields of [`Matcher`], asked after the rules.

use serde::{Deserialize, Serialize};

use crate::request::AdmissionRequest;
use crate::resources::{Resources, join_api_version};

/// One rule: every list has to name what is asked for, or `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API groups; the core group is the empty text.
    pub api_groups: Vec<String>,
    /// Versions inside the groups.
    pub api_versions: Vec<String>,
    /// `pods`, `pods/status`, `pods/*`, `*/scale`, `*`, `*/*`. Without a slash, subresources are not meant.
    pub resources: Vec<String>,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT` or `*`.
    pub operations: Vec<String>,
    /// Whether only objects inside or outside of namespaces are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// Where an object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Outside of namespaces. A Namespace itself is, too.
    Cluster,
    /// In a namespace.
    Namespaced,
    /// Either.
    #[serde(rename = "*")]
    All,
}

/// Whether a rule for one version of a resource also means the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchPolicy {
    /// Only the version that the user addressed.
    Exact,
    /// Every version in which the API server can hand out the object.
    #[default]
    Equivalent,
}

/// How a policy's rules match a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// As the request is.
    AsSent,
    /// In this API version: the request has to be built anew with [`crate::Requests::sent_as`].
    As(String),
}

/// Decides which requests a policy sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// One of them has to match.
    pub rules: Vec<Rule>,
    /// How versions count.
    pub match_policy: MatchPolicy,
}

/// The kinds whose requests no webhook ever sees, lest it lock out its own repair (`IsExemptAdmissionConfigurationResource`).
const EXEMPT: [&str; 6] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

impl Matcher {
    /// The matcher of a policy with these rules and the default match policy.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, match_policy: MatchPolicy::default() }
    }

    /// Whether the policy sees the request, and in which version.
    ///
    /// With [`MatchPolicy::Exact`] that is the version that the user addressed. Else it is the one in which the request is, then the one
    /// that the user addressed, then any other that the API server serves, in its order.
    pub fn matches(&self, request: &AdmissionRequest<'_>, resources: &Resources) -> Option<Matched> {
        if request.kind.group == "admissionregistration.k8s.io" && EXEMPT.contains(&&*request.kind.kind) {
            return None;
        }
        let (sent, asked) = (&request.resource, &request.request_resource);
        let any = |group: &str, version: &str| self.rules.iter().any(|rule| rule.matches(request, group, version));
        let answer = |group: &str, version: &str| {
            let is_sent = sent.group == group && sent.version == version;
            if is_sent { Matched::AsSent } else { Matched::As(join_api_version(group, version)) }
        };
        if self.match_policy == MatchPolicy::Exact {
            return any(&asked.group, &asked.version).then(|| answer(&asked.group, &asked.version));
        }
        for resource in [sent, asked] {
            if any(&resource.group, &resource.version) {
                return Some(answer(&resource.group, &resource.version));
            }
        }
        // Of a subresource the request's kind is another one than the resource's; only the resource itself has other versions here.
        if request.sub_resource.is_some() {
            return None;
        }
        let equivalents = resources.equivalents(&sent.group, &sent.version, &request.kind.kind);
        let other = equivalents.iter().find(|resource| any(&resource.group, &resource.version))?;
        Some(answer(&other.group, &other.version))
    }
}

impl Rule {
    /// Whether the rule means the request, were its resource in this group and version.
    fn matches(&self, request: &AdmissionRequest<'_>, group: &str, version: &str) -> bool {
        let names = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
        self.covers_scope(request)
            && names(&self.operations, request.operation.as_str())
            && names(&self.api_groups, group)
            && names(&self.api_versions, version)
            && self.names_resource(&request.resource.resource, request.sub_resource.as_deref().unwrap_or_default())
    }

    fn covers_scope(&self, request: &AdmissionRequest<'_>) -> bool {
        let is_namespace = request.resource.group.is_empty() && request.resource.resource == "namespaces";
        let inside = request.namespace.is_some() && !is_namespace;
        match self.scope {
            None | Some(Scope::All) => true,
            Some(Scope::Namespaced) => inside,
            Some(Scope::Cluster) => !inside,
        }
    }

    fn names_resource(&self, resource: &str, sub_resource: &str) -> bool {
        self.resources.iter().any(|item| {
            let (res, sub) = item.split_once('/').unwrap_or((item, ""));
            (res == "*" || res == resource) && (sub == "*" || sub == sub_resource)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Requests;

    fn rule(groups: &[&str], versions: &[&str], resources: &[&str], operations: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            api_groups: own(groups),
            api_versions: own(versions),
            resources: own(resources),
            operations: own(operations),
            scope: None,
        }
    }

    fn set() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}})
    }

    fn sees(rules: Vec<Rule>, request: &AdmissionRequest<'_>) -> Option<Matched> {
        Matcher::new(rules).matches(request, &Resources::built_in())
    }

    #[test]
    fn resources_and_subresources_match_as_in_the_api_server() {
        let resources = Resources::built_in();
        let requests = Requests::new(&resources);
        let object = set();
        let whole = requests.create(&object).unwrap();
        let scale = requests.scale(&object, 1, 2).unwrap();
        let cases = [
            ("statefulsets", true, false),
            ("statefulsets/scale", false, true),
            ("statefulsets/*", true, true),
            ("*", true, false),
            ("*/*", true, true),
            ("*/scale", false, true),
            ("deployments", false, false),
            ("StatefulSets", false, false),
            ("", false, false),
        ];
        for (pattern, on_whole, on_scale) in cases {
            let rules = || vec![rule(&["apps"], &["v1"], &[pattern], &["*"])];
            assert_eq!(sees(rules(), &whole).is_some(), on_whole, "{pattern}");
            assert_eq!(sees(rules(), &scale).is_some(), on_scale, "{pattern}");
        }
    }

    #[test]
    fn groups_versions_and_operations_have_to_agree_in_one_rule() {
        let resources = Resources::built_in();
        let object = set();
        let request = Requests::new(&resources).create(&object).unwrap();
        let sets = &["statefulsets"][..];
        for good in
            [rule(&["*"], &["*"], sets, &["*"]), rule(&["batch", "apps"], &["v2", "v1"], sets, &["UPDATE", "CREATE"])]
        {
            assert_eq!(sees(vec![good], &request), Some(Matched::AsSent));
        }
        let bad = [
            rule(&[""], &["v1"], sets, &["CREATE"]),
            rule(&["apps"], &["v2"], sets, &["CREATE"]),
            rule(&["apps"], &["v1"], sets, &["UPDATE", "DELETE"]),
            rule(&["apps"], &["v1"], sets, &[]),
        ];
        for rule in &bad {
            assert_eq!(sees(vec![rule.clone()], &request), None, "{rule:?}");
        }
        // Each list is right in one of them, but never all in the same.
        assert_eq!(sees(bad.to_vec(), &request), None);
        assert_eq!(sees(vec![], &request), None);
    }

    #[test]
    fn scope_parts_namespaced_objects_from_others_and_a_namespace_is_an_other() {
        let resources = Resources::built_in();
        let requests = Requests::new(&resources);
        let object = set();
        let inside = requests.create(&object).unwrap();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        let namespace = requests.create(&namespace).unwrap();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        let node = requests.create(&node).unwrap();
        let scoped = |scope| vec![Rule { scope, ..rule(&["*"], &["*"], &["*"], &["*"]) }];
        for (request, is_inside) in [(&inside, true), (&namespace, false), (&node, false)] {
            assert_eq!(sees(scoped(Some(Scope::Namespaced)), request).is_some(), is_inside);
            assert_eq!(sees(scoped(Some(Scope::Cluster)), request).is_some(), !is_inside);
            assert!(sees(scoped(Some(Scope::All)), request).is_some());
            assert!(sees(scoped(None), request).is_some());
        }
    }

    #[test]
    fn versions_stand_for_each_other_unless_the_policy_wants_it_exact() {
        let resources = Resources::built_in();
        let requests = Requests::new(&resources);
        let old = json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}});
        let request = requests.create(&old).unwrap();
        let rules = |version| vec![rule(&["policy"], &[version], &["poddisruptionbudgets"], &["CREATE"])];
        let exact = |version| Matcher { rules: rules(version), match_policy: MatchPolicy::Exact };
        assert_eq!(sees(rules("v1"), &request), Some(Matched::AsSent));
        assert_eq!(sees(rules("v1beta1"), &request), Some(Matched::As("policy/v1beta1".to_owned())));
        assert_eq!(sees(rules("v2"), &request), None);
        assert_eq!(exact("v1").matches(&request, &resources), None);
        let wanted = Some(Matched::As("policy/v1beta1".to_owned()));
        assert_eq!(exact("v1beta1").matches(&request, &resources), wanted);
        let as_written = requests.clone().sent_as("policy/v1beta1").create(&old).unwrap();
        assert_eq!(exact("v1beta1").matches(&as_written, &resources), Some(Matched::AsSent));

        let scaler =
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}});
        let request = requests.create(&scaler).unwrap();
        let scalers = |version| vec![rule(&["autoscaling"], &[version], &["horizontalpodautoscalers"], &["*"])];
        assert_eq!(sees(scalers("v1"), &request), Some(Matched::As("autoscaling/v1".to_owned())));
        let sent = requests.sent_as("autoscaling/v1").create(&scaler).unwrap();
        assert_eq!(sees(scalers("v1"), &sent), Some(Matched::AsSent));
        assert_eq!(sent.object.unwrap()["apiVersion"], "autoscaling/v1");
        assert_eq!(sent.request_kind.version, "v2");
    }

    #[test]
    fn no_policy_sees_the_configuration_of_admission() {
        let resources = Resources::built_in();
        let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "w"}});
        let request = Requests::new(&resources).create(&hook).unwrap();
        assert_eq!(sees(vec![rule(&["*"], &["*"], &["*/*"], &["*"])], &request), None);
    }

    #[test]
    fn rules_read_as_metadata_writes_them() {
        let text = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["statefulsets"], "operations": ["CREATE"]});
        let read: Rule = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read, rule(&["apps"], &["v1"], &["statefulsets"], &["CREATE"]));
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
        let scoped: Scope = serde_json::from_value(json!("*")).unwrap();
        assert_eq!(scoped, Scope::All);
    }
}
