//! Parquet files with images.

use std::fs;
use std::sync::Arc;

use candle_vision_data::*;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::tempdir;

use crate::support::*;

/// A file as Hugging Face writes it: row groups of these rows, `None` for a missing image.
pub(crate) fn file(groups: &[&[(Option<u8>, i64)]], names: bool) -> Vec<u8> {
    file_with(groups, names, parquet::basic::Compression::SNAPPY)
}

fn file_with(
    groups: &[&[(Option<u8>, i64)]],
    names: bool,
    compression: parquet::basic::Compression,
) -> Vec<u8> {
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let features =
        r#"{"info": {"features": {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}"#;
    let pairs = vec![KeyValue::new("huggingface".to_owned(), features.to_owned())];
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_key_value_metadata(names.then_some(pairs))
        .build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let images: Vec<ByteArray> =
            rows.iter().filter_map(|(v, _)| Some(pixel((*v)?).into())).collect();
        let levels: Vec<i16> = rows.iter().map(|(v, _)| if v.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![0; rows.len()]), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[test]
fn images_and_classes_are_read_from_row_groups() {
    let root = tempdir().unwrap();
    let train = file(&[&[(Some(5), 0), (Some(6), 1)], &[(Some(7), 1)]], true);
    write(root.path(), "data/train-00000-of-00001.parquet", train);
    write(root.path(), "data/validation-00000-of-00001.parquet", file(&[&[(Some(9), 1)]], true));
    for source in ["parquet", "huggingface"] {
        let set = open(source, &request(root.path(), Split::Train)).unwrap();
        assert_eq!(
            (set.classes(), labels(&*set)),
            (["ant", "bee"].map(str::to_owned).as_slice(), vec![0, 1, 1])
        );
        assert_eq!([0, 1, 2].map(|i| value(&*set, i)), [5, 6, 7]);
        assert!(set.name(2).ends_with(".parquet[2]"));
        assert_eq!(value(&*open(source, &request(root.path(), Split::Val)).unwrap(), 0), 9);
        assert!(!has_test(source, root.path()));
    }
}

#[test]
fn without_validation_images_test_images_stay_test_images() {
    let root = tempdir().unwrap();
    let rows: Vec<(Option<u8>, i64)> = (0..10).map(|n| (Some(n), i64::from(n % 2))).collect();
    write(root.path(), "train.parquet", file(&[&rows], true));
    write(root.path(), "test.parquet", file(&[&[(Some(99), 1)]], true));
    for source in ["parquet", "huggingface"] {
        let of = |split| request(root.path(), split);
        let lengths =
            [Split::Train, Split::Val, Split::Test].map(|s| open(source, &of(s)).unwrap().len());
        assert_eq!((lengths, has_test(source, root.path())), ([8, 2, 1], true));
        assert_eq!(value(&*open(source, &of(Split::Test)).unwrap(), 0), 99);
        assert!(remarks(source, &of(Split::Val)).contains("20 % of the images to train on"));
    }
}

#[test]
fn files_of_a_series_that_are_missing_are_named() {
    let root = tempdir().unwrap();
    let rows: Vec<(Option<u8>, i64)> = (0..10).map(|n| (Some(n), i64::from(n % 2))).collect();
    let name = "data/train-00001-of-00003.parquet";
    write(root.path(), name, file(&[&rows], true));
    check_message(
        open("huggingface", &request(root.path(), Split::Train)),
        &[
            "train-00000-of-00003.parquet` not found",
            "1 of 3 files",
            "`train-00002-of-00003.parquet` too",
        ],
    );
    let alone = request(root.path().join(name), Split::Train);
    assert!(remarks("parquet", &alone).contains("is one of 3 files"));
}

#[test]
fn every_usual_compression_is_read() {
    use parquet::basic::Compression::*;
    let root = tempdir().unwrap();
    for (name, compression) in [
        ("zstd", ZSTD(Default::default())),
        ("gzip", GZIP(Default::default())),
        ("brotli", BROTLI(Default::default())),
        ("lz4", LZ4_RAW),
        ("hadoop", LZ4),
        ("none", UNCOMPRESSED),
    ] {
        let path = format!("{name}.parquet");
        write(root.path(), &path, file_with(&[&[(Some(7), 1), (Some(8), 0)]], true, compression));
        let set = open("parquet", &request(root.path().join(&path), Split::Train)).unwrap();
        assert_eq!((value(&*set, 0), labels(&*set)), (7, vec![1, 0]), "{name}");
    }
}

#[test]
fn a_single_file_is_divided_and_keeps_its_windowed_order() {
    let root = tempdir().unwrap();
    let rows: Vec<(Option<u8>, i64)> = (0..40).map(|n| (Some(n), i64::from(n % 2))).collect();
    let groups: Vec<&[_]> = rows.chunks(10).collect();
    write(root.path(), "all.parquet", file(&groups, false));
    let path = root.path().join("all.parquet");
    let set = |split| open("parquet", &request(&path, split)).unwrap();
    assert_eq!((set(Split::Train).len(), set(Split::Val).len()), (32, 8));
    let mut order = set(Split::Train).shuffled_order(3, 1).unwrap();
    order.sort_unstable();
    assert_eq!(order, (0..32).collect::<Vec<_>>());
}

#[test]
fn damaged_parquet_files_are_errors() {
    let root = tempdir().unwrap();
    let path = root.path().join("x.parquet");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        open("parquet", &request(&path, Split::Train).option("classes", vec!["a", "b"]))
    };
    let whole = file(&[&[(Some(1), 0), (None, 1), (Some(2), 0), (Some(2), 1)]], false);
    let set = read(&whole).unwrap();
    let broken = (0..set.len()).filter_map(|i| set.sample(i).err()).collect::<Vec<_>>();
    assert!(broken.iter().all(Error::is_broken_image) && broken.len() <= 1);
    check_message(read(&whole[..whole.len() - 9]), &["x.parquet", "cannot be read as Parquet"]);
    check_message(
        read(&file(&[&[(Some(1), 2), (Some(1), 0)]], false)),
        &["row 0 of group 0", "label 2", "2 classes"],
    );
    check_message(read(&file(&[&[(Some(1), -1)]], false)), &["no label from 0 on in row 0"]);
    let named = request(&path, Split::Train).option("image", "photo");
    check_message(open("parquet", &named), &["no column `photo`", "`image.bytes`"]);
    // No panic, whatever byte is wrong.
    for place in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        if let Ok(set) = read(&bytes) {
            (0..set.len().min(9)).for_each(|index| drop(set.sample(index)));
        }
    }
}

#[test]
fn more_rows_than_bytes_are_refused() {
    // Labels and images of one value each: a run of any length takes a few bytes.
    let rows = vec![(Some(1), 0); 100_000];
    let bytes = file(&[&rows], true);
    assert!(bytes.len() < 30_000, "{}", bytes.len());
    let root = tempdir().unwrap();
    write(root.path(), "x.parquet", bytes);
    check_message(
        open("parquet", &request(root.path().join("x.parquet"), Split::Train)),
        &["x.parquet", "states 100000 rows", "fetch it again"],
    );
}
