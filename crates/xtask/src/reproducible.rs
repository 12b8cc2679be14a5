//! `reproducible`: builds the modules twice, from copies of this commit in two folders with two homes of Cargo, and compares the bytes.
//!
//! Both builds begin with nothing. What is compared with them besides is what `cargo xtask modules` left, the modules that are shipped.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::modules::{Build, GUEST};
use crate::{annotate, workspace};

/// Two places that differ in name, length and depth.
const PLACES: [&str; 2] = ["one", "another/place with/a longer name"];
/// What is in each.
const SOURCES: &str = "sources";
const HOME: &str = "home";

/// Builds the modules in two folders with two homes of Cargo, and fails when their bytes differ from each other or from target/policies.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the places of the sources in the modules. This must fail: it shows that a difference is found
    #[arg(long)]
    unmapped: bool,
}

/// The modules of one build, by policy.
type Modules = BTreeMap<String, Vec<u8>>;

pub(crate) fn run(args: &Args) -> Result<()> {
    let here = workspace::find()?;
    let shipped = shipped(&here)?;
    let folder = TempDir::new().context("cannot make a temporary folder")?;
    // As Cargo will see it.
    let root = fs::canonicalize(folder.path())?;
    let mut builds = vec![("target/policies".to_owned(), shipped)];
    let places = PLACES.map(|place| root.join(place));
    // Both copies first: somebody may go on writing here while they are built.
    for place in &places {
        copied(&here, place)?;
    }
    for place in &places {
        let started = Instant::now();
        let modules = built(place, !args.unmapped)
            .with_context(|| format!("in the copy of this folder in {}", place.display()))?;
        println!("built {} modules in {}, in {} s", modules.len(), place.display(), started.elapsed().as_secs());
        builds.push((place.display().to_string(), modules));
    }
    let mut wrong = differences(&builds);
    wrong.extend(leaks(&builds, &root));
    if !wrong.is_empty() {
        bail!("the same sources gave other bytes:\n{}", wrong.join("\n"));
    }
    for (name, bytes) in &builds[0].1 {
        println!("  {name:<24}{} bytes, the same {} times", bytes.len(), builds.len());
    }
    Ok(())
}

/// What `cargo xtask modules` left.
fn shipped(workspace: &Workspace) -> Result<Modules> {
    let mut modules = Modules::new();
    for policy in workspace::select(workspace, &[])? {
        let file = workspace.target.join("policies").join(format!("{}.wasm", policy.name));
        let bytes =
            fs::read(&file).with_context(|| format!("cannot read {}; make modules builds it", file.display()))?;
        modules.insert(policy.name.clone(), bytes);
    }
    Ok(modules)
}

/// Copies the workspace and what the home of Cargo holds for it.
fn copied(here: &Workspace, place: &Path) -> Result<()> {
    for file in files(&here.root)? {
        copy(&here.root.join(&file), &place.join(SOURCES).join(&file))?;
    }
    copy_home(&Build { workspace: here, home: None, mapped: true }.resolved()?, &place.join(HOME))
}

/// Builds the modules of such a copy.
fn built(place: &Path, mapped: bool) -> Result<Modules> {
    let mut there = workspace::at(&place.join(SOURCES))?;
    there.target = place.join("target");
    Build { workspace: &there, home: Some(&place.join(HOME)), mapped }.run(&[])?;
    let mut modules = Modules::new();
    for policy in &there.policies {
        modules.insert(policy.name.clone(), annotate::annotated(&there, policy)?);
    }
    Ok(modules)
}

