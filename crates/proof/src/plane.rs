//! A Kubernetes control plane with simulated nodes, for as long as a value lives.
//!
//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones; kwok plays the kubelets: a bound pod is
//! ready at once, and nothing runs in it. All listen on loopback, on ports that the system has free.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::api::Api;

/// The variable that names the folder of the programs.
pub const BINARIES: &str = "QUORATE_CLUSTER_BIN";
/// What a control plane is made of.
const PROGRAMS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"];
/// How long the API server may take until it is ready, on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(2);

/// Runs a program until it ends by itself, or until nobody holds the other end of the standard input any more: however the
/// proof ends, even killed, what it started ends too.
const LEASH: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null & child=$!
{ read -r _ <&3; kill "$child"; for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$child" || exit; sleep 0.2; done; kill -9 "$child"; } 2>/dev/null &
watch=$!
wait "$child"; code=$?
kill "$watch" 2>/dev/null
exit "$code"
"#;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs(BTreeMap<&'static str, PathBuf>);

impl Programs {
    /// Finds them, and `more`, in the folder that [`BINARIES`] names, or on `PATH`.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn find(more: &[&'static str]) -> Result<Self> {
        let named = std::env::var_os(BINARIES).filter(|folder| !folder.is_empty());
        let folders: Vec<PathBuf> = match &named {
            Some(folder) => vec![PathBuf::from(folder)],
            None => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect(),
        };
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        let wanted = [&PROGRAMS, more].concat();
        for program in &wanted {
            match folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file()) {
                Some(path) => drop(found.insert(*program, fs::canonicalize(&path).unwrap_or(path))),
                None => missing.push(*program),
            }
        }
        if missing.is_empty() {
            return Ok(Self(found));
        }
        let place = named.map_or("PATH".to_owned(), |folder| folder.to_string_lossy().into_owned());
        bail!(
            "not found in {place}: {}. Set {BINARIES} to a folder that holds {} (tried with Kubernetes 1.36 and kwok 0.8)",
            missing.join(", "),
            wanted.join(", ")
        )
    }

    /// Where one of them is.
    pub fn path<'a>(&'a self, program: &'a str) -> &'a Path {
        self.0.get(program).map_or(Path::new(program), PathBuf::as_path)
    }
}

/// What a control plane is started with beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More arguments for kube-apiserver.
    pub api_server: Vec<String>,
    /// More arguments for kube-controller-manager.
    pub controller_manager: Vec<String>,
    /// What is switched on that this version has off, for kube-apiserver and kube-controller-manager.
    pub features: Vec<&'static str>,
}

