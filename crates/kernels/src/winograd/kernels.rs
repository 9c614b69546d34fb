//! Transforms kernels, and transforms gradients of kernels back.
//!
//! Vectors run over output channels. These are far apart in `[out, in, 3, 3]`, so blocks of the kernel are
//! transposed before and after.

use std::marker::PhantomData;
use std::ops::Range;

use super::panels::Panels;
use super::tiles::{KERNEL, Tiles, kernel_gradient_tile, kernel_tile};
use crate::simd::{MAX_LANES, Simd};

/// Number of values of one kernel.
const TAPS: usize = KERNEL * KERNEL;

/// The kernels of `MAX_LANES` inputs and as many outputs, with outputs innermost.
type Block = [f32; MAX_LANES * TAPS * MAX_LANES];

/// A convolution kernel as the products see it: from `inputs` channels to `outputs` channels.
#[derive(Clone, Copy)]
pub(super) struct Kernels<'a> {
    /// `[outputs, inputs, 3, 3]`, or `[inputs, outputs, 3, 3]` when `adjoint`.
    values: &'a [f32],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Whether this is the adjoint of the convolution: channels swapped and taps reversed.
    adjoint: bool,
}

impl<'a> Kernels<'a> {
    pub(super) fn new(values: &'a [f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(values.len(), inputs * outputs * TAPS);
        Self { values, inputs, outputs, adjoint: false }
    }

    /// The kernel that takes gradients of outputs back to the inputs.
    pub(super) fn adjoint(self) -> Self {
        Self { inputs: self.outputs, outputs: self.inputs, adjoint: !self.adjoint, ..self }
    }

    /// Transforms the kernels of all inputs to `outputs`. Rows of `layout` are inputs.
    #[inline(always)]
    pub(super) fn transform<S: Simd, F: Tiles>(
        &self,
        simd: S,
        outputs: Range<usize>,
        to: &mut [f32],
        layout: &Panels,
    ) {
        assert!(outputs.end <= self.outputs && outputs.len() <= layout.channels);
        assert!(layout.rows == self.inputs && layout.channels.is_multiple_of(S::LANES));
        assert!(to.len() >= layout.len());
        let mut block = [0.0; MAX_LANES * TAPS * MAX_LANES];
        for (start, width) in layout.panels() {
            for lane in (0..width).step_by(S::LANES) {
                let first = outputs.start + start + lane;
                let present = first..outputs.end.min(first + S::LANES);
                for row in (0..self.inputs).step_by(S::LANES) {
                    let rows = row..self.inputs.min(row + S::LANES);
                    self.gather(simd, rows.clone(), present.clone(), &mut block);
                    self.prefetch(simd, rows.end, present.clone());
                    for (i, input) in rows.enumerate() {
                        let offset = start * layout.rows + input * width + lane;
                        // SAFETY: a block holds LANES inputs with nine taps of LANES outputs each;
                        // `offset + LANES` is inside the first plane of `to`, whose length was
                        // checked.
                        kernel_tile::<S, F>(
                            simd,
                            #[inline(always)]
                            |r, c| unsafe {
                                let tap = i * TAPS + self.tap(r * KERNEL + c);
                                simd.load(block.as_ptr().add(tap * S::LANES))
                            },
                            #[inline(always)]
                            |r, c, value| unsafe {
                                simd.store(
                                    to.as_mut_ptr().add(offset + layout.plane_start::<F>(r, c)),
                                    value,
                                )
                            },
                        );
                    }
                }
            }
        }
    }

