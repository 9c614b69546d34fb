//! `candle-vision data pack`, and training on what it writes.

use crate::support::Place;

pub(crate) const RECIPE: &str = r#"
[data]
source = "shards"
path = "photos.shards"
batch_size = 4
train = [{ op = "random_horizontal_flip" }, { op = "to_tensor" }]
eval = [{ op = "to_tensor" }]
[data.options]
window = 6

[model]
architecture = "gap_cnn"
image_size = 32

[training]
epochs = 1
optimizer = { name = "adam", lr = 0.003 }
"#;

#[test]
fn a_packed_folder_can_be_trained_on() {
    let place = Place::new();
    place.write_images("photos");
    let pack = ["data", "pack", "photos", "--shard-images", "3"];
    let run = place.run(&pack).succeeds();
    assert!(run.stdout.contains("train: 8 images in 3 shards"), "{run:?}");
    assert!(run.stdout.contains("val: 4 images in 2 shards"), "{run:?}");
    assert!(place.path("photos.shards/train-000002.tar.idx").is_file());
    place.write("shards.toml", RECIPE);
    let run = place.run(&["train", "--recipe", "shards.toml"]).succeeds();
    assert!(run.stdout.contains("runs/shards/001"), "{run:?}");
    // The same images through a pattern.
    let path = "data.path=photos.shards/train-{000000..000002}.tar";
    let val = "data.options.val=val-*.tar";
    place.run(&["train", "--recipe", "shards.toml", "--set", path, "--set", val]).succeeds();

    place.run(&pack).fails(&["train-000000.tar", "exists already"]);
    place.write("photos/train/ants/notes.jpg", "no image");
    let other = ["data", "pack", "photos", "--output", "other"];
    place.run(&other).fails(&["notes.jpg", "--skip-broken"]);
    assert!(!place.path("other").exists());
    let again = ["data", "pack", "photos", "--output", "third", "--skip-broken"];
    let run = place.run(&again).succeeds();
    assert!(run.stdout.contains("train: 8 images in 1 shards; left out: 1 files"), "{run:?}");
    place.run(&["data", "pack", "nowhere"]).fails(&["nowhere"]);
}

#[test]
fn a_pack_that_fails_leaves_nothing_behind() {
    let place = Place::new();
    place.write_images("photos");
    place.write_photo("photos/val/wasps/0.jpg", 32);
    let pack = ["data", "pack", "photos"];
    place.run(&pack).fails(&["`wasps`"]);
    std::fs::remove_dir_all(place.path("photos/val/wasps")).expect("it was there");
    place.write("photos/val/ants/broken.jpg", "no image");
    place.run(&pack).fails(&["broken.jpg"]);
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(place.path(folder)).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().display().to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["photos", "small.toml"]);
    // Without a share for validation there are no shards for it.
    let all = ["data", "pack", "photos/train", "--val-fraction", "0", "--output", "all"];
    place.run(&all).succeeds();
    assert_eq!(names("all"), ["classes.txt", "train-000000.tar", "train-000000.tar.idx"]);
}

#[test]
fn a_recipe_takes_tables() {
    let place = Place::new();
    place.write_images("photos");
    let mut table = "path,label,split\n".to_owned();
    for (split, count) in [("train", 8), ("val", 4)] {
        for class in ["ants", "bees"] {
            for n in 0..count {
                let file = format!("photos/{split}/{class}/{n:02}.jpg");
                if place.path(&file).is_file() {
                    table += &format!("{file},{class},{split}\n");
                }
            }
        }
    }
    place.write("photos.csv", &table);
    let recipe = RECIPE.replace("photos.shards", "photos.csv").replace("shards", "table");
    place.write("table.toml", recipe.replace("window = 6", "label = \"label\""));
    place.run(&["train", "--recipe", "table.toml"]).succeeds();
}
