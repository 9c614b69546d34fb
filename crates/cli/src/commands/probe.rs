//! `candle-vision probe`: how good a frozen network's features are on a folder of images.

use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::data::{DataLoader, LoaderConfig, OpenRequest, Split};
use candle_vision::train::LinearProbe;
use candle_vision::{ProbeConfig, Registry, head_inputs, probe};
use candle_vision_recipe::data::{Remarks, loader_on};

use crate::args::ProbeArgs;
use crate::progress::Count;
use crate::read_options::read_options;
use crate::say;

pub(crate) fn run(args: &ProbeArgs, registry: &Registry) -> Result<ExitCode> {
    let device = args.device.open()?;
    let network = args.network.open_backbone(&args.data, registry, &device)?;
    let classifier = &network.classifier;
    let mut remarks = Remarks::default();
    let mut loader = |split| -> Result<DataLoader> {
        let read = read_options()?.with_exif_orientation(classifier.metadata().exif_orientation);
        let request = OpenRequest::new(args.data.or(None), split)
            .path(&args.folder)
            .val_fraction(args.val_fraction)
            .read(read);
        let opened = registry.data_sets.get("folder")?.open(&request)?;
        remarks.note(&opened);
        let config = LoaderConfig::new(args.batch_size).skip_broken(args.skip_broken);
        let transform = classifier.preprocessing().clone();
        Ok(loader_on(&device, opened.dataset, transform, config)?)
    };
    let (train, val) = (loader(Split::Train)?, loader(Split::Val)?);
    remarks.into_notes().iter().for_each(say::note);
    let features = |loader: &DataLoader, what| {
        let mut count = Count::new(what);
        head_inputs(classifier.model(), loader, |done, all| count.show(done, all))
    };
    let of_train = features(&train, "features to train on")?;
    let of_val = features(&val, "features to validate on")?;
    say::skipped([&train, &val]);
    let linear = LinearProbe::new().epochs(args.epochs).lr(args.lr).seed(args.seed);
    let config = ProbeConfig::new().k(args.k).linear(linear);
    let probed = probe(&of_train, &of_val, &config).context("the features cannot be judged")?;
    if args.json {
        say::result(serde_json::json!({
            "network": classifier.metadata().model.architecture,
            "weights": network.file.display().to_string(),
            "features": probed.features,
            "classes": train.dataset().classes().len(),
            "train_images": probed.train_images,
            "val_images": probed.val_images,
            "linear_accuracy": probed.linear.val_accuracy,
            "linear_train_accuracy": probed.linear.train_accuracy,
            "k": args.k,
            "knn_accuracy": probed.knn_accuracy,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say::result(format_args!(
        "{} features of {}, {} classes, {} images to train on, {} to validate on",
        probed.features,
        classifier.metadata().model.architecture,
        train.dataset().classes().len(),
        probed.train_images,
        probed.val_images
    ))?;
    say::result(format_args!(
        "linear probe  {:6.2} %  (on the images to train on {:.2} %)",
        100.0 * probed.linear.val_accuracy,
        100.0 * probed.linear.train_accuracy
    ))?;
    say::result(format_args!(
        "{:<12}  {:6.2} %",
        format!("{}-NN", args.k),
        100.0 * probed.knn_accuracy
    ))?;
    Ok(ExitCode::SUCCESS)
}
