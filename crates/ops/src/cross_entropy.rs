//! Cross entropy between logits and labels or probabilities.
//!
//! Every form of it (labels or probabilities, with or without smoothing, with or without class weights) is
//! `-sum(targets * log_softmax(logits))` for some matrix of targets that does not depend on the logits. So
//! the targets are computed first, and one fused op does the rest.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, CustomOp1};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};
use candle_vision_kernels::float::Float;
use candle_vision_kernels::softmax as kernels;

/// Settings of [`cross_entropy`]. The default has neither smoothing nor weights.
#[derive(Debug, Clone, Default)]
pub struct CrossEntropyConfig {
    /// Fraction, in `0.0..=1.0`, of each row's target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// Factor of each class's term, `[classes]`.
    pub class_weights: Option<Tensor>,
}

/// The targets that the logits are compared with.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// The true class of each row, `[batch]`, `u32`.
    Labels(&'a Tensor),
    /// A probability of each class in each row, `[batch, classes]`, of the number type of the logits. No
    /// gradient flows into them.
    Probabilities(&'a Tensor),
}

/// The mean over the batch of `-sum(target * log_softmax(logits))`. It averages exactly as
/// `torch.nn.functional.cross_entropy` does:
///
/// - labels with class weights: the sum, including its smoothed part, is divided by the sum of the weights
///   of the rows' labels; if that is 0, it is not divided, where PyTorch gives NaN
/// - probabilities with class weights: each term is multiplied by its class's weight, and the sum is
///   divided by the batch size
/// - without class weights: the sum is divided by the batch size
///
/// # Shapes
/// - `logits`: `[batch, classes]`, `f32` or `f64`
/// - `targets`: see [`Targets`]
/// - returns a scalar
///
/// # Errors
/// If a shape or number type differs, the batch is empty, the smoothing is not in `0.0..=1.0`, or a label
/// is not below `classes`. The error names the row and the label. On a CUDA device the host does not check
/// labels, because it would have to wait. A wrong label makes the loss NaN there.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy};
///
/// let logits = Tensor::new(&[[0f32, 0.0], [0.0, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// let loss = cross_entropy(&logits, Targets::Labels(&labels), &CrossEntropyConfig::default())?;
/// assert_eq!(loss.to_scalar::<f32>()?, 2f32.ln());
/// # candle_core::Result::Ok(())
/// ```
pub fn cross_entropy(
    logits: &Tensor,
    targets: Targets<'_>,
    config: &CrossEntropyConfig,
) -> Result<Tensor> {
    check::full_float(NAME, logits)?;
    let (batch, classes) = match *logits.dims() {
        [batch, classes] if batch > 0 && classes > 0 => (batch, classes),
        _ => bail!("{NAME}: expected logits of shape [batch, classes], got {:?}", logits.dims()),
    };
    let smoothing = config.label_smoothing;
    if !(0.0..=1.0).contains(&smoothing) {
        bail!("{NAME}: label smoothing is a fraction in 0..=1, got {smoothing}")
    }
    check_class_weights(config, classes)?;
    let targets = match targets {
        #[cfg(feature = "cuda")]
        Targets::Labels(labels) if logits.device().is_cuda() => {
            on_device(labels, [batch, classes], config)?
        }
        Targets::Labels(labels) => {
            let labels = read_labels(labels, batch, classes)?;
            let targets = label_targets(&labels, &class_weights(config, classes)?, smoothing);
            Tensor::from_vec(targets, (batch, classes), logits.device())?
                .to_dtype(logits.dtype())?
        }
        Targets::Probabilities(probabilities) => {
            check::matches(NAME, "probabilities", probabilities, logits.dims(), logits)?;
            probability_targets(probabilities, config.class_weights.as_ref(), smoothing)?
        }
    };
    apply2(&logits.contiguous()?, &targets, CrossEntropy)
}

/// `-sum(targets * log_softmax(logits))` over all rows, for targets that need not add up to 1, such as those of images with
/// weights of their own. No gradient flows into the targets.
///
/// # Shapes
/// - `logits`, `targets`: `[batch, classes]`, `f32` or `f64`
/// - returns a scalar
///
/// # Errors
/// If a shape or number type differs, or the batch is empty.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::cross_entropy_sum;
///
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[3f32, 0.0]], &Device::Cpu)?;
/// assert_eq!(cross_entropy_sum(&logits, &targets)?.to_scalar::<f32>()?, 3.0 * 2f32.ln());
/// # candle_core::Result::Ok(())
/// ```
pub fn cross_entropy_sum(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check::full_float(NAME, logits)?;
    match *logits.dims() {
        [batch, classes] if batch > 0 && classes > 0 => {}
        _ => bail!("{NAME}: expected logits of shape [batch, classes], got {:?}", logits.dims()),
    }
    check::matches(NAME, "targets", targets, logits.dims(), logits)?;
    apply2(&logits.contiguous()?, &targets.detach().contiguous()?, CrossEntropy)
}

const NAME: &str = "cross_entropy";

fn check_class_weights(config: &CrossEntropyConfig, classes: usize) -> Result<()> {
    match &config.class_weights {
        Some(weights) if weights.dims() != [classes] => {
            bail!("{NAME}: expected {classes} class weights, got shape {:?}", weights.dims())
        }
        _ => Ok(()),
    }
}

