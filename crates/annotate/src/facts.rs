//! What Cargo knows about a policy already, so that `metadata.yml` need not repeat it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::Deserialize;

use crate::problem::Error;

/// Who answers for the policies; a name and an address, as Artifact Hub wants them.
const AUTHOR: &str = "The Quorate maintainers <maintainers@quorate.dev>";

/// The facts about one policy that annotations are derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The name of the package, which is that of the policy.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it asks for, in one sentence.
    pub description: String,
    /// Its licence, as SPDX writes it.
    pub license: String,
    /// Where the source is: `https://github.com/OWNER/NAME`.
    pub repository: String,
    /// The README in full.
    pub readme: String,
}

impl Facts {
    /// The annotations that follow from these facts: title, version, description, license, author, source, url,
    /// ociUrl, usage.
    ///
    /// The image is `ghcr.io/OWNER/REPOSITORY/NAME`: Kubewarden's own are named that way.
    ///
    /// # Errors
    /// [`Error::Facts`] when a fact is empty, the version is no semantic version, or the repository is not on GitHub.
    pub fn annotations(&self) -> Result<BTreeMap<String, String>, Error> {
        let unfit = |reason: String| Error::Facts { package: self.name.clone(), reason };
        let facts = [
            ("name", &self.name),
            ("version", &self.version),
            ("description", &self.description),
            ("license", &self.license),
            ("repository", &self.repository),
            ("README", &self.readme),
        ];
        if let Some((fact, _)) = facts.iter().find(|(_, value)| value.trim().is_empty()) {
            return Err(unfit(format!("its {fact} is empty")));
        }
        Version::parse(&self.version).map_err(|reason| unfit(format!("version `{}`: {reason}", self.version)))?;

        let repository = self.repository.trim_end_matches('/').trim_end_matches(".git");
        let project = repository
            .strip_prefix("https://github.com/")
            .filter(|project| matches!(project.split_once('/'), Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains('/')))
            .ok_or_else(|| {
                unfit(format!(
                    "no image name follows from the repository `{}`: it must be https://github.com/OWNER/NAME",
                    self.repository
                ))
            })?;
        // An image name has no capitals; an owner on GitHub may.
        let image = format!("ghcr.io/{project}/{}", self.name).to_lowercase();

        let annotations = [
            ("title", self.name.as_str()),
            ("version", &self.version),
            ("description", self.description.trim()),
            ("license", &self.license),
            ("author", AUTHOR),
            ("source", repository),
            ("url", repository),
            ("ociUrl", &image),
            ("usage", &self.readme),
        ];
        Ok(annotations.map(|(key, value)| (format!("io.kubewarden.policy.{key}"), value.to_owned())).into())
    }
}

/// A workspace with policies, as `cargo metadata --no-deps --format-version 1` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The folder of the root manifest.
    pub root: PathBuf,
    /// Where Cargo puts what it builds.
    pub target: PathBuf,
    /// The packages in `policies/NAME`, by name.
    pub policies: Vec<Package>,
}

/// One policy of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The name, which is also that of its folder.
    pub name: String,
    /// The version.
    pub version: String,
    /// The description; empty when the manifest has none.
    pub description: String,
    /// The licence; empty when the manifest has none.
    pub license: String,
    /// The repository; empty when the manifest has none.
    pub repository: String,
    /// The folder `policies/NAME`.
    pub folder: PathBuf,
}

impl Workspace {
    /// Reads what `cargo metadata --no-deps --format-version 1` printed. Cargo has applied workspace inheritance then.
    ///
    /// # Errors
    /// [`Error::CargoMetadata`] when it is something else, [`Error::Facts`] when a policy's folder has another name than
    /// its package: everything about a policy is found by its name.
    pub fn from_cargo_metadata(json: &[u8]) -> Result<Self, Error> {
        let read: CargoMetadata =
            serde_json::from_slice(json).map_err(|reason| Error::CargoMetadata(reason.to_string()))?;
        let home = read.workspace_root.join("policies");
        let mut policies = Vec::new();
        for package in read.packages {
            let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
            if folder.parent() != Some(&home) {
                continue;
            }
            if folder.file_name().and_then(|name| name.to_str()) != Some(&package.name) {
                let reason = format!("its folder `{}` must have its name", folder.display());
                return Err(Error::Facts { package: package.name, reason });
            }
            policies.push(Package {
                folder: folder.to_owned(),
                name: package.name,
                version: package.version,
                description: package.description.unwrap_or_default(),
                license: package.license.unwrap_or_default(),
                repository: package.repository.unwrap_or_default(),
            });
        }
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root: read.workspace_root, target: read.target_directory, policies })
    }
}

impl Package {
    /// The file name that Cargo gives the module: dashes become underscores.
    pub fn module_file(&self) -> String {
        format!("{}.wasm", self.name.replace('-', "_"))
    }

    /// The facts, with the text of the README.
    pub fn facts(&self, readme: String) -> Facts {
        Facts {
            name: self.name.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            license: self.license.clone(),
            repository: self.repository.clone(),
            readme,
        }
    }
}

#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<CargoPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}
