//! What a command works on: data sets, networks with weights, checkpoints, single images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use candle_vision::data::transforms::{Compose, Interpolation, functional};
use candle_vision::data::{
    Cifar10, DataLoader, Dataset, Error as DataError, Image, Insects, InsectsConfig, LoaderConfig,
    Mnist, ReadOptions, Split,
};
use candle_vision::models::weights::{self, WeightFile};
use candle_vision::models::{Model, ModelSpec, build};
use candle_vision::ops::Generator;
use candle_vision::train::{Checkpoint, CheckpointMetadata, DeviceUpload};
use rand::SeedableRng;

use crate::image_folders::{self, Remarks};
use crate::recorded::near;
use crate::remedy::with_fetch;
use crate::say;
use crate::settings::{DataSettings, ModelSettings, Source};

/// The folder of the transfer-learning tutorial's ants and bees.
const HYMENOPTERA: &str = "hymenoptera_data";

/// Opens one split of the data set that `settings` names; what is to be said of it goes to `remarks`.
pub(crate) fn open(
    settings: &DataSettings,
    data_dir: &Path,
    split: Split,
    seed: u64,
    remarks: &mut Remarks,
) -> Result<Arc<dyn Dataset>> {
    Ok(match settings.source {
        Source::Mnist => {
            let mnist = Mnist::open(data_dir.join("mnist"), measured(split));
            Arc::new(mnist.map_err(|error| with_fetch(error, settings.source))?)
        }
        Source::Cifar10 => {
            let cifar10 = Cifar10::open(cifar_folder(data_dir), measured(split));
            Arc::new(cifar10.map_err(|error| with_fetch(error, settings.source))?)
        }
        Source::Hymenoptera => {
            let folder = data_dir.join(HYMENOPTERA);
            check_splits(&folder)
                .and_then(|()| image_folders::open(&folder, settings, split, remarks))
                .map_err(|error| with_fetch(error, settings.source))?
        }
        Source::Folder => image_folders::open(own_folder(settings)?, settings, split, remarks)?,
        Source::Insects => {
            let count =
                if split == Split::Train { settings.train_images } else { settings.val_images };
            let config = InsectsConfig { size: settings.image_size, count, seed };
            Arc::new(Insects::new(split, config).with_context(|| {
                format!(
                    "cannot draw {count} images of {0}x{0} (data.{1}_images, data.image_size)",
                    settings.image_size,
                    split.name()
                )
            })?)
        }
    })
}

/// A folder of one's own may lack validation images; where those of a known data set are missing, it
/// was not unpacked whole.
fn check_splits(folder: &Path) -> Result<()> {
    for path in [Split::Train, Split::Val].map(|split| folder.join(split.name())) {
        if !path.is_dir() {
            let expected = "a part of the photographs".to_owned();
            let remedy = "fetch the data set anew".to_owned();
            return Err(DataError::NotFound { path, expected, remedy }.into());
        }
    }
    Ok(())
}

/// MNIST and CIFAR-10 come in two parts: what is not trained on is tested on.
fn measured(split: Split) -> Split {
    if split == Split::Train { Split::Train } else { Split::Test }
}

fn cifar_folder(data_dir: &Path) -> PathBuf {
    let official = data_dir.join("cifar-10-batches-bin");
    if official.is_dir() { official } else { data_dir.join("cifar10") }
}

/// The environment variable with the number of pixels that an image may have.
const MAX_PIXELS: &str = "CANDLE_VISION_MAX_PIXELS";

/// How images are read: `max_pixels` of a recipe goes over the environment's.
pub(crate) fn read_options(exif_orientation: bool, max_pixels: Option<u64>) -> Result<ReadOptions> {
    let options = ReadOptions::default().with_exif_orientation(exif_orientation);
    let max_pixels = match (max_pixels, std::env::var(MAX_PIXELS)) {
        (Some(most), _) => Some(most),
        (None, Ok(text)) if !text.is_empty() => {
            let most = text.parse();
            Some(most.with_context(|| {
                format!("{MAX_PIXELS} is `{text}`, which is no number of pixels")
            })?)
        }
        (None, _) => None,
    };
    Ok(max_pixels.map_or(options, |most| options.with_max_pixels(most)))
}

/// The image folder of `source = "folder"`.
fn own_folder(settings: &DataSettings) -> Result<&Path> {
    settings.path.as_deref().context(
        "`data.source = \"folder\"` needs `data.path`: give the folder in the recipe, or with \
         `--set data.path=DIR`",
    )
}

