//! `image`: the container image of the checker, by `Containerfile`, and whether it works.
//!
//! The image holds one file, which needs no library: the modules are in it. It is made for this machine; the release workflow makes it
//! for two from the same file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::e2e::process;
use crate::{dist, reproducible, versions, workspace};

/// What may build an image, in this order.
const BUILDERS: [&str; 3] = ["podman", "docker", "buildah"];
/// A manifest that the checker must refuse.
const BROKEN: &str = "test-data/ensembles/zookeeper-broken.yaml";
/// One that it must accept.
const SOUND: &str = "test-data/ensembles/zookeeper-sound.yaml";

/// Builds the image, and has it check a broken and a sound manifest. The builder is named by the variable CONTAINER, or is the first of podman,
/// docker and buildah on PATH.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when there is no builder
    #[arg(long)]
    require: bool,
    /// What the image is called. Else quorate, with the version
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    let Some(builder) = builder()? else {
        let absent = format!("no image: none of {} is on PATH, nor is one named by CONTAINER", BUILDERS.join(", "));
        if args.require {
            bail!("{absent}");
        }
        println!("DID NOT RUN: {absent}");
        return Ok(());
    };
    let version = versions::version(&workspace)?;
    let (target, platform) = target(&dist::host(&workspace.root)?)?;
    if !dist::is_installed(&target)? {
        bail!("Rust cannot build for {target} yet: rustup target add {target}");
    }
    let binary = dist::checker(&workspace, &target, &version)?;
    let folder = workspace.target.join("image");
    reproducible::copy(&binary, &folder.join(format!("quorate-{platform}")))?;
    reproducible::copy(&workspace.root.join("LICENSE"), &folder.join("LICENSE"))?;

    let tag = args.tag.clone().unwrap_or_else(|| format!("quorate:{version}"));
    let buildah = name(&builder) == "buildah";
    let mut command = Command::new(&builder);
    command.args(if buildah { &["build", "--layers=false"][..] } else { &["build"] });
    command.args(["--build-arg", &format!("TARGETARCH={platform}"), "--tag", &tag]);
    command.arg("--file").arg(workspace.root.join("Containerfile")).arg(&folder);
    if !command.status().with_context(|| format!("cannot start {}", builder.display()))?.success() {
        bail!("{} built no image", builder.display());
    }
    let image = Image { builder: &builder, buildah, tag: &tag };
    // The words too: a container that does not even start ends with some code as well.
    for (file, code, word) in [(BROKEN, 1, " errors"), (SOUND, 0, "nothing found")] {
        let manifest = fs::read(workspace.root.join(file)).with_context(|| format!("cannot read {file}"))?;
        let (found, said) = image.check(&manifest)?;
        let last = said.lines().last().unwrap_or_default();
        if found != Some(code) || !last.contains(word) {
            bail!("{file}: the checker in {tag} must end with {code}, and ended with {found:?}, saying `{last}`");
        }
        println!("  {file}: ended with {code}, as it must: {last}");
    }
    println!("{tag} is there");
    Ok(())
}

/// The program that builds images.
fn builder() -> Result<Option<PathBuf>> {
    for name in BUILDERS {
        if let Some(found) = process::find("CONTAINER", name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn name(program: &Path) -> &str {
    program.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What the checker in the image is built for here, as Rust and as containers call it.
fn target(host: &str) -> Result<(String, &'static str)> {
    let arch = host.split('-').next().unwrap_or_default();
    let platform = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => bail!("there is no image for {host}"),
    };
    Ok((format!("{arch}-unknown-linux-musl"), platform))
}

struct Image<'a> {
    builder: &'a Path,
    buildah: bool,
    tag: &'a str,
}

impl Image<'_> {
    /// The exit code of `check -` over a manifest, in a container without a network, and what it says.
    fn check(&self, manifest: &[u8]) -> Result<(Option<i32>, String)> {
        if !self.buildah {
            let mut command = Command::new(self.builder);
            command.args(["run", "--rm", "--interactive", "--network=none", "--read-only", self.tag, "check", "-"]);
            return fed(command, manifest);
        }
        let mut from = Command::new(self.builder);
        from.args(["from", self.tag]);
        let made = from.output().context("cannot start buildah")?;
        if !made.status.success() {
            bail!("buildah from: {}", String::from_utf8_lossy(&made.stderr));
        }
        let container = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let mut run = Command::new(self.builder);
        // It needs no more than another root: so it runs where a machine lets no container be made, too.
        run.args(["run", "--isolation=chroot", &container, "--", "/quorate", "check", "-"]);
        let code = fed(run, manifest);
        let mut remove = Command::new(self.builder);
        remove.args(["rm", &container]).stdout(Stdio::null());
        // What it found out is more to the point than a container that stays.
        drop(remove.status());
        code
    }
}

/// The exit code of a program that reads this, and what it says.
fn fed(mut command: Command, input: &[u8]) -> Result<(Option<i32>, String)> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the container")?;
    // It reads all before it says anything; who ends at once reads nothing, and the exit code says more than a broken pipe.
    let written = child.stdin.take().context("nothing can be written")?.write_all(input);
    let output = child.wait_with_output()?;
    if output.status.success() {
        written?;
    }
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_for_linux_on_this_kind_of_machine() {
        assert_eq!(target("aarch64-apple-darwin").unwrap(), ("aarch64-unknown-linux-musl".to_owned(), "arm64"));
        assert_eq!(target("x86_64-unknown-linux-gnu").unwrap(), ("x86_64-unknown-linux-musl".to_owned(), "amd64"));
        assert!(target("riscv64gc-unknown-linux-gnu").is_err());
    }
}
