//! Every instruction set against the definition, computed in `f64`.

use super::engine::{Engine, Plain, Vectors};
use super::{AttentionShape, Gradients, Scores, backward, forward};
use crate::simd::{Level, with_simd};

/// Numbers between -1 and 1 that look random.
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    // Of the precision of `f32`, so that both types start from the same numbers.
    (0..len).map(|_| f64::from(next() as f32)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// Output, statistics of rows, gradients of `qkv` and of the bias.
fn run<T: crate::float::Float, E: Engine<T>>(
    engine: E,
    qkv: &[T],
    grad: &[T],
    shape: &AttentionShape,
    scores: &Scores<'_, T>,
) -> [Vec<f64>; 4] {
    let (y, statistics) = forward::run(engine, qkv, shape, scores);
    let Gradients { qkv, bias } =
        backward::run(engine, qkv, [&statistics, grad], shape, scores, scores.bias.is_some());
    let widen = |values: Vec<T>| values.into_iter().map(T::widen).collect();
    [y, statistics, qkv, bias.unwrap_or_default()].map(widen)
}

fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-30, |most: f64, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / largest;
        assert!(difference < tolerance, "{what} at {i}: {found} instead of {expected}");
    }
}

/// The definition for one row: scores, probabilities and sums over all keys.
fn definition(qkv: &[f64], shape: &AttentionShape, scores: &Scores<'_, f64>) -> Vec<f64> {
    let AttentionShape { batch, tokens, heads, head_dim } = *shape;
    let at = |image: usize, token: usize, part: usize, head: usize| {
        let start = (((image * tokens + token) * 3 + part) * heads + head) * head_dim;
        &qkv[start..start + head_dim]
    };
    let mut y = Vec::new();
    for image in 0..batch {
        for i in 0..tokens {
            for head in 0..heads {
                let score = |j: usize| {
                    let dot = at(image, i, 0, head).iter().zip(at(image, j, 1, head));
                    let dot: f64 = dot.map(|(q, k)| q * k).sum();
                    let matrix = tokens * tokens;
                    let bias = scores.bias.map_or(0.0, |b| b[head * matrix + i * tokens + j]);
                    let of_image = |m: &[f64]| image % (m.len() / matrix) * matrix;
                    let mask = scores.mask.map_or(0.0, |m| m[of_image(m) + i * tokens + j]);
                    dot * scores.scale + bias + mask
                };
                let weights: Vec<f64> = (0..tokens).map(|j| score(j).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let values = weights.iter().enumerate();
                    let values = values.map(|(j, weight)| weight * at(image, j, 2, head)[d]);
                    y.push(values.sum::<f64>() / sum);
                }
            }
        }
    }
    y
}

#[test]
fn every_instruction_set_computes_the_definition() {
    let sizes = [
        [1, 1, 1, 1],
        [2, 3, 2, 7],
        [1, 5, 3, 33],
        [5, 49, 2, 32],
        [1, 197, 1, 64],
        [1, 100, 1, 80],
        [3, 17, 1, 16],
        [1, 65, 2, 1],
    ];
    for [batch, tokens, heads, head_dim] in sizes {
        let shape = AttentionShape { batch, tokens, heads, head_dim };
        let (qkv, grad) = (numbers(shape.qkv_len(), 1), numbers(shape.output_len(), 2));
        let (bias, mask) = (numbers(heads * tokens * tokens, 3), numbers(2 * tokens * tokens, 4));
        for [has_bias, has_mask] in [[false, false], [true, false], [false, true], [true, true]] {
            let what = format!("{shape:?}, bias {has_bias}, mask {has_mask}");
            let scale = 1.5;
            let (bias, mask) = (has_bias.then_some(&bias[..]), has_mask.then_some(&mask[..]));
            let scores = Scores { scale, bias, mask };
            let expected = run(Plain, &qkv, &grad, &shape, &scores);
            assert_near(&what, &expected[0], &definition(&qkv, &shape, &scores), 1e-12);
            let (bias, mask) = (bias.map(narrow), mask.map(narrow));
            let (bias, mask) = (bias.as_deref(), mask.as_deref());
            let scores = Scores { scale: scale as f32, bias, mask };
            let (qkv, grad) = (narrow(&qkv), narrow(&grad));
            for level in Level::available() {
                let found = with_simd!(level, simd => {
                    run(Vectors(simd), &qkv, &grad, &shape, &scores)
                });
                for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_near(&format!("{what}, {level:?}, {part}"), found, expected, 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_row_without_any_probability_gives_zeros() {
    let shape = AttentionShape { batch: 1, tokens: 3, heads: 1, head_dim: 2 };
    let (qkv, grad) = (narrow(&numbers(18, 1)), narrow(&numbers(6, 2)));
    let none = f32::NEG_INFINITY;
    let mask = [0.0, none, 0.0, none, none, none, 0.0, 0.0, none];
    let scores = Scores { scale: 1.0, bias: None, mask: Some(&mask) };
    let mut results = vec![run(Plain, &qkv, &grad, &shape, &scores)];
    for level in Level::available() {
        results.push(with_simd!(level, simd => run(Vectors(simd), &qkv, &grad, &shape, &scores)));
    }
    for [y, _, dqkv, _] in results {
        assert_eq!(y[2..4], [0.0, 0.0], "no key for the second query");
        assert_eq!(dqkv[6..8], [0.0, 0.0], "so it has no gradient");
        assert!(y.iter().chain(&dqkv).all(|x| x.is_finite()));
    }
}

#[test]
fn what_is_not_a_number_stays_visible() {
    let shape = AttentionShape { batch: 1, tokens: 5, heads: 1, head_dim: 3 };
    let mut qkv = narrow(&numbers(45, 1));
    qkv[9] = f32::NAN;
    let scores = Scores { scale: 1.0, bias: None, mask: None };
    for level in Level::available() {
        let (y, _) = with_simd!(level, simd => forward::run(Vectors(simd), &qkv, &shape, &scores));
        assert!(y[3..6].iter().all(|y| y.is_nan()), "{level:?}: {y:?}");
        assert!(y[..3].iter().chain(&y[6..]).all(|y| y.is_finite()), "{level:?}: {y:?}");
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let shape = AttentionShape { batch: 1, tokens: 20, heads: 1, head_dim: 4 };
    let (qkv, grad) = (numbers(240, 1), numbers(80, 2));
    for scale in [1e3, 1e5] {
        let scores = Scores { scale, bias: None, mask: None };
        let expected = run(Plain, &qkv, &grad, &shape, &scores);
        let scores = Scores { scale: scale as f32, bias: None, mask: None };
        for level in Level::available() {
            let found = with_simd!(level, simd => {
                run(Vectors(simd), &narrow(&qkv), &narrow(&grad), &shape, &scores)
            });
            assert_near(&format!("{level:?}"), &found[0], &expected[0], 1e-2);
            assert!(found[2].iter().all(|x| x.is_finite()));
        }
    }
}
