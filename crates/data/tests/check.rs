//! The doctor of image folders, on small folders that are wrong in one way each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_vision_data::check::{
    Action, CheckOptions, FileState, Finding, FolderCheck, Severity, check_folder,
};
use candle_vision_data::{ColorMode, FolderSplit, ImageFolder, Split, statistics};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

/// A folder to fill.
struct Place(TempDir);

impl Place {
    /// Two classes with a few unrelated photos in `train/` and `val/`.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (split, count) in [("train", 12), ("val", 4)] {
            for (number, class) in [(0, "ants"), (1, "bees")] {
                for i in 0..count {
                    let seed = number * 100 + i + if split == "val" { 50 } else { 0 };
                    place.jpeg(&format!("{split}/{class}/{i}.jpg"), &blobs(seed, 96, 72), 90);
                }
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("photos").join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn jpeg(&self, name: &str, image: &RgbImage, quality: u8) {
        let mut bytes = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
        image.write_with_encoder(encoder).unwrap();
        self.write(name, bytes);
    }

    fn save(&self, name: &str, image: impl Into<DynamicImage>, format: ImageFormat) {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        self.write(name, bytes.into_inner());
    }

    fn check(&self) -> FolderCheck {
        check_folder(self.path(""), &CheckOptions::new(), |_, _| {}).unwrap()
    }
}

/// A PNG of 40x40 pixels of two colours, one of them transparent.
fn palette_with_alpha() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], content: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(&[name.as_slice(), content].concat());
        bytes.extend((content.len() as u32).to_be_bytes());
        bytes.extend([name.as_slice(), content, &sum.sum().to_be_bytes()].concat());
    };
    chunk(b"IHDR", &[0, 0, 0, 40, 0, 0, 0, 40, 8, 3, 0, 0, 0]);
    chunk(b"PLTE", &[200, 30, 30, 30, 30, 200]);
    chunk(b"tRNS", &[0, 255]);
    let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for y in 0..40_u32 {
        let row = std::iter::once(0).chain((0..40).map(|x| u8::from((x * x + y * 3) % 7 > 3)));
        std::io::Write::write_all(&mut rows, &row.collect::<Vec<u8>>()).unwrap();
    }
    chunk(b"IDAT", &rows.finish().unwrap());
    chunk(b"IEND", &[]);
    bytes
}

/// An image that no other seed has: 5x4 blobs of random colours.
fn blobs(seed: u32, width: u32, height: u32) -> RgbImage {
    let color = |x: u32, y: u32, channel: u32| {
        let mut value = seed.wrapping_mul(0x9E37_79B9) ^ (x * 73 + y * 977 + channel * 7919 + 1);
        for _ in 0..4 {
            value = (value ^ (value >> 15)).wrapping_mul(0x2C1B_3C6D);
        }
        (value >> 24) as u8
    };
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x * 5 / width, y * 4 / height);
        Rgb([color(x, y, 0), color(x, y, 1), color(x, y, 2)])
    })
}

fn of<'a>(check: &'a FolderCheck, code: &str) -> Option<&'a Finding> {
    check.findings.iter().find(|finding| finding.code == code)
}

#[track_caller]
fn check_finding(check: &FolderCheck, code: &str, severity: Severity, files: &[&str]) {
    let finding = of(check, code).unwrap_or_else(|| panic!("no {code}: {:?}", check.findings));
    let found: Vec<&Path> =
        finding.files.iter().map(|&file| check.files[file].path.as_path()).collect();
    assert_eq!((finding.severity, found), (severity, files.iter().map(Path::new).collect()));
}

#[test]
fn a_sound_folder_has_no_findings() {
    let place = Place::new();
    let check = place.check();
    assert_eq!(check.findings, []);
    assert!(!check.fails_training() && check.duplicates.is_empty());
    assert_eq!(check.files.len(), 32);
    let ants = &check.classes[0];
    assert_eq!((ants.name.as_str(), ants.train, ants.val, ants.test), ("ants", 12, 4, 0));
    let sizes = check.sizes.unwrap();
    assert_eq!((sizes.width.median, sizes.height.median, sizes.different), (96.0, 72.0, 1));
    // Of the training images alone.
    let train = ImageFolder::open(place.path(""), Split::Train, FolderSplit::default()).unwrap();
    assert_eq!(check.statistics.unwrap(), statistics(&train).unwrap());
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let place = Place::new();
    place.write("train/ants/bad.jpg", "no image");
    fs::copy(place.path("train/ants/3.jpg"), place.path("val/ants/copy.jpg")).unwrap();
    let json = |threads| {
        let check = check_folder(place.path(""), &CheckOptions::new().threads(threads), |_, _| {});
        serde_json::to_value(check.unwrap()).unwrap()
    };
    assert_eq!(json(1), json(5));
}

