//! The check: manifests in, findings out.
//!
//! Inputs are read and taken apart in parallel; all their objects together are the cluster that policies look things up in; then
//! each object is judged by every policy that wants to see its creation, again in parallel. The report does not depend on
//! which thread was faster.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::resources::{Identity, removed, split_api_version};
use cluster::rules::Matched;
use cluster::{AdmissionRequest, Cluster, DEFAULT_NAMESPACE, ObjectError, Requests, Resources};
use rayon::prelude::*;
use serde_json::Value;

use crate::answer::{self, Told, ToldObject};
use crate::engine::{Fault, Host, Limit};
use crate::finding::{CHECKER, Finding, Level, Note, NoteKind, ObjectRef, Place, Problem, Report, Summary};
use crate::input::Input;
use crate::policies::{Policy, explain};

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
        let mut files: Vec<Loaded> = inputs.par_iter().map(load).collect();
        let mut run = Run { files: files.iter().map(|file| Arc::clone(&file.name)).collect(), ..Run::default() };
        let mut objects = Vec::with_capacity(files.iter().map(|file| file.objects.len()).sum());
        for (input, file) in files.iter_mut().enumerate() {
            run.summary.files += usize::from(file.counts);
            run.problems.extend(file.problems.drain(..).map(|problem| (input, problem)));
            run.notes.extend(file.notes.drain(..).map(|note| (input, note)));
            objects.extend(file.objects.drain(..).map(|(value, place)| Object { input, value, place }));
        }
        drop(files);

        let cluster = Arc::new(Cluster::new(objects.iter().map(|object| Arc::clone(&object.value))));
        let mut check = Check {
            checker: self,
            hosts: self.policies.iter().map(|policy| policy.host(&cluster)).collect(),
            timeouts: self.policies.iter().map(|_| AtomicUsize::new(0)).collect(),
            unasked: self.policies.iter().map(|_| AtomicUsize::new(0)).collect(),
            cluster: &cluster,
            objects: &objects,
            run,
        };
        check.refused();
        let readable = check.readable();
        check.run.summary.objects = readable.len();
        check.duplicates();
        let judged: Vec<Judged> = readable.into_par_iter().map(|position| check.judge(position)).collect();
        check.gather(judged);
        check.run.finish()
    }
}

/// An input, taken apart.
struct Loaded {
    name: Arc<str>,
    objects: Vec<(Arc<Value>, manifest::Place)>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    /// Whether it is one of the files that were checked.
    counts: bool,
}

