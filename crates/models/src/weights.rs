//! Weight files under torchvision's names, and a report of what fitted.
//!
//! [`read`] takes what people have: safetensors, and PyTorch's files of any age with the weights alone or
//! in a checkpoint's dictionary, whatever the file is called. [`load`] fits their names to a network. Reading
//! runs nothing that a file contains, and every size is checked before memory is taken for it.

mod archive;
mod dictionary;
mod elements;
mod fit;
mod load;
mod names;
mod pickle;
mod report;
mod safetensors_file;
mod sniff;
mod torch;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use candle_core::{Error, Result, Tensor};

pub use load::load;
pub use report::LoadReport;
pub use safetensors_file::{HeaderError, safetensors_header};

use crate::{Model, Parameters};
use sniff::Kind;

/// Which parameters of a network must match the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Every parameter must match: a checkpoint of this very network.
    Strict,
    /// Every parameter but those of the head must match. A head that differs or is missing keeps its initial
    /// values, as when weights for 1,000 classes are fine-tuned on two.
    ExceptHead,
}

/// The weights in a file, and where in it they were found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WeightFile {
    /// Tensors by the names that the file gives them, on the CPU and contiguous.
    pub tensors: HashMap<String, Tensor>,
    /// The dictionary of the file that held them, such as `state_dict`; `None` if that is the file itself.
    pub dictionary: Option<String>,
    /// Other dictionaries with tensors, such as an optimizer's state, which were left out.
    pub left_out: Vec<String>,
}

impl WeightFile {
    /// Reads a safetensors file or one that PyTorch wrote, whatever it is called.
    ///
    /// # Errors
    /// One line that says what the file is and what helps: if it is missing, empty, cut short or damaged,
    /// no weight file at all, a whole pickled network, or holds tensors of a kind that is not read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let what = |reason: String| {
            Error::Msg(format!("cannot read the weights in `{}`: {reason}", path.display()))
        };
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::Msg(format!(
                "there is no weight file `{}`; fetch it or give another path",
                path.display()
            )),
            _ => what(error.to_string()),
        })?;
        if metadata.is_dir() {
            let usual =
                ["best.safetensors", "last.safetensors", "model.safetensors", "pytorch_model.bin"];
            let inside = usual.into_iter().find(|name| path.join(name).is_file());
            let such_as = inside.map(|name| format!(", such as `{name}`")).unwrap_or_default();
            return Err(what(format!("it is a folder; name the file in it{such_as}")));
        }
        read_file(path, metadata.len()).map_err(what)
    }

    /// Copies the weights into `model`, as [`load`]; the report also says where the file held them.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, model: &dyn Model, strictness: Strictness) -> Result<LoadReport> {
        let report = load(model, &self.tensors, strictness)?;
        Ok(LoadReport {
            dictionary: self.dictionary.clone(),
            other_dictionaries: self.left_out.clone(),
            ..report
        })
    }
}

fn read_file(path: &Path, len: u64) -> std::result::Result<WeightFile, String> {
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

/// The tensors of a safetensors file or one that PyTorch wrote, by the names that the file gives them.
/// [`WeightFile::read`] also says where they were found.
///
/// # Errors
/// As [`WeightFile::read`].
pub fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    Ok(WeightFile::read(path)?.tensors)
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
    safetensors::serialize(&tensors, None).map_err(Error::wrap)
}
