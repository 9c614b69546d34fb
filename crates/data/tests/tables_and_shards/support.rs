//! Files to write, and what is opened of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_vision_data::*;

pub(crate) fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An image of one pixel, in a format that needs no encoder.
pub(crate) fn pixel(value: u8) -> Vec<u8> {
    [b"P6\n1 1\n255\n".as_slice(), &[value; 3]].concat()
}

pub(crate) fn pixels(folder: &Path, names: &[&str]) {
    names.iter().enumerate().for_each(|(i, name)| write(folder, name, pixel(i as u8)));
}

pub(crate) fn request(path: impl AsRef<Path>, split: Split) -> OpenRequest {
    OpenRequest::new("data", split).path(path.as_ref())
}

pub(crate) fn open(source: &str, request: &OpenRequest) -> Result<Arc<dyn Dataset>> {
    Ok(DataSets::standard().get(source)?.open(request)?.dataset)
}

/// What is said of a data set.
pub(crate) fn remarks(source: &str, request: &OpenRequest) -> String {
    DataSets::standard().get(source).unwrap().open(request).unwrap().remarks.join("\n")
}

pub(crate) fn has_test(source: &str, path: &Path) -> bool {
    let entry = DataSets::standard().get(source).unwrap().clone();
    entry.has_test(&request(path, Split::Train)).unwrap()
}

pub(crate) fn value(set: &dyn Dataset, index: usize) -> u8 {
    set.sample(index).unwrap().image.pixel(0, 0)[0]
}

#[track_caller]
pub(crate) fn check_message<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("this must fail").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains('\n'), "{message}");
}
