//! What the policy-server carries: a steady rate of requests with every policy loaded, its memory, and the time that policies
//! add to one change.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Requests, Resources};
use proof::api::{Api, Call};
use proof::plane::{Plane, Programs};
use proof::rules::Rules;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{MissedTickBehavior, interval};

use crate::cases::known;
use crate::hooks;
use crate::never::SOUND;
use crate::server::{self, Server};
use crate::tools::Tools;

/// How many budgets the API server holds, each for a set of its own.
const BUDGETS: usize = 500;
/// In how many namespaces: a server that lists in one holds a watch for it.
const NAMESPACES: usize = 50;
/// How many requests may wait at once; a server that is slower falls behind, and is seen to.
const WAITING: usize = 256;
/// What each looks up: one of four requests.
const LOOK_UP_EVERY: usize = 4;
/// How much the memory may grow in a minute of the second half, in KiB.
const GROWTH: i64 = 1024;
/// How many changes are timed for one figure.
const TIMED: usize = 25;

/// How much, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Requests in a second.
    pub(crate) rate: u32,
    /// Seconds.
    pub(crate) seconds: u64,
}

/// One request, ready to be sent, and whether it looks something up.
struct Shot {
    path: String,
    review: Value,
    looks_up: bool,
}

/// What came of the requests.
#[derive(Default)]
struct Hits {
    sent: AtomicUsize,
    looked_up: AtomicUsize,
    errors: Mutex<Vec<String>>,
    /// In microseconds: those that look up, and the others.
    times: Mutex<[Vec<u64>; 2]>,
}

/// Fires, and prints what came of it; gives what is not as it should be.
pub(crate) async fn play(
    programs: &Programs,
    program: &Path,
    plane: &Plane,
    rules: &Rules,
    extent: Extent,
) -> Result<Vec<String>> {
    server::grant(plane).await?;
    let mut server = Server::new(program, plane, rules)?;
    let resources = resources(rules)?;
    for (policy, resource) in &resources {
        server.add(policy, resource);
    }
    let set = hooks::documents(SOUND)?.into_iter().find(|document| document["kind"] == "StatefulSet");
    let set = set.with_context(|| format!("{SOUND} has no set"))?;
    populate(&plane.api, &set).await?;
    eprintln!("== starting policy-server with {} policies", server.policies());
    server.start().await?;
    let process = server.process().context("policy-server has no process")?;
    println!("memory after the start: {} KiB", memory(process)?);
    let target = target(&server).await?;
    let shots = shots(&resources, &set)?;
    let mut failures = Vec::new();

    // Each namespace once: from then on the server holds its watches, whatever comes.
    let hits = Arc::new(Hits::default());
    for shot in shots.iter().filter(|shot| shot.looks_up) {
        shoot(&target, shot, &hits).await;
    }
    println!("memory with the watches of {NAMESPACES} namespaces: {} KiB", memory(process)?);
    failures.append(&mut *hits.errors.lock().await);

    failures.extend(fire(&target, shots, extent, process).await?);
    server.expect_alive()?;
    let tools = Tools::new(programs, plane, server.folder())?;
    added(plane, &server, &tools, &resources, &set).await?;
    server.stop().await;
    Ok(failures)
}

/// Every policy, enforced, and the mutating variants too.
fn resources(rules: &Rules) -> Result<Vec<(&'static str, Value)>> {
    let mut resources = Vec::new();
    for policy in rules.names() {
        let mut resource = hooks::deployed(policy)?;
        resource["spec"]["mode"] = "protect".into();
        resources.push((policy, resource.clone()));
        if rules.module(policy)?.metadata().is_some_and(|metadata| metadata.mutating) {
            resource["metadata"]["name"] = format!("quorate-{policy}-mutating").into();
            resource["spec"]["mutating"] = true.into();
            resource["spec"]["settings"]["mutate"] = true.into();
            resources.push((policy, resource));
        }
    }
    // The validating ones first: what one and six of them add is measured.
    resources.sort_by_key(|(_, resource)| resource["spec"]["mutating"] == true);
    Ok(resources)
}

/// The budgets and their sets. The sets have no pods: these are not looked up.
async fn populate(api: &Api, set: &Value) -> Result<()> {
    for namespace in 0..NAMESPACES {
        let namespace = format!("load-{namespace}");
        api.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } })).await?;
        for number in 0..BUDGETS / NAMESPACES {
            let (app, name) = (json!({ "app": format!("s{number}") }), format!("s{number}"));
            let budget = json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": name, "namespace": namespace },
                "spec": { "maxUnavailable": 1, "selector": { "matchLabels": app } },
            });
            api.create(&budget).await?;
            let mut other = placed(set, &namespace, &name);
            other["spec"]["replicas"] = 0.into();
            api.create(&other).await?;
        }
    }
    Ok(())
}

