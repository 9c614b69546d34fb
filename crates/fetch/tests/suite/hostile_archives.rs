//! Archives that try to write elsewhere, to overwrite, to fill the disk, or that are damaged: each
//! is an error that names the entry, and nothing is written outside the new folder or kept.

use std::io::Write;
use std::path::Path;

use candle_vision_fetch::{ArchiveKind, Error, Limits, unpack};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::names;

/// Limits small enough to pass in a test.
fn limits() -> Limits {
    Limits { max_bytes: 4 << 20, max_entries: 10, max_ratio: 50, max_name_bytes: 200 }
}

/// Unpacks in a folder of its own, beside which a `secret` lies, and gives the result.
fn unpack_bytes(bytes: &[u8], kind: ArchiveKind, examine: impl FnOnce(&Path, Result<(), Error>)) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(outer.path().join("secret"), "untouched").unwrap();
    std::fs::write(inner.join("archive"), bytes).unwrap();
    let target = inner.join("target");
    let result = unpack(&inner.join("archive"), kind, &target, &limits());
    examine(&target, result);
    assert_eq!(names(outer.path()), ["inner", "secret"]);
    assert_eq!(std::fs::read(outer.path().join("secret")).unwrap(), b"untouched");
}

#[track_caller]
fn refused(bytes: &[u8], kind: ArchiveKind, entry: &str, reason: &str) {
    unpack_bytes(bytes, kind, |target, result| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Archive { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(entry) && text.contains(reason), "{text}");
        assert!(!target.exists(), "{text}");
        assert_eq!(names(target.parent().unwrap()), ["archive"], "{text}");
    });
}

// ---- tar ----

/// A tar header of 512 bytes with a right checksum, whatever it says.
fn tar_header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link);
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn tar_entry(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut entry = tar_header(name, kind, content.len() as u64, b"");
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    gzip(&bytes)
}

#[track_caller]
fn tar_refused(entries: &[Vec<u8>], entry: &str, reason: &str) {
    refused(&tar(entries), ArchiveKind::TarGz, entry, reason);
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}

#[test]
fn a_plain_tar_is_unpacked() {
    let long = "x".repeat(120);
    let entries = [
        tar_entry(b"./", b'5', b""),
        tar_entry(b"a/", b'5', b""),
        tar_entry(b"a/file", b'0', b"hello"),
        tar_entry(b"implied/deep/old", 0, b""),
        tar_entry(b"implied/", b'5', b""),
        tar_entry(b"old-style-folder/", b'0', b""),
        tar_entry(b"pax_global_header", b'g', &pax("comment", "made by git")),
        tar_entry(b"././@LongLink", b'L', format!("{long}\0").as_bytes()),
        tar_entry(b"cut", b'0', b"gnu"),
        tar_entry(b"x", b'x', &[pax("mtime", "1.5"), pax("path", "by-pax")].concat()),
        tar_entry(b"cut", b'0', b"pax"),
    ];
    unpack_bytes(&tar(&entries), ArchiveKind::TarGz, |target, result| {
        result.unwrap();
        let top = ["a", "by-pax", "implied", "old-style-folder", &long];
        assert_eq!(names(target), top);
        assert_eq!(std::fs::read(target.join("a/file")).unwrap(), b"hello");
        assert_eq!(std::fs::read(target.join(&long)).unwrap(), b"gnu");
    });
}

#[test]
fn tar_names_that_lead_elsewhere() {
    for name in ["../secret", "a/../../secret", "a/..", ".."] {
        tar_refused(&[tar_entry(name.as_bytes(), b'0', b"x")], name, "`..`");
    }
    tar_refused(&[tar_entry(b"/etc/passwd", b'0', b"x")], "/etc/passwd", "absolute");
    tar_refused(&[tar_entry(b"//host/share", b'0', b"x")], "//host/share", "absolute");
    tar_refused(&[tar_entry(b"..\\secret", b'0', b"x")], "secret", "backslash");
    tar_refused(&[tar_entry(b"C:secret", b'0', b"x")], "C:secret", "colon");
    tar_refused(&[tar_entry(b"a//b", b'0', b"x")], "a//b", "empty part");
    tar_refused(&[tar_entry(b"a\nb", b'0', b"x")], "a\\nb", "control");
    tar_refused(&[tar_entry(b"a\xff", b'0', b"x")], "a", "UTF-8");
    tar_refused(&[tar_entry(b"con. ", b'0', b"x")], "con. ", "dot or space");
    tar_refused(&[tar_entry(b"", b'0', b"x")], "(no name)", "no name");
}

