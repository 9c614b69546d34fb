//! Fully connected layers for inference, whose weight is packed once.

use std::fmt;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::check;
use crate::kept_bytes::bytes;
use crate::storage::{elements, kept, stored};
use candle_vision_kernels::gemm::{Matrix, PackedMatrix};

/// A fully connected layer whose weight does not change, packed for the kernels of the CPU.
///
/// It is for evaluation: no gradient flows through it. It keeps a copy of the weight and does not notice changes of the
/// original. It pays where many rows are multiplied by the weight, as with the tokens of a transformer.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::PreparedLinear;
///
/// # fn main() -> candle_core::Result<()> {
/// let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5f32, 0.0, 0.0], &Device::Cpu)?;
/// let linear = PreparedLinear::new(&weight, Some(&bias))?;
/// let y = linear.forward(&Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.5, 2.0, 3.0]]);
/// # Ok(())
/// # }
/// ```
pub struct PreparedLinear {
    /// `[in_features, out_features]`.
    weight: PackedMatrix,
    bias: Option<Tensor>,
    in_features: usize,
    out_features: usize,
}

impl fmt::Debug for PreparedLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_features, out_features, bias, .. } = self;
        let mut f = f.debug_struct("PreparedLinear");
        f.field("in_features", in_features).field("out_features", out_features);
        f.field("bias", &bias.is_some()).finish_non_exhaustive()
    }
}

impl PreparedLinear {
    /// Packs `weight`, `[out_features, in_features]` of `f32` on the CPU.
    ///
    /// # Errors
    /// If the weight has another rank, number type or device or is empty, or the bias is not `[out_features]`.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (out_features, in_features) = weight.dims2()?;
        if !Self::is_for(weight) {
            let (dtype, device) = (weight.dtype(), weight.device().location());
            bail!("{NAME}: weight is f32 on the CPU, got {dtype:?} on {device:?}; use `linear`")
        }
        if weight.elem_count() == 0 {
            bail!("{NAME}: no elements in weight {:?}", weight.dims())
        }
        // A copy, because training changes a variable's own memory.
        let copied = |bias: &Tensor| {
            check::matches(NAME, "bias", bias, &[out_features], weight)?;
            bias.detach().copy()
        };
        let bias = bias.map(copied).transpose()?;
        let weight = weight.contiguous()?;
        let weight = kept(&weight);
        let matrix = Matrix::new(weight.elements::<f32>()?, out_features, in_features);
        let weight = PackedMatrix::new(matrix.transposed());
        Ok(Self { weight, bias, in_features, out_features })
    }

    /// Bytes that the layer keeps.
    pub fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_ref().map_or(0, bytes)
    }

    /// Whether a tensor is of the number type and on the device that such a layer is for.
    pub fn is_for(x: &Tensor) -> bool {
        x.dtype() == DType::F32 && x.device().is_cpu()
    }

    /// `x * weight^T + bias` along the last axis of `x`.
    ///
    /// # Shapes
    /// - `x`: `[.., in_features]`, `f32` on the CPU
    /// - returns `[.., out_features]`
    ///
    /// # Errors
    /// If `x` has another last dimension, number type or device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.dims().last() != Some(&self.in_features) || !Self::is_for(x) {
            bail!(
                "{NAME}: x has {} features of f32 on the CPU, got {:?} of {:?} on {:?}",
                self.in_features,
                x.dims(),
                x.dtype(),
                x.device().location()
            )
        }
        x.contiguous()?.apply_op1_no_bwd(&Forward(self))
    }
}

const NAME: &str = "prepared linear";

struct Forward<'a>(&'a PreparedLinear);

impl CustomOp1 for Forward<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let PreparedLinear { weight, bias, in_features, out_features } = self.0;
        let mut dims = layout.dims().to_vec();
        dims.pop();
        let rows = dims.iter().product();
        dims.push(*out_features);
        let bias = bias.as_ref().map(kept);
        let bias = bias.as_ref().map(|bias| bias.elements::<f32>()).transpose()?;
        let x = Matrix::new(elements(x, layout)?, rows, *in_features);
        Ok(stored(weight.product(x, bias), dims))
    }
}
