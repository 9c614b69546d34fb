//! Scaled dot-product attention with the softmax in the same op.

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::attention::{self as kernels, AttentionShape, Scores};
use candle_vision_kernels::float::Float;

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{all_widened, is_emulated, widened};
use crate::storage::{elements, kept, stored, with_float};
use crate::tape::{Footprint, apply1, apply2};

/// How [`attention`] makes the scores.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AttentionOptions<'a> {
    /// Number of heads.
    pub heads: usize,
    /// Factor of the products of queries and keys. `None` means `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// `[heads, tokens, tokens]`, added to the scaled products. It gets a gradient.
    pub bias: Option<&'a Tensor>,
    /// `[windows, tokens, tokens]`, added likewise, for example minus infinity where a query must not see a
    /// key. Image `b` of the batch takes matrix `b % windows`. It gets no gradient.
    pub mask: Option<&'a Tensor>,
}

impl<'a> AttentionOptions<'a> {
    /// The default scale, no bias and no mask.
    pub fn new(heads: usize) -> Self {
        Self { heads, scale: None, bias: None, mask: None }
    }

    /// Sets the [`scale`](Self::scale).
    pub fn scale(self, scale: f64) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// Sets the [`bias`](Self::bias).
    pub fn bias(self, bias: &'a Tensor) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Sets the [`mask`](Self::mask).
    pub fn mask(self, mask: &'a Tensor) -> Self {
        Self { mask: Some(mask), ..self }
    }
}

/// `softmax(scale * q * k^T + bias + mask) * v` of every head (Vaswani et al. 2017,
/// <https://arxiv.org/abs/1706.03762>).
///
/// The matrix of scores is not kept. The backward pass computes it again, block by block on the CPU. A query
/// whose scores are all minus infinity gives zeros, as in PyTorch.
///
/// # Shapes
/// - `qkv`: `[batch, tokens, 3 * heads * head_dim]`, the queries of all heads, then the keys, then the
///   values, as one linear layer computes them
/// - bias and mask: see [`AttentionOptions`]; of the number type of `qkv`
/// - returns `[batch, tokens, heads * head_dim]`
///
/// # Errors
/// If a shape or number type does not fit, `qkv` is empty, or the scale is not finite.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{AttentionOptions, attention};
///
/// // One head with one feature. Both keys are equal, so both tokens get the mean of the values.
/// let qkv = Tensor::new(&[[[1f32, 2.0, 10.0], [5.0, 2.0, 20.0]]], &Device::Cpu)?;
/// let y = attention(&qkv, &AttentionOptions::new(1))?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[15.0], [15.0]]]);
///
/// // A causal mask: the first token sees only itself.
/// let none = f32::NEG_INFINITY;
/// let mask = Tensor::new(&[[[0f32, none], [0.0, 0.0]]], &Device::Cpu)?;
/// let y = attention(&qkv, &AttentionOptions::new(1).mask(&mask))?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[10.0], [15.0]]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn attention(qkv: &Tensor, options: &AttentionOptions<'_>) -> Result<Tensor> {
    let (shape, scale) = check(qkv, options)?;
    if is_emulated(qkv) {
        let (bias, mask) = (all_widened(options.bias)?, all_widened(options.mask)?);
        let (bias, mask) = (bias.as_ref(), mask.as_ref());
        let options = AttentionOptions { bias, mask, ..*options };
        return attention(&widened(qkv)?, &options)?.to_dtype(qkv.dtype());
    }
    let mask = options.mask.map(|mask| mask.detach().contiguous()).transpose()?;
    let op = Attention { shape, scale, mask, statistics: OnceLock::new() };
    let qkv = qkv.contiguous()?;
    match options.bias {
        None => apply1(&qkv, op),
        Some(bias) => apply2(&qkv, &bias.contiguous()?, op),
    }
}

const NAME: &str = "attention";

fn check(qkv: &Tensor, options: &AttentionOptions<'_>) -> Result<(AttentionShape, f64)> {
    check::float(NAME, qkv)?;
    let heads = options.heads;
    let &[batch, tokens, width] = qkv.dims() else {
        bail!("{NAME}: qkv is [batch, tokens, 3 * heads * head_dim], got {:?}", qkv.dims())
    };
    let head_dim = match heads.checked_mul(3) {
        Some(parts) if parts > 0 && width.is_multiple_of(parts) => width / parts,
        _ => bail!(
            "{NAME}: qkv {:?} has {width} features, which are not queries, keys and values of {heads} heads",
            qkv.dims()
        ),
    };
    if qkv.elem_count() == 0 {
        bail!("{NAME}: no elements in qkv {:?}", qkv.dims())
    }
    if let Some(bias) = options.bias {
        check::matches(NAME, "bias", bias, &[heads, tokens, tokens], qkv)?;
    }
    if let Some(mask) = options.mask {
        let windows = match *mask.dims() {
            [windows, rows, columns] if windows > 0 && [rows, columns] == [tokens, tokens] => {
                windows
            }
            _ => bail!(
                "{NAME}: expected mask of shape [windows, {tokens}, {tokens}], got {:?}",
                mask.dims()
            ),
        };
        check::matches(NAME, "mask", mask, &[windows, tokens, tokens], qkv)?;
    }
    let scale = options.scale.unwrap_or_else(|| 1.0 / (head_dim as f64).sqrt());
    if !scale.is_finite() {
        bail!("{NAME}: the scale is a finite number, got {scale}")
    }
    Ok((AttentionShape { batch, tokens, heads, head_dim }, scale))
}

