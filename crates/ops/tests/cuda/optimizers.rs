//! Steps of optimizers, many tensors at a time.

use candle_core::{Device, Result, Tensor, Var};
use candle_vision_ops::{
    AdamStep, AdamUpdate, GradScale, RmsPropStep, RmsPropUpdate, SgdStep, SgdUpdate, accumulate,
    adam_steps, adam_steps_scaled, over_norm, rms_prop_steps, sgd_steps, sgd_steps_scaled,
    sums_of_squares,
};

use crate::reference::assert_close;
use crate::twins::{cuda, random};

/// More tensors than one launch takes, of sizes that are no multiples of anything. Some are kernels.
fn shapes() -> Vec<Vec<usize>> {
    let shape = |i: usize| match i % 7 {
        0 => vec![33, 31 + i],
        1 => vec![5, 1 + i % 4, 3, 3 + i % 2],
        _ => vec![1 + i % 13],
    };
    (0..53).map(shape).collect()
}

fn variables(name: &str, device: &Device) -> Result<Vec<Var>> {
    let make = |(i, dims): (usize, Vec<usize>)| {
        Var::from_tensor(&random(&format!("{name}{i}"), &dims).to_device(device)?)
    };
    shapes().into_iter().enumerate().map(make).collect()
}

fn zeros(device: &Device) -> Result<Vec<Var>> {
    let make = |dims: Vec<usize>| Var::zeros(dims, candle_core::DType::F32, device);
    shapes().into_iter().map(make).collect()
}

fn gradients(step: usize, device: &Device) -> Result<Vec<Tensor>> {
    let variables = variables(&format!("gradient {step} "), device)?;
    let as_convolutions_write = |variable: Var| -> Result<Tensor> {
        let gradient = variable.as_detached_tensor();
        if gradient.rank() != 4 {
            return Ok(gradient);
        }
        gradient.permute([0, 2, 3, 1])?.contiguous()?.permute([0, 3, 1, 2])
    };
    variables.into_iter().map(as_convolutions_write).collect()
}

fn assert_same(what: &str, found: &[Var], expected: &[Var]) -> Result<()> {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let found = found.as_detached_tensor().to_device(&Device::Cpu)?;
        assert_close(&format!("{what} {i}"), &found, expected, 1e-5);
    }
    Ok(())
}

/// Three steps of SGD; with momentum if there are buffers.
fn sgd(device: &Device, nesterov: bool, with_momentum: bool) -> Result<[Vec<Var>; 2]> {
    let (parameters, buffers) = (variables("parameter", device)?, zeros(device)?);
    for number in 0..3 {
        let grads = gradients(number, device)?;
        let updates: Vec<SgdUpdate<'_>> = (0..parameters.len())
            .map(|i| SgdUpdate {
                parameter: &parameters[i],
                grad: &grads[i],
                buffer: with_momentum.then_some(&buffers[i]),
                step: SgdStep {
                    lr: if i % 2 == 0 { 0.1 } else { 0.01 },
                    momentum: 0.9,
                    dampening: if number == 0 { 0.0 } else { 0.1 },
                    weight_decay: if i % 3 == 0 { 0.0 } else { 1e-2 },
                    nesterov,
                    grad_scale: 0.5,
                },
            })
            .collect();
        assert_eq!(sgd_steps(&updates)?.first_not_finite()?, None);
    }
    Ok([parameters, buffers])
}

#[test]
fn sgd_is_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for (nesterov, with_momentum) in [(false, false), (false, true), (true, true)] {
        let expected = sgd(&Device::Cpu, nesterov, with_momentum)?;
        let found = sgd(&cuda.device, nesterov, with_momentum)?;
        assert_same("parameter", &found[0], &expected[0])?;
        assert_same("momentum", &found[1], &expected[1])?;
    }
    Ok(())
}

fn adam(device: &Device, decoupled: bool) -> Result<[Vec<Var>; 3]> {
    let parameters = variables("parameter", device)?;
    let (first, second) = (zeros(device)?, zeros(device)?);
    for number in 0..3 {
        let grads = gradients(number, device)?;
        let updates: Vec<AdamUpdate<'_>> = (0..parameters.len())
            .map(|i| AdamUpdate {
                parameter: &parameters[i],
                grad: &grads[i],
                first_moment: &first[i],
                second_moment: &second[i],
                step: AdamStep {
                    lr: if i % 2 == 0 { 1e-2 } else { 1e-3 },
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    weight_decay: if i % 3 == 0 { 0.0 } else { 1e-2 },
                    decoupled_weight_decay: decoupled,
                    step: number as u64 + 1 + (i % 2) as u64,
                    grad_scale: 2.0,
                },
            })
            .collect();
        assert_eq!(adam_steps(&updates)?.first_not_finite()?, None);
    }
    Ok([parameters, first, second])
}

