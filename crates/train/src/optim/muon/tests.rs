//! What the Newton-Schulz steps make of singular values, and what the rule refuses.

use candle_core::{DType, Device};
use candle_vision_models::{Init, Parameters};

use super::*;
use crate::optim::Optimizer;

const SIDE: usize = 8;

/// An orthogonal matrix: a Hadamard matrix over the square root of its size, with the rows moved on by `turn`.
fn orthogonal(turn: usize) -> Tensor {
    let value = |at: usize| {
        let (row, column) = ((at / SIDE + turn) % SIDE, at % SIDE);
        let is_even = (row & column).count_ones().is_multiple_of(2);
        if is_even { 1.0 } else { -1.0 }
    };
    let values: Vec<f64> = (0..SIDE * SIDE).map(|at| value(at) / (SIDE as f64).sqrt()).collect();
    Tensor::from_vec(values, (SIDE, SIDE), &Device::Cpu).unwrap()
}

/// A matrix with these singular values, and its left and right singular vectors as columns.
fn matrix(values: &[f64]) -> [Tensor; 3] {
    let first = |turn| orthogonal(turn).t().unwrap().narrow(1, 0, values.len()).unwrap();
    let (left, right) = (first(0), first(3));
    let values = Tensor::new(values, &Device::Cpu).unwrap();
    let scaled = left.broadcast_mul(&values).unwrap();
    [scaled.matmul(&right.t().unwrap()).unwrap(), left, right]
}

