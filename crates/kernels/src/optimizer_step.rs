//! One step of an optimizer. Parameter, state and gradient go through the cache once.
//!
//! Every element is computed by itself, so the chunks and their threads cannot change a bit. The kernels
//! return whether all new values are finite. This check costs nothing while the values are in registers.
//! Later it would be another pass over memory.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::compiled::compiled;
use super::float::Float;
use super::output::build_from;
use super::parallel::for_each_of;
use super::vectorize::vectorize;

/// Settings of one step of stochastic gradient descent, as in PyTorch's `SGD`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Share of the momentum buffer that is kept.
    pub momentum: f64,
    /// Share of the gradient that does not enter the momentum buffer. PyTorch begins a buffer with the
    /// whole gradient, so this must be 0 in a parameter's first step.
    pub dampening: f64,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f64,
    /// Whether to use Nesterov momentum, which looks ahead along the momentum.
    pub nesterov: bool,
    /// Factor of the gradient, applied first. It is below 1 if the gradient is clipped or was scaled up for
    /// `f16`.
    pub grad_scale: f64,
}

/// Settings of one step of Adam or AdamW, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rate of the running mean of gradients.
    pub beta1: f64,
    /// Decay rate of the running mean of squared gradients.
    pub beta2: f64,
    /// Term added to the root of the second moment, so that nothing is divided by zero.
    pub eps: f64,
    /// Factor of the parameter that is added to its gradient, or by which, times `lr`, the parameter
    /// shrinks.
    pub weight_decay: f64,
    /// Whether weight decay shrinks the parameter itself (AdamW) instead of entering the moments.
    pub decoupled_weight_decay: bool,
    /// Number of this step for this parameter, from 1. It corrects for the moments' start at zero.
    pub step: u64,
    /// Factor of the gradient, applied first. It is below 1 if the gradient is clipped or was scaled up for
    /// `f16`.
    pub grad_scale: f64,
}

impl AdamStep {
    /// The decay that shrinks the parameter, and the decay that enters its gradient. One of them is 0.
    pub fn weight_decays(&self) -> (f64, f64) {
        if self.decoupled_weight_decay {
            (self.weight_decay, 0.0)
        } else {
            (0.0, self.weight_decay)
        }
    }

    /// The learning rate divided by the correction of the first moment.
    pub fn step_size(&self) -> f64 {
        self.lr / (1.0 - self.beta1.powf(self.step as f64))
    }

    /// The square root of the correction of the second moment.
    pub fn second_moment_correction(&self) -> f64 {
        (1.0 - self.beta2.powf(self.step as f64)).sqrt()
    }
}

/// Settings of one step of RMSprop, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsPropStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rate of the running mean of squared gradients, and of that of gradients.
    pub alpha: f64,
    /// Term added to the divisor, so that nothing is divided by zero.
    pub eps: f64,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f64,
    /// Share of the momentum buffer that is kept.
    pub momentum: f64,
    /// Factor of the gradient, applied first. It is below 1 if the gradient is clipped or was scaled up for
    /// `f16`.
    pub grad_scale: f64,
}

/// Number of elements of one piece of work: 64 KiB of `f32` in each of up to four arrays.
const CHUNK: usize = 1 << 14;

/// Number of elements that a step with several passes takes at a time.
const BLOCK: usize = 64;

/// [`SgdStep`] in the parameter's number type.
struct Sgd<T> {
    lr: T,
    momentum: T,
    gain: T,
    weight_decay: T,
    grad_scale: T,
    nesterov: bool,
}

impl<T: Float> Sgd<T> {
    fn new(step: &SgdStep) -> Self {
        Self {
            lr: T::narrow(step.lr),
            momentum: T::narrow(step.momentum),
            gain: T::narrow(1.0 - step.dampening),
            weight_decay: T::narrow(step.weight_decay),
            grad_scale: T::narrow(step.grad_scale),
            nesterov: step.nesterov,
        }
    }
}

