//! Convolution as products with the matrix of all patches, for a few images at a time.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr};
use candle_core::{CudaDevice, Result};

use crate::cuda::array::unwritten;
use crate::cuda::element::Element;
use crate::cuda::function::{Argument, Source, device_function, launch, over_packs};
use crate::cuda::gemm::{Matrix, product};
use candle_vision_kernels::conv_shape::ConvShape;

/// Largest number of elements of the matrix of patches, unless one image has more: 256 MiB of `f32`.
const MOST_ELEMENTS: usize = 1 << 26;

/// [`ConvShape`] in the form that the kernels take.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sizes([i32; 16]);

// SAFETY: sixteen numbers, which is what the kernels' structure is.
unsafe impl DeviceRepr for Sizes {}

impl<'a> Argument<'a> for &'a Sizes {
    fn push(self, arguments: &mut candle_core::cuda_backend::cudarc::driver::LaunchArgs<'a>) {
        use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
        arguments.arg(self);
    }
}

impl Sizes {
    fn of(shape: &ConvShape) -> Self {
        let ConvShape { in_size, out_size, kernel, stride, padding, dilation, .. } = *shape;
        let sizes = [
            shape.batch,
            in_size[0],
            in_size[1],
            shape.in_channels,
            out_size[0],
            out_size[1],
            shape.out_channels,
            kernel[0],
            kernel[1],
            stride[0],
            stride[1],
            padding[0],
            padding[1],
            dilation[0],
            dilation[1],
            shape.groups,
        ];
        Self(sizes.map(|size| size as i32))
    }
}

/// Some images and one group of channels: the work of one product.
#[derive(Clone, Copy)]
struct Part<'a> {
    shape: &'a ConvShape,
    first_image: usize,
    images: usize,
    group: usize,
}

impl<'a> Part<'a> {
    fn all(shape: &'a ConvShape) -> impl Iterator<Item = Self> {
        let image = out_pixels(shape) * patch(shape);
        let step = (MOST_ELEMENTS / image).clamp(1, shape.batch);
        (0..shape.batch).step_by(step).flat_map(move |first_image| {
            let images = step.min(shape.batch - first_image);
            (0..shape.groups).map(move |group| Self { shape, first_image, images, group })
        })
    }

    fn rows(&self) -> usize {
        self.images * out_pixels(self.shape)
    }

    fn len(&self) -> usize {
        self.rows() * patch(self.shape)
    }

    /// Index of the first output of this part. Its rows are one pixel, `out_channels` elements, apart.
    fn first_output(&self) -> usize {
        self.first_image * out_pixels(self.shape) * self.shape.out_channels
            + self.group * self.shape.group_out()
    }

    fn kernel_range(&self) -> std::ops::Range<usize> {
        let len = self.shape.group_out() * patch(self.shape);
        self.group * len..(self.group + 1) * len
    }

    /// The patches of this part, one per row.
    fn columns<T: Element>(
        &self,
        device: &CudaDevice,
        x: &CudaView<'_, T>,
    ) -> Result<CudaSlice<T>> {
        let mut columns = unwritten::<T>(device, self.len())?;
        let function = device_function::<T>(device, Source::Columns, "im2col")?;
        let (sizes, config) = (Sizes::of(self.shape), over_packs::<T>(self.len()));
        let [first, images, group] = self.numbers();
        // SAFETY: x is the whole input, columns has a patch for each output pixel of the images.
        unsafe { launch!(function, config, &sizes, &first, &images, &group, x, &mut columns) }
        Ok(columns)
    }

    fn numbers(&self) -> [i32; 3] {
        [self.first_image, self.images, self.group].map(|number| number as i32)
    }
}

/// Number of pixels of one output image.
fn out_pixels(shape: &ConvShape) -> usize {
    shape.out_size[0] * shape.out_size[1]
}

/// Number of elements of one patch.
fn patch(shape: &ConvShape) -> usize {
    shape.taps() * shape.group_in()
}

/// Writes the convolution of `x` with `kernel`, `[out, height, width, in / groups]`, to `y`.
pub(super) fn output<T: Element>(
    device: &CudaDevice,
    x: &CudaView<'_, T>,
    kernel: &CudaView<'_, T>,
    y: &mut CudaSlice<T>,
    shape: &ConvShape,
) -> Result<()> {
    for part in Part::all(shape) {
        let columns = part.columns(device, x)?;
        let (columns, kernel) = (columns.slice(..), kernel.slice(part.kernel_range()));
        let columns = Matrix::new(&columns, part.rows(), patch(shape));
        let kernel = Matrix::new(&kernel, shape.group_out(), patch(shape)).transposed();
        let mut y = y.slice_mut(part.first_output()..);
        product(device, columns, kernel, &mut y, shape.out_channels, false)?;
    }
    Ok(())
}

/// Writes the gradient of the input to `dx`.
pub(super) fn input_gradient<T: Element>(
    device: &CudaDevice,
    grad: &CudaView<'_, T>,
    kernel: &CudaView<'_, T>,
    dx: &mut CudaSlice<T>,
    shape: &ConvShape,
) -> Result<()> {
    for part in Part::all(shape) {
        let mut columns = unwritten::<T>(device, part.len())?;
        let (grad, kernel) = (grad.slice(part.first_output()..), kernel.slice(part.kernel_range()));
        let grad = Matrix::new(&grad, part.rows(), shape.group_out()).stride(shape.out_channels);
        let kernel = Matrix::new(&kernel, shape.group_out(), patch(shape));
        product(device, grad, kernel, &mut columns.as_view_mut(), patch(shape), false)?;
        scatter(device, part, &columns, dx)?;
    }
    Ok(())
}

/// Adds the patches' elements to the pixels that they came from.
fn scatter<T: Element>(
    device: &CudaDevice,
    part: Part<'_>,
    columns: &CudaSlice<T>,
    dx: &mut CudaSlice<T>,
) -> Result<()> {
    let function = device_function::<T>(device, Source::Columns, "col2im")?;
    let shape = part.shape;
    let elements = part.images * shape.in_size[0] * shape.in_size[1] * shape.group_in();
    let (sizes, config) = (Sizes::of(shape), over_packs::<T>(elements));
    let [first, images, group] = part.numbers();
    // SAFETY: dx is the whole input's gradient, columns has a patch for each output pixel of the
    // images.
    unsafe { launch!(function, config, &sizes, &first, &images, &group, columns, dx) }
    Ok(())
}

/// Writes the gradient of the kernel, `[out, height, width, in / groups]`, to `dkernel`.
pub(super) fn kernel_gradient<T: Element>(
    device: &CudaDevice,
    x: &CudaView<'_, T>,
    grad: &CudaView<'_, T>,
    dkernel: &mut CudaSlice<T>,
    shape: &ConvShape,
) -> Result<()> {
    for part in Part::all(shape) {
        let columns = part.columns(device, x)?;
        let (columns, grad) = (columns.slice(..), grad.slice(part.first_output()..));
        let columns = Matrix::new(&columns, part.rows(), patch(shape));
        let grad = Matrix::new(&grad, part.rows(), shape.group_out())
            .stride(shape.out_channels)
            .transposed();
        let mut dkernel = dkernel.slice_mut(part.kernel_range());
        let add = part.first_image > 0;
        product(device, grad, columns, &mut dkernel, patch(shape), add)?;
    }
    Ok(())
}
