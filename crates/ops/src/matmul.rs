//! Products of matrices or of batches of matrices, on the tape.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::gemm::{Stacked, batched_product};
use candle_vision_kernels::rearrange::Places;

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::mul::broadcast;
use crate::rearrange::along;
use crate::reshape;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};

/// The product of two matrices, or of each pair of two batches of matrices.
///
/// # Shapes
/// - `x`: `[.., rows, inner]`, `y`: `[.., inner, columns]`, of one float type; the leading axes are
///   equal, or broadcast as in [`mul`](crate::mul())
/// - returns `[.., rows, columns]`
///
/// # Errors
/// If a rank is below 2, a size does not fit, an input is empty, or the number types differ.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::matmul;
///
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[1f32], [10.0]], &Device::Cpu)?;
/// assert_eq!(matmul(&x, &y)?.to_vec2::<f32>()?, [[21.0], [43.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn matmul(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check::float(NAME, x)?;
    check::float(NAME, y)?;
    if x.dtype() != y.dtype() {
        bail!("{NAME}: x is {:?}, y is {:?}", x.dtype(), y.dtype())
    }
    let (&[ref x_batch @ .., rows, inner], &[ref y_batch @ .., inner_y, columns]) =
        (x.dims(), y.dims())
    else {
        bail!("{NAME}: expected matrices, got {:?} and {:?}", x.dims(), y.dims())
    };
    if inner != inner_y || [rows, inner, columns].contains(&0) {
        bail!("{NAME}: {:?} and {:?} have no product", x.dims(), y.dims())
    }
    let batch = broadcast(NAME, x_batch, y_batch)?;
    if is_emulated(x) {
        return matmul(&widened(x)?, &widened(y)?)?.to_dtype(x.dtype());
    }
    let output = [&batch[..], &[rows, columns]].concat();
    let count: usize = batch.iter().product();
    let x = repeated(x, &batch)?;
    // If the right side is one matrix, all rows on the left form one matrix.
    let is_shared = y_batch.iter().all(|&size| size == 1);
    let (count, rows) = if is_shared { (1, count * rows) } else { (count, rows) };
    let y = if is_shared { y.contiguous()? } else { repeated(y, &batch)? };
    let sizes = [Stacked::new(rows, inner), Stacked::new(inner, columns)];
    apply2(&x, &y, Matmul { batch: count, sizes, output })
}

/// `x` with its leading axes repeated to `batch`, made contiguous.
fn repeated(x: &Tensor, batch: &[usize]) -> Result<Tensor> {
    let (leading, matrix) = x.dims().split_at(x.rank() - 2);
    if leading == batch {
        return x.contiguous();
    }
    let missing = batch.len() - leading.len();
    let padded = [&vec![1; missing][..], leading, matrix].concat();
    let repeat = |axis: usize| {
        (padded[axis] != batch[axis]).then(|| (axis, Places::Repeated { outputs: batch[axis] }))
    };
    let axes: Vec<_> = (0..batch.len()).filter_map(repeat).collect();
    along(NAME, &reshape(x, padded)?, axes, 0.0)
}

const NAME: &str = "matmul";

/// The product of stacked matrices, independent of the tensors' shapes.
struct Matmul {
    batch: usize,
    sizes: [Stacked; 2],
    output: Vec<usize>,
}

impl Footprint for Matmul {}

impl CustomOp2 for Matmul {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [of_x, of_y] = self.sizes;
        with_float!(NAME, x, T => {
            let (x, y) = (elements::<T>(x, x_layout)?, elements(y, y_layout)?);
            let product = batched_product(x, of_x, y, of_y, self.batch);
            Ok(stored(product, self.output.as_slice()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, y) = (Array::new(x, x_layout), Array::new(y, y_layout));
        cuda::matmul(x, y, self.batch, self.sizes, &self.output)
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _product: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let ([of_x, of_y], batch) = (self.sizes, self.batch);
        let of_product = Stacked::new(of_x.rows, of_y.cols);
        let (to_x, to_y) = (x.dims().to_vec(), y.dims().to_vec());
        let of_x = Self { batch, sizes: [of_product, of_y.transposed()], output: to_x };
        let of_y = Self { batch, sizes: [self.sizes[0].transposed(), of_product], output: to_y };
        let dx = x.track_op().then(|| gradient.apply_op2_no_bwd(y, &of_x)).transpose()?;
        let dy = y.track_op().then(|| x.apply_op2_no_bwd(&gradient, &of_y)).transpose()?;
        Ok((dx, dy))
    }
}
