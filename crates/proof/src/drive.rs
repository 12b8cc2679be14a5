//! Tries claims: cases and generated objects, many at once, and what contradicts made small.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
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
    pub unplayable: BTreeMap<String, usize>,
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

/// Tries one claim.
///
/// # Errors
/// The rule cannot be asked, or a play went wrong: then nothing is known.
pub async fn run(claim: &dyn Claim, stage: &Stage, rules: &Rules, extent: Extent) -> Result<Tally> {
    let about = claim.about();
    let began = Instant::now();
    let mut tally = Tally {
        about,
        cases: 0,
        generated: 0,
        accepted: 0,
        denied: 0,
        unplayable: BTreeMap::new(),
        contradictions: Vec::new(),
        caught: claim.wrong().iter().map(|wrong| (wrong.name, 0)).collect(),
        codes: BTreeSet::new(),
        stories: Stories::new(),
        took: Duration::ZERO,
    };
    let cases = if extent.only.is_some() { Vec::new() } else { claim.cases()? };
    for tried in try_all(claim, stage, rules, cases.into_iter()).await {
        take(&mut tally, claim, tried?, true)?;
    }
    let wanted = extent.only.map_or(extent.count.unwrap_or(about.count), |_| 1);
    let mut numbers = extent.only.unwrap_or(0)..;
    for _ in 0..TRIES {
        // Whole batches: what is under way leaves its room by itself.
        let subjects = numbers.by_ref().take(wanted - tally.generated);
        // Made one by one as they are tried, so that an interrupt is heard in between.
        let subjects = subjects.map(|number| generate(claim, extent.seed, number));
        for tried in try_all(claim, stage, rules, subjects).await {
            take(&mut tally, claim, tried?, false)?;
        }
        if tally.generated == wanted || extent.only.is_some() {
            break;
        }
    }
    if tally.generated < wanted {
        bail!("{}: of {wanted} objects only {} could be played: {:?}", about.name, tally.generated, tally.unplayable);
    }
    for contradiction in tally.contradictions.iter_mut().take(SHOWN) {
        shrink::make_small(claim, stage, rules, contradiction, SHRINK_LIMIT).await;
    }
    tally.took = began.elapsed();
    Ok(tally)
}

/// In the order of the subjects, so that the same ones count in every run.
async fn try_all(
    claim: &dyn Claim,
    stage: &Stage,
    rules: &Rules,
    subjects: impl Iterator<Item = Subject>,
) -> Vec<Result<Tried>> {
    let tried = stream::iter(subjects).map(|subject| async move {
        let said = claim.ask(rules, &subject)?;
        let seen = claim.observe(stage, &subject).await;
        Ok(Tried { subject, said, seen })
    });
    tried.buffered(claim.about().at_once).collect().await
}

fn take(tally: &mut Tally, claim: &dyn Claim, tried: Tried, is_case: bool) -> Result<()> {
    let Tried { subject, said, seen } = tried;
    let seen = match seen {
        Ok(seen) => seen,
        Err(Trouble::Unplayable(why)) => {
            *tally.unplayable.entry(summary(&why)).or_default() += 1;
            return Ok(());
        }
        Err(Trouble::Failed(error)) => bail!("{}: {}: {error:#}", tally.about.name, subject.name),
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
        return Ok(());
    }
    for policy in tally.about.policies.iter().take(1) {
        stories::remember(&mut tally.stories, policy, &subject, &said, &seen, is_case);
    }
    for (wrong, (_, caught)) in claim.wrong().iter().zip(&mut tally.caught) {
        if claim.contradiction(&subject, &(wrong.says)(&subject, &said), &seen).is_some() {
            *caught += 1;
        }
    }
    Ok(())
}

fn generate(claim: &dyn Claim, seed: u64, number: u64) -> Subject {
    // Neighbouring seeds give unlike numbers only after some have been drawn.
    let mut random =
        Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xBF58_476D_1CE4_E5B9));
    let mut subject = claim.generate(&mut random);
    subject.name = format!("seed {seed}, object {number}");
    subject
}

/// The first words of why something is unplayable: names and numbers of single objects are of no interest.
fn summary(why: &str) -> String {
    let end = why.char_indices().nth(100).map_or(why.len(), |(end, _)| end);
    why[..end].to_owned()
}
