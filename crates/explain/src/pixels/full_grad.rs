//! FullGrad (Srinivas and Fleuret 2019, <https://arxiv.org/abs/1905.00780>).

use candle_core::{DType, Tensor};
use candle_vision_models::{Hooks, Model, Pass, RecordShapes};

use super::Inquiry;
use crate::map::{PIXELS, from_coarse};
use crate::record::GradientsAt;
use crate::scale::{resize_bilinear, stretch};
use crate::{ClassActivationMap, Error, Method, Result, Target};

impl Method {
    /// FullGrad: the gradient at the pixels and at every bias.
    pub const FULL_GRAD: Self = Self::pixels(
        "fullgrad",
        "FullGrad (Srinivas and Fleuret 2019): gradients at the pixels and at every bias together",
        full_grad,
    );
}

/// FullGrad of every image of a batch: a map from the gradients at the pixels and at every bias.
///
/// For a network of ReLUs, the score is exactly the sum of (gradient at the pixels) times (pixels) and
/// (gradient at each bias) times (bias), which is equation 3 of the paper. The map is the sum of the absolute
/// values of these terms. Each channel is first scaled to `0..=1` and resized to the input, as pytorch-grad-cam
/// does.
///
/// Every layer with a parameter `bias` and a spatial output takes part. The bias of a layer is its output for
/// an input of zeros. So the bias of a batch norm includes the effect of its running mean.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`, preprocessed as in training
/// - returns one map of `height * width` for each image, in order
///
/// # Errors
/// Those of [`saliency`](crate::saliency).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{Target, full_grad};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = full_grad(model.as_ref(), &images, &Target::Predicted)?;
/// assert_eq!((maps[0].height, maps[0].width), (32, 32));
/// # Ok(())
/// # }
/// ```
pub fn full_grad(
    model: &dyn Model,
    images: &Tensor,
    target: &Target,
) -> Result<Vec<ClassActivationMap>> {
    let inquiry = Inquiry::new(model, images, target)?;
    let biases = biases(model, &images.narrow(0, 0, 1)?)?;
    let mut gradients = GradientsAt::new(biases.iter().map(|(layer, _)| layer.clone()));
    let at_pixels = inquiry.gradient_at(images, &mut gradients)?;
    let gradients = gradients.take();
    let (batch, _, height, width) = images.dims4()?;
    let mut sums = vec![vec![0f32; height * width]; batch];
    add_terms(&mut sums, &(at_pixels * images)?, [height, width])?;
    for (layer, bias) in &biases {
        let Some((_, gradient)) = gradients.iter().find(|(path, _)| path == layer) else {
            return Err(Error::NoGradient { layer: layer.clone() });
        };
        add_terms(&mut sums, &gradient.broadcast_mul(bias)?, [height, width])?;
    }
    let sums = Tensor::from_vec(sums.concat(), (batch, height, width), &candle_core::Device::Cpu)?;
    from_coarse(&sums, &inquiry.asked.answers, [height, width], PIXELS)
}

/// The bias of every layer that has one and gives feature maps, each `[1, channels, height, width]`.
fn biases(model: &dyn Model, image: &Tensor) -> Result<Vec<(String, Tensor)>> {
    let mut shapes = RecordShapes::default();
    model.forward(image, &mut Pass::eval().with_hooks(&mut shapes))?;
    let has_bias = |layer: &str| model.parameters().get(&format!("{layer}.bias")).is_some();
    let layers: Vec<String> = shapes
        .shapes
        .into_iter()
        .filter(|(layer, shape)| shape.len() == 4 && has_bias(layer))
        .map(|(layer, _)| layer)
        .collect();
    let is_wanted = |layer: &str| layers.iter().any(|wanted| wanted == layer);
    let mut biases = Vec::new();
    let mut hooks = Hooks::new();
    hooks.on_input(
        "**",
        |layer, input| {
            if is_wanted(layer) { input.zeros_like().map(Some) } else { Ok(None) }
        },
    );
    hooks.on_output("**", |layer, output| {
        if is_wanted(layer) {
            biases.push((layer.to_owned(), output.detach()));
        }
        Ok(None)
    });
    model.forward(image, &mut Pass::eval().with_hooks(&mut hooks))?;
    drop(hooks);
    Ok(biases)
}

/// Scales each channel of the absolute `terms` (`[batch, channels, height, width]`) to `0..=1`, resizes it to
/// `size` and adds it to the map of its image.
fn add_terms(sums: &mut [Vec<f32>], terms: &Tensor, size: [usize; 2]) -> Result<()> {
    let (_, _, height, width) = terms.dims4()?;
    let terms = terms.to_dtype(DType::F32)?.abs()?.flatten_from(2)?.to_vec3::<f32>()?;
    for (sum, channels) in sums.iter_mut().zip(terms) {
        // Resizing is linear, so the sum of the channels is resized once.
        let mut coarse = vec![0f32; height * width];
        for mut channel in channels {
            stretch(&mut channel);
            coarse.iter_mut().zip(&channel).for_each(|(sum, value)| *sum += value);
        }
        let fine = resize_bilinear(&coarse, [height, width], size);
        sum.iter_mut().zip(&fine).for_each(|(sum, value)| *sum += value);
    }
    Ok(())
}
