//! kubectl and helm, as people call them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use proof::plane::{Plane, Programs};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Programs that talk to the control plane as its administrator.
pub(crate) struct Tools {
    kubectl: PathBuf,
    helm: Option<PathBuf>,
    kubeconfig: PathBuf,
    /// What they cache goes here, and the files that they are given.
    folder: PathBuf,
}

impl Tools {
    pub(crate) fn new(programs: &Programs, plane: &Plane, folder: &Path) -> Result<Self> {
        Ok(Self {
            kubectl: programs.path("kubectl").to_owned(),
            helm: named_or_on_path("HELM", "helm")?,
            kubeconfig: plane.kubeconfig.clone(),
            folder: folder.to_owned(),
        })
    }

    /// Whether helm is there.
    pub(crate) fn has_helm(&self) -> bool {
        self.helm.is_some()
    }

    /// A place for a file or a folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs `kubectl` with the words of `line`, and `input` for what `-f -` reads.
    pub(crate) async fn kubectl(&self, line: &str, input: &str) -> Result<String, String> {
        self.run(&self.kubectl, line, input).await
    }

    /// Runs `helm`.
    pub(crate) async fn helm(&self, line: &str) -> Result<String, String> {
        match &self.helm {
            Some(helm) => self.run(helm, line, "").await,
            None => Err("there is no helm".to_owned()),
        }
    }

    async fn run(&self, program: &Path, line: &str, input: &str) -> Result<String, String> {
        let ended = async {
            let mut command = Command::new(program);
            command.args(line.split(' ')).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.folder);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read it ends the pipe.
                drop(stdin.write_all(input.as_bytes()).await);
            }
            child.wait_with_output().await
        };
        let output = ended.await.map_err(|error| format!("{}: {error}", program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("{line}: {}", text(&output.stderr)))
    }
}

/// The program that the variable names, or the one on `PATH`; none if there is none. A variable that names nothing is an error.
pub(crate) fn named_or_on_path(variable: &str, name: &str) -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os(variable).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        let found = std::fs::canonicalize(&named);
        return found.map(Some).with_context(|| format!("{variable} names {}, which cannot be read", named.display()));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&folders).filter_map(|folder| folder.join(name).canonicalize().ok());
    Ok(found.find(|path| path.is_file()))
}
