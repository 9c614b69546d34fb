//! A trained network as one value: it predicts, explains and extracts features.

mod explanation;
mod input;
mod prediction;
mod published;

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_vision_data::transforms::{Compose, Interpolation, functional};
use candle_vision_data::{DataLoader, Error as DataError, Image, ReadOptions};
use candle_vision_explain::{CamOptions, Explainer, FeatureExtractor, Features, Method};
use candle_vision_models::{EvalPasses, Model};
use candle_vision_ops::{sigmoid, softmax};
use candle_vision_train::tta::TestTimeAugmentation;
use candle_vision_train::{Checkpoint, CheckpointMetadata};

use crate::{Error, Registry, Result};
pub use explanation::ExplainedImage;
pub use input::Input;
pub use prediction::Prediction;

/// A trained network with everything that is needed to use it: preprocessing, class names, device.
///
/// It takes files, [`Image`]s and ready tensors, one or many. Many go through the network in batches.
///
/// # Example
/// ```no_run
/// use candle_vision::Classifier;
/// use candle_vision::explain::Method;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let classifier = Classifier::load("runs/resnet18/001/best.safetensors")?;
/// for (class, probability) in classifier.predict("bee.jpg")?.top(2) {
///     println!("{class} {probability:.3}");
/// }
/// classifier.explain("bee.jpg", Method::GRAD_CAM)?.save("cam.png")?;
/// classifier.features(["bee.jpg", "ant.jpg"], ["avgpool"])?.write_npy("features.npy")?;
/// # Ok(())
/// # }
/// ```
pub struct Classifier {
    passes: EvalPasses<Arc<dyn Model>>,
    explainer: Explainer<Arc<dyn Model>>,
    metadata: CheckpointMetadata,
    preprocessing: Compose,
    device: Device,
    read: ReadOptions,
    batch_size: usize,
    tta: Option<Box<dyn TestTimeAugmentation>>,
}

impl Classifier {
    /// The network of a checkpoint, on the CPU, with the built-in parts.
    ///
    /// # Errors
    /// As [`Classifier::load_with`].
    pub fn load(checkpoint: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(checkpoint, &Registry::standard(), &Device::Cpu)
    }

    /// The network of a checkpoint on `device`. Its network and its transforms are looked up in `registry`,
    /// so a program that registers its own opens its own checkpoints.
    ///
    /// # Errors
    /// If the file is no checkpoint, or names a part that is not registered.
    pub fn load_with(
        checkpoint: impl AsRef<Path>,
        registry: &Registry,
        device: &Device,
    ) -> Result<Self> {
        registry.check()?;
        let checkpoint = Checkpoint::load(checkpoint)?;
        let model = checkpoint.model(&registry.networks, device)?;
        Self::new(model, checkpoint.metadata, registry)
    }

    /// A network with what a checkpoint says about it.
    ///
    /// # Errors
    /// If a transform is not registered.
    pub fn new(
        model: Box<dyn Model>,
        metadata: CheckpointMetadata,
        registry: &Registry,
    ) -> Result<Self> {
        registry.check()?;
        let preprocessing = metadata.preprocessing.build(&registry.transforms)?;
        let read = ReadOptions::default().with_exif_orientation(metadata.exif_orientation);
        let device = model.parameters().device();
        let model: Arc<dyn Model> = model.into();
        let explainer = Explainer::new(Arc::clone(&model));
        // The weights are the caller's, too, who may train them.
        let passes = EvalPasses::new(model).of_changing_weights();
        let (batch_size, tta) = (32, None);
        Ok(Self { passes, explainer, metadata, preprocessing, device, read, batch_size, tta })
    }

    /// How many images go through the network at a time; 32 if not given.
    pub fn batch_size(mut self, images: usize) -> Self {
        self.batch_size = images.max(1);
        self
    }

    /// Averages the logits of predictions over several views of each image. By default the network sees each image
    /// once, as it is. Explanations and features are those of the image itself in either case.
    pub fn tta(mut self, tta: impl Into<Option<Box<dyn TestTimeAugmentation>>>) -> Self {
        self.tta = tta.into();
        self
    }

