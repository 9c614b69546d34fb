//! Folders of images as people have them, from `train` to `eval`.

use candle_vision::data::Image;

use crate::support::{Finished, Place};

fn train(place: &Place, folder: &str, args: &[&str]) -> Finished {
    let path = format!("data.path={folder}");
    place.small(
        &[&["--set", "data.source=folder", "--set", &path, "--set", "training.epochs=1"], args]
            .concat(),
    )
}

/// A place with the drawings of `Place::write_images` in `from`, moved to other folders.
fn moved(moves: &[(&str, &str)]) -> Place {
    let place = Place::new();
    place.write_images("photos");
    for (from, to) in moves {
        let to = place.path(to);
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        std::fs::rename(place.path(from), to).expect("a folder can be moved");
    }
    place
}

#[test]
fn splits_go_by_any_usual_name_and_are_said() {
    let place = moved(&[("photos/train", "photos/TRAIN"), ("photos/val", "photos/Validation")]);
    let run = train(&place, "photos", &[]).succeeds();
    let line = "splits of `photos`: `TRAIN` to train on, `Validation` to validate on";
    assert!(run.stderr.lines().any(|said| said == line), "{}", run.stderr);
    assert!(run.stderr.contains("8 training images (ants 4, bees 4), 4 for val"), "{}", run.stderr);
}

#[test]
fn a_list_names_the_classes_of_validation_images_without_folders() {
    let place = Place::new();
    place.write_images("photos");
    let mut lines = String::new();
    for (class, image) in [("ants", "00"), ("bees", "01"), ("ants", "02"), ("bees", "03")] {
        let from = place.path(&format!("photos/val/{class}/{image}.jpg"));
        std::fs::rename(from, place.path(&format!("photos/val/{image}.jpg"))).expect("an image");
        lines += &format!("{image}.jpg {class}\n");
    }
    for class in ["ants", "bees"] {
        std::fs::remove_dir(place.path(&format!("photos/val/{class}"))).expect("it is empty");
    }
    train(&place, "photos", &[]).fails(&["`photos/val` holds images", "a list of the classes"]);
    // Anywhere, if it is named; beside the folder, if it is called so.
    place.write("labels.csv", lines.replace(' ', ","));
    let run = train(&place, "photos", &["--set", "data.val_list=labels.csv"]).succeeds();
    assert!(run.stderr.contains("`val` to validate on by the list `labels.csv`"), "{}", run.stderr);
    assert!(run.stderr.contains("8 training images (ants 4, bees 4), 4 for val"), "{}", run.stderr);
    let config = place.read("runs/small/001/config.toml");
    let recorded = config.lines().find(|line| line.starts_with("val_list")).expect("a line");
    assert!(recorded.contains('/') && recorded.ends_with("labels.csv\""), "{recorded}");
    place.write("photos/val.txt", &lines);
    let run = train(&place, "photos", &[]).succeeds();
    assert!(run.stderr.contains("by the list `val.txt`"), "{}", run.stderr);
    let eval = ["eval", "--checkpoint", "runs/small/002/best.safetensors"];
    let of_run = place.run(&eval).succeeds().stdout;
    let of_folder = place.run(&[&eval[..], &["--folder", "photos"]].concat()).succeeds().stdout;
    assert_eq!(of_run, of_folder);
    place.write("photos/val.txt", format!("{lines}04.jpg ants\n"));
    train(&place, "photos", &[]).fails(&["`photos/val.txt` line 5 names `04.jpg`"]);
    place.run(&["train", "--resume", "runs/small/001", "--epochs", "2"]).succeeds();
    let no_flat = ["--set", "data.val_list=labels.csv", "--set", "data.path=photos/train"];
    place
        .small(&[&["--set", "data.source=folder"], &no_flat[..]].concat())
        .fails(&["`labels.csv`"]);
}

