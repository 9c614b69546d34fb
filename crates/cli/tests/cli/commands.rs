//! What can be done with a checkpoint, and the commands that need none.

use crate::support::Place;

const PHOTO: &str = "photos/val/ants/00.jpg";

#[test]
fn predict_ranks_the_classes() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let run = place.run(&["predict", PHOTO, "--checkpoint", &checkpoint]).succeeds();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, PHOTO));
    assert!(lines[1].contains(" %  ") && run.stdout.contains("ants"), "{}", run.stdout);

    let run = place.run(&["predict", PHOTO, PHOTO, "--json", "--checkpoint", &checkpoint]);
    let run = run.succeeds();
    assert_eq!(run.stdout.lines().count(), 2);
    for line in run.stdout.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["image"], PHOTO);
        let classes = value["classes"].as_array().expect("a list");
        let sum: f64 = classes.iter().filter_map(|class| class["probability"].as_f64()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{line}");
    }
}

#[test]
fn a_photo_is_scaled_to_what_the_network_was_trained_on() {
    let (place, checkpoint) = Place::trained();
    place.write_photo("large.jpg", 120);
    for command in ["predict", "explain"] {
        let run = place.run(&[command, "large.jpg", "--checkpoint", &checkpoint]).succeeds();
        assert!(run.stderr.contains("`large.jpg` is 120x120; scaled to the 32x32"), "{run:?}");
    }
}

#[test]
fn a_image_that_cannot_be_read_does_not_keep_the_others() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    place.write("text.jpg", "no image at all");
    let run = place.run(&["predict", "nope.jpg", PHOTO, "--checkpoint", &checkpoint]);
    let run = run.fails(&["`nope.jpg`", "No such file"]);
    assert!(run.stdout.starts_with(PHOTO), "{}", run.stdout);
    let run = place.run(&["predict", "text.jpg", "--checkpoint", &checkpoint]);
    run.fails(&["`text.jpg` is not a whole image", "replace it"]);
    place.cut(PHOTO, 500);
    let run = place.run(&["explain", PHOTO, "--checkpoint", &checkpoint]);
    run.fails(&[PHOTO, "cut off"]);
}

#[test]
fn eval_finds_the_accuracy_that_training_found() {
    let (place, checkpoint) = Place::trained();
    let metrics = place.read("runs/small/001/metrics.csv");
    let accuracies = metrics.lines().skip(1).filter_map(|line| line.split(',').nth(4));
    let best = accuracies.map(|text| text.parse::<f64>().expect("a number")).fold(0.0, f64::max);
    let run = place.run(&["eval", "--checkpoint", &checkpoint]).succeeds();
    let wanted = format!("accuracy {:.2} % (", 100.0 * best);
    assert!(run.stdout.starts_with(&wanted), "{wanted}\n{}", run.stdout);
    assert!(run.stdout.contains("taken for bees"), "{}", run.stdout);

    let run = place.run(&["eval", "--checkpoint", &checkpoint, "--json"]).succeeds();
    let found: serde_json::Value = serde_json::from_str(&run.stdout).expect("one object");
    let accuracy = found["accuracy"].as_f64().expect("a number");
    assert!((accuracy - best).abs() < 1e-6, "{accuracy}, not {best}");
    assert_eq!(found["classes"][1]["class"], "bees");
    // Five of two classes say nothing.
    assert!(found["top_5"].is_null(), "{found}");
}

#[test]
fn views_of_an_image_change_what_is_predicted() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let with = |command: &[&str], more: &[&str]| {
        let all = [command, &["--checkpoint", &checkpoint], more].concat();
        place.run(&all).succeeds().stdout
    };
    let predict = ["predict", PHOTO, "--json"];
    let plain = with(&predict, &[]);
    let views = ["mirror", "mirror_shift"].map(|name| with(&predict, &["--tta", name]));
    assert!(views[0] != plain && views[1] != plain && views[0] != views[1], "{views:?}");
    // Its digits are too few for a difference.
    let eval = with(&["eval", "--folder", "photos"], &["--tta", "mirror_shift"]);
    assert!(eval.starts_with("accuracy ") && eval.contains("of 4)"), "{eval}");
    let run = place.run(&["eval", "--checkpoint", &checkpoint, "--tta", "miror"]);
    run.is_misuse("did you mean `mirror`");
    let help = place.run(&["predict", "--help"]).succeeds().stdout;
    assert!(help.contains("views of each image: mirror, mirror_shift"), "{help}");
}

