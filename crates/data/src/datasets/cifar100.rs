//! CIFAR-100 in its binary format: records of two label bytes and 3072 pixel bytes.

use std::path::Path;

use serde::Deserialize;

use super::planes::Planes;
use super::{DataSetEntry, OpenRequest, Opened, find_folder, names_in, remedy};
use crate::dataset::Split;
use crate::error::{Error, Result};

const SIDE: usize = 32;
const RECORD: usize = 2 + Planes::bytes(SIDE);
const NAME: &str = "cifar100";
/// The usual names of the folder inside a data folder, best first.
const FOLDERS: [&str; 2] = ["cifar-100-binary", NAME];

const FINE: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus \
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile \
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower \
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter \
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket \
    rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper \
    table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf \
    woman worm";
const COARSE: &str = "aquatic_mammals fish flowers food_containers fruit_and_vegetables \
    household_electrical_devices household_furniture insects large_carnivores \
    large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores \
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2";

pub(super) fn entry() -> DataSetEntry {
    let summary = "photos of a hundred classes, 32x32; `coarse = true` for its 20 superclasses";
    DataSetEntry::new(NAME, summary, open)
        .lies_in(FOLDERS)
        .fetched_as(NAME)
        .image_shape([3, SIDE, SIDE])
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Whether the labels are the 20 superclasses.
    coarse: bool,
}

fn open(request: &OpenRequest) -> Result<Opened> {
    let Options { coarse } = request.settings(NAME)?;
    let folder = find_folder(&request.data_dir, &FOLDERS, Path::is_dir);
    let folder = folder.unwrap_or_else(|| request.data_dir.join(FOLDERS[0]));
    let file = if request.split == Split::Train { "train.bin" } else { "test.bin" };
    let (names, usual) =
        if coarse { ("coarse_label_names.txt", COARSE) } else { ("fine_label_names.txt", FINE) };
    let usual: Vec<String> = usual.split_whitespace().map(str::to_owned).collect();
    let classes = names_in(&folder.join(names), usual)?;
    let path = folder.join(file);
    if !path.is_file() {
        let expected = "a file of CIFAR-100's binary version".to_owned();
        return Err(Error::NotFound { path, expected, remedy: remedy::FETCH.to_owned() });
    }
    let records = std::fs::read(&path).map_err(Error::io(&path))?;
    if records.is_empty() || !records.len().is_multiple_of(RECORD) {
        let (found, expected) = (records.len() as u64, format!("whole records of {RECORD}"));
        return Err(Error::FileSize { path, found, expected, remedy: remedy::AGAIN.to_owned() });
    }
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (number, record) in records.chunks_exact(RECORD).enumerate() {
        let label = record[usize::from(!coarse)];
        if usize::from(label) >= classes.len() {
            let most = classes.len() - 1;
            let problem = format!("has label {label} in record {number}, above {most}");
            return Err(Error::Invalid { path, problem, remedy: remedy::AGAIN.to_owned() });
        }
        labels.push(label);
        pixels.extend_from_slice(&record[2..]);
    }
    let kind = if coarse { "cifar100 coarse" } else { NAME };
    let (split, by_column) = (request.split, false);
    Ok(Planes { kind, split, side: SIDE, by_column, pixels, labels, classes }.into())
}
