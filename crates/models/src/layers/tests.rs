//! Layers against PyTorch.

use candle_core::{DType, Device, Result, Tensor};

use super::*;
use crate::{Parameters, Pass};

fn set(parameters: &Parameters, path: &str, values: &[f32]) -> Result<()> {
    let parameter = parameters.get(path).expect("the layer has it");
    parameter.set(&Tensor::from_slice(values, parameter.var().shape(), &Device::Cpu)?)
}

fn values(parameters: &Parameters, path: &str) -> Result<Vec<f32>> {
    parameters.get(path).expect("the layer has it").detached().flatten_all()?.to_vec1()
}

/// `x` of the Python below in the layout of the layers.
fn x() -> Result<Tensor> {
    let x = Tensor::arange(0f32, 8.0, &Device::Cpu)?.reshape((1, 2, 2, 2))?.sqrt()?;
    x.permute((0, 2, 3, 1))?.contiguous()
}

#[track_caller]
fn check(y: &Tensor, expected: &[f32]) -> Result<()> {
    let y = if y.rank() == 4 { y.permute((0, 3, 1, 2))? } else { y.clone() };
    close(&y.flatten_all()?.to_vec1()?, expected);
    Ok(())
}

#[track_caller]
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < 2e-6 * expected.abs().max(1.0),
            "{found}, not {expected}"
        );
    }
}

/// ```python
/// import torch
/// x = torch.arange(8.).reshape(1, 2, 2, 2).sqrt()
/// bn = torch.nn.BatchNorm2d(2, eps=1e-2, momentum=0.3)
/// bn.weight.data, bn.bias.data = torch.tensor([2., -1.]), torch.tensor([.5, .25])
/// print(bn(x).flatten().tolist(), bn.running_mean.tolist(), bn.running_var.tolist())
/// bn.eval(); print(bn(x).flatten().tolist())
/// print(torch.nn.BatchNorm2d(2, affine=False)(x).flatten().tolist())
/// ```
#[test]
fn batch_norm_has_pytorchs_options() -> Result<()> {
    let parameters = Parameters::new();
    let vb = parameters.builder(0, DType::F32, &Device::Cpu);
    let norm = BatchNorm2d::new(BatchNorm2dOptions::new(2).eps(1e-2).momentum(0.3), vb.pp("bn"))?;
    set(&parameters, "bn.weight", &[2.0, -1.0])?;
    set(&parameters, "bn.bias", &[0.5, 0.25])?;
    let train = [
        -2.641_359,
        0.389_184_95,
        1.644_477_4,
        2.607_697,
        1.527_114_9,
        0.621_282_2,
        -0.197_653_23,
        -0.950_741_2,
    ];
    check(&norm.forward(&x()?, &mut Pass::train(0))?, &train)?;
    close(&values(&parameters, "bn.running_mean")?, &[0.310_969_83, 0.699_848_2]);
    close(&values(&parameters, "bn.running_var")?, &[0.870_212_26, 0.723_166_76]);
    let eval = [
        -0.162_909_97,
        1.968_840_1,
        2.851_839_8,
        3.529_389_4,
        -1.268_422_6,
        -1.544_122,
        -1.793_373_2,
        -2.022_583_2,
    ];
    check(&norm.forward(&x()?, &mut Pass::eval())?, &eval)?;

    let plain = BatchNorm2d::new(BatchNorm2dOptions::new(2).affine(false), vb.pp("plain"))?;
    assert!(parameters.get("plain.weight").is_none());
    let train = [
        -1.589_009_3,
        -0.056_054_115,
        0.578_916_67,
        1.066_146_9,
        -1.382_861_1,
        -0.402_024_4,
        0.484_719_9,
        1.300_164_6,
    ];
    check(&plain.forward(&x()?, &mut Pass::train(0))?, &train)?;
    assert!(BatchNorm2d::new(BatchNorm2dOptions::new(2).momentum(1.5), vb.pp("bad")).is_err());
    Ok(())
}

