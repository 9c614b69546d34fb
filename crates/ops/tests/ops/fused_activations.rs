//! Every activation behind every fused op: the same values and gradients as of the two ops one after
//! the other.

use candle_core::{Result, Tensor};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchNormParameters, Conv2dConfig, PreparedConv2d,
    batch_norm_eval, batch_norm_train, conv2d, conv2d_activated, conv2d_batch_norm_train, relu6,
    silu, why_not_direct,
};

use crate::reference::assert_close;
use crate::support::{check_error, check_gradients, gradients, random};

fn all() -> impl Iterator<Item = Activation> {
    let others = [Activation::LeakyRelu { slope: 0.3 }, Activation::Elu { alpha: 0.5 }];
    let named = |name| Activation::from_name(name).expect("a name of the table");
    Activation::NAMES.into_iter().map(named).chain(others)
}

/// Checks values and gradients of `fused` against those of `apart`, which is the same in two ops.
#[track_caller]
fn check(what: &str, inputs: &[Tensor], fused: impl Fn(&[Tensor], Activation) -> Result<Tensor>) {
    let plain = |x: &[Tensor]| fused(x, Activation::Identity);
    for activation in all() {
        let what = format!("{what}, {activation:?}");
        let one = |x: &[Tensor]| fused(x, activation);
        let two = |x: &[Tensor]| activation.apply(&plain(x)?);
        let (found, expected) = (one(inputs).expect("values"), two(inputs).expect("values"));
        assert_close(&what, &found, &expected, 1e-13);
        let (found, expected) = (gradients(inputs, one), gradients(inputs, two));
        for (found, expected) in found.expect("gradients").iter().zip(expected.expect("gradients"))
        {
            assert_close(&what, found, &expected, 1e-12);
        }
    }
    let smooth = [Activation::Tanh, Activation::Mish, Activation::Gelu];
    for activation in smooth {
        check_gradients(&format!("{what}, {activation:?}"), inputs, |x| fused(x, activation));
    }
}

#[test]
fn behind_a_convolution() {
    let config = Conv2dConfig::default().padding(1);
    let inputs =
        [random("x", &[2, 4, 5, 3]), random("kernel", &[4, 3, 3, 3]), random("bias", &[4])];
    check("conv2d", &inputs, |x, activation| {
        conv2d_activated(&x[0], &x[1], Some(&x[2]), activation, &config)
    });
    check("conv2d without a bias", &inputs[..2], |x, activation| {
        conv2d_activated(&x[0], &x[1], None, activation, &config)
    });
}

#[test]
fn behind_a_batch_norm() -> Result<()> {
    let dims = [2, 3, 2, 4];
    let inputs = [
        random("x", &dims),
        random("weight", &[4]),
        random("bias", &[4]),
        random("residual", &dims),
    ];
    check("batch norm", &inputs, |x, activation| {
        let norm = BatchNormParameters::new(&x[1], &x[2], 1e-3);
        Ok(batch_norm_train(&x[0], &norm, Some(&x[3]), activation)?.0)
    });
    let (mean, variance) = (random("mean", &[4]), random("variance", &[4]).sqr()?);
    check("batch norm, evaluated", &inputs, |x, activation| {
        let [weight, bias] = [&x[1], &x[2]];
        let (mean, variance) = (&mean, &variance);
        let norm = BatchNormConstants { weight, bias, mean, variance, eps: 0.1 };
        batch_norm_eval(&x[0], &norm, Some(&x[3]), activation)
    });
    Ok(())
}

#[test]
fn behind_both() -> Result<()> {
    let config = Conv2dConfig::default().padding([1, 0, 0, 1]);
    let inputs = [
        random("x", &[2, 3, 4, 3]),
        random("kernel", &[4, 3, 2, 2]),
        random("weight", &[4]),
        random("bias", &[4]),
    ];
    let run = |x: &[Tensor], activation| {
        let norm = BatchNormParameters::new(&x[2], &x[3], 1e-3);
        Ok(conv2d_batch_norm_train(&x[0], &x[1], &config, &norm, None, activation)?.0)
    };
    check("convolution and batch norm", &inputs, run);
    let x: Vec<Tensor> = inputs
        .iter()
        .map(|x| Ok(candle_core::Var::from_tensor(x)?.as_tensor().clone()))
        .collect::<Result<_>>()?;
    for activation in all() {
        assert_eq!(why_not_direct(&run(&x, activation)?), None, "{activation:?}");
    }
    Ok(())
}

#[test]
fn prepared() -> Result<()> {
    let (x, kernel) = (random("x", &[1, 5, 4, 3]), random("kernel", &[6, 3, 3, 3]));
    let config = Conv2dConfig::default().padding([0, 1, 1, 0]);
    for dtype in [candle_core::DType::F64, candle_core::DType::F32] {
        let (x, kernel) = (x.to_dtype(dtype)?, kernel.to_dtype(dtype)?);
        let conv = PreparedConv2d::new(&kernel, None, &config)?;
        let plain = conv2d(&x, &kernel, None, &config)?;
        let residual = random("residual", plain.dims()).to_dtype(dtype)?;
        for activation in all() {
            let expected = activation.apply(&(&plain + &residual)?)?;
            let found = conv.forward(&x, Some(&residual), activation)?;
            assert_close(&format!("{activation:?}"), &found, &expected, 1e-5);
        }
    }
    Ok(())
}

#[test]
fn an_activation_is_its_function() -> Result<()> {
    let x = random("x", &[7]).affine(5.0, 0.0)?;
    assert_eq!(Activation::Silu.apply(&x)?.to_vec1::<f64>()?, silu(&x)?.to_vec1::<f64>()?);
    assert_eq!(Activation::Relu6.apply(&x)?.to_vec1::<f64>()?, relu6(&x)?.to_vec1::<f64>()?);
    let words = Tensor::new(&[1u32], &candle_core::Device::Cpu)?;
    check_error(Activation::Mish.apply(&words), &["mish", "U32"]);
    Ok(())
}
