//! Hooks as closures, for most uses.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::sum_of_squares;

use crate::glob::layer_matches;
use crate::hook::{GradientHook, LayerHook};

type See<'a> = Box<dyn FnMut(&str, &Tensor) -> Result<Option<Tensor>> + 'a>;
type SeeGradient = Arc<dyn Fn(&str, &Tensor) -> Result<Option<Tensor>> + Send + Sync>;

/// Closures that see, and may change, the tensors at chosen layers. They correspond to PyTorch's forward hooks,
/// forward pre-hooks and tensor hooks.
///
/// A pattern is the path of a layer as a glob, with dots between the segments:
///
/// | pattern | layers |
/// |---|---|
/// | `layer4.1` | this layer |
/// | `layer4.*` | its children; `*` stays within a segment, as does `?` for one character |
/// | `layer4.**` | everything below it |
/// | `**.conv2` | every `conv2`, at any depth |
/// | `layer[1-3]`, `layer[!4]` | one character in a set, or not in a set |
/// | `**.{conv,bn}1` | either text |
/// | `**` | all layers |
///
/// Every closure gets the layer's path and a tensor. It returns a tensor of the same shape and number type to
/// replace it, or `None` to leave it unchanged. Another shape is an error that names the layer. Feature maps
/// are `[batch, channels, height, width]`. Closures of one layer run in the order in which they were added.
///
/// Hooks are not registered with the network. They apply to the pass that borrows them
/// ([`Pass::with_hooks`](crate::Pass::with_hooks)) and end when they are dropped.
///
/// # Examples
///
/// Print the shapes of a stage:
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{ModelSpec, Pass, Hooks, build};
///
/// # fn main() -> candle_core::Result<()> {
/// let model = build(&ModelSpec::new("resnet18", 2), 0, &Device::Cpu)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let mut hooks = Hooks::new();
/// hooks.on_output("layer4.*", |layer, output| {
///     println!("{layer}: {:?}", output.dims());
///     Ok(None)
/// });
/// model.forward(&images, &mut Pass::eval().with_hooks(&mut hooks))?;
/// assert!(hooks.unmatched().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// Collect feature maps:
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use candle_vision_models::{ModelSpec, Pass, Hooks, build};
/// # fn main() -> candle_core::Result<()> {
/// # let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// # let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let mut maps = Vec::new();
/// let mut hooks = Hooks::new();
/// hooks.on_output("conv?", |layer, output| {
///     maps.push((layer.to_owned(), output.detach()));
///     Ok(None)
/// });
/// model.forward(&images, &mut Pass::eval().with_hooks(&mut hooks))?;
/// drop(hooks);
/// assert_eq!(maps.len(), 3);
/// assert_eq!(maps[0].1.dims(), [1, 16, 32, 32]);
/// # Ok(())
/// # }
/// ```
///
/// Clip the gradient at a layer while training:
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use candle_vision_models::{ModelSpec, Pass, Hooks, build};
/// # fn main() -> candle_core::Result<()> {
/// # let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// # let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let mut hooks = Hooks::new();
/// hooks.clip_gradient("fc", 0.1);
/// let pass = Pass::train(0);
/// let logits = model.forward(&images, &mut pass.with_hooks(&mut hooks))?;
/// let gradients = logits.sum_all()?.backward()?;
/// // The sum's gradient is 1 at every logit; the bias gets what the clipping left of it.
/// let bias = model.parameters().get("fc.bias").expect("gap_cnn has it");
/// let gradient = gradients.get(bias.var()).expect("it is trained");
/// assert_eq!(gradient.to_vec1::<f32>()?, [0.1, 0.1]);
/// # Ok(())
/// # }
/// ```
///
/// Switch a channel off at inference:
/// ```
/// # use candle_core::{Device, Tensor};
/// # use candle_vision_models::{ModelSpec, Pass, Hooks, build};
/// # fn main() -> candle_core::Result<()> {
/// # let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// # let values = (0..3072).map(|i| (i as f32).sin()).collect();
/// # let images = Tensor::from_vec(values, (1, 3, 32, 32), &Device::Cpu)?;
/// let mut hooks = Hooks::mask("conv1", [5]);
/// let without = model.forward(&images, &mut Pass::eval().with_hooks(&mut hooks))?;
/// // The network itself is as before.
/// let with = model.forward(&images, &mut Pass::eval())?;
/// assert_ne!(with.to_vec2::<f32>()?, without.to_vec2::<f32>()?);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Hooks<'a> {
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    pattern: String,
    matched: bool,
    action: Action<'a>,
}

