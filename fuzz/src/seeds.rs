//! What fuzzing starts from: small valid inputs of each parser. They are the files of the project's tests, and what is made
//! here in a few lines. So nothing of it lies in the repository twice.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use candle_vision_models::candle_core::{Device, Tensor};
use candle_vision_models::weights::to_safetensors;
use flate2::Compression;
use parquet::basic::Compression as Packing;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Larger files of the tests make poor seeds: a fuzzer works on few bytes at a time.
const MAX_BYTES: usize = 40_000;

/// An image of one pixel.
const PIXEL: &[u8] = b"P6\n1 1\n255\nabc";

/// The seeds of the parser called `name`. `root` is the folder of the repository.
pub fn of(name: &str, root: &Path) -> Vec<Vec<u8>> {
    let reference = root.join("crates/data/tests/reference/images");
    let images = |endings: &[&str]| files(&reference, endings);
    let weights = |prefix: &'static str| {
        let folder = root.join("crates/models/tests/weight_files");
        files(&folder, &["pth", "tar", "bin", "pt"])
            .into_iter()
            .filter(move |bytes| bytes.starts_with(b"PK") == (prefix == "zip"))
    };
    let old_run = root.join("crates/train/tests/fixtures/old_run");
    let runs = ["adam", "cycle", "sgd"].map(|run| old_run.join(run));
    let seeds = match name {
        "jpeg" => images(&["jpg"]),
        "png" => images(&["png"]),
        "webp" => images(&["webp"]),
        "gif" => images(&["gif"]),
        "bmp" => images(&["bmp"]),
        "tiff" => images(&["tif", "tiff"]),
        "pnm" => images(&["pnm", "pbm", "pgm", "ppm", "pam"]),
        "ico" => images(&["ico"]),
        "idx" => idx(),
        "binary_sets" => binary_sets(),
        "mat5" => vec![svhn(false), svhn(true)],
        "shard" => {
            let shards = [shard(), shard_of_lists()];
            shards.iter().flat_map(|shard| (0..8).map(|choice| chosen(choice, shard))).collect()
        }
        "shard_index" => vec![chosen(0, &shard_index()), chosen(0, &shard_index_of_lists())],
        "decoded" => vec![decoded()],
        "table" => tables(),
        "parquet" => parquets(),
        "lists" => lists(),
        "torch_zip" => weights("zip").chain([torch_archive(PICKLE)]).collect(),
        "torch_legacy" => {
            let legacy = weights("pickle").map(|bytes| chosen(0, &bytes));
            legacy.chain([chosen(1, PICKLE)]).collect()
        }
        "safetensors" => {
            let run = runs.iter().flat_map(|run| files(run, &["safetensors"]));
            run.chain([one_tensor()]).collect()
        }
        "weights_index" => vec![
            br#"{"metadata": {"total_size": 8}, "weight_map": {"w": "a.safetensors"}}"#.to_vec(),
        ],
        "checkpoint" => checkpoints(&runs.map(|run| run.join("last.safetensors"))),
        "description" => descriptions(),
        "recipe" => {
            let recipes = files(&root.join("xtask/experiments"), &["toml"]);
            recipes.into_iter().chain([RECIPE.as_bytes().to_vec()]).collect()
        }
        "run_tables" => runs.iter().flat_map(|run| run_tables(run)).collect(),
        "archive_zip" => vec![zip_archive()],
        "archive_tar" => vec![chosen(1, &shard()), chosen(3, &gzip(&shard()))],
        _ => Vec::new(),
    };
    seeds.into_iter().filter(|seed| seed.len() <= MAX_BYTES).collect()
}

/// The files of a folder with one of these endings, except the results that tests expect.
fn files(folder: &Path, endings: &[&str]) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let is_wanted = |path: &&std::path::PathBuf| {
        let name = path.to_string_lossy();
        !name.contains(".expected.") && endings.iter().any(|end| name.ends_with(&format!(".{end}")))
    };
    paths.iter().filter(is_wanted).filter_map(|path| fs::read(path).ok()).collect()
}