/// The set under another name, with labels of its own.
fn placed(set: &Value, namespace: &str, name: &str) -> Value {
    let mut set = set.clone();
    let labels = json!({ "app": name });
    set["metadata"] = json!({ "name": name, "namespace": namespace });
    set["spec"]["selector"] = json!({ "matchLabels": labels });
    set["spec"]["template"]["metadata"]["labels"] = labels.clone();
    for term in
        set["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            .as_array_mut()
            .into_iter()
            .flatten()
    {
        term["labelSelector"] = json!({ "matchLabels": labels });
    }
    set
}

/// A client of the policy-server.
async fn target(server: &Server) -> Result<Api> {
    let file = server.folder().join("target");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "load",
        "clusters": [{ "name": "load", "cluster": {
            "server": format!("https://127.0.0.1:{}", server.endpoint.port), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": [{ "name": "load", "context": { "cluster": "load", "user": "nobody" } }],
    });
    std::fs::write(&file, config.to_string())?;
    Api::connect(&file).await
}

/// The requests: one of four asks for the budgets of a namespace, and another namespace each time.
fn shots(resources: &[(&str, Value)], set: &Value) -> Result<Vec<Shot>> {
    let built_in = Resources::built_in();
    let requests = Requests::new(&built_in);
    let of = |resource: &Value, namespace: usize, name: &str, looks_up| -> Result<Shot> {
        let object = placed(set, &format!("load-{namespace}"), name);
        let request = requests.create(&object).map_err(|error| anyhow::anyhow!("{error}"))?;
        let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        Ok(Shot { path: format!("/validate/{}", hooks::id(resource)), review, looks_up })
    };
    let (looking, others): (Vec<_>, Vec<_>) = resources.iter().partition(|(policy, _)| *policy == "disruption-budget");
    let mut shots = Vec::new();
    for number in 0..NAMESPACES * LOOK_UP_EVERY {
        let namespace = number / LOOK_UP_EVERY;
        if number % LOOK_UP_EVERY == 0 {
            let (_, resource) = looking.first().context("no policy looks anything up")?;
            shots.push(of(resource, namespace, "s3", true)?);
        } else {
            let (_, resource) = others[number % others.len()];
            shots.push(of(resource, namespace, "s4", false)?);
        }
    }
    Ok(shots)
}

/// Sends one, which must be accepted without a word.
async fn shoot(target: &Api, shot: &Shot, hits: &Hits) {
    let began = Instant::now();
    let call = Call { method: "POST", path: &shot.path, body: Some(&shot.review), ..Call::default() };
    let error = match target.ask(&call).await {
        // One that does not see the budget warns that there is none.
        Ok(answer) if answer.body["response"]["allowed"] == true && answer.body["response"]["warnings"].is_null() => {
            None
        }
        Ok(answer) => Some(format!("{}: {} {}", shot.path, answer.code, answer.body)),
        Err(refusal) => Some(format!("{}: {refusal}", shot.path)),
    };
    let time = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    hits.times.lock().await[usize::from(!shot.looks_up)].push(time);
    hits.sent.fetch_add(1, Ordering::Relaxed);
    hits.looked_up.fetch_add(usize::from(shot.looks_up), Ordering::Relaxed);
    if let Some(error) = error {
        hits.errors.lock().await.push(error);
    }
}

/// Sends at the rate, whatever comes back, and reads the memory each minute.
async fn fire(target: &Api, shots: Vec<Shot>, extent: Extent, process: u32) -> Result<Vec<String>> {
    let Extent { rate, seconds } = extent;
    let (hits, shots, waiting) = (Arc::new(Hits::default()), Arc::new(shots), Arc::new(Semaphore::new(WAITING)));
    let mut tick = interval(Duration::from_secs(1) / rate);
    // Where it was late it hurries: the rate is kept on the whole.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let sample = Duration::from_secs((seconds / 10).clamp(1, 60));
    let mut memories = vec![(Duration::ZERO, memory(process)?)];
    let wanted = usize::try_from(u64::from(rate) * seconds)?;
    for number in 0..wanted {
        tick.tick().await;
        let permit = Arc::clone(&waiting).acquire_owned().await?;
        let (target, shots, hits) = (target.clone(), Arc::clone(&shots), Arc::clone(&hits));
        tokio::spawn(async move {
            shoot(&target, &shots[number % shots.len()], &hits).await;
            drop(permit);
        });
        if began.elapsed() >= sample * u32::try_from(memories.len())? {
            memories.push((began.elapsed(), memory(process)?));
        }
    }
    drop(waiting.acquire_many(u32::try_from(WAITING)?).await?);
    let took = began.elapsed();
    memories.push((took, memory(process)?));

    let sent = hits.sent.load(Ordering::Relaxed);
    let errors = hits.errors.lock().await;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let reached = sent as f64 / took.as_secs_f64();
    println!(
        "{sent} requests in {:.1} s, {reached:.1} a second, {} of them with look-ups; {} errors",
        took.as_secs_f64(),
        hits.looked_up.load(Ordering::Relaxed),
        errors.len()
    );
    let mut times = hits.times.lock().await;
    for (what, times) in ["with look-ups", "without"].into_iter().zip(times.iter_mut()) {
        times.sort_unstable();
        let part = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let shown = [50, 95, 99].map(|at| format!("{at} %: {} us", part(at).copied().unwrap_or_default()));
        println!("  {what}: {}", shown.join(", "));
    }
    let shown: Vec<String> = memories.iter().map(|(at, size)| format!("{} s: {size} KiB", at.as_secs())).collect();
    println!("  memory: {}", shown.join(", "));
    let mut failures: Vec<String> = errors.iter().take(5).cloned().collect();
    if reached < f64::from(rate) * 0.98 {
        failures.push(format!("{reached:.1} requests a second: {rate} are wanted"));
    }
    let growth = growth(&memories);
    println!("  in the second half it grew by {growth} KiB a minute");
    // In less time it is still warming up.
    if seconds >= 600 && growth > GROWTH {
        failures.push(format!("the memory grows by {growth} KiB a minute"));
    }
    Ok(failures)
}

/// By how many KiB a minute it grew in the second half.
fn growth(memories: &[(Duration, i64)]) -> i64 {
    let Some((end, last)) = memories.last() else { return 0 };
    let half = memories.iter().find(|(at, _)| *at * 2 >= *end).filter(|(at, _)| at < end);
    half.map_or(0, |(at, size)| {
        (last - size) * 60 / i64::try_from(end.saturating_sub(*at).as_secs().max(1)).unwrap_or(1)
    })
}

/// The resident memory of a process, in KiB.
fn memory(process: u32) -> Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// How much longer one change takes with one policy, with six, with all.
async fn added(plane: &Plane, server: &Server, tools: &Tools, resources: &[(&str, Value)], set: &Value) -> Result<()> {
    let object = placed(set, "load-0", "s5");
    println!("one change, median of {TIMED}: through the API alone, and as kubectl apply --dry-run=server");
    let mut counts = vec![0, 1, 6, resources.len()];
    counts.dedup();
    for count in counts {
        let mut configurations: Vec<Value> = resources
            .iter()
            .take(count)
            .map(|(_, resource)| hooks::configuration(resource, &server.endpoint))
            .collect();
        for configuration in &configurations {
            plane.api.create(configuration).await?;
        }
        known(&plane.api, &mut configurations).await?;
        let (mut api, mut kubectl) = (Vec::new(), Vec::new());
        for _ in 0..TIMED {
            let began = Instant::now();
            plane.api.dry_run(&named(&object, "s77")).await?;
            api.push(began.elapsed());
            let began = Instant::now();
            let applied = tools.kubectl("apply --dry-run=server -f -", &named(&object, "s78").to_string()).await;
            kubectl.push(began.elapsed());
            if let Err(error) = applied {
                bail!("{error}");
            }
        }
        println!("  {count} policies: {:.1?}, {:.1?}", median(&mut api), median(&mut kubectl));
        for configuration in &configurations {
            plane.api.delete(&plane.api.path_of(configuration, false)).await?;
        }
    }
    Ok(())
}

fn named(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["name"] = name.into();
    object
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_second_half() {
        let second = Duration::from_secs;
        let memories =
            [(second(0), 0), (second(60), 9000), (second(120), 9000), (second(180), 9100), (second(240), 9200)];
        assert_eq!(growth(&memories), 100);
        assert_eq!(growth(&memories[..1]), 0);
    }

    #[test]
    fn a_quarter_looks_up_and_every_namespace_is_met() {
        let rules = Rules::load().unwrap();
        let set = hooks::documents(SOUND).unwrap().pop().unwrap();
        let shots = shots(&resources(&rules).unwrap(), &set).unwrap();
        let looking: Vec<&Shot> = shots.iter().filter(|shot| shot.looks_up).collect();
        assert_eq!(looking.len() * LOOK_UP_EVERY, shots.len());
        let namespaces: std::collections::BTreeSet<String> =
            looking.iter().map(|shot| shot.review["request"]["namespace"].to_string()).collect();
        assert_eq!(namespaces.len(), NAMESPACES);
    }
}
