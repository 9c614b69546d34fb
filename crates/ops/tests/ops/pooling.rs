//! Pooling against PyTorch, finite differences and plain loops.

use crate::places::devices;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, distinct, nchw, nhwc, random};
use candle_core::{Device, Result, Tensor, Var};
use candle_vision_ops::{
    AvgPool2dConfig, MaxPool2dConfig, Padding2d, adaptive_avg_pool2d, avg_pool2d, max_pool2d,
};
use serde_json::Value;

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} of {case}")) as usize
}

fn pool(case: &Value, x: &Tensor) -> Result<Tensor> {
    let op = case["op"].as_str().expect("an op");
    if op == "adaptive_avg_pool2d" {
        return adaptive_avg_pool2d(x, [number(case, "output"); 2]);
    }
    let (kernel, stride) = (number(case, "kernel"), number(case, "stride"));
    let padding = number(case, "padding");
    if op == "avg_pool2d" {
        let include = case["count_include_pad"].as_bool().expect("a flag");
        let config = AvgPool2dConfig::new(kernel).stride(stride).padding(padding);
        return avg_pool2d(x, &config.count_include_pad(include));
    }
    let ceil_mode = case["ceil_mode"].as_bool().expect("a flag");
    let config = MaxPool2dConfig::new(kernel).stride(stride).padding(padding);
    max_pool2d(x, &config.ceil_mode(ceil_mode))
}

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let expected = reference::tensors("ops.safetensors");
    let mut seen = 0;
    for case in reference::json("ops.json").as_array().expect("a list") {
        let (name, op) =
            (case["case"].as_str().expect("a name"), case["op"].as_str().expect("an op"));
        if !op.contains("pool2d") {
            continue;
        }
        let dims: Vec<usize> = serde_json::from_value(case["x"].clone()).expect("sizes");
        let ties = name == "maxpool_ties";
        let x = reference::image_batch(&format!("{name}.x"), &dims)?;
        let x = nhwc(&if ties { x.ones_like()? } else { x });
        for device in devices() {
            let x = Var::from_tensor(&x.to_device(&device)?)?;
            let y = pool(case, &x)?;
            let what = format!("{name} at {device:?}");
            reference::assert_close(&what, &nchw(&y), &expected[&format!("{name}.y")], 1e-6);
            let grad = reference::signed(&format!("{name}.grad"), nchw(&y).dims())?;
            let grad = if ties { y.ones_like()? } else { nhwc(&grad).to_device(&device)? };
            let dx = (y * grad)?.sum_all()?.backward()?.remove(&x).expect("a gradient");
            let what = format!("{what}, gradient");
            reference::assert_close(&what, &nchw(&dx), &expected[&format!("{name}.dx")], 1e-6);
        }
        seen += 1;
    }
    assert_eq!(seen, 12);
    Ok(())
}

/// Sizes of the input, kernel, stride and padding.
type Shape = ([usize; 4], [usize; 2], [usize; 2], [usize; 2]);

