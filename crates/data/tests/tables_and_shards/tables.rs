//! Tables of images and Hugging Face's folders.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_vision_data::*;
use tempfile::tempdir;

use crate::support::*;

#[test]
fn a_table_says_splits_and_classes() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["i/0.ppm", "i/1.ppm", "i/2.ppm", "i/3.ppm"]);
    let table = root.path().join("all.csv");
    let text = "id,split,file,species\n7,train,0.ppm,wasp\n8,train,1.ppm,ant\n9,validation,2.ppm,ant\n9,test,3.ppm,wasp\n";
    write(root.path(), "all.csv", text);
    let of = |split| request(&table, split).option("label", "species").option("root", "i");
    let train = open("table", &of(Split::Train)).unwrap();
    assert_eq!(
        (train.classes(), labels(&*train)),
        (["ant", "wasp"].map(str::to_owned).as_slice(), vec![1, 0])
    );
    assert_eq!(value(&*open("table", &of(Split::Val)).unwrap(), 0), 2);
    assert_eq!(value(&*open("table", &of(Split::Test)).unwrap(), 0), 3);
    let entry = DataSets::standard().get("table").unwrap().clone();
    assert!(entry.has_test(&of(Split::Train)).unwrap());
    // The same rows with tabs, as JSON lines and as a JSON list.
    write(root.path(), "all.tsv", text.replace(',', "\t"));
    let lines = [("wasp", 0), ("ant", 1)].map(|(class, n)| {
        format!(r#"{{"file": "{n}.ppm", "species": "{class}", "split": "train"}}"#)
    });
    write(root.path(), "all.jsonl", lines.join("\n"));
    write(root.path(), "all.json", format!("[{}]", lines.join(",")));
    for name in ["all.tsv", "all.jsonl", "all.json"] {
        let same = request(root.path().join(name), Split::Train)
            .option("label", "species")
            .option("root", "i");
        let same = open("table", &same).unwrap();
        assert_eq!(
            (labels(&*same), same.fingerprint()),
            (vec![1, 0], train.fingerprint()),
            "{name}"
        );
    }
}

#[test]
fn a_table_without_splits_is_divided() {
    let root = tempdir().unwrap();
    let mut text = "path,label\n".to_owned();
    for n in 0..20 {
        write(root.path(), &format!("{n}.ppm"), pixel(n));
        text += &format!("{n}.ppm,{}\n", n % 2);
    }
    write(root.path(), "t.csv", text);
    let table = root.path().join("t.csv");
    let parts = [Split::Train, Split::Val].map(|s| open("table", &request(&table, s)).unwrap());
    assert_eq!(parts.each_ref().map(|part| class_counts(&**part)), [[8, 8], [2, 2]]);
    assert!(!has_test("table", &table));
    // Another file may be that of the validation images.
    write(root.path(), "v.csv", "path,label\n3.ppm,1\n");
    let with_val = |s| request(&table, s).option("val", "v.csv");
    assert_eq!(open("table", &with_val(Split::Train)).unwrap().len(), 20);
    assert_eq!(open("table", &with_val(Split::Val)).unwrap().len(), 1);
}

#[test]
fn any_usual_delimiter_is_found_in_the_first_line() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["a.ppm", "b,c.ppm"]);
    for delimiter in [";", "\t", "|"] {
        let text = "path;label\na.ppm;x\nb,c.ppm;y\n".replace(';', delimiter);
        write(root.path(), "t.csv", text);
        let set = ImageTable::open(root.path().join("t.csv"), &TableOptions::new()).unwrap();
        assert_eq!((set.len(), set.classes().len()), (2, 2), "{delimiter:?}");
    }
    // A file that is called so has tabs, whatever its columns are called.
    write(root.path(), "a.tsv", "path\tlabel\tplace, date\na.ppm\tx\t1\nb,c.ppm\ty\t2\n");
    let options = TableOptions::new();
    assert_eq!(ImageTable::open(root.path().join("a.tsv"), &options).unwrap().len(), 2);
}

