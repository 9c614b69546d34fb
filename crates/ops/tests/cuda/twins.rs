//! The same computation on both devices.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{backward_from, cuda_device, set_tf32};

use crate::measure::assert_near;
use crate::reference;

/// A device, used by one test at a time: its libraries are not made for several threads.
pub(crate) struct Cuda {
    pub(crate) device: Device,
    _alone: MutexGuard<'static, ()>,
}

#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
pub(crate) fn skipped(error: &candle_core::Error) {
    eprintln!("skipped: {error}");
}

/// The first CUDA device, or nothing where there is none.
pub(crate) fn cuda() -> Option<Cuda> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let device = DEVICE.get_or_init(|| match cuda_device(0) {
        Ok(device) => {
            set_tf32(false);
            Some(device)
        }
        Err(error) => {
            skipped(&error.context("no CUDA device"));
            None
        }
    });
    device.clone().map(|device| Cuda { device, _alone: alone })
}

/// An argument of an op, on the CPU and in `f32`.
#[derive(Clone)]
pub(crate) enum Input {
    /// Takes the number type that is tried: feature maps and the weights of products.
    Map(Tensor),
    /// Stays `f32`: what belongs to a norm or a loss.
    Full(Tensor),
}

/// Numbers around 0 that depend on the name and the shape.
pub(crate) fn random(name: &str, dims: &[usize]) -> Tensor {
    reference::signed(name, dims).and_then(|x| x.to_dtype(DType::F32)).expect("numbers")
}

pub(crate) fn map(name: &str, dims: &[usize]) -> Input {
    Input::Map(random(name, dims))
}

pub(crate) fn full(name: &str, dims: &[usize]) -> Input {
    Input::Full(random(name, dims))
}

/// Number types and how far apart, of the largest value, two ways of adding up may be.
pub(crate) const TYPES: [(DType, f64); 3] =
    [(DType::F32, 1e-4), (DType::BF16, 1e-2), (DType::F16, 2e-3)];

/// The same behind a ReLU: in half precision a value near its kink may fall on either side.
pub(crate) const WITH_RELU: [(DType, f64); 3] =
    [(DType::F32, 1e-4), (DType::BF16, 1e-1), (DType::F16, 3e-2)];

/// Checks `f` and the gradients of all its inputs in every number type.
#[track_caller]
pub(crate) fn check(what: &str, inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    check_in(what, &TYPES, inputs, f);
}

/// The same in `types`.
#[track_caller]
pub(crate) fn check_in(
    what: &str,
    types: &[(DType, f64)],
    inputs: &[Input],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let Some(cuda) = cuda() else { return };
    for &(dtype, tolerance) in types {
        let on = |device: &Device| run(device, dtype, inputs, &f).expect("the op runs");
        let (expected, found) = (on(&Device::Cpu), on(&cuda.device));
        for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let part = if i == 0 { "output".to_owned() } else { format!("gradient {}", i - 1) };
            let what = format!("{what}, {dtype:?}, {part}");
            assert_near(&what, found, expected, tolerance);
        }
    }
}

/// The output and the gradients of all inputs, on the CPU and in `f64`.
fn run(
    device: &Device,
    dtype: DType,
    inputs: &[Input],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let variables = inputs.iter().map(|input| {
        let (tensor, dtype) = match input {
            Input::Map(tensor) => (tensor, dtype),
            Input::Full(tensor) => (tensor, DType::F32),
        };
        // Rounded before it is moved, so that both start from the same numbers.
        Var::from_tensor(&tensor.to_dtype(dtype)?.to_device(device)?)
    });
    let variables = variables.collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let weights = random("output gradient", y.dims()).to_dtype(y.dtype())?.to_device(device)?;
    let mut gradients = backward_from(&y, &weights)?;
    let mut results = vec![y.detach()];
    for variable in &variables {
        results.push(gradients.remove(variable).expect("every input has a gradient"));
    }
    results.iter().map(|x| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)).collect()
}
