//! The cluster of a case, seen by a policy.

use std::sync::Arc;

use cluster::{Cluster, Grants};
use serde_json::Value;

/// What answers a policy's look-ups while a case runs: the same stand-in that the checker uses.
#[derive(Debug)]
pub struct World {
    cluster: Cluster,
    grants: Grants,
}

impl World {
    /// A cluster that holds `objects` and grants what `grants` says.
    pub fn new(objects: impl IntoIterator<Item = Value>, grants: Grants) -> Self {
        Self { cluster: Cluster::new(objects.into_iter().map(Arc::new)), grants }
    }

    /// What the policy is granted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The stand-in itself.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

impl policy::Host for World {
    fn call(&self, namespace: &str, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        self.cluster
            .call(&self.grants, namespace, operation, payload)
            .map(|answer| answer.to_vec())
            .map_err(|error| format!("Host error: {error}"))
    }
}
