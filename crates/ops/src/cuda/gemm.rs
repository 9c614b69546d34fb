//! Matrix products through cuBLAS.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t;
use candle_core::cuda_backend::cudarc::cublas::{GemmConfig, StridedBatchedConfig};
use candle_core::cuda_backend::cudarc::driver::{CudaView, CudaViewMut};
use candle_core::{CudaDevice, CudaStorage, Result, Shape, bail};
use candle_vision_kernels::gemm::Stacked;

use super::array::{Array, stored, unwritten};
use super::element::{Element, with_element};
use super::size::count;

/// A matrix in row-major memory, with `stride` elements from row to row. It may be used transposed.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, 'v, T> {
    view: &'a CudaView<'v, T>,
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, 'v, T> Matrix<'a, 'v, T> {
    pub(super) fn new(view: &'a CudaView<'v, T>, rows: usize, columns: usize) -> Self {
        Self { view, rows, columns, stride: columns, transposed: false }
    }

    /// Sets the distance between rows, for rows that are further apart than they are long.
    pub(super) fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    pub(super) fn transposed(self) -> Self {
        Self { transposed: true, ..self }
    }

    /// Rows and columns as used.
    fn size(&self) -> [usize; 2] {
        if self.transposed { [self.columns, self.rows] } else { [self.rows, self.columns] }
    }

    /// The operation for cuBLAS, which reads row-major memory as the transpose.
    fn operation(&self) -> cublasOperation_t {
        if self.transposed {
            cublasOperation_t::CUBLAS_OP_T
        } else {
            cublasOperation_t::CUBLAS_OP_N
        }
    }
}

/// `c = a * b`, or `c += a * b` if `add`. The rows of `c` are `c_stride` elements apart.
pub(super) fn product<T: Element>(
    device: &CudaDevice,
    a: Matrix<'_, '_, T>,
    b: Matrix<'_, '_, T>,
    c: &mut CudaViewMut<'_, T>,
    c_stride: usize,
    add: bool,
) -> Result<()> {
    let ([rows, inner], [inner_b, columns]) = (a.size(), b.size());
    let extent = |rows: usize, columns: usize, stride: usize| (rows - 1) * stride + columns;
    let fits = inner == inner_b
        && extent(a.rows, a.columns, a.stride) <= a.view.len()
        && extent(b.rows, b.columns, b.stride) <= b.view.len()
        && extent(rows, columns, c_stride) <= c.len();
    if !fits {
        bail!("product of [{rows}, {inner}] and [{inner_b}, {columns}]: a matrix is too small")
    }
    // Row-major matrices are the transposes of cuBLAS's column-major ones: c^T = b^T a^T.
    let config = GemmConfig {
        transa: b.operation(),
        transb: a.operation(),
        m: count("columns of a product", columns)?,
        n: count("rows of a product", rows)?,
        k: count("terms of a sum in a product", inner)?,
        alpha: T::ONE,
        lda: count("elements in a row", b.stride)?,
        ldb: count("elements in a row", a.stride)?,
        beta: if add { T::ONE } else { T::ZERO },
        ldc: count("elements in a row", c_stride)?,
    };
    // SAFETY: every matrix was just found to lie inside its view.
    unsafe { T::gemm(&device.cublas_handle(), config, b.view, a.view, c) }.w()
}

/// The product of each of `batch` pairs of stacked matrices.
pub(crate) fn matmul(
    a: Array<'_>,
    b: Array<'_>,
    batch: usize,
    [of_a, of_b]: [Stacked; 2],
    dims: &[usize],
) -> Result<(CudaStorage, Shape)> {
    const NAME: &str = "matmul";
    let device = a.device();
    let ([rows, inner], [inner_b, columns]) = (of_a.size(), of_b.size());
    let fits = inner == inner_b
        && a.len() == batch * rows * inner
        && b.len() == batch * inner * columns
        && dims.iter().product::<usize>() == batch * rows * columns;
    if !fits {
        bail!("{NAME}: {batch} products of {of_a:?} and {of_b:?} do not fit {:?}", a.dims())
    }
    let operation = |of: Stacked| {
        let operations = [cublasOperation_t::CUBLAS_OP_N, cublasOperation_t::CUBLAS_OP_T];
        operations[usize::from(of.transposed)]
    };
    with_element!(NAME, a.storage, T => {
        let mut c = unwritten::<T>(device, batch * rows * columns)?;
        // Row-major matrices are the transposes of cuBLAS's column-major ones: c^T = b^T a^T.
        let config = StridedBatchedConfig {
            batch_size: count("products", batch)?,
            gemm: GemmConfig {
                transa: operation(of_b),
                transb: operation(of_a),
                m: count("columns of a product", columns)?,
                n: count("rows of a product", rows)?,
                k: count("terms of a sum in a product", inner)?,
                alpha: T::ONE,
                lda: count("elements in a row", of_b.cols)?,
                ldb: count("elements in a row", of_a.cols)?,
                beta: T::ZERO,
                ldc: count("elements in a row", columns)?,
            },
            stride_a: (inner * columns) as i64,
            stride_b: (rows * inner) as i64,
            stride_c: (rows * columns) as i64,
        };
        let (a, b) = (a.view::<T>()?, b.view::<T>()?);
        let cublas = device.cublas_handle();
        // SAFETY: a, b and c were just found to hold so many matrices of these sizes.
        unsafe { T::gemm_batched(&cublas, config, &b, &a, &mut c.as_view_mut()) }.w()?;
        Ok(stored(c, device, dims))
    })
}
