//! Builds the policies of the workspace for Wasm, annotates them, compiles them for the target, and embeds the lot.
//!
//! With `QUORATE_MODULES=FOLDER` the annotated modules of that folder are taken instead: the Makefile has built them already.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use annotate::{Metadata, Package, Workspace};
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use wasmtime::Engine;

#[path = "src/engine/config.rs"]
mod config;

/// What guests are compiled to.
const GUEST: &str = "wasm32-wasip1";

/// An annotated module, ready to be run by any Kubewarden host.
struct Module {
    name: String,
    wasm: Vec<u8>,
}

fn main() {
    if let Err(error) = run() {
        // Cargo prints this line and no trace; it takes one line only.
        println!("cargo::error={}", format!("{error:#}").replace('\n', "; "));
    }
}

fn run() -> Result<()> {
    println!("cargo::rerun-if-env-changed=QUORATE_MODULES");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let modules = match env::var_os("QUORATE_MODULES").filter(|folder| !folder.is_empty()) {
        Some(folder) => ready_modules(Path::new(&folder))?,
        None => built_modules(&out)?,
    };
    embed(&modules, &out)
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).with_context(|| format!("Cargo did not set {name}"))
}

/// The modules in `folder`, by name.
fn ready_modules(folder: &Path) -> Result<Vec<Module>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let failed = || format!("QUORATE_MODULES: cannot read `{}`", folder.display());
    let mut modules = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        println!("cargo::rerun-if-changed={}", path.display());
        let named = || format!("QUORATE_MODULES: `{}`", path.display());
        let name = path.file_stem().and_then(|stem| stem.to_str()).with_context(named)?;
        let wasm = fs::read(&path).with_context(named)?;
        ensure!(annotate::read(&wasm).with_context(named)?.is_some(), "{} is not annotated", named());
        modules.push(Module { name: name.to_owned(), wasm });
    }
    ensure!(!modules.is_empty(), "QUORATE_MODULES: there is no .wasm file in `{}`", folder.display());
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(modules)
}

/// Builds and annotates every folder of `policies/`.
fn built_modules(out: &Path) -> Result<Vec<Module>> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = package.join("../..");
    ensure!(
        root.join("policies").is_dir() && root.join("Cargo.toml").is_file(),
        "the policies are not here: build this crate within its workspace, \
         or set QUORATE_MODULES to a folder of annotated modules"
    );
    // What ends up in a guest.
    for input in [".cargo", "Cargo.toml", "Cargo.lock", "policies", "crates/policy", "crates/workload"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    check_guest_target()?;

    let asked = ["metadata", "--locked", "--filter-platform", GUEST, "--format-version=1"];
    let described = cargo(&root)?.args(asked).output()?;
    ensure!(described.status.success(), "cargo metadata failed: {}", first_error(&described.stderr));
    let workspace = Workspace::from_cargo_metadata(&described.stdout)?;
    ensure!(!workspace.policies.is_empty(), "there is no package in policies/");

    let target = out.join("guests");
    let mut guests = cargo(&root)?;
    guests.args(["build", "--profile", "guest", "--locked", "--target", GUEST]).arg("--target-dir").arg(&target);
    guests.arg("--config").arg(annotate::without_origin(&described.stdout, GUEST)?);
    for policy in &workspace.policies {
        guests.args(["--package", &policy.name]);
    }
    let built = guests.output()?;
    if !built.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&built.stderr));
        bail!("the policies cannot be built for {GUEST}: {}", first_error(&built.stderr));
    }

    workspace.policies.iter().map(|policy| annotated(policy, &target)).collect()
}

/// The module that the nested build left in `target`, with its metadata.
fn annotated(policy: &Package, target: &Path) -> Result<Module> {
    let named = |file: &str| format!("policies/{}/{file}", policy.name);
    let (metadata, readme) = (named("metadata.yml"), named("README.md"));
    let text = fs::read(policy.folder.join("metadata.yml")).context(metadata.clone())?;
    let readme = fs::read_to_string(policy.folder.join("README.md")).context(readme)?;
    let facts = policy.facts(readme).annotations()?;
    let metadata = Metadata::from_yaml(&metadata, &text, &facts)?;
    let module = target.join(GUEST).join("guest").join(policy.module_file());
    let wasm = fs::read(module).with_context(|| format!("package `{}` gave no module", policy.name))?;
    let wasm = annotate::annotate(&wasm, &metadata).with_context(|| format!("package `{}`", policy.name))?;
    Ok(Module { name: policy.name.clone(), wasm })
}

/// What the nested build says first of its troubles; the rest is on standard error.
fn first_error(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let line = output.lines().find(|line| line.starts_with("error")).or(output.lines().next_back());
    line.unwrap_or("no reason given").to_owned()
}

/// A build without the target fails too, but on its first dependency and with a page of text.
fn check_guest_target() -> Result<()> {
    let rustc = variable("RUSTC")?;
    let asked = Command::new(&rustc).args(["--print", "target-libdir", "--target", GUEST]).output()?;
    let folder = String::from_utf8_lossy(&asked.stdout);
    let installed = asked.status.success() && Path::new(folder.trim()).is_dir();
    ensure!(installed, "the Rust target {GUEST} is not installed; run: rustup target add {GUEST}");
    Ok(())
}

/// Cargo as the user would call it in the workspace. What the outer build set for itself (its profile, its flags, its
/// wrappers such as clippy) is not for the guests; what the user set for the network is.
fn cargo(root: &Path) -> Result<Command> {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const DROPPED: [&str; 14] = [
        "CLIPPY_ARGS",
        "DEBUG",
        "HOST",
        "MAKEFLAGS",
        "MFLAGS",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "TARGET",
    ];
    let mut command = Command::new(variable("CARGO")?);
    command.current_dir(root);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = KEPT.iter().any(|kept| text.starts_with(kept));
        if (text.starts_with("CARGO") && !kept) || DROPPED.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    Ok(command)
}

/// Compiles the modules for the target and writes `builtins.rs`.
fn embed(modules: &[Module], out: &Path) -> Result<()> {
    let target = env::var("TARGET")?;
    let mut config = config::config();
    // Named even where it is this machine: else the code would need this very processor.
    let engine = config.target(&target).and_then(|config| Engine::new(config));
    if let Err(error) = &engine {
        println!(
            "cargo::warning=policies are not compiled ahead of time for {target}, so they start slower: {error:#}"
        );
    }

    let mut list = format!("static BUILTINS: [Builtin; {}] = [\n", modules.len());
    for Module { name, wasm } in modules {
        let mut digest = String::new();
        for byte in Sha256::digest(wasm) {
            write!(digest, "{byte:02x}")?;
        }
        let compiled = match &engine {
            Ok(engine) => match engine.precompile_module(wasm) {
                Ok(compiled) => compiled,
                Err(error) => bail!("`{name}`: {error:#}"),
            },
            Err(_) => Vec::new(),
        };
        fs::write(out.join(format!("{name}.wasm")), wasm)?;
        fs::write(out.join(format!("{name}.cwasm")), compiled)?;
        writeln!(
            list,
            "    Builtin {{ name: {name:?}, digest: {digest:?}, \
             wasm: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/\", {name:?}, \".wasm\")), \
             compiled: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/\", {name:?}, \".cwasm\")) }},"
        )?;
    }
    list.push_str("];\n");
    fs::write(out.join("builtins.rs"), list)?;
    Ok(())
}
