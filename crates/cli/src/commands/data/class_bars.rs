//! How often an epoch shows each class, as bars.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use candle_vision::Registry;
use candle_vision::data::Split;
use candle_vision::report::{BarColumn, bars_png};
use candle_vision_recipe::DataSettings;
use candle_vision_recipe::data::{DataFolder, Remarks, loader};

use crate::say;

/// With more classes, the most frequent and the rarest are drawn.
const MOST: usize = 60;

/// Draws how many images each class has, and how often the recipe's sampler shows it in an epoch, on average of `epochs`.
pub(super) fn draw(
    place: &DataFolder<'_>,
    settings: &DataSettings,
    (seed, epochs): (u64, usize),
    registry: &Registry,
    title: &str,
    output: &Path,
) -> Result<()> {
    let mut remarks = Remarks::default();
    let dataset = place.open(settings, Split::Train, seed, &mut remarks)?;
    remarks.into_notes().iter().for_each(say::note);
    let transform = settings.train.build(&registry.transforms)?;
    let mut loader =
        loader(dataset.clone(), settings, Split::Train, transform, seed, &Device::Cpu)?;
    if let Some(sampler) = &settings.sampler {
        loader = loader.with_sampler(registry.samplers.build(sampler)?)?;
    }
    let population = loader.population();
    let images = population.class_counts();
    let mut shown = vec![0.0; images.len()];
    for epoch in 0..epochs {
        let counts = population.counts_in(&loader.order(epoch));
        shown.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count as f64 / epochs as f64);
    }
    let mut drawn: Vec<usize> = (0..images.len()).collect();
    if drawn.len() > MOST {
        drawn.sort_by_key(|&class| (std::cmp::Reverse(images[class]), class));
        drawn.drain(MOST / 2..images.len() - MOST / 2);
        let of = images.len();
        say::note(format_args!("of {of} classes, the {} largest and smallest are drawn", MOST / 2));
    }
    let names: Vec<&str> = drawn.iter().map(|&class| dataset.classes()[class].as_str()).collect();
    let sampler = format!("in an epoch of `{}`", loader.sampler().describe().name);
    // Both columns count images.
    let most = drawn.iter().map(|&class| shown[class].max(images[class] as f64));
    let reach = most.reduce(f64::max);
    let describe = |value: f64| format!("{value:.0}");
    let columns = [
        BarColumn {
            title: "images with the class",
            values: drawn.iter().map(|&class| images[class] as f64).collect(),
            reach,
            describe,
        },
        BarColumn {
            title: &sampler,
            values: drawn.iter().map(|&class| shown[class]).collect(),
            reach,
            describe,
        },
    ];
    bars_png(&names, &columns, title, output)?;
    Ok(())
}
