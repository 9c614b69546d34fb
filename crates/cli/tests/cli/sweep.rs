//! `sweep`: several networks by one recipe, one after the other.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use candle_vision::data::Image;

use crate::support::{Finished, Place};

const VARIANTS: &str = r#"
[[variants]]
model.architecture = "gap_cnn"

[[variants]]
name = "flat"
model.architecture = "mlp"
training.epochs = 1
"#;

fn place() -> Place {
    let place = Place::new();
    place.write("series.toml", place.read("small.toml") + VARIANTS);
    place
}

fn sweep(place: &Place, args: &[&str]) -> Finished {
    place.run(&[&["sweep", "--recipe", "series.toml"], args].concat())
}

#[test]
fn variants_are_trained_compared_and_not_trained_again() {
    let place = place();
    let run = sweep(&place, &["--set", "training.gradient_norms=true"]).succeeds();
    let end = "runs/series/compare.html\nruns/series/compare.png\n";
    assert!(run.stdout.ends_with(end), "{}", run.stdout);
    for part in ["gap_cnn", "flat", "mlp", "s per epoch", "peak memory", " 23714 "] {
        assert!(run.stdout.contains(part), "{part} is not in\n{}", run.stdout);
    }
    for line in ["sweep series: gap_cnn, flat", "flat (2 of 2): begins", "epoch 2/2"] {
        assert!(run.stderr.contains(line), "{line} is not in\n{}", run.stderr);
    }
    // Only one of the networks has convolutions.
    let page = place.read("runs/series/compare.html");
    assert!(page.contains("gradient norm by depth, first step"));
    assert!(
        place
            .read("runs/series/gap_cnn/001/report.html")
            .contains("each convolution&#x27;s kernel")
    );
    let image = Image::open(place.path("runs/series/gap_cnn/001/gradients.png")).expect("an image");
    assert_eq!(image.width(), 1200);
    let table = place.read("runs/series/flat/001/gradients.csv");
    // Two linear layers with their biases, in one epoch.
    assert_eq!(table.lines().count(), 1 + 4);

    let again = sweep(&place, &["--set", "training.gradient_norms=true"]).succeeds();
    assert!(again.stderr.contains("gap_cnn (1 of 2): is done in runs/series/gap_cnn/001"));
    assert!(!again.stderr.contains("epoch"), "{}", again.stderr);
    assert_eq!(again.stdout, run.stdout);
    assert!(!place.path("runs/series/gap_cnn/002").exists());
}

#[test]
fn more_epochs_go_on_and_other_settings_need_another_name() {
    let place = place();
    let one = ["--networks", "gap_cnn", "--epochs", "1"];
    sweep(&place, &one).succeeds();
    let run = sweep(&place, &["--networks", "gap_cnn"]).succeeds();
    assert!(run.stderr.contains("goes on in runs/series/gap_cnn/001"), "{}", run.stderr);
    assert_eq!(place.read("runs/series/gap_cnn/001/metrics.csv").lines().count(), 3);
    sweep(&place, &one).fails(&["`runs/series/gap_cnn/001` has 2 epochs", "--name"]);
    let seed = ["--networks", "gap_cnn", "--seed", "1"];
    sweep(&place, &seed).fails(&["runs/series/gap_cnn/001", "`training.seed`", "--name"]);
    let stop = ["--networks", "gap_cnn", "--set", "training.early_stop={patience=1}"];
    sweep(&place, &stop).fails(&["`training.early_stop", "--name"]);
    sweep(&place, &[&seed[..], &["--name", "other"]].concat()).succeeds();
}

