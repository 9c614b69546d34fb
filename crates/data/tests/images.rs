//! Decoding: what is accepted, what it becomes, and what is refused.

use std::io::Cursor;

use candle_vision_data::{Error, Image};
use image::{DynamicImage, ImageFormat};

/// An image with detail everywhere, so that no part of its file is without effect.
fn noisy(width: u32, height: u32) -> DynamicImage {
    let value = |x: u32, y: u32, c: u32| ((x * 31 + y * 57 + c * 91) ^ (x * y)) as u8;
    let pixel = |x, y| image::Rgb([value(x, y, 0), value(x, y, 1), value(x, y, 2)]);
    DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, pixel))
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("the encoder takes it");
    bytes.into_inner()
}

#[track_caller]
fn check_broken(bytes: &[u8], reason_part: &str) {
    match Image::decode(bytes, "some.jpg") {
        Err(Error::BrokenImage { name, reason }) => {
            assert_eq!(name, "some.jpg");
            assert!(reason.contains(reason_part), "{reason}");
        }
        other => panic!("expected a broken image, found {other:?}"),
    }
}

#[test]
fn png_of_any_kind_becomes_rgb() {
    let image = noisy(7, 5);
    let kinds = [
        image.clone(),
        DynamicImage::ImageLuma8(image.to_luma8()),
        DynamicImage::ImageLumaA8(image.to_luma_alpha8()),
        DynamicImage::ImageRgba8(image.to_rgba8()),
        DynamicImage::ImageLuma16(image.to_luma16()),
        DynamicImage::ImageRgb16(image.to_rgb16()),
        DynamicImage::ImageRgba16(image.to_rgba16()),
    ];
    for kind in kinds {
        let image = Image::decode(&encoded(&kind, ImageFormat::Png), "some.png").unwrap();
        assert_eq!((image.width(), image.height(), image.channels()), (7, 5, 3));
        assert_eq!(image.pixels(), kind.to_rgb8().as_raw(), "{:?}", kind.color());
    }
}

#[test]
fn alpha_is_dropped_not_blended() {
    let clear = image::RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 0]));
    let bytes = encoded(&DynamicImage::ImageRgba8(clear), ImageFormat::Png);
    assert_eq!(Image::decode(&bytes, "clear.png").unwrap().pixels(), [10, 20, 30]);
}

#[test]
fn palettes_are_looked_up() {
    // 2x1 pixels of 1 bit: colours 1 and 0 of a palette of red and blue.
    let mut bytes = Vec::new();
    {
        let mut header = b"\x89PNG\r\n\x1a\n".to_vec();
        header.extend(chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 1, 1, 3, 0, 0, 0]));
        header.extend(chunk(b"PLTE", &[255, 0, 0, 0, 0, 255]));
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
        std::io::Write::write_all(&mut encoder, &[0, 0b1000_0000]).unwrap();
        header.extend(chunk(b"IDAT", &encoder.finish().unwrap()));
        header.extend(chunk(b"IEND", &[]));
        bytes.append(&mut header);
    }
    let image = Image::decode(&bytes, "palette.png").unwrap();
    assert_eq!(image.pixels(), [0, 0, 255, 255, 0, 0]);
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    let mut bytes = (data.len() as u32).to_be_bytes().to_vec();
    bytes.extend(kind);
    bytes.extend(data);
    bytes.extend(crc.sum().to_be_bytes());
    bytes
}

#[test]
fn grey_and_colour_jpegs_become_rgb() {
    let grey = encoded(&DynamicImage::ImageLuma8(noisy(20, 9).to_luma8()), ImageFormat::Jpeg);
    let image = Image::decode(&grey, "grey.jpg").unwrap();
    assert_eq!((image.width(), image.height(), image.channels()), (20, 9, 3));
    assert!(image.pixels().as_chunks::<3>().0.iter().all(|&[r, g, b]| r == g && g == b));

    let colour = encoded(&noisy(33, 17), ImageFormat::Jpeg);
    assert_eq!(Image::decode(&colour, "colour.jpg").unwrap().channels(), 3);
}

#[test]
fn cmyk_jpegs_become_rgb_as_in_pillow() {
    // Adobe stores ink inverted: red = stored cyan * stored black / 255.
    let cmyk = tiny_jpeg([200, 100, 50, 255], 0);
    assert_eq!(Image::decode(&cmyk, "cmyk.jpg").unwrap().pixel(3, 3), [200, 100, 50]);
    let dark = tiny_jpeg([200, 100, 50, 128], 0);
    assert_eq!(Image::decode(&dark, "cmyk.jpg").unwrap().pixel(3, 3), [100, 50, 25]);
    // Transform 2 is YCCK: a neutral 100 in YCC is an ink of 155.
    let ycck = tiny_jpeg([100, 128, 128, 255], 2);
    assert_eq!(Image::decode(&ycck, "ycck.jpg").unwrap().pixel(3, 3), [155, 155, 155]);
}

