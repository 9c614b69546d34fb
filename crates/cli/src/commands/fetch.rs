//! `candle-vision fetch`.

use std::cell::RefCell;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use candle_vision_fetch::{Event, FetchOptions, Fetched, Item, Origin, catalog, is_present};
use candle_vision_recipe::{Registry, item_by_name, items_in_folder, with_other_versions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{FetchArgs, Origins};
use crate::remedy::with_option;
use crate::say;

pub(crate) fn run(args: &FetchArgs, registry: &Registry) -> Result<ExitCode> {
    let data_dir = &args.data.or(None);
    if args.names.is_empty() && args.origins.from.is_none() {
        list(data_dir)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Without names, everything that the folder holds is fetched.
    let everything = args.names.is_empty();
    let by_name = |name: &String| item_by_name(name, &registry.networks);
    let items: Vec<Item> = match &args.origins.from {
        Some(folder) if everything => items_in_folder(folder, &registry.networks),
        _ => args.names.iter().map(by_name).collect::<Result<_, _>>()?,
    };
    let mut brought = 0;
    for item in items {
        match bring(&item, data_dir, &args.origins) {
            Ok(fetched) => {
                brought += 1;
                say::result(told(&item, &fetched, data_dir))?;
            }
            Err(error) if everything => {
                say::note(format_args!("{}: left out: {}", item.name, error.one_line()));
            }
            Err(error) => {
                let error = with_other_versions(error, &item.name, &registry.networks);
                return Err(with_option(error));
            }
        }
    }
    ensure!(brought > 0, "nothing was fetched: the lines above say what was looked for");
    Ok(ExitCode::SUCCESS)
}

fn list(data_dir: &Path) -> Result<()> {
    for item in catalog() {
        let state = if is_present(item, data_dir) { "present" } else { "absent" };
        say::result(format_args!("{:<14} {state:<8} {}", item.name, item.about))?;
    }
    say::note("weights of other networks: `candle-vision models` lists them");
    Ok(())
}

fn told(item: &Item, fetched: &Fetched, data_dir: &Path) -> String {
    let origin = match fetched.origin {
        Origin::AlreadyPresent => "already there, verified",
        Origin::Counted => {
            "already there, counted but not verified (no checksums were kept when it came; remove the \
             folder and fetch again to have it verified),"
        }
        Origin::Local => "copied and verified",
        Origin::Network => "downloaded and verified",
    };
    format!("{}: {origin} in {}", item.name, data_dir.display())
}

/// Fetches an item, showing progress on stderr.
pub(crate) fn bring(
    item: &Item,
    data_dir: &Path,
    origins: &Origins,
) -> candle_vision_recipe::Result<Fetched> {
    let shown = RefCell::new(Shown::default());
    let show = |event: Event<'_>| shown.borrow_mut().event(event);
    let mut options = FetchOptions::new(data_dir);
    options.from.clone_from(&origins.from);
    options.offline = origins.offline;
    options.progress = &show;
    let fetched = candle_vision_recipe::bring(item, &options);
    shown.borrow_mut().clear_bar();
    fetched
}

/// The state of the progress display of a fetch.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    /// Addresses that failed. They are reported once another one succeeds. If none does, the error names
    /// them all.
    passed_over: Vec<String>,
}

impl Shown {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { file, total, resumed, .. } => {
                for line in self.passed_over.drain(..) {
                    say::note(line);
                }
                self.start_bar(file, resumed, total);
            }
            Event::Advanced { done, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done);
                }
            }
            Event::Finished { .. } => self.clear_bar(),
            Event::Failed { url, cause, .. } => {
                self.clear_bar();
                self.passed_over.push(format!("skipped {url}: {cause}"));
            }
            Event::Incomplete { item, cause } => {
                say::note(format_args!("{item} is fetched anew: {cause}"));
            }
            Event::Waiting { folder } => say::note(format_args!(
                "waiting for another process that fetches into {}",
                folder.display()
            )),
            Event::Repaired { path } => {
                say::note(format_args!("repaired {}", path.display()));
            }
            Event::Unpacking { archive } => {
                say::note(format_args!("unpacking {}", archive.display()));
            }
            _ => {}
        }
    }

    fn start_bar(&mut self, file: &str, resumed: u64, total: Option<u64>) {
        self.clear_bar();
        let bar = ProgressBar::new(total.unwrap_or(0));
        let template = "{msg:24} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(file.to_owned());
        bar.set_position(resumed);
        bar.reset_eta();
        if bar.is_hidden() {
            say::note(format_args!("fetching {file}"));
        }
        self.bar = Some(bar);
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
