//! Drains, as they are played: what the eviction API, the controllers and the scheduler make of a set and its budgets.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use futures::future::{Either, select};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::budget_view::{counted, ensemble, is, is_failed, is_of_now, is_settled, members, name, of_kind, replicas};
use crate::api::Patch;
use crate::beat::Beat;
use crate::claim::{Subject, Trouble};
use crate::mirror::{Late, Objects, Watched};
use crate::room::{LIMIT, Room, Stage};

/// The change of a subject: `{ "scale": { "from": 3, "to": 5 } }`, `{ "old": OBJECT }` or `{ "delete": true }`; nothing where the first
/// object is not asked about alone.
pub(super) fn change(subject: &Subject) -> &Value {
    &subject.facts["change"]
}

/// What is there once the change is made.
pub(super) fn after(subject: &Subject) -> Subject {
    let mut after = subject.clone();
    let change = change(subject);
    if let Some(to) = change["scale"]["to"].as_i64() {
        after.objects[0]["spec"]["replicas"] = to.into();
    }
    if change["delete"] == true {
        after.objects.remove(0);
    }
    after
}

/// What is there before it.
fn before(subject: &Subject) -> Vec<Value> {
    let mut objects = subject.objects.clone();
    let change = change(subject);
    if let Some(from) = change["scale"]["from"].as_i64() {
        objects[0]["spec"]["replicas"] = from.into();
    }
    if change["old"].is_object() {
        objects[0] = change["old"].clone();
    }
    objects
}

/// One subject that is being played, in one namespace.
pub(super) struct Play<'a> {
    stage: &'a Stage,
    room: &'a Room<'a>,
    beat: &'a Beat<'a>,
    namespace: String,
    after: &'a Subject,
    budgets: Vec<(String, &'a Value)>,
    /// The budgets that select each pod.
    covering: BTreeMap<String, BTreeSet<String>>,
    /// How many pods each budget selects.
    matched: BTreeMap<String, usize>,
    total: usize,
    /// What was evicted last, by its name: the uid of the pod that is gone.
    gone: Mutex<BTreeMap<String, Value>>,
}

/// How it goes on with a pod that may not be evicted now.
enum Next {
    /// Its budget allows some again.
    Retry,
    /// All that the budget selects is there and healthy, and it allows none: nothing will ever change that.
    Stuck,
    /// Its budget waits for a pod that was evicted, and another one of that name is there already.
    Stale(String, String),
}

impl<'a> Play<'a> {
    /// Makes the objects as they were, changes them, and waits until all is healthy and counted.
    pub(super) async fn open(
        stage: &'a Stage,
        room: &'a Room<'a>,
        beat: &'a Beat<'a>,
        subject: &Subject,
        after: &'a Subject,
    ) -> Result<(Self, Value), Trouble> {
        let called = called(&subject.objects[0]);
        let namespace = room.own(called);
        let is_here = |object: &&Value| self::called(object) == called;
        let before = before(subject);
        // The budgets first: a set is never without them.
        for kind in ["PodDisruptionBudget", "StatefulSet", "Pod"] {
            for object in before.iter().filter(|object| is(object, kind)) {
                let mut placed = room.place(object);
                if kind == "StatefulSet" {
                    // Volumes are not played, and starting one by one only takes longer.
                    placed["spec"]["podManagementPolicy"] = "Parallel".into();
                    placed["spec"]["volumeClaimTemplates"].take();
                }
                stage.api.create(&placed).await?;
            }
        }
        let count = |objects: &[Value]| {
            let sets = objects.iter().filter(is_here).filter(|object| is(object, "StatefulSet"));
            let pods: i64 = sets.map(replicas).sum();
            let alone = objects.iter().filter(is_here).filter(|object| is(object, "Pod")).count();
            usize::try_from(pods).unwrap_or(0) + alone
        };
        let total = count(&after.objects);
        let budgets = of_kind(after, "PodDisruptionBudget").filter(is_here);
        let budgets = budgets.map(|budget| (name(budget).to_owned(), budget)).collect();
        let mut play = Self {
            stage,
            room,
            beat,
            namespace,
            after,
            budgets,
            covering: BTreeMap::new(),
            matched: BTreeMap::new(),
            total: count(&before),
            gone: Mutex::default(),
        };
        play.healthy("their creation").await?;
        play.total = total;
        play.make_change(subject).await?;
        play.healthy("the change").await?;
        let has_strangers = of_kind(after, "Pod").next().is_some();
        let is_whole = |budget: &Value| has_strangers || is_of_now(budget);
        let counts = counted(stage, &play.namespace, &play.budgets, is_whole).await?;
        for (budget, seen) in &counts {
            let pods = seen["matched"].as_array().map(Vec::as_slice).unwrap_or_default();
            play.matched.insert(budget.clone(), pods.len());
            for pod in pods.iter().filter_map(Value::as_str) {
                play.covering.entry(pod.to_owned()).or_default().insert(budget.clone());
            }
        }
        Ok((play, json!(counts)))
    }

