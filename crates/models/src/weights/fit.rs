//! Fits the tensors of a file to a network: finds the head, adapts the form, compares the names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use candle_core::{DType, Result, Tensor};

use super::names::Renamed;
use super::{LoadReport, Strictness};
use crate::Model;
use crate::path::{is_under, layer_of};

/// Channels of the images that published weights are for.
const COLOURS: usize = 3;

/// Usual names of the layer that gives the logits.
const HEADS: &[&str] = &[
    "fc",
    "classifier",
    "head",
    "heads",
    "last_linear",
    "linear",
    "logits",
    "output",
    "out",
    "fc_out",
    "_fc",
    "cls_head",
    "cls",
    "new_fc",
    "final",
    "top",
];

/// The tensors of a file under the network's names and in the network's form.
pub(super) struct Fitted {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) report: LoadReport,
}

pub(super) fn fit(model: &dyn Model, renamed: Renamed, strictness: Strictness) -> Result<Fitted> {
    let all = model.parameters().all();
    let ours: HashSet<&str> = all.iter().map(|parameter| parameter.path()).collect();
    let Renamed { mut tensors, prefix, mut beside, mut state } = renamed;
    state.extend(tensors.keys().filter(|name| model.leaves_out_weight(name)).cloned());
    tensors.retain(|name, _| !model.leaves_out_weight(name));
    let found = rename_head(model, &ours, &mut tensors, &mut beside, strictness)?;
    let adapted = tensors.into_iter().map(|(name, tensor)| {
        let other = model.adapt_weight(&name, &tensor)?;
        Ok((name, other.unwrap_or(tensor)))
    });
    let mut tensors: BTreeMap<String, Tensor> = adapted.collect::<Result<_>>()?;
    let stem = match strictness {
        Strictness::ExceptHead => adapt_stem(model, &mut tensors)?,
        Strictness::Strict | Strictness::ExceptAuxiliary => None,
    };
    let mut report = compare(model, &tensors, strictness);
    report.stem = stem;
    report.prefix = prefix;
    report.head_in_file = found.name;
    report.left_out.extend(found.left_out.into_iter().chain(beside.into_keys()).chain(state));
    Ok(Fitted { tensors, report })
}

/// A head that the file holds under another name.
#[derive(Default)]
struct FoundHead {
    /// The head's name in the file.
    name: Option<String>,
    /// Names of the tensors of a head in another form.
    left_out: Vec<String>,
}

/// Looks for the head under another name: a linear layer that the network does not have and that takes as many
/// features as the network's head. It gets the name of the network's head. With [`Strictness::ExceptHead`], a
/// head of several layers is left out.
fn rename_head(
    model: &dyn Model,
    ours: &HashSet<&str>,
    tensors: &mut BTreeMap<String, Tensor>,
    beside: &mut BTreeMap<String, Tensor>,
    strictness: Strictness,
) -> Result<FoundHead> {
    let path = model.head();
    let weight = format!("{path}.weight");
    let Some(wanted) = model.parameters().get(&weight) else {
        return Ok(FoundHead::default());
    };
    if tensors.contains_key(&weight) {
        return Ok(FoundHead::default());
    }
    let features = wanted.var().dims().get(1).copied();
    let unknown = |name: &String| !ours.contains(name.as_str()) && !is_counter(name);
    let leftover = || tensors.keys().chain(beside.keys()).filter(|name| unknown(name));
    let layers: BTreeSet<String> = leftover().map(|name| layer_of(name).to_owned()).collect();
    let is_head = |layer: &str| is_of_head(model, layer) || HEADS.contains(&first_segment(layer));
    let named: Vec<&String> = layers.iter().filter(|layer| is_head(layer)).collect();
    // A single layer that fits is the head, whatever its name.
    let layer = match (named.as_slice(), layers.len()) {
        ([layer], _) => Some((*layer).clone()),
        ([], 1) => layers.first().cloned(),
        _ => None,
    };
    let get = |name: &str| tensors.get(name).or_else(|| beside.get(name)).cloned();
    let fields = |layer: &str| leftover().filter(|name| layer_of(name) == layer).count();
    if let Some(layer) = layer {
        let (weight_in_file, bias_in_file) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let (linear, bias) =
            (get(&weight_in_file).map(|weight| as_linear(&weight)), get(&bias_in_file));
        let linear = linear
            .transpose()?
            .filter(|weight| weight.rank() == 2 && weight.dims().get(1).copied() == features);
        let known = 1 + usize::from(bias.is_some());
        if let Some(linear) = linear.filter(|_| fields(&layer) == known) {
            for name in [&weight_in_file, &bias_in_file] {
                tensors.remove(name);
                beside.remove(name);
            }
            tensors.insert(weight, linear);
            if let Some(bias) = bias {
                tensors.insert(format!("{path}.bias"), bias);
            }
            return Ok(FoundHead { name: Some(layer), left_out: Vec::new() });
        }
    }
    let mut left_out = Vec::new();
    if strictness == Strictness::ExceptHead {
        let of_head = leftover().filter(|name| is_head(layer_of(name))).cloned();
        left_out = of_head.collect();
        for name in &left_out {
            tensors.remove(name);
            beside.remove(name);
        }
    }
    Ok(FoundHead { name: None, left_out })
}

