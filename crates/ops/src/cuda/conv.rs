//! Convolution of channels-last images and its two gradients. It uses cuDNN if that is installed and
//! supports the shape. Otherwise it uses a matrix product of patches.
//!
//! Parameters keep PyTorch's order `[out, in / groups, height, width]`. Both methods need
//! `[out, height, width, in / groups]`. So a kernel is transposed before. An `f32` gradient stays as it lies
//! in memory, as a permuted view: the optimizers' kernels read it so.

mod columns;
mod depth;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Tensor};

use self::depth::Depth;
use super::activation::finish_in_place;
use super::array::{Array, kept, stored, tensor, unwritten};
use super::batch_norm::add_residual;
use super::cudnn::{Direction, Ends, Operands};
use super::element::{Element, with_element};
use super::layout::transposed;
use super::state::{self, locked};
use crate::Activation;
use crate::conv2d::OnCuda;
use candle_vision_kernels::conv_shape::ConvShape;

const NAME: &str = "conv2d";

/// What is done with a convolution's output.
pub(crate) struct Finish<'a> {
    pub(crate) bias: Option<Array<'a>>,
    /// It is added, too.
    pub(crate) residual: Option<Array<'a>>,
    pub(crate) activation: Activation,
}

/// `activation(convolution of x with kernel + bias + residual)`.
pub(crate) fn output(
    x: Array<'_>,
    kernel: Array<'_>,
    then: &Finish<'_>,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let ConvShape { batch, out_size: [height, width], out_channels, .. } = *shape;
    let dims = (batch, height, width, out_channels);
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, shape.output_len())?;
        if convolve(device, [x, kernel], &mut y, then, shape, options)? {
            return Ok(stored(y, device, dims));
        }
        let Finish { bias, residual, activation } = *then;
        let Some(residual) = residual else {
            finish_in_place(&mut y, device, out_channels, bias, activation)?;
            return Ok(stored(y, device, dims));
        };
        finish_in_place(&mut y, device, out_channels, bias, Activation::Identity)?;
        let (y, dims) = stored(y, device, dims);
        add_residual(Array::new(&y, &Layout::contiguous(dims)), residual, activation)
    })
}

/// Writes the plain convolution to `y`, or what [`output`] returns. Returns whether it is the latter.
fn convolve<T: Element>(
    device: &CudaDevice,
    [x, kernel]: [Array<'_>; 2],
    y: &mut CudaSlice<T>,
    then: &Finish<'_>,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<bool> {
    let x = x.view::<T>()?;
    let mut through = |x: &CudaView<'_, T>, kernel: &CudaView<'_, T>, shape: &ConvShape| {
        let operands = Operands { x: x.slice(..), kernel: kernel.slice(..), y: y.slice(..) };
        if finished_by_cudnn(device, &operands, then, shape, options)? {
            return Ok(true);
        }
        if !through_cudnn(device, Direction::Forward, &operands, shape, options)? {
            columns::output(device, x, kernel, y, shape)?;
        }
        Ok(false)
    };
    match depth::<T>(device, shape, options)? {
        Some(depth) => {
            let inner = depth.shape(shape);
            let (map, kernel) =
                (depth.map(device, &x, &inner)?, depth.kernel(device, kernel, &inner)?);
            through(&map.slice(..), &kernel.slice(..), &inner)
        }
        None => {
            let kernel = ChannelsLastKernel::new(device, kernel, shape)?;
            through(&x, &kernel.view(), shape)
        }
    }
}

/// The form of a convolution of images of few channels. Without cuDNN, it is a matrix product all the same.
fn depth<T: Element>(
    device: &CudaDevice,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<Option<Depth>> {
    let depth = Depth::of::<T>(shape, options);
    Ok(depth.filter(|_| state::of(device).is_ok_and(|state| state.cudnn.is_some())))
}

/// Lets cuDNN convolve, add and activate in one operation, if it has one for that. Returns whether it did.
fn finished_by_cudnn<T: Element>(
    device: &CudaDevice,
    operands: &Operands<'_, T>,
    then: &Finish<'_>,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<bool> {
    let (Some(bias), Some(cudnn)) = (then.bias, &state::of(device)?.cudnn) else {
        return Ok(false);
    };
    let has_relu = match then.activation {
        Activation::Identity => false,
        Activation::Relu => true,
        _ => return Ok(false),
    };
    let residual = then.residual.map(|residual| residual.view::<T>()).transpose()?;
    let ends = Ends { bias: bias.view::<T>()?, residual, has_relu };
    locked(cudnn).convolve_finished(operands, &ends, shape, options)
}

/// Whether all passes that need `kernel` would transpose it to `[out, height, width, in / groups]`.
pub(crate) fn wants_channels_last(
    kernel: &Tensor,
    shape: &ConvShape,
    options: OnCuda,
) -> Result<bool> {
    let kernel = kept(kernel);
    let kernel = kernel.array()?;
    with_element!(NAME, kernel.storage, T => {
        let in_order = kernel.channels_last_view::<T>()?.is_some();
        Ok(!in_order && depth::<T>(kernel.device(), shape, options)?.is_none())
    })
}

/// Whether a kernel lies in memory as `[out, height, width, in / groups]`.
pub(crate) fn lies_channels_last(kernel: &Tensor) -> Result<bool> {
    let kernel = kept(kernel);
    let kernel = kernel.array()?;
    with_element!(NAME, kernel.storage, T => Ok(kernel.channels_last_view::<T>()?.is_some()))
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
        let kernel = ChannelsLastKernel::new(device, kernel, shape)?;
        let operands = Operands { x: dx.slice(..), kernel: kernel.view(), y: grad.slice(..) };
        if !through_cudnn(device, Direction::InputGradient, &operands, shape, options)? {
            columns::input_gradient(device, &grad, &kernel.view(), &mut dx, shape)?;
        }
        Ok(stored(dx, device, (batch, height, width, in_channels)))
    })
}

