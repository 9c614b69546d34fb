//! The images on which a checkpoint is evaluated.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_vision::Registry;
use candle_vision::data::{Dataset, Split, is_same_class};
use candle_vision_recipe::data::{DataFolder, Remarks, to_measure};
use candle_vision_recipe::recorded;

use crate::args::DataDir;
use crate::network::Named;
use crate::read_options::read_options;
use crate::say;

/// The images on which to evaluate a checkpoint: those of a folder, or else the validation images of the
/// run that the checkpoint lies in. `list` names the classes of a folder without class folders.
pub(crate) fn images(
    folder: Option<&Path>,
    list: Option<&Path>,
    network: &Named,
    data: &DataDir,
    registry: &Registry,
) -> Result<Arc<dyn Dataset>> {
    let metadata = network.classifier.metadata();
    let mut remarks = Remarks::default();
    let images = match folder {
        Some(folder) => to_measure(folder, list, metadata, &read_options()?, &mut remarks)?,
        None => {
            let checkpoint = network
                .checkpoint()
                .context("a published network lies in no run folder; name the images to measure it on with --folder DIR")?;
            let run = checkpoint.parent().unwrap_or(Path::new("."));
            ensure!(
                run.join("config.toml").is_file(),
                "`{}` lies in no run folder; name the images to measure it on with --folder DIR",
                checkpoint.display()
            );
            let settings = recorded::settings(run, registry)?.data;
            let data_dir = data.or(settings.dir.as_deref());
            let place = DataFolder::new(registry, &data_dir).read_options(read_options()?);
            recorded::check_data(&settings, &place)?;
            place.open(&settings, Split::Val, metadata.seed, &mut remarks)?
        }
    };
    remarks.into_notes().iter().for_each(say::note);
    check_classes(images.classes(), &metadata.classes)?;
    ensure!(
        images.is_multi_label() || !metadata.model.multi_label,
        "the network gives an image several labels or none, and these images have one each; measure it on the images of its \
         run, without --folder"
    );
    Ok(images)
}

fn check_classes(found: &[String], expected: &[String]) -> Result<()> {
    let is_same = |(a, b): (&String, &String)| is_same_class(a, b);
    let shown = |names: &[String]| {
        let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
        let more = if names.len() > 10 { ", ..." } else { "" };
        format!("{} classes ({}{more})", names.len(), shown.join(", "))
    };
    ensure!(
        found.len() == expected.len() && found.iter().zip(expected).all(is_same),
        "these images have {}, but the network knows {}; name a folder with those with \
         --folder DIR",
        shown(found),
        shown(expected)
    );
    Ok(())
}
