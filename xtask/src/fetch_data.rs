//! `cargo xtask fetch-data [NAME]...`, handed to `candle-vision fetch`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::experiment::absolute;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Names of data sets and weights; without any, they are listed
    names: Vec<String>,
    /// Take them from this folder instead of the network
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The folder to bring them into
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    cargo::run_cli(&cli_arguments(arguments)?)
}

fn cli_arguments(arguments: &Arguments) -> Result<Vec<OsString>> {
    let mut cli: Vec<OsString> = vec!["fetch".into()];
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
            from: Some("/usb".into()),
            data: Some("/data".into()),
        };
        let expected = ["fetch", "mnist", "resnet18", "--from", "/usb", "--data", "/data"];
        assert_eq!(cli_arguments(&arguments).unwrap(), expected);
    }
}
