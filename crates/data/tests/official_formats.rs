//! Known data sets on tiny fakes in their official formats, whole and damaged.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use candle_vision_data::{
    DataSets, Dataset, Error, OpenRequest, Result, Split, Splits, class_counts, labels,
};
use tempfile::{TempDir, tempdir};

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An image of one pixel, in a format that needs no encoder.
fn pixel(value: u8) -> Vec<u8> {
    [b"P6\n1 1\n255\n".as_slice(), &[value; 3]].concat()
}

fn request(root: &TempDir, split: Split) -> OpenRequest {
    OpenRequest::new(root.path(), split)
}

fn open(name: &str, request: &OpenRequest) -> Result<Arc<dyn Dataset>> {
    Ok(DataSets::standard().get(name)?.open(request)?.dataset)
}

#[track_caller]
fn check_message<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("this must fail").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

fn value(set: &dyn Dataset, index: usize) -> u8 {
    set.sample(index).unwrap().image.pixel(0, 0)[0]
}

fn has_test(name: &str, root: &TempDir) -> bool {
    let entry = DataSets::standard().get(name).unwrap().clone();
    entry.has_test(&request(root, Split::Train)).unwrap()
}

// The format of MNIST

fn idx(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| file.extend(dim.to_be_bytes()));
    file.extend(bytes);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(&file).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn kmnist_is_mnist_s_files_with_other_names() {
    let root = tempdir().unwrap();
    write(root.path(), "KMNIST/raw/t10k-images-idx3-ubyte.gz", idx(&[2, 1, 1], &[5, 6]));
    write(root.path(), "KMNIST/raw/t10k-labels-idx1-ubyte.gz", idx(&[2], &[9, 0]));
    let set = open("kmnist", &request(&root, Split::Val)).unwrap();
    assert_eq!((set.label(0), set.classes()[9].as_str(), value(&*set, 1)), (9, "wo", 6));
    check_message(open("kmnist", &request(&root, Split::Train)), &["train-images", "KMNIST"]);
}

#[test]
fn emnist_has_six_parts_and_can_be_turned() {
    let root = tempdir().unwrap();
    for (part, label) in [("balanced", 46), ("letters", 26)] {
        let name = |kind| format!("emnist/gzip/emnist-{part}-train-{kind}-ubyte.gz");
        write(root.path(), &name("images-idx3"), idx(&[1, 2, 3], &[1, 2, 3, 4, 5, 6]));
        write(root.path(), &name("labels-idx1"), idx(&[1], &[label]));
    }
    let train = request(&root, Split::Train);
    let set = open("emnist", &train).unwrap();
    assert_eq!((set.label(0), set.classes()[46].as_str()), (46, "t"));
    assert_eq!(set.sample(0).unwrap().image.pixels(), [1, 2, 3, 4, 5, 6]);
    let upright = open("emnist", &train.clone().option("upright", true)).unwrap();
    let image = upright.sample(0).unwrap().image;
    assert_eq!((image.width(), image.pixels()), (2, [1, 4, 2, 5, 3, 6].as_slice()));
    let letters = open("emnist", &train.clone().option("part", "letters")).unwrap();
    assert_eq!(letters.classes()[letters.label(0) as usize], "z");
    check_message(open("emnist", &train.clone().option("part", "all")), &["`all`", "balanced"]);
    check_message(open("emnist", &train.option("parts", "all")), &["`emnist`", "`parts`", "part"]);
}

// CIFAR-100

fn cifar100(records: &[(u8, u8)]) -> Vec<u8> {
    let plane = |value: u8| vec![value; 1024];
    let record = |&(coarse, fine): &(u8, u8)| {
        [vec![coarse, fine], plane(fine), plane(coarse), plane(7)].concat()
    };
    records.iter().flat_map(record).collect()
}

