//! Resizing against PyTorch and finite differences.

use crate::places::devices;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, nchw, nhwc, random};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{InterpolateMode, interpolate};

const MODES: [InterpolateMode; 5] = [
    InterpolateMode::Nearest,
    InterpolateMode::Bilinear { align_corners: false },
    InterpolateMode::Bilinear { align_corners: true },
    InterpolateMode::Bicubic { align_corners: false },
    InterpolateMode::Bicubic { align_corners: true },
];

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let mut expected = reference::tensors("ops.safetensors");
    expected.extend(reference::tensors("attention.safetensors"));
    let mut seen = 0;
    let files = ["ops.json", "attention.json"].map(reference::json);
    for case in files.iter().flat_map(|file| file.as_array().expect("a list")) {
        if case["op"] != "interpolate" && case["op"] != "bicubic" {
            continue;
        }
        let name = case["case"].as_str().expect("a name");
        let sizes =
            |key: &str| -> Vec<usize> { serde_json::from_value(case[key].clone()).expect("sizes") };
        let size = [sizes("size")[0], sizes("size")[1]];
        let align_corners = case["align_corners"] == true;
        let mode = match case["mode"].as_str() {
            Some("nearest") => InterpolateMode::Nearest,
            Some(_) => InterpolateMode::Bilinear { align_corners },
            None => InterpolateMode::Bicubic { align_corners },
        };
        let x = nhwc(&reference::image_batch(&format!("{name}.x"), &sizes("x"))?);
        for device in devices() {
            let x = Var::from_tensor(&x.to_device(&device)?)?;
            let y = interpolate(&x, size, mode)?;
            let what = format!("{name} at {device:?}");
            reference::assert_close(&what, &nchw(&y), &expected[&format!("{name}.y")], 1e-6);
            let grad = reference::signed(&format!("{name}.grad"), nchw(&y).dims())?;
            let grad = nhwc(&grad).to_device(&device)?;
            let dx = (y * grad)?.sum_all()?.backward()?.remove(&x).expect("a gradient");
            let what = format!("{what}, gradient");
            reference::assert_close(&what, &nchw(&dx), &expected[&format!("{name}.dx")], 1e-6);
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
    Ok(())
}

/// Inputs and outputs larger and smaller than each other, single rows and columns, many channels.
const SHAPES: [([usize; 4], [usize; 2]); 5] = [
    ([2, 3, 5, 2], [7, 4]),
    ([1, 1, 6, 1], [3, 1]),
    ([1, 4, 1, 3], [1, 5]),
    ([1, 2, 2, 17], [5, 5]),
    ([2, 3, 3, 2], [3, 3]),
];

#[test]
fn gradients_are_those_of_the_values() {
    for (dims, size) in SHAPES {
        for mode in MODES {
            let x = [random("interpolate", &dims)];
            check_gradients(&format!("{dims:?} to {size:?} {mode:?}"), &x, |x| {
                interpolate(&x[0], size, mode)
            });
        }
    }
}

#[test]
fn corners_stay_where_they_are_when_they_are_aligned() -> Result<()> {
    let x = Tensor::arange(0f32, 4.0, &Device::Cpu)?.reshape((1, 2, 2, 1))?;
    let y = interpolate(&x, [3, 5], InterpolateMode::Bilinear { align_corners: true })?;
    let rows = y.reshape((3, 5))?.to_vec2::<f32>()?;
    // torch.nn.UpsamplingBilinear2d(size=(3, 5)) of the same.
    assert_eq!(rows[0], [0.0, 0.25, 0.5, 0.75, 1.0]);
    assert_eq!(rows[1], [1.0, 1.25, 1.5, 1.75, 2.0]);
    assert_eq!(rows[2], [2.0, 2.25, 2.5, 2.75, 3.0]);
    Ok(())
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let x = random("threads", &[3, 40, 41, 16]).to_dtype(DType::F32).expect("a tensor");
    check_threads(|| Ok(vec![interpolate(&x, [61, 30], MODES[1])?]));
}

#[test]
fn wrong_arguments_are_named() {
    let x = random("wrong", &[1, 2, 2, 1]);
    check_error(interpolate(&x, [0, 3], MODES[0]), &["interpolate", "[0, 3]"]);
    check_error(interpolate(&random("wrong", &[2, 2]), [1, 1], MODES[0]), &["[2, 2]"]);
}