/// Fits the kernel of a first layer for red, green and blue to a network for another number of channels, as timm's
/// `adapt_input_conv` does. For grey images it is the sum over the channels, which gives what three equal channels
/// would give. For other numbers its channels are repeated and scaled by `3 / channels`. Returns the name of what it
/// changed.
fn adapt_stem(model: &dyn Model, tensors: &mut BTreeMap<String, Tensor>) -> Result<Option<String>> {
    let channels = model.spec().input[0];
    if channels == COLOURS {
        return Ok(None);
    }
    let parameters = model.parameters();
    let stem = tensors.iter().find(|(name, kernel)| {
        let ours = parameters.get(name).map(|parameter| parameter.var().dims().to_vec());
        match (kernel.dims(), ours.as_deref()) {
            (&[out, COLOURS, height, width], Some(ours)) => ours == [out, channels, height, width],
            _ => false,
        }
    });
    let Some((name, kernel)) = stem.map(|(name, kernel)| (name.clone(), kernel.clone())) else {
        return Ok(None);
    };
    let kernel = kernel.to_dtype(DType::F32)?;
    let fitted = if channels == 1 {
        kernel.sum_keepdim(1)?
    } else {
        let copies = vec![kernel; channels.div_ceil(COLOURS)];
        let repeated = Tensor::cat(&copies, 1)?.narrow(1, 0, channels)?;
        (repeated * (COLOURS as f64 / channels as f64))?
    };
    tensors.insert(name.clone(), fitted);
    Ok(Some(name))
}

/// A 1x1 convolution after global pooling is a linear layer.
fn as_linear(weight: &Tensor) -> Result<Tensor> {
    match *weight.dims() {
        [out, features, 1, 1] => weight.reshape((out, features)),
        _ => Ok(weight.clone()),
    }
}

fn first_segment(layer: &str) -> &str {
    layer.split('.').next().unwrap_or_default()
}

/// Whether `path` belongs to the head of `model`. If the network names no head, no path does.
pub(super) fn is_of_head(model: &dyn Model, path: &str) -> bool {
    !model.head().is_empty() && is_under(path, model.head())
}

/// Whether `path` belongs to an auxiliary classifier of `model`.
fn is_auxiliary(model: &dyn Model, path: &str) -> bool {
    model.auxiliary_heads().iter().any(|head| is_under(path, head))
}

/// What is taken completely or not at all: the head, and each layer of an auxiliary classifier. So if a weight does
/// not fit, a bias that happens to fit is not taken either.
fn unit<'a>(model: &'a dyn Model, path: &'a str) -> &'a str {
    if is_of_head(model, path) { model.head() } else { layer_of(path) }
}

fn compare(
    model: &dyn Model,
    tensors: &BTreeMap<String, Tensor>,
    strictness: Strictness,
) -> LoadReport {
    let mut report = LoadReport::default();
    let replaceable = |name: &str| match strictness {
        Strictness::Strict => false,
        Strictness::ExceptHead => is_of_head(model, name) || is_auxiliary(model, name),
        Strictness::ExceptAuxiliary => is_auxiliary(model, name),
    };
    let (mut new, mut counters) = (Vec::new(), Vec::new());
    for parameter in model.parameters().all() {
        let name = parameter.path().to_owned();
        match tensors.get(&name) {
            Some(tensor) if tensor.dims() == parameter.var().dims() => report.matched.push(name),
            None if is_counter(&name) => counters.push(name),
            Some(_) | None if replaceable(&name) => new.push(name),
            Some(tensor) => {
                let (ours, theirs) = (parameter.var().dims().to_vec(), tensor.dims().to_vec());
                report.wrong_shape.push((name, ours, theirs));
            }
            None => report.missing.push(name),
        }
    }
    if !new.is_empty() {
        let units: HashSet<&str> = new.iter().map(|name| unit(model, name)).collect();
        let is_new = |name: &String| replaceable(name) && units.contains(unit(model, name));
        let (beside, body): (Vec<String>, _) = report.matched.drain(..).partition(is_new);
        report.matched = body;
        let counters = counters.into_iter().filter(is_new);
        let all = new.iter().cloned().chain(beside).chain(counters);
        (report.new_auxiliary, report.new_head) = all.partition(|name| is_auxiliary(model, name));
    }
    let unknown =
        tensors.keys().filter(|name| model.parameters().get(name).is_none() && !is_counter(name));
    (report.left_out, report.unexpected) =
        unknown.cloned().partition(|name| is_auxiliary(model, name));
    report
}

/// Counters of the batches that a batch norm has seen. Some files leave them out.
fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}
