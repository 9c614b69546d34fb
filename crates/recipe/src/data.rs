//! The data of a run: opened, split, loaded, told of.

mod data_folder;
mod remarks;

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use candle_vision::data::transforms::Compose;
use candle_vision::data::{
    DataLoader, Dataset, FolderLayout, ImageFolder, LoaderConfig, Opened, ReadOptions, Split,
};
use candle_vision::models::{imagenet_classes, imagenet_synsets};
use candle_vision::train::{CheckpointMetadata, DeviceUpload};

use crate::{DataSettings, Result};
pub use data_folder::DataFolder;
pub use remarks::Remarks;

/// The loader of one split: its batches lie on `device`. Where the settings say `auto`, a batch is one image.
///
/// # Errors
/// As [`DataLoader::new`].
pub fn loader(
    dataset: Arc<dyn Dataset>,
    settings: &DataSettings,
    split: Split,
    transform: Compose,
    seed: u64,
    device: &Device,
) -> Result<DataLoader> {
    let train = split == Split::Train;
    let config = LoaderConfig::new(settings.batch_size.images().unwrap_or(1))
        .shuffle(train)
        .drop_last(train && settings.drop_last)
        .workers(settings.workers)
        .prefetch(2 * settings.workers.max(1))
        .seed(seed)
        .skip_broken(settings.skip_broken);
    loader_on(device, dataset, transform, config)
}

/// A loader whose batches lie on `device`, brought there in the way that is fastest for it.
///
/// # Errors
/// As [`DataLoader::new`].
pub fn loader_on(
    device: &Device,
    dataset: Arc<dyn Dataset>,
    transform: Compose,
    config: LoaderConfig,
) -> Result<DataLoader> {
    let loader = DataLoader::new(dataset, transform, config, device.clone())?;
    // The CPU takes what the loader's threads have made as it is.
    let upload = device.is_cuda().then(|| Arc::new(DeviceUpload::new(device.clone())));
    Ok(match upload {
        Some(upload) => loader.with_upload(upload),
        None => loader,
    })
}

/// The images of a folder to measure the network of a checkpoint on: those to validate on where it
/// is split, else those to test on, else those to train on. Where they lie in no class folders, `list` names their
/// classes, or a list of a usual name that lies there ([`ImageFolder::with_list`]).
///
/// # Errors
/// If the folder is no image folder, or has other classes than the checkpoint, or if the list does not fit it.
pub fn to_measure(
    path: &Path,
    list: Option<&Path>,
    metadata: &CheckpointMetadata,
    read: &ReadOptions,
    remarks: &mut Remarks,
) -> Result<Arc<dyn Dataset>> {
    let layout = FolderLayout::find_with_list(path, list);
    let split = layout.as_ref().ok().and_then(|layout| {
        let folder = |split| Some((layout.split(split)?, layout.list(split)));
        [Split::Val, Split::Test, Split::Train].into_iter().find_map(folder)
    });
    if let Some((folder, _)) = split {
        remarks.say(format!("measured on `{}`", folder.display()));
    }
    let of_whole = list.map(Path::to_path_buf).or_else(|| ImageFolder::find_list(path));
    let folder = match (split, of_whole) {
        (Some((folder, Some(list))), _) => listed(folder, list, &metadata.classes, remarks)?,
        (None, Some(list)) => listed(path, &list, &metadata.classes, remarks)?,
        (split, _) => {
            let folder = split.map_or(path, |(folder, _)| folder);
            match (of_classes(folder, &metadata.classes), layout) {
                (Ok(folder), _) => folder,
                // One class alone may well be measured, but where that fails too the folder is at fault.
                (Err(_), Err(layout)) => return Err(layout.into()),
                (Err(error), Ok(_)) => {
                    let remedy = "name a folder with the network's classes with --folder DIR";
                    return Err(crate::Error::from(error).at(remedy));
                }
            }
        }
    };
    let read = read.with_exif_orientation(metadata.exif_orientation);
    let opened = Opened::folder(folder.with_read_options(read));
    remarks.note(&opened);
    Ok(opened.dataset)
}

/// The images of a folder without class folders, by a list. For ImageNet's classes it may have their WordNet
/// identifiers.
fn listed(
    folder: &Path,
    list: &Path,
    classes: &[String],
    remarks: &mut Remarks,
) -> Result<ImageFolder> {
    remarks.say(format!("classes by the list `{}`", list.display()));
    let ids = identifiers(classes);
    Ok(ImageFolder::with_list(folder, list, classes, &ids)?)
}

/// The images of a folder with the classes of a network. For ImageNet's classes the class folders may be called by
/// their WordNet identifiers (`n02206856`), as in ImageNet's own layout.
fn of_classes(folder: &Path, classes: &[String]) -> candle_vision::data::Result<ImageFolder> {
    ImageFolder::with_class_ids(folder, classes, &identifiers(classes))
}

/// WordNet's identifiers of ImageNet's classes; none of others.
fn identifiers(classes: &[String]) -> Arc<[String]> {
    match *classes == *imagenet_classes() {
        true => imagenet_synsets(),
        false => Arc::default(),
    }
}
