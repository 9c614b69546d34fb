//! Tar shards in the WebDataset convention: few large files instead of many small ones.

mod entry;
mod index_file;
mod labels;
mod members;
mod opened;
pub(super) mod order;
mod pattern;
mod placed;
mod read_at;
mod tar_index;
mod writer;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_vision_registry::one_line;
pub(super) use entry::entry;
use labels::{Labels, classes_beside};
use members::{Labelled, Members};
use opened::OpenShards;
use placed::{Place, Placed};
pub(super) use read_at::LocalFile;
pub use read_at::{ReadAt, Remote};
use serde::Deserialize;
pub use writer::{ShardWriter, ShardWriterConfig, write_classes};

use super::image_table::labelling::names_of;
use crate::dataset::{Dataset, Fingerprint, Sample, check_index};
use crate::error::{Error, Result};
use crate::image::{ChoosePart, Image, ReadOptions};
use crate::label_sets::LabelSets;

/// The file with the names of the classes, beside the shards.
const CLASSES: &str = "classes.txt";
/// Data sets up to this size may be kept by a loader. A place for each of many more samples would itself be large.
const CACHEABLE_BYTES: u64 = 16 << 30;

/// How shards are read.
///
/// ```
/// use candle_vision_data::ShardOptions;
///
/// let options = ShardOptions::new().window(5_000).rank(2, 8);
/// assert_eq!((options.window, options.rank, options.world_size), (5_000, 2, 8));
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ShardOptions {
    /// How many samples the window of the shuffle has. The default is 10,000. With 0 all samples are shuffled
    /// completely, which reads from all shards at once.
    pub window: usize,
    /// Which part of the samples is read, in `0..world_size`.
    pub rank: usize,
    /// How many parts there are, 1 by default. All parts have the same number of samples.
    pub world_size: usize,
    /// The ending of the images. By default the first file of a sample that is an image.
    pub image: Option<String>,
    /// The ending of the labels. By default `cls`, `cls.txt`, `label` or `json`.
    pub label: Option<String>,
    /// The field of the label or of a list of labels in JSON, `label` by default.
    pub label_key: String,
    /// The names of the classes. By default those in `classes.txt` beside the first shard, or else the labels
    /// that occur.
    pub classes: Option<Vec<String>>,
    /// Whether samples that are damaged or behind the end of a cut shard are left out and counted. If not, a cut
    /// shard is an error.
    pub skip_damaged: bool,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            window: 10_000,
            rank: 0,
            world_size: 1,
            image: None,
            label: None,
            label_key: "label".to_owned(),
            classes: None,
            skip_damaged: false,
        }
    }
}

impl ShardOptions {
    /// All samples, shuffled by a window of 10,000.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of samples in the window of the shuffle.
    pub fn window(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// Sets which of how many parts is read.
    pub fn rank(self, rank: usize, world_size: usize) -> Self {
        Self { rank, world_size, ..self }
    }

    /// Sets the names of the classes.
    pub fn classes<C: Into<String>>(self, classes: impl IntoIterator<Item = C>) -> Self {
        Self { classes: Some(classes.into_iter().map(Into::into).collect()), ..self }
    }

    /// Sets whether what is damaged is left out and counted.
    pub fn skip_damaged(self, skip_damaged: bool) -> Self {
        Self { skip_damaged, ..self }
    }
}

/// A shard and its samples.
struct Shard {
    name: String,
    /// The index of its first sample in the data set.
    start: usize,
    placed: Placed,
}

/// Images in tar shards, in the WebDataset convention: consecutive files `KEY.jpg` and `KEY.cls` are a sample.
///
/// A list in `KEY.json` (`{"label": [0, 2]}`) gives an image several labels or none. Then [`Dataset::label_set`] has all of them.
///
/// A shard with an index (`SHARD.idx`, which [`ShardWriter`] writes) is opened without being read. Any other shard is
/// scanned once for its samples. Images are read when they are needed, from any thread. A sample takes 16 bytes of memory, and with
/// lists of labels 8 more and 4 for each label.
///
/// A loader that shuffles takes the order of [`Dataset::shuffled_order`]: shards in random order, and their samples through
/// a window ([`ShardOptions::window`]), so that shards are read almost sequentially. The order depends only on seed and
/// epoch, so an epoch can be resumed at any batch.
///
/// # Example
/// ```no_run
/// use candle_vision_data::{Dataset, ShardOptions, Shards};
///
/// let part = Shards::open("shards/train-{000000..000127}.tar", &ShardOptions::new().rank(0, 4))?;
/// println!("{} samples of {} classes", part.len(), part.classes().len());
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub struct Shards {
    shards: Vec<Shard>,
    /// The samples of all shards that are read: those of one rank.
    part: Range<usize>,
    classes: Vec<String>,
    /// Whether a sample of any shard has a list of labels.
    is_multi_label: bool,
    files: OpenShards,
    options: ShardOptions,
    read: ReadOptions,
    bytes: u64,
    remarks: Vec<String>,
}

impl Shards {
    /// Local shards: a path, a folder, a glob (`train-*.tar`) or braces (`train-{000..127}.tar`).
    ///
    /// # Errors
    /// If there are no shards, one is damaged or cut off, an index does not fit its shard, a label is no class, or
    /// the rank is not below the number of ranks.
    pub fn open(pattern: &str, options: &ShardOptions) -> Result<Self> {
        Self::open_with(pattern, options, None)
    }

