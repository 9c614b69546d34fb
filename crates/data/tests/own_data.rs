//! Data sets of one's own, the table of data sets, and all splits in one call.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use candle_core::Device;
use candle_vision_data::transforms::{Compose, Resize, ToTensor};
use candle_vision_data::*;
use tempfile::{TempDir, tempdir};

/// An image in a format that needs no encoder: one pixel of this colour.
fn write_image(path: &Path, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [b"P6\n1 1\n255\n".as_slice(), &colour].concat()).unwrap();
}

#[track_caller]
fn check_message<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("this must fail").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

// The trait

/// As few methods as a data set can have.
struct Levels {
    classes: Vec<String>,
    next: AtomicU8,
}

impl Levels {
    fn new(classes: &[&str]) -> Self {
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        Self { classes, next: AtomicU8::new(0) }
    }
}

impl Dataset for Levels {
    fn len(&self) -> usize {
        4
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        // Another image each time: a cache must not freeze it.
        let level = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Sample::new(Image::new(1, 1, 1, vec![level])?, (index % 2) as u32))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[test]
fn three_methods_make_a_data_set() {
    let levels = Levels::new(&["even", "odd"]);
    assert_eq!((labels(&levels), class_counts(&levels)), (vec![0, 1, 0, 1], vec![2, 2]));
    check_labels(&levels).unwrap();
    assert!(levels.fingerprint().starts_with(UNRECOGNISED), "{}", levels.fingerprint());
    assert_ne!(levels.fingerprint(), Levels::new(&["even", "uneven"]).fingerprint());
    check_message(check_labels(&Levels::new(&["all"])), &["sample 1 (`sample[1]`) has label 1"]);
}

#[test]
fn what_does_not_say_that_it_may_be_kept_is_asked_again() {
    let levels = Arc::new(Levels::new(&["even", "odd"]));
    let set: Arc<dyn Dataset> = levels.clone();
    let transform = Compose::new().with(ToTensor);
    let loader = DataLoader::new(set, transform, LoaderConfig::new(2), Device::Cpu).unwrap();
    assert_eq!(loader.epochs(3).map(|batch| batch.unwrap().indices.len()).sum::<usize>(), 12);
    assert_eq!(levels.next.load(Ordering::Relaxed), 12);
}

// Lists

#[test]
fn samples_are_a_list_and_a_function() {
    let grey = |level: &u8| Image::new(2, 2, 1, vec![*level; 4]);
    let set = Samples::new(["dark", "bright"], [(3, 0), (250, 1)], grey);
    assert_eq!((set.len(), set.name(1).as_str()), (2, "sample[1]"));
    assert!(!set.is_cacheable());
    check_message(set.sample(2), &["sample 2 does not exist"]);
    let named = Samples::new(["dark", "bright"], [(3, 0), (250, 1)], grey)
        .with_names(|level| format!("level {level}"))
        .with_fingerprint("levels of Monday")
        .cacheable();
    assert_eq!(named.name(1), "level 250");
    assert!(named.is_cacheable() && named.fingerprint() != set.fingerprint());
}

#[test]
fn an_epoch_that_fails_ends_all_epochs() {
    let image = |level: &u8| match level {
        2 => Err(Error::other("level 2 is not to be had")),
        level => Image::new(1, 1, 1, vec![*level]),
    };
    let set = Samples::new(["all"], (0..4).map(|level| (level, 0)), image);
    let transform = Compose::new().with(ToTensor);
    let loader = DataLoader::new(Arc::new(set), transform, LoaderConfig::new(1), Device::Cpu);
    let results: Vec<_> = loader.unwrap().epochs(5).collect();
    assert_eq!(results.len(), 3);
    let error = results[2].as_ref().unwrap_err().to_string();
    assert_eq!(error, "level 2 is not to be had");
}

// CSV

fn csv(text: &str) -> (TempDir, Result<Samples<std::path::PathBuf>>) {
    let place = tempdir().unwrap();
    write_image(&place.path().join("images/a, b.ppm"), [1, 2, 3]);
    write_image(&place.path().join("images/c.ppm"), [4, 5, 6]);
    fs::write(place.path().join("train.csv"), text).unwrap();
    let samples = Samples::from_csv(place.path().join("train.csv"));
    (place, samples)
}

#[test]
fn a_csv_file_lists_paths_and_classes() {
    for text in [
        "path,label\n\"images/a, b.ppm\",wasp\nimages/c.ppm,bee\n",
        "\"images/a, b.ppm\",wasp\r\nimages/c.ppm,bee",
        "id,Label,Path\n1,wasp,\"images/a, b.ppm\"\n\n2,bee,images/c.ppm\n",
    ] {
        let (place, samples) = csv(text);
        let samples = samples.unwrap();
        assert_eq!(samples.classes(), ["bee", "wasp"]);
        assert_eq!(labels(&samples), [1, 0]);
        assert_eq!(samples.sample(0).unwrap().image.pixel(0, 0), [1, 2, 3]);
        let file = place.path().join("images/c.ppm");
        assert_eq!(samples.name(1), file.display().to_string());
        assert!(samples.is_cacheable() && !samples.fingerprint().starts_with(UNRECOGNISED));
    }
    let fingerprint = |text| csv(text).1.unwrap().fingerprint();
    // In another folder it is the same data set; with another class it is not.
    assert_eq!(fingerprint("images/c.ppm,bee"), fingerprint("images/c.ppm,bee"));
    assert_ne!(fingerprint("images/c.ppm,bee"), fingerprint("images/c.ppm,wasp"));
}

#[test]
fn faults_of_a_csv_file_name_the_line() {
    for (text, parts) in [
        ("", ["names no images", "path,label"]),
        ("path,label\n", ["names no images", "path,label"]),
        ("images/c.ppm,bee\nimages/d.ppm,bee", ["line 2, which is no file", "d.ppm"]),
        ("images/c.ppm\n", ["line 1", "write `path,label`"]),
        ("images/c.ppm,\n", ["line 1", "write `path,label`"]),
        ("path,label\n\"images/c.ppm,bee\n", ["line 2 opens a quote", "correct the quotes"]),
    ] {
        check_message(csv(text).1, &[&["train.csv"], parts.as_slice()].concat());
    }
    check_message(Samples::from_csv("no/such.csv"), &["no/such.csv"]);
}

// The table

fn folder_of_classes() -> TempDir {
    let place = tempdir().unwrap();
    for (class, colour) in [("ants", [9, 0, 0]), ("bees", [9, 9, 0])] {
        for number in 0..5 {
            let name = format!("{class}/{number}.ppm");
            write_image(&place.path().join(name), colour.map(|value| value + number));
        }
    }
    place
}

#[test]
fn every_data_set_is_opened_by_its_name() {
    let data_sets = DataSets::standard();
    let known: Vec<&str> = data_sets.names().collect();
    for name in ["mnist", "cifar10", "hymenoptera", "insects", "folder"] {
        assert!(known.contains(&name), "{name}");
    }
    let place = folder_of_classes();
    let request = OpenRequest::new("data", Split::Val).path(place.path()).drawings(8, 4, 16);
    let open = |name: &str| data_sets.get(name).unwrap().open(&request);
    assert_eq!(open("insects").unwrap().dataset.len(), 4);
    let folder = open("folder").unwrap();
    assert_eq!(folder.dataset.len(), 2);
    assert_eq!(folder.left_out.unwrap().0, place.path());
    check_message(open("mnist").map(|_| ()), &["mnist", "not found"]);
    check_message(
        open("hymenoptera").map(|_| ()),
        &["hymenoptera_data", "fetch the data set anew"],
    );
    check_message(data_sets.get("minst").map_err(Error::from), &["did you mean `mnist`"]);
    let none = OpenRequest::new("data", Split::Train);
    let without_path = data_sets.get("folder").unwrap().open(&none);
    check_message(without_path.map(|_| ()), &["`path` is missing"]);
    let no_drawings = none.drawings(0, 1, 16);
    let opened = data_sets.get("insects").unwrap().open(&no_drawings);
    check_message(opened.map(|_| ()), &["`train_images` must be at least 1"]);
}

#[test]
fn an_entry_tells_where_its_data_lie_and_what_brings_them() {
    let data_sets = DataSets::standard();
    let data = tempdir().unwrap();
    let request = OpenRequest::new(data.path(), Split::Train).path("mine");
    let place = |name: &str| data_sets.get(name).unwrap().place(&request).unwrap();
    let lies = |name: &str| place(name).map(|place| (place.path, place.is_own));
    assert_eq!(lies("insects"), None);
    assert_eq!(lies("folder"), Some(("mine".into(), true)));
    assert_eq!(lies("mnist"), Some((data.path().join("mnist"), false)));
    fs::create_dir(data.path().join("cifar10")).unwrap();
    assert_eq!(lies("cifar10"), Some((data.path().join("cifar10"), false)));
    fs::create_dir(data.path().join("cifar-10-batches-bin")).unwrap();
    assert_eq!(lies("cifar10"), Some((data.path().join("cifar-10-batches-bin"), false)));
    for name in ["mnist", "cifar10", "hymenoptera"] {
        assert_eq!(data_sets.get(name).unwrap().catalog_item(), Some(name));
    }
    assert_eq!(data_sets.get("mnist").unwrap().native_shape(), Some([1, 28, 28]));
}

#[test]
fn a_folder_has_a_test_split_if_there_is_a_folder_for_it() {
    let entry = DataSets::standard().get("folder").unwrap().clone();
    let place = tempdir().unwrap();
    let request = OpenRequest::new("data", Split::Train).path(place.path());
    for split in ["train", "val"] {
        for class in ["ants", "bees"] {
            write_image(&place.path().join(split).join(class).join("0.ppm"), [1, 2, 3]);
        }
    }
    assert!(!entry.has_test(&request).unwrap());
    for class in ["ants", "bees"] {
        write_image(&place.path().join("test").join(class).join("0.ppm"), [1, 2, 3]);
    }
    assert!(entry.has_test(&request).unwrap());
    assert!(entry.layout(&request).unwrap().unwrap().split(Split::Test).is_some());
    let splits = Splits::open(&entry, &request).unwrap();
    assert_eq!(splits.test.unwrap().len(), 2);
}

// All splits at once

#[test]
fn a_folder_becomes_loaders_in_one_call() {
    let place = folder_of_classes();
    let data = folder(place.path()).unwrap();
    assert_eq!(
        (data.classes(), data.train.len(), data.val.len()),
        (&["ants".to_owned(), "bees".to_owned()][..], 8, 2)
    );
    assert!(data.test.is_none());
    let transform = || Compose::new().with(Resize::new([2, 2])).with(ToTensor);
    let loaders = data.loaders(transform(), transform(), 3).unwrap();
    assert!(loaders.train.config().shuffle && !loaders.val.config().shuffle);
    let batch = loaders.train.epochs(1).next().unwrap().unwrap();
    assert_eq!(batch.images.dims(), [3, 3, 2, 2]);
    assert!(loaders.test.is_none());
}
