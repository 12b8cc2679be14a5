//! What may never be blocked, tried with kubectl, helm and the real controllers while the policies are there: with the chart's
//! defaults, with all of them enforced, and with the mutating variants beside them.
//!
//! Each trial is also made where a webhook blocks everything, and must fail there: so each can fail.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proof::api::{Api, Call};
use proof::plane::{Plane, Programs, node};
use proof::rules::Rules;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::cases::known;
use crate::hooks;
use crate::server::{self, Server};
use crate::tools::Tools;

/// How long anything may take that must happen, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// How many trials at once.
const AT_ONCE: usize = 4;
/// Who scales for an autoscaler.
const AUTOSCALER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
/// A sound bundle.
pub(crate) const SOUND: &str = "test-data/ensembles/zookeeper-sound.yaml";

/// How the policies are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// As the chart installs them.
    Monitor,
    /// `mode: protect`.
    Protect,
    /// `mode: protect`, and `variant: both` where a policy mutates.
    Both,
    /// None of them, but a webhook that blocks everything.
    Blocked,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Monitor, Self::Protect, Self::Both, Self::Blocked];

    fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Protect => "protect",
            Self::Both => "both",
            Self::Blocked => "blocked",
        }
    }

    /// The resources with which the policies are there.
    fn resources(self, rules: &Rules) -> Result<Vec<(&'static str, Value)>> {
        let mut resources = Vec::new();
        for policy in rules.names() {
            let deployed = hooks::deployed(policy)?;
            let mutates = rules.module(policy)?.metadata().is_some_and(|metadata| metadata.mutating);
            let variants: &[bool] = match self {
                Self::Blocked => &[],
                Self::Both if mutates => &[false, true],
                _ => &[false],
            };
            for mutating in variants {
                let mut resource = deployed.clone();
                let suffix = if *mutating { "-mutating" } else { "" };
                resource["metadata"]["name"] = format!("{}-{policy}{suffix}", self.name()).into();
                if *mutating {
                    resource["spec"]["mutating"] = true.into();
                    resource["spec"]["settings"]["mutate"] = true.into();
                }
                if self != Self::Monitor {
                    // What the chart makes of `mode: protect`.
                    resource["spec"]["mode"] = "protect".into();
                    resource["spec"]["failurePolicy"] = "Fail".into();
                }
                resources.push((policy, resource));
            }
        }
        Ok(resources)
    }
}

/// What came of a trial: nothing, or why it failed.
type Tried = Result<(), String>;

/// What a trial works with.
struct Stage<'a> {
    api: &'a Api,
    tools: &'a Tools,
    mode: Mode,
}

/// One trial.
struct Trial {
    what: &'static str,
    /// Whether it needs objects with old sins, in the namespace `MODE-key`.
    old: bool,
    key: &'static str,
    run: for<'s> fn(&'s Stage<'s>, String) -> BoxFuture<'s, Tried>,
}

/// While the policy server is there.
const TRIALS: [Trial; 15] = [
    Trial { what: "pods of an old set deleted, also by force", old: true, key: "pods", run: |s, n| pods(s, n).boxed() },
    Trial { what: "rolling updates of old sets", old: true, key: "roll", run: |s, n| rolling_updates(s, n).boxed() },
    Trial { what: "labels and annotations on old objects", old: true, key: "label", run: |s, n| labels(s, n).boxed() },
    Trial { what: "evictions of old pods", old: true, key: "evict", run: |s, n| evictions(s, n).boxed() },
    Trial { what: "a restricted debugger in an old pod", old: true, key: "debug", run: |s, n| debugger(s, n).boxed() },
    Trial { what: "Jobs and pods of an old CronJob", old: true, key: "cron", run: |s, n| jobs(s, n).boxed() },
    Trial {
        what: "autoscalers, by the scale subresource",
        old: true,
        key: "scale",
        run: |s, n| autoscalers(s, n).boxed(),
    },
    Trial { what: "garbage collection", old: true, key: "gc", run: |s, n| garbage_collection(s, n).boxed() },
    Trial { what: "finalizers", old: true, key: "final", run: |s, n| finalizers(s, n).boxed() },
    Trial { what: "kubectl delete -f of old objects", old: true, key: "file", run: |s, n| delete_old(s, n).boxed() },
    Trial { what: "kubectl delete ns", old: true, key: "ns", run: |s, n| delete_namespace(s, n).boxed() },
    Trial {
        what: "kubectl apply and delete -f in any order",
        old: false,
        key: "order",
        run: |s, n| orders(s, n).boxed(),
    },
    Trial { what: "apply -k, delete -k", old: false, key: "kust", run: |s, n| kustomize(s, n).boxed() },
    Trial { what: "server-side apply", old: false, key: "ssa", run: |s, n| server_side(s, n).boxed() },
    Trial { what: "--dry-run=server of a bundle", old: false, key: "dry", run: |s, n| dry_run(s, n).boxed() },
];
const HELM: Trial = Trial {
    what: "helm install, upgrade, rollback, uninstall",
    old: false,
    key: "helm",
    run: |s, n| helm(s, n).boxed(),
};
const EXCLUDED: Trial =
    Trial { what: "excluded namespaces", old: false, key: "excluded", run: |s, n| excluded(s, n).boxed() };
