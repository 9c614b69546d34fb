//! Entries of a zip file.

use std::fs::File;
use std::io::BufReader;

use zip::ZipArchive;
use zip::read::ZipFile;

use super::Unpacker;

/// File type bits of a Unix mode, and the two types that are accepted.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;

type Reader = BufReader<File>;

pub(super) fn unpack(file: File, unpacker: &mut Unpacker<'_>) -> crate::Result<()> {
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| unpacker.damaged(error))?;
    check_directory(&mut archive, unpacker)?;
    for index in 0..archive.len() {
        let name = archive.name_for_index(index).and_then(Result::ok).unwrap_or_default();
        let name = name.into_owned();
        let mut entry = archive.by_index(index).map_err(|error| {
            unpacker.refuse(name.as_bytes(), format!("cannot be read ({error})"))
        })?;
        unpack_entry(&mut entry, unpacker)?;
    }
    Ok(())
}

/// Makes the checks that need the list of all entries. The `zip` crate keeps one of two entries with the
/// same name. Overlapping entries are how a small archive becomes a zip bomb.
fn check_directory(archive: &mut ZipArchive<Reader>, unpacker: &Unpacker<'_>) -> crate::Result<()> {
    if archive.has_duplicate_names() {
        return Err(unpacker.damaged("two of its entries have the same name"));
    }
    match archive.has_overlapping_entries() {
        Ok(false) => Ok(()),
        Ok(true) => Err(unpacker.damaged("entries overlap")),
        Err(error) => Err(unpacker.damaged(error)),
    }
}

fn unpack_entry(entry: &mut ZipFile<'_, Reader>, unpacker: &mut Unpacker<'_>) -> crate::Result<()> {
    let name = entry.name_raw().to_vec();
    if entry.encrypted() {
        return Err(unpacker.refuse(&name, "is encrypted"));
    }
    let file_type = entry.unix_mode().unwrap_or(0) & TYPE_MASK;
    if entry.is_symlink() {
        return Err(unpacker.refuse(&name, "is a link"));
    }
    if ![0, TYPE_FILE, TYPE_FOLDER].contains(&file_type) {
        return Err(unpacker.refuse(&name, "is neither file nor folder"));
    }
    let bytes = entry.size();
    if !entry.is_dir() {
        return unpacker.file(&name, bytes, entry);
    }
    if bytes > 0 {
        return Err(unpacker.refuse(&name, "is a folder with contents of its own"));
    }
    unpacker.folder(&name)
}
