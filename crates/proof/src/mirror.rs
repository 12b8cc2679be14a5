//! What the cluster holds, kept current by watches: waiting is for a moment, never for a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures::{StreamExt, pin_mut};
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::api::Api;
use crate::claim::Trouble;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watched {
    /// `v1` Pod.
    Pods,
    /// `v1` Node; they are in no namespace: `""`.
    Nodes,
    /// `apps/v1` StatefulSet.
    StatefulSets,
    /// `policy/v1` PodDisruptionBudget.
    DisruptionBudgets,
}

impl Watched {
    const ALL: [Self; 4] = [Self::Pods, Self::Nodes, Self::StatefulSets, Self::DisruptionBudgets];

    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Pods => ("v1", "Pod"),
            Self::Nodes => ("v1", "Node"),
            Self::StatefulSets => ("apps/v1", "StatefulSet"),
            Self::DisruptionBudgets => ("policy/v1", "PodDisruptionBudget"),
        }
    }
}

/// The objects of one kind in one namespace, by name.
pub type Objects = BTreeMap<String, Arc<Value>>;

/// Something did not come to be in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not happen within {limit:?}")]
pub struct Late {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub limit: Duration,
}

/// What the cluster holds.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    places: Mutex<HashMap<(Watched, String), Place>>,
    /// The newest version that the watch of each kind has told of.
    told: [AtomicU64; 4],
}

#[derive(Debug)]
struct Place {
    current: watch::Sender<Objects>,
    /// Every state that an object of this place was seen in, in order; the last state of one that is gone once more, with a
    /// `deletionTimestamp` in any case.
    history: Vec<Arc<Value>>,
}

