//! Archives that become folders of files: their record, their repair, and folders without one.

use std::cell::RefCell;
use std::path::Path;

use candle_vision_fetch::{
    Error, Event, FetchOptions, Origin, Source, check_fetched, fetch, is_present,
};

use crate::items::{Place, options, tree_item};
use crate::support::{Reply, Server, names};

#[test]
fn an_archive_becomes_its_folder() {
    let (_, archive) = tree_item("");
    let served = archive.clone();
    let server = Server::start(move |request| Reply::file(request, &served));
    let (item, _) = tree_item(&server.url);
    let place = Place::new();
    let fetched = place.fetch(&item).unwrap();
    assert_eq!(fetched.files, [place.data().join("insects")]);
    assert_eq!(names(&place.data()), [".candle-vision-fetch.lock", "insects"]);
    let image = place.data().join("insects/train/ants/2.JPEG");
    assert_eq!(std::fs::read(image).unwrap(), b"train/ants/2.JPEG");

    // An image lost, one added: the first comes back, the second stays.
    std::fs::remove_file(place.data().join("insects/train/bees/1.jpg")).unwrap();
    std::fs::write(place.data().join("insects/train/ants/mine.jpg"), "mine").unwrap();
    assert!(!is_present(&item, &place.data()));
    place.fetch(&item).unwrap();
    assert!(is_present(&item, &place.data()));
    assert!(place.data().join("insects/train/ants/mine.jpg").exists());
}

/// Changes a byte and leaves length and time as they are, as a disk does.
fn flip(path: &Path) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_flipped_byte_in_an_unpacked_file_is_repaired_and_told() {
    let (item, archive) = tree_item("");
    let place = Place::new();
    std::fs::write(place.other().join("images.zip"), &archive).unwrap();
    place.fetch_from(&item, &place.other()).unwrap();
    assert_eq!(place.fetch_offline(&item).unwrap().origin, Origin::AlreadyPresent);

    let image = place.data().join("insects/train/ants/1.jpg");
    let gif = place.data().join("insects/train/bees/x.gif");
    flip(&image);
    flip(&gif);
    let error = place.fetch_offline(&item).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    let repaired = RefCell::new(Vec::new());
    let progress = |event: Event<'_>| match event {
        Event::Repaired { path } => {
            repaired.borrow_mut().push(path.to_path_buf());
        }
        Event::Incomplete { cause, .. } => {
            assert!(cause.contains("1.jpg`: sha256"), "{cause}");
        }
        _ => {}
    };
    let from = Some(place.other());
    let options = FetchOptions { progress: &progress, from, ..options(&place.data()) };
    fetch(&item, &options).unwrap();
    assert_eq!(repaired.into_inner(), [image.clone(), gif]);
    assert_eq!(std::fs::read(&image).unwrap(), b"train/ants/1.jpg");
    assert_eq!(place.fetch_offline(&item).unwrap().origin, Origin::AlreadyPresent);
}

#[test]
fn a_quick_look_finds_what_changed_since_the_fetch_and_writes_nothing() {
    let (item, archive) = tree_item("");
    let place = Place::new();
    std::fs::write(place.other().join("images.zip"), &archive).unwrap();
    place.fetch_from(&item, &place.other()).unwrap();
    let folder = place.data().join("insects");
    let record = std::fs::read(folder.join(".candle-vision-files")).unwrap();
    check_fetched(&item, &place.data()).unwrap();
    std::fs::write(folder.join("train/ants/1.jpg"), "train/ants/1.jpG").unwrap();
    let error = check_fetched(&item, &place.data()).unwrap_err().to_string();
    assert!(error.contains("train/ants/1.jpg`: sha256 is "), "{error}");
    std::fs::remove_file(folder.join("train/bees/1.jpg")).unwrap();
    std::fs::write(folder.join("train/ants/1.jpg"), "train/ants/1.jpg").unwrap();
    let error = check_fetched(&item, &place.data()).unwrap_err().to_string();
    assert!(error.contains("train/bees/1.jpg`: file is missing"), "{error}");
    assert_eq!(std::fs::read(folder.join(".candle-vision-files")).unwrap(), record);
    // A damaged folder is no source either.
    let second = Place::new();
    let error = second.fetch_from(&item, &place.data()).unwrap_err().to_string();
    assert!(error.contains("train/bees/1.jpg"), "{error}");
}

#[test]
fn a_tree_without_a_record_is_counted() {
    let (item, _) = tree_item("");
    let place = Place::new();
    for name in ["train/ants/1.jpg", "train/ants/2.jpg", "train/bees/1.jpg"] {
        let path = place.data().join("insects").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    assert_eq!(place.fetch_offline(&item).unwrap().origin, Origin::Counted);
    check_fetched(&item, &place.data()).unwrap();
    assert_eq!(names(&place.data().join("insects")), ["train"]);
    // A copy of it has one from then on.
    let second = Place::new();
    second.fetch_from(&item, &place.data()).unwrap();
    assert_eq!(second.fetch_offline(&item).unwrap().origin, Origin::AlreadyPresent);
    std::fs::write(second.data().join("insects/train/bees/1.jpg"), "y").unwrap();
    assert!(second.fetch_offline(&item).is_err());
}

#[test]
fn an_archive_or_a_tree_is_taken_from_a_local_folder() {
    let (item, archive) = tree_item("");
    let place = Place::new();
    std::fs::write(place.other().join("images.zip"), &archive).unwrap();
    place.fetch_from(&item, &place.other()).unwrap();
    assert!(is_present(&item, &place.data()));
    assert!(place.other().join("images.zip").exists());

    let second = Place::new();
    let fetched = second.fetch_from(&item, &place.data()).unwrap();
    assert_eq!(fetched.origin, Origin::Local);
    assert!(second.data().join("insects/train/bees/x.gif").exists());
}

#[test]
fn an_incomplete_local_tree_is_counted() {
    let (item, _) = tree_item("");
    let place = Place::new();
    std::fs::create_dir_all(place.other().join("insects/train/ants")).unwrap();
    std::fs::write(place.other().join("insects/train/ants/1.jpg"), "").unwrap();
    let error = place.fetch_from(&item, &place.other()).unwrap_err().to_string();
    assert!(error.contains("train/ants") && error.contains("is 1, expected at least 2"), "{error}");
    assert!(!place.data().join("insects").exists());
}

#[test]
fn an_archive_without_its_folder_is_refused() {
    let (mut item, archive) = tree_item("");
    if let Source::Archive { root, .. } = &mut item.sources[0] {
        *root = "elsewhere".to_owned();
    }
    let place = Place::new();
    std::fs::write(place.other().join("images.zip"), &archive).unwrap();
    let error = place.fetch_from(&item, &place.other()).unwrap_err().to_string();
    assert!(error.contains("elsewhere"), "{error}");
    assert_eq!(names(&place.data()), [".candle-vision-fetch.lock"]);
}
