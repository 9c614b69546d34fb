//! `train` from the recipe to the run folder, and what may not change a result.

use candle_vision::data::Image;

use crate::support::{Place, experiments};

#[test]
fn a_run_leaves_its_settings_measurements_and_checkpoints() {
    let place = Place::new();
    let run = place.small(&[]).succeeds();
    assert!(run.stdout.contains("runs/small/001"), "{}", run.stdout);
    assert!(run.stdout.contains("all epochs are done"), "{}", run.stdout);

    let read = |name: &str| place.read(&format!("runs/small/001/{name}"));
    assert_eq!(read("metrics.csv").lines().count(), 1 + 2);
    assert_eq!(read("batches.csv").lines().count(), 1 + 2 * 4);
    assert!(read("config.toml").contains("architecture = \"gap_cnn\""));
    let environment: serde_json::Value =
        serde_json::from_str(&read("environment.json")).expect("JSON");
    assert_eq!(environment["command"][1], "train");
    assert!(!place.tensors("runs/small/001/best.safetensors").is_empty());
    assert!(!place.tensors("runs/small/001/last.safetensors").is_empty());
    let curves = Image::open(place.path("runs/small/001/curves.png")).expect("an image");
    assert!(curves.width() > 300 && curves.height() > 300);
    let files = std::fs::read_dir(place.path("runs/small/001")).expect("the run's folder");
    let names: Vec<String> =
        files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8")).collect();
    assert!(names.iter().any(|name| name.starts_with("events.out.tfevents.")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
}

#[test]
fn progress_is_plain_lines_without_a_terminal() {
    let run = Place::new().small(&[]).succeeds();
    assert!(!run.stderr.contains(['\r', '\u{1b}']), "{:?}", run.stderr);
    let begins =
        ["data: 32 ", "network: gap_cnn", "run: ", "memory: about ", "epoch 1/2 ", "epoch 2/2 "];
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), begins.len(), "{}", run.stderr);
    // Where the system says how much memory is in use.
    let shown = lines[lines.len() - 1].contains(" MiB");
    assert_eq!(shown, cfg!(target_os = "linux"), "{}", run.stderr);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
}

#[test]
fn a_run_in_half_precision_says_what_a_cpu_makes_of_it_and_keeps_it() {
    let place = Place::new();
    let run = place.small(&["--precision", "bf16", "--epochs", "1"]).succeeds();
    let note = "bf16 on a CPU is computed in f32 and rounded: right, but slower than f32";
    assert_eq!(run.stderr.lines().filter(|line| *line == note).count(), 1, "{}", run.stderr);
    assert!(place.read("runs/small/001/config.toml").contains("precision = \"bf16\""));
    let f16 = place.small(&["--set", "training.precision=f16", "--epochs", "1"]).succeeds();
    assert!(f16.stderr.contains("f16 on a CPU"), "{}", f16.stderr);
    place.small(&["--epochs", "1"]).succeeds();
    let weights = |number| place.tensors(&format!("runs/small/{number}/last.safetensors"));
    let [bf16, f16, f32] =
        ["001", "002", "003"].map(|number| weights(number)["conv1.weight"].clone());
    assert!(bf16 != f32 && f16 != f32 && bf16 != f16);

    place.small(&["--precision", "half"]).is_misuse("`half` is no precision; use f32, bf16 or f16");
    let parts = ["training.precision=fp16", "unknown variant `fp16`", "bf16"];
    place.small(&["--set", "training.precision=fp16"]).fails(&parts);
}

#[test]
fn the_seed_decides_the_weights_and_workers_do_not() {
    let place = Place::new();
    for args in [
        ["--seed", "1", "--set", "data.workers=2"],
        ["--seed", "1", "--set", "data.workers=0"],
        ["--seed", "2", "--set", "data.workers=2"],
    ] {
        place.small(&args).succeeds();
    }
    let weights = |number| place.tensors(&format!("runs/small/{number}/best.safetensors"));
    assert_eq!(weights("001"), weights("002"));
    assert_ne!(weights("001"), weights("003"));
}

#[test]
fn without_data_the_main_job_says_so_first_and_draws() {
    let place = Place::new();
    let recipe = experiments().join("resnet18.toml");
    let recipe = recipe.to_str().expect("UTF-8");
    let run = place
        .run(
            &[
                ["train", "--recipe", recipe, "--offline", "--data", "empty", "--epochs", "1"]
                    .as_slice(),
                &["--set", "training.limit_batches=1", "--set", "data.train_images=8"],
                &["--set", "data.val_images=4", "--set", "data.batch_size=8"],
            ]
            .concat(),
        )
        .succeeds();
    let first = run.stderr.lines().next().unwrap_or_default();
    assert!(first.contains("no network and no hymenoptera data"), "{first}");
    assert!(first.contains("drawings") && first.contains("fetch-data"), "{first}");
    assert!(place.read("runs/resnet18/001/config.toml").contains("source = \"insects\""));
}

#[test]
fn a_folder_of_images_is_all_it_takes() {
    let place = Place::new();
    place.write_images("photos");
    let args = ["train", "--folder", "photos", "--model", "alexnet_32", "--epochs", "1"];
    let run = place.run(&[args.as_slice(), &["--set", "training.limit_batches=1"]].concat());
    let run = run.succeeds();
    assert!(run.stderr.contains("8 training images (ants 4, bees 4), 4"), "{}", run.stderr);
    assert!(run.stdout.contains("runs/photos/001"), "{}", run.stdout);
}

#[test]
fn a_first_layer_that_is_computed_from_the_images_is_not_learned() {
    let place = Place::new();
    let resnet9 = |epochs: &'static str| {
        let args = ["--set", "model.architecture=resnet9", "--epochs", epochs];
        let fast = ["--set", "training.limit_batches=1", "--set", "data.batch_size=4"];
        place.small(&[&args[..], &fast, &["--set", "training.ema.decay=0.9"]].concat()).succeeds();
    };
    resnet9("1");
    resnet9("2");
    let weights = |number| place.tensors(&format!("runs/small/{number}/last.safetensors"));
    let (one, two) = (weights("001"), weights("002"));
    let kernels = &two["whiten.weight"];
    assert_eq!(kernels, &one["whiten.weight"]);
    assert_ne!(two["prep.conv.weight"], one["prep.conv.weight"]);
    // Eigenvectors are at right angles; what is drawn at random is not.
    for (a, b) in (0..27).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let [a, b] = [a, b].map(|row| &kernels[27 * row..27 * (row + 1)]);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!(product(a, b).abs() < 1e-4 * (product(a, a) * product(b, b)).sqrt());
    }
}
