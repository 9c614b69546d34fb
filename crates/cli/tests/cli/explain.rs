//! `candle-vision explain`: methods, targets, formats, and images of every kind.

use candle_vision::data::Image;
use candle_vision::explain::Methods;

use crate::support::{Finished, Place};

const PHOTO: &str = "photos/val/ants/00.jpg";

fn explain(place: &Place, checkpoint: &str, args: &[&str]) -> Finished {
    place.run(&[&["explain", PHOTO, "--checkpoint", checkpoint], args].concat())
}

fn trained() -> (Place, String) {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    (place, checkpoint)
}

#[test]
fn explain_draws_an_image() {
    let (place, checkpoint) = trained();
    let run = explain(&place, &checkpoint, &[]).succeeds();
    assert_eq!(run.stdout.lines().last(), Some("00.explain.png"));
    let image = Image::open(place.path("00.explain.png")).expect("an image");
    assert!(image.width() > 3 * 32);
    let args = ["--class", "bees", "--layer", "conv2", "-o", "bees.png"];
    let run = explain(&place, &checkpoint, &args).succeeds();
    assert!(run.stdout.contains(": bees (") && run.stdout.contains("conv2"), "{}", run.stdout);
    assert!(place.path("bees.png").is_file());
}

#[test]
fn every_method_draws_an_image() {
    let (place, checkpoint) = trained();
    for method in &Methods::standard() {
        let output = format!("{method}.png");
        let args = ["--method", method.name(), "-o", &output];
        let run = explain(&place, &checkpoint, &args).succeeds();
        assert!(run.stdout.contains(&format!("%), {method}")), "{}", run.stdout);
        Image::open(place.path(&output)).expect("an image");
    }
    let run = explain(&place, &checkpoint, &["--method", "gradcma"]);
    run.is_misuse("no explanation method is called `gradcma`; did you mean `gradcam`");
    let run = explain(&place, &checkpoint, &["--method", "saliency", "--layer", "conv1"]);
    run.fails(&["`saliency`", "a layer is for class activation maps", "leave it out"]);
}

#[test]
fn numbers_come_as_npy_and_json() {
    let (place, checkpoint) = trained();
    explain(&place, &checkpoint, &["--format", "npy"]).succeeds();
    let bytes = std::fs::read(place.path("00.explain.npy")).expect("a file");
    let shape = b"'descr': '<f4', 'fortran_order': False, 'shape': (32, 32)";
    assert!(bytes.windows(shape.len()).any(|window| window == shape));
    assert_eq!(bytes.len() % 64, 0);

    let args = ["--target", "bees", "--output", "map.json"];
    explain(&place, &checkpoint, &args).succeeds();
    let json: serde_json::Value = serde_json::from_str(&place.read("map.json")).expect("JSON");
    assert_eq!((&json["class"], &json["class_index"]), (&"bees".into(), &1.into()));
    let row = &json["map"][31];
    assert_eq!(
        (json["map"].as_array().map(Vec::len), row.as_array().map(Vec::len)),
        (Some(32), Some(32))
    );
    // The same numbers: the last of the file is that of the last row.
    let npy = explain(&place, &checkpoint, &["--target", "1", "-o", "map.npy"]);
    npy.succeeds();
    let bytes = std::fs::read(place.path("map.npy")).expect("a file");
    let last = f32::from_le_bytes(bytes[bytes.len() - 4..].try_into().expect("four bytes"));
    assert_eq!(row[31].as_f64().map(|value| value as f32), Some(last));
    explain(&place, &checkpoint, &["--format", "gif"]).is_misuse("png, npy, json");
}

#[test]
fn a_target_is_a_class_two_classes_or_an_image() {
    let (place, checkpoint) = trained();
    let told = |target| explain(&place, &checkpoint, &["--target", target]).succeeds().stdout;
    assert!(told("1").contains(": bees ("));
    assert!(told("ants:bees").contains(": ants rather than bees ("));
    assert!(told("@photos/val/bees/01.jpg").contains(", like 01.jpg ("));
    for (target, parts) in [
        ("wasps", ["`wasps`", "ants, bees"]),
        ("2", ["`2`", "numbered from 0"]),
        ("ants:wasps", ["`wasps`", "ants, bees"]),
        ("@none.jpg", ["`none.jpg`", "No such file"]),
    ] {
        explain(&place, &checkpoint, &["--target", target]).fails(&parts);
    }
}

#[test]
fn a_score_stands_beside_random_maps_and_forgotten_weights() {
    let (place, checkpoint) = trained();
    let run = explain(&place, &checkpoint, &["--score", "--method", "hirescam"]).succeeds();
    let row = |name: &str| {
        let line = run.stdout.lines().find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {}", run.stdout));
        let numbers = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        numbers.collect::<Vec<f64>>()
    };
    for name in ["hirescam", "random maps"] {
        let scores = row(name);
        assert_eq!(scores.len(), 3, "{}", run.stdout);
        assert!(scores[..2].iter().all(|score| (0.0..=1.0).contains(score)));
    }
    assert!(run.stdout.contains("rank correlation"), "{}", run.stdout);
    assert!(run.stdout.lines().any(|line| line.contains(" conv1 ")), "{}", run.stdout);
}

