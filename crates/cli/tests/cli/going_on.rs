//! Runs that go on after their end, runs that are looked at meanwhile, and data that are not sound.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use candle_core::{Device, Tensor};
use candle_vision::train::Checkpoint;

use crate::support::{Finished, Place, experiments};

#[test]
fn a_finished_run_goes_on_with_more_epochs() {
    let (place, _) = Place::trained();
    let before = place.read("runs/small/001/config.toml");
    let run = place.run(&["train", "--resume", "runs/small/001", "--epochs", "4"]).succeeds();
    assert!(run.stderr.contains("changed: training.epochs is 4 now, 2 before"), "{}", run.stderr);
    assert!(run.stderr.contains("does not depend on the number of epochs"), "{}", run.stderr);
    assert!(run.stderr.contains("epoch 4/4") && !run.stderr.contains("epoch 2/"), "{}", run.stderr);
    place.small(&["--epochs", "4"]).succeeds();
    for name in ["best.safetensors", "last.safetensors"] {
        let weights = |number| place.tensors(&format!("runs/small/{number}/{name}"));
        assert_eq!(weights("001"), weights("002"), "{name}");
    }
    // The old settings are kept, and the new ones are a recipe.
    assert_eq!(place.read("runs/small/001/config-1.toml"), before);
    let now = place.read("runs/small/001/config.toml");
    assert!(
        now.contains("epochs = 4") && now.contains("# training.epochs: 4 now, 2 before"),
        "{now}"
    );
    place.run(&["train", "--recipe", "runs/small/001/config.toml", "--epochs", "1"]).succeeds();
    // Without a number it is at its end again.
    let again = place.run(&["train", "--resume", "runs/small/001"]);
    again.fails(&["is finished after 4 epochs", "more `epochs`"]);
    place.run(&["train", "--resume", "runs/small/001", "--set", "training.epochs=5"]).succeeds();
    assert!(place.path("runs/small/001/config-2.toml").is_file());
    place.run(&["report", "runs/small/001"]).succeeds();
}

#[test]
fn a_stretched_schedule_says_so() {
    let place = Place::new();
    let schedule = "training.schedule={ name = \"cosine_annealing_lr\" }";
    place.small(&["--set", schedule]).succeeds();
    let run = place.run(&["train", "--resume", "last", "--epochs", "3"]).succeeds();
    assert!(run.stderr.contains("schedule: stretched to 3 epochs"), "{}", run.stderr);
}

#[test]
fn what_cannot_change_is_named_with_its_reason_and_nothing_changes() {
    let (place, _) = Place::trained();
    let before = listing(&place.path("runs"));
    let resume = |args: &[&str]| place.run(&[&["train", "--resume", "last"], args].concat());
    resume(&["--seed", "3"]).fails(&["`training.seed`", "3 now, 0 before", "random draw"]);
    resume(&["--precision", "bf16"]).fails(&["`training.precision`", "rounded"]);
    let parts = ["`training.optimizer.lr`", "every step", "training.epochs, training.early_stop"];
    resume(&["--set", "training.optimizer.lr=0.1", "--epochs", "9"]).fails(&parts);
    resume(&["--set", "data.batch_size=4"]).fails(&["`data.batch_size`", "batches"]);
    resume(&["--set", "training.epohcs=4"]).fails(&["unknown field `epohcs`"]);
    resume(&["--epochs", "1"]).fails(&["is finished after 2 epochs"]);
    assert_eq!(listing(&place.path("runs")), before);
    resume(&["--epochs", "3", "--set", "data.workers=0", "--seed", "0"]).succeeds();
}

/// Every file below a folder with its length and the time it was last changed.
fn listing(folder: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let metadata = path.metadata().expect("a file");
        let changed = metadata.modified().expect("a time");
        files.insert(path.display().to_string(), (metadata.len(), changed));
        if path.is_dir() {
            files.extend(listing(&path));
        }
    }
    files
}

