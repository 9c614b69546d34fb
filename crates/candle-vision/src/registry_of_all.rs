//! Everything that a program can name, in one value.

use candle_vision_data::batch_transforms::{BatchTransformEntry, BatchTransforms};
use candle_vision_data::samplers::{SamplerEntry, Samplers};
use candle_vision_data::transforms::{TransformEntry, Transforms};
use candle_vision_data::{DataSetEntry, DataSets};
use candle_vision_explain::{Method, Methods};
use candle_vision_models::{NetworkEntry, Networks};
use candle_vision_registry::TableError;
use candle_vision_train::Parts;
use candle_vision_train::loss::LossEntry;
use candle_vision_train::metrics::MetricEntry;
use candle_vision_train::optim::OptimizerEntry;
use candle_vision_train::schedule::ScheduleEntry;
use candle_vision_train::tta::TestTimeAugmentationEntry;

/// All parts that recipes, checkpoints and command lines can name: the built-in ones, and those that a program
/// adds.
///
/// ```
/// use candle_vision::Registry;
/// use candle_vision::models::{Mlp, MlpConfig, NetworkEntry};
///
/// let registry = Registry::standard().network(
///     NetworkEntry::new("small_mlp", |spec, vb| Mlp::new(MlpConfig::new().spec(spec).hidden(16), vb))
///         .summary("an MLP with 16 hidden units")
///         .input([1, 28, 28]),
/// );
/// registry.check()?;
/// assert!(registry.networks.get("small_mlp").is_ok());
///
/// // A name that is taken is an error that names it.
/// let twice = registry.clone().network(registry.networks.get("resnet18")?.clone());
/// assert!(twice.check().unwrap_err().to_string().contains("two entries `resnet18`"));
/// # Ok::<(), candle_vision::registry::TableError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Registry {
    /// Networks.
    pub networks: Networks,
    /// Transforms of images.
    pub transforms: Transforms,
    /// Transforms of whole batches.
    pub batch_transforms: BatchTransforms,
    /// Data sets.
    pub data_sets: DataSets,
    /// Samplers: which samples an epoch shows.
    pub samplers: Samplers,
    /// Optimizers, learning-rate schedules, losses, metrics and test-time augmentations.
    pub training: Parts,
    /// Explanation methods.
    pub methods: Methods,
    /// The first entry that could not be added.
    fault: Option<TableError>,
}

impl Registry {
    /// The built-in parts.
    pub fn standard() -> Self {
        Self {
            networks: Networks::standard(),
            transforms: Transforms::standard(),
            batch_transforms: BatchTransforms::standard(),
            data_sets: DataSets::standard(),
            samplers: Samplers::standard(),
            training: Parts::standard(),
            methods: Methods::standard(),
            fault: None,
        }
    }

    /// Adds a network.
    pub fn network(mut self, entry: NetworkEntry) -> Self {
        let added = self.networks.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a transform of images.
    pub fn transform(mut self, entry: TransformEntry) -> Self {
        let added = self.transforms.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a transform of whole batches.
    pub fn batch_transform(mut self, entry: BatchTransformEntry) -> Self {
        let added = self.batch_transforms.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a data set.
    pub fn data_set(mut self, entry: DataSetEntry) -> Self {
        let added = self.data_sets.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a sampler.
    pub fn sampler(mut self, entry: SamplerEntry) -> Self {
        let added = self.samplers.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds an optimizer.
    pub fn optimizer(mut self, entry: OptimizerEntry) -> Self {
        let added = self.training.optimizers.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a learning-rate schedule.
    pub fn schedule(mut self, entry: ScheduleEntry) -> Self {
        let added = self.training.schedules.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a loss.
    pub fn loss(mut self, entry: LossEntry) -> Self {
        let added = self.training.losses.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a metric.
    pub fn metric(mut self, entry: MetricEntry) -> Self {
        let added = self.training.metrics.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds a test-time augmentation.
    pub fn test_time_augmentation(mut self, entry: TestTimeAugmentationEntry) -> Self {
        let added = self.training.tta.add(entry).map(|_| ());
        self.noting(added)
    }

    /// Adds an explanation method.
    pub fn method(mut self, method: Method) -> Self {
        let added = self.methods.add(method).map(|_| ());
        self.noting(added)
    }

    /// Says which entry could not be added, if one could not. Whoever opens recipes or checkpoints with a
    /// registry calls this first.
    ///
    /// # Errors
    /// If an entry has a name that is taken, or one that no recipe could hold.
    pub fn check(&self) -> Result<(), TableError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// An error is kept for [`Registry::check`], so that registrations can be chained.
    fn noting(mut self, added: Result<(), TableError>) -> Self {
        self.fault = self.fault.or(added.err());
        self
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::standard()
    }
}
