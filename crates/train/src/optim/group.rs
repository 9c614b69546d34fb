//! Parameters that share a learning rate and a weight decay.

use candle_vision_models::{Parameter, is_under};
use candle_vision_registry::Description;

/// Parameters that share a learning rate and a weight decay.
///
/// [`PerParameter`](super::PerParameter) has an example.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ParamGroup {
    /// The parameters. A step does not change frozen ones.
    pub parameters: Vec<Parameter>,
    /// Initial learning rate. `None` means the optimizer's. A schedule changes the rates of all groups by
    /// the same factor.
    pub lr: Option<f64>,
    /// Weight decay. `None` means the optimizer's.
    pub weight_decay: Option<f64>,
    /// An optimizer of the group's own. `None` means the one that the group is added to. Only a
    /// [`Trainer`](crate::Trainer) makes such optimizers. A [`PerParameter`](super::PerParameter) refuses the group.
    pub optimizer: Option<Description>,
    /// Number of the run's first epochs in which the group learns, with the learning rates of a run of this length. `None`
    /// means all. Only a [`Trainer`](crate::Trainer) makes such optimizers, too.
    pub epochs: Option<usize>,
}

impl ParamGroup {
    /// A group with the optimizer's learning rate and weight decay.
    pub fn new(parameters: Vec<Parameter>) -> Self {
        Self { parameters, lr: None, weight_decay: None, optimizer: None, epochs: None }
    }

    /// Sets the group's own learning rate.
    pub fn lr(self, lr: f64) -> Self {
        Self { lr: Some(lr), ..self }
    }

    /// Sets the group's own weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay: Some(weight_decay), ..self }
    }

    /// Splits the group into the parameters at or under a path and the others. Both keep this group's
    /// settings.
    ///
    /// The path `layer1` holds `layer1.0.conv1.weight` but not `layer10.weight`.
    pub fn split_by_prefix(self, prefix: &str) -> [Self; 2] {
        self.split(|parameter| is_under(parameter.path(), prefix))
    }

    /// Splits the group into matrices and kernels, which keep its weight decay, and parameters of rank 1
    /// (biases, scales and shifts of norm layers), which get none. Pulling parameters of rank 1 to zero
    /// does not make a network simpler.
    pub fn without_decay_of_vectors(self) -> [Self; 2] {
        let [vectors, others] = self.split(|parameter| parameter.var().rank() <= 1);
        [others, vectors.weight_decay(0.0)]
    }

    /// Splits the group into the parameters that `belongs` accepts and the others. Both keep this group's settings.
    pub fn split(self, belongs: impl Fn(&Parameter) -> bool) -> [Self; 2] {
        let (first, second) = self.parameters.into_iter().partition(belongs);
        let settings = Self { parameters: Vec::new(), ..self };
        [first, second].map(|parameters| Self { parameters, ..settings.clone() })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_vision_models::{Init, Parameters};

    use super::*;

    fn group() -> ParamGroup {
        let parameters = Parameters::new();
        let vb = parameters.builder(0, DType::F32, &Device::Cpu);
        for layer in ["layer1", "layer10"] {
            vb.pp(layer).weight("weight", &[2, 3], Init::Constant(1.0)).unwrap();
            vb.pp(layer).weight("bias", &[2], Init::Constant(1.0)).unwrap();
        }
        ParamGroup::new(parameters.trainable()).lr(0.1)
    }

    fn paths(group: &ParamGroup) -> Vec<&str> {
        group.parameters.iter().map(Parameter::path).collect()
    }

    #[test]
    fn a_prefix_ends_at_a_dot() {
        let [under, others] = group().split_by_prefix("layer1");
        assert_eq!(paths(&under), ["layer1.weight", "layer1.bias"]);
        assert_eq!(paths(&others), ["layer10.weight", "layer10.bias"]);
        assert_eq!((others.lr, others.weight_decay), (Some(0.1), None));
        assert_eq!(group().split_by_prefix("")[0].parameters.len(), 4);
        assert_eq!(group().split_by_prefix("layer1.bias")[0].parameters.len(), 1);
    }

    #[test]
    fn vectors_do_not_decay() {
        let [matrices, vectors] = group().without_decay_of_vectors();
        assert_eq!(paths(&matrices), ["layer1.weight", "layer10.weight"]);
        assert_eq!(paths(&vectors), ["layer1.bias", "layer10.bias"]);
        assert_eq!((matrices.weight_decay, vectors.weight_decay), (None, Some(0.0)));
    }
}