enum Action<'a> {
    Input(See<'a>),
    Output(See<'a>),
    Gradient(SeeGradient),
    /// The channels that are switched off.
    Mask(Vec<usize>),
}

impl fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.iter().map(|entry| {
            let what = match &entry.action {
                Action::Input(_) => "on_input",
                Action::Output(_) => "on_output",
                Action::Gradient(_) => "on_gradient",
                Action::Mask(_) => "mask_channels",
            };
            (&entry.pattern, what)
        });
        f.debug_map().entries(entries).finish()
    }
}

impl<'a> Hooks<'a> {
    /// A collection without hooks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `see` with the input of every layer that `pattern` matches, before the layer runs.
    pub fn on_input(
        &mut self,
        pattern: &str,
        see: impl FnMut(&str, &Tensor) -> Result<Option<Tensor>> + 'a,
    ) -> &mut Self {
        self.add(pattern, Action::Input(Box::new(see)))
    }

    /// Calls `see` with the output of every layer that `pattern` matches.
    pub fn on_output(
        &mut self,
        pattern: &str,
        see: impl FnMut(&str, &Tensor) -> Result<Option<Tensor>> + 'a,
    ) -> &mut Self {
        self.add(pattern, Action::Output(Box::new(see)))
    }

    /// Calls `see` with the gradient at the output of every layer that `pattern` matches, during `backward`. If
    /// closures change that output, the gradient is the one at the changed output, as in PyTorch's full
    /// backward hooks. `backward` stays as fast as without the hook. The graph keeps the closure while it
    /// lives, so the closure owns what it uses.
    ///
    /// The closure is called only where a gradient is computed: if a trainable parameter (in a training pass)
    /// or a [`Var`](candle_core::Var) lies below the layer.
    pub fn on_gradient(
        &mut self,
        pattern: &str,
        see: impl Fn(&str, &Tensor) -> Result<Option<Tensor>> + Send + Sync + 'static,
    ) -> &mut Self {
        self.add(pattern, Action::Gradient(Arc::new(see)))
    }

    /// Clips each element of the gradient at the output of every layer that `pattern` matches to
    /// `-limit..=limit`. PyTorch's `clip_grad_value_` does the same with the gradients of parameters.
    pub fn clip_gradient(&mut self, pattern: &str, limit: f64) -> &mut Self {
        self.on_gradient(pattern, move |_, gradient| Ok(Some(gradient.clamp(-limit, limit)?)))
    }

    /// Scales the gradient at the output of every layer that `pattern` matches down to the Euclidean norm
    /// `max_norm` if its norm is larger. Each layer is scaled on its own. PyTorch's `clip_grad_norm_` does the
    /// same with the gradients of parameters.
    pub fn clip_gradient_norm(&mut self, pattern: &str, max_norm: f64) -> &mut Self {
        self.on_gradient(pattern, move |_, gradient| {
            let norm = sum_of_squares(&gradient.contiguous()?)?.sqrt();
            // The same small constant as in PyTorch. It keeps a gradient of zeros at zero.
            let factor = max_norm / (norm + 1e-6);
            if factor < 1.0 { gradient.affine(factor, 0.0).map(Some) } else { Ok(None) }
        })
    }

    /// Switches off channels of the output of every layer that `pattern` matches: the channels and their
    /// gradients become 0. Closures on the output see the channels before they are switched off. `backward`
    /// stays as fast as without the mask.
    ///
    /// Channels are counted from 0. If a layer does not have one of the channels, the pass fails.
    pub fn mask_channels(&mut self, pattern: &str, channels: impl Into<Vec<usize>>) -> &mut Self {
        self.add(pattern, Action::Mask(channels.into()))
    }

    /// A collection whose only hook is [`Hooks::mask_channels`].
    pub fn mask(pattern: &str, channels: impl Into<Vec<usize>>) -> Self {
        let mut hooks = Self::new();
        hooks.mask_channels(pattern, channels);
        hooks
    }

    /// The patterns that no layer has matched so far. After a pass, these are the mistyped ones.
    pub fn unmatched(&self) -> Vec<&str> {
        let unmatched = self.entries.iter().filter(|entry| !entry.matched);
        unmatched.map(|entry| entry.pattern.as_str()).collect()
    }

    fn add(&mut self, pattern: &str, action: Action<'a>) -> &mut Self {
        self.entries.push(Entry { pattern: pattern.to_owned(), matched: false, action });
        self
    }
}