/// The gradient of the kernel, from the input and the gradient of the output. It has the kernel's shape. In half precision it
/// is contiguous unless `as_view`.
pub(crate) fn kernel_gradient(
    x: &Tensor,
    grad: &Tensor,
    shape: &ConvShape,
    options: OnCuda,
    as_view: bool,
) -> Result<Tensor> {
    let (x, grad) = (kept(x), kept(grad));
    let (x, grad) = (x.array()?, grad.array()?);
    let device = x.device();
    let ConvShape { out_channels, kernel: [height, width], .. } = *shape;
    with_element!(NAME, x.storage, T => {
        let (x, grad) = (x.view::<T>()?, grad.view::<T>()?);
        if let Some(depth) = depth::<T>(device, shape, options)? {
            let inner = depth.shape(shape);
            let map = depth.map(device, &x, &inner)?;
            let taps = unwritten::<T>(device, inner.kernel_len())?;
            let operands =
                Operands { x: map.slice(..), kernel: taps.slice(..), y: grad.slice(..) };
            if through_cudnn(device, Direction::KernelGradient, &operands, &inner, options)? {
                let dkernel = depth.kernel_back(device, &taps, shape)?;
                let dims = (out_channels, shape.group_in(), height, width);
                return Ok(tensor(stored(dkernel, device, dims)));
            }
        }
        let mut taps = unwritten::<T>(device, shape.kernel_len())?;
        let operands = Operands { x: x.slice(..), kernel: taps.slice(..), y: grad.slice(..) };
        if !through_cudnn(device, Direction::KernelGradient, &operands, shape, options)? {
            columns::kernel_gradient(device, &x, &grad, &mut taps, shape)?;
        }
        // In half precision the gradient is cast next, which candle does for contiguous tensors alone within a capture.
        if T::SUFFIX != f32::SUFFIX && shape.taps() > 1 && !as_view {
            let sizes = [out_channels, shape.taps(), shape.group_in()];
            let dims = (out_channels, shape.group_in(), height, width);
            let in_order = transposed(device, &taps.slice(..), sizes)?;
            return Ok(tensor(stored(in_order, device, dims)));
        }
        let dims = (out_channels, height, width, shape.group_in());
        tensor(stored(taps, device, dims)).permute([0, 3, 1, 2])
    })
}

/// A kernel as `[out, height, width, in / groups]`.
enum ChannelsLastKernel<'a, T> {
    AsGiven(CudaView<'a, T>),
    Transposed(CudaSlice<T>),
}

impl<'a, T: Element> ChannelsLastKernel<'a, T> {
    fn new(device: &CudaDevice, kernel: Array<'a>, shape: &ConvShape) -> Result<Self> {
        if let Some(in_order) = kernel.channels_last_view::<T>()? {
            return Ok(Self::AsGiven(in_order));
        }
        let sizes = [shape.out_channels, shape.group_in(), shape.taps()];
        Ok(Self::Transposed(transposed(device, &kernel.view::<T>()?, sizes)?))
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