#[test]
fn wrong_networks_are_one_line_before_anything_is_trained() {
    let place = place();
    let one = |args: &[&str], parts: &[&str]| {
        sweep(&place, args).fails(parts);
        assert!(!place.path("runs").exists(), "{args:?}");
    };
    one(&["--networks", "gap_cnn,resnet81"], &["no network is called `resnet81`; did you mean"]);
    one(&["--networks", "mlp,gap_cnn,mlp"], &["`mlp` is named twice"]);
    one(&["--networks", "mlp,"], &["`` cannot be the name"]);
    one(&["--set", "training.epohcs=1"], &["`gap_cnn`", "training.epohcs"]);
    let many =
        "mlp,gap_cnn,gap_cnn_deep,gap_cnn_hidden,lenet5,simple_cnn,resnet9,resnet18,resnet34";
    one(&["--networks", many], &["9 runs are too many", "8"]);
    place.run(&["sweep", "--recipe", "small.toml"]).fails(&["no variants", "--networks"]);
    place.run(&["sweep"]).is_misuse("--recipe");
    let train = place.run(&["train", "--recipe", "series.toml"]);
    train.fails(&["`series.toml` has variants", "candle-vision sweep --recipe series.toml"]);
}

#[test]
fn networks_without_weights_are_named_or_begin_from_scratch() {
    let place = Place::new();
    let recipe = place.read("small.toml").replace("[model]", "[model]\nweights = 'imagenet'");
    place.write("series.toml", recipe);
    let names = ["--networks", "mlp,resnet18"];
    let parts = ["`mlp` (nobody published any)", "`resnet18` (the network is switched off)"];
    sweep(&place, &names).fails(&[&parts[..], &["--from-scratch", "--networks"]].concat());
    assert!(!place.path("runs").exists());
    let scratch = ["--networks", "mlp", "--from-scratch", "--epochs", "1"];
    let run = sweep(&place, &scratch).succeeds();
    assert!(run.stderr.contains("`mlp` has no weights here (nobody published any)"), "{run:?}");
    assert!(run.stderr.contains("network: mlp, from scratch"), "{}", run.stderr);
}

/// At such a rate the weights are not finite after the first step.
#[test]
fn a_run_that_fails_leaves_the_others_alone() {
    let place = Place::new();
    let wild = "\n[[variants]]\nname = 'wild'\ntraining.optimizer = { name = 'sgd', lr = 1e30 }\n";
    place.write("series.toml", place.read("small.toml") + wild + VARIANTS);
    let run = sweep(&place, &[]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let last = run.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: `wild` failed (its error is above)"), "{last}");
    assert!(run.stdout.contains("flat") && !run.stdout.contains("wild"), "{}", run.stdout);
}

/// A series that can be caught in its midst.
fn start(place: &Place) -> Child {
    let mut command = place.command(&["sweep", "--recipe", "series.toml"]);
    command.args(["--set", "training.epochs=6", "--set", "data.train_images=320"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Ends a series by `end` after its first epoch.
fn ended(place: &Place, end: impl Fn(&mut Child)) -> Option<i32> {
    let mut child = start(place);
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    for line in lines {
        if line.expect("UTF-8").starts_with("epoch 1/6") {
            end(&mut child);
        }
    }
    child.wait().expect("the program ends").code()
}

#[cfg(unix)]
#[test]
fn an_interrupted_series_ends_as_one_that_was_not() {
    let place = place();
    // To the parent alone, as a job scheduler sends it.
    let terminate = |child: &mut Child| {
        let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(kill.expect("`kill` starts").success());
    };
    assert_eq!(ended(&place, terminate), Some(143));
    let done = place.read("runs/series/gap_cnn/001/batches.csv").lines().count();
    assert!(done < 1 + 6 * 40, "the run was over before it was interrupted");
    assert!(!place.path("runs/series/flat").exists());
    // The run ends even if its parent is killed, and leaves a state to go on from.
    ended(&place, |child| child.kill().expect("the program can be killed"));
    let again = start(&place).wait_with_output().expect("the program ends");
    let again = Finished::of(&again).succeeds();
    assert!(again.stderr.contains("going on with epoch"), "{}", again.stderr);
    assert!(again.stdout.ends_with("compare.png\n"), "{}", again.stdout);

    let whole = self::place();
    Finished::of(&start(&whole).wait_with_output().expect("it ends")).succeeds();
    let run = "runs/series/gap_cnn/001";
    for name in ["best.safetensors", "last.safetensors"] {
        let weights = |place: &Place| place.tensors(&format!("{run}/{name}"));
        assert_eq!(weights(&place), weights(&whole), "{name}");
    }
    assert!(!place.path("runs/series/gap_cnn/002").exists());
}
