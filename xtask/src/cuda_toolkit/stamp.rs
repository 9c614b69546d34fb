//! The stamp of a finished toolkit. It lists the contents, so that a second call knows that nothing is left
//! to do.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::wheels;

pub(super) const NAME: &str = "made-of.txt";

/// Raise it when the layout of the tree changes.
const SHAPE: u32 = 1;

/// The text of a stamp.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The stamp of the requested tree.
    wanted: String,
    /// The stamp of another tree that also suits: the full tree holds everything that the other one has.
    also_good: Option<String>,
}

impl Stamp {
    /// `cudarc` is the version of the crate that the stubs' names come from.
    pub(super) fn new(full: bool, cudarc: &str) -> Self {
        let light = || format!("{}stubs for cudarc {cudarc}\n", text(false));
        if full {
            Self { wanted: text(true), also_good: None }
        } else {
            Self { wanted: light(), also_good: Some(text(true)) }
        }
    }

    pub(super) fn is_met_by(&self, root: &Path) -> bool {
        let found = fs::read_to_string(root.join(NAME)).ok();
        found.is_some_and(|found| found == self.wanted || Some(found) == self.also_good)
    }

    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(NAME);
        fs::write(&path, &self.wanted).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// Whether a toolkit under `root` was finished, with any contents.
pub(super) fn is_finished(root: &Path) -> bool {
    root.join(NAME).is_file()
}

fn text(full: bool) -> String {
    let wheels: Vec<&str> = wheels::names(full).collect();
    format!("shape {SHAPE}\n{}\n", wheels.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolkit_is_known_again() {
        let root = tempfile::tempdir().unwrap();
        let light = Stamp::new(false, "0.19.10");
        assert!(!light.is_met_by(root.path()) && !is_finished(root.path()));
        light.write(root.path()).unwrap();
        assert!(light.is_met_by(root.path()) && is_finished(root.path()));
        // Other declarations need other stubs.
        assert!(!Stamp::new(false, "0.20.0").is_met_by(root.path()));
        assert!(!Stamp::new(true, "0.19.10").is_met_by(root.path()));
    }

    #[test]
    fn the_full_toolkit_does_for_both() {
        let root = tempfile::tempdir().unwrap();
        Stamp::new(true, "0.19.10").write(root.path()).unwrap();
        assert!(Stamp::new(true, "0.20.0").is_met_by(root.path()));
        assert!(Stamp::new(false, "0.20.0").is_met_by(root.path()));
    }
}
