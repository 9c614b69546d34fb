//! Pages of a network's feature maps and first kernels.

use anyhow::Result;
use candle_vision::Classifier;
use candle_vision::explain::inspection::{Kernels, feature_maps, first_kernels};
use candle_vision::report::{Colormap, painted, shades};

use super::{Shown, image_name, write_page};
use crate::args::ActivationsArgs;
use crate::batches::input;
use crate::say;

/// Largest number of maps or kernels on a page.
const MOST: usize = 64;
const COLUMNS: usize = 8;

pub(super) fn show_maps(args: &ActivationsArgs, classifier: &Classifier) -> Result<()> {
    let (_, input) = input(classifier, &args.image)?;
    let found = feature_maps(classifier.model(), &input, args.layer.as_deref())?;
    let (width, height, all) = (found.width, found.height, found.maps.len());
    let map = |(channel, map): (usize, &Vec<f32>)| Shown {
        width,
        height,
        pixels: painted(map, Colormap::Viridis),
        caption: format!("channel {channel}"),
    };
    let shown: Vec<Shown> = found.maps.iter().take(MOST).enumerate().map(map).collect();
    let output = image_name(&args.image, &found.layer);
    let title = format!("{}: {}", found.layer, of(shown.len(), all, "feature maps"));
    write_page(&shown, COLUMNS, &title, &output)?;
    say::result(format_args!("{}: {all} maps of {height}x{width}", found.layer))?;
    say::result(output.display())?;
    Ok(())
}

pub(super) fn show_kernels(args: &ActivationsArgs, classifier: &Classifier) -> Result<()> {
    let Some(found) = first_kernels(classifier.model())? else {
        say::result("the network has no convolution whose kernels could be shown")?;
        return Ok(());
    };
    let (width, height, all) = (found.width, found.height, found.kernels.len());
    let largest = found.kernels.iter().map(|kernel| most(kernel)).fold(0.0, f32::max);
    let kernel = |(channel, kernel): (usize, &Vec<f32>)| Shown {
        width,
        height,
        pixels: pixels(kernel, &found, largest),
        caption: format!("channel {channel}"),
    };
    let shown: Vec<Shown> = found.kernels.iter().take(MOST).enumerate().map(kernel).collect();
    let output = image_name(&args.image, "kernels");
    let title = format!("{}: {}", found.layer, of(shown.len(), all, "kernels"));
    write_page(&shown, COLUMNS, &title, &output)?;
    let channels = found.in_channels;
    say::result(format_args!("{}: {all} kernels of {height}x{width}x{channels}", found.layer))?;
    say::result(output.display())?;
    Ok(())
}

/// A kernel as pixels. With three input channels they are its red, green and blue, with 0 in the middle.
/// With any other number of channels they show the sum over the channels.
fn pixels(kernel: &[f32], of: &Kernels, largest: f32) -> Vec<u8> {
    if of.in_channels == 3 {
        // Each kernel has its own scale. But a dead kernel must not look alive.
        let most = most(kernel).max(1e-3 * largest);
        return shades(kernel, (-most, most));
    }
    let sums = kernel.chunks(of.in_channels).map(|channels| channels.iter().sum());
    painted(&sums.collect::<Vec<f32>>(), Colormap::Viridis)
}

fn most(kernel: &[f32]) -> f32 {
    kernel.iter().fold(0.0, |most, value| most.max(value.abs()))
}

fn of(shown: usize, all: usize, what: &str) -> String {
    if shown == all { format!("{all} {what}") } else { format!("{shown} of {all} {what}") }
}
