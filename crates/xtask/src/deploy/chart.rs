//! The parts of the Helm chart that follow from the policies.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{CHART, Policy, part, rules, schema, whole};
use crate::generate::{COMMAND, Derived, MARKS, between};
use crate::yaml::Yaml;

pub(super) fn derived(root: &Path, policies: &[Policy]) -> Result<Vec<Derived>> {
    // One version for all: that of the workspace.
    let version = policies.first().map_or("0.0.0", |policy| policy.version.as_str());
    let marks = ("# policies:begin", "# policies:end");
    let table = table(policies)?;
    Ok(vec![
        part(root, &format!("{CHART}/Chart.yaml"), |text| versioned(text, version))?,
        whole(root, &format!("{CHART}/policies.yaml"), facts(policies)?),
        part(root, &format!("{CHART}/values.yaml"), |text| between("values.yaml", marks, text, &values(policies)))?,
        whole(root, &format!("{CHART}/values.schema.json"), schema::of_values(policies)?),
        part(root, &format!("{CHART}/README.md"), |text| between("the chart's README.md", MARKS, text, &table))?,
    ])
}

/// What the templates read: all that differs from policy to policy.
fn facts(policies: &[Policy]) -> Result<String> {
    let mut facts = Map::new();
    for policy in policies {
        let fact = json!({
            "version": policy.version,
            "severity": policy.severity()?,
            "category": policy.category()?,
            "mutates": policy.metadata.mutating,
            "backgroundAudit": policy.metadata.background_audit,
            "rules": policy.metadata.rules,
            "contextAwareResources": policy.look_ups(),
            "grants": rules(&policy.grants()?),
        });
        facts.insert(policy.name.clone(), fact);
    }
    Ok(format!(
        "# What the policies ask for. Written by {COMMAND} from their metadata.yml.\n{}",
        Yaml::from(&Value::Object(facts))
    ))
}

/// An entry for each policy, with what most people change.
fn values(policies: &[Policy]) -> String {
    let mut text = String::new();
    for policy in policies {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}:\n    enabled: true", policy.name);
        if policy.metadata.mutating {
            text.push_str("    variant: validating\n");
        }
        text.push_str("    settings: {}\n");
    }
    text + "  "
}

/// The chart's file with this version of the chart and of what it installs.
fn versioned(text: &str, version: &str) -> Result<String> {
    let mut found = 0;
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(':') {
            Some((key @ ("version" | "appVersion"), _)) => {
                found += 1;
                format!("{key}: {version}")
            }
            _ => line.to_owned(),
        })
        .collect();
    (found == 2).then(|| lines.join("\n") + "\n").context("Chart.yaml must have one version and one appVersion")
}

/// The table of the chart's README: what each policy asks of the cluster.
fn table(policies: &[Policy]) -> Result<String> {
    let mut table = "| policy | severity | variants | looks up | its settings |\n|---|---|---|---|---|\n".to_owned();
    for policy in policies {
        let variants = if policy.metadata.mutating { "validating, mutating, both" } else { "validating" };
        let look_ups: Vec<String> = policy.grants()?.into_keys().map(|(_, resource)| resource).collect();
        let look_ups = if look_ups.is_empty() { "nothing".to_owned() } else { look_ups.join(", ") };
        let settings: Vec<String> = schema::own(policy)?.iter().map(|key| format!("`{key}`")).collect();
        let name = &policy.name;
        let _ = writeln!(
            table,
            "| [`{name}`](https://github.com/quorate/quorate/blob/main/policies/{name}/README.md) | {} | {variants} | {look_ups} | {} |",
            policy.severity()?,
            settings.join(", "),
        );
    }
    Ok(table)
}