/// While it is not.
const DOWN: [Trial; 4] = [
    Trial { what: "excluded namespaces, server down", old: false, key: "down", run: |s, n| excluded(s, n).boxed() },
    Trial {
        what: "garbage collection, server down",
        old: true,
        key: "gone",
        run: |s, n| garbage_collection(s, n).boxed(),
    },
    Trial { what: "finalizers of what is going, server down", old: true, key: "held", run: |s, n| held(s, n).boxed() },
    Trial {
        what: "kubectl delete ns, server down",
        old: true,
        key: "nsdown",
        run: |s, n| delete_namespace(s, n).boxed(),
    },
];

fn trials(helm: bool) -> Vec<&'static Trial> {
    let helm = helm.then_some(&HELM);
    TRIALS.iter().chain([&EXCLUDED]).chain(helm).collect()
}

/// What came of all trials.
pub(crate) struct Tally {
    rows: Vec<(&'static str, Mode, Tried)>,
    helm: bool,
}

impl Tally {
    pub(crate) fn print(&self) {
        println!("\n| never blocked | monitor | protect | protect, mutating too |\n|---|---|---|---|");
        let mut names: Vec<&str> = Vec::new();
        for (what, _, _) in &self.rows {
            if !names.contains(what) {
                names.push(what);
            }
        }
        for name in names {
            let cell = |mode: Mode| {
                let row = self.rows.iter().find(|(what, of, _)| *what == name && *of == mode);
                row.map_or("", |(_, _, tried)| if tried.is_ok() { "passes" } else { "BLOCKED" })
            };
            println!("| {name} | {} | {} | {} |", cell(Mode::Monitor), cell(Mode::Protect), cell(Mode::Both));
        }
        let blocked: Vec<_> = self.rows.iter().filter(|(_, mode, _)| *mode == Mode::Blocked).collect();
        let failed = blocked.iter().filter(|(_, _, tried)| tried.is_err()).count();
        println!("where a webhook blocks everything, {failed} of {} of these fail", blocked.len());
        if !self.helm {
            println!("DID NOT RUN with helm: not found; set HELM, or put it on PATH");
        }
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        let wrong = |(what, mode, tried): &(&str, Mode, Tried)| match (mode, tried) {
            (Mode::Blocked, Ok(())) => Some(format!("{what}: passes where everything is blocked")),
            (Mode::Blocked, Err(_)) | (_, Ok(())) => None,
            (mode, Err(why)) => Some(format!("{what}, {}: {why}", mode.name())),
        };
        self.rows.iter().filter_map(wrong).collect()
    }
}

/// Tries everything in all modes, on a control plane of its own.
pub(crate) async fn play(programs: &Programs, program: &Path, plane: &Plane, rules: &Rules) -> Result<Tally> {
    server::grant(plane).await?;
    let mut server = Server::new(program, plane, rules)?;
    let tools = Tools::new(programs, plane, server.folder())?;
    for number in 0..4 {
        let zone = json!({ "topology.kubernetes.io/zone": format!("z{}", number % 3) });
        plane.api.create(&node(&format!("node-{number}"), &zone)).await?;
    }
    for mode in Mode::ALL {
        for (policy, resource) in mode.resources(rules)? {
            server.add(policy, &resource);
        }
        let stage = Stage { api: &plane.api, tools: &tools, mode };
        for trial in trials(tools.has_helm()).into_iter().chain(&DOWN) {
            stage.prepare(trial).await?;
        }
    }
    eprintln!("== starting policy-server with {} policies", server.policies());
    server.start().await?;
    let mut tally = Tally { rows: Vec::new(), helm: tools.has_helm() };
    for mode in Mode::ALL {
        eprintln!("== never blocked: {}", mode.name());
        let stage = Stage { api: &plane.api, tools: &tools, mode };
        let mut configurations: Vec<Value> = mode
            .resources(rules)?
            .iter()
            .map(|(_, resource)| hooks::configuration(resource, &server.endpoint))
            .collect();
        if mode == Mode::Blocked {
            configurations.push(blocking());
        }
        for configuration in &configurations {
            plane.api.create(configuration).await?;
        }
        known(&plane.api, &mut configurations).await?;
        let rows = &mut tally.rows;
        rows.push(("a new set with sins is judged", mode, new_sins(&stage, "up").await));
        rows.extend(stage.all(&trials(tools.has_helm())).await);
        server.stop().await;
        rows.push(("what becomes of a new set, server down", mode, new_sins_down(&stage).await));
        rows.extend(stage.all(&DOWN.iter().collect::<Vec<_>>()).await);
        server.start().await?;
        rows.push(("a new set with sins is judged again", mode, new_sins(&stage, "again").await));
        for configuration in &configurations {
            plane.api.delete(&plane.api.path_of(configuration, false)).await?;
        }
        forgotten(&plane.api).await?;
    }
    server.stop().await;
    Ok(tally)
}

/// Waits until the API server asks nobody any more.
async fn forgotten(api: &Api) -> Result<()> {
    let mark = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "mark-mutatingwebhookconfiguration",
        "namespace": "default", "labels": { "mark": "mark-mutatingwebhookconfiguration" } } });
    let began = Instant::now();
    while api.dry_run(&mark).await.is_err() {
        if began.elapsed() > LIMIT {
            bail!("a webhook that is deleted is still asked after {LIMIT:?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Blocks what people and autoscalers ask for; the controllers go on, or nothing would run at all.
fn blocking() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "blocks-everything" },
        "webhooks": [{
            "name": "block.quorate.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 1,
            "failurePolicy": "Fail",
            "clientConfig": { "url": "https://127.0.0.1:1/" },
            "matchConditions": [{ "name": "people", "expression":
                format!("request.userInfo.username in ['admin', '{AUTOSCALER}'] && !(request.kind.group in ['admissionregistration.k8s.io'])") }],
            "rules": [{ "apiGroups": ["", "apps", "batch", "policy"], "apiVersions": ["*"], "resources": ["*/*"],
                "operations": ["CREATE", "UPDATE", "DELETE"] }],
        }],
    })
}

