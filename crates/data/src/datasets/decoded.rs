//! A data set whose images were decoded once, into one file.

mod format;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use format::{Entry, Index};

use super::shards::{LocalFile, ReadAt};
use crate::dataset::{Dataset, Fingerprint, Sample, UNRECOGNISED, check_index};
use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image};
use crate::transforms::functional::check_inside;

/// A data set whose decoded images lie in a file. Decoding is most of the work of loading photographs, so epochs are
/// faster, also those of later runs.
///
/// The samples are those of the data set, bit for bit. The file takes 3 bytes for each pixel. It lies on the disk, and the
/// system keeps in memory what is used often. Images that cannot be read, and those with masks, are not in the file: they are
/// read from the data set each time.
///
/// The name of the file has the [fingerprint](Dataset::fingerprint) of the data set, so a changed data set gets another
/// file. Nobody removes the old one.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_vision_data::{Dataset, DecodedImages, Image, Samples};
///
/// # let folder = tempfile::tempdir()?;
/// let set = Samples::new(["grey"], [(7_u8, 0); 5], |level| Image::new(4, 4, 1, vec![*level; 16]));
/// let set: Arc<dyn Dataset> = Arc::new(set.with_fingerprint("five grey images").cacheable());
/// let decoded = DecodedImages::open(folder.path(), "train", "", set.clone(), 2, &mut |_, _| {})?;
/// assert_eq!(decoded.sample(3)?, set.sample(3)?);
/// assert!(decoded.path().exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DecodedImages {
    set: Arc<dyn Dataset>,
    file: LocalFile,
    path: PathBuf,
    entries: Vec<Entry>,
}

impl DecodedImages {
    /// The data set with the file for it in `folder`, which is made if needed. If there is no such file, all images are decoded
    /// by `threads` threads and written. Then `progress` is told how many are done, and how many there are.
    ///
    /// - `name`: the beginning of the file's name, for people
    /// - `reading`: how the data set reads its files, if that changes the images; it becomes a part of the fingerprint
    ///
    /// # Errors
    /// If the data set is not the same each time ([`Dataset::is_cacheable`]) or cannot be recognised
    /// ([`Dataset::fingerprint`]), if the file is damaged, or if it cannot be written. Images that cannot be read are no
    /// error here.
    pub fn open(
        folder: impl AsRef<Path>,
        name: &str,
        reading: &str,
        set: Arc<dyn Dataset>,
        threads: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let refused = |reason: &str| Error::InvalidSetting {
            setting: "decoded",
            reason: format!("needs a data set {reason}; leave it out"),
        };
        if !set.is_cacheable() {
            return Err(refused("whose images are the same each time"));
        }
        let own = set.fingerprint();
        if own.starts_with(UNRECOGNISED) {
            return Err(refused("that can be recognised (`Dataset::fingerprint`)"));
        }
        let fingerprint = Fingerprint::new("decoded images").text(&own).text(reading).finish();
        let path = folder.as_ref().join(format!("{name}-{fingerprint}.pixels"));
        if !path.exists() {
            write::write(&path, &fingerprint, &*set, threads, progress)?;
        }
        let file = LocalFile::open(&path)?;
        let damaged = |problem: String| Error::Invalid {
            path: path.clone(),
            problem,
            remedy: "remove it, and it will be written again".to_owned(),
        };
        let entries = Index::read(&file, &fingerprint).map_err(damaged)?.entries;
        if entries.len() != set.len() {
            let problem = format!("has {} images where there are {}", entries.len(), set.len());
            return Err(damaged(problem));
        }
        let classes = set.classes().len();
        if let Some(entry) = entries.iter().find(|entry| entry.label as usize >= classes.max(1)) {
            return Err(damaged(format!(
                "has label {} where there are {classes} classes",
                entry.label
            )));
        }
        Ok(Self { set, file, path, entries })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.file.size()
    }

    /// How many samples are not in the file.
    pub fn left_out(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.is_there()).count()
    }

    /// The decoded image of a sample. `None` if it is not in the file.
    fn entry(&self, index: usize) -> Result<Option<&Entry>> {
        check_index(index, self.entries.len())?;
        Ok(Some(&self.entries[index]).filter(|entry| entry.is_there()))
    }

    /// Reads rows of an image, all of their columns.
    fn rows(&self, entry: &Entry, first: usize, count: usize) -> Result<Image> {
        let stride = entry.width * entry.channels;
        let mut pixels = vec![0; count * stride];
        self.file.read_at(entry.offset + (first * stride) as u64, &mut pixels)?;
        Image::new(entry.width, count, entry.channels, pixels)
    }

    /// Reads the part `[top, left, height, width]` of an image: whole rows, because a call for each would take longer than what it
    /// saves, and few at a time, so that they are still in a fast cache when their columns are taken.
    fn columns(&self, entry: &Entry, [top, left, height, width]: [usize; 4]) -> Result<Image> {
        const BYTES_AT_ONCE: usize = 64 << 10;
        let (stride, channels) = (entry.width * entry.channels, entry.channels);
        let rows_at_once = (BYTES_AT_ONCE / stride).clamp(1, height);
        let mut rows = vec![0; rows_at_once * stride];
        let mut part = Vec::with_capacity(height * width * channels);
        for first in (top..top + height).step_by(rows_at_once) {
            let rows = &mut rows[..rows_at_once.min(top + height - first) * stride];
            self.file.read_at(entry.offset + (first * stride) as u64, rows)?;
            for row in rows.chunks_exact(stride) {
                part.extend_from_slice(&row[left * channels..][..width * channels]);
            }
        }
        Image::new(width, height, channels, part)
    }
}

impl Dataset for DecodedImages {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        match self.entry(index)? {
            Some(entry) => Ok(Sample::new(self.rows(entry, 0, entry.height)?, entry.label)),
            None => self.set.sample(index),
        }
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        let Some(entry) = self.entry(index)? else {
            return self.set.sample_part(index, choose);
        };
        let size = [entry.height, entry.width];
        let [top, left, height, width] = choose(size);
        check_inside(size, [top, left], [height, width])?;
        let part = if width == entry.width {
            self.rows(entry, top, height)?
        } else {
            self.columns(entry, [top, left, height, width])?
        };
        Ok(Sample::new(part, entry.label))
    }

    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.set.image_file(index)
    }

    fn classes(&self) -> &[String] {
        self.set.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.set.label(index)
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        self.set.label_set(index)
    }

    fn is_multi_label(&self) -> bool {
        self.set.is_multi_label()
    }

    fn shuffled_order(&self, seed: u64, epoch: usize) -> Option<Vec<usize>> {
        self.set.shuffled_order(seed, epoch)
    }

    fn shuffled_orders(&self, seed: u64, epoch: usize, ranks: usize) -> Option<Vec<Vec<usize>>> {
        self.set.shuffled_orders(seed, epoch, ranks)
    }

    fn shuffled_files(&self) -> Option<usize> {
        self.set.shuffled_files()
    }

    fn name(&self, index: usize) -> String {
        self.set.name(index)
    }

    fn fingerprint(&self) -> String {
        self.set.fingerprint()
    }

    fn exif_orientation(&self) -> bool {
        self.set.exif_orientation()
    }

    /// The system keeps in memory what is read often, so another cache would gain nothing.
    fn in_memory(&self) -> bool {
        true
    }

    fn is_cacheable(&self) -> bool {
        true
    }
}

impl fmt::Debug for DecodedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedImages")
            .field("path", &self.path)
            .field("images", &self.entries.len())
            .finish_non_exhaustive()
    }
}
