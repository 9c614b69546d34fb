//! The trait of batch transforms.

use std::any::Any;
use std::fmt::Debug;

use candle_core::Tensor;
use candle_vision_registry::Description;

use crate::error::Result;
use crate::random::Generator;

/// What a batch transform changes.
#[derive(Clone, Debug)]
pub struct BatchValues {
    /// The images as the network gets them, `[batch, channels, height, width]`, on the loader's device. It is a permuted
    /// view of channels-last memory, and the loader brings results of another order back into this one.
    pub images: Tensor,
    /// For each image a number for each class, `[batch, classes]`, f32, on the loader's device. Before the first batch
    /// transform it is 1 for the labels of the image, and 0 elsewhere.
    pub targets: Tensor,
}

/// A transform of a whole batch. [The module](super) shows one of your own.
///
/// It must draw only from `rng`, which is a function of the loader's seed, the epoch, the number of the batch and the
/// transform's position in its list. So a run repeats bit for bit, with any number of workers, and goes on in the middle
/// of an epoch.
pub trait BatchTransform: Any + Debug + Send + Sync {
    /// Changes a batch. The numbers of images and of classes stay.
    ///
    /// # Errors
    /// If the batch does not suit the transform, or the device fails.
    fn apply(&self, batch: BatchValues, rng: &mut Generator) -> Result<BatchValues>;

    /// Its name and settings, with every default filled in, as recipes and checkpoints store them.
    ///
    /// The default is the name of the type and its `Debug` text. This is enough to notice, when a run is resumed, that
    /// the transform has changed. Recipes can build a transform again only if this returns the name of its entry and its
    /// settings. [`describe`](super::describe) does this in one line.
    fn describe(&self) -> Description {
        let path = std::any::type_name::<Self>();
        let name = path.split('<').next().and_then(|path| path.rsplit("::").next());
        Description::named(name.unwrap_or(path)).with("debug", format!("{self:?}"))
    }

    /// Checks the settings. A [`DataLoader`](crate::DataLoader) calls this when it gets the transform.
    ///
    /// # Errors
    /// If a setting is out of range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}
