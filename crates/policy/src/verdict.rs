//! From a payload to an answer: the one way that every policy goes, natively and in a module.

use std::borrow::Cow;
use std::cell::RefCell;

use serde_json::{Map, Value};
use workload::edit::{self, Edit};
use workload::node::{read_json, shorten, to_json};
use workload::path::Segment;
use workload::texts::join;
use workload::{Malformed, Node, Path, complete, kind};

use crate::finding::{Finding, Level, ObjectRef};
use crate::json::{Fields, present, text, texts};
use crate::lookup::{Cluster, Host, LookupError, Lookups};
use crate::request::{self, Operation, Request};
use crate::scope::{self, Exemption, Owner};
use crate::settings::{Action, OnUpdate, OwnedObjects, SettingsError, Shared};
use crate::{Fault, Policy, Review, settings};

/// The `ValidationResponse` of the Kubewarden protocol. The SDK's own has a `HashMap`, so that the same answer would
/// not be the same bytes.
#[derive(Default)]
struct Answer {
    accepted: bool,
    message: String,
    mutated_object: Option<Value>,
    audit_annotations: Map<String, Value>,
    warnings: Vec<String>,
}

impl Answer {
    #[inline(never)]
    fn accepted() -> Self {
        Self { accepted: true, ..Self::default() }
    }

    fn told(warning: String) -> Self {
        Self { warnings: vec![warning], ..Self::accepted() }
    }

    fn refused(problem: String) -> Self {
        Self { message: problem, ..Self::default() }
    }

    /// As JSON, without what there is none of.
    fn write(self) -> String {
        to_json(&present(&mut [
            ("accepted", Value::Bool(self.accepted)),
            ("message", text(&self.message)),
            ("mutated_object", self.mutated_object.unwrap_or_default()),
            ("audit_annotations", Value::Object(self.audit_annotations)),
            ("warnings", texts(self.warnings)),
        ]))
    }
}

/// Answers the operation `validate` for the policy `P`: `{"request": ..., "settings": ...}` in, a
/// `ValidationResponse` out, as JSON. What cannot be read is denied, with the reason.
pub fn validate<P: Policy>(payload: &[u8], host: &dyn Host) -> Vec<u8> {
    answer::<P>(payload, host).unwrap_or_else(Answer::refused).write().into_bytes()
}

/// Answers the operation `validate_settings` for the policy `P`: the bare settings in, a `SettingsValidationResponse`
/// out, as JSON.
pub fn validate_settings<P: Policy>(payload: &[u8]) -> Vec<u8> {
    let settings = std::str::from_utf8(payload).map_err(|error| unreadable(&error.to_string()));
    let problem = settings.and_then(read_settings::<P>).err().unwrap_or_default();
    to_json(&present(&mut [("valid", Value::Bool(problem.is_empty())), ("message", text(&problem))])).into_bytes()
}

#[cold]
fn unreadable(problem: &str) -> String {
    SettingsError::new("", "cannot be read: ".to_owned() + problem).to_string()
}

#[inline(never)]
fn read_settings<P: Policy>(text: &str) -> Result<(P, Shared), String> {
    let value = read_json(text).map_err(|error| unreadable(&error.to_string()))?;
    let read = || {
        let (policy, shared) = settings::read(&value, P::read, P::MUTATES)?;
        policy.check()?;
        Ok((policy, shared))
    };
    read().map_err(|error: SettingsError| error.to_string())
}

/// The answer, or why nothing could be judged: the request is denied with this text.
fn answer<P: Policy>(payload: &[u8], host: &dyn Host) -> Result<Answer, String> {
    let payload = std::str::from_utf8(payload).map_err(|error| request::unreadable(&error.to_string()))?;
    let payload = Fields::read(payload).map_err(|problem| request::unreadable(&problem))?;
    let (policy, shared) = read_settings::<P>(payload.get("settings").unwrap_or("null"))?;
    let fields = payload.get("request").ok_or_else(|| request::unreadable("missing field `request`"))?;
    let fields = Fields::read(fields).map_err(|problem| request::unreadable(&problem))?;
    let mut request = Request::read(&fields)?;
    // Asked before and after the objects are read: one that cannot be read must not be in the way either.
    if !scope::concerns(&policy, &request) || scope::is_never_in_the_way(&request) {
        return Ok(Answer::accepted());
    }
    request.read_objects(&fields)?;
    if scope::is_never_in_the_way(&request) || scope::is_exempt(&request, &shared) {
        return Ok(Answer::accepted());
    }
    let judge = Judge { policy: &policy, shared: &shared, request: &request, host };
    Ok(judge.answer())
}

