//! A transform that moves pixels by smooth random amounts.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_range;
use super::same_size::SameSize;
use super::{Fill, Interpolation, PerAxis, TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "elastic_transform";

/// Beyond this a random field is flat, and the work grows with it.
const SMOOTHEST: f64 = 500.0;

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<ElasticTransform>(NAME, "moves pixels by smooth random amounts")
}

/// Moves each pixel by a random amount. The amounts are smooth, so that the image looks as if seen through water (Simard et
/// al. 2003, <https://doi.org/10.1109/ICDAR.2003.1227801>).
///
/// A pixel moves by at most `alpha / 2` pixels, and much less after smoothing.
///
/// ```
/// use candle_vision_data::transforms::ElasticTransform;
///
/// let elastic = ElasticTransform::new().alpha(40.0).sigma([4.0, 6.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ElasticTransform {
    alpha: PerAxis<f64>,
    sigma: PerAxis<f64>,
    interpolation: Interpolation,
    fill: Fill,
}

impl Default for ElasticTransform {
    fn default() -> Self {
        Self::new()
    }
}

impl ElasticTransform {
    /// torchvision's defaults: `alpha` 50 and `sigma` 5.
    pub fn new() -> Self {
        let interpolation = Interpolation::Bilinear;
        let (alpha, sigma) = (PerAxis::Both(50.0), PerAxis::Both(5.0));
        Self { alpha, sigma, interpolation, fill: Fill::default() }
    }

    /// Sets the strength, for both axes or for x and y.
    pub fn alpha(self, alpha: impl Into<PerAxis<f64>>) -> Self {
        Self { alpha: alpha.into(), ..self }
    }

    /// Sets the standard deviation in pixels of the Gaussian that smooths the displacements along x and y. 0 switches it
    /// off.
    pub fn sigma(self, sigma: impl Into<PerAxis<f64>>) -> Self {
        Self { sigma: sigma.into(), ..self }
    }

    /// Sets the interpolation: bilinear, the default, or nearest.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the colour around the image. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// The displacements along one axis. As in torchvision, the size of the kernel follows the axis, and the
    /// deviations of both axes smooth it.
    pub(super) fn draw_axis(
        &self,
        axis: usize,
        [height, width]: [usize; 2],
        rng: &mut Generator,
    ) -> Vec<f32> {
        let (alpha, sigma) = (self.alpha.xy(), self.sigma.xy());
        let noise = (0..height * width).map(|_| random::between(rng, -1.0, 1.0) as f32);
        let mut field: Vec<f32> = noise.collect();
        if sigma[axis] > 0.0 {
            // An even size becomes odd.
            let kernel_size = (8.0 * sigma[axis] + 1.0) as usize | 1;
            let smooth = sigma.map(|sigma| sigma.max(f64::MIN_POSITIVE));
            field = functional::blur(field, [height, width, 1], [kernel_size; 2], smooth);
        }
        let scale = (alpha[axis] / 2.0) as f32;
        field.iter_mut().for_each(|value| *value *= scale);
        field
    }
}

impl SameSize for ElasticTransform {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = true;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let size = [image.height(), image.width()];
        let across = self.draw_axis(0, size, rng);
        let down = self.draw_axis(1, size, rng);
        let both = across.into_iter().zip(down).map(|(across, down)| [across, down]);
        let displacement: Vec<[f32; 2]> = both.collect();
        functional::elastic(&image, &displacement, self.interpolation, self.fill.color())
            .map(Cow::Owned)
    }

    fn check(&self) -> Result<()> {
        functional::check_elastic(NAME, self.interpolation)?;
        for alpha in self.alpha.xy() {
            check_range(NAME, "alpha", [alpha; 2], [f64::MIN, f64::MAX])?;
        }
        for sigma in self.sigma.xy() {
            check_range(NAME, "sigma", [sigma; 2], [0.0, SMOOTHEST])?;
        }
        Ok(())
    }
}
