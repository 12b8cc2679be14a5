//! What came of a run: a table for the terminal, and `docs/proof.md`.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde_json::json;

use crate::claim::About;
use crate::drive::{Contradiction, Tally, Unplayed};

/// What cannot be tried against a control plane with simulated nodes, and why.
const NOT_PROVABLE: [(&str, &str); 7] = [
    (
        "What a kubelet does",
        "no container runs: that a probe restarts a container, that a process under `runAsNonRoot` with uid 0 is refused, and that \
         memory above the limit kills are facts of the kubelet, which is played by kwok",
    ),
    (
        "A database's own election",
        "members are counted, not asked: that a majority of ready pods is a quorum is the vendor's promise, and a member that is ready may \
         still catch up",
    ),
    (
        "What ignores budgets",
        "the scheduler's preemption tries to honour a budget and does not have to, taints with `NoExecute` and a kubelet that runs out \
         of memory do not ask, and deletion of pods is no eviction: a budget binds those who ask",
    ),
    (
        "Two failures at once",
        "a drain while a node fails can take more members than either alone; each claim plays one of them",
    ),
    (
        "Storage",
        "claims and volumes are left out of what is played: a volume that can be mounted in one zone only also decides where a member \
         runs",
    ),
    ("Heap and memory", "that a Java heap fits under a limit is arithmetic about a process that does not run here"),
    (
        "Other schedulers and versions",
        "what is found holds for the version named above, with its default scheduler and its default plugins",
    ),
];

/// The findings of which no claim is made, and why.
pub const NOT_CLAIMED: [(&str, &str); 7] = [
    ("autoscaled-members", "an autoscaler goes by measured load, and none is measured here"),
    ("declared-not-voting", "it is about a label that people set"),
    ("exempted", "it is about what an administrator allows"),
    ("exemption-not-allowed", "it is about what an administrator allows"),
    ("no-fs-group", "who may write to a volume is known to the kubelet"),
    ("own-scheduler", "nothing is known of another scheduler"),
    ("too-many-members", "that more members make writes slower is a fact of the database"),
];

/// The table for the terminal.
pub fn table(tallies: &[Tally]) -> String {
    let mut text = format!(
        "{:<20} {:>6} {:>9} {:>6} {:>12} {:>9} {:>9} {:>12} {:>7}\n",
        "claim", "cases", "generated", "held", "contradicted", "accepted", "denied", "wrong rules", "seconds"
    );
    for tally in tallies {
        let caught = tally.caught.iter().filter(|(_, count)| *count > 0).count();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<20} {:>6} {:>9} {:>6} {:>12} {:>9} {:>9} {:>12} {:>7}",
            tally.about.name,
            tally.cases,
            tally.generated,
            tally.tried() - tally.contradictions.len(),
            tally.contradictions.len(),
            tally.accepted,
            tally.denied,
            format!("{caught} of {}", tally.caught.len()),
            tally.took.as_secs(),
        );
    }
    text
}

/// What could not be played, and why not: most first.
pub fn unplayed(tally: &Tally) -> Vec<String> {
    let mut all: Vec<(&String, &Unplayed)> = tally.unplayable.iter().collect();
    all.sort_by_key(|(why, unplayed)| (Reverse(unplayed.cases + unplayed.generated), *why));
    let line = |(why, Unplayed { cases, generated }): (&String, &Unplayed)| {
        let objects = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let generated = objects(*generated, "generated");
        let counts: Vec<String> =
            objects(*cases, if *cases == 1 { "case" } else { "cases" }).into_iter().chain(generated).collect();
        format!("{}: {why}", counts.join(", "))
    };
    all.into_iter().map(line).collect()
}

/// What a reader needs to find the fault.
pub fn contradiction(contradiction: &Contradiction) -> String {
    let Contradiction { subject, why, said, seen } = contradiction;
    let mut text = format!("{}\n  {why}\n  the rule said: {}\n  seen: {seen}\n", subject.name, json!(said));
    if !subject.settings.is_null() {
        let _ = writeln!(text, "  settings: {}", subject.settings);
    }
    if !subject.facts.is_null() {
        let _ = writeln!(text, "  facts: {}", subject.facts);
    }
    for object in &subject.objects {
        let _ = writeln!(text, "---\n{object:#}");
    }
    text
}

/// `docs/proof.md`.
pub fn page(tallies: &[Tally], version: &str, seed: u64) -> String {
    let mut text = format!(
        "# What was put to a real Kubernetes\n\n\
         <!-- Written by `make prove`; do not edit. -->\n\n\
         Each claim of the rules was tried against the API server, the scheduler, the controllers and the eviction API of Kubernetes \
         {version}, with nodes played by kwok: over the cases of `test-data` that can be played, and over generated objects (seed {seed}). \
         The rules are asked as they are shipped, as Wasm modules.\n\n\
         | Claim | Cases | Generated | Accepted | Denied | Contradicted |\n| --- | --: | --: | --: | --: | --: |\n"
    );
    for tally in tallies {
        let About { name, .. } = tally.about;
        let _ = writeln!(
            text,
            "| [{name}](#{name}) | {} | {} | {} | {} | {} |",
            tally.cases,
            tally.generated,
            tally.accepted,
            tally.denied,
            tally.contradictions.len()
        );
    }
    text.push_str(
        "\nAccepted and denied count the generated objects; of the others the rule claims nothing. A proof that cannot fail shows nothing: \
         each claim is also tried with rules that are wrong on purpose, and all of these must be caught.\n",
    );
    for tally in tallies {
        let about = tally.about;
        let policies: Vec<String> =
            about.policies.iter().map(|policy| format!("[`{policy}`](../policies/{policy}/README.md)")).collect();
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\nPolicies: {}.\n\nHow it is tried: {}\n\nCaught, by how many objects: ",
            about.name,
            about.claims,
            policies.join(", "),
            about.tried
        );
        let caught: Vec<String> = tally.caught.iter().map(|(name, count)| format!("\"{name}\" ({count})")).collect();
        let _ = writeln!(text, "{}.", caught.join(", "));
        let lines = unplayed(tally);
        if !lines.is_empty() {
            text.push_str(
                "\nNot played, so that nothing is known of it; other objects were generated in place of these:\n\n",
            );
        }
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    text.push_str("\n## What is not provable this way\n\n");
    for (what, why) in NOT_PROVABLE {
        let _ = writeln!(text, "- **{what}**: {why}.");
    }
    text.push_str("\nEvery other finding was met in the claims above; of these none is made:\n\n");
    for (code, why) in NOT_CLAIMED {
        text.push_str(&not_claimed(code, why));
    }
    text
}

/// The line of the page about a finding of which no claim is made.
pub fn not_claimed(code: &str, why: &str) -> String {
    format!("- `{code}`: {why}.\n")
}
