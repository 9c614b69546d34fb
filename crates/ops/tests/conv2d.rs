//! Convolution against PyTorch's values, a plain loop, and finite differences.

use candle_vision_test_support as every_path;
#[path = "support/places.rs"]
mod places;
use candle_vision_test_support::reference;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{Activation, Conv2dConfig, Padding2d, conv2d, conv2d_activated, relu6};
use places::places;
use reference::{assert_close, relative_error, signed};

/// What one convolution gives: its output and the gradients of input, kernel and bias.
struct Outcome {
    y: Tensor,
    dx: Tensor,
    dkernel: Tensor,
    dbias: Tensor,
}

/// Input `[batch, height, width, channels]`, kernel `[out, in / groups, height, width]`.
#[derive(Debug, Clone, Copy)]
struct Case {
    x: [usize; 4],
    kernel: [usize; 4],
    config: Conv2dConfig,
}

impl Case {
    fn new(x: [usize; 4], kernel: [usize; 4]) -> Self {
        Self { x, kernel, config: Conv2dConfig::default() }
    }

    fn with(self, config: Conv2dConfig) -> Self {
        Self { config, ..self }
    }

    fn inputs(&self, dtype: DType) -> Result<[Tensor; 3]> {
        Ok([
            signed("x", &self.x)?.to_dtype(dtype)?,
            signed("kernel", &self.kernel)?.to_dtype(dtype)?,
            signed("bias", &self.kernel[..1])?.to_dtype(dtype)?,
        ])
    }

    fn run(&self, dtype: DType) -> Result<Outcome> {
        let [x, kernel, bias] = self.inputs(dtype)?;
        outcome(&x, &kernel, &bias, &self.config)
    }
}

fn outcome(x: &Tensor, kernel: &Tensor, bias: &Tensor, config: &Conv2dConfig) -> Result<Outcome> {
    let (x, kernel, bias) =
        (Var::from_tensor(x)?, Var::from_tensor(kernel)?, Var::from_tensor(bias)?);
    let y = conv2d(&x, &kernel, Some(&bias), config)?;
    let grad = signed("grad", y.dims())?.to_dtype(y.dtype())?;
    let grads = (&y * grad)?.sum_all()?.backward()?;
    let gradient = |var: &Var| grads.get(var).expect("every variable has a gradient").clone();
    Ok(Outcome { dx: gradient(&x), dkernel: gradient(&kernel), dbias: gradient(&bias), y })
}

