//! Attention.

use candle_core::{DType, Result, Tensor};
use candle_vision_ops::{AttentionOptions, attention};

use crate::twins::{check_in, cuda, map, random};

/// Scores and probabilities are rounded to half precision between the products, which the CPU does not.
const TYPES: [(DType, f64); 3] = [(DType::F32, 1e-4), (DType::BF16, 3e-2), (DType::F16, 4e-3)];

#[test]
fn attention_is_the_cpus() {
    for [batch, tokens, heads, dim] in [[2, 5, 3, 4], [4, 49, 2, 32], [1, 70, 1, 33], [3, 2, 2, 1]]
    {
        let inputs =
            [map("qkv", &[batch, tokens, 3 * heads * dim]), map("bias", &[heads, tokens, tokens])];
        let what = format!("attention {batch} {tokens} {heads} {dim}");
        let mask = |like: &Tensor| {
            random("mask", &[2, tokens, tokens]).to_dtype(like.dtype())?.to_device(like.device())
        };
        check_in(&what, &TYPES, &inputs[..1], |x| attention(&x[0], &AttentionOptions::new(heads)));
        check_in(&format!("{what}, mask"), &TYPES, &inputs[..1], |x| {
            attention(&x[0], &AttentionOptions::new(heads).scale(0.8).mask(&mask(&x[0])?))
        });
        check_in(&format!("{what}, bias and mask"), &TYPES, &inputs, |x| {
            let options = AttentionOptions::new(heads).bias(&x[1]);
            attention(&x[0], &options.mask(&mask(&x[0])?))
        });
    }
}

#[test]
fn a_query_that_sees_no_key_gets_zeros() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let qkv = random("qkv", &[1, 3, 6]).to_device(&cuda.device)?;
    let none = f32::NEG_INFINITY;
    let mask = Tensor::new(&[[[0f32, none, 0.0], [none; 3], [0.0; 3]]], &cuda.device)?;
    let y = attention(&qkv, &AttentionOptions::new(1).mask(&mask))?.to_vec3::<f32>()?;
    assert_eq!(y[0][1], [0.0, 0.0]);
    assert!(y[0].iter().flatten().all(|y| y.is_finite()));
    Ok(())
}