#[test]
fn adam_is_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for decoupled in [false, true] {
        let (expected, found) = (adam(&Device::Cpu, decoupled)?, adam(&cuda.device, decoupled)?);
        for (what, i) in [("parameter", 0), ("first moment", 1), ("second moment", 2)] {
            assert_same(what, &found[i], &expected[i])?;
        }
    }
    Ok(())
}

fn rms_prop(device: &Device, is_centered: bool, has_momentum: bool) -> Result<[Vec<Var>; 4]> {
    let parameters = variables("parameter", device)?;
    let (squares, means, buffers) = (zeros(device)?, zeros(device)?, zeros(device)?);
    for number in 0..3 {
        let grads = gradients(number, device)?;
        let updates: Vec<RmsPropUpdate<'_>> = (0..parameters.len())
            .map(|i| RmsPropUpdate {
                parameter: &parameters[i],
                grad: &grads[i],
                square_avg: &squares[i],
                grad_avg: is_centered.then_some(&means[i]),
                buffer: has_momentum.then_some(&buffers[i]),
                step: RmsPropStep {
                    lr: if i % 2 == 0 { 1e-2 } else { 1e-3 },
                    alpha: 0.9,
                    eps: 1e-3,
                    weight_decay: if i % 3 == 0 { 0.0 } else { 1e-2 },
                    momentum: 0.8,
                    grad_scale: 0.5,
                },
            })
            .collect();
        assert_eq!(rms_prop_steps(&updates)?.first_not_finite()?, None);
    }
    Ok([parameters, squares, means, buffers])
}

#[test]
fn rms_prop_is_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for (is_centered, has_momentum) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let expected = rms_prop(&Device::Cpu, is_centered, has_momentum)?;
        let found = rms_prop(&cuda.device, is_centered, has_momentum)?;
        let names = ["parameter", "square", "mean", "momentum"];
        for (what, (found, expected)) in names.iter().zip(found.iter().zip(&expected)) {
            assert_same(&format!("{what}, {is_centered} {has_momentum}"), found, expected)?;
        }
    }
    Ok(())
}

#[test]
fn a_tensor_over_its_norm_is_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for (dims, divisor, least) in
        [(vec![3], 1.0, 1e-7), (vec![70, 333], 8.0, 1e-7), (vec![5, 7], 1.0, 1e6)]
    {
        let x = random("x", &dims);
        let expected = over_norm(&x, divisor, least)?;
        let found = over_norm(&x.to_device(&cuda.device)?, divisor, least)?;
        assert_close("over its norm", &found.to_device(&Device::Cpu)?, &expected, 1e-6);
    }
    Ok(())
}

#[test]
fn the_parameter_that_is_not_finite_is_found() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let parameters = variables("parameter", &cuda.device)?;
    let mut grads = gradients(0, &cuda.device)?;
    grads[50] = (&grads[50] * f64::INFINITY)?;
    let step = SgdStep {
        lr: 0.1,
        momentum: 0.0,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        grad_scale: 1.0,
    };
    let updates: Vec<SgdUpdate<'_>> = parameters
        .iter()
        .zip(&grads)
        .map(|(parameter, grad)| SgdUpdate { parameter, grad, buffer: None, step })
        .collect();
    assert_eq!(sgd_steps(&updates)?.first_not_finite()?, Some(50));
    Ok(())
}

#[test]
fn squares_add_up_as_on_the_cpu() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let sum = |device: &Device| {
        let tensors = gradients(1, device)?;
        sums_of_squares(&tensors.iter().collect::<Vec<_>>())
    };
    let (expected, found) = (sum(&Device::Cpu)?, sum(&cuda.device)?);
    assert!((found - expected).abs() < 1e-9 * expected, "{found}, not {expected}");
    Ok(())
}

/// The scale of the gradients of one step, and the parameters after steps of SGD and Adam by it.
fn scaled(
    device: &Device,
    max_norm: Option<f64>,
    loss_scale: Option<f32>,
    last: f32,
) -> Result<(f64, Option<f64>, Vec<Var>)> {
    let mut grads = gradients(1, device)?;
    grads.push(Tensor::new(&[last, 1.0], device)?);
    let loss_scale = loss_scale.map(|scale| Tensor::new(scale, device)).transpose()?;
    let grads: Vec<&Tensor> = grads.iter().collect();
    let scale = GradScale::new(&grads, max_norm, loss_scale.as_ref())?;
    let (by_sgd, by_adam) = (variables("a", device)?, variables("b", device)?);
    let (first, second) = (zeros(device)?, zeros(device)?);
    let step = SgdStep {
        lr: 0.1,
        momentum: 0.0,
        dampening: 0.0,
        weight_decay: 0.01,
        nesterov: false,
        grad_scale: 0.5,
    };
    let updates = by_sgd.iter().zip(&grads);
    let updates: Vec<SgdUpdate<'_>> = updates
        .map(|(parameter, grad)| SgdUpdate { parameter, grad, buffer: None, step })
        .collect();
    sgd_steps_scaled(&updates, &scale)?;
    let step = AdamStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-3,
        weight_decay: 0.0,
        decoupled_weight_decay: false,
        step: 1,
        grad_scale: 1.0,
    };
    let updates: Vec<AdamUpdate<'_>> = (0..by_adam.len())
        .map(|i| AdamUpdate {
            parameter: &by_adam[i],
            grad: grads[i],
            first_moment: &first[i],
            second_moment: &second[i],
            step,
        })
        .collect();
    adam_steps_scaled(&updates, &scale)?;
    Ok((scale.norm()?, scale.factor()?, by_sgd.into_iter().chain(by_adam).collect()))
}

