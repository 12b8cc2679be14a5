//! The check: manifests in, findings out.
//!
//! Inputs are read and taken apart in parallel; all their objects together are the cluster that policies look things up in; then,
//! namespace by namespace and again in parallel, each object is judged by every policy that wants to see its creation. The
//! report does not depend on which thread was faster.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::resources::removed;
use cluster::rules::Matched;
use cluster::{AdmissionRequest, DEFAULT_NAMESPACE, ObjectError, Requests};
use rayon::prelude::*;
use serde_json::Value;

use crate::answer::{self, Told, ToldObject};
use crate::engine::{Fault, Host, Limit};
use crate::finding::{CHECKER, Finding, Level, Note, NoteKind, ObjectRef, Place, Problem, Report, Summary};
use crate::input::Input;
use crate::policies::{Policy, explain};
use crate::world::{Object, View, World, key};

/// The code of the finding that the checker makes itself.
pub const REMOVED_API_VERSION: &str = "removed-api-version";

/// After so many timeouts a policy is not asked any more: one that hangs would else hang for every object.
const TIMEOUTS: usize = 3;

/// Judges manifests by policies.
#[derive(Debug)]
pub struct Checker {
    policies: Vec<Policy>,
    checker: Arc<str>,
}

impl Checker {
    /// A checker with these policies.
    pub fn new(policies: Vec<Policy>) -> Self {
        Self { policies, checker: Arc::from(CHECKER) }
    }

    /// Checks all objects of the inputs, together.
    pub fn check(&self, inputs: &[Input]) -> Report {
        let files: Vec<Loaded> = inputs.par_iter().enumerate().map(|(position, input)| load(position, input)).collect();
        let mut run = Run::default();
        let mut objects = Vec::with_capacity(files.iter().map(|file| file.objects.len()).sum());
        for (input, mut file) in files.into_iter().enumerate() {
            run.files.push(file.name);
            run.summary.files += usize::from(file.counts);
            run.problems.extend(file.problems.into_iter().map(|problem| (input, problem)));
            run.notes.extend(file.notes.into_iter().map(|note| (input, note)));
            objects.append(&mut file.objects);
        }
        run.summary.objects = objects.len();

        let world = Arc::new(World::new(objects));
        let mut check = Check {
            checker: self,
            timeouts: self.policies.iter().map(|_| AtomicUsize::new(0)).collect(),
            unasked: self.policies.iter().map(|_| AtomicUsize::new(0)).collect(),
            world: &world,
            run,
        };
        check.duplicates();
        let namespaces: Vec<&String> = world.namespaces.keys().collect();
        let mut judged: Vec<Judged> =
            namespaces.into_par_iter().flat_map_iter(|namespace| check.judge_namespace(namespace)).collect();
        judged.sort_unstable_by_key(|judged| judged.position);
        check.gather(judged);
        check.run.finish()
    }
}

/// An input, taken apart.
struct Loaded {
    name: Arc<str>,
    objects: Vec<Object>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    /// Whether it is one of the files that were checked.
    counts: bool,
}

fn load(position: usize, input: &Input) -> Loaded {
    let name: Arc<str> = Arc::from(input.name.as_str());
    let mut loaded =
        Loaded { name: Arc::clone(&name), objects: Vec::new(), problems: Vec::new(), notes: Vec::new(), counts: true };
    let bytes = match input.read() {
        Ok(bytes) => bytes,
        Err(message) => {
            loaded.counts = false;
            loaded.problems.push(Problem { place: Some(Place::whole(&name)), message });
            return loaded;
        }
    };
    let mut foreign = Vec::new();
    let mut refused = Vec::new();
    let problems = manifest::parse_each(&input.name, &bytes, |document| {
        let (value, place) = document.into_parts();
        if is_foreign(&value) {
            foreign.push(place);
            return;
        }
        match Object::new(position, &value, place.clone()) {
            Ok(object) => loaded.objects.push(object),
            Err(error) => refused.push(not_an_object(&name, &place, &error)),
        }
    });

    let none = loaded.objects.is_empty() && refused.is_empty();
    if none && problems.is_empty() && foreign.is_empty() {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            let message = "the file is empty: there is nothing to check".to_owned();
            loaded.problems.push(Problem { place: Some(Place::whole(&name)), message });
        } else {
            loaded.notes.push(skipped(&name, "holds no object, only comments or empty documents"));
        }
        return loaded;
    }
    // A folder may hold other YAML: the values of a chart, the workflows of a CI. What could not be read there and never says
    // `apiVersion` is none of our business either; but something must have been read of it, or who knows what it is.
    let never_says_it = || foreign.first().is_some_and(|place| !place.source().text().contains("apiVersion"));
    if input.found && none && !foreign.is_empty() && (problems.is_empty() || never_says_it()) {
        loaded.counts = false;
        loaded.notes.push(skipped(&name, "passed over: no document in it has an apiVersion"));
        return loaded;
    }
    loaded.problems.extend(
        problems.iter().map(|problem| Problem {
            place: Some(Place::of_problem(&name, problem)),
            message: problem.message.clone(),
        }),
    );
    loaded.problems.append(&mut refused);
    for place in foreign {
        let message = "not a Kubernetes object: it has no apiVersion and kind".to_owned();
        loaded.problems.push(Problem { place: Some(Place::of_field(&name, &place, "")), message });
    }
    loaded
}

