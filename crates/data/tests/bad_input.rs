//! Input that is wrong in a way that people or servers make it: each is an error that names file, place and remedy, or is left
//! out and counted. `docs/reliability.md` lists these tests.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::Compose;
use candle_vision_data::*;
use flate2::Compression;
use tempfile::tempdir;

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An image of one pixel, in a format that needs no encoder.
const PIXEL: &[u8] = b"P6\n1 1\n255\nabc";

#[track_caller]
fn check_message<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("this must fail").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(!message.contains(char::is_control), "{message}");
}

fn open(name: &str, request: &OpenRequest) -> Result<Arc<dyn Dataset>> {
    Ok(DataSets::standard().get(name)?.open(request)?.dataset)
}

/// An idx file of `count` black images of a megabyte, which gzip packs to a thousandth.
fn black(count: u32) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&[0x803, count, 1024, 1024].map(u32::to_be_bytes).concat()).unwrap();
    (0..count).for_each(|_| packed.write_all(&[0; 1 << 20]).unwrap());
    packed.finish().unwrap()
}

#[test]
fn a_gzipped_file_that_unpacks_to_too_much_is_refused_by_its_header() {
    let root = tempdir().unwrap();
    write(root.path(), "train-images-idx3-ubyte.gz", black(64));
    write(root.path(), "train-labels-idx1-ubyte", [0, 0, 8, 1, 0, 0, 0, 1, 3]);
    check_message(
        Mnist::open(root.path(), Split::Train),
        &["train-images-idx3-ubyte.gz", "states 67108864 bytes", "100 times", "fetch it again"],
    );
}

