//! A published network on photographs, if `CANDLE_VISION_DATA` names a folder with its weights and with
//! `hymenoptera_data`.

use std::path::{Path, PathBuf};

use candle_core::Device;
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