impl LayerHook for Hooks<'_> {
    fn wants(&self, layer: &str) -> bool {
        self.entries.iter().any(|entry| layer_matches(&entry.pattern, layer))
    }

    fn wants_input(&self, layer: &str) -> bool {
        self.entries.iter().any(|entry| {
            matches!(entry.action, Action::Input(_)) && layer_matches(&entry.pattern, layer)
        })
    }

    fn input(&mut self, layer: &str, mut input: Tensor) -> Result<Tensor> {
        for entry in self.entries.iter_mut().filter(|entry| layer_matches(&entry.pattern, layer)) {
            if let Action::Input(see) = &mut entry.action {
                entry.matched = true;
                input = see(layer, &input)?.unwrap_or(input);
            }
        }
        Ok(input)
    }

    fn output(&mut self, layer: &str, mut output: Tensor) -> Result<Tensor> {
        for entry in self.entries.iter_mut().filter(|entry| layer_matches(&entry.pattern, layer)) {
            if let Action::Output(see) = &mut entry.action {
                entry.matched = true;
                output = see(layer, &output)?.unwrap_or(output);
            }
        }
        Ok(output)
    }

    fn channel_factors(&mut self, layer: &str, count: usize) -> Result<Option<Vec<f32>>> {
        let mut factors: Option<Vec<f32>> = None;
        for entry in self.entries.iter_mut().filter(|entry| layer_matches(&entry.pattern, layer)) {
            let Action::Mask(channels) = &entry.action else { continue };
            entry.matched = true;
            let factors = factors.get_or_insert_with(|| vec![1.0; count]);
            for channel in channels {
                match factors.get_mut(*channel) {
                    Some(factor) => *factor = 0.0,
                    None => bail!(
                        "channel {channel} of layer `{layer}` is to be masked, which has {count}, counted \
                         from 0"
                    ),
                }
            }
        }
        Ok(factors)
    }

    fn gradient_hook(&mut self, layer: &str) -> Option<GradientHook> {
        let mut hooks: Vec<SeeGradient> = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| layer_matches(&entry.pattern, layer)) {
            if let Action::Gradient(see) = &entry.action {
                entry.matched = true;
                hooks.push(see.clone());
            }
        }
        if hooks.is_empty() {
            return None;
        }
        let layer = layer.to_owned();
        Some(Arc::new(move |gradient| {
            let mut changed = None;
            for see in &hooks {
                let now = see(&layer, changed.as_ref().unwrap_or(gradient))?;
                changed = now.or(changed);
            }
            Ok(changed)
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::{Model, ModelSpec, Pass, build};

    fn network() -> Result<Box<dyn Model>> {
        build(&ModelSpec::new("gap_cnn", 2).input([3, 16, 16]), 0, &Device::Cpu)
    }

    fn images() -> Result<Var> {
        let values: Vec<f32> = (0..3 * 256).map(|i| (i as f32 * 0.7).sin()).collect();
        Var::from_vec(values, (1, 3, 16, 16), &Device::Cpu)
    }

    #[test]
    fn outputs_are_seen_and_replaced_in_the_order_of_registration() -> Result<()> {
        let mut seen = Vec::new();
        let mut hooks = Hooks::new();
        hooks.on_output("conv2", |_, output| Ok(Some(output.zeros_like()?)));
        hooks.on_output("conv*", |layer, output| {
            let sum = output.abs()?.sum_all()?.to_scalar::<f32>()?;
            seen.push((layer.to_owned(), output.dims().to_vec(), sum > 0.0));
            Ok(None)
        });
        hooks.on_output("cnov3", |_, _| Ok(None));
        let images = images()?;
        network()?.forward(&images, &mut Pass::eval().with_hooks(&mut hooks))?;
        assert_eq!(hooks.unmatched(), ["cnov3"]);
        drop(hooks);
        let expected = [
            ("conv1".to_owned(), vec![1, 16, 16, 16], true),
            ("conv2".to_owned(), vec![1, 32, 8, 8], false),
        ];
        assert_eq!(seen[..2], expected);
        Ok(())
    }

    #[test]
    fn a_gradient_is_seen_and_changed_at_maps_and_at_vectors() -> Result<()> {
        let (model, images) = (network()?, images()?);
        let gradient_of = |hooks: &mut Hooks<'_>| -> Result<Tensor> {
            let logits = model.forward(&images, &mut Pass::eval().with_hooks(hooks))?;
            let mut gradients = logits.sum_all()?.backward()?;
            Ok(gradients.remove(&images).expect("the logits depend on the images"))
        };
        let plain = gradient_of(&mut Hooks::new())?;
        for layer in ["conv2", "fc"] {
            let mut hooks = Hooks::new();
            hooks.on_gradient(layer, |_, gradient| {
                assert!([vec![1, 32, 8, 8], vec![1, 2]].contains(&gradient.dims().to_vec()));
                Ok(Some(gradient.affine(2.0, 0.0)?))
            });
            let doubled = gradient_of(&mut hooks)?;
            let difference = (doubled - (&plain * 2.0)?)?.abs()?.sum_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-5, "{layer}: {difference}");
            assert!(plain.abs()?.sum_all()?.to_scalar::<f32>()? > 1e-3);
        }
        Ok(())
    }

    #[test]
    fn inputs_are_seen_before_the_layer_and_replaced() -> Result<()> {
        let (model, images) = (network()?, images()?);
        let mut seen = Vec::new();
        let mut hooks = Hooks::new();
        hooks.on_input("conv2", |layer, input| {
            seen.push((layer.to_owned(), input.dims().to_vec()));
            Ok(None)
        });
        hooks.on_input("fc", |_, input| Ok(Some(input.zeros_like()?)));
        let logits = model.forward(&images, &mut Pass::eval().with_hooks(&mut hooks))?;
        assert!(hooks.unmatched().is_empty());
        drop(hooks);
        assert_eq!(seen, [("conv2".to_owned(), vec![1, 16, 8, 8])]);
        // Of a linear layer of nothing the bias is left.
        let bias = model.parameters().get("fc.bias").expect("gap_cnn has it").detached();
        assert_eq!(logits.get(0)?.to_vec1::<f32>()?, bias.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_masked_channel_is_zero_forward_and_backward() -> Result<()> {
        use candle_vision_ops::{backward, is_direct};
        let (model, images) = (network()?, images()?);
        let zeros = |tensor: &Tensor| -> Result<Vec<bool>> {
            let sums = tensor.abs()?.sum((0, 2, 3))?.to_vec1::<f32>()?;
            Ok(sums.into_iter().map(|sum| sum == 0.0).collect())
        };
        let expected: Vec<bool> = (0..32).map(|channel| [3, 7].contains(&channel)).collect();
        let mut hooks = Hooks::mask("conv2", [3, 7]);
        hooks.on_input("relu2", |_, input| {
            assert_eq!(zeros(input)?, expected);
            Ok(None)
        });
        let logits = model.forward(&images, &mut Pass::train(0).with_hooks(&mut hooks))?;
        assert!(hooks.unmatched().is_empty());
        assert!(is_direct(&logits));
        let kernel = model.parameters().get("conv2.weight").expect("gap_cnn has it");
        let loss = candle_vision_ops::mean(&logits, &[0, 1], false)?;
        let gradient = backward(&loss)?.remove(kernel.var()).expect("it is trained");
        let of_masked = gradient.get(3)?.abs()?.sum_all()?.to_scalar::<f32>()?;
        assert_eq!(of_masked, 0.0);
        assert!(gradient.get(4)?.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0);

        let mut hooks = Hooks::mask("fc", [2]);
        let error = model.forward(&images, &mut Pass::eval().with_hooks(&mut hooks));
        let error = error.expect_err("there are two logits").to_string();
        assert!(error.contains("channel 2 of layer `fc` is to be masked, which has 2"), "{error}");
        Ok(())
    }

    #[test]
    fn gradients_are_clipped_by_value_and_by_norm() -> Result<()> {
        let (model, images) = (network()?, images()?);
        let bias = |clip: &dyn Fn(&mut Hooks<'_>)| -> Result<Vec<f32>> {
            let mut hooks = Hooks::new();
            clip(&mut hooks);
            let logits = model.forward(&images, &mut Pass::train(0).with_hooks(&mut hooks))?;
            let parameter = model.parameters().get("fc.bias").expect("gap_cnn has it");
            let factors = Tensor::new(&[[3f32, 4.0]], &Device::Cpu)?;
            let gradients = (logits * factors)?.sum_all()?.backward()?;
            gradients.get(parameter.var()).expect("it is trained").to_vec1()
        };
        assert_eq!(
            bias(&|hooks| {
                hooks.clip_gradient("fc", 3.5);
            })?,
            [3.0, 3.5]
        );
        assert_eq!(
            bias(&|hooks| {
                hooks.clip_gradient_norm("fc", 6.0);
            })?,
            [3.0, 4.0]
        );
        let clipped = bias(&|hooks| {
            hooks.clip_gradient_norm("fc", 1.0);
        })?;
        assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6, "{clipped:?}");
        Ok(())
    }

    #[test]
    fn an_error_of_a_closure_ends_the_pass() -> Result<()> {
        let mut hooks = Hooks::new();
        hooks.on_output("relu1", |layer, _| candle_core::bail!("stopped at {layer}"));
        let images = images()?;
        let error = network()?.forward(&images, &mut Pass::eval().with_hooks(&mut hooks));
        assert!(error.expect_err("stopped").to_string().contains("stopped at relu1"));
        Ok(())
    }
}
