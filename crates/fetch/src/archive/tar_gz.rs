//! Reads the entries of a gzipped tar file. The `tar` crate's own unpacking is not used.

use std::fs::File;
use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::Unpacker;
use crate::error::Result;

/// Long names and pax records are read into memory. No honest record comes near this size.
const MAX_RECORD_BYTES: u64 = 64 * 1024;
/// Tar pads with zeros to whole blocks. So many bytes after the end mark are read to reach gzip's checksum.
const MAX_PADDING_BYTES: u64 = 1 << 20;

type GzReader = MultiGzDecoder<BufReader<File>>;

pub(super) fn unpack(file: File, unpacker: &mut Unpacker<'_>) -> Result<()> {
    let mut archive = Archive::new(MultiGzDecoder::new(BufReader::new(file)));
    // Raw mode: otherwise the crate would read long names of any length into memory.
    let entries = archive.entries().map_err(|error| unpacker.damaged(error))?.raw(true);
    let mut long_name = None;
    for entry in entries {
        let mut entry = entry.map_err(|error| unpacker.damaged(error))?;
        match entry.header().entry_type() {
            EntryType::GNULongName | EntryType::XHeader => {
                if let Some(name) = read_long_name(&mut entry, unpacker)? {
                    long_name = Some(name);
                }
            }
            // A comment for the whole archive. `git archive` writes one.
            EntryType::XGlobalHeader => {}
            kind => {
                let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                unpack_entry(kind, &name, &mut entry, unpacker)?;
            }
        }
    }
    check_end(archive.into_inner(), unpacker)
}

fn unpack_entry(
    kind: EntryType,
    name: &[u8],
    entry: &mut Entry<'_, GzReader>,
    unpacker: &mut Unpacker<'_>,
) -> Result<()> {
    let bytes = entry.header().entry_size().map_err(|error| unpacker.damaged(error))?;
    // Old tar files have no folder type. Their folder names end with a slash instead.
    let is_folder = kind.is_dir() || (kind.is_file() && name.ends_with(b"/"));
    match kind {
        _ if is_folder && bytes == 0 => unpacker.folder(name),
        _ if is_folder => Err(unpacker.refuse(name, "is a folder with contents of its own")),
        EntryType::Regular => unpacker.file(name, bytes, entry),
        EntryType::Symlink | EntryType::Link => {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            Err(unpacker.refuse(name, format!("is a link (to `{}`)", target.escape_debug())))
        }
        kind => {
            let code = char::from(kind.as_byte()).escape_default();
            Err(unpacker.refuse(name, format!("is neither file nor folder (type `{code}`)")))
        }
    }
}

/// The name that a GNU or pax record gives to the next entry, if it gives one.
fn read_long_name(
    entry: &mut Entry<'_, GzReader>,
    unpacker: &Unpacker<'_>,
) -> Result<Option<Vec<u8>>> {
    let name = entry.path_bytes().into_owned();
    let bytes = entry.header().entry_size().map_err(|error| unpacker.damaged(error))?;
    if bytes > MAX_RECORD_BYTES {
        return Err(unpacker.refuse(&name, format!("is a name record of {bytes} bytes")));
    }
    let is_gnu = entry.header().entry_type().is_gnu_longname();
    let mut record = Vec::new();
    entry.read_to_end(&mut record).map_err(|error| unpacker.damaged(error))?;
    if is_gnu {
        while record.last() == Some(&0) {
            record.pop();
        }
        return Ok(Some(record));
    }
    let mut path = None;
    for extension in PaxExtensions::new(&record) {
        let extension = extension.map_err(|error| unpacker.damaged(error))?;
        match extension.key_bytes() {
            b"path" => path = Some(extension.value_bytes().to_vec()),
            // If there were a second length, two readers could see two different archives.
            b"size" => return Err(unpacker.refuse(&name, "overrides the length of its file")),
            _ => {}
        }
    }
    Ok(path)
}

/// Reads to the end of the gzip stream. The checksum there shows whether the stream is complete.
fn check_end(rest: GzReader, unpacker: &Unpacker<'_>) -> Result<()> {
    let read = io::copy(&mut rest.take(MAX_PADDING_BYTES), &mut io::sink())
        .map_err(|error| unpacker.damaged(error))?;
    if read == MAX_PADDING_BYTES {
        return Err(unpacker.damaged("more data after its end mark"));
    }
    Ok(())
}
