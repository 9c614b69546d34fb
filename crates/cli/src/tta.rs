//! The test-time augmentation that a command names.

use anyhow::Result;
use candle_vision::Registry;
use candle_vision::train::Description;
use candle_vision::train::tta::TestTimeAugmentation;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct TtaArgs {
    /// Average over several views of each image
    #[arg(long, value_name = "NAME")]
    tta: Option<String>,
}

impl TtaArgs {
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
