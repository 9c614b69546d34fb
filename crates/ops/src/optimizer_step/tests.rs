//! The kernels against the same steps made of tensor operations.

use candle_core::DType;

use super::*;

fn sgd_step(parameter: &Var, grad: &Tensor, buffer: Option<&Var>, step: &SgdStep) -> Result<bool> {
    is_finite(&sgd_steps(&[SgdUpdate { parameter, grad, buffer, step: *step }])?)
}

fn composed_sgd(
    parameter: &Var,
    grad: &Tensor,
    buffer: Option<&Var>,
    step: &SgdStep,
) -> Result<bool> {
    is_finite(&composed::sgd(&[SgdUpdate { parameter, grad, buffer, step: *step }])?)
}

fn adam_step(
    parameter: &Var,
    grad: &Tensor,
    first_moment: &Var,
    second_moment: &Var,
    step: &AdamStep,
) -> Result<bool> {
    let update = AdamUpdate { parameter, grad, first_moment, second_moment, step: *step };
    is_finite(&adam_steps(&[update])?)
}

fn composed_adam(
    parameter: &Var,
    grad: &Tensor,
    first_moment: &Var,
    second_moment: &Var,
    step: &AdamStep,
) -> Result<bool> {
    let update = AdamUpdate { parameter, grad, first_moment, second_moment, step: *step };
    is_finite(&composed::adam(&[update])?)
}

fn is_finite(finite: &Finite) -> Result<bool> {
    Ok(finite.first_not_finite()?.is_none())
}

/// Numbers between -1 and 1 without a pattern that an update could hide in.
fn values(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|i| (1.7 * i as f64 + phase).sin()).collect()
}

fn var(count: usize, phase: f64, dtype: DType) -> Result<Var> {
    Var::from_tensor(&Tensor::new(values(count, phase), &Device::Cpu)?.to_dtype(dtype)?)
}

fn zeros(count: usize, dtype: DType) -> Result<Var> {
    Var::zeros(count, dtype, &Device::Cpu)
}

#[track_caller]
fn assert_same(a: &Var, b: &Var) {
    let read = |var: &Var| var.to_dtype(DType::F64).and_then(|var| var.to_vec1::<f64>());
    let (a, b) = (read(a).unwrap(), read(b).unwrap());
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 2e-6, "{a} and {b}");
    }
}

const SGD_STEP: SgdStep = SgdStep {
    lr: 0.1,
    momentum: 0.9,
    dampening: 0.1,
    weight_decay: 0.01,
    nesterov: true,
    grad_scale: 0.5,
};

const ADAM_STEP: AdamStep = AdamStep {
    lr: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
    decoupled_weight_decay: false,
    step: 1,
    grad_scale: 0.5,
};

/// One element, sizes around a chunk, several chunks.
const SIZES: [usize; 4] = [1, 16_383, 16_385, 40_000];

#[test]
fn the_sgd_kernel_does_what_tensor_operations_do() -> Result<()> {
    for (count, dtype) in SIZES.iter().flat_map(|&n| [(n, DType::F32), (n, DType::F64)]) {
        for (with_momentum, nesterov) in [(false, false), (true, false), (true, true)] {
            let (fast, plain) = (var(count, 0.0, dtype)?, var(count, 0.0, dtype)?);
            let buffers = [zeros(count, dtype)?, zeros(count, dtype)?];
            let [of_fast, of_plain] = buffers.each_ref().map(|b| with_momentum.then_some(b));
            let step = SgdStep { nesterov, ..SGD_STEP };
            for phase in [0.3, 0.6] {
                let grad = var(count, phase, dtype)?.as_detached_tensor();
                assert!(sgd_step(&fast, &grad, of_fast, &step)?);
                assert!(composed_sgd(&plain, &grad, of_plain, &step)?);
            }
            assert_same(&fast, &plain);
            assert_same(&buffers[0], &buffers[1]);
        }
    }
    Ok(())
}