/// Shapes that reach every kernel: odd and even sizes, few channels and many, strides that do not
/// divide, kernels that do not overlap, padding wider than the kernel, dilation, groups, depthwise.
fn small_cases() -> Vec<Case> {
    let config = Conv2dConfig::default;
    let pairs = |stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]| {
        config().stride(stride).padding(padding).dilation(dilation)
    };
    vec![
        Case::new([1, 1, 1, 1], [1, 1, 1, 1]),
        Case::new([2, 5, 4, 3], [4, 3, 3, 3]).with(config().padding(1)),
        Case::new([1, 7, 5, 2], [3, 2, 3, 3]).with(config().stride(2)),
        Case::new([2, 6, 7, 2], [3, 2, 3, 3]).with(config().stride(2).padding(1)),
        Case::new([1, 8, 7, 2], [3, 2, 2, 4]).with(config().stride(3).padding(1)),
        Case::new([2, 5, 6, 3], [4, 3, 1, 1]),
        Case::new([2, 5, 6, 3], [4, 3, 1, 1]).with(config().stride(2)),
        Case::new([1, 5, 4, 3], [2, 3, 1, 1]).with(config().padding(1)),
        // Most taps, and then all of them, only see padding.
        Case::new([2, 1, 1, 3], [4, 3, 3, 3]).with(config().padding(1)),
        Case::new([2, 2, 1, 18], [17, 18, 3, 3]).with(config().padding(1)),
        Case::new([3, 2, 2, 18], [17, 18, 3, 3]).with(config().padding(1).stride(2)),
        Case::new([1, 1, 2, 18], [20, 9, 5, 5]).with(config().padding(2).groups(2)),
        Case::new([1, 1, 2, 3], [2, 3, 2, 2]).with(config().padding(2).dilation(3)),
        Case::new([1, 1, 1, 17], [2, 17, 2, 2]).with(config().padding(2).dilation(3)),
        Case::new([1, 6, 6, 3], [5, 3, 2, 2]).with(config().stride(2)),
        Case::new([1, 7, 8, 2], [3, 2, 2, 2]).with(config().stride(4)),
        Case::new([1, 9, 8, 2], [3, 2, 3, 3]).with(config().dilation(2).padding(2)),
        Case::new([1, 9, 10, 2], [3, 2, 3, 2]).with(config().dilation(3).stride(2).padding(3)),
        Case::new([1, 6, 7, 2], [3, 2, 3, 1]).with(pairs([2, 1], [0, 3], [1, 2])),
        Case::new([1, 3, 9, 2], [3, 2, 1, 5]).with(pairs([1, 3], [2, 1], [2, 1])),
        Case::new([1, 3, 3, 2], [3, 2, 3, 3]).with(config().padding(4)),
        Case::new([2, 5, 4, 6], [9, 2, 3, 3]).with(config().padding(1).groups(3)),
        Case::new([1, 6, 5, 4], [6, 2, 3, 3]).with(config().padding(1).groups(2).stride(2)),
        Case::new([1, 5, 5, 4], [8, 2, 1, 1]).with(config().groups(2)),
        Case::new([1, 4, 5, 17], [3, 17, 3, 3]).with(config().padding(1)),
        Case::new([1, 7, 6, 16], [3, 16, 3, 3]).with(config().dilation(2).padding(3)),
        Case::new([2, 5, 6, 16], [2, 16, 3, 2]).with(config().stride(2).padding(1)),
        Case::new([1, 7, 8, 16], [3, 16, 2, 2]).with(config().stride(3)),
        Case::new([1, 8, 7, 16], [2, 16, 3, 3]).with(config().stride(2).padding(2).dilation(2)),
        Case::new([1, 5, 4, 16], [3, 16, 2, 3]).with(pairs([1, 2], [1, 0], [1, 1])),
        Case::new([1, 5, 4, 34], [18, 17, 2, 2]).with(config().stride(2).groups(2)),
        Case::new([1, 4, 4, 34], [36, 17, 2, 2]).with(config().padding(1).groups(2)),
        Case::new([1, 5, 5, 3], [6, 1, 3, 3]).with(config().groups(3)),
        Case::new([2, 5, 6, 5], [5, 1, 3, 3]).with(config().padding(1).groups(5)),
        Case::new([1, 7, 6, 3], [3, 1, 5, 4]).with(config().padding(2).stride(2).groups(3)),
        Case::new([1, 6, 6, 3], [3, 1, 2, 2]).with(config().dilation(2).stride(3).groups(3)),
        // Padding that differs from side to side.
        Case::new([1, 5, 4, 3], [2, 3, 3, 3]).with(config().padding([0, 1, 2, 0])),
        Case::new([2, 6, 7, 16], [17, 16, 3, 3]).with(config().padding([1, 0, 0, 2])),
        Case::new([1, 6, 5, 16], [9, 16, 3, 3]).with(config().padding([1, 2, 1, 1])),
        Case::new([1, 6, 5, 2], [3, 2, 4, 2]).with(config().padding(Padding2d::Same)),
        Case::new([1, 6, 5, 3], [3, 1, 3, 2]).with(config().padding(Padding2d::Same).groups(3)),
        Case::new([1, 6, 5, 3], [3, 3, 3, 3]).with(config().padding(Padding2d::SameTf).stride(2)),
        Case::new([1, 8, 7, 16], [5, 16, 3, 3]).with(config().padding(Padding2d::SameTf).stride(2)),
        Case::new([1, 8, 7, 4], [4, 1, 5, 3])
            .with(config().padding(Padding2d::SameTf).stride([3, 2]).groups(4)),
        Case::new([1, 8, 7, 4], [4, 2, 3, 2])
            .with(config().padding(Padding2d::SameTf).stride([2, 1]).dilation([1, 2]).groups(2)),
    ]
}

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let stored = reference::tensors("ops.safetensors");
    let (to_nhwc, to_nchw) = ((0, 2, 3, 1), (0, 3, 1, 2));
    let mut count = 0;
    for case in reference::json("ops.json").as_array().expect("a list of cases") {
        if case["op"] != "conv2d" {
            continue;
        }
        count += 1;
        let name = case["case"].as_str().expect("a name");
        let dims = |key: &str| -> Vec<usize> {
            serde_json::from_value(case[key].clone()).expect("a shape")
        };
        let number = |key: &str| case[key].as_u64().expect("a number") as usize;
        let config = Conv2dConfig::default()
            .stride(number("stride"))
            .padding(number("padding"))
            .dilation(number("dilation"))
            .groups(number("groups"));

        let x = reference::image_batch(&format!("{name}.x"), &dims("x"))?;
        let x = x.permute(to_nhwc)?.contiguous()?;
        let kernel = reference::weight(&format!("{name}.kernel"), &dims("kernel"), 1.0)?;
        let bias = reference::weight(&format!("{name}.bias"), &dims("kernel")[..1], 1.0)?;
        let has_bias = case["bias"] == true;
        for place in places() {
            let (x, kernel, bias) = (place.var(&x)?, place.var(&kernel)?, place.var(&bias)?);
            let y = conv2d(&x, &kernel, has_bias.then_some(bias.as_tensor()), &config)?;
            let y = y.permute(to_nchw)?;
            let grad = place.like(&signed(&format!("{name}.grad"), y.dims())?, &y)?;
            let grads = (&y * grad)?.sum_all()?.backward()?;

            let check = |what: &str, value: &Tensor| {
                let key = format!("{name}.{what}");
                let tolerance = place.tolerance(1e-5);
                assert_close(&format!("{key} at {place:?}"), value, &stored[&key], tolerance);
            };
            check("y", &y);
            check("dx", &grads.get(&x).expect("dx").permute(to_nchw)?);
            check("dkernel", grads.get(&kernel).expect("dkernel"));
            if has_bias {
                check("dbias", grads.get(&bias).expect("dbias"));
            }
        }
    }
    assert_eq!(count, 13);
    Ok(())
}

