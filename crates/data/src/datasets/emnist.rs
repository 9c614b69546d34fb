//! EMNIST: handwritten digits and letters in the file format of MNIST.

use serde::Deserialize;

use super::mnist::Kind;
use super::{DataSetEntry, Mnist, OpenRequest, Opened};
use crate::error::{Error, Result};

const NAME: &str = "emnist";
const FOLDERS: [&str; 3] = [NAME, "EMNIST/raw", "emnist/gzip"];

pub(super) fn entry() -> DataSetEntry {
    let summary = "handwritten digits and letters, 28x28 grey; `part` chooses the classes: balanced \
                   (the default), byclass, bymerge, letters, digits or mnist";
    DataSetEntry::new(NAME, summary, open)
        .lies_in(FOLDERS)
        .fetched_as(NAME)
        .image_shape([1, 28, 28])
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// One of the six official parts.
    part: String,
    /// Whether images are turned upright. In the files they are transposed, and torchvision leaves them so.
    upright: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { part: "balanced".to_owned(), upright: false }
    }
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let Options { part, upright } = request.settings(NAME)?;
    let classes = classes(&part)?;
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    let kind = Kind::new("EMNIST", &FOLDERS, &classes)
        .stems([format!("emnist-{part}-train"), format!("emnist-{part}-test")]);
    let images = Mnist::open_kind(&request.data_dir, request.split, kind)?;
    Ok(if upright { images.transposed() } else { images }.into())
}

/// torchvision's classes of a part.
fn classes(part: &str) -> Result<Vec<String>> {
    /// Small letters that look like their capital ones.
    const MERGED: &str = "cijklmopsuvwxyz";
    let (digits, small) = ('0'..='9', 'a'..='z');
    let all = || digits.clone().chain('A'..='Z').chain(small.clone());
    let classes: Vec<String> = match part {
        "byclass" => all().map(String::from).collect(),
        "bymerge" | "balanced" => {
            all().filter(|&c| !MERGED.contains(c)).map(String::from).collect()
        }
        // The labels of the letters begin at 1.
        "letters" => std::iter::once("N/A".to_owned()).chain(small.map(String::from)).collect(),
        "digits" | "mnist" => digits.map(String::from).collect(),
        other => {
            let reason = format!(
                "is `{other}`, which is not balanced, byclass, bymerge, letters, digits or mnist"
            );
            return Err(Error::InvalidSetting { setting: "options.part", reason });
        }
    };
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_torchvision_s_classes() {
        let count = |part| classes(part).unwrap().len();
        assert_eq!(["byclass", "bymerge", "balanced"].map(count), [62, 47, 47]);
        assert_eq!(["letters", "digits", "mnist"].map(count), [27, 10, 10]);
        assert_eq!(classes("balanced").unwrap()[36..38], ["a", "b"]);
        assert!(classes("all").is_err());
    }
}