    /// How image files are read. Whether photographs are turned upright is part of the checkpoint and stays
    /// as it is.
    pub fn read_options(mut self, options: ReadOptions) -> Self {
        self.read = options.with_exif_orientation(self.metadata.exif_orientation);
        self
    }

    /// Explanations by the network. A card repeats them from a graph.
    pub fn explainer(&self) -> &Explainer<Arc<dyn Model>> {
        &self.explainer
    }

    /// The network.
    pub fn model(&self) -> &dyn Model {
        self.passes.model().as_ref()
    }

    /// What the checkpoint says about the network.
    pub fn metadata(&self) -> &CheckpointMetadata {
        &self.metadata
    }

    /// What is done to an image before the network sees it.
    pub fn preprocessing(&self) -> &Compose {
        &self.preprocessing
    }

    /// Names of the classes, in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.metadata.classes
    }

    /// Where the network lies.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The name of a class, or its number where the checkpoint has no name for it.
    pub fn class_name(&self, class: usize) -> String {
        self.classes().get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The number of the class called `name`, or with the number `name`.
    ///
    /// # Errors
    /// If there is none; the message lists classes.
    pub fn class(&self, name: &str) -> Result<usize> {
        let classes = self.classes();
        let by_number = || name.parse().ok().filter(|number| *number < classes.len());
        let class = classes.iter().position(|class| class == name).or_else(by_number);
        class.ok_or_else(|| {
            let shown: Vec<&str> = classes.iter().take(10).map(String::as_str).collect();
            let more = if classes.len() > 10 { ", ..." } else { "" };
            Error::UnknownClass(format!(
                "`{name}` is no class of this network: it has {} ({}{more}), numbered from 0",
                classes.len(),
                shown.join(", ")
            ))
        })
    }

    /// The probabilities of the classes for one image.
    ///
    /// # Errors
    /// If the image cannot be read, or the network cannot take it.
    pub fn predict<'i>(&self, input: impl Into<Input<'i>>) -> Result<Prediction> {
        let input = self.tensor(&input.into())?;
        let predictions = self.predict_batch(&input)?;
        Ok(predictions.into_iter().next().expect("a batch of one has one row"))
    }

    /// The probabilities of the classes for each image. An image that cannot be used is an error in its own
    /// place, and the others are answered.
    pub fn predict_all<'i, I: Into<Input<'i>>>(
        &self,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Result<Prediction>> {
        let mut results = Vec::new();
        let mut waiting: Vec<(usize, Tensor)> = Vec::new();
        for input in inputs {
            match self.tensor(&input.into()) {
                Ok(tensor) => {
                    // Without a fixed size among the transforms, images of one size share a batch.
                    let is_other = |(_, first): &(usize, Tensor)| first.dims() != tensor.dims();
                    if waiting.len() == self.batch_size || waiting.first().is_some_and(is_other) {
                        self.answer(&mut waiting, &mut results);
                    }
                    waiting.push((results.len(), tensor));
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        self.answer(&mut waiting, &mut results);
        results.into_iter().map(|result| result.expect("every image was answered")).collect()
    }

    /// Answers the images that wait for a batch. Where a batch fails, each image is tried by itself: one may be
    /// at fault.
    fn answer(
        &self,
        waiting: &mut Vec<(usize, Tensor)>,
        results: &mut [Option<Result<Prediction>>],
    ) {
        let waiting = std::mem::take(waiting);
        let tensors: Vec<&Tensor> = waiting.iter().map(|(_, tensor)| tensor).collect();
        let together = Tensor::cat(&tensors, 0).map_err(Error::from);
        match together.and_then(|batch| self.predict_batch(&batch)) {
            Ok(predictions) => {
                for ((place, _), prediction) in waiting.iter().zip(predictions) {
                    results[*place] = Some(Ok(prediction));
                }
            }
            Err(_) => {
                for (place, tensor) in &waiting {
                    let alone = self.predict_batch(tensor);
                    results[*place] = Some(alone.map(|mut one| one.remove(0)));
                }
            }
        }
    }

    /// The probabilities of the classes for each row of a prepared batch.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, preprocessed as in training
    ///
    /// # Errors
    /// If the network cannot take the images, or says what is no number.
    pub fn predict_batch(&self, images: &Tensor) -> Result<Vec<Prediction>> {
        let mut forward = |images: &Tensor| self.passes.forward(images);
        let logits = match &self.tta {
            None => forward(images)?,
            Some(tta) => tta.logits(images, &mut forward)?,
        };
        let spec = &self.metadata.model;
        let probabilities = if spec.multi_label { sigmoid(&logits)? } else { softmax(&logits)? };
        let rows = probabilities.to_vec2::<f32>()?;
        let prediction = |row| Prediction::new(row, &self.metadata.classes, spec.multi_label);
        rows.into_iter().map(prediction).collect()
    }

    /// Why the network takes the image for what it says, by a method such as [`Method::GRAD_CAM`].
    ///
    /// # Errors
    /// If the image cannot be read, or as [`Method::maps`].
    pub fn explain<'i>(
        &self,
        input: impl Into<Input<'i>>,
        method: impl Borrow<Method>,
    ) -> Result<ExplainedImage> {
        self.explain_with(input, method, &CamOptions::default())
    }

    /// The same for a class, a layer or a smoothing of one's own choice.
    ///
    /// # Errors
    /// As [`Classifier::explain`].
    pub fn explain_with<'i>(
        &self,
        input: impl Into<Input<'i>>,
        method: impl Borrow<Method>,
        options: &CamOptions,
    ) -> Result<ExplainedImage> {
        let input = input.into();
        let (image, tensor) = self.prepared(&input)?;
        let maps = self.explainer.maps(method.borrow(), &tensor, options)?;
        let map = maps.into_iter().next().expect("one image has one map");
        if !map.probability.is_finite() {
            return Err(Error::NotFinite { value: map.probability });
        }
        let seen = image.map(|image| self.seen(&image)).transpose()?;
        let class = self.class_name(map.class);
        Ok(ExplainedImage::new(map, class, seen, input.name()))
    }

    /// What layers give for the images: paths such as `avgpool`, or patterns such as `layer[1-4]`.
    ///
    /// # Errors
    /// If an image cannot be read, the network cannot take it, or a pattern stands for no layer.
    pub fn features<'i, I: Into<Input<'i>>>(
        &self,
        inputs: impl IntoIterator<Item = I>,
        layers: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Features> {
        let mut extractor = FeatureExtractor::new(self.model(), layers);
        let mut batch: Vec<Tensor> = Vec::new();
        for input in inputs {
            let tensor = self.tensor(&input.into())?;
            let is_other = batch.first().is_some_and(|first| first.dims() != tensor.dims());
            if batch.len() == self.batch_size || is_other {
                extractor.add(&Tensor::cat(&batch, 0)?)?;
                batch.clear();
            }
            batch.push(tensor);
        }
        if !batch.is_empty() {
            extractor.add(&Tensor::cat(&batch, 0)?)?;
        }
        Ok(extractor.finish()?)
    }

    /// An image file in as many channels as the network takes. Where the preprocessing would leave it in a size
    /// that the network was not trained on, it is scaled, and the second value is the size it had,
    /// `[height, width]`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<(Image, Option<[usize; 2]>)> {
        let path = path.as_ref();
        let image = open_image(path, &self.read)?;
        let image = in_channels(image, self.metadata.model.input[0])?;
        let given = [image.height(), image.width()];
        Ok(match self.size_to_scale_to(&image)? {
            Some([height, width]) => {
                let scaled = functional::resize(&image, height, width, Interpolation::default())?;
                (scaled, Some(given))
            }
            None => (image, None),
        })
    }

    /// `[height, width]` that the image has to be scaled to beforehand, if it has to. Data sets whose images are
    /// all of one size are not resized in training, so their preprocessing leaves a photograph as large as it is.
    ///
    /// # Errors
    /// If the image cannot be transformed.
    fn size_to_scale_to(&self, image: &Image) -> Result<Option<[usize; 2]>> {
        let size_of = |image: &Image| [image.height(), image.width()];
        let [_, height, width] = self.metadata.model.input;
        let given = size_of(image);
        if given == [height, width] || size_of(&self.seen(image)?) != given {
            return Ok(None);
        }
        // A small image is not scaled up, because its details are missing. The network says itself if it is too
        // small.
        Ok((given[0] * given[1] >= height * width).then_some([height, width]))
    }

    /// The image as the network takes it, a batch of one.
    ///
    /// # Errors
    /// If the preprocessing cannot take it.
    pub fn prepare(&self, image: &Image) -> Result<Tensor> {
        Ok(self.preprocessing.eval(image)?.to_batch(&self.device)?)
    }

    /// The part of the image that the network sees, for the eye.
    ///
    /// # Errors
    /// If the preprocessing cannot take it.
    pub fn seen(&self, image: &Image) -> Result<Image> {
        Ok(self.preprocessing.eval_to_image(image)?)
    }

    /// A mask moved as the preprocessing moves its image, row by row: true on the subject.
    ///
    /// # Errors
    /// If the preprocessing cannot take it.
    pub fn moved_mask(&self, mask: &Image) -> Result<Vec<bool>> {
        let moved = self.preprocessing.geometry().eval(mask)?;
        Ok(moved.values().iter().map(|value| *value > 0.5).collect())
    }

    fn tensor(&self, input: &Input<'_>) -> Result<Tensor> {
        self.prepared(input).map(|(_, tensor)| tensor)
    }

    /// The image, where there is one, and what the network takes.
    fn prepared(&self, input: &Input<'_>) -> Result<(Option<Image>, Tensor)> {
        let image = match input {
            Input::Tensor(tensor) => {
                let tensor = match tensor.rank() {
                    3 => tensor.unsqueeze(0)?,
                    _ => (*tensor).clone(),
                };
                return Ok((None, tensor.to_device(&self.device)?));
            }
            Input::File(path) => self.read(path)?.0,
            Input::Image(image) => in_channels((*image).clone(), self.metadata.model.input[0])?,
        };
        let tensor = self
            .prepare(&image)
            .map_err(|error| Error::Preparation { image: input.name(), source: Box::new(error) })?;
        Ok((Some(image), tensor))
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("model", &self.metadata.model)
            .field("classes", &self.metadata.classes.len())
            .field("device", &self.device.location())
            .finish_non_exhaustive()
    }
}

/// What layers give for all images of a loader: paths such as `avgpool`, or patterns such as `layer[1-4]`.
///
/// # Errors
/// If an image cannot be read, the network cannot take it, or a pattern stands for no layer.
pub fn extract(
    model: &dyn Model,
    loader: &DataLoader,
    layers: impl IntoIterator<Item = impl Into<String>>,
) -> Result<Features> {
    let mut extractor = FeatureExtractor::new(model, layers);
    for batch in loader.epoch(0) {
        extractor.add(&batch?.images)?;
    }
    Ok(extractor.finish()?)
}

/// The image in as many channels as a network takes.
///
/// # Errors
/// If a photograph cannot have so many.
pub fn in_channels(image: Image, channels: usize) -> Result<Image> {
    if image.channels() == channels {
        return Ok(image);
    }
    if !matches!(channels, 1 | 3) {
        return Err(Error::Channels { channels });
    }
    Ok(functional::grayscale(&image, channels))
}

/// Reads an image that is asked for by itself, so that it cannot be left out as a loader would do.
///
/// # Errors
/// If it cannot be read; the message says what helps.
pub fn open_image(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Image> {
    let path = path.as_ref();
    Image::open_with(path, options).map_err(|error| alone(path, error))
}

/// The error for an image that was asked for by itself: it cannot be left out, as a loader would do.
fn alone(path: &Path, error: DataError) -> Error {
    match error {
        DataError::BrokenImage { reason, .. } => {
            Error::BrokenImage { path: PathBuf::from(path), reason }
        }
        error => error.into(),
    }
}
