//! Parameters under torchvision's names, in the order in which the network builds them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use candle_vision_registry::did_you_mean;

use crate::path::{is_under, layer_of};
use crate::{Init, Pass};

/// The purpose of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Learned by gradient descent.
    Weight,
    /// Measured, not learned, such as batch norm's running statistics.
    Buffer,
}

/// One named tensor of a network. Clones share it.
#[derive(Debug, Clone)]
pub struct Parameter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: String,
    var: Var,
    kind: ParameterKind,
    trainable: AtomicBool,
}

impl Parameter {
    fn new(path: String, tensor: &Tensor, kind: ParameterKind) -> Result<Self> {
        let trainable = AtomicBool::new(kind == ParameterKind::Weight);
        Ok(Self(Arc::new(Inner { path, var: Var::from_tensor(tensor)?, kind, trainable })))
    }

    /// The name, as in torchvision's `state_dict`, such as `layer1.0.conv1.weight`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Whether the tensor is learned or measured.
    pub fn kind(&self) -> ParameterKind {
        self.0.kind
    }

    /// The variable. It is the key of the gradient, and optimizers update it.
    pub fn var(&self) -> &Var {
        &self.0.var
    }

    /// The number of elements.
    pub fn elem_count(&self) -> usize {
        self.0.var.elem_count()
    }

    /// Whether a training pass computes a gradient for it. Always false for buffers.
    pub fn is_trainable(&self) -> bool {
        self.0.trainable.load(Ordering::Relaxed)
    }

    /// The tensor for the graph of `pass`. It is detached in evaluation and when the parameter is frozen, so
    /// that nothing is computed or kept for it.
    pub fn tensor(&self, pass: &Pass<'_>) -> Tensor {
        if pass.is_train() && self.is_trainable() {
            self.0.var.as_tensor().clone()
        } else {
            self.detached()
        }
    }

    /// The tensor for a product or sum in `pass`: [`Parameter::tensor`] in the pass's precision. Its gradient
    /// has the parameter's own number type.
    ///
    /// # Errors
    /// If the tensor does not hold floats.
    pub fn in_product(&self, pass: &Pass<'_>) -> Result<Tensor> {
        match pass.prepared_casts(!self.is_trainable()) {
            Some((prepared, dtype)) if self.var().dtype() != dtype => {
                prepared.cast(self, dtype, || pass.cast(&self.detached()))
            }
            _ => pass.cast(&self.tensor(pass)),
        }
    }

    /// The tensor without a graph.
    pub fn detached(&self) -> Tensor {
        self.0.var.as_detached_tensor()
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// If the shape or number type differs.
    pub fn set(&self, values: &Tensor) -> Result<()> {
        self.0.var.set(values)
    }
}

/// The values of some parameters and buffers, to be put back after a trial.
///
/// # Example
/// A training pass moves the running statistics of batch norm:
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{KeptValues, Model, ModelSpec, Pass, build};
///
/// # fn main() -> candle_core::Result<()> {
/// let model = build(&ModelSpec::new("gap_cnn_deep", 2), 0, &Device::Cpu)?;
/// let kept = KeptValues::of(model.parameters().buffers())?;
/// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let tried = model.forward(&images, &mut Pass::train(0));
/// kept.put_back()?;
/// assert_eq!(tried?.dims(), [2, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is put back by itself"]
pub struct KeptValues(Vec<(Parameter, Tensor)>);

impl KeptValues {
    /// Copies the values.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(parameters: impl IntoIterator<Item = Parameter>) -> Result<Self> {
        let kept = parameters.into_iter().map(|parameter| {
            let values = parameter.detached().copy()?;
            Ok((parameter, values))
        });
        kept.collect::<Result<_>>().map(Self)
    }

    /// The parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.0.iter().map(|(parameter, _)| parameter)
    }

    /// Puts the values back.
    ///
    /// # Errors
    /// If the device fails.
    pub fn put_back(&self) -> Result<()> {
        self.0.iter().try_for_each(|(parameter, values)| parameter.set(values))
    }
}

/// All parameters of a network, in the order in which it builds them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Parameters(Arc<Mutex<Vec<Parameter>>>);

