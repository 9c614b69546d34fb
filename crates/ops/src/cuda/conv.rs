//! Convolution of channels-last images and its two gradients. It uses cuDNN if that is installed and
//! supports the shape. Otherwise it uses a matrix product of patches.
//!
//! Parameters keep PyTorch's order `[out, in / groups, height, width]`. Both methods need
//! `[out, height, width, in / groups]`. So a kernel is transposed before, and its gradient afterwards. A
//! kernel is small compared with the images.

mod columns;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::{CudaDevice, CudaStorage, Result, Shape};

use super::activation::finish_in_place;
use super::array::{Array, stored, unwritten};
use super::cudnn::{Direction, Operands};
use super::element::{Element, with_element};
use super::layout::transposed;
use super::state::{self, locked};
use crate::Activation;
use crate::conv2d::OnCuda;
use candle_vision_kernels::conv_shape::ConvShape;

const NAME: &str = "conv2d";

/// `activation(convolution of x with kernel + bias)`.
pub(crate) fn output(
    x: Array<'_>,
    kernel: Array<'_>,
    bias: Option<Array<'_>>,
    activation: Activation,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let ConvShape { batch, out_size: [height, width], out_channels, .. } = *shape;
    with_element!(NAME, x.storage, T => {
        let x = x.view::<T>()?;
        let mut y = unwritten::<T>(device, shape.output_len())?;
        let kernel = ChannelsLastKernel::new(device, kernel.view::<T>()?, shape)?;
        let operands = Operands { x: x.slice(..), kernel: kernel.view(), y: y.slice(..) };
        if !through_cudnn(device, Direction::Forward, &operands, shape, options)? {
            columns::output(device, &x, &kernel.view(), &mut y, shape)?;
        }
        finish_in_place(&mut y, device, out_channels, bias, activation)?;
        Ok(stored(y, device, (batch, height, width, out_channels)))
    })
}

/// The gradient of the input, from that of the output.
pub(crate) fn input_gradient(
    grad: Array<'_>,
    kernel: Array<'_>,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<(CudaStorage, Shape)> {
    let device = grad.device();
    let ConvShape { batch, in_size: [height, width], in_channels, .. } = *shape;
    with_element!(NAME, grad.storage, T => {
        let grad = grad.view::<T>()?;
        let mut dx = unwritten::<T>(device, shape.input_len())?;
        let kernel = ChannelsLastKernel::new(device, kernel.view::<T>()?, shape)?;
        let operands = Operands { x: dx.slice(..), kernel: kernel.view(), y: grad.slice(..) };
        if !through_cudnn(device, Direction::InputGradient, &operands, shape, options)? {
            columns::input_gradient(device, &grad, &kernel.view(), &mut dx, shape)?;
        }
        Ok(stored(dx, device, (batch, height, width, in_channels)))
    })
}

/// The gradient of the kernel, from the input and the gradient of the output.
pub(crate) fn kernel_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let ConvShape { out_channels, kernel: [height, width], .. } = *shape;
    with_element!(NAME, x.storage, T => {
        let (x, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let mut taps = unwritten::<T>(device, shape.kernel_len())?;
        let operands = Operands { x: x.slice(..), kernel: taps.slice(..), y: grad.slice(..) };
        if !through_cudnn(device, Direction::KernelGradient, &operands, shape, options)? {
            columns::kernel_gradient(device, &x, &grad, &mut taps, shape)?;
        }
        let dkernel = if ChannelsLastKernel::<T>::is_in_order(shape) {
            taps
        } else {
            let sizes = [out_channels, shape.taps(), shape.group_in()];
            transposed(device, &taps.slice(..), sizes)?
        };
        Ok(stored(dkernel, device, (out_channels, shape.group_in(), height, width)))
    })
}

/// A kernel as `[out, height, width, in / groups]`.
enum ChannelsLastKernel<'a, T> {
    AsGiven(CudaView<'a, T>),
    Transposed(CudaSlice<T>),
}

impl<'a, T: Element> ChannelsLastKernel<'a, T> {
    fn new(device: &CudaDevice, kernel: CudaView<'a, T>, shape: &ConvShape) -> Result<Self> {
        if Self::is_in_order(shape) {
            return Ok(Self::AsGiven(kernel));
        }
        let sizes = [shape.out_channels, shape.group_in(), shape.taps()];
        Ok(Self::Transposed(transposed(device, &kernel, sizes)?))
    }

    /// Whether both orders are the same in memory.
    fn is_in_order(shape: &ConvShape) -> bool {
        shape.taps() == 1 || shape.group_in() == 1
    }

    fn view(&self) -> CudaView<'_, T> {
        match self {
            Self::AsGiven(view) => view.slice(..),
            Self::Transposed(slice) => slice.slice(..),
        }
    }
}

/// Lets cuDNN write the operand that `direction` asks for. Returns whether cuDNN did.
fn through_cudnn<T: Element>(
    device: &CudaDevice,
    direction: Direction,
    operands: &Operands<'_, T>,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<bool> {
    match &state::of(device)?.cudnn {
        Some(cudnn) => locked(cudnn).convolve(direction, operands, shape, options),
        None => Ok(false),
    }
}
