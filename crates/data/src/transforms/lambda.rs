//! A transform that is a function.

use std::fmt;
use std::sync::Arc;

use super::{Description, Transform};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

type Function = dyn Fn(Image, &mut Generator) -> Result<Image> + Send + Sync;

/// A function as a transform, in a program.
///
/// A recipe cannot name it. A run that is resumed must be given a function of the same name, which then counts as the
/// same. A transform for recipes is a type of your own: see [the module](super).
///
/// ```
/// use candle_vision_data::transforms::{Compose, Lambda, ToTensor};
/// use candle_vision_data::{Image, random};
///
/// let darker = Lambda::new("darker", |mut image, _| {
///     image.pixels_mut().iter_mut().for_each(|value| *value /= 2);
///     Ok(image)
/// });
/// let compose = Compose::new().with(darker).with(ToTensor);
/// let image = compose.apply(&Image::new(1, 1, 1, vec![255])?, &mut random::generator(0))?;
/// assert_eq!(image.values(), [127.0 / 255.0]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Lambda {
    name: String,
    function: Arc<Function>,
    is_random: bool,
}

impl Lambda {
    /// A function that does not use its generator.
    pub fn new(
        name: impl Into<String>,
        function: impl Fn(Image, &mut Generator) -> Result<Image> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), function: Arc::new(function), is_random: false }
    }

    /// A function that draws from its generator, and from nothing else.
    pub fn random(
        name: impl Into<String>,
        function: impl Fn(Image, &mut Generator) -> Result<Image> + Send + Sync + 'static,
    ) -> Self {
        Self { is_random: true, ..Self::new(name, function) }
    }
}

impl Transform for Lambda {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        (self.function)(image, rng)
    }

    fn is_random(&self) -> bool {
        self.is_random
    }

    fn describe(&self) -> Description {
        Description::named(&self.name)
    }
}

impl fmt::Debug for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lambda").field(&self.name).finish()
    }
}
