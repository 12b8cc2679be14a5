//! `versions`: whether all that names the version of this project names the same one.
//!
//! It is written down once, in the root Cargo.toml, and derived from there (`cargo xtask generate`). This looks at what came of that, and
//! at what is written by hand beside it: CHANGELOG.md, and the tag of a release.

use std::fs;
use std::path::{Path, PathBuf};

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{changelog, workspace};

/// Fails when the tag, the packages, what is derived for Artifact Hub and for Helm, the manifests and CHANGELOG.md do not name the
/// same version.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tag of a release, such as v0.1.0: CHANGELOG.md must have the day of the release then
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    let version = version(&workspace)?;
    let mut wrong = packages(&version)?;
    wrong.extend(derived(&workspace, &version)?);
    wrong.extend(history(&workspace.root, &version, args.tag.as_deref())?);
    if !wrong.is_empty() {
        bail!("Cargo.toml says {version}, but\n  {}", wrong.join("\n  "));
    }
    let tag = args.tag.as_ref().map(|tag| format!(", the tag {tag} too")).unwrap_or_default();
    println!("all say {version}{tag}");
    Ok(())
}

/// The version of the policies, which is that of the workspace.
pub(crate) fn version(workspace: &Workspace) -> Result<String> {
    let policy = workspace.policies.first().context("there is no policy whose version could be that of the project")?;
    Ok(policy.version.clone())
}

#[derive(Deserialize)]
struct Described {
    packages: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    version: String,
}

/// The packages of another version.
fn packages(version: &str) -> Result<Vec<String>> {
    let described: Described =
        serde_json::from_slice(&workspace::described()?).context("`cargo metadata` printed something else")?;
    let others = described.packages.into_iter().filter(|package| package.version != version);
    Ok(others.map(|package| format!("the package {} is {}", package.name, package.version)).collect())
}

/// What is derived and says another version.
fn derived(workspace: &Workspace, version: &str) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let chart = "deploy/helm/quorate/Chart.yaml";
    for object in documents(&workspace.root, Path::new(chart))? {
        for key in ["version", "appVersion"] {
            said.push((format!("{chart}: {key}"), text(&object, &format!("/{key}")), version.to_owned()));
        }
    }
    for policy in &workspace.policies {
        let name = &policy.name;
        let file = format!("artifacthub/{name}/artifacthub-pkg.yml");
        for object in documents(&workspace.root, Path::new(&file))? {
            said.push((format!("{file}: version"), text(&object, "/version"), version.to_owned()));
            let image = text(&object, "/containersImages/0/image");
            said.push((format!("{file}: image"), image, format!("{}:v{version}", image_of(workspace, name)?)));
        }
        let file = format!("deploy/manifests/{name}.yaml");
        for object in documents(&workspace.root, Path::new(&file))? {
            let module = text(&object, "/spec/module");
            let wanted = format!("registry://{}:v{version}", image_of(workspace, name)?);
            said.push((format!("{file}: module"), module, wanted));
        }
    }
    let others = said.into_iter().filter(|(_, said, wanted)| said != wanted);
    Ok(others.map(|(place, said, wanted)| format!("{place} is {said}, not {wanted}")).collect())
}

/// The image of a policy, without the version.
pub(crate) fn image_of(workspace: &Workspace, name: &str) -> Result<String> {
    let policy = workspace.policies.iter().find(|policy| policy.name == name).context("no such policy")?;
    // Only the image is asked for, and that does not follow from the README.
    let annotations = policy.facts("# README\n".to_owned()).annotations()?;
    let image = annotations.get("io.kubewarden.policy.ociUrl").context("a policy has no image")?;
    Ok(image.clone())
}

fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "absent".to_owned(),
    }
}

fn documents(root: &Path, file: &Path) -> Result<Vec<Value>> {
    let path: PathBuf = root.join(file);
    let name = file.display().to_string();
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let parsed = manifest::parse(&name, &bytes);
    if let Some(problem) = parsed.problems.first() {
        bail!("{name}:{}:{}: {}", problem.line, problem.column, problem.message);
    }
    if parsed.documents.is_empty() {
        bail!("{name} is empty");
    }
    Ok(parsed.documents.into_iter().map(|document| document.value).collect())
}

/// What CHANGELOG.md and the tag say otherwise.
fn history(root: &Path, version: &str, tag: Option<&str>) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
    let section = changelog::section(&text, version)?;
    let mut wrong = Vec::new();
    let newest = text.split("\n## ").nth(1).unwrap_or_default();
    if !newest.strip_prefix(version).is_some_and(|rest| rest.starts_with(' ')) {
        wrong.push(format!("CHANGELOG.md has `## {}` on top", newest.lines().next().unwrap_or_default()));
    }
    if let Some(tag) = tag {
        if tag != format!("v{version}") {
            wrong.push(format!("the tag is {tag}, not v{version}"));
        }
        if !section.released {
            wrong.push(format!("CHANGELOG.md says that {version} is not released yet"));
        }
        if section.changes.is_empty() {
            wrong.push(format!("CHANGELOG.md names no change of {version}"));
        }
    }
    Ok(wrong)
}
