//! A table with several labels for an image, from training to explanations.

use crate::support::Place;

/// Bright in the upper half, in the lower half, in both or in none.
const SETS: [(&str, [bool; 2]); 4] = [
    ("", [false, false]),
    ("up", [true, false]),
    ("down", [false, true]),
    ("up|down", [true, true]),
];

const RECIPE: &str = r#"
[data]
source = "table"
path = "photos.csv"
batch_size = 8
train = [{ op = "to_tensor" }, { op = "normalize", mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }]
eval = [{ op = "to_tensor" }, { op = "normalize", mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }]
[data.options]
separator = "|"

[model]
architecture = "mlp"
image_size = 8

[training]
epochs = 12
optimizer = { name = "adam", lr = 0.01 }
loss = { name = "binary_cross_entropy" }
metrics = [{ name = "mean_average_precision" }]
"#;

/// A place with photos, their table and the recipe. Twice as many images are bright above as below.
fn place() -> Place {
    let place = Place::new();
    let mut table = "path,label,split\n".to_owned();
    for (split, count) in [("train", 40), ("val", 16), ("test", 8)] {
        for n in 0..count {
            let (labels, bright) = SETS[if matches!(n % 8, 4 | 6) { 1 } else { n % 4 }];
            let pixel = |i: usize| {
                let noise = (n * 7919 + i * 104_729) % 61;
                let is_bright = bright[i / (8 * 8 * 3 / 2)];
                (if is_bright { 180 + noise } else { 10 + noise }) as u8
            };
            let pixels: Vec<u8> = (0..8 * 8 * 3).map(pixel).collect();
            place.write_png(&format!("{split}/{n:02}.png"), &pixels, 8);
            table += &format!("{split}/{n:02}.png,{labels},{split}\n");
        }
    }
    place.write("photos.csv", table);
    place.write("several.toml", RECIPE);
    place
}

#[test]
fn each_label_is_learned_predicted_and_reported_by_itself() {
    let place = place();
    let run = place.run(&["train", "--recipe", "several.toml"]).succeeds();
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(said.contains("an image may have several labels or none"), "{said}");
    assert!(said.contains("imbalance: 2.0 to 1 (up 30, down 15); nothing"), "{said}");
    assert!(said.contains("test"), "{said}");

    let best = "runs/several/001/best.safetensors";
    let run = place.run(&["eval", "--checkpoint", best]).succeeds();
    assert!(run.stdout.starts_with("accuracy 100.00 % (16 of 16 right in all labels)"), "{run:?}");
    assert!(run.stdout.contains("precision") && run.stdout.contains("F1"), "{run:?}");
    assert!(!run.stdout.contains("taken for"), "{run:?}");
    place.run(&["eval", "--checkpoint", best, "--output", "scores.csv"]).succeeds();
    let csv = place.read("scores.csv");
    assert!(
        csv.starts_with("class,precision,recall,f1,images\ndown,1.0000,1.0000,1.0000,"),
        "{csv}"
    );

    let images = ["val/00.png", "val/01.png", "val/03.png"];
    let predict = [&["predict", "--checkpoint", best][..], &images].concat();
    let run = place.run(&predict).succeeds();
    let heads: Vec<&str> = run.stdout.lines().filter(|line| line.contains(".png")).collect();
    assert_eq!(heads[..2], ["val/00.png: no label", "val/01.png: up"], "{run:?}");
    assert!(["val/03.png: up, down", "val/03.png: down, up"].contains(&heads[2]), "{run:?}");
    let run = place.run(&["predict", "--checkpoint", best, "--json", "val/03.png"]).succeeds();
    let line: serde_json::Value = serde_json::from_str(run.stdout.trim()).expect("a line of JSON");
    assert_eq!(line["labels"].as_array().map(Vec::len), Some(2), "{line}");
    // The probabilities do not share a whole.
    let both = line["classes"].as_array().expect("classes");
    assert!(both.iter().all(|c| c["probability"].as_f64() > Some(0.5)), "{line}");

    let explain = ["explain", "--checkpoint", best, "--method", "integrated_gradients"];
    let run = place.run(&[&explain[..], &["--target", "up", "val/03.png"]].concat()).succeeds();
    let percent = run.stdout.split(['(', ' ']).find_map(|word| word.parse::<f64>().ok());
    assert!(percent > Some(50.0), "{run:?}");

    let report = place.read("runs/several/001/report.html");
    assert!(report.contains("16 of 16 right in all labels"), "the report says how many are right");
    assert!(report.contains("none is taken for another"), "the report explains the classes");
    assert!(!report.contains("Confusion matrix"), "there is none");
    let run =
        place.run(&["inspect", "sample", "--recipe", "several.toml", "--index", "3"]).succeeds();
    assert!(
        run.stdout.contains("03.png: up, down") || run.stdout.contains("03.png: down, up"),
        "{run:?}"
    );
}

