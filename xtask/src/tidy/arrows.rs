//! Which crate of the project may depend on which.

use anyhow::{Context, Result};
use serde::Deserialize;

/// The arrows of `docs/architecture.md`: each package and the packages that it may depend on, also in
/// tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("candle-vision-test-support", &["candle-vision-ops"]),
    ("candle-vision-registry", &[]),
    ("candle-vision-files", &[]),
    ("candle-vision-distributed", &[]),
    ("candle-vision-kernels", &[]),
    ("candle-vision-ops", &["candle-vision-kernels"]),
    ("candle-vision-data", &["candle-vision-registry"]),
    ("candle-vision-models", &["candle-vision-ops", "candle-vision-registry"]),
    (
        "candle-vision-train",
        &[
            "candle-vision-ops",
            "candle-vision-data",
            "candle-vision-models",
            "candle-vision-registry",
            "candle-vision-files",
            "candle-vision-distributed",
        ],
    ),
    (
        "candle-vision-explain",
        &[
            "candle-vision-ops",
            "candle-vision-models",
            "candle-vision-registry",
            "candle-vision-files",
        ],
    ),
    ("candle-vision-report", &["candle-vision-train", "candle-vision-explain"]),
    ("candle-vision-fetch", &["candle-vision-files"]),
    (
        "candle-vision",
        &[
            "candle-vision-ops",
            "candle-vision-data",
            "candle-vision-models",
            "candle-vision-train",
            "candle-vision-explain",
            "candle-vision-report",
            "candle-vision-registry",
            "candle-vision-distributed",
        ],
    ),
    ("candle-vision-recipe", &["candle-vision", "candle-vision-fetch"]),
    ("candle-vision-cli", &["candle-vision", "candle-vision-fetch", "candle-vision-recipe"]),
    // Tests that belong to no single crate.
    (
        "candle-vision-tests",
        &[
            "candle-vision",
            "candle-vision-recipe",
            "candle-vision-cli",
            // The parsers of outside bytes.
            "candle-vision-data",
            "candle-vision-fetch",
            "candle-vision-models",
            "candle-vision-registry",
            "candle-vision-train",
        ],
    ),
    ("xtask", &[]),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or `None` for a normal dependency.
    kind: Option<String>,
}

/// The faults in the output of `cargo metadata --no-deps`, one line each.
pub(super) fn check(metadata: &str) -> Result<Vec<String>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cannot read the output of `cargo metadata`")?;
    let is_ours = |name: &str| metadata.packages.iter().any(|package| package.name == name);
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            faults.push(format!(
                "`{}` has no row in the table of crates; discuss its place in docs/architecture.md, then add it to xtask/src/tidy/arrows.rs",
                package.name
            ));
            continue;
        };
        let ours = package.dependencies.iter().filter(|dependency| is_ours(&dependency.name));
        let ours = ours.filter(|dependency| !is_for_tests(dependency));
        for dependency in ours.filter(|dependency| !allowed.contains(&dependency.name.as_str())) {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            faults.push(format!(
                "`{}` depends on `{}` ({kind}), an arrow that docs/architecture.md does not have; discuss it there before adding it",
                package.name, dependency.name
            ));
        }
    }
    Ok(faults)
}

/// The crate that tests share is not published, so any crate may use it in tests.
fn is_for_tests(dependency: &Dependency) -> bool {
    dependency.name == "candle-vision-test-support" && dependency.kind.as_deref() == Some("dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(packages: &[(&str, &[(&str, &str)])]) -> String {
        let package = |(name, dependencies): &(&str, &[(&str, &str)])| {
            let dependencies: Vec<_> = dependencies
                .iter()
                .map(|(name, kind)| {
                    let kind = (*kind != "normal").then_some(kind);
                    serde_json::json!({ "name": name, "kind": kind })
                })
                .collect();
            serde_json::json!({ "name": name, "dependencies": dependencies })
        };
        let packages: Vec<_> = packages.iter().map(package).collect();
        serde_json::json!({ "packages": packages }).to_string()
    }

    #[test]
    fn allowed_arrows_and_foreign_crates_pass() {
        let graph = graph(&[
            ("candle-vision-kernels", &[("rayon", "normal")]),
            (
                "candle-vision-ops",
                &[("candle-core", "normal"), ("candle-vision-kernels", "normal")],
            ),
            ("candle-vision-models", &[("candle-vision-ops", "normal"), ("tempfile", "dev")]),
            ("xtask", &[("clap", "normal")]),
        ]);
        assert_eq!(check(&graph).unwrap(), [""; 0]);
    }

    #[test]
    fn each_forbidden_arrow_is_named_with_its_kind() {
        let graph = graph(&[
            ("candle-vision-ops", &[("candle-vision-models", "normal")]),
            ("candle-vision-kernels", &[("candle-vision-ops", "dev")]),
            ("candle-vision-models", &[("candle-vision-data", "dev")]),
            ("candle-vision-data", &[("candle-vision-fetch", "build")]),
            ("candle-vision-fetch", &[]),
            ("xtask", &[("candle-vision-ops", "normal")]),
        ]);
        let faults = check(&graph).unwrap();
        assert_eq!(faults.len(), 5, "{faults:#?}");
        assert!(
            faults[0].contains("`candle-vision-ops` depends on `candle-vision-models` (normal)")
        );
        assert!(faults[1].contains("`candle-vision-kernels` depends on `candle-vision-ops` (dev)"));
        assert!(faults[2].contains("`candle-vision-data` (dev)"));
        assert!(faults[3].contains("`candle-vision-fetch` (build)"));
        assert!(faults[4].contains("`xtask` depends on `candle-vision-ops`"));
        assert!(faults.iter().all(|fault| fault.contains("docs/architecture.md")));
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        let faults = check(&graph(&[("candle-vision-new", &[])])).unwrap();
        assert!(faults[0].contains("`candle-vision-new` has no row"), "{faults:?}");
    }

    #[test]
    fn the_table_has_no_cycle() {
        // Removing crates that depend on nothing left must remove them all.
        let mut left: Vec<_> = ARROWS.to_vec();
        while !left.is_empty() {
            let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
            let before = left.len();
            left.retain(|(_, allowed)| allowed.iter().any(|name| names.contains(name)));
            assert!(left.len() < before, "a cycle among {names:?}");
        }
    }

    #[test]
    fn other_output_is_an_error() {
        assert!(check("[]").is_err());
    }
}
