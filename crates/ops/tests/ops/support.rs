//! What the tests of every op share: finite differences, thread pools, layouts.

use candle_core::{DType, Result, Tensor, Var};

use crate::reference;

/// Step of the central differences: `f64` leaves errors near 1e-10 on both sides of it.
const STEP: f64 = 1e-5;
/// What those errors come to relative to the gradient, with room to spare.
const TOLERANCE: f64 = 1e-7;

/// Checks the gradient of every input of `f` in `f64` against central differences, for a random
/// output gradient.
#[track_caller]
pub(crate) fn check_gradients(
    what: &str,
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let analytic = gradients(inputs, &f).expect("gradients exist");
    for (i, analytic) in analytic.iter().enumerate() {
        let numeric = central_differences(inputs, i, &f).expect("the function runs");
        reference::assert_close(&format!("{what}, input {i}"), analytic, &numeric, TOLERANCE);
    }
}

/// The gradients of all inputs for the output gradient `output_gradient`.
pub(crate) fn gradients(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let variables = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let gradients = objective(&f(&tensors)?)?.backward()?;
    Ok(tensors.iter().map(|x| gradients.get(x).expect("input has a gradient").clone()).collect())
}

fn objective(y: &Tensor) -> Result<Tensor> {
    (y * output_gradient(y.dims())?.to_dtype(y.dtype())?)?.sum_all()
}

pub(crate) fn output_gradient(dims: &[usize]) -> Result<Tensor> {
    reference::signed("output_gradient", dims)
}

fn central_differences(
    inputs: &[Tensor],
    which: usize,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Tensor> {
    let values = inputs[which].flatten_all()?.to_vec1::<f64>()?;
    let mut inputs = inputs.to_vec();
    let mut at = |element: usize, offset: f64| -> Result<f64> {
        let mut values = values.clone();
        values[element] += offset;
        inputs[which] = Tensor::from_vec(values, inputs[which].dims(), inputs[which].device())?;
        objective(&f(&inputs)?)?.to_scalar::<f64>()
    };
    let slope = |element| Ok((at(element, STEP)? - at(element, -STEP)?) / (2.0 * STEP));
    let slopes = (0..values.len()).map(slope).collect::<Result<Vec<f64>>>()?;
    Tensor::from_vec(slopes, inputs[which].dims(), inputs[which].device())
}

/// A random `f64` tensor, uniform with unit variance.
pub(crate) fn random(name: &str, dims: &[usize]) -> Tensor {
    reference::image_batch(name, dims).and_then(|x| x.to_dtype(DType::F64)).expect("a tensor")
}

/// A random `f64` tensor whose elements are further apart than a finite difference moves them.
pub(crate) fn distinct(name: &str, dims: &[usize]) -> Tensor {
    let count = dims.iter().product();
    let keys = reference::uniform(name, count);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
    let mut values = vec![0.0; count];
    for (rank, &element) in order.iter().enumerate() {
        values[element] = rank as f64 / 100.0 - 1.0;
    }
    Tensor::from_vec(values, dims, &candle_core::Device::Cpu).expect("a tensor")
}

/// `[batch, channels, height, width]` to contiguous channels-last, without the op under test.
pub(crate) fn nhwc(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).and_then(|x| x.contiguous()).expect("4 dimensions")
}

/// The other way round.
pub(crate) fn nchw(x: &Tensor) -> Tensor {
    x.permute([0, 3, 1, 2]).and_then(|x| x.contiguous()).expect("4 dimensions")
}

/// Checks that `f` gives the same bits on one, two and three threads.
#[track_caller]
pub(crate) fn check_threads(f: impl Fn() -> Result<Vec<Tensor>> + Send + Sync) {
    let on = |threads: usize| -> Vec<Vec<u32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let results = pool.install(&f).expect("the function runs");
        let bits = |x: &Tensor| -> Result<Vec<u32>> {
            let values = x.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(f32::to_bits).collect())
        };
        results.iter().map(|x| bits(x).expect("f32")).collect()
    };
    let one = on(1);
    assert!(one.iter().all(|bits| !bits.is_empty()));
    assert!(on(2) == one, "two threads give other bits than one");
    assert!(on(3) == one, "three threads give other bits than one");
}

/// Checks that `result` is an error whose text holds every one of `words`, on one line.
#[track_caller]
pub(crate) fn check_error<T>(result: Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("accepted, though {words:?} is wrong") };
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    for word in words {
        assert!(text.contains(word), "`{text}` does not mention `{word}`");
    }
}
