//! `resource-limits` and amounts.

use std::collections::BTreeSet;

use anyhow::Result;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::claim::{About, Claim, Stance, Subject, Trouble, Wrong};
use crate::make::{chance, created, field_of, one, pod, subject};
use crate::room::Stage;
use crate::rules::{Change, Rules, Said};

/// Amounts are read and compared as the API server reads and compares them.
pub(super) struct Quantities;

/// How many billionths one is.
const ONE: u128 = 1_000_000_000;

/// The decimal suffixes, each with its power of ten over a billionth.
const DECIMAL: [(&str, u32); 16] = [
    ("n", 0),
    ("u", 3),
    ("m", 6),
    ("", 9),
    ("", 9),
    ("", 9),
    ("k", 12),
    ("M", 15),
    ("G", 18),
    ("T", 21),
    ("P", 24),
    ("E", 27),
    ("e-3", 6),
    ("E+3", 12),
    ("e6", 15),
    ("e09", 18),
];

/// The binary suffixes, in the order of their powers of 1024.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Texts at the edges of what is a quantity.
const EDGES: [&str; 36] = [
    "",
    ".",
    "+",
    "-",
    "Ki",
    "1.",
    ".5",
    "5e",
    "1E",
    "1e3",
    "1E3",
    "1ee3",
    "0x10",
    "1_000",
    "1,5",
    "1K",
    "1ki",
    "1 Gi",
    "--1",
    "-0",
    "0Ei",
    "8Ei",
    "7.9999999999Ei",
    "9223372036854775807",
    "9223372036854775808",
    "1e-10",
    "1e+2",
    "1e+",
    "+.",
    "00",
    "-0.0000000001",
    "1mi",
    "1Mi5",
    "٣",
    "NaN",
    "1e18",
];

impl Claim for Quantities {
    fn about(&self) -> About {
        About {
            name: "quantities",
            policies: &["resource-limits"],
            claims: "An amount that `resource-limits` cannot read is one that the API server cannot read, one that it calls negative is \
                     refused as negative, and a request is above its limit for the rule exactly where the API server refuses the pod for that.",
            tried: "a pod with a request and a limit is created as a dry run, and each reason for which the API server refuses it is compared \
                    with the rule's findings at the same place. The amounts are equal, or differ by as little as a billionth, or a thousandth, or \
                    greatly, and are written with every suffix, exponents, signs, zeros before and behind, blanks, as texts and as numbers; some are \
                    garbled.",
            count: 2000,
            at_once: 16,
            codes: &["request-above-limit", "malformed"],
        }
    }

    fn cases(&self) -> Result<Vec<Subject>> {
        let kinds = ["Pod", "StatefulSet", "Deployment", "DaemonSet", "Job", "CronJob", "ReplicaSet"];
        let cases = created("resource-limits", &kinds)?;
        let pods = cases.into_iter().filter_map(|case| {
            let mut subject = subject(case);
            subject.objects = vec![pod(&subject.objects[0])?];
            subject.settings = settings();
            Some(subject)
        });
        Ok(pods.collect())
    }

