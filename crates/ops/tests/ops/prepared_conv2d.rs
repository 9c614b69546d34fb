//! A prepared convolution gives what the plain ops give.

use candle_core::{DType, Result, Tensor};
use candle_vision_ops::{
    Activation, BatchNormConstants, Conv2dConfig, PreparedConv2d, batch_norm_eval, conv2d,
};

use crate::reference;
use crate::support::{check_error, check_threads, random};

/// Sizes of the input and the kernel, and how it moves: every way that such a convolution can take.
fn cases() -> Vec<([usize; 4], [usize; 4], Conv2dConfig)> {
    let config = Conv2dConfig::default;
    vec![
        ([1, 14, 14, 24], [40, 24, 3, 3], config().padding(1)),
        ([2, 13, 10, 70], [130, 70, 3, 3], config().padding(1)),
        ([1, 7, 7, 96], [65, 96, 3, 3], config().padding(1)),
        ([2, 1, 1, 20], [33, 20, 3, 3], config().padding(1)),
        ([3, 15, 11, 3], [20, 3, 7, 7], config().stride(2).padding(3)),
        ([2, 9, 8, 40], [70, 40, 1, 1], config().stride(2)),
        ([1, 6, 5, 130], [7, 130, 1, 1], config()),
        ([1, 11, 9, 16], [18, 16, 3, 2], config().dilation(2).padding(2)),
        ([2, 8, 8, 12], [12, 1, 3, 3], config().padding(1).groups(12)),
        ([1, 8, 9, 32], [48, 16, 3, 3], config().padding(1).groups(2)),
        ([1, 1, 1, 17], [4, 17, 2, 2], config().padding(2).dilation(3)),
    ]
}

struct Layer {
    kernel: Tensor,
    constants: [Tensor; 4],
}

impl Layer {
    fn new(kernel: [usize; 4], dtype: DType) -> Result<Self> {
        let vector = |name: &str| random(name, &kernel[..1]);
        let variance = vector("variance").sqr()?.affine(1.0, 0.5)?;
        let constants = [vector("weight"), vector("bias"), vector("mean"), variance];
        let cast = |tensor: &Tensor| tensor.to_dtype(dtype);
        let [weight, bias, mean, variance] = &constants;
        let constants = [cast(weight)?, cast(bias)?, cast(mean)?, cast(variance)?];
        Ok(Self { kernel: cast(&random("kernel", &kernel))?, constants })
    }

    fn prepare(&self, config: &Conv2dConfig) -> Result<PreparedConv2d> {
        let [weight, bias, mean, variance] = &self.constants;
        let norm = BatchNormConstants { weight, bias, mean, variance, eps: 1e-5 };
        PreparedConv2d::with_batch_norm(&self.kernel, &norm, config)
    }

    fn plain(
        &self,
        x: &Tensor,
        config: &Conv2dConfig,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let y = conv2d(x, &self.kernel, None, config)?;
        let [weight, bias, mean, variance] = &self.constants;
        let norm = BatchNormConstants { weight, bias, mean, variance, eps: 1e-5 };
        batch_norm_eval(&y, &norm, residual, activation)
    }
}

#[test]
fn values_are_those_of_the_plain_ops() -> Result<()> {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        for (x, kernel, config) in cases() {
            let layer = Layer::new(kernel, dtype)?;
            let prepared = layer.prepare(&config)?;
            let x = random("x", &x).to_dtype(dtype)?;
            let identity = layer.plain(&x, &config, None, Activation::Identity)?;
            let residual = random("residual", identity.dims()).to_dtype(dtype)?;
            for residual in [None, Some(&residual)] {
                for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
                    let plain = layer.plain(&x, &config, residual, activation)?;
                    // Twice: what is packed for the first is used by the second.
                    for _ in 0..2 {
                        let y = prepared.forward(&x, residual, activation)?;
                        let what = format!("{kernel:?} {activation:?} {}", residual.is_some());
                        reference::assert_close(&what, &y, &plain, tolerance);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn images_may_change_their_size() -> Result<()> {
    let config = Conv2dConfig::default().padding(1);
    let layer = Layer::new([20, 12, 3, 3], DType::F32)?;
    let prepared = layer.prepare(&config)?;
    for size in [1, 2, 30, 3, 1, 16] {
        let x = random("x", &[1, size, size, 12]).to_dtype(DType::F32)?;
        let y = prepared.forward(&x, None, Activation::Relu)?;
        let plain = layer.plain(&x, &config, None, Activation::Relu)?;
        reference::assert_close(&format!("{size} pixels"), &y, &plain, 2e-5);
    }
    Ok(())
}

#[test]
fn a_bias_of_its_own_is_added() -> Result<()> {
    let (x, kernel) = (random("x", &[1, 5, 6, 9]), random("kernel", &[10, 9, 3, 3]));
    let bias = random("bias", &[10]);
    let config = Conv2dConfig::default().padding(1);
    let prepared = PreparedConv2d::new(&kernel, Some(&bias), &config)?;
    let plain = conv2d(&x, &kernel, Some(&bias), &config)?;
    let y = prepared.forward(&x, None, Activation::Identity)?;
    reference::assert_close("bias", &y, &plain, 1e-14);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let mut outputs = Vec::new();
        for (x, kernel, config) in cases() {
            let prepared = Layer::new(kernel, DType::F32)?.prepare(&config)?;
            let x = random("x", &x).to_dtype(DType::F32)?;
            outputs.push(prepared.forward(&x, None, Activation::Relu)?);
        }
        Ok(outputs)
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let kernel = random("kernel", &[10, 9, 3, 3]);
    let config = Conv2dConfig::default();
    let short = PreparedConv2d::new(&kernel, Some(&random("bias", &[9])), &config);
    check_error(short.map(|_| ()), &["bias", "[10]", "[9]"]);
    let prepared = PreparedConv2d::new(&kernel, None, &config)?;
    let run = |x: &Tensor, residual| prepared.forward(x, residual, Activation::Identity);
    check_error(run(&random("x", &[1, 5, 5, 8]), None), &["8 channels"]);
    let x = random("x", &[1, 5, 5, 9]);
    check_error(run(&x.to_dtype(DType::F32)?, None), &["F32", "F64"]);
    check_error(run(&x, Some(&x)), &["residual", "[1, 3, 3, 10]", "[1, 5, 5, 9]"]);
    Ok(())
}
