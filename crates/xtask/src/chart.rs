//! `chart`: asks Helm itself what it makes of the chart.
//!
//! The chart's folder `ci` says what must come of it. `NAME-values.yaml` are values, `NAME-objects.yaml` beside it the objects that must
//! come of them, as far as they are written down there; `refused/NAME.yaml` are values that Helm must refuse, with the
//! reason in the first line. It must take the settings of every case of `test-data` that its policy takes. Without values the chart must make the objects of `deploy/manifests`.
//! The chart that docs/charts.md explains, `test-data/chart`, must render to what is written beside it. What is rendered stays in
//! target/chart, where `tests/crd.rs` reads it as Kubewarden's own types.
//!
//! With a cluster that knows Kubewarden's custom resources, all of it is installed there, upgraded and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use corpus::Expect;
use serde_json::{Map, Value, json};

use crate::deploy::CHART;
use crate::e2e::process;
use crate::workspace;

/// How long one call of Helm may take.
const LIMIT: Duration = Duration::from_mins(5);
/// The name of the release; that of the plain manifests' objects begins with it.
const RELEASE: &str = "quorate";
/// Where it is installed.
const NAMESPACE: &str = "kubewarden";
/// Labels that only Helm gives.
const OF_HELM: [&str; 3] = ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart"];

