//! Oxford-IIIT Pet: photos of cats and dogs of 37 breeds.

use serde::Deserialize;

use super::labelled_files::{LabelledFiles, text_of};
use super::{DataSetEntry, OpenRequest, Opened, remedy};
use crate::dataset::Split;
use crate::error::{Error, Result};

const NAME: &str = "oxford_iiit_pet";
const FOLDER: &str = "oxford-iiit-pet";

pub(super) fn entry() -> DataSetEntry {
    let summary = "photos of 37 breeds of cats and dogs; `binary = true` for cat or dog";
    DataSetEntry::new(NAME, summary, open).lies_in([FOLDER]).fetched_as(NAME)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Whether the classes are only cat and dog.
    binary: bool,
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let Options { binary } = request.settings(NAME)?;
    let folder = request.data_dir.join(FOLDER);
    let list = if request.split == Split::Train { "trainval.txt" } else { "test.txt" };
    let path = folder.join("annotations").join(list);
    let text = text_of(&path)?;
    let (mut rows, mut classes) = (Vec::new(), std::collections::BTreeMap::new());
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: usize| words.get(word)?.parse::<u32>().ok()?.checked_sub(1);
        let (Some(breed), Some(species)) = (number(1), number(2)) else {
            let problem =
                format!("line {} is not `NAME CLASS SPECIES BREED` with numbers from 1", i + 1);
            return Err(Error::Invalid { path, problem, remedy: remedy::AGAIN.to_owned() });
        };
        // `Abyssinian_100`, `american_bulldog_100`.
        let name = words[0].rsplit_once('_').map_or(words[0], |(name, _)| name);
        classes.entry(breed).or_insert_with(|| title(name));
        let label = if binary { species } else { breed };
        rows.push((folder.join("images").join(format!("{}.jpg", words[0])), label));
    }
    let classes = if binary {
        vec!["Cat".to_owned(), "Dog".to_owned()]
    } else if classes.keys().copied().eq(0..classes.len() as u32) {
        classes.into_values().collect()
    } else {
        let problem = format!("has classes {:?}, which leave out some", classes.keys());
        return Err(Error::Invalid { path, problem, remedy: remedy::AGAIN.to_owned() });
    };
    let kind = if binary { "oxford_iiit_pet binary" } else { NAME };
    let files = LabelledFiles { kind, folder: &folder, classes, rows, list: &path };
    Ok(files.open(request.read)?.into())
}

/// `american_bulldog` as `American Bulldog`.
fn title(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        first + &letters.as_str().to_lowercase()
    };
    name.split('_').map(word).collect::<Vec<_>>().join(" ")
}