#[test]
fn a_layer_that_does_not_fit_is_refused() {
    let (place, checkpoint) = trained();
    explain(&place, &checkpoint, &["--layer", "conv9"]).fails(&["`conv9`", "`conv1`"]);
    explain(&place, &checkpoint, &["--layer", "fc"]).fails(&["`fc`", "convolution"]);
}

#[test]
fn a_network_without_maps_is_explained_by_its_pixels_alone() {
    let place = Place::new();
    place.write_images("photos");
    place.small(&["--set", "model.architecture=mlp", "--epochs", "1"]).succeeds();
    let checkpoint = "runs/small/001/last.safetensors";
    explain(&place, checkpoint, &[]).fails(&["`mlp` has no spatial maps", "resnet18", "saliency"]);
    explain(&place, checkpoint, &["--method", "saliency"]).succeeds();
}

#[test]
fn grey_cmyk_and_16_bit_images_are_explained_and_tiny_ones_refused() {
    let (place, checkpoint) = trained();
    let photo = image::open(place.path(PHOTO)).expect("an image");
    photo.to_luma8().save(place.path("grey.jpg")).expect("a file");
    photo.to_rgb16().save(place.path("sixteen.png")).expect("a file");
    photo.crop_imm(0, 0, 5, 4).save(place.path("tiny.png")).expect("a file");
    place.write("cmyk.jpg", include_bytes!("cmyk.jpg"));
    let explain = |name| place.run(&["explain", name, "--checkpoint", &checkpoint]);
    for name in ["grey.jpg", "sixteen.png", "cmyk.jpg"] {
        explain(name).succeeds();
    }
    explain("tiny.png").fails(&["4x5 are too small for `gap_cnn`", "32x32", "resize"]);
    place.cut("grey.jpg", 300);
    explain("grey.jpg").fails(&["`grey.jpg`", "cut off"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let (place, checkpoint) = trained();
    for output in ["small.toml/map.png", "small.toml/map.npy", "small.toml/map.json"] {
        explain(&place, &checkpoint, &["-o", output]).fails(&[output, "write"]);
    }
    std::fs::create_dir(place.path("kept")).expect("a folder");
    let mut permissions = std::fs::metadata(place.path("kept")).expect("it is there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(place.path("kept"), permissions).expect("it is ours");
    if std::fs::write(place.path("kept/probe"), "").is_ok() {
        println!("skipped: this user may write into a read-only folder");
        return;
    }
    explain(&place, &checkpoint, &["-o", "kept/map.png"]).fails(&["kept/map.png", "ermission"]);
}

#[test]
fn methods_are_measured_against_the_masks_of_drawings() {
    let (place, checkpoint) = trained();
    let score = |args: &[&str]| {
        place.run(&[&["score", "--checkpoint", checkpoint.as_str()], args].concat())
    };
    let args = ["--images", "4", "--methods", "gradcam,Occlusion"];
    let run = score(&args).succeeds();
    for part in ["gradcam", "occlusion", "random map", "4 images", "margin"] {
        assert!(run.stdout.contains(part), "{part}\n{}", run.stdout);
    }
    let csv = place.read("runs/small/001/explain/scores.csv");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][..4], ["map", "images", "pointing_game", "pointing_exactly"]);
    let names: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
    assert_eq!(names, ["gradcam", "occlusion", "random map"]);
    for row in &rows[1..] {
        assert_eq!((row.len(), row[1]), (8, "4"), "{csv}");
        let known = row[2..7]
            .iter()
            .all(|value| value.parse::<f64>().is_ok_and(|value| (0.0..=1.0).contains(&value)));
        assert!(known, "{csv}");
    }
    for number in 1..=3 {
        let sheet = format!("runs/small/001/explain/maps-{number}.png");
        Image::open(place.path(&sheet)).expect("an image");
    }
    // The same images and the same maps: the same figures.
    assert_eq!(score(&args).succeeds().stdout, run.stdout);

    // Photographs have no masks.
    let args =
        ["--images", "2", "--methods", "gradcam", "--folder", "photos", "-o", "photos-scored"];
    let run = score(&args).succeeds();
    assert!(run.stdout.contains("no masks"), "{}", run.stdout);
    score(&["--methods", "gradcam,nothing"])
        .is_misuse("no explanation method is called `nothing`; known: gradcam, gradcam++");
    score(&["--folder", "nowhere"]).fails(&["`nowhere` not found"]);
}

#[test]
fn a_recipe_may_ask_for_the_measures_after_training() {
    let place = Place::new();
    let recipe = place.read("small.toml");
    place.write("scored.toml", format!("{recipe}\n[score]\nimages = 2\n"));
    let run = place.run(&["train", "--recipe", "scored.toml", "--epochs", "1"]).succeeds();
    assert!(run.stdout.contains("integrated-gradients"), "{}", run.stdout);
    assert!(place.path("runs/scored/001/explain/scores.csv").is_file());
    assert!(place.read("runs/scored/001/config.toml").contains("[score]"));
}
