//! The policies of a check: modules with their settings, what they want to see and what they may look up.

use std::sync::Arc;

use annotate::{Operation, PolicyType};
use cluster::grants::{ContextAwareResource, Grants};
use cluster::rules::{Matcher, Rule};
use cluster::{AdmissionRequest, Resources};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::engine::{Engine, EngineError, Fault, Host, Limit, Module, ValidationResponse, builtins};
use crate::world::{View, World};

/// The annotation in a module's metadata that holds settings for offline checks, a JSON object: a policy can be stricter
/// where it sees all objects at once.
pub const CHECKER_SETTINGS: &str = "quorate.dev/checker-settings";

/// The annotation in a module's metadata that names the page on which each finding has a section, headed by its code.
pub const FINDINGS_PAGE: &str = "quorate.dev/findings";

/// A policy cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The module cannot be loaded, or did not answer.
    #[error("{}", explain(.0))]
    Engine(#[from] EngineError),
    /// The module is none for Kubernetes, or says too little of itself.
    #[error("module \"{module}\": {reason}")]
    Unfit {
        /// The module's name.
        module: String,
        /// Why not.
        reason: String,
    },
    /// The policy refuses its settings.
    #[error("policy \"{module}\" refuses its settings: {reason}")]
    Settings {
        /// The module's name.
        module: String,
        /// The policy's own words.
        reason: String,
    },
}

/// An engine's error in the words of the command: a library's field names are no help to its user.
pub(crate) fn explain(error: &EngineError) -> String {
    match error.fault() {
        Fault::Limit(limit) => {
            let help = match limit {
                Limit::Time(_) => " (--time-limit raises it)",
                _ => "",
            };
            format!("module \"{}\": exceeded {limit}{help}", error.module())
        }
        _ => error.to_string(),
    }
}

/// A module, ready to judge.
#[derive(Debug)]
pub struct Policy {
    name: Arc<str>,
    module: Module,
    settings: Vec<u8>,
    matcher: Matcher,
    grants: Arc<Grants>,
    page: Option<String>,
}

impl Policy {
    /// A policy with settings of one's own. It is granted what its metadata asks for.
    ///
    /// # Errors
    /// [`PolicyError::Unfit`] for a module without metadata, or with metadata that does not fit; [`PolicyError::Settings`] when
    /// the policy refuses the settings; [`PolicyError::Engine`] when it cannot be asked.
    pub fn new(module: Module, settings: &Map<String, Value>) -> Result<Self, PolicyError> {
        let unfit = |reason: String| PolicyError::Unfit { module: module.name().to_owned(), reason };
        let Some(metadata) = module.metadata() else {
            let reason = "has no Kubewarden metadata, and no Kubewarden host would run it: annotate it first";
            return Err(unfit(reason.to_owned()));
        };
        if metadata.policy_type == PolicyType::Raw {
            return Err(unfit("is a raw policy: it does not judge Kubernetes objects".to_owned()));
        }
        if metadata.execution_mode != annotate::ExecutionMode::KubewardenWapc {
            return Err(unfit("is no waPC policy (see executionMode in its metadata)".to_owned()));
        }
        let kinds = metadata
            .context_aware_resources
            .iter()
            .map(|kind| ContextAwareResource { api_version: kind.api_version.clone(), kind: kind.kind.clone() });
        let grants = match &metadata.host_capabilities {
            Some(patterns) => Grants::new(patterns, kinds).map_err(|error| unfit(error.to_string()))?,
            None => Grants::cluster_wide(kinds),
        };
        let matcher = Matcher::new(metadata.rules.iter().map(rule).collect());
        let settings = Value::Object(settings.clone()).to_string().into_bytes();
        let name = Arc::from(module.name());
        let page = metadata.annotations.as_ref().and_then(|annotations| annotations.get(FINDINGS_PAGE)).cloned();
        let policy = Self { name, module, settings, matcher, grants: Arc::new(grants), page };

        let (nowhere, _) = View::of(&Arc::new(World::default()), "");
        let answer = policy.module.validate_settings(&policy.settings, &policy.host(&Arc::new(nowhere)))?;
        if !answer.valid {
            let reason = answer.message.unwrap_or_else(|| "it does not say why".to_owned());
            return Err(PolicyError::Settings { module: policy.name.to_string(), reason });
        }
        Ok(policy)
    }

    /// A policy with the settings that its metadata gives for offline checks, or none.
    ///
    /// # Errors
    /// As [`Policy::new`].
    pub fn with_own_settings(module: Module) -> Result<Self, PolicyError> {
        let annotations = module.metadata().and_then(|metadata| metadata.annotations.as_ref());
        let settings = match annotations.and_then(|annotations| annotations.get(CHECKER_SETTINGS)) {
            None => Map::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| PolicyError::Unfit {
                module: module.name().to_owned(),
                reason: format!("its annotation {CHECKER_SETTINGS} is no JSON object: {error}"),
            })?,
        };
        Self::new(module, &settings)
    }

    /// Its name, under which its findings are told.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where more is said of a finding; nothing where the policy names no page.
    pub(crate) fn page(&self, code: &str) -> Option<String> {
        Some(format!("{}#{code}", self.page.as_ref()?))
    }

    /// Whether it wants to see the request, and in which version.
    pub(crate) fn matches(
        &self,
        request: &AdmissionRequest<'_>,
        resources: &Resources,
    ) -> Option<cluster::rules::Matched> {
        self.matcher.matches(request, resources)
    }

    /// The cluster as this policy may see it.
    pub(crate) fn host(&self, view: &Arc<View>) -> Arc<dyn Host> {
        Arc::new(PolicyHost { view: Arc::clone(view), grants: Arc::clone(&self.grants) })
    }

    /// Asks it about a request, as JSON.
    pub(crate) fn validate(&self, request: &[u8], host: &Arc<dyn Host>) -> Result<ValidationResponse, EngineError> {
        self.module.validate(request, &self.settings, host)
    }
}

fn rule(rule: &annotate::Rule) -> Rule {
    let operation = |operation: &Operation| match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
        Operation::All => "*",
    };
    Rule {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        resources: rule.resources.clone(),
        operations: rule.operations.iter().map(|each| operation(each).to_owned()).collect(),
        scope: None,
    }
}

/// Answers the calls of one policy.
struct PolicyHost {
    view: Arc<View>,
    grants: Arc<Grants>,
}

impl Host for PolicyHost {
    fn call(&self, binding: &str, namespace: &str, operation: &str, payload: &[u8]) -> Result<Arc<[u8]>, String> {
        // What a policy logs is for who develops it; a report is made of its answer.
        self.view
            .cluster(namespace, operation, payload)
            .host_call(&self.grants, binding, namespace, operation, payload, &mut |_| {})
            .map_err(|error| error.to_string())
    }

    fn console_log(&self, _line: &str) {}
}

/// The built-in policies, with the settings that each has for offline checks.
///
/// # Errors
/// Those that cannot take part, each by its name; the others are not hindered by that.
pub fn built_in(engine: &Engine) -> (Vec<Policy>, Vec<PolicyError>) {
    // Loading all of them is most of the time that a single file takes.
    let loaded: Vec<Result<Policy, PolicyError>> = builtins()
        .par_iter()
        .map(|builtin| engine.builtin(builtin).map_err(PolicyError::from).and_then(Policy::with_own_settings))
        .collect();
    let (mut policies, mut errors) = (Vec::new(), Vec::new());
    for result in loaded {
        match result {
            Ok(policy) => policies.push(policy),
            Err(error) => errors.push(error),
        }
    }
    (policies, errors)
}
