//! Deletion and insertion (Petsiuk et al. 2018, <https://arxiv.org/abs/1806.07421>).

use candle_core::Tensor;
use candle_vision_models::Model;

use super::perturbed::Perturbed;
use crate::{ClassActivationMap, Error, Result};

/// The probability of the class while more and more pixels are changed, the hottest pixels of the map first.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The probability after each step, each in `0.0..=1.0`. The first belongs to the image with no pixel
    /// changed, the last to the image with every pixel changed. All steps change the same number of pixels, up
    /// to rounding.
    pub probabilities: Vec<f64>,
}

impl Curve {
    /// The area under the curve by the trapezoidal rule, in `0.0..=1.0`.
    pub fn area(&self) -> f64 {
        let pairs = self.probabilities.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
        pairs.sum::<f64>() / (self.probabilities.len() - 1) as f64
    }
}

/// Deletes the pixels of the image, the hottest first. A deleted pixel becomes 0, the mean colour of normalised
/// images. A faithful map makes the probability fall early.
///
/// # Shapes
/// - `image`: `[1, channels, height, width]`, of the map's size
/// - returns `steps + 1` probabilities
///
/// # Errors
/// If the sizes do not fit, `steps` is 0, or the network cannot take the image.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, grad_cam, faithfulness};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let image = Tensor::ones((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
/// let map = &grad_cam(model.as_ref(), &image, &CamOptions::default())?[0];
/// let curve = faithfulness::deletion(model.as_ref(), &image, map, 8)?;
/// assert_eq!(curve.probabilities.len(), 9);
/// assert!((curve.probabilities[0] - map.probability).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
pub fn deletion(
    model: &dyn Model,
    image: &Tensor,
    map: &ClassActivationMap,
    steps: usize,
) -> Result<Curve> {
    let image = Perturbed::new(model, image, map)?;
    let nothing = vec![0.0; image.values.len()];
    curve(&image, &image.values, &nothing, steps)
}

/// Restores the image from a blurred copy, the hottest pixels first. A faithful map makes the probability rise
/// early.
///
/// Shapes and errors are those of [`deletion`].
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, grad_cam, faithfulness};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let image = Tensor::ones((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
/// let map = &grad_cam(model.as_ref(), &image, &CamOptions::default())?[0];
/// let curve = faithfulness::insertion(model.as_ref(), &image, map, 8)?;
/// assert!((curve.probabilities[8] - map.probability).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
pub fn insertion(
    model: &dyn Model,
    image: &Tensor,
    map: &ClassActivationMap,
    steps: usize,
) -> Result<Curve> {
    let image = Perturbed::new(model, image, map)?;
    let blurred = blurred(&image);
    curve(&image, &blurred, &image.values, steps)
}

/// The curve from the image `from` to the image `to`, the hottest pixels first.
fn curve(image: &Perturbed<'_>, from: &[f32], to: &[f32], steps: usize) -> Result<Curve> {
    if steps == 0 {
        let found = "0".to_owned();
        return Err(Error::Setting { setting: "steps", range: "at least 1", found });
    }
    let images: Vec<Vec<f32>> = (0..=steps)
        .map(|step| {
            let changed = image.pixels() * step / steps;
            image.replaced(from, to, &image.order[..changed])
        })
        .collect();
    Ok(Curve { probabilities: image.probabilities(&images)? })
}

/// A Gaussian blur as wide as the paper's: standard deviation 5 pixels for a side of 224.
fn blurred(image: &Perturbed<'_>) -> Vec<f32> {
    let (height, width) = (image.height, image.width);
    let deviation = 5.0 * height.max(width) as f64 / 224.0;
    let radius = (2.0 * deviation).ceil() as isize;
    let weights: Vec<f64> = (-radius..=radius)
        .map(|offset| (-0.5 * (offset as f64 / deviation).powi(2)).exp())
        .collect();
    let mut values = image.values.clone();
    for map in values.chunks_mut(height * width) {
        for row in 0..height {
            blur_line(map, row * width, 1, width, &weights);
        }
        for column in 0..width {
            blur_line(map, column, width, height, &weights);
        }
    }
    values
}

/// Blurs `count` values that lie `step` apart. The end values are repeated beyond the ends.
fn blur_line(values: &mut [f32], start: usize, step: usize, count: usize, weights: &[f64]) {
    let line: Vec<f32> = (0..count).map(|i| values[start + i * step]).collect();
    let (radius, total) = (weights.len() / 2, weights.iter().sum::<f64>());
    for i in 0..count {
        let near = weights.iter().enumerate().map(|(j, weight)| {
            let at = (i + j).saturating_sub(radius).min(count - 1);
            weight * f64::from(line[at])
        });
        values[start + i * step] = (near.sum::<f64>() / total) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_mean_of_the_trapezoids() {
        let curve = Curve { probabilities: vec![1.0, 0.5, 0.0] };
        assert_eq!(curve.area(), 0.5);
    }

    #[test]
    fn a_blur_keeps_what_is_constant_and_spreads_a_point() {
        let mut line = [2.0; 5];
        blur_line(&mut line, 0, 1, 5, &[0.25, 0.5, 0.25]);
        assert_eq!(line, [2.0; 5]);
        let mut columns = [0.0, 9.0, 4.0, 9.0, 0.0, 9.0];
        blur_line(&mut columns, 0, 2, 3, &[0.25, 0.5, 0.25]);
        assert_eq!(columns, [1.0, 9.0, 2.0, 9.0, 1.0, 9.0]);
    }
}