#[test]
fn test_images_are_measured_once_at_the_end() {
    let place = moved(&[("photos/val", "photos/Testing")]);
    let run = train(&place, "photos", &["--epochs", "2", "--set", "data.val_fraction=0.25"]);
    let run = run.succeeds();
    let line = "splits of `photos`: `train` to train on, `Testing` to test on; 25 % of the images \
                to train on are kept for validation; the test images are measured once, after \
                training";
    assert!(run.stderr.lines().any(|said| said == line), "{}", run.stderr);
    assert!(run.stderr.contains("6 training images"), "{}", run.stderr);
    assert!(run.stderr.contains("2 for validation, 4 for a test"), "{}", run.stderr);
    let row = run.stdout.lines().find(|line| line.contains("test accuracy, measured once"));
    let row = row.unwrap_or_else(|| panic!("{}", run.stdout));
    assert!(row.contains("of 4), loss"), "{row}");
    let tested: serde_json::Value =
        serde_json::from_str(&place.read("runs/small/001/test.json")).expect("JSON");
    assert_eq!(tested["images"], 4);
    let page = place.read("runs/small/001/report.html");
    assert!(page.contains("test, measured once at the end"), "the report tells it");
    // The same as `eval` finds with the best checkpoint.
    let best = "runs/small/001/best.safetensors";
    let eval = place.run(&["eval", "--checkpoint", best, "--folder", "photos/Testing"]).succeeds();
    let accuracy = tested["accuracy"].as_f64().expect("a number");
    assert!(eval.stdout.starts_with(&format!("accuracy {:.2} %", 100.0 * accuracy)), "{eval:?}");
    // A folder that is split is measured on what was not trained on.
    let eval = place.run(&["eval", "--checkpoint", best, "--folder", "photos"]).succeeds();
    assert!(eval.stderr.contains("measured on `photos/Testing`"), "{}", eval.stderr);
}

#[test]
fn a_folder_that_cannot_be_meant_is_an_error_before_training() {
    let check = |moves: &[(&str, &str)], folder: &str, parts: &[&str]| {
        let place = moved(moves);
        train(&place, folder, &[]).fails(parts);
        assert!(!place.path("runs").exists(), "nothing was begun");
    };
    check(&[("photos", "wrap/data")], "wrap", &["holds the data set `wrap/data`", "not classes"]);
    check(&[("photos/train", "one/pets")], "one", &["holds the data set `one/pets`"]);
    check(&[], "photos/train/ants", &["no class folders", "name the folder above: `/"]);
    let single = [("photos/train/ants", "one/ants")];
    check(&single, "one", &["single class, `ants`", "nothing to tell apart"]);
    let twice = [("photos/val/ants", "photos/valid/ants")];
    check(&twice, "photos", &["2 folders for one split (val)", "`val`, `valid`"]);
}

#[test]
fn a_class_called_train_is_a_class() {
    let place = moved(&[
        ("photos/train/ants", "fleet/bus"),
        ("photos/train/bees", "fleet/car"),
        ("photos/val/bees", "fleet/train"),
    ]);
    let run = train(&place, "fleet", &["--set", "data.val_fraction=0.5"]).succeeds();
    let line = "splits of `fleet`: one folder of classes; 50 % of each are kept for validation";
    assert!(run.stderr.lines().any(|said| said == line), "{}", run.stderr);
    assert!(run.stderr.contains("(bus 2, car 2, train 1), 5 for validation"), "{}", run.stderr);
}

#[test]
fn what_is_not_used_is_said_in_one_line() {
    let place = moved(&[]);
    for name in ["._00.jpg", "Thumbs.db", ".ipynb_checkpoints/00.jpg", "@eaDir/00.jpg", "a.txt"] {
        place.write(&format!("photos/train/ants/{name}"), "x");
        place.write(&format!("photos/val/bees/{name}"), "x");
    }
    place.write("photos/train/__MACOSX/ants/._00.jpg", "x");
    place.write("photos/train/bees/IMG_1.HEIC", "\0\0\0\x18ftypheic");
    let run = train(&place, "photos", &[]).succeeds();
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("not used")).collect();
    let expected = "not used: 2 .txt, 1 .heic, 9 hidden or system files and folders";
    assert_eq!(lines, [expected], "{}", run.stderr);
    assert!(run.stderr.contains("8 training images (ants 4, bees 4), 4 for val"), "{}", run.stderr);
    let run = place.run(&["eval", "--checkpoint", "runs/small/001/best.safetensors"]).succeeds();
    assert!(run.stderr.contains("not used: 1 .txt, 4 hidden"), "{}", run.stderr);
}

