//! Vectors of `f32`, so that one kernel serves every instruction set.
//!
//! A value of [`Avx512`] or [`Avx2`] proves that the processor has these instructions, because only a check
//! of the processor creates one. Kernels are generic over [`Simd`] and `#[inline(always)]` down to the last
//! helper and closure. They are entered through [`Simd::vectorize`]. Otherwise the compiler does not use
//! the wide instructions for them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::sync::OnceLock;

use crate::exp::TAIL;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// The operations that the kernels need from an instruction set.
pub(crate) trait Simd: Copy + Send + Sync {
    /// `LANES` values of `f32`.
    type Vector: Copy;

    /// Number of values in one vector, at most [`MAX_LANES`].
    const LANES: usize;

    /// Rows and vectors per row of the largest block of a matrix product whose sums stay in registers.
    const WIDE_BLOCK: (usize, usize);

    /// The same for products whose rows come in runs of `LANES`. So the number of rows divides `LANES`.
    const ALIGNED_BLOCK: (usize, usize);

    /// Runs `kernel`, an `#[inline(always)]` closure, compiled for this instruction set.
    fn vectorize<R>(self, kernel: impl FnOnce() -> R) -> R;

    fn splat(self, value: f32) -> Self::Vector;

    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The larger of each pair. If `a` is a NaN, the result is `b`.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `x` where `a < b`, otherwise `y`, also where one of them is a NaN.
    fn select_less(
        self,
        a: Self::Vector,
        b: Self::Vector,
        x: Self::Vector,
        y: Self::Vector,
    ) -> Self::Vector;

    /// `e` to the power of each value, accurate to 2 units in the last place if the result is a normal
    /// number. A NaN stays NaN.
    fn exp(self, value: Self::Vector) -> Self::Vector;

    /// `min(max(value, 0), ceiling)`. A NaN stays NaN.
    fn relu(self, value: Self::Vector, ceiling: Self::Vector) -> Self::Vector;

    /// # Safety
    /// `LANES` values at `from` are readable.
    unsafe fn load(self, from: *const f32) -> Self::Vector;

    /// Loads `count <= LANES` values; the other lanes are zero.
    ///
    /// # Safety
    /// `count` values at `from` are readable.
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::Vector;

    /// # Safety
    /// `LANES` values at `to` are writable.
    unsafe fn store(self, to: *mut f32, vector: Self::Vector);

    /// Stores the first `count <= LANES` lanes.
    ///
    /// # Safety
    /// `count` values at `to` are writable.
    unsafe fn store_first(self, to: *mut f32, vector: Self::Vector, count: usize);

    /// Prefetches the cache line of `address`, which may be outside of any allocation.
    fn prefetch(self, address: *const f32);

    /// Sets `to[j][i] = from[i][j]` for `i < rows`, `j < columns`. `size = [rows, columns]` is at most
    /// `LANES`.
    ///
    /// # Safety
    /// `columns` values in each of `rows` rows at `from` are readable, `rows` values in each of
    /// `columns` rows at `to` are writable; rows are `from_stride` and `to_stride` values apart.
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        size: [usize; 2],
        to: *mut f32,
        to_stride: usize,
    );
}

/// `e^r` for `|r| <= ln 2 / 2`. The polynomial is that of [`exp`](crate::exp::exp).
#[inline(always)]
fn exp_of_rest<S: Simd>(simd: S, r: S::Vector) -> S::Vector {
    let mut tail = simd.splat(TAIL[0]);
    for &next in &TAIL[1..] {
        tail = simd.mul_add(tail, r, simd.splat(next));
    }
    simd.add(simd.mul_add(simd.mul(tail, r), r, r), simd.splat(1.0))
}

/// Number of lanes of the widest vectors.
pub(crate) const MAX_LANES: usize = 16;

/// The instruction set to compute with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Level {
    /// The widest instruction set of this processor. It is determined once. The environment variable
    /// `CANDLE_VISION_CPU` (`avx2` or `portable`) limits it.
    pub(crate) fn get() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| Self::widest(std::env::var("CANDLE_VISION_CPU").ok().as_deref()))
    }

    /// Whether the processor has AVX2 and may use it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx2(self) -> bool {
        !matches!(self, Self::Portable(_))
    }

    fn widest(limit: Option<&str>) -> Self {
        Self::available()
            .into_iter()
            .find(|level| match (level, limit) {
                (Level::Portable(_), _) => true,
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2(_), limit) => limit != Some("portable"),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512(_), limit) => !matches!(limit, Some("avx2" | "portable")),
            })
            .expect("the portable level is always available")
    }

    /// Every level that this processor can run, with the widest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx512::detect().map(Level::Avx512));
            levels.extend(Avx2::detect().map(Level::Avx2));
        }
        levels.push(Level::Portable(Portable));
        levels
    }
}

/// Evaluates an expression with `$simd` bound to the instruction set of a [`Level`].
macro_rules! with_simd {
    ($level:expr, $simd:ident => $body:expr) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Level::Avx512($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Level::Avx2($simd) => $body,
            $crate::simd::Level::Portable($simd) => $body,
        }
    };
}
pub(crate) use with_simd;

/// Transposes a matrix of any size in blocks, with the widest vectors.
///
/// # Safety
/// As [`Simd::transpose`], but without its limit on `size`.
pub(crate) unsafe fn transpose(
    from: *const f32,
    from_stride: usize,
    size: [usize; 2],
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: passed on.
    with_simd!(Level::get(), simd => unsafe {
        transpose_with(simd, from, from_stride, size, to, to_stride)
    });
}

