//! One probe: whether Kubernetes takes it, and whom it asks.
//!
//! What Kubernetes refuses is that of `validateProbe`, `validateLivenessProbe`, `validateReadinessProbe` and `validateStartupProbe`
//! in `pkg/apis/core/validation/validation.go`; a template is refused for the same as a pod.

use policy::{Level, Problem};
use serde_json::Value;
use workload::catalogue::{Asks, Handler, System};
use workload::node::to_json;
use workload::texts::join;
use workload::{Malformed, Node, glob};

use crate::Kind;
use crate::judge::{Judge, Said};

/// A probe whose defaults are filled in.
pub(crate) struct Probe<'a> {
    pub(crate) kind: Kind,
    pub(crate) node: Node<'a>,
    /// How it asks: `exec`, `httpGet`, `tcpSocket`, `grpc` or what is newer, with its field. Absent where that is not one.
    pub(crate) handler: Option<(&'static str, Node<'a>)>,
    pub(crate) delay: i64,
    pub(crate) period: i64,
    pub(crate) timeout: i64,
    pub(crate) failures: i64,
    pub(crate) successes: i64,
    /// Whether all of its numbers are such as Kubernetes takes.
    pub(crate) is_counted: bool,
}

const GRACE: &str = "terminationGracePeriodSeconds";
const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];

impl<'a> Probe<'a> {
    /// Reads the probe at `node`, and tells what Kubernetes refuses of it and what cannot work.
    pub(crate) fn read(kind: Kind, node: Node<'a>, judge: &mut Judge<'_, '_>) -> Result<Self, Malformed> {
        let before = judge.told.len();
        let mut numbers = [0; 5];
        for (number, field) in numbers.iter_mut().zip(NUMBERS) {
            let found = node.get(field)?;
            *number = i64::from(found.int32()?.unwrap_or(0));
            if *number < 0 {
                judge.refuse(kind, field, found, "must not be negative");
            }
        }
        let [delay, period, timeout, failures, successes] = numbers;
        if kind != Kind::Readiness && successes > 1 {
            judge.refuse(kind, "successThreshold", node.get("successThreshold")?, "must be 1, save for readiness");
        }
        let grace = node.get(GRACE)?;
        let seconds = grace.int64()?;
        if seconds.is_some() && kind == Kind::Readiness {
            judge.refuse(kind, GRACE, grace, "must not be set for readiness, which ends nothing");
        } else if seconds.is_some_and(|seconds| seconds < 1) {
            judge.refuse(kind, GRACE, grace, "must be greater than 0");
        }
        let is_counted = judge.told.len() == before;
        let handler = handler(kind, &node, judge)?;
        match handler {
            Some(("exec", exec)) => {
                let command = exec.get("command")?;
                if command.items()?.is_empty() {
                    judge.refuse(kind, "command", command, "must name a command");
                }
            }
            Some((name, handler)) => {
                port(kind, name, &handler.get("port")?, judge)?;
                if name == "httpGet" {
                    http(kind, &handler, judge)?;
                }
                if name != "grpc" {
                    host(kind, &handler, judge)?;
                }
            }
            None => {}
        }
        Ok(Self { kind, node, handler, delay, period, timeout, failures, successes, is_counted })
    }

    /// For how long it fails before it has consequences.
    pub(crate) fn budget(&self) -> i64 {
        self.period * self.failures
    }

    /// Whether it asks the same as `other`.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        let (Some((name, handler)), Some((other_name, other))) = (self.handler, other.handler) else { return false };
        let json = |node: &Node<'_>| node.value().map(to_json);
        name == other_name && json(&handler) == json(&other)
    }

    /// Whom the catalogue knows it to ask, and the field that tells.
    pub(crate) fn asks(&self, system: &System) -> Result<Option<(Asks, Node<'a>)>, Malformed> {
        let Some((name, handler)) = self.handler else { return Ok(None) };
        let (told_by, command, path) = match name {
            "httpGet" => {
                let path = handler.get("path")?;
                let text = path.string()?.unwrap_or_default();
                // The kubelet asks for `/health` where the path is `health`.
                let slash = if text.starts_with('/') { "" } else { "/" };
                (path, String::new(), join(&[slash, text], ""))
            }
            "exec" => {
                let words = handler.get("command")?;
                let command = join(&words.strings()?, " ");
                let path = path_of_url(&command);
                (words, command, path)
            }
            _ => return Ok(None),
        };
        for fact in system.probes() {
            let fits = match fact.handler {
                Handler::Http(pattern) => glob::matches(pattern, &path),
                Handler::Exec(pattern) => !command.is_empty() && glob::matches(pattern, &command),
            };
            if fits {
                return Ok(Some((fact.asks, told_by)));
            }
        }
        Ok(None)
    }
}

const NUMBERS: [&str; 5] =
    ["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"];

/// The path, with its query, of the URL that a command such as `curl -f http://localhost:2379/health` asks for; empty
/// where there is none.
fn path_of_url(command: &str) -> String {
    for word in command.split(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'' | ';' | '|' | ')')) {
        let Some((_, location)) = word.split_once("//") else { continue };
        return location.split_once('/').map_or(String::new(), |(_, path)| join(&["/", path], ""));
    }
    String::new()
}