#[test]
fn tar_long_names_are_checked_as_well() {
    let gnu = tar_entry(b"././@LongLink", b'L', b"../secret\0");
    tar_refused(&[gnu, tar_entry(b"harmless", b'0', b"x")], "../secret", "`..`");
    let by_pax = tar_entry(b"x", b'x', &pax("path", "/etc/passwd"));
    tar_refused(&[by_pax, tar_entry(b"harmless", b'0', b"x")], "/etc/passwd", "absolute");
    let endless = tar_entry(b"././@LongLink", b'L', &vec![b'a'; 100_000]);
    tar_refused(&[endless, tar_entry(b"a", b'0', b"x")], "@LongLink", "record of 100000 bytes");
    let size = tar_entry(b"x", b'x', &pax("size", "9"));
    tar_refused(&[size, tar_entry(b"a", b'0', b"x")], "x", "overrides the length");
    let long = tar_entry(b"././@LongLink", b'L', &[b'a'; 300]);
    tar_refused(&[long, tar_entry(b"a", b'0', b"x")], "aaaa", "name of 300 bytes");
}

#[test]
fn tar_entries_that_are_no_files() {
    let link = |kind, name: &[u8], to: &[u8]| tar_header(name, kind, 0, to);
    tar_refused(&[link(b'2', b"link", b"../secret")], "link", "is a link (to `../secret`)");
    tar_refused(&[link(b'2', b"link", b"harmless")], "link", "is a link");
    tar_refused(&[link(b'1', b"hard", b"/etc/passwd")], "hard", "is a link");
    // The classic: a link to a folder outside, then a file through it.
    let through = [link(b'2', b"out", b".."), tar_entry(b"out/secret", b'0', b"x")];
    tar_refused(&through, "out", "is a link");
    for (kind, name) in [(b'3', "char"), (b'4', "block"), (b'6', "fifo"), (b'7', "contiguous")] {
        tar_refused(&[tar_header(name.as_bytes(), kind, 0, b"")], name, "neither file nor folder");
    }
    tar_refused(&[tar_header(b"sparse", b'S', 0, b"")], "sparse", "neither file nor folder");
    tar_refused(&[tar_entry(b"folder/", b'5', b"content")], "folder/", "contents of its own");
}

#[test]
fn tar_names_that_occur_twice() {
    let file = |name: &[u8]| tar_entry(name, b'0', b"x");
    tar_refused(&[file(b"a"), file(b"a")], "a", "occurs twice");
    tar_refused(&[file(b"a/b"), file(b"./a/b")], "./a/b", "occurs twice");
    tar_refused(&[file(b"README"), file(b"readme")], "readme", "occurs twice");
    tar_refused(&[file(b"a"), file(b"a/b")], "a/b", "below a name that is a file");
    tar_refused(&[file(b"a/b"), file(b"a")], "a", "occurs twice");
    tar_refused(&[file(b"a"), tar_entry(b"a/", b'5', b"")], "a/", "occurs twice");
}

#[test]
fn tar_bombs() {
    let zeros = vec![0; 3 << 20];
    tar_refused(&[tar_entry(b"zeros", b'0', &zeros)], "zeros", "more than 50 times");
    let huge = tar_header(b"huge", b'0', 7 << 30, b"");
    tar_refused(&[huge], "huge", "limit of 4194304 bytes");
    let noise = crate::support::noise(3 << 20);
    let twice = [tar_entry(b"one", b'0', &noise), tar_entry(b"two", b'0', &noise)];
    tar_refused(&twice, "two", "limit of 4194304 bytes");
    let many: Vec<_> = (0..11).map(|n| tar_entry(format!("f{n}").as_bytes(), b'0', b"")).collect();
    tar_refused(&many, "f10", "limit of 10");
    let deep = tar_entry("d/".repeat(11).as_bytes(), b'5', b"");
    // Each folder on the way counts.
    tar_refused(&[deep, tar_entry(b"f", b'0', b"")], "f", "limit of 10");
    // A long tail behind the end mark, which other readers may show as further entries.
    let mut tail = tar_entry(b"a", b'0', b"x");
    tail.resize(tail.len() + (2 << 20), 0);
    refused(&gzip(&tail), ArchiveKind::TarGz, "", "after its end mark");
}

