//! Running averages of a network's weights.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use candle_vision_models::{Model, Parameter};
use candle_vision_ops::{SgdStep, SgdUpdate, sgd_steps};

use crate::config::EmaConfig;
use crate::training_state::AVERAGES;
use crate::{Error, Result};

/// The averages that [`EmaConfig`] describes.
#[derive(Debug)]
pub(crate) struct WeightAverages {
    config: EmaConfig,
    /// Every parameter and statistic that holds floats, including frozen ones, which may learn later.
    averages: Vec<(Parameter, Var)>,
}

impl WeightAverages {
    /// Starts the averages at the present weights.
    pub(crate) fn new(config: EmaConfig, model: &dyn Model) -> Result<Self> {
        let all = model.parameters().all().into_iter();
        let floats = all.filter(|parameter| parameter.var().dtype().is_float());
        let averages = floats.map(|parameter| {
            let average = Var::from_tensor(&parameter.detached())?;
            Ok((parameter, average))
        });
        Ok(Self { config, averages: averages.collect::<Result<_>>()? })
    }

    /// Updates the averages after a step of the run, counted from 1, of `steps` in all.
    pub(crate) fn after_step(&self, step: usize, steps: usize) -> Result<()> {
        let EmaConfig { decay, every, power, lookahead } = self.config;
        if !step.is_multiple_of(every) {
            return Ok(());
        }
        let times = (step / every) as f64;
        let decay = match power {
            Some(power) => decay * (step as f64 / steps.max(step) as f64).powf(power),
            None => decay.min((1.0 + times) / (10.0 + times)),
        };
        // The gradient of half the squared distance to the weights points away from them, so an SGD step
        // moves the averages towards them. One kernel moves all averages, as it moves all weights.
        let towards = SgdStep {
            lr: 1.0 - decay,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 1.0,
            nesterov: false,
            grad_scale: -1.0,
        };
        let weights: Vec<Tensor> =
            self.averages.iter().map(|(parameter, _)| parameter.detached()).collect();
        let updates = self.averages.iter().zip(&weights).map(|((_, average), weights)| SgdUpdate {
            parameter: average,
            grad: weights,
            buffer: None,
            step: towards,
        });
        // The step of the weights themselves checks whether they are finite.
        let _ = sgd_steps(&updates.collect::<Vec<_>>())?;
        if lookahead {
            for (parameter, average) in &self.averages {
                parameter.set(average)?;
            }
        }
        Ok(())
    }

    /// Exchanges the averages and the weights.
    pub(crate) fn exchange(&self) -> Result<()> {
        for (parameter, average) in &self.averages {
            let weights = parameter.detached().copy()?;
            parameter.set(average)?;
            average.set(&weights)?;
        }
        Ok(())
    }

    /// The state to save for a resumed run, by name. The tensors share memory with the averages.
    pub(crate) fn state(&self) -> BTreeMap<String, Tensor> {
        let averages = self.averages.iter();
        averages
            .map(|(parameter, average)| (key(parameter), average.as_detached_tensor()))
            .collect()
    }

    /// Restores what [`WeightAverages::state`] returned.
    pub(crate) fn load_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (parameter, average) in &self.averages {
            let name = key(parameter);
            let problem = |problem| Error::SavedState { name: name.clone(), problem };
            let Some(tensor) = state.get(&name) else {
                return Err(problem("is missing".to_owned()));
            };
            let fits = tensor.to_device(average.device()).and_then(|tensor| average.set(&tensor));
            fits.map_err(|error| problem(error.to_string()))?;
        }
        Ok(())
    }
}

