//! The feature maps of any layer, and the kernels of the first convolution.

use candle_core::{DType, Tensor};
use candle_vision_models::{Model, Pass, RecordShapes, nearest_names};

use crate::{Error, Recorder, Result};

/// The feature maps of a layer for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMaps {
    /// The layer's path.
    pub layer: String,
    /// One map for each channel, each `height * width` values, row by row.
    pub maps: Vec<Vec<f32>>,
    /// Number of rows of a map.
    pub height: usize,
    /// Number of columns of a map.
    pub width: usize,
}

/// The feature maps of `layer` for an image. Without `layer`, those of the first layer that has feature maps.
///
/// # Shapes
/// - `image`: `[1, channels, height, width]`, preprocessed as in training
///
/// # Errors
/// If the network has no such layer, its output is not a stack of maps, or the image does not fit the network.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::inspection::feature_maps;
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let image = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = feature_maps(model.as_ref(), &image, None)?;
/// assert_eq!((maps.layer.as_str(), maps.maps.len()), ("conv1", 16));
/// # Ok(())
/// # }
/// ```
pub fn feature_maps(model: &dyn Model, image: &Tensor, layer: Option<&str>) -> Result<FeatureMaps> {
    let layers = layers(model, image)?;
    let first = || layers.iter().find(|(_, shape)| shape.len() == 4).or(layers.first());
    let found = match layer {
        Some(wanted) => layers.iter().find(|(path, _)| path == wanted),
        None => first(),
    };
    let Some((path, shape)) = found else {
        let layer = layer.unwrap_or_default();
        let near = nearest_names(layer, layers.iter().map(|(path, _)| path.as_str()), 3);
        let near = near.into_iter().map(str::to_owned).collect();
        return Err(Error::UnknownLayer { layer: layer.to_owned(), near });
    };
    let &[1, _, height, width] = shape.as_slice() else {
        return Err(Error::NoMaps { layer: path.clone(), shape: shape.clone() });
    };
    let mut recorder = Recorder::new([path]);
    model.forward(image, &mut Pass::eval().with_hooks(&mut recorder))?;
    let output = recorder.get(path).expect("the same pass as before showed it");
    let maps = output.get(0)?.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2()?;
    Ok(FeatureMaps { layer: path.clone(), maps, height, width })
}

/// The paths and output shapes of all layers, in the order of the forward pass.
fn layers(model: &dyn Model, image: &Tensor) -> Result<Vec<(String, Vec<usize>)>> {
    let mut layers = RecordShapes::default();
    model.forward(image, &mut Pass::eval().with_hooks(&mut layers))?;
    Ok(layers.shapes)
}

/// The kernels of a convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernels {
    /// The convolution's path.
    pub layer: String,
    /// One kernel for each output channel, each `[height, width, in_channels]`, row by row.
    pub kernels: Vec<Vec<f32>>,
    /// Number of rows of a kernel.
    pub height: usize,
    /// Number of columns of a kernel.
    pub width: usize,
    /// Number of input channels.
    pub in_channels: usize,
}

/// The kernels of the network's first convolution. `None` for a network without convolutions.
///
/// # Errors
/// If candle fails.
///
/// # Example
/// ```
/// use candle_core::Device;
/// use candle_vision_explain::inspection::first_kernels;
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("resnet18", 2), 0, &Device::Cpu)?;
/// let kernels = first_kernels(model.as_ref())?.expect("a convolution");
/// assert_eq!((kernels.layer.as_str(), kernels.kernels.len()), ("conv1", 64));
/// assert_eq!(kernels.kernels[0].len(), 7 * 7 * 3);
/// # Ok(())
/// # }
/// ```
pub fn first_kernels(model: &dyn Model) -> Result<Option<Kernels>> {
    let weights = model.parameters().weights();
    let Some(weight) = weights.iter().find(|weight| weight.var().rank() == 4) else {
        return Ok(None);
    };
    let kernel = weight.detached();
    let (_, in_channels, height, width) = kernel.dims4()?;
    let kernels = kernel.permute((0, 2, 3, 1))?.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2()?;
    let path = weight.path();
    let layer = path.rsplit_once('.').map_or(path, |(layer, _)| layer).to_owned();
    Ok(Some(Kernels { layer, kernels, height, width, in_channels }))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_vision_models::{ModelSpec, build};

    use super::*;

    #[test]
    fn maps_are_those_of_the_layer_that_was_asked_for() -> Result<()> {
        let model = build(&ModelSpec::new("gap_cnn", 2).input([3, 16, 16]), 0, &Device::Cpu)?;
        let image = Tensor::rand(0f32, 1.0, (1, 3, 16, 16), &Device::Cpu)?;
        let found = feature_maps(model.as_ref(), &image, Some("conv2"))?;
        let mut recorder = Recorder::new(["conv2"]);
        model.forward(&image, &mut Pass::eval().with_hooks(&mut recorder))?;
        let expected = recorder.get("conv2").expect("it ran").get(0)?;
        assert_eq!([found.maps.len(), found.height, found.width], *expected.dims());
        assert_eq!(found.maps[3], expected.get(3)?.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_wrong_layer_is_told() -> Result<()> {
        let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
        let image = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
        let error = |layer| feature_maps(model.as_ref(), &image, Some(layer)).map(|_| ());
        assert!(
            matches!(error("conv9"), Err(Error::UnknownLayer { near, .. }) if near[0].starts_with("conv"))
        );
        assert!(matches!(error("fc"), Err(Error::NoMaps { .. })));
        let mlp = build(&ModelSpec::new("mlp", 2), 0, &Device::Cpu)?;
        let image = Tensor::zeros((1, 1, 28, 28), DType::F32, &Device::Cpu)?;
        assert!(matches!(feature_maps(mlp.as_ref(), &image, None), Err(Error::NoMaps { .. })));
        assert_eq!(first_kernels(mlp.as_ref())?, None);
        Ok(())
    }

    #[test]
    fn a_kernel_is_read_row_by_row_with_its_channels_together() -> Result<()> {
        let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
        let kernels = first_kernels(model.as_ref())?.expect("a convolution");
        let weight = model.parameters().get("conv1.weight").expect("it is there").detached();
        let expected = weight.get(5)?.get(2)?.get(1)?.get(0)?.to_scalar::<f32>()?;
        // Row 1, column 0, channel 2.
        assert_eq!(kernels.kernels[5][kernels.width * kernels.in_channels + 2], expected);
        Ok(())
    }
}
