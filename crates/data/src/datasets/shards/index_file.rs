//! The index of a shard, which lies beside it as `SHARD.idx`: where each image lies, and its label.
//!
//! With it, a shard is opened without reading it, and one on a server is read sample by sample. All numbers are
//! little-endian:
//!
//! ```text
//! "CVSHARD1"  bytes of the shard (8)  number of samples (8)
//! offset of the image (8)  its bytes (4)  label (4)        for each sample
//! FNV-1a sum of all that (8)
//! ```
//!
//! If samples have lists of labels, it has the number of a sample's labels in place of its label, and then all labels:
//!
//! ```text
//! "CVSHARD2"  bytes of the shard (8)  number of samples (8)
//! offset of the image (8)  its bytes (4)  number of labels (4)        for each sample
//! label (4)                                                           for each label of each sample
//! FNV-1a sum of all that (8)
//! ```

use std::path::{Path, PathBuf};

use super::{Place, Placed, ReadAt};
use crate::error::{Error, Result};
use crate::label_sets::LabelSets;

const MAGIC: &[u8; 8] = b"CVSHARD1";
const MAGIC_OF_LISTS: &[u8; 8] = b"CVSHARD2";
const HEAD: usize = 24;
const RECORD: usize = 16;
/// Bytes of the index of a hundred million samples.
const MAX_BYTES: u64 = 2 << 30;

/// The index of `shard`, whether or not it exists.
pub(super) fn index_of(shard: &str) -> String {
    format!("{shard}.idx")
}

/// The content of the index of a shard of `size` bytes.
pub(super) fn encode(size: u64, placed: &Placed) -> Vec<u8> {
    let Placed { places, lists } = placed;
    let mut bytes = if lists.is_some() { MAGIC_OF_LISTS } else { MAGIC }.to_vec();
    bytes.extend(size.to_le_bytes());
    bytes.extend((places.len() as u64).to_le_bytes());
    for (number, place) in places.iter().enumerate() {
        let last = lists.as_ref().map_or(place.label, |lists| lists.of(number).len() as u32);
        bytes.extend(place.offset.to_le_bytes());
        bytes.extend(place.bytes.to_le_bytes());
        bytes.extend(last.to_le_bytes());
    }
    let labels = lists.iter().flat_map(LabelSets::all);
    labels.for_each(|label| bytes.extend(label.to_le_bytes()));
    bytes.extend(sum(&bytes).to_le_bytes());
    bytes
}

/// The samples in an index. Without the size of the shard, the index is believed to be its own: a shard on a server is not
/// asked for until a sample is read, which shows whether they fit.
///
/// # Errors
/// If it is damaged, or is the index of another shard than one of `size` bytes.
pub(super) fn read(
    index: &dyn ReadAt,
    name: &str,
    shard: &str,
    size: Option<u64>,
) -> Result<Placed> {
    let invalid = |problem: String| Error::Invalid {
        path: PathBuf::from(name),
        problem,
        remedy: "remove it to have the shard read instead, or pack the shard again".to_owned(),
    };
    if index.size() > MAX_BYTES {
        return Err(invalid(format!("has {} bytes, more than any index", index.size())));
    }
    let mut bytes = vec![0; index.size() as usize];
    index.read_at(0, &mut bytes)?;
    let has_lists = bytes.starts_with(MAGIC_OF_LISTS);
    let whole = bytes.len() >= HEAD + 8 && (has_lists || bytes.starts_with(MAGIC));
    if !whole {
        return Err(invalid("is no index of a shard, or is cut off".to_owned()));
    }
    let (content, of_content) = bytes.split_at(bytes.len() - 8);
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| content[at + i]));
    let count = number(16);
    let records = count.checked_mul(RECORD as u64);
    let behind =
        records.and_then(|records| (content.len() as u64 - HEAD as u64).checked_sub(records));
    // Only lists of labels come behind the records.
    let Some(behind) = behind.filter(|behind| has_lists || *behind == 0) else {
        return Err(invalid(format!("is cut off: it should have {count} samples")));
    };
    if of_content != sum(content).to_le_bytes() {
        return Err(invalid("is damaged: its sum is wrong".to_owned()));
    }
    let size = size.unwrap_or(number(8));
    if number(8) != size {
        let problem = format!("is for a shard of {} bytes, but `{shard}` has {size}", number(8));
        return Err(invalid(problem));
    }
    let half = |bytes: &[u8]| u32::from_le_bytes(std::array::from_fn(|i| bytes[i]));
    let place = |record: &[u8; RECORD]| Place {
        offset: u64::from_le_bytes(std::array::from_fn(|i| record[i])),
        bytes: half(&record[8..]),
        label: half(&record[12..]),
    };
    let (records, labels) = content[HEAD..].split_at(content.len() - HEAD - behind as usize);
    let mut places: Vec<Place> = records.as_chunks::<RECORD>().0.iter().map(place).collect();
    let fits = |place: &Place| {
        place.offset.checked_add(u64::from(place.bytes)).is_some_and(|end| end <= size)
    };
    if let Some(sample) = places.iter().position(|place| !fits(place)) {
        return Err(invalid(format!("has sample {sample} behind the end of `{shard}`")));
    }
    if !has_lists {
        return Ok(Placed { places, lists: None });
    }
    let expected: u64 = places.iter().map(|place| u64::from(place.label)).sum();
    if expected.checked_mul(4) != Some(behind) {
        return Err(invalid(format!("is cut off: it should have {expected} labels")));
    }
    let mut labels = labels.as_chunks::<4>().0.iter().map(|label| u32::from_le_bytes(*label));
    let mut lists = LabelSets::default();
    for (number, place) in places.iter_mut().enumerate() {
        lists.push(labels.by_ref().take(place.label as usize));
        place.label = lists.of(number).first().copied().unwrap_or(0);
    }
    Ok(Placed { places, lists: Some(lists) })
}

/// FNV-1a with 64 bits. It finds accidents, not attacks.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Writes the index of a shard beside it.
pub(super) fn write(shard: &Path, size: u64, placed: &Placed) -> Result<()> {
    let mut path = shard.as_os_str().to_owned();
    path.push(".idx");
    super::writer::write_whole(Path::new(&path), &encode(size, placed))
}
