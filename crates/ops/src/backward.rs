//! `backward` without the detours for parameters.
//!
//! candle's own fills a tensor of zeros for every node and adds the node's gradient to it: three
//! passes over memory for nothing where a parameter is used once, and a tenth of a small step.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

thread_local! {
    /// Gradients of variables that the ops of this crate keep out of candle's hands while
    /// [`backward`] runs on this thread; `None` while it does not.
    static LEAVES: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// The gradients of `loss`, as its method `backward` gives them, in less time.
///
/// The gradient of a variable that an op of this crate takes, such as a kernel, goes into the store
/// as it is; one that several ops take is the sum, as ever. Everything else is candle's.
///
/// # Errors
/// What `loss.backward()` returns.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use candle_vision_ops::{backward, linear};
///
/// let weight = Var::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let loss = linear(&x, &weight, None)?.sum_all()?;
/// let gradients = backward(&loss)?;
/// assert_eq!(gradients.get(&weight).unwrap().to_vec2::<f32>()?, [[1.0, 2.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let collection = Collection::begin();
    let mut gradients = loss.backward()?;
    for (leaf, gradient) in collection.end() {
        let sum = match gradients.remove(&leaf) {
            Some(others) => (others + gradient)?,
            None => gradient,
        };
        gradients.insert(&leaf, sum);
    }
    Ok(gradients)
}

/// For an op's `bwd`: the gradient of `argument` if candle is to have it, or nothing if it is kept
/// for a [`backward`] that is running.
pub(crate) fn hand_in(argument: &Tensor, gradient: Tensor) -> Option<Tensor> {
    if !argument.is_variable() {
        return Some(gradient);
    }
    LEAVES.with_borrow_mut(|leaves| match leaves {
        Some(leaves) => {
            leaves.push((argument.clone(), gradient));
            None
        }
        None => Some(gradient),
    })
}

/// The gradients collected by one [`backward`]. When dropped it restores what was there before: a
/// hook may call `backward` within another, and an error must leave nothing behind.
struct Collection {
    outer: Option<Vec<(Tensor, Tensor)>>,
}

impl Collection {
    fn begin() -> Self {
        Self { outer: LEAVES.replace(Some(Vec::new())) }
    }

    fn end(self) -> Vec<(Tensor, Tensor)> {
        LEAVES.take().unwrap_or_default()
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        LEAVES.set(self.outer.take());
    }
}