/// The one handler of the probe at `node`.
fn handler<'a>(
    kind: Kind,
    node: &Node<'a>,
    judge: &mut Judge<'_, '_>,
) -> Result<Option<(&'static str, Node<'a>)>, Malformed> {
    let mut found: Option<(&'static str, Node<'a>)> = None;
    for name in HANDLERS {
        let handler = node.get(name)?;
        if handler.is_absent() {
            continue;
        }
        if let Some((first, _)) = found {
            let reason = [": a probe asks in one way, and ", first, " is there already"];
            judge.tell_refusal(kind, "handler", handler.path(), Problem::Forbidden, &reason, "leave only one of them");
            return Ok(None);
        }
        found = Some((name, handler));
    }
    // A handler that is newer than this policy is an object too, and no other field is.
    let is_unknown = node.object()?.is_some_and(|fields| fields.values().any(Value::is_object));
    if found.is_none() && !is_unknown {
        let advice = "give it one of exec, httpGet, tcpSocket and grpc";
        judge.tell_refusal(kind, "handler", node.path(), Problem::Required, &[" is asked in no way"], advice);
    }
    Ok(found)
}

/// What Kubernetes refuses of `httpGet` beside its port: `validateHTTPGetAction`.
fn http(kind: Kind, handler: &Node<'_>, judge: &mut Judge<'_, '_>) -> Result<(), Malformed> {
    let scheme = handler.get("scheme")?;
    if !matches!(scheme.string()?, None | Some("" | "HTTP" | "HTTPS")) {
        judge.refuse(kind, "scheme", scheme, "must be HTTP or HTTPS, in capitals");
    }
    for header in handler.items_at("httpHeaders")? {
        let name = header.get("name")?;
        let text = name.string()?.unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            judge.refuse(kind, "httpHeaders", name, "must be of letters, digits and hyphens");
            break;
        }
    }
    Ok(())
}

/// Whether it asks the pod. On the node's own network the kubelet's `127.0.0.1` is the pod's, and kubeadm names the address
/// of the node; everywhere else a host is another place than the pod.
fn host(kind: Kind, handler: &Node<'_>, judge: &mut Judge<'_, '_>) -> Result<(), Malformed> {
    let host = handler.get("host")?;
    let name = host.string()?.unwrap_or_default();
    if name.is_empty() || judge.pod.is_on_node {
        return Ok(());
    }
    judge.say(Said {
        code: "another-host",
        level: Level::Warning,
        about: kind.field(),
        path: host.path(),
        problem: Problem::Invalid(name.into()),
        measure: 0,
        reason: &[" is judged by who answers there"],
        why: &["the node asks this host instead of the pod; Pod Security refuses that since 1.34"],
        advice: &["remove it; a name that the server wants goes into httpHeaders, as Host"],
    });
    Ok(())
}

/// Whether there is such a port to ask.
fn port(kind: Kind, handler: &str, node: &Node<'_>, judge: &mut Judge<'_, '_>) -> Result<(), Malformed> {
    let name = match node.value() {
        Some(Value::String(name)) if handler != "grpc" => name.as_str(),
        _ => {
            if !(1..=65535).contains(&node.int32()?.unwrap_or(0)) {
                judge.refuse(kind, "port", *node, "must be from 1 to 65535");
            }
            return Ok(());
        }
    };
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        let must = if name.is_empty() { "must not be empty" } else { "a number must stand without quotes" };
        judge.refuse(kind, "port", *node, must);
        return Ok(());
    }
    let pod = judge.pod;
    let has_it = |of: usize| pod.ports_of(of).iter().any(|port| port.name == Some(name));
    if has_it(judge.index) {
        return Ok(());
    }
    // The kubelet looks for the name among the container's own ports (`ResolveContainerPort` in `pkg/probe/util.go`), and
    // a probe that fails to find it is no answer (`doProbe` in `pkg/kubelet/prober/worker.go`): the container stays what
    // it was before the first one.
    let stays = match kind {
        Kind::Liveness => "is never asked, nor restarted",
        Kind::Readiness => "never becomes ready",
        Kind::Startup => "never counts as started",
    };
    let mut names = Vec::new();
    for port in pod.ports_of(judge.index) {
        names.extend(port.name);
    }
    let names = join(&names, ", ");
    let mut advice = if names.is_empty() {
        ["use the number, or give it this name in the container's ports", "", ""]
    } else {
        ["use one of its names (", &names, ") or the number"]
    };
    for (other, container) in pod.containers.iter().enumerate() {
        if has_it(other) {
            advice = ["use the number: only container \"", container.name, "\" knows the name"];
        }
    }
    judge.say(Said {
        code: "unknown-port",
        level: Level::Error,
        about: kind.field(),
        path: node.path(),
        problem: Problem::Invalid(name.into()),
        measure: 0,
        reason: &[" names no such port, so that it ", stays],
        why: &[],
        advice: &advice,
    });
    Ok(())
}
