//! `cargo xtask bench --pack DIR`: gathers what the bench needs on a machine with a card that has no cargo.
//!
//! The pack holds this very program, the jobs, the command, tests of the ops with their reference values, the scripts
//! for PyTorch, and `run.sh`, which runs everything there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::JOBS_BENCH;
use super::environment::BuiltWith;
use super::programs::{BUILT_WITH, JOBS, scripts};
use crate::cargo::{CLI, Test, build_release, build_tests, root};
use crate::cuda;
use crate::misuse::Misuse;

const SCRIPTS: [&str; 5] =
    ["torch_jobs.py", "torch_work.py", "torch_data.py", "torch_ranks.py", "run.sh"];
/// The recipe of the tutorial's run, for the command.
const RECIPE: &str = "xtask/experiments/cifar10-resnet18.toml";
/// The packages whose tests say whether a card computes what it should, and the names of those tests.
const TESTED: [&str; 2] = ["candle-vision-ops", "candle-vision-train"];
const TESTS: [&str; 6] = ["cuda", "conv2d", "exact_convolution", "linear", "ops", "upload"];
/// Where tests look for reference values in the folder of their package.
const REFERENCE: &str = "tests/reference";

/// Builds everything and puts it into a folder.
///
/// # Errors
/// If the folder has something in it, something does not build, or a file cannot be written.
pub(super) fn gather(folder: &Path) -> Result<()> {
    check_is_empty(folder)?;
    let options = cuda::options_for_elsewhere()?;
    let jobs = build_release(&JOBS_BENCH, &options)?;
    let command = build_release(&CLI, &options)?;
    let tests = build_tests(&TESTED, &TESTS, &options)?;
    let this = std::env::current_exe().context("this program's own file is not to be found")?;
    copy_program(&this, &folder.join("bin/xtask"))?;
    copy_program(&jobs, &folder.join(JOBS))?;
    copy_program(&command, &folder.join("bin/candle-vision"))?;
    for test in &tests {
        copy_test(test, folder)?;
    }
    for script in SCRIPTS {
        copy(&scripts().join(script), &folder.join(script))?;
    }
    let recipe = root().join(RECIPE);
    copy(&recipe, &folder.join(recipe.file_name().context("the recipe has a name")?))?;
    let built_with =
        serde_json::to_string_pretty(&BuiltWith::here()).context("cannot write JSON")?;
    let path = folder.join(BUILT_WITH);
    fs::write(&path, built_with).with_context(|| format!("cannot write `{}`", path.display()))?;
    eprintln!(
        "bench: `{0}` is ready; on the machine with the card: bash {0}/run.sh --python PYTHON",
        folder.display()
    );
    Ok(())
}

/// What an earlier call left would be taken for a part of the pack.
fn check_is_empty(folder: &Path) -> Result<()> {
    let is_empty = fs::read_dir(folder).map_or(!folder.exists(), |mut all| all.next().is_none());
    if is_empty {
        return Ok(());
    }
    Err(Misuse(format!("--pack: `{}` is not an empty folder", folder.display())).into())
}

/// A test goes to `tests/PACKAGE`, which is the folder of its package when it runs there.
fn copy_test(test: &Test, folder: &Path) -> Result<()> {
    let package = test.package.file_name().context("a package has a folder")?;
    let place = folder.join("tests").join(package);
    copy_program(&test.path, &place.join(&test.name))?;
    let reference = test.package.join(REFERENCE);
    if reference.is_dir() {
        copy_folder(&reference, &place.join(REFERENCE))?;
    }
    Ok(())
}

/// Symbols take more space than code. A machine without `strip` packs them too.
fn copy_program(from: &Path, to: &Path) -> Result<()> {
    copy(from, to)?;
    let stripped = Command::new("strip").arg(to).status();
    if !stripped.is_ok_and(|status| status.success()) {
        eprintln!("bench: no `strip` here: `{}` keeps its symbols", to.display());
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries =
        fs::read_dir(from).with_context(|| format!("cannot list `{}`", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list `{}`", from.display()))?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy_folder(&path, &place)? } else { copy(&path, &place)? }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let Some(folder) = to.parent() else { bail!("`{}` is no file", to.display()) };
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let copied = fs::copy(from, to);
    copied.with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_there() {
        for script in SCRIPTS {
            assert!(scripts().join(script).is_file(), "{script}");
        }
        assert!(root().join(RECIPE).is_file());
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_is_empty(folder.path()).is_ok());
        assert!(check_is_empty(&folder.path().join("new")).is_ok());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for taken in [folder.path(), &file] {
            let error = check_is_empty(taken).unwrap_err();
            assert!(error.to_string().contains("not an empty folder"), "{error}");
        }
    }

    #[test]
    fn a_test_finds_its_reference_values_in_the_pack() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("crates/ops");
        copy(&root().join("Cargo.toml"), &package.join("tests/reference/deep/values.json"))
            .unwrap();
        let path = std::env::current_exe().unwrap();
        let pack = folder.path().join("pack");
        copy_test(&Test { package, name: "conv2d".to_owned(), path }, &pack).unwrap();
        let names = ["tests/ops/conv2d", "tests/ops/tests/reference/deep/values.json"];
        assert_eq!(names.map(|name| pack.join(name).is_file()), [true, true]);
        let help = Command::new(pack.join("tests/ops/conv2d")).arg("--help").output().unwrap();
        assert!(help.status.success(), "a packed program starts");
    }
}
