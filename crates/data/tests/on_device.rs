//! Loaders whose images lie in a device's memory: the batches that they have without it, and why it may not be possible.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use candle_core::{Device, Tensor};
use candle_vision_data::batch_transforms::{BatchTransform, CutMix, MixUp};
use candle_vision_data::transforms::*;
use candle_vision_data::{
    Batch, DataLoader, Dataset, DeviceImages, DrawnBatch, Error, Image, Kept, LoaderConfig, Result,
    Sample,
};

/// Small images of noise, which count how often they are read.
struct Noise {
    classes: Vec<String>,
    reads: Arc<AtomicUsize>,
    is_cacheable: bool,
    /// A sample that is larger than the others, and one that is broken.
    tall: Option<usize>,
    broken: Option<usize>,
    mislabelled: Option<usize>,
}

impl Noise {
    fn new() -> Self {
        Self {
            classes: vec!["a".to_owned(), "b".to_owned()],
            reads: Arc::default(),
            is_cacheable: true,
            tall: None,
            broken: None,
            mislabelled: None,
        }
    }
}

impl Dataset for Noise {
    fn len(&self) -> usize {
        23
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.broken == Some(index) {
            let reason = "cut off".to_owned();
            return Err(Error::BrokenImage { name: self.name(index), reason });
        }
        let height = if self.tall == Some(index) { 11 } else { 10 };
        let byte = |i: usize| ((index * 7919 + i * 104_729) % 251) as u8;
        let pixels = (0..height * 12 * 3).map(byte).collect();
        Ok(Sample::new(Image::new(12, height, 3, pixels)?, self.label(index)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        if self.mislabelled == Some(index) { 2 } else { (index % 2) as u32 }
    }

    fn is_cacheable(&self) -> bool {
        self.is_cacheable
    }
}

/// A device that is the host.
struct Host {
    shape: [usize; 3],
    pixels: Vec<u8>,
    threads: Arc<Mutex<Vec<Option<String>>>>,
    is_failing: bool,
}

impl DeviceImages for Host {
    fn write(&mut self, first: usize, pixels: &[u8]) -> candle_core::Result<()> {
        let start = first * self.shape.iter().product::<usize>();
        self.pixels[start..][..pixels.len()].copy_from_slice(pixels);
        Ok(())
    }

    fn batch(&self, batch: &DrawnBatch) -> candle_core::Result<(Tensor, Tensor)> {
        self.threads.lock().unwrap().push(thread::current().name().map(str::to_owned));
        if self.is_failing {
            candle_core::bail!("the device is gone")
        }
        let ([height, width, channels], mut start) = (self.shape, 0);
        let mut values = Vec::new();
        for (&index, &end) in batch.indices.iter().zip(&batch.ends) {
            let bytes = height * width * channels;
            let pixels = self.pixels[index * bytes..][..bytes].to_vec();
            let mut image = Cow::Owned(Image::new(width, height, channels, pixels).unwrap());
            for step in &batch.steps[start..end] {
                image = step.apply(image).unwrap();
            }
            start = end;
            let by_channel = batch.scale.iter().zip(&batch.shift).cycle();
            let numbers = image.pixels().iter().zip(by_channel);
            values.extend(numbers.map(|(&pixel, (scale, shift))| f32::from(pixel) * scale + shift));
        }
        let images = Tensor::from_vec(values, batch.shape.as_slice(), &Device::Cpu)?;
        Ok((images, Tensor::new(batch.labels.as_slice(), &Device::Cpu)?))
    }
}

fn transform() -> Compose {
    Compose::new()
        .with(RandomCrop::new(8).padding(2).padding_mode(PaddingMode::Reflect))
        .with(RandomHorizontalFlip::default())
        .with(ColorJitter::new().brightness(0.3).contrast(0.3).saturation(0.3).hue(0.1))
        .with(RandomGrayscale::new(0.3))
        .with(RandomRotation::new(20.0))
        .with(ToTensor)
        .with(Normalize::imagenet())
}

fn loader_of(noise: Noise, transform: Compose, workers: usize) -> DataLoader {
    let config = LoaderConfig::new(5).shuffle(true).seed(4).workers(workers);
    DataLoader::new(Arc::new(noise), transform, config, Device::Cpu).unwrap()
}

fn loader(workers: usize) -> DataLoader {
    loader_of(Noise::new(), transform(), workers)
}

const NO_LIMIT: u64 = u64::MAX;

type Threads = Arc<Mutex<Vec<Option<String>>>>;

/// Keeps the images of a loader on such a device. Returns the names of the threads that make batches.
fn keep(loader: &mut DataLoader, most_bytes: u64, is_failing: bool) -> (Kept, Threads) {
    let threads = Threads::default();
    let kept = loader.keep_on_device(most_bytes, |[count, height, width, channels]| {
        let (shape, threads) = ([height, width, channels], threads.clone());
        let pixels = vec![0; count * height * width * channels];
        Ok(Box::new(Host { shape, pixels, threads, is_failing }))
    });
    (kept, threads)
}

fn assert_same(
    found: impl Iterator<Item = Result<Batch>>,
    expected: impl Iterator<Item = Result<Batch>>,
) {
    let whole = |batches: &mut dyn Iterator<Item = Result<Batch>>| {
        batches.collect::<Result<Vec<Batch>>>().expect("nothing fails")
    };
    let (found, expected) = (whole(&mut { found }), whole(&mut { expected }));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.indices, expected.indices);
        assert_eq!(found.images.stride(), expected.images.stride());
        let labels = |batch: &Batch| batch.labels.to_vec1::<u32>().unwrap();
        assert_eq!(labels(found), labels(expected));
        let values = |batch: &Batch| batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Values up to 2.7, rounded a few times on either side. A level is at least 0.017.
        let differences =
            values(found).into_iter().zip(values(expected)).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f32::max) < 2e-6);
    }
}

