//! Everything that a run works on, opened and checked before anything is written.

use std::sync::Arc;

use candle_core::Device;
use candle_vision::data::transforms::Compose;
use candle_vision::data::{
    DataLoader, Dataset, Kept, LoaderConfig, Share, Split, Subset, class_counts,
};
use candle_vision::models::Model;
use candle_vision::ops::Generator;
use candle_vision::registry::one_line;
use candle_vision::train::loss::{TargetKind, with_counts_of};
use candle_vision::train::{Trainer, TrainerBuilder, keep_on_device};

use rand::SeedableRng;

use crate::data::{DataFolder, Remarks, loader};
use crate::error::At;
use crate::imbalance::imbalance;
use crate::network::network;
use crate::{BatchSize, DataSettings, Error, ModelSettings, Registry, Result, Settings};

/// The network and the images of a run.
#[non_exhaustive]
pub struct OpenedRun {
    /// The network, with the weights that it starts from.
    pub model: Box<dyn Model>,
    /// What it is trained on.
    pub train: DataLoader,
    /// What chooses the best epoch.
    pub val: DataLoader,
    /// What is measured once, at the end.
    pub test: Option<DataLoader>,
    /// Where the network's weights come from, in words.
    pub origin: String,
    /// What a person should know of the data: how they are split, what was left out.
    pub notes: Vec<String>,
}

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the weights that the settings name, or from scratch.
    New,
    /// All weights come from a checkpoint: those it began with may be gone.
    Resumed,
}

impl Settings {
    /// Opens the data, builds the network and checks that one fits the other. With `batch_size = "auto"` the loaders make
    /// batches of one image until [`OpenedRun::set_batch_size`] says how many.
    ///
    /// # Errors
    /// If a part is not registered, the data are not there or not sound, the weights do not fit, or the
    /// transforms make what the network does not take.
    pub fn open(&self, place: &DataFolder<'_>, device: &Device, start: Start) -> Result<OpenedRun> {
        let mut settings = self.clone();
        settings.check(place.registry())?;
        settings.opened(place, device, start)
    }

    fn opened(&self, place: &DataFolder<'_>, device: &Device, start: Start) -> Result<OpenedRun> {
        let registry = place.registry();
        let seed = self.training.seed;
        let transform = |description: &candle_vision::data::transforms::ComposeDescription| {
            description.build(&registry.transforms).map_err(Error::from)
        };
        let (train, eval) = (transform(&self.data.train)?, transform(&self.data.eval)?);
        let mut remarks = Remarks::default();
        let mut open = |split| place.open(&self.data, split, seed, &mut remarks);
        let (train_set, val_set) = (open(Split::Train)?, open(Split::Val)?);
        let has_test = place.has_test(&self.data)?;
        let test_set = has_test.then(|| open(Split::Test)).transpose()?;
        let loss = registry.training.losses.build(&self.training.loss)?;
        if train_set.is_multi_label() && !loss.takes(TargetKind::SeveralLabels) {
            return Err(Error::invalid(format!(
                "`data.source = \"{}\"` gives an image several labels, and the loss `{}` takes one; set \
                 `training.loss = {{ name = \"binary_cross_entropy\" }}`",
                self.data.source, self.training.loss.name
            )));
        }
        check_several_classes(&train_set, &self.data)?;
        check_size("train", &train_set, &train, &self.model, |size| size)?;
        let tta = self.training.tta.as_ref();
        let tta = tta.map(|tta| registry.training.tta.build(tta)).transpose()?;
        for set in std::iter::once(&val_set).chain(&test_set) {
            // The network may see parts of larger images.
            check_size("eval", set, &eval, &self.model, |size| match &tta {
                Some(tta) if size != [self.model.image_size; 2] => tta.view_size(size),
                _ => size,
            })?;
        }
        let mut decoded = |set, split| place.decoded(set, &self.data, split, &mut remarks);
        let (train_set, val_set) =
            (decoded(train_set, Split::Train)?, decoded(val_set, Split::Val)?);
        let mut notes = place.layout_notes(&self.data)?;
        notes.extend(remarks.into_notes());
        notes.push(of_data(&train_set, &val_set, test_set.as_ref()));
        notes.extend(without_images(&*train_set));
        let classes = (train_set.classes().len(), train_set.is_multi_label());
        let mut first_weights = self.model.clone();
        if start == Start::Resumed {
            first_weights.weights.clear();
        }
        let (model, origin) =
            network(&first_weights, classes, seed, place.path(), device, &registry.networks)?;
        // A run that began from weights was not fitted then, and must not be when it goes on.
        if self.model.weights.is_empty() {
            fit_images(&*model, &train_set, &self.data, &eval)?;
        }
        let load = |set, split, transform: &Compose| {
            loader(set, &self.data, split, transform.clone(), seed, device)
        };
        let test = test_set.map(|set| load(set, Split::Test, &eval)).transpose()?;
        let mut train = load(train_set, Split::Train, &train)?;
        if let Some(sampler) = &self.data.sampler {
            let sampler = registry.samplers.build(sampler)?;
            train = train.with_sampler(sampler).at(|| "in [data]")?;
        }
        let mixing = registry.batch_transforms.build_all(&self.data.batch_transforms)?;
        train = train.with_batch_transforms(mixing).at(|| "in [data]")?;
        notes.extend(imbalance(&train, &*with_counts_of(loss, &train)));
        // Names of classes and files may have line breaks.
        let notes = notes.iter().map(|note| one_line(note).into_owned()).collect();
        Ok(OpenedRun { model, train, val: load(val_set, Split::Val, &eval)?, test, origin, notes })
    }
}

