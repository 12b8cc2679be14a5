//! `dist`: all of a release that needs no network, in target/dist.
//!
//! The annotated modules, their bills of materials, an archive with the checker for one target, its bill, the chart, and the checksums
//! of all that. What cannot be made because a program is absent is told, and with `--require` it is an error. The file names
//! are those that the packages for Artifact Hub link to.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::annotate::Workspace;
use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::deploy::CHART;
use crate::e2e::process;
use crate::modules::GUEST;
use crate::{reproducible, versions, workspace};

/// The checksums, in the form that `sha256sum --check` reads.
pub(crate) const SUMS: &str = "SHA256SUMS";
/// The package of the checker, and its command.
const CHECKER: &str = "quorate";
/// How long one call of a program may take that builds nothing.
const LIMIT: Duration = Duration::from_mins(5);

/// Puts all of a release that needs no network into target/dist, and says what is absent.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The archive with the checker alone, and its bill of materials
    #[arg(long)]
    checker: bool,
    /// Checksums alone, of what is in the folder already
    #[arg(long, conflicts_with_all = ["checker", "target", "require"])]
    sums: bool,
    /// What the checker is built for. Else, on Linux, a binary that needs no library, if Rust can build one here
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Fail when something cannot be made
    #[arg(long)]
    require: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    let dist = Dist { version: versions::version(&workspace)?, folder: folder(&workspace), workspace };
    if args.sums {
        return sums(&dist.folder);
    }
    if dist.folder.exists() {
        fs::remove_dir_all(&dist.folder).with_context(|| format!("cannot empty {}", dist.folder.display()))?;
    }
    fs::create_dir_all(&dist.folder).with_context(|| format!("cannot make {}", dist.folder.display()))?;

    let mut absent = Vec::new();
    let target = dist.target(args.target.as_deref(), &mut absent)?;
    if !args.checker {
        dist.modules()?;
    }
    dist.checker(&target)?;
    dist.bills(&target, args.checker, &mut absent)?;
    if !args.checker {
        dist.chart(&mut absent)?;
    }
    sums(&dist.folder)?;
    for file in names(&dist.folder)? {
        println!("  {:>11}  {file}", fs::metadata(dist.folder.join(&file))?.len());
    }
    for absent in &absent {
        println!("ABSENT: {absent}");
    }
    if args.require && !absent.is_empty() {
        bail!("not all of a release could be made");
    }
    Ok(())
}

/// Where a release is put together.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("dist")
}

/// The file of the chart, as Helm names it.
pub(crate) fn chart_file(version: &str) -> String {
    format!("quorate-{version}.tgz")
}

struct Dist {
    workspace: Workspace,
    version: String,
    folder: PathBuf,
}

impl Dist {
    /// The annotated modules, if they say that they are of this version.
    fn modules(&self) -> Result<()> {
        for policy in workspace::select(&self.workspace, &[])? {
            let name = format!("{}.wasm", policy.name);
            let file = self.workspace.target.join("policies").join(&name);
            let wasm =
                fs::read(&file).with_context(|| format!("cannot read {}; make modules builds it", file.display()))?;
            let metadata = ::annotate::read(&wasm)?.with_context(|| format!("{name} is not annotated"))?;
            let said = metadata.annotations.unwrap_or_default().remove("io.kubewarden.policy.version");
            if said.as_deref() != Some(&self.version) {
                bail!("{name} says that it is {}, not {}", said.unwrap_or_default(), self.version);
            }
            fs::write(self.folder.join(name), wasm)?;
        }
        Ok(())
    }

    /// What the checker is built for.
    fn target(&self, asked: Option<&str>, absent: &mut Vec<String>) -> Result<String> {
        if let Some(asked) = asked {
            return Ok(asked.to_owned());
        }
        let host = host(&self.workspace.root)?;
        let Some(musl) = host.strip_suffix("-gnu").map(|system| format!("{system}-musl")) else { return Ok(host) };
        if is_installed(&musl)? {
            return Ok(musl);
        }
        absent
            .push(format!("a checker that needs no library: rustup target add {musl}. The one for {host} needs glibc"));
        Ok(host)
    }

