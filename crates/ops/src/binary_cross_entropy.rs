//! Binary cross entropy between logits and targets, for images with several labels.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::binary_cross_entropy as kernels;
use candle_vision_kernels::float::Float;

use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};
use crate::{add, check, mean, mul, softplus};

/// The mean over all elements of the binary cross entropy, as PyTorch's `binary_cross_entropy_with_logits`. Each class is
/// a question of its own, which `sigmoid(logit)` answers. `pos_weight` multiplies the terms of each class where the target
/// is 1.
///
/// On the CPU this is one op, which sums in `f64`. On a CUDA device it is composed of ops that have kernels there.
///
/// # Shapes
/// - `logits`: `[batch, classes]`, `f32` or `f64`
/// - `targets`: as the logits, in `0.0..=1.0`; no gradient flows into them
/// - `pos_weight`: `[classes]`
/// - returns a scalar
///
/// # Errors
/// If a shape or number type differs, or the batch is empty.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::binary_cross_entropy;
///
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
/// assert_eq!(binary_cross_entropy(&logits, &targets, None)?.to_scalar::<f32>()?, 2f32.ln());
/// # candle_core::Result::Ok(())
/// ```
pub fn binary_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    pos_weight: Option<&Tensor>,
) -> Result<Tensor> {
    check::full_float(NAME, logits)?;
    let classes = match *logits.dims() {
        [batch, classes] if batch > 0 && classes > 0 => classes,
        _ => bail!("{NAME}: expected logits of shape [batch, classes], got {:?}", logits.dims()),
    };
    check::matches(NAME, "targets", targets, logits.dims(), logits)?;
    if let Some(weight) = pos_weight.filter(|weight| weight.dims() != [classes]) {
        bail!("{NAME}: expected {classes} weights of positives, got shape {:?}", weight.dims())
    }
    let targets = targets.detach();
    if logits.device().is_cuda() {
        return composed(logits, &targets, pos_weight);
    }
    let weights = match pos_weight {
        Some(weight) => weight.to_dtype(DType::F64)?.to_vec1()?,
        None => vec![1.0; classes],
    };
    let op = BinaryCrossEntropy { weights };
    apply2(&logits.contiguous()?, &targets.contiguous()?, op)
}

const NAME: &str = "binary_cross_entropy";

/// With `s(x) = ln(1 + exp(x))` and `s(-x) = s(x) - x` an element's loss is `(1 + (w - 1) t) s(x) - w t x`.
fn composed(logits: &Tensor, targets: &Tensor, pos_weight: Option<&Tensor>) -> Result<Tensor> {
    let positive = match pos_weight {
        None => targets.clone(),
        Some(weight) => targets.broadcast_mul(&weight.to_dtype(targets.dtype())?)?,
    };
    let factor = ((&positive - targets)? + 1.0)?;
    let losses = add(&mul(&softplus(logits)?, &factor)?, &mul(logits, &positive.neg()?)?)?;
    mean(&losses, &[0, 1], false)
}

struct BinaryCrossEntropy {
    /// The weight of each class's positives.
    weights: Vec<f64>,
}

impl Footprint for BinaryCrossEntropy {
    fn held_bytes(&self) -> usize {
        size_of_val(self.weights.as_slice())
    }
}

impl CustomOp2 for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, logits, T => {
            let logits = elements::<T>(logits, logits_layout)?;
            let targets = elements(targets, targets_layout)?;
            let sum = kernels::binary_cross_entropy(logits, targets, &self.weights);
            Ok(stored(vec![T::narrow(sum / logits.len() as f64)], ()))
        })
    }

    fn bwd(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = Gradient { weights: self.weights.clone() };
        let dx = logits.apply_op3_no_bwd(targets, &grad.contiguous()?, &gradient)?;
        Ok((Some(dx), None))
    }
}