    fn generate(&self, random: &mut Rng) -> Subject {
        let request = amount(random);
        let limit = near(random, request);
        let texts = [request, limit].map(|amount| {
            let text = written(random, amount);
            if chance(random, 4) { garbled(random, &text) } else { (text, true) }
        });
        let is_plain = texts.iter().all(|(_, is_plain)| *is_plain);
        let [request_text, limit_text] = texts.map(|(text, _)| value(random, text));
        let of_pod = chance(random, 15);
        let resource = match random.u32(..10) {
            0 if !of_pod => "ephemeral-storage",
            0..5 => "memory",
            _ => "cpu",
        };
        let resources = json!({ "requests": { resource: request_text }, "limits": { resource: limit_text } });
        let mut spec = json!({ "containers": [{ "name": "member", "image": "zookeeper:3.9" }] });
        let holder = if of_pod { &mut spec } else { &mut spec["containers"][0] };
        holder["resources"] = resources;
        // What both really are, for the rules that are wrong on purpose: in billionths.
        let facts =
            if is_plain { json!({ "request": request.to_string(), "limit": limit.to_string() }) } else { Value::Null };
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "member" }, "spec": spec });
        Subject { name: String::new(), objects: vec![pod], settings: settings(), facts }
    }

    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said> {
        rules.ask("resource-limits", &subject.settings, Change::Create(&subject.objects[0]), &[])
    }

    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>> {
        async move {
            let mut pod = subject.objects[0].clone();
            pod["metadata"]["namespace"] = "default".into();
            let Err(refusal) = stage.api.dry_run(&pod).await else {
                return Ok(json!({ "read": true, "negative": false, "above": [] }));
            };
            match refusal.code {
                400 if ["quantit", "resources"].iter().any(|word| refusal.message.contains(word)) => {
                    Ok(json!({ "read": false, "why": refusal.message }))
                }
                422 => {
                    let is_negative = |message: &str| message.contains("must be greater than or equal to 0");
                    let negative = refusal.causes.iter().any(|cause| is_negative(&cause.message));
                    let above: BTreeSet<String> = refusal
                        .causes
                        .iter()
                        .filter(|cause| cause.message.contains("must be less than or equal to "))
                        .filter_map(|cause| {
                            let resource =
                                cause.message.split("must be less than or equal to ").nth(1)?.split(' ').next()?;
                            // "of pod limits" is said of the sum of the containers.
                            is_compared(resource).then(|| format!("{}.{resource}", cause.field))
                        })
                        .collect();
                    Ok(json!({ "read": true, "negative": negative, "above": above, "why": refusal.message }))
                }
                _ => Err(refusal.into()),
            }
        }
        .boxed()
    }

    fn stance(&self, _subject: &Subject, said: &Said) -> Stance {
        if said.denies("request-above-limit") || said.denies("malformed") { Stance::Denies } else { Stance::Accepts }
    }

    fn contradiction(&self, _subject: &Subject, said: &Said, seen: &Value) -> Option<String> {
        let malformed = said.findings.iter().find(|found| found.code == "malformed");
        let is_negative = malformed.is_some_and(|found| found.message.contains("must be greater than or equal to 0"));
        let is_read = malformed.is_none() || is_negative;
        if is_read != (seen["read"] == true) {
            let found = malformed.map_or("nothing", |found| found.message.as_str());
            return Some(format!("the rule finds {found}, the API server {}", seen["why"]));
        }
        if !is_read {
            return None;
        }
        if is_negative != (seen["negative"] == true) {
            return Some("one holds it to be negative, the other does not".to_owned());
        }
        let told = said.findings.iter().filter(|found| found.code == "request-above-limit");
        let told: BTreeSet<String> = told.filter_map(|found| field_of(&found.path)).collect();
        // What a pod does not ask for itself is the sum of what its containers ask for, and has a code of its own.
        let is_of_sum = |place: &str| {
            let resource = place.strip_prefix("spec.resources.requests.");
            let is_told = |resource: &str| {
                said.findings
                    .iter()
                    .any(|found| found.code == "above-pod" && found.path.ends_with(&format!("/{resource}")))
            };
            resource.is_some_and(is_told)
        };
        let above = seen["above"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let above: BTreeSet<String> = above.filter(|place| !is_of_sum(place)).map(str::to_owned).collect();
        // Of what is negative nothing more is told.
        (!is_negative && told != above)
            .then(|| format!("above their limits are {told:?} for the rule, {above:?} for the API server"))
    }

    fn wrong(&self) -> Vec<Wrong> {
        vec![
            Wrong {
                name: "amounts are compared in 64 bits of floating point",
                says: |subject, said| {
                    let (Some(request), Some(limit)) = amounts(subject) else { return said.clone() };
                    #[expect(clippy::cast_precision_loss, reason = "this is what is wrong")]
                    compared(said, request as f64 > limit as f64)
                },
            },
            Wrong {
                name: "parts of a thousandth count",
                says: |subject, said| {
                    let (Some(request), Some(limit)) = amounts(subject) else { return said.clone() };
                    compared(said, request > limit)
                },
            },
            Wrong {
                name: "an amount may be negative",
                says: |_, said| {
                    let is_negative = said
                        .findings
                        .iter()
                        .any(|found| found.code == "malformed" && found.message.contains("greater than or equal to 0"));
                    if is_negative { said.but(true) } else { said.clone() }
                },
            },
            Wrong {
                name: "a number with an exponent is no quantity",
                says: |subject, said| {
                    let texts = pair(&subject.objects[0]).map(|value| value.as_str().unwrap_or_default().to_owned());
                    let has_exponent =
                        |text: &String| text.contains(['e', 'E']) && text.ends_with(|last: char| last.is_ascii_digit());
                    if texts.iter().any(has_exponent) && !said.denies("malformed") {
                        malformed("must be a quantity")
                    } else {
                        said.clone()
                    }
                },
            },
            Wrong {
                name: "Ki is a thousand",
                says: |subject, said| {
                    let texts = pair(&subject.objects[0]).map(|value| value.as_str().unwrap_or_default().to_owned());
                    let (Some(request), Some(limit)) = amounts(subject) else { return said.clone() };
                    let [request, limit] = [(request, &texts[0]), (limit, &texts[1])].map(|(amount, text)| {
                        let power = BINARY.iter().position(|suffix| text.contains(suffix));
                        power.map_or(amount, |power| {
                            let power = u32::try_from(power).unwrap_or(0) + 1;
                            amount / 1024_u128.pow(power) * 1000_u128.pow(power)
                        })
                    });
                    compared(said, request > limit)
                },
            },
        ]
    }
}

