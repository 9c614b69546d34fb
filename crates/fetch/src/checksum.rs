//! SHA-256 and MD5 sums, and the facts known about a file before it is read.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const DIGITS_OF_SHA256: usize = 64;
const CHUNK: usize = 1 << 16;

/// A SHA-256 in hexadecimal. It holds all 64 digits, or only the leading ones where no more are published.
/// For example, PyTorch puts the first eight digits of a weight file's sum into the file's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sha256Sum(String);

impl Sha256Sum {
    /// Takes 8 to 64 hexadecimal digits in either case.
    ///
    /// # Errors
    /// [`Error::BadChecksum`] for anything else.
    ///
    /// # Example
    /// ```
    /// use candle_vision_fetch::Sha256Sum;
    /// let sum = Sha256Sum::new("F37072FD")?;
    /// assert_eq!(sum.to_string(), "f37072fd");
    /// assert!(Sha256Sum::new("not a sum").is_err());
    /// # Ok::<(), candle_vision_fetch::Error>(())
    /// ```
    pub fn new(digits: &str) -> Result<Self> {
        let sound = (8..=DIGITS_OF_SHA256).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !sound {
            return Err(Error::BadChecksum(digits.to_owned()));
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }

    /// Whether a full sum (64 lower-case digits) begins with the digits known here.
    pub fn matches(&self, full: &str) -> bool {
        full.len() == DIGITS_OF_SHA256 && full.starts_with(&self.0)
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An MD5 in hexadecimal: the only sum that the makers of several data sets publish. It finds accidents, but no attacks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Md5Sum(String);

impl Md5Sum {
    /// Takes 32 hexadecimal digits in either case.
    ///
    /// # Errors
    /// [`Error::BadChecksum`] for anything else.
    ///
    /// # Example
    /// ```
    /// use candle_vision_fetch::Md5Sum;
    /// assert!(Md5Sum::new("900150983CD24FB0D6963F7D28E17F72").is_ok());
    /// assert!(Md5Sum::new("900150983CD24FB0").is_err());
    /// ```
    pub fn new(digits: &str) -> Result<Self> {
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::BadChecksum(digits.to_owned()));
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }
}

impl fmt::Display for Md5Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a file's bytes as 64 lower-case hexadecimal digits.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    sum_of_file::<Sha256>(path)
}

fn sum_of_file<D: Digest>(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = D::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a file and the facts known about its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Name of the file, without folders.
    pub name: String,
    /// Its length in bytes, if known.
    pub bytes: Option<u64>,
    /// Its sum, if known.
    pub sha256: Option<Sha256Sum>,
    /// Its MD5, if that is known.
    pub md5: Option<Md5Sum>,
}

impl FileSpec {
    /// A file of which only the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), bytes: None, sha256: None, md5: None }
    }

    /// Whether a sum is known.
    pub(crate) fn has_sum(&self) -> bool {
        self.sha256.is_some() || self.md5.is_some()
    }

    /// Checks the length and the sums of the file at `path`, as far as they are known.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the first difference, or [`Error::Io`] if the file cannot be read.
    pub fn verify(&self, path: &Path) -> Result<()> {
        self.verify_length(path)?;
        if let Some(expected) = &self.md5 {
            let found = sum_of_file::<Md5>(path)?;
            if expected.0 != found {
                return Err(mismatch(path, "md5", expected.to_string(), found));
            }
        }
        let Some(expected) = &self.sha256 else {
            return Ok(());
        };
        let found = sha256_of_file(path)?;
        if expected.matches(&found) {
            return Ok(());
        }
        Err(mismatch(path, "sha256", expected.to_string(), found))
    }

    /// Checks that `path` is a file of the known length. Its contents are not read.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the length differs, or [`Error::Io`] if there is no such file.
    pub fn verify_length(&self, path: &Path) -> Result<()> {
        let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
        if !metadata.is_file() {
            return Err(mismatch(path, "kind", "a file".into(), "a folder".into()));
        }
        match self.bytes {
            Some(expected) if expected != metadata.len() => {
                let found = format!("{} bytes", metadata.len());
                Err(mismatch(path, "length", format!("{expected} bytes"), found))
            }
            _ => Ok(()),
        }
    }
}

fn mismatch(path: &Path, what: &str, expected: String, found: String) -> Error {
    Error::Mismatch {
        path: path.to_path_buf(),
        what: what.to_owned(),
        expected,
        found,
        remedy: "the file is damaged or another one, get it again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(bytes: Option<u64>, sum: Option<&str>) -> FileSpec {
        FileSpec {
            name: "abc".to_owned(),
            bytes,
            sha256: sum.map(|digits| Sha256Sum::new(digits).expect("written out below")),
            md5: None,
        }
    }

    /// The sum of `abc` is the first example of FIPS 180-4.
    const SUM_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_published_example_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), SUM_OF_ABC);
        spec(Some(3), Some(SUM_OF_ABC)).verify(&path).unwrap();
        spec(None, Some("BA7816BF")).verify(&path).unwrap();
        spec(None, None).verify(&path).unwrap();
    }

    /// The sum of `abc` is an example of RFC 1321.
    #[test]
    fn an_md5_is_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let md5 = Some(Md5Sum::new("900150983cd24fb0d6963f7d28e17f72").unwrap());
        let spec = FileSpec { md5, ..FileSpec::named("abc") };
        spec.verify(&path).unwrap();
        std::fs::write(&path, "abd").unwrap();
        let error = spec.verify(&path).unwrap_err().to_string();
        assert!(error.contains("md5 is ") && error.contains("900150983cd2"), "{error}");
    }

    #[test]
    fn a_difference_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abd").unwrap();
        let length = spec(Some(4), None).verify(&path).unwrap_err().to_string();
        assert!(length.contains("length is 3 bytes, expected 4 bytes"), "{length}");
        let sum = spec(Some(3), Some(SUM_OF_ABC)).verify(&path).unwrap_err().to_string();
        assert!(sum.contains(SUM_OF_ABC) && sum.contains("abc"), "{sum}");
        assert!(spec(None, None).verify(folder.path()).is_err());
    }

    #[test]
    fn only_hexadecimal_sums_are_taken() {
        for wrong in ["", "1234567", "g2345678", &"0".repeat(65)] {
            assert!(Sha256Sum::new(wrong).is_err(), "{wrong}");
        }
        // Too short to be a full sum, so never a match.
        assert!(!Sha256Sum::new("ba7816bf").unwrap().matches("ba7816bf"));
    }
}
