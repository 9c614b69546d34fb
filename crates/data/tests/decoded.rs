//! Data sets whose decoded images lie in a file: the same samples, written once.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use candle_vision_data::transforms::{Compose, RandomHorizontalFlip, RandomResizedCrop, ToTensor};
use candle_vision_data::*;
use tempfile::tempdir;

/// Images of several sizes, one of them broken, that count how often one is read.
struct Photos {
    read: AtomicUsize,
    classes: Vec<String>,
}

impl Photos {
    fn new() -> Arc<Self> {
        let classes = ["ant", "bee"].map(str::to_owned).to_vec();
        Arc::new(Self { read: AtomicUsize::new(0), classes })
    }

    fn reads(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

const BROKEN: usize = 7;

impl Dataset for Photos {
    fn len(&self) -> usize {
        20
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        self.read.fetch_add(1, Ordering::Relaxed);
        if index == BROKEN {
            return Image::decode(&[], &self.name(index)).map(|image| Sample::new(image, 0));
        }
        let (width, height, channels) = (9 + index, 30 - index, [1, 3][index % 2]);
        let pixels = (0..width * height * channels).map(|i| (i * (index + 3) % 251) as u8);
        let image = Image::new(width, height, channels, pixels.collect())?;
        Ok(Sample::new(image, self.label(index)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(index >= 10)
    }

    fn fingerprint(&self) -> String {
        "twenty photos".to_owned()
    }

    fn is_cacheable(&self) -> bool {
        true
    }

    fn shuffled_order(&self, seed: u64, epoch: usize) -> Option<Vec<usize>> {
        let first = (seed as usize + epoch) % 20;
        Some((0..20).map(|index| (first + index) % 20).collect())
    }

    fn shuffled_orders(&self, seed: u64, epoch: usize, ranks: usize) -> Option<Vec<Vec<usize>>> {
        let whole = self.shuffled_order(seed, epoch)?;
        Some(
            (0..ranks)
                .map(|rank| whole.iter().copied().skip(rank).step_by(ranks).collect())
                .collect(),
        )
    }

    fn shuffled_files(&self) -> Option<usize> {
        Some(3)
    }
}

fn open(folder: &Path, photos: &Arc<Photos>, threads: usize) -> DecodedImages {
    let photos: Arc<dyn Dataset> = photos.clone();
    DecodedImages::open(folder, "train", "", photos, threads, &mut |_, _| {}).unwrap()
}

#[test]
fn samples_are_those_of_the_data_set_and_are_decoded_once() {
    let folder = tempdir().unwrap();
    for threads in [0, 1, 4] {
        let folder = folder.path().join(threads.to_string());
        let photos = Photos::new();
        drop(open(&folder, &photos, threads));
        let decoded = open(&folder, &photos, threads);
        assert_eq!((photos.reads(), decoded.left_out()), (20, 1));
        for index in (0..20).filter(|&index| index != BROKEN) {
            let found = decoded.sample(index).unwrap();
            assert_eq!(photos.reads(), 20);
            let expected = Photos::new().sample(index).unwrap();
            assert_eq!(found, expected, "{index}");
            let part = |set: &dyn Dataset| {
                set.sample_part(index, &mut |[height, width]| {
                    [height / 3, 2, height / 2, width - 4]
                })
            };
            assert_eq!(part(&decoded).unwrap(), part(&*Photos::new()).unwrap(), "{index}");
            assert!(decoded.sample_part(index, &mut |[height, _]| [1, 0, height, 1]).is_err());
        }
        let errors = [decoded.sample(BROKEN), Photos::new().sample(BROKEN)];
        let [found, expected] = errors.map(|sample| sample.unwrap_err().to_string());
        assert_eq!(found, expected);
        assert!(decoded.sample(20).is_err());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }
}

#[test]
fn batches_have_the_same_bits() {
    let folder = tempdir().unwrap();
    let batches = |set: Arc<dyn Dataset>, cache_bytes| {
        let transform = Compose::new()
            .with(RandomResizedCrop::new(8))
            .with(RandomHorizontalFlip::default())
            .with(transforms::Grayscale::new())
            .with(ToTensor);
        let config = LoaderConfig::new(4).shuffle(true).skip_broken(true).cache_bytes(cache_bytes);
        let loader = DataLoader::new(set, transform, config, Device::Cpu).unwrap();
        let values = |batch: Result<Batch>| {
            let images = batch.unwrap().images.permute((0, 2, 3, 1)).unwrap();
            images.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        loader.epochs(2).map(values).collect::<Vec<_>>()
    };
    let expected = batches(Photos::new(), 0);
    assert_eq!(expected.len(), 10);
    assert!(batches(Arc::new(open(folder.path(), &Photos::new(), 2)), 1 << 20) == expected);
}

#[test]
fn orders_are_those_of_the_data_set() {
    let folder = tempdir().unwrap();
    let (set, decoded) = (Photos::new(), open(folder.path(), &Photos::new(), 2));
    assert_eq!(decoded.shuffled_order(3, 1), set.shuffled_order(3, 1));
    assert_eq!(decoded.shuffled_orders(3, 1, 2), set.shuffled_orders(3, 1, 2));
    assert_eq!(decoded.shuffled_files(), Some(3));
    assert_eq!((decoded.label(12), decoded.name(12)), (set.label(12), set.name(12)));
}

#[test]
fn another_way_of_reading_is_another_file() {
    let folder = tempdir().unwrap();
    let path = |reading: &str| {
        let set =
            DecodedImages::open(folder.path(), "val", reading, Photos::new(), 1, &mut |_, _| {});
        set.unwrap().path().to_path_buf()
    };
    assert_ne!(path("upright"), path("as stored"));
    assert_eq!(path("upright"), path("upright"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn progress_counts_each_image_once() {
    let folder = tempdir().unwrap();
    let mut told = Vec::new();
    let count = &mut |done, all| told.push((done, all));
    DecodedImages::open(folder.path(), "train", "", Photos::new(), 3, count).unwrap();
    assert_eq!(told, (1..=20).map(|done| (done, 20)).collect::<Vec<_>>());
}

/// Processes of the same number, on computers that share a folder, are like calls of one process.
#[test]
fn two_that_write_the_same_file_do_not_meet() {
    let folder = tempdir().unwrap();
    let mut is_first = true;
    let second_begins = &mut |_, _| {
        if std::mem::take(&mut is_first) {
            drop(open(folder.path(), &Photos::new(), 1));
        }
    };
    let photos: Arc<dyn Dataset> = Photos::new();
    let first = DecodedImages::open(folder.path(), "train", "", photos, 1, second_begins).unwrap();
    assert_eq!(first.sample(3).unwrap(), Photos::new().sample(3).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Other people may read the file, unlike other temporary files.
#[cfg(unix)]
#[test]
fn the_file_is_for_all_who_may_read_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let decoded = open(folder.path(), &Photos::new(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    let usual = folder.path().join("usual");
    fs::write(&usual, "").unwrap();
    assert_eq!(mode(decoded.path()), mode(&usual));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_and_leaves_nothing() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let set = DecodedImages::open(&file, "train", "", Photos::new(), 1, &mut |_, _| {});
    let message = set.unwrap_err().to_string();
    assert!(message.contains("cannot write") && message.contains("file"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