/// Nothing is asked for but what Kubernetes itself asks for.
fn settings() -> Value {
    let optional = json!({ "requests": "optional", "limits": "optional" });
    json!({ "cpu": optional, "memory": optional, "ephemeralStorage": optional })
}

/// Whether the rule compares this resource.
fn is_compared(resource: &str) -> bool {
    ["cpu", "memory", "ephemeral-storage"].contains(&resource)
}

/// The request and the limit of the pod.
fn pair(pod: &Value) -> [Value; 2] {
    let of = |resources: &Value| {
        ["requests", "limits"]
            .map(|list| resources[list].as_object().and_then(|list| list.values().next()).cloned().unwrap_or_default())
    };
    let own = &pod["spec"]["resources"];
    of(if own.is_object() { own } else { &pod["spec"]["containers"][0]["resources"] })
}

/// What both really are, in billionths.
fn amounts(subject: &Subject) -> (Option<u128>, Option<u128>) {
    let of = |name: &str| subject.facts[name].as_str().and_then(|text| text.parse().ok());
    (of("request"), of("limit"))
}

/// What a rule says that compares otherwise.
fn compared(said: &Said, is_above: bool) -> Said {
    if said.denies("malformed") || is_above == said.denies("request-above-limit") {
        return said.clone();
    }
    said.but(!is_above)
}

fn malformed(message: &str) -> Said {
    let found = crate::rules::Found {
        code: "malformed".to_owned(),
        level: "error".to_owned(),
        message: message.to_owned(),
        ..Default::default()
    };
    Said { findings: vec![found], ..Said::default() }
}

/// An amount in billionths.
fn amount(random: &mut Rng) -> u128 {
    let decimal = one(random, &DECIMAL).map_or(ONE, |(_, power)| 10_u128.pow(power));
    let binary = 1024_u128.pow(random.u32(1..=6)) * ONE;
    let unit = if chance(random, 40) { binary } else { decimal };
    let number = match random.u32(..10) {
        0 => 0,
        1..6 => random.u128(1..=16),
        6..8 => random.u128(1..=5000),
        _ => random.u128(1..=10_000_000_000),
    };
    let part = if chance(random, 15) { unit / one(random, &[2, 4, 8, 10, 1000]).unwrap_or(2) } else { 0 };
    number * unit + part
}

