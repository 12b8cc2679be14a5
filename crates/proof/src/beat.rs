//! What the disruption controller has heard of: its status of a budget does not say which pods it was counted from.

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::api::Patch;
use crate::claim::Trouble;
use crate::mirror::{Objects, Watched};
use crate::room::{LIMIT, Stage};

/// Where the pods are that only beat.
const NAMESPACE: &str = "heard";

/// A pod that nobody runs, and a budget of its own. The disruption controller hears of all pods in the order in which they change, and
/// counts one budget after the other: once it has counted that this pod has become ready, or is no more, it has counted
/// whatever happened before.
#[derive(Debug)]
pub struct Beat<'a> {
    stage: &'a Stage,
    name: String,
    is_ready: Mutex<bool>,
}

impl<'a> Beat<'a> {
    /// One of its own for the room of this name.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn start(stage: &'a Stage, room: &str) -> Result<Self, Trouble> {
        stage.lasting_namespace(NAMESPACE, &Value::Null).await?;
        let beat = Self { stage, name: room.to_owned(), is_ready: Mutex::new(false) };
        let metadata = json!({ "name": room, "namespace": NAMESPACE, "labels": { "room": room } });
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
            "spec": { "minAvailable": 1, "selector": { "matchLabels": { "room": room } } },
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": { "schedulerName": "nobody", "containers": [{ "name": "main", "image": "example.com/beat:1" }] },
        });
        stage.api.create(&budget).await?;
        stage.api.create(&pod).await?;
        Ok(beat)
    }

    /// Waits until the controller has counted all that was there when this was called.
    ///
    /// # Errors
    /// It does not.
    pub async fn heard(&self) -> Result<(), Trouble> {
        // One at a time: who waits meanwhile needs a later one.
        let mut is_ready = self.is_ready.lock().await;
        *is_ready = !*is_ready;
        let (status, healthy) = if *is_ready { ("True", 1) } else { ("False", 0) };
        let path = format!("{}/status", self.stage.api.path("v1", "Pod", NAMESPACE, &self.name));
        let change = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
        self.stage.api.patch(&path, Patch::Merge, &change).await?;
        let counted = |budgets: &Objects| {
            let status = &budgets.get(&self.name)?["status"];
            (status["expectedPods"] == 1 && status["currentHealthy"] == healthy).then_some(())
        };
        let what = "a beat that the disruption controller has counted";
        Ok(self.stage.mirror.until(Watched::DisruptionBudgets, NAMESPACE, what, LIMIT, counted).await?)
    }

    /// Removes it.
    pub async fn end(self) {
        for (api_version, kind) in [("v1", "Pod"), ("policy/v1", "PodDisruptionBudget")] {
            drop(self.stage.api.delete(&self.stage.api.path(api_version, kind, NAMESPACE, &self.name)).await);
        }
    }
}
