//! Layers that do not change, made ready once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, TensorId};
use candle_vision_ops::PreparedConv2d;

use crate::Parameter;

/// What passes keep from one to the next: convolutions with their kernels packed and, in evaluation,
/// the batch norm behind them folded in. Training passes keep the frozen ones.
///
/// Make one, hand it to every pass over the same weights with
/// [`Pass::with_prepared`](crate::Pass::with_prepared), and drop it before the weights change: it
/// holds copies, one to four times the size of the network, and does not notice. Several networks
/// and threads may share one.
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
    /// By the kernel's variable, of which there is one in the process. A hook between the two layers
    /// asks for the convolution without its batch norm.
    convolutions: Mutex<HashMap<(TensorId, Form), Arc<PreparedConv2d>>>,
}

/// What was made of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// The convolution alone.
    Alone,
    /// The batch norm behind it folded in: the one with this weight. A convolution may have several,
    /// as one for each domain or each step of a loop.
    Folded(TensorId),
}

impl PreparedLayers {
    /// Nothing prepared yet; each layer is when it is first passed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The convolution with this kernel in this form, made by `make` if this is the first time.
    pub(crate) fn convolution(
        &self,
        kernel: &Parameter,
        form: Form,
        make: impl FnOnce() -> Result<PreparedConv2d>,
    ) -> Result<Arc<PreparedConv2d>> {
        let id = (kernel.var().id(), form);
        // What a panicking thread left is whole: entries are only ever added.
        let convolutions = || self.convolutions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = convolutions().get(&id) {
            return Ok(known.clone());
        }
        // Outside of the lock, so that other layers are not held up.
        let made = Arc::new(make()?);
        Ok(convolutions().entry(id).or_insert(made).clone())
    }
}
