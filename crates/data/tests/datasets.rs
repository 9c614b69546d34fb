//! Data sets on tiny fakes in the real formats, whole and damaged.

use std::fs;
use std::io::Write;
use std::path::Path;

use candle_vision_data::{
    Cifar10, DataSets, Dataset, Error, FolderSplit, ImageFolder, Insects, InsectsConfig, Mnist,
    OpenRequest, Split, Subset, class_counts, statistics,
};
use tempfile::{TempDir, tempdir};

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[track_caller]
fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("this must fail").to_string()
}

#[track_caller]
fn check_message<T>(result: Result<T, Error>, parts: &[&str]) {
    let message = message(result);
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

// MNIST

fn idx(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| file.extend(dim.to_be_bytes()));
    file.extend(bytes);
    file
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

/// Three images of 2 rows and 4 columns.
fn fake_mnist() -> TempDir {
    let folder = tempdir().unwrap();
    let pixels: Vec<u8> = (0..24).collect();
    write(folder.path(), IMAGES, &idx(&[3, 2, 4], &pixels));
    write(folder.path(), LABELS, &idx(&[3], &[7, 0, 9]));
    folder
}

#[test]
fn mnist_reads_images_and_labels() {
    let folder = fake_mnist();
    let mnist = Mnist::open(folder.path(), Split::Train).unwrap();
    assert_eq!((mnist.len(), mnist.classes().len()), (3, 10));
    let sample = mnist.sample(1).unwrap();
    assert_eq!((sample.label, mnist.label(2)), (0, 9));
    let image = sample.image;
    assert_eq!((image.width(), image.height(), image.channels()), (4, 2, 1));
    assert_eq!(image.pixels(), [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(mnist.name(1), "train[1]");
    check_message(mnist.sample(3), &["sample 3", "has 3"]);
}

#[test]
fn fashion_mnist_is_mnist_s_files_with_other_names() {
    let root = tempdir().unwrap();
    let files = root.path().join("fashion_mnist");
    write(&files, &format!("{IMAGES}.gz"), &gzipped(&idx(&[2, 1, 1], &[5, 6])));
    write(&files, &format!("{LABELS}.gz"), &gzipped(&idx(&[2], &[9, 0])));
    let entry = DataSets::standard().get("fashion_mnist").unwrap().clone();
    let request = OpenRequest::new(root.path(), Split::Train);
    let fashion = entry.open(&request).unwrap().dataset;
    assert_eq!((fashion.len(), fashion.label(0)), (2, 9));
    assert_eq!(
        (fashion.classes()[0].as_str(), fashion.classes()[9].as_str()),
        ("T-shirt/top", "Ankle boot")
    );
    assert_eq!(Mnist::open_fashion(root.path(), Split::Train).unwrap().len(), 2);
    let missing = entry.open(&request.split(Split::Test)).map(|_| ());
    check_message(missing, &["t10k-images-idx3-ubyte", "a file of Fashion-MNIST"]);
}

#[test]
fn mnist_may_be_gzipped_and_in_its_usual_folders() {
    let root = tempdir().unwrap();
    write(root.path(), &format!("MNIST/raw/{IMAGES}.gz"), &gzipped(&idx(&[2, 1, 1], &[5, 6])));
    write(root.path(), &format!("MNIST/raw/{LABELS}.gz"), &gzipped(&idx(&[2], &[1, 2])));
    let mnist = Mnist::open(root.path(), Split::Train).unwrap();
    assert_eq!(mnist.sample(1).unwrap().image.pixels(), [6]);
    check_message(Mnist::open(root.path(), Split::Test), &["t10k-images", "not found", "fetch it"]);
}

#[test]
fn mnist_notices_files_of_a_wrong_size() {
    let folder = fake_mnist();
    let whole = fs::read(folder.path().join(IMAGES)).unwrap();
    write(folder.path(), IMAGES, &whole[..whole.len() - 1]);
    let open = || Mnist::open(folder.path(), Split::Train);
    check_message(open(), &[IMAGES, "has 39 bytes", "expected 40", "fetch it again"]);
    write(folder.path(), IMAGES, &[&whole[..], &[0]].concat());
    check_message(open(), &["has 41 bytes", "expected 40 and no more"]);
    write(folder.path(), IMAGES, &whole[..10]);
    check_message(open(), &["has 10 bytes", "header"]);
    write(folder.path(), IMAGES, b"");
    check_message(open(), &["has 0 bytes"]);
}

#[test]
fn mnist_notices_damaged_files() {
    let folder = fake_mnist();
    let open = || Mnist::open(folder.path(), Split::Train);
    write(folder.path(), LABELS, &idx(&[3], &[7, 10, 9]));
    check_message(open(), &[LABELS, "label 10", "at 1"]);
    write(folder.path(), LABELS, &idx(&[2], &[7, 1]));
    check_message(open(), &["has 2 labels for the 3 images"]);
    write(folder.path(), LABELS, &idx(&[3, 1, 1], &[7, 1, 1]));
    check_message(open(), &["0x00000803", "0x00000801"]);
    write(folder.path(), IMAGES, &idx(&[u32::MAX, u32::MAX, u32::MAX], &[]));
    check_message(open(), &["impossible dimensions"]);
    write(folder.path(), IMAGES, b"<html>not found, says the server</html>");
    check_message(open(), &["begins with 0x3c68746d"]);
}

#[test]
fn mnist_notices_damaged_gzip() {
    let folder = tempdir().unwrap();
    let name = format!("{IMAGES}.gz");
    let pixels: Vec<u8> = (0..4000u32).map(|i| (i * i) as u8).collect();
    let whole = gzipped(&idx(&[40, 10, 10], &pixels));
    write(folder.path(), &format!("{LABELS}.gz"), &gzipped(&idx(&[40], &[0; 40])));
    let open = || Mnist::open(folder.path(), Split::Train);
    write(folder.path(), &name, &whole);
    assert!(open().is_ok());
    write(folder.path(), &name, &whole[..whole.len() / 2]);
    check_message(open(), &[&name, "expected 4016"]);
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    write(folder.path(), &name, &changed);
    check_message(open(), &[&name, "fetch it again"]);
    write(folder.path(), &name, b"not gzip at all");
    check_message(open(), &[&name, "gzip"]);
}

// CIFAR-10

const RECORD: usize = 3073;

/// Records whose red, green and blue planes are 1, 2 and 3 times the label.
fn cifar_records(labels: &[u8]) -> Vec<u8> {
    let plane = |value: u8| vec![value; 1024];
    let record = |&l: &u8| [vec![l], plane(l), plane(2 * l), plane(3 * l)].concat();
    labels.iter().flat_map(record).collect()
}

#[test]
fn cifar_reads_any_files_of_whole_records() {
    let folder = tempdir().unwrap();
    write(folder.path(), "train_b.bin", &cifar_records(&[4]));
    write(folder.path(), "train_a.bin", &cifar_records(&[9, 1]));
    write(folder.path(), "test_2.bin", &cifar_records(&[3]));
    let cifar = Cifar10::open(folder.path(), Split::Train).unwrap();
    assert_eq!((0..3).map(|i| cifar.label(i)).collect::<Vec<_>>(), [9, 1, 4]);
    let sample = cifar.sample(0).unwrap();
    assert_eq!(sample.image.pixel(31, 31), [9, 18, 27]);
    assert_eq!(cifar.classes()[9], "truck");
    assert_eq!(class_counts(&cifar), [0, 1, 0, 0, 1, 0, 0, 0, 0, 1]);
    assert_eq!(Cifar10::open(folder.path(), Split::Val).unwrap().len(), 1);
}

#[test]
fn cifar_takes_class_names_from_its_file() {
    let folder = tempdir().unwrap();
    write(folder.path(), "cifar-10-batches-bin/train_a.bin", &cifar_records(&[0]));
    let names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n";
    write(folder.path(), "cifar-10-batches-bin/batches.meta.txt", names.as_bytes());
    let open = || Cifar10::open(folder.path(), Split::Train);
    assert_eq!(open().unwrap().classes()[2], "c");
    write(folder.path(), "cifar-10-batches-bin/batches.meta.txt", b"a\nb\n");
    check_message(open(), &["batches.meta.txt", "2 classes"]);
}

#[test]
fn cifar_notices_damaged_files() {
    let folder = tempdir().unwrap();
    let open = || Cifar10::open(folder.path(), Split::Test);
    check_message(open(), &["test_batch.bin", "not found", "fetch it"]);
    write(folder.path(), "test_a.bin", &cifar_records(&[1, 2])[..RECORD + 100]);
    check_message(open(), &["test_a.bin", "has 3173 bytes", "whole records of 3073"]);
    write(folder.path(), "test_a.bin", b"");
    check_message(open(), &["has 0 bytes"]);
    write(folder.path(), "test_a.bin", &cifar_records(&[1, 12]));
    check_message(open(), &["label 12 in record 1"]);
    write(folder.path(), "test_batch.bin", &cifar_records(&[1]));
    check_message(open(), &["test_batch.bin", "has 3073 bytes", "expected 30730000"]);
}

#[test]
fn official_cifar_files_must_all_be_there() {
    let folder = tempdir().unwrap();
    write(folder.path(), "data_batch_1.bin", &cifar_records(&[1]));
    check_message(Cifar10::open(folder.path(), Split::Train), &["data_batch_2.bin", "not found"]);
}

// Folders of images

fn png(value: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(3, 2, image::Rgb([value, 0, 0]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn fake_folder() -> TempDir {
    let root = tempdir().unwrap();
    for (split, count) in [("train", 4), ("val", 2)] {
        for (class, value) in [("bees", 200), ("ants", 100)] {
            for n in 0..count {
                write(root.path(), &format!("{split}/{class}/{n}.png"), &png(value + n));
            }
        }
    }
    root
}

fn open(root: &TempDir, split: Split) -> Result<ImageFolder, Error> {
    ImageFolder::open(root.path(), split, FolderSplit::default())
}

#[test]
fn folders_give_sorted_classes_and_images() {
    let root = fake_folder();
    write(root.path(), "train/ants/notes.txt", b"no image");
    write(root.path(), "train/ants/old.psd", b"8BPS");
    write(root.path(), "train/ants/deeper/z.PNG", &png(150));
    write(root.path(), "train/.hidden/x.png", &png(0));
    write(root.path(), "train/readme.md", b"about the data");
    let folder = open(&root, Split::Train).unwrap();
    assert_eq!(folder.classes(), ["ants", "bees"]);
    assert_eq!(class_counts(&folder), [5, 4]);
    assert_eq!(folder.left_out().to_string(), "1 .psd, 1 .txt, 1 hidden or system file or folder");
    assert!(folder.name(4).ends_with("z.PNG"));
    assert_eq!(folder.sample(4).unwrap().image.pixel(0, 0), [150, 0, 0]);
    assert_eq!(folder.sample(5).unwrap().label, 1);
    assert_eq!(open(&root, Split::Val).unwrap().len(), 4);
}

#[test]
fn one_folder_of_classes_is_dealt_out_by_seed() {
    let root = tempdir().unwrap();
    for class in ["ants", "bees"] {
        for n in 0..10 {
            write(root.path(), &format!("{class}/{n}.png"), &png(n));
        }
    }
    let shares = FolderSplit::new().test(0.1).seed(5);
    let names = |split, shares| {
        let folder = ImageFolder::open(root.path(), split, shares).unwrap();
        (0..folder.len()).map(|index| folder.name(index)).collect::<Vec<_>>()
    };
    let parts = [Split::Train, Split::Val, Split::Test].map(|split| names(split, shares));
    assert_eq!(parts.each_ref().map(Vec::len), [14, 4, 2]);
    let mut all = parts.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 20);
    assert_eq!(names(Split::Val, shares), parts[1]);
    assert_ne!(names(Split::Val, shares.seed(6)), parts[1]);
    let no_test = shares.test(0.0);
    check_message(ImageFolder::open(root.path(), Split::Test, no_test), &["test", "no share"]);
    assert_eq!(ImageFolder::new(root.path()).unwrap().len(), 20);
}

#[test]
fn folders_that_cannot_be_meant_are_errors() {
    let root = fake_folder();
    check_message(open(&root, Split::Test), &["test", "not found", "`train` to train on"]);
    fs::create_dir_all(root.path().join("val/wasps")).unwrap();
    check_message(open(&root, Split::Val), &["wasps", "without images"]);
    write(root.path(), "val/wasps/1.png", &png(0));
    check_message(open(&root, Split::Val), &["`wasps`", "those are `ants`, `bees`"]);

    let empty = tempdir().unwrap();
    check_message(open(&empty, Split::Train), &["no class folders"]);
    let missing = empty.path().join("nowhere");
    check_message(ImageFolder::new(&missing), &["nowhere", "not found"]);
}

#[test]
fn broken_images_are_found_when_they_are_read() {
    let root = fake_folder();
    write(root.path(), "train/ants/0.png", b"text");
    let folder = open(&root, Split::Train).unwrap();
    let error = folder.sample(0).unwrap_err();
    assert!(error.is_broken_image());
    assert!(error.to_string().contains("ants/0.png"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_followed_but_not_in_circles() {
    let root = fake_folder();
    let ants = root.path().join("train/ants");
    std::os::unix::fs::symlink(&ants, ants.join("again")).unwrap();
    std::os::unix::fs::symlink(root.path().join("val/ants"), ants.join("more")).unwrap();
    assert_eq!(class_counts(&open(&root, Split::Train).unwrap()), [6, 4]);
}

#[test]
fn fingerprints_tell_data_sets_apart() {
    let root = fake_folder();
    let fingerprint = |root: &TempDir| open(root, Split::Train).unwrap().fingerprint();
    let before = fingerprint(&root);
    assert_eq!(before, fingerprint(&fake_folder()), "a copy is the same data");
    write(root.path(), "train/bees/extra.png", &png(1));
    assert_ne!(before, fingerprint(&root));
}

#[test]
fn fashion_in_mnists_format_gets_its_own_class_names() {
    let folder = fake_mnist();
    let open = || Mnist::open(folder.path(), Split::Train).unwrap();
    let names = [
        "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Boot",
    ];
    assert_eq!(open().with_classes(&names).unwrap().classes()[7], "Sneaker");
    check_message(open().with_classes(&names[1..]), &["10 names, not 9"]);
}

// Insects

fn insects(split: Split, size: usize, count: usize, seed: u64) -> Insects {
    Insects::new(split, InsectsConfig::new(count).size(size).seed(seed)).unwrap()
}

#[test]
fn insects_depend_on_seed_split_and_index_alone() {
    let base = insects(Split::Train, 40, 6, 1);
    assert_eq!(base.sample(3).unwrap(), insects(Split::Train, 40, 100, 1).sample(3).unwrap());
    for other in [insects(Split::Val, 40, 6, 1), insects(Split::Train, 40, 6, 2)] {
        assert_ne!(base.sample(3).unwrap().image, other.sample(3).unwrap().image);
        assert_ne!(base.fingerprint(), other.fingerprint());
    }
    assert_ne!(base.sample(3).unwrap().image, base.sample(5).unwrap().image);
}

#[test]
fn insects_have_masks_of_a_sensible_size() {
    let drawings = insects(Split::Test, 64, 40, 3);
    assert_eq!(class_counts(&drawings), [20, 20]);
    let mut shares = [0.0; 2];
    for index in 0..drawings.len() {
        let sample = drawings.sample(index).unwrap();
        let mask = sample.mask.expect("insects have masks");
        assert_eq!((mask.width(), mask.height(), mask.channels()), (64, 64, 1));
        let share = mask.pixels().iter().filter(|&&v| v > 127).count() as f64 / 4096.0;
        assert!((0.01..0.5).contains(&share), "{}: {share}", drawings.name(index));
        shares[sample.label as usize] += share / 20.0;
    }
    // An ant is thin, a bee is stout and winged.
    assert!(shares[0] < shares[1], "{shares:?}");
}

#[test]
fn insects_are_the_same_at_every_size() {
    let small = insects(Split::Train, 48, 2, 9).sample(1).unwrap();
    let large = insects(Split::Train, 96, 2, 9).sample(1).unwrap();
    // Twice the size, brought back to the small one, is nearly the small image.
    let halved = candle_vision_data::transforms::functional::resize(
        &large.mask.unwrap(),
        48,
        48,
        candle_vision_data::transforms::Interpolation::Bilinear,
    );
    let halved = halved.unwrap();
    let small = small.mask.unwrap();
    let difference: f64 = small
        .pixels()
        .iter()
        .zip(halved.pixels())
        .map(|(a, b)| f64::from(a.abs_diff(*b)))
        .sum::<f64>()
        / 48.0
        / 48.0;
    assert!(difference < 8.0, "{difference}");
}

#[test]
fn colour_alone_does_not_tell_the_insects_apart() {
    // The mean colours of whole images: their spread within a class is larger than the
    // difference between the classes.
    let drawings = insects(Split::Train, 32, 200, 0);
    let means: Vec<[f64; 3]> = (0..200)
        .map(|index| {
            let image = drawings.sample(index).unwrap().image;
            let mut mean = [0.0; 3];
            for pixel in image.pixels().chunks_exact(3) {
                (0..3).for_each(|c| mean[c] += f64::from(pixel[c]) / 1024.0);
            }
            mean
        })
        .collect();
    for channel in 0..3 {
        let of_class = |class: usize| means.iter().skip(class).step_by(2).map(|mean| mean[channel]);
        let average = |class| of_class(class).sum::<f64>() / 100.0;
        let variance = of_class(0).map(|v| (v - average(0)).powi(2)).sum::<f64>() / 100.0;
        let difference = (average(0) - average(1)).abs();
        assert!(difference < 0.5 * variance.sqrt(), "channel {channel}: {difference}");
    }
}

#[test]
fn impossible_drawings_are_errors() {
    let config = |size, count| InsectsConfig::new(count).size(size);
    check_message(Insects::new(Split::Train, config(7, 1)), &["size", "not 7"]);
    check_message(Insects::new(Split::Train, config(100_000, 1)), &["size"]);
    check_message(Insects::new(Split::Train, config(64, 0)), &["count"]);
}

// Parts and statistics

#[test]
fn subsets_pick_samples() {
    let whole: std::sync::Arc<dyn Dataset> = std::sync::Arc::new(insects(Split::Train, 16, 10, 0));
    let subset = Subset::new(whole.clone(), vec![5, 2, 5]).unwrap();
    assert_eq!(subset.len(), 3);
    assert_eq!(subset.sample(1).unwrap(), whole.sample(2).unwrap());
    assert_eq!((subset.label(0), subset.name(2)), (1, whole.name(5)));
    check_message(subset.sample(3), &["sample 3"]);
    check_message(Subset::new(whole, vec![10]), &["sample 10", "has 10"]);
}

#[test]
fn statistics_are_over_all_pixels() {
    let root = tempdir().unwrap();
    write(root.path(), "a/1.png", &png(0));
    write(root.path(), "b/1.png", &png(255));
    let found = statistics(&ImageFolder::new(root.path()).unwrap()).unwrap();
    assert_eq!((found.mean, found.std), (vec![0.5, 0.0, 0.0], vec![0.5, 0.0, 0.0]));

    let folder = fake_mnist();
    let grey = statistics(&Mnist::open(folder.path(), Split::Train).unwrap()).unwrap();
    // 0 to 23: mean 11.5, variance (24^2 - 1) / 12.
    assert!((grey.mean[0] * 255.0 - 11.5).abs() < 1e-12);
    assert!((grey.std[0] * 255.0 - (575.0f64 / 12.0).sqrt()).abs() < 1e-12);
}