/// Odd and even kernels, overlapping, side by side and with gaps; batch 1; wide and high images; few
/// channels and more than the kernels handle at a time.
const SHAPES: [Shape; 10] = [
    ([1, 5, 6, 19], [3, 3], [2, 2], [1, 1]),
    ([2, 4, 3, 32], [2, 2], [1, 1], [0, 0]),
    ([2, 5, 7, 3], [3, 3], [2, 2], [1, 1]),
    ([1, 9, 4, 2], [2, 2], [1, 1], [0, 0]),
    ([2, 6, 5, 1], [2, 2], [2, 2], [1, 1]),
    ([1, 8, 8, 3], [4, 4], [2, 2], [2, 2]),
    ([1, 7, 10, 2], [2, 3], [3, 2], [1, 0]),
    ([3, 5, 5, 2], [1, 1], [2, 2], [0, 0]),
    ([1, 3, 11, 5], [3, 2], [1, 4], [1, 1]),
    ([1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
];

#[test]
fn max_pool_gradient_is_that_of_its_values() {
    for (dims, kernel, stride, padding) in SHAPES {
        for ceil_mode in [false, true] {
            let config =
                MaxPool2dConfig::new(kernel).stride(stride).padding(padding).ceil_mode(ceil_mode);
            let what = format!("{dims:?} {config:?}");
            check_gradients(&what, &[distinct("max", &dims)], |x| max_pool2d(&x[0], &config));
        }
    }
}

#[test]
fn avg_pool_gradient_is_that_of_its_values() {
    for (dims, kernel, stride, padding) in SHAPES {
        for (ceil_mode, count_include_pad) in [(false, true), (true, true), (true, false)] {
            let config = AvgPool2dConfig::new(kernel)
                .stride(stride)
                .padding(padding)
                .ceil_mode(ceil_mode)
                .count_include_pad(count_include_pad);
            let what = format!("{dims:?} {config:?}");
            check_gradients(&what, &[random("avg", &dims)], |x| avg_pool2d(&x[0], &config));
        }
    }
}

#[test]
fn adaptive_pool_gradient_is_that_of_its_values() {
    for (dims, output) in [
        ([2, 7, 5, 3], [1, 1]),
        ([1, 7, 5, 2], [3, 4]),
        ([1, 3, 2, 2], [7, 5]),
        ([2, 6, 6, 1], [6, 6]),
    ] {
        let what = format!("{dims:?} to {output:?}");
        check_gradients(&what, &[random("adaptive", &dims)], |x| {
            adaptive_avg_pool2d(&x[0], output)
        });
    }
}

/// The definition, with padding written out and one output at a time.
fn plain_max_pool(
    x: &Tensor,
    config: &MaxPool2dConfig,
    padding: [usize; 2],
    size: [usize; 2],
) -> Result<Vec<f64>> {
    let (batch, height, width, channels) = x.dims4()?;
    let values = x.flatten_all()?.to_vec1::<f64>()?;
    let mut y = Vec::new();
    for (n, i, j, c) in indices([batch, size[0], size[1], channels]) {
        let mut max = f64::NEG_INFINITY;
        for (_, _, di, dj) in indices([1, 1, config.kernel[0], config.kernel[1]]) {
            let row = (i * config.stride[0] + di).checked_sub(padding[0]);
            let column = (j * config.stride[1] + dj).checked_sub(padding[1]);
            if let (Some(row), Some(column)) = (row, column)
                && row < height
                && column < width
            {
                max = max.max(values[((n * height + row) * width + column) * channels + c]);
            }
        }
        y.push(max);
    }
    Ok(y)
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let at = move |i: usize| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d);
    (0..a * b * c * d).map(at)
}

#[test]
fn max_pool_is_its_definition() -> Result<()> {
    for (dims, kernel, stride, padding) in SHAPES {
        for ceil_mode in [false, true] {
            let config =
                MaxPool2dConfig::new(kernel).stride(stride).padding(padding).ceil_mode(ceil_mode);
            let x = distinct("plain", &dims);
            // With and without a gradient to come, which are two kernels.
            let y = max_pool2d(&x, &config)?;
            let tracked = max_pool2d(&Var::from_tensor(&x)?.into_inner(), &config)?;
            let expected = plain_max_pool(&x, &config, padding, [y.dim(1)?, y.dim(2)?])?;
            assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, expected, "{dims:?} {config:?}");
            assert_eq!(tracked.flatten_all()?.to_vec1::<f64>()?, expected, "{dims:?} {config:?}");
        }
    }
    Ok(())
}

#[test]
fn first_of_equal_elements_gets_the_gradient() -> Result<()> {
    let x = Var::from_tensor(&Tensor::zeros((1, 3, 3, 1), candle_core::DType::F32, &Device::Cpu)?)?;
    let y = max_pool2d(&x, &MaxPool2dConfig::new(2).stride(1))?;
    let dx = y.sum_all()?.backward()?.remove(&x).expect("a gradient");
    let expected = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(dx.flatten_all()?.to_vec1::<f32>()?, expected);
    Ok(())
}

#[test]
fn nan_and_minus_infinity_pass_through_max_pool() -> Result<()> {
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let x = Tensor::new(&[1.0, nan, 2.0, 3.0, low, low, low, low], &Device::Cpu)?;
    let x = Var::from_tensor(&x.reshape((2, 2, 2, 1))?)?;
    for x in [x.as_tensor(), &x.detach()] {
        let y = max_pool2d(x, &MaxPool2dConfig::new(2))?.flatten_all()?.to_vec1::<f32>()?;
        assert!(y[0].is_nan() && y[1] == low, "{y:?}");
    }
    let y = max_pool2d(&x, &MaxPool2dConfig::new(2))?;
    let dx = y.sum_all()?.backward()?.remove(&x).expect("a gradient");
    let dx = dx.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(dx, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn global_average_of_a_large_map_is_accurate() -> Result<()> {
    let x = reference::image_batch("global", &[1, 300, 301, 2])?.affine(1.0, 10.0)?;
    let exact = x.to_dtype(candle_core::DType::F64)?.mean((1, 2))?;
    let y = adaptive_avg_pool2d(&x, [1, 1])?.reshape((1, 2))?;
    reference::assert_close("global average", &y, &exact, 1e-6);
    Ok(())
}

#[test]
fn views_and_empty_batches_are_taken() -> Result<()> {
    let x = random("view", &[2, 3, 6, 4]);
    let config = MaxPool2dConfig::new(2);
    let view = max_pool2d(&x.permute([0, 2, 3, 1])?, &config)?;
    let copy = max_pool2d(&nhwc(&x), &config)?;
    assert_eq!(view.flatten_all()?.to_vec1::<f64>()?, copy.flatten_all()?.to_vec1::<f64>()?);
    let empty = random("empty", &[0, 4, 4, 3]);
    assert_eq!(max_pool2d(&empty, &config)?.dims(), [0, 2, 2, 3]);
    assert_eq!(adaptive_avg_pool2d(&empty, [1, 1])?.dims(), [0, 1, 1, 3]);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = Var::from_tensor(&reference::image_batch("threads", &[3, 41, 37, 19])?)?;
        let max = max_pool2d(&x, &MaxPool2dConfig::new(3).stride(2).padding(1))?;
        let avg = avg_pool2d(&x, &AvgPool2dConfig::new(3).stride(2).padding(1))?;
        let global = adaptive_avg_pool2d(&x, [2, 3])?;
        let sum = ((max.sqr()?.sum_all()? + avg.sqr()?.sum_all()?)? + global.sqr()?.sum_all()?)?;
        let dx = sum.backward()?.remove(&x).expect("a gradient");
        Ok(vec![max.detach(), avg.detach(), global.detach(), dx])
    });
}

