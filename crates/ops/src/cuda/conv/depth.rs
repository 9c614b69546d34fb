//! Convolutions of images of few channels, such as a network's first one.
//!
//! Tensor cores take channels in packs of 16 bytes. With 3 channels, cuDNN pads the images in kernels of its own and falls
//! back to slow forms. Here the pixels of a block as large as the stride become channels (space to depth), and channels of
//! zeros fill the last pack. The convolution then has stride 1 and no padding. A 7x7 convolution of 3 channels with stride
//! 2 becomes a 4x4 convolution of 16 channels.

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DeviceRepr, LaunchArgs, PushKernelArg,
};
use candle_core::{CudaDevice, Result};
use candle_vision_kernels::conv_shape::ConvShape;

use crate::conv2d::OnCuda;
use crate::cuda::array::{Array, unwritten};
use crate::cuda::cudnn::DataType;
use crate::cuda::element::Element;
use crate::cuda::function::{Argument, Source, device_function, launch, over_threads};

/// Largest number of channels of images that are few.
const FEW: usize = 4;
/// Largest number of channels of the map. A block of 32x32 pixels of 3 channels has 3072.
const MOST: usize = 4096;

/// The kernels' structure of the same name. Pairs are height and width.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    size: [u32; 2],
    channels: u32,
    block: [u32; 2],
    lead: [u32; 2],
    blocks: [u32; 2],
    depth: u32,
    kernel: [u32; 2],
    offset: [u32; 2],
    taps: [u32; 2],
}

/// The distances between neighbours of a kernel, as the kernels have them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Strides([u64; 4]);

// SAFETY: numbers, laid out as the kernels' structures are.
unsafe impl DeviceRepr for Depth {}
// SAFETY: as above.
unsafe impl DeviceRepr for Strides {}

impl<'a> Argument<'a> for &'a Depth {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        arguments.arg(self);
    }
}

impl<'a> Argument<'a> for &'a Strides {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        arguments.arg(self);
    }
}

impl Depth {
    /// `None` if the convolution is computed as it is: it has many channels, or does not use tensor cores.
    pub(super) fn of<T: Element>(shape: &ConvShape, options: OnCuda) -> Option<Self> {
        let on_tensor_cores = T::CUDNN != DataType::Float || options.tf32;
        let has_few = shape.in_channels <= FEW && shape.groups == 1;
        if !on_tensor_cores || !has_few || shape.dilation != [1; 2] {
            return None;
        }
        let pack = 16 / size_of::<T>();
        let used = shape.stride[0] * shape.stride[1] * shape.in_channels;
        let depth = used.next_multiple_of(pack);
        if depth > MOST {
            return None;
        }
        let axes = [0, 1].map(|axis| {
            let (stride, padding) = (shape.stride[axis], shape.padding[axis]);
            let lead = padding.div_ceil(stride);
            let offset = lead * stride - padding;
            let taps = (shape.kernel[axis] + offset).div_ceil(stride);
            [lead, offset, taps, shape.out_size[axis] - 1 + taps]
        });
        let of_axes = |which: usize| axes.map(|axis| axis[which] as u32);
        let pair = |pair: [usize; 2]| pair.map(|number| number as u32);
        Some(Self {
            size: pair(shape.in_size),
            channels: shape.in_channels as u32,
            block: pair(shape.stride),
            lead: of_axes(0),
            blocks: of_axes(3),
            depth: depth as u32,
            kernel: pair(shape.kernel),
            offset: of_axes(1),
            taps: of_axes(2),
        })
    }

    /// The convolution of the map.
    pub(super) fn shape(&self, shape: &ConvShape) -> ConvShape {
        let pair = |pair: [u32; 2]| pair.map(|number| number as usize);
        ConvShape {
            in_size: pair(self.blocks),
            in_channels: self.depth as usize,
            kernel: pair(self.taps),
            stride: [1; 2],
            padding: [0; 2],
            ..*shape
        }
    }

    /// The map of the images.
    pub(super) fn map<T: Element>(
        &self,
        device: &CudaDevice,
        x: &CudaView<'_, T>,
        inner: &ConvShape,
    ) -> Result<CudaSlice<T>> {
        let mut map = unwritten::<T>(device, inner.input_len())?;
        let packs = inner.input_len() / (16 / size_of::<T>());
        let function = device_function::<T>(device, Source::Depth, "space_to_depth")?;
        // SAFETY: x and map have as many elements as the structure says of the images and of the map.
        unsafe { launch!(function, over_threads(packs), &packs, self, x, &mut map) }
        Ok(map)
    }

    /// The kernel for the map, `[out, taps, taps, depth]`.
    pub(super) fn kernel<T: Element>(
        &self,
        device: &CudaDevice,
        kernel: Array<'_>,
        inner: &ConvShape,
    ) -> Result<CudaSlice<T>> {
        let n = inner.kernel_len();
        let mut taps = unwritten::<T>(device, n)?;
        let all = kernel.storage.as_cuda_slice::<T>()?;
        let from = all.slice(kernel.layout.start_offset()..);
        let mut strides = Strides([0; 4]);
        for (place, stride) in strides.0.iter_mut().zip(kernel.layout.stride()) {
            *place = *stride as u64;
        }
        let function = device_function::<T>(device, Source::Depth, "kernel_to_depth")?;
        // SAFETY: taps has n elements, and the strides are those of the kernel's storage.
        unsafe { launch!(function, over_threads(n), &n, self, &strides, &from, &mut taps) }
        Ok(taps)
    }

    /// The gradient of the kernel, `[out, channels, height, width]`, from that of the kernel for the map.
    pub(super) fn kernel_back<T: Element>(
        &self,
        device: &CudaDevice,
        taps: &CudaSlice<T>,
        shape: &ConvShape,
    ) -> Result<CudaSlice<T>> {
        let n = shape.kernel_len();
        let mut kernel = unwritten::<T>(device, n)?;
        let function = device_function::<T>(device, Source::Depth, "kernel_from_depth")?;
        // SAFETY: kernel has n elements, and taps as many as the structure says.
        unsafe { launch!(function, over_threads(n), &n, self, taps, &mut kernel) }
        Ok(kernel)
    }
}