    async fn make_change(&self, subject: &Subject) -> Result<(), Trouble> {
        let change = change(subject);
        let placed = self.room.place(&subject.objects[0]);
        let path = self.stage.api.path_of(&placed, false);
        if let Some(to) = change["scale"]["to"].as_i64() {
            let scale = json!({ "spec": { "replicas": to } });
            self.stage.api.patch(&format!("{path}/scale"), Patch::Merge, &scale).await?;
        } else if change["old"].is_object() {
            let mut spec = placed["spec"].clone();
            if is(&placed, "StatefulSet") {
                spec["podManagementPolicy"] = "Parallel".into();
            }
            let edit = json!([{ "op": "replace", "path": "/spec", "value": spec }]);
            self.stage.api.patch(&path, Patch::Json, &edit).await?;
        } else if change["delete"] == true {
            self.stage.api.delete(&path).await?;
        }
        Ok(())
    }

    /// Waits until `test` gives something, asked now and whenever a pod or a budget changes.
    async fn until<T>(&self, what: &str, mut test: impl FnMut(&Objects, &Objects) -> Option<T>) -> Result<T, Trouble> {
        let mirror = &self.stage.mirror;
        loop {
            let pods = mirror.now(Watched::Pods, &self.namespace);
            let budgets = mirror.now(Watched::DisruptionBudgets, &self.namespace);
            if let Some(found) = test(&pods, &budgets) {
                return Ok(found);
            }
            let of_pods = mirror.until(Watched::Pods, &self.namespace, what, LIMIT, |now| differs(now, &pods));
            let of_budgets =
                mirror.until(Watched::DisruptionBudgets, &self.namespace, what, LIMIT, |now| differs(now, &budgets));
            let (of_pods, of_budgets) = (pin!(of_pods), pin!(of_budgets));
            match select(of_pods, of_budgets).await {
                Either::Left((changed, _)) | Either::Right((changed, _)) => changed?,
            }
        }
    }