#[test]
fn reading_a_run_changes_nothing_in_its_folder() {
    let (place, best) = Place::trained();
    let resnet18 = ["--set", "model.architecture=resnet18", "--set", "training.limit_batches=1"];
    place.small(&[resnet18.as_slice(), &["--epochs", "1"]].concat()).succeeds();
    place.write_images("photos");
    // What a live run has there for a moment.
    place.write("runs/small/001/.candle-vision-abc123.tmp", "half");
    let before = listing(&place.path("runs"));
    let last = "runs/small/001/last.safetensors";
    let resnet = "runs/small/002/best.safetensors";
    for args in [
        ["compare", "runs/small/001", "runs/small/002"].as_slice(),
        &["eval", "--checkpoint", &best],
        &["eval", "--checkpoint", last, "--folder", "photos"],
        &["predict", "photos/val/ants/00.jpg", "--checkpoint", last],
        &["explain", "photos/val/ants/00.jpg", "--checkpoint", &best],
        &["score", "--checkpoint", &best, "--images", "1", "--methods", "gradcam", "-o", "scores"],
        &["summary", "--checkpoint", &best],
        &["inspect", "residual", "--checkpoint", resnet, "--batches", "1"],
        &["inspect", "sample", "--recipe", "runs/small/001/config.toml"],
        &["inspect", "activations", "photos/val/ants/00.jpg", "--checkpoint", &best],
    ] {
        place.run(args).succeeds();
        assert_eq!(listing(&place.path("runs")), before, "{args:?}");
    }
    // Its page is what `report` is asked for, and all it writes.
    place.run(&["report", "runs/small/001"]).succeeds();
    let mut after = listing(&place.path("runs"));
    assert!(after.contains_key(
        &place.path("runs/small/001/.candle-vision-abc123.tmp").display().to_string()
    ));
    let mut expected = before;
    for name in ["runs/small/001", "runs/small/001/report.html"] {
        let path = place.path(name).display().to_string();
        after.remove(&path);
        expected.remove(&path);
    }
    assert_eq!(after, expected);
    // Going on clears up.
    place.run(&["train", "--resume", "runs/small/001", "--epochs", "3"]).succeeds();
    assert!(!place.path("runs/small/001/.candle-vision-abc123.tmp").exists());
}