fn skipped(name: &Arc<str>, message: &str) -> Note {
    Note { kind: NoteKind::Skipped, place: Place::whole(name), object: None, message: message.to_owned() }
}

/// Whether this is no attempt at a Kubernetes object at all. A `kind` alone is in many a chart's values.
fn is_foreign(value: &Value) -> bool {
    let has = |key| value.get(key).is_some();
    !(has("apiVersion") || has("kind") && has("metadata"))
}

/// What tries to be an object and cannot be one.
fn not_an_object(name: &Arc<str>, place: &manifest::Place, error: &ObjectError) -> Problem {
    let (pointer, message) = match error {
        ObjectError::WrongType { field, .. } => {
            (format!("/{}", field.replace('.', "/")), format!("not a Kubernetes object: {error}"))
        }
        ObjectError::Missing { .. } => (String::new(), format!("not a Kubernetes object: {error}")),
        error => (String::new(), error.to_string()),
    };
    Problem { place: Some(Place::of_field(name, place, &pointer)), message }
}

/// What came of one object.
struct Judged {
    position: usize,
    /// By policy; what the checker itself says is of none.
    told: Vec<(Option<usize>, Told)>,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Judged {
    fn is_empty(&self) -> bool {
        self.told.is_empty() && self.problems.is_empty() && self.notes.is_empty()
    }
}

/// What is known so far, each with the position of its input.
#[derive(Default)]
struct Run {
    files: Vec<Arc<str>>,
    findings: Vec<(usize, Finding)>,
    problems: Vec<(usize, Problem)>,
    notes: Vec<(usize, Note)>,
    /// Of no input.
    general: Vec<Problem>,
    summary: Summary,
}

impl Run {
    fn finish(mut self) -> Report {
        let at = |place: &Place| (place.line, place.column);
        self.findings.sort_by(|(a_input, a), (b_input, b)| {
            let key = |input: &usize, finding: &Finding| (*input, at(&finding.place), std::cmp::Reverse(finding.level));
            let text = |finding: &Finding| {
                (finding.policy.to_string(), finding.code.clone(), finding.path.clone(), finding.message.clone())
            };
            key(a_input, a).cmp(&key(b_input, b)).then_with(|| text(a).cmp(&text(b)))
        });
        self.problems.sort_by_key(|(input, problem)| (*input, problem.place.as_ref().map(at)));
        self.notes.sort_by_key(|(input, note)| (*input, at(&note.place)));
        let findings: Vec<Finding> = self.findings.into_iter().map(|(_, finding)| finding).collect();
        let problems: Vec<Problem> =
            self.general.into_iter().chain(self.problems.into_iter().map(|(_, problem)| problem)).collect();
        let of_level = |level| findings.iter().filter(|finding| finding.level == level).count();
        let summary = Summary {
            errors: of_level(Level::Error),
            warnings: of_level(Level::Warning),
            problems: problems.len(),
            ..self.summary
        };
        Report { findings, problems, notes: self.notes.into_iter().map(|(_, note)| note).collect(), summary }
    }
}

struct Check<'a> {
    checker: &'a Checker,
    timeouts: Vec<AtomicUsize>,
    /// How many objects a policy was not asked about.
    unasked: Vec<AtomicUsize>,
    world: &'a Arc<World>,
    run: Run,
}