impl std::fmt::Debug for OpenedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedRun")
            .field("model", &self.model)
            .field("origin", &self.origin)
            .field("train_images", &self.train.dataset().len())
            .field("val_images", &self.val.dataset().len())
            .finish_non_exhaustive()
    }
}

impl OpenedRun {
    /// Has all loaders make batches of so many images, for [`BatchSize::Auto`]. The caller puts the number into the
    /// settings, so that the run's record has it.
    ///
    /// # Errors
    /// As [`DataLoader::new`].
    pub fn set_batch_size(&mut self, images: usize) -> Result<()> {
        for loader in [&mut self.train, &mut self.val].into_iter().chain(&mut self.test) {
            loader.set_batch_size(images)?;
        }
        Ok(())
    }

    /// Keeps the images for training and validation in the memory of the run's CUDA card, where they fit and `settings`
    /// do not forbid it. With `memory`, the run may take so many bytes of the card, and each set a quarter of them. Images
    /// for a test are used once, so they stay with the host. Returns what a person should know: where the images are, and
    /// why. It is nothing on a CPU.
    pub fn keep_on_device(&mut self, settings: &DataSettings, memory: Option<u64>) -> Vec<String> {
        if !self.train.device().is_cuda() {
            return Vec::new();
        }
        if !settings.on_device {
            return vec!["images: prepared by the host; `data.on_device` is off".to_owned()];
        }
        let loaders = [("training", &mut self.train), ("validation", &mut self.val)];
        let told = loaders.map(|(what, loader)| match keep_on_device(loader, memory) {
            Kept::OnDevice { bytes } => {
                let mebibytes = bytes as f64 / f64::from(1 << 20);
                format!(
                    "{what} images: in the card's memory ({mebibytes:.1} MiB), where their batches are made"
                )
            }
            Kept::OnHost { reason } => format!("{what} images: prepared by the host; {reason}"),
            other => format!("{what} images: {other:?}"),
        });
        told.into()
    }

    /// Number of bytes that images take in the memory of the run's card.
    pub fn bytes_on_device(&self) -> usize {
        let loaders = [&self.train, &self.val].into_iter().chain(&self.test);
        loaders.map(DataLoader::bytes_on_device).sum()
    }

    /// A trainer of the network as `settings` say, before its first step.
    ///
    /// # Errors
    /// If a part is not registered, the batch size is still `auto`, or as [`Trainer::new`].
    pub fn trainer(&self, settings: &Settings, registry: &Registry) -> Result<Trainer<'_>> {
        Ok(self.trainer_builder(settings, registry)?.build()?)
    }

    /// Gives this process its part of the data, as one of several that train the network together. Images for a test stay
    /// whole, because the first process alone measures them.
    ///
    /// # Errors
    /// As [`DataLoader::share`].
    pub fn share(&mut self, rank: usize, ranks: usize) -> Result<()> {
        self.train.set_share(Share::Samples { rank, ranks })?;
        Ok(self.val.set_share(Share::Batches { rank, ranks })?)
    }

    /// What [`OpenedRun::trainer`] builds the trainer with.
    ///
    /// # Errors
    /// If the batch size is still `auto`.
    pub fn trainer_builder(
        &self,
        settings: &Settings,
        registry: &Registry,
    ) -> Result<TrainerBuilder<'_>> {
        if settings.data.batch_size == BatchSize::Auto {
            return Err(Error::invalid(
                "`data.batch_size` is \"auto\" and nothing has set the number; give one, or call `set_batch_size`",
            ));
        }
        let builder = Trainer::builder(&*self.model).data(&self.train, &self.val);
        Ok(builder.config(settings.training.clone()).parts(registry.training.clone()))
    }
}

