//! A Kubernetes API server on loopback that holds the objects of a case: as much of it as Kubewarden's client asks.
//!
//! That is: the resources of an API version, an object, a list, and a watch that never has news. Written on plain sockets: each
//! request is one line and some headers that say nothing here, and each answer ends with its connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::grants::ContextAwareResource;
use cluster::resources::join_api_version;
use cluster::{Cluster, Grants};
use serde_json::{Value, json};

/// What the client looks up besides: no more than what the policies of this workspace could be granted.
const KINDS: [(&str, &str, &str); 7] = [
    ("v1", "Pod", "pods"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Service", "services"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
];

/// A client that says less than a request in this time is left alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a watch is quiet before it looks whether it is still wanted.
const WATCH_TICK: Duration = Duration::from_millis(100);

/// Serves `cluster` while `work` runs; `work` gets the address.
pub(crate) fn serve<T>(cluster: &Cluster, work: impl FnOnce(SocketAddr) -> T) -> Result<T> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    let stop = AtomicBool::new(false);
    Ok(thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if let Ok(stream) = stream {
                    scope.spawn(move || drop(answer(stream, cluster, stop)));
                }
            }
        });
        // Dropped even when `work` panics: the scope waits for its threads.
        let _stopper = Stopper { stop, address };
        work(address)
    }))
}

struct Stopper<'s> {
    stop: &'s AtomicBool,
    address: SocketAddr,
}

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

fn answer(mut stream: TcpStream, cluster: &Cluster, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(64 << 10)).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let target = line.split(' ').nth(1).unwrap_or_default();
    match respond(cluster, target) {
        Answer::Object(status, body) => {
            let body = body.to_string();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
        Answer::Quiet => {
            // Without a length: the answer lasts as long as the connection.
            stream.write_all(b"HTTP/1.1 200 -\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
            stream.set_read_timeout(Some(WATCH_TICK))?;
            while !stop.load(Ordering::Relaxed) {
                match stream.read(&mut [0]) {
                    Ok(0) => break,
                    Err(error)
                        if !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                    {
                        break;
                    }
                    _ => {}
                }
            }
            Ok(())
        }
    }
}

/// What is answered to one request.
#[derive(Debug, PartialEq)]
enum Answer {
    /// Status and body.
    Object(u16, Value),
    /// A watch.
    Quiet,
}

/// `target` is a path with its query, such as `/apis/apps/v1/namespaces/a/statefulsets?limit=500`.
fn respond(cluster: &Cluster, target: &str) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (api_version, rest) = match segments[..] {
        ["api", version, ref rest @ ..] => (version.to_owned(), rest),
        ["apis", group, version, ref rest @ ..] => (join_api_version(group, version), rest),
        _ => return not_found(target),
    };
    let kind_of = |plural: &str| KINDS.iter().find(|kind| kind.0 == api_version && kind.2 == plural).map(|kind| kind.1);
    match *rest {
        [] => resources(&api_version),
        ["namespaces", namespace, plural, ref name @ ..] => match (kind_of(plural), name) {
            (Some(kind), []) => list(cluster, &api_version, kind, Some(namespace), query),
            (Some(kind), [name]) => match cluster.find(&api_version, kind, namespace, name) {
                Some(object) => Answer::Object(200, object.clone()),
                None => not_found(target),
            },
            _ => not_found(target),
        },
        [plural] => match kind_of(plural) {
            Some(kind) => list(cluster, &api_version, kind, None, query),
            None => not_found(target),
        },
        _ => not_found(target),
    }
}

