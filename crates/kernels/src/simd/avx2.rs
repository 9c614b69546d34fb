//! AVX2: 8 lanes, 16 registers.

use std::arch::x86_64::*;

use super::{Simd, exp_of_rest};
use crate::exp::{ARGUMENTS, LN_2};

/// Proof that the processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// Eight set words followed by eight clear ones. A window of it masks the first lanes.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    #[inline(always)]
    fn mask(self, count: usize) -> __m256i {
        let window = &MASKS[8 - count.min(8)..][..8];
        // SAFETY: `self` proves that the instruction exists; `window` holds the eight words read.
        unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
    }
}

// SAFETY of every intrinsic below: `self` proves that the instructions exist; pointers are vouched
// for by the callers of the unsafe methods.
impl Simd for Avx2 {
    type Vector = __m256;

    const LANES: usize = 8;
    const WIDE_BLOCK: (usize, usize) = (6, 2);
    const ALIGNED_BLOCK: (usize, usize) = (4, 3);

    #[inline(always)]
    fn vectorize<R>(self, kernel: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        #[inline]
        fn inner<R>(kernel: impl FnOnce() -> R) -> R {
            kernel()
        }
        // SAFETY: `self` proves that the processor has AVX2 and FMA.
        unsafe { inner(kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the top of the block. It returns its second operand if one is a NaN.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn exp(self, value: __m256) -> __m256 {
        // SAFETY: see the top of the block. Minimum and maximum return their second operand if one is a NaN.
        unsafe {
            let [least, most] = ARGUMENTS.map(|end| self.splat(end));
            let x = _mm256_min_ps(most, _mm256_max_ps(least, value));
            let n = self.mul(x, self.splat(std::f32::consts::LOG2_E));
            let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(n);
            let r = _mm256_fnmadd_ps(n, self.splat(LN_2[0]), x);
            let r = _mm256_fnmadd_ps(n, self.splat(LN_2[1]), r);
            // At both ends 2^n is outside the range of exponents, but 2^(n/2) is inside it.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let power = |n: __m256i| {
                let exponent = _mm256_add_epi32(n, _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            };
            let e_r = exp_of_rest(self, r);
            self.mul(self.mul(e_r, power(half)), power(_mm256_sub_epi32(n, half)))
        }
    }

    #[inline(always)]
    fn relu(self, value: __m256, ceiling: __m256) -> __m256 {
        // SAFETY: see the top of the block. Both return their second operand if one is a NaN.
        unsafe { _mm256_min_ps(ceiling, _mm256_max_ps(_mm256_setzero_ps(), value)) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: see the top of the block.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m256 {
        // SAFETY: see the top of the block; masked lanes are not read.
        unsafe { _mm256_maskload_ps(from, self.mask(count)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: __m256) {
        // SAFETY: see the top of the block.
        unsafe { _mm256_storeu_ps(to, vector) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, vector: __m256, count: usize) {
        if count == 8 {
            // SAFETY: see the top of the block. Masked stores are slow on some processors.
            return unsafe { _mm256_storeu_ps(to, vector) };
        }
        // SAFETY: see the top of the block; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, self.mask(count), vector) }
    }

    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_stride: usize,
        [rows, columns]: [usize; 2],
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: only `columns` values of the first `rows` rows are read, and only `rows` values
        // of the first `columns` rows are written.
        unsafe {
            let mut block = [_mm256_setzero_ps(); 8];
            for (row, vector) in block.iter_mut().enumerate() {
                if row < rows {
                    *vector = self.load_first(from.add(row * from_stride), columns);
                }
            }
            let block = transpose_8x8(block);
            for (column, &vector) in block.iter().enumerate() {
                if column < columns {
                    self.store_first(to.add(column * to_stride), vector, rows);
                }
            }
        }
    }
}

/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn transpose_8x8(rows: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut pairs = rows;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        // quads[4 * i + j] holds columns j and j + 4 of rows `4 * i..4 * i + 4` in its two halves.
        let mut quads = pairs;
        for i in 0..2 {
            let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
            quads[4 * i] = _mm256_shuffle_ps::<0x44>(a, c);
            quads[4 * i + 1] = _mm256_shuffle_ps::<0xee>(a, c);
            quads[4 * i + 2] = _mm256_shuffle_ps::<0x44>(b, d);
            quads[4 * i + 3] = _mm256_shuffle_ps::<0xee>(b, d);
        }
        let mut columns = quads;
        for j in 0..4 {
            columns[j] = _mm256_permute2f128_ps::<0x20>(quads[j], quads[j + 4]);
            columns[j + 4] = _mm256_permute2f128_ps::<0x31>(quads[j], quads[j + 4]);
        }
        columns
    }
}
