//! `cargo xtask fetch-data [NAME]...`: calls `candle-vision fetch`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::cuda::{self, Device};
use crate::experiment::absolute;

/// The items that `cargo xtask experiment resnet18` needs.
const MAIN_JOB: [&str; 2] = ["hymenoptera", "resnet18"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Data sets and weights [default: what the main job needs; with --from, all that lies there]
    names: Vec<String>,
    /// List what there is
    #[arg(long, conflicts_with_all = ["names", "from"])]
    list: bool,
    /// Take them from this folder instead of the network
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The folder to bring them into
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let cli_arguments = cli_arguments(arguments)?;
    let program = cuda::build(&cargo::CLI, &Device::Cpu, None)?;
    let mut command = program.command();
    command.args(cli_arguments).current_dir(cargo::root());
    cargo::become_command(command)
}

fn cli_arguments(arguments: &Arguments) -> Result<Vec<OsString>> {
    let mut cli: Vec<OsString> = vec!["fetch".into()];
    if arguments.names.is_empty() && arguments.from.is_none() && !arguments.list {
        cli.extend(MAIN_JOB.map(OsString::from));
    }
    cli.extend(arguments.names.iter().map(OsString::from));
    for (flag, folder) in [("--from", &arguments.from), ("--data", &arguments.data)] {
        if let Some(folder) = folder {
            cli.extend([flag.into(), absolute(folder)?.into()]);
        }
    }
    Ok(cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_reach_the_cli() {
        let arguments = Arguments {
            names: vec!["mnist".to_owned(), "resnet18".to_owned()],
            list: false,
            from: Some("/usb".into()),
            data: Some("/data".into()),
        };
        let expected = ["fetch", "mnist", "resnet18", "--from", "/usb", "--data", "/data"];
        assert_eq!(cli_arguments(&arguments).unwrap(), expected);
    }

    #[test]
    fn without_names_the_main_jobs_are_meant() {
        let arguments = |list, from: Option<&str>| Arguments {
            names: Vec::new(),
            list,
            from: from.map(PathBuf::from),
            data: None,
        };
        let cli = |list, from| cli_arguments(&arguments(list, from)).unwrap();
        assert_eq!(cli(false, None), ["fetch", "hymenoptera", "resnet18"]);
        assert_eq!(cli(true, None), ["fetch"]);
        assert_eq!(cli(false, Some("/usb")), ["fetch", "--from", "/usb"]);
    }
}
