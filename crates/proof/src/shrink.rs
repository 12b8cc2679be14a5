//! Makes a counterexample small: removes what it does not need, as long as it stays one.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::claim::{Claim, Subject};
use crate::drive::Contradiction;
use crate::make::remove;
use crate::room::Stage;
use crate::rules::Rules;

/// Makes it as small as it gets within `limit`.
pub(crate) async fn make_small(
    claim: &dyn Claim,
    stage: &Stage,
    rules: &Rules,
    contradiction: &mut Contradiction,
    limit: Duration,
) {
    let began = Instant::now();
    let mut is_smaller = true;
    while is_smaller {
        is_smaller = false;
        for candidate in candidates(&contradiction.subject) {
            if began.elapsed() > limit {
                return;
            }
            let Ok(said) = claim.ask(rules, &candidate) else { continue };
            let Ok(seen) = claim.observe(stage, &candidate).await else { continue };
            if let Some(why) = claim.contradiction(&candidate, &said, &seen) {
                *contradiction = Contradiction { subject: candidate, why, said, seen };
                is_smaller = true;
                break;
            }
        }
    }
}

/// Everything that has one thing less, the largest things first.
fn candidates(subject: &Subject) -> Vec<Subject> {
    let mut all = Vec::new();
    for index in 1..subject.objects.len() {
        let mut candidate = subject.clone();
        candidate.objects.remove(index);
        all.push(candidate);
    }
    for (index, object) in subject.objects.iter().enumerate() {
        let mut places = Vec::new();
        removable(object, "", &mut places);
        for place in places {
            let mut candidate = subject.clone();
            if let Some(object) = candidate.objects.get_mut(index)
                && remove(object, &place)
            {
                all.push(candidate);
            }
        }
    }
    all
}

/// Places of fields and items, from the outside to the inside. What every object needs stays.
fn removable(value: &Value, at: &str, places: &mut Vec<String>) {
    let needed = ["/apiVersion", "/kind", "/metadata", "/metadata/name", "/spec", "/spec/template"];
    if !at.is_empty() && !needed.contains(&at) {
        places.push(at.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                removable(field, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                removable(item, &format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_candidate_has_one_thing_less_and_all_are_there() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "labels": { "a/b~c": "1" } },
            "spec": { "containers": [{ "name": "x" }, { "name": "y" }] },
        });
        let subject = Subject {
            name: String::new(),
            objects: vec![object.clone(), json!({})],
            settings: Value::Null,
            facts: Value::Null,
        };
        let found = candidates(&subject);
        assert_eq!(found[0].objects, std::slice::from_ref(&object), "whole objects first, never the judged one");
        assert!(found.iter().all(|candidate| candidate != &subject));
        let without = |place: &str| {
            let mut object = object.clone();
            assert!(remove(&mut object, place), "{place}");
            found.iter().any(|candidate| candidate.objects[0] == object)
        };
        for place in ["/metadata/labels", "/metadata/labels/a~1b~0c", "/spec/containers/0", "/spec/containers/1/name"] {
            assert!(without(place), "{place}");
        }
        assert!(!without("/metadata/name"));
        assert_eq!(found.len(), 1 + 7);
    }
}