#[test]
fn damaged_tars() {
    let whole = tar(&[tar_entry(b"a", b'0', &crate::support::noise(5000))]);
    for cut in [0, 5, 100, 3000, whole.len() - 9, whole.len() - 4] {
        refused(&whole[..cut], ArchiveKind::TarGz, "", "damaged");
    }
    let mut flipped = whole.clone();
    flipped[2000] ^= 0x10;
    refused(&flipped, ArchiveKind::TarGz, "", "damaged");
    let mut checksum = tar_entry(b"a", b'0', b"x");
    checksum[0] = b'b';
    refused(&gzip(&checksum), ArchiveKind::TarGz, "", "damaged");
    refused(b"<html>403 Forbidden</html>", ArchiveKind::TarGz, "", "damaged");
    let promised = [tar_header(b"short", b'0', 5000, b""), vec![1; 512]].concat();
    refused(&gzip(&promised), ArchiveKind::TarGz, "short", "5000");
}

// ---- zip ----

struct ZipEntry {
    name: Vec<u8>,
    content: Vec<u8>,
    /// As declared in both headers.
    size: u32,
    /// 0: stored, 8: deflated.
    method: u16,
    crc: u32,
    mode: u32,
    flags: u16,
}

fn zip_entry(name: &[u8], content: &[u8]) -> ZipEntry {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    ZipEntry {
        name: name.to_vec(),
        content: content.to_vec(),
        size: content.len() as u32,
        method: 0,
        crc: crc.sum(),
        mode: 0o100_644,
        flags: 0,
    }
}

fn with_mode(name: &[u8], mode: u32, content: &[u8]) -> ZipEntry {
    ZipEntry { mode, ..zip_entry(name, content) }
}

fn deflated(name: &[u8], content: &[u8]) -> ZipEntry {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    ZipEntry { content: encoder.finish().unwrap(), method: 8, ..zip_entry(name, content) }
}

/// Writes the entries as they are told, without a writer's own checks.
fn zip(entries: &[ZipEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = bytes.len() as u32;
        let mut common = Vec::new();
        common.extend_from_slice(&20_u16.to_le_bytes());
        common.extend_from_slice(&entry.flags.to_le_bytes());
        common.extend_from_slice(&entry.method.to_le_bytes());
        common.extend_from_slice(&[0, 0, 0x21, 0]); // time and date: 1980-01-01
        common.extend_from_slice(&entry.crc.to_le_bytes());
        common.extend_from_slice(&(entry.content.len() as u32).to_le_bytes());
        common.extend_from_slice(&entry.size.to_le_bytes());
        common.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
        common.extend_from_slice(&[0, 0]); // no extra field
        bytes.extend_from_slice(b"PK\x03\x04");
        bytes.extend_from_slice(&common);
        bytes.extend_from_slice(&entry.name);
        bytes.extend_from_slice(&entry.content);
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&[20, 3]); // made on Unix: the mode counts
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 6]); // no comment, disk 0, binary
        directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(&entry.name);
    }
    let start = bytes.len() as u32;
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    bytes.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

#[track_caller]
fn zip_refused(entries: &[ZipEntry], entry: &str, reason: &str) {
    refused(&zip(entries), ArchiveKind::Zip, entry, reason);
}