impl Stage<'_> {
    fn namespace(&self, key: &str) -> String {
        format!("{}-{key}", self.mode.name())
    }

    /// What is there before the policies are.
    async fn prepare(&self, trial: &Trial) -> Result<()> {
        let namespace = self.namespace(trial.key);
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        self.api.create(&object).await?;
        if trial.old {
            let mut objects = sinful("zk", &namespace);
            if ["final", "held"].contains(&trial.key) {
                for object in &mut objects {
                    object["metadata"]["finalizers"] = json!(["e2e.quorate.dev/hold"]);
                }
            }
            if trial.key == "cron" {
                for object in objects.iter_mut().filter(|object| object["kind"] == "CronJob") {
                    object["spec"]["schedule"] = "* * * * *".into();
                }
            }
            for object in &objects {
                self.api.create(object).await?;
            }
        }
        Ok(())
    }

    async fn all(&self, trials: &[&'static Trial]) -> Vec<(&'static str, Mode, Tried)> {
        let tries = trials.iter().map(|trial| async {
            let run = (trial.run)(self, self.namespace(trial.key));
            let tried = match tokio::time::timeout(LIMIT * 2, run).await {
                Ok(tried) => tried,
                Err(_) => Err(format!("took more than {:?}", LIMIT * 2)),
            };
            (trial.what, self.mode, tried)
        });
        stream::iter(tries).buffered(AT_ONCE).collect().await
    }

    async fn kubectl(&self, namespace: &str, line: &str) -> Result<String, String> {
        self.feed(namespace, line, "").await
    }

    async fn feed(&self, namespace: &str, line: &str, input: &str) -> Result<String, String> {
        self.tools.kubectl(&format!("-n {namespace} {line}"), input).await
    }

    /// Waits until the path gives what `test` wants; an object that is not there is `null`.
    async fn until(&self, what: &str, path: &str, test: impl Fn(&Value) -> bool) -> Tried {
        let began = Instant::now();
        loop {
            let found = match self.api.get(path).await {
                Ok(found) => found,
                Err(refusal) if refusal.code == 404 => Value::Null,
                Err(refusal) => return Err(format!("{what}: {refusal}")),
            };
            if test(&found) {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                return Err(format!("{what}: not after {LIMIT:?}; {}", found["status"]));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn gone(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Tried {
        let path = self.api.path(api_version, kind, namespace, name);
        self.until(&format!("{kind} {name} is gone"), &path, Value::is_null).await
    }

    /// Waits until no object of the kind is left in the namespace.
    async fn none(&self, api_version: &str, kind: &str, namespace: &str) -> Tried {
        let path = self.api.path(api_version, kind, namespace, "");
        let is_empty = |list: &Value| list["items"].as_array().is_none_or(Vec::is_empty);
        self.until(&format!("no {kind} is left"), &path, is_empty).await
    }

    /// Waits until the pod is there and ready, and is not the one with this uid.
    async fn ready(&self, namespace: &str, pod: &str, uid: &str) -> Tried {
        let path = self.api.path("v1", "Pod", namespace, pod);
        let is_ready = |found: &Value| {
            let conditions = found["status"]["conditions"].as_array();
            found["metadata"]["uid"] != uid
                && conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        self.until(&format!("{pod} is ready again"), &path, is_ready).await
    }

    async fn uid(&self, namespace: &str, pod: &str) -> Result<String, String> {
        let pod =
            self.api.get(&self.api.path("v1", "Pod", namespace, pod)).await.map_err(|refusal| refusal.to_string())?;
        Ok(pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
    }
}

/// A voting set that does everything wrong, a budget that lets the quorum go, and others that run as root without limits.
fn sinful(name: &str, namespace: &str) -> Vec<Value> {
    let template = |app: &str, image: &str, restart: &str| {
        json!({ "metadata": { "labels": { "app": app } }, "spec": { "restartPolicy": restart, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": image, "securityContext": { "runAsUser": 0, "privileged": true } }] } })
    };
    let own = |object: Value| {
        let mut object = object;
        object["metadata"]["namespace"] = namespace.into();
        object
    };
    let set = |name: &str, image: &str, replicas: i32| {
        json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": name },
            "spec": { "replicas": replicas, "serviceName": name, "podManagementPolicy": "Parallel",
                "selector": { "matchLabels": { "app": name } }, "template": template(name, image, "Always") } })
    };
    let mut front = set("front", "nginx:1.29", 2);
    front["metadata"]["annotations"] = json!({ "quorate.dev/quorum": "none" });
    [
        json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": name },
            "spec": { "maxUnavailable": 3, "selector": { "matchLabels": { "app": name } } } }),
        set(name, "zookeeper:3.9", 4),
        front,
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": { "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } }, "template": template("web", "nginx:1.29", "Always") } }),
        json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "tick" }, "spec": { "schedule": "0 0 1 1 *",
            "jobTemplate": { "spec": { "template": template("tick", "busybox:1.37", "Never") } } } }),
    ]
    .into_iter()
    .map(own)
    .collect()
}