#[test]
fn gradients_agree_with_central_differences() -> Result<()> {
    for case in small_cases() {
        let inputs = case.inputs(DType::F64)?;
        let outcome = case.run(DType::F64)?;
        let loss = |inputs: &[Tensor; 3]| -> Result<f64> {
            let y = conv2d(&inputs[0], &inputs[1], Some(&inputs[2]), &case.config)?;
            let grad = signed("grad", y.dims())?.to_dtype(DType::F64)?;
            (y * grad)?.sum_all()?.to_scalar()
        };
        for (i, gradient) in [&outcome.dx, &outcome.dkernel, &outcome.dbias].iter().enumerate() {
            let difference = central_difference(&inputs, i, loss)?;
            // The loss is linear in each input, so only rounding separates the two.
            assert_close(&format!("{case:?}, input {i}"), gradient, &difference, 1e-9);
        }
    }
    Ok(())
}

/// The gradient of `loss` in `inputs[varied]`.
fn central_difference(
    inputs: &[Tensor; 3],
    varied: usize,
    loss: impl Fn(&[Tensor; 3]) -> Result<f64>,
) -> Result<Tensor> {
    const STEP: f64 = 0.5;
    let values = inputs[varied].flatten_all()?.to_vec1::<f64>()?;
    let moved = |i: usize, by: f64| -> Result<f64> {
        let (mut values, mut inputs) = (values.clone(), inputs.clone());
        values[i] += by;
        inputs[varied] = Tensor::from_vec(values, inputs[varied].shape(), &Device::Cpu)?;
        loss(&inputs)
    };
    let slope = |i| Ok((moved(i, STEP)? - moved(i, -STEP)?) / (2.0 * STEP));
    let gradient = (0..values.len()).map(slope).collect::<Result<Vec<f64>>>()?;
    Tensor::from_vec(gradient, inputs[varied].shape(), &Device::Cpu)
}

/// Rows above and columns to the left, by the definitions of PyTorch and TensorFlow.
fn in_front(case: &Case) -> [usize; 2] {
    let Conv2dConfig { stride, dilation, .. } = case.config;
    let reach = |axis: usize| (case.kernel[2 + axis] - 1) * dilation[axis] + 1;
    let tensorflows = |axis: usize| {
        let size = case.x[1 + axis];
        let left =
            if size.is_multiple_of(stride[axis]) { stride[axis] } else { size % stride[axis] };
        reach(axis).saturating_sub(left) / 2
    };
    match case.config.padding {
        Padding2d::Explicit { top, left, .. } => [top, left],
        Padding2d::Same => [(reach(0) - 1) / 2, (reach(1) - 1) / 2],
        Padding2d::SameTf => [tensorflows(0), tensorflows(1)],
        other => panic!("no definition of {other:?}"),
    }
}