/// [`AdamStep`] in the parameter's number type, with the values that all elements share computed in
/// advance.
struct Adam<T> {
    shrink: T,
    weight_decay: T,
    grad_scale: T,
    beta1: T,
    gain1: T,
    beta2: T,
    gain2: T,
    step_size: T,
    correction: T,
    eps: T,
    /// A gradient nearer to 0 has a square that is no normal number.
    smallest_squared: T,
}

impl<T: Float> Adam<T> {
    fn new(step: &AdamStep) -> Self {
        let (decoupled, coupled) = step.weight_decays();
        Self {
            shrink: T::narrow(1.0 - step.lr * decoupled),
            weight_decay: T::narrow(coupled),
            grad_scale: T::narrow(step.grad_scale),
            beta1: T::narrow(step.beta1),
            gain1: T::narrow(1.0 - step.beta1),
            beta2: T::narrow(step.beta2),
            gain2: T::narrow(1.0 - step.beta2),
            step_size: T::narrow(step.step_size()),
            correction: T::narrow(1.0 / step.second_moment_correction()),
            eps: T::narrow(step.eps),
            // With room for the gain, which is about 0.001.
            smallest_squared: T::narrow(32.0 * T::SMALLEST.widen().sqrt()),
        }
    }
}

/// [`RmsPropStep`] in the parameter's number type.
struct RmsProp<T> {
    lr: T,
    alpha: T,
    gain: T,
    eps: T,
    weight_decay: T,
    momentum: T,
    grad_scale: T,
    /// A gradient nearer to 0 has a square that is no normal number.
    smallest_squared: T,
}

impl<T: Float> RmsProp<T> {
    fn new(step: &RmsPropStep) -> Self {
        Self {
            lr: T::narrow(step.lr),
            alpha: T::narrow(step.alpha),
            gain: T::narrow(1.0 - step.alpha),
            eps: T::narrow(step.eps),
            weight_decay: T::narrow(step.weight_decay),
            momentum: T::narrow(step.momentum),
            grad_scale: T::narrow(step.grad_scale),
            // With room for the gain, which is about 0.01.
            smallest_squared: T::narrow(32.0 * T::SMALLEST.widen().sqrt()),
        }
    }
}

/// The tensors that RMSprop keeps for a parameter, all of its length.
#[derive(Debug)]
pub struct RmsPropState<'a, T> {
    /// The running mean of squared gradients.
    pub square_avg: &'a mut [T],
    /// The running mean of gradients, to divide by the standard deviation instead of the root mean square.
    pub grad_avg: Option<&'a mut [T]>,
    /// The momentum, if there is any.
    pub buffer: Option<&'a mut [T]>,
}

/// The pieces of an array, or as many times `None`.
fn pieces_of<T>(array: Option<&mut [T]>, pieces: usize) -> Vec<Option<&mut [T]>> {
    match array {
        Some(array) => array.chunks_mut(CHUNK).map(Some).collect(),
        None => (0..pieces).map(|_| None).collect(),
    }
}

