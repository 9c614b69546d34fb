//! Recognises a file by its first bytes. A file name says little: a failed download has the right name.

/// The format of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    /// A zip archive, as `torch.save` writes it.
    Zip,
    /// A pickle, PyTorch's older format.
    Pickle,
    /// Not a weight file: what the file is, and what helps.
    Other {
        what: &'static str,
        remedy: &'static str,
    },
}

/// How many bytes at the start of a file are looked at.
pub(super) const START: usize = 512;

const AGAIN: &str = "fetch or copy it again";
const UNPACK: &str = "unpack it first";
const SAVE: &str =
    "save the weights in Python with `torch.save(model.state_dict(), \"weights.pth\")`";
const IMAGE: &str = "name the weight file instead";

/// The first bytes of other formats, with what such a file is and what helps.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs",
        "a git-lfs pointer and not the file itself",
        "run `git lfs pull` where it came from",
    ),
    (b"\xff\xd8\xff", "a JPEG image", IMAGE),
    (b"\x89PNG", "a PNG image", IMAGE),
    (b"GIF8", "a GIF image", IMAGE),
    (b"RIFF", "a WebP image or a sound", IMAGE),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write it", SAVE),
    (b"\x93NUMPY", "a NumPy array", SAVE),
    (b"GGUF", "a GGUF file of a language model", SAVE),
    (b"\x1f\x8b", "compressed with gzip", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ", "compressed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", UNPACK),
    (b"Rar!", "a RAR archive", UNPACK),
    (b"%PDF", "a PDF document", IMAGE),
    (b"\x7fELF", "a program", IMAGE),
    (b"MZ", "a Windows program", IMAGE),
    (b"#!", "a script", IMAGE),
];

/// The format of a file of `len` bytes that begins with `start`.
pub(super) fn kind(start: &[u8], len: u64) -> Kind {
    let other = |what, remedy| Kind::Other { what, remedy };
    if len == 0 {
        return other("empty", AGAIN);
    }
    // This check comes first, because the length of a safetensors header may look like another signature: "MZ"
    // is 23117.
    if start.get(8) == Some(&b'{') && is_safetensors(start, len) {
        return Kind::Safetensors;
    }
    for (signature, what, remedy) in SIGNATURES {
        if start.starts_with(signature) {
            return other(what, remedy);
        }
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Kind::Zip;
    }
    if is_safetensors(start, len) {
        return Kind::Safetensors;
    }
    if start.first() == Some(&0x80) && start.get(1).is_some_and(|version| (2..=5).contains(version))
    {
        return Kind::Pickle;
    }
    if start.get(257..262) == Some(b"ustar") {
        // PyTorch's own tar format is older than PyTorch 0.1.10.
        return other("a tar archive", UNPACK);
    }
    if start.get(4..8) == Some(b"TFL3") {
        return other("a TensorFlow Lite model", SAVE);
    }
    // Protocol buffers: an ONNX file begins with its version (3 to 30), a TensorFlow SavedModel with 1.
    match start {
        [0x08, 1, 0x12, ..] => return other("a TensorFlow model", SAVE),
        [0x08, 3..=30, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..] => {
            return other("an ONNX model", SAVE);
        }
        _ => {}
    }
    text(start).unwrap_or_else(|| other("neither a safetensors nor a PyTorch file", SAVE))
}

/// A safetensors file begins with eight bytes that hold the length of the header. The header begins with a
/// brace.
fn is_safetensors(start: &[u8], len: u64) -> bool {
    let header = start.first_chunk::<8>().map(|header| u64::from_le_bytes(*header));
    let brace = start.get(8).is_none_or(|byte| *byte == b'{');
    // A header longer than the file means a file that is cut short, unless the number is too large for any
    // header.
    header.is_some_and(|header| header >= 2 && brace && (header <= len || header < 1 << 40))
}

fn text(start: &[u8]) -> Option<Kind> {
    let text = start.trim_ascii_start();
    let begins = |with: &str| {
        text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with.as_bytes()))
    };
    let other = |what, remedy| Some(Kind::Other { what, remedy });
    if begins("<!doctype html") || begins("<html") || begins("<head") {
        return other(
            "an HTML page: a site answered instead of handing out the file",
            "download it from the address of the file itself, signed in if need be",
        );
    }
    if begins("<?xml") || begins("<") {
        return other(
            "an XML page and not the file itself",
            "download it again from the address of the file",
        );
    }
    if begins("{") || begins("[{") {
        return other(
            "JSON: an index of several files, a configuration or an error message",
            "name the file that holds the weights, a .safetensors or .pth file",
        );
    }
    let is_text = !start.is_empty()
        && start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..));
    let remedy = "name the file that holds the weights, a .safetensors or .pth file";
    if is_text { other("text and no weight file", remedy) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(start: &[u8], expected: &str) {
        match kind(start, start.len() as u64) {
            Kind::Other { what, .. } => assert!(what.contains(expected), "{what}"),
            kind => panic!("{kind:?}, expected {expected}"),
        }
    }

    #[test]
    fn files_that_are_no_weights_are_told_apart() {
        is(b"", "empty");
        is(b"\n <!DOCTYPE html><html>", "HTML");
        is(b"<HTML>", "HTML");
        is(b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs");
        is(b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG");
        is(b"\x89HDF\r\n\x1a\n\0\0\0\0", "HDF5");
        is(b"\x08\x07\x12\x07pytorch\x1a\x052.0.1", "ONNX");
        is(b"\x08\x01\x12\x9c\x04", "TensorFlow");
        is(b"{\"metadata\": {}}", "JSON");
        is(b"[model]\nname = 3\n", "text");
        is(b"\0\0\0\0\0\0\0\0\0\0", "neither");
    }

    #[test]
    fn weights_are_known_by_their_content() {
        assert_eq!(kind(b"PK\x03\x04....", 100), Kind::Zip);
        assert_eq!(kind(b"\x80\x02\x8a\x0al\xfc\x9c", 100), Kind::Pickle);
        assert_eq!(kind(b"\x10\0\0\0\0\0\0\0{\"a\"", 100), Kind::Safetensors);
        assert_eq!(kind(b"MZ\0\0\0\0\0\0{\"a\"", 50_000), Kind::Safetensors);
    }
}