/// One 8x8 block of even colour in four components, which no encoder at hand writes.
fn tiny_jpeg(components: [u8; 4], adobe_transform: u8) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, data: &[u8]| {
        bytes.extend([0xFF, marker]);
        bytes.extend((data.len() as u16 + 2).to_be_bytes());
        bytes.extend(data);
    };
    segment(0xEE, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[adobe_transform]].concat());
    segment(0xDB, &[[0].as_slice(), &[8; 64]].concat());
    let parts: Vec<u8> = (1..=4).flat_map(|id| [id, 0x11, 0]).collect();
    segment(0xC0, &[[8, 0, 8, 0, 8, 4].as_slice(), &parts].concat());
    // First coefficients: lengths 0 to 8, with a code of 4 bits each. Others: only "end of block".
    let dc_counts = [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    segment(0xC4, &[[0x00].as_slice(), &dc_counts, &[0, 1, 2, 3, 4, 5, 6, 7, 8]].concat());
    let ac_counts = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    segment(0xC4, &[[0x10].as_slice(), &ac_counts, &[0]].concat());
    let scan: Vec<u8> = (1..=4).flat_map(|id| [id, 0x00]).collect();
    segment(0xDA, &[[4].as_slice(), &scan, &[0, 63, 0]].concat());

    let mut bits = String::new();
    for value in components {
        // Level shift by 128; the block's first coefficient is 8 times its mean, quantised by 8.
        let level = i32::from(value) - 128;
        let length = (32 - level.unsigned_abs().leading_zeros()) as usize;
        let code = if level < 0 { level + (1 << length) - 1 } else { level };
        bits += &format!("{length:04b}");
        if length > 0 {
            bits += &format!("{code:0length$b}");
        }
        bits += "0";
    }
    while !bits.len().is_multiple_of(8) {
        bits += "1";
    }
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |byte, bit| (byte << 1) | (bit - b'0'));
        bytes.push(byte);
        if byte == 0xFF {
            bytes.push(0);
        }
    }
    bytes.extend([0xFF, 0xD9]);
    bytes
}

#[test]
fn every_cut_of_a_jpeg_is_noticed() {
    let whole = encoded(&noisy(60, 40), ImageFormat::Jpeg);
    assert!(Image::decode(&whole, "whole.jpg").is_ok());
    for length in 0..whole.len() {
        let cut = Image::decode(&whole[..length], "cut.jpg");
        assert!(cut.is_err(), "{length} of {} bytes gave an image", whole.len());
    }
}

#[test]
fn a_thumbnail_does_not_stand_in_for_the_end() {
    let mut bytes = encoded(&noisy(60, 40), ImageFormat::Jpeg);
    let thumbnail = encoded(&noisy(8, 8), ImageFormat::Jpeg);
    let mut segment = vec![0xFF, 0xE1];
    segment.extend((thumbnail.len() as u16 + 2).to_be_bytes());
    segment.extend(thumbnail);
    bytes.splice(2..2, segment);
    assert!(Image::decode(&bytes, "whole.jpg").is_ok());
    check_broken(&bytes[..bytes.len() - 2], "end marker");
}

#[test]
fn bytes_behind_a_jpeg_are_ignored() {
    let mut bytes = encoded(&noisy(20, 20), ImageFormat::Jpeg);
    bytes.extend(b"some trailing notes of a camera");
    assert!(Image::decode(&bytes, "trailing.jpg").is_ok());
}

#[test]
fn cut_or_changed_pngs_are_noticed() {
    let whole = encoded(&noisy(60, 40), ImageFormat::Png);
    for share in [0.3, 0.6, 0.9] {
        let length = (whole.len() as f64 * share) as usize;
        assert!(Image::decode(&whole[..length], "cut.png").is_err());
    }
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 0x10;
    assert!(Image::decode(&changed, "changed.png").is_err());
}

#[test]
fn what_is_no_image_is_named() {
    check_broken(b"", "empty");
    check_broken(b"just some text in a file called .jpg", "does not begin like");
    check_broken(b"BM", "holds text");
}

#[test]
fn missing_files_are_named() {
    let error = Image::open("no/such/image.jpg").unwrap_err();
    assert_eq!(error.to_string(), "cannot read `no/such/image.jpg`");
    assert!(error.is_broken_image());
}

#[test]
fn damaged_bytes_never_panic() {
    let image = noisy(40, 30);
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        let whole = encoded(&image, format);
        for round in 0..1500usize {
            let mut damaged = whole.clone();
            for blow in 0..1 + round % 4 {
                let at = (round * 7919 + blow * 104_729) % damaged.len();
                damaged[at] = damaged[at].wrapping_mul(31).wrapping_add(round as u8);
            }
            // Error or image, both are fine; an image keeps its promise about its size.
            if let Ok(image) = Image::decode(&damaged, "damaged") {
                let expected = image.width() * image.height() * 3;
                assert_eq!(image.pixels().len(), expected);
            }
        }
    }
}
