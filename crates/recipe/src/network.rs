//! The network of a run, with the weights that it starts from.

use std::path::Path;

use candle_core::Device;
use candle_vision::models::weights::{Strictness, WeightFile};
use candle_vision::models::{Model, Networks};

use crate::error::At;
use crate::recorded::near;
use crate::{ModelSettings, Result, Weights};

/// Builds the network of `settings` and loads its weights, if it names any. The second value says
/// what was loaded.
pub(crate) fn network(
    settings: &ModelSettings,
    (num_classes, multi_label): (usize, bool),
    seed: u64,
    data_dir: &Path,
    device: &Device,
    networks: &Networks,
) -> Result<(Box<dyn Model>, String)> {
    let side = settings.image_size;
    let spec =
        networks.spec(&settings.architecture, num_classes)?.input([settings.channels, side, side]);
    let spec = spec.multi_label(multi_label);
    let model = networks.build(&spec, seed, device)?;
    if settings.weights.is_empty() {
        return Ok((model, "from scratch".to_owned()));
    }
    let entry = networks.get(&settings.architecture)?;
    let weights = Weights::find(entry, &settings.weights, data_dir)?;
    let path = near(&weights.file);
    let report = WeightFile::read(path)?
        .load(&*model, Strictness::ExceptHead)
        .at(|| format!("cannot start from `{}`", path.display()))?;
    Ok((model, format!("weights {}: {report}", path.display())))
}
