//! Image folders: how they are split and which files are not used, told to the user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use candle_vision::data::{Dataset, FolderLayout, FolderSplit, ImageFolder, LeftOut, Split};
use candle_vision::train::CheckpointMetadata;

use crate::recorded::near;
use crate::say;
use crate::settings::DataSettings;
use crate::sources::read_options;

/// What is to be said about the folders that a command opens, each thing once.
#[derive(Default)]
pub(crate) struct Remarks {
    /// By folder: two splits may come from one.
    left_out: BTreeMap<PathBuf, LeftOut>,
    lines: Vec<String>,
}

impl Remarks {
    fn note(&mut self, folder: &ImageFolder) {
        self.left_out.insert(folder.folder().to_path_buf(), folder.left_out().clone());
        for line in folder.remarks() {
            if !self.lines.contains(line) {
                self.lines.push(line.clone());
            }
        }
    }

    /// Says it, what was left out in a single line.
    pub(crate) fn tell(self) {
        let mut left_out = LeftOut::default();
        self.left_out.values().for_each(|of_one| left_out.add(of_one));
        if !left_out.is_empty() {
            say::note(format_args!("not used: {left_out}"));
        }
        self.lines.iter().for_each(say::note);
    }
}

/// Opens one split of an image folder.
pub(crate) fn open(
    path: &Path,
    settings: &DataSettings,
    split: Split,
    remarks: &mut Remarks,
) -> Result<Arc<dyn Dataset>> {
    // The split of a single folder is part of the data, not of the run: another seed for the run
    // must not move images between training and validation.
    let one = FolderSplit { val: settings.val_fraction, test: 0.0, seed: 0 };
    let options = read_options(settings.exif_orientation, settings.max_pixels)?;
    let folder = ImageFolder::open(near(path), split, one)?.with_read_options(options);
    remarks.note(&folder);
    Ok(Arc::new(folder))
}

/// Fails if a folder's layout is none to train on.
pub(crate) fn check(path: &Path) -> Result<()> {
    FolderLayout::find(near(path))?;
    Ok(())
}

/// Says how a folder is split, in one line.
pub(crate) fn tell_layout(path: &Path, settings: &DataSettings) -> Result<()> {
    let layout = FolderLayout::find(near(path))?;
    let kept = format!("{} % of", 100.0 * settings.val_fraction);
    let mut line = format!("splits of {layout}");
    if !layout.is_split() {
        line += &format!("; {kept} each are kept for validation");
    } else if layout.split(Split::Val).is_none() {
        line += &format!("; {kept} the images to train on are kept for validation");
    }
    if layout.split(Split::Test).is_some() {
        line += "; the test images are measured once, after training";
    }
    say::note(line);
    Ok(())
}

/// Whether a folder has images for a test after training.
pub(crate) fn has_test(path: &Path) -> Result<bool> {
    Ok(FolderLayout::find(near(path))?.split(Split::Test).is_some())
}

/// The images of a folder to measure the network of a checkpoint on: those to validate on where it
/// is split, else those to test on, else those to train on.
pub(crate) fn to_measure(
    path: &Path,
    metadata: &CheckpointMetadata,
    remarks: &mut Remarks,
) -> Result<Arc<dyn Dataset>> {
    let layout = FolderLayout::find(path);
    let split = layout.as_ref().ok().and_then(|layout| {
        [Split::Val, Split::Test, Split::Train].into_iter().find_map(|split| layout.split(split))
    });
    if let Some(split) = split {
        say::note(format_args!("measured on `{}`", split.display()));
    }
    let folder = match (ImageFolder::with_classes(split.unwrap_or(path), &metadata.classes), layout)
    {
        (Ok(folder), _) => folder,
        // One class alone may well be measured, but where that fails too the folder is at fault.
        (Err(_), Err(layout)) => return Err(layout.into()),
        (Err(error), Ok(_)) => {
            let remedy = "name a folder with the checkpoint's classes with --folder DIR";
            return Err(anyhow::Error::from(error).context(remedy));
        }
    };
    remarks.note(&folder);
    let options = read_options(metadata.exif_orientation, None)?;
    Ok(Arc::new(folder.with_read_options(options)))
}
