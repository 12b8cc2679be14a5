//! What holds for every policy, whatever its rule: asked of each case again, so that a new policy is held to it for nothing.
//!
//! A law varies the request or the settings of a case and says what must come of it. The laws of mutation are asked of
//! objects with a field that nobody knows in each of their maps, too.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cluster::{Grants, Requests};
use policy::finding::one_line;
use serde_json::{Map, Value, json};

use crate::case::{Case, Expect};
use crate::objects::Types;
use crate::run::{self, Outcome};
use crate::{Judge, World, metadata};

/// The field that no type of Kubernetes has, and no policy knows.
const PLANTED: &str = "quorateNobodyKnowsThis";
/// Maps whose keys users choose: what is planted there is no unknown field, but a label, an amount, a variable.
const OPEN_MAPS: [&str; 9] =
    ["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests", "capacity", "parameters", "data"];

/// The laws, asked of the request of one case.
struct Laws<'a> {
    policy: &'a str,
    judge: Judge<'a>,
    world: &'a World,
    request: Value,
    settings: Map<String, Value>,
    failures: String,
    /// How often an object with unknown fields was mutated.
    mutated: usize,
}

/// Every law that `case` breaks, which is empty when none is, and how often an object with unknown fields was mutated.
pub(crate) fn broken(case: &Case, judge: Judge<'_>, world: &World, request: &Value, mutates: bool) -> (String, usize) {
    let settings = case.header.settings.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let mut laws = Laws {
        policy: &case.policy,
        judge,
        world,
        request: request.clone(),
        settings,
        failures: String::new(),
        mutated: 0,
    };
    if mutates {
        laws.mutation();
    }
    // The others are about what is denied when it comes, by an ordinary user, in a cluster that answers.
    let header = &case.header;
    let is_plain = request["operation"] == "CREATE" && header.user.is_none() && header.request.is_none();
    let is_owned = request["object"]["metadata"].get("ownerReferences").is_some();
    let sets = |key: &str| laws.settings.contains_key(key);
    let is_default = !sets("action") && !sets("exempt") && !sets("mutate") && !sets("onUpdate");
    // Without findings it is the settings that are denied.
    if header.expect == Expect::Deny && !header.findings.is_empty() && is_plain && is_default && !is_owned {
        laws.exemption();
        laws.ratchet();
        laws.owners();
        laws.never_in_the_way();
    }
    laws.mistakes();
    (laws.failures, laws.mutated)
}

/// How many objects of each kind are made.
const MADE: u64 = 60;

/// Every law that generated objects break of the kinds that the policy's rules name, with the settings `settings` in turn: every request has
/// an answer in the form of one, and mutation keeps its laws.
pub(crate) fn broken_by_generated(
    policy: &str,
    judge: Judge<'_>,
    mutates: bool,
    settings: &[Map<String, Value>],
) -> Result<String, String> {
    let types = Types::read().map_err(|error| error.to_string())?;
    let world = World::new([], Grants::cluster_wide(run::context_aware(policy)?));
    let requests = Requests::new(world.cluster().resources());
    let (mut failures, mut changed, mut judged) = (String::new(), 0, 0);
    for (api_version, kind) in types.kinds().filter(|(api_version, kind)| metadata::names(policy, api_version, kind)) {
        for (seed, settings) in (0..MADE).zip(settings.iter().cycle()) {
            let mut object = types.object(api_version, kind, seed);
            if seed % 2 == 1 {
                plant(&mut object, seed % 4 == 1, &mut 0);
            }
            let request = requests.create(&object).map_err(|error| format!("{kind} {seed}: {error}"))?;
            let request = serde_json::to_value(&request).map_err(|error| error.to_string())?;
            let mut laws = Laws {
                policy,
                judge,
                world: &world,
                request: Value::Null,
                settings: settings.clone(),
                failures: String::new(),
                mutated: 0,
            };
            judged += usize::from(!laws.ask(&request, &[]).findings().is_empty());
            if mutates && laws.mutates_rightly(&request) {
                changed += 1;
            }
            if !laws.failures.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(failures, "\ngenerated {kind} {seed} with {settings:?}\n{}\n{object}", laws.failures);
            }
        }
    }
    if judged == 0 || (mutates && changed == 0) {
        let _ = writeln!(failures, "\nof the generated objects {judged} have findings, {changed} are mutated");
    }
    Ok(failures)
}

