//! The loader: the same batches for any number of workers, and what goes wrong without hanging.

#[path = "loader/alternating_flips.rs"]
mod alternating_flips;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use candle_vision_data::transforms::*;
use candle_vision_data::{
    Batch, DataLoader, Dataset, Error, Generator, Image, Insects, InsectsConfig, LoaderConfig,
    Result, Sample, Split, random,
};

/// Samples whose pixels are their index, with some that fail in a chosen way.
#[derive(Default)]
struct Numbers {
    len: usize,
    broken: Vec<usize>,
    panicking: Option<usize>,
    tall: Option<usize>,
    reads: AtomicUsize,
    classes: Vec<String>,
    cacheable: bool,
    /// A sample whose label is of no class.
    mislabelled: Option<usize>,
}

impl Numbers {
    fn new(len: usize) -> Self {
        Self { len, classes: vec!["even".to_owned(), "odd".to_owned()], ..Self::default() }
    }
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.len
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        assert_ne!(Some(index), self.panicking, "sample {index} is cursed");
        if self.broken.contains(&index) {
            let reason = "cut off".to_owned();
            return Err(Error::BrokenImage { name: self.name(index), reason });
        }
        let height = if Some(index) == self.tall { 3 } else { 2 };
        let image = Image::new(2, height, 3, vec![index as u8; 6 * height])?;
        Ok(Sample { image, label: self.label(index), mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        if Some(index) == self.mislabelled { 2 } else { (index % 2) as u32 }
    }

    fn name(&self, index: usize) -> String {
        format!("number[{index}]")
    }

    fn is_cacheable(&self) -> bool {
        self.cacheable
    }

    fn fingerprint(&self) -> String {
        self.len.to_string()
    }
}

fn to_tensor() -> Compose {
    Compose::new().with(ToTensor)
}

fn loader(dataset: Numbers, config: LoaderConfig) -> DataLoader {
    DataLoader::new(Arc::new(dataset), to_tensor(), config, Device::Cpu).unwrap()
}

fn config(batch_size: usize, workers: usize) -> LoaderConfig {
    LoaderConfig::new(batch_size).workers(workers)
}

/// Everything of the batches: values by bits, labels, indices.
fn contents(batches: impl Iterator<Item = Result<Batch>>) -> Vec<(Vec<u32>, Vec<u32>, Vec<usize>)> {
    let content = |batch: Result<Batch>| {
        let batch = batch.expect("no sample is broken");
        let values = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let labels = batch.labels.to_vec1::<u32>().unwrap();
        (values.into_iter().map(f32::to_bits).collect(), labels, batch.indices)
    };
    batches.map(content).collect()
}

fn indices(batches: impl Iterator<Item = Result<Batch>>) -> Vec<Vec<usize>> {
    batches.map(|batch| batch.expect("no sample is broken").indices).collect()
}

#[test]
fn batches_are_channels_last_views_in_order() {
    let mut epoch = loader(Numbers::new(5), config(2, 0)).epoch(0);
    assert_eq!(epoch.size_hint(), (3, Some(3)));
    let batch = epoch.next().unwrap().unwrap();
    assert_eq!(batch.images.dims(), [2, 3, 2, 2]);
    assert_eq!(batch.images.stride(), [12, 1, 6, 3]);
    assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), [0, 1]);
    assert_eq!(indices(epoch), [vec![2, 3], vec![4]]);
}

#[test]
fn the_last_short_batch_is_kept_or_dropped() {
    let kept = loader(Numbers::new(5), config(2, 1));
    assert_eq!((kept.batches_per_epoch(), kept.epoch(0).count()), (3, 3));
    let dropped = loader(Numbers::new(5), config(2, 1).drop_last(true));
    assert_eq!((dropped.batches_per_epoch(), dropped.epoch(0).count()), (2, 2));
}

#[test]
fn shuffling_depends_on_seed_and_epoch() {
    let shuffled = |seed| config(4, 2).shuffle(true).seed(seed);
    let order =
        |seed, epoch| indices(loader(Numbers::new(30), shuffled(seed)).epoch(epoch)).concat();
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
    assert_eq!(order(1, 0).into_iter().collect::<BTreeSet<_>>().len(), 30);
    assert_eq!(order(1, 3), loader(Numbers::new(30), shuffled(1)).order(3));
}

