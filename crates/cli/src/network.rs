//! The network that a command works with: that of a checkpoint, or a published one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::{Classifier, Registry};
use candle_vision_fetch::Error as FetchError;
use candle_vision_recipe::{Error, IMAGENET, published_classifier};

use crate::args::{DataDir, NetworkArgs};
use crate::commands::fetch::bring;
use crate::read_options::read_options;
use crate::say;

/// The published network that says what is on an image if no other is named: 19 MB, quick on a CPU, and right for three
/// of four images of ImageNet.
pub(crate) const USUAL_NETWORK: &str = "efficientnet_lite0";

/// A network and where it comes from.
pub(crate) struct Named {
    pub(crate) classifier: Classifier,
    /// The file of its weights.
    pub(crate) file: PathBuf,
    /// Whether `file` is a checkpoint, which may lie in a run folder.
    pub(crate) is_checkpoint: bool,
}

impl Named {
    /// The checkpoint, if that is what was named.
    pub(crate) fn checkpoint(&self) -> Option<&Path> {
        self.is_checkpoint.then_some(&*self.file)
    }
}

/// An error of a download, with the command that takes the weights from elsewhere.
fn with_fetch_command(error: Error) -> anyhow::Error {
    match error.fetch_error() {
        Some(FetchError::Offline { .. } | FetchError::Download { .. }) => anyhow::anyhow!(
            "{} with `candle-vision fetch NAME --from DIR`, or name the data folder that has it with --data DIR",
            error.one_line()
        ),
        _ => error.into(),
    }
}

impl NetworkArgs {
    /// Whether a network was named.
    pub(crate) fn is_named(&self) -> bool {
        self.checkpoint.is_some() || self.model.is_some()
    }

    /// The network that was named. Published weights are fetched if they are not there.
    ///
    /// # Errors
    /// If none was named, it cannot be read, or its weights are not to be had.
    pub(crate) fn open(
        &self,
        data: &DataDir,
        registry: &Registry,
        device: &Device,
    ) -> Result<Named> {
        self.open_or(None, data, registry, device)
    }

    /// The same; if none was named, the published network called `usual`.
    pub(crate) fn open_or(
        &self,
        usual: Option<&str>,
        data: &DataDir,
        registry: &Registry,
        device: &Device,
    ) -> Result<Named> {
        if let Some(checkpoint) = &self.checkpoint {
            let classifier = Classifier::load_with(checkpoint, registry, device)?;
            let classifier = classifier.read_options(read_options()?);
            return Ok(Named { classifier, file: checkpoint.clone(), is_checkpoint: true });
        }
        let model = self.model.as_deref().or(usual).context(
            "name a network: --checkpoint FILE for one that was trained here, or --model NAME for a published \
             one (`candle-vision models` lists them)",
        )?;
        let data_dir = data.or(None);
        let name = self.weights.as_deref().unwrap_or(IMAGENET);
        let fetch = |item: &_| bring(item, &data_dir, None, self.offline).map(|_| ());
        let (classifier, weights) =
            published_classifier(model, name, &data_dir, registry, device, fetch)
                .map_err(with_fetch_command)?;
        if self.model.is_none() {
            say::note(format_args!("{model}, weights {}", weights.file.display()));
        }
        let classifier = classifier.read_options(read_options()?);
        Ok(Named { classifier, file: weights.file, is_checkpoint: false })
    }
}