impl Laws<'_> {
    fn fail(&mut self, law: &str, found: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.failures, "  law broken: {law}: {found:?}");
    }

    /// What comes of the request with these settings besides its own, if that can be read and has the form of an answer.
    fn ask(&mut self, request: &Value, more: &[(&str, Value)]) -> Outcome {
        let mut settings = self.settings.clone();
        for (key, value) in more {
            settings.insert((*key).to_owned(), value.clone());
        }
        let payload = json!({ "request": request, "settings": settings }).to_string();
        let answer = (self.judge)(payload.as_bytes(), self.world)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        match answer {
            Ok(outcome) => {
                run::check_form(&outcome, &mut self.failures);
                self.names_containers(request, &outcome);
                outcome
            }
            Err(error) => {
                self.fail("every request has an answer", &error);
                Outcome::default()
            }
        }
    }

    /// A place such as `spec.containers[1]` tells nobody which container that is.
    fn names_containers(&mut self, request: &Value, outcome: &Outcome) {
        for finding in outcome.findings().iter().filter(|finding| finding.get("object").is_none()) {
            let place = finding["path"].as_str().unwrap_or_default();
            let name = container_at(place).and_then(|container| {
                request["object"].pointer(&format!("{container}/name")).and_then(Value::as_str).map(str::to_owned)
            });
            let message = finding["message"].as_str().unwrap_or_default();
            // What is wrong with the type of a field is told by its place, as the API server tells it.
            let is_told = finding["code"] == "malformed" || name.is_none_or(|name| message.contains(&one_line(&name)));
            if !is_told {
                self.fail("a finding in a container names it", &message);
            }
        }
    }

    /// The request, with something else about its object.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut request = self.request.clone();
        change(&mut request["object"]);
        request
    }

    fn expect_silence(&mut self, law: &str, request: &Value, more: &[(&str, Value)]) {
        let outcome = self.ask(request, more);
        if !outcome.accepted || outcome.message.is_some() || !told(&outcome).is_empty() {
            self.fail(law, &outcome);
        }
    }

    fn exemption(&mut self) {
        let request = self.request.clone();
        let plain = self.ask(&request, &[]);
        let namespace = request["namespace"].as_str().unwrap_or_default().to_owned();
        let name = request["name"].as_str().unwrap_or_default().to_owned();
        for (key, glob) in [("namespaces", namespace), ("names", name), ("users", "*".to_owned())] {
            self.expect_silence("the administrator exempts", &request, &[("exempt", json!({ key: [glob] }))]);
        }
        let labelled = self.with(|object| object["metadata"]["labels"]["quorate.dev/law"] = json!("yes"));
        let labels = json!({ "labels": { "matchLabels": { "quorate.dev/law": "yes" } } });
        self.expect_silence("the administrator exempts by label", &labelled, &[("exempt", labels)]);

        for key in ["containers", "images"] {
            let outcome = self.ask(&request, &[("exempt", json!({ key: ["*"] }))]);
            let is_left = |finding: &Value| {
                finding["code"] != "malformed" && container_at(finding["path"].as_str().unwrap_or_default()).is_some()
            };
            if outcome.findings().iter().any(is_left) {
                self.fail("nothing is found in a container that is exempt", &outcome);
            }
        }

        let warned = self.ask(&request, &[("action", json!("warn"))]);
        if !warned.accepted || warned.message.is_some() || codes(&warned) != codes(&plain) {
            self.fail("action: warn tells the same and accepts", &warned);
        }

        let key = format!("quorate.dev/exempt-{}", self.policy);
        let annotated = self.with(|object| object["metadata"]["annotations"][&key] = json!("moves in May"));
        let allowed = self.ask(&annotated, &[("exempt", json!({ "annotation": true }))]);
        if !allowed.accepted || !told(&allowed).iter().any(|line| line.contains("moves in May")) {
            self.fail("an object exempts itself with a reason, which is told", &allowed);
        }
        let refused = self.ask(&annotated, &[]);
        if refused.accepted || !codes(&refused).contains("exemption-not-allowed") {
            self.fail("an object exempts itself only where the administrator allows it", &refused);
        }
    }

    fn ratchet(&mut self) {
        let mut update = self.request.clone();
        update["operation"] = json!("UPDATE");
        update["oldObject"] = update["object"].clone();
        let kept = self.ask(&update, &[]);
        if !kept.accepted || kept.message.is_some() {
            self.fail("an UPDATE that changes nothing is accepted", &kept);
        }
        let enforced = self.ask(&update, &[("onUpdate", json!("enforce"))]);
        let may_change = |finding: &Value| finding["level"] == "warning";
        if enforced.accepted && !enforced.findings().iter().all(may_change) {
            self.fail("what is denied has errors", &enforced);
        }
        // From nothing to what is wrong is worse than it was.
        update["oldObject"]["spec"] = json!({});
        let worse = self.ask(&update, &[("onUpdate", json!("enforce"))]);
        if worse.findings().is_empty() {
            self.fail("an UPDATE is judged", &worse);
        }
    }

    fn owners(&mut self) {
        let references = json!([{ "apiVersion": "example.com/v1", "kind": "Ensemble", "name": "o", "uid": "1", "controller": true }]);
        let owned = self.with(|object| object["metadata"]["ownerReferences"] = references);
        let warned = self.ask(&owned, &[]);
        if !warned.accepted || told(&warned).is_empty() {
            self.fail("what an operator owns is told of, and accepted", &warned);
        }
        self.expect_silence("owned objects are ignored", &owned, &[("ownedObjects", json!("ignore"))]);
        let enforced = self.ask(&owned, &[("ownedObjects", json!("enforce"))]);
        if enforced.accepted {
            self.fail("owned objects are judged where the administrator says so", &enforced);
        }
    }

    fn never_in_the_way(&mut self) {
        let gone = self.with(|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        self.expect_silence("what is being deleted is left alone", &gone, &[]);
        for cleaner in ["generic-garbage-collector", "namespace-controller"] {
            let mut request = self.request.clone();
            request["userInfo"]["username"] = json!(format!("system:serviceaccount:kube-system:{cleaner}"));
            self.expect_silence("who cleans up is let through", &request, &[]);
        }
    }

    fn mistakes(&mut self) {
        let request = self.request.clone();
        // Its own may be mistaken.
        self.settings.clear();
        for (key, value) in [("nonsense", json!(1)), ("action", json!("block")), ("exempt", json!({ "nmaes": [] }))] {
            let refused = self.ask(&request, &[(key, value)]);
            if !refused.message.as_deref().unwrap_or_default().starts_with(&format!("settings.{key}")) {
                self.fail("a mistake in the settings is refused by its key", &refused);
            }
        }
    }

    /// The laws of mutation: the object as it is, and with an unknown field in its maps.
    fn mutation(&mut self) {
        let as_it_is = self.request.clone();
        self.mutates_rightly(&as_it_is);
        for open_maps_too in [false, true] {
            let mut planted = as_it_is.clone();
            plant(&mut planted["object"], open_maps_too, &mut 0);
            if self.mutates_rightly(&planted) {
                self.mutated += 1;
            }
        }
    }

    /// Whether the object was mutated; where it was, the laws are asked.
    fn mutates_rightly(&mut self, request: &Value) -> bool {
        let mutated = self.ask(request, &[("mutate", json!(true))]);
        let Some(object) = &mutated.mutated_object else { return false };
        if !mutated.accepted || mutated.message.is_some() {
            self.fail("what is mutated is accepted", &mutated);
        }
        let received = &request["object"];
        let lost: Vec<u64> = plants(received).difference(&plants(object)).copied().collect();
        if !lost.is_empty() {
            self.fail("a field that nobody knows survives", &(lost, object));
        }
        let mut again = request.clone();
        again["object"] = object.clone();
        let second = self.ask(&again, &[("mutate", json!(true))]);
        if second.mutated_object.is_some() || !second.accepted {
            self.fail("mutating twice is mutating once, and the result passes", &second);
        }
        let unmutated = self.ask(request, &[("mutate", json!(false))]);
        let patches: Vec<Value> =
            unmutated.findings().iter().filter_map(|finding| finding["patch"].as_array().cloned()).flatten().collect();
        let places: Vec<&str> = patches.iter().filter_map(|operation| operation["path"].as_str()).collect();
        let mut elsewhere = Vec::new();
        differences(received, object, "", &places, &mut elsewhere);
        if !elsewhere.is_empty() {
            self.fail("nothing is mutated but what the patches name", &(elsewhere, places));
        }
        true
    }
}

