//! Samplers by name.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use candle_vision_registry::{Description, Entry, SettingsError, Table, TableError};
use serde::de::DeserializeOwned;

use super::Sampler;
use crate::error::Result;

type Build = dyn Fn(&Description) -> Result<Arc<dyn Sampler>> + Send + Sync;

/// One kind of sampler in a table of [`Samplers`].
#[derive(Clone)]
pub struct SamplerEntry {
    name: Cow<'static, str>,
    summary: Cow<'static, str>,
    build: Arc<Build>,
}

impl SamplerEntry {
    /// An entry for the sampler type `S`. The settings are the fields of `S`.
    ///
    /// `S` should have `#[serde(deny_unknown_fields)]`, so that a mistyped setting is an error.
    pub fn of<S: Sampler + DeserializeOwned + 'static>(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(name, summary, |description| Ok(Arc::new(description.settings::<S>()?)))
    }

    /// An entry whose sampler is made by `build` from its description.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        build: impl Fn(&Description) -> Result<Arc<dyn Sampler>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), summary: summary.into(), build: Arc::new(build) }
    }
}

impl Entry for SamplerEntry {
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }
}

impl std::fmt::Debug for SamplerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SamplerEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Samplers by name, for recipes: those of this crate and your own.
///
/// ```
/// use candle_vision_data::samplers::Samplers;
/// use candle_vision_registry::Description;
///
/// let samplers = Samplers::standard();
/// let weighted = Description::named("weighted").with("weights", vec![1.0, 3.0]);
/// assert_eq!(samplers.build(&weighted)?.describe().settings["replacement"], true);
/// let error = samplers.build(&Description::named("balance")).err().unwrap().to_string();
/// assert_eq!(error, "no sampler is called `balance`; did you mean `balanced`?");
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Samplers(Table<SamplerEntry>);

impl Samplers {
    /// The samplers of this crate.
    pub fn standard() -> Self {
        Self(Table::of(
            "sampler",
            [
                super::shuffled::entry(),
                super::sequential::entry(),
                super::stratified::entry(),
                super::balanced::entry(),
                super::weighted::entry(),
                super::repeated_augmentation::entry(),
            ],
        ))
    }

    /// Adds a sampler.
    ///
    /// # Errors
    /// If another sampler has its name, or if the name cannot be written in a recipe.
    pub fn add(&mut self, entry: SamplerEntry) -> std::result::Result<&mut Self, TableError> {
        self.0.add(entry)?;
        Ok(self)
    }

    /// Makes the sampler that a description names.
    ///
    /// # Errors
    /// If no sampler has the name, if a setting is missing, unknown or wrong, or if the sampler describes itself under
    /// another name.
    pub fn build(&self, description: &Description) -> Result<Arc<dyn Sampler>> {
        let entry = self.0.get(&description.name)?;
        let sampler = (entry.build)(description)?;
        let described = sampler.describe().name;
        if described == entry.name {
            return Ok(sampler);
        }
        let problem = format!(
            "the sampler describes itself as `{described}`; return `{}` from `describe`",
            entry.name
        );
        Err(SettingsError::new(entry.name.as_ref(), problem).into())
    }
}

impl Default for Samplers {
    fn default() -> Self {
        Self::standard()
    }
}

/// Gives the methods that look up, list and document the entries.
impl Deref for Samplers {
    type Target = Table<SamplerEntry>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::Population;
    use super::*;

    /// Every row: the settings it gives back, an order that depends on seed and epoch alone and has the length it says.
    #[test]
    fn every_sampler_is_a_function_of_seed_and_epoch() -> Result<()> {
        let labels: Vec<u32> = (0..37).map(|i| [0, 0, 0, 1, 2][i % 5]).collect();
        let population = Population::of_labels(labels, 3);
        for entry in Samplers::standard().iter() {
            let sampler = Samplers::standard().build(&Description::named(entry.name()))?;
            assert_eq!(
                Samplers::standard().build(&sampler.describe())?.describe(),
                sampler.describe()
            );
            sampler.check(&population)?;
            let order = sampler.order(&population, 5, 2);
            assert_eq!(order.len(), sampler.samples_per_epoch(&population), "{}", entry.name());
            assert!(order.iter().all(|&index| index < 37));
            assert_eq!(order, sampler.order(&population, 5, 2));
            let others = [sampler.order(&population, 5, 3), sampler.order(&population, 6, 2)];
            let differs = others.iter().all(|other| *other != order);
            assert_eq!(differs, entry.name() != "sequential", "{}", entry.name());
        }
        Ok(())
    }
}