compiled! {
    trait Kernels<T>;

    /// Plain gradient descent. Returns whether all new values are finite.
    pub fn sgd(parameter: &mut [T], grad: &[T], step: &SgdStep) -> bool {
        let step = Sgd::new(step);
        let pieces = parameter.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
        all(grad.len(), pieces, |(parameter, grad), finite| sgd_piece(parameter, grad, &step, finite))
    }

    /// Gradient descent with momentum. Returns whether all new values are finite.
    pub fn sgd_momentum(
        parameter: &mut [T],
        buffer: &mut [T],
        grad: &[T],
        step: &SgdStep,
    ) -> bool {
        let step = Sgd::new(step);
        let pieces = parameter
            .par_chunks_mut(CHUNK)
            .zip(buffer.par_chunks_mut(CHUNK))
            .zip(grad.par_chunks(CHUNK));
        all(grad.len(), pieces, |((parameter, buffer), grad), finite| {
            sgd_momentum_piece(parameter, buffer, grad, &step, finite);
        })
    }

    /// Adam and AdamW. Returns whether all new values are finite.
    pub fn adam(
        parameter: &mut [T],
        first_moment: &mut [T],
        second_moment: &mut [T],
        grad: &[T],
        step: &AdamStep,
    ) -> bool {
        let step = Adam::new(step);
        let pieces = parameter
            .par_chunks_mut(CHUNK)
            .zip(first_moment.par_chunks_mut(CHUNK))
            .zip(second_moment.par_chunks_mut(CHUNK))
            .zip(grad.par_chunks(CHUNK));
        all(grad.len(), pieces, |(((parameter, first), second), grad), finite| {
            adam_piece(parameter, first, second, grad, &step, finite);
        })
    }

    /// RMSprop. Returns whether all new values are finite.
    pub fn rms_prop(
        parameter: &mut [T],
        state: RmsPropState<'_, T>,
        grad: &[T],
        step: &RmsPropStep,
    ) -> bool {
        let step = RmsProp::new(step);
        let count = grad.len().div_ceil(CHUNK);
        let pieces = parameter
            .par_chunks_mut(CHUNK)
            .zip(state.square_avg.par_chunks_mut(CHUNK))
            .zip(pieces_of(state.grad_avg, count))
            .zip(pieces_of(state.buffer, count))
            .zip(grad.par_chunks(CHUNK));
        all(grad.len(), pieces, |((((parameter, square_avg), grad_avg), buffer), grad), finite| {
            let state = RmsPropState { square_avg, grad_avg, buffer };
            rms_prop_piece(parameter, state, grad, &step, finite);
        })
    }

    /// The sum of the squares of all elements in `f64`, in an order that depends only on the length.
    pub fn sum_of_squares(x: &[T]) -> f64 {
        let pieces = x.len().div_ceil(CHUNK);
        let sums: Vec<f64> = build_from(x.len(), pieces, 1, |i, sum| {
            sum[0] = sum_of_squares_piece(&x[i * CHUNK..x.len().min((i + 1) * CHUNK)]);
        });
        sums.iter().sum()
    }
}

fn sum_of_squares_piece<T: Float>(x: &[T]) -> f64 {
    // Eight parallel sums, because a single sum would wait for each addition before the next.
    let mut sums = [0.0; 8];
    for group in x.chunks(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(group) {
            let x = x.widen();
            *sum += x * x;
        }
    }
    sums.iter().sum()
}

/// Whether `step` leaves `true` in its second argument for every one of `pieces`, which hold `elements`
/// elements in total. Unlike `Iterator::all` it runs every piece.
fn all<I: IndexedParallelIterator>(
    elements: usize,
    pieces: I,
    step: impl Fn(I::Item, &mut bool) + Sync + Send,
) -> bool {
    let all = AtomicBool::new(true);
    for_each_of(elements, pieces, |piece| {
        let mut finite = true;
        step(piece, &mut finite);
        if !finite {
            all.store(false, Ordering::Relaxed);
        }
    });
    all.into_inner()
}

/// `x`, or 0 if `x` is nearer to 0 than `limit`. A NaN stays.
///
/// Averages of gradients that have become 0 shrink in each step, and so do parameters whose only gradient is their weight
/// decay. Numbers below the smallest normal one would stay there for ever, because they are rounded up, and a processor takes
/// a hundred times as long for each of them, also where one is only the product of two others.
#[inline(always)]
fn flushed<T: Float>(x: T, limit: T) -> T {
    if (x < limit) & (x > -limit) { T::ZERO } else { x }
}

/// The product is NaN for a NaN and for an infinity.
#[inline(always)]
fn is_finite<T: Float>(x: T) -> bool {
    x * T::ZERO == T::ZERO
}

