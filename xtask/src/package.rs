//! `cargo xtask package`: packs the published crates as crates.io would get them.
//!
//! `cargo package --workspace` orders the crates by their dependencies. For crates that no registry has
//! yet, it uses the ones that it has just packed. It works without a network if the dependencies are in
//! cargo's cache, which they are after a build.
//!
//! The packed crates are not built, because that would compile candle again in its own folder. Such a build
//! would find files that are read from outside a crate's folder. `cargo xtask tidy` looks for these
//! instead.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo::{cargo, succeeds};
use crate::workspace::{Package, metadata, packages};

pub(crate) fn run() -> Result<ExitCode> {
    let packed = succeeds(&mut command(&packages(&metadata()?)?))?;
    Ok(if packed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(packages: &[Package]) -> Command {
    let mut command = cargo();
    command.args(["package", "--workspace", "--no-verify", "--offline", "--allow-dirty"]);
    for package in packages.iter().filter(|package| !package.is_published()) {
        command.args(["--exclude", &package.name]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_is_not_packed() {
        let metadata =
            r#"{"packages": [{"name": "a", "publish": null}, {"name": "xtask", "publish": []}]}"#;
        let command = command(&packages(metadata).unwrap());
        let words: Vec<_> = command.get_args().filter_map(|word| word.to_str()).collect();
        assert!(words.windows(2).any(|pair| pair == ["--exclude", "xtask"]), "{words:?}");
        assert!(!words.contains(&"a"), "{words:?}");
    }
}
