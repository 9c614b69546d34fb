//! Weight files under torchvision's names, and a report of what fitted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Result, Tensor, bail};

use crate::{Model, Parameters};

/// Largest header that is read: ten times that of any network here.
const MAX_HEADER_BYTES: u64 = 10 << 20;

/// What a weight file and a network had in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names whose tensors were taken.
    pub matched: Vec<String>,
    /// Names under the head that the file has for another number of classes (or not at all): the
    /// network keeps its new head.
    pub new_head: Vec<String>,
    /// Names the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names the file has and the network lacks.
    pub unexpected: Vec<String>,
    /// Names whose shapes differ: name, shape in the network, shape in the file.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// Whether every name but those of a new head found its tensor.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.wrong_shape.is_empty()
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tensors matched", self.matched.len())?;
        if !self.new_head.is_empty() {
            write!(f, ", new head ({})", self.new_head.join(", "))?;
        }
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        let shapes: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|(name, ours, theirs)| format!("{name} ({theirs:?}, expected {ours:?})"))
            .collect();
        list(f, "of another shape", &shapes)
    }
}

/// The count and the first few names: a wrong file differs in hundreds.
fn list(f: &mut std::fmt::Formatter<'_>, what: &str, names: &[String]) -> std::fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let shown = names[..names.len().min(3)].join(", ");
    let more = if names.len() > 3 { ", ..." } else { "" };
    write!(f, ", {} {what} ({shown}{more})", names.len())
}

/// How much of a file must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Every name must match: a checkpoint of this very network.
    Keep,
    /// The head may differ, as when weights for 1,000 classes are fine-tuned on two.
    MayDiffer,
}

/// Reads a safetensors or `.pth` file by its extension.
///
/// # Errors
/// If the file is missing, is neither, is cut short, or its header is not believable.
pub fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    let tensors = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => read_safetensors(path),
        Some("pth" | "pt") => read_pth(path),
        _ => bail!("`{}` is neither a .safetensors nor a .pth file", path.display()),
    };
    tensors.map_err(|error| {
        if path.exists() {
            error.context(format!("cannot read the weights in `{}`", path.display()))
        } else {
            candle_core::Error::Msg(format!(
                "there is no weight file `{}`; fetch it or give another path",
                path.display()
            ))
        }
    })
}

fn read_safetensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = std::fs::read(path)?;
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    match header {
        Some(length) if length <= MAX_HEADER_BYTES => {}
        _ => bail!("its header is cut short or too long: this is not a safetensors file"),
    }
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
}

fn read_pth(path: &Path) -> Result<HashMap<String, Tensor>> {
    let listed = candle_core::pickle::read_pth_tensor_info(path, false, None)?;
    let tensors: HashMap<String, Tensor> =
        candle_core::pickle::read_all_with_key(path, None)?.into_iter().collect();
    // candle leaves tensors out that it cannot read.
    if let Some(lost) = listed.iter().find(|info| !tensors.contains_key(&info.name)) {
        bail!("its tensor `{}` cannot be read; convert the file to safetensors", lost.name)
    }
    Ok(tensors)
}

/// Copies `tensors` into `model`, all or nothing, and says what fitted.
///
/// `num_batches_tracked` counters may be missing on either side: some files leave them out.
///
/// # Errors
/// If anything but what `head` allows is missing, unexpected or of another shape; the network is
/// then untouched and the message holds the report.
pub fn load(
    model: &dyn Model,
    tensors: &HashMap<String, Tensor>,
    head: Head,
) -> Result<LoadReport> {
    let adapted = adapt(model, tensors)?;
    let report = compare(model, &adapted, head);
    if report.matched.is_empty() {
        let (ours, theirs) = (model.parameters().all(), adapted.keys().next());
        bail!(
            "these are no weights of `{}`: none of its {} tensors (`{}`, ...) is in the file (`{}`, \
             ...) under the same name and with the same shape; name weights of this network, or none",
            model.spec().architecture,
            ours.len(),
            ours.first().map_or("", |parameter| parameter.path()),
            theirs.map_or("", String::as_str),
        )
    }
    if !report.is_complete() {
        bail!("the weights do not fit `{}`: {report}", model.spec().architecture)
    }
    for name in &report.matched {
        if let (Some(parameter), Some(tensor)) = (model.parameters().get(name), adapted.get(name)) {
            let var = parameter.var();
            parameter.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?;
        }
    }
    Ok(report)
}

fn adapt(model: &dyn Model, tensors: &HashMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let adapted = tensors.iter().map(|(name, tensor)| {
        let other = model.adapt_weight(name, tensor)?;
        Ok((name.clone(), other.unwrap_or_else(|| tensor.clone())))
    });
    adapted.collect()
}

fn compare(model: &dyn Model, tensors: &BTreeMap<String, Tensor>, head: Head) -> LoadReport {
    let mut report = LoadReport::default();
    let prefix = format!("{}.", model.head());
    let replaceable = |name: &str| head == Head::MayDiffer && name.starts_with(&prefix);
    for parameter in model.parameters().all() {
        let name = parameter.path().to_owned();
        match tensors.get(&name) {
            Some(tensor) if tensor.dims() == parameter.var().dims() => report.matched.push(name),
            Some(_) | None if replaceable(&name) => report.new_head.push(name),
            Some(tensor) => {
                let (ours, theirs) = (parameter.var().dims().to_vec(), tensor.dims().to_vec());
                report.wrong_shape.push((name, ours, theirs));
            }
            None if is_counter(&name) => {}
            None => report.missing.push(name),
        }
    }
    // A head is taken whole or not at all: a bias that happens to fit stays with its weight.
    if !report.new_head.is_empty() {
        let (head, body) = report.matched.drain(..).partition(|name| replaceable(name));
        report.matched = body;
        report.new_head.extend::<Vec<String>>(head);
    }
    report.unexpected = tensors
        .keys()
        .filter(|name| model.parameters().get(name).is_none() && !is_counter(name))
        .cloned()
        .collect();
    report
}

fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// A network's tensors by name, buffers included, ready to be written to a file.
pub fn tensors(parameters: &Parameters) -> BTreeMap<String, Tensor> {
    let all = parameters.all();
    all.iter().map(|parameter| (parameter.path().to_owned(), parameter.detached())).collect()
}

/// `tensors` as the bytes of a safetensors file.
///
/// # Errors
/// If a tensor cannot be read.
pub fn to_safetensors(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Vec<u8>> {
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    safetensors::serialize(&tensors, None).map_err(candle_core::Error::wrap)
}