#[test]
fn a_matlab_file_that_unpacks_to_too_much_is_refused() {
    let root = tempdir().unwrap();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    (0..32).for_each(|_| packed.write_all(&[0; 1 << 20]).unwrap());
    let data = packed.finish().unwrap();
    let mut file = b"MATLAB 5.0 MAT-file".to_vec();
    file.resize(124, b' ');
    file.extend([0x00, 0x01, b'I', b'M']);
    file.extend([15_u32.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat());
    file.extend(data);
    write(root.path(), "svhn/train_32x32.mat", file);
    check_message(
        open("svhn", &OpenRequest::new(root.path(), Split::Train)),
        &["train_32x32.mat", "50 times its size", "fetch it again"],
    );
}

#[test]
fn zeros_of_a_usual_size_are_no_bomb() {
    let root = tempdir().unwrap();
    write(root.path(), "train-images-idx3-ubyte.gz", black(8));
    write(root.path(), "train-labels-idx1-ubyte", [[0, 0, 8, 1, 0, 0, 0, 8], [3; 8]].concat());
    assert_eq!(Mnist::open(root.path(), Split::Train).unwrap().len(), 8);
}

/// A reference image of the tests.
fn reference(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/reference/images").join(name)).unwrap()
}

#[test]
fn images_without_pixels_are_broken() {
    let with_zeros = |name: &str, places: std::ops::Range<usize>| {
        let mut bytes = reference(name);
        bytes[places].fill(0);
        bytes
    };
    let jpeg = |change: std::ops::Range<usize>| {
        let mut bytes = reference("jpeg_420.jpg");
        let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        bytes[frame + change.start..frame + change.end].fill(0);
        bytes
    };
    let cases = [
        ("width.png", with_zeros("png_rgb.png", 16..20)),
        ("height.png", with_zeros("png_rgb.png", 20..24)),
        ("width.bmp", with_zeros("bmp_rgb.bmp", 18..22)),
        ("height.bmp", with_zeros("bmp_rgb.bmp", 22..26)),
        ("height.jpg", jpeg(5..7)),
        ("width.jpg", jpeg(7..9)),
        ("width.ppm", b"P6\n0 1\n255\n".to_vec()),
        ("height.pgm", b"P5\n1 0\n255\n".to_vec()),
        ("both.gif", b"GIF89a\0\0\0\0\0\0\0\x2c\0\0\0\0\0\0\0\0\0\x02\x02\x44\x01\0;".to_vec()),
    ];
    for (name, bytes) in cases {
        let error = Image::decode(&bytes, name).expect_err(name);
        assert!(error.is_broken_image(), "{error}");
        check_message::<()>(Err(error), &[name, "is not a whole image", "remove it"]);
    }
}

/// `tiff` would take 32 bytes for each value before it reads the first.
#[test]
fn a_tiff_with_more_values_than_bytes_is_refused() {
    for (name, at, wide) in [("tiff_rgb_plain.tif", 2, 4), ("tiff_rgb_big.tif", 8, 8)] {
        let mut bytes = reference(name);
        let offset = bytes[if wide == 4 { 4 } else { 8 }..][..4].try_into().unwrap();
        // The count of the first entry, behind the number of entries, the tag and the type.
        let count = u32::from_le_bytes(offset) as usize + at + 4;
        bytes[count..count + 4].copy_from_slice(&8_000_000_u32.to_le_bytes());
        check_message(
            Image::decode(&bytes, "a.tif"),
            &["`a.tif`", "has 8000000 values, more than the file has room for"],
        );
    }
}

/// The decoder of PNG files expects a palette of whole colours, and panics.
#[test]
fn a_panic_of_a_decoder_is_damage() {
    let bytes = include_bytes!("reference/damaged/palette-with-part-of-a-color.png");
    check_message(Image::decode(bytes, "a.png"), &["`a.png`", "it is damaged"]);
}

/// `tiff` would decode all of it, for seconds.
#[test]
fn a_tiff_with_larger_jpeg_data_is_refused() {
    let bytes = include_bytes!("reference/damaged/large-jpeg-in-a-strip.tif");
    check_message(
        Image::decode(bytes, "a.tif"),
        &["`a.tif`", "a strip or tile of 21x33 pixels has JPEG data of 6168x6168"],
    );
}

/// The fuzzer found that `image-webp` would take memory for such a frame before it refuses it.
#[test]
fn a_webp_with_a_larger_frame_is_refused() {
    check_message(
        Image::decode(include_bytes!("reference/damaged/large-frame.webp"), "a.webp"),
        &["`a.webp`", "a frame has 16298x16383 pixels", "larger than the image"],
    );
}

#[test]
fn images_of_one_pixel_are_read_and_scaled() {
    let mut rng = random::generator(1);
    for (name, bytes) in [
        ("a.jpg", reference("jpeg_1x1.jpg")),
        ("a.ppm", PIXEL.to_vec()),
        ("a.pbm", b"P1 1 1 0".to_vec()),
    ] {
        let image = Image::decode(&bytes, name).unwrap();
        assert_eq!((image.width(), image.height()), (1, 1), "{name}");
        for transform in [Compose::imagenet_train(), Compose::imagenet_eval()] {
            assert_eq!(transform.apply(&image, &mut rng).unwrap().shape(), [224, 224, 3], "{name}");
        }
    }
}

#[test]
fn control_characters_in_names_stay_in_their_line() {
    let error = Image::decode(b"nothing", "a\nb\u{1b}[31m.png").unwrap_err();
    check_message::<()>(Err(error), &["`a\\nb\\u{1b}[31m.png` is not a whole image"]);
    let root = tempdir().unwrap();
    write(root.path(), "t.jsonl", r#"{"path": "a\nb.ppm", "label": "x"}"#);
    check_message(
        ImageTable::open(root.path().join("t.jsonl"), &TableOptions::new()),
        &["t.jsonl", "a\\nb.ppm", "line 1", "skip_missing"],
    );
    // What is left out is told in a line too.
    write(root.path(), "b.ppm", PIXEL);
    write(root.path(), "t.csv", "path,label\nb.ppm,x\na\u{1b}b.ppm,x\n");
    let skip = TableOptions::new().skip_missing(true);
    let set = ImageTable::open(root.path().join("t.csv"), &skip);
    assert!(set.is_ok_and(|set| !set.remarks()[0].contains(char::is_control)));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_read_or_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let root = tempdir().unwrap();
    let odd = OsStr::from_bytes(b"\xFFphoto.ppm");
    for class in ["ant", "bee"] {
        write(root.path(), &format!("train/{class}/a.ppm"), PIXEL);
        write(root.path(), &format!("val/{class}/a.ppm"), PIXEL);
    }
    fs::write(root.path().join("train/ant").join(odd), PIXEL).unwrap();
    // The name of a file is only shown.
    let set = ImageFolder::open(root.path(), Split::Train, Default::default()).unwrap();
    assert_eq!(set.len(), 3);
    assert!((0..3).all(|index| set.sample(index).is_ok()));
    // The name of a class goes into reports and checkpoints.
    let class = root.path().join("train").join(OsStr::from_bytes(b"w\xE9spe"));
    fs::create_dir(&class).unwrap();
    fs::write(class.join("a.ppm"), PIXEL).unwrap();
    check_message(
        ImageFolder::open(root.path(), Split::Train, Default::default()),
        &["w\u{fffd}spe", "UTF-8", "rename"],
    );
    // In a shard, names only say which files belong together.
    let mut shard = tar::Builder::new(Vec::new());
    for (ending, content) in [(b"ppm".as_slice(), PIXEL), (b"cls", b"1")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        let name = header.as_mut_bytes();
        name[..2].copy_from_slice(b"\xFF.");
        name[2..5].copy_from_slice(ending);
        header.set_cksum();
        shard.append(&header, content).unwrap();
    }
    write(root.path(), "a.tar", shard.into_inner().unwrap());
    let path = root.path().join("a.tar");
    let shards = Shards::open(path.to_str().unwrap(), &ShardOptions::new()).unwrap();
    assert_eq!((shards.len(), shards.label(0)), (1, 1));
    assert!(shards.sample(0).is_ok());
}

#[test]
fn labels_out_of_range_are_named_with_their_place() {
    let root = tempdir().unwrap();
    write(root.path(), "a.ppm", PIXEL);
    write(root.path(), "t.csv", "path,label\na.ppm,0\na.ppm,5\n");
    let options = TableOptions::new().classes(["ant", "bee"]);
    check_message(
        ImageTable::open(root.path().join("t.csv"), &options),
        &["t.csv", "line 3", "label 5", "2 classes", "correct the label"],
    );
    // A number that is an identifier would make a million classes.
    write(root.path(), "t.csv", "path,label\na.ppm,20260101\n");
    check_message(
        ImageTable::open(root.path().join("t.csv"), &TableOptions::new()),
        &["t.csv", "label 20260101", "65536 classes", "`classes`"],
    );
    write(root.path(), "t.csv", "path,label\na.ppm,65535\n");
    assert_eq!(
        ImageTable::open(root.path().join("t.csv"), &TableOptions::new()).unwrap().classes().len(),
        65_536
    );
    // The same in the index of a shard, which the fuzzer found.
    let mut writer = ShardWriter::new(root.path(), ShardWriterConfig::new("train")).unwrap();
    writer.add("a", "ppm", PIXEL, 4_000_000_000).unwrap();
    writer.finish().unwrap();
    check_message(
        Shards::open(root.path().join("train-000000.tar").to_str().unwrap(), &ShardOptions::new()),
        &["train-000000.tar[0]", "label 4000000000", "1000000 classes", "correct the label"],
    );
    let mut writer = ShardWriter::new(root.path(), ShardWriterConfig::new("few")).unwrap();
    writer.add("a", "ppm", PIXEL, 65_536).unwrap();
    writer.finish().unwrap();
    check_message(
        Shards::open(root.path().join("few-000000.tar").to_str().unwrap(), &ShardOptions::new()),
        &["few-000000.tar[0]", "label 65536", "65536 classes", "correct the label"],
    );
    let record = |label: u8| [&[label], [0; 3072].as_slice()].concat();
    write(root.path(), "train_0.bin", [record(3), record(10)].concat());
    check_message(
        Cifar10::open(root.path(), Split::Train),
        &["train_0.bin", "label 10", "record 1", "fetch it again"],
    );
    let set = Samples::new(["ant", "bee"], [((), 7)], |()| Image::new(1, 1, 1, vec![0]));
    let loader =
        DataLoader::new(Arc::new(set), Compose::imagenet_eval(), LoaderConfig::new(1), Device::Cpu);
    let error = loader.and_then(|loader| loader.epoch(0).next().unwrap().map(|_| ()));
    check_message(error, &["label 7", "2 classes", "correct the label"]);
}

#[test]
fn a_damaged_file_of_decoded_images_is_an_error_that_names_the_remedy() {
    let folder = tempdir().unwrap();
    let set = Samples::new(["grey"], [(7_u8, 0); 5], |level| Image::new(4, 4, 1, vec![*level; 16]));
    let set: Arc<dyn Dataset> = Arc::new(set.with_fingerprint("five").cacheable());
    let open =
        || DecodedImages::open(folder.path(), "train", "", Arc::clone(&set), 1, &mut |_, _| {});
    let path = open().unwrap().path().to_path_buf();
    let whole = fs::read(&path).unwrap();
    let index = whole.len() - 24;
    for place in [0, index - 1, index, index + 8, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        fs::write(&path, bytes).unwrap();
        check_message(open(), &["train-", ".pixels", "remove it"]);
    }
    for length in [0, 15, 39, 40, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        check_message(open(), &["cut off", "remove it"]);
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(open().unwrap().sample(4).unwrap(), set.sample(4).unwrap());
}

/// A data set that says nothing of itself but whether it stays the same.
struct Unknown(bool);

impl Dataset for Unknown {
    fn len(&self) -> usize {
        1
    }

    fn sample(&self, _: usize) -> Result<Sample> {
        Ok(Sample::new(Image::new(1, 1, 1, vec![0])?, 0))
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn is_cacheable(&self) -> bool {
        self.0
    }
}

#[test]
fn decoded_images_need_a_set_that_stays_the_same() {
    let folder = tempdir().unwrap();
    for (stays, reason) in [(false, "the same each time"), (true, "recognised")] {
        let set = Arc::new(Unknown(stays));
        let opened = DecodedImages::open(folder.path(), "train", "", set, 1, &mut |_, _| {});
        check_message(opened, &["`decoded`", reason, "leave it out"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
