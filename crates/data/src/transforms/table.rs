//! Transforms by name.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use candle_vision_registry::{Description, Entry, SettingsError, Table, TableError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Transform;
use crate::error::Result;

type Build = dyn Fn(&Description, &Transforms) -> Result<Arc<dyn Transform>> + Send + Sync;

/// One kind of transform in a table of [`Transforms`].
#[derive(Clone)]
pub struct TransformEntry {
    name: Cow<'static, str>,
    summary: Cow<'static, str>,
    build: Arc<Build>,
}

impl TransformEntry {
    /// An entry for the transform type `T`. The settings are the fields of `T`.
    ///
    /// `T` should have `#[serde(deny_unknown_fields)]`, so that a mistyped setting is an error.
    /// [`Transform::describe`] should return `name`; [`describe`](super::describe) helps with this.
    pub fn of<T: Transform + DeserializeOwned>(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, summary, |description| Ok(Arc::new(settings::<T>(description)?)))
    }

    /// An entry whose transform is made from its settings by `build`.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        build: impl Fn(&Description) -> Result<Arc<dyn Transform>> + Send + Sync + 'static,
    ) -> Self {
        let build = move |description: &Description, _: &Transforms| build(description);
        Self { name: name.into(), summary: summary.into(), build: Arc::new(build) }
    }

    /// An entry for a transform that holds others, such as [`RandomApply`](super::RandomApply). `build` makes it from its
    /// settings, with the table in which the names of the others stand.
    pub fn nested<S: DeserializeOwned, T: Transform>(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        build: impl Fn(S, &Transforms) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        let build = move |description: &Description, transforms: &Transforms| {
            let built: Arc<dyn Transform> = Arc::new(build(settings(description)?, transforms)?);
            Ok(built)
        };
        Self { name: name.into(), summary: summary.into(), build: Arc::new(build) }
    }

    /// Makes the transform with these settings. The transforms within it are those of [`Transforms::standard`].
    ///
    /// # Errors
    /// Those of [`TransformEntry::build_among`].
    pub fn build(&self, description: &Description) -> Result<Arc<dyn Transform>> {
        self.build_among(description, &Transforms::standard())
    }

    /// Makes the transform with these settings. `transforms` is the table for the transforms within it.
    ///
    /// # Errors
    /// If a setting is missing, unknown or wrong, or if the transform describes itself under another name. In
    /// that case a checkpoint's description could not be built again.
    pub fn build_among(
        &self,
        description: &Description,
        transforms: &Transforms,
    ) -> Result<Arc<dyn Transform>> {
        let transform = (self.build)(description, transforms)?;
        transform.validate()?;
        let described = transform.describe().name;
        if described == self.name {
            return Ok(transform);
        }
        let problem = format!(
            "the transform describes itself as `{described}`; return `{}` from `describe`",
            self.name
        );
        Err(SettingsError::new(self.name.as_ref(), problem).into())
    }
}

impl Entry for TransformEntry {
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }
}

impl std::fmt::Debug for TransformEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransformEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Transforms by name, for recipes and checkpoints: those of this crate and your own.
///
/// ```
/// use candle_vision_data::transforms::Transforms;
///
/// let transforms = Transforms::standard();
/// assert!(transforms.contains("random_resized_crop"));
/// let error = transforms.get("random_crob").err().unwrap().to_string();
/// assert!(error.starts_with("no transform is called `random_crob`; did you mean `random_crop`"));
/// ```
#[derive(Clone, Debug)]
pub struct Transforms(Table<TransformEntry>);

impl Transforms {
    /// The transforms of this crate.
    pub fn standard() -> Self {
        Self(Table::of(
            "transform",
            [
                super::resize::entry(),
                super::center_crop::entry(),
                super::random_crop::entry(),
                super::random_resized_crop::entry(),
                super::random_horizontal_flip::entry(),
                super::alternating_flip::entry(),
                super::random_vertical_flip::entry(),
                super::random_rotation::entry(),
                super::color_jitter::entry(),
                super::grayscale::entry(),
                super::random_grayscale::entry(),
                super::cutout::entry(),
                super::pad::entry(),
                super::random_affine::entry(),
                super::random_perspective::entry(),
                super::elastic_transform::entry(),
                super::random_zoom_out::entry(),
                super::gaussian_blur::entry(),
                super::gaussian_noise::entry(),
                super::random_adjust_sharpness::entry(),
                super::random_autocontrast::entry(),
                super::random_equalize::entry(),
                super::random_invert::entry(),
                super::random_posterize::entry(),
                super::random_solarize::entry(),
                super::random_photometric_distort::entry(),
                super::random_channel_permutation::entry(),
                super::random_erasing::entry(),
                super::jpeg::entry(),
                super::auto_augment::entry(),
                super::rand_augment::entry(),
                super::trivial_augment_wide::entry(),
                super::aug_mix::entry(),
                super::random_apply::entry(),
                super::random_choice::entry(),
                super::random_order::entry(),
                super::to_tensor::entry(),
                super::normalize::entry(),
            ],
        ))
    }

    /// Adds a transform.
    ///
    /// # Errors
    /// If another transform has its name, or if the name cannot be written in a recipe.
    pub fn add(&mut self, entry: TransformEntry) -> std::result::Result<&mut Self, TableError> {
        self.0.add(entry)?;
        Ok(self)
    }
}

impl Default for Transforms {
    fn default() -> Self {
        Self::standard()
    }
}

/// Gives the methods that look up, list and document the entries.
impl Deref for Transforms {
    type Target = Table<TransformEntry>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

fn settings<T: DeserializeOwned>(description: &Description) -> Result<T, SettingsError> {
    // TOML and JSON settings have no null of their own. A null here comes from `nan` or `inf`.
    match description.settings.iter().find(|(_, value)| has_null(value)) {
        Some((name, _)) => {
            let problem = format!("`{name}` must be a finite number");
            Err(SettingsError::new(&description.name, problem))
        }
        None => description.settings(),
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        _ => false,
    }
}
