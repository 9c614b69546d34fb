//! `candle-vision inspect activations`.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use candle_vision::data::Image;
use candle_vision::data::transforms::{Compose, Interpolation, ToTensor, functional};
use candle_vision::explain::inspection::{Elementary, Filter, elementary};
use candle_vision::report::shades;
use candle_vision::{Registry, in_channels, open_image};

use super::{Shown, image_name, network, write_page};
use crate::args::ActivationsArgs;
use crate::read_options::{read_options, with_remedy};
use crate::say;

/// Longest side of the processed image in pixels. The page shows no more.
const LONGEST: usize = 400;

pub(crate) fn run(args: &ActivationsArgs, registry: &Registry) -> Result<ExitCode> {
    ensure!(
        args.network.is_named() || args.layer.is_none(),
        "`--layer` names a layer of a network: give its --checkpoint or --model too"
    );
    let filter: Filter = args.kernel.parse()?;
    let options = read_options()?.with_exif_orientation(true);
    let image = open_image(&args.image, &options).map_err(with_remedy)?;
    show_elementary(args, &image, &filter)?;
    if args.network.is_named() {
        let device = args.device.open()?;
        let classifier = args.network.open(&args.data, registry, &device)?.classifier;
        network::show_maps(args, &classifier)?;
        network::show_kernels(args, &classifier)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_elementary(args: &ActivationsArgs, image: &Image, filter: &Filter) -> Result<()> {
    let small = smaller(image)?;
    let array = Compose::new().with(ToTensor).eval(&small)?;
    let layers = elementary(&array.to_batch(&Device::Cpu)?, filter)
        .with_context(|| format!("cannot look at `{}`", args.image.display()))?;
    let mut shown = vec![Shown::image(small, "image")?];
    for layer in &layers {
        let (low, high) = layer.range();
        let name = match layer.name {
            "convolution" => format!("convolution {}", args.kernel),
            name => name.to_owned(),
        };
        let zeros = 100.0 * layer.zeros();
        let caption = format!("{name} {low:.1}\u{a0}to\u{a0}{high:.1}");
        say::result(format_args!(
            "{name}: {}x{}, {low:.3} to {high:.3}, {zeros:.1} % zeros",
            layer.height, layer.width
        ))?;
        let (width, height) = (layer.width, layer.height);
        shown.push(Shown { width, height, pixels: pixels(layer), caption });
    }
    let output = args.output.clone().unwrap_or_else(|| image_name(&args.image, "activations"));
    let file = args.image.file_name().unwrap_or_default().to_string_lossy();
    write_page(&shown, 3, &format!("What layers make of {file}"), &output)?;
    say::result(output.display())?;
    Ok(())
}

/// Values as pixels, with 0 in the middle of the range, except where values begin at 0 (ReLU, sigmoid).
fn pixels(layer: &Elementary) -> Vec<u8> {
    let (low, high) = layer.range();
    let range = match layer.name {
        "ReLU" => (0.0, high),
        "sigmoid" => (0.0, 1.0),
        "convolution" => {
            // Strong edges are few. Without clipping they would leave everything else grey.
            let most = 0.25 * low.abs().max(high.abs());
            (-most, most)
        }
        _ => (low, high),
    };
    shades(&layer.values, range)
}

fn smaller(image: &Image) -> Result<Image> {
    let image = in_channels(image.clone(), 3)?;
    let (width, height) = (image.width(), image.height());
    let longest = width.max(height);
    if longest <= LONGEST {
        return Ok(image);
    }
    let scaled = |side: usize| (side * LONGEST / longest).max(2);
    Ok(functional::resize(&image, scaled(height), scaled(width), Interpolation::Bilinear)?)
}
