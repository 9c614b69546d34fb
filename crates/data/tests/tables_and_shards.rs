//! Tables of images, Hugging Face's layouts, Parquet files and tar shards, whole and damaged.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::{Compose, ToTensor};
use candle_vision_data::*;
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

fn pixels(folder: &Path, names: &[&str]) {
    names.iter().enumerate().for_each(|(i, name)| write(folder, name, pixel(i as u8)));
}

fn request(path: impl AsRef<Path>, split: Split) -> OpenRequest {
    OpenRequest::new("data", split).path(path.as_ref())
}

fn open(source: &str, request: &OpenRequest) -> Result<Arc<dyn Dataset>> {
    Ok(DataSets::standard().get(source)?.open(request)?.dataset)
}

fn has_test(source: &str, path: &Path) -> bool {
    let entry = DataSets::standard().get(source).unwrap().clone();
    entry.has_test(&request(path, Split::Train)).unwrap()
}

fn value(set: &dyn Dataset, index: usize) -> u8 {
    set.sample(index).unwrap().image.pixel(0, 0)[0]
}

#[track_caller]
fn check_message<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("this must fail").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

// Tables

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
    check_message(csv("file,species\na.ppm,x\n"), &["t.csv", "`label`", "line 2"]);
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

#[cfg(feature = "parquet")]
mod parquet_files {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// A file as Hugging Face writes it: row groups of these rows, `None` for a missing image.
    pub(super) fn file(groups: &[&[(Option<u8>, i64)]], names: bool) -> Vec<u8> {
        let schema = "message schema {
            optional group image { optional binary bytes; optional binary path (UTF8); }
            optional int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let features = r#"{"info": {"features": {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}"#;
        let pairs = vec![KeyValue::new("huggingface".to_owned(), features.to_owned())];
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .set_key_value_metadata(names.then_some(pairs))
            .build();
        let mut bytes = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            let images: Vec<ByteArray> =
                rows.iter().filter_map(|(v, _)| Some(pixel((*v)?).into())).collect();
            let levels: Vec<i16> =
                rows.iter().map(|(v, _)| if v.is_some() { 2 } else { 1 }).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&[], Some(&vec![0; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
            let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<Int64Type>()
                .write_batch(&labels, Some(&vec![1; rows.len()]), None)
                .unwrap();
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
        write(root.path(), "data/test-00000-of-00001.parquet", file(&[&[(Some(9), 1)]], true));
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
}

// Shards

/// Shards of ten samples each, whose images are their numbers and whose labels are these modulo 3.
fn packed(count: u8) -> TempDir {
    let root = tempdir().unwrap();
    let config = ShardWriterConfig::new("train").max_samples(10);
    let mut writer = ShardWriter::new(root.path(), config).unwrap();
    for n in 0..count {
        writer.add(&format!("a.b/{n:03}"), "ppm", &pixel(n), u32::from(n % 3)).unwrap();
    }
    assert_eq!(writer.finish().unwrap().len(), usize::from(count.div_ceil(10)));
    write_classes(root.path(), &["x", "y", "z"].map(str::to_owned)).unwrap();
    root
}

fn pattern(root: &TempDir, name: &str) -> String {
    root.path().join(name).to_str().unwrap().to_owned()
}

fn shards(root: &TempDir, options: &ShardOptions) -> Result<Shards> {
    Shards::open(root.path().to_str().unwrap(), options)
}

#[test]
fn shards_are_read_with_and_without_an_index() {
    let root = packed(25);
    let with = shards(&root, &ShardOptions::new()).unwrap();
    let all: Vec<u8> = (0..25).map(|i| value(&with, i)).collect();
    assert_eq!(all, (0..25).collect::<Vec<u8>>());
    assert_eq!((with.classes()[1].as_str(), with.label(14)), ("y", 2));
    assert!(with.name(24).ends_with("train-000002.tar[4]"), "{}", with.name(24));
    for n in 0..3 {
        fs::remove_file(root.path().join(format!("train-00000{n}.tar.idx"))).unwrap();
    }
    for pattern in [pattern(&root, "*.tar"), pattern(&root, "train-{000000..000002}.tar")] {
        let without = Shards::open(&pattern, &ShardOptions::new()).unwrap();
        assert_eq!((labels(&without), without.fingerprint()), (labels(&with), with.fingerprint()));
        assert_eq!(value(&without, 24), 24);
    }
}

#[test]
fn ranks_share_all_samples_equally() {
    let root = packed(25);
    let parts: Vec<Shards> =
        (0..4).map(|rank| shards(&root, &ShardOptions::new().rank(rank, 4)).unwrap()).collect();
    assert!(parts.iter().all(|part| part.len() == 6));
    let seen: Vec<u8> = parts.iter().flat_map(|part| (0..6).map(|i| value(part, i))).collect();
    assert_eq!(seen, (0..24).collect::<Vec<u8>>());
    assert!(parts[0].remarks()[0].contains("1 of 25 samples"), "{:?}", parts[0].remarks());
    let mut order = parts[2].shuffled_order(1, 0).unwrap();
    order.sort_unstable();
    assert_eq!(order, (0..6).collect::<Vec<_>>());
    check_message(shards(&root, &ShardOptions::new().rank(4, 4)), &["options.rank", "4"]);
    check_message(shards(&root, &ShardOptions::new().rank(0, 26)), &["options.world_size"]);
}

#[test]
fn an_epoch_is_shuffled_by_a_window_and_resumed_anywhere() {
    let root = packed(40);
    let loader = |workers, window| {
        let set = shards(&root, &ShardOptions::new().window(window)).unwrap();
        let config = LoaderConfig::new(4).shuffle(true).workers(workers).seed(5);
        DataLoader::new(Arc::new(set), Compose::new().with(ToTensor), config, Device::Cpu).unwrap()
    };
    let batches = |workers, first| -> Vec<Vec<usize>> {
        loader(workers, 8).epoch_from(3, first).map(|batch| batch.unwrap().indices).collect()
    };
    let whole = batches(0, 0);
    let mut all = whole.concat();
    assert_ne!(all, (0..40).collect::<Vec<_>>());
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    for workers in [1, 3] {
        assert_eq!(batches(workers, 0), whole);
        assert_eq!(batches(workers, 6), whole[6..]);
    }
    assert_ne!(loader(0, 8).order(4), loader(0, 8).order(3));
    assert_ne!(loader(0, 0).order(3), loader(0, 8).order(3));
}

#[test]
fn the_folder_of_a_pack_has_splits() {
    let root = packed(10);
    let mut writer = ShardWriter::new(root.path(), ShardWriterConfig::new("val")).unwrap();
    writer.add("v", "ppm", &pixel(77), 2).unwrap();
    writer.finish().unwrap();
    assert_eq!(open("shards", &request(root.path(), Split::Train)).unwrap().len(), 10);
    let val = open("shards", &request(root.path(), Split::Val)).unwrap();
    assert_eq!((value(&*val, 0), val.classes()[2].as_str()), (77, "z"));
    assert!(!has_test("shards", root.path()));
    check_message(
        open("shards", &request(root.path(), Split::Test)),
        &["split `test`", "options.test"],
    );
    let wrong = request(root.path(), Split::Train).option("windows", 3);
    check_message(open("shards", &wrong), &["windows", "window"]);
    check_message(
        ShardWriter::new(root.path(), ShardWriterConfig::new("val")),
        &["exists already"],
    );
}

/// A tar file as other programs write it.
fn foreign(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn shards_of_other_programs_are_read() {
    let root = tempdir().unwrap();
    let long = format!("{}/0", "deep".repeat(40));
    let files: &[(&str, &[u8])] = &[
        ("README", b"about"),
        ("s/1.cls", b"1\n"),
        ("s/1.PPM", &pixel(1)),
        ("s/2.json", br#"{"label": 0, "caption": "x"}"#),
        ("s/2.ppm", &pixel(2)),
        ("s/3.ppm", &pixel(3)),
        (&format!("{long}.ppm"), &pixel(4)),
        (&format!("{long}.cls"), b"2"),
    ];
    write(root.path(), "x.tar", foreign(files));
    let set = shards(&root, &ShardOptions::new()).unwrap();
    assert_eq!((labels(&set), set.classes().len()), (vec![1, 0, 2], 3));
    assert_eq!([0, 1, 2].map(|i| value(&set, i)), [1, 2, 4]);
    assert!(
        set.remarks()[0].contains("1 samples without an image or a label"),
        "{:?}",
        set.remarks()
    );
    check_message(
        shards(&root, &ShardOptions::new().classes(["a", "b"])),
        &["x.tar", "label 2", "2 classes"],
    );
    write(root.path(), "x.tar", foreign(&[("1.cls", b"bee"), ("1.ppm", &pixel(1))]));
    check_message(shards(&root, &ShardOptions::new()), &["x.tar", "`bee`", "options.classes"]);
    let named = shards(&root, &ShardOptions::new().classes(["ant", "bee"])).unwrap();
    assert_eq!(named.label(0), 1);
    write(root.path(), "x.tar", foreign(&[("1.txt", b"bee")]));
    check_message(shards(&root, &ShardOptions::new()), &["no samples", "options.image"]);
}

#[test]
fn damaged_shards_are_errors_or_counted() {
    let root = packed(5);
    let shard = root.path().join("train-000000.tar");
    let index = root.path().join("train-000000.tar.idx");
    let (whole, of_whole) = (fs::read(&shard).unwrap(), fs::read(&index).unwrap());
    let open = || shards(&root, &ShardOptions::new());
    // An index that does not fit.
    fs::write(&shard, &whole[..whole.len() - 1024]).unwrap();
    check_message(open(), &["train-000000.tar.idx", "is for a shard of", "remove it"]);
    fs::write(&shard, &whole).unwrap();
    fs::write(&index, &of_whole[..of_whole.len() - 5]).unwrap();
    check_message(open(), &["tar.idx", "is cut off"]);
    let mut flipped = of_whole.clone();
    flipped[40] ^= 1;
    fs::write(&index, &flipped).unwrap();
    check_message(open(), &["tar.idx", "its sum is wrong"]);
    fs::write(&index, b"x").unwrap();
    check_message(open(), &["is no index"]);
    fs::write(&index, &of_whole).unwrap();
    // Another shard of the same size.
    let mut other = whole.clone();
    other.rotate_left(1024);
    fs::write(&shard, &other).unwrap();
    check_message(open().unwrap().sample(0), &["tar.idx", "does not fit its shard"]);

    fs::remove_file(&index).unwrap();
    let mut flipped = whole.clone();
    flipped[2048 + 3] ^= 1;
    fs::write(&shard, &flipped).unwrap();
    check_message(open(), &["train-000000.tar", "is damaged", "byte 2048", "checksum"]);
    // Cut off in the third image, whose files begin at 2 * 2048.
    fs::write(&shard, &whole[..4 * 1024 + 515]).unwrap();
    check_message(
        open(),
        &["train-000000.tar", "is cut off", "a.b/002.ppm", "byte 4608", "3 are there"],
    );
    let skip = ShardOptions::new().skip_damaged(true);
    let set = shards(&root, &skip).unwrap();
    assert_eq!(set.len(), 2);
    assert!(set.remarks()[0].contains("its first 2 samples are used"), "{:?}", set.remarks());
    fs::write(&shard, b"<html>not found, says the server</html>".repeat(20)).unwrap();
    check_message(open(), &["is no tar file"]);
    // No panic, whatever byte is wrong.
    for place in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x41;
        fs::write(&shard, &bytes).unwrap();
        if let Ok(set) = open() {
            (0..set.len()).for_each(|index| drop(set.sample(index)));
        }
    }
}

#[test]
fn addresses_need_a_program_that_opens_them() {
    let url = "https://host/train-{000..001}.tar";
    check_message(
        Shards::open(url, &ShardOptions::new()),
        &["https://host/train-000.tar", "remote"],
    );
    struct Memory(Vec<u8>);
    impl ReadAt for Memory {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            let bytes = self.0.get(offset as usize..offset as usize + buffer.len());
            buffer.copy_from_slice(bytes.ok_or_else(|| Error::other("too short"))?);
            Ok(())
        }
    }
    let remote = Remote::new(|url| {
        let number =
            url.strip_prefix("https://host/train-00").and_then(|rest| rest.strip_suffix(".tar"));
        let number: u8 =
            number.ok_or_else(|| Error::other("404"))?.parse().map_err(Error::other)?;
        let files: &[(&str, &[u8])] = &[("1.ppm", &pixel(number)), ("1.cls", &[b'0' + number])];
        Ok(Arc::new(Memory(foreign(files))) as Arc<dyn ReadAt>)
    });
    let request = OpenRequest::new("data", Split::Train).path(url).remote(remote);
    let set = open("shards", &request).unwrap();
    assert_eq!((labels(&*set), value(&*set, 1)), (vec![0, 1], 1));
    let place = DataSets::standard().get("shards").unwrap().place(&request).unwrap().unwrap();
    assert!(place.exists() && place.is_own);
}
