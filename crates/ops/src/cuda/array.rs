//! Access to candle's storage as views of device memory.

use std::ops::Deref;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};

use super::size::check_rows_and_columns;

/// A tensor in the form in which a custom op gets it.
#[derive(Clone, Copy)]
pub(crate) struct Array<'a> {
    pub(crate) storage: &'a CudaStorage,
    pub(crate) layout: &'a Layout,
}

impl<'a> Array<'a> {
    pub(crate) fn new(storage: &'a CudaStorage, layout: &'a Layout) -> Self {
        Self { storage, layout }
    }

    pub(crate) fn device(&self) -> &'a CudaDevice {
        &self.storage.device
    }

    pub(crate) fn dims(&self) -> &'a [usize] {
        self.layout.dims()
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.shape().elem_count()
    }

    /// Size of the last dimension.
    pub(crate) fn channels(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// The elements in order. They must be contiguous.
    pub(crate) fn view<T: CudaDType>(&self) -> Result<CudaView<'a, T>> {
        check_rows_and_columns(self.dims())?;
        let data = self.storage.as_cuda_slice::<T>()?;
        match self.layout.contiguous_offsets() {
            Some((start, end)) => Ok(data.slice(start..end)),
            None => bail!(
                "kernel needs a contiguous tensor, got shape {:?} with strides {:?}",
                self.layout.dims(),
                self.layout.stride()
            ),
        }
    }
}

impl<'a> Array<'a> {
    /// The elements in the order `[a, c, d, b]` of a tensor `[a, b, c, d]` that lies so in memory.
    pub(crate) fn channels_last_view<T: CudaDType>(&self) -> Result<Option<CudaView<'a, T>>> {
        let &[a, b, c, d] = self.dims() else { return Ok(None) };
        let in_memory = [b * c * d, 1, d * b, b];
        let strides = self.layout.stride().iter().zip(in_memory).zip(self.dims());
        if !strides.into_iter().all(|((stride, wanted), size)| *size <= 1 || *stride == wanted) {
            return Ok(None);
        }
        check_rows_and_columns(&[a, c, d, b])?;
        let start = self.layout.start_offset();
        Ok(Some(self.storage.as_cuda_slice::<T>()?.slice(start..start + a * b * c * d)))
    }
}

/// A tensor that an op keeps besides its arguments, locked for reading.
pub(crate) struct Kept<'a, G>(G, &'a Layout);

pub(crate) fn kept(tensor: &Tensor) -> Kept<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = tensor.storage_and_layout();
    Kept(storage, layout)
}

impl<G: Deref<Target = Storage>> Kept<'_, G> {
    pub(crate) fn array(&self) -> Result<Array<'_>> {
        match &*self.0 {
            Storage::Cuda(storage) => Ok(Array::new(storage, self.1)),
            _ => bail!("kernel needs a tensor on a CUDA device, got shape {:?}", self.1.dims()),
        }
    }
}

/// Memory for `len` elements, all of which a kernel will write.
pub(super) fn unwritten<T: super::element::Element>(
    device: &CudaDevice,
    len: usize,
) -> Result<CudaSlice<T>> {
    // SAFETY: the callers hand it to kernels that write every element before anything reads one.
    unsafe { device.alloc(len) }
}

/// A tensor whose values nobody reads.
pub(crate) fn unread(device: &CudaDevice, shape: impl Into<Shape>) -> Result<(CudaStorage, Shape)> {
    let shape = shape.into();
    Ok(stored(unwritten::<f32>(device, shape.elem_count())?, device, shape))
}

/// The result of an op's forward pass for candle: a new contiguous tensor.
pub(super) fn stored<T: CudaDType>(
    data: CudaSlice<T>,
    device: &CudaDevice,
    shape: impl Into<Shape>,
) -> (CudaStorage, Shape) {
    (CudaStorage::wrap_cuda_slice(data, device.clone()), shape.into())
}

/// The same as a tensor outside the tape.
pub(crate) fn tensor((storage, shape): (CudaStorage, Shape)) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}