fn chosen(choice: u8, bytes: &[u8]) -> Vec<u8> {
    [&[choice], bytes].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).expect("memory can be written");
    packed.finish().expect("memory can be written")
}

fn idx() -> Vec<Vec<u8>> {
    let array = |dims: &[u32], bytes: &[u8]| {
        let mut file = vec![0, 0, 8, dims.len() as u8];
        file.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
        file.extend(bytes);
        file
    };
    let (images, labels) = (array(&[2, 2, 2], &[9; 8]), array(&[2], &[3, 9]));
    vec![
        chosen(0, &images),
        chosen(1, &labels),
        chosen(2, &gzip(&images)),
        chosen(3, &gzip(&labels)),
    ]
}

fn binary_sets() -> Vec<Vec<u8>> {
    let record = |labels: &[u8]| [labels, &[5; 3072]].concat();
    vec![
        chosen(0, &record(&[9])),
        chosen(1, &record(&[3, 99])),
        chosen(2, &[1; 27_648]),
        chosen(3, &[10, 1]),
    ]
}

/// An element of a MATLAB file: type, length, data, padding.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn array(class: u8, dims: &[i32], name: &str, values: Vec<u8>) -> Vec<u8> {
    let flags = element(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
    element(14, &[flags, element(5, &dims), element(1, name.as_bytes()), values].concat())
}

/// SVHN's two arrays and one of each other kind.
fn svhn(is_packed: bool) -> Vec<u8> {
    let text = array(4, &[1, 2], "", element(17, &[b'a', 0, b'b', 0]));
    let names: Vec<u8> = ["id", "words"].iter().flat_map(|name| padded(name)).collect();
    let fields = [element(5, &8_u32.to_le_bytes()), element(1, &names), text.clone(), text.clone()];
    let arrays = [
        array(9, &[32, 32, 3, 1], "X", element(2, &[7; 3072])),
        array(6, &[1, 1], "y", element(4, &[10, 0])),
        array(1, &[1, 2], "cell", [text.clone(), text].concat()),
        array(2, &[1, 1], "struct", fields.concat()),
    ];
    let mut file = b"MATLAB 5.0 MAT-file".to_vec();
    file.resize(124, b' ');
    file.extend([0x00, 0x01, b'I', b'M']);
    for array in arrays {
        if !is_packed {
            file.extend(array);
            continue;
        }
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&array).expect("memory can be written");
        let data = packed.finish().expect("memory can be written");
        file.extend([15_u32.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat());
        file.extend(data);
    }
    file
}

fn padded(name: &str) -> [u8; 8] {
    std::array::from_fn(|i| name.as_bytes().get(i).copied().unwrap_or(0))
}

