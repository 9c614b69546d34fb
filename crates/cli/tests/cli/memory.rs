//! What a network takes in memory, and runs that do not fit.

use crate::support::Place;

const TINY: [&str; 8] =
    ["memory", "gap_cnn", "--classes", "2", "--input", "3x32x32", "--device", "cpu"];

fn tiny(more: &[&str]) -> Vec<String> {
    TINY.iter().chain(more).map(|&arg| arg.to_owned()).collect()
}

fn run(more: &[&str]) -> crate::support::Finished {
    let args = tiny(more);
    Place::new().run(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn the_parts_the_batches_and_the_largest_batch_are_listed() {
    let shown = run(&["--batch", "8", "--memory", "1GiB"]).succeeds();
    for part in ["parameters", "optimizer state", "activations", "workspaces", "all", "4096"] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let end = "the largest batch that fits into 80 % of 1.0 GiB: ";
    let last = shown.stdout.lines().last().unwrap_or_default();
    let largest = last.strip_prefix(end).and_then(|number| number.parse::<usize>().ok());
    assert!(largest.is_some_and(|largest| largest > 64), "{last}");
    let small = run(&["--memory", "1KiB"]).succeeds();
    assert!(
        small.stdout.contains("not even one image fits into 80 % of 1 KiB"),
        "{}",
        small.stdout
    );
}

#[test]
fn json_has_the_bytes_and_they_follow_the_optimizer() {
    let of = |optimizer: &str| -> serde_json::Value {
        let shown = run(&["--json", "--memory", "1GiB", "--optimizer", optimizer]).succeeds();
        serde_json::from_str(&shown.stdout).expect("JSON")
    };
    let (sgd, momentum, adam) = (of("sgd"), of("sgd,momentum=0.9"), of("adam"));
    let state = |value: &serde_json::Value| value["estimate"]["optimizer_state"].as_u64();
    let parameters = adam["estimate"]["parameters"].as_u64().expect("a number");
    assert_eq!(
        (state(&sgd), state(&momentum), state(&adam)),
        (Some(0), Some(parameters), Some(2 * parameters))
    );
    assert_eq!(adam["batches"].as_array().map(Vec::len), Some(4));
    assert_eq!(adam["available"].as_u64(), Some(1 << 30));
}

#[test]
fn a_step_of_several_batches_keeps_the_gradients_of_the_earlier_ones() {
    let gradients = |batches: &str| {
        let shown = run(&["--json", "--memory", "1GiB", "--accumulate", batches]).succeeds();
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
        shown["estimate"]["gradients"].as_u64().expect("a number")
    };
    assert_eq!(gradients("3"), 2 * gradients("1"));
    let none = Place::new().small(&["--set", "training.accumulate=0"]);
    none.fails(&["`accumulate` is 0; it must be at least 1"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_real_step_confirms_it() {
    let shown = run(&["--batch", "16", "--confirm"]).succeeds();
    assert!(shown.stdout.contains("measured: "), "{}", shown.stdout);
    assert!(shown.stdout.contains("predicted "), "{}", shown.stdout);
}

#[test]
fn a_checkpoint_and_a_card_that_is_elsewhere_are_understood() {
    let (place, checkpoint) = Place::trained();
    let shown = place.run(&["memory", "--checkpoint", &checkpoint, "--device", "cpu"]).succeeds();
    assert!(shown.stdout.starts_with("gap_cnn: 2 classes"), "{}", shown.stdout);
    let card = ["--device", "cuda", "--precision", "bf16", "--memory", "80GiB"];
    let shown = place.run(&[&["memory", "resnet18"], &card[..]].concat()).succeeds();
    assert!(shown.stdout.contains("bf16 with adam"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("workspaces"), "{}", shown.stdout);
}

#[test]
fn mistakes_are_named() {
    run(&["--batch", "0"]).is_misuse("it must be at least 1");
    run(&["--memory", "much"]).is_misuse("a size such as 8GiB");
    run(&["--optimizer", "adm"])
        .fails(&["no optimizer is called `adm`; did you mean `adam` or `adamw`?"]);
    run(&["--optimizer", "sgd,momentun=0.9"]).fails(&["did you mean `momentum`?"]);
    run(&["--precision", "bf16"]).fails(&["bf16 on a CPU", "--device cuda"]);
    let place = Place::new();
    place.run(&["memory", "resnet81"]).fails(&["`resnet81`", "did you mean", "`resnet18`"]);
    place.run(&["memory"]).is_misuse("NETWORK");
    let card = ["memory", "mlp", "--device", "cuda", "--confirm", "--memory", "1GiB"];
    place.run(&card).fails(&["--confirm", "--device cpu"]);
}

#[test]
fn a_run_that_does_not_fit_does_not_begin() {
    let place = Place::new();
    let refused = place.small(&["--memory", "5MiB"]);
    refused.fails(&["batches of 8 images take about ", "but there are 5.0 MiB"]);
    assert!(!place.path("runs/small/001").exists(), "no folder is left");
    let large = ["--set", "data.image_size=128", "--set", "model.image_size=128"];
    let with = |batch: &str| {
        let batch = format!("data.batch_size={batch}");
        let more = ["--set", &batch, "--memory", "200MiB", "--epochs", "1"];
        place.small(&[&large[..], &more].concat())
    };
    // There are but 32 images.
    let refused = with("1000").fails(&["batches of 32 images", "`--batch-size "]);
    let batch = refused.stderr.rsplit_once("--batch-size ").expect("a remedy").1;
    with(batch.trim().trim_end_matches('`')).succeeds();
}

#[test]
fn auto_takes_the_batch_that_fits_and_the_run_goes_on_with_it() {
    let place = Place::new();
    let started = |more: &[&str]| {
        let fixed = ["--set", "data.train_images=128", "--epochs", "1"];
        place.small(&[&fixed, more].concat()).succeeds().stderr
    };
    // All fits: eight batches of 16 are not enough steps.
    let told = started(&["--batch-size", "auto", "--memory", "8GiB"]);
    assert!(told.contains("auto takes 8 for 128 training images"), "{told}");
    assert!(place.read("runs/small/001/config.toml").contains("batch_size = 8\n"));
    // The number decides everything from here on: the same run, with it in the recipe.
    started(&["--set", "data.batch_size=8"]);
    let batches = |run: &str| place.read(&format!("runs/small/{run}/batches.csv"));
    let losses = |run: &str| -> Vec<String> {
        let rows = batches(run);
        rows.lines().map(|row| row.split(',').take(3).collect::<Vec<_>>().join(",")).collect()
    };
    assert_eq!(losses("001"), losses("002"));
    // Another machine, or another limit, does not change a run that has begun.
    let more = ["train", "--resume", "runs/small/001", "--epochs", "2", "--memory", "4GiB"];
    let resumed = place.run(&more).succeeds().stderr;
    assert!(!resumed.contains("auto takes"), "{resumed}");
    assert_eq!(batches("001").lines().count(), 1 + 2 * 16);
    let other = [&more[..], &["--batch-size", "auto"]].concat();
    place.run(&other).fails(&["`data.batch_size` cannot change"]);
}

#[test]
fn auto_takes_less_where_there_is_less_memory() {
    let place = Place::new();
    let large = ["--set", "data.image_size=128", "--set", "model.image_size=128"];
    let with = |memory: &str| {
        let fixed = ["--batch-size", "auto", "--epochs", "1", "--memory", memory];
        place.small(&[&large[..], &fixed].concat())
    };
    let of = |told: &str| -> usize {
        let rest = told.split_once("auto takes ").expect("it is told").1;
        rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    // Whether the program, which takes half of it, leaves room for the run itself depends on how it was built.
    let (little, much) = (with("110MiB").stderr, with("4GiB").succeeds().stderr);
    assert!(of(&little) < of(&much), "{little}{much}");
    with("10MiB").fails(&["batches of 1 images", "take a smaller network"]);
    // What a step takes is not known: a usual batch.
    let unknown = ["--precision", "bf16", "--epochs", "1"];
    let told = place.small(&[&unknown[..], &["--batch-size", "auto"]].concat()).succeeds().stderr;
    assert!(told.contains("auto takes 8 for 32 training images (what a step takes"), "{told}");
}

#[test]
fn nothing_is_said_of_a_run_that_cannot_be_counted() {
    let run = Place::new().small(&["--precision", "bf16", "--epochs", "1", "--memory", "5MiB"]);
    assert!(!run.succeeds().stderr.contains("memory:"));
}

#[test]
fn a_network_that_is_frozen_at_first_counts_as_one_that_learns() {
    let place = Place::new();
    let large = ["--set", "data.image_size=128", "--set", "model.image_size=128"];
    let told = |epochs: &str| {
        let freeze = ["--set", "training.freeze.epochs=1", "--epochs", epochs];
        let run = place.small(&[&large[..], &freeze].concat()).succeeds().stderr;
        run.lines().find(|line| line.starts_with("memory:")).expect("it is told").to_owned()
    };
    let (always, at_first) = (told("1"), told("2"));
    assert!(!always.contains("activations"), "{always}");
    assert!(at_first.contains("activations"), "{at_first}");
}
