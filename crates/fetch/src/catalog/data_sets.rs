//! Data sets.

use super::{file, strings};
use crate::archive::{ArchiveKind, Limits};
use crate::checksum::FileSpec;
use crate::item::{Content, FolderCount, Item, Layout, Source};

const MNIST: [(&str, u64, &str); 4] = [
    (
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
];

const FASHION_MNIST: [(&str, u64, &str); 4] = [
    (
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
];

/// 10,000 records, each of a label byte and 3,072 pixel bytes.
const CIFAR_BYTES: u64 = 30_730_000;

const CIFAR: [(&str, &str); 6] = [
    ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];

/// A class-balanced part for machines without a network: 500 training and 200 test images per class.
const CIFAR_SUBSET: [(&str, u64, &str); 3] = [
    (
        "train_5000.bin",
        15_365_000,
        "c3565cfa2faba1ac016087d1b16766dc6161cb343c40a0460afed3cdb7b60491",
    ),
    (
        "test_2000.bin",
        6_146_000,
        "b26799deaa01efaee592e71763cdc388e7d6ea013c35a7c01a589296cfc29393",
    ),
    ("batches.meta.txt", 60, "2ce042b1e0b48db4bb214408e6414ba18b2731c24af244f2d6c112fddf31af00"),
];

/// Number of images per folder. One of the training ants is a GIF, which torchvision does not count as an
/// image either.
const HYMENOPTERA: [(&str, usize); 4] =
    [("train/ants", 123), ("train/bees", 121), ("val/ants", 70), ("val/bees", 83)];

pub(super) fn mnist() -> Item {
    let files = MNIST.map(|(name, bytes, sum)| file(name, bytes, sum)).to_vec();
    Item {
        name: "mnist".to_owned(),
        about: "MNIST: 70,000 handwritten digits, 28x28 grey (12 MB; LeCun, Cortes, Burges)"
            .to_owned(),
        layouts: vec![files_in("mnist", &files)],
        sources: vec![Source::Files {
            folder: "mnist".to_owned(),
            files,
            mirrors: strings(&[
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "http://yann.lecun.com/exdb/mnist/",
            ]),
        }],
    }
}

pub(super) fn fashion_mnist() -> Item {
    let files = FASHION_MNIST.map(|(name, bytes, sum)| file(name, bytes, sum)).to_vec();
    Item {
        name: "fashion_mnist".to_owned(),
        about:
            "Fashion-MNIST: 70,000 articles of clothing, 28x28 grey (31 MB; Xiao, Rasul, Vollgraf)"
                .to_owned(),
        layouts: vec![files_in("fashion_mnist", &files)],
        sources: vec![Source::Files {
            folder: "fashion_mnist".to_owned(),
            files,
            mirrors: strings(&[
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ]),
        }],
    }
}

pub(super) fn cifar10() -> Item {
    let mut full = CIFAR.map(|(name, sum)| file(name, CIFAR_BYTES, sum)).to_vec();
    full.push(FileSpec::named("batches.meta.txt"));
    let subset = CIFAR_SUBSET.map(|(name, bytes, sum)| file(name, bytes, sum));
    Item {
        name: "cifar10".to_owned(),
        about: "CIFAR-10: 60,000 images of 10 classes, 32x32 (170 MB; Krizhevsky, Nair, Hinton)"
            .to_owned(),
        layouts: vec![
            files_in("cifar10", &full),
            files_in("cifar-10-batches-bin", &full),
            files_in("cifar10", &subset),
        ],
        sources: vec![Source::Archive {
            file: file(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
            kind: ArchiveKind::TarGz,
            mirrors: strings(&["https://www.cs.toronto.edu/~kriz/"]),
            root: "cifar-10-batches-bin".to_owned(),
            folder: "cifar10".to_owned(),
            limits: Limits { max_bytes: 256 << 20, max_entries: 100, ..Limits::default() },
        }],
    }
}

pub(super) fn hymenoptera() -> Item {
    let folders =
        HYMENOPTERA.map(|(folder, files)| FolderCount { folder: folder.to_owned(), files });
    Item {
        name: "hymenoptera".to_owned(),
        about:
            "ants and bees: 244 training and 153 validation photos of PyTorch's tutorial (47 MB)"
                .to_owned(),
        layouts: vec![Layout {
            folder: "hymenoptera_data".to_owned(),
            content: Content::Tree {
                extensions: strings(&["jpg", "jpeg"]),
                folders: folders.to_vec(),
            },
        }],
        sources: vec![Source::Archive {
            file: file(
                "hymenoptera_data.zip",
                47_286_322,
                "fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209",
            ),
            kind: ArchiveKind::Zip,
            mirrors: strings(&["https://download.pytorch.org/tutorial/"]),
            root: "hymenoptera_data".to_owned(),
            folder: "hymenoptera_data".to_owned(),
            limits: Limits { max_bytes: 256 << 20, max_entries: 2_000, ..Limits::default() },
        }],
    }
}

pub(super) fn files_in(folder: &str, files: &[FileSpec]) -> Layout {
    Layout { folder: folder.to_owned(), content: Content::Files(files.to_vec()) }
}
