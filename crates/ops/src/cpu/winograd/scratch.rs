//! Working memory that is kept from call to call.
//!
//! Fresh memory costs a page fault for every 4 KiB, which takes longer than the arithmetic on it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A page, so that buffers start alike in every cache.
const ALIGNMENT: usize = 4096;

/// How many buffers a thread keeps: the most that one call holds at a time on one thread.
const KEPT: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// A slice of `f32` whose contents are unspecified until written, returned to its thread's pool
/// when dropped.
pub(super) struct Scratch {
    buffer: Buffer,
    len: usize,
}

impl Scratch {
    /// The smallest kept buffer that is large enough, or else a new one.
    pub(super) fn take(len: usize) -> Self {
        let kept = POOL.with_borrow_mut(|pool| {
            let fitting = (0..pool.len())
                .filter(|&i| pool[i].capacity >= len)
                .min_by_key(|&i| pool[i].capacity)?;
            Some(pool.swap_remove(fitting))
        });
        Self { buffer: kept.unwrap_or_else(|| Buffer::new(len)), len }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::replace(&mut self.buffer, Buffer::EMPTY);
        // While its thread ends, the pool may already be gone: then the buffer is just freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.push(buffer);
            if pool.len() > KEPT {
                let smallest = (0..pool.len()).min_by_key(|&i| pool[i].capacity);
                pool.swap_remove(smallest.expect("the pool has more than KEPT buffers"));
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the buffer holds `capacity >= len` initialised values (zeros when allocated).
        unsafe { std::slice::from_raw_parts(self.buffer.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the buffer has no other owner.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.start.as_ptr(), self.len) }
    }
}

/// An owned allocation of `capacity` initialised values.
struct Buffer {
    start: NonNull<f32>,
    capacity: usize,
}

impl Buffer {
    const EMPTY: Self = Self { start: NonNull::dangling(), capacity: 0 };

    fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self::EMPTY;
        }
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty; zeros are valid values.
        let start = unsafe { alloc_zeroed(layout) }.cast();
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::array::<f32>(capacity)
            .and_then(|layout| layout.align_to(ALIGNMENT))
            .expect("a buffer of transformed tiles fits the address space")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated in `new` with this very layout.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) }
        }
    }
}

// SAFETY: a buffer is an owned allocation of plain numbers, without ties to its thread.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads plain numbers.
unsafe impl Sync for Buffer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_taken_again() {
        let first = Scratch::take(1000);
        let address = first.as_ptr();
        assert_eq!(address as usize % ALIGNMENT, 0);
        drop(first);
        let again = Scratch::take(900);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), 900);
        let other = Scratch::take(900);
        assert_ne!(other.as_ptr(), address);
    }

    #[test]
    fn empty_scratch_is_an_empty_slice() {
        assert!(Scratch::take(0).is_empty());
    }
}
