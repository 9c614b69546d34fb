//! Recipes: TOML files that say what a run is, opened as data sets, a network and a trainer.
//!
//! | item | what |
//! |---|---|
//! | [`Recipe`] | a recipe file: its settings, overrides, what changes where data or weights are missing |
//! | [`Settings`] | all settings of a run; [`Settings::open`] opens them |
//! | [`BatchSize`] | images in a batch: a number, or as many as fit |
//! | [`OpenedRun`] | the network and the loaders of a run; [`OpenedRun::trainer`] trains |
//! | [`Planner`], [`Plan`] | fetches what is missing, or falls back as the recipe says |
//! | [`Variant`] | one of several variants of a recipe, for runs to compare |
//! | [`Registry`] | the parts that a recipe can name, a program's own ones included |
//! | [`Weights`], [`published_classifier`] | weights by name, and published networks ready to use |
//! | [`changes`] | which settings of a run may change when it goes on |
//! | [`recorded`] | the settings that a run folder records |
//!
//! Nothing is printed here: what a person should know comes as notes.
//!
//! ```
//! use candle_core::Device;
//! use candle_vision_recipe::data::DataFolder;
//! use candle_vision_recipe::{Recipe, Registry, Start};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let recipe = Recipe::parse(
//!     r#"
//!     [data]
//!     source = "insects"
//!     batch_size = 4
//!     train_images = 8
//!     val_images = 4
//!     image_size = 32
//!     train = [{ op = "random_horizontal_flip" }, { op = "to_tensor" }]
//!     eval = [{ op = "to_tensor" }]
//!     [model]
//!     architecture = "gap_cnn"
//!     image_size = 32
//!     [training]
//!     epochs = 1
//!     optimizer = { name = "adam", lr = 0.003 }
//!     "#,
//! )?;
//! let registry = Registry::standard();
//! let settings = recipe.settings()?;
//! let opened = settings.open(&DataFolder::new(&registry, "data"), &Device::Cpu, Start::New)?;
//! let result = opened.trainer(&settings, &registry)?.run()?;
//! assert_eq!(result.history.epochs.len(), 1);
//! # Ok(())
//! # }
//! ```

mod batch_size;
pub mod changes;
pub mod data;
mod error;
mod fetching;
mod imbalance;
mod network;
mod opened;
mod plan;
mod recipe;
pub mod recorded;
mod renamed;
mod settings;
mod variants;
mod weights;

pub use batch_size::BatchSize;
pub use candle_vision::Registry;
pub use error::{Error, Result};
pub use fetching::{bring, fetch_command};
pub use opened::{OpenedRun, Start};
pub use plan::{Plan, Planner, run_name};
pub use recipe::Recipe;
pub use settings::{
    ConvSettings, CudaSettings, DataSettings, ModelSettings, ScoreSettings, Settings,
};
pub use variants::Variant;
pub use weights::{
    IMAGENET, Weights, backbone, item_by_name, items_in_folder, published_classifier,
    published_item, with_other_versions,
};

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