/// The files that git knows, or would take, as they are now.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let output = git.output().context("cannot start git, which lists the files")?;
    if !output.status.success() {
        bail!("git cannot list the files: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let names = String::from_utf8(output.stdout).context("a file has a name that is not UTF-8")?;
    let files: Vec<PathBuf> = names.split_terminator('\0').map(PathBuf::from).collect();
    // What was removed and not yet committed is listed too.
    Ok(files.into_iter().filter(|file| root.join(file).is_file()).collect())
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let write = || {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, to)
    };
    write().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Gives a home of Cargo what it would else have to download: the packages as they were downloaded, not as they were unpacked. What is
/// not there Cargo fetches.
fn copy_home(resolved: &[u8], to: &Path) -> Result<()> {
    let resolved: Resolved = serde_json::from_slice(resolved).context("`cargo metadata` printed something else")?;
    let from = match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("there is no home folder, and so none of Cargo")?.join(".cargo"),
    };
    for file in ["config.toml", "config"] {
        if from.join(file).is_file() {
            copy(&from.join(file), &to.join(file))?;
        }
    }
    let (index, cache) = (Path::new("registry/index"), Path::new("registry/cache"));
    for file in all_files(&from.join(index))? {
        copy(&from.join(index).join(&file), &to.join(index).join(&file))?;
    }
    for file in all_files(&from.join(cache))? {
        let wanted = |package: &Dependency| {
            file.file_name().is_some_and(|name| *name == *format!("{}-{}.crate", package.name, package.version))
        };
        if resolved.packages.iter().any(wanted) {
            copy(&from.join(cache).join(&file), &to.join(cache).join(&file))?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Resolved {
    packages: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    version: String,
}

/// The files in a folder and all below, as seen from it; none where it is not there.
fn all_files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("cannot list {}", root.join(&folder).display()))?,
        };
        for entry in entries {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.path().is_dir() { folders.push(name) } else { found.push(name) }
        }
    }
    Ok(found)
}

/// How the builds differ from the first.
fn differences(builds: &[(String, Modules)]) -> Vec<String> {
    let Some(((first, modules), others)) = builds.split_first() else { return Vec::new() };
    let mut wrong = Vec::new();
    for (place, other) in others {
        for name in modules.keys().filter(|name| !other.contains_key(*name)) {
            wrong.push(format!("{name}: there is none in {place}"));
        }
        for (name, found) in other {
            let Some(wanted) = modules.get(name) else {
                wrong.push(format!("{name}: there is one in {place}, and none in {first}"));
                continue;
            };
            if wanted != found {
                let at = wanted.iter().zip(found).take_while(|(wanted, found)| wanted == found).count();
                let sizes = (wanted.len(), found.len());
                wrong.push(format!(
                    "{name}: {} bytes in {first}, {} in {place}; they differ from byte {at} on",
                    sizes.0, sizes.1
                ));
            }
        }
    }
    wrong
}

/// The modules that name the place where they were built.
fn leaks(builds: &[(String, Modules)], root: &Path) -> Vec<String> {
    let root = root.display().to_string();
    let holds = |bytes: &[u8]| bytes.windows(root.len()).any(|window| window == root.as_bytes());
    let mut wrong = Vec::new();
    for (place, modules) in builds {
        for (name, _) in modules.iter().filter(|(_, bytes)| holds(bytes)) {
            wrong.push(format!("{name}: the one of {place} names a path below {root} (for {GUEST})"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(place: &str, modules: &[(&str, &str)]) -> (String, Modules) {
        (
            place.to_owned(),
            modules.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.as_bytes().to_vec())).collect(),
        )
    }

    #[test]
    fn a_difference_is_told_with_its_place() {
        let shipped = build("here", &[("a", "same"), ("b", "left")]);
        assert_eq!(differences(&[shipped.clone(), build("there", &[("a", "same"), ("b", "left")])]), [""; 0]);
        let wrong = differences(&[shipped, build("there", &[("a", "sane"), ("c", "")])]);
        assert_eq!(
            wrong,
            [
                "b: there is none in there",
                "a: 4 bytes in here, 4 in there; they differ from byte 2 on",
                "c: there is one in there, and none in here"
            ]
        );
    }

    #[test]
    fn a_path_in_a_module_is_told() {
        let builds = [build("here", &[("a", "x/tmp/q/one/lib.rs"), ("b", "/cargo/lib.rs")])];
        assert_eq!(leaks(&builds, Path::new("/tmp/q")).len(), 1);
        assert_eq!(leaks(&builds, Path::new("/tmp/r")), [""; 0]);
    }

    #[test]
    fn files_of_all_folders_are_found() {
        let folder = TempDir::new().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"), &folder.path().join("a/b/c")).unwrap();
        assert_eq!(all_files(folder.path()).unwrap(), [PathBuf::from("a/b/c")]);
        assert!(all_files(&folder.path().join("none")).unwrap().is_empty());
    }
}
