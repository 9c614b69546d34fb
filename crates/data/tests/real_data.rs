//! The real data sets, if `CANDLE_VISION_DATA` names a folder with `mnist/`, `cifar10/` and
//! `hymenoptera_data/`.

use std::path::PathBuf;

use candle_vision_data::{
    Cifar10, Dataset, FolderSplit, Image, ImageFolder, Mnist, Split, class_counts, statistics,
};

/// The folder, or None after saying so.
#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("CANDLE_VISION_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: CANDLE_VISION_DATA is not set");
    }
    folder
}

#[test]
fn mnist_is_whole() {
    let Some(data) = data() else { return };
    let train = Mnist::open(data.join("mnist"), Split::Train).unwrap();
    let test = Mnist::open(&data, Split::Test).unwrap();
    assert_eq!((train.len(), test.len()), (60_000, 10_000));
    assert_eq!(class_counts(&train)[..3], [5923, 6742, 5958]);
    // The values that PyTorch's examples normalise by.
    let found = statistics(&train).unwrap();
    assert!((found.mean[0] - 0.1307).abs() < 1e-4 && (found.std[0] - 0.3081).abs() < 1e-4);
    let image = train.sample(0).unwrap().image;
    assert_eq!((image.width(), image.height(), train.label(0)), (28, 28, 5));
}

#[test]
fn cifar10_is_whole() {
    let Some(data) = data() else { return };
    let train = Cifar10::open(data.join("cifar10"), Split::Train).unwrap();
    let test = Cifar10::open(&data, Split::Test).unwrap();
    assert_eq!((class_counts(&train), class_counts(&test)), (vec![500; 10], vec![200; 10]));
    let found = statistics(&train).unwrap();
    for (channel, (mean, std)) in
        [(0.4919, 0.2475), (0.4820, 0.2441), (0.4456, 0.2627)].into_iter().enumerate()
    {
        assert!((found.mean[channel] - mean).abs() < 1e-4, "{found:?}");
        assert!((found.std[channel] - std).abs() < 1e-4, "{found:?}");
    }
}

#[test]
fn all_ants_and_bees_decode() {
    let Some(data) = data() else { return };
    let open = |split| {
        let root = data.join("hymenoptera_data");
        ImageFolder::open(root, split, FolderSplit::default()).unwrap()
    };
    let (train, val) = (open(Split::Train), open(Split::Val));
    assert_eq!((class_counts(&train), train.left_out().total()), (vec![123, 121], 1));
    assert_eq!((class_counts(&val), val.left_out().total()), (vec![70, 83], 0));
    assert_eq!(train.classes(), ["ants", "bees"]);
    for folder in [&train, &val] {
        for index in 0..folder.len() {
            let image = folder.sample(index).unwrap().image;
            assert_eq!(image.channels(), 3, "{}", folder.name(index));
        }
    }
}

#[test]
fn every_cut_photo_is_refused() {
    let Some(data) = data() else { return };
    let folder = ImageFolder::new(data.join("hymenoptera_data/val")).unwrap();
    for index in 0..folder.len() {
        let bytes = std::fs::read(folder.path(index)).unwrap();
        for length in [bytes.len() / 3, bytes.len() * 9 / 10, bytes.len() - 100] {
            let cut = Image::decode(&bytes[..length], "cut.jpg");
            assert!(cut.is_err(), "{} cut to {length} bytes", folder.name(index));
        }
    }
}
