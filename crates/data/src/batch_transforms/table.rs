//! Batch transforms by name.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use candle_vision_registry::{Description, Entry, SettingsError, Table, TableError};
use serde::de::DeserializeOwned;

use super::BatchTransform;
use crate::error::Result;
use crate::transforms::ComposeDescription;

type Build =
    dyn Fn(&Description, &BatchTransforms) -> Result<Arc<dyn BatchTransform>> + Send + Sync;

/// One kind of batch transform in a table of [`BatchTransforms`].
#[derive(Clone)]
pub struct BatchTransformEntry {
    name: Cow<'static, str>,
    summary: Cow<'static, str>,
    build: Arc<Build>,
}

impl BatchTransformEntry {
    /// An entry for the type `T`. The settings are the fields of `T`.
    ///
    /// `T` should have `#[serde(deny_unknown_fields)]`, so that a mistyped setting is an error.
    /// [`BatchTransform::describe`] should return `name`; [`describe`](super::describe) helps with this.
    pub fn of<T: BatchTransform + DeserializeOwned>(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::nested(name, summary, |description, _| Ok(Arc::new(description.settings::<T>()?)))
    }

    /// An entry whose batch transform holds others. `build` makes them with the table that has the entry.
    pub fn nested(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        build: impl Fn(&Description, &BatchTransforms) -> Result<Arc<dyn BatchTransform>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { name: name.into(), summary: summary.into(), build: Arc::new(build) }
    }
}

impl Entry for BatchTransformEntry {
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }
}

impl std::fmt::Debug for BatchTransformEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchTransformEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Batch transforms by name, for recipes: those of this crate and your own.
///
/// ```
/// use candle_vision_data::batch_transforms::BatchTransforms;
/// use candle_vision_registry::Description;
///
/// let table = BatchTransforms::standard();
/// let mixup = table.build(&Description::named("mixup"))?;
/// assert_eq!(mixup.describe().settings["alpha"], 1.0);
/// let error = table.build(&Description::named("mix_up")).err().unwrap().to_string();
/// assert_eq!(error, "no batch transform is called `mix_up`; did you mean `mixup`?");
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchTransforms(Table<BatchTransformEntry>);

impl BatchTransforms {
    /// The batch transforms of this crate.
    pub fn standard() -> Self {
        Self(Table::of(
            "batch transform",
            [super::mix_up::entry(), super::cut_mix::entry(), super::random_choice::entry()],
        ))
    }

    /// Adds a batch transform.
    ///
    /// # Errors
    /// If another has its name, or if the name cannot be written in a recipe.
    pub fn add(
        &mut self,
        entry: BatchTransformEntry,
    ) -> std::result::Result<&mut Self, TableError> {
        self.0.add(entry)?;
        Ok(self)
    }

    /// Makes the batch transform that a description names.
    ///
    /// # Errors
    /// If none has the name, if a setting is missing, unknown or wrong, or if the transform describes itself under
    /// another name.
    pub fn build(&self, description: &Description) -> Result<Arc<dyn BatchTransform>> {
        let entry = self.0.get(&description.name)?;
        // TOML and JSON settings have no null of their own. A null here comes from `nan` or `inf`.
        if let Some((name, _)) = description.settings.iter().find(|(_, value)| value.is_null()) {
            let problem = format!("`{name}` must be a finite number");
            return Err(SettingsError::new(&description.name, problem).into());
        }
        let transform = (entry.build)(description, self)?;
        transform.validate()?;
        let described = transform.describe().name;
        if described == entry.name {
            return Ok(transform);
        }
        let problem = format!(
            "the batch transform describes itself as `{described}`; return `{}` from `describe`",
            entry.name
        );
        Err(SettingsError::new(entry.name.as_ref(), problem).into())
    }

    /// Makes the batch transforms of a list, in order.
    ///
    /// # Errors
    /// As [`BatchTransforms::build`].
    pub fn build_all(&self, list: &ComposeDescription) -> Result<Vec<Arc<dyn BatchTransform>>> {
        list.steps().iter().map(|description| self.build(description)).collect()
    }
}

/// The descriptions of a list of batch transforms, in the form that recipes store.
pub fn describe_all(transforms: &[Arc<dyn BatchTransform>]) -> ComposeDescription {
    transforms.iter().map(|transform| transform.describe()).collect()
}

impl Default for BatchTransforms {
    fn default() -> Self {
        Self::standard()
    }
}

/// Gives the methods that look up, list and document the entries.
impl Deref for BatchTransforms {
    type Target = Table<BatchTransformEntry>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
