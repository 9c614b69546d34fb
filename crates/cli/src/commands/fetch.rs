//! `candle-vision fetch`.

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::models::weights;
use candle_vision_fetch::{
    Conversion, Event, FetchOptions, Fetched, Item, Origin, catalog, fetch, find, is_present,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::FetchArgs;

pub(crate) fn run(args: &FetchArgs) -> Result<ExitCode> {
    if args.names.is_empty() && args.from.is_none() {
        list(&args.data.data);
        return Ok(ExitCode::SUCCESS);
    }
    // Without names, a folder gives all it has.
    let everything = args.names.is_empty();
    let items: Vec<&Item> = if everything {
        catalog().iter().collect()
    } else {
        args.names.iter().map(|name| find(name)).collect::<Result<_, _>>()?
    };
    let mut brought = 0;
    for item in items {
        match bring(item, &args.data.data, args.from.as_deref(), false) {
            Ok(fetched) => {
                brought += 1;
                println!("{}", told(item, &fetched, &args.data.data));
            }
            Err(error) if everything => eprintln!("{}: left out: {error:#}", item.name),
            Err(error) => return Err(error),
        }
    }
    anyhow::ensure!(brought > 0, "nothing was fetched");
    Ok(ExitCode::SUCCESS)
}

fn list(data_dir: &Path) {
    for item in catalog() {
        let state = if is_present(item, data_dir) { "present" } else { "absent" };
        println!("{:<14} {state:<8} {}", item.name, item.about);
    }
}

fn told(item: &Item, fetched: &Fetched, data_dir: &Path) -> String {
    let origin = match fetched.origin {
        Origin::AlreadyPresent => "already there, verified",
        Origin::Local => "copied and verified",
        Origin::Network => "downloaded and verified",
    };
    format!("{}: {origin} in {}", item.name, data_dir.display())
}

/// Fetches an item, showing progress on stderr, and converts a PyTorch pickle to safetensors.
pub(crate) fn bring(
    item: &Item,
    data_dir: &Path,
    from: Option<&Path>,
    offline: bool,
) -> Result<Fetched> {
    let bar = Cell::new(None);
    let show = |event: Event<'_>| show(&bar, event);
    let mut options = FetchOptions::new(data_dir);
    options.from = from.map(Path::to_path_buf);
    options.offline = offline;
    options.progress = &show;
    let fetched = fetch(item, &options);
    if let Some(bar) = bar.take() {
        ProgressBar::finish_and_clear(&bar);
    }
    let fetched = fetched?;
    if let Some(conversion) = &fetched.conversion {
        convert(conversion)?;
    }
    Ok(fetched)
}

fn convert(conversion: &Conversion) -> Result<()> {
    let tensors = weights::read(&conversion.pickle)?;
    weights::write(tensors, &conversion.safetensors)?;
    std::fs::remove_file(&conversion.pickle)
        .with_context(|| format!("cannot remove `{}`", conversion.pickle.display()))
}

fn show(bar: &Cell<Option<ProgressBar>>, event: Event<'_>) {
    match event {
        Event::Started { file, total, .. } => {
            let begun = ProgressBar::new(total.unwrap_or(0));
            let template = "{msg:24} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                begun.set_style(style);
            }
            begun.set_message(file.to_owned());
            if begun.is_hidden() {
                eprintln!("fetching {file}");
            }
            bar.set(Some(begun));
        }
        Event::Advanced { done, .. } => {
            if let Some(shown) = bar.take() {
                shown.set_position(done);
                bar.set(Some(shown));
            }
        }
        Event::Finished { .. } => {
            if let Some(shown) = bar.take() {
                shown.finish_and_clear();
            }
        }
        Event::Waiting { folder } => {
            eprintln!("waiting for another process that fetches into {}", folder.display());
        }
        Event::Unpacking { archive } => eprintln!("unpacking {}", archive.display()),
        _ => {}
    }
}
