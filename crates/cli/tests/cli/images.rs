//! Images of other formats, turned by EXIF, too large, or too many that cannot be read.

use std::path::Path;

use candle_vision::data::Image;
use candle_vision::train::Checkpoint;

use crate::support::{Finished, Place};

const BEST: &str = "runs/photos/001/best.safetensors";

fn reference(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/images");
    std::fs::read(folder.join(name)).expect("a reference image")
}

fn train_folder(place: &Place, args: &[&str]) -> Finished {
    let train = ["train", "--folder", "photos", "--model", "alexnet_32", "--epochs", "1"];
    place.run(&[train.as_slice(), args].concat())
}

#[test]
fn a_file_is_read_by_what_it_holds() {
    let place = Place::new();
    place.write_images("photos");
    for (name, image) in [
        ("photos/train/ants/00.jpg", "webp_lossy.webp"),
        ("photos/train/ants/anim.gif", "gif_animated.gif"),
        ("photos/train/bees/a.tif", "tiff_p_lzw.tif"),
        ("photos/train/bees/a.bmp", "bmp_rle8.bmp"),
        ("photos/val/bees/a.ppm", "pnm_rgb.pnm"),
    ] {
        place.write(name, reference(image));
    }
    train_folder(&place, &[]).succeeds();
    let predict = |name| place.run(&["predict", name, "--checkpoint", BEST]);
    predict("photos/train/ants/00.jpg").succeeds();
    place.write("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    predict("phone.jpg").fails(&["`phone.jpg` holds a HEIC image", "convert it to JPEG or PNG"]);
    place.write("phone.jpg", "<!DOCTYPE html><p>Not found");
    predict("phone.jpg").fails(&["`phone.jpg`", "an HTML page"]);
    place.write("photos/train/bees/phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    train_folder(&place, &[]).fails(&["phone.jpg` holds a HEIC image"]);
    let run = train_folder(&place, &["--skip-broken"]).succeeds();
    assert!(run.stderr.contains("phone.jpg: it holds a HEIC image"), "{}", run.stderr);
    assert!(run.stderr.contains("\nleft out: 1 of 17 images"), "{}", run.stderr);
}

/// A JPEG whose EXIF data says that it is to be turned by a quarter.
fn sideways(jpeg: &[u8]) -> Vec<u8> {
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, exif, &jpeg[2..]].concat()
}

#[test]
fn photos_stand_upright_where_the_network_saw_them_so() {
    let place = Place::new();
    place.write_images("photos");
    let jpeg = reference("jpeg_444.jpg");
    place.write("stored.jpg", &jpeg);
    place.write("sideways.jpg", sideways(&jpeg));
    let stored = Image::open(place.path("stored.jpg")).expect("an image");
    let (width, height) = (stored.width() as u32, stored.height() as u32);
    let image =
        image::RgbImage::from_raw(width, height, stored.into_pixels()).expect("its size fits");
    image::imageops::rotate90(&image).save(place.path("upright.png")).expect("a PNG");

    let answers = |checkpoint: &str| {
        ["stored.jpg", "sideways.jpg", "upright.png"].map(|name| {
            let run =
                place.run(&["predict", name, "--checkpoint", checkpoint, "--json"]).succeeds();
            run.stdout.split_once("classes").expect("the answer's classes").1.to_owned()
        })
    };
    let remembers = |checkpoint: &str| {
        Checkpoint::load(place.path(checkpoint)).expect("a checkpoint").metadata.exif_orientation
    };
    train_folder(&place, &[]).succeeds();
    assert!(place.read("runs/photos/001/config.toml").contains("exif_orientation = true"));
    let [stored, sideways, upright] = answers(BEST);
    assert!(remembers(BEST) && sideways == upright && sideways != stored);

    train_folder(&place, &["--set", "data.exif_orientation=false"]).succeeds();
    let raw = "runs/photos/002/best.safetensors";
    let [stored, sideways, upright] = answers(raw);
    assert!(!remembers(raw) && sideways == stored && sideways != upright);
}

#[test]
fn the_limit_of_pixels_is_told_and_can_be_raised() {
    let (place, checkpoint) = Place::trained();
    place.write_photo("photo.jpg", 48);
    let predict = |limit: &str| {
        let mut command = place.command(&["predict", "photo.jpg", "--checkpoint", &checkpoint]);
        command.env("CANDLE_VISION_MAX_PIXELS", limit);
        Finished::of(&command.output().expect("the program starts"))
    };
    predict("2303").fails(&["`photo.jpg`", "48x48", "2303", "CANDLE_VISION_MAX_PIXELS=2304"]);
    predict("2304").succeeds();
    predict("many").fails(&["CANDLE_VISION_MAX_PIXELS is `many`"]);

    place.write_images("photos");
    train_folder(&place, &["--set", "data.max_pixels=1000"]).fails(&["32x32", "`max_pixels`"]);
    train_folder(&place, &["--set", "data.max_pixels=1024"]).succeeds();
}

#[test]
fn a_class_that_loses_all_its_images_ends_the_run() {
    for (split, count) in [("train", 4), ("val", 2)] {
        let place = Place::new();
        place.write_images("photos");
        // So many whole ones that a tenth is not reached.
        for i in 0..60 {
            let whole = std::fs::read(place.path("photos/train/bees/01.jpg")).expect("an image");
            place.write(&format!("photos/train/bees/more{i}.jpg"), whole);
        }
        let folder = place.path(&format!("photos/{split}/ants"));
        for file in std::fs::read_dir(folder).expect("a folder") {
            std::fs::write(file.expect("a file").path(), "no image").expect("a file");
        }
        let counts = format!("the class `ants` has lost all its images ({count})");
        let run = train_folder(&place, &["--skip-broken"]);
        run.fails(&[&counts, &format!("photos/{split}/ants/"), "it holds text"]);
        // Not even a first number was told.
        assert!(!place.path("runs/photos/001/best.safetensors").exists());
    }
}

#[test]
fn a_run_that_loses_over_a_tenth_of_its_images_ends() {
    let place = Place::new();
    place.write_images("photos");
    place.cut("photos/train/ants/00.jpg", 600);
    let run = train_folder(&place, &["--skip-broken"]).succeeds();
    assert!(run.stderr.contains("\nleft out: 1 of 12 images"), "{}", run.stderr);
    place.cut("photos/val/bees/01.jpg", 600);
    train_folder(&place, &["--skip-broken"]).fails(&[
        "2 of 12 images",
        "more than a tenth",
        "cut off",
    ]);
}

#[test]
fn eval_stops_where_a_class_has_no_image_left() {
    let place = Place::new();
    place.write_images("photos");
    train_folder(&place, &[]).succeeds();
    for name in ["photos/val/bees/01.jpg", "photos/val/bees/03.jpg"] {
        place.cut(name, 600);
    }
    let run = place.run(&["eval", "--checkpoint", BEST, "--skip-broken"]);
    run.fails(&["the class `bees` has lost all its images (2)"]);
}
