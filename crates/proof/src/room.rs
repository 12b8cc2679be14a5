//! Where an object is played: namespaces and nodes of its own, so that many play at once and none disturbs another.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::api::{Api, Patch, Refusal};
use crate::claim::Trouble;
use crate::mirror::{Mirror, Watched};
use crate::plane::node;

/// How long anything that must happen may take, on a busy machine: nothing waits so long unless it is lost.
pub const LIMIT: Duration = Duration::from_mins(3);

/// The label of the nodes of a room, and of the pods' node selector.
pub const POOL: &str = "quorate.dev/pool";

/// The control plane, and what it holds.
#[derive(Debug)]
pub struct Stage {
    /// Its API.
    pub api: Api,
    /// What it holds.
    pub mirror: Mirror,
    rooms: AtomicU32,
    turn: RwLock<()>,
}

#[derive(Debug)]
enum Turn<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

/// Namespaces and nodes for one play.
#[derive(Debug)]
pub struct Room<'a> {
    /// Where it is.
    pub stage: &'a Stage,
    /// What its namespaces and nodes begin with: `r17`.
    pub id: String,
    namespaces: Vec<(String, String)>,
    nodes: Vec<String>,
    turn: Turn<'a>,
}

impl Stage {
    /// Begins to watch the control plane.
    pub fn new(api: Api) -> Self {
        let mirror = Mirror::start(&api);
        Self { api, mirror, rooms: AtomicU32::new(0), turn: RwLock::new(()) }
    }

    /// Sees to it that there is a namespace of this name, for dry runs: nothing is ever stored in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn lasting_namespace(&self, name: &str, labels: &Value) -> Result<(), Refusal> {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
        match self.api.create(&namespace).await {
            Err(refusal) if refusal.reason != "AlreadyExists" => Err(refusal),
            _ => Ok(()),
        }
    }

    /// A room beside others: pods are kept to its nodes by a node selector.
    pub async fn room(&self) -> Room<'_> {
        let turn = Turn::Shared { _guard: self.turn.read().await };
        self.open(turn)
    }

    /// A room while there is no other, and no node but its own: for what looks at all nodes of a cluster.
    pub async fn alone(&self) -> Room<'_> {
        let turn = Turn::Alone { _guard: self.turn.write().await };
        self.open(turn)
    }

    fn open<'a>(&'a self, turn: Turn<'a>) -> Room<'a> {
        let id = format!("r{}", self.rooms.fetch_add(1, Ordering::Relaxed));
        Room { stage: self, id, namespaces: Vec::new(), nodes: Vec::new(), turn }
    }
}

