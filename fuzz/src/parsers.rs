//! What is fuzzed: one function for each parser. It takes bytes, and a folder for the files of parsers that read files.
//!
//! A function panics if a promise is broken: a parser panics, or an error takes several lines.

use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use candle_vision_data::transforms::{ComposeDescription, Transforms};
use candle_vision_data::{
    DataSets, Dataset, DecodedImages, Fingerprint, Image, ImageTable, Mnist, OpenRequest, ReadAt,
    ReadOptions, Remote, Samples, ShardOptions, Shards, Split, TableOptions,
};
use candle_vision_fetch::{ArchiveKind, Limits, check_safetensors_header, unpack};
use candle_vision_models::weights::WeightFile;
use candle_vision_registry::Description;
use candle_vision_train::{Checkpoint, RunFolder};
use flate2::Compression;
use flate2::read::GzEncoder;
use serde_json::json;

/// A parser, by name.
pub struct Parser {
    /// The name of its target and of the folder of its corpus.
    pub name: &'static str,
    /// Reads bytes with it.
    pub read: fn(&[u8], &Path),
}

/// All parsers but that of recipes.
pub const ALL: &[Parser] = &[
    Parser { name: "jpeg", read: image },
    Parser { name: "png", read: image },
    Parser { name: "webp", read: image },
    Parser { name: "gif", read: image },
    Parser { name: "bmp", read: image },
    Parser { name: "tiff", read: image },
    Parser { name: "pnm", read: image },
    Parser { name: "ico", read: image },
    Parser { name: "idx", read: idx },
    Parser { name: "binary_sets", read: binary_sets },
    Parser { name: "mat5", read: mat5 },
    Parser { name: "shard", read: shard },
    Parser { name: "shard_index", read: shard_index },
    Parser { name: "decoded", read: decoded },
    Parser { name: "table", read: table },
    Parser { name: "parquet", read: parquet },
    Parser { name: "lists", read: lists },
    Parser { name: "torch_zip", read: torch_zip },
    Parser { name: "torch_legacy", read: torch_legacy },
    Parser { name: "safetensors", read: safetensors },
    Parser { name: "weights_index", read: weights_index },
    Parser { name: "checkpoint", read: checkpoint },
    Parser { name: "description", read: description },
    Parser { name: "run_tables", read: run_tables },
    Parser { name: "archive_zip", read: archive_zip },
    Parser { name: "archive_tar", read: archive_tar },
];

/// The limit on pixels while fuzzing. The default would take seconds and gigabytes for an input of some bytes, as it should.
pub const MAX_PIXELS: u64 = 1 << 18;

/// How many samples are read of a data set.
const SAMPLES: usize = 4;

static DATA_SETS: LazyLock<DataSets> = LazyLock::new(DataSets::standard);
static TRANSFORMS: LazyLock<Transforms> = LazyLock::new(Transforms::standard);

/// The value, if there is one. An error must say something, and in one line.
#[track_caller]
pub(crate) fn checked<T, E: Error>(result: Result<T, E>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let mut next: Option<&dyn Error> = Some(&error);
    while let Some(error) = next {
        let text = error.to_string();
        let is_line = !text.trim().is_empty() && !text.contains(char::is_control);
        assert!(is_line, "an error is not one line of text: {text:?}");
        next = error.source();
    }
    None
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    if std::fs::write(&path, bytes).is_err() {
        let parent = path.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(parent).expect("the folder can be made");
        std::fs::write(&path, bytes).expect("the file can be written");
    }
    path
}

/// The first byte, which chooses among forms of an input, and the rest.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

fn options() -> ReadOptions {
    ReadOptions::default().with_max_pixels(MAX_PIXELS).with_exif_orientation(true)
}

fn samples(set: &dyn Dataset) {
    for index in 0..set.len().min(SAMPLES) {
        if let Some(sample) = checked(set.sample(index)) {
            assert!((sample.label as usize) < set.classes().len());
        }
        let (_, labels) = (set.name(index), set.label_set(index));
        let is_label = |label: &u32| (*label as usize) < set.classes().len();
        assert!(!set.is_multi_label() || labels.iter().all(is_label));
    }
    set.fingerprint();
}

fn open(name: &str, request: &OpenRequest) {
    let entry = DATA_SETS.get(name).expect("it is a data set of the project");
    if let Some(opened) = checked(entry.open(request)) {
        assert!(opened.remarks.iter().all(|line| !line.contains(char::is_control)));
        samples(&*opened.dataset);
    }
}

/// Every format of images, with what the file says of itself.
pub fn image(bytes: &[u8], _: &Path) {
    if let Some((image, details)) = checked(Image::decode_with_details(bytes, "image", &options()))
    {
        assert!((image.width() * image.height()) as u64 <= MAX_PIXELS);
        assert_eq!(image.pixels().len(), image.width() * image.height() * 3);
        assert!(details.frames > 0 && (1..=8).contains(&details.orientation));
    }
    let reduced = options().with_reduce_to(1 + bytes.len() % 8);
    checked(Image::decode_with(bytes, "image", &reduced));
}