#[test]
fn images_of_two_splits_are_told() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["a.ppm", "b.ppm", "c.ppm"]);
    write(root.path(), "t.csv", "path,label\na.ppm,x\nb.ppm,y\n");
    write(root.path(), "v.csv", "path,label\na.ppm,x\nc.ppm,y\n");
    let of = |split| request(root.path().join("t.csv"), split).option("val", "v.csv");
    let told = remarks("table", &of(Split::Val));
    assert!(told.contains("1 of 2 val images are also training images"), "{told}");
    assert_eq!(remarks("table", &of(Split::Train)), "");
}

#[test]
fn numbers_are_labels_and_names_of_classes_can_be_given() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["a.ppm", "b.ppm"]);
    write(root.path(), "t.csv", "path,label\na.ppm,10\nb.ppm,2\n");
    let table = root.path().join("t.csv");
    let plain = ImageTable::open(&table, &TableOptions::new()).unwrap();
    assert_eq!((plain.classes().len(), labels(&plain)), (11, vec![10, 2]));
    let named = TableOptions::new().classes(["x", "y", "z"]);
    check_message(ImageTable::open(&table, &named), &["t.csv", "line 2", "label 10", "3 classes"]);
    write(root.path(), "t.csv", "path,label\na.ppm,z\nb.ppm,1\n");
    assert_eq!(labels(&ImageTable::open(&table, &named).unwrap()), [2, 1]);
    write(root.path(), "t.csv", "path,label\na.ppm,w\n");
    check_message(ImageTable::open(&table, &named), &["line 2", "`w`", "none of 3 classes"]);
    write(root.path(), "t.csv", "path,label\na.ppm,4000000000\n");
    check_message(ImageTable::open(&table, &TableOptions::new()), &["4000000000", "`classes`"]);
}

#[test]
fn several_labels_become_targets() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["a.ppm", "b.ppm", "c.ppm"]);
    let lines = r#"{"path": "a.ppm", "labels": ["cat", "sofa"]}
{"path": "b.ppm", "labels": []}
{"path": "c.ppm", "labels": ["sofa"]}"#;
    write(root.path(), "t.jsonl", lines);
    let set = open("table", &request(root.path().join("t.jsonl"), Split::Train)).unwrap();
    assert!(set.is_multi_label());
    let set = ImageTable::open(root.path().join("t.jsonl"), &TableOptions::new()).unwrap();
    let targets = multi_hot(&set, &[0, 1, 2]).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(targets, [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]);
    let subset = Subset::new(Arc::new(set), vec![2]).unwrap();
    assert_eq!((subset.is_multi_label(), subset.label_set(0)), (true, vec![1]));
}

/// The names of 60 images in a table of these labels that are for validation, and how many are to train on.
fn kept(label: impl Fn(usize) -> &'static str) -> (Vec<usize>, usize) {
    let root = tempdir().unwrap();
    let mut table = "path,label\n".to_owned();
    for n in 0..60 {
        write(root.path(), &format!("{n:02}.ppm"), pixel(n as u8));
        table += &format!("{n:02}.ppm,{}\n", label(n));
    }
    write(root.path(), "t.csv", table);
    let path = root.path().join("t.csv");
    let of = |split| open("table", &request(&path, split).option("separator", "|")).unwrap();
    let (train, val) = (of(Split::Train), of(Split::Val));
    let numbers: Vec<usize> = (0..val.len()).map(|i| usize::from(value(&*val, i))).collect();
    (numbers, train.len())
}

#[test]
fn a_split_of_single_labels_is_that_from_before_there_were_several() {
    const LABELS: [(&str, u32); 6] =
        [("ant", 0), ("bee", 1), ("ant", 0), ("", 4), ("cat", 2), ("ant", 0)];
    // The only dog is to train on.
    let (found, trained) = kept(|n| if n == 59 { "dog" } else { LABELS[n % 6].0 });
    let labels: Vec<u32> = (0..59).map(|n| LABELS[n % 6].1).collect();
    let parts = stratified_split(&labels, &[0.8, 0.2], 0).unwrap();
    assert_eq!((&found, trained), (&parts[1], parts[0].len() + 1));
}