/// The definition, in f64: for each product, the elements of output, input and kernel it belongs to.
fn plain(case: &Case, mut product: impl FnMut(usize, usize, usize), out_size: [usize; 2]) {
    let [batch, in_height, in_width, in_channels] = case.x;
    let [out_channels, group_in, kernel_height, kernel_width] = case.kernel;
    let Conv2dConfig { stride, dilation, groups, .. } = case.config;
    let padding = in_front(case);
    let place = |axis: usize, output: usize, tap: usize, size: usize| {
        let position = output * stride[axis] + tap * dilation[axis];
        position.checked_sub(padding[axis]).filter(|&position| position < size)
    };
    for n in 0..batch {
        for (oy, ox) in (0..out_size[0]).flat_map(|y| (0..out_size[1]).map(move |x| (y, x))) {
            for (r, s) in (0..kernel_height).flat_map(|r| (0..kernel_width).map(move |s| (r, s))) {
                let y = place(0, oy, r, in_height);
                let x = place(1, ox, s, in_width);
                let (Some(y), Some(x)) = (y, x) else { continue };
                for o in 0..out_channels {
                    let first = o / (out_channels / groups) * group_in;
                    for i in 0..group_in {
                        product(
                            ((n * out_size[0] + oy) * out_size[1] + ox) * out_channels + o,
                            ((n * in_height + y) * in_width + x) * in_channels + first + i,
                            ((o * group_in + i) * kernel_height + r) * kernel_width + s,
                        );
                    }
                }
            }
        }
    }
}

#[track_caller]
fn check_against_plain(case: Case, dtype: DType, tolerance: f64) -> Result<()> {
    let outcome = case.run(dtype)?;
    let [x, kernel, bias] = case.inputs(DType::F64)?;
    let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
    let (x, kernel, bias) = (values(&x)?, values(&kernel)?, values(&bias)?);
    let grad = values(&signed("grad", outcome.y.dims())?.to_dtype(DType::F64)?)?;
    let mut y: Vec<f64> = bias.iter().copied().cycle().take(grad.len()).collect();
    let (mut dx, mut dkernel) = (vec![0.0; x.len()], vec![0.0; kernel.len()]);
    let mut dbias = vec![0.0; bias.len()];
    for (i, grad) in grad.iter().enumerate() {
        dbias[i % bias.len()] += grad;
    }
    let product = |o: usize, i: usize, k: usize| {
        y[o] += x[i] * kernel[k];
        dx[i] += grad[o] * kernel[k];
        dkernel[k] += grad[o] * x[i];
    };
    plain(&case, product, [outcome.y.dims()[1], outcome.y.dims()[2]]);
    for (what, computed, expected) in [
        ("y", &outcome.y, y),
        ("dx", &outcome.dx, dx),
        ("dkernel", &outcome.dkernel, dkernel),
        ("dbias", &outcome.dbias, dbias),
    ] {
        let expected = Tensor::from_vec(expected, computed.shape(), &Device::Cpu)?;
        assert_close(&format!("{case:?} {what}"), computed, &expected, tolerance);
    }
    Ok(())
}

#[test]
fn small_shapes_agree_with_the_plain_loop() -> Result<()> {
    for case in small_cases() {
        check_against_plain(case, DType::F64, 1e-12)?;
        check_against_plain(case, DType::F32, 2e-6)?;
    }
    Ok(())
}

