//! Writes tar shards with their indices.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::tar_index::BLOCK;
use super::{Place, Placed, index_file};
use crate::error::{Error, Result};
use crate::label_sets::LabelSets;

/// How shards are written.
///
/// ```
/// use candle_vision_data::ShardWriterConfig;
///
/// let config = ShardWriterConfig::new("train").max_samples(1_000);
/// assert_eq!((config.max_samples, config.max_bytes), (1_000, 512 << 20));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardWriterConfig {
    /// The beginning of the names: `train` makes `train-000000.tar`.
    pub prefix: String,
    /// A new shard begins before one gets more bytes of images. 512 MiB by default.
    pub max_bytes: u64,
    /// A new shard begins before one gets more samples. 100,000 by default.
    pub max_samples: usize,
}

impl ShardWriterConfig {
    /// Shards of at most 512 MiB and 100,000 samples.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), max_bytes: 512 << 20, max_samples: 100_000 }
    }

    /// Sets the most bytes of images in a shard.
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Sets the most samples in a shard.
    pub fn max_samples(self, max_samples: usize) -> Self {
        Self { max_samples, ..self }
    }
}

/// Writes samples into tar shards in the WebDataset convention, each with its index.
///
/// A sample is `KEY.EXTENSION`, the bytes of the image file as they are, and `KEY.cls`, the label. With several labels it has
/// `KEY.json` in place of that, with `{"label": [0, 2]}`. A shard appears under its name when it is whole.
///
/// # Example
/// ```
/// use candle_vision_data::{Dataset, ShardOptions, ShardWriter, ShardWriterConfig, Shards};
///
/// # let folder = tempfile::tempdir()?;
/// let mut writer = ShardWriter::new(folder.path(), ShardWriterConfig::new("train"))?;
/// writer.add("bees/1", "ppm", b"P6\n1 1\n255\nabc", 1)?;
/// let shards = writer.finish()?;
/// assert!(shards[0].ends_with("train-000000.tar"));
/// let set = Shards::open(shards[0].to_str().unwrap(), &ShardOptions::new())?;
/// assert_eq!((set.len(), set.label(0)), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ShardWriter {
    folder: PathBuf,
    config: ShardWriterConfig,
    open: Option<OpenShard>,
    shards: Vec<PathBuf>,
}

/// The shard that is being written.
#[derive(Debug)]
struct OpenShard {
    part: PathBuf,
    target: PathBuf,
    file: BufWriter<File>,
    at: u64,
    places: Vec<Place>,
    /// The labels of each sample.
    labels: LabelSets,
    /// Whether a sample has a list of labels.
    has_lists: bool,
}

impl ShardWriter {
    /// Shards in `folder`, which is made if needed.
    ///
    /// # Errors
    /// If the limits allow no sample, the folder cannot be made, or it has shards of this prefix.
    pub fn new(folder: impl AsRef<Path>, config: ShardWriterConfig) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        if config.max_samples == 0 || config.prefix.is_empty() {
            let reason = "needs a prefix and room for at least one sample".to_owned();
            return Err(Error::InvalidSetting { setting: "shard", reason });
        }
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let writer = Self { folder, config, open: None, shards: Vec::new() };
        let first = writer.name(0);
        if first.exists() {
            return Err(Error::Invalid {
                path: first,
                problem: "exists already".to_owned(),
                remedy: "name another folder or remove the old shards".to_owned(),
            });
        }
        Ok(writer)
    }

    fn name(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{}-{number:06}.tar", self.config.prefix))
    }

    /// Adds a sample: a name without dots in its last part, the extension of the image, its bytes and its label.
    ///
    /// # Errors
    /// If the name has dots in its last part, or the shard cannot be written.
    pub fn add(&mut self, key: &str, extension: &str, image: &[u8], label: u32) -> Result<()> {
        self.add_sample(key, extension, image, &[label], ("cls", label.to_string()))
    }

    /// Adds a sample with several labels or none. [`Shards`](super::Shards) gives such samples all of their labels.
    ///
    /// # Errors
    /// As [`ShardWriter::add`].
    ///
    /// # Example
    /// ```
    /// use candle_vision_data::{Dataset, ShardOptions, ShardWriter, ShardWriterConfig, Shards};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let mut writer = ShardWriter::new(folder.path(), ShardWriterConfig::new("train"))?;
    /// writer.add_labelled("1", "ppm", b"P6\n1 1\n255\nabc", &[0, 2])?;
    /// writer.add_labelled("2", "ppm", b"P6\n1 1\n255\nabc", &[])?;
    /// let shards = writer.finish()?;
    /// let set = Shards::open(shards[0].to_str().unwrap(), &ShardOptions::new())?;
    /// assert_eq!((set.label_set(0), set.label_set(1)), (vec![0, 2], vec![]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_labelled(
        &mut self,
        key: &str,
        extension: &str,
        image: &[u8],
        labels: &[u32],
    ) -> Result<()> {
        let list: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let json = format!("{{\"label\": [{}]}}", list.join(", "));
        self.add_sample(key, extension, image, labels, ("json", json))?;
        if let Some(open) = &mut self.open {
            open.has_lists = true;
        }
        Ok(())
    }

    /// Adds a sample whose labels are written as `file`, an ending and a text.
    fn add_sample(
        &mut self,
        key: &str,
        extension: &str,
        image: &[u8],
        labels: &[u32],
        file: (&str, String),
    ) -> Result<()> {
        let last = key.rsplit('/').next().unwrap_or_default();
        if last.is_empty() || last.contains('.') || key.starts_with('/') {
            let reason = format!("`{key}` must be a relative name whose last part has no dot");
            return Err(Error::InvalidSetting { setting: "key", reason });
        }
        let bytes = u32::try_from(image.len()).map_err(|_| Error::BrokenImage {
            name: key.to_owned(),
            reason: "the file has more than 4 GiB".to_owned(),
        })?;
        let is_full = self.open.as_ref().is_some_and(|open| {
            open.places.len() >= self.config.max_samples
                || open.at.saturating_add(u64::from(bytes)) > self.config.max_bytes
        });
        if is_full {
            self.close()?;
        }
        if self.open.is_none() {
            self.open = Some(OpenShard::create(self.name(self.shards.len()))?);
        }
        let open = self.open.as_mut().expect("it was opened in the lines above");
        let offset = open.file(&format!("{key}.{extension}"), image)?;
        open.file(&format!("{key}.{}", file.0), file.1.as_bytes())?;
        let label = labels.first().copied().unwrap_or(0);
        open.places.push(Place { offset, bytes, label });
        open.labels.push(labels.iter().copied());
        Ok(())
    }

    /// Ends the last shard. Returns all shards.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.close()?;
        Ok(std::mem::take(&mut self.shards))
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.shards.push(open.finish()?);
        Ok(())
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        // A part that nobody ends is no shard.
        if let Some(open) = &self.open {
            let _ = fs::remove_file(&open.part);
        }
    }
}

