//! The real policy-server, with a certificate of its own and all modules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use proof::plane::{Plane, free_ports, leashed};
use proof::rules::Rules;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::sleep;

use crate::hooks::{self, Endpoint};

/// The account that the policies' role is bound to: as this one the server looks up, and as nobody else.
const ACCOUNT: &str = "system:serviceaccount:kubewarden:policy-server";
/// How long it may take until it is ready: it compiles each module, and tries to reach Sigstore.
const START_LIMIT: Duration = Duration::from_mins(4);

/// A policy-server: what is needed to start it, and the one that runs.
pub(crate) struct Server {
    program: PathBuf,
    folder: TempDir,
    entries: Map<String, Value>,
    /// How the API server reaches it; the same after another start.
    pub(crate) endpoint: Endpoint,
    probe: u16,
    /// How long one evaluation may take, in seconds.
    patience: u32,
    running: Option<Child>,
}

impl Server {
    /// A server that is not started yet, without policies.
    pub(crate) fn new(program: &Path, plane: &Plane, rules: &Rules) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("quorate-server-").tempdir().context("a folder for the server")?;
        let at = |name: &str| folder.path().join(name);
        for name in rules.names() {
            let builtin = quorate::engine::builtins().iter().find(|builtin| builtin.name() == name);
            let wasm = builtin.with_context(|| format!("no module of {name}"))?.wasm();
            fs::write(at(&format!("{name}.wasm")), wasm)?;
        }
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).context("a certificate")?;
        let certificate = made.cert.pem();
        fs::write(at("cert.pem"), &certificate)?;
        fs::write(at("key.pem"), made.signing_key.serialize_pem())?;
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(&plane.kubeconfig)?)?;
        kubeconfig["users"][0]["user"]["as"] = ACCOUNT.into();
        fs::write(at("kubeconfig"), kubeconfig.to_string())?;
        let [port, probe] = free_ports()?;
        let certificate = base64::engine::general_purpose::STANDARD.encode(certificate);
        let endpoint = Endpoint { port, certificate };
        let program = program.to_owned();
        Ok(Self { program, folder, entries: Map::new(), endpoint, probe, patience: 20, running: None })
    }

    /// Adds what the controller would configure for this ClusterAdmissionPolicy of the policy.
    pub(crate) fn add(&mut self, policy: &str, resource: &Value) {
        let module = format!("file://{}", self.folder.path().join(format!("{policy}.wasm")).display());
        self.entries.insert(hooks::id(resource), hooks::entry(resource, &module));
    }

    /// Changes the entry of a policy that was added.
    pub(crate) fn change(&mut self, id: &str, change: impl FnOnce(&mut Value)) {
        if let Some(entry) = self.entries.get_mut(id) {
            change(entry);
        }
    }

    /// How many policies it has.
    pub(crate) fn policies(&self) -> usize {
        self.entries.len()
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let at = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        fs::write(at("policies.yml"), Value::Object(self.entries.clone()).to_string())?;
        let mut arguments = Vec::new();
        for (flag, value) in [
            ("policies", at("policies.yml")),
            ("policies-download-dir", at("")),
            ("sigstore-cache-dir", at("")),
            ("addr", "127.0.0.1".to_owned()),
            ("port", self.endpoint.port.to_string()),
            ("readiness-probe-port", self.probe.to_string()),
            ("cert-file", at("cert.pem")),
            ("key-file", at("key.pem")),
            ("workers", "2".to_owned()),
            ("log-level", "warn".to_owned()),
            ("policy-timeout", self.patience.to_string()),
        ] {
            arguments.extend([format!("--{flag}"), value]);
        }
        let log = File::create(at("log"))?;
        let mut command = leashed(&self.program, &arguments);
        command.current_dir(self.folder.path()).env("HOME", at("")).env("KUBECONFIG", at("kubeconfig"));
        command.env("NO_COLOR", "true").stdout(log.try_clone()?).stderr(log);
        self.running = Some(command.spawn().context("policy-server cannot be started")?);
        let began = Instant::now();
        loop {
            self.expect_alive()?;
            if is_ready(self.probe).await {
                return Ok(());
            }
            if began.elapsed() > START_LIMIT {
                bail!("policy-server is not ready after {START_LIMIT:?}:\n{}", self.said());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fails when it has ended.
    pub(crate) fn expect_alive(&mut self) -> Result<()> {
        match self.running.as_mut().map(Child::try_wait).transpose()?.flatten() {
            None => Ok(()),
            Some(status) => bail!("policy-server ended ({status}):\n{}", self.said()),
        }
    }

    /// The number of its process, which is a child of the one that holds its leash.
    pub(crate) fn process(&self) -> Option<u32> {
        let leash = self.running.as_ref()?.id()?;
        let children = fs::read_to_string(format!("/proc/{leash}/task/{leash}/children")).ok()?;
        let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
        let program = fs::canonicalize(&self.program).ok()?;
        children.find(|child: &u32| fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|path| path == program))
    }

    /// What it said last.
    pub(crate) fn said(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Ends it; [`Server::start`] starts it again.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            drop(child.stdin.take());
            drop(child.wait().await);
        }
    }

    /// Where its log and the like are, and what else the tests put there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether the readiness probe answers 200.
async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readiness HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.split(' ').nth(1) == Some("200"))
    };
    ask.await.unwrap_or(false)
}

/// The role of deploy/manifests, and the account's binding to it.
pub(crate) async fn grant(plane: &Plane) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": hooks::HOME } });
    plane.api.create(&namespace).await?;
    for object in hooks::documents("deploy/manifests/look-ups.yaml")? {
        plane.api.create(&object).await?;
    }
    Ok(())
}
