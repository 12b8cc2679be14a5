//! From a payload to an answer: the one way that every policy goes, natively and in a module.

use std::cell::RefCell;
use std::collections::HashMap;

use kubewarden_policy_sdk::response::ValidationResponse;
use kubewarden_policy_sdk::settings::SettingsValidationResponse;
use serde_json::Value;
use workload::edit::{self, Edit};
use workload::{Node, Path, complete, kind};

use crate::finding::{Finding, Level, ObjectRef};
use crate::lookup::{Cluster, Host, LookupError, Lookups};
use crate::request::{Operation, Payload, Request, RequestError};
use crate::scope::{self, Exemption, Owner};
use crate::settings::{Action, OnUpdate, OwnedObjects, SettingsError, Shared};
use crate::{Fault, Policy, Review, settings};

/// Answers the operation `validate` for the policy `P`: `{"request": ..., "settings": ...}` in, a
/// `ValidationResponse` out.
///
/// # Errors
/// Only if the answer cannot be written as JSON. What cannot be read is denied, with the reason.
pub fn validate<P: Policy>(payload: &[u8], host: &dyn Host) -> serde_json::Result<Vec<u8>> {
    let answer = answer::<P>(payload, host).unwrap_or_else(|refusal| refusal.into_response());
    serde_json::to_vec(&answer)
}

/// Answers the operation `validate_settings` for the policy `P`: the bare settings in.
///
/// # Errors
/// Only if the answer cannot be written as JSON.
pub fn validate_settings<P: Policy>(payload: &[u8]) -> serde_json::Result<Vec<u8>> {
    let outcome = serde_json::from_slice(payload)
        .map_err(|error| SettingsError::new("", format!("cannot be read: {error}")))
        .and_then(|value| read_settings::<P>(&value));
    serde_json::to_vec(&SettingsValidationResponse {
        valid: outcome.is_ok(),
        message: outcome.err().map(|error| error.to_string()),
    })
}

fn read_settings<P: Policy>(value: &Value) -> Result<(P, Shared), SettingsError> {
    let (policy, shared) = settings::read::<P>(value, P::MUTATES)?;
    policy.check()?;
    Ok((policy, shared))
}

/// Why nothing could be judged: the request is denied with this text.
enum Refusal {
    Request(RequestError),
    Settings(SettingsError),
}

impl Refusal {
    fn into_response(self) -> ValidationResponse {
        let text = match self {
            Self::Request(error) => error.to_string(),
            Self::Settings(error) => error.to_string(),
        };
        ValidationResponse { accepted: false, message: Some(text), ..accepted() }
    }
}

fn accepted() -> ValidationResponse {
    ValidationResponse {
        accepted: true,
        message: None,
        code: None,
        mutated_object: None,
        audit_annotations: None,
        warnings: None,
    }
}

