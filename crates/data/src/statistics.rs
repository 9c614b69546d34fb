//! Mean and standard deviation of a data set's pixels, for `normalize`.

use std::num::NonZero;
use std::ops::Range;

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::transforms::Normalize;

/// Mean and standard deviation of each channel over all pixels, for pixel values in `0.0..=1.0`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Statistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub std: Vec<f64>,
}

impl Statistics {
    /// The transform that brings the data to mean 0 and standard deviation 1.
    pub fn normalize(&self) -> Normalize {
        Normalize::new(self.mean.clone(), self.std.clone())
    }
}

/// Computes the mean and standard deviation of each channel over all pixels of a data set. A large image counts
/// more than a small one. Every image is read, on all cores.
///
/// # Errors
/// If the data set is empty, an image cannot be read, or grey and colour images are mixed.
///
/// # Example
/// ```
/// use candle_vision_data::{Insects, InsectsConfig, Split, statistics};
///
/// let insects = Insects::new(Split::Train, InsectsConfig::new(4).size(32))?;
/// let found = statistics(&insects)?;
/// assert_eq!(found.mean.len(), 3);
/// assert!(found.std.iter().all(|std| (0.0..0.5).contains(std)));
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub fn statistics(dataset: &dyn Dataset) -> Result<Statistics> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = dataset.len().div_ceil(threads).max(1);
    let ranges: Vec<Range<usize>> =
        (0..dataset.len()).step_by(share).map(|a| a..(a + share).min(dataset.len())).collect();
    let sums = std::thread::scope(|scope| {
        let start = |range| scope.spawn(move || Sums::of(dataset, range));
        let running: Vec<_> = ranges.into_iter().map(start).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<Sums>>>()
    })?;
    // The sums are integers, so the number of threads cannot change the result.
    let sums = sums.into_iter().reduce(Sums::merge);
    let sums = sums.ok_or_else(|| invalid("has no samples to take statistics of".to_owned()))?;
    sums.finish()
}

/// Sums over the pixels of some samples.
#[derive(Default)]
pub(crate) struct Sums {
    grey_pixels: u64,
    colour_pixels: u64,
    values: [u64; 3],
    squares: [u64; 3],
}

impl Sums {
    fn of(dataset: &dyn Dataset, range: Range<usize>) -> Result<Self> {
        let mut sums = Self::default();
        for index in range {
            sums.add(&dataset.sample(index)?.image);
        }
        Ok(sums)
    }

    pub(crate) fn add(&mut self, image: &Image) {
        let channels = image.channels();
        let pixels = (image.width() * image.height()) as u64;
        if channels == 1 {
            self.grey_pixels += pixels
        } else {
            self.colour_pixels += pixels
        }
        for pixel in image.pixels().chunks_exact(channels) {
            for (channel, &value) in pixel.iter().enumerate() {
                let value = u64::from(value);
                self.values[channel] += value;
                self.squares[channel] += value * value;
            }
        }
    }

    pub(crate) fn merge(self, other: Self) -> Self {
        let added = |a: [u64; 3], b: [u64; 3]| std::array::from_fn(|c| a[c] + b[c]);
        Self {
            grey_pixels: self.grey_pixels + other.grey_pixels,
            colour_pixels: self.colour_pixels + other.colour_pixels,
            values: added(self.values, other.values),
            squares: added(self.squares, other.squares),
        }
    }

    pub(crate) fn finish(self) -> Result<Statistics> {
        if self.grey_pixels > 0 && self.colour_pixels > 0 {
            return Err(invalid("mixes grey and colour images".to_owned()));
        }
        let channels = if self.grey_pixels > 0 { 1 } else { 3 };
        let pixels = (self.grey_pixels + self.colour_pixels) as f64;
        let mean = |channel: usize| self.values[channel] as f64 / pixels;
        let std = |channel: usize| {
            // The sums are exact, so the subtraction of large numbers loses nothing of importance.
            (self.squares[channel] as f64 / pixels - mean(channel).powi(2)).max(0.0).sqrt()
        };
        Ok(Statistics {
            mean: (0..channels).map(|channel| mean(channel) / 255.0).collect(),
            std: (0..channels).map(|channel| std(channel) / 255.0).collect(),
        })
    }
}

fn invalid(reason: String) -> Error {
    Error::InvalidSetting { setting: "dataset", reason }
}