vectorize! {
    fn sgd_piece<T: Float>(parameter: &mut [T], grad: &[T], step: &Sgd<T>, finite: &mut bool) {
        let mut all = true;
        for (p, &g) in parameter.iter_mut().zip(grad) {
            let g = flushed(g, T::TINY) * step.grad_scale + step.weight_decay * *p;
            *p = flushed(*p - step.lr * g, T::TINY);
            all &= is_finite(*p);
        }
        *finite = all;
    }

    fn sgd_momentum_piece<T: Float>(
        parameter: &mut [T],
        buffer: &mut [T],
        grad: &[T],
        step: &Sgd<T>,
        finite: &mut bool,
    ) {
        let mut all = true;
        for ((p, b), &g) in parameter.iter_mut().zip(buffer).zip(grad) {
            let g = flushed(g, T::TINY) * step.grad_scale + step.weight_decay * *p;
            *b = flushed(step.momentum * *b + step.gain * g, T::TINY);
            let direction = if step.nesterov { g + step.momentum * *b } else { *b };
            *p = flushed(*p - step.lr * direction, T::TINY);
            all &= is_finite(*p);
        }
        *finite = all;
    }

    fn adam_piece<T: Float>(
        parameter: &mut [T],
        first_moment: &mut [T],
        second_moment: &mut [T],
        grad: &[T],
        step: &Adam<T>,
        finite: &mut bool,
    ) {
        let mut all = true;
        for (((p, m), v), &g) in parameter.iter_mut().zip(first_moment).zip(second_moment).zip(grad) {
            let g = flushed(g, T::TINY) * step.grad_scale + step.weight_decay * *p;
            *m = flushed(step.beta1 * *m + step.gain1 * g, T::TINY);
            let g = flushed(g, step.smallest_squared);
            *v = flushed(step.beta2 * *v + step.gain2 * g * g, T::SMALLEST);
            let scale = v.sqrt() * step.correction + step.eps;
            *p = flushed(*p * step.shrink - step.step_size * *m / scale, T::TINY);
            all &= is_finite(*p);
        }
        *finite = all;
    }

    fn rms_prop_piece<T: Float>(
        parameter: &mut [T],
        state: RmsPropState<'_, T>,
        grad: &[T],
        step: &RmsProp<T>,
        finite: &mut bool,
    ) {
        let RmsPropState { square_avg, mut grad_avg, mut buffer } = state;
        let mut all = true;
        // A few elements at a time, so that what is between the passes stays in registers or the nearest cache.
        let (mut gradients, mut variances) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        for (i, (p, v)) in parameter.chunks_mut(BLOCK).zip(square_avg.chunks_mut(BLOCK)).enumerate() {
            let range = i * BLOCK..i * BLOCK + p.len();
            let (gradients, variances) = (&mut gradients[..p.len()], &mut variances[..p.len()]);
            for ((gradient, &g), &p) in gradients.iter_mut().zip(&grad[range.clone()]).zip(&*p) {
                *gradient = flushed(g, T::TINY) * step.grad_scale + step.weight_decay * p;
            }
            for ((variance, v), &g) in variances.iter_mut().zip(v).zip(&*gradients) {
                let g = flushed(g, step.smallest_squared);
                *v = flushed(step.alpha * *v + step.gain * (g * g), T::SMALLEST);
                *variance = *v;
            }
            if let Some(mean) = &mut grad_avg {
                for ((variance, m), &g) in variances.iter_mut().zip(&mut mean[range.clone()]).zip(&*gradients) {
                    *m = flushed(step.alpha * *m + step.gain * g, T::TINY);
                    let m = flushed(*m, step.smallest_squared);
                    *variance -= m * m;
                }
            }
            for (g, &variance) in gradients.iter_mut().zip(&*variances) {
                *g /= variance.sqrt() + step.eps;
            }
            if let Some(buffer) = &mut buffer {
                for (b, g) in buffer[range].iter_mut().zip(&mut *gradients) {
                    *b = flushed(step.momentum * *b + *g, T::TINY);
                    *g = *b;
                }
            }
            for (p, &direction) in p.iter_mut().zip(&*gradients) {
                *p = flushed(*p - step.lr * direction, T::TINY);
                all &= is_finite(*p);
            }
        }
        *finite = all;
    }
}
