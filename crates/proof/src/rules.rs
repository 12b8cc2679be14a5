//! The rules as they are shipped: the annotated modules, run by the checker's own engine.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};
use cluster::grants::ContextAwareResource;
use cluster::request::UserInfo;
use cluster::{Grants, Requests};
use corpus::World;
use quorate::engine::{Engine, Host, Limits, Module, ValidationResponse, builtins};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All policies.
#[derive(Debug)]
pub struct Rules(BTreeMap<&'static str, (Module, Grants)>);

/// The rules for a claim that asks again about what it has seen: loaded when they are first asked.
#[derive(Debug, Default)]
pub struct Lazily(OnceLock<Rules>);

impl Lazily {
    /// The rules.
    ///
    /// # Errors
    /// A module that does not load.
    pub fn get(&self) -> Result<&Rules> {
        if let Some(rules) = self.0.get() {
            return Ok(rules);
        }
        let loaded = Rules::load()?;
        Ok(self.0.get_or_init(|| loaded))
    }
}

/// What is asked of a policy.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// The object is new.
    Create(&'a Value),
    /// The object was another one before.
    Update {
        /// The object.
        object: &'a Value,
        /// What it was.
        old: &'a Value,
    },
    /// The object goes.
    Delete(&'a Value),
    /// The count of the object, which has the one before, changes.
    Scale {
        /// The object as it is.
        object: &'a Value,
        /// The count before.
        from: i32,
        /// The count after.
        to: i32,
    },
}

/// What a policy says.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Said {
    /// Whether the object is accepted.
    pub accepted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Everything it found.
    pub findings: Vec<Found>,
    /// The object as the policy wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutated: Option<Value>,
    /// What it tells the user, findings or not.
    pub warnings: Vec<String>,
    /// What was asked on the way, and answered, where a claim asks more than once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Value>,
}

/// One finding.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
pub struct Found {
    /// What it is about, in one word.
    pub code: String,
    /// `error` or `warning`.
    pub level: String,
    /// What it is about inside the object, such as a budget's name.
    #[serde(default)]
    pub subject: String,
    /// Where: a JSON pointer.
    #[serde(default)]
    pub path: String,
    /// The sentence.
    #[serde(default)]
    pub message: String,
    /// Why it matters.
    #[serde(default)]
    pub why: String,
    /// What to do.
    #[serde(default)]
    pub advice: String,
    /// What would mend it: RFC 6902.
    #[serde(default)]
    pub patch: Option<Value>,
    /// An object that would mend it.
    #[serde(default)]
    pub creates: Option<Value>,
}

impl Said {
    /// Whether it found this.
    pub fn has(&self, code: &str) -> bool {
        self.findings.iter().any(|found| found.code == code)
    }

    /// Whether it found this, and denies for it.
    pub fn denies(&self, code: &str) -> bool {
        self.findings.iter().any(|found| found.code == code && found.level == "error")
    }

    /// Says nothing of what `drop` names, and denies only for what is left: what a wrong rule may do.
    #[must_use]
    pub fn without(&self, drop: impl Fn(&Found) -> bool) -> Self {
        let findings: Vec<Found> = self.findings.iter().filter(|found| !drop(found)).cloned().collect();
        let accepted = findings.iter().all(|found| found.level != "error");
        Self { accepted, findings, ..self.clone() }
    }

    /// Says the opposite of what it said: what a wrong rule may do.
    #[must_use]
    pub fn but(&self, accepted: bool) -> Self {
        Self { accepted, findings: Vec::new(), ..self.clone() }
    }
}

struct Answers(World);

impl Host for Answers {
    fn call(&self, binding: &str, namespace: &str, operation: &str, payload: &[u8]) -> Result<Arc<[u8]>, String> {
        let (cluster, grants) = (self.0.cluster(), self.0.grants());
        let answer = cluster.host_call(grants, binding, namespace, operation, payload, &mut |_| {});
        answer.map_err(|error| error.to_string())
    }

    fn console_log(&self, _line: &str) {}
}

impl Rules {
    /// Loads the modules that the checker is built with.
    ///
    /// # Errors
    /// A module that does not load.
    pub fn load() -> Result<Self> {
        let engine = Engine::new(Limits::default())?;
        let mut modules = BTreeMap::new();
        for builtin in builtins() {
            let module = engine.builtin(builtin)?;
            let metadata = module.metadata().with_context(|| format!("{} is not annotated", builtin.name()))?;
            let kinds = metadata
                .context_aware_resources
                .iter()
                .map(|kind| ContextAwareResource { api_version: kind.api_version.clone(), kind: kind.kind.clone() });
            let grants = Grants::cluster_wide(kinds);
            modules.insert(builtin.name(), (module, grants));
        }
        Ok(Self(modules))
    }

    /// Asks a policy, with these settings, about a change in a cluster that holds `others`.
    ///
    /// # Errors
    /// No request can be built, or the module fails: neither is a verdict.
    pub fn ask(&self, policy: &str, settings: &Value, change: Change<'_>, others: &[Value]) -> Result<Said> {
        let mut objects = others.to_vec();
        // What changes is there already.
        match change {
            Change::Create(_) => {}
            Change::Update { old, .. } => objects.push(old.clone()),
            Change::Delete(object) | Change::Scale { object, .. } => objects.push(object.clone()),
        }
        let (_, grants) = self.0.get(policy).with_context(|| format!("there is no policy {policy}"))?;
        let world = World::new(objects, grants.clone());
        let requests = Requests::new(world.cluster().resources()).user(UserInfo::default());
        let request = match change {
            Change::Create(object) => requests.create(object),
            Change::Update { object, old } => requests.update(object, old),
            Change::Delete(object) => requests.delete(object),
            Change::Scale { object, from, to } => requests.scale(object, from, to),
        };
        let request = serde_json::to_value(&request.map_err(|error| anyhow!("no request can be built: {error}"))?)?;
        self.answer(policy, settings, &request, world)
    }

    /// What a policy answers to this request, in this world.
    ///
    /// # Errors
    /// The module fails: that is no verdict.
    pub fn answer(&self, policy: &str, settings: &Value, request: &Value, world: World) -> Result<Said> {
        let host: Arc<dyn Host> = Arc::new(Answers(world));
        let request = serde_json::to_vec(request)?;
        read(self.module(policy)?.validate(&request, text(settings).as_bytes(), &host)?)
    }

    /// Whether a policy takes these settings.
    ///
    /// # Errors
    /// The module fails.
    pub fn accepts_settings(&self, policy: &str, settings: &Value) -> Result<bool> {
        let host: Arc<dyn Host> = Arc::new(Answers(World::new([], Grants::default())));
        Ok(self.module(policy)?.validate_settings(text(settings).as_bytes(), &host)?.valid)
    }

    /// The policies.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// The policy's module.
    ///
    /// # Errors
    /// There is none.
    pub fn module(&self, policy: &str) -> Result<&Module> {
        let (module, _) = self.0.get(policy).with_context(|| format!("there is no policy {policy}"))?;
        Ok(module)
    }
}

fn text(settings: &Value) -> String {
    if settings.is_null() { "{}".to_owned() } else { settings.to_string() }
}

fn read(answer: ValidationResponse) -> Result<Said> {
    let findings = answer.audit_annotations.as_ref().and_then(|annotations| annotations.get("findings"));
    let findings = match findings {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).context("the findings cannot be read")?,
    };
    Ok(Said {
        accepted: answer.accepted,
        message: answer.message,
        findings,
        mutated: answer.mutated_object,
        warnings: answer.warnings.unwrap_or_default(),
        steps: Vec::new(),
    })
}
