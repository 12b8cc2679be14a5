//! What is installed, derived from the policies: the data, values and schema of the Helm chart, plain manifests, and the
//! `policies.yml` of a policy-server without a cluster.
//!
//! All of it has one source: the `metadata.yml` and `questions-ui.yml` of each policy. So what a policy asks the API
//! server for, and what it may look up, is the same wherever it is deployed.

mod chart;
mod manifests;
mod schema;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ::annotate::{ContextAwareResource, Metadata, Package, Workspace};
use anyhow::{Context, Result, anyhow, bail};
use cluster::Resources;
use corpus::questions::{self, Question};
use serde_json::{Value, json};

use crate::generate::{self, Derived};

pub(crate) use self::server::{Args, run};

/// The folder of the chart.
pub(crate) const CHART: &str = "deploy/helm/quorate";

/// One policy, as far as an installation needs to know it.
struct Policy {
    name: String,
    version: String,
    metadata: Metadata,
    /// Its settings, the shared ones too.
    settings: Vec<Question>,
}

/// All files that are derived from the policies, in `deploy/`.
///
/// `questions` holds the `questions-ui.yml` of each.
pub(crate) fn derived(workspace: &Workspace, questions: &BTreeMap<String, String>) -> Result<Vec<Derived>> {
    let policies = policies(workspace, questions)?;
    let root = &workspace.root;
    let mut files = chart::derived(root, &policies)?;
    files.extend(manifests::derived(root, &policies)?);
    files.push(server::derived(root, &policies));
    Ok(files)
}

fn policies(workspace: &Workspace, questions: &BTreeMap<String, String>) -> Result<Vec<Policy>> {
    let policy = |package: &Package| {
        let name = package.name.clone();
        let asked = questions.get(&name).map(String::as_str).unwrap_or_default();
        let settings = questions::read(&format!("policies/{name}/questions-ui.yml"), asked.as_bytes());
        Ok(Policy {
            version: package.version.clone(),
            metadata: generate::metadata(package, &BTreeMap::new())?,
            settings: settings.map_err(|problems| anyhow!("{}", problems.trim_end()))?,
            name,
        })
    };
    workspace.policies.iter().map(policy).collect()
}

impl Policy {
    /// An annotation that `metadata.yml` must have.
    fn annotation(&self, key: &str) -> Result<&str> {
        let annotations = self.metadata.annotations.as_ref();
        annotations
            .and_then(|annotations| annotations.get(key))
            .map(String::as_str)
            .with_context(|| format!("policies/{}/metadata.yml: {key} is missing", self.name))
    }

    fn severity(&self) -> Result<&str> {
        self.annotation("io.kubewarden.policy.severity")
    }

    fn category(&self) -> Result<&str> {
        self.annotation("io.kubewarden.policy.category")
    }

    /// The kinds that it looks up, as a custom resource names them.
    fn look_ups(&self) -> Value {
        let kind = |kind: &ContextAwareResource| json!({ "apiVersion": kind.api_version, "kind": kind.kind });
        self.metadata.context_aware_resources.iter().map(kind).collect()
    }

    /// What it must be allowed to look up: the verbs by API group and resource. The host asks for one object by `get`, and for a list by
    /// `list` and `watch` (policy-evaluator, `callback_handler/kubernetes/client.rs` and `reflector.rs`).
    fn grants(&self) -> Result<Grants> {
        let asks = |capability: &str| {
            self.metadata
                .host_capabilities
                .iter()
                .flatten()
                .any(|own| own.starts_with(capability) || own.ends_with('*'))
        };
        let mut verbs = BTreeSet::new();
        if asks("kubernetes/get_resource") {
            verbs.insert("get");
        }
        if asks("kubernetes/list_resources_") {
            verbs.extend(["list", "watch"]);
        }
        let built_in = Resources::built_in();
        let mut grants = Grants::new();
        for ContextAwareResource { api_version, kind } in &self.metadata.context_aware_resources {
            let file = format!("policies/{}/metadata.yml", self.name);
            if verbs.is_empty() {
                bail!("{file}: nothing in hostCapabilities looks up the {kind} of contextAwareResources");
            }
            let resource = built_in.served(api_version, kind);
            let resource = resource.with_context(|| format!("{file}: Kubernetes serves no {api_version} {kind}"))?;
            grants.insert((resource.group.into_owned(), resource.plural.into_owned()), verbs.clone());
        }
        Ok(grants)
    }
}

/// Verbs, by API group and resource.
type Grants = BTreeMap<(String, String), BTreeSet<&'static str>>;

/// The grants as rules of a role; the chart's data has them in the same form.
fn rules(grants: &Grants) -> Value {
    let rule = |((group, resource), verbs): (&(String, String), &BTreeSet<&str>)| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
    grants.iter().map(rule).collect()
}

/// A file that is replaced as a whole.
fn whole(root: &Path, name: &str, wanted: String) -> Derived {
    Derived { file: root.join(name), wanted: Some(wanted) }
}

/// A file of which a part is replaced.
fn part(root: &Path, name: &str, replace: impl FnOnce(&str) -> Result<String>) -> Result<Derived> {
    let present = fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))?;
    Ok(whole(root, name, replace(&present)?))
}
