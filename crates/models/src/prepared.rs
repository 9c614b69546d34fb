//! Unchanging layers, prepared once for many passes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, TensorId};
use candle_vision_ops::PreparedConv2d;

use crate::Parameter;

/// What passes reuse: convolutions with packed kernels. In evaluation, the following batch norm is folded in.
/// Training passes reuse only frozen convolutions.
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
    convolutions: Mutex<HashMap<(TensorId, Form), Arc<PreparedConv2d>>>,
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

    /// The convolution with this kernel in this form. `make` is called the first time.
    pub(crate) fn convolution(
        &self,
        kernel: &Parameter,
        form: Form,
        make: impl FnOnce() -> Result<PreparedConv2d>,
    ) -> Result<Arc<PreparedConv2d>> {
        let id = (kernel.var().id(), form);
        // Entries are only added, so the map is valid even after a thread panicked.
        let convolutions = || self.convolutions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = convolutions().get(&id) {
            return Ok(known.clone());
        }
        // This runs outside the lock, so that other layers do not wait.
        let made = Arc::new(make()?);
        Ok(convolutions().entry(id).or_insert(made).clone())
    }
}
