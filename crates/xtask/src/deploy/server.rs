//! The `policies.yml` of a policy-server that is started by hand.
//!
//! The server takes absolute paths only, which no file in a repository can have: `deploy/policy-server/policies.yml` has a
//! mark in their place, and `cargo xtask policies-yml` fills it in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::{Policy, whole};
use crate::generate::{COMMAND, Derived};
use crate::workspace;
use crate::yaml::Yaml;

/// The file with the mark.
const TEMPLATE: &str = "deploy/policy-server/policies.yml";
/// What stands for the folder of the modules.
const MODULES: &str = "@MODULES@";

/// Writes a policies.yml that starts a policy-server with all policies: deploy/policy-server/policies.yml with the absolute
/// paths of the modules.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the annotated modules, instead of target/policies; the file is written there too
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace::find()?;
    let modules = args.modules.clone().unwrap_or_else(|| workspace.target.join("policies"));
    let modules = fs::canonicalize(&modules)
        .with_context(|| format!("cannot read {}; make modules builds it", modules.display()))?;
    let absent: Vec<_> = workspace
        .policies
        .iter()
        .filter(|policy| !modules.join(format!("{}.wasm", policy.name)).is_file())
        .map(|policy| policy.name.as_str())
        .collect();
    if !absent.is_empty() {
        bail!("{} has no module of {}; make modules builds it", modules.display(), absent.join(", "));
    }
    let template =
        fs::read_to_string(workspace.root.join(TEMPLATE)).with_context(|| format!("cannot read {TEMPLATE}"))?;
    let folder = modules.to_str().with_context(|| format!("{} is not UTF-8", modules.display()))?;
    let file = modules.join("policies.yml");
    let text = filled(&template, folder);
    // An equal file keeps its time: what is made from the modules looks at the folder.
    if fs::read_to_string(&file).is_ok_and(|present| present == text) {
        println!("{} is there already", file.display());
        return Ok(());
    }
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

/// The file with the folder in the place of the mark; what would end an address is written as addresses write it.
fn filled(template: &str, folder: &str) -> String {
    let folder =
        folder.replace('%', "%25").replace(' ', "%20").replace('#', "%23").replace('?', "%3F").replace('"', "%22");
    let body: Vec<String> =
        template.lines().filter(|line| !line.starts_with('#')).map(|line| line.replace(MODULES, &folder)).collect();
    format!("# Written from {TEMPLATE}.\n{}\n", body.join("\n"))
}

/// The template.
pub(super) fn derived(root: &Path, policies: &[Policy]) -> Derived {
    let mut entries = Map::new();
    for policy in policies {
        let mut entry = json!({
            "module": format!("file://{MODULES}/{}.wasm", policy.name),
            "policyMode": "protect",
            "allowedToMutate": false,
            "settings": if policy.metadata.mutating { json!({ "mutate": false }) } else { json!({}) },
        });
        // By default a server lets nothing be looked up, whatever a module asks for. It takes no `null` for a list.
        if !policy.metadata.context_aware_resources.is_empty() {
            entry["contextAwareResources"] = policy.look_ups();
        }
        if let Some(capabilities) = &policy.metadata.host_capabilities {
            entry["hostCapabilities"] = json!(capabilities);
        }
        entries.insert(policy.name.clone(), entry);
    }
    let text = format!(
        "# Every policy for a policy-server without Kubewarden's controller. The server wants absolute paths: `make modules` fills them in\n\
         # for {MODULES} and writes target/policies/policies.yml; docs/install.md says how to start it. Written by {COMMAND}.\n{}",
        Yaml::from(&Value::Object(entries))
    );
    whole(root, TEMPLATE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_replaced_by_an_address() {
        let filled = filled("# About.\nx:\n  module: file://@MODULES@/x.wasm\n", "/a b/c#1");
        assert!(filled.ends_with("policies.yml.\nx:\n  module: file:///a%20b/c%231/x.wasm\n"), "{filled}");
        assert!(!filled.contains("About"), "{filled}");
    }
}