/// A running control plane.
#[derive(Debug)]
pub struct Plane {
    /// Its API.
    pub api: Api,
    /// What `kubectl` needs.
    pub kubeconfig: PathBuf,
    running: Vec<(&'static str, Child)>,
    // Held for its Drop: the folder goes when all have ended.
    folder: TempDir,
}

impl Plane {
    /// Starts everything, and waits until the API server is ready.
    ///
    /// # Errors
    /// What could not be started, with the end of its log.
    pub async fn start(programs: &Programs, options: &Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("quorate-plane-").tempdir().context("a folder for the data")?;
        let at = |name: &str| folder.path().join(name);
        let [serving, client, peer, manager, scheduler, kwok] = free_ports()?;
        let key = rcgen::KeyPair::generate().context("a key for service accounts")?;
        fs::write(at("sa.key"), key.serialize_pem())?;
        fs::write(at("sa.pub"), key.public_key_pem())?;
        let token: String = std::iter::repeat_with(fastrand::alphanumeric).take(32).collect();
        fs::write(at("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
        fs::write(at("stages.yaml"), include_str!("stages.yaml"))?;
        let kubeconfig = at("kubeconfig");
        // JSON is YAML. The certificate is one that the server makes for itself, for as long as this folder is there.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proof",
            "clusters": [{ "name": "proof", "cluster": {
                "server": format!("https://127.0.0.1:{serving}"), "insecure-skip-tls-verify": true,
            }}],
            "users": [{ "name": "admin", "user": { "token": token } }],
            "contexts": [{ "name": "proof", "context": { "cluster": "proof", "user": "admin" } }],
        });
        fs::write(&kubeconfig, config.to_string())?;

        let api = Api::connect(&kubeconfig).await?;
        let mut plane = Self { api, kubeconfig: kubeconfig.clone(), running: Vec::new(), folder };
        let (store, peers) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let config = kubeconfig.to_string_lossy().into_owned();
        let path = |name: &str| at_text(plane.folder.path(), name);
        let text = |flags: &[(&str, &str)]| flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        let etcd: Vec<String> = text(&[
            ("data-dir", &path("etcd")),
            ("unsafe-no-fsync", "true"),
            ("listen-client-urls", &store),
            ("advertise-client-urls", &store),
            ("listen-peer-urls", &peers),
            ("initial-advertise-peer-urls", &peers),
            ("initial-cluster", &format!("default={peers}")),
        ]);
        let mut server: Vec<String> = text(&[
            ("etcd-servers", &store),
            ("secure-port", &serving.to_string()),
            ("bind-address", "127.0.0.1"),
            ("cert-dir", &path("certs")),
            ("service-account-key-file", &path("sa.pub")),
            ("service-account-signing-key-file", &path("sa.key")),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("token-auth-file", &path("tokens.csv")),
            ("authorization-mode", "RBAC"),
            ("service-cluster-ip-range", "10.0.0.0/16"),
            ("allow-privileged", "true"),
            ("disable-admission-plugins", "ServiceAccount"),
            ("max-requests-inflight", "4000"),
            ("max-mutating-requests-inflight", "2000"),
            ("enable-priority-and-fairness", "false"),
        ]);
        server.extend(options.api_server.iter().cloned());
        let features: Vec<String> =
            options.features.iter().map(|feature| format!("--feature-gates={feature}=true")).collect();
        server.extend(features.iter().cloned());
        let mut manager: Vec<String> = text(&[
            ("kubeconfig", &config),
            ("authentication-kubeconfig", &config),
            ("authorization-kubeconfig", &config),
            ("service-account-private-key-file", &path("sa.key")),
            ("use-service-account-credentials", "true"),
            ("bind-address", "127.0.0.1"),
            ("secure-port", &manager.to_string()),
            ("leader-elect", "false"),
            ("kube-api-qps", "2000"),
            ("kube-api-burst", "4000"),
            ("concurrent-statefulset-syncs", "20"),
            // Nodes that kwok plays say once that they are ready, and a play may be longer than a kubelet may be silent.
            ("node-monitor-grace-period", "24h"),
        ]);
        manager.extend(options.controller_manager.iter().cloned());
        manager.extend(features);
        let scheduler: Vec<String> = text(&[
            ("kubeconfig", &config),
            ("authentication-kubeconfig", &config),
            ("authorization-kubeconfig", &config),
            ("bind-address", "127.0.0.1"),
            ("secure-port", &scheduler.to_string()),
            ("leader-elect", "false"),
            ("kube-api-qps", "2000"),
            ("kube-api-burst", "4000"),
        ]);
        let kwok: Vec<String> = text(&[
            ("kubeconfig", &config),
            ("manage-all-nodes", "true"),
            ("server-address", &format!("127.0.0.1:{kwok}")),
            ("config", &path("stages.yaml")),
        ]);
        plane.spawn(programs, "etcd", &etcd)?;
        plane.spawn(programs, "kube-apiserver", &server)?;
        plane.ready().await?;
        plane.spawn(programs, "kube-controller-manager", &manager)?;
        plane.spawn(programs, "kube-scheduler", &scheduler)?;
        plane.spawn(programs, "kwok", &kwok)?;
        plane.controllers_ready().await?;
        Ok(plane)
    }

    /// The version of Kubernetes, such as `v1.36.3`.
    pub async fn version(&self) -> Result<String> {
        let version = self.api.get("/version").await.map_err(anyhow::Error::msg)?;
        Ok(version["gitVersion"].as_str().unwrap_or("?").to_owned())
    }