#[test]
fn scaled_steps_are_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for (max_norm, loss_scale, last) in [
        (None, None, 1.0),
        (Some(0.5), None, 1.0),
        (Some(1e9), Some(8.0), 1.0),
        (Some(0.5), Some(1024.0), 1.0),
        (None, Some(4.0), f32::INFINITY),
        (Some(1.0), Some(4.0), f32::NAN),
    ] {
        let what = format!("{max_norm:?} {loss_scale:?} {last}");
        let expected = scaled(&Device::Cpu, max_norm, loss_scale, last)?;
        let found = scaled(&cuda.device, max_norm, loss_scale, last)?;
        if last.is_finite() {
            assert!((found.0 - expected.0).abs() < 1e-9 * expected.0, "{what}");
            let [found, expected] = [found.1, expected.1].map(Option::unwrap);
            assert!((found - expected).abs() < 1e-9 * expected, "{what}");
        } else {
            assert!(!found.0.is_finite() && found.1.is_none(), "{what}");
            assert_same("unchanged", &found.2[..53], &variables("a", &Device::Cpu)?)?;
        }
        assert_same(&what, &found.2, &expected.2)?;
    }
    Ok(())
}

/// The sums of three batches' gradients, of which the first replaces what lay there and the last finds the others halved.
fn accumulated(device: &Device) -> Result<Vec<Var>> {
    let sums = variables("left over", device)?;
    for (number, kept) in [0f32, 1.0, 0.5].into_iter().enumerate() {
        let grads = gradients(number, device)?;
        accumulate(&sums.iter().zip(&grads).collect::<Vec<_>>(), &Tensor::new(&[kept], device)?)?;
    }
    Ok(sums)
}

#[test]
fn sums_of_gradients_are_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let bits = |sums: Vec<Var>| -> Result<Vec<Vec<u32>>> {
        let of = |sum: Var| sum.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
        let of = |sum| Ok(of(sum)?.into_iter().map(f32::to_bits).collect());
        sums.into_iter().map(of).collect()
    };
    assert_eq!(bits(accumulated(&cuda.device)?)?, bits(accumulated(&Device::Cpu)?)?);
    Ok(())
}

/// A gradient times the scale of it and of one with `value`, and a variable that was set by both scales.
fn applied(device: &Device, value: f32) -> Result<(Vec<f32>, f32, Option<f64>)> {
    let (grad, other) = (Tensor::new(&[3f32, 4.0], device)?, Tensor::new(&[value], device)?);
    let loss_scale = Tensor::new(8f32, device)?;
    let scale = GradScale::new(&[&grad, &other], Some(0.5), Some(&loss_scale))?;
    let (place, after) = (Var::zeros(1, candle_core::DType::F32, device)?, scale.when_applied()?);
    for (scale, values) in [(&scale, [1f32]), (&after, [2f32])] {
        let values = (place.as_detached_tensor() + Tensor::new(&values, device)?)?;
        scale.set(&place, &values)?;
    }
    Ok((scale.apply_to(&grad)?.to_vec1()?, place.to_vec1::<f32>()?[0], after.factor()?))
}

#[test]
fn a_scale_is_applied_as_on_the_cpu() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    // Not clipped, clipped, and not to be used.
    for (value, expected) in
        [(0.0, (3.0, Some(1.0))), (9.0, (3.0, Some(1.0))), (f32::NAN, (0.0, None))]
    {
        let [found, cpu] = [applied(&cuda.device, value)?, applied(&Device::Cpu, value)?];
        assert_eq!((found.1, found.2), expected, "{value}");
        assert_eq!((cpu.1, cpu.2), expected, "{value}");
        // The gradients mean nothing in the last case.
        assert!(expected.1.is_none() || found.0 == cpu.0, "{:?} and {:?}", found.0, cpu.0);
    }
    Ok(())
}
