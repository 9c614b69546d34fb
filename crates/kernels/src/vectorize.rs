//! Compiles kernels twice: for any processor, and for those with 256-bit vectors. Those that compute much for
//! each element are compiled a third time, for 512-bit vectors.

/// Defines functions whose body is compiled a second time with AVX2. They choose at run time.
///
/// Both versions give the same bits, so `CANDLE_VISION_CPU` only changes their speed: the instructions only
/// handle more elements at a time. Fused multiply-add is not used, because it would round differently.
macro_rules! vectorize {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$($parameter:ident: $bound:path),*>(
            $($argument:ident: $kind:ty),* $(,)?
        ) $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name<$($parameter: $bound),*>($($argument: $kind),*) {
            #[inline(always)]
            fn portable<$($parameter: $bound),*>($($argument: $kind),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<$($parameter: $bound),*>($($argument: $kind),*) {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            if $crate::simd::Level::get().has_avx2() {
                // SAFETY: this processor has AVX2, the one thing that `avx2` asks for.
                return unsafe { avx2($($argument),*) };
            }
            portable($($argument),*)
        }
    )*};
}
pub(crate) use vectorize;

/// As [`vectorize`], with a third version that uses AVX-512. It is for kernels that compute much for each
/// element. The others wait for memory, and a third version would only make the program larger.
macro_rules! vectorize_wide {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$($parameter:ident: $bound:path),*>(
            $($argument:ident: $kind:ty),* $(,)?
        ) $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name<$($parameter: $bound),*>($($argument: $kind),*) {
            #[inline(always)]
            fn portable<$($parameter: $bound),*>($($argument: $kind),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<$($parameter: $bound),*>($($argument: $kind),*) {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            fn avx512<$($parameter: $bound),*>($($argument: $kind),*) {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            match $crate::simd::Level::get() {
                // SAFETY: this processor has AVX-512F, the one thing that `avx512` asks for.
                $crate::simd::Level::Avx512(_) => return unsafe { avx512($($argument),*) },
                // SAFETY: this processor has AVX2, the one thing that `avx2` asks for.
                $crate::simd::Level::Avx2(_) => return unsafe { avx2($($argument),*) },
                $crate::simd::Level::Portable(_) => {}
            }
            portable($($argument),*)
        }
    )*};
}
pub(crate) use vectorize_wide;
