//! Transforms against torchvision (PIL backend): values, recipes and random parameters.

mod augment;
mod own;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_vision_data::Image;
use candle_vision_data::transforms::functional::*;
use candle_vision_data::transforms::*;
use candle_vision_data::{Error, Generator, Result, random};
use own::Stripe;

fn reference(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(file)
}

/// What torchvision makes of the image, by name.
fn expected() -> HashMap<String, Tensor> {
    load("transforms.safetensors")
}

fn load(file: &str) -> HashMap<String, Tensor> {
    let path = reference(file);
    candle_core::safetensors::load(path, &Device::Cpu).expect("the reference file is readable")
}

/// One image of a reference file, as bytes.
fn expected_in(file: &str, name: &str) -> Vec<u8> {
    let file = load(file);
    file[name].flatten_all().and_then(|t| t.to_vec1::<u8>()).expect("u8 values")
}

fn image() -> Image {
    Image::open(reference("image.png")).expect("the reference image is a PNG")
}

fn rng(seed: u64) -> Generator {
    random::generator(seed)
}

#[track_caller]
fn check(name: &str, image: Image, largest_difference: u8) {
    check_in("transforms.safetensors", name, image, largest_difference);
}

#[track_caller]
fn check_in(file: &str, name: &str, image: Image, largest_difference: u8) {
    let shape = [image.height(), image.width(), image.channels()];
    assert_eq!(load(file)[name].dims(), shape, "{name}");
    let expected = expected_in(file, name);
    let differences = image.pixels().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
    let largest = differences.max().expect("an image has pixels");
    assert!(largest <= largest_difference, "{name}: {largest} levels apart");
}

#[test]
fn resizing_is_pillows() {
    use Interpolation::{Bicubic, Bilinear, Nearest};
    let image = image();
    check("resize_32x40_bilinear", resize(&image, 32, 40, Bilinear).unwrap(), 1);
    check("resize_short_24", resize(&image, 24, 32, Bilinear).unwrap(), 1);
    check("resize_96x128_bilinear", resize(&image, 96, 128, Bilinear).unwrap(), 1);
    check("resize_32x40_bicubic", resize(&image, 32, 40, Bicubic).unwrap(), 1);
    check("resize_32x40_nearest", resize(&image, 32, 40, Nearest).unwrap(), 0);
    let part = resized_crop(&image, [5, 7, 30, 40], 32, 32, Bilinear).unwrap();
    check("resized_crop_5_7_30_40_to_32", part, 1);
}

#[test]
fn moved_pixels_are_exact() {
    let image = image();
    check("center_crop_32", center_crop(&image, 32, 32).unwrap(), 0);
    check("center_crop_56x72_padded", center_crop(&image, 56, 72).unwrap(), 0);
    check("hflip", hflip(&image), 0);
    check("vflip", vflip(&image), 0);
    check("pad_4", pad(&image, [4; 4], 0, PaddingMode::Constant).unwrap(), 0);
    check("pad_4_reflect", pad(&image, [4; 4], 0, PaddingMode::Reflect).unwrap(), 0);
}

#[test]
fn colours_are_pillows() {
    let image = image();
    check("grayscale_3", grayscale(&image, 3), 0);
    for factor in [0.6, 1.4] {
        check(&format!("brightness_{factor}"), adjust_brightness(&image, factor), 0);
        check(&format!("contrast_{factor}"), adjust_contrast(&image, factor), 0);
        check(&format!("saturation_{factor}"), adjust_saturation(&image, factor), 0);
    }
    for turn in [-0.1, 0.1, 0.4] {
        check(&format!("hue_{turn}"), adjust_hue(&image, turn), 0);
    }
}

#[test]
fn rotations_are_pillows() {
    let image = image();
    for degrees in [15.0, -30.0, 90.0] {
        let turn = |interpolation| rotate(&image, degrees, interpolation, 0).unwrap();
        check(&format!("rotate_{degrees:.1}_nearest"), turn(Interpolation::Nearest), 0);
        check(&format!("rotate_{degrees:.1}_bilinear"), turn(Interpolation::Bilinear), 0);
    }
}

#[test]
fn to_tensor_and_normalize_are_torchvisions() {
    let compose = Compose::new().with(ToTensor).with(Normalize::imagenet());
    let array = compose.eval(&image()).unwrap();
    let batch = array.to_batch(&Device::Cpu).unwrap();
    let expected = &expected()["to_tensor_normalize_chw_f32"];
    let difference = (batch.squeeze(0).unwrap() - expected).unwrap().abs().unwrap();
    let largest = difference.max_all().unwrap().to_dtype(DType::F64).unwrap();
    assert_eq!(largest.to_scalar::<f64>().unwrap(), 0.0);
}

