//! `data check` and `data show`, and runs on classes that differ in size.

use std::fs;

use crate::support::Place;

/// A place with sound photos in `photos`, 10 a class to train on.
fn place() -> Place {
    let place = Place::new();
    place.write_images("photos");
    place
}

#[test]
fn a_sound_folder_is_said_to_be_sound() {
    let place = place();
    let run = place.run(&["data", "check", "photos"]).succeeds();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[0], "`photos`: `train` to train on, `val` to validate on");
    assert_eq!(lines[1], "12 images, 2 classes");
    assert!(run.stdout.contains("pixels: mean [0."), "{}", run.stdout);
    assert!(!run.stdout.contains("error:"), "{}", run.stdout);
    assert_eq!(lines.last(), Some(&"training would begin"));
    assert_eq!(run.stderr, "");
}

#[test]
fn what_would_fail_training_fails_the_check_and_is_shown() {
    let place = place();
    place.cut("photos/train/ants/00.jpg", 300);
    fs::copy(place.path("photos/train/ants/02.jpg"), place.path("photos/val/ants/leak.jpg"))
        .expect("a copy");
    let check = place.run(&["data", "check", "photos", "--html", "check.html"]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains("error: 1 file that cannot be read"), "{}", check.stdout);
    assert!(check.stdout.contains("    train/ants/00.jpg: it was cut off"), "{}", check.stdout);
    let pair = "    train/ants/02.jpg and val/ants/leak.jpg (the same file)";
    assert!(check.stdout.lines().any(|line| line == pair), "{}", check.stdout);
    assert_eq!(check.stdout.lines().last(), Some("training would fail"));
    assert_eq!(check.stderr, "page: check.html\n");
    let page = place.read("check.html");
    assert!(page.contains("Training would fail.") && page.contains("it was cut off"));
    assert!(page.matches("<img ").count() >= 10, "{}", page.matches("<img ").count());
    // An image of one pixel by 500 must not make a page of a hundred thousand.
    assert!(page.contains("max-height: 384px"));

    // A program reads the same.
    let json = place.run(&["data", "check", "photos", "--json"]);
    assert_eq!(json.code, Some(1));
    let found: serde_json::Value = serde_json::from_str(&json.stdout).expect("one JSON object");
    assert_eq!(found["findings"][0]["code"], "broken");
    assert_eq!(found["files"].as_array().map(Vec::len), Some(13));
    assert_eq!(found["duplicates"][0]["across_splits"], true);
    assert_eq!(found["files"][1]["state"], "image");
    assert_eq!(found["files"][1]["format"], "jpg");

    // It is as the check says: training fails, and does not on the cleaned copy.
    let train = |folder: &str| {
        let path = format!("data.path={folder}");
        place.small(&["--set", "data.source=folder", "--set", &path, "--epochs", "1"])
    };
    train("photos").fails(&["`photos/train/ants/00.jpg`", "cut off"]);
    let fix = place.run(&["data", "check", "photos", "--fix", "cleaned"]);
    assert_eq!(fix.code, Some(1));
    let line = "cleaned copy: cleaned: 11 files copied, 0 converted, 2 left out; cleaning.csv there says why\n";
    assert_eq!(fix.stderr, line);
    let again = place.run(&["data", "check", "cleaned"]).succeeds();
    assert!(!again.stdout.contains("the same file"), "{}", again.stdout);
    train("cleaned").succeeds();
    place.run(&["data", "check", "photos", "--fix", "cleaned"]).fails(&["is there already"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let place = Place::new();
    place.run(&["data", "check", "nowhere"]).fails(&["`nowhere` not found", "check the path"]);
    place
        .run(&["data", "check", "small.toml"])
        .fails(&["`small.toml` is no folder", "name a folder"]);
    Place::new().run(&["data", "show", "nowhere"]).fails(&["`nowhere`"]);
    Place::new().run(&["data", "show"]).is_misuse("FOLDER");
}

#[test]
fn a_contact_sheet_shows_images_before_and_after_augmentation() {
    let place = place();
    let show = ["data", "show", "photos", "--images", "3", "--epochs", "2"];
    let run = place.run(&[&show[..], &["-o", "a.png"]].concat()).succeeds();
    assert_eq!(run.stdout, "a.png\n");
    let size = |name: &str| {
        let page = image::open(place.path(name)).expect("an image");
        (page.width(), page.height())
    };
    // Rows of four cells of 200 pixels.
    assert_eq!(size("a.png").0, 28 * 2 + 4 * 200 + 3 * 18);
    place.run(&[&show[..], &["-o", "b.png"]].concat()).succeeds();
    let bytes = |name: &str| fs::read(place.path(name)).expect("a file");
    assert!(bytes("a.png") == bytes("b.png"), "the same seed gives the same sheet");
    place.run(&[&show[..], &["-o", "c.png", "--seed", "5"]].concat()).succeeds();
    assert!(bytes("a.png") != bytes("c.png"));
    let run = place.run(&["data", "show", "--recipe", "small.toml", "--images", "2"]).succeeds();
    assert_eq!(run.stdout, "small.sheet.png\n");
}

#[test]
fn the_imbalance_and_what_is_done_about_it_are_said_once() {
    let place = place();
    for image in ["01", "03", "05"] {
        fs::remove_file(place.path(&format!("photos/train/bees/{image}.jpg"))).expect("an image");
    }
    let train = |args: &[&str]| {
        let folder = ["--set", "data.source=folder", "--set", "data.path=photos", "--epochs", "1"];
        place.small(&[&folder[..], args].concat()).succeeds()
    };
    let line = |run: crate::support::Finished| {
        let lines: Vec<String> = run
            .stderr
            .lines()
            .filter(|line| line.starts_with("imbalance"))
            .map(str::to_owned)
            .collect();
        assert_eq!(lines.len(), 1, "{}", run.stderr);
        lines[0].clone()
    };
    let begins = "imbalance: 4.0 to 1 (ants 4, bees 1); ";
    assert!(line(train(&[])).starts_with(&format!("{begins}nothing is done about it")));
    let balanced = train(&["--set", "data.sampler=balanced", "--name", "balanced"]);
    assert_eq!(line(balanced), format!("{begins}the sampler `balanced` shows them 1.5 to 1"));
    let weights = "training.loss={ name = \"focal\", class_weights = \"balanced\" }";
    let focal = line(train(&["--set", weights]));
    assert!(focal.ends_with("the loss weights classes by 0.625 to 2.500"), "{focal}");
    line(train(&["--set", "training.class_weights=balanced"]));
    let adjusted = "training.loss={ name = \"cross_entropy\", logit_adjustment = 1.0 }";
    line(train(&["--set", adjusted]));

    // The recorded run goes on, with the sampler that it has and no other.
    let config = place.read("runs/balanced/001/config.toml");
    assert!(
        config.contains("[data.sampler]") && config.contains("name = \"balanced\""),
        "{config}"
    );
    let resume = ["train", "--resume", "runs/balanced/001", "--epochs", "2"];
    place
        .run(&[&resume[..], &["--set", "data.sampler=stratified"]].concat())
        .fails(&["`data.sampler", "cannot change"]);
    place.run(&resume).succeeds();
    place
        .small(&["--set", "data.sampler=balance"])
        .fails(&["no sampler is called `balance`; did you mean `balanced`"]);
}

/// A recipe whose training images are mixed.
fn mixed_recipe(place: &Place) {
    let small = place.read("small.toml");
    let mixing = "batch_transforms = [{ op = \"random_choice\", transforms = [{ op = \"mixup\", alpha = 0.4 }, \
                  { op = \"cutmix\" }] }]";
    place.write("mixed.toml", small.replace("[data]\n", &format!("[data]\n{mixing}\n")));
}

#[test]
fn a_contact_sheet_shows_mixed_images() {
    let place = Place::new();
    mixed_recipe(&place);
    let show = |recipe: &str, args: &[&str]| {
        let output = format!("{recipe}.png");
        let show = ["data", "show", "--recipe", recipe, "--images", "3", "-o", &output];
        place.run(&[&show[..], args].concat()).succeeds();
        fs::read(place.path(&output)).expect("a sheet")
    };
    let (mixed, plain) = (show("mixed.toml", &[]), show("small.toml", &[]));
    assert!(mixed != plain && mixed == show("mixed.toml", &[]));
    // Images to validate on are not mixed.
    let val = show("mixed.toml", &["--val"]);
    place.write("mixed.toml", place.read("small.toml"));
    assert!(val == show("mixed.toml", &["--val"]));
}

#[test]
fn a_recipe_mixes_images_and_records_it() {
    let place = Place::new();
    mixed_recipe(&place);
    let train = |args: &[&str]| place.run(&[&["train", "--recipe", "mixed.toml"], args].concat());
    train(&[]).succeeds();
    let config = place.read("runs/mixed/001/config.toml");
    // With the defaults filled in.
    assert!(config.contains("op = \"cutmix\"") && config.contains("alpha = 0.4"), "{config}");
    assert!(config.contains("alpha = 1.0") && config.contains("random_choice"), "{config}");
    let resume = ["train", "--resume", "runs/mixed/001", "--epochs", "9"];
    let other = ["--set", "data.batch_transforms=[{ op = \"mixup\" }]"];
    place
        .run(&[&resume[..], &other].concat())
        .fails(&["`data.batch_transforms` cannot change", "it decides which batches come"]);
    place.run(&resume).succeeds();
    let fails = |setting: &str, words: &[&str]| train(&["--set", setting]).fails(words);
    fails("data.batch_size=1", &["`data.batch_transforms` mix the images", "make it at least 2"]);
    fails(
        "data.batch_transforms=[{ op = \"mixup\", alpha = 0 }]",
        &["`alpha` is 0; give a number above 0"],
    );
    fails("data.batch_transforms=[{ op = \"mix\" }]", &["no batch transform is called `mix`"]);
}
