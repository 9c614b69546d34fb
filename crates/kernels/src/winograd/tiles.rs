//! The transforms of F(4x4, 3x3) and F(2x2, 3x3) for one vector of channels.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): a tile of outputs is
//! `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` for a kernel `g` and a tile of inputs `d`.

mod f2;
mod f4;

pub(super) use f2::F2;
pub(super) use f4::F4;

use crate::simd::Simd;

/// Side of the kernel.
pub(super) const KERNEL: usize = 3;

/// Side of the largest tile of inputs.
pub(super) const MAX_INPUT: usize = 6;

/// A line of a tile of any size. Only its first values are used.
pub(super) type Line<T> = [T; MAX_INPUT];

/// A tile of any size. Only its first lines are used.
pub(super) type Square<T> = [Line<T>; MAX_INPUT];

/// A tile size, with its transforms along one axis.
pub(super) trait Tiles: Copy + Send + Sync {
    /// Side of the square of outputs that one tile computes.
    const OUTPUT: usize;

    /// Side of the square of inputs that one tile reads, and of the transformed tile.
    const INPUT: usize = Self::OUTPUT + KERNEL - 1;

    /// Number of values of a transformed tile.
    const PLANES: usize = Self::INPUT * Self::INPUT;

    /// `Bᵀ d`: transforms `INPUT` inputs to `INPUT` values.
    fn input<S: Simd>(s: S, d: Line<S::Vector>) -> Line<S::Vector>;

    /// `Aᵀ m`: transforms `INPUT` products to `OUTPUT` outputs.
    fn output<S: Simd>(s: S, m: Line<S::Vector>) -> Line<S::Vector>;

    /// `A y`: transforms gradients of `OUTPUT` outputs to those of `INPUT` products.
    fn output_gradient<S: Simd>(s: S, y: Line<S::Vector>) -> Line<S::Vector>;

    /// `G g`: transforms `KERNEL` taps to `INPUT` values.
    fn kernel<S: Simd>(s: S, g: Line<S::Vector>) -> Line<S::Vector>;

    /// `Gᵀ m`: transforms gradients of `INPUT` values of a transformed kernel to those of `KERNEL` taps.
    fn kernel_gradient<S: Simd>(s: S, m: Line<S::Vector>) -> Line<S::Vector>;
}

/// Declares the two-dimensional form of a transform. It goes down the columns, then along the rows.
macro_rules! two_dimensional {
    ($(#[$doc:meta])* $name:ident, $transform:ident, $from:expr => $to:expr) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name<S: Simd, F: Tiles>(
            simd: S,
            load: impl Fn(usize, usize) -> S::Vector,
            mut store: impl FnMut(usize, usize, S::Vector),
        ) {
            let zero = simd.splat(0.0);
            let mut half = [[zero; MAX_INPUT]; MAX_INPUT];
            for column in 0..$from {
                let mut values = [zero; MAX_INPUT];
                for (row, value) in values.iter_mut().enumerate().take($from) {
                    *value = load(row, column);
                }
                let values = F::$transform(simd, values);
                for row in 0..$to {
                    half[row][column] = values[row];
                }
            }
            for row in 0..$to {
                let values = F::$transform(simd, half[row]);
                for (column, &value) in values.iter().enumerate().take($to) {
                    store(row, column, value);
                }
            }
        }
    };
}

two_dimensional!(
    /// `Bᵀ d B`.
    input_tile, input, F::INPUT => F::INPUT
);
two_dimensional!(
    /// `Aᵀ m A`.
    output_tile, output, F::INPUT => F::OUTPUT
);
two_dimensional!(
    /// `A y Aᵀ`, the adjoint of [`output_tile`].
    output_gradient_tile, output_gradient, F::OUTPUT => F::INPUT
);
two_dimensional!(
    /// `G g Gᵀ`.
    kernel_tile, kernel, KERNEL => F::INPUT
);
two_dimensional!(
    /// `Gᵀ m G`, the adjoint of [`kernel_tile`].
    kernel_gradient_tile, kernel_gradient, F::INPUT => KERNEL
);
