//! The outputs of elementary layers for an image, without any network.

use candle_core::{DType, Tensor};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, conv2d, max_pool2d, relu, sigmoid};

use super::Filter;
use crate::{Error, Result};

/// The output of one layer for an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Elementary {
    /// The layer's name, for people.
    pub name: &'static str,
    /// The output, `[height, width, channels]`, row by row.
    pub values: Vec<f32>,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl Elementary {
    /// The smallest and the largest value.
    pub fn range(&self) -> (f32, f32) {
        let fold = |start, pick: fn(f32, f32) -> f32| self.values.iter().copied().fold(start, pick);
        (fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max))
    }

    /// The share of values that are 0, in `0.0..=1.0`.
    pub fn zeros(&self) -> f64 {
        let zeros = self.values.iter().filter(|value| **value == 0.0).count();
        zeros as f64 / self.values.len().max(1) as f64
    }
}

/// The image scaled to mean 0 and standard deviation 1, and the outputs of four layers for the scaled image:
/// ReLU, sigmoid, max pooling of 2x2 and a convolution with `filter`. The convolution works on each channel
/// alone and pads with zeros.
///
/// # Shapes
/// - `image`: `[1, channels, height, width]`, floats, at least 2 pixels a side
///
/// # Errors
/// If the image has another shape.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_explain::inspection::elementary;
///
/// let image = Tensor::rand(0f32, 1.0, (1, 3, 8, 8), &Device::Cpu)?;
/// let layers = elementary(&image, &"edges".parse()?)?;
/// assert_eq!(layers[1].name, "ReLU");
/// assert!(layers[1].zeros() > 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn elementary(image: &Tensor, filter: &Filter) -> Result<Vec<Elementary>> {
    let channels = match *image.dims() {
        [1, channels, height, width] if channels > 0 && height > 1 && width > 1 => channels,
        _ => return Err(Error::ImageShape { shape: image.dims().to_vec() }),
    };
    let x = standardised(image)?.permute((0, 2, 3, 1))?.contiguous()?;
    let side = filter.side();
    let kernel = Tensor::from_slice(filter.values(), (1, 1, side, side), x.device())?;
    let kernel = kernel.repeat((channels, 1, 1, 1))?;
    let each_channel = Conv2dConfig::default().padding(side / 2).groups(channels);
    Ok(vec![
        layer("normalised", &x)?,
        layer("ReLU", &relu(&x)?)?,
        layer("sigmoid", &sigmoid(&x)?)?,
        layer("max pooling 2x2", &max_pool2d(&x, &MaxPool2dConfig::new(2))?)?,
        layer("convolution", &conv2d(&x, &kernel, None, &each_channel)?)?,
    ])
}

fn standardised(image: &Tensor) -> Result<Tensor> {
    let image = image.to_dtype(DType::F32)?;
    let centred = image.broadcast_sub(&image.mean_all()?)?;
    let deviation = centred.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?;
    // An image of one colour has deviation 0, so the divisor has a lower bound.
    Ok(centred.affine(f64::from(1.0 / deviation.max(1e-6)), 0.0)?)
}

/// The result for `output`, which is `[1, height, width, channels]`.
fn layer(name: &'static str, output: &Tensor) -> Result<Elementary> {
    let (_, height, width, _) = output.dims4()?;
    Ok(Elementary { name, values: output.flatten_all()?.to_vec1()?, height, width })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn layers_do_what_their_names_say() -> Result<()> {
        // Two channels of a 2x2 image; mean 3.5, deviation sqrt(5.25).
        let image = Tensor::arange(0f32, 8.0, &Device::Cpu)?.reshape((1, 2, 2, 2))?;
        let layers = elementary(&image, &"2".parse()?)?;
        let of = |name: &str| layers.iter().find(|layer| layer.name == name).expect("it is there");
        let deviation = 5.25f32.sqrt();
        let (low, high) = of("normalised").range();
        assert!((low + 3.5 / deviation).abs() < 1e-5 && (high - 3.5 / deviation).abs() < 1e-5);
        assert_eq!(of("ReLU").zeros(), 0.5);
        assert_eq!(of("max pooling 2x2").values.len(), 2);
        let doubled = of("convolution").values.iter().zip(&of("normalised").values);
        assert!(doubled.into_iter().all(|(a, b)| (a - 2.0 * b).abs() < 1e-5));
        let (low, high) = of("sigmoid").range();
        assert!(low > 0.0 && high < 1.0);
        Ok(())
    }

    #[test]
    fn one_colour_is_nothing_and_no_image_an_error() -> Result<()> {
        let image = Tensor::ones((1, 3, 4, 4), DType::F32, &Device::Cpu)?;
        assert_eq!(elementary(&image, &"blur".parse()?)?[0].range(), (0.0, 0.0));
        for shape in [[2, 3, 4, 4], [1, 3, 1, 4]] {
            let image = Tensor::ones(&shape, DType::F32, &Device::Cpu)?;
            assert!(matches!(elementary(&image, &"1".parse()?), Err(Error::ImageShape { .. })));
        }
        Ok(())
    }
}
