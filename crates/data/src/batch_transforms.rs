//! Transforms of whole batches, with torchvision's names, arguments and results: [`MixUp`], [`CutMix`] and
//! [`RandomChoice`] between them, and batch transforms of your own.
//!
//! They mix the images of a batch with each other, after all [`transforms`](crate::transforms) of single images. The
//! targets are mixed alike, so an image has a share of several classes.
//! [`DataLoader::with_batch_transforms`](crate::DataLoader::with_batch_transforms) takes a list of them, and a
//! [`Batch`](crate::Batch) has its mixed targets beside its labels.
//!
//! Recipes name them as they name transforms. [`BatchTransforms`] is the table of names.
//!
//! # What is mixed with what
//! Image `i` is mixed with image `i - 1` of its batch, and the first with the last, as torchvision's `roll(1, 0)` does
//! it. All images of a batch have the same share and the same box. A batch of one image stays as it is. If several
//! processes share the batches, each mixes the images of its own part, with the same draws as the others.
//!
//! # A batch transform of your own
//! ```
//! use candle_vision_data::batch_transforms::*;
//! use candle_vision_data::random::{self, Generator};
//! use candle_vision_data::Result;
//! use serde::{Deserialize, Serialize};
//!
//! /// Makes a whole batch darker by a random factor. The targets stay.
//! #[derive(Debug, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Dim { least: f64 }
//!
//! impl BatchTransform for Dim {
//!     fn apply(&self, batch: BatchValues, rng: &mut Generator) -> Result<BatchValues> {
//!         let images = batch.images.affine(random::between(rng, self.least, 1.0), 0.0)?;
//!         Ok(BatchValues { images, ..batch })
//!     }
//!     fn describe(&self) -> Description { describe("dim", self) }
//! }
//!
//! // Once it is registered, recipes can name it: batch_transforms = [{ op = "dim", least = 0.5 }]
//! let mut table = BatchTransforms::standard();
//! table.add(BatchTransformEntry::of::<Dim>("dim", "makes a batch darker"))?;
//! let choice = r#"[{ "op": "random_choice", "transforms": [{ "op": "dim", "least": 0.5 }, { "op": "mixup" }] }]"#;
//! assert_eq!(table.build_all(&serde_json::from_str(choice).unwrap())?.len(), 1);
//! # Ok::<(), candle_vision_data::Error>(())
//! ```

mod batch_transform;
mod cut_mix;
mod mix;
mod mix_up;
mod random_choice;
mod table;

pub use batch_transform::{BatchTransform, BatchValues};
pub use candle_vision_registry::Description;
pub use cut_mix::{CutBox, CutMix};
pub use mix_up::MixUp;
pub use random_choice::RandomChoice;
pub use table::{BatchTransformEntry, BatchTransforms, describe_all};

pub use crate::transforms::describe;
