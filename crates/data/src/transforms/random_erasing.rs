//! A transform that covers a random rectangle.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check, check_probability, check_range};
use super::transform::by_cow;
use super::{Description, Fill, PixelStep, PixelSteps, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_erasing";

/// Mean and standard deviation of ImageNet's values from 0 to 255.
const IMAGENET: [(f64, f64); 3] = [
    (255.0 * 0.485, 255.0 * 0.229),
    (255.0 * 0.456, 255.0 * 0.224),
    (255.0 * 0.406, 255.0 * 0.225),
];

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomErasing>(NAME, "covers a random rectangle with probability p")
}

/// Covers a rectangle of random area and aspect ratio, with probability `p` (Zhong et al. 2017,
/// <https://arxiv.org/abs/1708.04896>).
///
/// It works on pixels, before the normalisation. torchvision's recipes erase after it with `value = 0`, which is the mean
/// colour: `[124, 116, 104]` for ImageNet, within half a level.
///
/// ```
/// use candle_vision_data::transforms::{ErasingValue, RandomErasing};
///
/// let mean = RandomErasing::new(0.25).value([124, 116, 104]);
/// let noise = RandomErasing::new(0.25).value(ErasingValue::Random);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    p: f64,
    scale: [f64; 2],
    ratio: [f64; 2],
    value: ErasingValue,
}

/// What covers the rectangle of [`RandomErasing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum ErasingValue {
    /// One colour.
    Color(Fill),
    /// Normally distributed values with ImageNet's mean and standard deviation: after its normalisation they have mean 0
    /// and deviation 1, but for values beyond 0 and 255.
    Random,
}

/// A value as recipes write it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a value: one number from 0 to 255, [red, green, blue], or \"random\""
)]
enum Written {
    Color(Fill),
    Name(Name),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Random,
}

impl From<Written> for ErasingValue {
    fn from(written: Written) -> Self {
        match written {
            Written::Color(fill) => Self::Color(fill),
            Written::Name(Name::Random) => Self::Random,
        }
    }
}

impl From<ErasingValue> for Written {
    fn from(value: ErasingValue) -> Self {
        match value {
            ErasingValue::Color(fill) => Self::Color(fill),
            ErasingValue::Random => Self::Name(Name::Random),
        }
    }
}

impl<T: Into<Fill>> From<T> for ErasingValue {
    fn from(color: T) -> Self {
        Self::Color(color.into())
    }
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self::new(0.5)
    }
}

impl RandomErasing {
    /// With this probability, in `0.0..=1.0`. The other settings are torchvision's: 2 to 33 % of the area, aspect ratios
    /// from 0.3 to 3.3, black.
    pub fn new(p: f64) -> Self {
        let value = ErasingValue::Color(Fill::default());
        Self { p, scale: [0.02, 0.33], ratio: [0.3, 3.3], value }
    }

    /// Sets the least and largest share of the image's area.
    pub fn scale(self, least: f64, most: f64) -> Self {
        Self { scale: [least, most], ..self }
    }

    /// Sets the least and largest aspect ratio, height / width. It is drawn log-uniformly.
    pub fn ratio(self, least: f64, most: f64) -> Self {
        Self { ratio: [least, most], ..self }
    }

    /// Sets what covers the rectangle: a colour, or random values.
    pub fn value(self, value: impl Into<ErasingValue>) -> Self {
        Self { value: value.into(), ..self }
    }

    /// Row, column, height and width. `None` if nothing is covered: also if ten rectangles were too large.
    fn draw_part(&self, [height, width]: [usize; 2], rng: &mut Generator) -> Option<[usize; 4]> {
        if !random::chance(rng, self.p) {
            return None;
        }
        let ratios = self.ratio.map(f64::ln);
        for _ in 0..10 {
            let area = (height * width) as f64 * random::between(rng, self.scale[0], self.scale[1]);
            let ratio = random::between(rng, ratios[0], ratios[1]).exp();
            // Halves go to the even number, as in Python.
            let side = |area: f64| area.sqrt().round_ties_even() as usize;
            let (high, wide) = (side(area * ratio), side(area / ratio));
            if high < height && wide < width {
                let top = random::below(rng, height - high + 1);
                let left = random::below(rng, width - wide + 1);
                return (high > 0 && wide > 0).then_some([top, left, high, wide]);
            }
        }
        None
    }
}

impl Transform for RandomErasing {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let Some(part) = self.draw_part([image.height(), image.width()], rng) else {
            return Ok(image);
        };
        let [top, left, height, width] = part;
        let ErasingValue::Random = self.value else {
            return self.fill(part).apply(image);
        };
        let mut image = image.into_owned();
        let channels = image.channels();
        for y in top..top + height {
            let row = &mut image.row_mut(y)[left * channels..][..width * channels];
            for (value, (mean, std)) in row.iter_mut().zip(IMAGENET[..channels].iter().cycle()) {
                // A cast from float saturates at 0 and 255.
                *value = (mean + std * random::normal(rng)).round() as u8;
            }
        }
        Ok(Cow::Owned(image))
    }

    /// Only with one colour.
    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        if self.value == ErasingValue::Random {
            return Ok(false);
        }
        let [height, width, _] = steps.shape();
        if let Some(part) = self.draw_part([height, width], rng) {
            steps.push(self.fill(part))?;
        }
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    /// A mask keeps what it says about the covered pixels.
    fn is_geometric(&self) -> bool {
        false
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        check_probability(NAME, self.p)?;
        check_range(NAME, "scale", self.scale, [0.0, 1.0])?;
        check_range(NAME, "ratio", self.ratio, [f64::MIN_POSITIVE, f64::MAX])?;
        check(NAME, self.scale[1] > 0.0, "`scale` must reach above 0")
    }
}

impl RandomErasing {
    fn fill(&self, [top, left, height, width]: [usize; 4]) -> PixelStep {
        let color = match self.value {
            ErasingValue::Color(fill) => fill.color(),
            ErasingValue::Random => [0; 3],
        };
        PixelStep::Fill { top, left, height, width, color }
    }
}