    /// Builds the checker with the modules of target/policies, and packs it.
    fn checker(&self, target: &str) -> Result<()> {
        let binary = self.binary(target)?;
        let name = format!("{CHECKER}-v{}-{target}", self.version);
        let file = self.folder.join(format!("{name}.tar.gz"));
        let pack = || -> Result<()> {
            // Neither a day nor an owner: the same binary gives the same archive.
            let packed = GzBuilder::new().write(File::create(&file)?, Compression::best());
            let mut archive = tar::Builder::new(packed);
            let root = &self.workspace.root;
            let command = format!("{CHECKER}{}", if target.contains("windows") { ".exe" } else { "" });
            for (from, to, mode) in [
                (binary.clone(), command.as_str(), 0o755),
                (root.join("LICENSE"), "LICENSE", 0o644),
                (root.join("README.md"), "README.md", 0o644),
                (root.join("CHANGELOG.md"), "CHANGELOG.md", 0o644),
            ] {
                let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
                let mut header = tar::Header::new_ustar();
                header.set_size(content.len() as u64);
                header.set_mode(mode);
                archive.append_data(&mut header, format!("{name}/{to}"), content.as_slice())?;
            }
            archive.into_inner()?.finish()?.flush()?;
            Ok(())
        };
        pack().with_context(|| format!("cannot write {}", file.display()))
    }

    /// The checker, built for the target.
    fn binary(&self, target: &str) -> Result<PathBuf> {
        checker(&self.workspace, target, &self.version)
    }

    /// A bill of materials for the checker and, unless it is alone, for each module: what is linked, and what builds it. cargo-cyclonedx
    /// writes beside each manifest, so it is let loose on a copy.
    fn bills(&self, target: &str, checker_alone: bool, absent: &mut Vec<String>) -> Result<()> {
        let asked = Command::new(workspace::cargo()).args(["cyclonedx", "--version"]).output();
        if !asked.is_ok_and(|asked| asked.status.success()) {
            absent.push("the bills of materials: cargo install --locked cargo-cyclonedx".to_owned());
            return Ok(());
        }
        let copy = TempDir::new()?;
        let root = copy.path();
        for file in reproducible::files(&self.workspace.root)? {
            reproducible::copy(&self.workspace.root.join(&file), &root.join(&file))?;
        }
        let mut asked =
            vec![(target, vec![(format!("crates/{CHECKER}"), format!("{CHECKER}-v{}-{target}", self.version))])];
        if !checker_alone {
            let policies = self.workspace.policies.iter();
            asked.push((
                GUEST,
                policies.map(|policy| (format!("policies/{}", policy.name), policy.name.clone())).collect(),
            ));
        }
        for (target, packages) in asked {
            let mut command = Command::new(workspace::cargo());
            command.current_dir(root).args(["cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5"]);
            command.args(["--all", "--target", target, "--override-filename", "bill"]);
            command.env("SOURCE_DATE_EPOCH", self.day()?);
            let made = process::output(command, copy.path(), LIMIT)?;
            if !made.success {
                bail!("cargo cyclonedx: {}{}", made.stdout, made.stderr);
            }
            for (package, name) in packages {
                let bill = root.join(&package).join("bill.json");
                let text = fs::read_to_string(&bill).with_context(|| format!("no bill of {package}"))?;
                let text = placeless(&text, &package, &self.version)?;
                fs::write(self.folder.join(format!("{name}.cdx.json")), text)?;
            }
        }
        Ok(())
    }

    /// When this was committed, in seconds since 1970: the bills of one commit are the same on any day.
    fn day(&self) -> Result<String> {
        if let Ok(day) = std::env::var("SOURCE_DATE_EPOCH") {
            return Ok(day);
        }
        let mut git = Command::new("git");
        git.args(["log", "-1", "--format=%ct"]).current_dir(&self.workspace.root);
        said(git)
    }

    /// The chart, as Helm packs it.
    fn chart(&self, absent: &mut Vec<String>) -> Result<()> {
        let Some(helm) = process::find("HELM", "helm")? else {
            absent.push("the chart: helm is not on PATH, nor named by HELM".to_owned());
            return Ok(());
        };
        let scratch = TempDir::new()?;
        let mut command = Command::new(helm);
        command.arg("package").arg(self.workspace.root.join(CHART)).arg("--destination").arg(&self.folder);
        let made = process::output(command, scratch.path(), LIMIT)?;
        let file = self.folder.join(chart_file(&self.version));
        if !made.success || !file.is_file() {
            bail!("helm package: {}{}", made.stdout, made.stderr);
        }
        Ok(())
    }
}

/// A bill without the folder in which it was made: Cargo names a package of the workspace by its path, and that copy is nowhere any more.
fn placeless(bill: &str, package: &str, version: &str) -> Result<String> {
    const SCHEME: &str = "path+file://";
    let end =
        bill.find(&format!("/{package}#{version}")).with_context(|| format!("the bill does not name {package}"))?;
    let start = bill[..end].rfind(SCHEME).with_context(|| format!("the bill does not say where {package} is"))?;
    Ok(bill.replace(&bill[start..end], &format!("{SCHEME}/quorate")))
}