fn load(input: &Input) -> Loaded {
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
    let problems = manifest::parse_each(&input.name, &bytes, |document| {
        let (value, place) = document.into_parts();
        if is_foreign(&value) { foreign.push(place) } else { loaded.objects.push((Arc::new(value), place)) }
    });

    if loaded.objects.is_empty() && problems.is_empty() && foreign.is_empty() {
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
    if input.found && loaded.objects.is_empty() && !foreign.is_empty() && (problems.is_empty() || never_says_it()) {
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
    !has("apiVersion") && !(has("kind") && has("metadata"))
}

/// An object of an input.
struct Object {
    input: usize,
    value: Arc<Value>,
    place: manifest::Place,
}

/// What came of one object.
struct Judged {
    position: usize,
    /// By policy; what the checker itself says is of none.
    told: Vec<(Option<usize>, Told)>,
    problems: Vec<String>,
    notes: Vec<String>,
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
    hosts: Vec<Arc<dyn Host>>,
    timeouts: Vec<AtomicUsize>,
    /// How many objects a policy was not asked about.
    unasked: Vec<AtomicUsize>,
    cluster: &'a Cluster,
    objects: &'a [Object],
    run: Run,
}

impl Check<'_> {
    /// What cannot be an object, though it tries to be one.
    fn refused(&mut self) {
        for refused in self.cluster.refused() {
            let object = &self.objects[refused.position];
            let (path, message) = match &refused.error {
                ObjectError::Missing { field } => ("", format!("not a Kubernetes object: {field}: Required value")),
                ObjectError::WrongType { field, .. } => (*field, format!("not a Kubernetes object: {}", refused.error)),
                error => ("", error.to_string()),
            };
            let pointer = if path.is_empty() { String::new() } else { format!("/{}", path.replace('.', "/")) };
            let place = self.place(object, &pointer);
            self.run.problems.push((object.input, Problem { place: Some(place), message }));
        }
    }

    fn readable(&self) -> Vec<usize> {
        let mut refused = self.cluster.refused().iter().map(|refused| refused.position).peekable();
        (0..self.objects.len()).filter(|position| refused.next_if_eq(position).is_none()).collect()
    }

    /// Objects that are defined more than once are each judged; look-ups see the last. That is what overlays for several
    /// clusters in one folder look like, and so no problem.
    fn duplicates(&mut self) {
        let replaced = self.cluster.replaced();
        if replaced.is_empty() {
            return;
        }
        let last = self.index();
        for position in replaced {
            let object = &self.objects[*position];
            let Some(identity) = self.identity(object) else { continue };
            let Some(by) = last.get(&key(&identity)).map(|by| &self.objects[*by]) else { continue };
            let place = self.place(by, "");
            let line = place.line.unwrap_or_default();
            let message = format!("defined again in {}:{line}, which is the one that look-ups see", place.file);
            let place = self.place(object, "");
            let note = Note { kind: NoteKind::Duplicate, place, object: Some(identity), message };
            self.run.notes.push((object.input, note));
        }
    }

    /// The objects by identity; of namesakes the last.
    fn index(&self) -> HashMap<String, usize> {
        let identities = self.objects.iter().map(|object| self.identity(object));
        identities.enumerate().filter_map(|(position, identity)| Some((key(&identity?), position))).collect()
    }

    fn identity(&self, object: &Object) -> Option<ObjectRef> {
        identity(self.cluster.resources(), &object.value)
    }

    fn place(&self, object: &Object, pointer: &str) -> Place {
        Place::of_field(&self.run.files[object.input], &object.place, pointer)
    }

    /// Asks every policy that wants to see the creation of the object.
    fn judge(&self, position: usize) -> Judged {
        let mut judged = Judged { position, told: Vec::new(), problems: Vec::new(), notes: Vec::new() };
        let value = &*self.objects[position].value;
        judged.told.extend(removed_api_version(value).map(|told| (None, told)));
        let resources = self.cluster.resources();
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
            let known = written.iter().position(|(version, _)| *version == matched);
            let at = match known.map_or_else(|| write(&requests, &request, value, &matched).map(Err), |at| Ok(Ok(at))) {
                Ok(Ok(at)) => at,
                Ok(Err(bytes)) => {
                    written.push((matched, bytes));
                    written.len() - 1
                }
                Err(error) => {
                    judged.problems.push(format!("policy \"{}\" did not judge this: {error}", policy.name()));
                    continue;
                }
            };
            match policy.validate(&written[at].1, &self.hosts[index]) {
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
        let mut index = None;
        let mut known: HashMap<Fact, usize> = HashMap::new();
        for Judged { position, told, problems, notes } in judged {
            if told.is_empty() && problems.is_empty() && notes.is_empty() {
                continue;
            }
            let object = &self.objects[position];
            let Some(identity) = self.identity(object) else { continue };
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
                        let wanted = key(&other.into());
                        if wanted == key(&identity) {
                            (Some(position), identity.clone())
                        } else {
                            let at = index.get_or_insert_with(|| self.index()).get(&wanted).copied();
                            let found = at.and_then(|at| self.identity(&self.objects[at]));
                            (at, found.unwrap_or_else(|| other.into()))
                        }
                    }
                };
                let (place, input) = match target {
                    Some(at) => (self.place(&self.objects[at], &told.path), self.objects[at].input),
                    None => (self.place(object, ""), object.input),
                };
                let name = policy.map_or(&self.checker.checker, |index| self.checker.policies[index].name());
                let finding = finding(name, &told, about, place);
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
        patch: told.patch.clone().filter(|patch| patch.as_array().is_some_and(|edits| !edits.is_empty())),
        creates: told.creates.clone().filter(Value::is_object),
    }
}

/// The request in the version that a policy wants, as JSON.
fn write(
    requests: &Requests<'_>,
    request: &AdmissionRequest<'_>,
    value: &Value,
    matched: &Matched,
) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match matched {
        Matched::AsSent => serde_json::to_vec(request),
        Matched::As(version) => {
            let requests = requests.clone().sent_as(version.clone());
            serde_json::to_vec(&requests.create(value).map_err(|error| text(&error))?)
        }
    }
    .map_err(|error| text(&error))
}

/// What an object is called, if it can be read.
fn identity(resources: &Resources, value: &Value) -> Option<ObjectRef> {
    let identity = Identity::of(value).ok()?;
    let namespaced = resources.resolve(identity.api_version, identity.kind, identity.namespace.is_some()).namespaced;
    Some(ObjectRef {
        api_version: identity.api_version.to_owned(),
        kind: identity.kind.to_owned(),
        namespace: namespaced.then(|| identity.namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned()),
        name: identity.name.map(str::to_owned),
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

/// The same for all API versions of one object: what is written in a removed one is kept in its replacement's group.
fn key(object: &ObjectRef) -> String {
    let replacement = removed(&object.api_version, &object.kind).and_then(|removed| removed.replacement);
    let (group, _) = split_api_version(replacement.unwrap_or(&object.api_version));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    [group, &object.kind, &text(&object.namespace), &text(&object.name)].join("\0")
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
