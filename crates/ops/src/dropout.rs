//! Dropout from a seeded generator.
//!
//! candle draws dropout masks from a generator that cannot be seeded on the CPU, so a run with its dropout
//! cannot be repeated.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rand::Rng;

#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};
use crate::{Generator, check};
use candle_vision_kernels::dropout as kernels;

/// Sets each element to zero with the given probability and scales the others by
/// `1 / (1 - probability)`, which keeps the expected value (inverted dropout).
///
/// The mask depends only on the generator, with one draw per element. The same generator state gives the
/// same mask on any device and any number of threads. A probability of 0 draws nothing.
///
/// # Shapes
/// - `x`: any shape, `f32` or `f64`
/// - `probability`: a fraction in `0.0..=1.0`
///
/// # Errors
/// If `probability` is out of its range or `x` is not `f32` or `f64`.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_ops::{Generator, dropout};
/// use rand_chacha::rand_core::SeedableRng;
///
/// let x = Tensor::ones(1000, DType::F32, &Device::Cpu)?;
/// let y = dropout(&x, 0.5, &mut Generator::seed_from_u64(7))?;
/// assert!(y.to_vec1::<f32>()?.iter().all(|&y| y == 0.0 || y == 2.0));
/// # candle_core::Result::Ok(())
/// ```
pub fn dropout(x: &Tensor, probability: f64, rng: &mut Generator) -> Result<Tensor> {
    check::float(NAME, x)?;
    if !(0.0..=1.0).contains(&probability) {
        bail!("{NAME}: the probability is a fraction in 0..=1, got {probability}")
    }
    if probability == 0.0 {
        return Ok(x.clone());
    }
    let keep = Tensor::from_vec(keep_mask(x.elem_count(), probability, rng), x.dims(), x.device())?;
    let op = Keep { scale: scale(probability) };
    if is_emulated(x) {
        return apply2(&widened(x)?.contiguous()?, &keep, op)?.to_dtype(x.dtype());
    }
    apply2(&x.contiguous()?, &keep, op)
}

const NAME: &str = "dropout";

/// The mask: 1 where an element is kept, otherwise 0.
fn keep_mask(count: usize, probability: f64, rng: &mut Generator) -> Vec<u8> {
    let threshold = (probability * 2f64.powi(32)) as u64;
    (0..count).map(|_| u8::from(u64::from(rng.next_u32()) >= threshold)).collect()
}

fn scale(probability: f64) -> f64 {
    // At probability 1 nothing is kept, so the factor only has to be finite.
    if probability < 1.0 { 1.0 / (1.0 - probability) } else { 0.0 }
}

/// Multiplies by `scale` where the mask is 1 and by 0 elsewhere. It is linear, so its gradient is the same
/// op.
#[derive(Clone, Copy)]
struct Keep {
    scale: f64,
}

impl Footprint for Keep {}

impl CustomOp2 for Keep {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        keep: &CpuStorage,
        keep_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let keep = elements(keep, keep_layout)?;
        with_float!(NAME, x, T => {
            let y = kernels::keep::<T>(elements(x, x_layout)?, keep, self.scale);
            Ok(stored(y, x_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        keep: &CudaStorage,
        keep_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::keep(Array::new(x, x_layout), Array::new(keep, keep_layout), self.scale)
    }

    fn bwd(
        &self,
        _x: &Tensor,
        keep: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = grad.contiguous()?.apply_op2_no_bwd(keep, self)?;
        Ok((Some(dx), None))
    }
}