/// The object before and after, as the rule sees them.
struct States<'a> {
    new: Cow<'a, Value>,
    old: Option<Cow<'a, Value>>,
    /// What the paths of the findings are in, and what edits work on: the object as it was received. Absent for a
    /// scale, whose object has nothing but a count.
    received: Option<&'a Value>,
    /// For a scale, the scaled object.
    scaled: Option<ObjectRef>,
}

struct Judge<'a, P> {
    policy: &'a P,
    shared: &'a Shared,
    request: &'a Request,
    host: &'a dyn Host,
}

impl<'a, P: Policy> Judge<'a, P> {
    fn answer(&self) -> Answer {
        let lookups = Lookups::default();
        let states = match self.states(&lookups) {
            Ok(Some(states)) => states,
            // Nothing to judge: what is scaled is not there any more.
            Ok(None) => return Answer::accepted(),
            Err(error) => return Answer::told(cannot_judge::<P>(&error)),
        };
        let notes = RefCell::new(Vec::new());
        let (owner, exemption) = self.surroundings(&Node::root(&states.new));
        if owner.is_some() && self.shared.owned_objects == OwnedObjects::Ignore {
            return Answer::accepted();
        }
        if exemption.applies {
            return self.write(exemption.told.into_iter().collect(), None, &states, None, &[]);
        }
        let old = states.old.as_deref();
        let mut findings = match self.judge(&states.new, old, &lookups, &notes) {
            Ok(findings) => findings,
            Err(error) => return Answer::told(cannot_judge::<P>(&error)),
        };
        let incomparable = self.ratchet(&mut findings, old, &lookups).err();
        let mut mutated = None;
        if let Some((remaining, object)) = self.mend(&findings, &states, owner.is_some(), &lookups) {
            findings = remaining;
            mutated = Some(object);
        }
        if let Some(finding) = exemption.told {
            findings.push(finding);
        }
        let mut answer = self.write(findings, mutated, &states, owner, &notes.into_inner());
        if let Some(error) = incomparable {
            answer.warnings.push(join(&[P::NAME, " cannot tell what is new: ", &error.to_string()], ""));
        }
        answer
    }