#[test]
fn eval_in_half_precision_says_what_a_cpu_makes_of_it() {
    let (place, checkpoint) = Place::trained();
    let run = place.run(&["eval", "--checkpoint", &checkpoint, "--precision", "f16"]).succeeds();
    assert!(run.stdout.starts_with("accuracy "), "{}", run.stdout);
    assert!(run.stderr.contains("f16 on a CPU is computed in f32"), "{}", run.stderr);
}

#[test]
fn eval_measures_on_a_folder_with_the_same_classes() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let eval = |folder| place.run(&["eval", "--checkpoint", &checkpoint, "--folder", folder]);
    assert!(eval("photos").succeeds().stdout.contains("of 4)"));
    eval("nowhere").fails(&["`nowhere` not found"]);
    std::fs::rename(place.path("photos/val/bees"), place.path("photos/val/wasps")).expect("rename");
    eval("photos").fails(&["wasps", "bees", "--folder"]);
    std::fs::copy(place.path(&checkpoint), place.path("alone.safetensors")).expect("a copy");
    place.run(&["eval", "--checkpoint", "alone.safetensors"]).fails(&["no run folder", "--folder"]);
}

#[test]
fn summary_counts_parameters() {
    let (place, checkpoint) = Place::trained();
    let run = place.run(&["summary", "resnet18"]).succeeds();
    assert!(run.stdout.contains("11,689,512 parameters"), "{}", run.stdout);
    assert!(run.stdout.contains("layer4.1.conv2"), "{}", run.stdout);
    let run = place.run(&["summary", "--checkpoint", &checkpoint]).succeeds();
    assert!(run.stdout.contains("23,714 parameters"), "{}", run.stdout);
    let list = place.run(&["summary"]).succeeds();
    for (name, input) in [("resnet18", "3x224x224"), ("resnet9", "3x32x32"), ("mlp", "1x28x28")] {
        let of_it = |line: &&str| line.trim_start().starts_with(&format!("{name} "));
        let line = list.stdout.lines().find(of_it).unwrap_or_else(|| panic!("{}", list.stdout));
        assert!(line.contains(input), "{line}");
    }
    place.run(&["summary", "resnet81"]).fails(&["`resnet81`", "did you mean `resnet18`"]);
    place.run(&["summary", "resnet18", "--batch", "0"]).is_misuse("at least 1");
}

#[test]
fn fetch_lists_what_there_is() {
    let place = Place::new();
    let run = place.run(&["fetch"]).succeeds();
    for name in ["mnist", "cifar10", "hymenoptera", "resnet18", "alexnet"] {
        let line = run.stdout.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains("absent")), "{name}\n{}", run.stdout);
    }
}

#[test]
fn fetch_takes_only_what_is_sound() {
    let place = Place::new();
    let fetch = |args: &[&str]| place.run(&[&["fetch"], args].concat());
    fetch(&["nope"]).fails(&["`nope`", "known: mnist"]);
    fetch(&["mnist"]).fails(&["`mnist`", "network is switched off", "--from"]);
    fetch(&["mnist", "--from", "nowhere"])
        .is_misuse("'nowhere' for '--from <DIR>': it is no folder");
    for part in ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"] {
        place.write(&format!("from/mnist/{part}-ubyte.gz"), "other bytes than these");
    }
    let run = fetch(&["mnist", "--from", "from"]);
    run.fails(&["train-images-idx3-ubyte.gz", "expected"]);
    assert!(!place.path("data/mnist/train-images-idx3-ubyte.gz").exists());
    // The right length, but other bytes.
    place.write("from/mnist/t10k-labels-idx1-ubyte.gz", vec![0; 4542]);
    place.write("from/mnist/train-labels-idx1-ubyte.gz", vec![0; 28_881]);
    place.write("from/mnist/t10k-images-idx3-ubyte.gz", vec![0; 1_648_877]);
    place.write("from/mnist/train-images-idx3-ubyte.gz", vec![0; 9_912_422]);
    fetch(&["mnist", "--from", "from"]).fails(&["train-images-idx3-ubyte.gz", "sha256"]);
}