fn list(objects: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}

/// The sound bundle, its documents in every order.
fn sound() -> Result<Vec<Vec<Value>>, String> {
    let documents = hooks::documents(SOUND).map_err(|error| format!("{error:#}"))?;
    let mut orders = vec![Vec::new()];
    for document in documents {
        let insert = |order: &Vec<Value>, at: usize| {
            let mut order = order.clone();
            order.insert(at, document.clone());
            order
        };
        orders = orders.iter().flat_map(|order| (0..=order.len()).map(move |at| insert(order, at))).collect();
    }
    Ok(orders)
}

/// That the policies are there at all: a new set with sins is denied where they protect; where they watch it goes through, and
/// somebody warns.
async fn new_sins(stage: &Stage<'_>, name: &str) -> Tried {
    let objects = sinful(name, "default");
    if stage.mode == Mode::Monitor {
        let set = objects.iter().find(|object| object["kind"] == "StatefulSet").unwrap_or(&Value::Null);
        let path = format!("{}?dryRun=All", stage.api.path_of(set, true));
        let call = Call { method: "POST", path: &path, body: Some(set), ..Call::default() };
        let answer = stage.api.ask(&call).await.map_err(|refusal| refusal.to_string())?;
        return match (answer.is_done(), answer.warnings.is_empty()) {
            (true, false) => Ok(()),
            (true, true) => Err("nobody warns".to_owned()),
            (false, _) => Err(answer.message().to_owned()),
        };
    }
    match (stage.mode, stage.feed("default", "apply --dry-run=server -f -", &list(&objects)).await) {
        (Mode::Blocked, applied) => applied.map(drop),
        (_, Ok(_)) => Err("nobody denies it".to_owned()),
        (_, Err(why)) if why.contains(".kubewarden.admission\" denied the request") => Ok(()),
        (_, Err(why)) => Err(why),
    }
}