impl Default for Place {
    fn default() -> Self {
        Self { current: watch::Sender::new(Objects::new()), history: Vec::new() }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Mirror {
    /// Begins to watch.
    pub fn start(api: &Api) -> Self {
        let shared = Arc::new(Shared::default());
        let tasks = Watched::ALL.map(|watched| tokio::spawn(follow(api.clone(), Arc::clone(&shared), watched)));
        Self { shared, tasks: tasks.into() }
    }

    /// What is there now.
    pub fn now(&self, watched: Watched, namespace: &str) -> Objects {
        self.shared.place(watched, namespace, |place| place.current.borrow().clone())
    }

    /// Every state that an object was seen in, in order; of one that is gone the last has a `deletionTimestamp`.
    pub fn history(&self, watched: Watched, namespace: &str) -> Vec<Arc<Value>> {
        self.shared.place(watched, namespace, |place| place.history.clone())
    }

    /// Drops what is remembered of a namespace that nobody asks for any more.
    pub fn forget(&self, namespace: &str) {
        let mut places = self.shared.lock();
        places.retain(|(_, of), _| of != namespace);
    }

    /// Waits until the watch has told of all that was there when this was called: on a busy machine it may come late, and what
    /// is long gone still seems to be there.
    ///
    /// # Errors
    /// The API server does not answer, or the watch does not follow within `limit`.
    pub async fn catch_up(&self, api: &Api, watched: Watched, namespace: &str, limit: Duration) -> Result<(), Trouble> {
        let (api_version, kind) = watched.kind();
        let list = api.get(&api.path(api_version, kind, namespace, "")).await?;
        let until = version(&list);
        let items = || list["items"].as_array().into_iter().flatten();
        let newest = items().map(version).max().unwrap_or(0);
        let there: BTreeSet<&str> = items().filter_map(|item| item["metadata"]["name"].as_str()).collect();
        let told = |objects: &Objects| {
            let is_gone =
                |(name, object): (&String, &Arc<Value>)| !there.contains(name.as_str()) && version(object) <= until;
            // Events of one kind come in the order of their versions, whatever the namespace.
            let is_told = self.shared.told(watched).load(Ordering::Relaxed) >= newest;
            (is_told && !objects.iter().any(is_gone)).then_some(())
        };
        Ok(self.until(watched, namespace, "a watch that is late", limit, told).await?)
    }

    /// Waits until `test` gives something, asked now and after each change.
    ///
    /// # Errors
    /// [`Late`], with `what`, when it gives nothing within `limit`.
    pub async fn until<T>(
        &self,
        watched: Watched,
        namespace: &str,
        what: &str,
        limit: Duration,
        mut test: impl FnMut(&Objects) -> Option<T>,
    ) -> Result<T, Late> {
        let mut changes = self.shared.place(watched, namespace, |place| place.current.subscribe());
        let wait = async {
            loop {
                let found = test(&changes.borrow_and_update());
                if let Some(found) = found {
                    return found;
                }
                if changes.changed().await.is_err() {
                    // Forgotten while somebody waits: it never comes.
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(limit, wait).await.map_err(|_| Late { what: what.to_owned(), limit })
    }
}

impl Shared {
    fn told(&self, watched: Watched) -> &AtomicU64 {
        &self.told[watched as usize]
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Watched, String), Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place<T>(&self, watched: Watched, namespace: &str, read: impl FnOnce(&mut Place) -> T) -> T {
        read(self.lock().entry((watched, namespace.to_owned())).or_default())
    }

    fn is(&self, watched: Watched, mut object: Value, gone: bool) {
        if gone && object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = "gone".into();
        }
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        self.told(watched).fetch_max(version(&object), Ordering::Relaxed);
        let object = Arc::new(object);
        self.place(watched, &namespace, |place| {
            if watched == Watched::Pods {
                place.history.push(Arc::clone(&object));
            }
            place.current.send_modify(|objects| {
                if gone {
                    objects.remove(&name);
                } else {
                    objects.insert(name, object);
                }
            });
        });
    }

    /// What is there is this list, and nothing else: all at once, so that nobody sees a part of it and takes the rest for gone.
    fn only(&self, watched: Watched, items: Vec<Value>) {
        let mut found: HashMap<String, Objects> = HashMap::new();
        for item in items {
            self.told(watched).fetch_max(version(&item), Ordering::Relaxed);
            let text = |name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            found.entry(namespace).or_default().insert(name, Arc::new(item));
        }
        let mut places = self.lock();
        for namespace in found.keys() {
            places.entry((watched, namespace.clone())).or_default();
        }
        for ((kind, namespace), place) in places.iter_mut() {
            if *kind == watched {
                place.only(watched, found.remove(namespace).unwrap_or_default());
            }
        }
    }
}

impl Place {
    fn only(&mut self, watched: Watched, now: Objects) {
        if watched == Watched::Pods {
            let before = self.current.borrow().clone();
            for (name, object) in &before {
                if !now.contains_key(name) {
                    let mut gone = Value::clone(object);
                    gone["metadata"]["deletionTimestamp"] = "gone".into();
                    self.history.push(Arc::new(gone));
                }
            }
            for (name, object) in &now {
                if before.get(name).is_none_or(|old| version(old) != version(object)) {
                    self.history.push(Arc::clone(object));
                }
            }
        }
        self.current.send_modify(|objects| *objects = now);
    }
}

/// The version of an object or a list: they count up, whatever the object.
fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0)
}

async fn follow(api: Api, shared: Arc<Shared>, watched: Watched) {
    loop {
        if read(&api, &shared, watched).await.is_ok() {
            // A watch ends now and then, by the server's own choice, and goes on where it ended: what happens between two lists nobody
            // sees, nor in which order.
            while watch_on(&api, &shared, watched).await.is_ok() {}
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Reads all anew.
async fn read(api: &Api, shared: &Shared, watched: Watched) -> Result<()> {
    let (api_version, kind) = watched.kind();
    let mut list = api.get(&api.path(api_version, kind, "", "")).await?;
    let mut items = match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    for item in &mut items {
        // The items of a list say neither.
        item["apiVersion"] = api_version.into();
        item["kind"] = kind.into();
    }
    shared.only(watched, items);
    shared.told(watched).fetch_max(version(&list), Ordering::Relaxed);
    Ok(())
}

/// Takes what has happened since, until the watch ends.
///
/// # Errors
/// It cannot go on from there.
async fn watch_on(api: &Api, shared: &Shared, watched: Watched) -> Result<()> {
    let (api_version, kind) = watched.kind();
    let from = shared.told(watched).load(Ordering::Relaxed).to_string();
    let events = api.watch(&api.path(api_version, kind, "", ""), &from).await?;
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => shared.is(watched, object, false),
            WatchEvent::Deleted(object) => shared.is(watched, object, true),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(anyhow!("{}", status.message)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, version: &str) -> Value {
        json!({ "metadata": { "namespace": "a", "name": name, "resourceVersion": version } })
    }

    #[tokio::test]
    async fn a_list_takes_the_place_of_what_was_there_at_once() {
        let shared = Shared::default();
        shared.only(Watched::Pods, vec![pod("zk-0", "1"), pod("zk-1", "2")]);
        let changes = shared.place(Watched::Pods, "a", |place| place.current.subscribe());
        let mut seen = changes.clone();
        seen.mark_unchanged();
        shared.only(Watched::Pods, vec![pod("zk-1", "2"), pod("zk-2", "3")]);
        // One change: nobody could see fewer than two.
        assert!(seen.has_changed().unwrap());
        let names: Vec<String> = seen.borrow_and_update().keys().cloned().collect();
        assert_eq!(names, ["zk-1", "zk-2"]);
        let history = shared.place(Watched::Pods, "a", |place| place.history.clone());
        let told: Vec<(&str, bool)> = history
            .iter()
            .map(|pod| (pod["metadata"]["name"].as_str().unwrap(), pod["metadata"]["deletionTimestamp"].is_null()))
            .collect();
        assert_eq!(told, [("zk-0", true), ("zk-1", true), ("zk-0", false), ("zk-2", true)]);
        assert_eq!(shared.told(Watched::Pods).load(Ordering::Relaxed), 3);
    }
}