fn resources(api_version: &str) -> Answer {
    let resources: Vec<Value> = KINDS
        .iter()
        .filter(|kind| kind.0 == api_version)
        .map(|(_, kind, plural)| {
            json!({
                "name": plural, "singularName": kind.to_lowercase(), "namespaced": true, "kind": kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    if resources.is_empty() {
        return not_found(api_version);
    }
    let body =
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources });
    Answer::Object(200, body)
}

fn list(cluster: &Cluster, api_version: &str, kind: &str, namespace: Option<&str>, query: &str) -> Answer {
    let asked = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    if ["labelSelector", "fieldSelector"].into_iter().any(|key| asked(key).is_some()) {
        return failure(501, "selectors are not known here");
    }
    if asked("watch").is_some_and(|value| value != "false" && value != "0") {
        return Answer::Quiet;
    }
    let grants = Grants::cluster_wide([ContextAwareResource { api_version: api_version.into(), kind: kind.into() }]);
    let (operation, payload) = match namespace {
        Some(namespace) => {
            ("list_resources_by_namespace", json!({ "api_version": api_version, "kind": kind, "namespace": namespace }))
        }
        None => ("list_resources_all", json!({ "api_version": api_version, "kind": kind })),
    };
    let listed = cluster.call(&grants, "kubernetes", operation, payload.to_string().as_bytes());
    match listed.map(|bytes| serde_json::from_slice::<Value>(&bytes)) {
        Ok(Ok(mut list)) => {
            // A client goes on watching from here.
            list["metadata"] = json!({ "resourceVersion": "1" });
            Answer::Object(200, list)
        }
        Ok(Err(error)) => failure(500, &error.to_string()),
        Err(error) => failure(500, &error.to_string()),
    }
}

fn not_found(what: &str) -> Answer {
    failure(404, &format!("{what} not found"))
}

fn failure(code: u16, message: &str) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "InternalError" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    });
    Answer::Object(code, status)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cluster() -> Cluster {
        let set = |namespace: &str, name: &str| {
            Arc::new(json!({ "apiVersion": "apps/v1", "kind": "StatefulSet",
                "metadata": { "namespace": namespace, "name": name }, "spec": { "replicas": 3 } }))
        };
        Cluster::new([set("a", "x"), set("a", "y"), set("b", "z")])
    }

    fn body(target: &str) -> Value {
        match respond(&cluster(), target) {
            Answer::Object(200, body) => body,
            other => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn tells_what_it_serves() {
        let core = body("/api/v1");
        assert_eq!(core["groupVersion"], "v1");
        assert_eq!(core["resources"][0]["kind"], "Pod");
        assert_eq!(body("/apis/policy/v1")["resources"][0]["name"], "poddisruptionbudgets");
        assert!(matches!(respond(&cluster(), "/apis/none/v1"), Answer::Object(404, _)));
    }

    #[test]
    fn lists_one_namespace_or_all() {
        let names = |target: &str| -> Vec<String> {
            let items = body(target)["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("/apis/apps/v1/namespaces/a/statefulsets?limit=500"), ["x", "y"]);
        assert_eq!(names("/apis/apps/v1/statefulsets"), ["x", "y", "z"]);
        assert!(names("/apis/policy/v1/namespaces/a/poddisruptionbudgets").is_empty());
        assert_eq!(body("/apis/apps/v1/statefulsets")["kind"], "StatefulSetList");
    }

    #[test]
    fn a_selector_is_refused_rather_than_passed_over() {
        let answer = respond(&cluster(), "/apis/apps/v1/namespaces/a/statefulsets?labelSelector=app%3Dx");
        assert!(matches!(answer, Answer::Object(501, _)), "{answer:?}");
    }

    #[test]
    fn gets_one_object_or_says_that_it_is_not_there() {
        assert_eq!(body("/apis/apps/v1/namespaces/b/statefulsets/z")["spec"]["replicas"], 3);
        let answer = respond(&cluster(), "/apis/apps/v1/namespaces/b/statefulsets/x");
        assert!(matches!(&answer, Answer::Object(404, status) if status["reason"] == "NotFound"), "{answer:?}");
    }

    #[test]
    fn a_watch_is_quiet_and_ends_with_the_work() {
        let query = "/apis/apps/v1/namespaces/a/statefulsets?watch=true&resourceVersion=1";
        assert_eq!(respond(&cluster(), query), Answer::Quiet);
        let mut watch = serve(&cluster(), |address| {
            let watch = TcpStream::connect(address).unwrap();
            write!(&watch, "GET {query} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut watch = BufReader::new(watch);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                assert_ne!(watch.read_line(&mut line).unwrap(), 0, "it ended early");
            }
            watch
        })
        .unwrap();
        let mut news = String::new();
        watch.read_to_string(&mut news).unwrap();
        assert_eq!(news, "");
    }

    #[test]
    fn answers_over_http() {
        let answer = serve(&cluster(), |address| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET /api/v1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            all
        })
        .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with('}'), "{answer}");
    }
}