#[test]
fn a_split_keeps_the_share_of_every_label() {
    // The first label of all is the same, so it says nothing of the others.
    let (found, trained) = kept(|n| match n {
        50.. => "",
        n if n % 5 == 0 => "ant|bee",
        n if n % 5 == 1 => "ant|cat",
        _ => "ant",
    });
    assert_eq!((found.len(), trained), (12, 48));
    let count = |is: fn(usize) -> bool| found.iter().filter(|&&n| is(n)).count();
    let counts =
        [count(|n| n < 50 && n % 5 == 0), count(|n| n < 50 && n % 5 == 1), count(|n| n >= 50)];
    assert_eq!(counts, [2, 2, 2]);
}

#[test]
fn damaged_tables_are_named_with_their_line() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["a.ppm"]);
    let read = |name: &str, text: &[u8], options: &TableOptions| {
        write(root.path(), name, text);
        ImageTable::open(root.path().join(name), options)
    };
    let plain = TableOptions::new();
    let csv = |text: &str| read("t.csv", text.as_bytes(), &plain);
    check_message(
        csv("file,species\na.ppm,x\n"),
        &["t.csv", "line 1", "`label`", "its columns are `file`, `species`"],
    );
    check_message(
        read("t.jsonl", b"{\"path\": \"a.ppm\", \"species\": 1}", &plain),
        &["line 1", "`label`", "its fields are `path`, `species`"],
    );
    // A mark of what has no label.
    check_message(csv("path,label\na.ppm,2\na.ppm,-1\n"), &["line 3", "`-1`", "`classes`"]);
    check_message(
        csv("photo,label\na.ppm,x\n"),
        &["no column", "`file_name`", "its columns are `photo`, `label`"],
    );
    check_message(
        csv("path,label\na.ppm,x\nb.ppm,x\nc.ppm,x\n"),
        &["b.ppm", "line 3", "2 of 3 images"],
    );
    check_message(csv("path,label\na.ppm,\n"), &["line 2 has no label"]);
    check_message(csv("path,label\n,x\n"), &["line 2 has no path"]);
    check_message(csv("path,label\n\"a.ppm,x\n"), &["quote"]);
    check_message(csv("path,label\n"), &["names no images"]);
    check_message(csv(""), &["names no images"]);
    // Several labels or none are possible with a separator, but without any there is nothing to learn.
    let several = TableOptions::new().separator("|");
    check_message(
        read("t.csv", b"path,labels\na.ppm,|\n", &several),
        &["t.csv", "no label in any row", "`classes`"],
    );
    check_message(read("t.csv", b"path,label\na.ppm,\xFF\n", &plain), &["UTF-8", "byte 17"]);
    check_message(
        read("t.jsonl", b"{\"path\": \"a.ppm\", \"label\": 1}\n{", &plain),
        &["line 2", "no JSON object"],
    );
    check_message(
        read("t.jsonl", b"{\"path\": \"a.ppm\", \"label\": 1.5}", &plain),
        &["line 1", "neither a name nor"],
    );
    let skip = plain.clone().skip_missing(true);
    let left = read("t.csv", b"path,label\na.ppm,x\nb.ppm,y\n", &skip).unwrap();
    assert_eq!(left.len(), 1);
    assert!(left.remarks()[0].contains("1 of 2 images are not there"), "{:?}", left.remarks());
    check_message(
        open("table", &request("t.csv", Split::Train).option("lable", "x")),
        &["lable", "label"],
    );
}

// Hugging Face

