//! The way back through a batch norm, as two ops: sums over the batch, then the gradient of the input.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{BatchNorm, NAME, channels, rows};
use crate::cpu::batch_norm::{self as kernels, Affine, Incoming, InputGradient};
use crate::cpu::float::Float;
use crate::cpu::storage::{elements, stored, with_float};
use crate::{Activation, activation};

impl BatchNorm {
    /// The gradients of the input (if `of_x`), the affine parameters and the residual, as far as they
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
        let mut relu_is_ahead = self.activation == Activation::Relu;
        if residual.is_some() && relu_is_ahead {
            // This is the residual's gradient, so it is mostly wanted in any case.
            grad = activation::relu_gradient(output, &grad)?;
            relu_is_ahead = false;
        }
        let backward = Backward { op: self, affine, relu_is_ahead };
        let sums = if affine.track_op() || (of_x && self.of_batch) {
            Some(x.apply_op2_no_bwd(&grad, &AffineGradient(&backward))?)
        } else {
            None
        };
        let dx = if of_x {
            let op = XGradient { backward: &backward, sums: sums.as_ref() };
            Some(x.apply_op2_no_bwd(&grad, &op)?)
        } else {
            None
        };
        let d_affine = sums.filter(|_| affine.track_op());
        Ok([dx, d_affine, residual.filter(|residual| residual.track_op()).map(|_| grad)])
    }
}

/// What both ops know. They take the input and the gradient of the output.
struct Backward<'a> {
    op: &'a BatchNorm,
    affine: &'a Tensor,
    /// Whether the gradient has yet to pass the ReLU.
    relu_is_ahead: bool,
}

impl Backward<'_> {
    /// What the ReLU that the gradient has yet to pass was given.
    fn relu_of<T: Float>(&self) -> Result<Option<Affine<T>>> {
        if !self.relu_is_ahead {
            return Ok(None);
        }
        let affine = self.affine.flatten_all()?.to_vec1()?;
        self.op.scale_and_shift(&affine).map(Some)
    }
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
            let relu_of = self.0.relu_of()?;
            let incoming = Incoming { grad, relu_of: relu_of.as_ref() };
            let (mean, inv_std) = (op.mean.to_vec1::<T>()?, op.inv_std::<T>()?);
            let gradient = kernels::affine_gradient(x, incoming, &mean, &inv_std);
            Ok(stored(rows::<T>(gradient), (2, mean.len())))
        })
    }
}

/// The gradient of the input.
struct XGradient<'a> {
    backward: &'a Backward<'a>,
    /// The gradient of the affine parameters, there if the statistics are those of the batch.
    sums: Option<&'a Tensor>,
}

impl XGradient<'_> {
    fn kernel<T: Float>(&self, count: usize) -> Result<InputGradient<T>> {
        let op = self.backward.op;
        let weight = self.backward.affine.get(0)?.to_vec1()?;
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
            let relu_of = self.backward.relu_of()?;
            let incoming = Incoming { grad, relu_of: relu_of.as_ref() };
            let gradient = self.kernel(x.len() / channels(x_layout))?;
            Ok(stored(gradient.apply(x, incoming), x_layout.shape()))
        })
    }
}
