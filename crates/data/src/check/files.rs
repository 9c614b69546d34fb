//! Reads every file, on several threads, and keeps what the checks need of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use serde::Serialize;

use super::hash::{PerceptualHash, Thumbnail};
use super::scan::Found;
use super::{CheckOptions, as_text};
use crate::dataset::{Fingerprint, Split};
use crate::error::{Error, Result};
use crate::image::{Image, ImageDetails};
use crate::statistics::Sums;

/// A file of a folder that was checked.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckedFile {
    /// Its path below the folder.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// The split that its folder belongs to, if there are folders for splits.
    pub split: Option<Split>,
    /// Its class. `None` if it lies in no class folder.
    pub class: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it holds.
    #[serde(flatten)]
    pub state: FileState,
}

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum FileState {
    /// An image that can be read.
    Image(Box<ImageFacts>),
    /// What counts as an image, but cannot be read. Training stops there, or leaves it out with `skip_broken`.
    Broken {
        /// What is wrong with it.
        reason: String,
    },
    /// A file that training leaves out, although it looks like an image.
    LeftOut {
        /// Why.
        reason: String,
    },
}

/// What was found out about an image.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ImageFacts {
    /// Width in pixels, as it is read.
    pub width: usize,
    /// Height in pixels, as it is read.
    pub height: usize,
    /// What the file says of itself.
    #[serde(flatten)]
    pub details: ImageDetails,
    /// A hash that is alike for images that look alike.
    pub hash: PerceptualHash,
    /// Whether all pixels have the same colour, or nearly so.
    pub is_blank: bool,
    /// A hash of the file's bytes, as 16 hexadecimal digits.
    pub digest: String,
    #[serde(skip)]
    pub(super) thumbnail: Thumbnail,
}

impl CheckedFile {
    /// What was found out, if it is an image that can be read.
    pub fn image(&self) -> Option<&ImageFacts> {
        match &self.state {
            FileState::Image(facts) => Some(facts.as_ref()),
            _ => None,
        }
    }

    pub(super) fn relative_to(root: &Path) -> impl FnMut(&mut Self) {
        move |file| {
            if let Ok(inside) = file.path.strip_prefix(root) {
                file.path = inside.to_path_buf();
            }
        }
    }
}

/// Reads all files. Also returns the sums over the pixels of the training images, or of all images if no file is for
/// training.
pub(super) fn read_all(
    root: &Path,
    found: Vec<Found>,
    options: &CheckOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<CheckedFile>, Option<Sums>)> {
    let total = found.len();
    let has_train = found.iter().any(|file| file.split == Some(Split::Train));
    let is_counted = |file: &Found| !has_train || file.split == Some(Split::Train);
    let next = AtomicUsize::new(0);
    let mut states: HashMap<usize, FileState> = HashMap::with_capacity(total);
    let sums = std::thread::scope(|scope| -> Result<Sums> {
        let (to, done) = mpsc::channel();
        let mut threads = Vec::new();
        for _ in 0..options.threads.clamp(1, total.max(1)) {
            let (to, next, found) = (to.clone(), &next, &found);
            let work = move || {
                let mut sums = Sums::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = found.get(index) else { return sums };
                    let (state, image) = read(file, options);
                    if let Some(image) = image.filter(|_| is_counted(file)) {
                        sums.add(&image);
                    }
                    // Nobody listens any more if another thread has failed.
                    let _ = to.send((index, state));
                }
            };
            let thread = std::thread::Builder::new().name("check".to_owned());
            threads.push(thread.spawn_scoped(scope, work).map_err(Error::io(root))?);
        }
        drop(to);
        for (index, state) in done {
            states.insert(index, state);
            progress(states.len(), total);
        }
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // The sums are of whole numbers, so the number of threads cannot change the result.
        Ok(joined.fold(Sums::default(), Sums::merge))
    })?;
    let file = |(index, Found { path, split, class, bytes, .. }): (usize, Found)| {
        let state = states.remove(&index).expect("every file was read");
        CheckedFile { path, split, class, bytes, state }
    };
    let files: Vec<CheckedFile> = found.into_iter().enumerate().map(file).collect();
    let has_images = files.iter().any(|file| file.image().is_some());
    Ok((files, has_images.then_some(sums)))
}

fn read(file: &Found, options: &CheckOptions) -> (FileState, Option<Image>) {
    if let Some(reason) = &file.left_out {
        return (FileState::LeftOut { reason: reason.clone() }, None);
    }
    let name = file.path.display().to_string();
    let decoded = Image::read_file(&file.path, &options.read).and_then(|bytes| {
        let decoded = Image::decode_with_details(&bytes, &name, &options.read)?;
        Ok((bytes, decoded))
    });
    match decoded {
        Ok((bytes, (image, details))) => {
            let thumbnail = Thumbnail::of(&image);
            let facts = ImageFacts {
                width: image.width(),
                height: image.height(),
                details,
                hash: thumbnail.hash(),
                is_blank: thumbnail.is_blank(),
                digest: Fingerprint::new("file").bytes(&bytes).finish(),
                thumbnail,
            };
            (FileState::Image(Box::new(facts)), Some(image))
        }
        Err(error) => (FileState::Broken { reason: error.reason() }, None),
    }
}