/// Large enough for several blocks of rows, slices of taps, tiles of channels and partial sums.
fn large_cases() -> Vec<Case> {
    let config = Conv2dConfig::default;
    vec![
        Case::new([2, 37, 41, 24], [20, 24, 3, 3]).with(config().padding(1)),
        Case::new([1, 9, 11, 300], [270, 300, 3, 3]).with(config().padding(1)),
        Case::new([1, 12, 13, 300], [140, 300, 3, 3]).with(config().padding(1).stride(2)),
        Case::new([3, 47, 51, 3], [16, 3, 7, 7]).with(config().padding(3).stride(2)),
        Case::new([1, 60, 33, 3], [8, 3, 3, 3]).with(config().padding(1)),
        Case::new([1, 75, 20, 3], [8, 3, 3, 3]).with(config().padding(1).dilation(2)),
        Case::new([1, 64, 64, 3], [12, 3, 16, 16]).with(config().stride(16)),
        Case::new([1, 67, 67, 3], [8, 3, 11, 11]).with(config().padding(2).stride(4)),
        Case::new([2, 40, 36, 40], [300, 40, 1, 1]),
        Case::new([2, 41, 35, 20], [33, 20, 1, 1]).with(config().stride(2)),
        Case::new([2, 33, 35, 24], [36, 8, 3, 3]).with(config().padding(1).groups(3)),
        Case::new([2, 33, 35, 16], [32, 8, 3, 3]).with(config().padding(1).groups(2).stride(2)),
        Case::new([2, 33, 35, 75], [75, 1, 3, 3]).with(config().padding(1).groups(75)),
        Case::new([2, 33, 35, 43], [43, 1, 5, 5]).with(config().padding(2).stride(2).groups(43)),
    ]
}

#[test]
fn large_shapes_agree_with_the_plain_loop() -> Result<()> {
    large_cases().into_iter().try_for_each(|case| check_against_plain(case, DType::F32, 5e-6))
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    for case in large_cases() {
        let run = |threads: usize| -> Result<Vec<Vec<u32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let outcome = pool.expect("a pool of threads").install(|| case.run(DType::F32))?;
            let bits = |t: &Tensor| -> Result<Vec<u32>> {
                Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
            };
            [outcome.y, outcome.dx, outcome.dkernel, outcome.dbias].iter().map(bits).collect()
        };
        let one = run(1)?;
        assert!(run(2)? == one, "2 threads: {case:?}");
        assert!(run(3)? == one, "3 threads: {case:?}");
    }
    Ok(())
}

