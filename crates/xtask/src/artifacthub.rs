//! `artifacthub`: the packages that Artifact Hub shows, one folder for each policy in artifacthub/.
//!
//! All of a package is derived: from Cargo.toml, `metadata.yml`, `questions-ui.yml` and the README of the policy, and from
//! CHANGELOG.md, of which `createdAt` is too: the same commit gives the same bytes on any day. The fields are those that
//! `kwctl scaffold artifacthub` writes (crates/policy-evaluator/src/policy_artifacthub.rs of kubewarden/adm-controller), except
//! that what is fixed there is said of this project, and that Artifact Hub knows some more (docs/metadata/artifacthub-pkg.yml of
//! artifacthub/hub).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use ::annotate::{Metadata, Package, Workspace};
use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::changelog::{self, Section};
use crate::e2e::process;
use crate::generate::{self, Derived};
use crate::workspace;
use crate::yaml::{Yaml, map, text};

/// Where the packages are.
const FOLDER: &str = "artifacthub";
/// The files of a package.
const PACKAGE: &str = "artifacthub-pkg.yml";
const README: &str = "README.md";

/// The branch on which the documents are that a version not yet released links to.
const BRANCH: &str = "main";

/// Who provides the packages.
const PROVIDER: &str = "Quorate";

/// What one needs to run a policy: the controller, and the policy-server that its defaults bring.
const RECOMMENDED: [&str; 2] = ["kubewarden-controller", "kubewarden-defaults"];

/// Writes the packages for Artifact Hub; `generate` does so too.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; have Artifact Hub's own linter look at what is there. It is found by the variable AH, or as `ah` on PATH
    #[arg(long)]
    lint: bool,
    /// With --lint: fail when the linter is absent
    #[arg(long, requires = "lint")]
    require: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    if args.lint {
        return lint(&workspace.root, args.require);
    }
    let questions = generate::questions(&workspace)?;
    generate::put(&workspace, derived(&workspace, &questions)?)
}

fn lint(root: &Path, require: bool) -> Result<()> {
    let Some(ah) = process::find("AH", "ah")? else {
        let absent = "ah, the linter of Artifact Hub, not found; set AH, or put it on PATH";
        if require {
            bail!("{absent}");
        }
        println!("DID NOT RUN with {absent}");
        return Ok(());
    };
    let status = Command::new(&ah)
        .args(["lint", "--kind", "kubewarden", "--path", FOLDER])
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot start {}", ah.display()))?;
    if !status.success() {
        bail!("{} lint refuses what is in {FOLDER}/", ah.display());
    }
    Ok(())
}

