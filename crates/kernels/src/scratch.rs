//! Working memory that is kept from call to call.
//!
//! New memory costs a page fault for every 4 KiB, which takes longer than the arithmetic on it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::float::Float;

/// The size of a page, so that all buffers have the same alignment in every cache. No number type needs
/// more.
const ALIGNMENT: usize = 4096;

/// Number of buffers that a thread keeps. One call holds at most this many on one thread.
pub(crate) const KEPT: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// A slice with unspecified contents until they are written. When dropped, it returns to its thread's pool, unless it was made to
/// last.
pub(crate) struct Scratch<T> {
    buffer: Buffer,
    len: usize,
    is_pooled: bool,
    of: PhantomData<T>,
}

impl<T: Float> Scratch<T> {
    /// The smallest kept buffer that is large enough, or a new one.
    pub(crate) fn take(len: usize) -> Self {
        let layout = Self::layout(len);
        let kept = POOL.with_borrow_mut(|pool| {
            let fitting = (0..pool.len())
                .filter(|&i| pool[i].bytes >= layout.size())
                .min_by_key(|&i| pool[i].bytes)?;
            Some(pool.swap_remove(fitting))
        });
        let buffer = kept.unwrap_or_else(|| Buffer::new(layout.size()));
        Self { buffer, len, is_pooled: true, of: PhantomData }
    }

    /// A new buffer of just this size, for what lasts longer than a call. It is freed when it is dropped. In a pool, such buffers
    /// would take the places of those that calls need again, and be the largest of them.
    pub(crate) fn lasting(len: usize) -> Self {
        let buffer = Buffer::new(Self::layout(len).size());
        Self { buffer, len, is_pooled: false, of: PhantomData }
    }

    /// Bytes of the buffer.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.bytes
    }

    fn layout(len: usize) -> Layout {
        Layout::array::<T>(len).expect("working memory fits the address space")
    }
}

/// Bytes of the buffers that the current thread keeps.
#[cfg(test)]
pub(crate) fn kept_bytes() -> usize {
    POOL.with_borrow(|pool| pool.iter().map(|buffer| buffer.bytes).sum())
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        if !self.is_pooled {
            return;
        }
        let buffer = std::mem::replace(&mut self.buffer, Buffer::EMPTY);
        // While its thread ends, the pool may already be gone. The buffer is then simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.push(buffer);
            if pool.len() > KEPT {
                let smallest = (0..pool.len()).min_by_key(|&i| pool[i].bytes);
                pool.swap_remove(smallest.expect("the pool has more than KEPT buffers"));
            }
        });
    }
}

impl<T: Float> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the buffer is aligned and holds initialised bytes (zeros when allocated) for at
        // least `len` elements, and any bits are a `T`.
        unsafe { std::slice::from_raw_parts(self.buffer.start.as_ptr().cast(), self.len) }
    }
}

impl<T: Float> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the buffer has no other owner.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.start.as_ptr().cast(), self.len) }
    }
}

/// An owned allocation of initialised bytes, aligned to [`ALIGNMENT`].
struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
}

impl Buffer {
    const EMPTY: Self = Self {
        start: NonNull::without_provenance(std::num::NonZero::new(ALIGNMENT).unwrap()),
        bytes: 0,
    };

    fn new(bytes: usize) -> Self {
        if bytes == 0 {
            return Self::EMPTY;
        }
        let layout = Self::layout(bytes);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGNMENT).expect("working memory fits the address space")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: allocated in `new` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
        }
    }
}

// SAFETY: a buffer is an owned allocation of plain bytes, without ties to its thread.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads plain bytes.
unsafe impl Sync for Buffer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_taken_again() {
        let first = Scratch::<f32>::take(1000);
        let address = first.as_ptr();
        assert_eq!(address as usize % ALIGNMENT, 0);
        drop(first);
        let again = Scratch::<f64>::take(450);
        assert_eq!(again.as_ptr().cast(), address);
        assert_eq!(again.len(), 450);
        let other = Scratch::<f32>::take(900);
        assert_ne!(other.as_ptr(), address);
    }

    #[test]
    fn what_lasts_leaves_the_pool_alone() {
        drop(Scratch::<f32>::take(500));
        let kept = kept_bytes();
        let lasting = Scratch::<f32>::lasting(100_000);
        assert_eq!(lasting.as_ptr() as usize % ALIGNMENT, 0);
        drop(lasting);
        assert_eq!(kept_bytes(), kept);
    }

    #[test]
    fn empty_scratch_is_an_empty_slice() {
        assert!(Scratch::<f32>::take(0).is_empty());
    }
}
