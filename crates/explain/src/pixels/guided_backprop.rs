//! Guided backpropagation (Springenberg et al. 2014, <https://arxiv.org/abs/1412.6806>).

use candle_core::Tensor;
use candle_vision_models::{Hooks, LayerHook, Model, Pass};

use super::{Attributions, Inquiry};
use crate::{Method, Result, Target};

impl Method {
    /// Guided backpropagation (Springenberg et al. 2014): sharp, but hardly about the class.
    pub const GUIDED_BACKPROP: Self = Self::pixels(
        "guided-backprop",
        "guided backpropagation (Springenberg et al. 2014): sharp, but hardly about the class",
        |model, images, target| guided_backprop(model, images, target)?.maps(),
    );
}

/// The gradient at the pixels, where every ReLU passes only positive gradients back. It shows sharp outlines of
/// what excites the network.
///
/// The method does badly in the weight-randomisation check (Adebayo et al. 2018): it shows the image's edges
/// rather than the network's reasons. A ReLU that is not a named layer of the network passes gradients as
/// usual.
///
/// Shapes and errors are those of [`saliency`](crate::saliency).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{Target, guided_backprop};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let guided = guided_backprop(model.as_ref(), &images, &Target::Predicted)?;
/// assert_eq!(guided.values.dims(), images.dims());
/// # Ok(())
/// # }
/// ```
pub fn guided_backprop(
    model: &dyn Model,
    images: &Tensor,
    target: &Target,
) -> Result<Attributions> {
    let inquiry = Inquiry::new(model, images, target)?;
    let mut relus = Relus::default();
    model.forward(&images.narrow(0, 0, 1)?, &mut Pass::eval().with_hooks(&mut relus))?;
    let mut hooks = Hooks::new();
    for layer in &relus.found {
        // The ReLU itself drops the gradient where its input was negative.
        hooks.on_gradient(layer, |_, gradient| gradient.relu().map(Some));
    }
    let gradient = inquiry.gradient_at(images, &mut hooks)?;
    Ok(inquiry.attributions(gradient, false))
}

/// Finds the ReLUs of a network by their behaviour: the output has no negative values and has the shape of the
/// layer before. Pooling changes the shape. Blocks and dropouts that pass on the output of a ReLU are found
/// too, which does no harm.
#[derive(Default)]
struct Relus {
    shape: Vec<usize>,
    found: Vec<String>,
}

impl LayerHook for Relus {
    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> candle_core::Result<Tensor> {
        let same_shape = self.shape == output.dims();
        self.shape = output.dims().to_vec();
        if same_shape && output.flatten_all()?.min(0)?.to_scalar::<f32>()? >= 0.0 {
            self.found.push(layer.to_owned());
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_vision_models::{ModelSpec, build};

    use super::*;

    #[test]
    fn relus_are_told_from_convolutions_and_pools() -> Result<()> {
        let model = build(&ModelSpec::new("resnet18", 2), 0, &Device::Cpu)?;
        let images = Tensor::randn(0f32, 1.0, (1, 3, 64, 64), &Device::Cpu)?;
        let mut relus = Relus::default();
        model.forward(&images, &mut Pass::eval().with_hooks(&mut relus))?;
        let found = &relus.found;
        for wanted in ["relu", "layer1.0.relu1", "layer4.1.relu2"] {
            assert!(found.iter().any(|layer| layer == wanted), "{wanted}: {found:?}");
        }
        let wrong = ["conv", "bn", "pool", "downsample", "fc"];
        assert!(!found.iter().any(|layer| wrong.iter().any(|part| layer.contains(part))));
        Ok(())
    }

    #[test]
    fn only_positive_gradients_come_through() -> Result<()> {
        let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
        let head = model.parameters().get("fc.weight").expect("gap_cnn has it");
        head.set(&head.detached().ones_like()?.neg()?)?;
        let images = Tensor::ones((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
        let size = |gradient: Tensor| gradient.abs()?.sum_all()?.to_scalar::<f32>();
        let plain = crate::saliency(model.as_ref(), &images, &Target::Class(0))?;
        let guided = guided_backprop(model.as_ref(), &images, &Target::Class(0))?;
        assert!(size(plain.values)? > 0.0);
        assert_eq!(size(guided.values)?, 0.0);
        Ok(())
    }
}