#[test]
fn a_class_without_validation_images_is_said() {
    let place = moved(&[("photos/val/ants", "gone")]);
    let run = train(&place, "photos", &[]).succeeds();
    let said = "`photos/val` has no images of `ants`: 1 of 2 classes are measured there";
    assert!(run.stderr.lines().any(|line| line == said), "{}", run.stderr);
    let best = "runs/small/001/best.safetensors";
    let run = place.run(&["eval", "--checkpoint", best, "--folder", "photos/val"]).succeeds();
    assert!(run.stdout.contains("of 2), loss") && run.stderr.contains(said), "{run:?}");

    let place = moved(&[("photos/val/ants", "photos/val/moths")]);
    let parts = ["`photos/val` has a class beyond those trained on: `moths`"];
    train(&place, "photos", &[]).fails(&parts);

    let place = moved(&[]);
    place.write_photo("photos/train/wasps/1.jpg", 32);
    place.write_images("one");
    std::fs::rename(place.path("photos/train"), place.path("all")).expect("a folder");
    let run = train(&place, "all", &[]).succeeds();
    assert!(run.stderr.contains("too few images to have some in each part: `wasps`"), "{run:?}");
}

#[test]
fn a_class_is_the_same_however_its_name_is_composed() {
    let place = moved(&[
        ("photos/train/ants", "photos/train/caf\u{e9}"),
        ("photos/val/ants", "photos/val/cafe\u{301}"),
    ]);
    let run = train(&place, "photos", &[]).succeeds();
    assert!(run.stderr.contains("(bees 4, caf\u{e9} 4), 4 for validation"), "{}", run.stderr);
}

#[test]
fn a_relative_path_is_found_from_another_folder() {
    let place = moved(&[]);
    let recipe = place.read("small.toml").replace("\"insects\"", "\"folder\"\npath = \"photos\"");
    place.write("own.toml", recipe);
    let args = ["train", "--recipe", "own.toml", "--epochs", "2"];
    place.run(&args).succeeds();
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    let there = |args: &[&str]| {
        let output = place.command(args).current_dir(&elsewhere).output();
        Finished::of(&output.expect("the program starts"))
    };
    let best = "../runs/own/001/best.safetensors";
    let eval = there(&["eval", "--checkpoint", best]).succeeds();
    assert!(eval.stdout.contains("of 4), loss"), "{}", eval.stdout);
    there(&["report", "../runs/own/001"]).succeeds();
    there(&["score", "--checkpoint", best, "--images", "1", "--methods", "gradcam"]).succeeds();
    // Moved: the error names the old place, and the new one can be named.
    std::fs::rename(place.path("photos"), place.path("albums")).expect("a folder");
    for args in [["eval", "--checkpoint", best], ["score", "--checkpoint", best]] {
        there(&args).fails(&["/photos`, where the run has its images, is not there", "--folder"]);
    }
    there(&["report", "../runs/own/001"]).fails(&["/photos`", "--folder DIR"]);
    there(&["report", "../runs/own/001", "--folder", "../albums"]).succeeds();
    there(&["eval", "--checkpoint", best, "--folder", "../albums"]).succeeds();
}

#[test]
fn a_run_to_go_on_with_names_where_its_images_were() {
    let place = moved(&[]);
    train(&place, "photos", &["--epochs", "3"]).succeeds();
    let config = place.read("runs/small/001/config.toml");
    assert!(config.contains(&format!("path = \"{}", place.path("photos").display())), "{config}");
    let resume =
        |args: &[&str]| place.run(&[&["train", "--resume", "runs/small/001"], args].concat());
    std::fs::rename(place.path("photos"), place.path("albums")).expect("a folder");
    resume(&[]).fails(&["/photos`, where the run has its images", "--folder DIR"]);
    // It is at its end: what matters is that the images were found.
    resume(&["--folder", "albums"]).fails(&["finished"]);
}

#[test]
fn names_in_any_script_are_drawn_or_told() {
    let place = moved(&[
        ("photos/train/ants", "photos/train/蚂蚁"),
        ("photos/train/bees", "photos/train/نحلة"),
        ("photos/val/ants", "photos/val/蚂蚁"),
        ("photos/val/bees", "photos/val/نحلة"),
    ]);
    train(&place, "photos", &[]).succeeds();
    let best = "runs/small/001/best.safetensors";
    let args = ["explain", "photos/val/蚂蚁/00.jpg", "--target", "蚂蚁", "--checkpoint", best];
    let run = place.run(&args).succeeds();
    Image::open(place.path("00.explain.png")).expect("an image");
    let told = run.stderr.lines().filter(|line| line.contains("no font on this machine")).count();
    assert!(told <= 1, "{}", run.stderr);
    assert!(place.read("runs/small/001/report.html").contains("نحلة"), "a browser has the fonts");
}
