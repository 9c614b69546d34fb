//! Dropout and stochastic depth from a seeded generator.
//!
//! candle draws dropout masks from a generator that cannot be seeded on the CPU, so a run with its dropout
//! cannot be repeated.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};
use rand::Rng;

#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};
use crate::{Generator, cast, check, mul};
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
    let keep = keep_mask(x.elem_count(), probability, rng, x.device())?.reshape(x.dims())?;
    let op = Keep { scale: scale(probability) };
    if is_emulated(x) {
        return apply2(&widened(x)?.contiguous()?, &keep, op)?.to_dtype(x.dtype());
    }
    apply2(&x.contiguous()?, &keep, op)
}

const NAME: &str = "dropout";

/// Sets each row to zero with the given probability and scales the others by `1 / (1 - probability)` (stochastic depth,
/// Huang et al. 2016, in torchvision's mode `row`). A row is what belongs to one index of the first dimension.
///
/// Which rows are kept depends only on the generator, with one number in `0.0..1.0` per row. The same generator state
/// keeps the same rows on any device. A probability of 0 draws nothing.
///
/// # Shapes
/// - `x`: `[batch, ..]`, floats
/// - `probability`: a fraction in `0.0..1.0`
///
/// # Errors
/// If `probability` is out of its range, or `x` holds no floats or has no dimension.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_ops::{Generator, drop_rows};
/// use rand_chacha::rand_core::SeedableRng;
///
/// let x = Tensor::ones((8, 2), DType::F32, &Device::Cpu)?;
/// let y = drop_rows(&x, 0.5, &mut Generator::seed_from_u64(7))?;
/// assert!(y.to_vec2::<f32>()?.iter().all(|row| row == &[0.0, 0.0] || row == &[2.0, 2.0]));
/// # candle_core::Result::Ok(())
/// ```
pub fn drop_rows(x: &Tensor, probability: f64, rng: &mut Generator) -> Result<Tensor> {
    check::float(ROWS, x)?;
    if !(0.0..1.0).contains(&probability) {
        bail!("{ROWS}: the probability is a fraction in 0..1, got {probability}")
    }
    let Some(&rows) = x.dims().first() else { bail!("{ROWS}: a single number has no rows") };
    if probability == 0.0 {
        return Ok(x.clone());
    }
    let mut shape = vec![1; x.rank()];
    shape[0] = rows;
    let factors = row_factors(rows, 1.0 - probability, rng, x.device())?;
    mul(x, &cast(&factors.reshape(shape)?, x.dtype())?)
}

const ROWS: &str = "drop_rows";

/// The mask: 1 where an element is kept, otherwise 0.
fn keep_mask(
    count: usize,
    probability: f64,
    rng: &mut Generator,
    device: &Device,
) -> Result<Tensor> {
    let threshold = (probability * 2f64.powi(32)) as u64;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return cuda::random_kept(device, count, threshold, rng);
    }
    let keep = (0..count).map(|_| u8::from(u64::from(rng.next_u32()) >= threshold));
    Tensor::from_vec(keep.collect(), count, device)
}

/// `[rows]`: 0, or what makes up for it, with the probability `kept`.
fn row_factors(rows: usize, kept: f64, rng: &mut Generator, device: &Device) -> Result<Tensor> {
    let factor = (1.0 / kept) as f32;
    // Below this are as many of the numbers with 53 bits as fractions of 53 bits are below `kept`.
    let threshold = (kept * 2f64.powi(53)).ceil() as u64;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return cuda::row_factors(device, rows, threshold, factor, rng);
    }
    let factors = (0..rows).map(|_| if rng.next_u64() >> 11 < threshold { factor } else { 0.0 });
    Tensor::from_vec(factors.collect(), rows, device)
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
