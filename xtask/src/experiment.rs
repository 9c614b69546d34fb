//! `cargo xtask experiment [NAME]`: passes a recipe to `candle-vision train`, or to `candle-vision sweep` if it has
//! variants or is asked for several networks. With `--ranks` it starts `mpirun`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cargo;
use crate::cuda::{self, Device, DeviceArguments};
use crate::misuse::Misuse;
use crate::mpirun::Mpirun;
use crate::recipes::{self, Recipe};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Name of the experiment; without it, all of them are listed
    name: Option<String>,
    /// Train for so many epochs instead of the recipe's
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[command(flatten)]
    device: DeviceArguments,
    /// Seed of everything drawn at random
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Folder with the data sets and weights
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Train these networks by the recipe, separated by commas, and compare them; or some of its variants
    #[arg(long, value_name = "NAMES")]
    networks: Option<String>,
    /// Change one setting of the recipe, e.g. training.optimizer.lr=0.01; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Train with so many processes on this machine, which `mpirun` starts; they share its cores unless
    /// RAYON_NUM_THREADS is set. The batch size is that of each process
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: Option<u16>,
    /// Further flags for `candle-vision train` or `candle-vision sweep`
    #[arg(last = true, value_name = "FLAGS")]
    further: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let recipes = recipes::all(&cargo::root().join("xtask/experiments"))?;
    let Some(name) = &arguments.name else {
        print!("{}", recipes::table(&recipes));
        eprintln!("\nrun one with `cargo xtask experiment NAME`");
        return Ok(ExitCode::SUCCESS);
    };
    let recipe = recipes::find(name, &recipes)?;
    // Errors in the arguments are found before the build, which takes minutes.
    let cli_arguments = cli_arguments(arguments, recipe)?;
    let mpirun = arguments.ranks.map(|ranks| Mpirun::find().map(|found| (ranks, found)));
    let mpirun = mpirun.transpose()?;
    let executable = if mpirun.is_some() { cargo::CLI.with_mpi() } else { cargo::CLI };
    let program = cuda::build(&executable, &arguments.device.device(), None)?;
    let mut command = match mpirun {
        None => program.command(),
        Some((ranks, mpirun)) => mpirun.command(ranks, &program),
    };
    command.args(cli_arguments).current_dir(cargo::root());
    cargo::become_command(command)
}

/// The arguments of `candle-vision` for the same experiment.
fn cli_arguments(arguments: &Arguments, recipe: &Recipe) -> Result<Vec<OsString>> {
    let is_sweep = arguments.networks.is_some() || recipe.has_variants();
    if is_sweep && arguments.ranks.is_some() {
        let message = "--ranks trains one run: name a recipe without variants, and no --networks";
        return Err(Misuse(message.to_owned()).into());
    }
    let command = if is_sweep { "sweep" } else { "train" };
    let mut cli: Vec<OsString> =
        vec![command.into(), "--recipe".into(), recipe.path.clone().into()];
    if arguments.ranks.is_some() {
        cli.push("--distributed".into());
    }
    let mut option = |name: &str, value: OsString| cli.extend([name.into(), value]);
    if let Some(networks) = &arguments.networks {
        option("--networks", networks.into());
    }
    for setting in &arguments.settings {
        option("--set", setting.into());
    }
    if let Some(epochs) = arguments.epochs {
        option("--epochs", epochs.to_string().into());
    }
    let device = arguments.device.device();
    if device != Device::Auto {
        option("--device", device.text().into());
    }
    if let Some(seed) = arguments.seed {
        option("--seed", seed.to_string().into());
    }
    if let Some(data) = &arguments.data {
        option("--data", absolute(data)?.into());
    }
    cli.extend(arguments.further.iter().cloned());
    Ok(cli)
}

/// The cli runs in the project's folder, but the user may be in another.
pub(crate) fn absolute(folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder).with_context(|| format!("`{}` is no folder", folder.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Arguments {
        let words = ["xtask"].iter().chain(words);
        Program::try_parse_from(words).unwrap().arguments
    }

    fn recipe(path: &str) -> Recipe {
        Recipe { name: "a".to_owned(), path: path.into() }
    }

    #[track_caller]
    fn check(words: &[&str], expected: &[&str]) {
        let cli = cli_arguments(&parse(words), &recipe("a.toml")).unwrap();
        assert_eq!(cli, expected);
    }

    #[test]
    fn flags_reach_the_cli() {
        check(&["a"], &["train", "--recipe", "a.toml"]);
        check(
            &["a", "--epochs", "1", "--device", "cpu", "--seed", "2", "--data", "/data"],
            &[
                "train", "--recipe", "a.toml", "--epochs", "1", "--device", "cpu", "--seed", "2",
                "--data", "/data",
            ],
        );
        check(&["a", "--cuda"], &["train", "--recipe", "a.toml", "--device", "cuda"]);
        check(
            &["a", "--set", "x=1", "--set", "y.z=\"w\""],
            &["train", "--recipe", "a.toml", "--set", "x=1", "--set", "y.z=\"w\""],
        );
        check(
            &["a", "--ranks", "2", "--", "--rank-timeout", "60"],
            &["train", "--recipe", "a.toml", "--distributed", "--rank-timeout", "60"],
        );
        check(
            &["a", "--epochs", "1", "--", "--resume", "runs/1"],
            &["train", "--recipe", "a.toml", "--epochs", "1", "--resume", "runs/1"],
        );
    }

    #[test]
    fn several_networks_are_a_sweep() {
        let networks = ["a", "--networks", "resnet18,alexnet", "--epochs", "1"];
        let expected =
            ["sweep", "--recipe", "a.toml", "--networks", "resnet18,alexnet", "--epochs", "1"];
        check(&networks, &expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series.toml");
        std::fs::write(&path, "description = 'a'\n[[variants]]\nname = 'b'").unwrap();
        let series = recipe(&path.to_string_lossy());
        assert_eq!(cli_arguments(&parse(&["a"]), &series).unwrap()[0], "sweep");
        for words in [["a", "--ranks", "2"].as_slice(), &["a", "--ranks", "2", "--networks", "b"]] {
            let error = cli_arguments(&parse(words), &series).unwrap_err();
            assert!(error.downcast_ref::<Misuse>().is_some(), "{error}");
        }
    }

    #[test]
    fn a_relative_data_folder_is_the_user_s() {
        let cli = cli_arguments(&parse(&["a", "--data", "d"]), &recipe("a.toml")).unwrap();
        let expected = std::env::current_dir().unwrap().join("d");
        assert_eq!(cli.last(), Some(&expected.into_os_string()));
    }

    #[test]
    fn nonsense_is_refused_by_the_parser() {
        let nonsense = [
            ["a", "--epochs", "many"],
            ["a", "--seed", "-1"],
            ["a", "b", "c"],
            ["a", "--device", "gpu"],
            ["a", "--ranks", "0"],
        ];
        for words in nonsense {
            assert!(Program::try_parse_from(["xtask"].iter().chain(&words)).is_err());
        }
    }
}
