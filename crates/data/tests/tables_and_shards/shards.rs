//! Tar shards.

use std::fs;
use std::sync::{Arc, Mutex};

use candle_core::Device;
use candle_vision_data::transforms::{Compose, ToTensor};
use candle_vision_data::*;
use tempfile::{TempDir, tempdir};

use crate::support::*;

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
    let empty = tempdir().unwrap();
    check_message(
        open("shards", &request(empty.path(), Split::Train)),
        &["split `train`", "call them `train-000000.tar`"],
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

/// The indices that each of `ranks` processes gets in an epoch, batch by batch.
fn of_ranks(set: &Arc<dyn Dataset>, ranks: usize, from: usize) -> Vec<Vec<Vec<usize>>> {
    let of = |rank: usize| {
        let transform = Compose::new().with(ToTensor);
        let config = LoaderConfig::new(4).shuffle(true).workers(0);
        let loader = DataLoader::new(Arc::clone(set), transform, config, Device::Cpu).unwrap();
        let loader = loader.share(Share::Samples { rank, ranks }).unwrap();
        assert_eq!(loader.shares_files(), ranks > 1);
        loader.epoch_from(2, from).map(|batch| batch.unwrap().indices).collect()
    };
    (0..ranks).map(of).collect()
}

#[test]
fn each_rank_trains_on_shards_of_its_own() {
    let root = packed(83);
    let whole: Arc<dyn Dataset> = Arc::new(shards(&root, &ShardOptions::new().window(5)).unwrap());
    let kept: Vec<usize> = (0..83).filter(|index| index % 7 != 0).collect();
    let part: Arc<dyn Dataset> = Arc::new(Subset::new(Arc::clone(&whole), kept).unwrap());
    for set in [whole, part] {
        for ranks in [1, 2, 3] {
            let found = of_ranks(&set, ranks, 0);
            let seen: Vec<Vec<usize>> = found.iter().map(|batches| batches.concat()).collect();
            let mut all = seen.concat();
            all.sort_unstable();
            assert_eq!(all, (0..set.len()).collect::<Vec<_>>(), "each sample once");
            assert!(found.iter().all(|batches| batches.len() == found[0].len()), "equal steps");
            let shards_of = |indices: &Vec<usize>| {
                let mut names: Vec<String> = indices
                    .iter()
                    .map(|&i| set.name(i).split('[').next().unwrap().to_owned())
                    .collect();
                names.sort();
                names.dedup();
                names.len()
            };
            // Of nine shards, each border between two ranks may cut one, and a subset's borders lie elsewhere by a few.
            let shared: usize = seen.iter().map(shards_of).sum();
            assert!(shared <= 9 + 2 * (ranks - 1), "{ranks} ranks read {shared} shards");
            // A run goes on at any batch.
            let later: Vec<Vec<Vec<usize>>> =
                found.iter().map(|batches| batches[3..].to_vec()).collect();
            assert_eq!(of_ranks(&set, ranks, 3), later);
        }
    }
}

#[test]
fn fewer_shards_than_ranks_are_refused() {
    let root = packed(25);
    let share = |window: usize, ranks: usize| {
        let set = Arc::new(shards(&root, &ShardOptions::new().window(window)).unwrap());
        let (transform, config) = (Compose::new(), LoaderConfig::new(4).shuffle(true).workers(0));
        let loader = DataLoader::new(set, transform.with(ToTensor), config, Device::Cpu).unwrap();
        loader.share(Share::Samples { rank: 0, ranks })
    };
    assert!(share(5, 3).is_ok());
    let error = share(5, 4).unwrap_err().to_string();
    assert!(error.contains("needs 4 shards") && error.contains("there are 3"), "{error}");
    // Shuffled completely, all ranks read from all shards anyway.
    assert!(share(0, 4).is_ok());
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
fn lists_of_labels_are_packed_and_read_with_and_without_an_index() {
    let root = tempdir().unwrap();
    let sets: [&[u32]; 5] = [&[0, 2], &[], &[1], &[2, 1, 0], &[2]];
    let config = ShardWriterConfig::new("train").max_samples(3);
    let mut writer = ShardWriter::new(root.path(), config).unwrap();
    for (n, set) in sets.iter().enumerate() {
        writer.add_labelled(&format!("{n}"), "ppm", &pixel(n as u8), set).unwrap();
    }
    writer.finish().unwrap();
    write_classes(root.path(), &["x", "y", "z"].map(str::to_owned)).unwrap();
    let with = open("shards", &request(root.path(), Split::Train)).unwrap();
    let of = |set: &dyn Dataset| (0..5).map(|i| set.label_set(i)).collect::<Vec<_>>();
    assert!(with.is_multi_label());
    assert_eq!(
        (of(&*with), labels(&*with)),
        (sets.map(<[u32]>::to_vec).into(), vec![0, 0, 1, 2, 2])
    );
    assert_eq!((class_counts(&*with), with.sample(3).unwrap().label), (vec![2, 2, 3], 2));
    assert_eq!(with.image_file(4).unwrap().unwrap(), pixel(4));
    let ranks = |rank| shards(&root, &ShardOptions::new().rank(rank, 2)).unwrap();
    assert_eq!((ranks(0).label_set(0), ranks(1).label_set(1)), (vec![0, 2], vec![2, 1, 0]));

    // An index that is damaged behind its records.
    let index = root.path().join("train-000000.tar.idx");
    let whole = fs::read(&index).unwrap();
    let sum = |bytes: &[u8]| {
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
    };
    let with_sum = |bytes: &[u8]| [bytes, &sum(bytes).to_le_bytes()].concat();
    let content = &whole[..whole.len() - 8];
    assert_eq!(with_sum(content), whole);
    fs::write(&index, with_sum(&content[..content.len() - 4])).unwrap();
    check_message(shards(&root, &ShardOptions::new()), &["000000.tar.idx", "should have 3 labels"]);
    let mut other = content.to_vec();
    *other.last_chunk_mut().unwrap() = 3_u32.to_le_bytes();
    fs::write(&index, with_sum(&other)).unwrap();
    check_message(shards(&root, &ShardOptions::new()), &["000000.tar[2]", "label 3", "3 classes"]);

    for n in 0..2 {
        fs::remove_file(root.path().join(format!("train-00000{n}.tar.idx"))).unwrap();
    }
    let without = shards(&root, &ShardOptions::new()).unwrap();
    assert_eq!((of(&without), without.fingerprint()), (of(&*with), with.fingerprint()));
}

#[test]
fn lists_of_labels_by_other_programs_are_read() {
    let root = tempdir().unwrap();
    let put = |json: &[u8]| {
        let image = pixel(1);
        let rest: [(&str, &[u8]); 5] = [
            ("1.json", json),
            ("2.ppm", &image),
            ("2.json", br#"{"caption": "a", "label": []}"#),
            ("3.ppm", &image),
            ("3.cls", b"1"),
        ];
        write(root.path(), "x.tar", foreign(&[&[("1.ppm", image.as_slice())][..], &rest].concat()));
    };
    let named = ShardOptions::new().classes(["ant", "bee"]);
    let sets = |json: &[u8], options: &ShardOptions| -> Result<Vec<Vec<u32>>> {
        put(json);
        let set = shards(&root, options)?;
        Ok((0..set.len()).map(|index| set.label_set(index)).collect())
    };
    let expected = [vec![1, 0], vec![], vec![1]];
    assert_eq!(sets(br#"{"label": [1, 0]}"#, &ShardOptions::new()).unwrap(), expected);
    assert_eq!(sets(br#"{"label": ["bee", "ant"]}"#, &named).unwrap(), expected);
    assert_eq!(sets(b"[1, 0]", &ShardOptions::new()).unwrap(), expected);
    let fails = |json: &[u8], parts: &[&str]| {
        check_message(
            sets(json, &named),
            &[&["x.tar", "`1.json`", "correct the label"], parts].concat(),
        );
    };
    fails(br#"{"label": [0, 2]}"#, &["label 2", "2 classes"]);
    fails(br#"{"label": [0, 1.5]}"#, &["a list `label`", "neither a name nor a whole number"]);
    fails(br#"{"label": [0, -1]}"#, &["neither a name nor a whole number"]);
    fails(br#"{"label": ["wasp"]}"#, &["`wasp`", "none of 2 classes"]);
    fails(br#"{"labels": [0]}"#, &["list of them in `label`"]);
    fails(br#"{"label": [0"#, &["is no JSON"]);
    let skip = named.clone().skip_damaged(true);
    assert_eq!(sets(br#"{"label": [0, 2]}"#, &skip).unwrap(), expected[1..]);
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
    // Cut off between two images, within the padding of the last one, and in the middle of the end.
    let end = whole.len() - 1024;
    for (bytes, problem) in [
        (4 * 1024, "byte 4096"),
        (end - 300, "empty blocks"),
        (end, "empty blocks"),
        (0, "no bytes"),
    ] {
        fs::write(&shard, &whole[..bytes]).unwrap();
        check_message(open(), &["is cut off", problem, "`tar -cf`"]);
    }
    fs::write(&shard, &whole[..4 * 1024]).unwrap();
    let set = shards(&root, &skip).unwrap();
    assert!(set.len() == 2 && set.remarks()[0].contains("its first 2 samples"), "{set:?}");
    fs::write(&shard, &whole[..whole.len() - 512]).unwrap();
    assert_eq!(open().unwrap().len(), 5, "one empty block is enough");
    fs::write(&shard, b"<html>not found, says the server</html>".repeat(20)).unwrap();
    check_message(open(), &["is no tar file"]);
    fs::write(&shard, [b"\x1F\x8B".as_slice(), &[7; 600]].concat()).unwrap();
    check_message(open(), &["is compressed (gzip)", "`gzip -d`"]);
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

/// A file on a server of a test.
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

#[test]
fn a_packed_folder_on_a_server_is_opened_by_its_indexes() {
    let root = packed(12);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (folder, log) = (root.path().to_path_buf(), Arc::clone(&asked));
    let remote = Remote::new(move |url| {
        let name = url.strip_prefix("https://host/").unwrap();
        log.lock().unwrap().push(name.to_owned());
        let bytes = fs::read(folder.join(name)).map_err(Error::other)?;
        Ok(Arc::new(Memory(bytes)) as Arc<dyn ReadAt>)
    });
    let url = "https://host/train-{000000..000001}.tar";
    let of = |split| {
        OpenRequest::new("data", split)
            .path(url)
            .option("val", "https://host/train-000001.tar")
            .remote(remote.clone())
    };
    let sets = [Split::Train, Split::Val].map(|split| open("shards", &of(split)).unwrap());
    assert_eq!(sets.each_ref().map(|set| set.classes()[2].clone()), ["z", "z"]);
    let names = asked.lock().unwrap().clone();
    assert!(names.iter().all(|name| name.ends_with(".idx") || name == "classes.txt"), "{names:?}");
    assert_eq!((value(&*sets[0], 11), value(&*sets[1], 0)), (11, 10));

    // A shard that is shorter than its index says shows when an image is read.
    let shard = root.path().join("train-000001.tar");
    fs::write(&shard, &fs::read(&shard).unwrap()[..600]).unwrap();
    let set = open("shards", &of(Split::Val)).unwrap();
    check_message(set.sample(set.len() - 1), &["train-000001.tar.idx", "does not fit its shard"]);
}

#[test]
fn addresses_need_a_program_that_opens_them() {
    let url = "https://host/train-{000..001}.tar";
    check_message(
        Shards::open(url, &ShardOptions::new()),
        &["https://host/train-000.tar", "remote"],
    );
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