    /// The same for shards that may lie on servers, which `remote` opens.
    ///
    /// # Errors
    /// Those of [`Shards::open`] and of `remote`.
    pub fn open_with(
        pattern: &str,
        options: &ShardOptions,
        remote: Option<Remote>,
    ) -> Result<Self> {
        if options.rank >= options.world_size {
            let reason =
                format!("{} is not below `world_size` {}", options.rank, options.world_size);
            return Err(Error::InvalidSetting { setting: "options.rank", reason });
        }
        let names = entry::named(pattern)?;
        let mut remarks = Vec::new();
        let files = OpenShards::new(remote);
        let members =
            Members::new(options.image.as_deref(), options.label.as_deref(), &options.label_key);
        let mut labels = Labels::new(classes_beside(&names, options, &files)?);
        let mut shards = Vec::with_capacity(names.len());
        let mut start = 0;
        for name in names {
            let placed = match files.open_index(&name)? {
                Some((index, of)) => {
                    let size = match pattern::is_url(&name) {
                        true => None,
                        false => Some(files.open(&name)?.size()),
                    };
                    let placed = index_file::read(&*index, &of, &name, size)?;
                    labels.check(&name, &placed)?;
                    placed
                }
                None => {
                    let file = files.open(&name)?;
                    scanned(&*file, &name, &members, &mut labels, options, &mut remarks)?
                }
            };
            let count = placed.places.len();
            shards.push(Shard { name, start, placed });
            start += count;
        }
        if start == 0 {
            return Err(Error::Invalid {
                path: pattern.into(),
                problem: "has no samples with an image and a label".to_owned(),
                remedy: "check `options.image` and `options.label`".to_owned(),
            });
        }
        let classes = labels.finish(&shards)?;
        let is_multi_label = shards.iter().any(|shard| shard.placed.lists.is_some());
        // The parts are of equal size, because ranks that step together must all have the same number of batches.
        let each = start / options.world_size;
        if each == 0 {
            let reason = format!(
                "of {} leaves ranks without any of the {start} samples",
                options.world_size
            );
            return Err(Error::InvalidSetting { setting: "options.world_size", reason });
        }
        let left = start - each * options.world_size;
        if left > 0 {
            remarks.push(format!(
                "{left} of {start} samples belong to no rank, because all {} have {each}",
                options.world_size
            ));
        }
        let part = options.rank * each..(options.rank + 1) * each;
        // Only the shards of this part are needed from here on.
        for shard in &mut shards {
            let end = shard.start + shard.placed.places.len();
            if end <= part.start || shard.start >= part.end {
                shard.placed = Placed::default();
            }
        }
        shards.retain(|shard| !shard.placed.places.is_empty());
        let places = shards.iter().flat_map(|shard| &shard.placed.places);
        let bytes = places.map(|place| u64::from(place.bytes)).sum();
        let (options, read) = (options.clone(), ReadOptions::default());
        Ok(Self { shards, part, classes, is_multi_label, files, options, read, bytes, remarks })
    }

