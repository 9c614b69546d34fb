//! candle-nn's layers over our parameters: a `VarBuilder` whose tensors get a name, a seed and a
//! place in the order.

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use crate::{Init, ParameterBuilder, Parameters};

struct Backend {
    parameters: Parameters,
    seed: u64,
}

impl ParameterBuilder {
    /// A candle-nn builder at this builder's path, for layers of candle-nn in a network of one's own, see
    /// [`Parameters::candle_nn_builder`].
    pub fn candle_nn(&self) -> VarBuilder<'static> {
        let root = self.parameters().candle_nn_builder(self.seed(), self.dtype(), self.device());
        if self.path().is_empty() { root } else { root.pp(self.path()) }
    }
}

impl Parameters {
    /// A candle-nn builder that draws its variables from `seed` and lists them here, so that
    /// layers of candle-nn can be trained, saved and loaded together with ours.
    ///
    /// candle-nn's layers keep the variables themselves: freezing takes them out of the trainer's
    /// hands, but their gradients are still computed. The running statistics of its batch norm
    /// (`running_mean`, `running_var`) are buffers: saved and loaded, not learned and not counted.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_vision_models::Parameters;
    ///
    /// # fn main() -> candle_core::Result<()> {
    /// let parameters = Parameters::new();
    /// let vb = parameters.candle_nn_builder(0, DType::F32, &Device::Cpu);
    /// let layer = candle_nn::linear(4, 3, vb.pp("probe"))?;
    /// assert_eq!(parameters.count(), 4 * 3 + 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn candle_nn_builder(
        &self,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> VarBuilder<'static> {
        let backend = Backend { parameters: self.clone(), seed };
        VarBuilder::from_backend(Box::new(backend), dtype, device.clone())
    }
}

impl SimpleBackend for Backend {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let parameter = match self.parameters.get(name) {
            Some(parameter) => parameter,
            None => {
                let vb = self.parameters.builder(self.seed, dtype, device);
                match (is_statistic(name), init) {
                    (true, candle_nn::Init::Const(value)) => {
                        vb.buffer(name, shape.dims(), value)?
                    }
                    _ => vb.weight(name, shape.dims(), Init::from_candle(init, &shape))?,
                }
            }
        };
        if parameter.var().shape() != &shape {
            bail!("`{name}` is {:?}, wanted {shape:?}", parameter.var().shape())
        }
        Ok(parameter.var().as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.parameters.get(name) {
            Some(parameter) => Ok(parameter.var().as_tensor().clone()),
            None => bail!("no parameter is called `{name}`"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.parameters.get(name).is_some()
    }
}

/// Whether candle-nn measures what is called so: its batch norm asks for the running statistics as for
/// weights.
fn is_statistic(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(last, "running_mean" | "running_var")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_statistics_are_buffers() -> Result<()> {
        use candle_nn::ModuleT;
        let parameters = Parameters::new();
        let vb = parameters.candle_nn_builder(0, DType::F32, &Device::Cpu);
        let norm = candle_nn::batch_norm(3, candle_nn::BatchNormConfig::default(), vb.pp("bn"))?;
        let trainable: Vec<String> =
            parameters.trainable().iter().map(|p| p.path().to_owned()).collect();
        assert_eq!(trainable, ["bn.weight", "bn.bias"]);
        assert_eq!((parameters.count(), parameters.all().len()), (6, 4));
        // What the layer measures is what is saved.
        let x = Tensor::new(&[[1f32, 2.0, 3.0], [3.0, 6.0, 9.0]], &Device::Cpu)?;
        norm.forward_t(&x.reshape((2, 3, 1, 1))?, true)?;
        let mean = parameters.get("bn.running_mean").expect("the layer asked for it");
        let mean = mean.detached().to_vec1::<f32>()?;
        let expected = [0.2, 0.4, 0.6];
        assert!(
            mean.iter().zip(expected).all(|(found, right)| (found - right).abs() < 1e-6),
            "{mean:?}"
        );
        Ok(())
    }

    #[test]
    fn a_variable_is_shared_seeded_and_checked() -> Result<()> {
        let first = |seed| -> Result<Vec<f32>> {
            let parameters = Parameters::new();
            let vb = parameters.candle_nn_builder(seed, DType::F32, &Device::Cpu);
            let weight = candle_nn::linear(4, 3, vb.pp("a"))?.weight().clone();
            let listed = parameters.get("a.weight").expect("the layer asked for it");
            assert_eq!(weight.id(), listed.var().as_tensor().id());
            assert!(vb.pp("a").get((5, 4), "weight").is_err());
            weight.flatten_all()?.to_vec1()
        };
        assert_eq!(first(1)?, first(1)?);
        assert_ne!(first(1)?, first(2)?);
        Ok(())
    }
}