/// With the failure policy of the chart: Ignore in monitor, Fail in protect.
async fn new_sins_down(stage: &Stage<'_>) -> Tried {
    let objects = sinful("down", "default");
    let applied = stage.feed("default", "apply --dry-run=server -f -", &list(&objects)).await;
    match (stage.mode, applied) {
        (Mode::Monitor | Mode::Blocked, applied) => applied.map(drop),
        (_, Err(why)) if why.contains("failed calling webhook") => Ok(()),
        (_, Err(why)) => Err(why),
        (_, Ok(_)) => Err("it goes through".to_owned()),
    }
}

async fn pods(stage: &Stage<'_>, namespace: String) -> Tried {
    for (pod, how) in [("zk-0", ""), ("zk-1", " --force --grace-period=0"), ("zk-2", " --now"), ("front-0", "")] {
        stage.ready(&namespace, pod, "").await?;
        let uid = stage.uid(&namespace, pod).await?;
        stage.kubectl(&namespace, &format!("delete pod {pod}{how}")).await?;
        stage.ready(&namespace, pod, &uid).await?;
    }
    Ok(())
}

async fn rolling_updates(stage: &Stage<'_>, namespace: String) -> Tried {
    for change in ["set env sts/zk sts/front deploy/web A=1", "rollout restart sts/zk sts/front deploy/web"] {
        stage.kubectl(&namespace, change).await?;
        for object in ["sts/zk", "sts/front", "deploy/web"] {
            stage.kubectl(&namespace, &format!("rollout status {object} --timeout=120s")).await?;
        }
    }
    stage.kubectl(&namespace, "rollout undo sts/zk").await?;
    stage.kubectl(&namespace, "rollout status sts/zk --timeout=120s").await.map(drop)
}

async fn labels(stage: &Stage<'_>, namespace: String) -> Tried {
    stage.ready(&namespace, "zk-0", "").await?;
    stage.kubectl(&namespace, "label sts/zk deploy/web pdb/zk cronjob/tick pod/zk-0 a=b").await?;
    stage.kubectl(&namespace, "annotate sts/zk deploy/web pdb/zk cronjob/tick pod/zk-0 a=b").await.map(drop)
}

async fn evictions(stage: &Stage<'_>, namespace: String) -> Tried {
    let budget = stage.api.path("policy/v1", "PodDisruptionBudget", &namespace, "zk");
    for pod in ["zk-3", "zk-0"] {
        stage.ready(&namespace, pod, "").await?;
        let allowed = |budget: &Value| budget["status"]["disruptionsAllowed"].as_i64().is_some_and(|count| count > 0);
        stage.until("the budget allows one", &budget, allowed).await?;
        let uid = stage.uid(&namespace, pod).await?;
        stage.api.evict(&namespace, pod).await.map_err(|refusal| format!("{pod}: {refusal}"))?;
        stage.ready(&namespace, pod, &uid).await?;
    }
    Ok(())
}