    /// The two states of the object, completed as the API server would complete them.
    fn states(&self, lookups: &Lookups) -> Result<Option<States<'a>>, LookupError> {
        let request = self.request;
        if request.is_scale() {
            return self.scale_states(lookups);
        }
        let (current, before) = match request.operation {
            Operation::Delete => (&request.old_object, &None),
            _ => (&request.object, &request.old_object),
        };
        let Some(received) = current else { return Ok(None) };
        Ok(Some(States {
            new: completed::<P>(request, received),
            old: before.as_ref().map(|before| completed::<P>(request, before)),
            received: Some(received),
            scaled: None,
        }))
    }

    /// A Scale carries nothing but a count: the object that it scales is looked up and judged with that count.
    fn scale_states(&self, lookups: &Lookups) -> Result<Option<States<'a>>, LookupError> {
        let request = self.request;
        let (Some(scale), name) = (&request.object, request.name_of()) else { return Ok(None) };
        let (group, kind) = (request.target_group(), request.target_kind());
        let cluster = Cluster::new(self.host, lookups, request, scale);
        let version = if request.resource.version.is_empty() { "v1" } else { &request.resource.version };
        let api_version = if group.is_empty() { version.to_owned() } else { join(&[group, version], "/") };
        let Some(object) = cluster.get_held(&api_version, kind, name)? else { return Ok(None) };
        if scope::is_being_deleted(&object) {
            return Ok(None);
        }
        let with_count_of = |scale: &Value| {
            let count = scale.get("spec").and_then(|spec| spec.get("replicas"));
            // A Scale that leaves its count out means 0: the field has `omitempty` in `k8s.io/api/autoscaling/v1`.
            let value = count.filter(|count| !count.is_null()).cloned().unwrap_or_else(|| 0.into());
            let mut object = object.clone();
            // Only fails where `spec` is no object, which no stored object has.
            drop(edit::apply(&mut object, &[Edit::Set { path: Path::fields(COUNT), value }]));
            Cow::Owned(completed::<P>(request, &object).into_owned())
        };
        Ok(Some(States {
            new: with_count_of(scale),
            old: request.old_object.as_ref().map(with_count_of),
            received: None,
            scaled: Some(ObjectRef {
                api_version,
                kind: kind.to_owned(),
                namespace: request.namespace_of().to_owned(),
                name: name.to_owned(),
            }),
        }))
    }

    /// Who owns the object, and whether it is exempt; one of which that cannot be read is not judged, but told of.
    fn surroundings<'o>(&self, object: &Node<'o>) -> (Option<Owner<'o>>, Exemption) {
        let read = || {
            let exemption = scope::exemption(P::NAME, object, self.shared)?;
            // Nothing more is asked of what is not judged, so that nothing else of it can be wrong.
            let is_silent = exemption.applies && exemption.told.is_none();
            let owner = if is_silent { None } else { scope::owner(object, self.request)? };
            Ok((owner, exemption))
        };
        read().unwrap_or_else(|malformed: Malformed| {
            let told = Some(Finding::malformed(&malformed, object));
            (None, Exemption { applies: true, told })
        })
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
            let is_immutable = finding.immutable || self.is_in_fixed_pod(finding.path);
            finding.level == Level::Error && (self.shared.on_update == OnUpdate::Ratchet || is_immutable)
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
        // Each old finding excuses one new one that is no worse; the mildest that will do is used up first.
        let mut excuses: Vec<&Finding> = before.iter().collect();
        for finding in findings.iter_mut().filter(|finding| may_be_kept(finding)) {
            let mut mildest: Option<(usize, i64)> = None;
            for (index, old) in excuses.iter().enumerate() {
                let excuses = old.measure >= finding.measure && old.identity() == finding.identity();
                if excuses && mildest.is_none_or(|(_, least)| old.measure < least) {
                    mildest = Some((index, old.measure));
                }
            }
            if let Some((index, _)) = mildest {
                excuses.swap_remove(index);
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
        states: &States<'_>,
        is_owned: bool,
        lookups: &Lookups,
    ) -> Option<(Vec<Finding>, Value)> {
        let changes = matches!(self.request.operation, Operation::Create | Operation::Update);
        if !changes || !self.shared.mutate || is_owned {
            return None;
        }
        let received = states.received?;
        let may_change = |finding: &Finding| {
            self.request.operation == Operation::Create
                || !(finding.immutable || finding.edits.iter().any(|edit| self.is_in_kept_template(edit, states)))
        };
        let mut edits = Vec::new();
        for finding in findings {
            if finding.level == Level::Error && may_change(finding) {
                edits.extend_from_slice(&finding.edits);
            }
        }
        if edits.is_empty() {
            return None;
        }
        let mut mutated = received.clone();
        edit::apply(&mut mutated, &in_safe_order(edits)).ok()?;
        if mutated == *received {
            return None;
        }
        let old = states.old.as_deref();
        let completed = completed::<P>(self.request, &mutated).into_owned();
        let mut remaining = self.judge(&completed, old, lookups, &RefCell::default()).ok()?;
        self.ratchet(&mut remaining, old, lookups).ok()?;
        let denied =
            self.shared.action == Action::Deny && remaining.iter().any(|finding| finding.level == Level::Error);
        if denied { None } else { Some((remaining, mutated)) }
    }

    /// Whether `path` is in the pod of an object whose pod cannot be changed, except for its images: a Pod itself and a
    /// Job (`ValidatePodUpdate` in `pkg/apis/core/validation/validation.go`, `ValidateJobSpecUpdate` in
    /// `pkg/apis/batch/validation/validation.go`). Subresources of a Pod are there to change the rest.
    fn is_in_fixed_pod(&self, path: Path) -> bool {
        let (group, kind) = (self.request.target_group(), self.request.target_kind());
        is_fixed(group, kind)
            && self.request.subresource.is_none()
            && kind::pod_place(group, kind).is_some_and(|place| path.is_within(place.spec))
    }

    /// Whether `edit` would change a pod template that this UPDATE leaves as it was: that would roll every member.
    /// The pod of a Pod and of a Job cannot be changed at all.
    fn is_in_kept_template(&self, edit: &Edit, states: &States<'_>) -> bool {
        let (group, kind) = (self.request.target_group(), self.request.target_kind());
        let Some(place) = kind::pod_place(group, kind) else { return false };
        let overlaps = |path: Path| edit.path().is_within(path) || path.is_within(edit.path());
        let template = |object: &Value| {
            let root = Node::root(object);
            [place.spec, place.metadata].map(|path| root.follow(path).ok().and_then(|node| node.value().cloned()))
        };
        (overlaps(place.spec) || overlaps(place.metadata))
            && (is_fixed(group, kind) || states.old.as_ref().is_some_and(|old| template(old) == template(&states.new)))
    }

    fn write(
        &self,
        mut findings: Vec<Finding>,
        mutated: Option<Value>,
        states: &States<'_>,
        owner: Option<Owner<'_>>,
        notes: &[String],
    ) -> Answer {
        // What the paths and the patches are of: what was received, or what is left to be said of the mutated object.
        let object = mutated.as_ref().or(states.received).unwrap_or(&states.new);
        let owner = owner.filter(|_| self.shared.owned_objects == OwnedObjects::Warn);
        let count = Path::fields(COUNT);
        let mut answer = Answer::accepted();
        let mut errors = Vec::new();
        let mut see = String::new();
        let mut json = Vec::with_capacity(findings.len());
        for finding in &mut findings {
            if finding.object.is_none() && finding.path != count {
                // The count is in the Scale that was sent; all else is in the object that it scales.
                finding.object.clone_from(&states.scaled);
            }
            if owner.is_some() || self.shared.action == Action::Warn {
                finding.level = Level::Warning;
            }
            if let Some(owner) = &owner {
                // The count is the one field of an owner of which the catalogue knows where it is.
                let field = if finding.path == count { owner.count_field() } else { None };
                let separator = if finding.advice.is_empty() { "" } else { ": " };
                let (what, advice) = (field.unwrap_or("it"), &finding.advice);
                finding.advice = join(
                    &[owner.kind, " ", owner.name, " owns this object: change ", what, " there", separator, advice],
                    "",
                );
                finding.edits.clear();
            }
            match finding.level {
                Level::Error => {
                    if errors.is_empty() && !P::FINDINGS_PAGE.is_empty() {
                        see = join(&["see ", P::FINDINGS_PAGE, "#", finding.code], "");
                    }
                    errors.push(finding.line());
                }
                Level::Warning => answer.warnings.push(finding.short_line()),
            }
            json.push(finding.to_json(P::NAME, object));
        }
        let mut annotations = [("findings", Value::Array(json)), ("notes", texts(notes.to_vec()))];
        for (name, list) in &mut annotations {
            if list.as_array().is_some_and(|list| !list.is_empty()) {
                answer.audit_annotations.insert((*name).to_owned(), to_json(list).into());
            }
        }
        if errors.is_empty() {
            answer.mutated_object = mutated;
        } else {
            // A denied object is not stored, so that there is nothing to patch.
            answer.accepted = false;
            if !see.is_empty() {
                errors.push(see);
            }
            answer.message = join(&errors, "\n");
        }
        answer
    }
}

/// Whether the pod of such an object stays as it is for as long as the object is there.
fn is_fixed(group: &str, kind: &str) -> bool {
    matches!((group, kind), ("", "Pod") | ("batch", "Job"))
}

/// Where the count is, in a Scale and in all that it scales.
const COUNT: &str = "spec.replicas";

#[inline(never)]
fn completed<'a, P: Policy>(request: &Request, object: &'a Value) -> Cow<'a, Value> {
    let complete = if P::READS_RESOURCES { complete::complete } else { complete::complete_but_resources };
    complete(request.target_group(), request.target_kind(), object)
}

