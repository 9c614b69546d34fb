//! Evaluation passes of one network, one after the other.

use std::sync::{Mutex, PoisonError};

use candle_core::{Result, Tensor};
use candle_vision_ops::{Captured, Repetition, Turn};

use crate::{Model, Pass, Precision, PreparedLayers};

/// Number of plain passes of the same form before one is captured. They load kernels and prepare layers.
const PLAIN_PASSES: usize = 2;

/// Evaluation passes of one network, without hooks.
///
/// The first pass prepares the layers for the following ones ([`PreparedLayers`]). On a CUDA device, after two passes of
/// images of the same shape, the next ones are repeated from a graph: asking a card for a hundred small pieces of work takes
/// longer than most of them take. The results are the same, bit for bit. A batch with fewer images, such as the last of a
/// data set, is a plain pass. A graph has memory of its own for the feature maps of one pass.
/// [`set_cuda_graphs`](candle_vision_ops::set_cuda_graphs) switches this off.
///
/// Several threads may share one. On a CUDA device their passes take turns.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{EvalPasses, ModelSpec, build};
///
/// let model = build(&ModelSpec::new("resnet18", 10).input([3, 32, 32]), 0, &Device::Cpu)?;
/// let passes = EvalPasses::new(&model);
/// for _ in 0..3 {
///     let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
///     assert_eq!(passes.forward(&images)?.dims(), [1, 10]);
/// }
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct EvalPasses<M> {
    // What was captured reads the network and the prepared layers, so it is dropped before them.
    repetition: Mutex<Repetition<CapturedPass>>,
    prepared: Option<PreparedLayers>,
    precision: Precision,
    model: M,
}

#[derive(Debug)]
struct CapturedPass {
    // The logits lie in the graph's memory, so they are dropped before it.
    logits: Tensor,
    work: Captured,
    /// The images that the graph reads, in the order of their memory.
    images: Tensor,
}

impl<M: Model> EvalPasses<M> {
    /// Passes of `model`, in the number type of its parameters. Its weights must not change any more.
    pub fn new(model: M) -> Self {
        Self {
            repetition: Mutex::new(Repetition::after(PLAIN_PASSES)),
            prepared: Some(PreparedLayers::new()),
            precision: Precision::default(),
            model,
        }
    }

    /// Prepares no layers, so that the weights may change in place between passes, as training changes them.
    pub fn of_changing_weights(self) -> Self {
        Self { prepared: None, ..self }
    }

    /// Sets the number type of feature maps and products.
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Whether a graph computes passes like the last one.
    pub fn is_captured(&self) -> bool {
        self.repetition.lock().unwrap_or_else(PoisonError::into_inner).is_captured()
    }

    /// The network.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The logits, `[batch, classes]`, of `images`, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If the network does not accept the images, or the device fails.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // Another thread's pass may not come between a graph's launch and the copy of its results.
        let mut repetition = images
            .device()
            .is_cuda()
            .then(|| self.repetition.lock().unwrap_or_else(PoisonError::into_inner));
        let from_graph = repetition.as_mut().map(|repetition| self.of_graph(images, repetition));
        match from_graph.transpose()?.flatten() {
            Some(logits) => Ok(logits),
            None => self.plain(images),
        }
    }

    fn plain(&self, images: &Tensor) -> Result<Tensor> {
        let pass = Pass::eval().precision(self.precision);
        let logits = match &self.prepared {
            Some(prepared) => self.model.forward(images, &mut pass.with_prepared(prepared)),
            None => self.model.forward(images, &mut { pass }),
        };
        Ok(logits?.detach())
    }

    /// The logits, if a graph computes them this time.
    fn of_graph(
        &self,
        images: &Tensor,
        repetition: &mut Repetition<CapturedPass>,
    ) -> Result<Option<Tensor>> {
        // Whatever an error was, a plain pass may do without it. Otherwise it has the same error.
        match repetition.turn(images) {
            Turn::Plain => {}
            Turn::Capture => match self.capture(images) {
                Ok(pass) => {
                    let logits = pass.logits.copy()?;
                    repetition.keep(images, pass);
                    return Ok(Some(logits));
                }
                Err(_) => repetition.refuse(),
            },
            Turn::Repeat(pass) => {
                pass.images.slice_set(&in_order(images)?, 0, 0)?;
                if pass.work.launch().is_ok() {
                    return pass.logits.copy().map(Some);
                }
                repetition.refuse();
            }
        }
        Ok(None)
    }

    /// Captures a pass and launches it.
    fn capture(&self, images: &Tensor) -> Result<CapturedPass> {
        let device = images.device();
        let placed = in_order(images)?.copy()?;
        let (logits, work) = Captured::new(device, || {
            let images =
                if placed.rank() == 4 { placed.permute((0, 3, 1, 2))? } else { placed.clone() };
            self.plain(&images)?.contiguous()
        })?;
        Ok(CapturedPass { logits, work, images: placed })
    }
}

/// The images in one block of memory, as a network gets them from a loader: channels last if they have four dimensions.
fn in_order(images: &Tensor) -> Result<Tensor> {
    if images.rank() == 4 {
        images.permute((0, 2, 3, 1))?.contiguous()
    } else {
        images.contiguous()
    }
}