#[test]
fn a_plain_zip_is_unpacked() {
    let text = b"hello hello hello hello".repeat(10);
    let entries = [
        with_mode(b"a/", 0o040_755, b""),
        zip_entry(b"a/stored", b"hello"),
        deflated(b"implied/deflated", &text),
        with_mode(b"no-mode", 0, b"x"),
    ];
    unpack_bytes(&zip(&entries), ArchiveKind::Zip, |target, result| {
        result.unwrap();
        assert_eq!(names(target), ["a", "implied", "no-mode"]);
        assert_eq!(std::fs::read(target.join("implied/deflated")).unwrap(), text);
    });
}

#[test]
fn zip_names_that_lead_elsewhere() {
    for name in ["../secret", "a/../../secret", "a/.."] {
        zip_refused(&[zip_entry(name.as_bytes(), b"x")], name, "`..`");
    }
    zip_refused(&[zip_entry(b"/etc/passwd", b"x")], "/etc/passwd", "absolute");
    zip_refused(&[zip_entry(b"..\\secret", b"x")], "secret", "backslash");
    zip_refused(&[zip_entry(b"C:/secret", b"x")], "C:/secret", "colon");
    zip_refused(&[zip_entry(b"a\xff", b"x")], "a", "UTF-8");
    zip_refused(&[zip_entry(b"a\0.jpg", b"x")], "a\\0.jpg", "control");
}

#[test]
fn zip_entries_that_are_no_files() {
    zip_refused(&[with_mode(b"link", 0o120_777, b"../secret")], "link", "is a link");
    zip_refused(&[with_mode(b"fifo", 0o010_644, b"")], "fifo", "neither file nor folder");
    zip_refused(&[with_mode(b"device", 0o020_644, b"")], "device", "neither file nor folder");
    zip_refused(&[zip_entry(b"folder/", b"content")], "folder/", "contents of its own");
    let mut encrypted = zip_entry(b"locked", b"xxxxxxxxxxxxxxxx");
    encrypted.flags = 1;
    zip_refused(&[encrypted], "locked", "");
}

#[test]
fn zip_names_that_occur_twice() {
    let file = |name: &[u8]| zip_entry(name, b"x");
    zip_refused(&[file(b"a"), file(b"a")], "", "same name");
    zip_refused(&[file(b"README"), file(b"readme")], "readme", "occurs twice");
    zip_refused(&[file(b"a"), file(b"a/b")], "a/b", "below a name that is a file");
}

#[test]
fn zip_bombs() {
    zip_refused(&[deflated(b"zeros", &vec![0; 3 << 20])], "zeros", "more than 50 times");
    let mut lie = zip_entry(b"lie", b"four");
    lie.size = 3;
    zip_refused(&[lie], "lie", "");
    let mut huge = zip_entry(b"huge", b"x");
    huge.size = u32::MAX - 1;
    zip_refused(&[huge], "huge", "limit of 4194304 bytes");
    let many: Vec<_> = (0..11).map(|n| zip_entry(format!("f{n}").as_bytes(), b"")).collect();
    zip_refused(&many, "f10", "limit of 10");
    // Many entries that share one body.
    let mut overlap = zip(&[zip_entry(b"one", b"shared"), zip_entry(b"two", b"shared")]);
    let second = overlap.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    overlap[second + 42..second + 46].copy_from_slice(&0_u32.to_le_bytes());
    refused(&overlap, ArchiveKind::Zip, "", "overlap");
}

#[test]
fn damaged_zips() {
    let whole = zip(&[zip_entry(b"a", &crate::support::noise(5000))]);
    for cut in [0, 5, 3000, whole.len() - 10] {
        refused(&whole[..cut], ArchiveKind::Zip, "", "damaged");
    }
    let mut flipped = whole.clone();
    flipped[2000] ^= 1;
    refused(&flipped, ArchiveKind::Zip, "a", "damaged");
    refused(b"<html>403 Forbidden</html>", ArchiveKind::Zip, "", "damaged");
}

#[test]
fn an_existing_target_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, target) = (folder.path().join("archive"), folder.path().join("target"));
    std::fs::write(&archive, zip(&[zip_entry(b"a", b"new")])).unwrap();
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("a"), "old").unwrap();
    let error = unpack(&archive, ArchiveKind::Zip, &target, &limits()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert_eq!(std::fs::read(target.join("a")).unwrap(), b"old");
}
