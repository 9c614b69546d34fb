//! Memory for kernels: buffers that are kept between calls, and outputs that are not cleared first.

use super::element::Element;

/// Calls `f` with a buffer of `len` elements whose content is whatever an earlier kernel left.
///
/// Buffers stay with their thread, so a training step allocates only while it is the first.
pub(crate) fn with_scratch<T: Element, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    // The buffer leaves the pool while it is in use: `f` may run parallel work, and a thread that
    // waits for that work may take up another kernel, which then needs a buffer of its own.
    let idle = T::idle_buffers();
    let mut buffer = idle.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        // Not `resize`, which would copy content that nobody wants.
        drop(std::mem::take(&mut buffer));
        buffer = vec![T::zero(); len];
    }
    let result = f(&mut buffer[..len]);
    idle.with_borrow_mut(|idle| idle.push(buffer));
    result
}

/// A vector of `len` elements filled by `write`, without the pass over memory that clearing costs.
///
/// # Safety
/// `write` must set every element and read none before it has set it.
pub(crate) unsafe fn filled_by<T: Element>(len: usize, write: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut output = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, floats have no invalid bits, and the caller promises that
    // `write` sets each element before anything reads it.
    #[allow(clippy::uninit_vec, reason = "the caller promises to fill it")]
    unsafe {
        output.set_len(len);
    }
    if cfg!(debug_assertions) {
        // An element that a kernel forgets shows up in every test.
        output.fill(T::from_f64(f64::NAN));
    }
    write(&mut output);
    output
}