async fn debugger(stage: &Stage<'_>, namespace: String) -> Tried {
    stage.ready(&namespace, "zk-0", "").await?;
    let line = "debug zk-0 --image=busybox:1.37 --profile=restricted --attach=false -q -- sleep 1";
    // The profile does not choose a user, and a pod that runs as root would give it root.
    let custom = stage.tools.at("restricted.json");
    fs::write(&custom, json!({ "securityContext": { "runAsUser": 1000, "runAsNonRoot": true } }).to_string())
        .map_err(|error| error.to_string())?;
    let line = line.replace(" -q", &format!(" --custom={} -q", custom.display()));
    stage.kubectl(&namespace, &line).await.map(drop)
}

/// The next minute, the controller makes a Job, and that one's controller a pod. One that people make of it is judged as theirs.
async fn jobs(stage: &Stage<'_>, namespace: String) -> Tried {
    let known = stage.api.get(&stage.api.path("batch/v1", "Job", &namespace, "")).await;
    let known = known.map_err(|refusal| refusal.to_string())?;
    let known: Vec<&Value> =
        known["items"].as_array().into_iter().flatten().map(|job| &job["metadata"]["uid"]).collect();
    let runs = |jobs: &Value| {
        let new = jobs["items"].as_array().into_iter().flatten().find(|job| !known.contains(&&job["metadata"]["uid"]));
        new.is_some_and(|job| job["status"]["active"] == 1 || job["status"]["succeeded"] == 1)
    };
    stage.until("a new Job has a pod", &stage.api.path("batch/v1", "Job", &namespace, ""), runs).await?;
    stage.kubectl(&namespace, "delete cronjob tick").await?;
    stage.none("batch/v1", "Job", &namespace).await
}

async fn autoscalers(stage: &Stage<'_>, namespace: String) -> Tried {
    for (kind, name, counts) in
        [("Deployment", "web", &[5, 1, 3][..]), ("StatefulSet", "front", &[6, 1, 2]), ("StatefulSet", "zk", &[5])]
    {
        let path = format!("{}/scale", stage.api.path("apps/v1", kind, &namespace, name));
        for count in counts {
            // A controller that has just counted pods may be faster.
            let mut attempts = 0;
            loop {
                let mut scale = stage.api.get(&path).await.map_err(|refusal| refusal.to_string())?;
                scale["spec"]["replicas"] = (*count).into();
                let call = Call { method: "PUT", path: &path, body: Some(&scale), user: Some(AUTOSCALER), form: "" };
                let answer = stage.api.ask(&call).await.map_err(|refusal| refusal.to_string())?;
                attempts += 1;
                if answer.is_done() {
                    break;
                }
                if answer.code != 409 || attempts > 20 {
                    return Err(format!("{name} to {count}: {}", answer.message()));
                }
            }
            let scaled = |object: &Value| object["status"]["replicas"] == *count;
            let object = stage.api.path("apps/v1", kind, &namespace, name);
            stage.until(&format!("{name} has {count} pods"), &object, scaled).await?;
        }
    }
    Ok(())
}

async fn garbage_collection(stage: &Stage<'_>, namespace: String) -> Tried {
    stage.ready(&namespace, "zk-0", "").await?;
    stage.kubectl(&namespace, "delete deploy/web --cascade=background").await?;
    stage.none("apps/v1", "ReplicaSet", &namespace).await?;
    stage.kubectl(&namespace, "delete sts/front --cascade=foreground --timeout=100s").await?;
    stage.gone("v1", "Pod", &namespace, "front-0").await?;
    stage.kubectl(&namespace, "delete sts/zk --cascade=orphan").await?;
    let path = stage.api.path("v1", "Pod", &namespace, "zk-0");
    let is_orphan = |pod: &Value| pod.is_object() && pod["metadata"]["ownerReferences"].is_null();
    stage.until("zk-0 has no owner", &path, is_orphan).await?;
    stage.kubectl(&namespace, "delete pod -l app=zk --wait=false").await?;
    stage.none("v1", "Pod", &namespace).await
}

