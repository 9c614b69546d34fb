//! Tells weights from an error page or a truncated file by the header of a safetensors file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;

use crate::error::{Error, Result};

/// The format allows 100 MB. No classifier needs a tenth of this limit, and parsing costs memory.
const MAX_HEADER_BYTES: u64 = 10_000_000;
const LENGTH_BYTES: u64 = 8;

/// Checks that `path` is a safetensors file with a header that parses and exactly the length that the
/// header promises. Only the header is read.
///
/// # Errors
/// [`Error::NotSafetensors`] with the reason, or [`Error::Io`] if the file cannot be read.
pub fn check_safetensors_header(path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let file_bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let wrong = |reason: String| Error::NotSafetensors { path: path.to_path_buf(), reason };
    if file_bytes < LENGTH_BYTES {
        return Err(wrong(format!("it has only {file_bytes} bytes")));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(Error::io("read", path))?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes - LENGTH_BYTES {
        return Err(wrong(format!("its first 8 bytes promise a header of {header_bytes} bytes")));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(Error::io("read", path))?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| wrong(format!("its header does not parse ({error})")))?;
    let promised = LENGTH_BYTES + header_bytes + metadata.data_len() as u64;
    if promised != file_bytes {
        return Err(wrong(format!(
            "it has {file_bytes} bytes where its header promises {promised}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    const ONE_TENSOR: &str = r#"{"fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[track_caller]
    fn check(bytes: &[u8], reason: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        std::fs::write(&path, bytes).unwrap();
        match (check_safetensors_header(&path), reason) {
            (Ok(()), None) => {}
            (Err(error), Some(reason)) => {
                assert!(error.to_string().contains(reason), "{error}");
            }
            (result, _) => panic!("{result:?}"),
        }
    }

    #[test]
    fn sound_files_pass() {
        check(&file(ONE_TENSOR, 8), None);
        check(&file("{}", 0), None);
    }

    #[test]
    fn unsound_files_are_named() {
        check(b"", Some("only 0 bytes"));
        check(b"<html><body>403 Forbidden</body></html>", Some("promise a header"));
        check(&file(ONE_TENSOR, 7), Some("promises"));
        check(&file(ONE_TENSOR, 9), Some("promises"));
        check(&file("{\"fc.bias\":", 8), Some("does not parse"));
        let wrong_length = ONE_TENSOR.replace("[0,8]", "[0,7]");
        check(&file(&wrong_length, 7), Some("does not parse"));
        check(&u64::MAX.to_le_bytes(), Some("promise a header"));
    }
}