/// The gradient of the logits. Its arguments are the logits, the targets and the gradient of the loss.
struct Gradient {
    weights: Vec<f64>,
}

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, logits, T => {
            let logits = elements::<T>(logits, logits_layout)?;
            let targets = elements(targets, targets_layout)?;
            let grad: f64 = elements::<T>(grad, grad_layout)?[0].widen();
            let grad = grad / logits.len() as f64;
            let dx = kernels::binary_cross_entropy_gradient(logits, targets, &self.weights, grad);
            Ok(stored(dx, logits_layout.shape()))
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::{backward, is_direct};

    /// The form of CUDA devices, which is the plain twin here.
    #[test]
    fn one_op_and_the_composition_are_the_same() -> Result<()> {
        for (batch, classes) in [(1, 1), (3, 7), (70, 80)] {
            let wave = |from: f64, factor: f64| {
                let values = (0..batch * classes).map(|i| from + factor * (i as f64 * 1.7).sin());
                Tensor::from_vec(values.collect::<Vec<f64>>(), (batch, classes), &Device::Cpu)
            };
            let (logits, targets) = (Var::from_tensor(&wave(0.3, 6.0)?)?, wave(0.5, 0.5)?);
            let weight: Vec<f64> = (0..classes).map(|class| 0.5 + class as f64).collect();
            let weight = Tensor::new(weight, &Device::Cpu)?;
            for pos_weight in [None, Some(&weight)] {
                let results = [
                    binary_cross_entropy(logits.as_tensor(), &targets, pos_weight)?,
                    composed(logits.as_tensor(), &targets, pos_weight)?,
                ];
                let [fused, plain] = results.map(|loss| {
                    assert!(is_direct(&loss));
                    let gradients = backward(&loss).expect("a backward pass");
                    let gradient = gradients.get(&logits).expect("a gradient").flatten_all();
                    let mut values = gradient.and_then(|dx| dx.to_vec1::<f64>()).expect("values");
                    values.push(loss.to_scalar::<f64>().expect("a scalar"));
                    values
                });
                for (fused, plain) in fused.iter().zip(&plain) {
                    assert!((fused - plain).abs() < 1e-12 * weight_of(classes), "{fused} {plain}");
                }
            }
        }
        Ok(())
    }

    /// The largest weight, which the rounding of terms grows with.
    fn weight_of(classes: usize) -> f64 {
        classes as f64
    }

    #[test]
    fn large_logits_stay_finite_and_exact() -> Result<()> {
        let logits = Var::new(&[[1e4f32, -1e4, 15.0]], &Device::Cpu)?;
        let targets = Tensor::new(&[[1f32, 1.0, 1.0]], &Device::Cpu)?;
        let loss = binary_cross_entropy(logits.as_tensor(), &targets, None)?;
        assert_eq!(loss.to_scalar::<f32>()?, 1e4 / 3.0);
        let gradient = backward(&loss)?.get(&logits).expect("a gradient").to_vec2::<f32>()?;
        // Of the last one 1e-7 is left, where `p - 1` in f32 would be off by half of it.
        let expected = -(-15f64).exp() / (1.0 + (-15f64).exp()) / 3.0;
        assert_eq!(gradient, [[0.0, -1.0 / 3.0, expected as f32]]);
        Ok(())
    }

    #[test]
    fn wrong_arguments_are_named() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let logits = zeros(&[2, 3])?;
        let check = |logits: &Tensor, targets: &Tensor, weight: Option<&Tensor>, words: &str| {
            let error = binary_cross_entropy(logits, targets, weight).unwrap_err().to_string();
            assert!(
                error.starts_with("binary_cross_entropy: ") && error.contains(words),
                "{error}"
            );
        };
        check(&zeros(&[0, 3])?, &zeros(&[0, 3])?, None, "[batch, classes], got [0, 3]");
        check(&logits, &zeros(&[2, 2])?, None, "targets");
        check(&logits, &logits, Some(&zeros(&[2])?), "3 weights of positives, got shape [2]");
        Ok(())
    }
}
