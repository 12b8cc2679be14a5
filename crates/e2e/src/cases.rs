//! Every case of test-data, the whole way.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use cluster::Resources;
use cluster::resources::{Origin, Resource};
use corpus::{Case, Expect};
use futures::{StreamExt, TryStreamExt, stream};
use proof::api::Api;
use proof::plane::Plane;
use proof::rules::Rules;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::hooks::{self, ENTRY};
use crate::play::{Outcome, Player, Reasons, SETUP};
use crate::server::Server;

/// How many play at once.
const AT_ONCE: usize = 12;
/// The share of cases that must be played, in percent: else hardly anything was asked.
const PLAYED: usize = 60;
/// How many cases each wrong way is tried with, at most.
const WRONG_CASES: usize = 12;
/// How long a webhook may take until the API server knows it.
const KNOWN: Duration = Duration::from_mins(1);

/// Ways to be wrong that must be noticed. They are made here only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// The webhook asks about fewer requests than the policy judges.
    NoScale,
    /// Another module in the policy's place.
    OtherModule,
    /// The server may look nothing up.
    NoGrants,
    /// The server drops what the policy changes.
    NoMutation,
    /// The settings are not those of the case.
    OtherSettings,
    /// Nothing is denied.
    Monitor,
}

impl Wrong {
    const ALL: [Self; 6] =
        [Self::NoScale, Self::OtherModule, Self::NoGrants, Self::NoMutation, Self::OtherSettings, Self::Monitor];

    fn name(self) -> &'static str {
        match self {
            Self::NoScale => "a webhook without statefulsets/scale",
            Self::OtherModule => "another policy's module",
            Self::NoGrants => "no look-ups granted",
            Self::NoMutation => "a server that may not mutate",
            Self::OtherSettings => "the settings forgotten",
            Self::Monitor => "monitor in place of protect",
        }
    }

    /// Whether the case can show it.
    fn concerns(self, case: &Case) -> bool {
        let header = &case.header;
        let denies = header.expect == Expect::Deny;
        match self {
            Self::NoScale => header.scale.is_some() && !header.findings.is_empty(),
            Self::OtherModule => denies && header.settings.is_none() && case.policy == "odd-replicas",
            Self::NoGrants => denies && header.lookups && case.policy == "disruption-budget" && !case.others.is_empty(),
            Self::NoMutation => header.mutated.is_some(),
            Self::OtherSettings => denies && header.settings.is_some(),
            Self::Monitor => denies,
        }
    }

    /// Makes the entry and the resource wrong.
    fn apply(self, server: &mut Server, resource: &mut Value) {
        let id = hooks::id(resource);
        match self {
            Self::NoScale => {
                if let Some(rules) = resource["spec"]["rules"].as_array_mut() {
                    rules.retain(|rule| rule["resources"] != json!(["statefulsets/scale"]));
                }
            }
            Self::OtherModule => server.change(&id, |entry| {
                let module = entry["module"].as_str().unwrap_or_default().replace("odd-replicas", "anti-affinity");
                entry["module"] = module.into();
            }),
            Self::NoGrants => server.change(&id, deny_look_ups),
            Self::NoMutation => server.change(&id, |entry| entry["allowedToMutate"] = false.into()),
            Self::OtherSettings => server.change(&id, |entry| entry["settings"] = json!({})),
            Self::Monitor => server.change(&id, |entry| entry["policyMode"] = "monitor".into()),
        }
    }
}

/// The resource of the case's object, if Kubernetes itself does not serve it and a definition can.
fn custom_resource(case: &Case) -> Option<Resource> {
    let text = |field: &str| case.object[field].as_str().unwrap_or_default();
    let resource = Resources::built_in().resolve(text("apiVersion"), text("kind"), true);
    (resource.origin == Origin::Guess && resource.group.contains('.')).then_some(resource)
}

