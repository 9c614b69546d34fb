//! The workspace's packages, as `cargo metadata` lists them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo::{cargo, output};

/// A package of the workspace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    /// The registries that may get it. `None` means all of them. An empty list means no registry.
    publish: Option<Vec<String>>,
    pub(crate) description: Option<String>,
    /// The path in the manifest, relative to the package's folder.
    pub(crate) readme: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    metadata: serde_json::Value,
    pub(crate) targets: Vec<Target>,
}

/// A library, program, test, example or bench of a package.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) src_path: PathBuf,
}

impl Package {
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    pub(crate) fn has_docs_rs_settings(&self) -> bool {
        self.metadata.pointer("/docs/rs").is_some()
    }

    /// The package's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new(""))
    }
}

/// The output of `cargo metadata` for the workspace's packages.
pub(crate) fn metadata() -> Result<String> {
    output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))
}

/// The packages in the output of [`metadata`].
pub(crate) fn packages(metadata: &str) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cannot read the output of `cargo metadata`")?;
    Ok(metadata.packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_of_registries_means_that_a_package_stays_here() {
        let metadata = r#"{"packages": [
            {"name": "a", "manifest_path": "/w/crates/a/Cargo.toml", "publish": null,
             "metadata": {"docs": {"rs": {"all-features": true}}}},
            {"name": "b", "manifest_path": "/w/b/Cargo.toml", "publish": [], "metadata": null},
            {"name": "c", "manifest_path": "/w/c/Cargo.toml", "publish": ["ours"]}
        ]}"#;
        let packages = packages(metadata).unwrap();
        assert_eq!(
            packages.iter().map(Package::is_published).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert!(packages[0].has_docs_rs_settings() && !packages[1].has_docs_rs_settings());
        assert_eq!(packages[0].folder(), Path::new("/w/crates/a"));
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(packages("[]").is_err());
    }
}