/// A loader in which everything is random.
fn random_loader(workers: usize, prefetch: usize, cache_bytes: usize) -> DataLoader {
    let insects = InsectsConfig::new(23).size(40).seed(4);
    let insects = Insects::new(Split::Train, insects).unwrap();
    let transform = Compose::new()
        .with(RandomResizedCrop::new(24).scale(0.3, 1.0).ratio(0.75, 1.33))
        .with(RandomCrop::new(20).padding(2).padding_mode(PaddingMode::Reflect))
        .with(RandomHorizontalFlip::new(0.5))
        .with(ColorJitter::new().brightness(0.3).contrast(0.3).saturation(0.3).hue(0.1))
        .with(ToTensor);
    let config =
        config(5, workers).shuffle(true).seed(9).cache_bytes(cache_bytes).prefetch(prefetch);
    DataLoader::new(Arc::new(insects), transform, config, Device::Cpu).unwrap()
}

#[test]
fn bits_do_not_depend_on_workers_prefetch_or_cache() {
    let expected = [0, 1].map(|epoch| contents(random_loader(0, 0, 0).epoch(epoch)));
    assert_ne!(expected[0], expected[1]);
    for (workers, prefetch, cache_bytes) in
        [(0, 0, 1 << 20), (1, 0, 0), (2, 9, 1 << 20), (4, 1, 20_000), (8, 1000, 1 << 20)]
    {
        let loader = random_loader(workers, prefetch, cache_bytes);
        for (epoch, expected) in expected.iter().enumerate() {
            let found = contents(loader.epoch(epoch));
            assert!(found == *expected, "{workers} workers, prefetch {prefetch}");
        }
    }
}

