//! Everything that a run works on, opened and checked before anything is written.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::data::transforms::Compose;
use candle_vision::data::{DataLoader, Dataset, LoaderConfig, Split, Subset, class_counts};
use candle_vision::models::Model;
use candle_vision::ops::Generator;
use rand::SeedableRng;

use crate::image_folders::{self, Remarks};
use crate::settings::{DataSettings, ModelSettings, Settings};
use crate::{say, sources};

/// The network and the images of a run.
pub(crate) struct Prepared {
    pub(crate) model: Box<dyn Model>,
    pub(crate) train: DataLoader,
    pub(crate) val: DataLoader,
    /// What is measured once, at the end.
    pub(crate) test: Option<DataLoader>,
    /// Where the network's weights come from, in words.
    pub(crate) origin: String,
}

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// From the weights that the settings name, or from scratch.
    New,
    /// All weights come from a checkpoint: those it began with may be gone.
    Resumed,
}

/// Opens the data, builds the network and checks that one fits the other.
pub(crate) fn prepare(
    settings: &Settings,
    data_dir: &Path,
    device: &Device,
    start: Start,
) -> Result<Prepared> {
    settings.training.validate()?;
    let seed = settings.training.seed;
    let mut remarks = Remarks::default();
    let mut open = |split| sources::open(&settings.data, data_dir, split, seed, &mut remarks);
    let (train_set, val_set) = (open(Split::Train)?, open(Split::Val)?);
    let folder = sources::image_folder(&settings.data, data_dir)?;
    let has_test = folder.as_deref().map_or(Ok(false), image_folders::has_test)?;
    let test_set = has_test.then(|| open(Split::Test)).transpose()?;
    check_size("train", &train_set, &settings.data.train, &settings.model)?;
    for set in std::iter::once(&val_set).chain(&test_set) {
        check_size("eval", set, &settings.data.eval, &settings.model)?;
    }
    if let Some(folder) = &folder {
        image_folders::tell_layout(folder, &settings.data)?;
    }
    remarks.tell();
    tell_of_data(&train_set, &val_set, test_set.as_ref());
    let classes = train_set.classes().len();
    let mut network = settings.model.clone();
    if start == Start::Resumed {
        network.weights.clear();
    }
    let (model, origin) = sources::network(&network, classes, seed, data_dir, device)?;
    // A run that began from weights was not fitted then, and must not be when it goes on.
    if settings.model.weights.is_empty() {
        fit_images(model.as_ref(), &train_set, &settings.data)?;
    }
    let loader = |set, split| sources::loader(set, &settings.data, split, seed, device);
    let (train, val) = (loader(train_set, Split::Train)?, loader(val_set, Split::Val)?);
    let test = test_set.map(|set| loader(set, Split::Test)).transpose()?;
    Ok(Prepared { model, train, val, test, origin })
}

/// Checks with the first image that the transforms make what the network takes.
fn check_size(
    name: &str,
    set: &Arc<dyn Dataset>,
    transforms: &Compose,
    model: &ModelSettings,
) -> Result<()> {
    let image = match set.sample(0) {
        Ok(sample) => sample.image,
        // One broken image is the loader's business: it may be left out.
        Err(error) if error.is_broken_image() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let array = match transforms.apply(&image, &mut Generator::seed_from_u64(0)) {
        Ok(array) => array,
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context(format!("data.{name} cannot transform `{}`", set.name(0))));
        }
    };
    let [height, width, channels] = array.shape();
    let (side, wanted) = (model.image_size, model.channels);
    if (height, width) != (side, side) {
        bail!(
            "data.{name} makes images of {height}x{width}, but model.image_size is {side}; \
             set one to the other"
        )
    }
    if channels != wanted {
        bail!(
            "data.{name} makes images of {channels} channels, but model.channels is {wanted}; \
             set one to the other (transform `grayscale` changes images)"
        )
    }
    Ok(())
}

/// Shows the network as many training images as it asks for, taken evenly from all of them.
fn fit_images(model: &dyn Model, set: &Arc<dyn Dataset>, settings: &DataSettings) -> Result<()> {
    let count = model.images_to_fit().min(set.len());
    if count == 0 {
        return Ok(());
    }
    let even = (0..count).map(|i| i * set.len() / count).collect();
    let config = LoaderConfig {
        batch_size: count,
        workers: settings.workers,
        skip_broken: settings.skip_broken,
        ..LoaderConfig::default()
    };
    let images = Arc::new(Subset::new(set.clone(), even)?);
    let loader = DataLoader::new(images, settings.eval.clone(), config, Device::Cpu)?;
    for batch in loader.epoch(0) {
        model.fit_images(&batch?.images)?;
    }
    Ok(())
}

fn tell_of_data(train: &Arc<dyn Dataset>, val: &Arc<dyn Dataset>, test: Option<&Arc<dyn Dataset>>) {
    let classes = train.classes();
    let counts = class_counts(train.as_ref());
    let shown: Vec<String> =
        classes.iter().zip(counts).take(12).map(|(class, n)| format!("{class} {n}")).collect();
    let more = if classes.len() > 12 { ", ..." } else { "" };
    let test = test.map_or_else(String::new, |test| format!(", {} for a test", test.len()));
    say::note(format_args!(
        "data: {} training images ({}{more}), {} for validation{test}",
        train.len(),
        shown.join(", "),
        val.len()
    ));
}
