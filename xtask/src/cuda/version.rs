//! A version of two numbers, such as `13.0`.

use std::fmt;

/// A release of CUDA, or a compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Version {
    /// The version at the beginning of a text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.trim_start().split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest[..end].parse().ok()? })
    }

    /// The first version after `word`.
    pub(super) fn after(word: &str, text: &str) -> Option<Self> {
        text.split(word).skip(1).find_map(Self::parse)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let of = |major, minor| Some(Version { major, minor });
        let nvcc = "Copyright\nCuda compilation tools, release 13.0, V13.0.88\n";
        assert_eq!(Version::after("release", nvcc), of(13, 0));
        let smi = "| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0   |\n";
        assert_eq!(Version::after("CUDA Version:", smi), of(13, 0));
        assert_eq!(Version::after("CUDA Version:", "CUDA Version: N/A  |"), None);
        for text in ["", "13", "a.b", ".5", "[N/A]"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn later_is_greater() {
        assert!(Version::parse("12.9") < Version::parse("13.0"));
        assert!(Version::parse("12.10") > Version::parse("12.9"));
    }
}
