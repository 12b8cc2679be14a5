//! From a payload to an answer: the one way that every policy goes, natively and in a module.

use std::cell::RefCell;

use serde_json::{Map, Value};
use workload::edit::{self, Edit};
use workload::node::{object, read_json, shorten, to_json};
use workload::path::Segment;
use workload::texts::join;
use workload::{Malformed, Node, Path, complete, kind};

use crate::finding::{Finding, Identity, Level, ObjectRef};
use crate::lookup::{Cluster, Host, LookupError, Lookups};
use crate::request::{Fields, Operation, Request, RequestError};
use crate::scope::{self, Exemption, Owner};
use crate::settings::{Action, OnUpdate, OwnedObjects, SettingsError, Shared};
use crate::{Fault, Policy, Review, settings};

/// The `ValidationResponse` of the Kubewarden protocol. The SDK's own has a `HashMap`, so that the same answer would
/// not be the same bytes.
#[derive(Default)]
struct Answer {
    accepted: bool,
    message: Option<String>,
    mutated_object: Option<Value>,
    audit_annotations: Map<String, Value>,
    warnings: Vec<String>,
}

impl Answer {
    fn accepted() -> Self {
        Self { accepted: true, ..Self::default() }
    }

    fn told(warning: String) -> Self {
        Self { warnings: vec![warning], ..Self::accepted() }
    }

    /// As JSON, without what there is none of.
    fn write(self) -> serde_json::Result<Vec<u8>> {
        let mut fields = [
            ("accepted", Value::Bool(self.accepted)),
            ("message", self.message.map_or(Value::Null, Value::String)),
            ("mutated_object", self.mutated_object.unwrap_or_default()),
            ("audit_annotations", Value::Object(self.audit_annotations)),
            ("warnings", texts(self.warnings)),
        ];
        write_present(&mut fields)
    }
}

/// `fields` as a JSON object, without those that are empty.
fn write_present(fields: &mut [(&str, Value)]) -> serde_json::Result<Vec<u8>> {
    for (_, value) in &mut *fields {
        let is_empty = match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if is_empty {
            *value = Value::Null;
        }
    }
    let mut object = object(fields);
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
    }
    serde_json::to_vec(&object)
}

fn texts(texts: Vec<String>) -> Value {
    Value::Array(texts.into_iter().map(Value::String).collect())
}

/// Answers the operation `validate` for the policy `P`: `{"request": ..., "settings": ...}` in, a
/// `ValidationResponse` out. What cannot be read is denied, with the reason.
///
/// # Errors
/// Only if the answer cannot be written as JSON.
pub fn validate<P: Policy>(payload: &[u8], host: &dyn Host) -> serde_json::Result<Vec<u8>> {
    answer::<P>(payload, host).unwrap_or_else(Refusal::into_answer).write()
}

/// Answers the operation `validate_settings` for the policy `P`: the bare settings in.
///
/// # Errors
/// Only if the answer cannot be written as JSON.
pub fn validate_settings<P: Policy>(payload: &[u8]) -> serde_json::Result<Vec<u8>> {
    let outcome = utf8(payload)
        .and_then(|text| read_json(text).map_err(|error| error.to_string()))
        .map_err(|problem| unreadable(&problem))
        .and_then(|value| read_settings::<P>(&value));
    let mut fields = [
        ("valid", Value::Bool(outcome.is_ok())),
        ("message", outcome.err().map_or(Value::Null, |error| error.to_string().into())),
    ];
    write_present(&mut fields)
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cold]
fn unreadable(problem: &str) -> SettingsError {
    SettingsError::new("", "cannot be read: ".to_owned() + problem)
}

fn read_settings<P: Policy>(value: &Value) -> Result<(P, Shared), SettingsError> {
    let (policy, shared) = settings::read(value, P::read, P::MUTATES)?;
    policy.check()?;
    Ok((policy, shared))
}

/// Why nothing could be judged: the request is denied with this text.
enum Refusal {
    Request(RequestError),
    Settings(SettingsError),
}

impl Refusal {
    fn into_answer(self) -> Answer {
        let text = match self {
            Self::Request(error) => error.to_string(),
            Self::Settings(error) => error.to_string(),
        };
        Answer { message: Some(text), ..Answer::default() }
    }
}