/// The files of all packages, and those of packages whose policies are gone. `questions` are those of each policy, complete.
pub(crate) fn derived(workspace: &Workspace, questions: &BTreeMap<String, String>) -> Result<Vec<Derived>> {
    let home = workspace.root.join(FOLDER);
    let mut files = Vec::new();
    if workspace.policies.is_empty() {
        return Ok(files);
    }
    let changelog = fs::read_to_string(workspace.root.join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
    for policy in &workspace.policies {
        let section = changelog::section(&changelog, &policy.version)?;
        let readme = policy.folder.join(README);
        let readme =
            fs::read_to_string(&readme).with_context(|| format!("cannot read policies/{}/{README}", policy.name))?;
        let metadata = generate::metadata(policy, &policy.facts(readme.clone()).annotations()?)?;
        let asked = questions.get(&policy.name).map(String::as_str).unwrap_or_default();
        let package = package(policy, &metadata, asked, &section)
            .with_context(|| format!("no package can be made of policies/{}", policy.name))?;
        let folder = home.join(&policy.name);
        files.push(Derived { file: folder.join(PACKAGE), wanted: Some(package) });
        files.push(Derived { file: folder.join(README), wanted: Some(shown_elsewhere(&readme, policy, &section)) });
    }
    for folder in folders(&home)? {
        if !workspace.policies.iter().any(|policy| policy.name == folder) {
            let gone = |file| Derived { file: home.join(&folder).join(file), wanted: None };
            files.extend([PACKAGE, README].map(gone));
        }
    }
    Ok(files)
}

/// The names of the folders in a folder that may not be there.
fn folders(of: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(of) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("cannot list {FOLDER}"))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {FOLDER}"))?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn package(policy: &Package, metadata: &Metadata, questions: &str, section: &Section) -> Result<String> {
    let annotation = |key: &str| -> Result<&str> {
        let value = metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
        value.map(String::as_str).with_context(|| format!("metadata.yml: {key} is missing"))
    };
    let about = |key: &str| annotation(&format!("io.kubewarden.policy.{key}"));
    let name = &policy.name;
    let (image, source) = (format!("{}:v{}", about("ociUrl")?, policy.version), about("source")?);
    let (author, address) = about("author")?
        .strip_suffix('>')
        .and_then(|author| author.split_once(" <"))
        .context("the author must be `NAME <ADDRESS>`")?;

    let mut fields = vec![
        ("version", text(&policy.version)),
        ("name", text(name)),
        ("displayName", text(annotation("io.artifacthub.displayName")?)),
        ("createdAt", text(format!("{}T00:00:00Z", section.date))),
        ("description", text(about("description")?)),
        ("category", text(category(about("category")?))),
        ("license", text(about("license")?)),
        ("homeURL", text(about("url")?)),
        ("containersImages", Yaml::List(vec![map([("name", text("policy")), ("image", text(&image))])])),
        ("keywords", Yaml::List(keywords(annotation("io.artifacthub.keywords")?)?)),
        ("links", Yaml::List(links(policy, source, section))),
        ("install", text(install(metadata, &image, source, section))),
    ];
    let changes = changes(policy, section);
    if changes.iter().any(|(kind, _)| *kind == Some("security")) {
        fields.push(("containsSecurityUpdates", Yaml::Flag(true)));
    }
    if !changes.is_empty() {
        let change = |(kind, what): (Option<&str>, &str)| {
            let kind = kind.map(|kind| ("kind".to_owned(), text(kind)));
            Yaml::Map(kind.into_iter().chain([("description".to_owned(), text(what))]).collect())
        };
        fields.push(("changes", Yaml::List(changes.into_iter().map(change).collect())));
    }
    if !section.released {
        fields.push(("prerelease", Yaml::Flag(true)));
    }
    let recommended = |chart| map([("url", text(format!("https://artifacthub.io/packages/helm/kubewarden/{chart}")))]);
    fields.extend([
        ("maintainers", Yaml::List(vec![map([("name", text(author)), ("email", text(address))])])),
        ("provider", map([("name", text(PROVIDER))])),
        ("recommendations", Yaml::List(RECOMMENDED.map(recommended).into())),
        ("annotations", annotations(metadata, questions, annotation("io.artifacthub.resources")?)?),
    ]);
    let package = Yaml::Map(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    Ok(format!(
        "# What Artifact Hub shows of policies/{name}. Written by `cargo xtask generate`, from the files of that folder and \
         CHANGELOG.md.\n{package}"
    ))
}

/// Artifact Hub has one category that fits, for one of ours. To guess another, by the words of the README, would mislead.
fn category(own: &str) -> &'static str {
    if own == "Security" { "security" } else { "skip-prediction" }
}

fn keywords(list: &str) -> Result<Vec<Yaml>> {
    let keywords: Vec<&str> = list.split(',').map(str::trim).collect();
    if keywords.contains(&"") {
        bail!("metadata.yml: io.artifacthub.keywords has an empty item: `{list}`");
    }
    Ok(keywords.into_iter().map(text).collect())
}

/// The module is there to be downloaded once the version is released.
fn links(policy: &Package, source: &str, section: &Section) -> Vec<Yaml> {
    let Package { name, version, .. } = policy;
    let module = format!("{source}/releases/download/v{version}/{name}.wasm");
    let module = section.released.then(|| map([("name", text("policy")), ("url", text(module))]));
    module.into_iter().chain([map([("name", text("source")), ("url", text(source))])]).collect()
}

fn install(metadata: &Metadata, image: &str, source: &str, section: &Section) -> String {
    let unreleased = if section.released {
        String::new()
    } else {
        format!(
            "This version is not released yet. Until it is, `make modules` in a clone of {source} builds the policy.\n\n"
        )
    };
    let (granted, why) = if metadata.context_aware_resources.is_empty() {
        ("", "")
    } else {
        let why = "`--allow-context-aware` grants the look-ups that the policy asks for: read in the manifest which they are, and \
                   see that the service account of the policy-server may list and watch these kinds. ";
        (" --allow-context-aware", why)
    };
    format!(
        "{unreleased}Pull the policy with [kwctl](https://docs.kubewarden.io/howtos/install-kwctl):\n\n```console\n\
         kwctl pull registry://{image}\n```\n\nHave it write a manifest, and look through that before you apply it:\n\n```console\n\
         kwctl scaffold manifest --type ClusterAdmissionPolicy{granted} registry://{image}\n```\n\n\
         {why}Begin with `mode: monitor`: what would be denied is only reported then.\n"
    )
}

