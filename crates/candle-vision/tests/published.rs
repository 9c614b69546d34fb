//! Published networks on photographs and on CIFAR-10, if `CANDLE_VISION_DATA` names a folder with their weights, with
//! `hymenoptera_data` and with `cifar10`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use candle_vision::data::transforms::{Compose, Normalize, ToTensor};
use candle_vision::data::{Cifar10, DataLoader, LoaderConfig, Split};
use candle_vision::train::evaluate;
use candle_vision::{Classifier, Registry};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The first `count` photographs of a folder, by name.
fn photographs(folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<std::io::Result<_>>()?;
    paths.sort();
    paths.truncate(count);
    Ok(paths)
}

/// Probabilities by timm, which resizes with Pillow and cuts out the middle as the preprocessing of the weights says:
///
/// ```python
/// model = timm.create_model("tf_efficientnet_lite0").eval()
/// model.load_state_dict(load_file("weights/efficientnet_lite0.safetensors"))
/// transform = create_transform(**resolve_data_config({}, model=model))
/// model(transform(Image.open(path).convert("RGB"))[None])[0].softmax(0).max()
/// ```
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn efficientnet_lite_tells_ants_from_bees() -> Result<()> {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return Ok(());
    };
    let weights = data.join("weights/efficientnet_lite0.safetensors");
    let (registry, device) = (Registry::standard(), Device::Cpu);
    let classifier = Classifier::published("efficientnet_lite0", weights, &registry, &device)?;
    for (folder, class, expected) in [
        ("ants", "ant", [0.2619, 0.5470, 0.1712, 0.6643, 0.9488, 0.6697]),
        ("bees", "bee", [0.3217, 0.7599, 0.4629, 0.7458, 0.3799, 0.6007]),
    ] {
        let photographs = photographs(&data.join("hymenoptera_data/val").join(folder), 6)?;
        let mut right = 0;
        for (path, expected) in photographs.iter().zip(expected) {
            let prediction = classifier.predict(path.as_path())?;
            let probability = prediction.probability();
            right += usize::from(prediction.class() == class);
            let difference = (f64::from(probability) - expected).abs();
            assert!(difference < 0.02, "{}: {probability}, not {expected}", path.display());
        }
        assert!(right >= 4, "{right} of 6 in {folder}");
    }
    Ok(())
}

/// The weights of <https://github.com/akamaster/pytorch_resnet_cifar10> (ResNet-20, shortcuts without parameters), whose
/// head is called `linear`, on 400 of the test images.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn a_published_resnet20_knows_cifar10() -> Result<()> {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return Ok(());
    };
    let weights = data.join("weights/cifar10_resnet20.safetensors");
    let model = candle_vision::models::fine_tuned("resnet20_cifar", 10, weights)?;
    let images = Arc::new(Cifar10::open(&data, Split::Val)?);
    let normalize = Normalize::new([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let transform = Compose::new().with(ToTensor).with(normalize);
    let loader = DataLoader::new(images, transform, LoaderConfig::new(50), Device::Cpu)?;
    let accuracy = evaluate(model.as_ref(), &loader).limit(Some(8)).run()?.accuracy;
    // Its author names 91.8 % on all test images. PyTorch gets 92.3 % of 2,000 right.
    assert!((0.9..0.95).contains(&accuracy), "{accuracy}");
    Ok(())
}
