//! The hook that brings batches to a device: the same images, ahead of their use, and errors that
//! arrive.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use candle_vision_data::transforms::*;
use candle_vision_data::{
    Batch, DataLoader, Dataset, Error, HostImages, HostValues, Image, Insects, InsectsConfig,
    LoaderConfig, Result, Sample, Split, Upload,
};

/// Uploads the plain way, and notes what it was given.
#[derive(Default)]
struct Noting {
    pixels: bool,
    calls: AtomicUsize,
    threads: Mutex<Vec<Option<String>>>,
    /// The call that fails or panics, counted from 0.
    failing: Option<usize>,
    panicking: Option<usize>,
}

impl Upload for Noting {
    fn takes_pixels(&self) -> bool {
        self.pixels
    }

    fn images(&self, images: HostImages) -> candle_core::Result<Tensor> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.threads.lock().unwrap().push(thread::current().name().map(str::to_owned));
        assert_ne!(Some(call), self.panicking, "call {call} is cursed");
        if Some(call) == self.failing {
            candle_core::bail!("the device is full")
        }
        assert_eq!(matches!(images.values, HostValues::Pixels { .. }), self.pixels);
        images.to_tensor(&Device::Cpu)
    }
}

/// Shuffled crops of drawings, normalised.
fn loader(workers: usize) -> DataLoader {
    let insects = Insects::new(Split::Train, InsectsConfig::new(23).size(40).seed(4));
    let transform = Compose::new()
        .with(RandomResizedCrop::new(24).scale(0.3, 1.0).ratio(0.75, 1.33))
        .with(ToTensor)
        .with(Normalize::imagenet())
        .with(Normalize::new([-0.1], [2.0]));
    let config = LoaderConfig::new(4).shuffle(true).workers(workers);
    DataLoader::new(Arc::new(insects.unwrap()), transform, config, Device::Cpu).unwrap()
}

fn values(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

fn epoch(loader: &DataLoader) -> Vec<Batch> {
    loader.epoch(1).map(|batch| batch.expect("no drawing is broken")).collect()
}

#[test]
fn floats_come_through_the_hook_unchanged() {
    let plain = epoch(&loader(0));
    for workers in [0, 1, 3] {
        let batches = epoch(&loader(workers).with_upload(Arc::new(Noting::default())));
        assert_eq!(batches.len(), plain.len());
        for (batch, plain) in batches.iter().zip(&plain) {
            assert_eq!(batch.indices, plain.indices);
            assert_eq!(batch.images.stride(), plain.images.stride());
            let bits = |batch| values(batch).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(batch), bits(plain));
        }
    }
}

#[test]
fn pixels_with_scale_and_shift_are_the_same_images() {
    let plain = epoch(&loader(0));
    for workers in [0, 2] {
        let upload = Arc::new(Noting { pixels: true, ..Noting::default() });
        let batches = epoch(&loader(workers).with_upload(upload));
        for (batch, plain) in batches.iter().zip(&plain) {
            assert_eq!(
                (batch.images.dims(), &batch.indices),
                (plain.images.dims(), &plain.indices)
            );
            // Values up to 1.4 and a few roundings of f32 on either side.
            for (value, plain) in values(batch).iter().zip(values(plain)) {
                assert!((value - plain).abs() < 5e-7, "{value} for {plain}");
            }
        }
    }
}

#[test]
fn workers_have_batches_uploaded_by_a_thread_of_its_own() {
    for (workers, own) in [(2, true), (0, false)] {
        let upload = Arc::new(Noting::default());
        epoch(&loader(workers).with_upload(upload.clone()));
        let threads = upload.threads.lock().unwrap();
        let is_own = |name: &Option<String>| name.as_deref() == Some("data-upload");
        assert_eq!((threads.len(), threads.iter().all(is_own)), (6, own));
    }
}

#[test]
fn uploads_run_one_batch_ahead_and_not_away() {
    let upload = Arc::new(Noting::default());
    let mut batches = loader(2).with_upload(upload.clone()).epoch(0);
    batches.next().unwrap().unwrap();
    let calls = || upload.calls.load(Ordering::Relaxed);
    let start = Instant::now();
    while calls() < 2 && start.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(calls() >= 2, "nothing was uploaded ahead");
    thread::sleep(Duration::from_millis(50));
    // The one taken, one that waits, and one that found no room to wait.
    assert!(calls() <= 3, "{} uploads for one batch", calls());
    drop(batches);
    assert!(calls() <= 4, "the uploads went on");
}

#[test]
fn a_failing_upload_ends_the_epoch() {
    for workers in [0, 2] {
        let upload = Noting { failing: Some(1), ..Noting::default() };
        let mut batches = loader(workers).with_upload(Arc::new(upload)).epoch(0);
        assert!(batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("the device is full"), "{cause}");
        assert!(batches.next().is_none() && batches.next().is_none());
    }
}

#[test]
fn a_panic_in_an_upload_becomes_an_error() {
    let upload = Noting { panicking: Some(1), ..Noting::default() };
    let mut batches = loader(1).with_upload(Arc::new(upload)).epoch(0);
    assert!(batches.next().unwrap().is_ok());
    let error = batches.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("batch 1") && error.contains("call 1 is cursed"), "{error}");
    assert!(batches.next().is_none());
}

/// Grey dots of which one is broken.
struct Dots {
    classes: Vec<String>,
}

impl Dataset for Dots {
    fn len(&self) -> usize {
        5
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        if index == 3 {
            let reason = "cut off".to_owned();
            return Err(Error::BrokenImage { name: self.name(index), reason });
        }
        Ok(Sample { image: Image::new(1, 1, 1, vec![51])?, label: 0, mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn name(&self, index: usize) -> String {
        format!("dot {index}")
    }

    fn fingerprint(&self) -> String {
        "dots".to_owned()
    }
}

fn dots(transform: Compose, skip_broken: bool) -> DataLoader {
    let dots = Dots { classes: vec!["dot".to_owned()] };
    let config = LoaderConfig::new(1).skip_broken(skip_broken);
    let loader = DataLoader::new(Arc::new(dots), transform, config, Device::Cpu).unwrap();
    loader.with_upload(Arc::new(Noting { pixels: true, ..Noting::default() }))
}

#[test]
fn broken_images_are_as_without_the_hook() {
    let batches = epoch(&dots(Compose::new().with(ToTensor), true));
    assert_eq!(batches.iter().map(|batch| batch.indices[0]).collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert!((values(&batches[0])[0] - 0.2).abs() < 1e-7);
    let mut batches = dots(Compose::new().with(ToTensor), false).epoch(0).skip(3);
    assert!(batches.next().unwrap().unwrap_err().to_string().contains("`dot 3`"));
    assert!(batches.next().is_none());
}

#[test]
fn a_normalize_for_other_channels_names_the_image() {
    let transform = Compose::new().with(ToTensor).with(Normalize::new([0.0; 3], [1.0; 3]));
    let mut batches = dots(transform, false).epoch(0);
    let error = batches.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("`dot 0`"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("3 numbers for an image of 1 channels"), "{cause}");
}
