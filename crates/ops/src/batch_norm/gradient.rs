//! The backward pass of a batch norm, as two ops: the sums over the batch, then the gradient of the input.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};

use super::statistics::rows;
use super::{BatchNorm, NAME};
#[cfg(feature = "cuda")]
use crate::Activation;
use crate::activation;
use crate::add::add_gradients;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::storage::Float;
use crate::storage::{elements, stored, with_float};
use candle_vision_kernels::batch_norm::{self as kernels, Affine, Incoming, InputGradient, Relu};

impl BatchNorm {
    /// The gradients of the input (if `of_x`), of the affine parameters and of the residual, as far as they
    /// are needed. The gradient of the output is the sum of `grad` and `more`.
    pub(super) fn gradients(
        &self,
        x: &Tensor,
        of_x: bool,
        affine: &Tensor,
        residual: Option<&Tensor>,
        output: &Tensor,
        (grad, more): (&Tensor, Option<&Tensor>),
    ) -> Result<[Option<Tensor>; 3]> {
        let mut grad = grad.contiguous()?;
        let mut ceiling = self.activation.ceiling();
        let needs_sums = affine.track_op() || (of_x && self.of_batch);
        let mut sums = None;
        let of_residual =
            |grad: Tensor| residual.filter(|residual| residual.track_op()).map(|_| grad);
        let is_behind_sum = residual.is_some() && ceiling.is_some();
        #[cfg(feature = "cuda")]
        if needs_sums && x.device().is_cuda() {
            let behind = is_behind_sum.then_some(output);
            let found = self.sums_on_cuda(x, of_x, &grad, more, behind)?;
            if let Some(passed) = found.passed {
                (grad, ceiling) = (passed, None);
            }
            if found.dx.is_some() {
                let d_affine = affine.track_op().then_some(found.affine);
                return Ok([found.dx, d_affine, of_residual(grad)]);
            }
            sums = Some(found.affine);
        }
        if sums.is_none() {
            if let Some(more) = more {
                grad = add_gradients(&grad, more)?;
            }
            // The gradient behind the ReLU is also the residual's, so it is usually needed anyway.
            if let (true, Some(passed)) = (is_behind_sum, ceiling) {
                grad = activation::relu_gradient(output, &grad, passed)?;
                ceiling = None;
            }
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
        Ok([dx, d_affine, of_residual(grad)])
    }

    /// The sums of the backward pass by one kernel. Where `behind` is given, the output of a ReLU after a residual sum, that
    /// kernel also adds `more` to the gradient and computes the gradient behind the ReLU. For few rows, it computes the
    /// gradient of the input as well.
    #[cfg(feature = "cuda")]
    fn sums_on_cuda(
        &self,
        x: &Tensor,
        of_x: bool,
        grad: &Tensor,
        more: Option<&Tensor>,
        behind: Option<&Tensor>,
    ) -> Result<SumsOnCuda> {
        let grad = match more {
            Some(more) if behind.is_none() => &add_gradients(grad, more)?,
            _ => grad,
        };
        let more = more.map(Tensor::contiguous).transpose()?;
        let (kept_x, kept_grad) = (cuda::kept(x), cuda::kept(grad));
        let (kept_more, kept_output) = (more.as_ref().map(cuda::kept), behind.map(cuda::kept));
        let behind = match &kept_output {
            None => None,
            Some(output) => {
                let more = kept_more.as_ref().map(|more| more.array()).transpose()?;
                Some(cuda::BehindSum { more, output: output.array()? })
            }
        };
        let incoming = cuda::Incoming { grad: kept_grad.array()?, behind };
        let by = self.normalization(self.activation);
        let is_whole = of_x
            && self.of_batch
            && self.across.is_none()
            && cuda::is_of_few_rows(x, x.dim(D::Minus1)?);
        let (cuda::Sums { affine, passed }, dx) = if is_whole {
            let (sums, dx) = cuda::batch_norm_whole_gradient(kept_x.array()?, incoming, by)?;
            (sums, Some(dx))
        } else {
            (cuda::affine_gradient(kept_x.array()?, incoming, by)?, None)
        };
        let [passed, dx] = [passed, dx].map(|found| found.map(cuda::tensor));
        Ok(SumsOnCuda { affine: cuda::tensor(affine), passed, dx })
    }
}

/// What [`BatchNorm::sums_on_cuda`] found.
#[cfg(feature = "cuda")]
struct SumsOnCuda {
    /// The gradient of the affine parameters, `[2, channels]`.
    affine: Tensor,
    /// The gradient behind the ReLU after a residual sum.
    passed: Option<Tensor>,
    /// The gradient of the input.
    dx: Option<Tensor>,
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

/// The gradient of the affine parameters on the CPU, `[2, channels]`.
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