unsafe fn transpose_with<S: Simd>(
    simd: S,
    from: *const f32,
    from_stride: usize,
    [rows, columns]: [usize; 2],
    to: *mut f32,
    to_stride: usize,
) {
    simd.vectorize(
        #[inline(always)]
        || {
            for row in (0..rows).step_by(S::LANES) {
                for column in (0..columns).step_by(S::LANES) {
                    let block = [S::LANES.min(rows - row), S::LANES.min(columns - column)];
                    // SAFETY: the block is a part of the matrix.
                    unsafe {
                        let from = from.add(row * from_stride + column);
                        let to = to.add(column * to_stride + row);
                        simd.transpose(from, from_stride, block, to, to_stride);
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_partial_access<S: Simd>(simd: S) {
        let from: Vec<f32> = (1..=S::LANES).map(|i| i as f32).collect();
        for count in 0..=S::LANES {
            let mut full = vec![-1.0; S::LANES];
            let mut part = vec![-1.0; S::LANES];
            // SAFETY: all three buffers hold LANES values and count <= LANES.
            unsafe {
                simd.store(full.as_mut_ptr(), simd.load_first(from.as_ptr(), count));
                simd.store_first(part.as_mut_ptr(), simd.load(from.as_ptr()), count);
            }
            for i in 0..S::LANES {
                let inside = i < count;
                assert_eq!(full[i], if inside { from[i] } else { 0.0 });
                assert_eq!(part[i], if inside { from[i] } else { -1.0 });
            }
        }
    }

    fn check_relu<S: Simd>(simd: S) {
        let mut values = vec![0.5; S::LANES];
        values[0] = f32::NAN;
        values[1] = -1.0;
        values[2] = 7.0;
        // SAFETY: the buffer holds LANES values.
        unsafe {
            let clamped = simd.relu(simd.load(values.as_ptr()), simd.splat(6.0));
            simd.store(values.as_mut_ptr(), clamped);
        }
        assert!(values[0].is_nan());
        assert_eq!(values[1..4], [0.0, 6.0, 0.5]);
    }

    fn check_exp<S: Simd>(simd: S) {
        let exp = |x: f32| {
            let mut lanes = [0.0; MAX_LANES];
            // SAFETY: the buffer holds LANES values.
            unsafe { simd.store(lanes.as_mut_ptr(), simd.exp(simd.splat(x))) };
            lanes[0]
        };
        let mut worst = 0f64;
        for i in -87_300..=88_720 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let unit = f64::from((exact as f32).next_up() - exact as f32);
            worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst} units in the last place");
        assert_eq!([exp(0.0), exp(88.8), exp(f32::INFINITY)], [1.0, f32::INFINITY, f32::INFINITY]);
        assert_eq!([exp(-104.1), exp(f32::NEG_INFINITY)], [0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
        for x in [-87.5f32, -95.0, -103.0] {
            assert!((f64::from(exp(x)) - f64::from(x).exp()).abs() < 3e-45, "{x}");
        }
    }

    #[test]
    fn exp_is_near_the_exact_value() {
        for level in Level::available() {
            with_simd!(level, simd => check_exp(simd));
        }
    }

    #[test]
    fn relu_keeps_what_is_not_a_number() {
        for level in Level::available() {
            with_simd!(level, simd => check_relu(simd));
        }
    }

    fn check_transpose<S: Simd>(simd: S) {
        const STRIDE: usize = MAX_LANES + 3;
        let from: Vec<f32> = (0..STRIDE * STRIDE).map(|i| i as f32).collect();
        for (rows, columns) in (0..=S::LANES).flat_map(|i| (0..=S::LANES).map(move |j| (i, j))) {
            let mut to = vec![-1.0; STRIDE * STRIDE];
            let size = [rows, columns];
            // SAFETY: LANES <= STRIDE, so both blocks lie inside their buffers.
            unsafe { simd.transpose(from.as_ptr(), STRIDE, size, to.as_mut_ptr(), STRIDE) };
            for (index, &value) in to.iter().enumerate() {
                let (j, i) = (index / STRIDE, index % STRIDE);
                let inside = i < rows && j < columns;
                let expected = if inside { from[i * STRIDE + j] } else { -1.0 };
                assert_eq!(value, expected, "{rows}x{columns} at {i},{j}");
            }
        }
    }

    #[test]
    fn partial_access_leaves_other_lanes_alone() {
        for level in Level::available() {
            with_simd!(level, simd => check_partial_access(simd));
        }
    }

    #[test]
    fn blocks_of_every_size_are_transposed() {
        for level in Level::available() {
            with_simd!(level, simd => check_transpose(simd));
        }
    }

    #[test]
    fn limit_holds_the_level_down() {
        assert!(matches!(Level::widest(Some("portable")), Level::Portable(_)));
        #[cfg(target_arch = "x86_64")]
        assert!(!matches!(Level::widest(Some("avx2")), Level::Avx512(_)));
        let widest = std::mem::discriminant(&Level::available()[0]);
        assert_eq!(std::mem::discriminant(&Level::widest(None)), widest);
        assert_eq!(std::mem::discriminant(&Level::widest(Some("?"))), widest);
    }
}
