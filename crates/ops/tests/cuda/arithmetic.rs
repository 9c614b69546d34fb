//! Pooling, activation functions, layouts, softmax, cross entropy, dropout, hooks.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{
    AvgPool2dConfig, CrossEntropyConfig, Generator, InterpolateMode, LocalResponseNormConfig,
    MaxPool2dConfig, Targets, adaptive_avg_pool2d, add, avg_pool2d, binary_cross_entropy,
    channels_first, channels_last, cross_entropy, drop_rows, dropout, flatten, gelu, hardsigmoid,
    hardswish, interpolate, local_response_norm, log_softmax, max_pool2d, on_gradient,
    one_hot_largest, relu, relu6, scale, sigmoid, silu, softmax,
};
use rand_chacha::rand_core::SeedableRng;

use crate::twins::{check, check_in, cuda, full, map, random};

#[test]
fn max_pools_are_the_cpus() {
    let configs = [
        MaxPool2dConfig::new(2),
        MaxPool2dConfig::new(3).stride(2).padding(1),
        MaxPool2dConfig::new(3).stride(1),
        MaxPool2dConfig::new(3).stride(2).ceil_mode(true),
    ];
    for config in configs {
        for dims in [[2, 7, 9, 3], [1, 8, 8, 64]] {
            check(&format!("max pool {config:?} {dims:?}"), &[map("x", &dims)], |x| {
                max_pool2d(&x[0], &config)
            });
        }
    }
}

#[test]
fn the_first_of_equal_elements_gets_the_gradient() {
    check("max pool of equal elements", &[map("x", &[2, 6, 6, 4])], |x| {
        max_pool2d(&relu(&(&x[0] - 10.0)?)?, &MaxPool2dConfig::new(3).stride(2).padding(1))
    });
}

#[test]
fn average_pools_are_the_cpus() {
    let configs = [
        AvgPool2dConfig::new(2),
        AvgPool2dConfig::new(3).stride(2).padding(1),
        AvgPool2dConfig::new(3).stride(2).padding(1).count_include_pad(false).ceil_mode(true),
    ];
    for config in configs {
        check(&format!("average pool {config:?}"), &[map("x", &[2, 7, 9, 3])], |x| {
            avg_pool2d(&x[0], &config)
        });
    }
    for output in [[1, 1], [3, 2], [10, 8]] {
        check(&format!("adaptive pool {output:?}"), &[map("x", &[2, 7, 6, 5])], |x| {
            adaptive_avg_pool2d(&x[0], output)
        });
    }
}

#[test]
fn resized_maps_are_the_cpus() {
    let modes = [
        InterpolateMode::Nearest,
        InterpolateMode::Bilinear { align_corners: false },
        InterpolateMode::Bilinear { align_corners: true },
        InterpolateMode::Bicubic { align_corners: false },
    ];
    for mode in modes {
        for (dims, size) in [([2, 3, 5, 3], [7, 4]), ([1, 6, 4, 64], [3, 9])] {
            check(&format!("{mode:?} {dims:?} to {size:?}"), &[map("x", &dims)], |x| {
                interpolate(&x[0], size, mode)
            });
        }
    }
}

#[test]
fn activation_functions_are_the_cpus() {
    type Function = fn(&Tensor) -> Result<Tensor>;
    let functions: [(&str, Function); 7] = [
        ("relu", relu),
        ("relu6", relu6),
        ("sigmoid", sigmoid),
        ("silu", silu),
        ("gelu", gelu),
        ("hardswish", hardswish),
        ("hardsigmoid", hardsigmoid),
    ];
    for (name, function) in functions {
        for scale in [1.0, 8.0] {
            check(&format!("{name} times {scale}"), &[map("x", &[3, 5, 7, 2])], |x| {
                function(&(&x[0] * scale)?)
            });
        }
    }
}