/// Has the API server serve the resource, with any fields.
async fn define(api: &Api, resource: &Resource) -> Result<()> {
    let Resource { group, version, kind, plural, .. } = resource;
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
            "versions": [{ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema": any } }],
        },
    });
    api.create(&definition).await?;
    let began = Instant::now();
    while let Err(error) = api.get(&format!("/apis/{group}/{version}/{plural}")).await {
        if began.elapsed() > KNOWN {
            bail!("{plural}.{group} is not served after {KNOWN:?}: {error}");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn deny_look_ups(entry: &mut Value) {
    entry["hostCapabilities"] = json!([]);
    entry["contextAwareResources"] = json!([]);
}

/// One case, and the webhook that it is sent through.
struct Part {
    case: Case,
    entry: String,
    wrong: Option<Wrong>,
}

/// All cases, and the webhooks that they need.
pub(crate) struct Cases {
    parts: Vec<Part>,
    /// Settings that the policy refuses: with them no server starts.
    refused: Vec<Case>,
    resources: Vec<Value>,
    /// By group and kind.
    custom: BTreeMap<String, Resource>,
}

/// What came of all cases.
#[derive(Default)]
pub(crate) struct Tally {
    by_policy: BTreeMap<String, Counts>,
    reasons: Reasons,
    differences: Vec<String>,
    /// The cases that agree as the API server writes them.
    completed: Vec<String>,
    /// Of each wrong way, how many cases were played, and how many of them showed it.
    wrongs: BTreeMap<&'static str, (usize, usize)>,
}

#[derive(Default)]
struct Counts {
    cases: usize,
    agree: usize,
    differ: usize,
    denied: usize,
    updates: usize,
    mutated: usize,
}

impl Cases {
    /// Reads all cases, and adds what they need to the server.
    pub(crate) fn new(rules: &Rules, server: &mut Server) -> Result<Self> {
        let mut cases = Self { parts: Vec::new(), refused: Vec::new(), resources: Vec::new(), custom: BTreeMap::new() };
        let mut entries: BTreeMap<(String, String, bool, Option<Wrong>), String> = BTreeMap::new();
        let mut all = Vec::new();
        for policy in rules.names() {
            for case in corpus::cases(policy)? {
                let settings = case.header.settings.clone().unwrap_or_else(|| json!({}));
                if rules.accepts_settings(policy, &settings)? {
                    all.push((case, settings));
                } else {
                    cases.refused.push(case);
                }
            }
        }
        let honest = all.iter().map(|(case, settings)| (case, settings, None));
        let mut wanted: Vec<(&Case, &Value, Option<Wrong>)> = honest.collect();
        for wrong in Wrong::ALL {
            let concerned: Vec<_> = all.iter().filter(|(case, _)| wrong.concerns(case)).collect();
            let step = concerned.len().div_ceil(WRONG_CASES).max(1);
            wanted.extend(concerned.iter().step_by(step).map(|(case, settings)| (case, settings, Some(wrong))));
        }
        for (case, settings, wrong) in wanted {
            let custom = custom_resource(case);
            // A custom resource is judged where somebody adds a rule for it: each such case has an entry of its own.
            let unlike = custom.as_ref().map(|custom| format!("{}/{}", custom.group, custom.kind)).unwrap_or_default();
            if let Some(custom) = custom {
                cases.custom.insert(unlike.clone(), custom);
            }
            let policy = format!("{} {unlike}", case.policy);
            let key = (policy, settings.to_string(), case.header.lookups, wrong);
            let name = format!("{}-{}", case.policy, entries.len());
            let entry = if let Some(entry) = entries.get(&key) {
                entry.clone()
            } else {
                let entry = cases.add(server, case, settings, &name, wrong)?;
                entries.insert(key, entry.clone());
                entry
            };
            cases.parts.push(Part { case: case.clone(), entry, wrong });
        }
        Ok(cases)
    }

    /// Adds a policy with these settings, which judges the namespaces that are labelled for it, and gives its id.
    fn add(
        &mut self,
        server: &mut Server,
        case: &Case,
        settings: &Value,
        name: &str,
        wrong: Option<Wrong>,
    ) -> Result<String> {
        let mut resource = hooks::deployed(&case.policy)?;
        resource["metadata"]["name"] = name.into();
        let id = hooks::id(&resource);
        let spec = &mut resource["spec"];
        spec["settings"] = settings.clone();
        spec["mode"] = "protect".into();
        spec["failurePolicy"] = "Fail".into();
        spec["timeoutSeconds"] = 30.into();
        // One value drives both in the chart.
        spec["mutating"] = (!matches!(settings["mutate"], Value::Null | Value::Bool(false))).into();
        if let Some(expressions) = spec["namespaceSelector"]["matchExpressions"].as_array_mut() {
            expressions.push(json!({ "key": ENTRY, "operator": "In", "values": [id] }));
        }
        if let (Some(rules), Some(custom)) = (spec["rules"].as_array_mut(), custom_resource(case)) {
            rules.push(json!({
                "apiGroups": [custom.group], "apiVersions": [custom.version], "resources": [custom.plural],
                "operations": ["CREATE", "UPDATE"],
            }));
        }
        if let Some(conditions) = spec["matchConditions"].as_array_mut() {
            let expression = format!("request.userInfo.username != '{SETUP}'");
            conditions.push(json!({ "name": "not-the-setup", "expression": expression }));
        }
        server.add(&case.policy, &resource);
        if !case.header.lookups {
            server.change(&id, deny_look_ups);
        }
        if let Some(wrong) = wrong {
            wrong.apply(server, &mut resource);
        }
        self.resources.push(resource);
        Ok(id)
    }

    /// Plays all of them.
    pub(crate) async fn play(
        &self,
        plane: &Plane,
        server: &Server,
        rules: &Rules,
        only: Option<&str>,
    ) -> Result<Tally> {
        let is_asked = |case: &Case| only.is_none_or(|only| format!("{}/{}", case.policy, case.name).contains(only));
        for custom in self.custom.values() {
            define(&plane.api, custom).await?;
        }
        let mut configurations: Vec<Value> =
            self.resources.iter().map(|resource| hooks::configuration(resource, &server.endpoint)).collect();
        for configuration in &configurations {
            plane.api.create(configuration).await?;
        }
        known(&plane.api, &mut configurations).await?;
        let stage = Player { api: &plane.api, rules };
        let parts = self.parts.iter().enumerate().filter(|(_, part)| is_asked(&part.case));
        let plays =
            parts.map(|(number, part)| {
                let stage = &stage;
                async move {
                    Ok::<_, anyhow::Error>((part, stage.play(&part.case, &number.to_string(), &part.entry).await?))
                }
            });
        let played: Vec<(&Part, Outcome)> = stream::iter(plays).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut tally = Tally::default();
        for (part, outcome) in played {
            tally.add(part, &outcome);
        }
        for case in self.refused.iter().filter(|case| is_asked(case)) {
            let why = "settings that the policy refuses: with them no server starts".to_owned();
            tally.count(case, &Outcome::CannotBe(why));
        }
        for configuration in &configurations {
            plane.api.delete(&plane.api.path_of(configuration, false)).await?;
        }
        Ok(tally)
    }
}

impl Tally {
    fn add(&mut self, part: &Part, outcome: &Outcome) {
        let Some(wrong) = part.wrong else { return self.count(&part.case, outcome) };
        let (played, noticed) = self.wrongs.entry(wrong.name()).or_default();
        *played += usize::from(!matches!(outcome, Outcome::CannotBe(_)));
        *noticed += usize::from(matches!(outcome, Outcome::Differs(_)));
    }

    fn count(&mut self, case: &Case, outcome: &Outcome) {
        let counts = self.by_policy.entry(case.policy.clone()).or_default();
        counts.cases += 1;
        let name = format!("{}/{}", case.policy, case.name);
        match outcome {
            Outcome::CannotBe(why) => self.reasons.entry(why.clone()).or_default().push(name),
            Outcome::Differs(how) => {
                counts.differ += 1;
                self.differences.push(format!("{name}:\n    {how}"));
            }
            Outcome::Agrees => counts.agree += 1,
            Outcome::AgreesCompleted => {
                counts.agree += 1;
                self.completed.push(name);
            }
        }
        if !matches!(outcome, Outcome::CannotBe(_)) {
            counts.denied += usize::from(case.header.expect == Expect::Deny);
            counts.updates += usize::from(case.old().is_some() || case.header.scale.is_some() || case.header.delete);
            counts.mutated += usize::from(case.header.mutated.is_some());
        }
    }

    /// The table, and what cannot be.
    pub(crate) fn print(&self, whole: bool) {
        println!("| policy | cases | played | agree | denied | changes | mutated |\n|---|---|---|---|---|---|---|");
        for (policy, counts) in &self.by_policy {
            let played = counts.agree + counts.differ;
            println!(
                "| {policy} | {} | {played} | {} | {} | {} | {} |",
                counts.cases, counts.agree, counts.denied, counts.updates, counts.mutated
            );
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(why, names)| (std::cmp::Reverse(names.len()), (*why).clone()));
        println!("\nnot played, because no cluster holds it or nobody can send it:");
        for (why, names) in reasons {
            println!("  {} ({}): {}", why, names.len(), names.join(", "));
        }
        if !self.completed.is_empty() {
            println!(
                "\nagree as the API server writes them, which is not as the cases do: {}",
                self.completed.join(", ")
            );
        }
        if whole {
            println!("\nwrong on purpose | played | noticed");
            for (wrong, (played, noticed)) in &self.wrongs {
                println!("{wrong} | {played} | {noticed}");
            }
        }
    }

    /// Why this is no success.
    pub(crate) fn failures(&self, whole: bool) -> Vec<String> {
        let mut failures = self.differences.clone();
        if !whole {
            return failures;
        }
        let cases: usize = self.by_policy.values().map(|counts| counts.cases).sum();
        let played: usize = self.by_policy.values().map(|counts| counts.agree + counts.differ).sum();
        if played * 100 < cases * PLAYED {
            failures.push(format!("{played} of {cases} cases were played: {PLAYED} % are wanted"));
        }
        for wrong in Wrong::ALL.map(Wrong::name) {
            if self.wrongs.get(wrong).is_none_or(|(_, noticed)| *noticed == 0) {
                failures.push(format!("nobody notices {wrong}"));
            }
        }
        failures
    }
}

/// Waits until the API server asks the last webhook of each kind: it learns of them in order.
pub(crate) async fn known(api: &Api, configurations: &mut Vec<Value>) -> Result<()> {
    let mut marks = Vec::new();
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let name = format!("mark-{}", kind.to_lowercase());
        // Nobody listens there: what is asked fails, and says so.
        let mark = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name },
            "webhooks": [{
                "name": "mark.quorate.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 1,
                "clientConfig": { "url": "https://127.0.0.1:1/" },
                "objectSelector": { "matchLabels": { "mark": name } },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"] }],
            }],
        });
        api.create(&mark).await?;
        marks.push(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "default", "labels": { "mark": name } } }));
        configurations.push(mark);
    }
    let began = Instant::now();
    for mark in &marks {
        while api.dry_run(mark).await.is_ok() {
            if began.elapsed() > KNOWN {
                bail!("the API server does not know its webhooks after {KNOWN:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
