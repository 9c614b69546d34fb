//! A list of transforms: checked, described and applied.

mod part;

use std::any::Any;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};

pub(crate) use part::PartFirst;

use super::array::{self, ValueTable};
use super::{
    Array, CenterCrop, ComposeDescription, Normalize, PixelSteps, RandomHorizontalFlip,
    RandomResizedCrop, Resize, Stream, ToTensor, Transform, to_tensor,
};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::random::{self, Generator};

/// A list of transforms: first any number of image transforms, then [`ToTensor`], then any number of
/// [`Normalize`].
///
/// # Example
/// ```
/// use candle_vision_data::Image;
/// use candle_vision_data::transforms::*;
///
/// let compose = Compose::new()
///     .with(Resize::new(256))
///     .with(CenterCrop::new(224))
///     .with(ToTensor)
///     .with(Normalize::imagenet());
/// assert_eq!(compose, Compose::imagenet_eval());
///
/// let photo = Image::new(300, 400, 3, vec![127; 300 * 400 * 3])?;
/// assert_eq!(compose.eval(&photo)?.shape(), [224, 224, 3]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Compose {
    steps: Vec<Step>,
}

/// A transform and its position in the whole list. The position determines its generator.
#[derive(Clone)]
struct Step {
    transform: Arc<dyn Transform>,
    position: usize,
}

impl Step {
    fn is<T: Transform>(&self) -> bool {
        self.cast::<T>().is_some()
    }

    fn cast<T: Transform>(&self) -> Option<&T> {
        (self.transform.as_ref() as &dyn Any).downcast_ref()
    }

    fn op(&self) -> String {
        self.transform.describe().name
    }
}

impl Compose {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transform at the end.
    pub fn with(self, transform: impl Transform) -> Self {
        self.with_shared(Arc::new(transform))
    }

    /// Adds a shared transform at the end, as [`Compose::with`].
    pub fn with_shared(mut self, transform: Arc<dyn Transform>) -> Self {
        let position = self.steps.len();
        self.steps.push(Step { transform, position });
        self
    }

    /// The evaluation transforms of ImageNet networks: shorter side to 256 pixels, the middle 224 x 224,
    /// ImageNet's mean and standard deviation.
    pub fn imagenet_eval() -> Self {
        let resized = Self::new().with(Resize::new(256)).with(CenterCrop::new(224));
        resized.with(ToTensor).with(Normalize::imagenet())
    }

    /// The training transforms of ImageNet networks: a random resized crop of 224 x 224, a random flip,
    /// ImageNet's mean and standard deviation.
    pub fn imagenet_train() -> Self {
        let cropped = Self::new().with(RandomResizedCrop::new(224));
        let flipped = cropped.with(RandomHorizontalFlip::default());
        flipped.with(ToTensor).with(Normalize::imagenet())
    }

    /// The transforms, in order.
    pub fn transforms(&self) -> impl ExactSizeIterator<Item = &dyn Transform> {
        self.steps.iter().map(|step| step.transform.as_ref())
    }

    /// The names and settings of the transforms, as recipes and checkpoints store them.
    pub fn describe(&self) -> ComposeDescription {
        self.transforms().map(Transform::describe).collect()
    }

