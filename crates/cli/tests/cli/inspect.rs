//! `inspect`: activations, residual blocks, samples.

use candle_vision::data::Image;

use crate::support::Place;

const PHOTO: &str = "photos/val/ants/00.jpg";

#[test]
fn activations_of_elementary_layers_need_no_network() {
    let place = Place::new();
    place.write_images("photos");
    let run = place.run(&["inspect", "activations", PHOTO]).succeeds();
    for layer in ["normalised: 32x32", "ReLU: 32x32, 0.000", "sigmoid", "max pooling 2x2: 16x16"] {
        assert!(run.stdout.contains(layer), "{layer} is not in\n{}", run.stdout);
    }
    assert_eq!(run.stdout.lines().last(), Some("00.activations.png"));
    let page = Image::open(place.path("00.activations.png")).expect("an image");
    assert!(page.width() > 600 && page.height() > 400, "{page:?}");

    let activations = |args: &[&str]| place.run(&[&["inspect", "activations"], args].concat());
    let run = activations(&[PHOTO, "--kernel", "-1,0,1,-2,0,2,-1,0,1", "-o", "a.png"]).succeeds();
    assert!(run.stdout.contains("convolution -1,0,1"), "{}", run.stdout);
    assert!(place.path("a.png").is_file());
    activations(&[PHOTO, "--kernel", "sobel"]).fails(&["`sobel`", "sobel-x, sobel-y"]);
    activations(&[PHOTO, "--layer", "conv1"]).fails(&["--layer", "--checkpoint"]);
    activations(&["nope.jpg"]).fails(&["`nope.jpg`"]);
}

#[test]
fn activations_of_a_network_show_its_maps_and_kernels() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let with = |args: &[&str]| {
        let common = ["inspect", "activations", PHOTO, "--checkpoint", checkpoint.as_str()];
        place.run(&[&common, args].concat())
    };
    let run = with(&[]).succeeds();
    for line in ["conv1: 16 maps of 32x32", "conv1: 16 kernels of", "00.kernels.png"] {
        assert!(run.stdout.contains(line), "{line} is not in\n{}", run.stdout);
    }
    with(&["--layer", "conv2"]).succeeds();
    for name in ["00.conv1.png", "00.conv2.png", "00.kernels.png"] {
        assert!(Image::open(place.path(name)).is_ok(), "{name}");
    }
    with(&["--layer", "conv9"]).fails(&["`conv9`", "`conv1`"]);
    with(&["--layer", "fc"]).fails(&["`fc`", "no maps"]);
}

#[test]
fn residual_blocks_are_measured_one_by_one() {
    let place = Place::new();
    let args = ["--set", "model.architecture=resnet18", "--epochs", "1"];
    let quick = ["--set", "training.limit_batches=1", "--set"];
    let sgd = ["training.optimizer={ name = \"sgd\", lr = 0.01 }"];
    place.small(&[args.as_slice(), &quick, &sgd].concat()).succeeds();
    let checkpoint = "runs/small/001/best.safetensors";
    let residual = |args: &[&str]| {
        place.run(&[&["inspect", "residual", "--checkpoint", checkpoint], args].concat())
    };
    let run = residual(&[]).succeeds();
    let blocks: Vec<&str> = run.stdout.lines().filter(|line| line.contains("layer")).collect();
    assert_eq!(blocks.len(), 8, "{}", run.stdout);
    assert!(run.stdout.contains("accuracy of the whole network: "), "{}", run.stdout);
    assert_eq!(run.stdout.lines().last(), Some("best.residual.png"));
    assert!(Image::open(place.path("best.residual.png")).is_ok());
    residual(&["--folder", "nowhere"]).fails(&["`nowhere`"]);
    residual(&["--batches", "0"]).is_misuse("at least 1");
}

#[test]
fn a_network_without_residual_blocks_is_told() {
    let (place, checkpoint) = Place::trained();
    let run = place.run(&["inspect", "residual", "--checkpoint", &checkpoint]);
    run.fails(&["`gap_cnn` has no residual blocks", "resnet18"]);
}

#[test]
fn a_sample_is_shown_with_its_augmentation() {
    let place = Place::new();
    let sample = |args: &[&str]| place.run(&[&["inspect", "sample"], args].concat());
    let run = sample(&["--recipe", "small.toml", "--index", "3", "--count", "5"]).succeeds();
    for line in ["class 1 (bees)", "stored: 32x32, 3 channels", "the network gets: 32x32"] {
        assert!(run.stdout.contains(line), "{line} is not in\n{}", run.stdout);
    }
    assert_eq!(run.stdout.lines().last(), Some("insects-train-3.sample.png"));
    let page = |name| Image::open(place.path(name)).expect("an image");
    let first = page("insects-train-3.sample.png");
    // The same seed, the same flips; another sample, other pixels.
    sample(&["--recipe", "small.toml", "--index", "3", "--count", "5", "-o", "b.png"]).succeeds();
    assert!(first == page("b.png"));
    sample(&["--recipe", "small.toml", "--index", "3", "--val", "-o", "c.png"]).succeeds();
    assert!(first != page("c.png"));

    sample(&["--dataset", "insects", "--count", "1"]).succeeds();
    sample(&["--dataset", "insect"])
        .fails(&["no data set is called `insect`", "did you mean `insects`"]);
    sample(&["--dataset", "cifar10"]).fails(&["data_batch_1.bin", "fetch-data"]);
    let run = sample(&["--recipe", "small.toml", "--index", "32"]);
    run.fails(&["sample 32 does not exist", "has 32"]);
    sample(&["--index", "3"]).is_misuse("--dataset");
}

#[test]
fn a_sample_of_real_data_is_shown() {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA") else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return;
    };
    let data = data.to_str().expect("UTF-8");
    let place = Place::new();
    let args = ["inspect", "sample", "--dataset", "cifar10", "--index", "102", "--data", data];
    let run = place.run(&args).succeeds();
    assert!(run.stdout.contains("stored: 32x32, 3 channels"), "{}", run.stdout);
    assert!(place.path("cifar10-train-102.sample.png").is_file());
}