async fn finalizers(stage: &Stage<'_>, namespace: String) -> Tried {
    for object in ["pdb/zk", "sts/zk", "deploy/web", "cronjob/tick"] {
        stage.kubectl(&namespace, &format!("delete {object} --wait=false")).await?;
        // Neither the one who holds it nor anybody else is kept from changing it.
        stage.kubectl(&namespace, &format!("annotate {object} seen=yes")).await?;
        stage
            .kubectl(&namespace, &format!("patch {object} --type=merge -p {}", r#"{"metadata":{"finalizers":null}}"#))
            .await?;
    }
    stage.gone("policy/v1", "PodDisruptionBudget", &namespace, "zk").await?;
    stage.gone("apps/v1", "StatefulSet", &namespace, "zk").await?;
    stage.gone("apps/v1", "Deployment", &namespace, "web").await
}

/// They were deleted before, and what holds them lets go now. A budget that is deleted by itself has to wait for the server.
async fn held(stage: &Stage<'_>, namespace: String) -> Tried {
    for object in ["sts/zk", "deploy/web", "cronjob/tick"] {
        stage.kubectl(&namespace, &format!("delete {object} --wait=false")).await?;
        let patch = r#"{"metadata":{"finalizers":null}}"#;
        stage.kubectl(&namespace, &format!("patch {object} --type=merge -p {patch}")).await?;
    }
    stage.gone("apps/v1", "StatefulSet", &namespace, "zk").await?;
    stage.gone("apps/v1", "Deployment", &namespace, "web").await
}

/// The budget first, as it stands first in the file.
async fn delete_old(stage: &Stage<'_>, namespace: String) -> Tried {
    let objects = sinful("zk", &namespace);
    stage.feed(&namespace, "delete --timeout=100s -f -", &list(&objects)).await?;
    stage.none("v1", "Pod", &namespace).await
}

async fn delete_namespace(stage: &Stage<'_>, namespace: String) -> Tried {
    stage.tools.kubectl(&format!("delete ns {namespace} --timeout=110s"), "").await.map(drop)
}

async fn orders(stage: &Stage<'_>, namespace: String) -> Tried {
    for (number, order) in sound()?.iter().enumerate() {
        let namespace = format!("{namespace}-{number}");
        stage.tools.kubectl(&format!("create ns {namespace}"), "").await?;
        let backwards: Vec<Value> = order.iter().rev().cloned().collect();
        stage.feed(&namespace, "apply -f -", &list(order)).await?;
        stage.feed(&namespace, "apply -f -", &list(&backwards)).await?;
        stage.feed(&namespace, "delete --timeout=100s -f -", &list(order)).await?;
        // And all of it with the namespace, in whatever order its controller has.
        stage.feed(&namespace, "apply -f -", &list(&backwards)).await?;
        stage.tools.kubectl(&format!("delete ns {namespace} --timeout=110s"), "").await?;
    }
    Ok(())
}

async fn kustomize(stage: &Stage<'_>, namespace: String) -> Tried {
    let folder = stage.tools.at(&namespace);
    let write = || -> Result<()> {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("all.json"), list(&hooks::documents(SOUND)?))?;
        let overlay = json!({ "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": ["all.json"],
            "namePrefix": "my-", "namespace": namespace, "labels": [{ "pairs": { "team": "a" } }] });
        fs::write(folder.join("kustomization.yaml"), overlay.to_string())?;
        Ok(())
    };
    write().map_err(|error| format!("{error:#}"))?;
    let folder = folder.display();
    stage.kubectl(&namespace, &format!("apply -k {folder}")).await?;
    stage.kubectl(&namespace, &format!("apply -k {folder}")).await?;
    stage.kubectl(&namespace, &format!("delete --timeout=100s -k {folder}")).await.map(drop)
}

async fn server_side(stage: &Stage<'_>, namespace: String) -> Tried {
    for order in sound()?.iter().take(2) {
        stage.feed(&namespace, "apply --server-side -f -", &list(order)).await?;
        let mut changed = order.clone();
        for object in changed.iter_mut().filter(|object| object["kind"] == "StatefulSet") {
            object["spec"]["replicas"] = 5.into();
        }
        let line = "apply --server-side --force-conflicts --field-manager=another -f -";
        stage.feed(&namespace, line, &list(&changed)).await?;
        stage.feed(&namespace, "delete --timeout=100s -f -", &list(order)).await?;
    }
    Ok(())
}

async fn dry_run(stage: &Stage<'_>, namespace: String) -> Tried {
    for order in sound()? {
        stage.feed(&namespace, "apply --dry-run=server -f -", &list(&order)).await?;
        stage.feed(&namespace, "apply --server-side --dry-run=server -f -", &list(&order)).await?;
        stage.feed(&namespace, "create --dry-run=server -f -", &list(&order)).await?;
    }
    stage.none("apps/v1", "StatefulSet", &namespace).await
}

async fn helm(stage: &Stage<'_>, namespace: String) -> Tried {
    let chart = stage.tools.at(&format!("{namespace}-chart"));
    let write = || -> Result<()> {
        fs::create_dir_all(chart.join("templates"))?;
        fs::write(
            chart.join("Chart.yaml"),
            json!({ "apiVersion": "v2", "name": "zk", "version": "0.1.0" }).to_string(),
        )?;
        fs::write(chart.join("values.yaml"), json!({ "members": 3 }).to_string())?;
        for (number, mut document) in hooks::documents(SOUND)?.into_iter().enumerate() {
            if document["kind"] == "StatefulSet" {
                document["spec"]["replicas"] = "MEMBERS".into();
            }
            let text = document.to_string().replace("\"MEMBERS\"", "{{ .Values.members }}");
            fs::write(chart.join(format!("templates/{number}.yaml")), text)?;
        }
        Ok(())
    };
    write().map_err(|error| format!("{error:#}"))?;
    let chart = chart.display();
    stage.tools.helm(&format!("install zk {chart} -n {namespace}")).await?;
    stage.tools.helm(&format!("upgrade zk {chart} -n {namespace} --set members=5")).await?;
    stage.tools.helm(&format!("rollback zk 1 -n {namespace}")).await?;
    stage.tools.helm(&format!("uninstall zk -n {namespace} --wait --timeout 100s")).await?;
    stage.none("apps/v1", "StatefulSet", &namespace).await
}

/// Where no policy judges, everything goes on: also the pods with which a policy server comes back.
async fn excluded(stage: &Stage<'_>, name: String) -> Tried {
    for namespace in ["kube-system", hooks::HOME] {
        let mut objects = sinful(&name, namespace);
        for (number, object) in objects.iter_mut().enumerate() {
            object["metadata"]["name"] = format!("{name}-{number}").into();
        }
        stage.feed(namespace, "apply -f -", &list(&objects)).await?;
        for object in [format!("sts/{name}-1"), format!("deploy/{name}-3")] {
            stage.kubectl(namespace, &format!("rollout restart {object}")).await?;
            stage.kubectl(namespace, &format!("rollout status {object} --timeout=110s")).await?;
        }
        stage.kubectl(namespace, &format!("scale sts/{name}-1 --replicas=2")).await?;
        stage.feed(namespace, "delete --timeout=100s -f -", &list(&objects)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_tried_in_every_order() {
        let orders = sound().unwrap();
        let texts: std::collections::BTreeSet<String> = orders.iter().map(|order| list(order)).collect();
        assert_eq!((orders.len(), texts.len()), (6, 6));
        assert!(orders.iter().all(|order| order.len() == 3));
    }

    #[test]
    fn each_mode_has_every_policy_and_one_has_both_variants() {
        let rules = Rules::load().unwrap();
        let count = |mode: Mode| mode.resources(&rules).unwrap().len();
        let policies = rules.names().count();
        assert_eq!((count(Mode::Monitor), count(Mode::Protect), count(Mode::Blocked)), (policies, policies, 0));
        assert!(count(Mode::Both) > policies);
        for (_, resource) in Mode::Both.resources(&rules).unwrap() {
            assert_eq!(resource["spec"]["mode"], "protect");
            assert_eq!(resource["spec"]["mutating"] == true, resource["spec"]["settings"]["mutate"] == true);
        }
    }

    #[test]
    fn a_trial_that_passes_where_all_is_blocked_is_a_failure_and_so_is_one_that_is_blocked() {
        let rows = vec![
            ("x", Mode::Monitor, Ok(())),
            ("x", Mode::Protect, Err("denied".to_owned())),
            ("x", Mode::Blocked, Ok(())),
            ("y", Mode::Blocked, Err("blocked".to_owned())),
        ];
        let failures = Tally { rows, helm: true }.failures();
        assert_eq!(failures, ["x, protect: denied", "x: passes where everything is blocked"]);
    }
}