#[test]
fn wrong_arguments_are_named() {
    let x = random("wrong", &[1, 4, 4, 2]);
    let config = MaxPool2dConfig::new(2);
    check_error(max_pool2d(&random("wrong", &[4, 4]), &config), &["max_pool2d", "[4, 4]"]);
    check_error(max_pool2d(&x, &config.padding(2)), &["max_pool2d", "height", "half of kernel 2"]);
    check_error(max_pool2d(&x, &MaxPool2dConfig::new(7)), &["max_pool2d", "7", "4"]);
    check_error(max_pool2d(&x, &config.stride(0)), &["max_pool2d", "at least 1"]);
    check_error(max_pool2d(&x, &MaxPool2dConfig::new(1000)), &["max_pool2d", "1000 x 1000"]);
    check_error(avg_pool2d(&x, &AvgPool2dConfig::new(9)), &["avg_pool2d", "9"]);
    check_error(adaptive_avg_pool2d(&x, [0, 1]), &["adaptive_avg_pool2d", "[0, 1]"]);
}

#[test]
fn padding_may_differ_from_side_to_side() -> Result<()> {
    // x = torch.arange(20.).reshape(1, 1, 4, 5)
    // timm.layers.pool2d_same.max_pool2d_same(x, [3, 3], [2, 2]), avg_pool2d_same(x, [3, 3], [2, 2])
    // p, ones = F.pad(x, (1, 1, 0, 1)), F.pad(torch.ones_like(x), (1, 1, 0, 1)) # TensorFlow's average:
    // F.avg_pool2d(p, 3, 2) / F.avg_pool2d(ones, 3, 2)
    for device in devices() {
        let x = Tensor::arange(0f32, 20.0, &device)?.reshape((1, 4, 5, 1))?;
        let near = |y: Tensor, expected: [f32; 6]| -> Result<()> {
            let y = y.flatten_all()?.to_vec1::<f32>()?;
            let all = y.iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-5);
            assert!(y.len() == 6 && all, "{y:?} instead of {expected:?}");
            Ok(())
        };
        let config = MaxPool2dConfig::new(3).stride(2).padding(Padding2d::SameTf);
        near(max_pool2d(&x, &config)?, [11.0, 13.0, 14.0, 16.0, 18.0, 19.0])?;
        let config = AvgPool2dConfig::new(3).stride(2).padding(Padding2d::SameTf);
        let with = [3.666_666_7, 7.0, 5.666_666_5, 5.777_777_7, 9.666_667, 7.111_111];
        near(avg_pool2d(&x, &config)?, with)?;
        let without = [5.5, 7.0, 8.5, 13.0, 14.5, 16.0];
        near(avg_pool2d(&x, &config.count_include_pad(false))?, without)?;
        near(avg_pool2d(&x, &config.padding([0, 1, 1, 1]))?, with)?;
    }
    for padding in [Padding2d::SameTf, Padding2d::from([0, 1, 1, 0]), Padding2d::from([1, 0, 0, 1])]
    {
        let max = MaxPool2dConfig::new([3, 2]).stride([2, 3]).padding(padding);
        check_gradients("max", &[distinct("max", &[2, 5, 7, 3])], |x| max_pool2d(&x[0], &max));
        for include in [true, false] {
            let avg = AvgPool2dConfig::new([3, 2]).stride([2, 3]).padding(padding);
            let avg = avg.count_include_pad(include);
            check_gradients("avg", &[random("avg", &[2, 5, 7, 3])], |x| avg_pool2d(&x[0], &avg));
        }
    }
    let x = random("same", &[1, 5, 6, 2]);
    let same = MaxPool2dConfig::new(2).padding(Padding2d::Same);
    assert_eq!(max_pool2d(&x, &same.stride(1))?.dims(), x.dims());
    check_error(max_pool2d(&x, &same), &["max_pool2d", "`Same`", "[2, 2]"]);
    Ok(())
}