/// The image folder that `settings` name, if the data set is one.
pub(crate) fn image_folder(settings: &DataSettings, data_dir: &Path) -> Result<Option<PathBuf>> {
    Ok(match settings.source {
        Source::Hymenoptera => Some(data_dir.join(HYMENOPTERA)),
        Source::Folder => Some(own_folder(settings)?.to_path_buf()),
        Source::Mnist | Source::Cifar10 | Source::Insects => None,
    })
}

/// The folder of the data set, and whether it is a folder of the user's own; `None` if it is drawn.
pub(crate) fn place(settings: &DataSettings, data_dir: &Path) -> Result<Option<(PathBuf, bool)>> {
    Ok(match settings.source {
        Source::Insects => None,
        Source::Folder => Some((own_folder(settings)?.to_path_buf(), true)),
        Source::Hymenoptera => Some((data_dir.join(HYMENOPTERA), false)),
        Source::Mnist => Some((data_dir.join("mnist"), false)),
        Source::Cifar10 => Some((cifar_folder(data_dir), false)),
    })
}

/// The loader of one split.
pub(crate) fn loader(
    dataset: Arc<dyn Dataset>,
    settings: &DataSettings,
    split: Split,
    seed: u64,
    device: &Device,
) -> Result<DataLoader> {
    let train = split == Split::Train;
    let transform = if train { &settings.train } else { &settings.eval };
    let config = LoaderConfig {
        batch_size: settings.batch_size,
        shuffle: train,
        drop_last: train && settings.drop_last,
        workers: settings.workers,
        prefetch: 2 * settings.workers.max(1),
        seed,
        skip_broken: settings.skip_broken,
        ..LoaderConfig::default()
    };
    loader_on(device, dataset, transform.clone(), config)
}

/// A loader whose batches lie on `device`, brought there in the way that is fastest for it.
pub(crate) fn loader_on(
    device: &Device,
    dataset: Arc<dyn Dataset>,
    transform: Compose,
    config: LoaderConfig,
) -> Result<DataLoader> {
    let loader = DataLoader::new(dataset, transform, config, device.clone())?;
    // The CPU takes what the loader's threads have made as it is.
    let upload = device.is_cuda().then(|| Arc::new(DeviceUpload::new(device.clone())));
    Ok(match upload {
        Some(upload) => loader.with_upload(upload),
        None => loader,
    })
}

/// Builds the network of `settings` and loads its weights, if it names any. The second value says
/// what was loaded.
pub(crate) fn network(
    settings: &ModelSettings,
    num_classes: usize,
    seed: u64,
    data_dir: &Path,
    device: &Device,
) -> Result<(Box<dyn Model>, String)> {
    let side = settings.image_size;
    let spec =
        ModelSpec::new(&settings.architecture, num_classes).input([settings.channels, side, side]);
    let model = build(&spec, seed, device)?;
    if settings.weights.is_empty() {
        return Ok((model, "from scratch".to_owned()));
    }
    let path = weight_file(&settings.weights, data_dir);
    let path = near(&path);
    let report = WeightFile::read(path)?
        .load(model.as_ref(), weights::Strictness::ExceptHead)
        .with_context(|| format!("cannot start from `{}`", path.display()))?;
    Ok((model, format!("weights {}: {report}", path.display())))
}

/// A bare name means a file under the data folder, or one here without an extension.
pub(crate) fn weight_file(name: &str, data_dir: &Path) -> PathBuf {
    let known = data_dir.join("weights").join(format!("{name}.safetensors"));
    let is_path = name.contains(['.', '/', '\\']);
    if is_path || (!known.is_file() && Path::new(name).is_file()) {
        PathBuf::from(name)
    } else {
        known
    }
}

/// A network as a checkpoint holds it.
pub(crate) struct Restored {
    pub(crate) model: Box<dyn Model>,
    pub(crate) metadata: CheckpointMetadata,
}

/// Builds the network that a checkpoint names and fills it.
pub(crate) fn restore(path: &Path, device: &Device) -> Result<Restored> {
    let checkpoint = Checkpoint::load(path)?;
    let model = build(&checkpoint.metadata.model, 0, device)?;
    checkpoint.restore(model.as_ref())?;
    Ok(Restored { model, metadata: checkpoint.metadata })
}

impl Restored {
    /// An image as this network takes it, a batch of one.
    pub(crate) fn input(&self, path: &Path, device: &Device) -> Result<(Image, Tensor)> {
        let image = image(path, self.metadata.exif_orientation)?;
        let image = in_channels(image, self.metadata.model.input[0])?;
        let image = self.in_size(image, path)?;
        let input = self
            .prepare(&image, device)
            .with_context(|| format!("cannot prepare `{}`", path.display()))?;
        Ok((image, input))
    }