#[test]
fn the_adam_kernel_does_what_tensor_operations_do() -> Result<()> {
    for (count, dtype) in SIZES.iter().flat_map(|&n| [(n, DType::F32), (n, DType::F64)]) {
        for decoupled_weight_decay in [false, true] {
            let (fast, plain) = (var(count, 0.0, dtype)?, var(count, 0.0, dtype)?);
            let first = [zeros(count, dtype)?, zeros(count, dtype)?];
            let second = [zeros(count, dtype)?, zeros(count, dtype)?];
            for number in 1..4 {
                let grad = var(count, number as f64, dtype)?.as_detached_tensor();
                let step = AdamStep { step: number, decoupled_weight_decay, ..ADAM_STEP };
                assert!(adam_step(&fast, &grad, &first[0], &second[0], &step)?);
                assert!(composed_adam(&plain, &grad, &first[1], &second[1], &step)?);
            }
            assert_same(&fast, &plain);
            assert_same(&first[0], &first[1]);
            assert_same(&second[0], &second[1]);
        }
    }
    Ok(())
}

const RMS_PROP_STEP: RmsPropStep = RmsPropStep {
    lr: 0.01,
    alpha: 0.9,
    eps: 1e-3,
    weight_decay: 0.1,
    momentum: 0.9,
    grad_scale: 0.5,
};

#[test]
fn the_rms_prop_kernel_does_what_tensor_operations_do() -> Result<()> {
    for (count, dtype) in SIZES.iter().flat_map(|&n| [(n, DType::F32), (n, DType::F64)]) {
        for (is_centered, has_momentum) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let (fast, plain) = (var(count, 0.0, dtype)?, var(count, 0.0, dtype)?);
            let pair = || -> Result<[Var; 2]> { Ok([zeros(count, dtype)?, zeros(count, dtype)?]) };
            let (squares, means, buffers) = (pair()?, pair()?, pair()?);
            for number in 1..4 {
                let grad = &var(count, number as f64, dtype)?.as_detached_tensor();
                let update = |parameter, i: usize| RmsPropUpdate {
                    parameter,
                    grad,
                    square_avg: &squares[i],
                    grad_avg: is_centered.then_some(&means[i]),
                    buffer: has_momentum.then_some(&buffers[i]),
                    step: RMS_PROP_STEP,
                };
                assert!(is_finite(&rms_prop_steps(&[update(&fast, 0)])?)?);
                assert!(is_finite(&composed::rms_prop(&[update(&plain, 1)])?)?);
            }
            assert_same(&fast, &plain);
            for state in [&squares, &means, &buffers] {
                assert_same(&state[0], &state[1]);
            }
            let read = |var: &Var| var.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>();
            assert_eq!(
                [read(&means[0])? > 0.0, read(&buffers[0])? > 0.0],
                [is_centered, has_momentum]
            );
        }
    }
    Ok(())
}

#[test]
fn rms_prop_notices_what_is_not_finite_and_ends_at_zero() -> Result<()> {
    let [parameter, square, mean, buffer] =
        [0.0, 0.1, 0.2, 0.3].map(|phase| var(9, phase, DType::F32).unwrap());
    // A mean of squares is not less than the square of the mean.
    square.set(&(mean.as_detached_tensor().sqr()? + 0.1)?)?;
    let step = RmsPropStep { weight_decay: 0.0, ..RMS_PROP_STEP };
    let values = |var: &Var| var.to_vec1::<f32>();
    let steps = |grad: &Tensor| {
        rms_prop_steps(&[RmsPropUpdate {
            parameter: &parameter,
            grad,
            square_avg: &square,
            grad_avg: Some(&mean),
            buffer: Some(&buffer),
            step,
        }])
    };
    let zero = Tensor::zeros(9, DType::F32, &Device::Cpu)?;
    for _ in 0..1000 {
        assert!(is_finite(&steps(&zero)?)?);
        let all = [values(&square)?, values(&mean)?, values(&buffer)?].concat();
        assert!(all.iter().all(|x| *x == 0.0 || x.is_normal()), "{all:?}");
    }
    assert_eq!([values(&square)?, values(&mean)?, values(&buffer)?], [[0.0; 9]; 3]);
    let mut bad = [0_f32; 9];
    bad[8] = f32::NAN;
    assert!(!is_finite(&steps(&Tensor::new(&bad, &Device::Cpu)?)?)?);
    Ok(())
}

