//! Folders as people have them: which layout is meant, which names and files count.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::{
    ColorJitter, Compose, GaussianNoise, RandomResizedCrop, ToTensor,
};
use candle_vision_data::{
    DataLoader, Dataset, Error, FolderLayout, FolderSplit, ImageFolder, LoaderConfig, Split,
    class_counts, find_images,
};
use tempfile::{TempDir, tempdir};

fn png(value: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(3, 2, image::Rgb([value, 0, 0]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with three images in each of `folders`.
fn folder(folders: &[&str]) -> TempDir {
    let root = tempdir().unwrap();
    for name in folders {
        (0..3).for_each(|n| write(root.path(), &format!("{name}/{n}.png"), &png(n)));
    }
    root
}

fn open(root: &TempDir, split: Split) -> Result<ImageFolder, Error> {
    ImageFolder::open(root.path(), split, FolderSplit::default())
}

/// What `FolderLayout` calls the three splits.
#[track_caller]
fn check_splits(folders: &[&str], expected: [Option<&str>; 3]) {
    let root = folder(folders);
    let layout = FolderLayout::find(root.path()).unwrap_or_else(|error| panic!("{error}"));
    let found = [Split::Train, Split::Val, Split::Test].map(|split| {
        layout.split(split).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
    });
    assert_eq!(found, expected.map(|name| name.map(str::to_owned)), "{layout}");
}

#[track_caller]
fn check_classes(folders: &[&str], expected: &[&str]) {
    let root = folder(folders);
    let found = open(&root, Split::Train).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.classes(), expected);
}

/// The layout cannot be meant; the message holds all of `parts` and is one line.
#[track_caller]
fn check_error(folders: &[&str], parts: &[&str]) {
    let root = folder(folders);
    let error = open(&root, Split::Train).expect_err("this cannot be meant").to_string();
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn splits_are_recognised_by_any_usual_name() {
    for [train, val, test] in [
        ["train", "val", "test"],
        ["Train", "Val", "Test"],
        ["TRAIN", "VALID", "TEST"],
        ["Training", "validation", "Testing"],
        ["training", "dev", "testing"],
    ] {
        let paths = [train, val, test].map(|split| [format!("{split}/a"), format!("{split}/b")]);
        let paths: Vec<&str> = paths.iter().flatten().map(String::as_str).collect();
        check_splits(&paths, [Some(train), Some(val), Some(test)]);
        check_splits(&paths[..4], [Some(train), Some(val), None]);
        check_splits(&[&paths[..2], &paths[4..]].concat(), [Some(train), None, Some(test)]);
        check_splits(&paths[..2], [Some(train), None, None]);
    }
    let root = folder(&["Train/a", "Train/b", "Val/a", "Val/b"]);
    assert_eq!(class_counts(&open(&root, Split::Train).unwrap()), [3, 3]);
    assert_eq!(class_counts(&open(&root, Split::Val).unwrap()), [3, 3]);
    let line = FolderLayout::find(root.path()).unwrap().to_string();
    assert!(line.ends_with(": `Train` to train on, `Val` to validate on"), "{line}");
}

#[test]
fn without_a_folder_to_validate_on_a_part_of_train_is_kept() {
    let root = tempdir().unwrap();
    for class in ["a", "b"] {
        for n in 0..10 {
            write(root.path(), &format!("Train/{class}/{n}.png"), &png(n));
            write(root.path(), &format!("Test/{class}/{n}.png"), &png(n));
        }
    }
    let names = |split| {
        let found = open(&root, split).unwrap();
        assert_eq!(found.classes(), ["a", "b"]);
        (0..found.len()).map(|index| found.name(index)).collect::<Vec<_>>()
    };
    let [train, val, test] = [Split::Train, Split::Val, Split::Test].map(names);
    assert_eq!([train.len(), val.len(), test.len()], [16, 4, 20]);
    assert_eq!(val, names(Split::Val));
    assert!(train.iter().chain(&val).all(|name| name.contains("/Train/")));
    assert!(train.iter().all(|name| !val.contains(name)));
    assert!(test.iter().all(|name| name.contains("/Test/")));
}

#[test]
fn two_folders_for_one_split_are_named() {
    let parts = ["`val`", "`valid`", "2 folders for one split (val)", "keep one"];
    check_error(&["train/a", "train/b", "val/a", "val/b", "valid/a", "valid/b"], &parts);
    let parts = ["`Train`", "`training`"];
    check_error(&["Train/a", "Train/b", "training/a", "training/b", "val/a", "val/b"], &parts);
    check_error(&["train/a", "train/b", "Test/a", "test/a", "Test/b"], &["`Test`", "`test`"]);
}

#[test]
fn a_class_may_be_called_train() {
    check_classes(&["bus", "car", "train"], &["bus", "car", "train"]);
    check_classes(&["bus", "car", "train/2020"], &["bus", "car", "train"]);
    check_classes(&["Test", "bus"], &["Test", "bus"]);
    check_classes(&["bus", "dev/a"], &["bus", "dev"]);
    // As a class in a split.
    check_splits(
        &["train/bus", "train/train", "val/bus", "val/train"],
        [Some("train"), Some("val"), None],
    );
    let parts = ["`train` holds class folders", "`bus`, `car` may be classes", "rename"];
    check_error(&["bus", "car", "train/steam", "train/diesel"], &parts);
}

#[test]
fn what_lies_beside_splits_is_not_used() {
    for beside in ["raw", "annotations/ants", "labels", "extra/train/a"] {
        let root = folder(&["train/a", "train/b", "val/a", "val/b", beside]);
        write(root.path(), "train/readme.md", b"about the data");
        write(root.path(), "train/stray.png", &png(9));
        write(root.path(), "labels.csv", b"1,2");
        let layout = FolderLayout::find(root.path()).unwrap();
        let top = beside.split('/').next().unwrap();
        assert!(layout.to_string().contains(&format!("not used: `{top}`")), "{layout}");
        let train = open(&root, Split::Train).unwrap();
        assert_eq!((train.len(), train.left_out().outside_classes), (6, 1));
    }
    // A test folder without classes, as competitions hand out.
    check_splits(&["train/a", "train/b", "test"], [Some("train"), None, None]);
    check_error(&["train/a", "train/b", "val"], &["val` holds images, but no class folders"]);
    check_error(&["train", "val"], &["splits (`train`, `val`)", "no class folders"]);
    check_error(&["train", "val", "test"], &["`test`, `train`, `val`", "no class folders"]);
    check_error(&["val/a", "val/b"], &["train` not found", "`val` to validate on"]);
}

#[test]
fn the_folder_that_was_meant_is_named() {
    let split = ["wrap/data/train/a", "wrap/data/train/b", "wrap/data/val/a", "wrap/data/val/b"];
    check_error(&split, &["holds the data set `", "/wrap/data`, not classes", "name that folder"]);
    check_error(&["data/cat", "data/dog"], &["holds the data set `", "/data`"]);
    check_error(&["a/b/c/cat", "a/b/c/dog", "__MACOSX/a/b"], &["/a/b/c`"]);
    let two = ["x/train/a", "x/train/b", "x/test/a", "x/test/b", "y/train/a", "y/train/b"];
    check_error(&[&two[..], &["y/val/a"]].concat(), &["holds data sets", "/x`", "/y`", "one of"]);
    let images = ["train/images/a", "train/images/b", "val/images/a", "val/images/b"];
    check_error(&images, &["a single class, `images`", "/train/images`, move them up"]);
    let inside = ["cat/train", "cat/val", "dog/train", "dog/val"];
    check_error(&inside, &["splits inside of its classes", "`train/cat`"]);
}

#[test]
fn a_single_class_is_nothing_to_tell_apart() {
    check_error(&["cat"], &["single class, `cat`", "nothing to tell apart"]);
    check_error(&["cat/deeper/and/deeper"], &["single class, `cat`"]);
    check_error(&["train/cat", "val/cat"], &["single class, `cat`"]);
    check_error(&["train/cat", "test/cat"], &["single class, `cat`"]);
    check_error(&["train/cat"], &["nothing to tell apart"]);
    check_error(&["."], &["holds images, but no class folders", "into a folder of its name"]);
    check_error(&[], &["no class folders"]);

    let root = folder(&["cat", "dog"]);
    let error = ImageFolder::open(root.path().join("cat"), Split::Train, FolderSplit::default());
    let error = error.expect_err("a class is no data set").to_string();
    assert!(error.contains("holds images, but no class folders"), "{error}");
    let above = root.path().canonicalize().unwrap();
    assert!(error.contains(&format!("name the folder above: `{}`", above.display())), "{error}");
}

#[test]
fn an_empty_class_is_refused_as_torchvision_does() {
    let root = folder(&["cat", "dog"]);
    write(root.path(), "wasp/notes.txt", b"none yet");
    let error = open(&root, Split::Train).expect_err("wasp is empty").to_string();
    assert!(error.contains("/wasp` is a class without images"), "{error}");
    assert!(error.contains("only 1 .txt"), "{error}");
}

#[test]
fn what_is_left_out_is_counted() {
    let root = folder(&["a", "b"]);
    for name in [
        "a/._0.png",
        "a/.DS_Store",
        "a/Thumbs.db",
        "a/.ipynb_checkpoints/0.png",
        "a/@eaDir/0.png",
        "__MACOSX/a/0.png",
        ".git/x",
    ] {
        write(root.path(), name, &png(0));
    }
    for name in ["a/1.txt", "a/2.TXT", "b/IMG.HEIC", "b/LICENSE"] {
        write(root.path(), name, b"no image");
    }
    write(root.path(), "a/empty.jpg", b"");
    write(root.path(), "stray.png", &png(0));
    let found = ImageFolder::new(root.path()).unwrap();
    assert_eq!(class_counts(&found), [3, 3]);
    let line = "2 .txt, 1 .heic, 1 file without an extension that is no image, 1 empty file, \
                7 hidden or system files and folders, 1 image beside the class folders";
    assert_eq!(found.left_out().to_string(), line);
}

#[test]
fn a_file_without_an_extension_is_read_by_its_content() {
    let root = folder(&["a", "b"]);
    write(root.path(), "a/photo", &png(7));
    for (name, bytes) in [("b/9.PNG", png(8)), ("b/8.jfif", png(9)), ("b/7.jpe", png(10))] {
        write(root.path(), name, &bytes);
    }
    let found = ImageFolder::new(root.path()).unwrap();
    assert_eq!(class_counts(&found), [4, 6]);
    assert!(found.left_out().is_empty());
    for index in 0..found.len() {
        found.sample(index).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_neither_up_nor_twice_nor_into_nothing() {
    use std::os::unix::fs::symlink;
    let root = folder(&["data/a", "data/b", "elsewhere/c"]);
    let at = |name: &str| root.path().join(name);
    symlink(at("elsewhere/c"), at("data/c")).unwrap();
    symlink(at("elsewhere/c/0.png"), at("data/a/linked.png")).unwrap();
    symlink(at("data"), at("data/a/up")).unwrap();
    symlink("itself", at("data/a/itself")).unwrap();
    symlink(at("nowhere.png"), at("data/b/dangling.png")).unwrap();
    symlink(at("data/b"), at("data/b/again")).unwrap();
    symlink(at("data"), at("data/train")).unwrap();
    let layout = FolderLayout::find(at("data")).unwrap();
    assert!(!layout.is_split());
    let found = ImageFolder::new(at("data")).unwrap();
    assert_eq!(found.classes(), ["a", "b", "c"]);
    assert_eq!(class_counts(&found), [4, 3, 3]);
    let left_out = found.left_out();
    assert_eq!((left_out.dangling_links, left_out.repeated_links), (2, 3));
}

#[cfg(unix)]
#[test]
fn a_class_folder_that_two_names_lead_to_is_read_once() {
    use std::os::unix::fs::symlink;
    let root = folder(&["data/a", "data/b", "data/.store/d", "elsewhere/c"]);
    let at = |name: &str| root.path().join(name);
    // The link comes before the folder, and two links lead out of the data set to one place.
    for (target, link) in [
        ("data/b", "a2"),
        ("elsewhere/c", "c"),
        ("elsewhere/c", "c2"),
        ("data/.store/d", "d"),
        ("data/b", "a/of_b"),
    ] {
        symlink(at(target), at("data").join(link)).unwrap();
    }
    let found = ImageFolder::new(at("data")).unwrap();
    assert_eq!(found.classes(), ["a", "b", "c", "d"]);
    assert_eq!((class_counts(&found), found.left_out().repeated_links), (vec![3; 4], 3));
    // The doctor sees the same.
    let check = candle_vision_data::check::check_folder(at("data"), &Default::default(), |_, _| {})
        .unwrap();
    let counts: Vec<(&str, usize)> =
        check.classes.iter().map(|class| (class.name.as_str(), class.total())).collect();
    assert_eq!(counts, [("a", 3), ("b", 3), ("c", 3), ("d", 3)]);
    let left_out = check.findings.iter().find(|finding| finding.code == "left_out").unwrap();
    assert_eq!(left_out.files.len(), 3, "{left_out:?}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let root = folder(&["a", "b"]);
    for name in ["a/pipe", "a/pipe.png", "pipe"] {
        let made = std::process::Command::new("mkfifo").arg(root.path().join(name)).status();
        assert!(made.unwrap().success());
    }
    let found = open(&root, Split::Train).unwrap();
    assert_eq!(found.left_out().special, 2);
}

#[test]
fn a_class_with_one_image_is_trained_on() {
    let root = folder(&["a", "b"]);
    write(root.path(), "only/1.png", &png(1));
    let train = open(&root, Split::Train).unwrap();
    let val = open(&root, Split::Val).unwrap();
    assert_eq!((class_counts(&train), class_counts(&val)), (vec![2, 2, 1], vec![1, 1, 0]));
    let remarks = train.remarks();
    assert!(remarks.len() == 1 && remarks[0].contains("`only`"), "{remarks:?}");
    let shares = FolderSplit::new().test(0.2);
    let of = |split| ImageFolder::open(root.path(), split, shares).unwrap();
    assert_eq!(class_counts(&of(Split::Test)), [1, 1, 0]);

    let root = tempdir().unwrap();
    for name in ["a/1.png", "b/1.png"] {
        write(root.path(), name, &png(1));
    }
    let error = open(&root, Split::Val).expect_err("nothing is left for it").to_string();
    assert!(error.contains("too few images") && error.contains("at least two"), "{error}");
}

#[test]
fn val_may_lack_classes_but_have_no_others() {
    let root = folder(&["train/a", "train/b", "train/c", "val/c", "val/a"]);
    let val = open(&root, Split::Val).unwrap();
    assert_eq!(val.classes(), ["a", "b", "c"]);
    assert_eq!(class_counts(&val), [3, 0, 3]);
    assert_eq!(val.label(3), 2);
    assert!(val.remarks()[0].contains("no images of `b`: 2 of 3 classes"), "{:?}", val.remarks());
    let several = ["train/a", "train/b", "val/a", "val/x", "val/y"];
    let error = open(&folder(&several), Split::Val).expect_err("x and y are new").to_string();
    assert!(error.contains("beyond those trained on: `x`, `y` (those are `a`, `b`)"), "{error}");
    assert!(ImageFolder::with_classes(root.path().join("val"), &["a".to_owned()]).is_err());
}

#[test]
fn folders_go_by_the_names_or_the_identifiers_of_the_classes() {
    let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let root = folder(&["val/ant", "val/n2", "val/n1"]);
    let (classes, ids) = (strings(&["bee", "ant", "wasp"]), strings(&["n0", "n1", "n2"]));
    let with_ids =
        |classes: &[String]| ImageFolder::with_class_ids(root.path().join("val"), classes, &ids);
    let images = with_ids(&classes).unwrap();
    assert_eq!((class_counts(&images), images.classes()), (vec![0, 6, 3], &classes[..]));
    let [merged, missing] = images.remarks() else { panic!("{:?}", images.remarks()) };
    assert!(merged.starts_with("`ant`, `n1` in "), "{merged}");
    assert!(missing.contains("no images of `bee`: 2 of 3 classes"), "{missing}");
    // The folder `ant` may be either.
    let twice = strings(&["ant", "ant", "wasp"]);
    let error = with_ids(&twice).expect_err("which one?").to_string();
    assert!(error.contains("class `ant`, as several") && error.contains("identifier"), "{error}");
}

#[test]
fn composed_and_decomposed_names_are_one_class() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let train = [format!("train/{composed}"), "train/tea".to_owned()];
    let val = [format!("val/{decomposed}"), "val/tea".to_owned()];
    let all: Vec<&str> = train.iter().chain(&val).map(String::as_str).collect();
    let root = folder(&all);
    for split in [Split::Train, Split::Val] {
        let found = open(&root, split).unwrap();
        assert_eq!(found.classes(), [composed, "tea"]);
        assert!(found.path(0).is_file() && found.remarks().is_empty());
    }
    // Both in one folder are put together, and that is said.
    let root = folder(&[composed, decomposed, "tea"]);
    let found = ImageFolder::new(root.path()).unwrap();
    assert_eq!((found.classes().len(), class_counts(&found)), (2, vec![6, 3]));
    let remark = &found.remarks()[0];
    assert!(remark.contains("caf<U+00E9>") && remark.contains("cafe<U+0301>"), "{remark}");
}

#[test]
fn all_images_below_a_folder_are_found() {
    let root = folder(&["b", "a/deep", ".hidden"]);
    write(root.path(), "a/notes.txt", b"");
    let (images, left_out) = find_images(root.path()).unwrap();
    let names: Vec<_> = images.iter().map(|path| path.strip_prefix(root.path()).unwrap()).collect();
    let expected =
        ["a/deep/0.png", "a/deep/1.png", "a/deep/2.png", "b/0.png", "b/1.png", "b/2.png"];
    assert_eq!(names, expected.map(Path::new));
    assert_eq!(left_out.total(), 2);
    assert!(find_images(root.path().join("nowhere")).is_err());
}

/// A loader that keeps no images reads only the parts that a random crop uses. The batches are the same.
#[test]
fn parts_of_images_make_the_batches_of_whole_images() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/images");
    let root = tempdir().unwrap();
    let names = ["jpeg_420.jpg", "jpeg_422_noise.jpg", "jpeg_420_progressive.jpg", "gif_rgb.gif"];
    for (class, name) in names.iter().enumerate() {
        let bytes = fs::read(images.join(name)).unwrap();
        for split in ["train", "val"] {
            write(root.path(), &format!("{split}/{}/{name}", ["a", "b"][class % 2]), &bytes);
        }
    }
    let lists = [
        Compose::imagenet_train(),
        Compose::new()
            .with(RandomResizedCrop::new(20).ratio(0.2, 5.0))
            .with(ColorJitter::new().hue(0.5))
            .with(GaussianNoise::new(0.1))
            .with(ToTensor),
    ];
    for list in lists {
        let batches = |cache: usize, workers: usize| {
            let set = ImageFolder::open(root.path(), Split::Train, FolderSplit::default()).unwrap();
            let config = LoaderConfig::new(2).shuffle(true).seed(5).workers(workers);
            let config = config.cache_bytes(cache);
            let loader = DataLoader::new(Arc::new(set), list.clone(), config, Device::Cpu).unwrap();
            let epochs = (0..3).flat_map(|epoch| loader.epoch(epoch));
            let values = epochs.map(|batch| {
                batch.unwrap().images.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            });
            values.collect::<Vec<_>>()
        };
        let whole = batches(1 << 30, 0);
        assert_eq!(whole.len(), 6);
        assert!(batches(0, 0) == whole && batches(0, 8) == whole);
    }
}