impl Parameters {
    /// An empty list, the start of a network.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Parameter>> {
        // The list only grows, so it is valid even if a thread panicked while it held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The builder at the root. Every layer takes its parameters from a builder. `seed` determines the initial
    /// values.
    pub fn builder(&self, seed: u64, dtype: DType, device: &Device) -> ParameterBuilder {
        let root = Root { parameters: self.clone(), seed, dtype, device: device.clone() };
        ParameterBuilder { root: Arc::new(root), prefix: String::new() }
    }

    /// The device of the parameters. The CPU while there are none.
    pub fn device(&self) -> Device {
        self.lock().first().map_or(Device::Cpu, |parameter| parameter.var().device().clone())
    }

    /// Every parameter and buffer, in building order.
    pub fn all(&self) -> Vec<Parameter> {
        self.lock().clone()
    }

    /// Every learned parameter, frozen or not, in building order.
    pub fn weights(&self) -> Vec<Parameter> {
        self.all().into_iter().filter(|p| p.kind() == ParameterKind::Weight).collect()
    }

    /// Every buffer, in building order.
    pub fn buffers(&self) -> Vec<Parameter> {
        self.all().into_iter().filter(|p| p.kind() == ParameterKind::Buffer).collect()
    }

    /// Every parameter that a training pass computes a gradient for, in building order.
    pub fn trainable(&self) -> Vec<Parameter> {
        self.all().into_iter().filter(Parameter::is_trainable).collect()
    }

    /// The parameter at `path`. `None` if there is none.
    pub fn get(&self, path: &str) -> Option<Parameter> {
        self.lock().iter().find(|parameter| parameter.path() == path).cloned()
    }

    /// The number of learned elements. Buffers do not count, as in torchinfo.
    pub fn count(&self) -> usize {
        self.weights().iter().map(Parameter::elem_count).sum()
    }

    /// Freezes every parameter at or under `prefix`. `layer1` includes `layer1.0.conv1.weight` but not
    /// `layer10.weight`. An empty prefix means all parameters. Returns the number of matched parameters.
    ///
    /// # Errors
    /// If no parameter lies under `prefix`.
    pub fn freeze(&self, prefix: &str) -> Result<usize> {
        self.set_trainable(prefix, false)
    }

    /// Undoes [`Parameters::freeze`] for every parameter at or under `prefix`. Returns the number of matched
    /// parameters.
    ///
    /// # Errors
    /// If no parameter lies under `prefix`.
    pub fn unfreeze(&self, prefix: &str) -> Result<usize> {
        self.set_trainable(prefix, true)
    }

    fn set_trainable(&self, prefix: &str, trainable: bool) -> Result<usize> {
        let weights = self.weights();
        let under: Vec<&Parameter> =
            weights.iter().filter(|parameter| is_under(parameter.path(), prefix)).collect();
        if under.is_empty() {
            let layers: Vec<&str> = weights.iter().map(|p| layer_of(p.path())).collect();
            bail!("no parameter under `{prefix}`{}", did_you_mean(prefix, layers))
        }
        for parameter in &under {
            parameter.0.trainable.store(trainable, Ordering::Relaxed);
        }
        Ok(under.len())
    }
}

#[derive(Debug)]
struct Root {
    parameters: Parameters,
    seed: u64,
    dtype: DType,
    device: Device,
}

/// Creates a network's parameters. It knows the path of the layer that uses it.
///
/// The networks call it `vb`, as in candle.
#[derive(Debug, Clone)]
pub struct ParameterBuilder {
    root: Arc<Root>,
    prefix: String,
}