/// The pointer to the container in which the pointer `place` ends, if it does.
fn container_at(place: &str) -> Option<&str> {
    let list = ["/initContainers/", "/containers/", "/ephemeralContainers/"];
    let (start, list) = list.iter().find_map(|list| Some((place.find(list)?, list.len())))?;
    let rest = place.get(start + list..)?;
    let index = rest.split('/').next().filter(|index| index.bytes().all(|byte| byte.is_ascii_digit()))?;
    place.get(..start + list + index.len())
}

fn told(outcome: &Outcome) -> &[String] {
    outcome.warnings.as_deref().unwrap_or_default()
}

fn codes(outcome: &Outcome) -> BTreeSet<String> {
    outcome.findings().iter().filter_map(|finding| Some(finding["code"].as_str()?.to_owned())).collect()
}

/// Puts an unknown field, with a number of its own, into every map of `value`; into maps whose keys users choose only
/// where that is asked for, and as a text, which labels and amounts are.
fn plant(value: &mut Value, open_maps_too: bool, count: &mut u64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| plant(item, open_maps_too, count)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if !OPEN_MAPS.contains(&name.as_str()) {
                    plant(value, open_maps_too, count);
                } else if let (true, Some(entries)) = (open_maps_too, value.as_object_mut()) {
                    *count += 1;
                    entries.insert(PLANTED.to_owned(), count.to_string().into());
                }
            }
            *count += 1;
            fields.insert(PLANTED.to_owned(), (*count).into());
        }
        _ => {}
    }
}

