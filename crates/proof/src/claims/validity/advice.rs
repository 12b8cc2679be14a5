//! Following the advice of findings, as a person would.

use anyhow::Result;
use serde_json::{Value, json};

use crate::make::{patched, pod_spec, remove, set};
use crate::rules::{Change, Found, Rules};

/// More advices than any object here has findings: who still has some then goes round in circles.
const STEPS: usize = 100;

/// Follows the first advice that changes something, asks again, and so on. Gives the object at the end, and what is still denied.
pub(super) fn follow(rules: &Rules, policy: &str, settings: &Value, object: &Value) -> Result<(Value, Vec<String>)> {
    let mut object = object.clone();
    let mut left = Vec::new();
    for _ in 0..STEPS {
        let said = rules.ask(policy, settings, Change::Create(&object), &[])?;
        let errors = said.findings.iter().filter(|found| found.level == "error");
        left = errors.map(|found| format!("{}; {}", found.message, found.advice)).collect();
        let next = said.findings.iter().find_map(|found| {
            let mended = mended(&object, found, settings)?;
            (mended != object).then_some(mended)
        });
        let Some(next) = next else { break };
        object = next;
    }
    Ok((object, left))
}

/// The object with this advice followed, by the patch or by hand.
fn mended(object: &Value, found: &Found, settings: &Value) -> Option<Value> {
    if let Some(patch) = found.patch.as_ref().filter(|patch| patch.as_array().is_some_and(|patch| !patch.is_empty())) {
        return patched(object, patch);
    }
    let mut object = object.clone();
    let path = found.path.as_str();
    let (parent, last) = path.rsplit_once('/')?;
    match found.code.as_str() {
        "missing-liveness" | "missing-readiness" | "missing-startup" => {
            let probe = sound_probe(object.pointer(parent)?, &found.advice, last);
            set(&mut object, path, probe);
        }
        "refused-probe" | "liveness-not-advised" | "forbidden-probe" | "another-host"
            if found.advice.starts_with("remove") =>
        {
            remove(&mut object, path);
        }
        "refused-probe" if found.advice.starts_with("leave only one") => drop(remove(&mut object, path)),
        "refused-probe" => {
            let place = probe_place(path)?;
            let (container, kind) = place.rsplit_once('/')?;
            let probe = sound_probe(object.pointer(container)?, "", kind);
            set(&mut object, place, probe);
        }
        "unknown-port" => {
            let (container, _) = probe_place(path)?.rsplit_once('/')?;
            let port = port_of(object.pointer(container)?);
            set(&mut object, path, port);
        }
        "liveness-asks-quorum" => {
            let place = probe_place(path)?;
            let (container, _) = place.rsplit_once('/')?;
            let probe = json!({ "tcpSocket": { "port": port_of(object.pointer(container)?) } });
            set(&mut object, place, probe);
        }
        "timeout-above-period" => {
            let seconds = number_after(&found.message, "is to be asked every ")?;
            set(&mut object, path, seconds.into());
        }
        "identical-probes" | "short-startup" => {
            let failures = number_after(&found.advice, "raise its failureThreshold to ")?;
            set(&mut object, &format!("{path}/failureThreshold"), failures.into());
        }
        "out-of-bounds" => {
            let floor = number_after(&found.message, "must be at least ");
            let ceiling = number_after(&found.message, "must be at most ");
            if last.ends_with("Probe") {
                let period = object.pointer(path)?["periodSeconds"].as_i64().filter(|period| *period > 0).unwrap_or(10);
                let failures =
                    floor.map(|floor| (floor + period - 1) / period).or(ceiling.map(|ceiling| ceiling / period))?;
                set(&mut object, &format!("{path}/failureThreshold"), failures.max(1).into());
                if failures < 1 {
                    set(&mut object, &format!("{path}/periodSeconds"), ceiling?.into());
                }
            } else {
                set(&mut object, path, floor.or(ceiling)?.into());
            }
        }
        "malformed" => drop(remove(&mut object, path)),
        _ => return resources(object, found, settings),
    }
    Some(object)
}

