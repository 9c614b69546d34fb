//! The test-time augmentation that a command names.

use anyhow::Result;
use candle_vision::Registry;
use candle_vision::train::Description;
use candle_vision::train::tta::TestTimeAugmentation;
use clap::{Args, Command};

#[derive(Debug, Args)]
pub(crate) struct TtaArgs {
    /// Average over several views of each image
    #[arg(long, value_name = "NAME")]
    tta: Option<String>,
}

impl TtaArgs {
    /// The command with the names that there are in its help. A mistyped name is a misuse of the command line.
    pub(crate) fn listed(command: Command, registry: &Registry) -> Command {
        let known = registry.training.tta.entries().clone();
        command.mut_arg("tta", |arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let names: Vec<&str> = known.names().collect();
            let help = format!("{help}: {}", names.join(", "));
            arg.help(help).value_parser(move |name: &str| known.get(name).map(|_| name.to_owned()))
        })
    }

    /// The one that was named, with its default settings.
    ///
    /// # Errors
    /// If it needs a setting.
    pub(crate) fn build(
        &self,
        registry: &Registry,
    ) -> Result<Option<Box<dyn TestTimeAugmentation>>> {
        let Some(name) = &self.tta else { return Ok(None) };
        Ok(Some(registry.training.tta.build(&Description::named(name))?))
    }
}