impl ParameterBuilder {
    /// The builder one level down: `vb.pp("layer1").pp(0)` is at `layer1.0`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { root: self.root.clone(), prefix: self.join(name) }
    }

    /// The path of the layer that uses this builder.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// All parameters of the network, including those that are added later. A network keeps them for
    /// [`Model::parameters`](crate::Model::parameters).
    pub fn parameters(&self) -> Parameters {
        self.root.parameters.clone()
    }

    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        &self.root.device
    }

    /// The number type of the parameters.
    pub fn dtype(&self) -> DType {
        self.root.dtype
    }

    /// The seed of the initial values.
    pub fn seed(&self) -> u64 {
        self.root.seed
    }

    fn join(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Adds a learned parameter to this layer.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn weight(&self, name: &str, shape: &[usize], init: Init) -> Result<Parameter> {
        let path = self.join(name);
        let root = &self.root;
        let tensor = init.draw(root.seed, &path, shape, root.dtype, &root.device)?;
        self.add(path, &tensor, ParameterKind::Weight)
    }

    /// Adds a measured tensor to this layer, with `value` everywhere.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn buffer(&self, name: &str, shape: &[usize], value: f64) -> Result<Parameter> {
        let (dtype, device) = (self.root.dtype, &self.root.device);
        let tensor = Init::Constant(value).draw(0, name, shape, dtype, device)?;
        self.add(self.join(name), &tensor, ParameterKind::Buffer)
    }

    /// Adds a counter to this layer: an `i64` scalar that starts at 0.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn counter(&self, name: &str) -> Result<Parameter> {
        let zero = Tensor::zeros((), DType::I64, &self.root.device)?;
        self.add(self.join(name), &zero, ParameterKind::Buffer)
    }

    /// Adds integers to this layer that follow from its form, such as a table of indices: an `i64` vector. They are
    /// not learned; files of other programs hold them.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn indices(&self, name: &str, values: &[i64]) -> Result<Parameter> {
        let tensor = Tensor::from_slice(values, values.len(), &self.root.device)?;
        self.add(self.join(name), &tensor, ParameterKind::Buffer)
    }

    fn add(&self, path: String, tensor: &Tensor, kind: ParameterKind) -> Result<Parameter> {
        let parameter = Parameter::new(path, tensor, kind)?;
        let mut list = self.root.parameters.lock();
        if list.iter().any(|known| known.path() == parameter.path()) {
            bail!("two parameters are called `{}`", parameter.path())
        }
        list.push(parameter.clone());
        Ok(parameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_layers() -> Result<Parameters> {
        let parameters = Parameters::new();
        let vb = parameters.builder(0, DType::F32, &Device::Cpu);
        for layer in ["layer1", "layer10"] {
            vb.pp(layer).weight("weight", &[2], Init::Constant(1.0))?;
            vb.pp(layer).buffer("running_mean", &[2], 0.0)?;
        }
        Ok(parameters)
    }

    #[test]
    fn a_prefix_ends_at_a_dot() -> Result<()> {
        let parameters = two_layers()?;
        assert_eq!(parameters.freeze("layer1")?, 1);
        let trainable: Vec<String> =
            parameters.trainable().iter().map(|p| p.path().to_owned()).collect();
        assert_eq!(trainable, ["layer10.weight"]);
        parameters.unfreeze("")?;
        assert_eq!(parameters.trainable().len(), 2);
        Ok(())
    }

    #[test]
    fn an_unknown_prefix_names_its_neighbours() -> Result<()> {
        let error = two_layers()?.freeze("layer2").expect_err("there is no such layer");
        let message = error.to_string();
        let expected = "no parameter under `layer2`; did you mean `layer1` or `layer10`?";
        assert!(message.starts_with(expected), "{message}");
        Ok(())
    }

    #[test]
    fn a_name_is_given_once() -> Result<()> {
        let parameters = two_layers()?;
        let vb = parameters.builder(0, DType::F32, &Device::Cpu);
        assert!(vb.pp("layer1").weight("weight", &[2], Init::Constant(0.0)).is_err());
        Ok(())
    }

    #[test]
    fn frozen_and_evaluated_parameters_are_detached() -> Result<()> {
        let parameters = two_layers()?;
        parameters.freeze("layer1")?;
        let train = Pass::train(0);
        let tracked = |path: &str, pass: &Pass| {
            parameters.get(path).map(|parameter| parameter.tensor(pass).track_op())
        };
        assert_eq!(tracked("layer1.weight", &train), Some(false));
        assert_eq!(tracked("layer10.weight", &train), Some(true));
        assert_eq!(tracked("layer10.running_mean", &train), Some(false));
        assert_eq!(tracked("layer10.weight", &Pass::eval()), Some(false));
        Ok(())
    }
}
