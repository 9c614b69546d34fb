//! A kernel that does not change, prepared for fast convolutions.

use std::fmt;
use std::sync::OnceLock;

use super::conv::{self, PackedKernel};
use super::conv_shape::ConvShape;
use super::finish::{self, Finish};
use super::output::filled_by;
use super::winograd::{Size, Transformed};

/// The prepared forms of one kernel. Each is made when it is first needed.
#[derive(Default)]
pub struct PreparedKernel {
    f2: OnceLock<Transformed>,
    f4: OnceLock<Transformed>,
    packed: OnceLock<PackedKernel>,
}

impl fmt::Debug for PreparedKernel {
    /// Prints which forms exist, without their numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedKernel")
            .field("f2", &self.f2.get().is_some())
            .field("f4", &self.f4.get().is_some())
            .field("packed", &self.packed.get().is_some())
            .finish()
    }
}

impl PreparedKernel {
    /// Bytes of the forms that exist.
    pub fn bytes(&self) -> usize {
        let transformed = [&self.f2, &self.f4].into_iter().filter_map(OnceLock::get);
        let transformed: usize = transformed.map(Transformed::bytes).sum();
        transformed + self.packed.get().map_or(0, PackedKernel::bytes)
    }

    /// The convolution of `x` with `kernel`, followed by `finish`. `kernel` must be the same one in every
    /// call.
    ///
    /// # Panics
    /// If a slice is not as long as `shape` says, or the kernel's shape differs from before.
    pub fn output(
        &self,
        x: &[f32],
        kernel: &[f32],
        shape: &ConvShape,
        finish: &Finish<'_, f32>,
    ) -> Vec<f32> {
        assert_eq!(kernel.len(), shape.kernel_len(), "kernel has the length of its shape");
        let bias = finish.bias.map_or(shape.out_channels, <[f32]>::len);
        assert_eq!(bias, shape.out_channels, "bias has a number for each output channel");
        let residual = finish.residual.map_or(shape.output_len(), <[f32]>::len);
        assert_eq!(residual, shape.output_len(), "residual has the length of the output");
        if let Some(size) = Size::prepared(shape).filter(|_| !shape.exact) {
            let kernels = match size {
                Size::F2 => &self.f2,
                Size::F4 => &self.f4,
            };
            let kernels = kernels.get_or_init(|| Transformed::new(kernel, shape, size));
            let write = |y: &mut [f32]| kernels.forward(x, kernel, y, shape, *finish);
            // SAFETY: the tiles cover the output, and each is written without being read.
            return unsafe { filled_by(shape.output_len(), write) };
        }
        if shape.groups == 1 && !conv::reads_nothing(shape) {
            let packed = self.packed.get_or_init(|| PackedKernel::new(kernel, shape));
            if packed.fits(shape) {
                let write = |y: &mut [f32]| packed.forward(x, y, shape, finish);
                // SAFETY: the tiles cover the output, and each is written before it is finished.
                return unsafe { filled_by(shape.output_len(), write) };
            }
        }
        let mut y = conv::output(x, kernel, shape);
        finish::finish(&mut y, shape.out_channels, finish);
        y
    }
}