#[test]
fn cifar100_has_fine_and_coarse_labels() {
    let root = tempdir().unwrap();
    write(root.path(), "cifar-100-binary/train.bin", cifar100(&[(4, 0), (19, 99)]));
    let train = request(&root, Split::Train);
    let fine = open("cifar100", &train).unwrap();
    assert_eq!(
        (fine.label(1), fine.classes()[99].as_str(), fine.classes().len()),
        (99, "worm", 100)
    );
    assert_eq!(fine.sample(1).unwrap().image.pixel(31, 31), [99, 19, 7]);
    let coarse = open("cifar100", &train.clone().option("coarse", true)).unwrap();
    assert_eq!(
        (labels(&*coarse), coarse.classes()[4].as_str()),
        (vec![4, 19], "fruit_and_vegetables")
    );
    assert_ne!(fine.fingerprint(), coarse.fingerprint());
    write(root.path(), "cifar-100-binary/train.bin", cifar100(&[(4, 100)]));
    check_message(open("cifar100", &train), &["train.bin", "label 100 in record 0, above 99"]);
    write(root.path(), "cifar-100-binary/train.bin", &cifar100(&[(4, 1)])[..3000]);
    check_message(open("cifar100", &train), &["has 3000 bytes", "whole records of 3074"]);
    check_message(open("cifar100", &request(&root, Split::Test)), &["test.bin", "fetch it"]);
}

// STL-10

