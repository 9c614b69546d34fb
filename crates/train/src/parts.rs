//! Tables of the parts of a run by name: optimizers, schedules, losses, metrics and test-time augmentations.

use std::fmt;
use std::sync::Arc;

use candle_vision_registry::{Description, Entry, Table, TableError};
use serde::Serialize;

use crate::loss::Losses;
use crate::metrics::Metrics;
use crate::optim::Optimizers;
use crate::schedule::Schedules;
use crate::tta::TestTimeAugmentations;
use crate::{Error, Result};

/// One row of a registry: a name, a one-line summary, and the function that builds the part from its
/// settings.
///
/// Each kind has its own name: [`OptimizerEntry`](crate::optim::OptimizerEntry),
/// [`ScheduleEntry`](crate::schedule::ScheduleEntry), [`LossEntry`](crate::loss::LossEntry),
/// [`MetricEntry`](crate::metrics::MetricEntry) and
/// [`TestTimeAugmentationEntry`](crate::tta::TestTimeAugmentationEntry). Each has `of::<T>(name, summary)` for a part whose
/// settings are the fields of a serde struct.
pub struct PartEntry<P: ?Sized> {
    name: String,
    summary: String,
    build: Arc<Build<P>>,
}

type Build<P> = dyn Fn(&Description) -> Result<Box<P>> + Send + Sync;

impl<P: ?Sized> PartEntry<P> {
    /// An entry that builds its part with a function of the part's description.
    pub fn new(
        name: impl Into<String>,
        summary: impl Into<String>,
        build: impl Fn(&Description) -> Result<Box<P>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), summary: summary.into(), build: Arc::new(build) }
    }
}

impl<P: ?Sized> Entry for PartEntry<P> {
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }
}

impl<P: ?Sized> Clone for PartEntry<P> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            summary: self.summary.clone(),
            build: Arc::clone(&self.build),
        }
    }
}

impl<P: ?Sized> fmt::Debug for PartEntry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartEntry").field(&self.name).finish()
    }
}

/// The parts of one kind by name: [`Optimizers`], [`Schedules`], [`Losses`], [`Metrics`] or
/// [`TestTimeAugmentations`].
///
/// Each kind has `standard()`, which holds the built-in parts.
pub struct PartTable<P: ?Sized> {
    table: Table<PartEntry<P>>,
}

impl<P: ?Sized> PartTable<P> {
    /// The built-in entries of one kind.
    pub(crate) fn of(kind: &'static str, entries: impl IntoIterator<Item = PartEntry<P>>) -> Self {
        Self { table: Table::of(kind, entries) }
    }

    /// The registry with one more entry.
    ///
    /// # Errors
    /// If another entry has its name, or if the name could not be written in a recipe.
    pub fn with(mut self, entry: PartEntry<P>) -> Result<Self> {
        self.add(entry)?;
        Ok(self)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If another entry has its name, or if the name could not be written in a recipe.
    pub fn add(&mut self, entry: PartEntry<P>) -> std::result::Result<&mut Self, TableError> {
        self.table.add(entry)?;
        Ok(self)
    }

    /// Builds the part that a description names.
    ///
    /// # Errors
    /// If no entry has the name (the message suggests similar names), or if a setting is unknown, missing
    /// or impossible.
    pub fn build(&self, description: &Description) -> Result<Box<P>> {
        let entry = self.table.get(&description.name)?;
        // JSON has no NaN or infinity, so they arrive here as `null`.
        if let Some((setting, _)) = description.settings.iter().find(|(_, value)| value.is_null()) {
            let setting = format!("{}.{setting}", self.table.kind());
            return Err(Error::setting(setting, "NaN or infinite", "a finite number"));
        }
        (entry.build)(description)
    }

    /// The entries: their names, summaries, and a table for documentation.
    pub fn entries(&self) -> &Table<PartEntry<P>> {
        &self.table
    }
}

impl<P: ?Sized> Clone for PartTable<P> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<P: ?Sized> fmt::Debug for PartTable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartTable").field(&self.table.kind()).field(&self.table).finish()
    }
}

/// All registries of the parts that a [`TrainerConfig`](crate::TrainerConfig) can name.
///
/// # Example
/// Your own rule, which recipes can name from then on:
/// ```
/// use candle_core::{Result, Tensor, Var};
/// use candle_vision_train::optim::{OptimizerEntry, Step, UpdateRule};
/// use candle_vision_train::{Parts, TrainerConfig};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, Serialize, Deserialize)]
/// struct SignSgd { lr: f64 }
///
/// impl UpdateRule for SignSgd {
///     fn lr(&self) -> f64 { self.lr }
///     fn update(&self, parameter: &Var, grad: &Tensor, _: &[Var], step: &Step) -> Result<()> {
///         parameter.set(&(parameter.as_detached_tensor() - (grad.sign()? * step.lr)?)?)
///     }
/// }
///
/// # fn main() -> candle_vision_train::Result<()> {
/// let mut parts = Parts::standard();
/// parts.optimizers = parts.optimizers.with(OptimizerEntry::of::<SignSgd>("sign_sgd", "the sign alone"))?;
/// let recipe = "epochs = 1\noptimizer = { name = 'sign_sgd', lr = 0.1 }";
/// let config: TrainerConfig = toml::from_str(recipe).expect("it is TOML");
/// config.with_defaults(&parts)?;
/// assert!(config.validate().unwrap_err().to_string().starts_with("no optimizer is called `sign_sgd`"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Parts {
    /// By the name in `optimizer = { name = "sgd", .. }`.
    pub optimizers: Optimizers,
    /// By the name in `schedule = { name = "step_lr", .. }`.
    pub schedules: Schedules,
    /// By the name in `loss = { name = "cross_entropy", .. }`.
    pub losses: Losses,
    /// By the names in `metrics = [{ name = "macro_f1" }]`.
    pub metrics: Metrics,
    /// By the name in `tta = { name = "mirror" }`.
    pub tta: TestTimeAugmentations,
}

impl Parts {
    /// The built-in parts.
    pub fn standard() -> Self {
        Self {
            optimizers: Optimizers::standard(),
            schedules: Schedules::standard(),
            losses: Losses::standard(),
            metrics: Metrics::standard(),
            tta: TestTimeAugmentations::standard(),
        }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self::standard()
    }
}

/// The description of a built-in part, whose settings are the fields of a struct.
pub(crate) fn described(name: &str, settings: &impl Serialize) -> Description {
    Description::new(name, settings).expect("a struct has named fields")
}

/// The description of a user's part, if its settings have names. An option that is not set is left out.
pub(crate) fn try_described(name: &str, settings: &impl Serialize) -> Result<Description> {
    let mut description = Description::new(name, settings)?;
    description.settings.retain(|_, value| !value.is_null());
    Ok(description)
}

/// The placeholder for the description of a part that has none.
pub(crate) fn undescribed() -> Description {
    Description::named("not_described")
}