/// Fails if all training images are of one class: a network that always names it is right about all of them. With several labels, one
/// class may be there or not.
fn check_several_classes(train: &Arc<dyn Dataset>, settings: &DataSettings) -> Result<()> {
    if train.is_multi_label() {
        return Ok(());
    }
    let counts = class_counts(&**train);
    let mut filled = (0..counts.len()).filter(|&class| counts[class] > 0);
    let (Some(only), None) = (filled.next(), filled.next()) else { return Ok(()) };
    let place = settings.path.as_ref().map(|path| format!("`{}`", path.display()));
    let place = place.unwrap_or_else(|| format!("`data.source = \"{}\"`", settings.source));
    Err(Error::invalid(format!(
        "{place} has a single class, `{}`, among its training images: there is nothing to tell apart; add images of \
         something else",
        train.classes()[only]
    )))
}

/// Checks with the first image that the transforms make what the network takes. `seen` is the size of what it sees of images
/// of a size.
fn check_size(
    name: &str,
    set: &Arc<dyn Dataset>,
    transforms: &Compose,
    model: &ModelSettings,
    seen: impl Fn([usize; 2]) -> [usize; 2],
) -> Result<()> {
    let image = match set.sample(0) {
        Ok(sample) => sample.image,
        // One broken image is the loader's business: it may be left out.
        Err(error) if error.is_broken_image() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let array = transforms
        .apply(&image, &mut Generator::seed_from_u64(0))
        .at(|| format!("data.{name} cannot transform `{}`", set.name(0)))?;
    let [height, width, channels] = array.shape();
    let (side, wanted) = (model.image_size, model.channels);
    if seen([height, width]) != [side; 2] {
        return Err(Error::invalid(format!(
            "data.{name} makes images of {height}x{width}, but model.image_size is {side}; set one to \
             the other"
        )));
    }
    if channels != wanted {
        return Err(Error::invalid(format!(
            "data.{name} makes images of {channels} channels, but model.channels is {wanted}; set one to \
             the other (transform `grayscale` changes images)"
        )));
    }
    Ok(())
}

/// Shows the network as many training images as it asks for, taken evenly from all of them.
fn fit_images(
    model: &dyn Model,
    set: &Arc<dyn Dataset>,
    settings: &DataSettings,
    eval: &Compose,
) -> Result<()> {
    let count = model.images_to_fit().min(set.len());
    if count == 0 {
        return Ok(());
    }
    let even = (0..count).map(|i| i * set.len() / count).collect();
    let config =
        LoaderConfig::new(count).workers(settings.workers).skip_broken(settings.skip_broken);
    let images = Arc::new(Subset::new(set.clone(), even)?);
    let loader = DataLoader::new(images, eval.clone(), config, Device::Cpu)?;
    for batch in loader.epoch(0) {
        model.fit_images(&batch?.images)?;
    }
    Ok(())
}

/// Names the classes that no image is trained on. Labels that count from 1 leave class 0 empty.
fn without_images(train: &dyn Dataset) -> Option<String> {
    const MOST: usize = 12;
    let counts = class_counts(train);
    let empty: Vec<&str> = train
        .classes()
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count == 0)
        .map(|(class, _)| class.as_str())
        .collect();
    let shown = empty[..MOST.min(empty.len())].join(", ");
    let more = if empty.len() > MOST { ", ..." } else { "" };
    (!empty.is_empty()).then(|| {
        format!(
            "classes without training images: {} of {} ({shown}{more})",
            empty.len(),
            train.classes().len()
        )
    })
}

fn of_data(
    train: &Arc<dyn Dataset>,
    val: &Arc<dyn Dataset>,
    test: Option<&Arc<dyn Dataset>>,
) -> String {
    let classes = train.classes();
    let counts = class_counts(&**train);
    let shown: Vec<String> =
        classes.iter().zip(counts).take(12).map(|(class, n)| format!("{class} {n}")).collect();
    let more = if classes.len() > 12 { ", ..." } else { "" };
    let test = test.map_or_else(String::new, |test| format!(", {} for a test", test.len()));
    let several =
        if train.is_multi_label() { "; an image may have several labels or none" } else { "" };
    format!(
        "data: {} training images ({}{more}{several}), {} for validation{test}",
        train.len(),
        shown.join(", "),
        val.len()
    )
}