/// The same, or one that differs by little, or by a lot.
fn near(random: &mut Rng, amount: u128) -> u128 {
    let by = match random.u32(..12) {
        0..3 => 0,
        3 => 1,
        4 => random.u128(1..1_000_000),
        5 => 1_000_000,
        6 => random.u128(1_000_000..=ONE),
        7 => ONE,
        8 => amount / 1000,
        9 => amount / 42,
        _ => return self::amount(random),
    };
    if random.bool() { amount + by } else { amount.saturating_sub(by) }
}

/// The amount as a text: with one of the suffixes, and with what changes nothing.
fn written(random: &mut Rng, amount: u128) -> String {
    let (unit, suffix) = if chance(random, 35) {
        let power = random.usize(..BINARY.len());
        (1024_u128.pow(u32::try_from(power).unwrap_or(0) + 1) * ONE, BINARY[power])
    } else {
        let (suffix, power) = one(random, &DECIMAL).unwrap_or(("", 9));
        (10_u128.pow(power), suffix)
    };
    let mut digits = (amount / unit).to_string();
    let mut rest = amount % unit;
    if rest > 0 {
        digits.push('.');
    }
    // A part of a power of 1024 ends after ten digits for each of them.
    while rest > 0 {
        rest *= 10;
        digits.push_str(&(rest / unit).to_string());
        rest %= unit;
    }
    if !digits.contains('.') && chance(random, 10) {
        digits.push('.');
    }
    if digits.contains('.') && chance(random, 20) {
        digits.push_str("000");
    }
    let before = if chance(random, 10) { "00" } else { "" };
    let sign = if chance(random, 10) { "+" } else { "" };
    let [left, right] = [(); 2].map(|()| if chance(random, 4) { " " } else { "" });
    format!("{left}{sign}{before}{digits}{suffix}{right}")
}

/// Another text, of which nothing is known but that it is nearly a quantity, or less than nothing.
fn garbled(random: &mut Rng, text: &str) -> (String, bool) {
    let text = match random.u32(..4) {
        0 => format!("-{}", text.trim_start_matches(['+', ' '])),
        1 => one(random, &EDGES).unwrap_or_default().to_owned(),
        _ => {
            let mut characters: Vec<char> = text.chars().collect();
            let at = random.usize(..=characters.len());
            let inserted = one(random, &['e', 'E', 'i', 'K', 'k', 'm', 'n', '.', '+', '-', ' ', '0', '9', ',']);
            if random.bool() && at < characters.len() {
                characters.remove(at);
            } else if let Some(inserted) = inserted {
                characters.insert(at, inserted);
            }
            characters.into_iter().collect()
        }
    };
    (text, false)
}

/// A text, or a number where it can be one.
fn value(random: &mut Rng, text: String) -> Value {
    if chance(random, 10)
        && let Ok(number @ Value::Number(_)) = serde_json::from_str(text.trim())
        && format!("{number}") == text
    {
        return number;
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_exactly() {
        let mut random = Rng::with_seed(7);
        let mut binary = 0;
        for _ in 0..500 {
            let amount = amount(&mut random);
            let text = written(&mut random, amount);
            let text = text.trim().trim_start_matches('+');
            let Some((power, suffix)) = BINARY.iter().enumerate().find(|(_, suffix)| text.ends_with(**suffix)) else {
                continue;
            };
            binary += 1;
            let number = text.strip_suffix(suffix).unwrap();
            let (whole, part) = number.split_once('.').unwrap_or((number, ""));
            let unit = 1024_u128.pow(u32::try_from(power).unwrap() + 1) * ONE;
            let mut found = whole.parse::<u128>().unwrap() * unit;
            let mut place = unit;
            // Exact as long as the digits divide the unit; the rest is below a billionth.
            for digit in part.bytes().map(|byte| u128::from(byte - b'0')) {
                found += digit * place / 10;
                place /= 10;
            }
            assert!(amount.abs_diff(found) <= 100, "{text}: {amount} {found}");
        }
        assert!(binary > 100);
    }
}
