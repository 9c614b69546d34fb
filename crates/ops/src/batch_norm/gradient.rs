//! The backward pass of a batch norm, as two ops: the sums over the batch, then the gradient of the input.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};

use super::statistics::rows;
use super::{BatchNorm, NAME};
#[cfg(feature = "cuda")]
use crate::Activation;
use crate::activation;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::storage::Float;
use crate::storage::{elements, stored, with_float};
use candle_vision_kernels::batch_norm::{self as kernels, Affine, Incoming, InputGradient, Relu};

impl BatchNorm {
    /// The gradients of the input (if `of_x`), of the affine parameters and of the residual, as far as they
    /// are needed.
    pub(super) fn gradients(
        &self,
        x: &Tensor,
        of_x: bool,
        affine: &Tensor,
        residual: Option<&Tensor>,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let mut grad = grad.contiguous()?;
        let mut ceiling = self.activation.ceiling();
        let needs_sums = affine.track_op() || (of_x && self.of_batch);
        let mut sums = None;
        if let (Some(_), Some(passed)) = (residual, ceiling) {
            // The gradient behind the ReLU is also the residual's, so it is usually needed anyway.
            #[cfg(feature = "cuda")]
            if needs_sums && x.device().is_cuda() {
                let (of_affine, behind) = self.affine_gradient_and_passed(x, &grad, output)?;
                (sums, grad) = (Some(of_affine), behind);
            }
            if sums.is_none() {
                grad = activation::relu_gradient(output, &grad, passed)?;
            }
            ceiling = None;
        }
        let backward = Backward { op: self, ceiling };
        if needs_sums && sums.is_none() {
            sums = Some(x.apply_op2_no_bwd(&grad, &AffineGradient(&backward))?);
        }
        // The sums over all ranks, and the number of values behind them.
        let across = self.across.as_ref().filter(|_| of_x);
        let of_all =
            across.zip(sums.as_ref()).map(|(across, sums)| across.sum(sums)).transpose()?;
        let dx = if of_x {
            let (sums, count) = match &of_all {
                Some((sums, count)) => (Some(sums), *count),
                None => (sums.as_ref(), x.elem_count() / x.dim(D::Minus1)?),
            };
            let op = XGradient { backward: &backward, sums, count };
            Some(x.apply_op2_no_bwd(&grad, &op)?)
        } else {
            None
        };
        let d_affine = sums.filter(|_| affine.track_op());
        Ok([dx, d_affine, residual.filter(|residual| residual.track_op()).map(|_| grad)])
    }

    /// The gradient of the affine parameters, and the gradient of the output behind the ReLU, which comes after a residual
    /// sum. On a card, one kernel computes both.
    #[cfg(feature = "cuda")]
    fn affine_gradient_and_passed(
        &self,
        x: &Tensor,
        grad: &Tensor,
        output: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (x, grad, output) = (cuda::kept(x), cuda::kept(grad), cuda::kept(output));
        let by = self.normalization(self.activation);
        let (sums, passed) =
            cuda::affine_gradient(x.array()?, grad.array()?, Some(output.array()?), by)?;
        let passed =
            passed.ok_or_else(|| candle_core::Error::msg("no gradient behind the ReLU"))?;
        Ok((cuda::tensor(sums), cuda::tensor(passed)))
    }
}

/// The values that both ops share. Their arguments are the input and the gradient of the output.
struct Backward<'a> {
    op: &'a BatchNorm,
    /// The ceiling of the ReLU, if the gradient has not passed the ReLU yet.
    ceiling: Option<f64>,
}

impl Backward<'_> {
    /// The op's statistics. The ReLU is included only if the gradient has not passed it yet.
    #[cfg(feature = "cuda")]
    fn normalization(&self) -> cuda::Normalization<'_> {
        let activation =
            if self.ceiling.is_some() { self.op.activation } else { Activation::Identity };
        self.op.normalization(activation)
    }

    /// The function that computes the ReLU's input, and its ceiling, if the gradient has not passed the
    /// ReLU yet.
    fn relu<T: Float>(&self) -> Result<Option<(Affine<T>, T)>> {
        let Some(ceiling) = self.ceiling else {
            return Ok(None);
        };
        Ok(Some((self.op.scale_and_shift()?, T::narrow(ceiling))))
    }
}

fn incoming<'a, T: Float>(grad: &'a [T], relu: Option<&'a (Affine<T>, T)>) -> Incoming<'a, T> {
    let relu = relu.map(|(affine, ceiling)| Relu { affine, ceiling: *ceiling });
    Incoming { grad, relu }
}

/// The gradient of the affine parameters, `[2, channels]`.
struct AffineGradient<'a>(&'a Backward<'a>);

impl CustomOp2 for AffineGradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let op = self.0.op;
        with_float!(NAME, x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let relu = self.0.relu()?;
            let incoming = incoming(grad, relu.as_ref());
            let (mean, inv_std) = (op.mean.to_vec1::<T>()?, op.inv_std::<T>()?);
            let gradient = kernels::affine_gradient(x, incoming, &mean, &inv_std);
            Ok(stored(rows::<T>(gradient), (2, mean.len())))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, grad) = (Array::new(x, x_layout), Array::new(grad, grad_layout));
        Ok(cuda::affine_gradient(x, grad, None, self.0.normalization())?.0)
    }
}

/// The gradient of the input.
struct XGradient<'a> {
    backward: &'a Backward<'a>,
    /// The gradient of the affine parameters. `None` unless the statistics are those of the batch.
    sums: Option<&'a Tensor>,
    /// Number of values per channel behind the statistics.
    count: usize,
}

impl XGradient<'_> {
    fn kernel<T: Float>(&self) -> Result<InputGradient<T>> {
        let op = self.backward.op;
        let weight = op.weight.to_vec1()?;
        let inv_std = op.inv_std::<T>()?;
        match self.sums {
            Some(sums) if op.of_batch => {
                let sums = sums.to_vec2()?;
                let mean = op.mean.to_vec1()?;
                let sums = [&sums[0][..], &sums[1][..]];
                Ok(kernels::of_batch_statistics(&weight, &mean, &inv_std, sums, self.count))
            }
            _ => Ok(kernels::of_constant_statistics(&weight, &inv_std)),
        }
    }
}

impl CustomOp2 for XGradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let relu = self.backward.relu()?;
            let incoming = incoming(grad, relu.as_ref());
            let gradient = self.kernel()?;
            Ok(stored(kernels::input_gradient(x, &gradient, incoming), x_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sums = self.sums.filter(|_| self.backward.op.of_batch);
        cuda::batch_norm_input_gradient(
            Array::new(x, x_layout),
            Array::new(grad, grad_layout),
            sums.map(|sums| (sums, self.count)),
            self.backward.normalization(),
        )
    }
}
