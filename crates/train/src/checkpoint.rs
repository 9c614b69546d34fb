//! Checkpoints: one file holds a network and everything that is needed to use it or to continue its
//! training.
//!
//! The file is a safetensors file with torchvision's parameter names, so any other program can read the
//! weights. JSON in its header holds what only this project reads. The last checkpoint of a run also holds
//! the optimizer's tensors and the position in the run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use candle_vision_data::transforms::ComposeDescription;
use candle_vision_models::weights::HeaderError;
use candle_vision_models::{Model, ModelSpec, Networks, weights};
use serde::{Deserialize, Serialize};

use crate::callback::StopReason;
use crate::training_state::{TrainingState, without_state};
use crate::{Error, Result, tensor_file};

/// The newest file format that this version reads, and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// So many classes are believed of any checkpoint. A network with more has at least a weight for each.
const FEW_CLASSES: usize = 10_000;

/// The key of our JSON in a safetensors header.
const HEADER_KEY: &str = "candle_vision";

/// The description of the network in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// Format version of the file.
    pub format_version: u32,
    /// Version of the program that wrote it.
    pub crate_version: String,
    /// The specification to build the network from.
    pub model: ModelSpec,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The preprocessing that an image needs before the network sees it. `preprocessing.build(&transforms)`
    /// makes the transforms.
    pub preprocessing: ComposeDescription,
    /// Number of completed epochs.
    pub epoch: usize,
    /// Validation accuracy after them, `0.0..=1.0`. `None` before the first epoch ends.
    pub val_accuracy: Option<f64>,
    /// Validation loss after them. `None` before the first epoch ends.
    pub val_loss: Option<f64>,
    /// Seed of the run.
    pub seed: u64,
    /// Whether images were turned upright as their EXIF data says. Files from before this was recorded hold
    /// networks that saw the images as stored.
    #[serde(default)]
    pub exif_orientation: bool,
}

impl CheckpointMetadata {
    /// A description of an untrained network. Set the other fields when they are known.
    pub fn new(
        model: ModelSpec,
        classes: Vec<String>,
        preprocessing: impl Into<ComposeDescription>,
    ) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            model,
            classes,
            preprocessing: preprocessing.into(),
            epoch: 0,
            val_accuracy: None,
            val_loss: None,
            seed: 0,
            exif_orientation: false,
        }
    }
}

/// A network with everything that is needed to use it or to continue its training.
///
/// # Example
/// ```no_run
/// use candle_vision_models::build;
/// use candle_vision_train::Checkpoint;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let checkpoint = Checkpoint::load("runs/resnet18/001/best.safetensors")?;
/// let model = build(&checkpoint.metadata.model, 0, &candle_core::Device::Cpu)?;
/// checkpoint.restore(model.as_ref())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The description of the network.
    pub metadata: CheckpointMetadata,
    /// Parameters and buffers by name.
    pub tensors: HashMap<String, Tensor>,
    pub(crate) training: Option<TrainingState>,
    /// Why the state of the run cannot be read, if there is one.
    unknown_state: Option<String>,
    /// Path that it was read from, for messages.
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Header<Metadata, Training> {
    #[serde(flatten)]
    metadata: Metadata,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
}

/// The header as read. The state of the run may be that of another version. The network can be used even
/// then.
type ReadHeader = Header<CheckpointMetadata, serde_json::Value>;

impl Checkpoint {
    /// A checkpoint of a network in its present state. Its tensors share memory with the network, so save
    /// it before the next step.
    pub fn of(model: &dyn Model, metadata: CheckpointMetadata) -> Self {
        let tensors = weights::tensors(model.parameters()).into_iter().collect();
        Self { metadata, tensors, training: None, unknown_state: None, path: PathBuf::new() }
    }

    /// The same checkpoint with copies of its tensors, which training does not change.
    pub(crate) fn copied(mut self) -> Result<Self> {
        for tensor in self.tensors.values_mut() {
            *tensor = tensor.copy()?;
        }
        Ok(self)
    }

    pub(crate) fn with_training(mut self, training: TrainingState) -> Self {
        self.training = Some(training);
        self
    }

