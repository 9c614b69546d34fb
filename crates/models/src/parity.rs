//! What torchvision's and timm's networks give, stored with the program: outputs of about ten layers over the depth of each,
//! and the logits. `tests/reference/generate.py parity` made the file.
//!
//! The images, and the weights where no weight file is named, are those of
//! [`reference_tensors`](candle_vision_ops::reference_tensors). So nothing has to be fetched to compare a network.
//!
//! ```
//! use candle_vision_models::candle_core::Device;
//! use candle_vision_models::parity::ReferenceOutputs;
//! use candle_vision_models::build;
//!
//! let reference = ReferenceOutputs::of("lenet5")?.expect("it is stored");
//! let model = build(&reference.spec(), 0, &Device::Cpu)?;
//! reference.fill(&*model)?;
//! for layer in reference.compare(&*model)? {
//!     assert!(layer.relative < 1e-5, "{}", layer.path);
//! }
//! # candle_vision_models::candle_core::Result::Ok(())
//! ```

use std::collections::HashMap;

use candle_core::{DType, Error, Result, Tensor, bail};
use candle_vision_ops::reference_tensors::{image_batch, weight};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::{LayerHook, Model, ModelSpec, Pass};

/// For each case a tensor with a row for each layer: the norm of its output, then values at equal distances.
const STORED: &[u8] = include_bytes!("parity/outputs.safetensors");

/// The name of the logits beside those of layers.
const LOGITS: &str = "logits";

/// What PyTorch computed for one network on given weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceOutputs {
    case: Case,
    layers: Vec<ReferenceLayer>,
}

/// A case as the file's header describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Case {
    /// The name of its tensor.
    case: String,
    network: String,
    /// `[batch, channels, height, width]`
    input: [usize; 4],
    num_classes: usize,
    /// The factor of the kernels of built weights.
    gain: Option<f64>,
    /// The weight file, if the weights are not built.
    sha256: Option<String>,
    /// Path and output shape of each layer, in the order of the forward pass.
    layers: Vec<(String, Vec<usize>)>,
}

#[derive(Debug, Clone, PartialEq)]
struct ReferenceLayer {
    norm: f64,
    values: Vec<f64>,
}

/// How far the output of a layer is from the stored one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayerDifference {
    /// The path of the layer, or `logits`.
    pub path: String,
    /// The shape of its output.
    pub shape: Vec<usize>,
    /// The largest difference of two numbers. Of the stored ones there are 16.
    pub largest: f64,
    /// `||ours - theirs|| / ||theirs||`. Where only some numbers are stored it is the larger of two: the root mean square
    /// of their differences over that of the whole output, and the relative difference of the norms of the whole outputs.
    pub relative: f64,
}

impl LayerDifference {
    /// Compares whole outputs of the layer at `path`.
    ///
    /// # Errors
    /// If the shapes differ, or a tensor cannot be read.
    pub fn between(path: &str, ours: &Tensor, theirs: &Tensor) -> Result<Self> {
        check_shape(path, ours, theirs.dims())?;
        let theirs = numbers(theirs)?;
        let differences = differences(&numbers(ours)?, &theirs);
        Ok(Self {
            path: path.to_owned(),
            shape: ours.dims().to_vec(),
            largest: largest(&differences),
            relative: norm(&differences) / norm(&theirs).max(f64::MIN_POSITIVE),
        })
    }
}