fn answer<P: Policy>(payload: &[u8], host: &dyn Host) -> Result<ValidationResponse, Refusal> {
    let payload: Payload<'_> =
        serde_json::from_slice(payload).map_err(|error| Refusal::Request(RequestError::payload(&error)))?;
    let settings = match payload.settings {
        None => Value::Null,
        Some(raw) => serde_json::from_str(raw.get())
            .map_err(|error| Refusal::Settings(SettingsError::new("", format!("cannot be read: {error}"))))?,
    };
    let (policy, shared) = read_settings::<P>(&settings).map_err(Refusal::Settings)?;
    let request = Request::read(payload.request).map_err(Refusal::Request)?;
    if !scope::concerns(&policy, &request) || scope::is_never_in_the_way(&request) {
        return Ok(accepted());
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
    fn answer(&self) -> ValidationResponse {
        let states = match self.states() {
            Ok(Some(states)) => states,
            // Nothing to judge: what is scaled is not there any more.
            Ok(None) => return accepted(),
            Err(fault) => return self.cannot_judge(&fault),
        };
        let notes = RefCell::new(Vec::new());
        let lookups = Lookups::default();
        let object = Node::root(&states.new);
        let (owner, exemption) = match self.surroundings(&object) {
            Ok(surroundings) => surroundings,
            Err(finding) => return self.write(&[*finding], None, &states, None, &[]),
        };
        if scope::is_left_to_owner(owner.as_ref(), self.shared) {
            return accepted();
        }
        let extra = match exemption {
            Exemption::Silent => return accepted(),
            Exemption::Told(finding) => return self.write(&[finding], None, &states, None, &[]),
            Exemption::Refused(finding) => Some(finding),
            Exemption::None => None,
        };
        let old_node = states.old.as_ref().map(Node::root);
        let mut findings = match self.judge(&states.new, old_node, &lookups, &notes) {
            Ok(findings) => findings,
            Err(fault) => return self.cannot_judge(&fault),
        };
        self.ratchet(&mut findings, &states, &lookups);
        let mutated = self.mutate(&mut findings, &states, owner.as_ref(), &lookups, &notes);
        findings.extend(extra);
        self.write(&findings, mutated, &states, owner.as_ref(), &notes.into_inner())
    }

    /// The two states of the object, completed as the API server would complete them.
    fn states(&self) -> Result<Option<States>, LookupError> {
        if self.request.is_scale() {
            return self.scale_states();
        }
        let completed = |object: &Value| {
            complete::complete(self.request.target_group(), self.request.target_kind(), object).into_owned()
        };
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
    fn scale_states(&self) -> Result<Option<States>, LookupError> {
        let (Some(scale), name) = (&self.request.object, self.request.name_of()) else { return Ok(None) };
        let count = |scale: &Value| scale.pointer("/spec/replicas").cloned().filter(|count| !count.is_null());
        let (group, kind) = (self.request.target_group(), self.request.target_kind());
        let lookups = Lookups::default();
        let cluster = Cluster::new(self.host, &lookups, self.request, scale);
        let version = if self.request.resource.version.is_empty() { "v1" } else { &self.request.resource.version };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let Some(object) = cluster.get(&api_version, kind, name)? else { return Ok(None) };
        if scope::is_being_deleted(&object) {
            return Ok(None);
        }
        let with_count = |count: Option<Value>| {
            // A Scale that leaves its count out means 0: the field has `omitempty` in `k8s.io/api/autoscaling/v1`.
            let value = count.unwrap_or_else(|| 0.into());
            let mut object = object.clone();
            // Only fails where `spec` is no object, which no stored object has.
            drop(edit::apply(&mut object, &[Edit::Set { path: Path::fields("spec.replicas"), value }]));
            complete::complete(group, kind, &object).into_owned()
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
        let owner = scope::owner(object, self.request);
        let exemption = scope::exemption(P::NAME, object, self.request, self.shared);
        match (owner, exemption) {
            (Ok(owner), Ok(exemption)) => Ok((owner, exemption)),
            (Err(malformed), _) | (_, Err(malformed)) => Err(Box::new(Finding::malformed(&malformed, object))),
        }
    }

    /// Asks the rule. A field that Kubernetes refuses too is a finding like any other.
    fn judge(
        &self,
        state: &Value,
        old: Option<Node<'_>>,
        lookups: &Lookups,
        notes: &RefCell<Vec<String>>,
    ) -> Result<Vec<Finding>, LookupError> {
        let object = Node::root(state);
        let cluster = Cluster::new(self.host, lookups, self.request, state);
        let review = Review { request: self.request, shared: self.shared, object: object.clone(), old, cluster, notes };
        let findings = match self.policy.judge(&review) {
            Ok(findings) => findings,
            Err(Fault::Malformed(malformed)) => vec![Finding::malformed(&malformed, &object)],
            Err(Fault::Lookup(error)) => return Err(error),
        };
        Ok(scope::without_exempt_containers(findings, self.shared))
    }

    /// On UPDATE, what was there before and did not get worse becomes a warning.
    fn ratchet(&self, findings: &mut [Finding], states: &States, lookups: &Lookups) {
        let Some(old) = &states.old else { return };
        if !findings.iter().any(|finding| finding.level == Level::Error) {
            return;
        }
        // What could not be judged before leaves nothing to compare with: then everything is new.
        let before = self.judge(old, None, lookups, &RefCell::default()).unwrap_or_default();
        for finding in findings.iter_mut().filter(|finding| finding.level == Level::Error) {
            let was_there = before.iter().any(|old| old.is_same_as(finding) && finding.measure <= old.measure);
            if was_there && (self.shared.on_update == OnUpdate::Ratchet || finding.immutable) {
                finding.level = Level::Warning;
                finding.kept = true;
            }
        }
    }

    /// Applies the edits of what would be denied, and leaves in `findings` what they do not mend.
    fn mutate(
        &self,
        findings: &mut Vec<Finding>,
        states: &States,
        owner: Option<&Owner>,
        lookups: &Lookups,
        notes: &RefCell<Vec<String>>,
    ) -> Option<Value> {
        let received = states.received.as_ref().filter(|_| self.shared.mutate && owner.is_none())?;
        let may_change =
            |edit: &Edit| self.request.operation == Operation::Create || !self.is_in_kept_template(edit, states);
        let edits: Vec<Edit> = findings
            .iter()
            .filter(|finding| finding.level == Level::Error && finding.edits.iter().all(may_change))
            .flat_map(|finding| finding.edits.iter().cloned())
            .collect();
        if edits.is_empty() {
            return None;
        }
        let mut mutated = received.clone();
        edit::apply(&mut mutated, &edits).ok()?;
        let completed = complete::complete(self.request.target_group(), self.request.target_kind(), &mutated);
        let mut remaining = self.judge(&completed, states.old.as_ref().map(Node::root), lookups, notes).ok()?;
        self.ratchet(
            &mut remaining,
            &States { new: Value::Null, received: None, scaled: None, old: states.old.clone() },
            lookups,
        );
        *findings = remaining;
        (mutated != *received).then_some(mutated)
    }

    /// Whether `edit` would change a pod template that this UPDATE leaves as it was: that would roll every member.
    fn is_in_kept_template(&self, edit: &Edit, states: &States) -> bool {
        let Some(place) = kind::pod_place(self.request.target_group(), self.request.target_kind()) else {
            return false;
        };
        let template = |object: &Value| {
            let root = Node::root(object);
            [&place.spec, &place.metadata].map(|path| root.follow(path).ok().and_then(|node| node.value().cloned()))
        };
        let starts = |path: &Path| edit.path().segments().starts_with(path.segments());
        (starts(&place.spec) || starts(&place.metadata))
            && states.old.as_ref().is_some_and(|old| template(old) == template(&states.new))
    }

    /// The cluster could not be asked: this policy's silence must not look like its consent.
    fn cannot_judge(&self, error: &LookupError) -> ValidationResponse {
        let text = format!("{} did not judge this: {error}", P::NAME);
        ValidationResponse { warnings: Some(vec![text]), ..accepted() }
    }

    fn write(
        &self,
        findings: &[Finding],
        mutated: Option<Value>,
        states: &States,
        owner: Option<&Owner>,
        notes: &[String],
    ) -> ValidationResponse {
        let mut findings = findings.to_vec();
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
                let advice = format!("{} {} owns this object: change it there", owner.kind, owner.name);
                finding.advice =
                    if finding.advice.is_empty() { advice } else { format!("{advice}: {}", finding.advice) };
                finding.edits.clear();
            }
        }
        let (errors, warnings): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.level == Level::Error);
        let lines =
            |findings: &[&Finding]| findings.iter().map(|finding| finding.line()).collect::<Vec<_>>().join("\n");
        let received = states.received.as_ref().unwrap_or(&states.new);
        let mut annotations = HashMap::new();
        if !findings.is_empty() {
            let json: Vec<Value> = findings.iter().map(|finding| finding.to_json(P::NAME, received)).collect();
            annotations.insert("findings".to_owned(), Value::from(json).to_string());
        }
        if !notes.is_empty() {
            annotations.insert("notes".to_owned(), Value::from(notes).to_string());
        }
        ValidationResponse {
            accepted: errors.is_empty(),
            message: (!errors.is_empty()).then(|| lines(&errors)),
            // A denied object is not stored, so that there is nothing to patch.
            mutated_object: mutated.filter(|_| errors.is_empty()),
            audit_annotations: (!annotations.is_empty()).then_some(annotations),
            warnings: (!warnings.is_empty()).then(|| warnings.iter().map(|finding| finding.short_line()).collect()),
            ..accepted()
        }
    }
}