/// Builds the checker for the target, with the modules of target/policies, and has it name its version where this machine can run it.
pub(crate) fn checker(workspace: &Workspace, target: &str, version: &str) -> Result<PathBuf> {
    let host = host(&workspace.root)?;
    let mut command = Command::new(workspace::cargo());
    command.current_dir(&workspace.root).args(["build", "--release", "--workspace", "--locked", "--bin", CHECKER]);
    command.env("QUORATE_MODULES", workspace.target.join("policies"));
    let mut folder = workspace.target.clone();
    if target != host {
        command.args(["--target", target]);
        folder.push(target);
    }
    if !command.status().context("cannot start cargo")?.success() {
        bail!("the checker cannot be built for {target}");
    }
    let binary =
        folder.join("release").join(format!("{CHECKER}{}", if target.contains("windows") { ".exe" } else { "" }));
    let system =
        |target: &str| target.strip_suffix("-musl").or(target.strip_suffix("-gnu")).unwrap_or(target).to_owned();
    if system(target) == system(&host) {
        let mut asked = Command::new(&binary);
        asked.arg("--version");
        let told = said(asked)?;
        if told != format!("{CHECKER} {version}") {
            bail!("{} calls itself {told}, not {CHECKER} {version}", binary.display());
        }
    }
    Ok(binary)
}

/// What this machine is, as Rust calls it.
pub(crate) fn host(root: &Path) -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(root);
    let told = said(rustc)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what this machine is")?.to_owned())
}

/// Whether Rust can build for the target.
pub(crate) fn is_installed(target: &str) -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    Ok(Path::new(&said(rustc)?).is_dir())
}

/// What a program says, without the last line break.
fn said(mut command: Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8(output.stdout)
        .with_context(|| format!("{name} said something unreadable"))?
        .trim_end()
        .to_owned())
}

/// The files of the folder, by name.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        names.push(entry?.file_name().into_string().ok().context("a file has a name that is not UTF-8")?);
    }
    names.sort();
    Ok(names)
}

/// The digest of a file, as hexadecimal digits.
pub(crate) fn digest(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut digits = String::new();
    for byte in Sha256::digest(content) {
        write!(digits, "{byte:02x}")?;
    }
    Ok(digits)
}

/// Writes the checksums of all that is in the folder.
fn sums(folder: &Path) -> Result<()> {
    let mut sums = String::new();
    for name in names(folder)?.into_iter().filter(|name| name != SUMS) {
        writeln!(sums, "{}  {name}", digest(&folder.join(&name))?)?;
    }
    if sums.is_empty() {
        bail!("{} is empty", folder.display());
    }
    fs::write(folder.join(SUMS), sums).with_context(|| format!("cannot write {SUMS}"))
}

/// Fails unless all that is in the folder has the checksums that are written there.
pub(crate) fn verify(folder: &Path) -> Result<()> {
    let sums = fs::read_to_string(folder.join(SUMS))
        .with_context(|| format!("no {SUMS} in {}; make dist writes it", folder.display()))?;
    let mut named = Vec::new();
    for line in sums.lines() {
        let (digest, name) = line.split_once("  ").with_context(|| format!("{SUMS}: cannot read `{line}`"))?;
        if self::digest(&folder.join(name))? != digest {
            bail!("{name} is not as {SUMS} has it");
        }
        named.push(name);
    }
    match names(folder)?.iter().find(|name| *name != SUMS && !named.contains(&name.as_str())) {
        Some(stranger) => bail!("{SUMS} does not name {stranger}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_names_no_folder_of_the_machine() {
        let bill =
            r#"{"a":"path+file:///C:/t/x/crates/quorate#1.2.3","b":["path+file:///C:/t/x/crates/cluster#1.2.3"]}"#;
        assert_eq!(placeless(bill, "crates/quorate", "1.2.3").unwrap(), bill.replace("/C:/t/x", "/quorate"));
        assert!(placeless(bill, "crates/quorate", "1.2.4").is_err());
        assert!(placeless(bill, "policies/none", "1.2.3").is_err());
    }

    #[test]
    fn checksums_tell_what_was_changed_added_or_lost() {
        let folder = TempDir::new().unwrap();
        let put = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
        let told = || verify(folder.path()).map_err(|error| format!("{error:#}"));
        assert!(sums(folder.path()).is_err(), "nothing is no release");
        put("b", "");
        put("a", "abc");
        sums(folder.path()).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join(SUMS)).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
        );
        assert_eq!(told(), Ok(()));
        put("a", "abd");
        assert_eq!(told(), Err("a is not as SHA256SUMS has it".to_owned()));
        put("a", "abc");
        put("c", "");
        assert_eq!(told(), Err("SHA256SUMS does not name c".to_owned()));
        fs::remove_file(folder.path().join("c")).unwrap();
        fs::remove_file(folder.path().join("b")).unwrap();
        assert!(told().unwrap_err().starts_with("cannot read"));
    }
}