#[test]
fn a_live_run_is_not_resumed_by_another_process() {
    let place = Place::new();
    let args = ["train", "--recipe", "small.toml", "--epochs", "200"];
    let mut child = place.command(&args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
    let child = child.as_mut().expect("the program starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let is_first =
        |line: std::io::Result<String>| line.is_ok_and(|line| line.starts_with("epoch 1/200"));
    let mut lines = lines.into_iter();
    assert!(lines.any(is_first));
    let resumed = place.run(&["train", "--resume", "runs/small/001"]);
    let compared = place.run(&["compare", "runs/small/001", "runs/small/001"]);
    child.kill().expect("the program can be killed");
    child.wait().expect("it ends");
    resumed.fails(&["`runs/small/001` is being trained by another process"]);
    compared.succeeds();
    // The lock went with the process.
    let done = place.read("runs/small/001/metrics.csv").lines().count() - 1;
    let epochs = (done + 3).to_string();
    place.run(&["train", "--resume", "last", "--epochs", &epochs]).succeeds();
}

#[test]
fn a_fitted_network_resumes_whatever_it_began_from() {
    let place = Place::new();
    let resnet9 = ["--set", "model.architecture=resnet9", "--set", "training.limit_batches=1"];
    let tiny = ["--set", "model.image_size=16", "--set", "data.image_size=16"];
    let small = |args: &[&str]| place.small(&[resnet9.as_slice(), &tiny, args].concat()).succeeds();
    small(&["--epochs", "1", "--name", "first"]);
    let weights = "model.weights=runs/first/001/best.safetensors";
    let freeze = "training.freeze={ epochs = 2 }";
    for (name, args) in [
        ("scratch", [].as_slice()),
        ("frozen", &["--set", freeze]),
        ("weights", &["--set", weights]),
        ("both", &["--set", weights, "--set", freeze]),
    ] {
        let at = |epochs: &'static str| [&["--epochs", epochs, "--name", name], args].concat();
        small(&at("1"));
        let run = format!("runs/{name}/001");
        place.run(&["train", "--resume", &run, "--epochs", "3"]).succeeds();
        small(&at("3"));
        let tensors = |number| place.tensors(&format!("runs/{name}/{number}/last.safetensors"));
        assert!(tensors("001") == tensors("002"), "{name}");
        let config = place.read(&format!("{run}/config.toml"));
        assert_eq!(config.contains("runs/first/001"), args.contains(&weights), "{config}");
    }
}

#[test]
fn a_last_batch_of_one_image_is_refused_before_a_folder_is_made() {
    let place = Place::new();
    let resnet = ["--set", "model.architecture=resnet18", "--set", "data.train_images=9"];
    let run = place.small(&resnet);
    run.fails(&["last of 9 samples is alone in batches of 8", "`drop_last`"]);
    assert!(!place.path("runs/small/001").exists());
}

#[test]
fn a_network_that_says_nan_predicts_nothing() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let mut network = Checkpoint::load(place.path(&checkpoint)).expect("a checkpoint");
    // Finite weights, whose products are not.
    for (name, tensor) in &mut network.tensors {
        if name.ends_with(".weight") {
            *tensor = (&*tensor * 1e25).expect("numbers");
        }
    }
    network.save(place.path("nan.safetensors")).expect("a file can be written");
    let photo = "photos/val/ants/00.jpg";
    let said = [photo, "is NaN"];
    place.run(&["predict", photo, "--checkpoint", "nan.safetensors"]).fails(&said);
    place.run(&["explain", photo, "--checkpoint", "nan.safetensors"]).fails(&[]);
    let eval = ["eval", "--checkpoint", "nan.safetensors", "--folder", "photos"];
    place.run(&eval).fails(&["sample 0 (`photos/val/ants/00.jpg`) is NaN"]);
    let score = ["score", "--checkpoint", "nan.safetensors", "--folder", "photos", "-o", "s"];
    place.run(&score).fails(&[photo]);

    let bias = Tensor::new(&[f32::NAN, 0.0], &Device::Cpu).expect("two numbers");
    network.tensors.insert("fc.bias".to_owned(), bias);
    network.save(place.path("nan.safetensors")).expect("a file can be written");
    let said = ["cannot be used", "`fc.bias` [2] holds 1 of 2 values that are NaN or infinite"];
    place.run(&["predict", photo, "--checkpoint", "nan.safetensors"]).fails(&said);
}

fn main_job(place: &Place, args: &[&str]) -> Finished {
    let recipe = experiments().join("resnet18.toml");
    let recipe = recipe.to_str().expect("UTF-8");
    let fast = ["--set", "training.limit_batches=1", "--set", "data.batch_size=8", "--epochs", "1"];
    place.run(&[&["train", "--recipe", recipe], fast.as_slice(), args].concat())
}

#[test]
fn damaged_data_stop_the_run_instead_of_drawings() {
    let place = Place::new();
    place.write_images("data/hymenoptera_data");
    let image = "data/hymenoptera_data/train/ants/00.jpg";
    let bytes = std::fs::read(place.path(image)).expect("an image");
    let line = format!("{} {} 1 train/ants/00.jpg\n", "0".repeat(64), bytes.len());
    place.write("data/hymenoptera_data/.candle-vision-files", line);
    let run = main_job(&place, &["--offline"]);
    run.fails(&[image, "sha256", "expected 000", "candle-vision fetch hymenoptera"]);
    place.write("data/hymenoptera_data/.candle-vision-files", "");
    std::fs::remove_dir_all(place.path("data/hymenoptera_data/val")).expect("a folder");
    let run = main_job(&place, &["--offline"]);
    run.fails(&["hymenoptera_data/val", "fetch-data hymenoptera"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn only_what_is_not_to_be_had_is_done_without() {
    let place = Place::new();
    // A file where the folder should be: no place to put anything.
    place.write("full", "");
    let recipe = experiments().join("resnet18.toml");
    let recipe = recipe.to_str().expect("UTF-8");
    let mut command = place.command(&["train", "--recipe", recipe, "--data", "full/data"]);
    let output = command.env_remove("CANDLE_VISION_OFFLINE").output().expect("the program starts");
    let run = Finished::of(&output);
    run.fails(&["cannot fetch `hymenoptera` into `full/data`", "cannot create"]);
    // Weights of a name that nothing has.
    let run = main_job(
        &place,
        &["--offline", "--set", "data.source=insects", "--set", "model.weights=resnet81"],
    );
    run.fails(&["has no weights called `resnet81`"]);
}

#[test]
fn without_a_network_the_cause_is_said() {
    let place = Place::new();
    let recipe = experiments().join("resnet18.toml");
    let recipe = recipe.to_str().expect("UTF-8");
    let args = ["train", "--recipe", recipe, "--data", "empty", "--epochs", "1"];
    let fast = ["--set", "training.limit_batches=1", "--set", "data.batch_size=8"];
    let small = ["--set", "data.train_images=8", "--set", "data.val_images=4"];
    let mut command = place.command(&[args.as_slice(), &fast, &small].concat());
    command.env_remove("CANDLE_VISION_OFFLINE").env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        // Nobody listens there.
        command.env(name, "http://127.0.0.1:9");
    }
    let run = Finished::of(&command.output().expect("the program starts"));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let line = run.stderr.lines().find(|line| line.contains("drawings")).unwrap_or_default();
    assert!(line.starts_with("no network and no hymenoptera data here (`http"), "{}", run.stderr);
}

/// Runs of earlier versions call some settings by other names.
#[test]
fn a_run_folder_with_the_old_names_of_settings_goes_on() {
    let place = Place::new();
    place.run(&["train", "--recipe", "small.toml", "--epochs", "1"]).succeeds();
    let config = "runs/small/001/config.toml";
    let old = place.read(config).replace("train_images", "train_pictures");
    place.write(config, old.replace("val_images", "val_pictures"));
    let run = place.run(&["train", "--resume", "runs/small/001", "--epochs", "2"]).succeeds();
    let hint = "`data.train_pictures` is called `data.train_images` now";
    assert!(run.stderr.contains(hint), "{}", run.stderr);
    assert!(place.read(config).contains("train_images"));
}
