//! candle-nn's layers over our parameters: a `VarBuilder` whose tensors get a name, a seed and a
//! place in the order.

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use crate::{Init, Parameters};

struct Backend {
    parameters: Parameters,
    seed: u64,
}

impl Parameters {
    /// A candle-nn builder that draws its variables from `seed` and lists them here, so that
    /// layers of candle-nn can be trained, saved and loaded together with ours.
    ///
    /// candle-nn's layers keep the variables themselves: freezing takes them out of the trainer's
    /// hands, but their gradients are still computed.
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
                vb.weight(name, shape.dims(), Init::from_candle(init, &shape))?
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

#[cfg(test)]
mod tests {
    use super::*;

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