#[test]
fn stl10_is_stored_column_by_column_and_counts_from_1() {
    let root = tempdir().unwrap();
    let area = 96 * 96;
    // Red is the row, green the column, blue 9.
    let mut image = vec![9; 3 * area];
    for i in 0..area {
        (image[i], image[area + i]) = ((i % 96) as u8, (i / 96) as u8);
    }
    write(root.path(), "stl10_binary/train_X.bin", &image);
    write(root.path(), "stl10_binary/train_y.bin", [10]);
    write(root.path(), "stl10_binary/class_names.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
    let train = request(&root, Split::Train);
    let set = open("stl10", &train).unwrap();
    assert_eq!((set.label(0), set.classes()[9].as_str()), (9, "j"));
    assert_eq!(set.sample(0).unwrap().image.pixel(5, 80), [80, 5, 9]);
    write(root.path(), "stl10_binary/train_y.bin", [0]);
    check_message(open("stl10", &train), &["train_y.bin", "label 0 at 0", "not 1 to 10"]);
    write(root.path(), "stl10_binary/train_y.bin", [1, 1]);
    check_message(open("stl10", &train), &["train_X.bin", "has 27648 bytes", "expected 55296"]);
    check_message(open("stl10", &request(&root, Split::Val)), &["test_X.bin", "not found"]);
}

// MATLAB's format, version 5, written by hand

/// An element: type, length, data, padding to 8 bytes.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// The head of an array: class, dimensions, name.
fn array(class: u8, dims: &[i32], name: &str, values: Vec<u8>) -> Vec<u8> {
    let flags = element(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
    element(14, &[flags, element(5, &dims), element(1, name.as_bytes()), values].concat())
}

fn bytes_array(dims: &[i32], name: &str, values: &[u8]) -> Vec<u8> {
    array(9, dims, name, element(2, values))
}

/// Numbers of the class `double`, stored as 16 bits as MATLAB does.
fn double_array(name: &str, values: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    array(6, &[1, values.len() as i32], name, element(4, &bytes))
}

fn text_array(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    array(4, &[1, text.len() as i32], "", element(17, &units))
}

fn compressed(element_bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
    encoder.write_all(element_bytes).unwrap();
    let data = encoder.finish().unwrap();
    // Behind compressed data there is no padding.
    [15_u32.to_le_bytes().to_vec(), (data.len() as u32).to_le_bytes().to_vec(), data].concat()
}

fn mat(arrays: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"MATLAB 5.0 MAT-file, made by a test".to_vec();
    file.resize(124, b' ');
    file.extend([0x00, 0x01, b'I', b'M']);
    arrays.iter().for_each(|array| file.extend(array));
    file
}

fn svhn(labels: &[u8]) -> Vec<u8> {
    let mut images = Vec::new();
    for label in labels {
        for channel in 0..3_u8 {
            images
                .extend((0..1024_u32).map(|i| if channel == 0 { (i % 32) as u8 } else { *label }));
        }
    }
    let count = labels.len() as i32;
    mat(&[
        compressed(&bytes_array(&[32, 32, 3, count], "X", &images)),
        compressed(&bytes_array(&[count, 1], "y", labels)),
    ])
}

#[test]
fn svhn_calls_the_digit_0_class_10() {
    let root = tempdir().unwrap();
    write(root.path(), "svhn/train_32x32.mat", svhn(&[1, 10, 9]));
    write(root.path(), "svhn/extra_32x32.mat", svhn(&[3, 4]));
    let train = request(&root, Split::Train);
    let set = open("svhn", &train).unwrap();
    assert_eq!((labels(&*set), set.classes()[9].as_str()), (vec![1, 0, 9], "9"));
    // MATLAB's first index is the row.
    assert_eq!(set.sample(1).unwrap().image.pixel(3, 20), [20, 10, 10]);
    let more = open("svhn", &train.clone().option("extra", true)).unwrap();
    assert_eq!(labels(&*more), [1, 0, 9, 3, 4]);
    check_message(open("svhn", &request(&root, Split::Val)), &["test_32x32.mat", "fetch it"]);

    let whole = svhn(&[1, 2]);
    write(root.path(), "svhn/train_32x32.mat", &whole[..whole.len() - 9]);
    check_message(open("svhn", &train), &["train_32x32.mat", "is cut off", "fetch it again"]);
    write(root.path(), "svhn/train_32x32.mat", svhn(&[11]));
    check_message(open("svhn", &train), &["label 11 at 0"]);
    write(root.path(), "svhn/train_32x32.mat", mat(&[bytes_array(&[1, 1], "y", &[1])]));
    check_message(open("svhn", &train), &["no array `X`"]);
    let shape = bytes_array(&[2, 2, 3, 1], "X", &[0; 12]);
    write(root.path(), "svhn/train_32x32.mat", mat(&[shape, bytes_array(&[1, 1], "y", &[1])]));
    check_message(open("svhn", &train), &["[2, 2, 3, 1]"]);
    write(root.path(), "svhn/train_32x32.mat", mat(&[bytes_array(&[9, 9], "y", &[1])]));
    check_message(open("svhn", &train), &["1 values in `y`", "[9, 9]"]);
    write(root.path(), "svhn/train_32x32.mat", b"<html>");
    check_message(open("svhn", &train), &["too short for a MATLAB file"]);
}

#[test]
fn damaged_mat_files_are_errors_and_no_panics() {
    let root = tempdir().unwrap();
    let (train, whole) = (request(&root, Split::Train), svhn(&[1, 2]));
    for place in 100..whole.len().min(400) {
        for bit in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[place] ^= bit;
            write(root.path(), "svhn/train_32x32.mat", &bytes);
            let _ = open("svhn", &train);
        }
    }
}

#[test]
fn flowers_have_three_splits_by_number() {
    let root = tempdir().unwrap();
    let folder = root.path().join("flowers-102");
    for number in 1..=5 {
        write(&folder, &format!("jpg/image_{number:05}.jpg"), pixel(number));
    }
    let splits = [
        double_array("trnid", &[2, 1]),
        double_array("valid", &[5]),
        double_array("tstid", &[3, 4]),
    ];
    write(&folder, "setid.mat", mat(&splits));
    write(&folder, "imagelabels.mat", mat(&[double_array("labels", &[102, 7, 1, 1, 2])]));
    let train = open("flowers102", &request(&root, Split::Train)).unwrap();
    assert_eq!((labels(&*train), value(&*train, 0)), (vec![6, 101], 2));
    assert_eq!((train.classes().len(), train.classes()[101].as_str()), (102, "blackberry lily"));
    assert_eq!(labels(&*open("flowers102", &request(&root, Split::Val)).unwrap()), [1]);
    assert!(has_test("flowers102", &root));
    let entry = DataSets::standard().get("flowers102").unwrap().clone();
    let all = Splits::open(&entry, &request(&root, Split::Train)).unwrap();
    assert_eq!(all.test.unwrap().len(), 2);

    fs::remove_file(folder.join("jpg/image_00005.jpg")).unwrap();
    check_message(open("flowers102", &request(&root, Split::Val)), &["00005.jpg", "1 of 1 images"]);
    write(&folder, "imagelabels.mat", mat(&[double_array("labels", &[103, 0])]));
    check_message(
        open("flowers102", &request(&root, Split::Train)),
        &["imagelabels.mat", "image 2"],
    );
    write(&folder, "setid.mat", mat(&[double_array("trnid", &[1])]));
    check_message(open("flowers102", &request(&root, Split::Train)), &["label 102", "102 classes"]);
}

// Lists of images

#[test]
fn pets_have_breeds_or_species() {
    let root = tempdir().unwrap();
    let folder = root.path().join("oxford-iiit-pet");
    let lists = [
        ("trainval", "Abyssinian_100 1 1 1\namerican_bulldog_7 2 2 1\n"),
        ("test", "Abyssinian_1 1 1 1\n"),
    ];
    for (list, text) in lists {
        write(&folder, &format!("annotations/{list}.txt"), text);
        for line in text.lines() {
            let name = line.split(' ').next().unwrap();
            write(&folder, &format!("images/{name}.jpg"), pixel(1));
        }
    }
    let train = request(&root, Split::Train);
    let set = open("oxford_iiit_pet", &train).unwrap();
    assert_eq!(
        (set.classes(), labels(&*set)),
        (["Abyssinian", "American Bulldog"].map(str::to_owned).as_slice(), vec![0, 1])
    );
    let species = open("oxford_iiit_pet", &train.clone().option("binary", true)).unwrap();
    assert_eq!(species.classes(), ["Cat", "Dog"]);
    write(&folder, "annotations/trainval.txt", "Abyssinian_100 1 1 1\nbroken 0 1\n");
    check_message(open("oxford_iiit_pet", &train), &["trainval.txt", "line 2"]);
    write(&folder, "annotations/trainval.txt", b"\xFF\xFE");
    check_message(open("oxford_iiit_pet", &train), &["no text in UTF-8", "byte 0"]);
}

#[test]
fn food_is_listed_as_json() {
    let root = tempdir().unwrap();
    let folder = root.path().join("food-101");
    for name in ["waffles/1", "waffles/2", "apple_pie/9"] {
        write(&folder, &format!("images/{name}.jpg"), pixel(3));
    }
    let list = r#"{"waffles": ["waffles/1", "waffles/2"], "apple_pie": ["apple_pie/9"]}"#;
    write(&folder, "meta/train.json", list);
    let train = request(&root, Split::Train);
    let set = open("food101", &train).unwrap();
    assert_eq!((set.classes()[1].as_str(), class_counts(&*set)), ("waffles", vec![1, 2]));
    write(&folder, "meta/train.json", &list[..30]);
    check_message(open("food101", &train), &["train.json", "line 1"]);
    check_message(open("food101", &request(&root, Split::Val)), &["test.json", "fetch it"]);
}

#[test]
fn textures_have_ten_partitions() {
    let root = tempdir().unwrap();
    let folder = root.path().join("dtd/dtd");
    for (split, number, line) in
        [("train", 1, "zigzag/z.jpg\nbanded/b.jpg\n"), ("val", 2, "banded/c.jpg")]
    {
        write(&folder, &format!("labels/{split}{number}.txt"), line);
        line.split_whitespace()
            .for_each(|name| write(&folder, &format!("images/{name}"), pixel(1)));
    }
    let train = request(&root, Split::Train);
    let set = open("dtd", &train).unwrap();
    assert_eq!(
        (set.classes(), labels(&*set)),
        (["banded", "zigzag"].map(str::to_owned).as_slice(), vec![1, 0])
    );
    let val = request(&root, Split::Val).option("partition", 2);
    assert_eq!(open("dtd", &val).unwrap().len(), 1);
    assert!(has_test("dtd", &root));
    check_message(open("dtd", &train.option("partition", 11)), &["options.partition", "11"]);
}

// Folders of classes

fn folders(root: &Path, classes: &[&str], count: u8) {
    for class in classes {
        (0..count).for_each(|n| write(root, &format!("{class}/{n}.ppm"), pixel(n)));
    }
}

#[test]
fn caltech_leaves_the_background_out() {
    let root = tempdir().unwrap();
    let folder = root.path().join("caltech101/101_ObjectCategories");
    folders(&folder, &["ant", "BACKGROUND_Google", "yin_yang"], 10);
    let train = open("caltech101", &request(&root, Split::Train)).unwrap();
    assert_eq!(
        (train.classes(), class_counts(&*train)),
        (["ant", "yin_yang"].map(str::to_owned).as_slice(), vec![8, 8])
    );
    let val = open("caltech101", &request(&root, Split::Val)).unwrap();
    assert_eq!(class_counts(&*val), [2, 2]);
    assert!(!has_test("caltech101", &root));
}

#[test]
fn eurosat_and_imagenette_are_folders() {
    let root = tempdir().unwrap();
    folders(&root.path().join("eurosat/2750"), &["Forest", "River"], 5);
    assert_eq!(open("eurosat", &request(&root, Split::Val)).unwrap().len(), 2);
    folders(&root.path().join("imagenette2-160/train"), &["n03888257", "n01440764"], 2);
    let set = open("imagenette", &request(&root, Split::Train)).unwrap();
    assert_eq!((labels(&*set), set.classes()[9].as_str()), (vec![0, 0, 9, 9], "parachute"));
    folders(&root.path().join("imagenette2-160/val"), &["n00000000"], 1);
    check_message(open("imagenette", &request(&root, Split::Val)), &["n00000000"]);
    let empty = tempdir().unwrap();
    for name in ["eurosat", "imagenette", "caltech101", "imagenet"] {
        check_message(open(name, &request(&empty, Split::Train)), &["not found", "fetch it"]);
    }
}

/// `meta.mat` of the development kit: two classes and a group above them.
fn meta() -> Vec<u8> {
    let number = |value: u16| double_array("", &[value]);
    let rows = [
        (2, "n02", "crab, crustacean", 0),
        (1, "n01", "tench, Tinca tinca", 0),
        (1001, "n00", "thing", 2),
    ];
    let fields: Vec<u8> = rows
        .iter()
        .flat_map(|&(id, wnid, words, children)| {
            [number(id), text_array(wnid), text_array(words), number(children)].concat()
        })
        .collect();
    let names: Vec<u8> = ["ILSVRC2012_ID", "WNID", "words", "num_children"]
        .iter()
        .flat_map(|name| [name.as_bytes(), &[0; 32][name.len()..]].concat())
        .collect();
    // The length of a name, as a small element.
    let width = [5_u16.to_le_bytes(), 4_u16.to_le_bytes(), 32_u16.to_le_bytes(), [0, 0]].concat();
    let values = [width, element(1, &names), fields].concat();
    mat(&[compressed(&array(2, &[3, 1], "synsets", values))])
}

#[test]
fn imagenet_is_read_in_its_official_layout() {
    let root = tempdir().unwrap();
    let folder = root.path().join("imagenet");
    folders(&folder.join("train"), &["n01", "n02"], 3);
    for n in 1..=3 {
        write(&folder, &format!("val/ILSVRC2012_val_0000000{n}.JPEG"), pixel(n));
    }
    let kit = "ILSVRC2012_devkit_t12/data";
    write(&folder, &format!("{kit}/meta.mat"), meta());
    let truth = format!("{kit}/ILSVRC2012_validation_ground_truth.txt");
    write(&folder, &truth, "2\n1\n2\n");
    let train = open("imagenet", &request(&root, Split::Train)).unwrap();
    assert_eq!(
        (train.classes(), class_counts(&*train)),
        (["tench", "crab"].map(str::to_owned).as_slice(), vec![3, 3])
    );
    let open_val = || open("imagenet", &request(&root, Split::Val));
    let val = open_val().unwrap();
    let pairs: Vec<_> = (0..3).map(|i| (val.label(i), value(&*val, i))).collect();
    assert_eq!(pairs, [(0, 2), (1, 1), (1, 3)]);
    assert_eq!(val.classes(), train.classes());

    write(&folder, &truth, "2\n1\n");
    check_message(open_val(), &["ground_truth.txt", "2 classes for 3 images"]);
    write(&folder, &truth, "2\n1\n3\n");
    check_message(open_val(), &["line 3 has `3`"]);
    fs::remove_dir_all(folder.join("ILSVRC2012_devkit_t12")).unwrap();
    check_message(open_val(), &["ground_truth.txt", "not found", "devkit"]);
    // Kaggle's lists do as well.
    let list = "ImageId,PredictionString\nILSVRC2012_val_00000001,n02 1 2 3 4\n\
                ILSVRC2012_val_00000002,n01 1 2 3 4\nILSVRC2012_val_00000003,n01 1 2 3 4\n";
    write(&folder, "LOC_val_solution.csv", list);
    write(&folder, "LOC_synset_mapping.txt", "n01 tench, Tinca tinca\nn02 crab\n");
    assert_eq!(
        (labels(&*open_val().unwrap()), open_val().unwrap().classes()),
        (vec![0, 0, 1], train.classes())
    );
    // As torchvision leaves it.
    fs::remove_dir_all(folder.join("val")).unwrap();
    folders(&folder.join("val"), &["n02"], 1);
    assert_eq!(labels(&*open_val().unwrap()), [1]);
}

#[test]
fn settings_are_refused_where_there_are_none() {
    let root = tempdir().unwrap();
    for name in ["stl10", "kmnist", "flowers102", "food101", "eurosat", "caltech101", "imagenette"]
    {
        let error = open(name, &request(&root, Split::Train).option("fold", 3)).err().unwrap();
        assert!(matches!(error, Error::Settings(_)), "{error}");
    }
}
