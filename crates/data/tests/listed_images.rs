//! Folders of images whose classes a list names.

use std::fs;

use candle_vision_data::{Dataset, ImageFolder, Result};

const CLASSES: [&str; 3] = ["tench", "crane", "crane"];
const IDS: [&str; 3] = ["n01440764", "n02012849", "n03126707"];

/// A folder `val` with three images, and the list `name` beside it: the files and their labels.
fn read_list(name: &str, text: &str) -> Result<Vec<(String, u32)>> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("val");
    fs::create_dir(&folder).unwrap();
    for image in ["a.JPEG", "b.JPEG", "c d.JPEG"] {
        fs::write(folder.join(image), "an image").unwrap();
    }
    assert_eq!(ImageFolder::find_list(&folder), None);
    let list = root.path().join(name);
    fs::write(&list, text).unwrap();
    let is_usual = name != "labels.csv";
    assert_eq!(ImageFolder::find_list(&folder), is_usual.then(|| list.clone()));
    let names = |names: [&str; 3]| names.map(str::to_owned);
    let found = ImageFolder::with_list(&folder, &list, &names(CLASSES), &names(IDS))?;
    assert_eq!(found.classes(), names(CLASSES));
    assert_eq!(found.remarks().is_empty(), found.len() == 3, "{:?}", found.remarks());
    let file = |index| found.path(index).file_name().unwrap().to_string_lossy().into_owned();
    Ok((0..found.len()).map(|index| (file(index), found.label(index))).collect())
}

#[track_caller]
fn check(name: &str, text: &str) {
    let found = read_list(name, text).unwrap();
    let expected = [("b.JPEG", 0), ("c d.JPEG", 1), ("a.JPEG", 2)];
    assert_eq!(found, expected.map(|(file, label)| (file.to_owned(), label)));
}

#[test]
fn lists_of_every_usual_form_are_read() {
    check("val.txt", "a.JPEG 2\nb.JPEG 0\n\nc d.JPEG\t1\n");
    check("val.txt", "val/c d.JPEG n02012849\r\nval/a.JPEG n03126707\r\nval/b.JPEG tench\r\n");
    let kaggle = "ImageId,PredictionString\na,n03126707 1 2 3 4 n03126707 5 6 7 8\n\
                  b,n01440764 0 0 9 9\nc d,n02012849 1 1 2 2\n";
    check("LOC_val_solution.csv", kaggle);
    check("labels.csv", "b.JPEG,0\na.JPEG,2\nc d.JPEG,1\n");
    // Images beside those of the list are left out.
    assert_eq!(read_list("val.txt", "a 1").unwrap(), [("a.JPEG".to_owned(), 1)]);
}

#[test]
fn what_does_not_fit_is_one_line() {
    let refused = |name: &str, text: &str, parts: &[&str]| {
        let error = read_list(name, text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    refused("val.txt", "a.JPEG 0\nx.JPEG 1\ny.JPEG 1", &["line 2", "`x.JPEG`", "2 of 3 images"]);
    refused("val.txt", "a.JPEG 0\nb.JPEG 3", &["line 2", "label `3`", "numbers 0 to 2"]);
    refused("val.txt", "a.JPEG n9\nb.JPEG tench", &["line 1", "label `n9`", "none of 3 classes"]);
    refused("val.txt", "a.JPEG crane", &["label `crane`", "identifiers"]);
    refused("val.txt", "a.JPEG 0\nb.JPEG 1\nval/a.JPEG 1", &["`val/a.JPEG`", "line 1", "line 3"]);
    refused("val.txt", "490\n361\n", &["line 1", "the number 490", "another order", "val.txt"]);
    refused("val.txt", "a.JPEG\n", &["line 1", "no class beside `a.JPEG`"]);
    refused("val.txt", "\n", &["names no image"]);
    refused("val.csv", "image,class\na.JPEG\n", &["line 2", "has no class"]);
}
