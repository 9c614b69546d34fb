//! Batches of images that lie on the device are those that the host makes.

use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::{Compose, ComposeDescription, Transforms};
use candle_vision_data::{Batch, DataLoader, Image, Kept, LoaderConfig, Samples};
use candle_vision_ops::cuda_device;
use candle_vision_train::{DeviceUpload, StoredImages, keep_on_device};

/// The transforms of the experiments with CIFAR-10 and MNIST, and others that can be drawn.
const CHAINS: [(&str, [usize; 3]); 12] = [
    (r#"{ op = "to_tensor" }, { op = "normalize", mean = [0.1307], std = [0.3081] }"#, [28, 28, 1]),
    (
        r#"{ op = "to_tensor" }, { op = "normalize", mean = [0.4914, 0.4822, 0.4465], std = [0.2470, 0.2435, 0.2616] }"#,
        [32, 32, 3],
    ),
    (
        r#"{ op = "random_crop", size = 32, padding = 4, padding_mode = "reflect" }, { op = "random_horizontal_flip" },
        { op = "to_tensor" }, { op = "normalize", mean = [0.4914, 0.4822, 0.4465], std = [0.2470, 0.2435, 0.2616] }"#,
        [32, 32, 3],
    ),
    (
        r#"{ op = "random_crop", size = 32, padding = 4 }, { op = "random_horizontal_flip" },
        { op = "color_jitter", brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.1 },
        { op = "random_rotation", degrees = 15 }, { op = "to_tensor" },
        { op = "normalize", mean = [0.4914, 0.4822, 0.4465], std = [0.2023, 0.1994, 0.2010] }"#,
        [32, 32, 3],
    ),
    (
        r#"{ op = "random_crop", size = 32, padding = 2, padding_mode = "reflect" }, { op = "alternating_flip" },
        { op = "to_tensor" }, { op = "normalize", mean = [0.4914, 0.4822, 0.4465], std = [0.2470, 0.2435, 0.2616] }"#,
        [32, 32, 3],
    ),
    (
        r#"{ op = "random_crop", size = 32, padding = 4, padding_mode = "reflect" }, { op = "alternating_flip" },
        { op = "cutout", size = 12, fill = [125, 123, 114] }, { op = "to_tensor" },
        { op = "normalize", mean = [0.4914, 0.4822, 0.4465], std = [0.2470, 0.2435, 0.2616] }"#,
        [32, 32, 3],
    ),
    (
        r#"{ op = "random_crop", size = 64, padding = 6 }, { op = "random_horizontal_flip" }, { op = "to_tensor" },
        { op = "normalize", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }"#,
        [64, 64, 3],
    ),
    (
        r#"{ op = "random_rotation", degrees = 30, interpolation = "bilinear", fill = 128 },
        { op = "random_vertical_flip" }, { op = "random_grayscale", p = 0.4 }, { op = "to_tensor" }"#,
        [29, 31, 3],
    ),
    (
        r#"{ op = "pad", padding = [1, 2], padding_mode = "symmetric" }, { op = "center_crop", size = [20, 40] },
        { op = "grayscale", channels = 3 }, { op = "to_tensor" }"#,
        [24, 26, 1],
    ),
    (
        r#"{ op = "color_jitter", brightness = 0.9, contrast = 0.9, saturation = 0.9, hue = 0.5 },
        { op = "grayscale" }, { op = "to_tensor" }"#,
        [17, 15, 3],
    ),
    (r#"{ op = "color_jitter", contrast = 0.9, hue = 0.5 }, { op = "to_tensor" }"#, [17, 15, 1]),
    (
        r#"{ op = "random_crop", size = [28, 20], padding = 3, padding_mode = "reflect", pad_if_needed = true }, { op = "to_tensor" }"#,
        [9, 15, 3],
    ),
];

fn compose(text: &str) -> Compose {
    #[derive(serde::Deserialize)]
    struct Recipe {
        transforms: ComposeDescription,
    }
    let recipe: Recipe = toml::from_str(&format!("transforms = [{text}]")).unwrap();
    recipe.transforms.build(&Transforms::standard()).unwrap()
}

/// 23 images with smooth parts and sharp edges, in batches of 4.
fn loader(text: &str, [height, width, channels]: [usize; 3], device: &Device) -> DataLoader {
    let byte = move |image: usize, i: usize| {
        let (place, channel) = (i / channels, i % channels);
        let smooth = (place % width) * (3 + image % 5) + (place / width) * 4 + 60 * channel;
        let is_edge = place % width > width / 2 && (place / width + image).is_multiple_of(3);
        if is_edge { ((image * 31 + i * 7) % 256) as u8 } else { (smooth % 256) as u8 }
    };
    let rows = (0..23).map(|image| (image, (image % 3) as u32));
    let images = Samples::new(["a", "b", "c"], rows, move |&image: &usize| {
        let pixels = (0..height * width * channels).map(|i| byte(image, i)).collect();
        Image::new(width, height, channels, pixels)
    });
    let config = LoaderConfig::new(4).shuffle(true).seed(5).workers(2);
    DataLoader::new(Arc::new(images.cacheable()), compose(text), config, device.clone()).unwrap()
}

fn values(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

fn two_epochs(loader: &DataLoader) -> Vec<Batch> {
    loader.epochs(2).map(Result::unwrap).collect()
}

fn on_device(text: &str, shape: [usize; 3], device: &Device) -> DataLoader {
    let mut loader = loader(text, shape, device);
    let kept = if device.is_cuda() {
        keep_on_device(&mut loader, None)
    } else {
        loader.keep_on_device(u64::MAX, |shape| Ok(Box::new(StoredImages::new(shape, device)?)))
    };
    assert_eq!(kept, Kept::OnDevice { bytes: 23 * shape.iter().product::<usize>() });
    loader
}

/// The CPU, and the first CUDA device if there is one.
#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn devices() -> Vec<Device> {
    match cuda_device(0) {
        Ok(cuda) => vec![Device::Cpu, cuda],
        Err(error) => {
            eprintln!("skipped: no CUDA device: {error}");
            vec![Device::Cpu]
        }
    }
}

#[test]
fn batches_on_the_device_are_the_host_s() {
    let devices = devices();
    for (text, shape) in CHAINS {
        let on_host = two_epochs(&loader(text, shape, &Device::Cpu));
        assert_eq!(on_host.len(), 12);
        for device in &devices {
            let kept = two_epochs(&on_device(text, shape, device));
            assert_eq!(kept.len(), on_host.len());
            for (batch, on_host) in kept.iter().zip(&on_host) {
                assert!(batch.images.device().same_device(device));
                assert_eq!(batch.images.stride(), on_host.images.stride());
                assert_eq!(batch.indices, on_host.indices);
                let labels = |batch: &Batch| batch.labels.to_vec1::<u32>().unwrap();
                assert_eq!(labels(batch), labels(on_host));
                // Every level is the host's: a level is at least 1 / 255. Values up to 3 are rounded a few times on
                // either side.
                for (value, on_host) in values(batch).iter().zip(values(on_host)) {
                    assert!((value - on_host).abs() < 2e-6, "{value} for {on_host} of {text}");
                }
            }
        }
    }
}

#[test]
fn a_card_has_the_bits_of_uploaded_batches() {
    for device in devices().into_iter().filter(Device::is_cuda) {
        for (text, shape) in CHAINS {
            let upload = Arc::new(DeviceUpload::new(device.clone()));
            let uploaded = two_epochs(&loader(text, shape, &device).with_upload(upload));
            for (kept, uploaded) in
                two_epochs(&on_device(text, shape, &device)).iter().zip(&uploaded)
            {
                let bits = |batch| values(batch).into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert!(bits(kept) == bits(uploaded), "{text}");
            }
        }
    }
}

#[test]
fn what_cannot_be_on_a_card_stays_and_says_why() {
    let (text, shape) = CHAINS[0];
    let mut on_cpu = loader(text, shape, &Device::Cpu);
    assert_eq!(keep_on_device(&mut on_cpu, None), Kept::on_host("its batches go to no CUDA card"));
    for device in devices().into_iter().filter(Device::is_cuda) {
        let resized = r#"{ op = "resize", size = 20 }, { op = "to_tensor" }"#;
        let Kept::OnHost { reason } = keep_on_device(&mut loader(resized, shape, &device), None)
        else {
            panic!("a card resizes nothing");
        };
        assert!(reason.contains("resize"), "{reason}");
        let bytes = 23 * 28 * 28;
        let kept = |memory| keep_on_device(&mut loader(text, shape, &device), Some(memory));
        assert_eq!(kept(4 * bytes as u64), Kept::OnDevice { bytes });
        assert!(matches!(kept(4 * bytes as u64 - 4), Kept::OnHost { .. }));
    }
}