/// The advice of `resource-limits`.
fn resources(mut object: Value, found: &Found, settings: &Value) -> Option<Value> {
    let path = found.path.as_str();
    let (list, resource) = path.rsplit_once('/')?;
    let demand = &settings[if resource == "ephemeral-storage" { "ephemeralStorage" } else { resource }];
    let place = list.rsplit_once('/').map_or("", |(place, _)| place);
    let of = |object: &Value, list: &str| {
        let amount = object.pointer(&format!("{place}/{list}/{resource}"));
        amount.filter(|amount| !is_nothing(amount)).cloned()
    };
    let put =
        |object: &mut Value, list: &str, amount: Value| set(object, &format!("{place}/{list}/{resource}"), amount);
    let usual = || {
        let named = ["min", "default", "max"].into_iter().map(|name| &demand[name]).find(|amount| !amount.is_null());
        let own = json!(match resource {
            "cpu" => "100m",
            "memory" => "64Mi",
            _ => "1Gi",
        });
        named.cloned().unwrap_or(own)
    };
    match found.code.as_str() {
        "missing-request" => {
            let amount = of(&object, "limits").unwrap_or_else(usual);
            put(&mut object, "requests", amount);
        }
        "missing-limit" => {
            let amount = of(&object, "requests").unwrap_or_else(usual);
            put(&mut object, "limits", amount);
            // A request of nothing that somebody wrote does not go away by a limit.
            if of(&object, "requests").is_none() {
                remove(&mut object, &format!("{place}/requests/{resource}"));
            }
        }
        "request-above-limit" => {
            // What a pod asks for may follow from its containers.
            let amount = quoted(&found.message)?;
            put(&mut object, "limits", amount);
        }
        "below-min" => {
            put(&mut object, "requests", demand["min"].clone());
            put(&mut object, "limits", demand["max"].as_str().map_or_else(|| demand["min"].clone(), Value::from));
        }
        "above-max" => {
            for list in ["limits", "requests"] {
                put(&mut object, list, demand["max"].clone());
            }
        }
        "wide-ratio" => {
            let amount = of(&object, "limits")?;
            put(&mut object, "requests", amount);
        }
        "not-guaranteed" if place.ends_with("/spec/resources") => drop(remove(&mut object, place)),
        "not-guaranteed" => {
            let amount = of(&object, "limits").or_else(|| of(&object, "requests")).unwrap_or_else(usual);
            for list in ["limits", "requests"] {
                put(&mut object, list, amount.clone());
            }
        }
        "empty-pod-resources" => drop(remove(&mut object, path)),
        "above-pod" => {
            // The container's amount, or the sum that the reason ends with, becomes the pod's.
            let spec = pod_spec(&object)?;
            let amount = if place == format!("{spec}/resources") {
                Value::from(found.message.split("ask for together, ").nth(1)?.split(';').next()?)
            } else {
                quoted(&found.message)?
            };
            let list = list.rsplit_once('/')?.1;
            let lists = if list == "requests" && place == format!("{spec}/resources") { "requests" } else { "limits" };
            set(&mut object, &format!("{spec}/resources/{lists}/{resource}"), amount);
        }
        "heap-without-room" => {
            if let Some(mebibytes) = number_after(&found.advice, "raise the memory limit to ") {
                let spec = pod_spec(&object)?;
                let mut inside = path.strip_prefix(spec)?.split('/').skip(1);
                let container = format!("{spec}/{}/{}", inside.next()?, inside.next()?);
                // The smaller limit counts, the container's or the pod's.
                let limit = found.message.split("memory limit, ").nth(1)?.split(", beside").next()?;
                let own = object.pointer(&format!("{container}/resources/limits/memory"));
                let is_own =
                    own.is_some_and(|own| own.as_str().map_or_else(|| own.to_string(), str::to_owned) == limit);
                let container = if is_own { container } else { spec.to_owned() };
                set(&mut object, &format!("{container}/resources/limits/memory"), format!("{mebibytes}Mi").into());
            } else {
                set(&mut object, path, "".into());
            }
        }
        _ => return None,
    }
    Some(object)
}

fn is_nothing(amount: &Value) -> bool {
    amount.is_null() || amount == "0" || amount == 0
}

/// The value that a finding complains of.
fn quoted(message: &str) -> Option<Value> {
    message.split("Invalid value: \"").nth(1)?.split('"').next().map(Value::from)
}

/// The number that follows these words.
fn number_after(text: &str, words: &str) -> Option<i64> {
    let (_, rest) = text.split_once(words)?;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The pointer to the probe that this pointer leads into.
fn probe_place(path: &str) -> Option<&str> {
    Some(&path[..path.find("Probe")? + "Probe".len()])
}

fn port_of(container: &Value) -> Value {
    let named = container["ports"].as_array().into_iter().flatten().find(|port| port["protocol"].is_null());
    named.map_or(json!(8080), |port| port["containerPort"].clone())
}

/// A probe as the advice says, or one that anybody would write; liveness more patient than readiness, and startup than both.
fn sound_probe(container: &Value, advice: &str, kind: &str) -> Value {
    let named = advice.split_once("tcpSocket: {port: ").and_then(|(_, rest)| rest.split('}').next());
    let path = advice.split_once("httpGet of ").map(|(_, path)| path);
    let mut probe = match (named, path) {
        (Some(port), _) => {
            json!({ "tcpSocket": { "port": port.parse::<i64>().map_or_else(|_| port.into(), Value::from) } })
        }
        (None, Some(path)) => json!({ "httpGet": { "path": path, "port": port_of(container) } }),
        _ => json!({ "tcpSocket": { "port": port_of(container) } }),
    };
    match kind {
        "livenessProbe" => probe["failureThreshold"] = 6.into(),
        "startupProbe" => probe["failureThreshold"] = 60.into(),
        _ => {}
    }
    probe
}