fn answer<P: Policy>(payload: &[u8], host: &dyn Host) -> Result<Answer, Refusal> {
    let of_payload = |problem: String| Refusal::Request(RequestError::payload(&problem));
    let payload = utf8(payload).and_then(|text| Fields::read(text).map_err(|error| error.to_string()));
    let payload = payload.map_err(of_payload)?;
    let settings = read_json(payload.get("settings").unwrap_or("null"))
        .map_err(|error| Refusal::Settings(unreadable(&error.to_string())))?;
    let (policy, shared) = read_settings::<P>(&settings).map_err(Refusal::Settings)?;
    let request = payload.get("request").ok_or_else(|| of_payload("missing field `request`".to_owned()))?;
    let request = Fields::read(request).map_err(|error| of_payload(error.to_string()))?;
    let (mut request, objects) = Request::read(&request).map_err(Refusal::Request)?;
    // Asked before and after the objects are read: one that cannot be read must not be in the way either.
    if !scope::concerns(&policy, &request) || scope::is_never_in_the_way(&request) {
        return Ok(Answer::accepted());
    }
    request.read_objects(objects).map_err(Refusal::Request)?;
    if scope::is_never_in_the_way(&request) || scope::is_exempt(&request, &shared) {
        return Ok(Answer::accepted());
    }
    let judge = Judge { policy: &policy, shared: &shared, request: &request, host };
    Ok(judge.answer())
}

/// The object before and after, as the rule sees them.
struct States {
    new: Value,
    old: Option<Value>,
    /// What the paths of the findings are in, and what edits work on: the object as it was received. Absent for a
    /// scale, whose object has nothing but a count.
    received: Option<Value>,
    /// For a scale, the scaled object.
    scaled: Option<ObjectRef>,
}

struct Judge<'a, P> {
    policy: &'a P,
    shared: &'a Shared,
    request: &'a Request,
    host: &'a dyn Host,
}

