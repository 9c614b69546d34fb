//! Converts the values for a network back to an image for people.

use super::{Array, Compose};
use crate::error::Result;
use crate::image::Image;

impl Compose {
    /// The image of transformed values: `normalize` and `to_tensor` are undone, and the result is rounded to 8
    /// bits. The effects of the earlier transforms remain visible.
    ///
    /// # Errors
    /// If the number of channels differs from that of `normalize`, or is neither 1 nor 3.
    ///
    /// # Example
    /// ```
    /// use candle_vision_data::Image;
    /// use candle_vision_data::transforms::Compose;
    ///
    /// let compose = Compose::imagenet_eval();
    /// let photo = Image::new(300, 400, 3, vec![127; 300 * 400 * 3])?;
    /// let seen = compose.undo_normalize(&compose.eval(&photo)?)?;
    /// assert_eq!(seen.pixel(17, 4), [127; 3]);
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    pub fn undo_normalize(&self, array: &Array) -> Result<Image> {
        let [height, width, channels] = array.shape();
        let mut values = array.values().to_vec();
        for step in self.normalizations().rev() {
            for channel in 0..channels {
                let (mean, std) = step.of_channel(channel, channels)?;
                let (mean, std) = (mean as f32, std as f32);
                let of_channel = values.iter_mut().skip(channel).step_by(channels);
                of_channel.for_each(|value| *value = *value * std + mean);
            }
        }
        let level = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        Image::new(width, height, channels, values.into_iter().map(level).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::{Normalize, ToTensor};

    #[test]
    fn every_level_of_every_channel_comes_back() -> Result<()> {
        let pixels: Vec<u8> =
            (0..=255).flat_map(|level: u8| [level, 255 - level, level / 2]).collect();
        let image = Image::new(16, 16, 3, pixels)?;
        let normalize = |mean: [f64; 3], std: f64| Normalize::new(mean, [std]);
        let compose = Compose::new()
            .with(ToTensor)
            .with(normalize([0.485, 0.456, 0.406], 0.25))
            .with(normalize([-1.0, 0.0, 1.0], 2.0));
        let array = compose.eval(&image)?;
        assert_eq!(compose.undo_normalize(&array)?, image);
        Ok(())
    }
}
