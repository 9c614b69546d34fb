//! Oxford 102 Flower: numbered photos, with MATLAB files of their classes and splits.

use super::labelled_files::LabelledFiles;
use super::{DataSetEntry, OpenRequest, Opened, mat5, remedy};
use crate::dataset::Split;
use crate::error::{Error, Result};

const NAME: &str = "flowers102";
const FOLDER: &str = "flowers-102";

/// In the order of the labels, as torchvision lists them.
const CLASSES: &str = "pink primrose|hard-leaved pocket orchid|canterbury bells|sweet pea|english marigold|\
    tiger lily|moon orchid|bird of paradise|monkshood|globe thistle|snapdragon|colt's foot|king protea|\
    spear thistle|yellow iris|globe-flower|purple coneflower|peruvian lily|balloon flower|\
    giant white arum lily|fire lily|pincushion flower|fritillary|red ginger|grape hyacinth|corn poppy|\
    prince of wales feathers|stemless gentian|artichoke|sweet william|carnation|garden phlox|\
    love in the mist|mexican aster|alpine sea holly|ruby-lipped cattleya|cape flower|great masterwort|\
    siam tulip|lenten rose|barbeton daisy|daffodil|sword lily|poinsettia|bolero deep blue|wallflower|\
    marigold|buttercup|oxeye daisy|common dandelion|petunia|wild pansy|primula|sunflower|pelargonium|\
    bishop of llandaff|gaura|geranium|orange dahlia|pink-yellow dahlia?|cautleya spicata|\
    japanese anemone|black-eyed susan|silverbush|californian poppy|osteospermum|spring crocus|\
    bearded iris|windflower|tree poppy|gazania|azalea|water lily|rose|thorn apple|morning glory|\
    passion flower|lotus|toad lily|anthurium|frangipani|clematis|hibiscus|columbine|desert-rose|\
    tree mallow|magnolia|cyclamen|watercress|canna lily|hippeastrum|bee balm|ball moss|foxglove|\
    bougainvillea|camellia|mallow|mexican petunia|bromelia|blanket flower|trumpet creeper|\
    blackberry lily";

pub(super) fn entry() -> DataSetEntry {
    DataSetEntry::new(NAME, "photos of 102 kinds of flowers; 1,020 to train on", open)
        .lies_in([FOLDER])
        .fetched_as(NAME)
        .has_test_images()
}

fn open(request: &OpenRequest) -> Result<Opened> {
    request.no_settings(NAME)?;
    let folder = request.data_dir.join(FOLDER);
    let splits = ["trnid", "valid", "tstid"];
    let numbers = numbers_in(&folder.join("setid.mat"), splits[request.split as usize])?;
    let path = folder.join("imagelabels.mat");
    let labels = numbers_in(&path, "labels")?;
    let row = |number: &i64| {
        let label = usize::try_from(*number).ok().and_then(|n| labels.get(n.checked_sub(1)?));
        let label = label.and_then(|&label| u32::try_from(label.checked_sub(1)?).ok());
        let label = label.ok_or_else(|| Error::Invalid {
            path: path.clone(),
            problem: format!("has no label from 1 on for image {number}"),
            remedy: remedy::AGAIN.to_owned(),
        })?;
        Ok((folder.join("jpg").join(format!("image_{number:05}.jpg")), label))
    };
    let rows = numbers.iter().map(row).collect::<Result<Vec<_>>>()?;
    let classes = CLASSES.split('|').map(str::to_owned).collect();
    let files = LabelledFiles { kind: NAME, folder: &folder, classes, rows, list: &path };
    Ok(files.open(request.read)?.into())
}

fn numbers_in(path: &std::path::Path, name: &str) -> Result<Vec<i64>> {
    if !path.is_file() {
        return Err(Error::NotFound {
            path: path.to_path_buf(),
            expected: "a list of the flowers".to_owned(),
            remedy: remedy::FETCH.to_owned(),
        });
    }
    let numbers = mat5::read(path)?.get(name).and_then(mat5::Array::integers);
    numbers.ok_or_else(|| Error::Invalid {
        path: path.to_path_buf(),
        problem: format!("has no array `{name}` of whole numbers"),
        remedy: remedy::AGAIN.to_owned(),
    })
}

/// Whether there are three parts, as [`Split`] has them.
const _: () = assert!(Split::Train as usize == 0 && Split::Test as usize == 2);