#[test]
fn a_value_that_is_not_finite_is_noticed_anywhere() -> Result<()> {
    for bad in [f64::NAN, f64::INFINITY] {
        for place in [0, 20_000, 39_999] {
            let mut grad = values(40_000, 0.0);
            grad[place] = bad;
            let grad = Tensor::new(grad, &Device::Cpu)?;
            let parameter = || var(40_000, 0.0, DType::F64);
            let buffer = zeros(40_000, DType::F64)?;
            assert!(!sgd_step(&parameter()?, &grad, None, &SGD_STEP)?);
            assert!(!sgd_step(&parameter()?, &grad, Some(&buffer), &SGD_STEP)?);
            assert!(!composed_sgd(&parameter()?, &grad, None, &SGD_STEP)?);
            let moments = [zeros(40_000, DType::F64)?, zeros(40_000, DType::F64)?];
            assert!(!adam_step(&parameter()?, &grad, &moments[0], &moments[1], &ADAM_STEP)?);
        }
    }
    Ok(())
}

#[test]
fn a_transposed_gradient_is_read_in_the_order_of_its_indices() -> Result<()> {
    let parameter = Var::zeros((2, 3), DType::F32, &Device::Cpu)?;
    let grad = Tensor::arange(0f32, 6.0, &Device::Cpu)?.reshape((3, 2))?.t()?;
    let step = SgdStep { lr: 1.0, weight_decay: 0.0, grad_scale: 1.0, ..SGD_STEP };
    sgd_step(&parameter, &grad, None, &step)?;
    assert_eq!(parameter.to_vec2::<f32>()?, [[0.0, -2.0, -4.0], [-1.0, -3.0, -5.0]]);
    Ok(())
}

#[test]
fn a_parameter_without_elements_is_left_alone() -> Result<()> {
    let (parameter, buffer) = (zeros(0, DType::F32)?, zeros(0, DType::F32)?);
    let grad = Tensor::zeros(0, DType::F32, &Device::Cpu)?;
    assert!(sgd_step(&parameter, &grad, Some(&buffer), &SGD_STEP)?);
    assert!(adam_step(&parameter, &grad, &buffer, &zeros(0, DType::F32)?, &ADAM_STEP)?);
    assert_eq!(sum_of_squares(&grad)?, 0.0);
    Ok(())
}

#[test]
fn state_of_another_shape_is_an_error() -> Result<()> {
    let parameter = var(3, 0.0, DType::F32)?;
    let grad = parameter.as_detached_tensor().copy()?;
    let error = sgd_step(&parameter, &grad, Some(&zeros(4, DType::F32)?), &SGD_STEP);
    assert!(error.unwrap_err().to_string().contains("optimizer state of shape [3], got [4]"));
    Ok(())
}

#[test]
fn the_sum_of_squares_is_exact_enough_for_a_norm() -> Result<()> {
    for count in SIZES {
        let values = values(count, 0.2);
        let expected: f64 = values.iter().map(|x| x * x).sum();
        let sum = sum_of_squares(&Tensor::new(values, &Device::Cpu)?)?;
        assert!((sum - expected).abs() <= 1e-12 * expected.max(1.0), "{sum} and {expected}");
    }
    Ok(())
}