struct Attention {
    shape: AttentionShape,
    scale: f64,
    mask: Option<Tensor>,
    /// Two numbers for each row of scores, which only the CPU keeps.
    statistics: OnceLock<Tensor>,
}

impl Attention {
    fn output_dims(&self) -> (usize, usize, usize) {
        let AttentionShape { batch, tokens, heads, head_dim } = self.shape;
        (batch, tokens, heads * head_dim)
    }

    fn forward(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, qkv, T => {
            let bias = bias.map(|(bias, layout)| elements::<T>(bias, layout)).transpose()?;
            let mask = self.mask.as_ref().map(kept);
            let mask = mask.as_ref().map(|mask| mask.elements::<T>()).transpose()?;
            let scores = Scores { scale: <T as Float>::narrow(self.scale), bias, mask };
            let (y, statistics) = kernels::attention(elements(qkv, layout)?, &self.shape, &scores);
            // An op runs its forward pass only once.
            let rows = statistics.len();
            let _ = self.statistics.set(Tensor::from_vec(statistics, rows, &Device::Cpu)?);
            Ok(stored(y, self.output_dims()))
        })
    }

    #[cfg(feature = "cuda")]
    fn forward_on_cuda(
        &self,
        qkv: Array<'_>,
        bias: Option<Array<'_>>,
    ) -> Result<(CudaStorage, Shape)> {
        let mask = self.mask.as_ref().map(cuda::kept);
        let mask = mask.as_ref().map(|mask| mask.array()).transpose()?;
        let scores = cuda::Scores { scale: self.scale, bias, mask };
        cuda::attention(qkv, &self.shape, &scores)
    }

    fn gradients(
        &self,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_bias = bias.is_some_and(Tensor::track_op);
        if !qkv.track_op() && !of_bias {
            return Ok((None, None));
        }
        let op = Gradient { attention: self, bias, of_bias, found: OnceLock::new() };
        let dqkv = qkv.apply_op2_no_bwd(&grad.contiguous()?, &op)?;
        Ok((Some(dqkv), op.found.into_inner()))
    }
}

impl Footprint for Attention {
    fn held(&self) -> Vec<&Tensor> {
        self.statistics.get().into_iter().chain(&self.mask).collect()
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(qkv, layout, None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, qkv: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward_on_cuda(Array::new(qkv, layout), None)
    }

    fn bwd(&self, qkv: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(qkv, None, grad)?.0)
    }
}

impl CustomOp2 for Attention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(qkv, qkv_layout, Some((bias, bias_layout)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        qkv: &CudaStorage,
        qkv_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let bias = Array::new(bias, bias_layout);
        self.forward_on_cuda(Array::new(qkv, qkv_layout), Some(bias))
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(qkv, Some(bias), grad)
    }
}

/// The gradient of `qkv`, and that of the bias beside it. Its arguments are `qkv` and the output's gradient.
struct Gradient<'a> {
    attention: &'a Attention,
    bias: Option<&'a Tensor>,
    of_bias: bool,
    /// The gradient of the bias. An op has only one result of its own.
    found: OnceLock<Tensor>,
}

impl CustomOp2 for Gradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Attention { shape, scale, mask, statistics } = self.attention;
        let Some(statistics) = statistics.get() else {
            bail!("{NAME}: a gradient before the values")
        };
        let (bias, mask) = (self.bias.map(kept), mask.as_ref().map(kept));
        let statistics = kept(statistics);
        with_float!(NAME, qkv, T => {
            let bias = bias.as_ref().map(|bias| bias.elements::<T>()).transpose()?;
            let mask = mask.as_ref().map(|mask| mask.elements::<T>()).transpose()?;
            let scores = Scores { scale: <T as Float>::narrow(*scale), bias, mask };
            let (qkv, grad) = (elements::<T>(qkv, qkv_layout)?, elements(grad, grad_layout)?);
            let statistics = statistics.elements()?;
            let of_bias = self.of_bias;
            let found =
                kernels::attention_gradients(qkv, statistics, grad, shape, &scores, of_bias);
            if let Some(dbias) = found.bias {
                let dims = (shape.heads, shape.tokens, shape.tokens);
                let _ = self.found.set(Tensor::from_vec(dbias, dims, &Device::Cpu)?);
            }
            Ok(stored(found.qkv, qkv_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        qkv: &CudaStorage,
        qkv_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let Attention { shape, scale, mask, .. } = self.attention;
        let (bias, mask) = (self.bias.map(cuda::kept), mask.as_ref().map(cuda::kept));
        let bias = bias.as_ref().map(|bias| bias.array()).transpose()?;
        let mask = mask.as_ref().map(|mask| mask.array()).transpose()?;
        let scores = cuda::Scores { scale: *scale, bias, mask };
        let (qkv, grad) = (Array::new(qkv, qkv_layout), Array::new(grad, grad_layout));
        let (dqkv, dbias) = cuda::attention_gradients(qkv, grad, shape, &scores, self.of_bias)?;
        if let Some(dbias) = dbias {
            let _ = self.found.set(dbias);
        }
        Ok(dqkv)
    }
}