#[test]
fn hugging_face_metadata_is_read_per_split() {
    let root = tempdir().unwrap();
    pixels(root.path(), &["train/a.ppm", "train/b.ppm", "validation/c.ppm"]);
    write(root.path(), "train/metadata.csv", "file_name,label\na.ppm,dog\nb.ppm,cat\n");
    write(root.path(), "validation/metadata.jsonl", r#"{"file_name": "c.ppm", "label": "dog"}"#);
    let train = open("huggingface", &request(root.path(), Split::Train)).unwrap();
    assert_eq!((train.classes()[0].as_str(), labels(&*train)), ("cat", vec![1, 0]));
    assert_eq!(labels(&*open("huggingface", &request(root.path(), Split::Val)).unwrap()), [1]);
    assert!(!has_test("huggingface", root.path()));
    write(root.path(), "validation/metadata.jsonl", r#"{"file_name": "c.ppm", "label": "cow"}"#);
    check_message(
        open("huggingface", &request(root.path(), Split::Val)),
        &["metadata.jsonl", "`cow`"],
    );
    check_message(open("huggingface", &request(root.path(), Split::Test)), &["test", "metadata"]);
}

#[test]
fn hugging_face_folders_without_labels_are_classes() {
    let root = tempdir().unwrap();
    let mut text = "file_name,text\n".to_owned();
    for n in 0..10 {
        let name = format!("{}/{n}.ppm", if n % 2 == 0 { "cat" } else { "dog" });
        write(root.path(), &name, pixel(n));
        text += &format!("{name},about it\n");
    }
    let plain = open("huggingface", &request(root.path(), Split::Val)).unwrap();
    write(root.path(), "metadata.csv", text);
    let set = open("huggingface", &request(root.path(), Split::Val)).unwrap();
    assert_eq!((class_counts(&*set), class_counts(&*plain)), (vec![1, 1], vec![1, 1]));
}

#[test]
fn hugging_face_splits_are_kept_and_told() {
    let root = tempdir().unwrap();
    let (mut train, mut test) = ("file_name,label\n".to_owned(), "file_name,label\n".to_owned());
    for n in 0..10 {
        let (file, class) = (format!("{n}.ppm"), ["cat", "dog"][usize::from(n % 2)]);
        for (split, rows) in [("train", &mut train), ("test", &mut test)] {
            write(root.path(), &format!("{split}/{file}"), pixel(n));
            write(root.path(), &format!("classes/{split}/{class}/{file}"), pixel(n));
            *rows += &format!("{file},{class}\n");
        }
    }
    let lengths = |path: &Path| {
        assert!(has_test("huggingface", path));
        let told = remarks("huggingface", &request(path, Split::Val));
        assert!(told.contains("20 % of the images to train on"), "{told}");
        [Split::Train, Split::Val, Split::Test]
            .map(|split| open("huggingface", &request(path, split)).unwrap().len())
    };
    assert_eq!(lengths(&root.path().join("classes")), [8, 2, 10]);
    fs::remove_dir_all(root.path().join("classes")).unwrap();
    write(root.path(), "train/metadata.csv", &train);
    write(root.path(), "test/metadata.csv", &test);
    assert_eq!(lengths(root.path()), [8, 2, 10]);
    // One table for both, whose paths say the splits.
    let rows = |text: &str, split: &str| -> String {
        text.lines().skip(1).map(|line| format!("{split}/{line}\n")).collect()
    };
    let both = format!("file_name,label\n{}{}", rows(&train, "train"), rows(&test, "test"));
    write(root.path(), "metadata.csv", &both);
    assert_eq!(lengths(root.path()), [8, 2, 10]);
    let with_val = both.replace("test/", "validation/");
    fs::rename(root.path().join("test"), root.path().join("validation")).unwrap();
    write(root.path(), "metadata.csv", &with_val);
    let of = |split| request(root.path(), split);
    assert_eq!(
        [Split::Train, Split::Val].map(|s| open("huggingface", &of(s)).unwrap().len()),
        [10, 10]
    );
    assert_eq!(remarks("huggingface", &of(Split::Train)), "");
    // Images without a row are counted.
    write(root.path(), "metadata.csv", with_val.replace("train/3.ppm,dog\n", ""));
    let told = remarks("huggingface", &of(Split::Train));
    assert!(told.contains("1 of 20 images") && told.contains("train/3.ppm"), "{told}");
}