/// The name of a parameter's average in a file.
fn key(parameter: &Parameter) -> String {
    format!("{AVERAGES}{}", parameter.path())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_vision_models::{ModelSpec, build};

    use super::*;

    fn network() -> Box<dyn Model> {
        let spec = ModelSpec::new("gap_cnn_deep", 2).input([3, 16, 16]);
        build(&spec, 0, &Device::Cpu).unwrap()
    }

    fn set(model: &dyn Model, path: &str, value: f32) {
        let parameter = model.parameters().get(path).unwrap();
        let values = Tensor::full(value, parameter.var().dims(), &Device::Cpu).unwrap();
        parameter.set(&values).unwrap();
    }

    fn first(tensor: &Tensor) -> f32 {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn the_average_goes_its_share_of_the_way() {
        let model = network();
        for path in ["fc.bias", "bn1.running_mean"] {
            set(model.as_ref(), path, 1.0);
        }
        let averages = WeightAverages::new(EmaConfig::new(0.5).every(2), model.as_ref()).unwrap();
        for path in ["fc.bias", "bn1.running_mean"] {
            set(model.as_ref(), path, 12.0);
        }
        averages.after_step(1, 200).unwrap();
        let bias = |averages: &WeightAverages| first(&averages.state()["ema.fc.bias"]);
        assert_eq!(bias(&averages), 1.0);
        averages.after_step(2, 200).unwrap();
        // The decay at the first time is 2 / 11.
        assert!((bias(&averages) - 10.0).abs() < 1e-5);
        assert!((first(&averages.state()["ema.bn1.running_mean"]) - 10.0).abs() < 1e-5);
        averages.after_step(200, 200).unwrap();
        assert!((bias(&averages) - 11.0).abs() < 1e-5);
    }

    #[test]
    fn the_decay_grows_with_a_power_of_the_share_of_the_run() {
        let model = network();
        set(model.as_ref(), "fc.bias", 0.0);
        let config = EmaConfig::new(0.8).power(3.0);
        let averages = WeightAverages::new(config, model.as_ref()).unwrap();
        set(model.as_ref(), "fc.bias", 1.0);
        // After half of the run the decay is a tenth.
        averages.after_step(5, 10).unwrap();
        assert!((first(&averages.state()["ema.fc.bias"]) - 0.9).abs() < 1e-6);
        set(model.as_ref(), "fc.bias", 1.9);
        averages.after_step(10, 10).unwrap();
        assert!((first(&averages.state()["ema.fc.bias"]) - 1.1).abs() < 1e-6);
        assert_eq!(first(&model.parameters().get("fc.bias").unwrap().detached()), 1.9);
    }

    #[test]
    fn with_lookahead_the_weights_go_on_from_the_average() {
        let model = network();
        set(model.as_ref(), "bn1.running_mean", 0.0);
        let config = EmaConfig::new(0.5).every(2).power(1.0).lookahead(true);
        let averages = WeightAverages::new(config, model.as_ref()).unwrap();
        set(model.as_ref(), "bn1.running_mean", 4.0);
        let now = || first(&model.parameters().get("bn1.running_mean").unwrap().detached());
        averages.after_step(1, 2).unwrap();
        assert_eq!(now(), 4.0);
        averages.after_step(2, 2).unwrap();
        assert_eq!((now(), first(&averages.state()["ema.bn1.running_mean"])), (2.0, 2.0));
    }

    #[test]
    fn an_exchange_is_its_own_reverse() {
        let model = network();
        let averages = WeightAverages::new(EmaConfig::new(0.5), model.as_ref()).unwrap();
        let before = first(&averages.state()["ema.fc.bias"]);
        set(model.as_ref(), "fc.bias", 3.0);
        let now = || first(&model.parameters().get("fc.bias").unwrap().detached());
        averages.exchange().unwrap();
        assert_eq!((now(), first(&averages.state()["ema.fc.bias"])), (before, 3.0));
        averages.exchange().unwrap();
        assert_eq!((now(), first(&averages.state()["ema.fc.bias"])), (3.0, before));
    }

    #[test]
    fn averages_that_do_not_fit_are_named() {
        let model = network();
        let averages = WeightAverages::new(EmaConfig::new(0.5), model.as_ref()).unwrap();
        // As it comes from a file, in memory of its own.
        let copied = |(name, tensor): (String, Tensor)| (name, tensor.copy().unwrap());
        let mut state: BTreeMap<_, _> = averages.state().into_iter().map(copied).collect();
        averages.load_state(&state).unwrap();
        state.remove("ema.fc.bias");
        let error = averages.load_state(&state).unwrap_err().to_string();
        assert!(error.contains("`ema.fc.bias` is missing"), "{error}");
    }
}