/// The weight of each class. It is 1 if no weights are given.
fn class_weights(config: &CrossEntropyConfig, classes: usize) -> Result<Vec<f64>> {
    match &config.class_weights {
        Some(weights) => weights.to_dtype(DType::F64)?.to_vec1(),
        None => Ok(vec![1.0; classes]),
    }
}

fn check_labels(labels: &Tensor, batch: usize) -> Result<()> {
    if labels.dims() == [batch] && labels.dtype() == DType::U32 {
        return Ok(());
    }
    bail!(
        "{NAME}: expected u32 labels of shape [{batch}], got {:?} of shape {:?}",
        labels.dtype(),
        labels.dims()
    )
}

/// [`label_targets`] computed on the device, so that the host need not wait for the labels.
#[cfg(feature = "cuda")]
fn on_device(
    labels: &Tensor,
    [batch, classes]: [usize; 2],
    config: &CrossEntropyConfig,
) -> Result<Tensor> {
    check_labels(labels, batch)?;
    let weights = config.class_weights.as_ref();
    let weights = weights.map(|weights| weights.to_dtype(DType::F32)).transpose()?;
    let op = LabelTargets { weights, classes, smoothing: config.label_smoothing };
    labels.contiguous()?.apply_op1_no_bwd(&op)
}

#[cfg(feature = "cuda")]
struct LabelTargets {
    weights: Option<Tensor>,
    classes: usize,
    smoothing: f64,
}

#[cfg(feature = "cuda")]
impl CustomOp1 for LabelTargets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _labels: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{NAME}: labels on the CPU for logits on a CUDA device")
    }

    fn cuda_fwd(&self, labels: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let weights = self.weights.as_ref().map(cuda::kept);
        let weights = weights.as_ref().map(|weights| weights.array()).transpose()?;
        cuda::label_targets(Array::new(labels, layout), weights, self.classes, self.smoothing)
    }
}

fn read_labels(labels: &Tensor, batch: usize, classes: usize) -> Result<Vec<u32>> {
    check_labels(labels, batch)?;
    let labels = labels.to_vec1::<u32>()?;
    match labels.iter().enumerate().find(|&(_, &label)| label as usize >= classes) {
        Some((row, label)) => {
            bail!("{NAME}: row {row} has label {label}, but there are {classes} classes")
        }
        None => Ok(labels),
    }
}

fn label_targets(labels: &[u32], weights: &[f64], smoothing: f64) -> Vec<f64> {
    let classes = weights.len();
    let total: f64 = labels.iter().map(|&label| weights[label as usize]).sum();
    let total = if total == 0.0 { 1.0 } else { total };
    let spread = weights.iter().map(|weight| smoothing / classes as f64 * weight / total);
    let spread: Vec<f64> = spread.collect();
    let mut targets = spread.repeat(labels.len());
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        let label = label as usize;
        row[label] += (1.0 - smoothing) * weights[label] / total;
    }
    targets
}

/// The weights stay on the device, so that the host need not wait and the work can be captured.
fn probability_targets(
    probabilities: &Tensor,
    weights: Option<&Tensor>,
    smoothing: f64,
) -> Result<Tensor> {
    let (batch, classes) = probabilities.dims2()?;
    let smoothed = probabilities.detach().affine(1.0 - smoothing, smoothing / classes as f64)?;
    let weighted = match weights {
        None => smoothed,
        Some(weights) => smoothed.broadcast_mul(&weights.to_dtype(probabilities.dtype())?)?,
    };
    weighted.affine(1.0 / batch as f64, 0.0)
}

/// The op `-sum(targets * log_softmax(logits))`.
struct CrossEntropy;

impl Footprint for CrossEntropy {}

impl CustomOp2 for CrossEntropy {
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
        let (_, classes) = logits_layout.shape().dims2()?;
        with_float!(NAME, logits, T => {
            let logits = elements::<T>(logits, logits_layout)?;
            let targets = elements(targets, targets_layout)?;
            let loss = kernels::cross_entropy(logits, targets, classes);
            Ok(stored(vec![T::narrow(loss)], ()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        logits_layout: &Layout,
        targets: &CudaStorage,
        targets_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::cross_entropy(Array::new(logits, logits_layout), Array::new(targets, targets_layout))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = logits.apply_op3_no_bwd(targets, &grad.contiguous()?, &Gradient)?;
        Ok((Some(dx), None))
    }
}

/// The gradient of the logits. Its arguments are the logits, the targets and the gradient of the loss.
struct Gradient;

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
        let (_, classes) = logits_layout.shape().dims2()?;
        with_float!(NAME, logits, T => {
            let logits = elements::<T>(logits, logits_layout)?;
            let targets = elements(targets, targets_layout)?;
            let grad = elements(grad, grad_layout)?[0];
            let dx = kernels::cross_entropy_gradient(logits, targets, grad, classes);
            Ok(stored(dx, logits_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        logits_layout: &Layout,
        targets: &CudaStorage,
        targets_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (logits, targets) =
            (Array::new(logits, logits_layout), Array::new(targets, targets_layout));
        cuda::cross_entropy_gradient(logits, targets, Array::new(grad, grad_layout))
    }
}