/// The largest absolute element.
fn largest(x: &Tensor) -> f64 {
    x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn of_rule(x: &Tensor, steps: usize) -> Tensor {
    newton_schulz(x, default_ns_coefficients(), steps, default_eps()).unwrap()
}

/// The steps leave singular vectors as they are and apply the polynomial to the singular values.
#[test]
fn the_polynomial_is_applied_to_the_singular_values() {
    let values = [3.0, 2.0, 1.0, 0.5, 0.1];
    let norm = values.iter().map(|value: &f64| value * value).sum::<f64>().sqrt();
    let [a, b, c] = default_ns_coefficients();
    let [x, left, right] = matrix(&values);
    for steps in [1, 3, 5] {
        let expected = values.map(|value| {
            let mut value = value / norm;
            (0..steps).for_each(|_| value = a * value + b * value.powi(3) + c * value.powi(5));
            value
        });
        let found = left.t().unwrap().matmul(&of_rule(&x, steps)).unwrap().matmul(&right).unwrap();
        let expected = Tensor::new(&expected, &Device::Cpu).unwrap();
        let identity = Tensor::eye(values.len(), DType::F64, &Device::Cpu).unwrap();
        let expected = identity.broadcast_mul(&expected).unwrap();
        assert!(largest(&(found - expected).unwrap()) < 1e-10, "{steps} steps");
    }
}

/// The band in which five steps leave every singular value that is not tiny: 0.68 to 1.13
/// (<https://kellerjordan.github.io/posts/muon/>).
#[test]
fn five_steps_bring_the_singular_values_near_one() {
    let values = [100.0, 80.0, 40.0, 20.0, 9.0, 5.0, 2.0, 1.0];
    let [x, left, right] = matrix(&values);
    let found = left.t().unwrap().matmul(&of_rule(&x, 5)).unwrap().matmul(&right).unwrap();
    for (at, before) in values.into_iter().enumerate() {
        let value: f64 = found.get(at).unwrap().get(at).unwrap().to_scalar().unwrap();
        assert!((0.68..1.13).contains(&value), "{before} became {value}");
    }
}

#[test]
fn a_tall_matrix_is_a_wide_one_turned() {
    let wide = orthogonal(1).narrow(0, 0, 3).unwrap();
    let mixed = Tensor::new(&[[1.0, 0.5, 0.0], [0.2, 2.0, 0.1], [0.0, 0.3, 0.7f64]], &Device::Cpu);
    let wide = mixed.unwrap().matmul(&wide).unwrap();
    let tall = of_rule(&wide.t().unwrap(), 5);
    assert_eq!(tall.dims(), [8, 3]);
    assert!(largest(&(tall.t().unwrap() - of_rule(&wide, 5)).unwrap()) < 1e-12);
}

#[test]
fn a_gradient_of_zero_is_no_direction() {
    let zeros = Tensor::zeros((3, 5), DType::F64, &Device::Cpu).unwrap();
    assert_eq!(largest(&of_rule(&zeros, 5)), 0.0);
}

fn parameters() -> Parameters {
    let parameters = Parameters::new();
    let vb = parameters.builder(5, DType::F32, &Device::Cpu);
    vb.weight("kernel", &[4, 3, 3, 3], Init::fan_in_normal(27)).unwrap();
    parameters
}

fn stepped(rule: Muon) -> (Vec<f32>, Vec<f32>) {
    let parameters = parameters();
    let kernel = parameters.get("kernel").unwrap();
    let before = kernel.detached().flatten_all().unwrap().to_vec1().unwrap();
    let mut optimizer = rule.optimizer(parameters.trainable()).unwrap();
    // The gradient of half the squared norm is the kernel itself.
    let loss = (kernel.var().sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
    optimizer.step(&loss.backward().unwrap()).unwrap();
    (before, kernel.detached().flatten_all().unwrap().to_vec1().unwrap())
}

/// ```python
/// w = torch.from_numpy(before).view(4, 27); p = torch.nn.Parameter(w.clone())
/// p *= len(p) ** 0.5 / p.norm(); p -= lr * zeropower_via_newtonschulz5(p.grad, 3)   # airbench94_muon.py
/// ```
/// The step is small, so that what is left is the norm of four rows of norm 1.
#[test]
fn a_normalised_kernel_has_rows_of_norm_one() {
    let (_, after) = stepped(Muon::new(1e-6).weight_decay(0.0).normalize(true));
    let norm = after.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!((norm - 2.0).abs() < 1e-4, "{norm}");
}

#[test]
fn a_kernel_of_zeros_can_be_normalised() {
    let zeros = Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    normalize(&zeros, None).unwrap();
    assert_eq!(zeros.to_vec2::<f32>().unwrap(), [[0.0; 3]; 2]);
}

#[test]
fn weight_decay_is_decoupled_from_the_direction() {
    let rate = 0.01;
    let (before, plain) = stepped(Muon::new(rate).weight_decay(0.0));
    let (_, decayed) = stepped(Muon::new(rate).weight_decay(0.5));
    for ((before, plain), decayed) in before.iter().zip(plain).zip(decayed) {
        assert!((plain - decayed - (rate * 0.5) as f32 * before).abs() < 1e-6);
    }
}

#[test]
fn the_rate_is_adjusted_to_the_shape() {
    for (adjust, rows, columns, expected) in [
        (AdjustLr::Original, 4, 27, 1.0),
        (AdjustLr::Original, 36, 9, 2.0),
        (AdjustLr::MatchRmsAdamw, 36, 9, 1.2),
        (AdjustLr::MatchRmsAdamw, 9, 100, 2.0),
    ] {
        assert!((adjust.factor(rows, columns) - expected).abs() < 1e-12, "{adjust:?}");
    }
}

#[test]
fn a_vector_is_refused_by_name() {
    let parameters = parameters();
    let vb = parameters.builder(0, DType::F32, &Device::Cpu);
    vb.weight("bias", &[4], Init::Constant(0.0)).unwrap();
    let error = Muon::new(0.1).optimizer(parameters.trainable()).unwrap_err().to_string();
    let expected = "`optimizer of `bias`` is muon; it must be an optimizer for vectors, such as `sgd`: give it to a \
                    group of parameters";
    assert_eq!(error, expected);
}