impl<P: Policy> Judge<'_, P> {
    fn answer(&self) -> Answer {
        let lookups = Lookups::default();
        let states = match self.states(&lookups) {
            Ok(Some(states)) => states,
            // Nothing to judge: what is scaled is not there any more.
            Ok(None) => return Answer::accepted(),
            Err(error) => return Answer::told(cannot_judge::<P>(&error)),
        };
        let notes = RefCell::new(Vec::new());
        let (owner, exemption) = match self.surroundings(&Node::root(&states.new)) {
            Ok(surroundings) => surroundings,
            Err(finding) => return self.write(vec![*finding], None, &states, None, &[]),
        };
        if scope::is_left_to_owner(owner.as_ref(), self.shared) {
            return Answer::accepted();
        }
        let extra = match exemption {
            Exemption::Silent => return Answer::accepted(),
            Exemption::Told(finding) => return self.write(vec![finding], None, &states, None, &[]),
            Exemption::Refused(finding) => Some(finding),
            Exemption::None => None,
        };
        let old = states.old.as_ref();
        let mut findings = match self.judge(&states.new, old, &lookups, &notes) {
            Ok(findings) => findings,
            Err(error) => return Answer::told(cannot_judge::<P>(&error)),
        };
        let incomparable = self.ratchet(&mut findings, old, &lookups).err();
        let mended = self.mend(&findings, &states, owner.as_ref(), &lookups);
        let (mut findings, mutated) = match mended {
            Some((remaining, mutated)) => (remaining, Some(mutated)),
            None => (findings, None),
        };
        findings.extend(extra);
        let mut answer = self.write(findings, mutated, &states, owner.as_ref(), &notes.into_inner());
        answer.warnings.extend(incomparable.map(|error| format!("{} cannot tell what is new: {error}", P::NAME)));
        answer
    }

    /// The two states of the object, completed as the API server would complete them.
    fn states(&self, lookups: &Lookups) -> Result<Option<States>, LookupError> {
        if self.request.is_scale() {
            return self.scale_states(lookups);
        }
        let completed =
            |object: &Value| completed::<P>(self.request.target_group(), self.request.target_kind(), object);
        let (current, before) = match self.request.operation {
            Operation::Delete => (&self.request.old_object, &None),
            _ => (&self.request.object, &self.request.old_object),
        };
        Ok(current.as_ref().map(|object| States {
            new: completed(object),
            old: before.as_ref().map(completed),
            received: Some(object.clone()),
            scaled: None,
        }))
    }

    /// A Scale carries nothing but a count: the object that it scales is looked up and judged with that count.
    fn scale_states(&self, lookups: &Lookups) -> Result<Option<States>, LookupError> {
        let (Some(scale), name) = (&self.request.object, self.request.name_of()) else { return Ok(None) };
        let count = |scale: &Value| {
            scale.get("spec").and_then(|spec| spec.get("replicas")).cloned().filter(|count| !count.is_null())
        };
        let (group, kind) = (self.request.target_group(), self.request.target_kind());
        let cluster = Cluster::new(self.host, lookups, self.request, scale);
        let version = if self.request.resource.version.is_empty() { "v1" } else { &self.request.resource.version };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let Some(object) = cluster.get_held(&api_version, kind, name)? else { return Ok(None) };
        if scope::is_being_deleted(&object) {
            return Ok(None);
        }
        let with_count = |count: Option<Value>| {
            // A Scale that leaves its count out means 0: the field has `omitempty` in `k8s.io/api/autoscaling/v1`.
            let value = count.unwrap_or_else(|| 0.into());
            let mut object = object.clone();
            // Only fails where `spec` is no object, which no stored object has.
            drop(edit::apply(&mut object, &[Edit::Set { path: Path::fields("spec.replicas"), value }]));
            completed::<P>(group, kind, &object)
        };
        Ok(Some(States {
            new: with_count(count(scale)),
            old: self.request.old_object.as_ref().map(|old| with_count(count(old))),
            received: None,
            scaled: Some(ObjectRef {
                api_version,
                kind: kind.to_owned(),
                namespace: self.request.namespace_of().to_owned(),
                name: name.to_owned(),
            }),
        }))
    }

    fn surroundings(&self, object: &Node<'_>) -> Result<(Option<Owner>, Exemption), Box<Finding>> {
        let told = |malformed: Malformed| Box::new(Finding::malformed(&malformed, object));
        let exemption = scope::exemption(P::NAME, object, self.shared).map_err(told)?;
        if matches!(exemption, Exemption::Silent) {
            return Ok((None, exemption));
        }
        Ok((scope::owner(object, self.request).map_err(told)?, exemption))
    }

    /// Asks the rule. A field that Kubernetes refuses too is a finding like any other.
    fn judge(
        &self,
        state: &Value,
        old: Option<&Value>,
        lookups: &Lookups,
        notes: &RefCell<Vec<String>>,
    ) -> Result<Vec<Finding>, LookupError> {
        let object = Node::root(state);
        let cluster = Cluster::new(self.host, lookups, self.request, state);
        let old_node = old.map(Node::root);
        let review = Review { request: self.request, shared: self.shared, object, old: old_node, cluster, notes };
        let findings = match self.policy.judge(&review) {
            Ok(findings) => findings,
            Err(Fault::Malformed(malformed)) if is_in(&object, &malformed) => {
                vec![Finding::malformed(&malformed, &object)]
            }
            // What was wrong before must not stand in the way of the UPDATE that mends it.
            Err(Fault::Malformed(_)) if old.is_some() => return self.judge(state, None, lookups, notes),
            Err(Fault::Malformed(malformed)) => return Err(LookupError::Malformed(malformed.to_string())),
            Err(Fault::Lookup(error)) => return Err(error),
        };
        Ok(scope::without_exempt_containers(findings, self.shared))
    }

    /// On UPDATE, what was there before and did not get worse becomes a warning.
    ///
    /// The old state is judged in the cluster as it is now: what the rule would say of this object today, had nobody
    /// changed it. Where it cannot be judged because the cluster cannot be asked, nothing tells new from old, and
    /// nothing is denied: the error is returned, to be told.
    fn ratchet(&self, findings: &mut [Finding], old: Option<&Value>, lookups: &Lookups) -> Result<(), LookupError> {
        let Some(old) = old else { return Ok(()) };
        let may_be_kept = |finding: &Finding| {
            finding.level == Level::Error && (self.shared.on_update == OnUpdate::Ratchet || finding.immutable)
        };
        if !findings.iter().any(may_be_kept) {
            return Ok(());
        }
        let before = match self.judge(old, None, lookups, &RefCell::default()) {
            Ok(before) => before,
            Err(error) => {
                for finding in findings.iter_mut().filter(|finding| may_be_kept(finding)) {
                    finding.level = Level::Warning;
                }
                return Err(error);
            }
        };
        let mut measures: Vec<(Identity<'_>, Vec<i64>)> = Vec::new();
        for finding in &before {
            let identity = finding.identity();
            match measures.iter_mut().find(|(known, _)| *known == identity) {
                Some((_, measures)) => measures.push(finding.measure),
                None => measures.push((identity, vec![finding.measure])),
            }
        }
        let mut kept = Vec::with_capacity(findings.len());
        for finding in findings.iter() {
            let identity = finding.identity();
            let excuses = measures.iter_mut().find(|(known, _)| *known == identity).filter(|_| may_be_kept(finding));
            kept.push(excuses.is_some_and(|(_, excuses)| use_up(excuses, finding.measure)));
        }
        for (finding, kept) in findings.iter_mut().zip(kept) {
            if kept {
                finding.level = Level::Warning;
                finding.kept = true;
            }
        }
        Ok(())
    }

    /// The object with the edits of what would be denied, and what the rule still finds in it. `None` where nothing
    /// can be mended, or where something is left for which the object is denied: then it is not changed either, and
    /// whoever sent it is told everything.
    fn mend(
        &self,
        findings: &[Finding],
        states: &States,
        owner: Option<&Owner>,
        lookups: &Lookups,
    ) -> Option<(Vec<Finding>, Value)> {
        let changes = matches!(self.request.operation, Operation::Create | Operation::Update);
        let received = states.received.as_ref().filter(|_| changes && self.shared.mutate && owner.is_none())?;
        let may_change = |finding: &Finding| {
            self.request.operation == Operation::Create
                || !(finding.immutable || finding.edits.iter().any(|edit| self.is_in_kept_template(edit, states)))
        };
        let edits: Vec<&Edit> = findings
            .iter()
            .filter(|finding| finding.level == Level::Error && may_change(finding))
            .flat_map(|finding| &finding.edits)
            .collect();
        let mut mutated = received.clone();
        edit::apply(&mut mutated, &in_safe_order(&edits)).ok()?;
        if mutated == *received {
            return None;
        }
        let completed = completed::<P>(self.request.target_group(), self.request.target_kind(), &mutated);
        let old = states.old.as_ref();
        let mut remaining = self.judge(&completed, old, lookups, &RefCell::default()).ok()?;
        self.ratchet(&mut remaining, old, lookups).ok()?;
        let denied =
            self.shared.action == Action::Deny && remaining.iter().any(|finding| finding.level == Level::Error);
        (!denied).then_some((remaining, mutated))
    }

    /// Whether `edit` would change a pod template that this UPDATE leaves as it was: that would roll every member.
    /// The pod of a Pod and of a Job cannot be changed at all.
    fn is_in_kept_template(&self, edit: &Edit, states: &States) -> bool {
        let (group, kind) = (self.request.target_group(), self.request.target_kind());
        let Some(place) = kind::pod_place(group, kind) else { return false };
        let overlaps = |path: Path| edit.path().is_within(path) || path.is_within(edit.path());
        let template = |object: &Value| {
            let root = Node::root(object);
            [place.spec, place.metadata].map(|path| root.follow(path).ok().and_then(|node| node.value().cloned()))
        };
        let is_fixed = matches!((group, kind), ("", "Pod") | ("batch", "Job"));
        (overlaps(place.spec) || overlaps(place.metadata))
            && (is_fixed || states.old.as_ref().is_some_and(|old| template(old) == template(&states.new)))
    }

    fn write(
        &self,
        mut findings: Vec<Finding>,
        mutated: Option<Value>,
        states: &States,
        owner: Option<&Owner>,
        notes: &[String],
    ) -> Answer {
        if let Some(scaled) = &states.scaled {
            // The count is in the Scale that was sent; all else is in the object that it scales.
            let count = Path::fields("spec.replicas");
            for finding in findings.iter_mut().filter(|finding| finding.object.is_none() && finding.path != count) {
                finding.object = Some(scaled.clone());
            }
        }
        let capped = owner.is_some() && self.shared.owned_objects == OwnedObjects::Warn;
        if capped || self.shared.action == Action::Warn {
            for finding in &mut findings {
                finding.level = Level::Warning;
            }
        }
        if let Some(owner) = owner.filter(|_| capped) {
            for finding in &mut findings {
                // The count is the one field of an owner of which the catalogue knows where it is.
                let field = owner.count_field().filter(|_| finding.path == Path::fields("spec.replicas"));
                let what = field.unwrap_or("it");
                let advice = format!("{} {} owns this object: change {what} there", owner.kind, owner.name);
                finding.advice =
                    if finding.advice.is_empty() { advice } else { format!("{advice}: {}", finding.advice) };
                finding.edits.clear();
            }
        }
        let (errors, warnings): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.level == Level::Error);
        let lines = |findings: &[&Finding]| {
            let lines: Vec<String> = findings.iter().map(|finding| finding.line()).collect();
            join(&lines, "\n")
        };
        // What the paths and the patches are of: what was received, or what is left to be said of the mutated object.
        let object = mutated.as_ref().or(states.received.as_ref()).unwrap_or(&states.new);
        let mut annotations = Map::new();
        if !findings.is_empty() {
            let json: Vec<Value> = findings.iter().map(|finding| finding.to_json(P::NAME, object)).collect();
            annotations.insert("findings".to_owned(), to_json(&Value::Array(json)).into());
        }
        if !notes.is_empty() {
            annotations.insert("notes".to_owned(), to_json(&texts(notes.to_vec())).into());
        }
        Answer {
            accepted: errors.is_empty(),
            message: (!errors.is_empty()).then(|| lines(&errors)),
            warnings: warnings.iter().map(|finding| finding.short_line()).collect(),
            audit_annotations: annotations,
            // A denied object is not stored, so that there is nothing to patch.
            mutated_object: mutated.filter(|_| errors.is_empty()),
        }
    }
}

