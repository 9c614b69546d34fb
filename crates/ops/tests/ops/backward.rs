//! `backward` gives what candle's method gives.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::on_gradient;
use candle_vision_ops::{Activation, Conv2dConfig, backward, batch_norm_train, conv2d, linear};

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

    /// Each parameter is used twice, the weight also by an op of candle's own.
    fn loss(&self) -> Result<Tensor> {
        let config = Conv2dConfig::default().padding(1);
        let mut x = self.image.as_tensor().clone();
        for _ in 0..2 {
            x = conv2d(&x, &self.kernel, None, &config)?;
            let (scale, shift) = (self.scale.as_tensor(), self.shift.as_tensor());
            x = batch_norm_train(&x, scale, shift, None, Activation::Relu, 1e-5)?.0;
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

#[test]
fn gradients_are_those_of_candles_own_walk() -> Result<()> {
    let network = Network::new()?;
    let loss = network.loss()?;
    let (plain, fast) = (loss.backward()?, backward(&loss)?);
    for variable in network.variables() {
        let (plain, fast) = (plain.get(variable).unwrap(), fast.get(variable).unwrap());
        let largest = plain.abs()?.max_all()?.to_scalar::<f64>()?;
        let error = (plain - fast)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(largest > 0.0 && error <= 1e-12 * largest, "{:?}: {error:.1e}", plain.dims());
    }
    Ok(())
}

#[test]
fn one_backward_within_another_keeps_to_itself() -> Result<()> {
    let (inner, outer) = (Var::new(&[[3f64]], &Device::Cpu)?, Var::new(&[[2f64]], &Device::Cpu)?);
    let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
    let inner_loss = linear(&one, &inner, None)?.sum_all()?;
    let seen = inner.clone();
    let x = on_gradient(&linear(&one, &outer, None)?, move |_| {
        let gradients = backward(&inner_loss)?;
        assert!(gradients.get(&seen).is_some());
        Ok(None)
    })?;
    let gradients = backward(&x.sum_all()?)?;
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
    assert!(backward(&fails.sum_all()?).is_err());
    // candle's own method has its gradients back.
    assert!(y.sum_all()?.backward()?.get(&weight).is_some());
    Ok(())
}