    /// The image scaled to the network's input, where the preprocessing would leave it as large as it
    /// is: data sets whose images are all of one size are not resized in training.
    fn in_size(&self, image: Image, path: &Path) -> Result<Image> {
        let size_of = |image: &Image| [image.height(), image.width()];
        let [_, height, width] = self.metadata.model.input;
        let given = size_of(&image);
        if given == [height, width] || size_of(&self.seen(&image)?) != given {
            return Ok(image);
        }
        // What there is not cannot be scaled up: a network says itself what is too small for it.
        if given[0] * given[1] < height * width {
            return Ok(image);
        }
        say::note(format_args!(
            "`{}` is {}x{}; scaled to the {width}x{height} that the network was trained on",
            path.display(),
            given[1],
            given[0]
        ));
        Ok(functional::resize(&image, height, width, Interpolation::default())?)
    }

    /// An image with the network's number of channels as its input, a batch of one.
    pub(crate) fn prepare(&self, image: &Image, device: &Device) -> Result<Tensor> {
        let array = self.metadata.preprocessing.apply(image, &mut unused_generator())?;
        Ok(array.to_batch(device)?)
    }

    /// A mask moved as the preprocessing moves its image, row by row: true on the subject.
    pub(crate) fn moved_mask(&self, mask: &Image) -> Result<Vec<bool>> {
        let geometry = self.metadata.preprocessing.geometry();
        let moved = geometry.apply(mask, &mut unused_generator())?;
        Ok(moved.values().iter().map(|value| *value > 0.5).collect())
    }

    /// The part of the image that the network sees, for the eye.
    pub(crate) fn seen(&self, image: &Image) -> Result<Image> {
        Ok(self.metadata.preprocessing.apply_to_image(image, &mut unused_generator())?)
    }

    /// The name of a class, or its number where the checkpoint has no name for it.
    pub(crate) fn class_name(&self, class: usize) -> String {
        let name = self.metadata.classes.get(class);
        name.cloned().unwrap_or_else(|| class.to_string())
    }

    /// The number of the class called `name`, or with the number `name`.
    pub(crate) fn class(&self, name: &str) -> Result<usize> {
        let classes = &self.metadata.classes;
        let by_number = || name.parse().ok().filter(|number| *number < classes.len());
        let class = classes.iter().position(|class| class == name).or_else(by_number);
        class.with_context(|| {
            let shown: Vec<&str> = classes.iter().take(10).map(String::as_str).collect();
            let more = if classes.len() > 10 { ", ..." } else { "" };
            format!(
                "`{name}` is no class of this network: it has {} ({}{more}), numbered from 0",
                classes.len(),
                shown.join(", ")
            )
        })
    }
}

/// Fails if a network says NaN: no class is the most probable one then.
pub(crate) fn check_finite(mut probabilities: impl Iterator<Item = f64>) -> Result<()> {
    match probabilities.find(|probability| !probability.is_finite()) {
        None => Ok(()),
        Some(value) => bail!(
            "the network's output is {value}: its weights are damaged or diverged; use another \
             checkpoint"
        ),
    }
}

/// An image that was asked for by name.
pub(crate) fn image(path: &Path, exif_orientation: bool) -> Result<Image> {
    let options = read_options(exif_orientation, None)?;
    Image::open_with(path, &options).map_err(|error| unreadable(path, error))
}

/// An image that was asked for by name cannot be left out, as a loader would do.
fn unreadable(path: &Path, error: DataError) -> anyhow::Error {
    match error {
        DataError::BrokenImage { reason, .. } => {
            anyhow::anyhow!("`{}` is not a whole image: {reason}; replace it", path.display())
        }
        DataError::UnreadableFormat { format, .. } => anyhow::anyhow!(
            "`{}` holds {format}, which cannot be read; convert it to JPEG or PNG",
            path.display()
        ),
        DataError::TooLarge { width, height, max_pixels, .. } => anyhow::anyhow!(
            "`{}` is too large: {width}x{height} pixels, {pixels} in all, where {max_pixels} are \
             allowed; raise that with the environment variable {MAX_PIXELS}={pixels}, or make the \
             image smaller",
            path.display(),
            pixels = width.saturating_mul(height)
        ),
        error => error.into(),
    }
}

/// Preprocessing for evaluation draws nothing at random.
pub(crate) fn unused_generator() -> Generator {
    Generator::seed_from_u64(0)
}

/// The image in as many channels as the network takes.
pub(crate) fn in_channels(image: Image, channels: usize) -> Result<Image> {
    if image.channels() == channels {
        return Ok(image);
    }
    ensure!(
        matches!(channels, 1 | 3),
        "the network takes images of {channels} channels; a photograph has 1 or 3"
    );
    Ok(functional::grayscale(&image, channels))
}
