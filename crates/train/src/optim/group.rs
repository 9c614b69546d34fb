//! Parameters that share a learning rate and a weight decay.

use candle_vision_models::Parameter;

use super::OptimizerConfig;

/// Parameters that share a learning rate and a weight decay.
///
/// # Example
/// A backbone that learns ten times slower than the head, and no decay of biases and norms:
/// ```
/// use candle_vision_models::{ModelSpec, build};
/// use candle_vision_train::optim::{Optimizer, OptimizerConfig, ParamGroup};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("mlp", 10), 0, &candle_core::Device::Cpu)?;
/// let config = OptimizerConfig::adamw(1e-3);
/// let all = ParamGroup::new(model.parameters().trainable(), &config);
/// let [head, backbone] = all.split_by_prefix(model.head());
/// let groups = [head, ParamGroup { lr: 1e-4, ..backbone }];
/// let groups = groups.into_iter().flat_map(ParamGroup::without_decay_of_vectors).collect();
/// let optimizer = Optimizer::new(&config, groups)?;
/// assert_eq!(optimizer.lr(), 1e-3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ParamGroup {
    /// The parameters; one that is frozen is left alone by a step.
    pub parameters: Vec<Parameter>,
    /// Learning rate at the beginning. A schedule changes all groups by the same factor.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl ParamGroup {
    /// A group with the optimizer's own learning rate and weight decay.
    pub fn new(parameters: Vec<Parameter>, config: &OptimizerConfig) -> Self {
        Self { parameters, lr: config.lr(), weight_decay: config.weight_decay() }
    }

    /// The parameters at or under a path, and the others; both with this group's settings.
    ///
    /// `layer1` holds `layer1.0.conv1.weight` but not `layer10.weight`.
    pub fn split_by_prefix(self, prefix: &str) -> [Self; 2] {
        self.split(|parameter| is_under(parameter.path(), prefix))
    }

    /// Matrices and kernels as they are, and everything of rank 1 (biases, scales and shifts of norm
    /// layers) without weight decay: pulling those to zero does not make a network simpler.
    pub fn without_decay_of_vectors(self) -> [Self; 2] {
        let [vectors, others] = self.split(|parameter| parameter.var().rank() <= 1);
        [others, Self { weight_decay: 0.0, ..vectors }]
    }

    fn split(self, belongs: impl Fn(&Parameter) -> bool) -> [Self; 2] {
        let (lr, weight_decay) = (self.lr, self.weight_decay);
        let (first, second) = self.parameters.into_iter().partition(belongs);
        [first, second].map(|parameters| Self { parameters, lr, weight_decay })
    }
}

/// Whether `path` is `prefix` or lies under it, by whole path segments.
pub(crate) fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('.'))
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
        let config = OptimizerConfig::adamw(0.1);
        ParamGroup::new(parameters.trainable(), &config)
    }

    fn paths(group: &ParamGroup) -> Vec<&str> {
        group.parameters.iter().map(Parameter::path).collect()
    }

    #[test]
    fn a_prefix_ends_at_a_dot() {
        let [under, others] = group().split_by_prefix("layer1");
        assert_eq!(paths(&under), ["layer1.weight", "layer1.bias"]);
        assert_eq!(paths(&others), ["layer10.weight", "layer10.bias"]);
        assert_eq!((others.lr, others.weight_decay), (0.1, 0.01));
        assert_eq!(group().split_by_prefix("")[0].parameters.len(), 4);
        assert_eq!(group().split_by_prefix("layer1.bias")[0].parameters.len(), 1);
    }

    #[test]
    fn vectors_do_not_decay() {
        let [matrices, vectors] = group().without_decay_of_vectors();
        assert_eq!(paths(&matrices), ["layer1.weight", "layer10.weight"]);
        assert_eq!(paths(&vectors), ["layer1.bias", "layer10.bias"]);
        assert_eq!((matrices.weight_decay, vectors.weight_decay), (0.01, 0.0));
    }
}
