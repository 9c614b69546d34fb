//! Networks with weights of their authors' training, and bare networks for their features.

use std::path::Path;

use candle_core::Device;
use candle_vision_data::transforms::{
    CenterCrop, Compose, Interpolation, Normalize, Resize, ToTensor,
};
use candle_vision_models::weights::{Strictness, WeightFile};
use candle_vision_models::{EvalPreprocessing, Model, ModelSpec, ResizeInterpolation};
use candle_vision_train::CheckpointMetadata;

use super::Classifier;
use crate::{Error, Registry, Result};

impl Classifier {
    /// A published network with weights of its authors' training: `weights` is their file, `architecture` the
    /// name of a network that [`Networks`](candle_vision_models::Networks) has published weights for.
    /// Preprocessing and class names are those of the weights: of the version that the file's name tells
    /// ([`NetworkEntry::published_in`](candle_vision_models::NetworkEntry::published_in)), or else of the first.
    ///
    /// # Errors
    /// If there is no such network, it has no published weights, or the file does not fit it.
    pub fn published(
        architecture: &str,
        weights: impl AsRef<Path>,
        registry: &Registry,
        device: &Device,
    ) -> Result<Self> {
        registry.check()?;
        let entry = registry.networks.get(architecture)?;
        let (weights, all) = (weights.as_ref(), entry.published_weights());
        let Some(published) = entry.published_in(weights).or_else(|| all.first()) else {
            return Err(Error::NotPublished(format!(
                "there are no published weights of `{architecture}`, so nothing says what its classes are and how it \
                 wants images; load a checkpoint of a run in place of `{}`",
                weights.display()
            )));
        };
        if published.num_classes == 0 {
            return Err(Error::NotPublished(format!(
                "the published weights of `{architecture}` are a backbone without classes: fine-tune it on a folder of \
                 images, or measure its features"
            )));
        }
        // Some versions are for larger images than the network's name alone stands for.
        let [channels, ..] = entry.published_input();
        let side = published.preprocessing.crop;
        let spec = entry.spec(published.num_classes).input([channels, side, side]);
        let model = registry.networks.build(&spec, 0, device)?;
        WeightFile::read(weights)?.load(&*model, Strictness::ExceptAuxiliary)?;
        let classes = entry.class_names().to_vec();
        Self::of_weights(model, spec, classes, &published.preprocessing, registry)
    }

    /// A network whose features are of interest, not its classes: `weights` may lack the head, as those of self-supervised
    /// networks do, or have another. Without `weights` the network is untrained. Preprocessing is that of the published
    /// weights as in [`Classifier::published`]. Of a network without any, the image is resized to the network's size and
    /// its values have ImageNet's mean and deviation.
    ///
    /// # Errors
    /// If there is no such network, or the file does not fit it.
    pub fn backbone(
        architecture: &str,
        weights: Option<&Path>,
        registry: &Registry,
        device: &Device,
    ) -> Result<Self> {
        registry.check()?;
        let entry = registry.networks.get(architecture)?;
        let published = weights.and_then(|weights| entry.published_in(weights));
        let published = published.or_else(|| entry.published_weights().first());
        let [channels, height, _] = entry.published_input();
        let preprocessing = published.map_or_else(
            || {
                EvalPreprocessing::IMAGENET
                    .sizes(height, height)
                    .interpolation(ResizeInterpolation::Bicubic)
            },
            |published| published.preprocessing,
        );
        let classes = published.map_or(1, |published| published.num_classes.max(1));
        let side = preprocessing.crop;
        let spec = entry.spec(classes).input([channels, side, side]);
        let model = registry.networks.build(&spec, 0, device)?;
        if let Some(weights) = weights {
            WeightFile::read(weights)?.load(&*model, Strictness::ExceptHead)?;
        }
        let names = (0..classes).map(|class| class.to_string()).collect();
        Self::of_weights(model, spec, names, &preprocessing, registry)
    }

    fn of_weights(
        model: Box<dyn Model>,
        spec: ModelSpec,
        classes: Vec<String>,
        preprocessing: &EvalPreprocessing,
        registry: &Registry,
    ) -> Result<Self> {
        let preprocessing = of_published(preprocessing);
        let mut metadata = CheckpointMetadata::new(spec, classes, preprocessing.describe());
        metadata.exif_orientation = true;
        Self::new(model, metadata, registry)
    }
}

/// What published weights want to be done to an image.
fn of_published(wanted: &EvalPreprocessing) -> Compose {
    let interpolation = match wanted.interpolation {
        ResizeInterpolation::Bicubic => Interpolation::Bicubic,
        _ => Interpolation::Bilinear,
    };
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    Compose::new()
        .with(Resize::new(side(wanted.resize)).interpolation(interpolation))
        .with(CenterCrop::new(side(wanted.crop)))
        .with(ToTensor)
        .with(Normalize::new(wanted.mean, wanted.std))
}