/// Published results and old runs lean on these bits: they must never change.
#[test]
fn bits_are_those_of_the_first_version() {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for (values, labels, indices) in (0..2).flat_map(|e| contents(random_loader(0, 0, 0).epoch(e)))
    {
        let indices = indices.into_iter().map(|index| index as u32);
        for byte in values.into_iter().chain(labels).chain(indices).flat_map(u32::to_le_bytes) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    assert_eq!(hash, 0x0554_1309_5206_8416);
}

/// Adds a number drawn at random to every pixel.
#[derive(Debug)]
struct Brighten;

impl Transform for Brighten {
    fn apply(&self, mut image: Image, rng: &mut Generator) -> Result<Image> {
        let more = random::below(rng, 100) as u8;
        image.pixels_mut().iter_mut().for_each(|value| *value = value.wrapping_add(more));
        Ok(image)
    }

    fn is_random(&self) -> bool {
        true
    }
}

#[test]
fn transforms_from_outside_draw_by_seed_epoch_and_index_alone() {
    let loader = |workers, seed| {
        let transform = Compose::new().with(RandomCrop::new(1)).with(Brighten).with(ToTensor);
        let config = config(3, workers).shuffle(true).seed(seed);
        DataLoader::new(Arc::new(Numbers::new(20)), transform, config, Device::Cpu).unwrap()
    };
    let epochs = |workers, seed| [0, 1].map(|epoch| contents(loader(workers, seed).epoch(epoch)));
    let expected = epochs(0, 1);
    for workers in [1, 2, 5] {
        assert!(epochs(workers, 1) == expected, "{workers} workers");
    }
    assert!(epochs(0, 2) != expected);
    // By sample, whatever its place in the epoch: neither all alike, nor the same in each epoch.
    let drawn = |epoch: usize| {
        let batches = loader(0, 1).epoch(epoch).map(|batch| batch.unwrap());
        let pixels = batches.flat_map(|batch| {
            let values = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let first = values.chunks(3).map(|pixel| (pixel[0] * 255.0).round() as usize);
            batch.indices.into_iter().zip(first.collect::<Vec<_>>()).collect::<Vec<_>>()
        });
        pixels.map(|(index, value)| (index, value - index)).collect::<BTreeSet<_>>()
    };
    assert!(drawn(0).iter().map(|(_, more)| more).collect::<BTreeSet<_>>().len() > 10);
    assert!(drawn(0).intersection(&drawn(1)).count() < 5);
}

#[test]
fn epochs_can_be_entered_in_the_middle() {
    let loader = random_loader(2, 4, 0);
    let whole = contents(loader.epoch(3));
    assert_eq!(contents(loader.epoch_from(3, 2)), whole[2..]);
    assert_eq!(loader.epoch_from(3, 5).count(), 0);
    assert_eq!(loader.epoch_from(3, 50).count(), 0);
}

#[test]
fn one_sample_can_be_replayed() {
    let loader = random_loader(2, 4, 0);
    let batch = loader.epoch(1).next().unwrap().unwrap();
    let index = batch.indices[2];
    let image = loader.dataset().sample(index).unwrap().image;
    let array = loader.transform().apply(&image, &mut loader.sample_rng(1, index)).unwrap();
    let in_batch = batch.images.get(2).unwrap().permute((1, 2, 0)).unwrap();
    assert_eq!(in_batch.flatten_all().unwrap().to_vec1::<f32>().unwrap(), array.values());
}

#[test]
fn two_epochs_can_run_at_once() {
    let loader = random_loader(2, 4, 1 << 20);
    let expected = [contents(loader.epoch(0)), contents(loader.epoch(1))];
    let (first, second) = (loader.epoch(0), loader.epoch(1));
    assert_eq!(contents(second), expected[1]);
    assert_eq!(contents(first), expected[0]);
}

#[test]
fn dropping_an_epoch_early_stops_its_workers() {
    let numbers = Arc::new(Numbers::new(10_000));
    let dataset: Arc<dyn Dataset> = numbers.clone();
    let config = config(2, 3).cache_bytes(0).prefetch(3);
    let loader = DataLoader::new(dataset, to_tensor(), config, Device::Cpu).unwrap();
    let mut epoch = loader.epoch(0);
    epoch.next().unwrap().unwrap();
    drop(epoch);
    // The batch that was taken, and at most three ahead of it.
    assert!(numbers.reads.load(Ordering::Relaxed) <= 8);
}

#[test]
fn workers_start_before_the_first_batch_is_asked_for() {
    let numbers = Arc::new(Numbers::new(100));
    let dataset: Arc<dyn Dataset> = numbers.clone();
    let config = config(5, 1).prefetch(2);
    let loader = DataLoader::new(dataset, to_tensor(), config, Device::Cpu).unwrap();
    let _epoch = loader.epoch(0);
    for _ in 0..10_000 {
        if numbers.reads.load(Ordering::Relaxed) == 10 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("no batch was prepared ahead");
}

#[test]
fn images_are_decoded_once_within_the_budget() {
    let reads = |cache_bytes| {
        let numbers = Arc::new(Numbers { cacheable: true, ..Numbers::new(10) });
        let dataset: Arc<dyn Dataset> = numbers.clone();
        let config = config(3, 2).cache_bytes(cache_bytes);
        let loader = DataLoader::new(dataset, to_tensor(), config, Device::Cpu).unwrap();
        assert_eq!(contents(loader.epoch(0)), contents(loader.epoch(1)));
        numbers.reads.load(Ordering::Relaxed)
    };
    assert_eq!(reads(1 << 20), 10);
    assert_eq!(reads(0), 20);
    // Room for four images of 12 bytes.
    assert_eq!(reads(50), 16);
}

/// A data set as anyone may write it, with a generator of its own.
#[derive(Default)]
struct Dice {
    thrown: AtomicUsize,
    classes: Vec<String>,
}

impl Dataset for Dice {
    fn len(&self) -> usize {
        6
    }

    fn sample(&self, _: usize) -> Result<Sample> {
        let thrown = self.thrown.fetch_add(1, Ordering::Relaxed) as u8;
        Ok(Sample { image: Image::new(1, 1, 1, vec![thrown])?, label: 0, mask: None })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn name(&self, index: usize) -> String {
        format!("die[{index}]")
    }

    fn fingerprint(&self) -> String {
        "dice".to_owned()
    }
}

#[test]
fn a_data_set_that_is_random_stays_so() {
    for workers in [0, 2] {
        let dice = Arc::new(Dice { classes: vec!["die".to_owned()], ..Dice::default() });
        let dataset: Arc<dyn Dataset> = dice.clone();
        let dataset: Arc<dyn Dataset> =
            Arc::new(candle_vision_data::Subset::new(dataset, (0..6).collect()).unwrap());
        let config = LoaderConfig::new(6).workers(workers);
        let loader = DataLoader::new(dataset, to_tensor(), config, Device::Cpu).unwrap();
        let values = |epoch| {
            let batch = loader.epoch(epoch).next().unwrap().unwrap();
            let values = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(|value| (255.0 * value).round() as u8).collect::<BTreeSet<_>>()
        };
        assert_eq!(values(0), (0..6).collect());
        assert_eq!(values(1), (6..12).collect());
        assert_eq!(dice.thrown.load(Ordering::Relaxed), 12);
    }
}

#[test]
fn the_data_sets_of_this_crate_are_decoded_once() {
    let insects = Insects::new(Split::Train, InsectsConfig::new(2).size(8)).unwrap();
    assert!(insects.is_cacheable());
    let part = candle_vision_data::Subset::new(Arc::new(insects), vec![1]).unwrap();
    assert!(part.is_cacheable());
}

#[test]
fn a_label_of_no_class_is_named_and_no_broken_image() {
    for workers in [0, 2] {
        let numbers = Numbers { mislabelled: Some(5), ..Numbers::new(9) };
        assert_eq!(candle_vision_data::class_counts(&numbers), [5, 3]);
        let error = candle_vision_data::check_labels(&numbers).unwrap_err().to_string();
        let expected = "sample 5 (`number[5]`) has label 2, but there are 2 classes";
        assert!(error.starts_with(expected), "{error}");
        let config = config(3, workers).skip_broken(true);
        let error = loader(numbers, config).epoch(0).find_map(Result::err).unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn the_fingerprint_is_taken_once() {
    struct Counted(AtomicUsize, Dice);
    impl Dataset for Counted {
        fn len(&self) -> usize {
            self.1.len()
        }
        fn sample(&self, index: usize) -> Result<Sample> {
            self.1.sample(index)
        }
        fn classes(&self) -> &[String] {
            self.1.classes()
        }
        fn label(&self, index: usize) -> u32 {
            self.1.label(index)
        }
        fn name(&self, index: usize) -> String {
            self.1.name(index)
        }
        fn fingerprint(&self) -> String {
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.fingerprint()
        }
    }
    let counted = Arc::new(Counted(AtomicUsize::new(0), Dice::default()));
    let dataset: Arc<dyn Dataset> = counted.clone();
    let loader = DataLoader::new(dataset, to_tensor(), config(2, 0), Device::Cpu).unwrap();
    assert_eq!(counted.0.load(Ordering::Relaxed), 0);
    assert_eq!([loader.fingerprint(), loader.fingerprint()], ["dice", "dice"]);
    assert_eq!(counted.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_broken_image_ends_the_epoch_with_its_name() {
    for workers in [0, 2] {
        let numbers = Numbers { broken: vec![5], ..Numbers::new(20) };
        let mut epoch = loader(numbers, config(2, workers)).epoch(0);
        assert!(epoch.next().unwrap().is_ok() && epoch.next().unwrap().is_ok());
        let error = epoch.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("`number[5]`"), "{error}");
        assert!(epoch.next().is_none());
    }
}

#[test]
fn broken_images_can_be_left_out() {
    for workers in [0, 3] {
        let numbers = Numbers { broken: vec![1, 4, 5], ..Numbers::new(7) };
        let loader = loader(numbers, config(2, workers).skip_broken(true));
        assert_eq!(indices(loader.epoch(0)), [vec![0], vec![2, 3], vec![6]]);
        assert_eq!(loader.epoch(1).size_hint(), (0, Some(4)));
        let skipped = loader.skipped();
        assert_eq!(skipped.iter().map(|s| s.index).collect::<Vec<_>>(), [1, 4, 5]);
        assert_eq!(
            (skipped[0].name.as_str(), skipped[0].reason.as_str()),
            ("number[1]", "cut off")
        );
    }
}

#[test]
fn a_panic_in_a_worker_becomes_an_error() {
    let numbers = Numbers { panicking: Some(3), ..Numbers::new(20) };
    let mut epoch = loader(numbers, config(2, 2)).epoch(0);
    assert!(epoch.next().unwrap().is_ok());
    let error = epoch.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("batch 1") && error.contains("sample 3 is cursed"), "{error}");
    assert!(epoch.next().is_none());
}

#[test]
fn images_of_different_sizes_are_named() {
    let numbers = Numbers { tall: Some(3), ..Numbers::new(4) };
    let error = loader(numbers, config(4, 1)).epoch(0).next().unwrap().unwrap_err().to_string();
    for part in ["`number[0]` is 2x2x3", "`number[3]` is 3x2x3", "center_crop"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn failing_transforms_name_the_sample() {
    let transform = Compose::new().with(RandomCrop::new(5)).with(ToTensor);
    let config = config(2, 0).skip_broken(true);
    let loader =
        DataLoader::new(Arc::new(Numbers::new(3)), transform, config, Device::Cpu).unwrap();
    let error = loader.epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot transform `number[0]`");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("random_crop") && cause.contains("5x5 is larger"), "{cause}");
}

#[test]
fn impossible_settings_are_errors() {
    let new = |len, config, transform| {
        let loader = DataLoader::new(Arc::new(Numbers::new(len)), transform, config, Device::Cpu);
        loader.expect_err("this must fail").to_string()
    };
    assert!(new(3, config(0, 0), to_tensor()).contains("`batch_size` must be at least 1"));
    assert!(new(0, config(1, 0), to_tensor()).contains("no samples"));
    let drop_last = config(4, 0).drop_last(true);
    assert!(new(3, drop_last, to_tensor()).contains("`drop_last`"));
    assert!(new(3, config(1, 0), Compose::default()).contains("`to_tensor`: is missing"));
}

#[test]
fn settings_come_from_recipes() {
    let config: LoaderConfig = toml::from_str("batch_size = 8\nshuffle = true").unwrap();
    assert_eq!(config, LoaderConfig::new(8).shuffle(true));
    assert!(toml::from_str::<LoaderConfig>("batchsize = 8").is_err());
}
