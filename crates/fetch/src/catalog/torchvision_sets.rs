//! More data sets, in the layouts of torchvision.

use super::data_sets::files_in;
use super::{file, strings};
use crate::archive::{ArchiveKind, Limits};
use crate::checksum::{FileSpec, Md5Sum};
use crate::item::{Content, FolderCount, Item, Layout, Source};

/// A file of which torchvision knows the MD5 alone.
fn by_md5(name: &str, md5: &str) -> FileSpec {
    let md5 = Md5Sum::new(md5).expect("the catalog's sums are hexadecimal, as a test checks");
    FileSpec { md5: Some(md5), ..FileSpec::named(name) }
}

/// A folder that has so many images in and below some of its folders.
fn images(folder: &str, extension: &str, counts: &[(&str, usize)]) -> Layout {
    let count = |&(folder, files): &(&str, usize)| FolderCount { folder: folder.to_owned(), files };
    Layout {
        folder: folder.to_owned(),
        content: Content::Tree {
            extensions: strings(&[extension]),
            folders: counts.iter().map(count).collect(),
        },
    }
}

/// An archive whose folder `root` becomes `folder`.
fn archive(file: FileSpec, url: &str, root: &str, folder: &str) -> Source {
    let kind = if file.name.ends_with(".zip") { ArchiveKind::Zip } else { ArchiveKind::TarGz };
    Source::Archive {
        file,
        kind,
        mirrors: strings(&[url]),
        root: root.to_owned(),
        folder: folder.to_owned(),
        limits: Limits { max_bytes: 16 << 30, ..Limits::default() },
    }
}

fn item(name: &str, about: &str, layouts: Vec<Layout>, source: Source) -> Item {
    let sources = vec![source];
    Item { name: name.to_owned(), about: about.to_owned(), layouts, sources }
}

fn files(folder: &str, files: Vec<FileSpec>, url: &str) -> Source {
    Source::Files { folder: folder.to_owned(), files, mirrors: strings(&[url]) }
}

const ROBOTS: &str = "https://www.robots.ox.ac.uk/~vgg/data/";