impl Room<'_> {
    /// Adds the namespace that objects of a subject call `name`, with these labels.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn namespace(&mut self, name: &str, labels: &Value) -> Result<String, Trouble> {
        let own = format!("{}-{name}", self.id);
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": own, "labels": labels } });
        self.stage.api.create(&namespace).await?;
        self.namespaces.push((name.to_owned(), own.clone()));
        Ok(own)
    }

    /// What this room calls the namespace `name`.
    pub fn own(&self, name: &str) -> String {
        self.namespaces.iter().find(|(of, _)| of == name).map_or_else(|| name.to_owned(), |(_, own)| own.clone())
    }

    /// Adds a node of this room, `ID-name`, with these labels beside its own, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be made, or does not get ready.
    pub async fn node(&mut self, name: &str, labels: &Value) -> Result<String, Trouble> {
        let added = self.add_nodes(vec![(name.to_owned(), labels.clone())]).await?;
        added.into_iter().next().ok_or_else(|| Trouble::Failed(anyhow::anyhow!("no node")))
    }

    /// Adds nodes of this room, as [`Room::node`] does, all at once.
    ///
    /// # Errors
    /// One cannot be made, or does not get ready.
    pub async fn add_nodes(&mut self, wanted: Vec<(String, Value)>) -> Result<Vec<String>, Trouble> {
        let mut added = Vec::new();
        let mut nodes = Vec::new();
        for (name, labels) in wanted {
            let own = format!("{}-{name}", self.id);
            let mut node = node(&own, &labels);
            node["metadata"]["labels"][POOL] = self.id.clone().into();
            added.push(own);
            nodes.push(node);
        }
        // They are there before they are ready, and go with the room in either case.
        self.nodes.extend(added.iter().cloned());
        try_join_all(nodes.iter().map(|node| self.stage.api.create(node))).await?;
        let is_ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array();
            let ready = conditions.is_some_and(|conditions| {
                conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            });
            // A new node is tainted until the node controller has seen it ready.
            let tainted = node["spec"]["taints"]
                .as_array()
                .is_some_and(|taints| taints.iter().any(|taint| taint["key"] == "node.kubernetes.io/not-ready"));
            ready && !tainted
        };
        let what = format!("nodes ready: {}", added.join(", "));
        let ready = |nodes: &crate::mirror::Objects| {
            added.iter().all(|own| nodes.get(own).is_some_and(|node| is_ready(node))).then_some(())
        };
        self.stage.mirror.until(Watched::Nodes, "", &what, LIMIT, ready).await?;
        Ok(added)
    }

    /// The nodes of this room, in the order in which they were added.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Whether nothing new may be placed on the node.
    ///
    /// # Errors
    /// It cannot be changed.
    pub async fn cordon(&self, node: &str, cordoned: bool) -> Result<(), Refusal> {
        let path = self.stage.api.path("v1", "Node", "", node);
        let change = json!({ "spec": { "unschedulable": cordoned } });
        self.stage.api.patch(&path, Patch::Merge, &change).await.map(drop)
    }

    /// The object as it is in this room: in the room's namespaces, wherever their names stand, its pods on the room's nodes.
    pub fn place(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if object["metadata"]["namespace"].is_null()
            && let Some((name, _)) = self.namespaces.first()
        {
            object["metadata"]["namespace"] = name.clone().into();
        }
        for (name, own) in &self.namespaces {
            rename(&mut object, name, own);
        }
        let spec = match object["kind"].as_str() {
            Some("Pod") => &mut object["spec"],
            _ => &mut object["spec"]["template"]["spec"],
        };
        if spec.is_object() {
            // Nothing runs that would have to end: a pod that is deleted is gone, before kwok would delete what has its name,
            // which may be the next pod.
            spec["terminationGracePeriodSeconds"] = 0.into();
            // Alone, there are no other nodes.
            if matches!(self.turn, Turn::Shared { .. }) {
                spec["nodeSelector"][POOL] = self.id.clone().into();
            }
        }
        object
    }

    /// Removes what was played, and its nodes. The namespaces stay, empty: removing one asks for every kind there is.
    pub async fn close(self) {
        let Self { stage, namespaces, nodes, turn, .. } = self;
        for (_, namespace) in &namespaces {
            for (api_version, kind) in [
                ("apps/v1", "StatefulSet"),
                ("apps/v1", "Deployment"),
                ("apps/v1", "ReplicaSet"),
                ("policy/v1", "PodDisruptionBudget"),
                ("v1", "Pod"),
            ] {
                drop(stage.api.delete(&stage.api.path(api_version, kind, namespace, "")).await);
            }
        }
        drop(
            join_all(nodes.iter().map(|node| async {
                drop(stage.api.delete(&stage.api.path("v1", "Node", "", node)).await);
            }))
            .await,
        );
        for (_, namespace) in &namespaces {
            // A controller may have made one more pod meanwhile.
            drop(stage.api.delete(&stage.api.path("v1", "Pod", namespace, "")).await);
            stage.mirror.forget(namespace);
        }
        drop(turn);
    }
}

/// Writes `own` wherever `name` is the whole of a text or of a field's name.
fn rename(value: &mut Value, name: &str, own: &str) {
    match value {
        Value::String(text) if text == name => own.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, name, own)),
        Value::Object(fields) => {
            if let Some(field) = fields.remove(name) {
                fields.insert(own.to_owned(), field);
            }
            fields.values_mut().for_each(|field| rename(field, name, own));
        }
        _ => {}
    }
}
