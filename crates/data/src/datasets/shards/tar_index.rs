//! Finds the samples of a tar file: consecutive files of one name up to the first dot, such as `0042.jpg` and
//! `0042.cls` (the WebDataset convention).

use tar::{EntryType, Header, PaxExtensions};

use super::ReadAt;
use super::members::Members;
use crate::error::{Error, Result};
use crate::image::Format;

/// Length of a tar header, and the unit of a file's length.
pub(super) const BLOCK: u64 = 512;
/// Long names are read into memory. No honest one comes near this size.
const MAX_NAME: u64 = 64 << 10;
/// The largest file with a label.
const MAX_LABEL: u64 = 1 << 20;

/// Where the image of a sample lies, and the text that says its class.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) label: LabelText,
    /// The name of the file with the label, for messages.
    pub(super) label_entry: Vec<u8>,
}

/// The content of the file that has a sample's label.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LabelText {
    Plain(Vec<u8>),
    Json(Vec<u8>),
}

/// The samples of a shard.
#[derive(Debug, Default)]
pub(super) struct TarIndex {
    pub(super) samples: Vec<Found>,
    /// Samples without an image or without a label.
    pub(super) incomplete: usize,
    /// Where the shard is cut off and what was being read, if it is.
    pub(super) cut: Option<String>,
}

/// Finds all samples of a shard. `name` is its path or address, for messages.
///
/// # Errors
/// If it is no tar file, an entry is damaged, or it cannot be read.
pub(super) fn scan(shard: &dyn ReadAt, name: &str, members: &Members) -> Result<TarIndex> {
    let (size, mut at) = (shard.size(), 0);
    let mut index = TarIndex::default();
    let mut sample = Sample::default();
    let mut long_name: Option<Vec<u8>> = None;
    let invalid = |problem: String| Error::Invalid {
        path: name.into(),
        problem,
        remedy: "fetch or pack the shard again".to_owned(),
    };
    // Two empty blocks end a tar file, of which one is enough to know that nothing is missing before it.
    loop {
        if at >= size {
            index.cut = Some(match size {
                0 => "it has no bytes".to_owned(),
                _ => format!(
                    "it ends at byte {size} without the two empty blocks of a tar file's end"
                ),
            });
            break;
        }
        if size - at < BLOCK {
            index.cut = Some(format!("a header at byte {at} is not whole"));
            break;
        }
        let mut header = Header::new_old();
        shard.read_at(at, header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            break;
        }
        let sum: u32 = header.as_bytes()[..148]
            .iter()
            .chain(&header.as_bytes()[156..])
            .map(|&b| u32::from(b))
            .sum::<u32>()
            + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            if let Some((kind, unpack)) = compression(header.as_bytes()).filter(|_| at == 0) {
                let remedy =
                    format!("unpack it with `{unpack}`: a sample in the middle must be found");
                return Err(Error::Invalid {
                    path: name.into(),
                    problem: format!("is compressed ({kind}), and shards are read uncompressed"),
                    remedy,
                });
            }
            let what =
                if at == 0 { "is no tar file: its first header" } else { "is damaged: the header" };
            return Err(invalid(format!("{what} at byte {at} has a wrong checksum")));
        }
        let bytes = header.entry_size();
        let bytes = bytes.map_err(|error| invalid(format!("is damaged at byte {at} ({error})")))?;
        let data = at + BLOCK;
        let kind = header.entry_type();
        let entry = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        if bytes > size - data {
            index.cut = Some(format!(
                "`{}` at byte {data} should have {bytes} bytes, of which {} are there",
                String::from_utf8_lossy(&entry),
                size - data
            ));
            break;
        }
        match kind {
            EntryType::GNULongName | EntryType::XHeader => {
                if bytes > MAX_NAME {
                    return Err(invalid(format!("has a name of {bytes} bytes at byte {at}")));
                }
                let mut record = vec![0; bytes as usize];
                shard.read_at(data, &mut record)?;
                long_name = if kind == EntryType::GNULongName {
                    Some(record.into_iter().take_while(|&byte| byte != 0).collect())
                } else {
                    path_of(&record)
                };
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if let Some((key, extension)) = key_of(&entry) {
                    if sample.key != key {
                        std::mem::take(&mut sample).end(&mut index);
                        sample.key = key.to_vec();
                    }
                    match members.role(&extension) {
                        Role::Image if sample.image.is_none() => {
                            sample.image = Some((data, bytes));
                        }
                        Role::Label(rank) if bytes <= MAX_LABEL && sample.rank > rank => {
                            let mut text = vec![0; bytes as usize];
                            shard.read_at(data, &mut text)?;
                            sample.rank = rank;
                            let is_json = extension.rsplit('.').next() == Some("json");
                            let kind = if is_json { LabelText::Json } else { LabelText::Plain };
                            sample.label = Some((kind(text), entry));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        at = data + bytes.next_multiple_of(BLOCK);
    }
    // A sample before a cut is whole if its image and its label are there.
    sample.end(&mut index);
    Ok(index)
}

/// The compression of a file by its first bytes, and the command that undoes it.
fn compression(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const KINDS: [(&[u8], &str, &str); 4] = [
        (b"\x1F\x8B", "gzip", "gzip -d"),
        (b"BZh", "bzip2", "bzip2 -d"),
        (b"\xFD7zXZ", "xz", "xz -d"),
        (b"\x28\xB5\x2F\xFD", "zstd", "zstd -d"),
    ];
    let found = KINDS.iter().find(|(magic, ..)| bytes.starts_with(magic))?;
    Some((found.1, found.2))
}

/// What a file of a sample is.
pub(super) enum Role {
    Image,
    /// Its label. Of several files, that of the lowest rank counts.
    Label(usize),
    Other,
}

/// The files of one name so far.
struct Sample {
    key: Vec<u8>,
    image: Option<(u64, u64)>,
    /// The label and the name of its file.
    label: Option<(LabelText, Vec<u8>)>,
    rank: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self { key: Vec::new(), image: None, label: None, rank: usize::MAX }
    }
}

impl Sample {
    fn end(self, index: &mut TarIndex) {
        match (self.image, self.label) {
            (Some((offset, bytes)), Some((label, label_entry))) => {
                index.samples.push(Found { offset, bytes, label, label_entry });
            }
            (None, None) if self.key.is_empty() => {}
            _ => index.incomplete += 1,
        }
    }
}

/// The name up to the first dot of its last part, and the rest in lower case. `None` for files without a dot, and for
/// hidden ones. A key need not be UTF-8, because it only groups files.
fn key_of(name: &[u8]) -> Option<(&[u8], String)> {
    let start = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let dot = name[start..].iter().position(|&byte| byte == b'.').filter(|&dot| dot > 0)?;
    let extension = std::str::from_utf8(&name[start + dot + 1..]).ok()?;
    Some((&name[..start + dot], extension.to_lowercase()))
}

fn path_of(record: &[u8]) -> Option<Vec<u8>> {
    let path = PaxExtensions::new(record).flatten().find(|field| field.key_bytes() == b"path");
    path.map(|field| field.value_bytes().to_vec())
}

/// Whether a file with this ending is an image.
pub(super) fn is_image(extension: &str) -> bool {
    let last = extension.rsplit('.').next().unwrap_or_default();
    Format::of_extension(last).is_some_and(Format::is_readable)
}
