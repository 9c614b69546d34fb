//! `backward` gives what candle's method gives.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{
    Activation, BatchNormParameters, Conv2dConfig, CrossEntropyConfig, Targets, backward,
    backward_from, batch_norm_train, conv2d, conv2d_batch_norm_train, cross_entropy, flatten,
    is_direct, linear, on_gradient, relu, why_not_direct,
};

use crate::support::check_error;

struct Network {
    image: Var,
    kernel: Var,
    scale: Var,
    shift: Var,
    weight: Var,
    bias: Var,
}

impl Network {
    fn new() -> Result<Self> {
        let wave = |shape: &[usize]| {
            let len = shape.iter().product::<usize>();
            let values: Vec<f64> = (0..len).map(|i| (1.7 * i as f64).sin()).collect();
            Var::from_vec(values, shape, &Device::Cpu)
        };
        Ok(Self {
            image: wave(&[2, 5, 5, 4])?,
            kernel: wave(&[4, 4, 3, 3])?,
            scale: wave(&[4])?,
            shift: wave(&[4])?,
            weight: wave(&[100, 100])?,
            bias: wave(&[100])?,
        })
    }

    /// Ops of this crate alone. Each parameter is used twice, and so is each block's input.
    fn loss(&self) -> Result<Tensor> {
        let config = Conv2dConfig::default().padding(1);
        let (scale, shift) = (self.scale.as_tensor(), self.shift.as_tensor());
        let mut x = self.image.as_tensor().clone();
        for activation in [Activation::Relu, Activation::Identity] {
            let (y, _) = conv2d_batch_norm_train(
                &x,
                &self.kernel,
                &config,
                &BatchNormParameters::new(scale, shift, 1e-5),
                Some(&x),
                activation,
            )?;
            x = y;
        }
        let mut x = flatten(&x)?;
        for _ in 0..2 {
            x = relu(&linear(&x, &self.weight, Some(&self.bias))?)?;
        }
        let labels = Tensor::new(&[3u32, 50], &Device::Cpu)?;
        cross_entropy(&x, Targets::Labels(&labels), &CrossEntropyConfig::default())
    }

    /// Each parameter is used twice, the weight also by an op of candle's own.
    fn mixed_loss(&self) -> Result<Tensor> {
        let config = Conv2dConfig::default().padding(1);
        let mut x = self.image.as_tensor().clone();
        for _ in 0..2 {
            x = conv2d(&x, &self.kernel, None, &config)?;
            let (scale, shift) = (self.scale.as_tensor(), self.shift.as_tensor());
            let norm = BatchNormParameters::new(scale, shift, 1e-5);
            x = batch_norm_train(&x, &norm, None, Activation::Relu)?.0;
        }
        let mut x = x.flatten_from(1)?;
        for _ in 0..2 {
            x = linear(&x, &self.weight, Some(&self.bias))?;
        }
        x.matmul(&self.weight)?.sqr()?.mean_all()
    }

    fn variables(&self) -> [&Var; 6] {
        [&self.image, &self.kernel, &self.scale, &self.shift, &self.weight, &self.bias]
    }
}

