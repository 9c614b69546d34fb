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

/// What torchvision or timm says of the first six photographs of a folder.
struct Photographs {
    folder: &'static str,
    class: &'static str,
    /// How many of them get their class.
    right: usize,
    /// The probability of the most probable class of each.
    probabilities: [f64; 6],
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn check_photographs(network: &str, expected: [Photographs; 2]) -> Result<()> {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return Ok(());
    };
    let weights = data.join(format!("weights/{network}.safetensors"));
    let classifier = Classifier::published(network, weights, &Registry::standard(), &Device::Cpu)?;
    for Photographs { folder, class, right, probabilities } in expected {
        let photographs = photographs(&data.join("hymenoptera_data/val").join(folder), 6)?;
        let mut found = 0;
        for (path, expected) in photographs.iter().zip(probabilities) {
            let prediction = classifier.predict(path.as_path())?;
            let probability = prediction.probability();
            found += usize::from(prediction.class() == class);
            let difference = (f64::from(probability) - expected).abs();
            assert!(difference < 0.02, "{}: {probability}, not {expected}", path.display());
        }
        assert_eq!(found, right, "{network}: right ones of 6 in {folder}");
    }
    Ok(())
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
fn efficientnet_lite_tells_ants_from_bees() -> Result<()> {
    let ants = [0.2619, 0.5470, 0.1712, 0.6643, 0.9488, 0.6697];
    let bees = [0.3217, 0.7599, 0.4629, 0.7458, 0.3799, 0.6007];
    let ants = Photographs { folder: "ants", class: "ant", right: 6, probabilities: ants };
    let bees = Photographs { folder: "bees", class: "bee", right: 4, probabilities: bees };
    check_photographs("efficientnet_lite0", [ants, bees])
}

/// Probabilities by torchvision:
///
/// ```python
/// weights = models.ResNet18_Weights.IMAGENET1K_V1
/// model = models.resnet18().eval()
/// model.load_state_dict(load_file("weights/resnet18.safetensors"))
/// model(weights.transforms()(Image.open(path).convert("RGB"))[None])[0].softmax(0).max()
/// ```
#[test]
fn resnet18_tells_ants_from_bees() -> Result<()> {
    let ants = [0.1273, 0.3709, 0.4815, 0.8888, 0.9498, 0.2798];
    let bees = [0.3908, 0.8064, 0.1551, 0.7330, 0.5438, 0.9842];
    let ants = Photographs { folder: "ants", class: "ant", right: 4, probabilities: ants };
    let bees = Photographs { folder: "bees", class: "bee", right: 4, probabilities: bees };
    check_photographs("resnet18", [ants, bees])
}

/// The same lines with `mobilenet_v2`.
#[test]
fn mobilenet_v2_tells_ants_from_bees() -> Result<()> {
    let ants = [0.6357, 0.1942, 0.6403, 0.7909, 0.6143, 0.8070];
    let bees = [0.5363, 0.9003, 0.0656, 0.9454, 0.3897, 0.4159];
    let ants = Photographs { folder: "ants", class: "ant", right: 4, probabilities: ants };
    let bees = Photographs { folder: "bees", class: "bee", right: 3, probabilities: bees };
    check_photographs("mobilenet_v2", [ants, bees])
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