    /// Checks the order and the settings.
    ///
    /// # Errors
    /// If there is not exactly one [`ToTensor`], if an image transform comes after it or a [`Normalize`] before
    /// it, or if a setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let at = self.to_tensor_position()?;
        if let Some(step) = self.steps[..at].iter().find(|step| step.is::<Normalize>()) {
            return Err(Error::transform(step.op(), "must stand after `to_tensor`"));
        }
        if let Some(step) = self.steps[at + 1..].iter().find(|step| !step.is::<Normalize>()) {
            let reason = if step.is::<ToTensor>() {
                "stands twice; keep one"
            } else {
                "must stand before `to_tensor`"
            };
            return Err(Error::transform(step.op(), reason));
        }
        self.transforms().try_for_each(Transform::validate)
    }

    /// Whether any transform draws random numbers.
    pub fn is_random(&self) -> bool {
        self.transforms().any(Transform::is_random)
    }

    /// Height and width of the result, in pixels. `None` if they depend on the image.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        self.transforms().fold(None, |size, transform| transform.output_size(size))
    }

    /// Number of channels of the result, for images with `channels` channels.
    pub fn output_channels(&self, channels: usize) -> usize {
        self.transforms().fold(channels, |channels, transform| transform.output_channels(channels))
    }

    /// Transforms one image. Random transforms draw from `rng`. [`Compose::eval`] needs no generator.
    ///
    /// Transforms of [`Stream::Position`] draw from generators that are derived from the state of `rng` at the
    /// start. If there are such transforms, `rng` advances afterwards, so that the next image gets other
    /// numbers.
    ///
    /// # Errors
    /// Those of [`Compose::validate`]. Also if the image is too small for a crop, or has another number of
    /// channels than [`Normalize`].
    pub fn apply(&self, image: &Image, rng: &mut Generator) -> Result<Array> {
        let mut values = Vec::new();
        let shape = self.append(image, rng, &mut values)?;
        Ok(Array::new(shape, values))
    }

    /// The image just before [`ToTensor`]: what the network sees, as an image for people.
    ///
    /// # Errors
    /// Those of [`Compose::apply`].
    pub fn apply_to_image(&self, image: &Image, rng: &mut Generator) -> Result<Image> {
        Ok(self.image_steps(image, rng)?.into_owned())
    }

    /// Transforms one image without random transforms, as for evaluation.
    ///
    /// # Errors
    /// Those of [`Compose::apply`], or if a transform is random.
    pub fn eval(&self, image: &Image) -> Result<Array> {
        self.apply(image, &mut self.unused_generator()?)
    }

    /// The image just before [`ToTensor`], without random transforms.
    ///
    /// # Errors
    /// Those of [`Compose::eval`].
    pub fn eval_to_image(&self, image: &Image) -> Result<Image> {
        self.apply_to_image(image, &mut self.unused_generator()?)
    }

    /// Reads an image file and transforms it for a network.
    ///
    /// # Shapes
    /// Returns a batch of one, `[1, channels, height, width]`, f32.
    ///
    /// # Errors
    /// Those of [`Image::open`] and [`Compose::eval`].
    ///
    /// # Example
    /// ```no_run
    /// use candle_core::Device;
    /// use candle_vision_data::transforms::Compose;
    ///
    /// let images = Compose::imagenet_eval().open("photo.jpg", &Device::Cpu)?;
    /// assert_eq!(images.dims(), [1, 3, 224, 224]);
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    pub fn open(&self, path: impl AsRef<Path>, device: &Device) -> Result<Tensor> {
        self.eval(&Image::open(path)?)?.to_batch(device)
    }

    /// Reads image files and transforms them to one batch.
    ///
    /// # Shapes
    /// Returns `[paths, channels, height, width]`, f32.
    ///
    /// # Errors
    /// Those of [`Compose::open`]. Also if there are no paths, or if the transformed images have different
    /// shapes.
    pub fn open_all<P: AsRef<Path>>(
        &self,
        paths: impl IntoIterator<Item = P>,
        device: &Device,
    ) -> Result<Tensor> {
        let open = |path: P| {
            let array = self.eval(&Image::open(&path)?)?;
            Ok((path.as_ref().display().to_string(), array))
        };
        let arrays = paths.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        array::stack(&arrays, device)
    }

    /// Draws what the image transforms do to an image of shape `[height, width, channels]`, as steps for a GPU. The
    /// draws from `rng` are those of [`Compose::apply`].
    ///
    /// # Errors
    /// Those of [`Compose::apply`], or if a transform can only work on the host ([`Transform::draw`]).
    pub fn draw(&self, shape: [usize; 3], rng: &mut Generator) -> Result<PixelSteps> {
        let steps = &self.steps[..self.to_tensor_position()?];
        let mut own = Positions::before(steps, rng);
        let mut drawn = PixelSteps::new(shape);
        for step in steps {
            let is_drawn = match own.generator(step) {
                Some(mut own) => step.transform.draw(&mut drawn, &mut own)?,
                None => step.transform.draw(&mut drawn, rng)?,
            };
            if !is_drawn {
                return Err(Error::transform(step.op(), "works on the host only"));
            }
        }
        own.move_on(rng);
        Ok(drawn)
    }

    /// The list without colour changes and normalisation. It moves a mask as the whole list moves its image.
    /// Transforms of [`Stream::Position`] draw the same numbers as in the whole list. Transforms of
    /// [`Stream::Sample`] do so only if the list has no random colour change.
    pub fn geometry(&self) -> Self {
        let steps = self.steps.iter().filter(|step| step.transform.is_geometric());
        let moving = steps.map(|step| match step.transform.geometry() {
            Some(transform) => Step { transform, ..step.clone() },
            None => step.clone(),
        });
        Self { steps: moving.collect() }
    }

    /// As [`Compose::apply`], but appends to `values`. Returns `[height, width, channels]`.
    pub(crate) fn append(
        &self,
        image: &Image,
        rng: &mut Generator,
        values: &mut Vec<f32>,
    ) -> Result<[usize; 3]> {
        self.append_values(&*self.image_steps(image, rng)?, values)
    }

    fn append_values(&self, image: &Image, values: &mut Vec<f32>) -> Result<[usize; 3]> {
        ValueTable::new(self.normalizations(), image.channels())?.append(image, values);
        Ok([image.height(), image.width(), image.channels()])
    }

    /// As [`Compose::append`], but stops at the 8-bit pixels before [`ToTensor`]. [`Compose::scale_and_shift`]
    /// gives the rest.
    pub(crate) fn append_pixels(
        &self,
        image: &Image,
        rng: &mut Generator,
        pixels: &mut Vec<u8>,
    ) -> Result<[usize; 3]> {
        self.append_bytes(&*self.image_steps(image, rng)?, pixels)
    }

    fn append_bytes(&self, image: &Image, pixels: &mut Vec<u8>) -> Result<[usize; 3]> {
        let [height, width, channels] = [image.height(), image.width(), image.channels()];
        // If the rest does not fit, it is an error of this image, not of its batch.
        self.scale_and_shift(channels)?;
        pixels.extend_from_slice(image.pixels());
        Ok([height, width, channels])
    }

    /// The effect of [`ToTensor`] and every [`Normalize`] on 8-bit pixels: `scale * pixel + shift`, with a
    /// scale and a shift for each channel. The results differ from those of [`Compose::apply`] in their last
    /// bits.
    pub(crate) fn scale_and_shift(&self, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        array::scale_and_shift(self.normalizations(), channels)
    }

    pub(super) fn normalizations(&self) -> impl DoubleEndedIterator<Item = &Normalize> + Clone {
        self.steps.iter().filter_map(Step::cast)
    }

    fn image_steps<'a>(&self, image: &'a Image, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let steps = &self.steps[..self.to_tensor_position()?];
        let own = Positions::before(steps, rng);
        Self::apply_steps(steps, own, Cow::Borrowed(image), rng)
    }

    fn apply_steps<'a>(
        steps: &[Step],
        mut own: Positions,
        mut image: Cow<'a, Image>,
        rng: &mut Generator,
    ) -> Result<Cow<'a, Image>> {
        let mut steps = steps.iter().peekable();
        while let Some(step) = steps.next() {
            let crop = steps.peek().and_then(|next| next.cast::<CenterCrop>());
            let middle = step.cast::<Resize>().zip(crop);
            if let Some(middle) =
                middle.and_then(|(resize, crop)| resize.with_center_crop(crop, &image))
            {
                steps.next();
                image = Cow::Owned(middle?);
                continue;
            }
            image = match own.generator(step) {
                Some(mut own) => step.transform.apply_cow(image, &mut own)?,
                None => step.transform.apply_cow(image, rng)?,
            };
        }
        own.move_on(rng);
        Ok(image)
    }

    fn to_tensor_position(&self) -> Result<usize> {
        self.steps.iter().position(Step::is::<ToTensor>).ok_or_else(|| {
            Error::transform(to_tensor::NAME, "is missing; add it after the image transforms")
        })
    }

    fn unused_generator(&self) -> Result<Generator> {
        match self.steps.iter().find(|step| step.transform.is_random()) {
            None => Ok(random::generator(0)),
            Some(step) => Err(Error::transform(
                step.op(),
                "is random and needs a generator: use `apply`, or a list for evaluation",
            )),
        }
    }
}

