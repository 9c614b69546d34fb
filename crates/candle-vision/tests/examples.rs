//! The examples run, on data that is made here.

use std::error::Error;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_vision::data::{Dataset, Insects, InsectsConfig, Split};
use candle_vision::models::{ModelSpec, build, weights};

/// Takes an example in as a module.
macro_rules! example {
    ($name:ident, $file:literal) => {
        #[path = $file]
        #[allow(dead_code, unreachable_pub, clippy::print_stdout, reason = "an example has a main")]
        mod $name;
    };
}

example!(candle_nn_network, "../examples/candle_nn_network.rs");
example!(features, "../examples/features.rs");
example!(fine_tune, "../examples/fine_tune.rs");
example!(grad_cam, "../examples/grad_cam.rs");
example!(own_data_set, "../examples/own_data_set.rs");
example!(own_loss, "../examples/own_loss.rs");
example!(own_network, "../examples/own_network.rs");
example!(own_transform, "../examples/own_transform.rs");
example!(training_loop, "../examples/training_loop.rs");

type TestResult = Result<(), Box<dyn Error>>;

/// Drawings as the photos of ants and bees lie: `hymenoptera_data/{train,val}/{ants,bees}`.
fn photos(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for split in [Split::Train, Split::Val] {
        let insects = Insects::new(split, InsectsConfig::new(4).size(48))?;
        for index in 0..insects.len() {
            let sample = insects.sample(index)?;
            let class = &insects.classes()[sample.label as usize];
            let class = folder.join("hymenoptera_data").join(split.name()).join(class);
            std::fs::create_dir_all(&class)?;
            let path = class.join(format!("{index}.png"));
            let (width, height) = (sample.image.width() as u32, sample.image.height() as u32);
            let pixels = sample.image.into_pixels();
            image::RgbImage::from_raw(width, height, pixels).ok_or("RGB")?.save(&path)?;
            paths.push(path);
        }
    }
    Ok(paths)
}

#[test]
fn a_network_is_fine_tuned_explained_and_its_features_are_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (folder, photos) = (folder.path(), photos(folder.path())?);
    let published = build(&ModelSpec::new("resnet18", 3), 0, &Device::Cpu)?;
    let file = folder.join("resnet18.safetensors");
    std::fs::write(&file, weights::to_safetensors(weights::tensors(published.parameters()))?)?;
    fine_tune::run(folder, &file, &photos[0], &folder.join("runs"))?;
    let best = find(&folder.join("runs"), "best.safetensors").ok_or("a checkpoint")?;
    grad_cam::run(&best, &photos[0], &folder.join("cam.png"))?;
    assert!(image::open(folder.join("cam.png"))?.width() > 100);
    features::run(&best, &folder.join("features.npy"), &photos[..3])?;
    let features = candle_core::Tensor::read_npy(folder.join("features.npy"))?;
    assert_eq!(features.dims()[..2], [3, 512]);
    Ok(())
}

/// The file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

#[test]
fn a_network_of_one_s_own_is_loaded_by_its_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    own_network::run(folder.path())?;
    assert!(folder.path().join("cam.png").is_file());
    Ok(())
}

#[test]
fn a_list_of_images_is_a_data_set() -> TestResult {
    let folder = tempfile::tempdir()?;
    let lines = photos(folder.path())?.into_iter().enumerate();
    let lines = lines.map(|(index, path)| format!("{},class{}\n", path.display(), index % 2));
    let csv = folder.path().join("train.csv");
    std::fs::write(&csv, format!("path,label\n{}", lines.collect::<String>()))?;
    own_data_set::run(&csv)
}

#[test]
fn a_transform_a_loss_and_an_optimizer_of_one_s_own_work() -> TestResult {
    own_transform::run()?;
    let folder = tempfile::tempdir()?;
    own_loss::run(folder.path())
}

#[test]
fn a_loop_by_hand_and_a_network_of_candle_nn_work() -> TestResult {
    let folder = tempfile::tempdir()?;
    training_loop::run(folder.path())?;
    assert!(folder.path().join("features.layer3.npy").is_file());
    candle_nn_network::run()
}