/// ```python
/// ln = torch.nn.LayerNorm(3, eps=1e-3)
/// ln.weight.data, ln.bias.data = torch.tensor([1., 2., -1.]), torch.tensor([0., .5, 1.])
/// print(ln(torch.tensor([[1., 2., 4.], [0., -3., .5]])).flatten().tolist())
/// ```
#[test]
fn layer_norm_is_pytorchs() -> Result<()> {
    let parameters = Parameters::new();
    let vb = parameters.builder(0, DType::F32, &Device::Cpu);
    let norm = LayerNorm::new(LayerNormOptions::new(3).eps(1e-3), vb.pp("ln"))?;
    set(&parameters, "ln.weight", &[1.0, 2.0, -1.0])?;
    set(&parameters, "ln.bias", &[0.0, 0.5, 1.0])?;
    let x = Tensor::new(&[[1f32, 2.0, 4.0], [0.0, -3.0, 0.5]], &Device::Cpu)?;
    let expected =
        [-1.068_701_4, -0.034_350_634, -0.335_876_94, 0.539_051_06, -2.303_065_8, 0.137_518_29];
    check(&norm.forward(&x, &mut Pass::eval())?, &expected)
}

/// ```python
/// c = torch.nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False, stride=2)
/// c.weight.data = (torch.arange(18.) / 10 - .7).reshape(2, 1, 3, 3)
/// print(c(x).flatten().tolist())
/// ```
#[test]
fn a_convolution_takes_its_options() -> Result<()> {
    let parameters = Parameters::new();
    let vb = parameters.builder(0, DType::F32, &Device::Cpu);
    let options = Conv2dOptions::new(2, 2, 3).padding(1).groups(2).bias(false).stride(2);
    let conv = Conv2d::new(options, vb.pp("conv"))?;
    let kernel: Vec<f32> = (0..18).map(|i| i as f32 / 10.0 - 0.7).collect();
    set(&parameters, "conv.weight", &kernel)?;
    assert!(parameters.get("conv.bias").is_none());
    check(&conv.forward(&x()?, &mut Pass::eval())?, &[-0.026_794_87, 7.615_539_6])?;
    let odd = Conv2dOptions::new(2, 3, 3).groups(2);
    let message = Conv2d::new(odd, vb.pp("odd")).unwrap_err().to_string();
    assert!(message.contains("`odd`: 2 and 3 channels cannot be split into 2 groups"), "{message}");
    Ok(())
}

#[test]
fn activations_and_pools_are_those_of_the_ops() -> Result<()> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let pass = &mut Pass::eval();
    let x = Tensor::new(&[-4f32, -1.0, 0.0, 2.0, 7.0], &Device::Cpu)?;
    check(&Relu6::new(vb.pp("a")).forward(&x, pass)?, &[0.0, 0.0, 0.0, 2.0, 6.0])?;
    check(&Hardswish::new(vb.pp("b")).forward(&x, pass)?, &[0.0, -1.0 / 3.0, 0.0, 5.0 / 3.0, 7.0])?;
    let tanh = x.tanh()?.to_vec1::<f32>()?;
    check(&Tanh::new(vb.pp("c")).forward(&x, pass)?, &tanh)?;
    let maps = self::x()?;
    let mean = [(1.0 + 2f32.sqrt() + 3f32.sqrt()) / 4.0, 0.0];
    let pooled = GlobalAvgPool::new(vb.pp("d")).forward(&maps, pass)?;
    assert_eq!(pooled.dims(), [1, 2]);
    close(&pooled.flatten_all()?.to_vec1::<f32>()?[..1], &mean[..1]);
    let same = AvgPool2d::new(candle_vision_ops::AvgPool2dConfig::new(2), vb.pp("e"));
    close(&same.forward(&maps, pass)?.flatten_all()?.to_vec1::<f32>()?[..1], &mean[..1]);
    Ok(())
}

/// A bias in front of a batch norm would be taken off again.
#[test]
fn a_bias_before_batch_norm_is_refused() -> Result<()> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let conv = Conv2d::new(Conv2dOptions::new(1, 1, 1), vb.pp("conv"))?;
    let error = ConvNorm::of(conv, BatchNorm2d::new(1, vb.pp("bn"))?).unwrap_err().to_string();
    assert!(error.starts_with("`conv` has a bias, which the batch norm `bn`"), "{error}");
    Ok(())
}
