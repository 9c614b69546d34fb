//! All splits of a data set in one call, and their loaders.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use super::{DataSetEntry, DataSets, OpenRequest};
use crate::dataset::{Dataset, Split};
use crate::error::Result;
use crate::loader::{DataLoader, LoaderConfig};
use crate::transforms::Compose;

/// The splits of a data set.
///
/// # Example
/// ```no_run
/// use candle_vision_data::hymenoptera;
/// use candle_vision_data::transforms::Compose;
///
/// let data = hymenoptera("data")?;
/// println!("{:?}", data.classes());
/// let loaders = data.loaders(Compose::imagenet_train(), Compose::imagenet_eval(), 32)?;
/// for batch in loaders.train.epochs(2) {
///     println!("{:?}", batch?.images.shape());
/// }
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Splits {
    /// The samples to train on.
    pub train: Arc<dyn Dataset>,
    /// The samples that decide which epoch was best.
    pub val: Arc<dyn Dataset>,
    /// The samples for a single test at the end, if there are any.
    pub test: Option<Arc<dyn Dataset>>,
}

/// The loaders of a data set's splits.
#[derive(Debug)]
pub struct Loaders {
    /// Training batches: shuffled, with the transforms for training.
    pub train: DataLoader,
    /// Validation batches: in order, with the transforms for evaluation.
    pub val: DataLoader,
    /// Test batches: in order, with the transforms for evaluation.
    pub test: Option<DataLoader>,
}

impl Splits {
    /// These data sets, without test images.
    ///
    /// ```
    /// use candle_vision_data::{Insects, InsectsConfig, Split, Splits};
    ///
    /// let set = |split| Insects::new(split, InsectsConfig::default());
    /// let splits = Splits::new(set(Split::Train)?, set(Split::Val)?);
    /// assert_eq!(splits.classes(), ["ants", "bees"]);
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    pub fn new(train: impl Dataset + 'static, val: impl Dataset + 'static) -> Self {
        Self { train: Arc::new(train), val: Arc::new(val), test: None }
    }

    /// Opens all splits of a data set in a table. [`OpenRequest::split`] is ignored.
    ///
    /// # Errors
    /// Those of [`DataSetEntry::open`] and [`DataSetEntry::has_test`].
    pub fn open(entry: &DataSetEntry, request: &OpenRequest) -> Result<Self> {
        let split = |split| -> Result<Arc<dyn Dataset>> {
            Ok(entry.open(&request.clone().split(split))?.dataset)
        };
        let has_test = entry.has_test(request)?;
        Ok(Self {
            train: split(Split::Train)?,
            val: split(Split::Val)?,
            test: has_test.then(|| split(Split::Test)).transpose()?,
        })
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// Loaders whose batches stay in the host's memory.
    ///
    /// # Errors
    /// Those of [`Splits::loaders_on`].
    pub fn loaders(&self, train: Compose, eval: Compose, batch_size: usize) -> Result<Loaders> {
        self.loaders_on(train, eval, LoaderConfig::new(batch_size), &Device::Cpu)
    }

    /// Loaders whose batches go to a device. Training batches are always shuffled, whatever `config` says. The
    /// other batches are in order, and the last one is kept even if it is short.
    ///
    /// # Errors
    /// Those of [`DataLoader::new`].
    pub fn loaders_on(
        &self,
        train: Compose,
        eval: Compose,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Loaders> {
        let loader = |set: &Arc<dyn Dataset>, transform, config| {
            DataLoader::new(Arc::clone(set), transform, config, device.clone())
        };
        let in_order = config.clone().shuffle(false).drop_last(false);
        let test = self.test.as_ref();
        Ok(Loaders {
            train: loader(&self.train, train, config.shuffle(true))?,
            val: loader(&self.val, eval.clone(), in_order.clone())?,
            test: test.map(|set| loader(set, eval, in_order)).transpose()?,
        })
    }
}

impl std::fmt::Debug for Splits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Splits");
        text.field("classes", &self.classes()).field("train", &self.train.len());
        let test = self.test.as_ref().map(|set| set.len());
        text.field("val", &self.val.len()).field("test", &test).finish()
    }
}

/// MNIST, in `mnist/` of a data folder. The test images also serve for validation.
///
/// # Errors
/// Those of [`Mnist::open`](crate::Mnist::open).
pub fn mnist(data_dir: impl AsRef<Path>) -> Result<Splits> {
    known("mnist", data_dir.as_ref())
}

/// CIFAR-10, in `cifar10/` or `cifar-10-batches-bin/` of a data folder. The test images also serve for
/// validation.
///
/// # Errors
/// Those of [`Cifar10::open`](crate::Cifar10::open).
pub fn cifar10(data_dir: impl AsRef<Path>) -> Result<Splits> {
    known("cifar10", data_dir.as_ref())
}

/// The ants and bees of PyTorch's transfer-learning tutorial, in `hymenoptera_data/` of a data folder.
///
/// # Errors
/// Those of [`ImageFolder::open`](crate::ImageFolder::open).
pub fn hymenoptera(data_dir: impl AsRef<Path>) -> Result<Splits> {
    known("hymenoptera", data_dir.as_ref())
}

/// Your own images: a folder with one subfolder per class, or `train/` and `val/` folders that each contain one
/// subfolder per class. Without validation images, a fifth of the images is kept for validation.
///
/// # Errors
/// Those of [`ImageFolder::open`](crate::ImageFolder::open).
pub fn folder(path: impl AsRef<Path>) -> Result<Splits> {
    let request = OpenRequest::new("", Split::Train).path(path.as_ref());
    Splits::open(DataSets::standard().get("folder")?, &request)
}

fn known(name: &str, data_dir: &Path) -> Result<Splits> {
    Splits::open(DataSets::standard().get(name)?, &OpenRequest::new(data_dir, Split::Train))
}
