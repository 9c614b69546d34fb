//! `candle-vision report`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use candle_vision::data::Split;
use candle_vision::train::RunFolder;

use crate::args::ReportArgs;
use crate::image_folders::Remarks;
use crate::report::Run;
use crate::{recorded, say, sources};

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let device = args.device.open()?;
    let folder = RunFolder::open(&args.run)?;
    if !folder.best().is_file() {
        bail!(
            "`{}` has no best.safetensors to report on: no epoch of it was finished",
            args.run.display()
        )
    }
    let mut settings = recorded::settings(folder.path())?;
    settings.conv.apply();
    if let Some(moved) = &args.folder {
        settings.data.path = Some(moved.clone());
    }
    let data_dir = args.data.or(settings.data.dir.as_deref());
    recorded::check_data(&settings.data, &data_dir)?;
    let mut remarks = Remarks::default();
    let mut loader = |split| {
        let seed = settings.training.seed;
        let dataset = sources::open(&settings.data, &data_dir, split, seed, &mut remarks)?;
        sources::loader(dataset, &settings.data, split, seed, &device)
    };
    let (train, val) = (loader(Split::Train)?, loader(Split::Val)?);
    remarks.tell();
    let history = folder.history()?;
    let run = Run {
        folder: &folder,
        settings: &settings,
        history: &history,
        train: &train,
        val: &val,
        device: &device,
    };
    let path = run.write_report(|| true)?.context("the evaluation was stopped")?;
    say::result(path.display())?;
    Ok(ExitCode::SUCCESS)
}