/// Renders the chart with Helm, found by the variable `HELM` or on PATH, and compares what comes of it. With `--kubeconfig` also
/// installs it in that cluster.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when Helm is absent
    #[arg(long)]
    require: bool,
    /// A cluster for tests that has Kubewarden's custom resources, and no release of this chart
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(helm) = process::find("HELM", "helm")? else {
        let absent = "helm not found; set HELM, or put it on PATH";
        if args.require {
            bail!("{absent}");
        }
        println!("DID NOT RUN: {absent}");
        return Ok(());
    };
    let workspace = workspace::find()?;
    let folder = workspace.target.join("chart");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let bench = Bench { helm, chart: workspace.root.join(CHART), folder };

    let mut failures = Vec::new();
    bench.rendered(&workspace, &mut failures)?;
    bench.refused(&mut failures)?;
    bench.settings(&workspace, &mut failures)?;
    bench.example(&workspace, &mut failures)?;
    match &args.kubeconfig {
        Some(cluster) => bench.installed(&fs::canonicalize(cluster).context("--kubeconfig")?, &mut failures)?,
        None => println!("  not installed anywhere: no --kubeconfig"),
    }
    if !failures.is_empty() {
        bail!("{} failures\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// An object by kind and name.
type Objects = BTreeMap<(String, String), Value>;

struct Bench {
    helm: PathBuf,
    chart: PathBuf,
    /// What Helm writes, and what is rendered.
    folder: PathBuf,
}

impl Bench {
    fn helm(&self, args: &[&str], values: Option<&Path>) -> Result<process::Output> {
        let mut command = Command::new(&self.helm);
        let home = self.folder.join("home");
        command.args(args).env("HELM_CACHE_HOME", &home).env("HELM_CONFIG_HOME", &home).env("HELM_DATA_HOME", &home);
        command.current_dir(&self.folder);
        if let Some(values) = values {
            command.arg("--values").arg(values);
        }
        process::output(command, &self.folder, LIMIT)
    }

    fn chart(&self) -> Result<&str> {
        self.chart.to_str().with_context(|| format!("{} is not UTF-8", self.chart.display()))
    }

    /// Lints and renders without values and with each file of them, and compares.
    fn rendered(&self, workspace: &Workspace, failures: &mut Vec<String>) -> Result<()> {
        let ci = self.chart.join("ci");
        let mut tried = vec![("default".to_owned(), None)];
        for file in files(&ci)? {
            if let Some(name) = name_of(&file).strip_suffix("-values.yaml") {
                tried.push((name.to_owned(), Some(file)));
            }
        }
        for (name, values) in &tried {
            let linted = self.helm(&["lint", "--strict", self.chart()?], values.as_deref())?;
            if !linted.success {
                failures.push(format!("{name}: helm lint:\n{}{}", linted.stdout, linted.stderr));
            }
            let args = ["template", RELEASE, self.chart()?, "--namespace", NAMESPACE];
            let rendered = self.helm(&args, values.as_deref())?;
            if !rendered.success {
                failures.push(format!("{name}: helm template:\n{}", rendered.stderr));
                continue;
            }
            fs::write(self.folder.join(format!("{name}.yaml")), &rendered.stdout)?;
            let objects = objects(name, &rendered.stdout)?;
            let mut wrong = contradictions(&objects);
            match values {
                None => wrong.extend(differences(&objects, &manifests(workspace)?)),
                Some(_) => wrong.extend(self.unlike(name, &objects)?),
            }
            println!("  {name:<20} {} objects, {} wrong", objects.len(), wrong.len());
            failures.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
        }
        if tried.len() < 2 {
            failures.push(format!("{} has no values", ci.display()));
        }
        Ok(())
    }

    /// The chart of docs/charts.md, whose rendered objects the page and its test are about.
    fn example(&self, workspace: &Workspace, failures: &mut Vec<String>) -> Result<()> {
        let chart = workspace.root.join("test-data/chart");
        let path = chart.to_str().with_context(|| format!("{} is not UTF-8", chart.display()))?;
        let rendered = self.helm(&["template", "search", path], None)?;
        let file = chart.join("rendered.yaml");
        let written = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if !rendered.success || rendered.stdout != written {
            failures.push(format!(
                "helm template search {path} > {}: not as written\n{}",
                file.display(),
                rendered.stderr
            ));
        }
        if self.helm(&["template", "search", path, "--set", "replicas=4"], None)?.success {
            failures.push(format!("{path} takes replicas: 4, and docs/charts.md says that it refuses them"));
        }
        println!("  {:<20} of docs/charts.md", "example");
        Ok(())
    }

    /// What of the written objects is otherwise among the rendered ones.
    fn unlike(&self, name: &str, objects: &Objects) -> Result<Vec<String>> {
        let file = self.chart.join(format!("ci/{name}-objects.yaml"));
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut wrong = Vec::new();
        for (key, wanted) in self::objects(&name_of(&file), &text)? {
            match objects.get(&key) {
                None if wanted.get("absent").is_some() => {}
                Some(_) if wanted.get("absent").is_some() => wrong.push(format!("there is {} {}", key.0, key.1)),
                None => wrong.push(format!("there is no {} {}", key.0, key.1)),
                Some(found) => wrong.extend(
                    missing(&wanted, found, "").into_iter().map(|wrong| format!("{} {}: {wrong}", key.0, key.1)),
                ),
            }
        }
        Ok(wrong)
    }

    /// Values that the schema must refuse.
    fn refused(&self, failures: &mut Vec<String>) -> Result<()> {
        let files = files(&self.chart.join("ci/refused"))?;
        for file in &files {
            let name = name_of(file);
            let text = fs::read_to_string(file)?;
            let reason = text.lines().next().and_then(|line| line.strip_prefix("# "));
            let reason = reason.with_context(|| format!("{name} must say first what Helm says of it"))?;
            let refused = self.helm(&["template", RELEASE, self.chart()?], Some(file))?;
            if refused.success {
                failures.push(format!("{name}: was accepted"));
            } else if !refused.stderr.contains(reason) {
                failures.push(format!("{name}: not refused for `{reason}`:\n{}", refused.stderr));
            }
        }
        println!("  {:<20} {} files of values", "refused", files.len());
        if files.is_empty() {
            failures.push("there are no values to be refused".to_owned());
        }
        Ok(())
    }

    /// The settings of all cases, those of one policy as the members of one group: one call of Helm takes them all.
    fn settings(&self, workspace: &Workspace, failures: &mut Vec<String>) -> Result<()> {
        let mut groups = Map::new();
        let mut count = 0;
        for policy in &workspace.policies {
            let mut members = Map::new();
            for case in corpus::cases(&policy.name)? {
                let Some(Value::Object(mut settings)) = case.header.settings else { continue };
                // A denial without a finding is one of the settings.
                if case.header.expect == Expect::Deny && case.header.findings.is_empty() {
                    continue;
                }
                settings.remove("mutate");
                members
                    .insert(format!("case{}", members.len()), json!({ "policy": policy.name, "settings": settings }));
            }
            count += members.len();
            if !members.is_empty() {
                let group = json!({ "expression": "case0()", "message": "cases", "members": members });
                groups.insert(policy.name.clone(), group);
            }
        }
        let values = self.folder.join("settings.json");
        fs::write(&values, json!({ "groups": groups }).to_string())?;
        let taken = self.helm(&["template", RELEASE, self.chart()?], Some(&values))?;
        println!("  {:<20} {count} cases", "settings");
        if !taken.success {
            failures.push(format!("the settings of a case are refused:\n{}", taken.stderr));
        }
        if count == 0 {
            failures.push("no case has settings".to_owned());
        }
        Ok(())
    }

    /// Each file of values in the cluster; then from monitor to protect, and away.
    fn installed(&self, kubeconfig: &Path, failures: &mut Vec<String>) -> Result<()> {
        let cluster = kubeconfig.to_str().with_context(|| format!("{} is not UTF-8", kubeconfig.display()))?;
        let there = ["--kubeconfig", cluster, "--namespace", NAMESPACE];
        let mut call = |what: &str, args: &[&str], values: Option<&Path>| -> Result<()> {
            let done = self.helm(&[args, &there].concat(), values)?;
            println!("  {what:<20} {}", if done.success { "done" } else { "FAILED" });
            if !done.success {
                failures.push(format!("{what}:\n{}{}", done.stdout, done.stderr));
            }
            Ok(())
        };
        let chart = self.chart()?;
        for file in files(&self.chart.join("ci"))? {
            let Some(name) = name_of(&file).strip_suffix("-values.yaml").map(str::to_owned) else { continue };
            call(&format!("install {name}"), &["install", RELEASE, chart, "--create-namespace"], Some(&file))?;
            call(&format!("uninstall {name}"), &["uninstall", RELEASE, "--wait"], None)?;
        }
        call("install", &["install", RELEASE, chart, "--create-namespace"], None)?;
        call("to protect", &["upgrade", RELEASE, chart, "--reuse-values", "--set", "mode=protect"], None)?;
        call(
            "one policy less",
            &["upgrade", RELEASE, chart, "--reuse-values", "--set", "policies.non-root.enabled=false"],
            None,
        )?;
        call("warn only", &["upgrade", RELEASE, chart, "--reuse-values", "--set", "settings.action=warn"], None)?;
        call("uninstall", &["uninstall", RELEASE, "--wait"], None)
    }
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The objects of a text, each once.
fn objects(name: &str, text: &str) -> Result<Objects> {
    let parsed = manifest::parse(name, text.as_bytes());
    if let Some(problem) = parsed.problems.first() {
        bail!("{name}:{}:{}: {}", problem.line, problem.column, problem.message);
    }
    let mut objects = Objects::new();
    for document in parsed.documents {
        let text = |pointer: &str| {
            let text = document.value.pointer(pointer).and_then(Value::as_str);
            text.map(str::to_owned).with_context(|| format!("{name}: an object without {pointer}"))
        };
        let key = (text("/kind")?, text("/metadata/name")?);
        if objects.insert(key.clone(), document.value).is_some() {
            bail!("{name}: {} {} is there twice", key.0, key.1);
        }
    }
    Ok(objects)
}

/// The plain manifests.
fn manifests(workspace: &Workspace) -> Result<Objects> {
    let mut all = Objects::new();
    for file in files(&workspace.root.join("deploy/manifests"))? {
        all.extend(objects(&name_of(&file), &fs::read_to_string(&file)?)?);
    }
    Ok(all)
}

/// How the rendered objects differ from the plain ones, apart from what only Helm writes.
fn differences(rendered: &Objects, plain: &Objects) -> Vec<String> {
    let mut wrong = Vec::new();
    let keys: BTreeSet<_> = rendered.keys().chain(plain.keys()).collect();
    for key in keys {
        let (kind, name) = key;
        match (rendered.get(key), plain.get(key)) {
            (Some(rendered), Some(plain)) => {
                let mut rendered = rendered.clone();
                if let Some(labels) = rendered.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
                    labels.retain(|label, _| !OF_HELM.contains(&label.as_str()));
                }
                let different = missing(plain, &rendered, "").into_iter().chain(missing(&rendered, plain, ""));
                wrong.extend(different.map(|wrong| format!("deploy/manifests: {kind} {name}: {wrong}")));
            }
            (rendered, _) => {
                let only = if rendered.is_some() { "only the chart has" } else { "the chart has no" };
                wrong.push(format!("{only} {kind} {name}"));
            }
        }
    }
    wrong
}

/// What of `wanted` is otherwise in `found`. A list must be the same; an object may have more fields.
fn missing(wanted: &Value, found: &Value, path: &str) -> Vec<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .flat_map(|(key, value)| missing(value, found.get(key).unwrap_or(&Value::Null), &format!("{path}/{key}")))
            .collect(),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let pairs = wanted.iter().zip(found).enumerate();
            pairs.flat_map(|(at, (wanted, found))| missing(wanted, found, &format!("{path}/{at}"))).collect()
        }
        _ if wanted == found => Vec::new(),
        _ => vec![format!("{path} is {found}, not {wanted}")],
    }
}

