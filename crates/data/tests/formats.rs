//! Reading images of every format: against what Pillow decodes (`tests/reference/images`, made by
//! the script there), by content and not by name, within limits, upright.

#[path = "formats/reduced.rs"]
mod reduced;

use std::path::{Path, PathBuf};

use candle_vision_data::transforms::{Compose, functional};
use candle_vision_data::{DEFAULT_MAX_PIXELS, Error, Format, Image, ReadOptions, random};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/images")
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn expected(name: &str) -> Image {
    Image::open(folder().join(format!("{name}.expected.png"))).expect("a PNG")
}

/// The names of all images that have an expectation.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("the folder is in the repository");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".expected.png")?.to_owned())).collect();
    names.sort();
    assert!(names.len() > 80, "{} images", names.len());
    names
}

/// Largest and mean difference of two images of one size.
#[track_caller]
fn difference(name: &str, found: &Image, expected: &Image) -> (u8, f64) {
    let sizes = [found, expected].map(|image| (image.width(), image.height()));
    assert_eq!(sizes[0], sizes[1], "{name}");
    let pairs = found.pixels().iter().zip(expected.pixels());
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().map(|&value| f64::from(value)).sum();
    (differences.iter().copied().max().unwrap_or(0), sum / differences.len() as f64)
}

#[test]
fn every_image_is_as_pillow_decodes_it() {
    for name in names() {
        let bytes = bytes_of(&name);
        // The name says nothing.
        let found =
            Image::decode(&bytes, "photo").unwrap_or_else(|error| panic!("{name}: {error}"));
        let (largest, mean) = difference(&name, &found, &expected(&name));
        // TIFF files may hold JPEG data, which another decoder reads.
        let most = if name.ends_with(".jpg") { (0, 0.0) } else { (1, 1.0) };
        assert!(
            largest <= most.0 && mean <= most.1,
            "{name}: {largest} levels off, {mean} on average"
        );
    }
}

#[test]
fn a_part_of_an_image_is_that_of_the_whole() {
    let reductions = [None, Some(20), Some(10), Some(5)];
    for (name, least) in
        names().into_iter().flat_map(|name| reductions.map(|to| (name.clone(), to)))
    {
        let bytes = bytes_of(&name);
        let options = ReadOptions::default().with_reduce_to(least);
        let whole = Image::decode_with(&bytes, &name, &options).unwrap();
        let (height, width) = (whole.height(), whole.width());
        for seed in 0..6 {
            let mut rng = random::generator(seed);
            let mut range = |length: usize| {
                let first = random::below(&mut rng, length);
                (first, 1 + random::below(&mut rng, length - first))
            };
            let ((top, rows), (left, columns)) = (range(height), range(width));
            let part = [top, left, rows, columns];
            let mut sizes = Vec::new();
            let choose = &mut |size: [usize; 2]| {
                sizes.push(size);
                part
            };
            let found = Image::decode_part_with(&bytes, &name, &options, choose).unwrap();
            let expected = functional::crop(&whole, top, left, rows, columns).unwrap();
            assert!(found == expected, "{name}: {part:?}");
            assert_eq!(sizes, [[height, width]], "{name}");
        }
        for part in [[0, 0, 0, 1], [0, 0, height + 1, width], [height, 0, 1, 1]] {
            let outside = Image::decode_part_with(&bytes, &name, &options, &mut |_| part);
            assert!(outside.is_err(), "{name}: {part:?}");
        }
    }
}

#[test]
fn each_format_is_told_by_its_content() {
    for name in names() {
        let found = Format::of_content(&bytes_of(&name)).unwrap_or_else(|| panic!("{name}"));
        assert!(found.is_readable(), "{name}: {found}");
        let extension = name.rsplit('.').next().unwrap();
        assert_eq!(Format::of_extension(extension), Some(found), "{name}");
    }
    assert_eq!(Format::of_extension("JPE"), Some(Format::Jpeg));
    assert_eq!(Format::of_extension("heic"), Some(Format::Heic));
    assert_eq!(Format::of_extension("txt"), None);
    let words = Format::READABLE_IN_WORDS;
    for format in Format::READABLE {
        let name = format!("{format:?}").to_uppercase();
        assert!(words.to_uppercase().contains(&name), "{format:?} in {words}");
    }
}