#[test]
fn what_is_made_for_one_label_is_refused() {
    let place = place();
    let loss = ["train", "--recipe", "several.toml", "--set", "training.loss.name=cross_entropy"];
    place.run(&loss).fails(&["several labels", "binary_cross_entropy"]);
    assert!(!place.path("runs").exists(), "nothing was begun");
    let metrics = "training.metrics=[{ name = \"macro_f1\" }]";
    place
        .run(&["train", "--recipe", "several.toml", "--set", metrics])
        .fails(&["macro_f1", "one label"]);

    place.run(&["train", "--recipe", "several.toml", "--epochs", "1"]).succeeds();
    place.write_images("insects");
    std::fs::rename(place.path("insects/val/ants"), place.path("insects/val/down"))
        .expect("renamed");
    std::fs::rename(place.path("insects/val/bees"), place.path("insects/val/up")).expect("renamed");
    let best = "runs/several/001/best.safetensors";
    let eval = ["eval", "--checkpoint", best, "--folder", "insects/val"];
    place.run(&eval).fails(&["several labels or none", "without --folder"]);
}

#[test]
fn packed_shards_have_all_labels() {
    let place = place();
    let run = place.run(&["data", "pack", "--recipe", "several.toml"]).succeeds();
    assert!(run.stdout.contains("train: 40 images in 1 shards"), "{run:?}");
    assert!(run.stdout.contains("test: 8 images in 1 shards"), "{run:?}");
    let table = RECIPE.replace("table", "shards").replace("photos.csv", "several.shards");
    let recipe = table.replace("[data.options]\nseparator = \"|\"\n", "sampler = \"balanced\"\n");
    place.write("shards.toml", recipe);
    let run = place.run(&["train", "--recipe", "shards.toml"]).succeeds();
    let said = format!("{}{}", run.stdout, run.stderr);
    let imbalance = "imbalance: 2.0 to 1 (up 30, down 15); the sampler `balanced` shows them 1.";
    assert!(said.contains(imbalance), "{said}");
    place.run(&["data", "show", "--recipe", "shards.toml", "--classes"]).succeeds();
    assert!(std::fs::read(place.path("shards.classes.png")).expect("bars").starts_with(b"\x89PNG"));
    let best = "runs/shards/001/best.safetensors";
    let run = place.run(&["eval", "--checkpoint", best]).succeeds();
    assert!(run.stdout.contains("16 of 16 right in all labels"), "{run:?}");
    // Shards can be packed again.
    let again = ["data", "pack", "--recipe", "shards.toml", "--output", "again"];
    let run = place.run(&again).succeeds();
    assert!(run.stdout.contains("val: 16 images in 1 shards"), "{run:?}");
    let drawn = RECIPE.replace("\"table\"", "\"insects\"").replace("path = \"photos.csv\"\n", "");
    let drawn = drawn.replace("[data.options]\nseparator = \"|\"\n", "");
    place.write("drawn.toml", drawn.replace("binary_cross_entropy", "cross_entropy"));
    place.run(&["data", "pack", "--recipe", "drawn.toml"]).fails(&["not stored as an image file"]);
}

#[test]
fn a_contact_sheet_names_all_labels_of_an_image() {
    let place = place();
    let sheet = |name: &str| {
        let show = ["data", "show", "--recipe", "several.toml", "--images", "40", "-o", name];
        place.run(&show).succeeds();
        std::fs::read(place.path(name)).expect("a sheet")
    };
    let both = sheet("both.png");
    let table = std::fs::read_to_string(place.path("photos.csv")).expect("the table");
    place.write("photos.csv", table.replace("up|down", "up"));
    assert!(both != sheet("one.png"), "the second label is not named");
}
