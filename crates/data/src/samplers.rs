//! Samplers: which samples an epoch shows, and in which order.
//!
//! A [`Sampler`] is a function of the samples' labels, the seed and the epoch. So its order can be made again at any
//! time, a run can go on in the middle of an epoch, and the number of workers has no influence. A
//! [`DataLoader`](crate::DataLoader) takes one with [`with_sampler`](crate::DataLoader::with_sampler). Recipes name one
//! as `data.sampler`, and find it in a table of [`Samplers`].
//!
//! | sampler | an epoch shows |
//! |---|---|
//! | [`Sequential`] | each sample once, in the order of the data set |
//! | [`Shuffled`] | each sample once, in a new order |
//! | [`Stratified`] | each sample once, with every class spread evenly over the epoch |
//! | [`Balanced`] | every class equally often |
//! | [`Weighted`] | samples drawn by weights |
//! | [`RepeatedAugmentation`] | a share of the samples, each several times in a row |
//!
//! Each says what it does with samples of several labels, and [`Population::labels_of`] shows them to a sampler of your own.
//!
//! Of several processes, each gets its part of any sampler's order by [`DataLoader::share`](crate::DataLoader::share).
//!
//! A sample that comes several times in an epoch is augmented anew each time.
//!
//! ```
//! use std::sync::Arc;
//!
//! use candle_core::Device;
//! use candle_vision_data::samplers::Balanced;
//! use candle_vision_data::transforms::{Compose, ToTensor};
//! use candle_vision_data::{DataLoader, Image, LoaderConfig, Samples};
//!
//! // Nine dark images and one bright one.
//! let rows: Vec<(u8, u32)> = (0..10).map(|i| (i, u32::from(i == 9))).collect();
//! let set = Samples::new(["dark", "bright"], rows, |&level| Image::new(4, 4, 1, vec![level; 16]));
//! let transform = Compose::new().with(ToTensor);
//! let loader = DataLoader::new(Arc::new(set), transform, LoaderConfig::new(5), Device::Cpu)?
//!     .with_sampler(Arc::new(Balanced::new()))?;
//! let bright = loader.order(0).into_iter().filter(|&index| index == 9).count();
//! assert_eq!(bright, 5);
//! # Ok::<(), candle_vision_data::Error>(())
//! ```

mod balanced;
mod class_weights;
mod population;
mod repeated_augmentation;
mod sequential;
mod shuffled;
mod stratified;
mod table;
mod weighted;

use std::fmt::Debug;

use candle_vision_registry::Description;

pub use balanced::Balanced;
pub use class_weights::{ClassWeights, balanced_weights};
pub use population::Population;
pub use repeated_augmentation::RepeatedAugmentation;
pub use sequential::Sequential;
pub use shuffled::Shuffled;
pub use stratified::Stratified;
pub use table::{SamplerEntry, Samplers};
pub use weighted::Weighted;

use crate::error::{Error, Result};

/// Says which samples an epoch shows, and in which order. Whoever uses one calls [`Sampler::check`] first.
///
/// # Example
/// ```
/// use candle_vision_data::random;
/// use candle_vision_data::samplers::{Population, Sampler};
/// use candle_vision_registry::Description;
///
/// /// Begins each epoch at another sample.
/// #[derive(Debug)]
/// struct Turned;
///
/// impl Sampler for Turned {
///     fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
///         let mut order: Vec<usize> = (0..population.len()).collect();
///         let start = random::below(&mut random::of_epoch(seed, epoch), population.len());
///         order.rotate_left(start);
///         order
///     }
///     fn describe(&self) -> Description {
///         Description::named("turned")
///     }
/// }
///
/// let order = Turned.order(&Population::of_labels(vec![0; 5], 1), 0, 0);
/// assert_eq!(order.len(), 5);
/// ```
pub trait Sampler: Debug + Send + Sync {
    /// The sample indices of an epoch, counted from 0, in the order of its batches. An index may come several times.
    ///
    /// It may depend on its arguments alone. It has [`Sampler::samples_per_epoch`] entries.
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize>;

    /// The order of each of `ranks` processes that share an epoch, if each of them reads files of its own. The default is
    /// `None`: they share [`Sampler::order`]. See [`Dataset::shuffled_orders`](crate::Dataset::shuffled_orders).
    fn orders_of_ranks(
        &self,
        population: &Population,
        seed: u64,
        epoch: usize,
        ranks: usize,
    ) -> Option<Vec<Vec<usize>>> {
        let _ = (population, seed, epoch, ranks);
        None
    }

    /// The number of files that [`Sampler::orders_of_ranks`] gives to processes. The default is `None`.
    fn files_of_ranks(&self, population: &Population) -> Option<usize> {
        let _ = population;
        None
    }

    /// Number of samples in an epoch. It is the same for every epoch. The default is the size of the data set.
    fn samples_per_epoch(&self, population: &Population) -> usize {
        population.len()
    }

    /// Its name and settings, with every default filled in. Two samplers are the same if their descriptions are.
    fn describe(&self) -> Description;

    /// Checks the settings, and that they suit the data set.
    ///
    /// # Errors
    /// If they do not. The error names the setting.
    fn check(&self, population: &Population) -> Result<()> {
        let _ = population;
        Ok(())
    }
}

/// The description of a built-in sampler, whose settings are the fields of a struct. Options that are not set are left
/// out.
fn described(name: &str, settings: &impl serde::Serialize) -> Description {
    let described = Description::new(name, settings);
    let mut described = described.expect("a struct of plain settings has named fields");
    described.settings.retain(|_, value| !value.is_null());
    described
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidSetting { setting: "sampler", reason: reason.into() }
}
