//! `candle-vision report`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_vision::Registry;
use candle_vision::data::Split;
use candle_vision::train::RunFolder;
use candle_vision_recipe::data::{DataFolder, Remarks, loader};
use candle_vision_recipe::recorded;

use crate::args::ReportArgs;
use crate::read_options::read_options;
use crate::report::Run;
use crate::say;

pub(crate) fn run(args: &ReportArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let folder = RunFolder::open(&args.run)?;
    if !folder.best().is_file() {
        bail!(
            "`{}` has no best.safetensors to report on: no epoch of it was finished",
            args.run.display()
        )
    }
    let mut settings = recorded::settings(folder.path(), registry)?;
    settings.conv.apply();
    settings.cuda.apply();
    if let Some(moved) = &args.folder {
        settings.data.path = Some(moved.clone());
    }
    let data_dir = args.data.or(settings.data.dir.as_deref());
    let place = DataFolder::new(registry, &data_dir).read_options(read_options()?);
    recorded::check_data(&settings.data, &place)?;
    let mut remarks = Remarks::default();
    let mut open = |split, transform| -> Result<_> {
        let seed = settings.training.seed;
        let dataset = place.open(&settings.data, split, seed, &mut remarks)?;
        Ok(loader(dataset, &settings.data, split, transform, seed, &device)?)
    };
    let train = open(Split::Train, settings.data.train.build(&registry.transforms)?)?;
    let val = open(Split::Val, settings.data.eval.build(&registry.transforms)?)?;
    remarks.into_notes().iter().for_each(say::note);
    let history = folder.history()?;
    let run = Run {
        folder: &folder,
        settings: &settings,
        history: &history,
        train: &train,
        val: &val,
        device: &device,
        registry,
    };
    let path = run.write_report(|| true)?.context("the evaluation was stopped")?;
    say::result(path.display())?;
    Ok(ExitCode::SUCCESS)
}