/// Three parameters of which the second and the third get a gradient that is not finite.
#[test]
fn the_first_update_that_is_not_finite_is_named_and_all_are_made() -> Result<()> {
    let grads = [0.0, f32::INFINITY, f32::NAN]
        .map(|bad| Tensor::new(&[1f32, bad], &Device::Cpu))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let step = SgdStep { lr: 1.0, weight_decay: 0.0, grad_scale: 1.0, ..SGD_STEP };
    for steps in [sgd_steps, composed::sgd] {
        let parameters = [(); 3].map(|()| zeros(2, DType::F32));
        let parameters = parameters.into_iter().collect::<Result<Vec<_>>>()?;
        let update = |(parameter, grad)| SgdUpdate { parameter, grad, buffer: None, step };
        let updates: Vec<SgdUpdate<'_>> = parameters.iter().zip(&grads).map(update).collect();
        assert_eq!(steps(&updates)?.first_not_finite()?, Some(1));
        for parameter in &parameters {
            assert_eq!(parameter.to_vec1::<f32>()?[0], -1.0);
        }
        assert_eq!(steps(&updates[..1])?.first_not_finite()?, None);
    }
    assert_eq!(sgd_steps(&[])?.first_not_finite()?, None);
    assert_eq!(adam_steps(&[])?.first_not_finite()?, None);
    Ok(())
}

#[test]
fn nothing_is_changed_if_one_update_does_not_fit() -> Result<()> {
    let parameters = [zeros(2, DType::F32)?, zeros(3, DType::F32)?];
    let grad = Tensor::ones(2, DType::F32, &Device::Cpu)?;
    let update = |parameter| SgdUpdate { parameter, grad: &grad, buffer: None, step: SGD_STEP };
    let error = sgd_steps(&parameters.each_ref().map(update)).unwrap_err().to_string();
    assert!(error.contains("a gradient of shape [3], got [2]"), "{error}");
    assert_eq!(parameters[0].to_vec1::<f32>()?, [0.0, 0.0]);
    Ok(())
}

#[test]
fn sums_of_many_tensors_are_those_of_each() -> Result<()> {
    let tensors = [var(40_000, 0.1, DType::F32)?, var(3, 0.2, DType::F64)?];
    let tensors = tensors.each_ref().map(|var| var.as_tensor());
    let expected = sum_of_squares(tensors[0])? + sum_of_squares(tensors[1])?;
    assert_eq!(sums_of_squares(&tensors)?, expected);
    let composed = composed::sums_of_squares(&tensors)?.to_scalar::<f64>()?;
    assert!((composed - expected).abs() < 1e-9 * expected, "{composed} and {expected}");
    assert_eq!(sums_of_squares(&[])?, 0.0);
    let overflowing = Tensor::new(&[f32::MAX, f32::MAX], &Device::Cpu)?;
    assert!(sums_of_squares(&[&overflowing])?.is_finite());
    let infinite = Tensor::new(&[1f32, f32::NEG_INFINITY], &Device::Cpu)?;
    assert!(!sums_of_squares(&[tensors[0], &infinite])?.is_finite());
    Ok(())
}