/// A tar shard with two samples.
pub fn shard() -> Vec<u8> {
    tar(&[("a/0.ppm", PIXEL), ("a/0.cls", b"1"), ("1.ppm", PIXEL), ("1.json", br#"{"label": 0}"#)])
}

/// A tar shard whose samples have several labels, by number or name, and none.
fn shard_of_lists() -> Vec<u8> {
    tar(&[
        ("0.ppm", PIXEL),
        ("0.json", br#"{"label": [1, 0]}"#),
        ("1.ppm", PIXEL),
        ("1.json", b"[]"),
        ("2.ppm", PIXEL),
        ("2.json", br#"{"label": ["bee", 0]}"#),
    ])
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut shard = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        shard.append_data(&mut header, name, *bytes).expect("memory can be written");
    }
    shard.into_inner().expect("memory can be written")
}

/// The index of [`shard`] without its sum.
fn shard_index() -> Vec<u8> {
    index(b"CVSHARD1", [1, 0])
}

/// An index of [`shard`] without its sum, in which the first sample has two labels and the other has none.
fn shard_index_of_lists() -> Vec<u8> {
    let labels = [1_u32, 0].map(u32::to_le_bytes);
    [index(b"CVSHARD2", [2, 0]), labels.concat()].concat()
}

/// An index of [`shard`] whose samples end with a label or a number of labels.
fn index(magic: &[u8], last: [u32; 2]) -> Vec<u8> {
    let mut index = magic.to_vec();
    index.extend((shard().len() as u64).to_le_bytes());
    index.extend(2_u64.to_le_bytes());
    for (offset, last) in [512_u64, 2560].into_iter().zip(last) {
        index.extend(offset.to_le_bytes());
        index.extend((PIXEL.len() as u32).to_le_bytes());
        index.extend(last.to_le_bytes());
    }
    index
}

/// The sum at the end of an index of a shard.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn tables() -> Vec<Vec<u8>> {
    vec![
        chosen(0, b"path,label,split\na.ppm,ant,train\n\"b.ppm\",bee,val\n"),
        chosen(8, b"file_name,labels\na.ppm,ant|bee\nb.ppm,\n"),
        chosen(4, b"image,class\r\na.ppm,0\r\nmissing.ppm,3\r\n"),
        chosen(16, b"path,label,split\na.ppm,0,train\nb.ppm,1,val\n"),
        chosen(1, b"path\tlabel\na.ppm\t0\nb.ppm\t1\n"),
        chosen(2, b"{\"path\": \"a.ppm\", \"label\": \"ant\"}\n{\"path\": \"b.ppm\", \"label\": [\"bee\", 7]}\n"),
        chosen(3, br#"[{"path": "a.ppm", "label": 0, "split": "train"}, {"path": "b.ppm", "label": 1}]"#),
    ]
}

/// Files of each compression, the first with names of classes, and pages of either version.
fn parquets() -> Vec<Vec<u8>> {
    use Packing::{BROTLI, GZIP, LZ4, LZ4_RAW, SNAPPY, UNCOMPRESSED, ZSTD};
    let (gzip, brotli, zstd) =
        (GZIP(Default::default()), BROTLI(Default::default()), ZSTD(Default::default()));
    let first = [SNAPPY, UNCOMPRESSED, gzip, brotli, zstd, LZ4, LZ4_RAW];
    let second = [UNCOMPRESSED, gzip, brotli];
    let first = first.map(|compression| parquet(compression, WriterVersion::PARQUET_1_0));
    let second = second.map(|compression| parquet(compression, WriterVersion::PARQUET_2_0));
    first.into_iter().chain(second).collect()
}

/// A file as Hugging Face writes it, with a row that has no image.
fn parquet(compression: Packing, version: WriterVersion) -> Vec<u8> {
    let schema = "message schema { optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).expect("it is a schema"));
    let features = r#"{"info": {"features": {"label": {"names": ["ant", "bee"]}}}}"#;
    let pairs = vec![KeyValue::new("huggingface".to_owned(), features.to_owned())];
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_key_value_metadata((compression == Packing::SNAPPY).then_some(pairs))
        .build();
    let mut bytes = Vec::new();
    let writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties));
    let mut writer = writer.expect("memory can be written");
    let mut group = writer.next_row_group().expect("memory can be written");
    let images: [ByteArray; 2] = std::array::from_fn(|_| PIXEL.to_vec().into());
    for number in 0..3 {
        let column = group.next_column().expect("memory can be written");
        let mut column = column.expect("the schema has three columns");
        let written = match number {
            0 => column.typed::<ByteArrayType>().write_batch(&images, Some(&[2, 1, 2]), None),
            1 => column.typed::<ByteArrayType>().write_batch(&[], Some(&[0; 3]), None),
            _ => column.typed::<Int64Type>().write_batch(&[0, 1, 1], Some(&[1; 3]), None),
        };
        written.expect("memory can be written");
        column.close().expect("memory can be written");
    }
    group.close().expect("memory can be written");
    writer.close().expect("memory can be written");
    bytes
}

fn lists() -> Vec<Vec<u8>> {
    let numbers = |name: &str, values: [u8; 4]| array(6, &[1, 2], name, element(4, &values));
    let mut flowers = svhn(false)[..128].to_vec();
    flowers.extend(numbers("trnid", [1, 0, 2, 0]));
    flowers.extend(numbers("labels", [102, 0, 7, 0]));
    vec![
        chosen(0, b"Abyssinian_1 1 1 1\n"),
        chosen(1, br#"{"pie": ["pie/1"]}"#),
        chosen(2, b"banded/banded_1.jpg\n"),
        chosen(3, b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n"),
        chosen(4, &flowers),
    ]
}

/// The pickle of `{"w": tensor of 2x3}`.
const PICKLE: &[u8] = b"\x80\x02}S'w'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI16\ntQI2\n(I2\nI3\nt(I3\nI1\ntI00\nccollections\nOrderedDict\n)RtRs.";

/// An archive of PyTorch with this pickle and one storage.
pub fn torch_archive(pickle: &[u8]) -> Vec<u8> {
    archive(&[
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[1; 64]),
    ])
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, options).expect("memory can be written");
        zip.write_all(bytes).expect("memory can be written");
    }
    zip.finish().expect("memory can be written").into_inner()
}

fn zip_archive() -> Vec<u8> {
    archive(&[("set/a.txt", b"text"), ("set/b/c.txt", &[b'x'; 100])])
}

/// A safetensors file with one tensor, called `w`.
pub fn one_tensor() -> Vec<u8> {
    let tensor = Tensor::new(&[1_f32, 2.0], &Device::Cpu).expect("two numbers are a tensor");
    to_safetensors([("w".to_owned(), tensor)]).expect("it is on the CPU")
}

/// A file of decoded images without the sum at its end: two images of 2x2 pixels, and one that is not there.
fn decoded() -> Vec<u8> {
    let mut file = b"candle-vision 1\n\x07\x07\x07\x07\x07\x07\x07\x07".to_vec();
    let at = file.len() as u64;
    for (offset, side, channels) in [(16_u64, 2_u32, 1_u32), (20, 2, 1), (0, 0, 0)] {
        file.extend(offset.to_le_bytes());
        file.extend([side, side, channels, 0].map(u32::to_le_bytes).concat());
    }
    file.extend(at.to_le_bytes());
    file
}

/// The JSON of these checkpoints, each behind the number of batches that it needs.
fn checkpoints(paths: &[std::path::PathBuf]) -> Vec<Vec<u8>> {
    let json = |path: &std::path::PathBuf| -> Option<Vec<u8>> {
        let bytes = fs::read(path).ok()?;
        let length = u64::from_le_bytes(*bytes.first_chunk()?) as usize;
        let header: serde_json::Value = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
        let text = header["__metadata__"]["candle_vision"].as_str()?;
        let steps = header["history.epoch"]["shape"][0].as_u64()?;
        // The state names as many batches as the file has.
        let text = text.replace(&format!("\"step\":{steps}"), &format!("\"step\":{}", steps % 8));
        Some(chosen((steps % 8) as u8, text.as_bytes()))
    };
    paths.iter().filter_map(json).collect()
}

fn descriptions() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": true}"#,
        r#"{"name": "random_resized_crop", "size": 224, "scale": [0.08, 1.0]}"#,
        r#"[{"op": "resize", "size": 256}, {"op": "center_crop", "size": 224}, {"op": "to_tensor"},
            {"op": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}]"#,
        r#"[{"op": "random_crop", "size": 32, "padding": 4}, {"op": "random_horizontal_flip", "p": 0.5},
            {"op": "color_jitter", "brightness": 0.4, "hue": 0.1}, {"op": "random_rotation", "degrees": 10},
            {"op": "to_tensor"}, {"op": "cutout", "size": 8}]"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

const RECIPE: &str = "data = { source = 'insects', batch_size = 8, train = [{ op = 'to_tensor' }], eval = [{ op = 'to_tensor' }] }
model = { architecture = 'gap_cnn', image_size = 128 }
training = { epochs = 2, optimizer = { name = 'adam', lr = 0.003 } }
[[variants]]
model.architecture = 'gap_cnn_deep'
[without_weights.training]
epochs = 3
\0training.optimizer.lr=0.1";

fn run_tables(run: &Path) -> Vec<Vec<u8>> {
    let table = |(choice, name): (u8, &str)| Some(chosen(choice, &fs::read(run.join(name)).ok()?));
    [(0, "metrics.csv"), (1, "batches.csv"), (2, "gradients.csv")]
        .into_iter()
        .filter_map(table)
        .collect()
}
