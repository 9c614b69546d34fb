//! `candle-vision score`: every way to explain, measured over many images.

mod sheet;
mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::data::{Dataset, Sample};
use candle_vision::explain::faithfulness::{POINTING_MARGIN, random_map, score, with_margin};
use candle_vision::explain::{CamOptions, ClassActivationMap, Method, Target};
use candle_vision::ops::Generator;
use candle_vision::train::write_atomically;
use rand::{RngExt, SeedableRng};

use crate::args::ScoreArgs;

use crate::sources::{self, Restored};
use crate::{measured, say};
use sheet::Sheet;
use tally::Tally;

/// Images whose maps are drawn.
const SHEETS: usize = 3;

pub(crate) fn run(args: &ScoreArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let restored = sources::restore(&args.checkpoint, &device)?;
    let (folder, metadata) = (args.folder.as_deref(), &restored.metadata);
    let dataset = measured::images(folder, &args.checkpoint, &args.data, metadata)?;
    let methods = if args.methods.is_empty() { &Method::ALL } else { args.methods.as_slice() };
    let output = args.output.clone().unwrap_or_else(|| beside(&args.checkpoint));
    score_methods(&restored, &dataset, methods, args.images, &output, &device)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder for what is found out about a checkpoint.
pub(crate) fn beside(checkpoint: &Path) -> PathBuf {
    checkpoint.parent().unwrap_or(Path::new("")).join("explain")
}

/// Explains the true class of `count` images by each method, measures the maps and random ones,
/// prints a table, and writes it and the maps of a few images to `output`.
pub(crate) fn score_methods(
    restored: &Restored,
    dataset: &Arc<dyn Dataset>,
    methods: &[Method],
    count: usize,
    output: &Path,
    device: &Device,
) -> Result<()> {
    let known = restored.metadata.classes.as_slice();
    let mut tally = Tally::new(methods);
    let mut drawn = Vec::new();
    let chosen = chosen(dataset.len(), count);
    for (number, index) in chosen.iter().enumerate() {
        let name = dataset.name(*index);
        let sample = dataset.sample(*index)?;
        let sheet = explain(restored, &sample, *index, methods, &mut tally, device)
            .with_context(|| format!("cannot explain `{name}`"))?;
        if number < SHEETS {
            let class = &known[sample.label as usize];
            let path = output.join(format!("maps-{}.png", number + 1));
            sheet.write(&format!("{class}: {name}"), &path)?;
            drawn.push(path);
        }
        if (number + 1) % 10 == 0 {
            say::note(format_args!("measured {} of {} images", number + 1, chosen.len()));
        }
    }
    say::result(tally.table())?;
    let path = output.join("scores.csv");
    write_atomically(&path, tally.csv().as_bytes())?;
    for path in std::iter::once(path).chain(drawn) {
        say::result(path.display())?;
    }
    Ok(())
}

/// Which images: always the same ones, of all classes.
fn chosen(images: usize, count: usize) -> Vec<usize> {
    let mut generator = Generator::seed_from_u64(0);
    let count = count.min(images);
    let mut chosen: Vec<usize> = (0..images).collect();
    for place in 0..count {
        chosen.swap(place, generator.random_range(place..images));
    }
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}

/// The maps of one image by each method, counted in `tally`.
fn explain(
    restored: &Restored,
    sample: &Sample,
    index: usize,
    methods: &[Method],
    tally: &mut Tally,
    device: &Device,
) -> Result<Sheet> {
    let image = sources::in_channels(sample.image.clone(), restored.metadata.model.input[0])?;
    let input = restored.prepare(&image, device)?;
    let mask = sample.mask.as_ref().map(|mask| restored.moved_mask(mask)).transpose()?;
    let model = restored.model.as_ref();
    let target = Target::Class(sample.label as usize);
    let options = CamOptions { target, ..CamOptions::default() };
    let mut sheet = Sheet::new(sources::in_channels(restored.seen(&image)?, 3)?, mask.as_deref());
    let mut measured = |name: &str, map: &ClassActivationMap| -> Result<()> {
        tally.add(name, score(model, &input, map, mask.as_deref())?);
        sheet.add(name, map);
        Ok(())
    };
    let mut like = None;
    for method in methods {
        let maps = method.maps(model, &input, &options)?;
        let map = maps.into_iter().next().context("the network gave no map")?;
        sources::check_finite(std::iter::once(map.probability))?;
        measured(method.name(), &map)?;
        like = Some(map);
    }
    if let Some(like) = like {
        measured(tally::RANDOM, &random_map(&like, index as u64))?;
    }
    if let Some(mask) = &mask {
        let margin = POINTING_MARGIN * sheet.longer_side() as f64;
        tally.add_subject(mask, &with_margin(mask, sheet.width(), margin)?);
    }
    Ok(sheet)
}