impl OpenShard {
    fn create(target: PathBuf) -> Result<Self> {
        let part = target.with_extension("tar.part");
        let file = File::create(&part).map_err(Error::io(&part))?;
        let (places, labels) = (Vec::new(), LabelSets::default());
        let file = BufWriter::new(file);
        Ok(Self { part, target, file, at: 0, places, labels, has_lists: false })
    }

    /// Writes a file. Returns the offset of its content.
    fn file(&mut self, name: &str, content: &[u8]) -> Result<u64> {
        // Longer names do not fit into a header.
        let mut header = Header::new_gnu();
        if header.set_path(name).is_err() {
            let mut long = Header::new_gnu();
            long.set_path("././@LongLink").expect("it is short");
            long.set_entry_type(EntryType::GNULongName);
            self.entry(&mut long, &[name.as_bytes(), &[0]].concat())?;
            let short: String = name.chars().filter(char::is_ascii).take(90).collect();
            header.set_path(&short).map_err(Error::io(&self.target))?;
        }
        header.set_entry_type(EntryType::Regular);
        self.entry(&mut header, content)
    }

    fn entry(&mut self, header: &mut Header, content: &[u8]) -> Result<u64> {
        header.set_mode(0o644);
        // No owner and no time, so that equal images make equal shards.
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let padding = content.len().next_multiple_of(BLOCK as usize) - content.len();
        let parts = [header.as_bytes().as_slice(), content, &[0; BLOCK as usize][..padding]];
        for part in parts {
            self.file.write_all(part).map_err(Error::io(&self.part))?;
        }
        let offset = self.at + BLOCK;
        self.at = offset + (content.len() + padding) as u64;
        Ok(offset)
    }

    fn finish(mut self) -> Result<PathBuf> {
        // Two empty blocks end a tar file.
        self.file.write_all(&[0; 2 * BLOCK as usize]).map_err(Error::io(&self.part))?;
        self.at += 2 * BLOCK;
        self.file.flush().map_err(Error::io(&self.part))?;
        self.file.get_ref().sync_all().map_err(Error::io(&self.part))?;
        // The index first: a shard without one is read itself, but an index of no shard would be in the way.
        let lists = self.has_lists.then_some(self.labels);
        index_file::write(&self.target, self.at, &Placed { places: self.places, lists })?;
        fs::rename(&self.part, &self.target).map_err(Error::io(&self.target))?;
        Ok(self.target)
    }
}

/// Writes a small file under a temporary name first, so that it appears whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = File::create(&part).map_err(Error::io(&part))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(&part))?;
    fs::rename(&part, path).map_err(Error::io(path))
}

/// Writes the names of the classes beside shards, where [`Shards`](super::Shards) finds them.
///
/// # Errors
/// If a name has a line break, or the file cannot be written.
pub fn write_classes(folder: impl AsRef<Path>, classes: &[String]) -> Result<PathBuf> {
    let path = folder.as_ref().join(super::CLASSES);
    if let Some(class) = classes.iter().find(|class| class.contains(['\n', '\r'])) {
        let reason = format!("has `{}`, a name with a line break", class.escape_debug());
        return Err(Error::InvalidSetting { setting: "classes", reason });
    }
    let text: String = classes.iter().map(|class| format!("{class}\n")).collect();
    write_whole(&path, text.as_bytes())?;
    Ok(path)
}