fn check_shape(path: &str, ours: &Tensor, theirs: &[usize]) -> Result<()> {
    if ours.dims() != theirs {
        bail!("`{path}` gives {:?} here and {theirs:?} in the reference", ours.dims())
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let (_, header) = SafeTensors::read_metadata(STORED).map_err(Error::wrap)?;
    let texts = header.metadata().as_ref();
    let text = texts.and_then(|texts| texts.get("cases")).map_or("[]", String::as_str);
    serde_json::from_str(text).map_err(Error::wrap)
}

impl ReferenceOutputs {
    /// The names of the networks with outputs on built weights.
    ///
    /// # Errors
    /// If the program was built with a damaged file.
    pub fn networks() -> Result<Vec<String>> {
        let built = cases()?.into_iter().filter(|case| case.sha256.is_none());
        Ok(built.map(|case| case.network).collect())
    }

    /// The outputs of `network` on weights that [`ReferenceOutputs::fill`] builds; `None` if there are none.
    ///
    /// # Errors
    /// As [`ReferenceOutputs::networks`].
    pub fn of(network: &str) -> Result<Option<Self>> {
        Self::find(|case| case.network == network && case.sha256.is_none())
    }

    /// The outputs of `network` on the weights in the file whose SHA-256 is `sha256`, in lower-case hexadecimal digits;
    /// `None` if there are none.
    ///
    /// # Errors
    /// As [`ReferenceOutputs::networks`].
    pub fn of_weights(network: &str, sha256: &str) -> Result<Option<Self>> {
        Self::find(|case| case.network == network && case.sha256.as_deref() == Some(sha256))
    }

    fn find(is_wanted: impl Fn(&Case) -> bool) -> Result<Option<Self>> {
        let Some(case) = cases()?.into_iter().find(is_wanted) else { return Ok(None) };
        let file = SafeTensors::deserialize(STORED).map_err(Error::wrap)?;
        let rows = file.tensor(&case.case).map_err(Error::wrap)?;
        let numbers = rows.data().chunks_exact(4);
        let numbers: Vec<f64> = numbers
            .map(|bytes| {
                bytes.try_into().map_or(f64::NAN, |bytes| f32::from_le_bytes(bytes).into())
            })
            .collect();
        let in_a_row = rows.shape().last().copied().unwrap_or(1).max(1);
        let layers: Vec<ReferenceLayer> = numbers
            .chunks_exact(in_a_row)
            .filter_map(|row| row.split_first())
            .map(|(norm, values)| ReferenceLayer { norm: *norm, values: values.to_vec() })
            .collect();
        if layers.len() != case.layers.len() {
            bail!("the stored outputs of `{}` do not have a row for each layer", case.case)
        }
        Ok(Some(Self { case, layers }))
    }

    /// The network that gave them.
    pub fn spec(&self) -> ModelSpec {
        let [_, channels, height, width] = self.case.input;
        ModelSpec::new(&self.case.network, self.case.num_classes).input([channels, height, width])
    }

    /// Gives `model` the built weights. Where the outputs are of a weight file, nothing is done: load that.
    ///
    /// # Errors
    /// If a parameter cannot be set.
    pub fn fill(&self, model: &dyn Model) -> Result<()> {
        self.case.gain.map_or(Ok(()), |gain| fill(model, gain))
    }

    /// The outputs of `model` on the same images beside the stored ones, in the order of the forward pass, the logits last.
    ///
    /// # Errors
    /// If the forward pass fails, or `model` has no such layer or gives another shape: it is another network.
    pub fn compare(&self, model: &dyn Model) -> Result<Vec<LayerDifference>> {
        let images = image_batch(&format!("{}.input", self.case.network), &self.case.input)?;
        let images = images.to_device(&model.parameters().device())?;
        let wanted = self.case.layers.iter().map(|(path, _)| path.clone()).collect();
        let mut seen = Seen { wanted, outputs: HashMap::new() };
        let logits = model.forward(&images, &mut Pass::eval().with_hooks(&mut seen))?;
        seen.outputs.insert(LOGITS.to_owned(), logits);
        let layers = self.case.layers.iter().zip(&self.layers);
        layers
            .map(|((path, shape), stored)| {
                let Some(output) = seen.outputs.get(path) else {
                    bail!(
                        "`{}` has no layer `{path}`, which the stored outputs name",
                        self.case.network
                    )
                };
                check_shape(path, output, shape)?;
                stored.beside(path, output)
            })
            .collect()
    }
}

/// Gives a network the weights that any language builds from their names; kernels are scaled by `gain`. Integers stay: they
/// are counters, or tables that the network computes.
///
/// # Errors
/// If a parameter cannot be set.
pub fn fill(model: &dyn Model, gain: f64) -> Result<()> {
    let all = model.parameters().all().into_iter();
    for parameter in all.filter(|parameter| parameter.var().dtype().is_float()) {
        let var = parameter.var();
        let values = weight(parameter.path(), var.dims(), gain)?;
        parameter.set(&values.to_dtype(var.dtype())?.to_device(var.device())?)?;
    }
    Ok(())
}

/// Keeps the outputs of some layers.
struct Seen {
    wanted: Vec<String>,
    outputs: HashMap<String, Tensor>,
}

impl LayerHook for Seen {
    fn wants(&self, layer: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted == layer)
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        self.outputs.insert(layer.to_owned(), output.detach());
        Ok(output)
    }
}

impl ReferenceLayer {
    fn beside(&self, path: &str, output: &Tensor) -> Result<LayerDifference> {
        let numbers = numbers(output)?;
        let count = numbers.len();
        let places = (0..self.values.len()).map(|i| i * count / self.values.len());
        let chosen: Vec<f64> = places.filter_map(|place| numbers.get(place).copied()).collect();
        let differences = differences(&chosen, &self.values);
        let root_mean_square = self.norm / (count.max(1) as f64).sqrt();
        let of_values =
            norm(&differences) / (differences.len().max(1) as f64).sqrt() / root_mean_square;
        let of_norms = (norm(&numbers) - self.norm).abs() / self.norm;
        Ok(LayerDifference {
            path: path.to_owned(),
            shape: output.dims().to_vec(),
            largest: largest(&differences),
            relative: largest(&[of_values, of_norms]),
        })
    }
}

fn numbers(output: &Tensor) -> Result<Vec<f64>> {
    output.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn differences(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs()).collect()
}

fn norm(numbers: &[f64]) -> f64 {
    numbers.iter().map(|number| number * number).sum::<f64>().sqrt()
}

/// The largest number; NaN if one is, which is no agreement.
fn largest(numbers: &[f64]) -> f64 {
    numbers
        .iter()
        .copied()
        .fold(0.0, |a: f64, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}
