//! Tries claims: cases and generated objects, many at once, and what contradicts made small.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use futures::{StreamExt, stream};
use serde_json::Value;

use crate::claim::{About, Claim, Stance, Subject, Trouble};
use crate::room::Stage;
use crate::rules::{Rules, Said};
use crate::shrink;
use crate::stories::{self, Stories};

/// How many batches are made until enough objects could be played.
const TRIES: usize = 50;
/// How many contradictions of a claim are made small, and shown.
pub const SHOWN: usize = 3;
/// After how many plays that went wrong a claim is given up: then it is not the object.
const PATIENCE: usize = 5;
/// How long making one small may take.
const SHRINK_LIMIT: Duration = Duration::from_mins(1);

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The number that all generated objects follow from.
    pub seed: u64,
    /// How many generated objects instead of each claim's own count.
    pub count: Option<usize>,
    /// Only the generated object of this number.
    pub only: Option<u64>,
}

/// What came of a claim.
#[derive(Debug)]
pub struct Tally {
    /// The claim.
    pub about: About,
    /// How many cases were tried.
    pub cases: usize,
    /// How many generated objects were tried.
    pub generated: usize,
    /// Of the generated ones, those that the rule stands for, and those that it stands against.
    pub accepted: usize,
    /// See `accepted`.
    pub denied: usize,
    /// What could not be played, by why not.
    pub unplayable: BTreeMap<String, Unplayed>,
    /// Plays that went wrong: what they would have shown is not known, and the proof fails.
    pub broken: Vec<String>,
    /// Whether it was given up before all was tried.
    pub given_up: bool,
    /// What Kubernetes contradicted.
    pub contradictions: Vec<Contradiction>,
    /// How many objects each wrong rule was caught by.
    pub caught: Vec<(&'static str, usize)>,
    /// The codes that were found.
    pub codes: BTreeSet<String>,
    /// The failures that were seen, by policy and code.
    pub stories: Stories,
    /// How long it took.
    pub took: Duration,
}

/// How many could not be played for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unplayed {
    /// Of the cases.
    pub cases: usize,
    /// Of the generated objects; others were made in their place.
    pub generated: usize,
}

/// Something that Kubernetes does otherwise than a rule says.
#[derive(Debug)]
pub struct Contradiction {
    /// The object, as small as it was made.
    pub subject: Subject,
    /// In words.
    pub why: String,
    /// What the rule said.
    pub said: Said,
    /// What was seen.
    pub seen: Value,
}

impl Tally {
    /// What is wrong with this run; nothing where the claim holds, and where the run could have shown that it does not.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if !self.contradictions.is_empty() {
            failures.push(format!("contradicted by {} objects", self.contradictions.len()));
        }
        failures.extend(self.broken.iter().cloned());
        if self.given_up {
            failures.push("given up: not all was tried".to_owned());
            return failures;
        }
        if self.generated > 0 {
            for (name, count) in [("accepted", self.accepted), ("denied", self.denied)] {
                if count * 5 < self.generated {
                    failures.push(format!("only {count} of {} generated objects were {name}", self.generated));
                }
            }
            for (name, caught) in self.caught.iter().filter(|(_, caught)| *caught == 0) {
                failures.push(format!("the wrong rule \"{name}\" was not noticed ({caught} times)"));
            }
            for code in self.about.codes.iter().filter(|code| !self.codes.contains(**code)) {
                failures.push(format!("nothing had the finding {code}"));
            }
        }
        failures
    }

    /// Whether as many objects were generated as the claim is to be tried with.
    pub fn is_full(&self) -> bool {
        self.generated >= self.about.count
    }

    /// How many objects were tried.
    pub fn tried(&self) -> usize {
        self.cases + self.generated
    }
}

struct Tried {
    subject: Subject,
    said: Said,
    seen: Result<Value, Trouble>,
}

/// Tries one claim. What goes wrong on the way is in the tally, beside all that was found.
pub async fn run(claim: &dyn Claim, stage: &Stage, rules: &Rules, extent: Extent) -> Tally {
    let about = claim.about();
    let began = Instant::now();
    let mut tally = Tally {
        about,
        cases: 0,
        generated: 0,
        accepted: 0,
        denied: 0,
        unplayable: BTreeMap::new(),
        broken: Vec::new(),
        given_up: false,
        contradictions: Vec::new(),
        caught: claim.wrong().iter().map(|wrong| (wrong.name, 0)).collect(),
        codes: BTreeSet::new(),
        stories: Stories::new(),
        took: Duration::ZERO,
    };
    let cases = if extent.only.is_some() { Ok(Vec::new()) } else { claim.cases() };
    match cases {
        Ok(cases) => try_all(&mut tally, claim, stage, rules, cases.into_iter(), true).await,
        Err(error) => {
            tally.broken.push(format!("no cases: {error:#}"));
            tally.given_up = true;
        }
    }
    let wanted = extent.only.map_or(extent.count.unwrap_or(about.count), |_| 1);
    let mut numbers = extent.only.unwrap_or(0)..;
    for _ in 0..TRIES {
        if tally.generated == wanted || tally.given_up {
            break;
        }
        // Whole batches: what is under way leaves its room by itself.
        let subjects = numbers.by_ref().take(wanted - tally.generated);
        // Made one by one as they are tried, so that an interrupt is heard in between.
        let subjects = subjects.map(|number| generate(claim, extent.seed, number));
        try_all(&mut tally, claim, stage, rules, subjects, false).await;
        if extent.only.is_some() {
            break;
        }
    }
    if tally.generated < wanted && !tally.given_up {
        tally.broken.push(format!("of {wanted} objects only {} could be played", tally.generated));
    }
    if !tally.given_up {
        for contradiction in tally.contradictions.iter_mut().take(SHOWN) {
            shrink::make_small(claim, stage, rules, contradiction, SHRINK_LIMIT).await;
        }
    }
    tally.took = began.elapsed();
    tally
}