    /// Prefetches the kernels of the vector of inputs that starts at `input`.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, simd: S, input: usize, outputs: Range<usize>) {
        for lane in 0..S::LANES {
            let start = if self.adjoint {
                (input + lane) * self.outputs + outputs.start
            } else {
                (outputs.start + lane) * self.inputs + input
            };
            for line in 0..TAPS {
                let offset = start * TAPS + line * S::LANES;
                simd.prefetch(self.values.as_ptr().wrapping_add(offset));
            }
        }
    }

    #[inline(always)]
    fn tap(&self, tap: usize) -> usize {
        if self.adjoint { TAPS - 1 - tap } else { tap }
    }

    /// Copies kernels to `[inputs, taps, LANES outputs]`. Lanes without an output are zero.
    #[inline(always)]
    fn gather<S: Simd>(
        &self,
        simd: S,
        inputs: Range<usize>,
        outputs: Range<usize>,
        block: &mut Block,
    ) {
        let lanes = outputs.len();
        if lanes < S::LANES {
            block.fill(0.0);
        }
        // Each run is a matrix of outputs by taps. It belongs to one input or to several adjacent ones
        // without a gap.
        let (runs, taps, stride) = if self.adjoint {
            (inputs.len(), TAPS, TAPS)
        } else {
            (1, inputs.len() * TAPS, self.inputs * TAPS)
        };
        for run in 0..runs {
            let start = if self.adjoint {
                ((inputs.start + run) * self.outputs + outputs.start) * TAPS
            } else {
                (outputs.start * self.inputs + inputs.start) * TAPS
            };
            for tap in (0..taps).step_by(S::LANES) {
                let columns = S::LANES.min(taps - tap);
                // SAFETY: `outputs` and `inputs` are channels of the kernel, so the matrix is
                // inside it; the block has room for LANES inputs.
                unsafe {
                    simd.transpose(
                        self.values.as_ptr().add(start + tap),
                        stride,
                        [lanes, columns],
                        block.as_mut_ptr().add((run * TAPS + tap) * S::LANES),
                        S::LANES,
                    );
                }
            }
        }
    }
}

/// The gradient of a `[outputs, inputs, 3, 3]` kernel that several threads write. Each thread has its own
/// channels.
pub(super) struct KernelsMut<'a> {
    values: *mut f32,
    inputs: usize,
    outputs: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `KernelsMut::write` writes, and its callers keep threads to channels of their own.
unsafe impl Sync for KernelsMut<'_> {}

impl<'a> KernelsMut<'a> {
    pub(super) fn new(values: &'a mut [f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(values.len(), inputs * outputs * TAPS);
        Self { values: values.as_mut_ptr(), inputs, outputs, borrowed: PhantomData }
    }

    /// Transforms gradients back and writes those of `inputs` and `outputs`. Rows of `from` are the inputs.
    /// Its only panel holds the outputs.
    ///
    /// # Safety
    /// No other thread writes these pairs of channels.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd, F: Tiles>(
        &self,
        simd: S,
        inputs: Range<usize>,
        outputs: Range<usize>,
        from: &[f32],
        layout: &Panels,
    ) {
        assert!(inputs.end <= self.inputs && outputs.end <= self.outputs);
        assert!(inputs.len() <= layout.rows && outputs.len() <= layout.channels);
        assert!(layout.width == layout.channels && layout.channels.is_multiple_of(S::LANES));
        assert!(from.len() >= layout.len());
        let mut block: Block = [0.0; MAX_LANES * TAPS * MAX_LANES];
        for output in outputs.clone().step_by(S::LANES) {
            let lanes = S::LANES.min(outputs.end - output);
            for first in inputs.clone().step_by(S::LANES) {
                let count = S::LANES.min(inputs.end - first);
                for i in 0..count {
                    let row = first + i - inputs.start;
                    let offset = row * layout.width + (output - outputs.start);
                    // SAFETY: `offset + LANES` is inside the first plane of `from`, whose length
                    // was checked; a block holds LANES inputs with nine taps of LANES outputs each.
                    kernel_gradient_tile::<S, F>(
                        simd,
                        #[inline(always)]
                        |r, c| unsafe {
                            simd.load(from.as_ptr().add(offset + layout.plane_start::<F>(r, c)))
                        },
                        #[inline(always)]
                        |r, c, value| unsafe {
                            let tap = i * TAPS + r * KERNEL + c;
                            simd.store(block.as_mut_ptr().add(tap * S::LANES), value)
                        },
                    );
                }
                let to = (output * self.inputs + first) * TAPS;
                for tap in (0..count * TAPS).step_by(S::LANES) {
                    let columns = S::LANES.min(count * TAPS - tap);
                    // SAFETY: these taps of these channels are inside the kernel, and the caller
                    // vouches that they are this call's alone.
                    unsafe {
                        simd.transpose(
                            block.as_ptr().add(tap * S::LANES),
                            S::LANES,
                            [columns, lanes],
                            self.values.add(to + tap),
                            self.inputs * TAPS,
                        );
                    }
                }
            }
        }
    }
}