#[test]
fn progress_counts_every_file() {
    let mut seen = Vec::new();
    let place = Place::new();
    check_folder(place.path(""), &CheckOptions::new(), |done, all| seen.push((done, all))).unwrap();
    assert_eq!(seen, (1..=32).map(|done| (done, 32)).collect::<Vec<_>>());
}

#[test]
fn files_that_cannot_be_read_fail_training() {
    let place = Place::new();
    let whole = fs::read(place.path("train/ants/0.jpg")).unwrap();
    place.write("train/ants/cut.jpg", &whole[..whole.len() / 2]);
    place.write("train/bees/page.jpg", "<!DOCTYPE html><title>404</title>");
    place.write("val/bees/empty.png", "");
    place.write("val/bees/phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    place.jpeg("train/beside.jpg", &blobs(900, 96, 72), 90);
    place.write("train/readme.txt", "not an image");
    let check = place.check();
    let broken = ["train/ants/cut.jpg", "train/bees/page.jpg"];
    check_finding(&check, "broken", Severity::Error, &broken);
    assert!(check.fails_training());
    let left_out = ["val/bees/empty.png", "val/bees/phone.heic"];
    check_finding(&check, "left_out", Severity::Warning, &left_out);
    check_finding(&check, "outside", Severity::Warning, &["train/beside.jpg"]);
    let reason = |name: &str| {
        let file = check.files.iter().find(|file| file.path == Path::new(name)).unwrap();
        match &file.state {
            FileState::Broken { reason } | FileState::LeftOut { reason } => reason.clone(),
            state => panic!("{state:?}"),
        }
    };
    assert!(reason("train/ants/cut.jpg").contains("cut off"), "{}", reason("train/ants/cut.jpg"));
    assert!(reason("train/bees/page.jpg").contains("an HTML page"));
    assert!(reason("val/bees/phone.heic").contains("HEIC"));
}

#[test]
fn layouts_that_training_refuses_are_errors() {
    let refused = |moves: &[(&str, &str)], part: &str| {
        let place = Place::new();
        for (from, to) in moves {
            fs::create_dir_all(place.path(to).parent().unwrap()).unwrap();
            fs::rename(place.path(from), place.path(to)).unwrap();
        }
        let check = place.check();
        let finding = of(&check, "refused").unwrap_or_else(|| panic!("{:?}", check.findings));
        assert!(finding.message.contains(part), "{}", finding.message);
        assert!(check.fails_training());
        // The files are checked all the same.
        assert!(check.files.len() >= 20, "{moves:?}: {}", check.files.len());
    };
    refused(&[("val/ants", "val/Ants")], "beyond those trained on: `Ants`");
    refused(&[("train", "wrap/data/train"), ("val", "wrap/data/val")], "holds the data set");
    refused(&[("train/ants", "elsewhere/ants")], "single class");
}

#[test]
fn class_names_that_differ_only_in_writing_are_told() {
    let place = Place::new();
    for name in ["Ants", "bees "] {
        place.jpeg(&format!("train/{name}/0.jpg"), &blobs(name.len() as u32 + 700, 96, 72), 90);
    }
    let check = place.check();
    let messages: Vec<&str> = check
        .findings
        .iter()
        .filter(|finding| finding.code == "collision")
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(messages.len(), 2, "{:?}", check.findings);
    assert!(messages[0].contains("`Ants` (1 image), `ants` (16 images)"), "{messages:?}");
    assert!(messages[1].contains("`bees` (16 images), `bees␠` (1 image)"), "{messages:?}");
}

#[test]
fn the_same_images_are_found_inside_and_across_splits_and_classes() {
    let place = Place::new();
    let copy = |from: &str, to: &str| fs::copy(place.path(from), place.path(to)).unwrap();
    copy("train/ants/0.jpg", "val/ants/leak.jpg");
    copy("train/ants/1.jpg", "train/ants/twice.jpg");
    copy("train/ants/2.jpg", "train/bees/wrong.jpg");
    // Nearly the same: half the size and worse quality, brighter.
    place.jpeg("val/bees/small.jpg", &blobs(103, 48, 36), 50);
    let brighter = image::imageops::brighten(&blobs(104, 96, 72), 25);
    place.jpeg("train/bees/brighter.jpg", &brighter, 80);
    let check = place.check();
    let named = |index: usize| check.files[index].path.to_str().unwrap();
    let pairs: Vec<_> = check
        .duplicates
        .iter()
        .map(|pair| {
            let kind = (pair.is_exact, pair.across_splits, pair.across_classes);
            (named(pair.first), named(pair.second), kind)
        })
        .collect();
    assert_eq!(
        pairs,
        [
            ("train/ants/0.jpg", "val/ants/leak.jpg", (true, true, false)),
            ("train/bees/3.jpg", "val/bees/small.jpg", (false, true, false)),
            ("train/ants/2.jpg", "train/bees/wrong.jpg", (true, false, true)),
            ("train/ants/1.jpg", "train/ants/twice.jpg", (true, false, false)),
            ("train/bees/4.jpg", "train/bees/brighter.jpg", (false, false, false)),
        ]
    );
    for (code, severity) in [
        ("leak", Severity::Warning),
        ("conflict", Severity::Warning),
        ("duplicate", Severity::Note),
    ] {
        assert_eq!(of(&check, code).map(|finding| finding.severity), Some(severity));
    }
    assert!(!check.fails_training());
    let only_exact = check_folder(place.path(""), &CheckOptions::new().distance(0), |_, _| {});
    assert!(only_exact.unwrap().duplicates.len() <= pairs.len());
}

#[test]
fn odd_images_are_told() {
    let place = Place::new();
    place.save(
        "train/ants/blank.png",
        RgbImage::from_pixel(50, 50, Rgb([9, 9, 9])),
        ImageFormat::Png,
    );
    place.save("train/ants/tiny.png", blobs(800, 8, 90), ImageFormat::Png);
    let long = blobs(801, 400, 40);
    place.save("train/ants/long.jpg", long, ImageFormat::Png);
    place.save(
        "train/ants/alpha.png",
        DynamicImage::from(blobs(802, 60, 60)).into_rgba8(),
        ImageFormat::Png,
    );
    place.write("train/ants/clear.png", palette_with_alpha());
    place.save(
        "train/ants/deep.png",
        DynamicImage::from(blobs(803, 60, 60)).into_rgb16(),
        ImageFormat::Png,
    );
    place.save(
        "train/ants/grey.jpg",
        DynamicImage::from(blobs(804, 60, 60)).into_luma8(),
        ImageFormat::Jpeg,
    );
    place.write("train/ants/turned.jpg", turned(&fs::read(place.path("val/ants/0.jpg")).unwrap()));
    fs::remove_file(place.path("val/ants/0.jpg")).unwrap();
    place.write("train/ants/film.gif", film());
    let check = place.check();
    use Severity::{Note, Warning};
    check_finding(&check, "blank", Warning, &["train/ants/blank.png"]);
    let small = ["train/ants/film.gif", "train/ants/tiny.png"];
    check_finding(&check, "small", Warning, &small);
    check_finding(&check, "long", Note, &["train/ants/long.jpg", "train/ants/tiny.png"]);
    check_finding(&check, "misnamed", Note, &["train/ants/long.jpg"]);
    check_finding(&check, "alpha", Note, &["train/ants/alpha.png", "train/ants/clear.png"]);
    check_finding(&check, "depth", Note, &["train/ants/deep.png"]);
    check_finding(&check, "grey", Note, &["train/ants/grey.jpg"]);
    check_finding(&check, "orientation", Note, &["train/ants/turned.jpg"]);
    check_finding(&check, "animation", Note, &["train/ants/film.gif"]);
    let facts: BTreeMap<&str, _> = check
        .images()
        .map(|(file, facts)| (file.path.file_name().unwrap().to_str().unwrap(), facts))
        .collect();
    assert_eq!(facts["alpha.png"].details.mode, ColorMode::Rgba);
    assert_eq!(facts["clear.png"].details.mode, ColorMode::PaletteAlpha);
    assert_eq!(facts["film.gif"].details.frames, 2);
    // Turned upright, so its sides are the other way round.
    assert_eq!((facts["turned.jpg"].width, facts["turned.jpg"].details.orientation), (72, 6));
    assert!(!check.fails_training());
}

#[test]
fn skewed_and_small_classes_are_told() {
    let place = Place::new();
    for i in 2..12 {
        fs::remove_file(place.path(&format!("train/bees/{i}.jpg"))).unwrap();
    }
    let check = place.check();
    let skewed = of(&check, "skewed").unwrap();
    assert!(skewed.message.starts_with("the classes are skewed, 6.0 to 1: `ants` has 12"));
    let few = of(&check, "few").unwrap();
    assert!(few.message.contains("1 class with fewer than 10") && few.message.contains("`bees` 2"));
}

#[test]
fn a_folder_that_is_not_split_has_no_leaks_but_a_warning_of_them() {
    let place = Place::new();
    fs::remove_dir_all(place.path("val")).unwrap();
    fs::rename(place.path("train"), place.0.path().join("whole")).unwrap();
    let whole = place.0.path().join("whole");
    fs::copy(whole.join("ants/1.jpg"), whole.join("ants/2b.jpg")).unwrap();
    let check = check_folder(&whole, &CheckOptions::new(), |_, _| {}).unwrap();
    assert_eq!(check.classes[0].not_split, 13);
    let finding = of(&check, "duplicate").unwrap();
    assert!(finding.message.contains("may separate them"), "{}", finding.message);
}

#[test]
fn a_cleaned_copy_is_sound_and_the_original_untouched() {
    let place = Place::new();
    place.write("train/ants/bad.jpg", "no image");
    place.jpeg("train/Ants/0.jpg", &blobs(700, 96, 72), 90);
    let copy = |from: &str, to: &str| fs::copy(place.path(from), place.path(to)).unwrap();
    copy("train/ants/0.jpg", "val/ants/leak.jpg");
    copy("train/ants/2.jpg", "train/bees/wrong.jpg");
    place.save(
        "train/ants/3.png",
        DynamicImage::from(blobs(802, 60, 60)).into_rgba8(),
        ImageFormat::Png,
    );
    let before = listing(&place.path(""));
    let check = place.check();
    let target = place.0.path().join("cleaned");
    let cleaned = check.write_cleaned(&target, &CheckOptions::new(), |_, _| {}).unwrap();
    assert_eq!(listing(&place.path("")), before);
    let again = check_folder(&target, &CheckOptions::new(), |_, _| {}).unwrap();
    assert_eq!(again.findings, []);
    assert!(again.duplicates.is_empty());
    let train = &again.classes;
    // 12 ants, one of `Ants`, one with alpha; less the leak and the one with a doubtful label.
    assert_eq!((train[0].train, train[0].val, train[1].train), (12, 5, 12));
    assert_eq!(train.len(), 2);
    assert_eq!(cleaned.count(Action::LeaveOut), 4);
    assert_eq!(cleaned.count(Action::Convert), 1);
    let list = fs::read_to_string(target.join("cleaning.csv")).unwrap();
    for line in [
        "train/ants/0.jpg,left out,the same file is kept as `val/ants/leak.jpg`,",
        "train/ants/2.jpg,left out,the same file has another class: `train/bees/wrong.jpg`,",
        "train/Ants/0.jpg,copied,class `Ants` is `ants`,train/ants/0.jpg",
        "train/ants/3.png,converted,RGB with alpha made RGB,train/ants/3.png",
    ] {
        assert!(list.lines().any(|found| found == line), "{line}\n{list}");
    }
    let refused = |to: &Path| {
        let error = check.write_cleaned(to, &CheckOptions::new(), |_, _| {}).unwrap_err();
        error.to_string()
    };
    assert!(refused(&target).contains("is there already"));
    assert!(refused(&place.path("train/new")).contains("lies in the folder that was checked"));
    assert!(!place.path("train/new").exists());
    let left = fs::read_dir(place.0.path()).unwrap().count();
    assert_eq!(left, 2, "the folder and its copy, and nothing unfinished");
}

/// Every file below a folder with its bytes.
fn listing(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(listing(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

/// The JPEG with EXIF data that says: needs a quarter turn clockwise.
fn turned(jpeg: &[u8]) -> Vec<u8> {
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xFF, 0xE1, 0, 2 + 6 + tiff.len() as u8]);
    bytes.extend(b"Exif\0\0");
    bytes.extend(tiff);
    bytes.extend(&jpeg[2..]);
    bytes
}

/// A GIF of two frames.
fn film() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 20, 20, &[]).unwrap();
    for seed in [810, 811] {
        let pixels: Vec<u8> = blobs(seed, 20, 20).pixels().map(|color| color.0[0] & 1).collect();
        let palette = [0, 90, 200, 250, 120, 30];
        let frame = gif::Frame::from_palette_pixels(20, 20, pixels, palette, None);
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    bytes
}