#[track_caller]
fn check_equal(network: &Network, plain: &GradStore, fast: &GradStore) -> Result<()> {
    for variable in network.variables() {
        let (plain, fast) = (plain.get(variable).unwrap(), fast.get(variable).unwrap());
        let largest = plain.abs()?.max_all()?.to_scalar::<f64>()?;
        let error = (plain - fast)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(largest > 0.0 && error <= 1e-12 * largest, "{:?}: {error:.1e}", plain.dims());
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_candles_own_walk() -> Result<()> {
    let network = Network::new()?;
    let loss = network.loss()?;
    assert!(is_direct(&loss));
    let gradients = backward(&loss)?;
    check_equal(&network, &loss.backward()?, &gradients)?;
    for variable in network.variables() {
        assert!(!gradients.get(variable).unwrap().track_op(), "a gradient leads nowhere");
    }
    Ok(())
}

#[test]
fn a_graph_with_ops_of_candles_is_walked_by_candle() -> Result<()> {
    let network = Network::new()?;
    let loss = network.mixed_loss()?;
    assert!(!is_direct(&loss));
    check_equal(&network, &loss.backward()?, &backward(&loss)?)
}

#[test]
fn a_gradient_to_start_from_is_a_factor() -> Result<()> {
    let network = Network::new()?;
    for loss in [network.loss()?, network.mixed_loss()?] {
        let tripled = backward_from(&loss, &Tensor::new(3f64, &Device::Cpu)?)?;
        check_equal(&network, &(loss * 3.0)?.backward()?, &tripled)?;
    }
    Ok(())
}

#[test]
fn a_gradient_of_another_shape_or_type_is_an_error() -> Result<()> {
    let x = Var::new(&[1f32, 2.0], &Device::Cpu)?;
    let y = relu(&x)?;
    let wrong = backward_from(&y, &Tensor::new(&[1f32], &Device::Cpu)?);
    check_error(wrong, &["backward", "[2]", "[1]"]);
    check_error(backward_from(&y, &Tensor::new(&[1f64, 1.0], &Device::Cpu)?), &["F32", "F64"]);
    Ok(())
}

#[test]
fn what_has_no_variables_has_no_gradients() -> Result<()> {
    let x = Tensor::new(&[1f32], &Device::Cpu)?;
    assert_eq!(backward(&relu(&x)?)?.get_ids().count(), 0);
    let x = Var::from_tensor(&x)?;
    assert_eq!(backward(&x)?.get(&x).unwrap().to_vec1::<f32>()?, [1.0]);
    Ok(())
}

#[test]
fn frozen_parts_get_no_gradients() -> Result<()> {
    let network = Network::new()?;
    let frozen = relu(&network.image.flatten_from(1)?.detach())?;
    let y = relu(&linear(&frozen, &network.weight, Some(&network.bias))?)?;
    let gradients = backward(&y)?;
    assert!(is_direct(&y) && gradients.get_ids().count() == 2);
    assert!(gradients.get(&network.image).is_none());
    Ok(())
}

#[test]
fn one_backward_within_another_keeps_to_itself() -> Result<()> {
    let (inner, outer) = (Var::new(&[[3f64]], &Device::Cpu)?, Var::new(&[[2f64]], &Device::Cpu)?);
    let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
    let inner_loss = linear(&one, &inner, None)?;
    let seen = inner.clone();
    let x = on_gradient(&linear(&one, &outer, None)?, move |_| {
        let gradients = backward(&inner_loss)?;
        assert!(gradients.get(&seen).is_some());
        Ok(None)
    })?;
    let gradients = backward(&x)?;
    assert_eq!(gradients.get(&outer).unwrap().to_vec2::<f64>()?, [[1.0]]);
    assert!(gradients.get(&inner).is_none());
    Ok(())
}

#[test]
fn an_error_leaves_nothing_behind() -> Result<()> {
    let weight = Var::new(&[[2f64]], &Device::Cpu)?;
    let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
    let y = linear(&one, &weight, None)?;
    let fails = on_gradient(&y, |_| candle_core::bail!("no"))?;
    assert!(backward(&fails).is_err());
    // What the failed walk went through can be walked again.
    assert!(y.sum_all()?.backward()?.get(&weight).is_some());
    Ok(())
}

/// The network with a hook behind every layer that changes nothing.
fn hooked_loss(network: &Network) -> Result<Tensor> {
    let hook = |x: &Tensor| on_gradient(x, |_| Ok(None));
    let config = Conv2dConfig::default().padding(1);
    let x = hook(&conv2d(&network.image, &network.kernel, None, &config)?)?;
    let (scale, shift) = (network.scale.as_tensor(), network.shift.as_tensor());
    let norm = BatchNormParameters::new(scale, shift, 1e-5);
    let x = hook(&batch_norm_train(&x, &norm, Some(&x), Activation::Relu)?.0)?;
    hook(&relu(&linear(&flatten(&x)?, &network.weight, Some(&network.bias))?)?)
}

#[test]
fn hooks_stay_on_the_fast_way_and_give_candles_gradients() -> Result<()> {
    let network = Network::new()?;
    let loss = hooked_loss(&network)?;
    assert_eq!(why_not_direct(&loss), None);
    let ones = loss.ones_like()?;
    check_equal(&network, &loss.sum_all()?.backward()?, &backward_from(&loss, &ones)?)
}

#[test]
fn the_op_that_a_graph_falls_off_at_is_named() -> Result<()> {
    let x = Var::ones((2, 3), DType::F32, &Device::Cpu)?;
    let named = |y: Result<Tensor>| -> Result<String> {
        let op = why_not_direct(&relu(&relu(&y?)?)?).expect("it is candle's");
        Ok(op.to_string())
    };
    let check = |y: Result<Tensor>, expected: &str| -> Result<()> {
        let name = named(y)?;
        // Behind a view that is not contiguous comes a copy.
        assert!(name.starts_with(&format!("a candle {expected}")), "{name}");
        Ok(())
    };
    let y = relu(&x)?;
    check(y.reshape((3, 2)), "reshape that gives F32 of shape [3, 2]")?;
    check(y.t(), "permute that gives F32 of shape [3, 2]")?;
    check(y.narrow(1, 1, 2), "narrow that gives F32 of shape [2, 2]")?;
    check(y.broadcast_as((4, 2, 3)), "broadcast that gives F32 of shape [4, 2, 3]")?;
    check(y.sqr(), "operation that gives F32 of shape [2, 3]")?;
    // The first of the forward pass, and how many there are.
    let several = named(y.sqr()?.to_dtype(DType::F64)?.exp())?;
    assert_eq!(several, "a candle operation that gives F32 of shape [2, 3], the first of 3");
    assert_eq!(why_not_direct(&Tensor::new(1f32, &Device::Cpu)?), None);
    Ok(())
}
