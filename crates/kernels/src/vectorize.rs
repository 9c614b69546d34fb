//! Compiles kernels twice: for any processor, and for those with 256-bit vectors.

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
