//! Batches by way of a device's own uploads are those that the host makes.

use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::{Compose, Normalize, RandomHorizontalFlip, ToTensor};
use candle_vision_data::{Batch, DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
use candle_vision_ops::cuda_device;
use candle_vision_train::DeviceUpload;

fn loader(workers: usize, device: &Device) -> DataLoader {
    let insects = Insects::new(Split::Train, InsectsConfig::new(22).size(19));
    let transform = Compose::new()
        .with(RandomHorizontalFlip::new(0.5))
        .with(ToTensor)
        .with(Normalize::imagenet());
    let config = LoaderConfig::new(4).shuffle(true).workers(workers);
    DataLoader::new(Arc::new(insects.unwrap()), transform, config, device.clone()).unwrap()
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

fn values(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_device_gets_the_host_s_images() {
    let on_host: Vec<Batch> = loader(0, &Device::Cpu).epoch(1).map(Result::unwrap).collect();
    for device in devices() {
        for workers in [0, 2] {
            let upload = Arc::new(DeviceUpload::new(device.clone()));
            let loader = loader(workers, &device).with_upload(upload);
            let batches: Vec<Batch> = loader.epoch(1).map(Result::unwrap).collect();
            assert_eq!(batches.len(), on_host.len());
            for (batch, on_host) in batches.iter().zip(&on_host) {
                assert!(batch.images.device().same_device(&device));
                assert_eq!(batch.images.stride(), on_host.images.stride());
                assert_eq!(batch.indices, on_host.indices);
                let labels = |batch: &Batch| batch.labels.to_vec1::<u32>().unwrap();
                assert_eq!(labels(batch), labels(on_host));
                // Values up to 2.7, rounded a few times on either side.
                for (value, on_host) in values(batch).iter().zip(values(on_host)) {
                    assert!((value - on_host).abs() < 2e-6, "{value} for {on_host}");
                }
            }
        }
    }
}