#[test]
fn local_response_norm_is_the_cpus() {
    for (size, beta) in [(1, 0.75), (4, 0.75), (5, 0.6), (9, 1.0)] {
        let config = LocalResponseNormConfig::new(size).alpha(0.5).beta(beta).k(1.5);
        for dims in [[2, 3, 2, 7], [1, 4, 5, 64], [1, 1, 1, 1]] {
            check(&format!("{config:?} {dims:?}"), &[map("x", &dims)], |x| {
                local_response_norm(&x[0], &config)
            });
        }
    }
}

#[test]
fn layouts_and_sums_are_the_cpus() {
    for dims in [[2, 3, 5, 7], [1, 64, 33, 34], [3, 1, 4, 4]] {
        check("channels last", &[map("x", &dims)], |x| channels_last(&x[0]));
        check("channels first", &[map("x", &dims)], |x| channels_first(&x[0]));
        check("flatten", &[map("x", &dims)], |x| flatten(&x[0]));
        check("scale", &[map("x", &dims)], |x| scale(&x[0], 0.125));
        check("add", &[map("x", &dims), map("y", &dims)], |x| add(&x[0], &x[1]));
    }
}

#[test]
fn softmax_is_the_cpus() {
    for dims in [vec![4, 10], vec![2, 3, 1000], vec![5], vec![3, 1], vec![1, 1]] {
        check(&format!("softmax {dims:?}"), &[map("x", &dims)], |x| softmax(&(&x[0] * 5.0)?));
        check(&format!("log softmax {dims:?}"), &[map("x", &dims)], |x| log_softmax(&x[0]));
    }
}

#[test]
fn the_first_of_the_largest_is_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for dims in [vec![4, 10], vec![2, 3, 1000], vec![5], vec![3, 1], vec![2100, 2]] {
        // Few different values, so that the largest is there several times.
        let x = ((random("x", &dims) * 3.0)?.round()? / 3.0)?;
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let x = x.to_dtype(dtype)?;
            let values = |x: &Tensor| -> Result<Vec<f32>> {
                one_hot_largest(x)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
            };
            assert_eq!(values(&x.to_device(&cuda.device)?)?, values(&x)?, "{dims:?} {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_is_the_cpus() -> Result<()> {
    let (rows, classes) = (70, 300);
    let labels: Vec<u32> = (0..rows as u32).map(|row| row * 7 % classes as u32).collect();
    for smoothing in [0.0, 0.1] {
        for weighted in ["no", "some", "other"] {
            let what = format!("cross entropy, smoothing {smoothing}, {weighted} classes weighted");
            let logits = [full("logits", &[rows, classes])];
            check_in(&what, &[(DType::F32, 1e-4)], &logits, |x| {
                let device = x[0].device();
                let class_weights = weights_of(weighted, classes, device)?;
                let config = CrossEntropyConfig { label_smoothing: smoothing, class_weights };
                let labels = Tensor::new(labels.as_slice(), device)?;
                cross_entropy(&x[0], Targets::Labels(&labels), &config)
            });
            check_in(&format!("{what}, soft"), &[(DType::F32, 1e-4)], &logits, |x| {
                let device = x[0].device();
                let targets = softmax(&random("targets", &[rows, classes]).to_device(device)?)?;
                let class_weights = weights_of(weighted, classes, device)?;
                let config = CrossEntropyConfig { label_smoothing: smoothing, class_weights };
                cross_entropy(&x[0], Targets::Probabilities(&targets), &config)
            });
        }
    }
    Ok(())
}

/// Weights of classes. Those of `other` are 0 for all labels.
fn weights_of(which: &str, classes: usize, device: &Device) -> Result<Option<Tensor>> {
    let weights = match which {
        "no" => return Ok(None),
        "some" => (random("weights", &[classes]).abs()? + 0.1)?,
        _ => {
            let only = |class: usize| if class == 2 { 1f32 } else { 0.0 };
            Tensor::from_vec((0..classes).map(only).collect(), classes, &Device::Cpu)?
        }
    };
    Ok(Some(weights.to_device(device)?))
}

/// A card composes it of other ops.
#[test]
fn binary_cross_entropy_is_the_cpus() {
    for (rows, classes) in [(1, 1), (70, 80)] {
        for weighted in [false, true] {
            let what = format!("binary cross entropy {rows} {classes}, weighted {weighted}");
            check_in(&what, &[(DType::F32, 1e-4)], &[full("logits", &[rows, classes])], |x| {
                let device = x[0].device();
                let targets = sigmoid(&random("targets", &[rows, classes]).to_device(device)?)?;
                let weights = (random("weights", &[classes]).abs()? + 0.1)?.to_device(device)?;
                binary_cross_entropy(&x[0], &targets, weighted.then_some(&weights))
            });
        }
    }
}

/// Whose gradient is 0.
#[test]
fn cross_entropy_of_one_class_is_the_cpus() {
    check_in("cross entropy", &[(DType::F32, 1e-4)], &[full("logits", &[5, 1])], |x| {
        let labels = Tensor::zeros(5, DType::U32, x[0].device())?;
        cross_entropy(&x[0], Targets::Labels(&labels), &CrossEntropyConfig::default())
    });
}

#[test]
fn a_label_that_is_no_class_makes_the_loss_nan() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let logits = random("logits", &[2, 3]).to_device(&cuda.device)?;
    let labels = Tensor::new(&[0u32, 3], &cuda.device)?;
    let loss = cross_entropy(&logits, Targets::Labels(&labels), &CrossEntropyConfig::default())?;
    assert!(loss.to_scalar::<f32>()?.is_nan());
    Ok(())
}

