//! Attention against PyTorch, its definition in tensor operations, and finite differences.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_vision_ops::{AttentionOptions, attention, backward_from, is_direct, relu};

use crate::places::places;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, random};

/// One case of the reference file.
struct Case {
    name: String,
    sizes: [usize; 4],
    scale: Option<f64>,
    has_bias: bool,
    windows: usize,
}

fn cases() -> Vec<Case> {
    let all = reference::json("attention.json");
    let ours = all.as_array().expect("a list").iter().filter(|case| case["op"] == "attention");
    let size = |case: &serde_json::Value, key: &str| case[key].as_u64().expect("a size") as usize;
    ours.map(|case| Case {
        name: case["case"].as_str().expect("a name").to_owned(),
        sizes: ["batch", "tokens", "heads", "head_dim"].map(|key| size(case, key)),
        scale: case["scale"].as_f64(),
        has_bias: case["bias"] == true,
        windows: size(case, "windows"),
    })
    .collect()
}

/// The mask of a case: minus infinity for about a third of the keys, never for the token itself.
fn mask_of(case: &Case) -> Result<Option<Tensor>> {
    let (windows, tokens) = (case.windows, case.sizes[1]);
    if windows == 0 {
        return Ok(None);
    }
    let drawn = reference::signed(&format!("{}.mask", case.name), &[windows, tokens, tokens])?;
    let hidden = drawn.flatten_all()?.to_vec1::<f32>()?.into_iter().enumerate();
    let values = hidden.map(|(i, drawn)| {
        let is_itself = i / tokens % tokens == i % tokens;
        if drawn > 0.33 && !is_itself { f32::NEG_INFINITY } else { 0.0 }
    });
    let values: Vec<f32> = values.collect();
    Tensor::from_vec(values, (windows, tokens, tokens), &Device::Cpu).map(Some)
}

fn options<'a>(
    heads: usize,
    scale: Option<f64>,
    bias: Option<&'a Tensor>,
    mask: Option<&'a Tensor>,
) -> AttentionOptions<'a> {
    let mut options = AttentionOptions::new(heads);
    (options.scale, options.bias, options.mask) = (scale, bias, mask);
    options
}

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let expected = reference::tensors("attention.safetensors");
    let cases = cases();
    assert_eq!(cases.len(), 7);
    for case in &cases {
        let (name, [batch, tokens, heads, dim]) = (&case.name, case.sizes);
        let width = heads * dim;
        let of = |part: &str| format!("{name}.{part}");
        let qkv = reference::image_batch(&of("qkv"), &[batch, tokens, 3 * width])?;
        let bias = reference::signed(&of("bias"), &[heads, tokens, tokens])?;
        let (mask, grad) =
            (mask_of(case)?, reference::signed(&of("grad"), &[batch, tokens, width])?);
        for place in places() {
            let (qkv, bias) = (place.var(&qkv)?, place.var(&bias)?);
            let mask = mask.as_ref().map(|mask| place.like(mask, &qkv)).transpose()?;
            let with_bias = case.has_bias.then_some(bias.as_tensor());
            let y = attention(&qkv, &options(heads, case.scale, with_bias, mask.as_ref()))?;
            let what = format!("{name} at {place:?}");
            let tolerance = place.tolerance(2e-6);
            reference::assert_close(&what, &y, &expected[&of("y")], tolerance);
            let gradients = backward_from(&y, &place.like(&grad, &y)?)?;
            let near = |part: &str, of_what: &Var| {
                let found = gradients.get(of_what).expect("a gradient");
                let what = format!("{what}, {part}");
                // Rounded scores move the gradients of half precision by more than the values.
                reference::assert_close(&what, found, &expected[&of(part)], 3.0 * tolerance);
            };
            near("dqkv", &qkv);
            if case.has_bias {
                near("dbias", &bias);
            }
        }
    }
    Ok(())
}

