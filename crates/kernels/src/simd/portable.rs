//! Plain Rust. The compiler vectorises it with the instructions that every processor of the target has.

use super::Simd;
use crate::activation::relu_up_to;
use crate::exp::exp;

/// Four lanes: the vectors of SSE2 and NEON, which their 64-bit targets always have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub(crate) struct F32x4([f32; 4]);

impl F32x4 {
    #[inline(always)]
    fn zip(self, other: Self, op: impl Fn(f32, f32) -> f32) -> Self {
        let (a, b) = (self.0, other.0);
        Self([op(a[0], b[0]), op(a[1], b[1]), op(a[2], b[2]), op(a[3], b[3])])
    }
}

/// `a * b + c`. It rounds once only if the target has such an instruction. Elsewhere that would be a
/// library call.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

impl Simd for Portable {
    type Vector = F32x4;

    const LANES: usize = 4;

    // The block is wide rather than tall. With four or more separate rows, the compiler packs values of
    // several rows into one vector and then spends its time on shuffles.
    const WIDE_BLOCK: (usize, usize) = (2, 4);

    const ALIGNED_BLOCK: (usize, usize) = (4, 2);

    #[inline(always)]
    fn vectorize<R>(self, kernel: impl FnOnce() -> R) -> R {
        kernel()
    }

    #[inline(always)]
    fn splat(self, value: f32) -> F32x4 {
        F32x4([value; 4])
    }

    #[inline(always)]
    fn add(self, a: F32x4, b: F32x4) -> F32x4 {
        a.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F32x4, b: F32x4) -> F32x4 {
        a.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F32x4, b: F32x4) -> F32x4 {
        a.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F32x4, b: F32x4) -> F32x4 {
        a.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: F32x4, b: F32x4, c: F32x4) -> F32x4 {
        let (a, b, c) = (a.0, b.0, c.0);
        F32x4([
            mul_add(a[0], b[0], c[0]),
            mul_add(a[1], b[1], c[1]),
            mul_add(a[2], b[2], c[2]),
            mul_add(a[3], b[3], c[3]),
        ])
    }

    #[inline(always)]
    fn max(self, a: F32x4, b: F32x4) -> F32x4 {
        a.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn select_less(self, a: F32x4, b: F32x4, x: F32x4, y: F32x4) -> F32x4 {
        let less = |i: usize| if a.0[i] < b.0[i] { x.0[i] } else { y.0[i] };
        F32x4([less(0), less(1), less(2), less(3)])
    }

    #[inline(always)]
    #[expect(
        clippy::redundant_closure,
        reason = "a closure can be inlined here, a function's name cannot"
    )]
    fn exp(self, value: F32x4) -> F32x4 {
        F32x4(value.0.map(
            #[inline(always)]
            |value| exp(value),
        ))
    }

    #[inline(always)]
    fn relu(self, value: F32x4, ceiling: F32x4) -> F32x4 {
        value.zip(ceiling, relu_up_to)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> F32x4 {
        // SAFETY: the caller vouches for four readable values.
        F32x4(unsafe { from.cast::<[f32; 4]>().read() })
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> F32x4 {
        let mut values = [0.0; 4];
        for (lane, value) in values.iter_mut().enumerate().take(count) {
            // SAFETY: lane < count, and the caller vouches for `count` readable values.
            *value = unsafe { from.add(lane).read() };
        }
        F32x4(values)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: F32x4) {
        // SAFETY: the caller vouches for four writable values.
        unsafe { to.cast::<[f32; 4]>().write(vector.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, vector: F32x4, count: usize) {
        for (lane, &value) in vector.0.iter().enumerate().take(count) {
            // SAFETY: lane < count, and the caller vouches for `count` writable values.
            unsafe { to.add(lane).write(value) }
        }
    }

    #[inline(always)]
    fn prefetch(self, _address: *const f32) {}

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        [rows, columns]: [usize; 2],
        to: *mut f32,
        to_stride: usize,
    ) {
        for column in 0..columns {
            for row in 0..rows {
                // SAFETY: row < rows and column < columns, the block the caller vouches for.
                unsafe {
                    let value = *from.add(row * from_stride + column);
                    to.add(column * to_stride + row).write(value);
                }
            }
        }
    }
}