/// The numbers of all planted fields.
fn plants(value: &Value) -> BTreeSet<u64> {
    match value {
        Value::Array(items) => items.iter().flat_map(plants).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::Number(number) if name == PLANTED => number.as_u64().into_iter().collect(),
                Value::String(text) if name == PLANTED => text.parse().into_iter().collect(),
                _ => plants(value),
            })
            .collect(),
        _ => BTreeSet::new(),
    }
}

/// The places where `before` and `after` differ and that no pointer of `places` is, holds, or is held by.
fn differences(before: &Value, after: &Value, at: &str, places: &[&str], found: &mut Vec<String>) {
    if before == after || places.iter().any(|place| is_within(at, place)) {
        return;
    }
    let may_grow = places.iter().any(|place| place.strip_suffix("/-") == Some(at));
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                differences(
                    old.get(key).unwrap_or(&Value::Null),
                    new.get(key).unwrap_or(&Value::Null),
                    &place,
                    places,
                    found,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() || (may_grow && old.len() < new.len()) => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                differences(old, new, &format!("{at}/{index}"), places, found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

fn is_within(place: &str, outer: &str) -> bool {
    place.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a policy that answers so, on a stateful set of four.
    fn told_of(answer: &dyn Fn(&Value, &Value) -> Value) -> (String, usize) {
        let case = Case {
            policy: "odd-replicas".to_owned(),
            name: "case".to_owned(),
            file: None,
            header: serde_json::from_value(json!({ "expect": "deny", "findings": ["even"] })).unwrap(),
            object: Value::Null,
            others: Vec::new(),
        };
        let world = World::new([], Grants::default());
        let request = json!({
            "operation": "CREATE", "name": "zk", "namespace": "a", "userInfo": { "username": "eve" },
            "object": { "metadata": { "name": "zk" }, "spec": { "replicas": 4, "list": [{ "a": 1 }] } },
        });
        let judge = |payload: &[u8], _: &World| {
            let payload: Value = serde_json::from_slice(payload).unwrap();
            Ok(answer(&payload["request"], &payload["settings"]).to_string().into_bytes())
        };
        broken(&case, &judge, &world, &request, true)
    }

    fn mutating(change: impl Fn(&mut Value)) -> String {
        let patch = json!([{ "op": "replace", "path": "/spec/replicas", "value": 5 }]);
        let finding = json!({ "level": "error", "code": "even", "message": "a: Forbidden: b", "patch": patch });
        told_of(&|request, settings| {
            let findings = json!([finding]).to_string();
            let denied =
                json!({ "accepted": false, "message": "a: Forbidden: b", "audit_annotations": { "findings": findings } });
            if request["object"]["spec"]["replicas"] == 5 {
                return json!({ "accepted": true });
            }
            if settings["mutate"] != true {
                return denied;
            }
            let mut object = request["object"].clone();
            object["spec"]["replicas"] = json!(5);
            change(&mut object);
            json!({ "accepted": true, "mutated_object": object })
        })
        .0
    }

    #[test]
    fn a_mutation_that_loses_or_touches_what_is_not_its_own_breaks_a_law() {
        let law = |text: &str, name: &str| text.contains(&format!("law broken: {name}"));
        let survives = "a field that nobody knows survives";
        let elsewhere = "nothing is mutated but what the patches name";
        let right = mutating(|_| {});
        assert!(!law(&right, survives) && !law(&right, elsewhere) && !law(&right, "mutating twice"), "{right}");
        let loses = mutating(|object| object["spec"]["list"][0] = json!({ "a": 1 }));
        assert!(law(&loses, survives) && law(&loses, elsewhere), "{loses}");
        let adds = mutating(|object| object["spec"]["more"] = json!(1));
        assert!(!law(&adds, survives) && law(&adds, elsewhere), "{adds}");
        let never_ends = mutating(|object| object["spec"]["replicas"] = json!(6));
        assert!(law(&never_ends, "mutating twice is mutating once"), "{never_ends}");
    }

    #[test]
    fn a_policy_that_denies_whatever_is_asked_breaks_every_other_law() {
        let finding = json!({ "level": "error", "code": "even", "message": "a: Forbidden: b" });
        let findings = json!([finding]).to_string();
        let stubborn = |_: &Value, _: &Value| json!({ "accepted": false, "message": "a: Forbidden: b", "audit_annotations": { "findings": findings } });
        let (broken, mutated) = told_of(&stubborn);
        for law in [
            "the administrator exempts:",
            "the administrator exempts by label",
            "action: warn",
            "an object exempts itself with a reason",
            "an object exempts itself only where",
            "an UPDATE that changes nothing",
            "what an operator owns",
            "owned objects are ignored",
            "what is being deleted",
            "who cleans up",
            "a mistake in the settings",
        ] {
            assert!(broken.contains(&format!("law broken: {law}")), "{law}\n{broken}");
        }
        assert_eq!(mutated, 0);
        let (silent, _) = told_of(&|_, _| json!({ "accepted": true }));
        for law in ["an UPDATE is judged", "owned objects are judged", "an object exempts itself only where"] {
            assert!(silent.contains(&format!("law broken: {law}")), "{law}\n{silent}");
        }
    }

    #[test]
    fn a_container_is_found_in_a_place() {
        assert_eq!(
            container_at("/spec/template/spec/initContainers/12/image"),
            Some("/spec/template/spec/initContainers/12")
        );
        assert_eq!(container_at("/spec/containers/0"), Some("/spec/containers/0"));
        for place in ["", "/spec/containers", "/metadata/annotations/a~1containers~10", "/spec/containers/-"] {
            assert_eq!(container_at(place), None, "{place}");
        }
    }

    #[test]
    fn an_appended_item_is_no_difference_elsewhere_and_a_changed_one_is() {
        let found = |after: Value| {
            let mut found = Vec::new();
            differences(&json!({ "a": [1, 2] }), &after, "", &["/a/-"], &mut found);
            found
        };
        assert!(found(json!({ "a": [1, 2, 3] })).is_empty());
        assert_eq!(found(json!({ "a": [1, 9, 3] })), ["/a/1"]);
        assert_eq!(found(json!({ "a": [1] })), ["/a"]);
        assert_eq!(found(json!({ "a": [1, 2], "b~/": 0 })), ["/b~0~1"]);
    }
}