#[track_caller]
fn check_refused(bytes: &[u8], parts: &[&str]) {
    let error = Image::decode(bytes, "x.jpg").expect_err("it cannot be read");
    assert!(error.is_broken_image(), "{error}");
    let text = error.to_string();
    for part in parts.iter().chain(&["`x.jpg`", "skip_broken"]) {
        assert!(text.contains(part), "`{part}` in `{text}`");
    }
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn what_cannot_be_read_is_named_by_what_it_is() {
    check_refused(
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        &["holds a HEIC image", "convert it to JPEG"],
    );
    check_refused(
        b"\0\0\0\x1Cftypavif\0\0\0\0mif1miaf",
        &["holds an AVIF image", "convert it to JPEG"],
    );
    check_refused(b"\xFF\x0A\x12\x34", &["JPEG XL"]);
    check_refused(b"8BPS\0\x01", &["Photoshop"]);
    check_refused(b"<svg xmlns='x'></svg>", &["an SVG drawing"]);
    check_refused(b"<!DOCTYPE html><p>404", &["not a whole image", "an HTML page"]);
    check_refused(b"version https://git-lfs.github.com/spec/v1\n", &["Git LFS", "git lfs pull"]);
    check_refused(b"\0\x05\x16\x07\0\x02\0\0", &["macOS"]);
    check_refused(&[0; 100], &["zero bytes"]);
    check_refused(b"no image at all", &["holds text"]);
    check_refused(b"\x01\x02\x03\x04", &["any known format"]);
}

/// The first frame header's marker and what follows, of a JPEG.
fn frame_header(jpeg: &[u8]) -> usize {
    jpeg.windows(2).position(|pair| matches!(pair, [0xFF, 0xC0 | 0xC2])).expect("a frame header")
}

#[test]
fn jpegs_that_are_not_read_say_why() {
    let jpeg = bytes_of("jpeg_444.jpg");
    let at = frame_header(&jpeg);
    let patched = |offset: usize, values: &[u8]| {
        let mut jpeg = jpeg.clone();
        jpeg[at + offset..][..values.len()].copy_from_slice(values);
        jpeg
    };
    check_refused(&patched(1, &[0xC9]), &["it is an arithmetic-coded JPEG"]);
    check_refused(&patched(1, &[0xCA]), &["it is an arithmetic-coded JPEG"]);
    check_refused(&patched(1, &[0xC3]), &["it is a lossless JPEG"]);
    check_refused(&patched(1, &[0xC5]), &["it is a hierarchical JPEG"]);
    check_refused(&patched(1, &[0xF7]), &["it is a JPEG-LS image"]);
    check_refused(&patched(4, &[12]), &["12 bits a sample"]);
    check_refused(&patched(5, &[0, 0]), &["DNL"]);
    check_refused(&patched(5, &[0, 0, 0, 0]), &["an empty image"]);
    check_refused(&jpeg[..at + 6], &["cut off"]);
    check_refused(&[&jpeg[..at], &[0xFF, 0xD9]].concat(), &["ends before any image data"]);
}

#[test]
fn a_jpeg_whose_coded_data_does_not_suffice_is_refused() {
    // 60 bytes of coded data are missing in front of the end marker.
    check_refused(&bytes_of("lost_coded_data.jpg"), &["coded data ends before its last block"]);
    for name in names().iter().filter(|name| name.ends_with(".jpg") && !name.contains("mpo")) {
        let whole = bytes_of(name);
        let image = Image::decode(&whole, name).unwrap();
        let end = whole.windows(2).rposition(|pair| pair == [0xFF, 0xD9]).unwrap();
        for lost in 1..(end / 2).min(100) {
            let lossy = [&whole[..end - lost], &[0xFF, 0xD9]].concat();
            // Within the last byte there may be nothing but padding.
            if let Ok(found) = Image::decode(&lossy, name) {
                assert_eq!(found, image, "{name} without {lost} bytes");
                assert!(lost < 3 || name.contains("two_eoi"), "{name} without {lost} bytes");
            }
        }
    }
}

#[test]
fn what_is_lost_before_a_restart_marker_or_between_scans_is_noticed() {
    for name in ["jpeg_restart.jpg", "jpeg_restart_progressive.jpg", "sampling_22_11_11_each.jpg"] {
        let whole = bytes_of(name);
        let is_marker = |pair: &[u8]| pair[0] == 0xFF && matches!(pair[1], 0xD0..=0xD7 | 0xDA);
        let markers: Vec<usize> = (frame_header(&whole)..whole.len() - 1)
            .filter(|&at| is_marker(&whole[at..at + 2]))
            .collect();
        assert!(markers.len() > 3, "{name}");
        for &at in &markers[2..] {
            let lossy = [&whole[..at - 3], &whole[at..]].concat();
            assert!(Image::decode(&lossy, name).is_err(), "{name} without 3 bytes before {at}");
        }
        // The marker itself, with its number.
        let at = *markers.last().unwrap();
        let lossy = [&whole[..at], &whole[at + 2..]].concat();
        assert!(Image::decode(&lossy, name).is_err(), "{name} without the marker at {at}");
    }
}

#[test]
fn no_cut_file_gives_another_image() {
    for name in names() {
        let whole = bytes_of(&name);
        let image = Image::decode(&whole, &name).unwrap();
        for length in 0..whole.len() {
            // What follows the image may be missing: later frames, metadata, padding.
            if let Ok(found) = Image::decode(&whole[..length], &name) {
                // A number in text can be cut to a shorter one.
                let is_text = name == "pnm_p2.pgm" || name == "pnm_p3.ppm";
                assert!(found == image || is_text, "{name} cut to {length} bytes");
            }
        }
    }
}

#[test]
fn damaged_bytes_of_any_format_never_panic() {
    let options = ReadOptions::default().with_exif_orientation(true).with_max_pixels(1 << 20);
    for (number, name) in names().iter().enumerate() {
        let whole = bytes_of(name);
        for round in 0..120usize {
            let mut damaged = whole.clone();
            for blow in 0..1 + round % 5 {
                // Headers are hit more often than their share.
                let reach = if blow % 2 == 0 { damaged.len() } else { damaged.len().min(100) };
                let at = (number * 31 + round * 7919 + blow * 104_729) % reach;
                damaged[at] = damaged[at].wrapping_mul(31).wrapping_add((round + number) as u8);
            }
            if let Ok(image) = Image::decode_with(&damaged, name, &options) {
                assert_eq!(image.pixels().len(), image.width() * image.height() * 3);
                assert!(image.width() * image.height() <= 1 << 20);
            }
        }
    }
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    let length = (data.len() as u32).to_be_bytes();
    [length.as_slice(), kind, data, &crc.sum().to_be_bytes()].concat()
}

/// A PNG of one bit a pixel, all black.
fn black_png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let row = vec![0; 1 + width.div_ceil(8) as usize];
    for _ in 0..height {
        std::io::Write::write_all(&mut encoder, &row).unwrap();
    }
    let data = encoder.finish().unwrap();
    let parts = [chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", &[])];
    [b"\x89PNG\r\n\x1a\n".to_vec(), parts.concat()].concat()
}

#[test]
fn large_photos_and_panoramas_are_read() {
    for (width, height) in [(12_000, 9_000), (20_000, 500), (3, 40_000)] {
        let image = Image::decode(&black_png(width, height), "large.png").unwrap();
        assert_eq!((image.width(), image.height()), (width as usize, height as usize));
    }
}

#[track_caller]
fn check_too_large(name: &str, bytes: &[u8]) {
    match Image::decode(bytes, name) {
        Err(Error::TooLarge { width, height, max_pixels, .. }) => {
            assert!(width * height > max_pixels, "{name}");
            assert_eq!(max_pixels, DEFAULT_MAX_PIXELS);
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn bombs_are_refused_by_their_headers() {
    let mut png = black_png(8, 8);
    let header =
        [&60_000_u32.to_be_bytes()[..], &60_000_u32.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    png.splice(8..33, chunk(b"IHDR", &header));
    check_too_large("bomb.png", &png);
    let text = Image::decode(&png, "bomb.png").unwrap_err().to_string();
    for part in ["`bomb.png`", "60000x60000", "3600000000", "178956970", "max_pixels"] {
        assert!(text.contains(part), "`{part}` in `{text}`");
    }

    let mut jpeg = bytes_of("jpeg_420.jpg");
    let at = frame_header(&jpeg);
    jpeg[at + 5..at + 9].fill(0xFE);
    check_too_large("bomb.jpg", &jpeg);

    let mut gif = bytes_of("gif_p.gif");
    gif[6..10].fill(0xFE);
    check_too_large("bomb.gif", &gif);

    let mut bmp = bytes_of("bmp_rgb.bmp");
    bmp[18..26].copy_from_slice(&[0x60, 0xEA, 0, 0, 0x60, 0xEA, 0, 0]);
    check_too_large("bomb.bmp", &bmp);

    check_too_large("bomb.pbm", b"P4\n60000 60000\n\0");

    check_too_large("bomb.tif", &tiff(60_000, 60_000, 1));

    // A WebP can have 16,384 pixels a side: more than the limit.
    let mut webp = b"RIFF\x1E\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0".to_vec();
    webp.extend([0xFF, 0x3F, 0, 0xFF, 0x3F, 0]);
    webp.extend(b"VP8L\x06\0\0\0\x2F\xFF\xFF\xFF\x0F\0");
    match Image::decode(&webp, "bomb.webp") {
        Err(error) => assert!(error.is_broken_image(), "{error}"),
        Ok(image) => panic!("{image:?}"),
    }
}

#[test]
fn the_limit_can_be_set() {
    let png = black_png(30, 20);
    let read =
        |most| Image::decode_with(&png, "a.png", &ReadOptions::default().with_max_pixels(most));
    assert!(read(600).is_ok());
    assert!(matches!(
        read(599),
        Err(Error::TooLarge { width: 30, height: 20, max_pixels: 599, .. })
    ));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    std::fs::write(&path, &png).unwrap();
    let options = ReadOptions::default().with_max_pixels(10);
    let error = Image::open_with(&path, &options).unwrap_err();
    assert!(matches!(error, Error::TooLarge { max_pixels: 10, .. }), "{error}");
}

/// EXIF data with nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &[0; 4]].concat()
}

fn jpeg_with(exif: &[u8]) -> Vec<u8> {
    let jpeg = bytes_of("jpeg_420.jpg");
    let length = (exif.len() as u16 + 8).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, b"Exif\0\0", exif, &jpeg[2..]].concat()
}

fn png_with(exif: &[u8]) -> Vec<u8> {
    let png = bytes_of("png_rgb.png");
    [&png[..33], &chunk(b"eXIf", exif), &png[33..]].concat()
}

fn webp_with(exif: &[u8]) -> Vec<u8> {
    let webp = bytes_of("webp_rgb.webp");
    // The simple container has the image's chunk alone; the extended one says size and contents first.
    assert_eq!(&webp[12..16], b"VP8L");
    let header = [b"VP8X\x0A\0\0\0\x08\0\0\0".as_slice(), &[32, 0, 0, 20, 0, 0]].concat();
    let padding = vec![0; exif.len() % 2];
    let length = (exif.len() as u32).to_le_bytes();
    let body = [b"WEBP", &header[..], &webp[12..], b"EXIF", &length, exif, &padding].concat();
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// An uncompressed grey TIFF, with the data of six pixels.
fn tiff(width: u16, height: u16, orientation: u8) -> Vec<u8> {
    let entries: [(u16, u16); 8] = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (274, u16::from(orientation)),
        (278, height),
    ];
    let mut tiff = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in entries.into_iter().chain([(279, 6)]) {
        tiff.extend(tag.to_le_bytes());
        tiff.extend([3, 0, 1, 0, 0, 0]);
        tiff.extend(value.to_le_bytes());
        tiff.extend([0; 2]);
    }
    tiff.extend([0; 4]);
    tiff.extend([10, 20, 30, 40, 50, 60]);
    tiff
}

#[test]
fn images_are_turned_upright_when_asked_to() {
    type Make = fn(u8) -> Vec<u8>;
    let makers: [(&str, Make); 4] = [
        ("jpeg", |orientation| jpeg_with(&exif(orientation))),
        ("png", |orientation| png_with(&exif(orientation))),
        ("webp", |orientation| webp_with(&exif(orientation))),
        ("tiff", |orientation| tiff(3, 2, orientation)),
    ];
    let upright = ReadOptions::default().with_exif_orientation(true);
    for (name, make) in makers {
        let stored = Image::decode(&make(1), name).unwrap();
        for orientation in 1..=8 {
            let bytes = make(orientation);
            assert_eq!(
                Image::decode(&bytes, name).unwrap(),
                stored,
                "{name} {orientation}: as stored"
            );
            let (width, height) = (stored.width() as u32, stored.height() as u32);
            let pixels =
                image::RgbImage::from_raw(width, height, stored.pixels().to_vec()).unwrap();
            let mut turned = image::DynamicImage::ImageRgb8(pixels);
            turned.apply_orientation(image::metadata::Orientation::from_exif(orientation).unwrap());
            let found = Image::decode_with(&bytes, name, &upright).unwrap();
            assert_eq!(found.pixels(), turned.as_bytes(), "{name} {orientation}");
            assert_eq!(found.width(), turned.width() as usize, "{name} {orientation}");
            let choose = &mut |[height, width]: [usize; 2]| [height - 1, 0, 1, width];
            let part = Image::decode_part_with(&bytes, name, &upright, choose).unwrap();
            assert_eq!(part.pixels(), found.row(found.height() - 1), "{name} {orientation}");
        }
    }
}

#[test]
fn exif_data_without_sense_changes_nothing() {
    let upright = ReadOptions::default().with_exif_orientation(true);
    let whole = exif(6);
    let mut odd: Vec<Vec<u8>> =
        (0..whole.len() - 6).map(|length| whole[..length].to_vec()).collect();
    odd.push(exif(0));
    odd.push(exif(9));
    odd.push(b"not EXIF at all".to_vec());
    odd.push([&whole[..4], &[0xFF; 22]].concat());
    for makes in [jpeg_with, png_with, webp_with] {
        let stored = Image::decode(&makes(&exif(1)), "a").unwrap();
        for data in &odd {
            let found = Image::decode_with(&makes(data), "a", &upright);
            assert_eq!(found.unwrap(), stored, "{data:?}");
        }
    }
}

/// `Resize(256)` and `CenterCrop(224)` of torchvision on Pillow's images.
#[test]
fn strips_are_evaluated_as_in_torchvision() {
    for size in ["500x4", "4x500", "1x1", "2000x1", "1x2000"] {
        let open = |name: String| Image::open(folder().join(name)).expect("a PNG");
        let strip = open(format!("strip_{size}.png"));
        let expected = open(format!("strip_{size}.evaluated.png"));
        let rng = &mut random::generator(0);
        let found = Compose::imagenet_eval().apply_to_image(&strip, rng).unwrap();
        let (largest, _) = difference(size, &found, &expected);
        assert!(largest <= 1, "{size}: {largest} levels off");
        for _ in 0..20 {
            let array = Compose::imagenet_train().apply(&strip, rng).unwrap();
            assert_eq!(array.shape(), [224, 224, 3], "{size}");
        }
    }
}
