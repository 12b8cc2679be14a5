//! Every container of a pod, whichever list it is in.
//!
//! The lists and their fields are those of `PodSpec`, `Container` and `EphemeralContainerCommon` in
//! `k8s.io/api/core/v1/types.go`.

use crate::node::{Malformed, Node};
use crate::quantity::ResourceList;

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the pod's containers start.
    Init,
    /// An init container with `restartPolicy: Always`: it starts in its turn, and then runs beside the containers
    /// (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>).
    Sidecar,
    /// One of `containers`.
    Regular,
    /// Added to a running pod, to look into it. It has neither ports, probes nor resources.
    Ephemeral,
}

impl Role {
    /// Whether it runs for as long as the pod does, so that it is probed and counts towards the pod's resources at
    /// all times.
    pub fn is_long_running(self) -> bool {
        matches!(self, Self::Regular | Self::Sidecar)
    }
}

/// A container of a pod.
#[derive(Debug, Clone)]
pub struct Container<'a> {
    /// The whole container.
    pub node: Node<'a>,
    /// What it is for.
    pub role: Role,
    /// Its name; empty where it has none, which Kubernetes refuses.
    pub name: &'a str,
    /// Its image; empty where it has none, as a template may that something else completes.
    pub image: &'a str,
}

/// A port that a container names.
#[derive(Debug, Clone)]
pub struct Port<'a> {
    /// The whole port.
    pub node: Node<'a>,
    /// Its name, if it has one.
    pub name: Option<&'a str>,
    /// Where the container listens.
    pub container_port: Option<i32>,
    /// Where the node listens, if it does: absent and 0 are the same.
    pub host_port: Option<i32>,
    /// `TCP` where it is absent.
    pub protocol: &'a str,
}

/// An environment variable of a container.
#[derive(Debug, Clone)]
pub struct EnvVar<'a> {
    /// The whole variable.
    pub node: Node<'a>,
    /// Its name.
    pub name: &'a str,
    /// Its literal value; `None` where `valueFrom` says to look elsewhere.
    pub value: Option<&'a str>,
}

/// Every container of the pod spec at `spec`, in the order in which Kubernetes' own walk meets them: init containers
/// with sidecars among them, regular, ephemeral (`VisitContainers` in `pkg/api/v1/pod/util.go`).
pub fn containers<'a>(spec: &Node<'a>) -> Result<Vec<Container<'a>>, Malformed> {
    let mut all = Vec::new();
    for (list, role) in
        [("initContainers", Role::Init), ("containers", Role::Regular), ("ephemeralContainers", Role::Ephemeral)]
    {
        for node in spec.get(list)?.items()? {
            all.push(Container::new(node, role)?);
        }
    }
    Ok(all)
}

/// `text`, a variable's value or a word of the command line, as the kubelet hands it over: in place of `$(NAME)` the value of
/// the last of `variables` that has this name, `$$` as a dollar sign. What no value is known of stays as it stands
/// (`Expand` in `k8s.io/kubernetes/third_party/forked/golang/expansion/expand.go`).
///
/// Values of values of values grow without end: each reference costs its length and a look at all variables out of
/// `budget`, and what is beyond it counts as not known. Never given back, as a path is not.
#[inline(never)]
pub fn expand<'a>(text: &'a str, variables: &[EnvVar<'a>], budget: &mut usize) -> &'a str {
    let Some((mut before, mut rest)) = text.split_once('$') else { return text };
    let mut expanded = String::new();
    loop {
        expanded.push_str(before);
        if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            let value = variables.iter().rfind(|variable| variable.name == name).and_then(|variable| variable.value);
            *budget = budget.saturating_sub(variables.len() + value.map_or(0, str::len));
            match value.filter(|_| *budget > 0) {
                Some(value) => expanded.push_str(value),
                None => {
                    for part in ["$(", name, ")"] {
                        expanded.push_str(part);
                    }
                }
            }
            rest = after;
        } else {
            expanded.push('$');
            rest = rest.strip_prefix('$').unwrap_or(rest);
        }
        let Some(next) = rest.split_once('$') else { break };
        (before, rest) = next;
    }
    expanded.push_str(rest);
    expanded.leak()
}

impl<'a> Container<'a> {
    fn new(node: Node<'a>, role: Role) -> Result<Self, Malformed> {
        let restarts = role == Role::Init && node.string_at("restartPolicy")? == Some("Always");
        Ok(Self {
            role: if restarts { Role::Sidecar } else { role },
            name: node.text_at("name")?,
            image: node.text_at("image")?,
            node,
        })
    }