/// In the order of the subjects, so that the same ones count in every run.
async fn try_all(
    tally: &mut Tally,
    claim: &dyn Claim,
    stage: &Stage,
    rules: &Rules,
    subjects: impl Iterator<Item = Subject>,
    is_case: bool,
) {
    let broken = &AtomicUsize::new(tally.broken.len());
    // No more are begun then; what is under way ends, and leaves its room.
    let subjects = subjects.take_while(|_| broken.load(Ordering::Relaxed) < PATIENCE);
    let tried = stream::iter(subjects).map(|subject| async move {
        let said = claim.ask(rules, &subject);
        let seen = match &said {
            Ok(_) => claim.observe(stage, &subject).await,
            Err(_) => Err(Trouble::Unplayable(String::new())),
        };
        if said.is_err() || matches!(seen, Err(Trouble::Failed(_))) {
            broken.fetch_add(1, Ordering::Relaxed);
        }
        (subject, said, seen)
    });
    let tried: Vec<_> = tried.buffered(claim.about().at_once).collect().await;
    for (subject, said, seen) in tried {
        match said {
            Ok(said) => take(tally, claim, Tried { subject, said, seen }, is_case),
            Err(error) => tally.broken.push(format!("{}: the rule cannot be asked: {error:#}", subject.name)),
        }
    }
    tally.given_up |= tally.broken.len() >= PATIENCE;
}

fn take(tally: &mut Tally, claim: &dyn Claim, tried: Tried, is_case: bool) {
    let Tried { subject, said, seen } = tried;
    let seen = match seen {
        Ok(seen) => seen,
        Err(Trouble::Unplayable(why)) => {
            let unplayed = tally.unplayable.entry(summary(&why)).or_default();
            *(if is_case { &mut unplayed.cases } else { &mut unplayed.generated }) += 1;
            return;
        }
        Err(Trouble::Failed(error)) => {
            tally.broken.push(format!("{}: {error:#}", subject.name));
            return;
        }
    };
    if is_case {
        tally.cases += 1;
    } else {
        tally.generated += 1;
        match claim.stance(&subject, &said) {
            Stance::Accepts => tally.accepted += 1,
            Stance::Denies => tally.denied += 1,
            Stance::Silent => {}
        }
    }
    tally.codes.extend(said.findings.iter().map(|found| found.code.clone()));
    if let Some(why) = claim.contradiction(&subject, &said, &seen) {
        tally.contradictions.push(Contradiction { subject, why, said, seen });
        return;
    }
    for policy in tally.about.policies.iter().take(1) {
        stories::remember(&mut tally.stories, policy, &subject, &said, &seen, is_case);
    }
    for (wrong, (_, caught)) in claim.wrong().iter().zip(&mut tally.caught) {
        if claim.contradiction(&subject, &(wrong.says)(&subject, &said), &seen).is_some() {
            *caught += 1;
        }
    }
}

/// The generated object of this number.
pub(crate) fn generate(claim: &dyn Claim, seed: u64, number: u64) -> Subject {
    // Neighbouring seeds give unlike numbers only after some have been drawn.
    let mut random =
        Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xBF58_476D_1CE4_E5B9));
    let mut subject = claim.generate(&mut random);
    subject.name = format!("seed {seed}, object {number}");
    subject
}

/// What lies around the fields of a pod and its containers.
const OUTSIDE: [&str; 6] = ["spec.", "template.", "jobTemplate.", "metadata.", "containers[].", "initContainers[]."];

/// Why something is unplayable, without names and numbers of single objects.
fn summary(why: &str) -> String {
    if why.contains(" cannot be handled as ") {
        return "the API server cannot read it".to_owned();
    }
    let Some((_, causes)) = why.split_once(" is invalid: ") else {
        let end = why.char_indices().nth(100).map_or(why.len(), |(end, _)| end);
        return why[..end].to_owned();
    };
    // The first cause will do.
    let first = causes.trim_start_matches('[');
    let field = first.split_once(": ").map_or(first, |(field, _)| field);
    let mut place = String::new();
    for (index, part) in field.split('[').enumerate() {
        // What is in brackets is an index, or a key.
        let outside = if index == 0 { part } else { part.rsplit_once(']').map_or("", |(_, outside)| outside) };
        place = if index == 0 { outside.to_owned() } else { format!("{place}[]{outside}") };
    }
    // Whoever it is that makes the pods, and whichever container it is.
    let mut rest = place.as_str();
    while let Some(inner) = OUTSIDE.iter().find_map(|outside| rest.strip_prefix(outside)) {
        rest = inner;
    }
    format!("the API server refuses its {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_the_same_is_counted_together() {
        for why in [
            "Pod \"a\" is invalid: spec.containers[0].ports[1].name: Not found: \"data: x\"",
            "StatefulSet.apps \"b\" is invalid: [spec.template.spec.initContainers[2].ports[0].name: Required value, spec.x: Invalid value: 3]",
        ] {
            assert_eq!(summary(why), "the API server refuses its ports[].name");
        }
        let key = "Pod \"zk\" is invalid: metadata.annotations[example.com/a.b]: Invalid value: \"x\"";
        assert_eq!(summary(key), "the API server refuses its annotations[]");
        let read = "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number";
        assert_eq!(summary(read), "the API server cannot read it");
        assert_eq!(summary(&"x".repeat(200)).len(), 100);
    }
}