/// The entries that name the policy.
fn changes<'s>(policy: &Package, section: &'s Section) -> Vec<(Option<&'s str>, &'s str)> {
    let own = format!("`{}`", policy.name);
    let entries = section.changes.iter().filter(|change| change.text.contains(&own));
    entries.map(|change| (change.kind.as_deref(), change.text.as_str())).collect()
}

fn annotations(metadata: &Metadata, questions: &str, resources: &str) -> Result<Yaml> {
    let mut annotations = vec![("kubewarden/mutation", metadata.mutating.to_string())];
    if !metadata.context_aware_resources.is_empty() {
        annotations.push(("kubewarden/contextAwareResources", as_yaml(&metadata.context_aware_resources)?));
    }
    if let Some(hidden) = metadata.annotations.as_ref().and_then(|all| all.get("io.kubewarden.hidden-ui")) {
        annotations.push(("kubewarden/hidden-ui", hidden.clone()));
    }
    annotations.extend([
        ("kubewarden/questions-ui", questions.to_owned()),
        ("kubewarden/resources", resources.to_owned()),
        ("kubewarden/rules", as_yaml(&metadata.rules)?),
    ]);
    Ok(Yaml::Map(annotations.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect()))
}

fn as_yaml(value: &impl Serialize) -> Result<String> {
    Ok(Yaml::from(&serde_json::to_value(value)?).to_string())
}

/// The README as it can be read away from its folder: links lead to the repository, and what our tests read beside the language of a
/// block is left out.
fn shown_elsewhere(readme: &str, policy: &Package, section: &Section) -> String {
    let at = if section.released { format!("v{}", policy.version) } else { BRANCH.to_owned() };
    let root = format!("{}/blob/{at}/", policy.repository.trim_end_matches('/').trim_end_matches(".git"));
    let (mut shown, mut in_block) = (String::new(), false);
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_block = !in_block;
            shown.push_str("```");
            shown.push_str(language.split_whitespace().next().unwrap_or_default());
        } else if in_block {
            shown.push_str(line);
        } else {
            with_absolute_links(line, &root, &format!("policies/{}", policy.name), &mut shown);
        }
        shown.push('\n');
    }
    shown
}

fn with_absolute_links(line: &str, root: &str, folder: &str, shown: &mut String) {
    let mut rest = line;
    while let Some((before, link)) = rest.split_once("](") {
        shown.push_str(before);
        shown.push_str("](");
        rest = link;
        let target = link.split_once(')').map_or(link, |(target, _)| target);
        if target.contains("://") || target.starts_with(['#', '/']) || target.starts_with("mailto:") {
            continue;
        }
        let mut folders: Vec<&str> = folder.split('/').collect();
        while let Some(from_above) = rest.strip_prefix("../") {
            folders.pop();
            rest = from_above;
        }
        shown.push_str(root);
        for folder in folders {
            shown.push_str(folder);
            shown.push('/');
        }
    }
    shown.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_repository() {
        let shown = |line: &str| {
            let mut shown = String::new();
            with_absolute_links(line, "https://h/o/n/blob/v1/", "policies/a", &mut shown);
            shown
        };
        assert_eq!(
            shown("[b](../../docs/b.md#c) and [c](src/lib.rs), see [d](../d/README.md)"),
            "[b](https://h/o/n/blob/v1/docs/b.md#c) and [c](https://h/o/n/blob/v1/policies/a/src/lib.rs), see \
             [d](https://h/o/n/blob/v1/policies/d/README.md)"
        );
        for line in ["[a](https://b/c)", "[a](#b)", "[a](mailto:a@b)", "a (b)", "a[0]"] {
            assert_eq!(shown(line), line);
        }
        assert_eq!(shown("[a](b) (c://d)"), "[a](https://h/o/n/blob/v1/policies/a/b) (c://d)");
    }
}