    /// The entry point; empty where the image's own is used.
    pub fn command(&self) -> Result<Vec<&'a str>, Malformed> {
        self.node.strings_at("command")
    }

    /// The arguments of the entry point; empty where the image's own are used.
    pub fn args(&self) -> Result<Vec<&'a str>, Malformed> {
        self.node.strings_at("args")
    }

    /// The environment variables of `env`, in order. What `envFrom` adds is not known here. References such as
    /// `$(OTHER)` are left as they are: see [`expand`].
    pub fn env(&self) -> Result<Vec<EnvVar<'a>>, Malformed> {
        let mut variables = Vec::new();
        for node in self.node.items_at("env")? {
            let literal = node.text_at("value")?;
            variables.push(EnvVar {
                name: node.text_at("name")?,
                value: node.get("valueFrom")?.is_absent().then_some(literal),
                node,
            });
        }
        Ok(variables)
    }

    /// The variable `name` as the container will see it: of several with one name, the last
    /// (`makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`).
    pub fn env_var(&self, name: &str) -> Result<Option<EnvVar<'a>>, Malformed> {
        Ok(self.env()?.into_iter().rfind(|variable| variable.name == name))
    }

    /// The ports that it names. It may listen on others.
    pub fn ports(&self) -> Result<Vec<Port<'a>>, Malformed> {
        let mut ports = Vec::new();
        for node in self.node.items_at("ports")? {
            let number = |field| Ok(node.int32_at(field)?.filter(|port| *port != 0));
            let text = |field| Ok(node.string_at(field)?.filter(|text| !text.is_empty()));
            ports.push(Port {
                name: text("name")?,
                container_port: number("containerPort")?,
                host_port: number("hostPort")?,
                protocol: text("protocol")?.unwrap_or("TCP"),
                node,
            });
        }
        Ok(ports)
    }

    /// The container's `resources`.
    pub fn resources(&self) -> Result<Node<'a>, Malformed> {
        self.node.get("resources")
    }

    /// What it asks for, by resource. Without the limits that stand in for it: see [`crate::complete`].
    pub fn requests(&self) -> Result<ResourceList<'a>, Malformed> {
        ResourceList::of(&self.node.dig("resources.requests")?)
    }

    /// What it may use at most, by resource.
    pub fn limits(&self) -> Result<ResourceList<'a>, Malformed> {
        ResourceList::of(&self.node.dig("resources.limits")?)
    }

    /// Whether it still lives, or is to be restarted.
    pub fn liveness_probe(&self) -> Result<Node<'a>, Malformed> {
        self.node.get("livenessProbe")
    }

    /// Whether it is to be sent work.
    pub fn readiness_probe(&self) -> Result<Node<'a>, Malformed> {
        self.node.get("readinessProbe")
    }

    /// Whether it has started, so that the other probes begin.
    pub fn startup_probe(&self) -> Result<Node<'a>, Malformed> {
        self.node.get("startupProbe")
    }

    /// The container's own `securityContext`, which precedes the pod's.
    pub fn security_context(&self) -> Result<Node<'a>, Malformed> {
        self.node.get("securityContext")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::quantity::Quantity;

    fn named(spec: &Value) -> Result<Vec<(Role, String, String)>, Malformed> {
        let found = containers(&Node::root(spec))?;
        Ok(found.iter().map(|c| (c.role, c.name.to_owned(), c.node.path().to_string())).collect())
    }

    #[test]
    fn every_list_is_walked_and_a_sidecar_is_told_from_an_init_container() {
        let spec = json!({
            "containers": [{ "name": "app", "restartPolicy": "Always" }],
            "initContainers": [
                { "name": "setup" },
                { "name": "proxy", "restartPolicy": "Always" },
                { "name": "once", "restartPolicy": "OnFailure" },
                { "name": "null", "restartPolicy": null },
            ],
            "ephemeralContainers": [{ "name": "debug" }],
        });
        let expected = [
            (Role::Init, "setup", "initContainers[0]"),
            (Role::Sidecar, "proxy", "initContainers[1]"),
            (Role::Init, "once", "initContainers[2]"),
            (Role::Init, "null", "initContainers[3]"),
            (Role::Regular, "app", "containers[0]"),
            (Role::Ephemeral, "debug", "ephemeralContainers[0]"),
        ];
        let expected: Vec<_> = expected.map(|(role, name, path)| (role, name.to_owned(), path.to_owned())).into();
        assert_eq!(named(&spec).unwrap(), expected);
        assert!(Role::Sidecar.is_long_running() && Role::Regular.is_long_running());
        assert!(!Role::Init.is_long_running() && !Role::Ephemeral.is_long_running());
    }

    #[test]
    fn absent_and_null_lists_hold_no_containers() {
        assert_eq!(named(&json!({})).unwrap(), []);
        assert_eq!(named(&json!({ "containers": null, "initContainers": [] })).unwrap(), []);
        assert_eq!(named(&Value::Null).unwrap(), []);
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        let problem = |spec: Value| named(&spec).unwrap_err().to_string();
        assert_eq!(problem(json!({ "containers": {} })), "containers: Invalid value: {}: must be a list");
        assert_eq!(problem(json!({ "containers": ["a"] })), r#"containers[0]: Invalid value: "a": must be an object"#);
        assert_eq!(
            problem(json!({ "initContainers": [{ "name": 1 }] })),
            "initContainers[0].name: Invalid value: 1: must be a string"
        );
        assert_eq!(problem(json!("pod")), r#"<object>: Invalid value: "pod": must be an object"#);
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let spec = json!({ "containers": [{ "env": [
            { "name": "A", "value": "1" },
            { "name": "A", "value": "2" },
            { "name": "B", "value": "1" },
            { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "EMPTY" },
        ] }] });
        let all = containers(&Node::root(&spec)).unwrap();
        let value = |name| all[0].env_var(name).unwrap().map(|variable| variable.value);
        assert_eq!(value("A"), Some(Some("2")));
        assert_eq!(value("B"), Some(None));
        assert_eq!(value("EMPTY"), Some(Some("")));
        assert_eq!(value("C"), None);
    }

    /// `expected` is what the kubelet's `Expand` makes of the text with these variables.
    #[track_caller]
    fn check_expansion(text: &str, expected: &str) {
        let nothing = Value::Null;
        let variable = |name, value| EnvVar { node: Node::root(&nothing), name, value };
        let variables = [
            variable("A", Some("old")),
            variable("B", Some("b$(A)")),
            variable("EMPTY", Some("")),
            variable("ELSEWHERE", Some("known once")),
            variable("ELSEWHERE", None),
            variable("A", Some("1g")),
        ];
        assert_eq!(expand(text, &variables, &mut 1000), expected);
    }

    #[test]
    fn references_are_replaced_as_the_kubelet_does() {
        check_expansion("", "");
        check_expansion("no reference", "no reference");
        check_expansion("$(A)", "1g");
        check_expansion("-Xms$(A) -Xmx$(A)m!", "-Xms1g -Xmx1gm!");
        // Once: what a value holds was expanded when it was set.
        check_expansion("<$(B)>", "<b$(A)>");
        check_expansion("<$(EMPTY)>", "<>");
        // What is not known stays.
        check_expansion("$(C) $(ELSEWHERE) $()", "$(C) $(ELSEWHERE) $()");
        check_expansion("$(expr $(A))", "$(expr $(A))");
        // A dollar sign that is meant.
        check_expansion("$$(A) $$$(A) $$$$(A)", "$(A) $1g $$(A)");
        check_expansion("kill $$ $", "kill $ $");
        check_expansion("$A ${A} $é$(A) $((A))", "$A ${A} $é1g $((A))");
        // A reference that never ends.
        check_expansion("$(A", "$(A");
        check_expansion("$($(A)", "$($(A)");
        check_expansion("$(", "$(");
    }

    #[test]
    fn references_do_not_grow_without_end() {
        let nothing = Value::Null;
        let mut variables = vec![EnvVar { node: Node::root(&nothing), name: "A", value: Some("0123456789") }];
        let mut budget = 10_000;
        for _ in 0..100 {
            let value = expand("$(A)$(A)", &variables, &mut budget);
            variables.push(EnvVar { node: Node::root(&nothing), name: "A", value: Some(value) });
        }
        assert_eq!(budget, 0);
        let longest = variables.iter().filter_map(|variable| variable.value).map(str::len).max();
        assert!(longest.is_some_and(|longest| (1000..10_000).contains(&longest)), "{longest:?}");
        // As long as it goes: one variable to look at, and ten letters.
        assert_eq!(expand("$(A)", &variables[..1], &mut 12), "0123456789");
        assert_eq!(expand("$(A)", &variables[..1], &mut 11), "$(A)");
    }

    #[test]
    fn ports_and_resources_are_read_with_their_defaults() {
        let spec = json!({ "containers": [{
            "command": ["zkServer.sh", null], "args": null,
            "ports": [
                { "name": "client", "containerPort": 2181, "hostPort": 0 },
                { "containerPort": 53, "hostPort": 53, "protocol": "UDP", "name": "" },
            ],
            "resources": { "limits": { "memory": "1Gi", "cpu": 0.5 } },
            "livenessProbe": { "exec": {} },
            "securityContext": { "runAsUser": 1 },
        }] });
        let container = &containers(&Node::root(&spec)).unwrap()[0];
        let ports: Vec<_> = container.ports().unwrap();
        assert_eq!(
            ports.iter().map(|p| (p.name, p.container_port, p.host_port, p.protocol)).collect::<Vec<_>>(),
            [(Some("client"), Some(2181), None, "TCP"), (None, Some(53), Some(53), "UDP")]
        );
        assert_eq!(ports[1].node.path().to_string(), "containers[0].ports[1]");
        assert_eq!(container.command().unwrap(), ["zkServer.sh", ""]);
        assert!(container.args().unwrap().is_empty());
        assert_eq!(container.limits().unwrap().get("cpu").and_then(Quantity::milli), Some(500));
        assert!(container.requests().unwrap().is_empty());
        assert!(container.resources().unwrap().is_present());
        assert!(container.liveness_probe().unwrap().is_present());
        assert!(container.readiness_probe().unwrap().is_absent());
        assert!(container.startup_probe().unwrap().is_absent());
        assert_eq!(container.security_context().unwrap().get("runAsUser").unwrap().int64().unwrap(), Some(1));
    }
}
