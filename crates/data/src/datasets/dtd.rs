//! The Describable Textures Dataset.

use serde::Deserialize;

use super::labelled_files::{LabelledFiles, text_of};
use super::{DataSetEntry, OpenRequest, Opened, find_folder, remedy};
use crate::error::{Error, Result};

const NAME: &str = "dtd";
/// torchvision unpacks the archive's folder `dtd` into a folder of that name.
const FOLDERS: [&str; 2] = ["dtd/dtd", NAME];

pub(super) fn entry() -> DataSetEntry {
    let summary = "photos of 47 textures; `partition` 1 to 10 chooses the official splits";
    DataSetEntry::new(NAME, summary, open).lies_in(FOLDERS).fetched_as(NAME).has_test_images()
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Which of the ten official divisions into splits is used.
    partition: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { partition: 1 }
    }
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let Options { partition } = request.settings(NAME)?;
    if !(1..=10).contains(&partition) {
        let reason = format!("must be 1 to 10, not {partition}");
        return Err(Error::InvalidSetting { setting: "options.partition", reason });
    }
    let is_there = |folder: &std::path::Path| folder.join("labels").is_dir();
    let folder = find_folder(&request.data_dir, &FOLDERS, is_there);
    let folder = folder.unwrap_or_else(|| request.data_dir.join(FOLDERS[0]));
    let path = folder.join("labels").join(format!("{}{partition}.txt", request.split));
    let text = text_of(&path)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let class = |line: &&str| line.split_once('/').map(|(class, _)| class.to_owned());
    let Some(of_lines) = lines.iter().map(class).collect::<Option<Vec<String>>>() else {
        let problem = "has a line that is not `CLASS/FILE`".to_owned();
        return Err(Error::Invalid { path, problem, remedy: remedy::AGAIN.to_owned() });
    };
    let mut classes = of_lines.clone();
    classes.sort();
    classes.dedup();
    let label = |class: &String| classes.partition_point(|known| known < class) as u32;
    let file = |line: &str| folder.join("images").join(line);
    let rows = lines.iter().zip(&of_lines).map(|(line, class)| (file(line), label(class)));
    let (rows, kind, list) = (rows.collect(), NAME, path.as_path());
    let files = LabelledFiles { kind, folder: &folder, classes, rows, list };
    Ok(files.open(request.read)?.into())
}
