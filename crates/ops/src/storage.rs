//! Access to candle's storage as slices.

use std::ops::Deref;

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, WithDType, bail};

/// A number type that both candle and the kernels support: `f32` or `f64`.
pub(crate) trait Float: candle_vision_kernels::float::Float + WithDType {}

impl Float for f32 {}
impl Float for f64 {}

/// The elements of a contiguous tensor, in order.
pub(crate) fn elements<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let data = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!(
            "kernel needs a contiguous tensor, got shape {:?} with strides {:?}",
            layout.dims(),
            layout.stride()
        ),
    }
}

/// A tensor that an op keeps besides its arguments, locked for reading.
pub(crate) struct Kept<'a, G>(G, &'a Layout);

pub(crate) fn kept(tensor: &Tensor) -> Kept<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = tensor.storage_and_layout();
    Kept(storage, layout)
}

impl<G: Deref<Target = Storage>> Kept<'_, G> {
    pub(crate) fn elements<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.0 {
            Storage::Cpu(storage) => elements(storage, self.1),
            _ => bail!("kernel needs a tensor on the CPU, got shape {:?}", self.1.dims()),
        }
    }
}

/// The result of an op's forward pass for candle: a new contiguous tensor.
pub(crate) fn stored<T: WithDType>(data: Vec<T>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(data), shape.into())
}

/// Evaluates an expression with `$float` standing for the storage's number type, `f32` or `f64`.
macro_rules! with_float {
    ($op:expr, $storage:expr, $float:ident => $body:expr) => {
        match $storage {
            candle_core::CpuStorage::F32(_) => {
                type $float = f32;
                $body
            }
            candle_core::CpuStorage::F64(_) => {
                type $float = f64;
                $body
            }
            other => candle_core::bail!(
                "{}: expected f32 or f64, got {:?}",
                $op,
                candle_core::backend::BackendStorage::dtype(other)
            ),
        }
    };
}
pub(crate) use with_float;