/// The source of generators for transforms with [`Stream::Position`], if there are any.
pub(super) struct Positions(Option<Generator>);

impl Positions {
    /// Takes the state of `rng` before the first of `steps` draws from it.
    fn before(steps: &[Step], rng: &Generator) -> Self {
        let is_own =
            |step: &Step| step.transform.is_random() && step.transform.stream() == Stream::Position;
        Self(steps.iter().any(is_own).then(|| rng.clone()))
    }

    fn generator(&self, step: &Step) -> Option<Generator> {
        let rng = self.0.as_ref().filter(|_| step.transform.stream() == Stream::Position)?;
        Some(random::at_position(rng, step.position))
    }

    /// Advances `rng` by a draw. Without it, the caller's generator would give the next image the same numbers.
    fn move_on(&mut self, rng: &mut Generator) {
        if self.0.is_some() {
            random::unit(rng);
        }
    }
}

impl FromIterator<Arc<dyn Transform>> for Compose {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Transform>>>(transforms: I) -> Self {
        transforms.into_iter().fold(Self::new(), Self::with_shared)
    }
}

/// Two lists are equal if their descriptions are equal.
impl PartialEq for Compose {
    fn eq(&self, other: &Self) -> bool {
        self.describe() == other.describe()
    }
}

/// `Compose([Resize { .. }, ..])`. The first checkpoints stored lists as this text, and they can still be read.
impl std::fmt::Debug for Compose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        struct List<'a>(&'a Compose);
        impl std::fmt::Debug for List<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_list().entries(self.0.transforms()).finish()
            }
        }
        f.debug_tuple("Compose").field(&List(self)).finish()
    }
}
