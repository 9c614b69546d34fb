//! The network that a command works with: that of a checkpoint, or a published one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::models::NetworkEntry;
use candle_vision::{Classifier, Registry};
use candle_vision_fetch::{Error as FetchError, Item};
use candle_vision_recipe::{Error, IMAGENET, backbone, published_classifier};

use crate::args::{DataDir, NetworkArgs, Origins};
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

/// Fetches published weights. Where they are not to be had, the error names the options that take them from elsewhere.
pub(crate) fn fetch_weights(item: &Item, data_dir: &Path, origins: &Origins) -> Result<(), Error> {
    match bring(item, data_dir, origins) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.fetch_error() {
            Some(FetchError::Offline { .. } | FetchError::Download { .. }) => {
                Error::Invalid(format!(
                    "{} with --from DIR, or name the data folder that has it with --data DIR",
                    error.one_line()
                ))
            }
            _ => error,
        }),
    }
}

/// `imagenet` stands for the best weights that are to be had, which need not be the best that were published.
fn say_which_version(entry: &NetworkEntry, name: &str, file: &Path) {
    let (best, taken) = (entry.published_weights().first(), entry.published_in(file));
    let (Some(best), Some(taken)) = (best, taken) else { return };
    if name.eq_ignore_ascii_case(IMAGENET) && taken.name != best.name {
        say::note(format_args!(
            "weights {} of {}, because the better {} is not here",
            taken.name,
            entry.name(),
            best.name
        ));
    }
}

/// The versions of some weights want images of other sizes. Nothing in a file tells which version it is, but its name may.
fn say_how_images_are_prepared(entry: &NetworkEntry, file: &Path) {
    let Some((first, others)) = entry.published_weights().split_first() else { return };
    if others.iter().all(|version| version.preprocessing == first.preprocessing) {
        return;
    }
    let names: Vec<&str> = others.iter().map(|version| version.file.as_str()).collect();
    say::note(format_args!(
        "images are prepared as for {} of {}, because the name of `{}` tells no version; for another one call the file \
         {} with the same ending",
        first.name,
        entry.name(),
        file.display(),
        names.join(" or ")
    ));
}

impl NetworkArgs {
    /// Whether a network was named.
    pub(crate) fn is_named(&self) -> bool {
        self.checkpoint.is_some() || self.model.is_some()
    }

    /// The network that was named, for its features: its weights need no head, and `--weights none` is an untrained
    /// network.
    ///
    /// # Errors
    /// As [`NetworkArgs::open`].
    pub(crate) fn open_backbone(
        &self,
        data: &DataDir,
        registry: &Registry,
        device: &Device,
    ) -> Result<Named> {
        let Some(model) = self.model.as_deref() else { return self.open(data, registry, device) };
        let data_dir = data.or(None);
        let name = self.weights.as_deref().unwrap_or(IMAGENET);
        let fetch = |item: &Item| fetch_weights(item, &data_dir, &self.origins);
        let (classifier, file) = backbone(model, name, &data_dir, registry, device, fetch)?;
        let file = file.unwrap_or_else(|| PathBuf::from("none"));
        say_which_version(registry.networks.get(model)?, name, &file);
        Ok(Named { classifier, file, is_checkpoint: false })
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
        let fetch = |item: &Item| fetch_weights(item, &data_dir, &self.origins);
        let (classifier, weights) =
            published_classifier(model, name, &data_dir, registry, device, fetch)?;
        if self.model.is_none() {
            say::note(format_args!("{model}, weights {}", weights.file.display()));
        }
        let entry = registry.networks.get(model)?;
        match weights.published {
            Some(_) => say_which_version(entry, name, &weights.file),
            None => say_how_images_are_prepared(entry, &weights.file),
        }
        let classifier = classifier.read_options(read_options()?);
        Ok(Named { classifier, file: weights.file, is_checkpoint: false })
    }
}