/// MNIST's files: one of images or one of labels, plain or gzipped.
pub fn idx(bytes: &[u8], folder: &Path) {
    const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 3, 9];
    const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 8];
    let (choice, bytes) = choice(bytes);
    let folder = folder.join(if choice & 2 == 0 { "idx" } else { "idx_gz" });
    let (images, labels) = if choice & 1 == 0 { (bytes, LABELS) } else { (IMAGES, bytes) };
    let gzipped = |plain: &[u8]| if plain == bytes { plain.to_vec() } else { gzip(plain) };
    for (name, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
        if choice & 2 == 0 {
            put(&folder, &format!("train-{name}-ubyte"), bytes);
        } else {
            put(&folder, &format!("train-{name}-ubyte.gz"), &gzipped(bytes));
        }
    }
    if let Some(set) = checked(Mnist::open(&folder, Split::Train)) {
        samples(&set);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = GzEncoder::new(bytes, Compression::fast());
    encoder.read_to_end(&mut packed).expect("memory can be read");
    packed
}

/// CIFAR-10, CIFAR-100 and STL-10 in their binary formats.
pub fn binary_sets(bytes: &[u8], folder: &Path) {
    let (choice, bytes) = choice(bytes);
    let root = folder.join("binary_sets");
    let request = OpenRequest::new(&root, Split::Train).read(options());
    match choice % 4 {
        0 => {
            put(&root, "cifar10/train_0.bin", bytes);
            open("cifar10", &request);
        }
        1 => {
            put(&root, "cifar-100-binary/train.bin", bytes);
            open("cifar100", &request.option("coarse", choice & 4 != 0));
        }
        2 => {
            put(&root, "stl10_binary/train_X.bin", bytes);
            put(&root, "stl10_binary/train_y.bin", &[1, 10]);
            open("stl10", &request);
        }
        _ => {
            put(&root, "stl10_binary/train_X.bin", &[7; 2 * 3 * 96 * 96]);
            put(&root, "stl10_binary/train_y.bin", bytes);
            open("stl10", &request);
        }
    }
}

/// MATLAB's files, as SVHN has them.
pub fn mat5(bytes: &[u8], folder: &Path) {
    let root = folder.join("mat5");
    put(&root, "svhn/train_32x32.mat", bytes);
    open("svhn", &OpenRequest::new(&root, Split::Train));
}

/// Bytes in memory as a file on a server.
struct InMemory(Vec<u8>);