/// The cluster could not be asked: a policy's silence must not look like its consent.
fn cannot_judge<P: Policy>(error: &LookupError) -> String {
    join(&[P::NAME, " did not judge this: ", &error.to_string()], "")
}

/// Whether what is malformed is in `object`, rather than in another one that a rule has read.
fn is_in(object: &Node<'_>, malformed: &Malformed) -> bool {
    let found = object.follow(malformed.path).map(|node| shorten(node.value().unwrap_or(&Value::Null)));
    found.is_ok_and(|found| found == malformed.found)
}

/// `edits`, each made for the object as it was, in an order in which none moves what another one means: items leave
/// their lists last, and from the end.
fn in_safe_order(edits: Vec<Edit>) -> Vec<Edit> {
    let mut ordered = Vec::with_capacity(edits.len());
    // From the end, each once. Few as they are, a sort would be more code than they are worth.
    let mut removed: Vec<Path> = Vec::new();
    for edit in edits {
        let path = edit.path();
        if matches!(edit, Edit::Remove { .. }) && matches!(path.split_last(), Some((_, Segment::Index(_)))) {
            if let Err(position) = removed.binary_search_by(|other| path.cmp(other)) {
                removed.insert(position, path);
            }
        } else {
            ordered.push(edit);
        }
    }
    for path in removed {
        ordered.push(Edit::remove(path));
    }
    ordered
}