pub(super) fn kmnist() -> Item {
    let all = vec![
        file(
            "train-images-idx3-ubyte.gz",
            18_165_135,
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        ),
        file(
            "train-labels-idx1-ubyte.gz",
            29_497,
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        ),
        file(
            "t10k-images-idx3-ubyte.gz",
            3_041_136,
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        ),
        file(
            "t10k-labels-idx1-ubyte.gz",
            5_120,
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ];
    item(
        "kmnist",
        "Kuzushiji-MNIST: 70,000 handwritten Japanese characters, 28x28 grey (21 MB; CODH)",
        vec![files_in("kmnist", &all), files_in("KMNIST/raw", &all)],
        files("kmnist", all, "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    )
}

pub(super) fn emnist() -> Item {
    let zip = file(
        "gzip.zip",
        561_753_746,
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    );
    // Six parts, each of two files to train on and two for tests.
    let layout = images("emnist", "gz", &[("", 24)]);
    item(
        "emnist",
        "EMNIST: 814,255 handwritten digits and letters, 28x28 grey, in six parts (562 MB; NIST)",
        vec![layout],
        archive(zip, "https://biometrics.nist.gov/cs_links/EMNIST/", "gzip", "emnist"),
    )
}

pub(super) fn cifar100() -> Item {
    let packed = file(
        "cifar-100-binary.tar.gz",
        168_513_733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    );
    let of_records = |name: &str, records: u64| FileSpec {
        bytes: Some(records * 3_074),
        ..FileSpec::named(name)
    };
    let all = [of_records("train.bin", 50_000), of_records("test.bin", 10_000)];
    item(
        "cifar100",
        "CIFAR-100: 60,000 images of 100 classes, 32x32 (169 MB; Krizhevsky, Nair, Hinton)",
        vec![files_in("cifar-100-binary", &all), files_in("cifar100", &all)],
        archive(
            packed,
            "https://www.cs.toronto.edu/~kriz/",
            "cifar-100-binary",
            "cifar-100-binary",
        ),
    )
}

pub(super) fn svhn() -> Item {
    // The extra images, 1.3 GB, are fetched by hand: most runs do without them.
    let all = vec![
        by_md5("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        by_md5("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ];
    item(
        "svhn",
        "SVHN: 99,289 digits of house numbers, 32x32 (246 MB; Netzer et al.)",
        vec![files_in("svhn", &all)],
        files("svhn", all, "http://ufldl.stanford.edu/housenumbers/"),
    )
}

pub(super) fn stl10() -> Item {
    let packed = file(
        "stl10_binary.tar.gz",
        2_640_397_119,
        "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
    );
    let all = [
        by_md5("train_X.bin", "918c2871b30a85fa023e0c44e0bee87f"),
        by_md5("train_y.bin", "5a34089d4802c674881badbb80307741"),
        by_md5("test_X.bin", "7f263ba9f9e0b06b93213547f721ac82"),
        by_md5("test_y.bin", "36f9794fa4beb8a2c72628de14fa638e"),
    ];
    item(
        "stl10",
        "STL-10: 13,000 labelled images of 10 classes, 96x96 (2.6 GB; Coates, Lee, Ng)",
        vec![files_in("stl10_binary", &all)],
        archive(packed, "http://ai.stanford.edu/~acoates/stl10/", "stl10_binary", "stl10_binary"),
    )
}

pub(super) fn flowers102() -> Item {
    let packed = file(
        "102flowers.tgz",
        344_862_509,
        "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
    );
    let lists = vec![
        file(
            "imagelabels.mat",
            502,
            "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
        ),
        file(
            "setid.mat",
            14_989,
            "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
        ),
    ];
    let url = format!("{ROBOTS}flowers/102/");
    let parts = vec![images("jpg", "jpg", &[("", 8_189)]), files_in("", &lists)];
    let layout = Layout { folder: "flowers-102".to_owned(), content: Content::Parts(parts) };
    item(
        "flowers102",
        "Oxford 102 Flower: 8,189 photos of 102 kinds of flowers (345 MB; Nilsback, Zisserman)",
        vec![layout],
        Source::Parts(vec![
            archive(packed, &url, "jpg", "flowers-102/jpg"),
            files("flowers-102", lists, &url),
        ]),
    )
}

pub(super) fn oxford_iiit_pet() -> Item {
    let photos = file(
        "images.tar.gz",
        791_918_971,
        "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
    );
    let lists = file(
        "annotations.tar.gz",
        19_173_078,
        "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
    );
    let url = format!("{ROBOTS}pets/data/");
    let parts =
        vec![images("images", "jpg", &[("", 7_349)]), images("annotations", "txt", &[("", 3)])];
    let layout = Layout { folder: "oxford-iiit-pet".to_owned(), content: Content::Parts(parts) };
    item(
        "oxford_iiit_pet",
        "Oxford-IIIT Pet: 7,349 photos of 37 breeds of cats and dogs (811 MB; Parkhi et al.)",
        vec![layout],
        Source::Parts(vec![
            archive(photos, &url, "images", "oxford-iiit-pet/images"),
            archive(lists, &url, "annotations", "oxford-iiit-pet/annotations"),
        ]),
    )
}

pub(super) fn food101() -> Item {
    let packed = file(
        "food-101.tar.gz",
        4_996_278_331,
        "d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
    );
    item(
        "food101",
        "Food-101: 101,000 photos of 101 dishes (5 GB; Bossard, Guillaumin, Van Gool)",
        vec![images("food-101", "jpg", &[("images", 101_000)])],
        archive(packed, "http://data.vision.ee.ethz.ch/cvl/", "food-101", "food-101"),
    )
}

pub(super) fn caltech101() -> Item {
    let packed = by_md5("caltech-101.zip", "3138e1922a9193bfa496528edbbc45d0");
    let url = "https://data.caltech.edu/records/mzrjq-6wc02/files/";
    let folder = "caltech101/101_ObjectCategories";
    // The zip file holds this archive, whose bytes its own sum vouches for.
    let inner = Source::Archive {
        file: FileSpec::named(format!("{folder}.tar.gz")),
        kind: ArchiveKind::TarGz,
        mirrors: Vec::new(),
        root: "101_ObjectCategories".to_owned(),
        folder: folder.to_owned(),
        limits: Limits::default(),
    };
    item(
        "caltech101",
        "Caltech 101: 9,144 photos of 101 kinds of objects (137 MB; Fei-Fei, Fergus, Perona)",
        vec![
            images(folder, "jpg", &[("", 8_677)]),
            images("caltech-101/101_ObjectCategories", "jpg", &[("", 8_677)]),
        ],
        Source::Parts(vec![archive(packed, url, "caltech-101", "caltech101"), inner]),
    )
}

pub(super) fn dtd() -> Item {
    let packed = file(
        "dtd-r1.0.1.tar.gz",
        625_239_812,
        "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
    );
    let layout = |folder| images(folder, "jpg", &[("images", 5_640)]);
    item(
        "dtd",
        "DTD: 5,640 photos of 47 textures (625 MB; Cimpoi et al.)",
        vec![layout("dtd/dtd"), layout("dtd")],
        archive(packed, &format!("{ROBOTS}dtd/download/"), "dtd", "dtd/dtd"),
    )
}

pub(super) fn eurosat() -> Item {
    let packed = file(
        "EuroSAT.zip",
        94_280_567,
        "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
    );
    item(
        "eurosat",
        "EuroSAT: 27,000 satellite images of 10 kinds of land, 64x64 (94 MB; Helber et al.)",
        vec![images("eurosat/2750", "jpg", &[("", 27_000)])],
        archive(
            packed,
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/",
            "2750",
            "eurosat/2750",
        ),
    )
}

pub(super) fn imagenette() -> Item {
    let packed = file(
        "imagenette2-320.tgz",
        341_553_947,
        "5020a9130cea0348272823cb12d2db7e981c6f2afa3dce71ccd5b8013005c55e",
    );
    let layout = |folder| images(folder, "jpeg", &[("train", 9_469), ("val", 3_925)]);
    item(
        "imagenette",
        "Imagenette: 13,394 photos of ten classes of ImageNet, shorter side 320 (342 MB; Howard)",
        vec![layout("imagenette2"), layout("imagenette2-320"), layout("imagenette2-160")],
        archive(
            packed,
            "https://s3.amazonaws.com/fast-ai-imageclas/",
            "imagenette2-320",
            "imagenette2-320",
        ),
    )
}

/// ImageNet is given only to people with an account, so there is no source.
pub(super) fn imagenet() -> Item {
    let all = [("train", 1_281_167), ("val", 50_000)];
    Item {
        name: "imagenet".to_owned(),
        about: "ImageNet (ILSVRC 2012): 1,331,167 photos of 1,000 classes (not downloaded: get it from \
                image-net.org and unpack it into `imagenet/train` and `imagenet/val`)"
            .to_owned(),
        layouts: vec![images("imagenet", "jpeg", &all)],
        sources: Vec::new(),
    }
}
