//! `candle-vision score`: measures explanation methods over many images.

mod sheet;
mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_vision::data::{Dataset, Sample};
use candle_vision::explain::faithfulness::{POINTING_MARGIN, random_map, score, with_margin};
use candle_vision::explain::{CamOptions, ClassActivationMap, Method, Target};
use candle_vision::ops::Generator;
use candle_vision::train::write_atomically;
use candle_vision::{Classifier, Registry, in_channels};
use rand::{RngExt, SeedableRng};

use crate::args::ScoreArgs;
use crate::commands::explain::maps;
use crate::{measured, say};
use sheet::Sheet;
use tally::Tally;

/// Number of images whose maps are drawn.
const SHEETS: usize = 3;

pub(crate) fn run(args: &ScoreArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let network = args.network.open(&args.data, registry, &device)?;
    let classifier = &network.classifier;
    let folder = args.folder.as_deref();
    let dataset = measured::images(folder, None, &network, &args.data, registry)?;
    let all: Vec<&Method> = registry.methods.iter().collect();
    let named = args.methods.iter().map(|name| registry.methods.get(name));
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let methods = if named.is_empty() { all } else { named };
    let output = args.output.clone().unwrap_or_else(|| match network.checkpoint() {
        Some(checkpoint) => beside(checkpoint),
        None => PathBuf::from("explain"),
    });
    score_methods(classifier, &dataset, &methods, args.images, &output)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder for results about a checkpoint.
pub(crate) fn beside(checkpoint: &Path) -> PathBuf {
    checkpoint.parent().unwrap_or(Path::new("")).join("explain")
}

/// Explains the true class of `count` images by each method and scores the maps and random ones. Prints a
/// table, and writes it and the maps of a few images to `output`.
pub(crate) fn score_methods(
    classifier: &Classifier,
    dataset: &Arc<dyn Dataset>,
    methods: &[&Method],
    count: usize,
    output: &Path,
) -> Result<()> {
    let known = classifier.classes();
    let mut tally = Tally::new(methods);
    let mut drawn = Vec::new();
    let chosen = chosen(dataset.len(), count);
    for (number, index) in chosen.iter().enumerate() {
        let name = dataset.name(*index);
        let sample = dataset.sample(*index)?;
        let sheet = explain(classifier, &sample, *index, methods, &mut tally)
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

/// Chooses images. They are always the same ones and cover all classes.
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

/// Computes the maps of one image by each method and adds their scores to `tally`.
fn explain(
    classifier: &Classifier,
    sample: &Sample,
    index: usize,
    methods: &[&Method],
    tally: &mut Tally,
) -> Result<Sheet> {
    let image = in_channels(sample.image.clone(), classifier.metadata().model.input[0])?;
    let input = classifier.prepare(&image)?;
    let mask = sample.mask.as_ref().map(|mask| classifier.moved_mask(mask)).transpose()?;
    let model = classifier.model();
    let target = Target::Class(sample.label as usize);
    let options = CamOptions { target, ..CamOptions::default() };
    let mut sheet = Sheet::new(in_channels(classifier.seen(&image)?, 3)?, mask.as_deref());
    let mut measured = |name: &str, map: &ClassActivationMap| -> Result<()> {
        tally.add(name, score(model, &input, map, mask.as_deref())?);
        sheet.add(name, map);
        Ok(())
    };
    let mut like = None;
    for method in methods {
        let maps = maps(classifier.explainer(), method, &input, &options)?;
        let map = maps.into_iter().next().context("the network gave no map")?;
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