/// The device makes the batches, and they are mixed all the same.
#[test]
fn batches_of_the_device_are_mixed() {
    let mixing = || -> Vec<Arc<dyn BatchTransform>> {
        vec![Arc::new(CutMix::new(1.0)), Arc::new(MixUp::new(1.0))]
    };
    for workers in [0, 2] {
        let plain = loader(workers).with_batch_transforms(mixing()).unwrap();
        let mut kept = loader(workers).with_batch_transforms(mixing()).unwrap();
        assert!(matches!(keep(&mut kept, NO_LIMIT, false).0, Kept::OnDevice { .. }));
        assert_same(kept.epoch(1), plain.epoch(1));
        for (kept, plain) in kept.epoch(1).zip(plain.epoch(1)) {
            let targets = |batch: Batch| batch.targets.unwrap().to_vec2::<f32>().unwrap();
            let targets = [targets(kept.unwrap()), targets(plain.unwrap())];
            assert_eq!(targets[0], targets[1]);
        }
    }
}

#[test]
fn batches_are_those_without_it() {
    for workers in [0, 2] {
        let (plain, mut kept) = (loader(workers), loader(workers));
        let (place, _) = keep(&mut kept, NO_LIMIT, false);
        assert_eq!(place, Kept::OnDevice { bytes: 23 * 10 * 12 * 3 });
        assert_eq!([kept.bytes_on_device(), plain.bytes_on_device()], [23 * 10 * 12 * 3, 0]);
        for epoch in 0..2 {
            assert_same(kept.epoch(epoch), plain.epoch(epoch));
        }
        assert_same(kept.epoch_from(1, 3), plain.epoch_from(1, 3));
    }
}

#[test]
fn the_batch_size_can_still_be_set() {
    let (mut plain, mut kept) = (loader(0), loader(0));
    keep(&mut kept, NO_LIMIT, false);
    for loader in [&mut plain, &mut kept] {
        loader.set_batch_size(7).unwrap();
        assert!(loader.set_batch_size(0).is_err());
        assert_eq!((loader.batches_per_epoch(), loader.config().batch_size), (4, 7));
    }
    assert!(kept.bytes_on_device() > 0);
    assert_same(kept.epoch(0), plain.epoch(0));
}

#[test]
fn images_are_read_once_and_one_thread_draws() {
    let noise = Noise::new();
    let reads = noise.reads.clone();
    let mut kept = loader_of(noise, transform(), 3);
    let (_, threads) = keep(&mut kept, NO_LIMIT, false);
    // The first image is read before all others, for its size.
    assert_eq!(reads.load(Ordering::Relaxed), 24);
    assert_eq!(kept.epochs(2).count(), 10);
    assert_eq!(reads.load(Ordering::Relaxed), 24);
    let threads = threads.lock().unwrap();
    assert_eq!(threads.len(), 10);
    assert!(threads.iter().all(|name| name.as_deref() == Some("data-upload")), "{threads:?}");
}