impl Check<'_> {
    /// Objects that are defined more than once are each judged; look-ups see the last. That is what overlays for several
    /// clusters in one folder look like, and so no problem.
    fn duplicates(&mut self) {
        for (object, by) in self.world.replaced() {
            let place = self.place(by, "");
            let line = place.line.unwrap_or_default();
            let message = format!("defined again in {}:{line}, which is the one that look-ups see", place.file);
            let (place, about) = (self.place(object, ""), Some(object.identity.clone()));
            self.run.notes.push((object.input, Note { kind: NoteKind::Duplicate, place, object: about, message }));
        }
    }

    fn place(&self, object: &Object, pointer: &str) -> Place {
        Place::of_field(&self.run.files[object.input], &object.place, pointer)
    }

    /// Judges the objects of a namespace; gives those of which there is something to say.
    fn judge_namespace(&self, namespace: &str) -> Vec<Judged> {
        let (view, objects) = View::of(self.world, namespace);
        let view = Arc::new(view);
        let hosts: Vec<Arc<dyn Host>> = self.checker.policies.iter().map(|policy| policy.host(&view)).collect();
        let judged = objects.into_par_iter().map(|(position, value)| self.judge(position, &value, &hosts));
        judged.filter(|judged| !judged.is_empty()).collect()
    }

    /// Asks every policy that wants to see the creation of the object.
    fn judge(&self, position: usize, value: &Value, hosts: &[Arc<dyn Host>]) -> Judged {
        let mut judged = Judged { position, told: Vec::new(), problems: Vec::new(), notes: Vec::new() };
        judged.told.extend(removed_api_version(value).map(|told| (None, told)));
        let resources = &self.world.resources;
        let requests = Requests::new(resources);
        let request = match requests.create(value) {
            Ok(request) => request,
            Err(error) => {
                judged.problems.push(format!("no request can be made of this object: {error}"));
                return judged;
            }
        };
        // Written once for all policies that see the object in the same version, which are nearly always all.
        let mut written: Vec<(Matched, Vec<u8>)> = Vec::new();
        for (index, policy) in self.checker.policies.iter().enumerate() {
            let Some(matched) = policy.matches(&request, resources) else { continue };
            if self.timeouts[index].load(Ordering::Relaxed) >= TIMEOUTS {
                self.unasked[index].fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let at = match written.iter().position(|(version, _)| *version == matched) {
                Some(at) => at,
                None => match write(&requests, &request, value, &matched) {
                    Ok(bytes) => {
                        written.push((matched, bytes));
                        written.len() - 1
                    }
                    Err(error) => {
                        judged.problems.push(format!("policy \"{}\" did not judge this: {error}", policy.name()));
                        continue;
                    }
                },
            };
            match policy.validate(&written[at].1, &hosts[index]) {
                Ok(answer) => {
                    let (told, notes) = answer::read(answer);
                    judged.told.extend(told.into_iter().map(|told| (Some(index), told)));
                    for note in notes {
                        if !judged.notes.contains(&note) {
                            judged.notes.push(note);
                        }
                    }
                }
                Err(error) => {
                    if matches!(error.fault(), Fault::Limit(Limit::Time(_))) {
                        self.timeouts[index].fetch_add(1, Ordering::Relaxed);
                    }
                    judged.problems.push(format!("not judged: {}", explain(&error)));
                }
            }
        }
        judged
    }

    /// Puts together what came of all objects: places, and each fact once.
    fn gather(&mut self, judged: Vec<Judged>) {
        let objects = &self.world.objects;
        let mut known: HashMap<Fact, usize> = HashMap::new();
        for Judged { position, told, problems, notes } in judged {
            let object = &objects[position];
            let identity = &object.identity;
            for text in problems {
                let message = format!("{}: {text}", identity.spoken());
                let problem = Problem { place: Some(self.place(object, "")), message };
                self.run.problems.push((object.input, problem));
            }
            for message in notes {
                let (kind, place) = (NoteKind::Judgement, self.place(object, ""));
                self.run.notes.push((object.input, Note { kind, place, object: Some(identity.clone()), message }));
            }
            for (policy, told) in told {
                // Where the fact is: in the judged object, in another one of the input, or in none.
                let (target, about) = match &told.object {
                    None => (Some(position), identity.clone()),
                    Some(other) => {
                        let other = ObjectRef::from(other);
                        // Of namesakes the judged one is meant; else the one that look-ups see.
                        let judged = (key(&other) == key(identity)).then_some(position);
                        let target = judged.or_else(|| self.world.find(&other));
                        (target, target.map_or(other, |at| objects[at].identity.clone()))
                    }
                };
                let (place, input) = match target {
                    Some(at) => (self.place(&objects[at], &told.path), objects[at].input),
                    None => (self.place(object, ""), object.input),
                };
                let asked = policy.map(|index| &self.checker.policies[index]);
                let name = asked.map_or(&self.checker.checker, Policy::name);
                let mut finding = finding(name, &told, about, place);
                finding.see = asked.and_then(|policy| policy.page(&told.code));
                if !object.names_namespace {
                    leave_namespace_open(finding.creates.as_mut());
                }
                let fact = Fact {
                    policy,
                    code: told.code,
                    subject: told.subject,
                    target: target.ok_or_else(|| key(&finding.object)),
                    path: told.path,
                };
                match known.get(&fact).and_then(|at| self.run.findings.get_mut(*at)) {
                    // Both sides of a pair tell the same fact; the graver one is the one that counts.
                    Some((_, told)) if told.level >= finding.level => {}
                    Some(told) => *told = (input, finding),
                    None => {
                        known.insert(fact, self.run.findings.len());
                        self.run.findings.push((input, finding));
                    }
                }
            }
        }
        for (policy, unasked) in self.checker.policies.iter().zip(&self.unasked) {
            let unasked = unasked.load(Ordering::Relaxed);
            if unasked > 0 {
                let message = format!(
                    "policy \"{}\" exceeded its time limit {TIMEOUTS} times and was not asked about {unasked} more objects",
                    policy.name()
                );
                self.run.general.push(Problem { place: None, message });
            }
        }
    }
}