// Recipes

#[derive(serde::Deserialize)]
struct Recipe {
    train: ComposeDescription,
}

fn described(text: &str) -> ComposeDescription {
    toml::from_str::<Recipe>(&format!("train = [{text}]")).unwrap().train
}

fn recipe(text: &str) -> Result<Compose> {
    described(text).build(&Transforms::standard())
}

#[test]
fn recipes_give_torchvisions_defaults() {
    let compose = recipe(
        r#"{ op = "random_resized_crop", size = 224 }, { op = "random_horizontal_flip" },
        { op = "to_tensor" },
        { op = "normalize", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }"#,
    );
    assert_eq!(compose.unwrap(), Compose::imagenet_train());
}

#[test]
fn every_transform_can_stand_in_a_recipe() {
    let compose = recipe(
        r#"{ op = "resize", size = [64, 80], interpolation = "bicubic" },
        { op = "resize", size = 48 },
        { op = "pad", padding = [1, 2], padding_mode = "edge" },
        { op = "center_crop", size = 40 },
        { op = "random_crop", size = 32, padding = 4, padding_mode = "reflect" },
        { op = "random_horizontal_flip", p = 1 }, { op = "random_vertical_flip", p = 0 },
        { op = "alternating_flip" }, { op = "cutout", size = 12, fill = [125, 123, 114] },
        { op = "random_rotation", degrees = 30 },
        { op = "random_rotation", degrees = [-10, 5.5], interpolation = "bilinear", fill = 9 },
        { op = "color_jitter", brightness = 0.2, contrast = [0.5, 1.5], hue = 0.1 },
        { op = "grayscale", channels = 3 },
        { op = "to_tensor" }, { op = "normalize", mean = [0.5], std = [0.5] }"#,
    )
    .unwrap();
    compose.validate().unwrap();
    assert!(compose.is_random());
    assert_eq!(compose.output_size(), Some((32, 32)));
    let array = compose.apply(&image(), &mut rng(1)).unwrap();
    assert_eq!(array.shape(), [32, 32, 3]);
    assert_eq!(array, compose.apply(&image(), &mut rng(1)).unwrap());
    assert_ne!(array, compose.apply(&image(), &mut rng(2)).unwrap());

    let description = compose.describe();
    let table = std::collections::BTreeMap::from([("train", &description)]);
    let text = toml::to_string(&table).unwrap();
    assert_eq!(toml::from_str::<Recipe>(&text).unwrap().train, description);
    let json = serde_json::to_string(&description).unwrap();
    assert!(json.starts_with(r#"[{"op":"resize","interpolation":"bicubic","size":[64,80]},"#));
    assert_eq!(serde_json::from_str::<ComposeDescription>(&json).unwrap(), description);
    assert_eq!(description.build(&Transforms::standard()).unwrap(), compose);
}

#[test]
fn unknown_names_in_recipes_are_errors() {
    let error = recipe(r#"{ op = "resise", size = 3 }"#).unwrap_err().to_string();
    assert!(error.contains("no transform is called `resise`; did you mean `resize`?"), "{error}");
    let error = recipe(r#"{ op = "resize", sise = 3 }"#).unwrap_err().to_string();
    assert!(
        error.contains(
            "the settings of `resize` are wrong: unknown field `sise`; did you mean `size`?"
        ),
        "{error}"
    );
    let error = recipe(r#"{ op = "resize", size = "big" }"#).unwrap_err().to_string();
    assert!(error.contains("[height, width]"), "{error}");
}

#[track_caller]
fn check_invalid(text: &str, part: &str) {
    let error = recipe(text).expect_err("this must fail").to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn orders_and_ranges_are_checked() {
    let tensor = r#"{ op = "to_tensor" }"#;
    let normalize = r#"{ op = "normalize", mean = [0], std = [1] }"#;
    check_invalid("", "`to_tensor`: is missing");
    check_invalid(&format!("{tensor}, {tensor}"), "stands twice");
    check_invalid(&format!("{normalize}, {tensor}"), "must stand after");
    check_invalid(&format!(r#"{tensor}, {{ op = "center_crop", size = 3 }}"#), "must stand before");
    for (step, part) in [
        (r#"op = "resize", size = 0"#, "`size`"),
        (r#"op = "resize", size = [3, 20000]"#, "`size`"),
        (r#"op = "random_resized_crop", size = 8, scale = [0.5, 0.1]"#, "`scale`"),
        (r#"op = "random_resized_crop", size = 8, scale = [0, 1]"#, "`scale`"),
        (r#"op = "random_resized_crop", size = 8, ratio = [nan, 1]"#, "`ratio`"),
        (r#"op = "random_horizontal_flip", p = 1.5"#, "`p`"),
        (r#"op = "random_rotation", degrees = -3"#, "`degrees`"),
        (r#"op = "random_rotation", degrees = 3, interpolation = "box""#, "`interpolation`"),
        (r#"op = "color_jitter", brightness = -0.1"#, "`brightness`"),
        (r#"op = "color_jitter", hue = 0.6"#, "`hue`"),
        (r#"op = "grayscale", channels = 2"#, "`channels`"),
        (r#"op = "pad", padding = 99999"#, "`padding`"),
    ] {
        check_invalid(&format!("{{ {step} }}, {tensor}"), part);
    }
    for (values, part) in [
        ("mean = [0], std = [0]", "greater than 0"),
        ("mean = [0], std = [inf]", "`std` must be a finite number"),
        ("mean = [0, 1], std = [1]", "one number a channel"),
    ] {
        check_invalid(&format!(r#"{tensor}, {{ op = "normalize", {values} }}"#), part);
    }
}

#[test]
fn channels_must_fit_the_normalisation() {
    let grey = grayscale(&image(), 1);
    let compose = Compose::imagenet_eval();
    let error = compose.eval(&grey).unwrap_err().to_string();
    assert!(error.contains("3 numbers for an image of 1 channels"), "{error}");
    let to_colour = Compose::new().with(Grayscale::new().channels(3));
    let with_colour = to_colour.with(CenterCrop::new(8)).with(ToTensor).with(Normalize::imagenet());
    assert_eq!(with_colour.output_channels(1), 3);
    assert_eq!(with_colour.eval(&grey).unwrap().shape(), [8, 8, 3]);
}

// Random transforms

#[test]
fn random_crops_move_and_pad() {
    let text = r#"{ op = "random_crop", size = 70, pad_if_needed = true }, { op = "to_tensor" }"#;
    let compose = recipe(text).unwrap();
    let mut shown = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let cropped = compose.apply_to_image(&image(), &mut rng(seed)).unwrap();
        assert_eq!((cropped.height(), cropped.width()), (70, 70));
        shown.insert(cropped.into_pixels());
    }
    assert!(shown.len() > 10);
    let strict = recipe(r#"{ op = "random_crop", size = 70 }, { op = "to_tensor" }"#).unwrap();
    let error = strict.apply(&image(), &mut rng(0)).unwrap_err().to_string();
    assert!(error.contains("70x70 is larger than the image's 48x64"), "{error}");
}

#[test]
fn flips_follow_their_probability() {
    let compose = recipe(r#"{ op = "random_horizontal_flip", p = 0.25 }, { op = "to_tensor" }"#);
    let compose = compose.unwrap();
    let flipped = hflip(&image());
    let is_flipped = |seed| compose.apply_to_image(&image(), &mut rng(seed)).unwrap() == flipped;
    let count = (0..400).filter(|&seed| is_flipped(seed)).count();
    // Expected 100 with a deviation of 9.
    assert!((60..140).contains(&count), "{count}");
}

#[test]
fn rotations_stay_in_their_range() {
    // A mark on the right edge tells the angle: counter-clockwise moves it up.
    let mut pixels = vec![0; 101 * 101];
    (48..=52).for_each(|y| pixels[y * 101 + 95..][..5].fill(255));
    let marked = Image::new(101, 101, 1, pixels).unwrap();
    let compose = recipe(r#"{ op = "random_rotation", degrees = [10, 40] }, { op = "to_tensor" }"#);
    let compose = compose.unwrap();
    for seed in 0..50 {
        let turned = compose.apply_to_image(&marked, &mut rng(seed)).unwrap();
        let (mut x, mut y, mut count) = (0.0, 0.0, 0.0);
        for (index, _) in turned.pixels().iter().enumerate().filter(|(_, value)| **value > 0) {
            x += (index % 101) as f64 - 50.0;
            y += (index / 101) as f64 - 50.0;
            count += 1.0;
        }
        let degrees = (-y / count).atan2(x / count).to_degrees();
        assert!((9.0..=41.0).contains(&degrees), "{degrees}");
    }
}

#[test]
fn evaluation_is_resize_crop_and_nothing_random() {
    let compose = Compose::imagenet_eval();
    assert!(!compose.is_random());
    assert_eq!(compose.output_size(), Some((224, 224)));
    let shown = compose.eval_to_image(&image()).unwrap();
    let resized = resize(&image(), 256, 341, Interpolation::Bilinear).unwrap();
    assert_eq!(shown, center_crop(&resized, 224, 224).unwrap());
}

#[test]
fn masks_move_as_their_images() {
    let text = r#"{ op = "random_crop", size = 20 }, { op = "random_horizontal_flip" },
        { op = "grayscale" }, { op = "to_tensor" }, { op = "normalize", mean = [0.5], std = [0.2] }"#;
    let compose = recipe(text).unwrap();
    let mask = grayscale(&image(), 1);
    for seed in 0..10 {
        let moved = compose.geometry().apply_to_image(&mask, &mut rng(seed)).unwrap();
        assert_eq!(moved, compose.apply_to_image(&image(), &mut rng(seed)).unwrap());
    }
}

#[test]
fn size_arguments_convert() {
    assert_eq!(Size::from(3), Size::One(3));
    assert_eq!(Size::from([3, 4]), Size::HeightWidth([3, 4]));
}

#[test]
fn lists_compare_by_what_they_mean() {
    let standard = Transforms::standard();
    let given =
        described(r#"{ op = "random_crop", size = 32, padding = 4 }, { op = "to_tensor" }"#);
    let same = described(
        r#"{ op = "random_crop", size = 32, padding = 4, fill = 0 }, { op = "to_tensor" }"#,
    );
    let other = described(
        r#"{ op = "random_crop", size = 32, padding = 4, fill = 1 }, { op = "to_tensor" }"#,
    );
    assert!(given != same && given.is_same(&same, &standard));
    assert!(!given.is_same(&other, &standard));
    let unknown = described(r#"{ op = "sepia", strength = 1 }"#);
    assert!(unknown.is_same(&unknown, &standard) && !unknown.is_same(&given, &standard));
}

#[test]
fn evaluation_asks_for_no_generator_and_refuses_random_transforms() {
    let error = Compose::imagenet_train().eval(&image()).unwrap_err().to_string();
    assert!(error.starts_with("transform `random_resized_crop`: is random"), "{error}");
    let compose = Compose::imagenet_eval();
    let (array, applied) = (compose.eval(&image()), compose.apply(&image(), &mut rng(3)));
    assert_eq!(array.unwrap(), applied.unwrap());
}

#[test]
fn files_become_tensors_in_one_call() {
    let (compose, device) = (Compose::imagenet_eval(), Device::Cpu);
    let path = reference("image.png");
    let one = compose.open(&path, &device).unwrap();
    assert_eq!(one.dims(), [1, 3, 224, 224]);
    let two = compose.open_all([&path, &path], &device).unwrap();
    assert_eq!(two.dims(), [2, 3, 224, 224]);
    let difference = (two.narrow(0, 1, 1).unwrap() - one).unwrap().abs().unwrap();
    assert_eq!(difference.max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    assert!(compose.open_all(Vec::<&str>::new(), &device).is_err());
    assert!(matches!(compose.open("no such file.png", &device), Err(Error::Io { .. })));
}

/// Published results and checkpoints lean on these bits: they must never change.
#[test]
fn what_transforms_make_is_pinned() {
    let with = |text: &str| recipe(&format!("{text}, {{ op = \"to_tensor\" }}")).unwrap();
    let crop = r#"{ op = "random_crop", size = 44, padding = 4, padding_mode = "#;
    for (text, expected) in [
        (format!(r#"{crop}"reflect" }}, {{ op = "random_horizontal_flip" }}"#), "86998e73e33de91b"),
        (format!(r#"{crop}"symmetric" }}, {{ op = "random_vertical_flip" }}"#), "15e02e2644b31e0f"),
        (format!(r#"{crop}"edge", pad_if_needed = true }}"#), "2d2b55049561d6d3"),
        (
            r#"{ op = "random_crop", size = [60, 90], padding = [1, 2, 9, 4], padding_mode = "reflect", pad_if_needed = true }"#
                .to_owned(),
            "0a5185bf7f803e0a",
        ),
        (
            format!(
                r#"{crop}"constant", fill = 9 }}, {{ op = "random_horizontal_flip" }},
                {{ op = "color_jitter", brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.1 }},
                {{ op = "random_rotation", degrees = 15 }}"#
            ),
            "86e1d08ee13c5888",
        ),
        (
            r#"{ op = "random_rotation", degrees = 40, interpolation = "bilinear", fill = 3 }, { op = "random_grayscale", p = 0.5 },
            { op = "pad", padding = [1, 0, 2, 3], padding_mode = "edge" }, { op = "center_crop", size = [50, 71] }"#
                .to_owned(),
            "9e19004c8d1d756c",
        ),
        (
            r#"{ op = "alternating_flip" }, { op = "random_crop", size = 40 }, { op = "cutout", size = 12, fill = [125, 123, 114] },
            { op = "cutout", size = 3, fill = [9] }"#
                .to_owned(),
            "b023de622c625f06",
        ),
    ] {
        let (compose, mut hash) = (with(&text), candle_vision_data::Fingerprint::new("pixels"));
        for seed in 0..12 {
            let shown = compose.apply_to_image(&image(), &mut rng(seed)).unwrap();
            hash = hash.bytes(shown.pixels());
        }
        assert_eq!(hash.finish(), expected, "{text}");
    }
}

/// What a GPU is asked to do is what the host does, with the same draws.
#[test]
fn drawn_steps_are_what_the_transforms_do() {
    let compose = recipe(
        r#"{ op = "resize", size = [48, 64] }, { op = "grayscale", channels = 3 },
        { op = "pad", padding = [1, 2], padding_mode = "edge" }, { op = "center_crop", size = 50 },
        { op = "random_crop", size = 44, padding = 4, padding_mode = "reflect" },
        { op = "random_horizontal_flip" }, { op = "random_vertical_flip" },
        { op = "random_rotation", degrees = 30 },
        { op = "random_rotation", degrees = 9, interpolation = "bilinear", fill = 9 },
        { op = "color_jitter", brightness = 0.2, contrast = [0.5, 1.5], saturation = 1, hue = 0.1 },
        { op = "random_grayscale", p = 0.3 }, { op = "alternating_flip" },
        { op = "cutout", size = 12, fill = [125, 123, 114] }, { op = "cutout", size = 3, fill = [9] },
        { op = "to_tensor" }, { op = "normalize", mean = [0.5], std = [0.5] }"#,
    )
    .unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (drawing, applying) = (&mut rng(seed), &mut rng(seed));
        let steps = compose.draw([48, 64, 3], drawing).unwrap();
        assert_eq!(steps.shape(), [44, 44, 3]);
        let expected = compose.apply_to_image(&image(), applying).unwrap();
        assert_eq!(*steps.apply(Cow::Owned(image())).unwrap(), expected);
        // The next image's draws are the same too.
        assert_eq!(random::unit(drawing), random::unit(applying));
        lengths.insert(steps.as_slice().len());
    }
    assert!(lengths.len() > 2, "{lengths:?}");
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let error = |text: &str| {
        let compose = recipe(&format!("{text}, {{ op = \"to_tensor\" }}")).unwrap();
        compose.draw([48, 64, 3], &mut rng(0)).unwrap_err().to_string()
    };
    let on_host = "works on the host only";
    assert_eq!(error(r#"{ op = "resize", size = 24 }"#), format!("transform `resize`: {on_host}"));
    assert!(error(r#"{ op = "random_resized_crop", size = 24 }"#).contains(on_host));
    assert!(
        error(r#"{ op = "random_crop", size = 70 }"#).contains("larger than the image's 48x64")
    );
    let padded = r#"{ op = "random_crop", size = 8, padding = 50, padding_mode = "reflect" }"#;
    assert!(error(padded).contains("at most 47"));
    let own = Compose::new().with(Stripe { times: 1 }).with(ToTensor);
    let error = own.draw([48, 64, 3], &mut rng(0)).unwrap_err().to_string();
    assert_eq!(error, format!("transform `stripe`: {on_host}"));
}

#[test]
fn torchvisions_spellings_are_taken() {
    let resize = |more: &str| {
        serde_json::from_str::<Resize>(&format!(r#"{{"size": 9, {more}}}"#))
            .map_err(|error| error.to_string())
    };
    let nearest = Resize::new(9).interpolation(Interpolation::Nearest);
    for name in ["nearest", "nearest_exact", "nearest-exact"] {
        assert_eq!(resize(&format!(r#""interpolation": "{name}""#)), Ok(nearest), "{name}");
    }
    assert_eq!(resize(r#""antialias": true"#), Ok(Resize::new(9)));
    let error = resize(r#""antialias": false"#).unwrap_err();
    assert!(error.contains("`antialias` can only be true"), "{error}");
    let crop = serde_json::from_str::<RandomResizedCrop>(r#"{"size": 9, "antialias": true}"#);
    assert_eq!(crop.unwrap(), RandomResizedCrop::new(9));
    // Nothing of it is stored.
    assert!(!serde_json::to_string(&nearest).unwrap().contains("antialias"));
}