    /// Writes the checkpoint. At any moment the file is either as before or completely new.
    ///
    /// # Errors
    /// If it cannot be written. [`Error::DiskFull`] says how many bytes are needed.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let header = Header { metadata: &self.metadata, training: self.training.as_ref() };
        let json = serde_json::to_string(&header)
            .map_err(|error| Error::io("write", path)(error.into()))?;
        let header = HashMap::from([(HEADER_KEY.to_owned(), json)]);
        let own = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let mut tensors: BTreeMap<String, Tensor> = own.collect();
        if let Some(training) = &self.training {
            tensors.extend(training.tensors()?);
        }
        tensor_file::write(path, &tensors, header)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If the file is missing, truncated or damaged, holds only weights, has a newer format, or names
    /// transforms that this version does not know.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let header = read_header(&bytes, path)?;
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|error| damaged(path, error))?;
        let state = header.training.map(serde_json::from_value::<TrainingState>).transpose();
        let (training, unknown_state) = match state {
            Ok(Some(state)) => {
                let state = state.with_tensors(&mut tensors);
                (Some(state.map_err(|problem| damaged(path, problem))?), None)
            }
            Ok(None) => (None, None),
            Err(error) => {
                without_state(&mut tensors);
                (None, Some(error.to_string()))
            }
        };
        let path = path.to_path_buf();
        Ok(Self { metadata: header.metadata, tensors, training, unknown_state, path })
    }

    /// The state that a run needs to go on.
    ///
    /// # Errors
    /// If there is no such state, or another version wrote it with settings that are not known here.
    pub(crate) fn state(&self) -> Result<&TrainingState> {
        let path = || self.path.clone();
        self.training.as_ref().ok_or_else(|| match &self.unknown_state {
            None => Error::NothingToResume { path: path() },
            Some(problem) => Error::UnknownSettings {
                path: path(),
                version: self.metadata.crate_version.clone(),
                problem: problem.clone(),
            },
        })
    }

    /// Number of images in a batch of its run, of all processes together. `None` if it holds no state.
    pub fn batch_size(&self) -> Option<usize> {
        let state = self.state().ok()?;
        state.data.get("batch_size of the training data")?.parse().ok()
    }

    /// Path that it was read from. It is empty for a checkpoint that was made in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it holds the state of a run that this version can resume.
    pub fn is_resumable(&self) -> bool {
        self.training.as_ref().is_some_and(|training| training.finished.is_none())
    }

    /// Why its run ended, if the run is complete.
    pub fn finished(&self) -> Option<StopReason> {
        self.training.as_ref().and_then(|training| training.finished)
    }

    /// Checks that the checkpoint holds the network that `spec` names.
    ///
    /// # Errors
    /// [`Error::OtherModel`], which names both networks.
    pub fn check_model(&self, spec: &ModelSpec) -> Result<()> {
        let own = &self.metadata.model;
        if (&own.architecture, own.num_classes) == (&spec.architecture, spec.num_classes) {
            return Ok(());
        }
        let text =
            |spec: &ModelSpec| format!("`{}` with {} classes", spec.architecture, spec.num_classes);
        Err(Error::OtherModel { path: self.path.clone(), found: text(own), expected: text(spec) })
    }

    /// Builds the network of the checkpoint from `networks` on `device` and loads its weights.
    ///
    /// # Errors
    /// If no network has this name, or as [`Checkpoint::restore`].
    pub fn model(&self, networks: &Networks, device: &Device) -> Result<Box<dyn Model>> {
        let numbers: usize = self.tensors.values().map(Tensor::elem_count).sum();
        let classes = self.metadata.model.num_classes;
        // The network is built before its weights are looked at. A damaged header must not ask for all memory.
        if classes > numbers.max(FEW_CLASSES) {
            let problem = format!("it states {classes} classes, and has {numbers} numbers in all");
            return Err(damaged(&self.path, problem));
        }
        let model = networks
            .build(&self.metadata.model, 0, device)
            .map_err(|source| Error::Weights { path: self.path.clone(), source })?;
        self.restore(&*model)?;
        Ok(model)
    }

    /// Copies the checkpoint's tensors into a network: all of them or none.
    ///
    /// # Errors
    /// If the checkpoint holds another network, or a tensor is missing, left over or of another shape.
    pub fn restore(&self, model: &dyn Model) -> Result<()> {
        self.check_model(model.spec())?;
        weights::load(model, &self.tensors, weights::Strictness::Strict)
            .map_err(|source| Error::Weights { path: self.path.clone(), source })?;
        Ok(())
    }
}

fn read_header(bytes: &[u8], path: &Path) -> Result<ReadHeader> {
    let not_ours = || Error::NotACheckpoint { path: path.to_path_buf() };
    let header = weights::safetensors_header(bytes).map_err(|error| match error {
        HeaderError::Damaged(problem) => damaged(path, problem),
        _ => not_ours(),
    })?;
    let json = header.get(HEADER_KEY).ok_or_else(not_ours)?;
    #[derive(Deserialize)]
    struct Format {
        format_version: u32,
        #[serde(default)]
        crate_version: String,
    }
    let Format { format_version: found, crate_version: version } =
        serde_json::from_str(json).map_err(|error| damaged(path, error))?;
    if found > FORMAT_VERSION {
        let path = path.to_path_buf();
        return Err(Error::NewerFormat { path, found, known: FORMAT_VERSION });
    }
    serde_json::from_str(json).map_err(|error| match error.classify() {
        // Valid JSON with other contents than expected.
        serde_json::error::Category::Data if error.to_string().starts_with("unknown") => {
            let problem = error.to_string();
            Error::UnknownSettings { path: path.to_path_buf(), version, problem }
        }
        _ => damaged(path, error),
    })
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::Damaged { path: path.to_path_buf(), problem: problem.to_string() }
}