#[inline(never)]
fn completed<P: Policy>(group: &str, kind: &str, object: &Value) -> Value {
    let complete = if P::READS_RESOURCES { complete::complete } else { complete::complete_but_resources };
    complete(group, kind, object).into_owned()
}

/// The cluster could not be asked: a policy's silence must not look like its consent.
fn cannot_judge<P: Policy>(error: &LookupError) -> String {
    format!("{} did not judge this: {error}", P::NAME)
}

/// Takes the least of `measures` that is at least `measure`, if there is one: each old finding excuses one new one, and
/// the mildest that will do is used up first.
fn use_up(measures: &mut Vec<i64>, measure: i64) -> bool {
    let enough = measures.iter().enumerate().filter(|(_, old)| measure <= **old);
    let mildest = enough.min_by_key(|(_, old)| **old).map(|(index, _)| index);
    mildest.map(|index| measures.swap_remove(index)).is_some()
}

/// Whether what is malformed is in `object`, rather than in another one that a rule has read.
fn is_in(object: &Node<'_>, malformed: &Malformed) -> bool {
    let found = object.follow(malformed.path).map(|node| shorten(node.value().unwrap_or(&Value::Null)));
    found.is_ok_and(|found| found == malformed.found)
}

/// `edits`, each made for the object as it was, in an order in which none moves what another one means: items leave
/// their lists last, and from the end.
fn in_safe_order(edits: &[&Edit]) -> Vec<Edit> {
    let leaves_a_list = |edit: &Edit| matches!(edit, Edit::Remove { path } if matches!(path.split_last(), Some((_, Segment::Index(_)))));
    let (items, others): (Vec<&Edit>, Vec<&Edit>) = edits.iter().copied().partition(|edit| leaves_a_list(edit));
    // From the end, each once. Few as they are, a sort would be more code than they are worth.
    let mut removed: Vec<Path> = Vec::new();
    for edit in items {
        let path = edit.path();
        let position = removed.iter().position(|other| *other <= path).unwrap_or(removed.len());
        if removed.get(position) != Some(&path) {
            removed.insert(position, path);
        }
    }
    others.into_iter().cloned().chain(removed.into_iter().map(|path| Edit::Remove { path })).collect()
}