impl ReadAt for InMemory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> candle_vision_data::Result<()> {
        let start = usize::try_from(offset).expect("offsets lie in the file");
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

fn open_shards(shard: Vec<u8>, index: Option<Vec<u8>>, options: &ShardOptions) {
    let remote = Remote::new(move |url| match (&index, url.ends_with(".idx")) {
        (Some(index), true) => Ok(Arc::new(InMemory(index.clone()))),
        (None, true) => Err(candle_vision_data::Error::other("not found")),
        (_, false) => Ok(Arc::new(InMemory(shard.clone()))),
    });
    if let Some(shards) = checked(Shards::open_with("http://host/a.tar", options, Some(remote))) {
        assert!(shards.remarks().iter().all(|line| !line.contains(char::is_control)));
        samples(&shards.with_read_options(self::options()));
    }
}

/// A tar shard without an index.
pub fn shard(bytes: &[u8], _: &Path) {
    let (choice, bytes) = choice(bytes);
    let mut options = ShardOptions::new().skip_damaged(choice & 1 != 0);
    if choice & 2 != 0 {
        options = options.classes(["ant", "bee"]);
    }
    let mut shard = bytes.to_vec();
    if choice & 4 != 0 {
        shard.chunks_exact_mut(512).for_each(correct_tar_sum);
    }
    open_shards(shard, None, &options);
}

/// Gives a block the checksum of a tar header. A fuzzer does not guess sums, so the parsers behind them would stay unseen.
fn correct_tar_sum(block: &mut [u8]) {
    if block[257..262] != *b"ustar" {
        return;
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The index of a shard. Its own sum is added.
pub fn shard_index(bytes: &[u8], _: &Path) {
    let (choice, bytes) = choice(bytes);
    let mut index = bytes.to_vec();
    if choice & 1 == 0 {
        index.extend(super::seeds::fnv(bytes).to_le_bytes());
    }
    open_shards(super::seeds::shard(), Some(index), &ShardOptions::new());
}

/// A file of decoded images. The sum of its index is added.
pub fn decoded(bytes: &[u8], folder: &Path) {
    let set = Samples::new(["grey"], [(7_u8, 0); 3], |level| Image::new(2, 2, 1, vec![*level; 4]));
    let set: Arc<dyn Dataset> = Arc::new(set.cacheable());
    let fingerprint = Fingerprint::new("decoded images").text(&set.fingerprint()).text("").finish();
    let index = bytes.split_last_chunk::<8>().and_then(|(before, at)| {
        let at = u64::from_le_bytes(*at);
        Some((at, before.get(usize::try_from(at).ok()?..)?))
    });
    let sum = index.map_or_else(String::new, |(at, index)| {
        let sum = Fingerprint::new("index of decoded images").text(&fingerprint);
        sum.number(at).bytes(index).finish()
    });
    let folder = folder.join("decoded");
    let name = format!("fuzz-{fingerprint}.pixels");
    let path = put(&folder, &name, &[bytes, sum.as_bytes()].concat());
    if let Some(opened) = checked(DecodedImages::open(&folder, "fuzz", "", set, 1, &mut |_, _| {}))
    {
        assert_eq!(opened.path(), path);
        samples(&opened);
        let part = opened
            .sample_part(0, &mut |[height, width]| [height / 2, 0, height - height / 2, width]);
        checked(part);
    }
}

/// Tables of images: CSV, TSV, JSON lines, a JSON list.
pub fn table(bytes: &[u8], folder: &Path) {
    const ENDINGS: [&str; 4] = ["csv", "tsv", "jsonl", "json"];
    let (choice, bytes) = choice(bytes);
    let folder = folder.join("table");
    let ending = ENDINGS[usize::from(choice % 4)];
    let path = put(&folder, &format!("table.{ending}"), bytes);
    for name in ["a.ppm", "b.ppm"] {
        if !folder.join(name).exists() {
            put(&folder, name, b"P6 1 1 255 abc");
        }
    }
    let mut options = TableOptions::new().skip_missing(choice & 4 != 0);
    if choice & 8 != 0 {
        options = options.separator("|");
    }
    if choice & 16 == 0 {
        if let Some(table) = checked(ImageTable::open(&path, &options)) {
            assert!(table.remarks().iter().all(|line| !line.contains(char::is_control)));
            samples(&table);
        }
    } else {
        open("table", &OpenRequest::new("data", Split::Val).path(&path).read(self::options()));
    }
}

/// Parquet files with images.
pub fn parquet(bytes: &[u8], folder: &Path) {
    let path = put(&folder.join("parquet"), "train.parquet", bytes);
    open("parquet", &OpenRequest::new("data", Split::Train).path(path).read(options()));
}

/// The lists of known data sets.
pub fn lists(bytes: &[u8], folder: &Path) {
    let (choice, bytes) = choice(bytes);
    let root = folder.join("lists");
    let request = OpenRequest::new(&root, Split::Train).read(options());
    let image = |path: &str| {
        if !root.join(path).exists() {
            put(&root, path, b"P6 1 1 255 abc");
        }
    };
    match choice % 5 {
        0 => {
            image("oxford-iiit-pet/images/Abyssinian_1.jpg");
            put(&root, "oxford-iiit-pet/annotations/trainval.txt", bytes);
            open("oxford_iiit_pet", &request.option("binary", choice & 8 != 0));
        }
        1 => {
            image("food-101/images/pie/1.jpg");
            put(&root, "food-101/meta/train.json", bytes);
            open("food101", &request);
        }
        2 => {
            image("dtd/dtd/images/banded/banded_1.jpg");
            put(&root, "dtd/dtd/labels/train1.txt", bytes);
            open("dtd", &request);
        }
        3 => {
            image("imagenet/train/n01440764/a.JPEG");
            image("imagenet/val/ILSVRC2012_val_00000001.JPEG");
            put(&root, "imagenet/LOC_val_solution.csv", bytes);
            open("imagenet", &request.split(Split::Val));
        }
        _ => {
            for name in ["image_00001.jpg", "image_00002.jpg"] {
                image(&format!("flowers-102/jpg/{name}"));
            }
            put(&root, "flowers-102/setid.mat", bytes);
            put(&root, "flowers-102/imagelabels.mat", bytes);
            open("flowers102", &request);
        }
    }
}

fn weights(path: &Path) {
    if let Some(file) = checked(WeightFile::read(path)) {
        for tensor in file.tensors.values() {
            assert!(tensor.is_contiguous());
            tensor.flatten_all().expect("a tensor that was read is whole");
        }
    }
}

/// PyTorch's zip archives.
pub fn torch_zip(bytes: &[u8], folder: &Path) {
    weights(&put(folder, "weights.pth", bytes));
}

/// PyTorch's older files, or the pickle of a newer one.
pub fn torch_legacy(bytes: &[u8], folder: &Path) {
    let (choice, bytes) = choice(bytes);
    if choice & 1 == 0 {
        weights(&put(folder, "legacy.pth", bytes));
    } else {
        // The archive's sum would hide the pickle from the fuzzer.
        weights(&put(folder, "legacy.pth", &super::seeds::torch_archive(bytes)));
    }
}

/// safetensors files, as weights, as a download and as a checkpoint.
pub fn safetensors(bytes: &[u8], folder: &Path) {
    let path = put(folder, "weights.safetensors", bytes);
    weights(&path);
    checked(check_safetensors_header(&path));
    checked(Checkpoint::load(&path));
}

/// The index of weights in several files.
pub fn weights_index(bytes: &[u8], folder: &Path) {
    let folder = folder.join("weights_index");
    if !folder.join("a.safetensors").exists() {
        put(&folder, "a.safetensors", &super::seeds::one_tensor());
    }
    let path = put(&folder, "model.safetensors.index.json", bytes);
    weights(&path);
}

/// The JSON in the header of a checkpoint: the network, the state of the run. The first byte says how many batches the file
/// has the losses of.
pub fn checkpoint(bytes: &[u8], folder: &Path) {
    let (batches, bytes) = choice(bytes);
    let batches = usize::from(batches % 8);
    let end = 8 * batches;
    let column = |at: usize| json!({ "dtype": "F64", "shape": [batches], "data_offsets": [at * end, (at + 1) * end] });
    let header = json!({
        "__metadata__": { "candle_vision": String::from_utf8_lossy(bytes) },
        "history.epoch": column(0), "history.loss": column(1), "history.lr": column(2),
    });
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.resize(file.len() + 3 * end, 0);
    let path = put(folder, "checkpoint.safetensors", &file);
    if let Some(checkpoint) = checked(Checkpoint::load(&path)) {
        let _ = (checkpoint.batch_size(), checkpoint.is_resumable(), checkpoint.finished());
        checked(checkpoint.metadata.preprocessing.build(&TRANSFORMS));
        checked(checkpoint.check_model(&checkpoint.metadata.model));
    }
}

/// Descriptions of parts in JSON: one part, or a list of transforms.
pub fn description(bytes: &[u8], _: &Path) {
    if let Ok(part) = serde_json::from_slice::<Description>(bytes) {
        if let Ok(entry) = TRANSFORMS.get(&part.name) {
            checked(entry.build(&part));
        }
        checked(part.no_settings());
        let text = serde_json::to_string(&part).expect("what was read can be written");
        let again: Description = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(again, part);
    }
    if let Ok(list) = serde_json::from_slice::<ComposeDescription>(bytes)
        && let Some(transforms) = checked(list.build(&TRANSFORMS))
    {
        // What was built describes itself so that the same is built again.
        let whole = transforms.describe();
        assert!(whole.build(&TRANSFORMS).is_ok(), "{whole:?}");
    }
}

/// The tables in the folder of a run.
pub fn run_tables(bytes: &[u8], folder: &Path) {
    let (choice, bytes) = choice(bytes);
    let folder = folder.join("run_tables");
    let name = ["metrics.csv", "batches.csv", "gradients.csv"][usize::from(choice % 3)];
    let path = put(&folder, name, bytes);
    put(&folder, "config.toml", b"");
    if let Some(run) = checked(RunFolder::open(&folder)) {
        if let Some(history) = checked(run.history()) {
            history.peak_memory();
        }
        checked(run.gradients());
    }
    std::fs::remove_file(path).expect("it was written");
}

/// The limits are those of the program, with less data, because a fuzzer should not wait for a disk.
fn unpacked(archive: &Path, kind: ArchiveKind) {
    let target = archive.with_extension("content");
    let limits = Limits { max_bytes: 8 << 20, max_entries: 100, ..Limits::default() };
    if checked(unpack(archive, kind, &target, &limits)).is_some() {
        std::fs::remove_dir_all(&target).expect("it was unpacked");
    }
    assert!(!target.exists(), "an archive that is refused leaves nothing");
}

/// Zip archives of data sets.
pub fn archive_zip(bytes: &[u8], folder: &Path) {
    unpacked(&put(&folder.join("archive"), "a.zip", bytes), ArchiveKind::Zip);
}

/// Gzipped tar archives of data sets.
pub fn archive_tar(bytes: &[u8], folder: &Path) {
    let (choice, bytes) = choice(bytes);
    let mut archive = bytes.to_vec();
    if choice & 1 != 0 {
        archive.chunks_exact_mut(512).for_each(correct_tar_sum);
    }
    if choice & 2 == 0 {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Compression::none());
        packed.write_all(&archive).expect("memory can be written");
        archive = packed.finish().expect("memory can be written");
    }
    unpacked(&put(&folder.join("archive"), "a.tar.gz", &archive), ArchiveKind::TarGz);
}
