//! `cargo xtask cuda-toolkit`: makes a CUDA toolkit to build with, on a machine without GPU, driver or
//! root.
//!
//! NVIDIA publishes the compiler and the headers as Python wheels. They only need the folder layout that
//! build scripts expect. The libraries that a program is linked with (cuBLAS and others) are ten times as
//! large, and a build does not need them: the linker accepts stubs with their names. `--full` also brings
//! the libraries, for a machine that has a GPU but no CUDA.

mod env_script;
mod layout;
mod stamp;
mod stubs;
mod wheels;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::experiment::absolute;
use crate::resolved::Resolved;
use stamp::Stamp;

/// The prefix of compiler, headers and libraries of CUDA 13 in the wheels.
const PREFIX: &str = "site/nvidia/cu13";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Also bring the libraries that a CUDA program needs to run: 1.2 GB instead of 105 MB
    #[arg(long)]
    full: bool,
    /// Where to put the toolkit [default: target/cuda-toolkit]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(cfg!(target_os = "linux"), "the wheels of the CUDA toolkit are for Linux");
    let root = match &arguments.root {
        Some(folder) => absolute(folder)?,
        None => default_root(),
    };
    let wanted = Stamp::new(arguments.full, &cargo::locked_version("cudarc")?);
    if wanted.is_met_by(&root) {
        eprintln!("cuda-toolkit: all of it is there already");
    } else {
        assemble(&root, arguments.full)?;
        wanted.write(&root)?;
    }
    let script = root.join(env_script::NAME);
    println!("source {}", env_script::quoted(&script));
    eprintln!(
        "with that, `cargo build --features cuda` works; `cargo xtask` finds the default place by itself"
    );
    Ok(ExitCode::SUCCESS)
}

/// The folder where `cargo xtask` looks for a toolkit that it made.
pub(crate) fn default_root() -> PathBuf {
    cargo::root().join("target/cuda-toolkit")
}

/// The folder with `bin/nvcc` of the toolkit under `root`, if a finished one is there.
pub(crate) fn home(root: &Path) -> Option<PathBuf> {
    stamp::is_finished(root).then(|| root.join(PREFIX))
}

/// Makes the toolkit from scratch. It counts as unfinished until its stamp is written.
fn assemble(root: &Path, full: bool) -> Result<()> {
    stubs::check_compiler()?;
    wheels::check_pip()?;
    clear(root)?;
    eprintln!(
        "cuda-toolkit: fetching {} of wheels into `{}`",
        if full { "1.2 GB" } else { "105 MB" },
        root.display()
    );
    wheels::install(full, &root.join("site"))?;
    let home = root.join(PREFIX);
    layout::complete(&home)?;
    eprintln!("cuda-toolkit: making stubs for the linker");
    stubs::driver(&home)?;
    if !full {
        // The linker must find the functions that this crate declares.
        stubs::libraries(&home, &Resolved::with_cuda()?.sources("cudarc")?)?;
    }
    env_script::write(root, &home, full)?;
    let version = nvcc_version(&home)?;
    eprintln!("cuda-toolkit: {version}");
    Ok(())
}

/// Removes the files of an earlier call, the stamp first, and nothing else.
fn clear(root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make `{}`", root.display()))?;
    for name in [stamp::NAME, env_script::NAME] {
        remove(&root.join(name), |path| fs::remove_file(path))?;
    }
    remove(&root.join("site"), |path| fs::remove_dir_all(path))
}

fn remove(path: &Path, remove: fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// The line with nvcc's release. It also proves that the compiler starts.
fn nvcc_version(home: &Path) -> Result<String> {
    let text = cargo::output(Command::new(home.join("bin/nvcc")).arg("--version"))?;
    let Some(line) = text.lines().find(|line| line.contains("release")) else {
        bail!("nvcc of the new toolkit says nothing of its release: `{}`", text.trim())
    };
    Ok(line.to_owned())
}
