//! Copies the tensors of a file into a network.

use std::collections::{BTreeSet, HashMap, HashSet};

use candle_core::{DType, Error, Result, Tensor};

use super::fit::{Fitted, fit, is_of_head};
use super::names::{renamed, with_current_names};
use super::{LoadReport, Strictness, check_finite, timm};
use crate::{Model, Parameter};

/// Copies `tensors` into `model`, all of them or none, and reports what fitted.
///
/// - The names may have a common prefix (`module.`, `model.`, `_orig_mod.`, `backbone.`).
/// - The head may have another name.
/// - The names may be those of an older version of the network ([`Model::rename_weight`]).
/// - The names may be timm's ([`Model::timm_names`]).
/// - Auxiliary classifiers ([`Model::auxiliary_heads`]) are left out where the network was built without them.
/// - Tensors that the network knows to be no part of it ([`Model::leaves_out_weight`]) are left out.
/// - A trainer's tensors (an optimizer's state, averages) may stand beside the network's.
/// - `num_batches_tracked` counters may be missing on either side, because some files leave them out.
/// - Floats of any size are converted.
///
/// The report says which of these was done.
///
/// # Errors
/// If anything that `strictness` does not allow is missing, unexpected or of another shape, if a value is NaN or infinite, if
/// the file holds integers where the network has floats, or if a tensor cannot be moved to the network's device. The network
/// is then unchanged, and the message holds the report.
pub fn load(
    model: &dyn Model,
    tensors: &HashMap<String, Tensor>,
    strictness: Strictness,
) -> Result<LoadReport> {
    let all = model.parameters().all();
    let ours: HashSet<&str> = all.iter().map(Parameter::path).collect();
    let (tensors, older_names) = with_current_names(tensors, |name| model.rename_weight(name));
    let mut renamed = renamed(&tensors, &ours)?;
    let timm_names = timm::with_our_names(model, &tensors, &ours, &mut renamed)?;
    let Fitted { tensors: fitted, mut report } = fit(model, renamed, strictness)?;
    (report.older_names, report.timm_names) = (older_names, timm_names);
    if report.matched.is_empty() {
        return Err(Error::Msg(format!(
            "these are no weights of `{}`: none of its {} tensors (`{}`, ...) is in the file (`{}`, \
             ...) under the same name and with the same shape; name weights of this network, or none",
            model.spec().architecture,
            all.len(),
            all.first().map_or("", |parameter| parameter.path()),
            fitted.keys().next().map_or("", String::as_str),
        )));
    }
    if !report.is_complete() {
        let architecture = &model.spec().architecture;
        if strictness == Strictness::ExceptHead && model.head().is_empty() {
            return Err(Error::Msg(format!(
                "the weights do not fit `{architecture}`, which names no head that could differ (see \
                 `Model::head`): {report}"
            )));
        }
        if lacks_head_alone(&report, model) {
            return Err(Error::Msg(format!(
                "the weights do not fit `{architecture}`: the file has no head (`{}`), as a backbone to \
                 fine-tune has none: {report}",
                model.head()
            )));
        }
        return Err(Error::Msg(format!("the weights do not fit `{architecture}`: {report}")));
    }
    // Every step that can fail comes first, so that the network is unchanged until all tensors are ready.
    let mut ready = Vec::new();
    let mut converted = BTreeSet::new();
    for name in &report.matched {
        if let (Some(parameter), Some(tensor)) = (model.parameters().get(name), fitted.get(name)) {
            check_finite(name, tensor).map_err(|error| unusable(model, &error))?;
            ready.push((prepared(&parameter, tensor)?, parameter));
            if tensor.dtype().is_float() && tensor.dtype() != ready_type(&ready) {
                converted.insert(format!("{:?}", tensor.dtype()));
            }
        }
    }
    for (values, parameter) in ready {
        parameter.set(&values)?;
    }
    report.converted = converted.into_iter().collect();
    Ok(report)
}

fn unusable(model: &dyn Model, error: &Error) -> Error {
    Error::Msg(format!("the weights of `{}` cannot be used: {error}", model.spec().architecture))
}

fn lacks_head_alone(report: &LoadReport, model: &dyn Model) -> bool {
    report.missing.iter().all(|name| is_of_head(model, name))
        && report.unexpected.is_empty()
        && report.wrong_shape.is_empty()
}

fn ready_type(ready: &[(Tensor, Parameter)]) -> DType {
    ready.last().map_or(DType::F32, |(values, _)| values.dtype())
}

/// `tensor` in the number type and on the device of the parameter, in its own memory. A variable rejects values
/// that share its memory, and reports this only when it is set.
fn prepared(parameter: &Parameter, tensor: &Tensor) -> Result<Tensor> {
    let var = parameter.var();
    let (from, to) = (tensor.dtype(), var.dtype());
    if from.is_int() && to.is_float() {
        return Err(Error::Msg(format!(
            "`{}` holds {from:?} integers where the network has {to:?}: these are quantized weights; \
             save them as floats",
            parameter.path()
        )));
    }
    let same = from == to && tensor.device().same_device(var.device());
    let values = tensor.to_dtype(to)?.to_device(var.device())?;
    let values = if same { values.copy()? } else { values };
    values.contiguous()
}
