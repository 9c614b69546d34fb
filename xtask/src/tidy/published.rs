//! Checks that a published crate has everything that crates.io and docs.rs show, and all files that it
//! reads.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::outside;
use crate::workspace::Package;

const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// The faults of the published crates among `packages`. `files` are the project's files, relative to its
/// folder `root`.
pub(super) fn check(root: &Path, packages: &[Package], files: &[String]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for package in packages.iter().filter(|package| package.is_published()) {
        let folder = package.folder().strip_prefix(root).unwrap_or(package.folder());
        let prefix = format!("{}/", folder.display());
        let own: Vec<&str> = files.iter().filter_map(|path| path.strip_prefix(&prefix)).collect();
        faults.extend(manifest_faults(package, &prefix, &own));
        for file in own.iter().filter(|file| file.ends_with(".rs")) {
            let full = package.folder().join(file);
            // Git also lists files whose deletion is not committed yet.
            if !full.is_file() {
                continue;
            }
            let source = fs::read_to_string(&full);
            let source = source.with_context(|| format!("cannot read `{}`", full.display()))?;
            for (line, path) in outside::paths(file, &source) {
                faults.push(format!(
                    "`{prefix}{file}` line {line} leaves the crate's folder by `{path}`; a published crate has no files from there"
                ));
            }
        }
    }
    Ok(faults)
}

/// Everything that the manifest and the folder lack. `files` are relative to the crate's folder, `prefix`.
fn manifest_faults(package: &Package, prefix: &str, files: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut require = |has: bool, what: &str| {
        if !has {
            faults.push(format!("`{}` has no {what}, see `{prefix}Cargo.toml`", package.name));
        }
    };
    require(package.description.is_some(), "`description`");
    require(package.license.is_some(), "`license`");
    require(package.repository.is_some(), "`repository`");
    require(package.has_docs_rs_settings(), "`[package.metadata.docs.rs]`");
    let readme = package.readme.as_deref();
    require(readme.is_some_and(|readme| files.contains(&readme)), "README.md in its folder");
    for licence in LICENCES {
        require(files.contains(&licence), &format!("{licence} in its folder"));
    }
    for target in &package.targets {
        // Cargo joins the two paths without simplifying them: `crates/a/../../tests/a.rs`.
        let path = target.src_path.strip_prefix(package.folder()).unwrap_or(&target.src_path);
        if outside::leaves("", &path.to_string_lossy()) {
            faults.push(format!(
                "target `{}` of `{}` lies outside of its folder: `{}`",
                target.name,
                package.name,
                path.display()
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::workspace::packages;

    const FILES: [&str; 4] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"];

    /// A crate in `ROOT/crates/a` that has everything.
    fn whole(root: &Path) -> serde_json::Value {
        let folder = root.join("crates/a");
        serde_json::json!({
            "name": "a",
            "manifest_path": folder.join("Cargo.toml"),
            "description": "A crate.",
            "readme": "README.md",
            "license": "MIT",
            "repository": "https://example.org/a",
            "metadata": { "docs": { "rs": {} } },
            "targets": [{ "name": "a", "src_path": folder.join("src/lib.rs") }],
        })
    }

    #[track_caller]
    fn faults_of(package: serde_json::Value, files: &[&str]) -> Vec<String> {
        let metadata = serde_json::json!({ "packages": [package] }).to_string();
        manifest_faults(&packages(&metadata).unwrap()[0], "crates/a/", files)
    }

    #[test]
    fn each_thing_that_a_crate_lacks_is_named() {
        let root = PathBuf::from("/w");
        assert_eq!(faults_of(whole(&root), &FILES), [""; 0]);
        for key in ["description", "license", "repository", "readme"] {
            let mut package = whole(&root);
            package[key] = serde_json::Value::Null;
            let faults = faults_of(package, &FILES);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].to_lowercase().contains(key) && faults[0].contains("crates/a"));
        }
        let mut package = whole(&root);
        package["metadata"] = serde_json::Value::Null;
        assert!(faults_of(package, &FILES)[0].contains("docs.rs"));
        let faults = faults_of(whole(&root), &["README.md", "LICENSE-MIT"]);
        assert!(faults.len() == 1 && faults[0].contains("LICENSE-APACHE"), "{faults:?}");
    }

    #[test]
    fn a_readme_or_target_elsewhere_is_none_of_the_crate_s() {
        let root = PathBuf::from("/w");
        let mut package = whole(&root);
        package["readme"] = "../../README.md".into();
        assert!(faults_of(package, &FILES)[0].contains("README.md in its folder"));
        let mut package = whole(&root);
        for path in ["/w/crates/a/../../tests/cli/main.rs", "/w/tests/cli/main.rs"] {
            package["targets"][0]["src_path"] = path.into();
            assert!(faults_of(package.clone(), &FILES)[0].contains("tests/cli/main.rs"));
        }
    }

    #[test]
    fn code_that_leaves_the_folder_is_named_with_its_line() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("crates/a/src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("lib.rs"), "//! A.\nconst A: &str = include_str!(\"../../../a\");")
            .unwrap();
        let files: Vec<String> = FILES.iter().map(|file| format!("crates/a/{file}")).collect();
        let faults = |package: serde_json::Value| {
            let metadata = serde_json::json!({ "packages": [package] }).to_string();
            check(root.path(), &packages(&metadata).unwrap(), &files).unwrap()
        };
        let found = faults(whole(root.path()));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`crates/a/src/lib.rs` line 2"), "{found:?}");
        let mut kept = whole(root.path());
        kept["publish"] = serde_json::json!([]);
        assert_eq!(faults(kept), [""; 0]);
    }
}
