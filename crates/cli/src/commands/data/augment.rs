//! `candle-vision data augment`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_vision::Registry;
use candle_vision::data::transforms::{Compose, ComposeDescription, ToTensor};
use candle_vision::data::{Image, random};
use clap::Args;
use serde::Deserialize;

use crate::args::at_least_one;
use crate::commands::inspect::{Shown, write_page};
use crate::output_names::unused;
use crate::read_options::read_options;
use crate::say;

/// Arguments of `data augment`.
#[derive(Debug, Args)]
pub(crate) struct AugmentArgs {
    /// Image file
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// A transform as recipes write it, for instance '{ op = "random_affine", degrees = 30 }'. It makes one row of the
    /// contact sheet
    #[arg(value_name = "TRANSFORM", required_unless_present = "file")]
    transforms: Vec<String>,
    /// TOML file with a list `transforms = [..]`: one row for each
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Number of results in a row
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    draws: usize,
    /// Seed of the random transforms
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Where to write the contact sheet [default: NAME.augment.png in this folder; no file is overwritten there]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    transforms: ComposeDescription,
}

pub(crate) fn run(args: &AugmentArgs, registry: &Registry) -> Result<ExitCode> {
    let image = Image::open_with(&args.image, &read_options()?)?;
    let mut lists = Vec::new();
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        lists.push((path.display().to_string(), text));
    }
    let written = args.transforms.iter();
    lists.extend(written.map(|text| (format!("`{text}`"), format!("transforms = [{text}]"))));

    let mut shown = Vec::new();
    for (name, text) in lists {
        let list: List = toml::from_str(&text).map_err(|error| {
            let reason = error.message().lines().next().unwrap_or_default();
            let example = r#"{ op = "random_affine", degrees = 30 }"#;
            anyhow::anyhow!(
                "{name} is no transform as recipes write it, such as {example}: {reason}"
            )
        })?;
        for step in list.transforms.steps() {
            let transform = registry.transforms.get(&step.name)?;
            let transform = transform.build_among(step, &registry.transforms)?;
            let compose = Compose::new().with_shared(transform).with(ToTensor);
            compose.validate()?;
            for draw in 0..args.draws {
                let rng = &mut random::generator(args.seed.wrapping_add(draw as u64));
                let changed = compose.apply_to_image(&image, rng)?;
                let caption = if draw == 0 { step.name.clone() } else { String::new() };
                shown.push(Shown::image(changed, caption)?);
            }
        }
    }
    if shown.is_empty() {
        bail!("there is no transform to show; name one, or list some in --file");
    }
    let output = args.output.clone().unwrap_or_else(|| {
        let mut name = args.image.file_stem().unwrap_or_default().to_os_string();
        name.push(".augment.png");
        unused(name.into(), &HashSet::new())
    });
    write_page(&shown, args.draws, &args.image.display().to_string(), &output)?;
    say::result(output.display())?;
    Ok(ExitCode::SUCCESS)
}
