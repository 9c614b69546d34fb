//! Broken data sets and images.

use crate::support::{Finished, Place, experiments};

fn train_on_photos(place: &Place, args: &[&str]) -> Finished {
    let source = ["--set", "data.source=folder", "--set", "data.path=photos"];
    place.small(&[source.as_slice(), args].concat())
}

#[test]
fn a_missing_folder_is_named() {
    let place = Place::new();
    train_on_photos(&place, &[]).fails(&["`photos` not found", "check the path"]);
    place.small(&["--set", "data.source=folder"]).fails(&["data.path"]);
    place.write_images("photos");
    std::fs::remove_dir_all(place.path("photos/train")).expect("the folder is there");
    train_on_photos(&place, &[]).fails(&["`photos/train` not found", "`val` to validate on"]);
}

#[test]
fn a_class_without_images_is_named() {
    let place = Place::new();
    place.write_images("photos");
    std::fs::create_dir(place.path("photos/train/wasps")).expect("a folder");
    place.write("photos/train/wasps/notes.txt", "none yet");
    train_on_photos(&place, &[]).fails(&["`photos/train/wasps`", "without images", "remove"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn a_broken_image_is_named_or_left_out() {
    for (name, break_it) in [
        ("photos/train/ants/00.jpg", (|place, name| place.cut(name, 600)) as fn(&Place, &str)),
        ("photos/train/bees/text.jpg", |place, name| place.write(name, "no image at all")),
    ] {
        let place = Place::new();
        place.write_images("photos");
        break_it(&place, name);
        train_on_photos(&place, &[]).fails(&[name, "not a whole image", "skip_broken"]);
        let run = train_on_photos(&place, &["--skip-broken"]).succeeds();
        assert_eq!(run.stderr.matches(name).count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(&format!("left out: {name}: ")), "{}", run.stderr);
        assert!(run.stderr.contains("epoch 2/2"), "{}", run.stderr);
    }
}

#[test]
fn eval_names_a_broken_image_or_leaves_it_out() {
    let place = Place::new();
    place.write_images("photos");
    train_on_photos(&place, &[]).succeeds();
    place.cut("photos/val/bees/01.jpg", 600);
    let checkpoint = "runs/small/001/best.safetensors";
    let run = place.run(&["eval", "--checkpoint", checkpoint]);
    run.fails(&["photos/val/bees/01.jpg", "cut off"]);
    let run = place.run(&["eval", "--checkpoint", checkpoint, "--skip-broken"]).succeeds();
    assert!(run.stderr.contains("left out: photos/val/bees/01.jpg"), "{}", run.stderr);
    assert!(run.stdout.contains("of 3)"), "{}", run.stdout);
}

#[test]
fn a_single_class_is_refused_by_every_data_set() {
    let place = Place::new();
    place.write_images("photos");
    let rows: String = (0..8)
        .map(|n| {
            format!("photos/train/{}/{n:02}.jpg,ants\n", if n % 2 == 0 { "ants" } else { "bees" })
        })
        .collect();
    place.write("one.csv", format!("path,label\n{rows}"));
    let source = ["--set", "data.source=table", "--set", "data.path=one.csv"];
    place.small(&source).fails(&["one.csv", "a single class, `ants`", "nothing to tell apart"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn shards_on_a_server_are_not_fetched_offline() {
    // The place switches the network off.
    let place = Place::new();
    let source =
        ["--set", "data.source=shards", "--set", "data.path=http://127.0.0.1:9/train-{0..1}.tar"];
    place.small(&source).fails(&[
        "127.0.0.1:9/train-0.tar",
        "network is switched off",
        "--offline",
    ]);
}

#[test]
fn classes_without_training_images_are_named() {
    let place = Place::new();
    place.write_images("photos");
    let rows: String = (0..8)
        .map(|n| format!("photos/train/{}/{n:02}.jpg,{}\n", ["ants", "bees"][n % 2], n % 2 + 1))
        .collect();
    place.write("from_one.csv", format!("path,label\n{rows}"));
    let source = ["--set", "data.source=table", "--set", "data.path=from_one.csv", "--epochs", "1"];
    let run = place.small(&source).succeeds();
    assert!(run.stderr.contains("classes without training images: 1 of 3 (0)"), "{}", run.stderr);
}

// Other systems have no such names.
#[cfg(unix)]
#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let place = Place::new();
    place.write_images("photos");
    place.write("photos/train/ants/red\u{1b}[31m\nnew.jpg", "no image");
    place.write("photos/train/ants/what.\u{1b}[2J", "something");
    let check = place.run(&["data", "check", "photos"]);
    let run = train_on_photos(&place, &["--skip-broken", "--epochs", "1"]).succeeds();
    for text in [&check.stdout, &check.stderr, &run.stdout, &run.stderr] {
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    let shown = "red\\u{1b}[31m\\nnew.jpg: ";
    assert!(check.stdout.contains(shown) && run.stderr.contains(shown), "{check:?} {run:?}");
    assert!(run.stderr.contains("not used: 1 .\\u{1b}[2j"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_not_utf8_is_told() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let folder = std::ffi::OsStr::from_bytes(b"caf\xE9");
    let output = place.command(&["train", "--folder"]).arg(folder).output().expect("it starts");
    Finished::of(&output).fails(&["is not UTF-8", "config.toml", "rename it"]);
}

/// MNIST's files with `count` black images.
fn write_mnist(place: &Place, count: u32) {
    for part in ["train", "t10k"] {
        let mut images = [0x803, count, 28, 28].map(u32::to_be_bytes).concat();
        images.extend(vec![0; 784 * count as usize]);
        let mut labels = [0x801, count].map(u32::to_be_bytes).concat();
        labels.extend((0..count).map(|i| (i % 10) as u8));
        place.write(&format!("data/mnist/{part}-images-idx3-ubyte"), images);
        place.write(&format!("data/mnist/{part}-labels-idx1-ubyte"), labels);
    }
}

fn experiment(place: &Place, name: &str) -> Finished {
    let recipe = experiments().join(name);
    let recipe = recipe.to_str().expect("UTF-8");
    place.run(&["train", "--recipe", recipe, "--epochs", "1"])
}

#[test]
fn a_cut_mnist_file_is_named() {
    let place = Place::new();
    experiment(&place, "mnist-mlp.toml").fails(&["`mnist` is not in `data`", "fetch-data mnist"]);
    write_mnist(&place, 20);
    experiment(&place, "mnist-mlp.toml").succeeds();
    place.cut("data/mnist/t10k-images-idx3-ubyte", 10_000);
    experiment(&place, "mnist-mlp.toml").fails(&[
        "`data/mnist/t10k-images-idx3-ubyte` has 10000 bytes, expected",
        "fetch-data mnist",
    ]);
}

#[test]
fn a_cut_cifar_file_is_named() {
    let place = Place::new();
    for part in ["train_20.bin", "test_20.bin"] {
        let records = (0..20).flat_map(|i| std::iter::repeat_n(i % 10, 3073));
        place.write(&format!("data/cifar10/{part}"), records.collect::<Vec<u8>>());
    }
    experiment(&place, "cifar10-mlp.toml").succeeds();
    place.cut("data/cifar10/train_20.bin", 5_000);
    experiment(&place, "cifar10-mlp.toml").fails(&[
        "`data/cifar10/train_20.bin` has 5000 bytes, expected",
        "3073",
        "fetch-data cifar10",
    ]);
}
