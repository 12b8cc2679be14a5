//! The built-in kinds that run pods: where each keeps its pod template, and which of them own what they create.
//!
//! A kind is known by its API group *and* its name: another group's `Job` is not `batch`'s.

use crate::path::Path;

/// Where an object describes its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlace {
    /// The pod's spec.
    pub spec: Path,
    /// The pod's metadata: its labels and annotations.
    pub metadata: Path,
}

/// Where an object of `kind` in `group` describes its pods, or `None` where it describes none.
///
/// The nine are those of `k8s.io/api` whose type is a Pod or holds a `PodTemplateSpec`: `core/v1/types.go`,
/// `apps/v1/types.go`, `batch/v1/types.go`. Every served version has its template at the same place.
pub fn pod_place(group: &str, kind: &str) -> Option<PodPlace> {
    let template = match (group, kind) {
        ("", "Pod") => "",
        ("", "PodTemplate") => "template",
        ("", "ReplicationController")
        | ("apps", "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => "spec.template",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template",
        _ => return None,
    };
    let template = Path::fields(template);
    Some(PodPlace { spec: template.field("spec"), metadata: template.field("metadata") })
}

/// Whether `kind` in `group` is a built-in kind that creates pods, or what creates pods.
///
/// What such an object owns is made after its template, so that a finding belongs to the owner.
pub fn is_workload_controller(group: &str, kind: &str) -> bool {
    controller_account(group, kind).is_some()
}

/// The service account (in `kube-system`) with which the controller of `kind` in `group` creates what its objects
/// own, where the controller manager runs with `--use-service-account-credentials`: the name of its role in
/// `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go`.
pub fn controller_account(group: &str, kind: &str) -> Option<&'static str> {
    Some(match (group, kind) {
        ("", "ReplicationController") => "replication-controller",
        ("apps", "ReplicaSet") => "replicaset-controller",
        ("apps", "Deployment") => "deployment-controller",
        ("apps", "StatefulSet") => "statefulset-controller",
        ("apps", "DaemonSet") => "daemon-set-controller",
        ("batch", "Job") => "job-controller",
        ("batch", "CronJob") => "cronjob-controller",
        _ => return None,
    })
}

/// The group and the version in `api_version`: `apps/v1` is `("apps", "v1")` and `v1` is `("", "v1")`, of the core
/// group; `None` for more than one slash.
///
/// `ParseGroupVersion` in `k8s.io/apimachinery/pkg/runtime/schema/group_version.go`.
pub fn split_api_version(api_version: &str) -> Option<(&str, &str)> {
    match api_version.split_once('/') {
        None => Some(("", api_version)),
        Some((_, version)) if version.contains('/') => None,
        Some(parts) => Some(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind with a pod template, and the template's place.
    const PLACES: [(&str, &str, &str); 9] = [
        ("", "Pod", ""),
        ("", "PodTemplate", "template."),
        ("", "ReplicationController", "spec.template."),
        ("apps", "ReplicaSet", "spec.template."),
        ("apps", "Deployment", "spec.template."),
        ("apps", "StatefulSet", "spec.template."),
        ("apps", "DaemonSet", "spec.template."),
        ("batch", "Job", "spec.template."),
        ("batch", "CronJob", "spec.jobTemplate.spec.template."),
    ];

    #[test]
    fn nine_kinds_describe_pods() {
        for (group, kind, template) in PLACES {
            let place = pod_place(group, kind).unwrap();
            assert_eq!(place.spec.to_string(), format!("{template}spec"), "{kind}");
            assert_eq!(place.metadata.to_string(), format!("{template}metadata"), "{kind}");
        }
    }

    #[test]
    fn seven_of_them_own_what_they_create() {
        for (group, kind, _) in PLACES {
            let expected = !["Pod", "PodTemplate"].contains(&kind);
            assert_eq!(is_workload_controller(group, kind), expected, "{kind}");
        }
        assert_eq!(controller_account("apps", "DaemonSet"), Some("daemon-set-controller"));
    }

    #[test]
    fn another_groups_kind_of_the_same_name_is_another_kind() {
        for (group, kind) in
            [("batch.volcano.sh", "Job"), ("apps", "Pod"), ("", "Deployment"), ("apps.kruise.io", "StatefulSet")]
        {
            assert_eq!(pod_place(group, kind), None, "{group}/{kind}");
            assert!(!is_workload_controller(group, kind), "{group}/{kind}");
        }
    }

    #[test]
    fn an_api_version_is_a_group_and_a_version() {
        assert_eq!(split_api_version("apps/v1"), Some(("apps", "v1")));
        assert_eq!(split_api_version("v1"), Some(("", "v1")));
        assert_eq!(split_api_version("policy/v1beta1"), Some(("policy", "v1beta1")));
        assert_eq!(split_api_version(""), Some(("", "")));
        assert_eq!(split_api_version("a/b/c"), None);
    }
}
