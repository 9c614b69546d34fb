//! The way back through a batch norm, as two ops: sums over the batch, then the gradient of the input.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType};

use super::{BatchNorm, NAME, channels, rows};
use crate::cpu::batch_norm::{self as kernels, Incoming, InputGradient};
use crate::cpu::float::Float;
use crate::cpu::storage::{elements, stored, with_float};
use crate::{Activation, activation};

impl BatchNorm {
    /// The gradients of the input, the affine parameters and the residual, as far as they are needed.
    pub(super) fn gradients(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let mut grad = grad.contiguous()?;
        let mut relu_is_ahead = self.activation == Activation::Relu;
        let of_residual = residual.is_some_and(Tensor::track_op);
        if of_residual && relu_is_ahead {
            // This is the residual's gradient, so it has to be stored in any case.
            grad = activation::relu_gradient(output, &grad)?;
            relu_is_ahead = false;
        }
        let backward = Backward { op: self, relu_is_ahead };
        let of_x = x.track_op();
        let sums = if affine.track_op() || (of_x && self.of_batch) {
            Some(x.apply_op3_no_bwd(&grad, output, &AffineGradient(&backward))?)
        } else {
            None
        };
        let dx = if of_x {
            let op = XGradient { backward: &backward, affine, sums: sums.as_ref() };
            Some(x.apply_op3_no_bwd(&grad, output, &op)?)
        } else {
            None
        };
        let d_affine = sums.filter(|_| affine.track_op());
        Ok([dx, d_affine, of_residual.then_some(grad)])
    }
}

/// What both ops know. They take the input, the gradient of the output, and the output.
struct Backward<'a> {
    op: &'a BatchNorm,
    /// Whether the gradient has yet to pass the ReLU.
    relu_is_ahead: bool,
}

impl Backward<'_> {
    fn incoming<'a, T: WithDType>(
        &self,
        grad: (&'a CpuStorage, &Layout),
        output: (&'a CpuStorage, &Layout),
    ) -> Result<Incoming<'a, T>> {
        let grad = elements(grad.0, grad.1)?;
        let output = elements(output.0, output.1)?;
        Ok(Incoming { grad, relu_output: self.relu_is_ahead.then_some(output) })
    }
}

/// The gradient of the affine parameters, `[2, channels]`.
struct AffineGradient<'a>(&'a Backward<'a>);

impl CustomOp3 for AffineGradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
        output: &CpuStorage,
        output_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let op = self.0.op;
        with_float!(NAME, x, T => {
            let incoming = self.0.incoming::<T>((grad, grad_layout), (output, output_layout))?;
            let (mean, inv_std) = (op.mean.to_vec1::<T>()?, op.inv_std::<T>()?);
            let x = elements(x, x_layout)?;
            let gradient = kernels::affine_gradient(x, incoming, &mean, &inv_std);
            Ok(stored(rows::<T>(gradient), (2, mean.len())))
        })
    }
}

/// The gradient of the input.
struct XGradient<'a> {
    backward: &'a Backward<'a>,
    affine: &'a Tensor,
    /// The gradient of the affine parameters, there if the statistics are those of the batch.
    sums: Option<&'a Tensor>,
}

impl XGradient<'_> {
    fn kernel<T: Float>(&self, count: usize) -> Result<InputGradient<T>> {
        let op = self.backward.op;
        let weight = self.affine.get(0)?.to_vec1()?;
        let inv_std = op.inv_std::<T>()?;
        match self.sums {
            Some(sums) if op.of_batch => {
                let sums = sums.to_vec2()?;
                let mean = op.mean.to_vec1()?;
                let sums = [&sums[0][..], &sums[1][..]];
                Ok(InputGradient::of_batch_statistics(&weight, &mean, &inv_std, sums, count))
            }
            _ => Ok(InputGradient::of_constant_statistics(&weight, &inv_std)),
        }
    }
}

impl CustomOp3 for XGradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
        output: &CpuStorage,
        output_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, x, T => {
            let incoming = self.backward.incoming::<T>((grad, grad_layout), (output, output_layout))?;
            let x = elements(x, x_layout)?;
            let gradient = self.kernel(x.len() / channels(x_layout))?;
            Ok(stored(gradient.apply(x, incoming), x_layout.shape()))
        })
    }
}
