//! `candle-vision inspect sample`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::Registry;
use candle_vision::data::Split;
use candle_vision_recipe::data::{DataFolder, Remarks, loader};
use candle_vision_recipe::{DataSettings, Recipe};
use serde::Deserialize;

use super::{Shown, write_page};
use crate::args::SampleArgs;
use crate::commands::data::show::classes_in_words;
use crate::output_names::unused;
use crate::read_options::read_options;
use crate::report::short;
use crate::say;

const COLUMNS: usize = 6;

pub(crate) fn run(args: &SampleArgs, registry: &Registry) -> Result<ExitCode> {
    let (settings, seed) = settings(args, registry)?;
    let split = if args.val { Split::Val } else { Split::Train };
    let data_dir = args.data.or(settings.dir.as_deref());
    let mut remarks = Remarks::default();
    let place = DataFolder::new(registry, &data_dir).read_options(read_options()?);
    let dataset = place.open(&settings, split, seed, &mut remarks)?;
    remarks.into_notes().iter().for_each(say::note);
    let sample = dataset.sample(args.index)?;
    let name = dataset.name(args.index);
    let class = classes_in_words(dataset.as_ref(), args.index, sample.label);
    let build = |description: &candle_vision::data::transforms::ComposeDescription| {
        description.build(&registry.transforms)
    };
    let (train, eval) = (build(&settings.train)?, build(&settings.eval)?);
    let loader =
        loader(dataset.clone(), &settings, Split::Train, train.clone(), seed, &Device::Cpu)?;

    let array = eval.eval(&sample.image)?;
    let mut shown = vec![
        Shown::image(sample.image.clone(), "as stored")?,
        Shown::image(eval.undo_normalize(&array)?, "for evaluation")?,
    ];
    for epoch in 0..args.count {
        // The loader's own random numbers, so that these are the images of a run with this seed.
        let array = train.apply(&sample.image, &mut loader.sample_rng(epoch, args.index))?;
        let caption = format!("in epoch {}", epoch + 1);
        shown.push(Shown::image(train.undo_normalize(&array)?, caption)?);
    }
    let output = args.output.clone().unwrap_or_else(|| {
        let set = &settings.source;
        let name = format!("{set}-{}-{}.sample.png", split.name(), args.index);
        unused(PathBuf::from(name), &HashSet::new())
    });
    let title = format!("{class}: {}", short(&name));
    write_page(&shown, COLUMNS, &title, &output)?;

    if dataset.is_multi_label() {
        say::result(format_args!("{name}: {class}"))?;
    } else {
        say::result(format_args!("{name}: class {} ({class})", sample.label))?;
    }
    let (width, height) = (sample.image.width(), sample.image.height());
    say::result(format_args!("stored: {height}x{width}, {} channels", sample.image.channels()))?;
    let [height, width, channels] = array.shape();
    let (low, high) = range(array.values());
    say::result(format_args!(
        "the network gets: {height}x{width}, {channels} channels, {low:.3} to {high:.3}"
    ))?;
    if !train.is_random() {
        say::result("the recipe changes nothing at random: it looks alike in every epoch")?;
    }
    say::result(output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The data settings of the recipe that was named, or the usual ones of the data set.
fn settings(args: &SampleArgs, registry: &Registry) -> Result<(DataSettings, u64)> {
    if let Some(recipe) = &args.recipe {
        let settings = Recipe::read(recipe)?.checked_settings(registry)?;
        let seed = args.seed.unwrap_or(settings.training.seed);
        return Ok((settings.data, seed));
    }
    let name = args.dataset.as_deref().context("name a --dataset or a --recipe")?;
    let mut standard: toml::Table = toml::from_str(include_str!("../../standard_data.toml"))
        .context("the built-in settings are damaged")?;
    registry.data_sets.get(name)?;
    // A data set without a usual augmentation is shown without augmentation.
    let plain = || {
        let table = format!(
            "source = \"{name}\"\nbatch_size = 32\ntrain = [{{ op = \"to_tensor\" }}]\n\
             eval = [{{ op = \"to_tensor\" }}]"
        );
        Ok(toml::Value::Table(toml::from_str(&table).context("the built-in settings are damaged")?))
    };
    let found = standard.remove(name).map_or_else(plain, Ok::<_, anyhow::Error>)?;
    Ok((DataSettings::deserialize(found)?, args.seed.unwrap_or(0)))
}

fn range(values: &[f32]) -> (f32, f32) {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    (low, values.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_settings_are_whole() -> Result<()> {
        let standard: toml::Table = toml::from_str(include_str!("../../standard_data.toml"))?;
        assert_eq!(standard.len(), 4);
        for (name, settings) in standard {
            let settings = DataSettings::deserialize(settings)?;
            assert_eq!(settings.source, name);
            let transforms = Registry::standard().transforms;
            assert!(settings.train.build(&transforms)?.is_random());
            assert!(!settings.eval.build(&transforms)?.is_random());
        }
        Ok(())
    }
}
