//! The functions of cuDNN that are used here. They are found in the library at run time.
//!
//! candle's own `cudnn` feature would make every CUDA binary need the library at its start. The signatures
//! are those of `cudnn_cnn.h` and `cudnn_ops.h` of cuDNN 8 and 9.

use std::ffi::{CStr, c_char, c_double, c_float, c_int, c_void};

use candle_core::{Error, Result};
use libloading::Library;

use crate::cuda::library::functions;

/// An opaque handle or descriptor.
pub(super) type Handle = *mut c_void;
pub(super) type Status = c_int;

pub(super) const SUCCESS: Status = 0;

/// `cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t`. They differ only in the names of their
/// enumerations.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Performance {
    pub(super) algorithm: c_int,
    pub(super) status: Status,
    pub(super) time: c_float,
    pub(super) memory: usize,
    /// 1 if the same input always gives the same bits.
    pub(super) determinism: c_int,
    pub(super) math: c_int,
    reserved: [c_int; 3],
}

impl Performance {
    pub(super) const EMPTY: Self = Self {
        algorithm: 0,
        status: 0,
        time: 0.0,
        memory: 0,
        determinism: 0,
        math: 0,
        reserved: [0; 3],
    };
}

type Create = unsafe extern "C" fn(*mut Handle) -> Status;
type Destroy = unsafe extern "C" fn(Handle) -> Status;
/// Takes three descriptors around that of the convolution, in the order of the direction.
pub(super) type Algorithms = unsafe extern "C" fn(
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    c_int,
    *mut c_int,
    *mut Performance,
) -> Status;
pub(super) type Workspace =
    unsafe extern "C" fn(Handle, Handle, Handle, Handle, Handle, c_int, *mut usize) -> Status;
/// Takes two operands, the convolution, the algorithm, the workspace, and the result.
pub(super) type Convolve = unsafe extern "C" fn(
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    c_int,
    *mut c_void,
    usize,
    *const c_void,
    Handle,
    *mut c_void,
) -> Status;

/// Takes a factor, the input, the kernel, the convolution, the algorithm, the workspace, a factor, what is added, the
/// bias, the activation, and the result.
pub(super) type ConvolveFinished = unsafe extern "C" fn(
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    c_int,
    *mut c_void,
    usize,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    *const c_void,
    Handle,
    Handle,
    *mut c_void,
) -> Status;

functions! {
    create: c"cudnnCreate", Create;
    destroy: c"cudnnDestroy", Destroy;
    set_stream: c"cudnnSetStream", unsafe extern "C" fn(Handle, *mut c_void) -> Status;
    error_string: c"cudnnGetErrorString", unsafe extern "C" fn(Status) -> *const c_char;
    create_tensor: c"cudnnCreateTensorDescriptor", Create;
    destroy_tensor: c"cudnnDestroyTensorDescriptor", Destroy;
    set_tensor: c"cudnnSetTensor4dDescriptor", unsafe extern "C" fn(
        Handle, c_int, c_int, c_int, c_int, c_int, c_int,
    ) -> Status;
    create_filter: c"cudnnCreateFilterDescriptor", Create;
    destroy_filter: c"cudnnDestroyFilterDescriptor", Destroy;
    set_filter: c"cudnnSetFilter4dDescriptor", unsafe extern "C" fn(
        Handle, c_int, c_int, c_int, c_int, c_int, c_int,
    ) -> Status;
    create_convolution: c"cudnnCreateConvolutionDescriptor", Create;
    destroy_convolution: c"cudnnDestroyConvolutionDescriptor", Destroy;
    set_convolution: c"cudnnSetConvolution2dDescriptor", unsafe extern "C" fn(
        Handle, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int,
    ) -> Status;
    set_groups: c"cudnnSetConvolutionGroupCount", unsafe extern "C" fn(Handle, c_int) -> Status;
    set_math: c"cudnnSetConvolutionMathType", unsafe extern "C" fn(Handle, c_int) -> Status;
    forward_algorithms: c"cudnnGetConvolutionForwardAlgorithm_v7", Algorithms;
    input_gradient_algorithms: c"cudnnGetConvolutionBackwardDataAlgorithm_v7", Algorithms;
    kernel_gradient_algorithms: c"cudnnGetConvolutionBackwardFilterAlgorithm_v7", Algorithms;
    forward_workspace: c"cudnnGetConvolutionForwardWorkspaceSize", Workspace;
    input_gradient_workspace: c"cudnnGetConvolutionBackwardDataWorkspaceSize", Workspace;
    kernel_gradient_workspace: c"cudnnGetConvolutionBackwardFilterWorkspaceSize", Workspace;
    create_activation: c"cudnnCreateActivationDescriptor", Create;
    destroy_activation: c"cudnnDestroyActivationDescriptor", Destroy;
    set_activation: c"cudnnSetActivationDescriptor", unsafe extern "C" fn(
        Handle, c_int, c_int, c_double,
    ) -> Status;
    forward: c"cudnnConvolutionForward", Convolve;
    forward_finished: c"cudnnConvolutionBiasActivationForward", ConvolveFinished;
    input_gradient: c"cudnnConvolutionBackwardData", Convolve;
    kernel_gradient: c"cudnnConvolutionBackwardFilter", Convolve;
}

impl Functions {
    /// Opens the library by one of its usual names. `None` if it is not installed.
    pub(super) fn open() -> Result<Option<Self>> {
        const NAMES: [&str; 3] = ["libcudnn.so.9", "libcudnn.so", "cudnn64_9.dll"];
        // SAFETY: cuDNN's initialisers have no requirements.
        let Some(library) = NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok())
        else {
            return Ok(None);
        };
        Self::find(library).map(Some).map_err(|error| {
            Error::msg(format!(
                "cuDNN is installed but too old or incomplete ({error}); update it to version 9, or \
                 set CANDLE_VISION_CUDNN=off to do without"
            ))
        })
    }

    /// Returns an error that names the called function unless it succeeded.
    pub(super) fn check(&self, function: &str, status: Status) -> Result<()> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: cuDNN hands out a static string for any status.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) };
        Err(Error::msg(format!("cuDNN: {function} failed: {}", text.to_string_lossy())))
    }
}
