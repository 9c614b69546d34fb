//! The packages that cargo resolved for a build with CUDA.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo::cargo;

/// The part of `cargo metadata` that is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Resolved {
    packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

impl Resolved {
    pub(crate) fn with_cuda() -> Result<Self> {
        let mut metadata = cargo();
        // Without the feature no CUDA packages are resolved. Without the filter cargo would fetch the
        // packages of every platform.
        metadata.args(["metadata", "--format-version", "1", "--features", "cuda"]);
        metadata.args(["--filter-platform", "host-tuple"]);
        let output = metadata.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed, see its message above");
        }
        serde_json::from_slice(&output.stdout).context("cannot read the answer of `cargo metadata`")
    }

    /// The folder of a dependency's source files.
    pub(crate) fn sources(&self, package: &str) -> Result<PathBuf> {
        let found = self.packages.iter().find(|found| found.name == package);
        let found = found.with_context(|| format!("cargo resolved no package `{package}`"))?;
        Ok(found.manifest_path.with_file_name("src"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn sources_lie_beside_the_manifest() {
        let text = r#"{"packages":[{"name":"cudarc","manifest_path":"/registry/cudarc-0/Cargo.toml"}],
            "target_directory":"/target","version":1}"#;
        let resolved: Resolved = serde_json::from_str(text).unwrap();
        assert_eq!(resolved.sources("cudarc").unwrap(), Path::new("/registry/cudarc-0/src"));
        let missing = resolved.sources("candle-kernels").unwrap_err();
        assert!(missing.to_string().contains("candle-kernels"), "{missing}");
    }
}
