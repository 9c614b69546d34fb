//! Unchanging layers, prepared once for many passes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Result, Tensor, TensorId};
use candle_vision_ops::{PreparedConv2d, PreparedLinear};

use crate::Parameter;

/// What passes reuse: convolutions and linear layers of tokens with packed weights, and weights in half precision. In
/// evaluation, the batch norm behind a convolution is folded in. Training passes reuse only frozen layers.
///
/// Create one and give it to every pass over the same weights with
/// [`Pass::with_prepared`](crate::Pass::with_prepared). Drop it before the weights change: it holds copies and
/// does not notice a change. The copies take one to four times the size of the network. Several networks and
/// threads may share one.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{ModelSpec, Pass, PreparedLayers, build};
///
/// # fn main() -> candle_core::Result<()> {
/// let model = build(&ModelSpec::new("resnet18", 10).input([3, 32, 32]), 0, &Device::Cpu)?;
/// let prepared = PreparedLayers::new();
/// for _ in 0..3 {
///     let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
///     let logits = model.forward(&images, &mut Pass::eval().with_prepared(&prepared))?;
///     assert_eq!(logits.dims(), [1, 10]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct PreparedLayers {
    /// The key contains the id of the kernel's variable, which is unique in the process. A hook between a
    /// convolution and its batch norm needs the form without batch norm.
    convolutions: Kept<(TensorId, Form, DType), PreparedConv2d>,
    /// The key is the id of the weight's variable.
    linears: Kept<TensorId, PreparedLinear>,
    /// Parameters in other number types, by the ids of their variables.
    casts: Kept<(TensorId, DType), Tensor>,
}

/// The form in which a convolution was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// The convolution alone.
    Alone,
    /// The convolution with a batch norm folded in. The id is that of the batch norm's weight. A convolution
    /// may have several, for instance one for each domain or each step of a loop.
    Folded(TensorId),
}

impl PreparedLayers {
    /// Nothing prepared yet. Each layer is prepared in its first pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that the layers keep which were prepared until now: copies of weights, and their packed forms.
    pub fn bytes(&self) -> usize {
        let of_tensor = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.convolutions.sum(PreparedConv2d::bytes)
            + self.linears.sum(PreparedLinear::bytes)
            + self.casts.sum(of_tensor)
    }

    /// The convolution with this kernel in this form, of maps of type `dtype`. `make` is called the first time.
    pub(crate) fn convolution(
        &self,
        kernel: &Parameter,
        form: Form,
        dtype: DType,
        make: impl FnOnce() -> Result<PreparedConv2d>,
    ) -> Result<Arc<PreparedConv2d>> {
        self.convolutions.get((kernel.var().id(), form, dtype), || make()?.to_dtype(dtype))
    }

    /// The parameter in `dtype`. `make` is called the first time.
    pub(crate) fn cast(
        &self,
        parameter: &Parameter,
        dtype: DType,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let kept = self.casts.get((parameter.var().id(), dtype), make)?;
        Ok(Tensor::clone(&kept))
    }

    /// The linear layer with this weight. `make` is called the first time.
    pub(crate) fn linear(
        &self,
        weight: &Parameter,
        make: impl FnOnce() -> Result<PreparedLinear>,
    ) -> Result<Arc<PreparedLinear>> {
        self.linears.get(weight.var().id(), make)
    }
}

/// Layers of one kind that were prepared so far.
#[derive(Debug)]
struct Kept<K, T>(Mutex<HashMap<K, Arc<T>>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, T> Kept<K, T> {
    fn sum(&self, of: impl Fn(&T) -> usize) -> usize {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().map(|value| of(value)).sum()
    }

    fn get(&self, key: K, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        // Entries are only added, so the map is valid even after a thread panicked.
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&key) {
            return Ok(known.clone());
        }
        // This runs outside the lock, so that other layers do not wait.
        let made = Arc::new(make()?);
        Ok(kept().entry(key).or_insert(made).clone())
    }
}