    /// The same shards, read with these options.
    pub fn with_read_options(self, read: ReadOptions) -> Self {
        Self { read, ..self }
    }

    /// Remarks for the user, one line each: what was left out.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The samples of each shard, counted within this part.
    fn blocks(&self) -> Vec<Range<usize>> {
        let Range { start, end } = self.part.clone();
        let block = |shard: &Shard| {
            let last = shard.start + shard.placed.places.len();
            shard.start.max(start) - start..last.min(end) - start
        };
        self.shards.iter().map(block).collect()
    }

    /// The shard of sample `index`, and its number there.
    fn find(&self, index: usize) -> (&Shard, usize) {
        let index = self.part.start + index;
        let shard = &self.shards[self.shards.partition_point(|shard| shard.start <= index) - 1];
        (shard, index - shard.start)
    }
}

/// The samples of a shard without an index.
fn scanned(
    file: &dyn ReadAt,
    name: &str,
    members: &Members,
    labels: &mut Labels,
    options: &ShardOptions,
    remarks: &mut Vec<String>,
) -> Result<Placed> {
    let invalid = |problem: String, remedy: &str| Error::Invalid {
        path: name.into(),
        problem,
        remedy: remedy.to_owned(),
    };
    let index = tar_index::scan(file, name, members)?;
    if let Some(cut) = index.cut {
        if !options.skip_damaged {
            let remedy = "fetch or pack it again (`tar -cf` and `data pack` write two empty blocks at the end), or set \
                          `options.skip_damaged` to use what is whole";
            return Err(invalid(format!("is cut off: {cut}"), remedy));
        }
        let whole = index.samples.len();
        let remark = format!("`{name}` is cut off: {cut}; its first {whole} samples are used");
        // The entry may be called anything.
        remarks.push(one_line(&remark).into_owned());
    }
    let mut places = Vec::with_capacity(index.samples.len());
    let (mut lists, mut has_lists) = (LabelSets::default(), false);
    let mut damaged = 0;
    for (number, found) in index.samples.into_iter().enumerate() {
        let of_sample = members.labels(&found.label).and_then(|labelled| {
            let (of_sample, is_list) = match labelled {
                Labelled::One(label) => (vec![label], false),
                Labelled::List(list) => (list, true),
            };
            let of_sample = of_sample.into_iter().map(|label| labels.label(label));
            Ok((of_sample.collect::<Result<Vec<u32>, String>>()?, is_list))
        });
        match (of_sample, u32::try_from(found.bytes)) {
            (Ok((of_sample, is_list)), Ok(bytes)) => {
                let label = of_sample.first().copied().unwrap_or(0);
                places.push(Place { offset: found.offset, bytes, label });
                lists.push(of_sample);
                has_lists |= is_list;
            }
            _ if options.skip_damaged => damaged += 1,
            (Err(problem), _) => {
                let entry = String::from_utf8_lossy(&found.label_entry);
                let problem = format!("has a sample {number}, whose file `{entry}` {problem}");
                let problem = one_line(&problem).into_owned();
                return Err(invalid(problem, "correct the label, or set `options.skip_damaged`"));
            }
            (_, Err(_)) => {
                let problem = format!("has a sample {number} of more than 4 GiB");
                return Err(invalid(problem, "remove it, or set `options.skip_damaged`"));
            }
        }
    }
    let left = index.incomplete + damaged;
    if left > 0 {
        remarks.push(format!("left out of `{name}`: {left} samples without an image or a label"));
    }
    Ok(Placed { places, lists: has_lists.then_some(lists) })
}

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Shards");
        text.field("shards", &self.shards.len()).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Shards {
    /// Reads a sample. `read` gets the bytes of its image and its name.
    fn read<T>(&self, index: usize, read: impl FnOnce(&[u8], &str) -> Result<T>) -> Result<T> {
        check_index(index, self.len())?;
        let (shard, number) = self.find(index);
        let place = shard.placed.places[number];
        let file = self.files.open(&shard.name)?;
        let name = format!("{}[{number}]", shard.name);
        let does_not_fit = || Error::Invalid {
            path: index_file::index_of(&shard.name).into(),
            problem: format!(
                "does not fit its shard: no file of {} bytes begins at byte {}",
                place.bytes, place.offset
            ),
            remedy: "remove it to have the shard read instead, or pack the shard again".to_owned(),
        };
        // The size of a shard on a server was not known when its index was read.
        let end = place.offset.checked_add(u64::from(place.bytes));
        if end.is_none_or(|end| end > file.size()) {
            return Err(does_not_fit());
        }
        // The header lies right before the image. It shows whether the index fits the shard.
        let before = place.offset.min(tar_index::BLOCK);
        let mut bytes = vec![0; (before + u64::from(place.bytes)) as usize];
        file.read_at(place.offset - before, &mut bytes)?;
        let (header, image) = bytes.split_at(before as usize);
        let is_header = <&[u8; 512]>::try_from(header).is_ok_and(|header| {
            let header = tar::Header::from_byte_slice(header);
            header.entry_size().ok() == Some(u64::from(place.bytes))
        });
        if !is_header {
            return Err(does_not_fit());
        }
        read(image, &name)
    }
}

impl Dataset for Shards {
    fn len(&self) -> usize {
        self.part.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let image = self.read(index, |bytes, name| Image::decode_with(bytes, name, &self.read))?;
        Ok(Sample::new(image, self.label(index)))
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        let decode =
            |bytes: &[u8], name: &str| Image::decode_part_with(bytes, name, &self.read, choose);
        Ok(Sample::new(self.read(index, decode)?, self.label(index)))
    }

    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.read(index, |bytes, _| Ok(Some(bytes.to_vec())))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        let (shard, number) = self.find(index);
        shard.placed.places[number].label
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        let (shard, number) = self.find(index);
        shard.placed.labels_of(number).to_vec()
    }