#[test]
fn a_device_that_fails_ends_the_epoch() {
    for workers in [0, 2] {
        let mut kept = loader(workers);
        keep(&mut kept, NO_LIMIT, true);
        let mut batches = kept.epoch(0);
        let error = batches.next().unwrap().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("the device is gone"), "{cause}");
        assert!(batches.next().is_none());
    }
}

#[track_caller]
fn check_reason(noise: Noise, transform: Compose, most_bytes: u64, part: &str) {
    let mut loader = loader_of(noise, transform, 2);
    match keep(&mut loader, most_bytes, false).0 {
        Kept::OnHost { reason } => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(loader.bytes_on_device(), 0);
}

#[test]
fn what_stays_with_the_host_says_why() {
    let noise = Noise::new;
    let random = Noise { is_cacheable: false, ..noise() };
    check_reason(random, transform(), NO_LIMIT, "another image each time");
    check_reason(noise(), transform(), 8279, "23 images of 360 bytes are more than 8279 bytes");
    let tall = Noise { tall: Some(20), ..noise() };
    check_reason(tall, transform(), NO_LIMIT, "`sample[20]` has the shape [11, 12, 3]");
    let broken = Noise { broken: Some(17), ..noise() };
    check_reason(broken, transform(), NO_LIMIT, "`sample[17]` is not a whole image");
    let mislabelled = Noise { mislabelled: Some(3), ..noise() };
    check_reason(mislabelled, transform(), NO_LIMIT, "label 2");
    let scaled = Compose::new().with(RandomResizedCrop::new(8)).with(ToTensor);
    check_reason(noise(), scaled, NO_LIMIT, "`random_resized_crop`: works on the host only");
    let grey = Compose::new().with(Grayscale::new()).with(ToTensor).with(Normalize::imagenet());
    check_reason(noise(), grey, NO_LIMIT, "3 numbers for an image of 1 channels");
    let mut loader = loader(0);
    let no_memory = |_| candle_core::bail!("out of memory\n   0: a backtrace");
    let kept = loader.keep_on_device(NO_LIMIT, no_memory);
    assert_eq!(kept, Kept::on_host("out of memory"));
}

#[test]
fn exactly_as_many_bytes_as_allowed_are_kept() {
    let mut loader = loader(0);
    assert_eq!(keep(&mut loader, 8280, false).0, Kept::OnDevice { bytes: 8280 });
}

/// Covers a square, and can say so.
#[derive(Debug)]
struct Erase;

impl Transform for Erase {
    fn apply(&self, image: Image, rng: &mut candle_vision_data::Generator) -> Result<Image> {
        apply_drawn(self, Cow::Owned(image), rng).map(Cow::into_owned)
    }

    fn draw(
        &self,
        steps: &mut PixelSteps,
        rng: &mut candle_vision_data::Generator,
    ) -> Result<bool> {
        let [rows, columns, _] = steps.shape();
        let [top, left] =
            [rows, columns].map(|side| candle_vision_data::random::below(rng, side - 3));
        let color = [125, 123, 114];
        steps.push(PixelStep::Fill { top, left, height: 4, width: 4, color })?;
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }
}

#[test]
fn a_transform_from_outside_has_the_same_rights() {
    let list = || Compose::new().with(Erase).with(RandomVerticalFlip::default()).with(ToTensor);
    let plain = loader_of(Noise::new(), list(), 0);
    let mut kept = loader_of(Noise::new(), list(), 0);
    assert!(matches!(keep(&mut kept, NO_LIMIT, false).0, Kept::OnDevice { .. }));
    assert_same(kept.epochs(2), plain.epochs(2));
    let first = plain.epoch(0).next().unwrap().unwrap();
    let covered = (first.images.get(0).unwrap().get(1).unwrap() * 255.0).unwrap().round().unwrap();
    let covered = covered.to_vec2::<f32>().unwrap().concat();
    assert!(covered.iter().filter(|value| **value == 123.0).count() >= 16);
}
