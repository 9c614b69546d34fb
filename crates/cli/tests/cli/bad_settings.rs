//! Mistakes in recipes, settings, networks and checkpoints: each gets one line and ruins nothing.

use crate::support::Place;

/// A run that fails before it begins leaves no run folder.
#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    let place = Place::new();
    let run = place.small(args).fails(parts);
    assert_eq!(run.stdout, "");
    assert!(!place.path("runs").exists(), "{}", run.stderr);
}

#[test]
fn recipes_are_read_strictly() {
    let place = Place::new();
    place.run(&["train", "--recipe", "nope.toml"]).fails(&["`nope.toml`", "No such file"]);
    let recipe = place.read("small.toml");
    for (old, new, part) in [
        ("epochs = 2", "epohcs = 2", "`epohcs`"),
        ("image_size", "image_sise", "`image_sise`"),
        ("[model]", "[modle]", "`modle`"),
        ("lr = 0.003", "lr = ", "line "),
        ("random_horizontal_flip", "flip", "`flip`"),
    ] {
        place.write("bad.toml", recipe.replace(old, new));
        place.run(&["train", "--recipe", "bad.toml"]).fails(&["`bad.toml`", part]);
    }
    place.run(&["train"]).is_misuse("--recipe");
}

#[test]
fn settings_are_checked_before_anything_is_written() {
    refused(&["--set", "training.epohcs=3"], &["training.epohcs=3", "unknown field"]);
    refused(&["--set", "training.optimizer=sgd"], &["training.optimizer=sgd", "a table such as"]);
    refused(&["--set", "epochs"], &["`--set epochs` is not KEY=VALUE"]);
    refused(&["--set", "training.optimizer.lr=0"], &["`optimizer.lr` is 0", "positive"]);
    refused(&["--set", "training.optimizer.lr=nan"], &["`optimizer.lr` is NaN", "finite"]);
    refused(&["--set", "data.batch_size=0"], &["`batch_size`", "at least 1"]);
    refused(&["--set", "data.train_images=0"], &["data.train_images"]);
    refused(&["--epochs", "0"], &["`epochs` is 0"]);
    refused(&["--name", "a/b"], &["`a/b`", "letters"]);
}

#[test]
fn devices_and_networks_are_known_by_name() {
    refused(&["--device", "gpu"], &["`gpu`", "auto, cpu, cuda or cuda:N"]);
    let limited = ["--device", "cpu", "--device-memory", "1GiB"];
    refused(&limited, &["--device-memory", "--memory SIZE"]);
    if !candle_core::utils::cuda_is_available() {
        for device in ["cuda", "cuda:1"] {
            refused(&["--device", device], &["built without CUDA", "`cuda`", "cargo xtask"]);
        }
    }
    refused(&["--set", "model.architecture=resnet81"], &["`resnet81`", "did you mean `resnet18`"]);
    refused(&["--set", "model.architecture=zzz"], &["`zzz`", "known: mlp, "]);
}

#[test]
fn images_must_have_the_size_of_the_network() {
    let resize = "data.train=[{ op = \"resize\", size = [24, 24] }, { op = \"to_tensor\" }]";
    refused(&["--set", resize], &["data.train makes images of 24x24", "model.image_size is 32"]);
    refused(&["--set", "model.image_size=64"], &["of 32x32", "model.image_size is 64"]);
    refused(&["--set", "model.channels=1"], &["3 channels", "model.channels is 1"]);
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run() {
    let place = Place::new();
    let run = place.small(&["--set", "training.optimizer.lr=1e30"]);
    run.fails(&["epoch 1, batch ", "at learning rate 1e30", "lower the learning rate"]);
    assert!(!place.path("runs/small/001").exists());
    // After a good epoch, its checkpoints stay.
    let run = place.small(&["--set", "training.freeze={ epochs = 1, unfreeze_lr = 1e30 }"]);
    run.fails(&["epoch 2, batch ", "at learning rate 1e30", "checkpoints are untouched"]);
    place.run(&["eval", "--checkpoint", "runs/small/001/best.safetensors"]).succeeds();
    assert_eq!(place.read("runs/small/001/metrics.csv").lines().count(), 2);
}

#[test]
fn weights_must_be_those_of_the_network() {
    let (place, checkpoint) = Place::trained();
    let from = |weights: &str, architecture: &str| {
        let weights = format!("model.weights={weights}");
        let architecture = format!("model.architecture={architecture}");
        place.small(&["--name", "other", "--set", &weights, "--set", &architecture])
    };
    from(&checkpoint, "gap_cnn").succeeds();
    from(&checkpoint, "mlp").fails(&[&checkpoint, "no weights of `mlp`"]);
    from(&checkpoint, "simple_cnn").fails(&[&checkpoint, "`simple_cnn`"]);
    from("nope.safetensors", "gap_cnn").fails(&["`nope.safetensors`"]);
    from("small.toml", "gap_cnn").fails(&["`small.toml`", "safetensors"]);
    from("resnet18", "resnet18").fails(&["`resnet18`", "fetch-data resnet18"]);
    place.cut(&checkpoint, 50_000);
    from(&checkpoint, "gap_cnn").fails(&["cannot read the weights", &checkpoint]);
}

#[test]
fn weights_are_known_by_what_they_hold() {
    let (place, checkpoint) = Place::trained();
    let from = |weights: &str, expected: &[&str]| {
        let weights = format!("model.weights={weights}");
        let run = place.small(&["--name", "other", "--set", &weights]).succeeds();
        for part in expected {
            assert!(run.stderr.contains(part), "`{part}` is not in: {}", run.stderr);
        }
    };
    // With the optimizer's state and the history of the run.
    from(&checkpoint.replace("best", "last"), &["tensors matched", "left out (history.epoch"]);
    let weights = candle_vision::models::weights::read(&place.path(&checkpoint)).expect("weights");
    let renamed: std::collections::HashMap<String, candle_core::Tensor> =
        weights.into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor)).collect();
    candle_core::safetensors::save(&renamed, place.path("parallel")).expect("a file");
    from("parallel", &["`module.` left off their names"]);
    place.write("page.pth", "<!DOCTYPE html><html>Sign in</html>");
    let run = place.small(&["--name", "other", "--set", "model.weights=page.pth"]);
    run.fails(&["`page.pth`", "HTML page"]);
}

#[test]
fn a_checkpoint_must_be_whole_and_ours() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let predict = |path: &str| {
        let run = place.run(&["predict", "photos/val/ants/00.jpg", "--checkpoint", path]);
        assert_eq!(run.stdout, "");
        run
    };
    let weights = candle_vision::models::weights::read(&place.path(&checkpoint)).expect("weights");
    candle_core::safetensors::save(&weights, place.path("plain.safetensors")).expect("a file");
    predict("plain.safetensors").fails(&["`plain.safetensors` is no checkpoint", "plain weights"]);
    predict("small.toml").fails(&["`small.toml` is no checkpoint"]);
    predict("nope.safetensors").fails(&["`nope.safetensors`", "No such file"]);
    for length in [50_000, 100, 5] {
        place.cut(&checkpoint, length);
        predict(&checkpoint).fails(&[&checkpoint, "damaged or cut short"]);
    }
}