    /// Ends everything, in order, and waits for it. Dropping a plane ends everything too, without waiting.
    pub async fn stop(mut self) {
        while let Some((_, mut child)) = self.running.pop() {
            drop(child.stdin.take());
            // What does not end by itself is killed by its leash within two seconds.
            drop(child.wait().await);
        }
    }

    fn spawn(&mut self, programs: &Programs, name: &'static str, arguments: &[String]) -> Result<()> {
        let log = File::create(self.log(name))?;
        let child = leashed(programs.path(name), arguments)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        self.running.push((name, child));
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// Fails when something has ended that should run.
    ///
    /// # Errors
    /// What ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(8).collect();
                let last: String = last.iter().rev().fold(String::new(), |mut text, line| {
                    let _ = write!(text, "\n  {line}");
                    text
                });
                bail!("{name} ended ({status}):{last}");
            }
        }
        Ok(())
    }

    // The one place that looks again and again: a server that is not there yet offers no watch.
    async fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            self.check()?;
            match self.api.get_text("/readyz").await {
                Ok(_) => return Ok(()),
                Err(_) if began.elapsed() < START_LIMIT => sleep(Duration::from_millis(100)).await,
                Err(error) => bail!("the API server is not ready after {START_LIMIT:?}: {error}"),
            }
        }
    }

    /// The controllers run when the namespace `default` has what one of them puts into each: its root certificate.
    async fn controllers_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            self.check()?;
            match self.api.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").await {
                Ok(_) => return Ok(()),
                Err(_) if began.elapsed() < START_LIMIT => sleep(Duration::from_millis(50)).await,
                Err(error) => bail!("the controllers do nothing after {START_LIMIT:?}: {error}"),
            }
        }
    }
}

/// A node that kwok plays, with room for everything.
pub fn node(name: &str, labels: &Value) -> Value {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" } },
        "status": { "allocatable": { "cpu": "1k", "memory": "1Ti", "pods": "1k" }, "capacity": { "cpu": "1k", "memory": "1Ti", "pods": "1k" } },
    });
    for (key, value) in labels.as_object().into_iter().flatten() {
        node["metadata"]["labels"][key] = value.clone();
    }
    node
}

/// A program that ends when the standard input of the child is closed, also by our own end.
pub fn leashed(program: &Path, arguments: &[String]) -> Command {
    let mut words: Vec<OsString> = vec!["-c".into(), LEASH.into(), "leash".into(), program.into()];
    words.extend(arguments.iter().map(OsString::from));
    let mut command = Command::new("sh");
    // A key that interrupts the proof reaches these only through it.
    command.args(words).stdin(Stdio::piped()).process_group(0);
    command
}

fn at_text(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

/// Ports that nobody listens on: all are taken at once, so that they differ, and let go.
///
/// # Errors
/// There are none.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let taken = std::array::from_fn::<_, N, _>(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(taken) {
        *port = listener.context("no free port on loopback")?.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    /// Whether there is such a process.
    async fn lives(process: &str) -> bool {
        let asked = Command::new("sh").args(["-c", "kill -0 \"$0\" 2>/dev/null", process]).status().await;
        asked.unwrap().success()
    }

    /// Starts something that says its process and then runs for long.
    async fn start(script: &str) -> (Child, String) {
        let mut child =
            leashed(Path::new("sh"), &["-c".to_owned(), script.to_owned()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        (child, line.trim().to_owned())
    }

    #[tokio::test]
    async fn what_is_started_ends_with_us() {
        for script in ["echo $$; exec sleep 600", "trap '' TERM; echo $$; while :; do sleep 1; done"] {
            let (mut child, process) = start(script).await;
            assert!(lives(&process).await);
            // As when this process ends, however it does.
            drop(child.stdin.take());
            child.wait().await.unwrap();
            assert!(!lives(&process).await, "{script}");
        }
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_noticed() {
        let (mut child, _) = start("echo here; exit 7").await;
        // Waiting would close it.
        let _held = child.stdin.take();
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
    }

    #[test]
    fn ports_differ() {
        let ports: [u16; 6] = free_ports().unwrap();
        assert_eq!(ports.iter().collect::<std::collections::BTreeSet<_>>().len(), 6, "{ports:?}");
    }
}
