//! `candle-vision data show`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use candle_vision::Registry;
use candle_vision::data::samplers::{Balanced, Population, Sampler};
use candle_vision::data::{Dataset, Split};
use candle_vision_recipe::data::{DataFolder, Remarks, loader};
use candle_vision_recipe::{DataSettings, Recipe, run_name};
use clap::Args;

use super::class_bars;
use super::mixed_batches::MixedBatches;
use crate::args::{DataDir, at_least_one};
use crate::commands::inspect::{Shown, write_page};
use crate::output_names::unused;
use crate::read_options::read_options;
use crate::say;

/// Arguments of `data show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Image folder, shown with the augmentation of `train --folder`
    #[arg(value_name = "FOLDER", required_unless_present = "recipe")]
    folder: Option<PathBuf>,
    /// Recipe, or the config.toml of a run, whose data and augmentation to show
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    recipe: Option<PathBuf>,
    /// Number of images, of all classes alike
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = at_least_one)]
    images: usize,
    /// Number of epochs whose augmentation to show
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    epochs: usize,
    /// Seed of the choice and of the augmentation [default: the recipe's]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Show the validation images instead of those to train on
    #[arg(long)]
    val: bool,
    /// Draw how often an epoch shows each class, without and with the recipe's sampler, in place of images
    #[arg(long, conflicts_with_all = ["val", "images"])]
    classes: bool,
    /// Where to write it [default: NAME.sheet.png or NAME.classes.png in this folder; no file is overwritten there]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
}

pub(crate) fn run(args: &ShowArgs, registry: &Registry) -> Result<ExitCode> {
    let (name, recipe) = match (&args.recipe, &args.folder) {
        (Some(path), _) => (run_name(path), Recipe::read(path)?),
        (None, Some(folder)) => {
            (run_name(folder), Recipe::for_folder(folder, "resnet18", Some("none"), registry)?)
        }
        (None, None) => bail!("name a FOLDER or a --recipe"),
    };
    let settings = recipe.checked_settings(registry)?;
    let seed = args.seed.unwrap_or(settings.training.seed);
    let settings = settings.data;
    let data_dir = args.data.or(settings.dir.as_deref());
    let place = DataFolder::new(registry, &data_dir).read_options(read_options()?);
    let kind = if args.classes { "classes" } else { "sheet" };
    let output = || unused(PathBuf::from(format!("{name}.{kind}.png")), &HashSet::new());
    let output = args.output.clone().unwrap_or_else(output);
    let title = format!("{name}, seed {seed}");
    if args.classes {
        class_bars::draw(&place, &settings, (seed, args.epochs), registry, &title, &output)?;
    } else {
        let rows = rows(args, &place, &settings, seed, registry)?;
        write_page(&rows, 2 + args.epochs, &title, &output)?;
    }
    say::result(output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// One row for each image: as stored, for evaluation, and in each epoch.
fn rows(
    args: &ShowArgs,
    place: &DataFolder<'_>,
    settings: &DataSettings,
    seed: u64,
    registry: &Registry,
) -> Result<Vec<Shown>> {
    let split = if args.val { Split::Val } else { Split::Train };
    let mut remarks = Remarks::default();
    let dataset = place.open(settings, split, seed, &mut remarks)?;
    remarks.into_notes().iter().for_each(say::note);
    let (train, eval) =
        (settings.train.build(&registry.transforms)?, settings.eval.build(&registry.transforms)?);
    let loader =
        loader(dataset.clone(), settings, Split::Train, train.clone(), seed, &Device::Cpu)?;
    // Validation images are never mixed.
    let mut mixed = match split {
        Split::Train => MixedBatches::new(&dataset, settings, &train, seed, registry)?,
        _ => None,
    };

    let mut shown = Vec::new();
    let mut left = args.images.min(dataset.len());
    let mut seen = HashSet::new();
    for index in chosen(loader.population(), seed) {
        if left == 0 || !seen.insert(index) {
            continue;
        }
        let sample = match dataset.sample(index) {
            Err(error) if error.is_broken_image() => {
                say::note(format_args!("left out: {error}"));
                continue;
            }
            sample => sample?,
        };
        let class = classes_in_words(dataset.as_ref(), index, sample.label);
        let name = dataset.name(index);
        let array = eval.eval(&sample.image).with_context(|| format!("cannot transform {name}"))?;
        shown.push(Shown::image(sample.image.clone(), format!("{class}, as stored"))?);
        shown.push(Shown::image(eval.undo_normalize(&array)?, "for evaluation")?);
        for epoch in 0..args.epochs {
            let of_batch = mixed.as_mut().map(|mixed| mixed.image(epoch, index)).transpose()?;
            if let Some((array, shares)) = of_batch.flatten() {
                let shares: Vec<(&String, f64)> = dataset.classes().iter().zip(shares).collect();
                let caption = format!("epoch {}: {}", epoch + 1, label(&shares));
                shown.push(Shown::image(train.undo_normalize(&array)?, caption)?);
                continue;
            }
            // The loader's own random numbers, so that these are the images of a run with this seed.
            let rng = &mut loader.sample_rng(epoch, index);
            let array = train.apply(&sample.image, rng);
            let array = array.with_context(|| format!("cannot transform {name}"))?;
            let caption = format!("epoch {}", epoch + 1);
            shown.push(Shown::image(train.undo_normalize(&array)?, caption)?);
        }
        left -= 1;
    }
    Ok(shown)
}

/// The class of an image whose only label is `label`, or all of its classes.
pub(crate) fn classes_in_words(dataset: &dyn Dataset, index: usize, label: u32) -> String {
    let labels = match dataset.is_multi_label() {
        true => dataset.label_set(index),
        false => vec![label],
    };
    let classes: Vec<&str> =
        labels.iter().map(|&label| dataset.classes()[label as usize].as_str()).collect();
    if classes.is_empty() { "no label".to_owned() } else { classes.join(", ") }
}

/// Images of all classes in turn, chosen by the seed.
fn chosen(population: &Population, seed: u64) -> Vec<usize> {
    // The first epoch has as many images of each class. In it, the smallest classes may repeat theirs, so it is followed
    // by all images.
    let mut order = Balanced::new().order(population, seed, 0);
    // Images without a label are shown like those of one more class.
    let mut turns = vec![0; population.classes() + 1];
    order.sort_by_cached_key(|&index| {
        let first = population.labels_of(index).first();
        let class = first.map_or(population.classes(), |&label| label as usize);
        let turn = turns[class];
        turns[class] += 1;
        (turn, class)
    });
    order.extend(0..population.len());
    order
}

/// The label of an image in words. One that is mixed from several has the share of each class, the largest first.
fn label(shares: &[(&String, f64)]) -> String {
    let mut there: Vec<_> = shares.iter().filter(|(_, share)| *share >= LEAST_SHOWN).collect();
    there.sort_by(|a, b| b.1.total_cmp(&a.1));
    match there.as_slice() {
        [(class, _)] => (*class).clone(),
        several => {
            let share = |(class, share): &&(&String, f64)| format!("{class} {share:.2}");
            several.iter().map(share).collect::<Vec<_>>().join(" / ")
        }
    }
}

/// Smaller shares round to 0.
const LEAST_SHOWN: f64 = 0.005;