/// The definition, in candle's operations.
fn plain(
    qkv: &Tensor,
    heads: usize,
    bias: Option<&Tensor>,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    let dim = width / 3 / heads;
    let parts = qkv.reshape((batch, tokens, 3, heads, dim))?.permute([2, 0, 3, 1, 4])?;
    let part = |i: usize| parts.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let mut scores = (q.matmul(&k.t()?)? / (dim as f64).sqrt())?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(bias)?;
    }
    if let Some(mask) = mask {
        let windows = mask.dim(0)?;
        let of_images = (0..batch).map(|image| mask.get(image % windows));
        let mask = Tensor::stack(&of_images.collect::<Result<Vec<_>>>()?, 0)?.unsqueeze(1)?;
        scores = scores.broadcast_add(&mask)?;
    }
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&v)?.transpose(1, 2)?.reshape((batch, tokens, width / 3))
}

/// Batch, tokens, heads and features: single ones, odd ones, more than a block or a panel.
const SIZES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [2, 1, 3, 5],
    [3, 4, 2, 1],
    [2, 5, 2, 7],
    [5, 6, 1, 33],
    [4, 49, 3, 32],
    [1, 101, 2, 64],
    [1, 197, 1, 70],
    [1, 70, 1, 140],
];

#[test]
fn both_number_types_compute_the_definition() -> Result<()> {
    for [batch, tokens, heads, dim] in SIZES {
        let qkv = random("qkv", &[batch, tokens, 3 * heads * dim]);
        let (bias, mask) =
            (random("b", &[heads, tokens, tokens]), random("m", &[2, tokens, tokens]));
        for [with_bias, with_mask] in [[false, false], [true, false], [false, true], [true, true]] {
            let (bias, mask) = (with_bias.then_some(&bias), with_mask.then_some(&mask));
            let run = |dtype: DType, fused: bool| -> Result<Vec<Tensor>> {
                let var = |x: &Tensor| Var::from_tensor(&x.to_dtype(dtype)?);
                let (qkv, bias) = (var(&qkv)?, bias.map(var).transpose()?);
                let mask = mask.map(|mask| mask.to_dtype(dtype)).transpose()?;
                let with_bias = bias.as_ref().map(Var::as_tensor);
                let y = if fused {
                    attention(&qkv, &options(heads, None, with_bias, mask.as_ref()))?
                } else {
                    plain(&qkv, heads, with_bias, mask.as_ref())?
                };
                let grad = random("grad", y.dims()).to_dtype(dtype)?;
                let mut gradients = (&y * grad)?.sum_all()?.backward()?;
                let inputs = [Some(qkv), bias].into_iter().flatten();
                let gradients = inputs.map(|x| gradients.remove(&x).expect("a gradient"));
                Ok([y].into_iter().chain(gradients).collect())
            };
            let expected = run(DType::F64, false)?;
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-6)] {
                for (i, (found, expected)) in run(dtype, true)?.iter().zip(&expected).enumerate() {
                    let what = format!("{batch} {tokens} {heads} {dim}, {dtype:?}, {i}");
                    // With one token the gradient of the scores is 0, up to rounding.
                    let is_zero = expected.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12;
                    if is_zero {
                        let most = found.abs()?.max_all()?.to_dtype(DType::F64)?;
                        assert!(most.to_scalar::<f64>()? < 1e-6, "{what}");
                    } else {
                        reference::assert_close(&what, found, expected, tolerance);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() {
    for [batch, tokens, heads, dim] in [[1, 3, 2, 2], [3, 4, 1, 7], [2, 5, 2, 1]] {
        let inputs = [
            random("qkv", &[batch, tokens, 3 * heads * dim]),
            random("bias", &[heads, tokens, tokens]),
        ];
        let mask = random("mask", &[2, tokens, tokens]);
        for scale in [None, Some(0.7)] {
            for mask in [None, Some(&mask)] {
                let what = format!("{batch} {tokens} {heads} {dim} {scale:?}");
                check_gradients(&what, &inputs[..1], |x| {
                    attention(&x[0], &options(heads, scale, None, mask))
                });
                check_gradients(&format!("{what}, bias"), &inputs, |x| {
                    attention(&x[0], &options(heads, scale, Some(&x[1]), mask))
                });
            }
        }
    }
}

#[test]
fn it_is_on_the_tape_and_frozen_parts_cost_nothing() -> Result<()> {
    let qkv = Var::from_tensor(&random("qkv", &[1, 3, 6]))?;
    let bias = Var::from_tensor(&random("bias", &[2, 3, 3]))?;
    let y = attention(&relu(&qkv)?, &AttentionOptions::new(2).bias(&bias))?;
    assert!(is_direct(&y));
    // A constant bias, and constant queries, keys and values.
    let y = attention(&qkv, &AttentionOptions::new(2).bias(&bias.as_detached_tensor()))?;
    let gradients = y.sum_all()?.backward()?;
    assert!(gradients.get(&qkv).is_some() && gradients.get(&bias).is_none());
    let y = attention(&qkv.as_detached_tensor(), &AttentionOptions::new(2).bias(&bias))?;
    assert!(y.sqr()?.sum_all()?.backward()?.get(&bias).is_some());
    Ok(())
}

#[test]
fn other_strides_are_copied() -> Result<()> {
    let qkv = random("qkv", &[2, 3, 12]);
    let view = qkv.transpose(1, 2)?.contiguous()?.transpose(1, 2)?;
    let bias = random("bias", &[2, 3, 3]);
    let view_of_bias = bias.t()?.contiguous()?.t()?;
    let found =
        attention(&view, &AttentionOptions::new(2).bias(&view_of_bias).mask(&view_of_bias))?;
    let expected = attention(&qkv, &AttentionOptions::new(2).bias(&bias).mask(&bias))?;
    reference::assert_close("views", &found, &expected, 0.0);
    Ok(())
}

#[test]
fn the_number_of_threads_changes_nothing() {
    check_threads(|| {
        let of = |name: &str, dims: &[usize]| random(name, dims).to_dtype(DType::F32);
        let qkv = Var::from_tensor(&of("qkv", &[70, 50, 3 * 2 * 9])?)?;
        let bias = Var::from_tensor(&of("bias", &[2, 50, 50])?)?;
        let y = attention(&qkv, &AttentionOptions::new(2).bias(&bias))?;
        let mut gradients = y.sqr()?.sum_all()?.backward()?;
        let [dqkv, dbias] = [&qkv, &bias].map(|x| gradients.remove(x).expect("a gradient"));
        Ok(vec![y.detach(), dqkv, dbias])
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let qkv = random("qkv", &[2, 3, 12]);
    let plain = AttentionOptions::new(2);
    check_error(attention(&random("x", &[3, 12]), &plain), &["attention", "[3, 12]"]);
    check_error(attention(&qkv, &AttentionOptions::new(3)), &["[2, 3, 12]", "3 heads"]);
    check_error(attention(&qkv, &AttentionOptions::new(0)), &["0 heads"]);
    check_error(attention(&qkv, &AttentionOptions::new(usize::MAX)), &["heads"]);
    let empty = Tensor::zeros((0, 3, 12), DType::F64, &Device::Cpu)?;
    check_error(attention(&empty, &plain), &["attention", "[0, 3, 12]"]);
    let (short, long) = (random("short", &[2, 3, 2]), random("long", &[1, 4, 4]));
    check_error(attention(&qkv, &plain.bias(&short)), &["bias", "[2, 3, 3]", "[2, 3, 2]"]);
    check_error(attention(&qkv, &plain.mask(&long)), &["mask", "[windows, 3, 3]", "[1, 4, 4]"]);
    let single = random("single", &[2, 3, 3]).to_dtype(DType::F32)?;
    check_error(attention(&qkv, &plain.bias(&single)), &["bias", "F32", "F64"]);
    check_error(attention(&qkv, &plain.scale(f64::NAN)), &["scale", "NaN"]);
    Ok(())
}
