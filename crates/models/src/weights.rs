//! Weight files under torchvision's names, and a report of what fitted.
//!
//! [`read`] reads safetensors files and PyTorch files of any age. A PyTorch file may hold the weights alone or
//! in the dictionary of a checkpoint. The file name does not matter. [`load`] fits the names in the file to a
//! network.
//!
//! Reading never runs anything that a file contains. Every size is checked before memory is allocated for it.

mod archive;
mod dictionary;
mod elements;
mod finite;
mod fit;
mod load;
mod names;
mod pickle;
mod report;
mod safetensors_file;
mod sharded;
mod sniff;
mod timm;
mod torch;
mod torch_writer;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use candle_core::{Error, Result, Tensor};
use candle_vision_registry::one_line;

pub use finite::check_finite;
pub use load::load;
pub use report::LoadReport;
pub use safetensors_file::{HeaderError, safetensors_header};
pub use torch_writer::to_torch;

pub use crate::timm::timm_tensors;

use crate::{Model, Parameters};
use sniff::Kind;

/// Which parameters of a network must match the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Every parameter must match, as for a checkpoint of the same network.
    Strict,
    /// Every parameter except those of the head must match. A head that differs or is missing keeps its initial
    /// values. This suits weights for 1,000 classes that are fine-tuned on two.
    ExceptHead,
    /// Every parameter that evaluation uses must match. Auxiliary classifiers ([`Model::auxiliary_heads`]), which only
    /// training runs, keep their initial values where the file has none or others.
    ExceptAuxiliary,
}

/// The weights in a file, and the place where the file held them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WeightFile {
    /// The tensors by their names in the file. They are contiguous and on the CPU.
    pub tensors: HashMap<String, Tensor>,
    /// The dictionary of the file that held the weights, such as `state_dict`. `None` if the file itself is
    /// that dictionary.
    pub dictionary: Option<String>,
    /// Other dictionaries with tensors that were left out, such as an optimizer's state.
    pub left_out: Vec<String>,
    /// timm's name of the network, if the file's own name or the `config.json` beside it tells one that is another
    /// network under the same parameter names: `tf_efficientnet_b0`.
    pub other_network: Option<String>,
}

/// Networks of timm that pad as TensorFlow does. Their parameters are called as those of the networks without `tf_`, and
/// have the same shapes, but give other outputs. The EfficientNet-Lite of this project is timm's with `tf_`.
const OTHER_NETWORKS: [&str; 4] =
    ["tf_efficientnet_b", "tf_efficientnet_e", "tf_efficientnetv2", "tf_mobilenet"];

impl WeightFile {
    /// Reads a safetensors file or a file that PyTorch wrote. The file name does not matter, except that of an
    /// index of several files (`model.safetensors.index.json`), which must lie beside it.
    ///
    /// # Errors
    /// If the file is missing, empty, cut short or damaged, if it is not a weight file or is a whole pickled
    /// network, or if its tensors have a number type that is not supported. The message is one line that says
    /// what the file is and what helps.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // The reason may have names in it that the file has.
        let what = |reason: String| {
            let text = format!("cannot read the weights in `{}`: {reason}", path.display());
            Error::Msg(one_line(&text).into_owned())
        };
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::Msg(format!(
                "there is no weight file `{}`; fetch it or give another path",
                path.display()
            )),
            _ => what(error.to_string()),
        })?;
        if metadata.is_dir() {
            let usual = [
                "best.safetensors",
                "last.safetensors",
                "model.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
            ];
            let inside = usual.into_iter().find(|name| path.join(name).is_file());
            let such_as = inside.map(|name| format!(", such as `{name}`")).unwrap_or_default();
            return Err(what(format!("it is a folder; name the file in it{such_as}")));
        }
        let mut file = read_file(path, metadata.len()).map_err(what)?;
        file.other_network = other_network(path);
        Ok(file)
    }

    /// Copies the weights into `model`, as [`load`] does. The report also says where the file held them.
    ///
    /// # Errors
    /// Those of [`load`].
    pub fn load(&self, model: &dyn Model, strictness: Strictness) -> Result<LoadReport> {
        let architecture = &model.spec().architecture;
        if let Some(other) = &self.other_network {
            return Err(Error::Msg(format!(
                "these are weights of timm's `{other}`, which pads unevenly, as TensorFlow does: its parameters are called \
                 as those of `{architecture}`, but it is another network; take weights of timm's network without `tf_`, \
                 or torchvision's"
            )));
        }
        let report = load(model, &self.tensors, strictness)?;
        Ok(LoadReport {
            dictionary: self.dictionary.clone(),
            other_dictionaries: self.left_out.clone(),
            ..report
        })
    }
}

/// The name of a network in [`OTHER_NETWORKS`] that the file at `path` is for, by its name or as a repository of the hub
/// has it.
fn other_network(path: &Path) -> Option<String> {
    let is_other = |name: &String| OTHER_NETWORKS.iter().any(|other| name.starts_with(other));
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    if is_other(&stem) {
        return Some(stem);
    }
    let text = std::fs::read_to_string(path.with_file_name("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    config.get("architecture")?.as_str().map(str::to_owned).filter(is_other)
}

fn read_file(path: &Path, len: u64) -> std::result::Result<WeightFile, String> {
    if sharded::is_index(path) {
        return sharded::read(path, len);
    }
    let open = || File::open(path).map_err(|error| error.to_string());
    let mut start = Vec::new();
    let read = open()?.take(sniff::START as u64).read_to_end(&mut start);
    read.map_err(|error| error.to_string())?;
    let bytes = || std::fs::read(path).map_err(|error| error.to_string());
    match sniff::kind(&start, len) {
        Kind::Safetensors => safetensors_file::read(&bytes()?),
        Kind::Zip => torch::read_zip(open()?, len),
        Kind::Pickle => torch::read_legacy(&bytes()?),
        Kind::Other { what, remedy } => Err(format!("it is {what}; {remedy}")),
    }
}

/// Reads the tensors of a safetensors file or a file that PyTorch wrote, by their names in the file.
/// [`WeightFile::read`] also says where the file held them.
///
/// # Errors
/// Those of [`WeightFile::read`].
pub fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    Ok(WeightFile::read(path)?.tensors)
}

/// All tensors of a network by name, including buffers, ready to be written to a file.
pub fn tensors(parameters: &Parameters) -> BTreeMap<String, Tensor> {
    let all = parameters.all();
    all.iter().map(|parameter| (parameter.path().to_owned(), parameter.detached())).collect()
}

/// Serializes `tensors` as the bytes of a safetensors file.
///
/// # Errors
/// If a tensor cannot be read.
pub fn to_safetensors(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Vec<u8>> {
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    safetensors::serialize(&tensors, None).map_err(Error::wrap)
}