    /// Waits until every pod is there and ready, and every budget has counted them.
    async fn healthy(&self, after: &str) -> Result<(), Trouble> {
        // Pods that were just evicted are not to be taken for ready ones.
        let mirror = &self.stage.mirror;
        mirror.catch_up(&self.stage.api, Watched::Pods, &self.namespace, LIMIT).await?;
        let all_ready =
            |pods: &Objects| (pods.len() == self.total && pods.values().all(|pod| is_ready(pod))).then_some(());
        let what = format!("{} ready pods after {after}", self.total);
        self.stage.mirror.until(Watched::Pods, &self.namespace, &what, LIMIT, all_ready).await?;
        let has_strangers = of_kind(self.after, "Pod").next().is_some();
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            // Once may not be enough: of a set that was scaled the controller hears later than of its pods, and does not look again.
            self.recount().await?;
            let pods = mirror.now(Watched::Pods, &self.namespace);
            let budgets = mirror.now(Watched::DisruptionBudgets, &self.namespace);
            if let Some((budget, pod)) = self.stale(&pods, &budgets) {
                self.forget(&budget, &pod).await?;
                continue;
            }
            let is_counted = |(budget, pods): (&String, &usize)| {
                budgets.get(budget).is_some_and(|budget| is_settled(budget, Some(*pods)))
            };
            // Nor is it a count of the controllers from before they were scaled; pods of none are in no such count.
            let is_scaled = |budget: &Arc<Value>| {
                let number = |field: &str| budget["status"][field].as_u64().unwrap_or(0);
                let (expected, healthy) = (number("expectedPods"), number("currentHealthy"));
                let is_enough = expected == 0 || expected >= healthy || has_strangers;
                usize::try_from(expected).is_ok_and(|expected| expected <= self.total) && is_enough
            };
            if budgets.values().all(is_scaled) && self.matched.iter().all(is_counted) {
                return Ok(());
            }
        }
        Err(Late { what: format!("that all of {} is counted after {after}", self.namespace), limit: LIMIT }.into())
    }

    /// Waits until every budget is counted anew, from the pods that are there when this is called. The controller looks at one budget
    /// only when a pod changes, whichever comes first of those that select it; it looks at pods that it has not heard of yet as
    /// they were; and what it writes does not tell which those are. So it hears of all pods first, and each budget changes then.
    async fn recount(&self) -> Result<(), Trouble> {
        self.beat.heard().await?;
        let mut wanted = BTreeMap::new();
        for (budget, object) in &self.budgets {
            let selector = &object["spec"]["selector"];
            // It selects nothing, and counts nothing.
            if selector.is_null() {
                continue;
            }
            // A selector that selects the same: only a change of its spec is one that the status tells of.
            let mut expressions = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
            let never = format!("quorate.dev/never-{}", fastrand::u32(..));
            expressions.push(json!({ "key": never, "operator": "DoesNotExist" }));
            let change = json!({ "spec": { "selector": { "matchExpressions": expressions } } });
            let path = self.stage.api.path("policy/v1", "PodDisruptionBudget", &self.namespace, budget);
            let patched = self.stage.api.patch(&path, Patch::Merge, &change).await?;
            wanted.insert(budget, patched["metadata"]["generation"].as_i64());
        }
        let is_counted = |budgets: &Objects| {
            let is_counted = |(budget, generation): (&&String, &Option<i64>)| {
                let status = &budgets[*budget]["status"];
                status["observedGeneration"].as_i64() == *generation || is_failed(status)
            };
            (wanted.keys().all(|budget| budgets.contains_key(*budget)) && wanted.iter().all(is_counted)).then_some(())
        };
        let what = "budgets that are counted anew";
        let mirror = &self.stage.mirror;
        Ok(mirror.until(Watched::DisruptionBudgets, &self.namespace, what, LIMIT, is_counted).await?)
    }

    /// A budget counts no pod that it has let go until that is gone, for two minutes; where another of the same name came
    /// before it looked, it would take that one for the first. A real kubelet takes seconds to end a pod.
    async fn forget(&self, budget: &str, pod: &str) -> Result<(), Trouble> {
        // Not before it has looked at the pod that came: it might take the one that went for that.
        self.recount().await?;
        let path = self.stage.api.path("policy/v1", "PodDisruptionBudget", &self.namespace, budget);
        let gone = json!({ "status": { "disruptedPods": { pod: null } } });
        let patched = self.stage.api.patch(&format!("{path}/status"), Patch::Merge, &gone).await?;
        let version = patched["metadata"]["resourceVersion"].clone();
        let arrived = |budgets: &Objects| {
            let now = budgets.get(budget)?;
            let is_gone = now["status"]["disruptedPods"][pod].is_null();
            (is_gone || now["metadata"]["resourceVersion"] == version).then_some(())
        };
        let what = "a status that was patched";
        Ok(self.stage.mirror.until(Watched::DisruptionBudgets, &self.namespace, what, LIMIT, arrived).await?)
    }

    /// Drains each node in turn: none gets new pods while it is drained, and each may have them again before the next.
    /// Gives the pods that could never be evicted, with the answer.
    pub(super) async fn drain_in_turn(&self) -> Result<Value, Trouble> {
        let from = self.moment();
        let mut refused = BTreeMap::new();
        let mut drained = Vec::new();
        for node in self.room.nodes() {
            self.room.cordon(node, true).await?;
            // Pods are ready at once here, where a kubelet takes seconds: the controller may still count those before them.
            self.recount().await?;
            let pods = self.stage.mirror.now(Watched::Pods, &self.namespace);
            let here = pods.iter().filter(|(_, pod)| pod["spec"]["nodeName"] == node.as_str());
            let mut went = Vec::new();
            for (pod, object) in here {
                match self.drain_one(pod, object).await? {
                    Some(code) => drop(refused.insert(pod.clone(), code)),
                    None => went.push(pod.clone()),
                }
            }
            drained.push(json!({ "node": node.trim_start_matches(&format!("{}-", self.room.id)), "evicted": went }));
            self.room.cordon(node, false).await?;
        }
        self.healthy("a drain in turn").await?;
        Ok(json!({ "refused": refused, "drained": drained, "least": self.least(from) }))
    }

    /// Evicts the pod, however often it must be asked for. Gives the answer where it would never be given up.
    async fn drain_one(&self, pod: &str, object: &Value) -> Result<Option<u16>, Trouble> {
        let none = BTreeSet::new();
        let covering = self.covering.get(pod).unwrap_or(&none);
        loop {
            let before = self.stage.mirror.now(Watched::DisruptionBudgets, &self.namespace);
            match self.evict(pod, object).await? {
                200 => return Ok(None),
                500 => return Ok(Some(500)),
                _ => {}
            }
            let next = self.until("an eviction that is allowed", |pods, budgets| {
                if let Some((budget, pod)) = self.stale(pods, budgets) {
                    return Some(Next::Stale(budget, pod));
                }
                let ours = || covering.iter().filter_map(|name| Some((name, budgets.get(name)?)));
                let is_new = |name: &String| {
                    let version =
                        |all: &Objects| all.get(name).map(|budget| budget["metadata"]["resourceVersion"].clone());
                    version(&before) != version(budgets)
                };
                if ours()
                    .any(|(name, budget)| is_new(name) && budget["status"]["disruptionsAllowed"].as_i64() > Some(0))
                {
                    return Some(Next::Retry);
                }
                let is_final = |(name, budget): (&String, &Arc<Value>)| {
                    is_settled(budget, self.matched.get(name).copied()) && budget["status"]["disruptionsAllowed"] == 0
                };
                ours().any(is_final).then_some(Next::Stuck)
            });
            match next.await? {
                Next::Retry => {}
                Next::Stuck => return Ok(Some(429)),
                Next::Stale(budget, pod) => self.forget(&budget, &pod).await?,
            }
        }
    }

    /// Drains all nodes at once, for each ensemble once, before any pod is replaced: first the largest set whose pods may all go, and
    /// again, until there is none; then all that are left, until a round in which none goes.
    pub(super) async fn drain_at_once(&self) -> Result<Value, Trouble> {
        let mut seen = BTreeMap::new();
        for (ensemble, members) in self.ensembles() {
            self.replace_pods(false).await?;
            let from = self.moment();
            let mut evicted = BTreeSet::new();
            let mut nodes = BTreeSet::new();
            loop {
                // Where a pod is just gone, its set may be counted still.
                self.recount().await?;
                let before = evicted.len();
                for pod in self.next_to_go(&members) {
                    let here = self.stage.mirror.now(Watched::Pods, &self.namespace);
                    let object = here.get(&pod).cloned().unwrap_or_default();
                    if self.evict(&pod, &object).await? == 200 {
                        let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
                        nodes.insert(node.trim_start_matches(&format!("{}-", self.room.id)).to_owned());
                        evicted.insert(pod);
                    }
                }
                let is_gone = |pods: &Objects| (!evicted.iter().any(|pod| pods.contains_key(pod))).then_some(());
                let what = "evicted pods are gone";
                self.stage.mirror.until(Watched::Pods, &self.namespace, what, LIMIT, is_gone).await?;
                if evicted.len() == before || evicted.len() == members.len() {
                    break;
                }
            }
            let least = self.least(from)[&ensemble].clone();
            self.replace_pods(true).await?;
            self.healthy("a drain at once").await?;
            let told = json!({ "evicted": evicted, "nodes": nodes, "least": least, "members": members.len() });
            seen.insert(ensemble, told);
        }
        Ok(json!(seen))
    }

    /// Of these members those of the largest set that may all go, by what the budgets say now; all where there is no such set.
    fn next_to_go(&self, members: &BTreeSet<String>) -> Vec<String> {
        let pods = self.stage.mirror.now(Watched::Pods, &self.namespace);
        let budgets = self.stage.mirror.now(Watched::DisruptionBudgets, &self.namespace);
        let left = |set: &Value| -> Vec<String> {
            self::members(set).into_iter().filter(|pod| members.contains(pod) && pods.contains_key(pod)).collect()
        };
        let selects = |pod: &str, budget: &str| self.covering.get(pod).is_some_and(|budgets| budgets.contains(budget));
        let may_all_go = |of_set: &Vec<String>| {
            let covering = of_set.iter().filter_map(|pod| self.covering.get(pod)).flatten().collect::<BTreeSet<_>>();
            covering.iter().all(|budget| {
                let allowed = budgets.get(*budget).and_then(|budget| budget["status"]["disruptionsAllowed"].as_u64());
                let selected = of_set.iter().filter(|pod| selects(pod, budget)).count();
                allowed.and_then(|allowed| usize::try_from(allowed).ok()) >= Some(selected)
            })
        };
        let sets: Vec<Vec<String>> = of_kind(self.after, "StatefulSet").map(left).collect();
        let largest =
            sets.iter().filter(|of_set| !of_set.is_empty() && may_all_go(of_set)).max_by_key(|of_set| of_set.len());
        largest.cloned().unwrap_or_else(|| sets.concat())
    }

    /// Whether new pods may be made: a set whose pods cannot be replaced for a while is what a moment is that is hard to hit.
    async fn replace_pods(&self, may: bool) -> Result<(), Trouble> {
        let api = &self.stage.api;
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none", "namespace": self.namespace },
            "spec": { "hard": { "pods": "0" } },
        });
        if may {
            api.delete(&api.path_of(&quota, false)).await?;
        } else {
            api.create(&quota).await?;
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "another", "namespace": self.namespace },
            "spec": { "containers": [{ "name": "main", "image": "example.com/another:1" }] },
        });
        // What admission has heard of no watch tells.
        let heard = async {
            loop {
                match (api.dry_run(&pod).await, may) {
                    (Ok(_), true) => return Ok(()),
                    (Err(refusal), false) if refusal.code == 403 => return Ok(()),
                    (Err(refusal), _) if refusal.code != 403 => return Err(Trouble::Failed(refusal.into())),
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(LIMIT, heard).await.map_err(|_| Trouble::Failed(anyhow!("a quota is not heard of")))??;
        if may {
            // Its controller tries again the later the oftener it was refused, and at once where the set changes.
            for set in of_kind(self.after, "StatefulSet") {
                let path = api.path_of(&self.room.place(set), false);
                let change = json!({ "metadata": { "annotations": { "looked-at": fastrand::u32(..).to_string() } } });
                api.patch(&path, Patch::Merge, &change).await?;
            }
        }
        Ok(())
    }

    /// The pods of each set that is none of several, and of those that are, by what [`Self::least`] calls them.
    fn ensembles(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut ensembles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for set in of_kind(self.after, "StatefulSet") {
            ensembles.entry(ensemble(set)).or_default().extend(members(set));
        }
        ensembles
    }

    /// Changes the template of each set that says how many members an update may take; `null` where none does.
    pub(super) async fn update(&self) -> Result<Value, Trouble> {
        let mut least = Value::Null;
        for set in of_kind(self.after, "StatefulSet") {
            let strategy = &set["spec"]["updateStrategy"];
            if strategy["rollingUpdate"]["maxUnavailable"].is_null() || strategy["type"] == "OnDelete" {
                continue;
            }
            let from = self.moment();
            let partition = strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
            let first = set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
            let updated = usize::try_from((first + replicas(set) - partition.max(first)).max(0)).unwrap_or(0);
            let path = self.stage.api.path_of(&self.room.place(set), false);
            let change = json!({ "spec": { "template": { "metadata": { "annotations": { "try": "2" } } } } });
            self.stage.api.patch(&path, Patch::Merge, &change).await?;
            let of_set = members(set);
            let is_new = |pod: &&Arc<Value>| pod["metadata"]["annotations"]["try"] == "2" && is_ready(pod);
            let done = |pods: &Objects| {
                let of_set = of_set.iter().filter_map(|pod| pods.get(pod));
                (of_set.filter(is_new).count() == updated).then_some(())
            };
            self.stage.mirror.until(Watched::Pods, &self.namespace, "an update", LIMIT, done).await?;
            let seen = self.least(from);
            least[name(set)] = seen[name(set)].clone();
        }
        self.healthy("an update").await?;
        Ok(least)
    }

    /// Makes one pod more unready than the budget allows, where one budget says what becomes of such, and evicts one of them:
    /// whether that is let through; `null` where no budget says.
    pub(super) async fn evict_unready(&self, counts: &Value) -> Result<Value, Trouble> {
        let mut seen = Value::Null;
        for (budget, object) in &self.budgets {
            let allowed = counts[budget.as_str()]["allowed"].as_u64().and_then(|allowed| usize::try_from(allowed).ok());
            let pods: Vec<&str> =
                counts[budget.as_str()]["matched"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let count = allowed.unwrap_or(0) + 1;
            let is_alone = pods.iter().all(|pod| self.covering.get(*pod).is_some_and(|all| all.len() == 1));
            if object["spec"]["unhealthyPodEvictionPolicy"].is_null() || !is_alone || count == 1 || count > pods.len() {
                continue;
            }
            let turn = |ready: &str| {
                let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
                let pods = pods[..count].to_vec();
                async move {
                    for pod in pods {
                        let path = format!("{}/status", self.stage.api.path("v1", "Pod", &self.namespace, pod));
                        match self.stage.api.patch(&path, Patch::Merge, &status).await {
                            // The one that was evicted may not be there again.
                            Err(refusal) if refusal.code != 404 => return Err(Trouble::Failed(refusal.into())),
                            _ => {}
                        }
                    }
                    Ok::<_, Trouble>(())
                }
            };
            turn("False").await?;
            let noticed = |budgets: &Objects| is_settled(budgets.get(budget)?, Some(pods.len() - count)).then_some(());
            let what = "unready pods that are counted";
            self.stage.mirror.until(Watched::DisruptionBudgets, &self.namespace, what, LIMIT, noticed).await?;
            seen[budget.as_str()] = match self.stage.api.evict(&self.namespace, pods[0]).await {
                Ok(()) => true.into(),
                Err(refusal) if refusal.code == 429 => false.into(),
                // It is being replaced: nothing is seen of it.
                Err(refusal) if refusal.code == 404 => Value::Null,
                Err(refusal) => return Err(Trouble::Failed(refusal.into())),
            };
            turn("True").await?;
        }
        Ok(seen)
    }

    /// A budget that waits for an evicted pod of whose name another one is there already.
    fn stale(&self, pods: &Objects, budgets: &Objects) -> Option<(String, String)> {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.iter().find_map(|(name, budget)| {
            let leaving = budget["status"]["disruptedPods"].as_object()?;
            let is_another = |pod: &&String| {
                let uid = gone.get(*pod);
                uid.is_some_and(|uid| pods.get(*pod).is_some_and(|now| now["metadata"]["uid"] != *uid && is_ready(now)))
            };
            let pod = leaving.keys().find(is_another)?;
            Some((name.clone(), pod.clone()))
        })
    }

    /// Asks for the eviction once, and gives the code of the answer; 200 where the pod is gone.
    async fn evict(&self, pod: &str, object: &Value) -> Result<u16, Trouble> {
        let uid = object["metadata"]["uid"].clone();
        let before = self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.to_owned(), uid);
        let code = match self.stage.api.evict(&self.namespace, pod).await {
            Ok(()) => return Ok(200),
            Err(refusal) if refusal.code == 404 => return Ok(200),
            Err(refusal) if [429, 500].contains(&refusal.code) => refusal.code,
            Err(refusal) => return Err(Trouble::Failed(refusal.into())),
        };
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(uid) => gone.insert(pod.to_owned(), uid),
            None => gone.remove(pod),
        };
        Ok(code)
    }

    fn moment(&self) -> usize {
        self.stage.mirror.history(Watched::Pods, &self.namespace).len()
    }

    /// The fewest members of each set, and of all sets together, that were ready at once since the moment; all were ready then.
    fn least(&self, from: usize) -> Value {
        let history = self.stage.mirror.history(Watched::Pods, &self.namespace);
        let mut ready: BTreeSet<String> =
            history[..from.min(history.len())].iter().map(|pod| name(pod).to_owned()).collect();
        let mut groups = self.ensembles();
        groups.extend(
            of_kind(self.after, "StatefulSet").map(|set| (name(set).to_owned(), members(set).into_iter().collect())),
        );
        let mut least: BTreeMap<&str, usize> = groups.iter().map(|(name, pods)| (name.as_str(), pods.len())).collect();
        for pod in history.iter().skip(from) {
            if is_ready(pod) {
                ready.insert(name(pod).to_owned());
            } else {
                ready.remove(name(pod));
            }
            for (name, pods) in &groups {
                let now = pods.intersection(&ready).count();
                if let Some(least) = least.get_mut(name.as_str()) {
                    *least = now.min(*least);
                }
            }
        }
        json!(least)
    }
}

/// What an object's namespace is called in the subject.
pub(super) fn called(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or("default")
}

/// Whether the pod counts.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|conditions| {
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
}

fn differs(now: &Objects, before: &Objects) -> Option<()> {
    let same = now.len() == before.len()
        && now.iter().zip(before).all(|((name, object), (old_name, old))| name == old_name && Arc::ptr_eq(object, old));
    (!same).then_some(())
}