#[test]
fn steps_by_a_scale_are_steps_of_scaled_gradients() -> Result<()> {
    let grad = Tensor::new(values(7, 1.0), &Device::Cpu)?;
    let norm = grad.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
    let loss_scale = Tensor::new(4f32, &Device::Cpu)?;
    let scale = GradScale::new(&[&grad], Some(0.1), Some(&loss_scale))?;
    assert!((scale.norm()? - norm / 4.0).abs() < 1e-12);
    let factor = 0.1 / (norm / 4.0 + 1e-6) / 4.0;
    assert!((scale.factor()?.unwrap() - factor).abs() < 1e-12);

    let step = |scale: Option<&GradScale>, grad: &Tensor| -> Result<[Var; 2]> {
        let [a, b] = [var(7, 2.0, DType::F64)?, var(7, 2.0, DType::F64)?];
        let [first, second] = [zeros(7, DType::F64)?, zeros(7, DType::F64)?];
        let sgd = [SgdUpdate { parameter: &a, grad, buffer: None, step: SGD_STEP }];
        let adam = [AdamUpdate {
            parameter: &b,
            grad,
            first_moment: &first,
            second_moment: &second,
            step: ADAM_STEP,
        }];
        let finite = match scale {
            None => [sgd_steps(&sgd)?, adam_steps(&adam)?],
            Some(scale) => [sgd_steps_scaled(&sgd, scale)?, adam_steps_scaled(&adam, scale)?],
        };
        assert!(is_finite(&finite[0])? && is_finite(&finite[1])?);
        Ok([a, b])
    };
    let [found, expected] = [step(Some(&scale), &grad)?, step(None, &(&grad * factor)?)?];
    found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected));

    // An infinity in a scaled loss is no step. Without a scaled loss it is one, which everybody sees.
    let infinite = Tensor::new(&[f64::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &Device::Cpu)?;
    let skips = GradScale::new(&[&infinite], None, Some(&loss_scale))?;
    assert_eq!(skips.factor()?, None);
    let unchanged = var(7, 2.0, DType::F64)?;
    for parameter in &step(Some(&skips), &infinite)? {
        assert_same(parameter, &unchanged);
    }
    assert_eq!(GradScale::new(&[&infinite], Some(1.0), None)?.factor()?, Some(0.0));
    let wrong = GradScale::new(&[&grad], None, Some(&Tensor::new(&[1f32], &Device::Cpu)?));
    assert!(wrong.unwrap_err().to_string().contains("a scalar in F32"));
    Ok(())
}

/// A processor takes a hundred times as long for numbers below the smallest normal one.
#[test]
fn averages_of_gradients_that_became_zero_end_at_zero() -> Result<()> {
    let parameter = var(9, 0.0, DType::F32)?;
    let [buffer, first, second] = [0.1, 0.2, 0.3].map(|phase| var(9, phase, DType::F32).unwrap());
    second.set(&second.as_detached_tensor().sqr()?)?;
    let sgd = SgdStep { weight_decay: 0.0, ..SGD_STEP };
    let adam = AdamStep { weight_decay: 0.0, beta2: 0.9, ..ADAM_STEP };
    let values = |var: &Var| var.to_vec1::<f32>();
    // So small that its square is no normal number, but not so small that it does not move the first moment.
    for gradient in [0.0, 1e-25] {
        let grad = Tensor::full(gradient, 9, &Device::Cpu)?.to_dtype(DType::F32)?;
        for _ in 0..1000 {
            sgd_step(&parameter, &grad, Some(&buffer), &sgd)?;
            adam_step(&parameter, &grad, &first, &second, &adam)?;
            let all = [values(&buffer)?, values(&first)?, values(&second)?].concat();
            assert!(all.iter().all(|x| *x == 0.0 || x.is_normal()), "{all:?}");
        }
        assert_eq!(values(&second)?, [0.0; 9]);
        assert!(values(&first)?.iter().all(|x| (*x > 0.0) == (gradient > 0.0)));
    }
    // So does a parameter that nothing but its decay moves.
    let grad = Tensor::zeros(9, DType::F32, &Device::Cpu)?;
    let decays = SgdStep { lr: 1.0, weight_decay: 0.5, momentum: 0.0, ..SGD_STEP };
    let shrinks = AdamStep { lr: 1.0, weight_decay: 0.5, decoupled_weight_decay: true, ..adam };
    let [by_sgd, by_adam] = [var(9, 1.0, DType::F32)?, var(9, 1.0, DType::F32)?];
    let [first, second] = [zeros(9, DType::F32)?, zeros(9, DType::F32)?];
    for _ in 0..200 {
        sgd_step(&by_sgd, &grad, None, &decays)?;
        adam_step(&by_adam, &grad, &first, &second, &shrinks)?;
        let all = [values(&by_sgd)?, values(&by_adam)?].concat();
        assert!(all.iter().all(|x| *x == 0.0 || x.is_normal()), "{all:?}");
    }
    assert_eq!([values(&by_sgd)?, values(&by_adam)?], [[0.0; 9], [0.0; 9]]);
    Ok(())
}