/// What contradicts itself in a rendering, whatever the values.
fn contradictions(objects: &Objects) -> Vec<String> {
    let mut wrong = Vec::new();
    let none = Map::new();
    for ((kind, name), object) in objects {
        let spec = object["spec"].as_object().unwrap_or(&none);
        let mut report = |what: &str| wrong.push(format!("{kind} {name}: {what}"));
        if !kind.starts_with("ClusterAdmissionPolicy") {
            continue;
        }
        let mutates = spec.get("mutating") == Some(&Value::Bool(true));
        if mutates != (object.pointer("/spec/settings/mutate") == Some(&Value::Bool(true))) {
            report("spec.mutating and spec.settings.mutate must say the same");
        }
        if object.pointer("/spec/namespaceSelector/matchLabels").is_some() {
            report("the controller drops matchLabels");
        }
        let namespaces = object.pointer("/spec/namespaceSelector/matchExpressions/0/values").and_then(Value::as_array);
        if !namespaces.is_some_and(|namespaces| namespaces.contains(&NAMESPACE.into())) {
            report("the namespace of the policy server must be left out");
        }
        let rules = object.pointer("/spec/rules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if rules.is_empty() {
            report("there are no rules");
        }
        for rule in rules {
            let texts = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str);
            if texts("resources").any(|resource| resource.contains('/'))
                && texts("operations").any(|does| does == "CREATE")
            {
                report("the audit scanner cannot list a subresource: it must be in a rule without CREATE");
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &Value) -> Objects {
        let object = json!({ "kind": "ClusterAdmissionPolicy", "metadata": { "name": "x" }, "spec": spec });
        Objects::from([(("ClusterAdmissionPolicy".into(), "x".into()), object)])
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let selector = json!({ "matchExpressions": [{ "values": ["kubewarden"] }] });
        let rules = json!([{ "resources": ["statefulsets"], "operations": ["CREATE"] }]);
        let sound =
            json!({ "mutating": true, "settings": { "mutate": true }, "namespaceSelector": selector, "rules": rules });
        assert_eq!(contradictions(&policy(&sound)), [""; 0]);
        for (key, value, told) in [
            ("mutating", json!(false), "must say the same"),
            ("settings", json!({}), "must say the same"),
            ("namespaceSelector", json!({ "matchLabels": {} }), "drops matchLabels"),
            ("namespaceSelector", json!({ "matchExpressions": [{ "values": ["a"] }] }), "must be left out"),
            ("rules", json!([]), "no rules"),
            ("rules", json!([{ "resources": ["pods/resize"], "operations": ["UPDATE", "CREATE"] }]), "without CREATE"),
        ] {
            let mut broken = sound.clone();
            broken[key] = value;
            let wrong = contradictions(&policy(&broken));
            assert!(wrong.iter().any(|wrong| wrong.contains(told)), "{key}: {wrong:?}");
        }
    }

    #[test]
    fn what_differs_is_told_with_its_place() {
        let found = json!({ "a": { "b": [1, { "c": 2 }], "d": 3 } });
        assert_eq!(missing(&json!({ "a": { "b": [1, { "c": 2 }] } }), &found, ""), [""; 0]);
        assert_eq!(missing(&json!({ "a": { "b": [1, { "c": 3 }] } }), &found, ""), ["/a/b/1/c is 2, not 3"]);
        assert_eq!(missing(&json!({ "a": { "b": [1] } }), &found, ""), ["/a/b is [1,{\"c\":2}], not [1]"]);
        assert_eq!(missing(&json!({ "e": 1 }), &found, ""), ["/e is null, not 1"]);

        let (one, other) = (policy(&json!({ "a": 1 })), policy(&json!({ "a": 1, "b": 2 })));
        assert_eq!(differences(&one, &one), [""; 0]);
        assert_eq!(differences(&one, &other).len(), 1);
        assert_eq!(differences(&other, &one).len(), 1);
        assert_eq!(differences(&one, &Objects::new()), ["only the chart has ClusterAdmissionPolicy x"]);
    }
}