#[test]
fn dropout_drops_what_the_cpu_drops() {
    for probability in [0.3, 1.0] {
        check(&format!("dropout {probability}"), &[map("x", &[4, 100])], |x| {
            dropout(&x[0], probability, &mut Generator::seed_from_u64(3))
        });
    }
}

#[test]
fn rows_are_dropped_as_the_cpu_drops_them() {
    for probability in [0.0, 0.2, 0.7] {
        check(&format!("drop_rows {probability}"), &[map("x", &[37, 3])], |x| {
            drop_rows(&x[0], probability, &mut Generator::seed_from_u64(4))
        });
    }
}

/// The device goes on in the middle of the cipher's blocks, on any stream, and leaves the generator where the host would.
#[test]
fn the_device_draws_what_the_host_draws() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let draw = |device: &Device| -> Result<(Vec<f32>, u128)> {
        let mut generator = Generator::seed_from_u64(0x0123_4567_89AB_CDEF);
        generator.set_stream(0xFEDC_BA98_7654_3210);
        let mut drawn = Vec::new();
        for (count, rows) in [(1, 1), (14, 3), (16, 8), (1000, 7), (31, 100)] {
            let ones = Tensor::ones(count, DType::F32, device)?;
            drawn.extend(dropout(&ones, 0.4, &mut generator)?.to_vec1::<f32>()?);
            let ones = Tensor::ones(rows, DType::F32, device)?;
            drawn.extend(drop_rows(&ones, 0.4, &mut generator)?.to_vec1::<f32>()?);
        }
        Ok((drawn, generator.get_word_pos()))
    };
    assert_eq!(draw(&cuda.device)?, draw(&Device::Cpu)?);
    Ok(())
}

#[test]
fn hooks_see_and_change_gradients() {
    check("on_gradient", &[map("x", &[3, 4])], |x| {
        on_gradient(&x[0], |grad| Ok(Some((grad * 3.0)?)))?.sqr()
    });
}

#[test]
fn a_number_type_without_kernels_is_named() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let x = random("x", &[2, 2]).to_dtype(DType::F64)?.to_device(&cuda.device)?;
    let error = relu(&x).expect_err("no kernel takes f64").to_string();
    assert!(error.contains("relu") && error.contains("F64"), "{error}");
    Ok(())
}
