//! `predict` and `explain` on files, folders and globs, and `eval` with many classes.

use std::fs;

use crate::support::Place;

fn trained() -> (Place, String) {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    (place, checkpoint)
}

#[test]
fn predict_takes_folders_and_globs_in_batches() {
    let (place, checkpoint) = trained();
    let predict = |args: &[&str]| {
        place.run(&[&["predict", "--json", "--checkpoint", &checkpoint], args].concat())
    };
    let parsed = |stdout: &str| -> Vec<(String, f64)> {
        let line = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let name = value["image"].as_str().expect("a name").to_owned();
            (name, value["classes"][0]["probability"].as_f64().expect("a number"))
        };
        stdout.lines().map(line).collect()
    };
    let whole = parsed(&predict(&["photos/train"]).succeeds().stdout);
    assert_eq!(whole.len(), 8);
    assert!(whole.is_sorted_by(|a, b| a.0 < b.0), "{whole:?}");
    for args in [
        &["photos/train/*/*.jpg", "--batch-size", "3"][..],
        &["photos/train/**/*.jpg", "--batch-size", "1"],
        &["photos/train/ants", "photos/train/bees"],
    ] {
        let found = parsed(&predict(args).succeeds().stdout);
        for ((name, probability), (expected, same)) in found.iter().zip(&whole) {
            assert_eq!(name, expected);
            assert!((probability - same).abs() < 1e-5, "{name}: {probability}, {same}");
        }
        assert_eq!(found.len(), whole.len());
    }
    // What cannot be read is named, the rest goes on, and the exit code says it.
    place.write("photos/train/ants/00.jpg", "no image");
    let run = predict(&["photos/train", "--batch-size", "4"]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 7), "{run:?}");
    assert!(run.stderr.contains("photos/train/ants/00.jpg"), "{}", run.stderr);
    let run = predict(&["nothing*.jpg", "photos/val"]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 4), "{run:?}");
    predict(&["nothing*.jpg"]).fails(&["no image matches `nothing*.jpg`"]);
    fs::create_dir(place.path("empty")).expect("a folder");
    place.write("empty/notes.txt", "x");
    predict(&["empty"]).fails(&["no image in `empty`: only 1 .txt"]);
    predict(&["photos/val", "--batch-size", "0"]).is_misuse("at least 1");
}

#[test]
fn explain_writes_each_image_into_a_file_of_its_own() {
    let (place, checkpoint) = trained();
    let explain = |args: &[&str]| {
        place.run(&[&["explain", "--format", "json", "--checkpoint", &checkpoint], args].concat())
    };
    // Both have the same name.
    let (ants, bees) = ("photos/val/ants/00.jpg", "photos/val/bees/01.jpg");
    fs::copy(place.path(bees), place.path("photos/val/bees/00.jpg")).expect("a copy");
    let bees = "photos/val/bees/00.jpg";
    let run = explain(&[ants, bees]).succeeds();
    for name in ["ants-00.explain.json", "bees-00.explain.json"] {
        assert!(run.stdout.lines().any(|line| line == name), "{}", run.stdout);
    }
    assert!(place.read("bees-00.explain.json").contains(bees));
    // One after the other: nothing is overwritten.
    explain(&[ants]).succeeds();
    let run = explain(&[bees]).succeeds();
    assert_eq!(run.stdout.lines().last(), Some("00.explain-2.json"));
    assert!(place.read("00.explain.json").contains(ants));
    assert!(place.read("00.explain-2.json").contains(bees));

    let run = explain(&["photos/val", "--output", "maps", "--batch-size", "2"]).succeeds();
    assert!(run.stdout.lines().any(|line| line == "maps/ants-00.explain.json"), "{}", run.stdout);
    let count = |folder: &str| fs::read_dir(place.path(folder)).expect("a folder").count();
    assert_eq!(count("maps"), fs::read_dir(place.path("photos/val/ants")).expect("").count() + 3);
    let run = explain(&["photos/val/*/*.jpg", "-o", "one.json"]);
    run.fails(&["`one.json` is one file, but there are 5 images", "--output DIR"]);
    place.write("photos/val/ants/broken.jpg", "no image");
    let run = explain(&["photos/val", "-o", "more"]);
    assert_eq!((run.code, count("more")), (Some(1), 5), "{run:?}");
    assert!(run.stderr.contains("photos/val/ants/broken.jpg"), "{}", run.stderr);
}

#[test]
fn maps_are_the_same_alone_and_in_a_batch() {
    let (place, checkpoint) = trained();
    let map = |file: &str| -> Vec<f64> {
        let value: serde_json::Value = serde_json::from_str(&place.read(file)).expect("JSON");
        let rows = value["map"].as_array().expect("rows").iter();
        rows.flat_map(|row| row.as_array().expect("a row")).filter_map(|v| v.as_f64()).collect()
    };
    for method in &candle_vision::explain::Methods::standard() {
        for (batch_size, folder) in [("1", "alone"), ("4", "together")] {
            let folder = format!("{folder}-{method}");
            let args = ["--method", method.name(), "--format", "json", "--batch-size", batch_size];
            let args = [&["explain", "photos/val", "-o", &folder], &args[..]].concat();
            place.run(&[&args[..], &["--checkpoint", &checkpoint]].concat()).succeeds();
        }
        for entry in fs::read_dir(place.path(&format!("alone-{method}"))).expect("a folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            let alone = map(&format!("alone-{method}/{name}"));
            let together = map(&format!("together-{method}/{name}"));
            let pairs = alone.iter().zip(&together);
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(largest < 1e-3, "{method}, {name}: {largest}");
        }
    }
}

#[test]
fn eval_with_many_classes_is_short_and_leaves_the_matrix_as_a_file() {
    let place = Place::new();
    for class in 0..24 {
        for number in 0..2 {
            place.write_photo(&format!("many/class {class:02}/{number}.jpg"), 32);
        }
    }
    let args = ["--set", "data.source=folder", "--set", "data.path=many", "--epochs", "1"];
    place.small(&args).succeeds();
    let checkpoint = "runs/small/001/best.safetensors";
    let run = place.run(&["eval", "--checkpoint", checkpoint]).succeeds();
    for part in ["accuracy ", "), top 5 ", "most confused", "worst recognised", "best recognised"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert!(run.stdout.lines().count() < 40, "{}", run.stdout);
    assert_eq!(run.stdout.lines().last(), Some("confusion matrix: best.confusion.csv"));
    let csv = place.read("best.confusion.csv");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0][1], rows[24][0]), (25, "class 00", "class 23"));
    let counts = rows[1..].iter().flat_map(|row| &row[1..]).filter_map(|n| n.parse::<usize>().ok());
    assert_eq!(counts.sum::<usize>(), 24);
    // Measuring changes nothing in the run, and overwrites nothing that was not asked for.
    assert!(!place.path("runs/small/001/best.confusion.csv").exists());
    let run = place.run(&["eval", "--checkpoint", checkpoint]).succeeds();
    assert_eq!(run.stdout.lines().last(), Some("confusion matrix: best.confusion-2.csv"));
    let run = place.run(&["eval", "--checkpoint", checkpoint, "-o", "here.csv"]).succeeds();
    assert_eq!(run.stdout.lines().last(), Some("confusion matrix: here.csv"));
    // The error does not list them all either.
    place.write_images("photos");
    let run = place.run(&["eval", "--checkpoint", checkpoint, "--folder", "photos"]);
    let run = run.fails(&["`ants`, `bees`", "and 19 more"]);
    assert!(run.stderr.len() < 700, "{}", run.stderr);
}
