//! AVX-512: 16 lanes, 32 registers.

use std::arch::x86_64::*;

use super::{Simd, exp_of_rest};
use crate::exp::{ARGUMENTS, LN_2};

/// Proof that the processor has AVX-512F.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        debug_assert!(count <= 16);
        ((1u32 << count) - 1) as __mmask16
    }
}

// SAFETY of every intrinsic below: `self` proves that the instructions exist; pointers are vouched
// for by the callers of the unsafe methods.
impl Simd for Avx512 {
    type Vector = __m512;

    const LANES: usize = 16;
    const WIDE_BLOCK: (usize, usize) = (6, 4);
    const ALIGNED_BLOCK: (usize, usize) = (8, 2);

    #[inline(always)]
    fn vectorize<R>(self, kernel: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn inner<R>(kernel: impl FnOnce() -> R) -> R {
            kernel()
        }
        // SAFETY: `self` proves that the processor has AVX-512F.
        unsafe { inner(kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the top of the block. It returns its second operand if one is a NaN.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    fn exp(self, value: __m512) -> __m512 {
        // SAFETY: see the top of the block. Minimum and maximum return their second operand if one is a NaN.
        unsafe {
            let [least, most] = ARGUMENTS.map(|end| self.splat(end));
            let x = _mm512_min_ps(most, _mm512_max_ps(least, value));
            let n = self.mul(x, self.splat(std::f32::consts::LOG2_E));
            let n = _mm512_roundscale_ps::<0>(n);
            let r = _mm512_fnmadd_ps(n, self.splat(LN_2[0]), x);
            let r = _mm512_fnmadd_ps(n, self.splat(LN_2[1]), r);
            _mm512_scalef_ps(exp_of_rest(self, r), n)
        }
    }

    #[inline(always)]
    fn relu(self, value: __m512, ceiling: __m512) -> __m512 {
        // SAFETY: see the top of the block. Both return their second operand if one is a NaN.
        unsafe { _mm512_min_ps(ceiling, _mm512_max_ps(_mm512_setzero_ps(), value)) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: see the top of the block.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: see the top of the block; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(Self::mask(count), from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: __m512) {
        // SAFETY: see the top of the block.
        unsafe { _mm512_storeu_ps(to, vector) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, vector: __m512, count: usize) {
        // SAFETY: see the top of the block; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, Self::mask(count), vector) }
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
            let mut block = [_mm512_setzero_ps(); 16];
            for (row, vector) in block.iter_mut().enumerate() {
                if row < rows {
                    *vector = self.load_first(from.add(row * from_stride), columns);
                }
            }
            let block = transpose_16x16(block);
            for (column, &vector) in block.iter().enumerate() {
                if column < columns {
                    self.store_first(to.add(column * to_stride), vector, rows);
                }
            }
        }
    }
}

/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn transpose_16x16(rows: [__m512; 16]) -> [__m512; 16] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut pairs = rows;
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        // quads[4 * i + j] holds column `4 * lane + j` of rows `4 * i..4 * i + 4` in its 128-bit lanes.
        let mut quads = pairs;
        for i in 0..4 {
            let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
            quads[4 * i] = _mm512_shuffle_ps::<0x44>(a, c);
            quads[4 * i + 1] = _mm512_shuffle_ps::<0xee>(a, c);
            quads[4 * i + 2] = _mm512_shuffle_ps::<0x44>(b, d);
            quads[4 * i + 3] = _mm512_shuffle_ps::<0xee>(b, d);
        }
        let mut columns = quads;
        for j in 0..4 {
            let [a, b, c, d] = [quads[j], quads[j + 4], quads[j + 8], quads[j + 12]];
            let (even_ab, odd_ab) =
                (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let (even_cd, odd_cd) =
                (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            columns[j] = _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd);
            columns[j + 4] = _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd);
            columns[j + 8] = _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd);
            columns[j + 12] = _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd);
        }
        columns
    }
}
