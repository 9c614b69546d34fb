//! The network of a run, with the weights that it starts from.

use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_vision::models::weights::{Strictness, WeightFile};
use candle_vision::models::{Model, Networks};

use crate::error::At;
use crate::recorded::near;
use crate::{ModelSettings, Result};

/// Builds the network of `settings` and loads its weights, if it names any. The second value says
/// what was loaded.
pub(crate) fn network(
    settings: &ModelSettings,
    num_classes: usize,
    seed: u64,
    data_dir: &Path,
    device: &Device,
    networks: &Networks,
) -> Result<(Box<dyn Model>, String)> {
    let side = settings.image_size;
    let spec =
        networks.spec(&settings.architecture, num_classes)?.input([settings.channels, side, side]);
    let model = networks.build(&spec, seed, device)?;
    if settings.weights.is_empty() {
        return Ok((model, "from scratch".to_owned()));
    }
    let path = weight_file(&settings.weights, data_dir);
    let path = near(&path);
    let report = WeightFile::read(path)?
        .load(&*model, Strictness::ExceptHead)
        .at(|| format!("cannot start from `{}`", path.display()))?;
    Ok((model, format!("weights {}: {report}", path.display())))
}

/// The file of `model.weights`: a bare name means a file under the data folder, or one here without an
/// extension.
pub fn weight_file(name: &str, data_dir: &Path) -> PathBuf {
    let known = data_dir.join("weights").join(format!("{name}.safetensors"));
    let is_path = name.contains(['.', '/', '\\']);
    if is_path || (!known.is_file() && Path::new(name).is_file()) {
        PathBuf::from(name)
    } else {
        known
    }
}