    fn is_multi_label(&self) -> bool {
        self.is_multi_label
    }

    fn name(&self, index: usize) -> String {
        let (shard, number) = self.find(index);
        format!("{}[{number}]", shard.name)
    }

    fn fingerprint(&self) -> String {
        let kind = if self.read.exif_orientation { "upright shards" } else { "shards" };
        let hash = self.classes.iter().fold(Fingerprint::new(kind), |hash, class| hash.text(class));
        let hash = hash.number(self.part.start as u64).number(self.part.end as u64);
        let places = self.shards.iter().flat_map(|shard| &shard.placed.places);
        let hash =
            places.fold(hash, |hash, p| hash.number(u64::from(p.bytes)).number(u64::from(p.label)));
        if !self.is_multi_label {
            return hash.finish();
        }
        // Behind the rest, so that the fingerprint of shards with one label for each image stays as it was.
        let sets = (0..self.len()).map(|index| self.label_set(index));
        let set = |hash: Fingerprint, set: Vec<u32>| {
            let hash = hash.number(set.len() as u64);
            set.into_iter().fold(hash, |hash, label| hash.number(u64::from(label)))
        };
        sets.fold(hash, set).finish()
    }

    fn shuffled_order(&self, seed: u64, epoch: usize) -> Option<Vec<usize>> {
        let window = self.options.window;
        (window > 0).then(|| order::windowed(&self.blocks(), window, seed, epoch))
    }

    fn shuffled_orders(&self, seed: u64, epoch: usize, ranks: usize) -> Option<Vec<Vec<usize>>> {
        let window = self.options.window;
        let orders = || order::windowed_of_ranks(&self.blocks(), window, seed, epoch, ranks);
        (window > 0).then(orders)
    }

    fn shuffled_files(&self) -> Option<usize> {
        (self.options.window > 0).then_some(self.shards.len())
    }

    fn exif_orientation(&self) -> bool {
        self.read.exif_orientation
    }

    fn is_cacheable(&self) -> bool {
        self.bytes <= CACHEABLE_BYTES
    }
}

/// Whether `file` is a shard by its name.
fn is_shard(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "tar")
}

/// A shard that is open.
type File = Arc<dyn ReadAt>;