/// What makes two findings the same.
#[derive(PartialEq, Eq, Hash)]
struct Fact {
    policy: Option<usize>,
    code: String,
    subject: String,
    target: Result<usize, String>,
    path: String,
}

fn finding(policy: &Arc<str>, told: &Told, object: ObjectRef, place: Place) -> Finding {
    Finding {
        policy: Arc::clone(policy),
        code: told.code.clone(),
        level: told.level.into(),
        object,
        path: told.path.clone(),
        place,
        message: told.message.clone(),
        why: told.why.clone(),
        advice: told.advice.clone(),
        see: None,
        patch: told.patch.clone().filter(|patch| patch.as_array().is_some_and(|edits| !edits.is_empty())),
        creates: told.creates.clone().filter(Value::is_object),
    }
}

/// What belongs to an object without a namespace names none either: it is applied with the same `--namespace`.
fn leave_namespace_open(created: Option<&mut Value>) {
    let metadata = created.and_then(|object| object.get_mut("metadata")).and_then(Value::as_object_mut);
    if let Some(metadata) =
        metadata.filter(|metadata| metadata.get("namespace").is_some_and(|n| n == DEFAULT_NAMESPACE))
    {
        metadata.remove("namespace");
    }
}

/// The request in the version that a policy wants, as JSON.
fn write(
    requests: &Requests<'_>,
    request: &AdmissionRequest<'_>,
    value: &Value,
    matched: &Matched,
) -> anyhow::Result<Vec<u8>> {
    Ok(match matched {
        Matched::AsSent => serde_json::to_vec(request)?,
        Matched::As(version) => serde_json::to_vec(&requests.clone().sent_as(version.clone()).create(value)?)?,
    })
}

impl From<&ToldObject> for ObjectRef {
    fn from(told: &ToldObject) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            api_version: told.api_version.clone(),
            kind: told.kind.clone(),
            namespace: text(&told.namespace),
            name: text(&told.name),
        }
    }
}

/// The checker's own finding: no Kubernetes of today would take the object at all.
fn removed_api_version(value: &Value) -> Option<Told> {
    let (api_version, kind) = (value["apiVersion"].as_str()?, value["kind"].as_str()?);
    let removed = removed(api_version, kind)?;
    let advice = match removed.replacement {
        Some(replacement) => format!("use {replacement}"),
        None => format!("remove it: no API version of {kind} is left"),
    };
    Some(Told {
        code: REMOVED_API_VERSION.to_owned(),
        level: answer::ToldLevel::Error,
        subject: String::new(),
        object: None,
        path: "/apiVersion".to_owned(),
        message: format!(
            "apiVersion: Invalid value: {api_version:?}: no Kubernetes since {} serves it",
            removed.removed_in
        ),
        why: format!("a cluster refuses this {kind}, and what it was to bring about never happens"),
        advice,
        patch: None,
        creates: None,
    })
}