#[test]
fn a_view_gives_the_same_and_gets_its_gradient() -> Result<()> {
    let case = Case::new([2, 5, 4, 3], [4, 3, 3, 3]);
    let expected = case.run(DType::F64)?;
    let [x, kernel, _] = case.inputs(DType::F64)?;
    // Channels first in memory, and the second half of a larger batch.
    let nchw = x.permute((0, 3, 1, 2))?.contiguous()?;
    let batch = Var::from_tensor(&Tensor::cat(&[&nchw, &nchw], 0)?)?;
    let view = batch.narrow(0, 2, 2)?.permute((0, 2, 3, 1))?;
    let y = conv2d(&view, &kernel, None, &case.config)?;
    let grad = signed("grad", y.dims())?.to_dtype(DType::F64)?;
    let grads = (&y * grad)?.sum_all()?.backward()?;
    let dx = grads.get(&batch).expect("a gradient").permute((0, 2, 3, 1))?;
    assert_close("second half", &dx.narrow(0, 2, 2)?, &expected.dx, 1e-12);
    assert_eq!(dx.narrow(0, 0, 2)?.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
    Ok(())
}

#[test]
fn what_is_frozen_gets_no_gradient() -> Result<()> {
    let case = Case::new([2, 5, 4, 3], [4, 3, 3, 3]);
    let [x, kernel, bias] = case.inputs(DType::F32)?;
    let (trained, config) = (Var::from_tensor(&kernel)?, case.config);

    let grads = conv2d(&x, &trained, Some(&bias), &config)?.sum_all()?.backward()?;
    assert!(grads.get(&x).is_none() && grads.get(&bias).is_none() && grads.get(&trained).is_some());

    let image = Var::from_tensor(&x)?;
    let grads = conv2d(&image, &kernel, None, &config)?.sum_all()?.backward()?;
    assert!(grads.get(&image).is_some() && grads.get(&kernel).is_none());
    Ok(())
}

#[test]
fn bias_is_added_to_every_pixel() -> Result<()> {
    let case = Case::new([2, 5, 4, 3], [4, 3, 3, 3]);
    let [x, kernel, bias] = case.inputs(DType::F32)?;
    let without = conv2d(&x, &kernel, None, &case.config)?.broadcast_add(&bias)?;
    let with = conv2d(&x, &kernel, Some(&bias), &case.config)?;
    assert!(relative_error(&with, &without)? < 1e-7);
    Ok(())
}

#[test]
fn an_activation_in_the_same_op_changes_nothing() -> Result<()> {
    for case in small_cases() {
        for with_bias in [false, true] {
            let run = |activated: bool| -> Result<Vec<Tensor>> {
                let variables = case.inputs(DType::F64)?.map(|input| Var::from_tensor(&input));
                let [x, kernel, bias] = variables;
                let (x, kernel, bias) = (x?, kernel?, bias?);
                let given = with_bias.then_some(bias.as_tensor());
                let y = if activated {
                    conv2d_activated(&x, &kernel, given, Activation::Relu6, &case.config)?
                } else {
                    relu6(&conv2d(&x, &kernel, given, &case.config)?)?
                };
                let grads = y.sqr()?.sum_all()?.backward()?;
                let grads = [&x, &kernel, &bias].into_iter().filter_map(|v| grads.get(v).cloned());
                Ok(std::iter::once(y).chain(grads).collect())
            };
            let (plain, fused) = (run(false)?, run(true)?);
            assert_eq!(plain.len(), fused.len());
            for (plain, fused) in plain.iter().zip(&fused) {
                let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f64>();
                assert_eq!(values(plain)?, values(fused)?, "{case:?}");
            }
        }
    }
    Ok(())
}

#[track_caller]
fn check_error(x: &[usize], kernel: &[usize], config: Conv2dConfig, expected: &str) {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("zeros");
    let error = conv2d(&zeros(x), &zeros(kernel), None, &config).expect_err("an error");
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    assert!(line.starts_with("conv2d: ") && line.contains(expected), "{line}");
}

#[test]
fn wrong_arguments_are_named() {
    let config = Conv2dConfig::default;
    check_error(&[3, 8, 8], &[4, 3, 3, 3], config(), "x is [batch, height, width, channels]");
    check_error(&[1, 8, 8, 3], &[4, 3, 3], config(), "kernel is [out, in / groups, height, width]");
    check_error(&[0, 8, 8, 3], &[4, 3, 3, 3], config(), "no elements in x [0, 8, 8, 3]");
    check_error(&[1, 8, 8, 3], &[0, 3, 3, 3], config(), "no elements");
    check_error(&[1, 3, 8, 8], &[4, 3, 3, 3], config(), "does not take the 8 channels");
    check_error(&[1, 8, 8, 4], &[4, 4, 3, 3], config().groups(2), "in 2 groups");
    check_error(&[1, 8, 8, 4], &[5, 2, 3, 3], config().groups(2), "2 groups do not divide the 5");
    check_error(&[1, 8, 8, 4], &[4, 4, 3, 3], config().groups(0), "in 0 groups");
    check_error(&[1, 2, 8, 3], &[4, 3, 3, 3], config(), "a window of 3 does not fit an input of 2");
    check_error(&[1, 8, 8, 3], &[4, 3, 3, 3], config().stride(0), "at least 1");
    check_error(&[1, 8, 8, 3], &[4, 3, 0, 3], config(), "at least 1");
    check_error(&[1, 8, 8, 3], &[4, 3, 3, 3], config().padding(usize::MAX), "padding is too large");
    check_error(&[1, 8, 8, 3], &[4, 3, 3, 3], config().padding(1 << 60), "is too large");
}

#[test]
fn wrong_element_types_and_biases_are_named() -> Result<()> {
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu);
    let x = zeros(&[1, 8, 8, 3], DType::F32)?;
    let kernel = zeros(&[4, 3, 3, 3], DType::F32)?;
    let message = |x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>| {
        conv2d(x, kernel, bias, &Conv2dConfig::default()).expect_err("an error").to_string()
    };
    let short = message(&x, &kernel, Some(&zeros(&[3], DType::F32)?));
    assert!(short.contains("bias is [4]"), "{short}");
    let mixed = message(&x, &kernel.to_dtype(DType::F64)?, None);
    assert!(mixed.contains("x is F32, its weight F64"), "{mixed}");
    let integers = message(&x.to_dtype(DType::U8)?, &kernel.to_dtype(DType::U8)?, None);
    assert!(integers.contains("expected f32 or f64, got U8"), "{integers}");
    Ok(())
}

/// Widths, tails and blocks differ between the kernels' sets of instructions.
#[test]
fn every_set_of_instructions_passes() {
    every_path::with_every_limit("");
}
