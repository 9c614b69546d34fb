//! Transforms against torchvision (PIL backend): values, recipes and random parameters.

#[path = "../../../tests/support/reference.rs"]
mod reference;

use candle_core::{DType, Tensor};
use candle_vision_data::Image;
use candle_vision_data::transforms::functional::*;
use candle_vision_data::transforms::{Compose, Interpolation, PaddingMode, Size, Transform};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn image() -> Image {
    Image::open(reference::path("image.png")).expect("the reference image is a PNG")
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[track_caller]
fn check(name: &str, image: Image, largest_difference: u8) {
    let expected: &Tensor = &reference::tensors("transforms.safetensors")[name];
    let shape = [image.height(), image.width(), image.channels()];
    assert_eq!(expected.dims(), shape, "{name}");
    let expected = expected.flatten_all().and_then(|t| t.to_vec1::<u8>()).expect("u8 values");
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
    let normalize = Compose::imagenet_eval().0.pop().unwrap();
    let compose = Compose::new(vec![Transform::ToTensor, normalize]).unwrap();
    let array = compose.apply(&image(), &mut rng(0)).unwrap();
    let batch = array.to_batch(&candle_core::Device::Cpu).unwrap();
    let expected = &reference::tensors("transforms.safetensors")["to_tensor_normalize_chw_f32"];
    let difference = (batch.squeeze(0).unwrap() - expected).unwrap().abs().unwrap();
    let largest = difference.max_all().unwrap().to_dtype(DType::F64).unwrap();
    assert_eq!(largest.to_scalar::<f64>().unwrap(), 0.0);
}

// Recipes

#[derive(serde::Deserialize)]
struct Recipe {
    train: Compose,
}

fn recipe(text: &str) -> Result<Compose, toml::de::Error> {
    toml::from_str::<Recipe>(&format!("train = [{text}]")).map(|recipe| recipe.train)
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

    let text = toml::to_string(&std::collections::BTreeMap::from([("train", &compose)])).unwrap();
    assert_eq!(toml::from_str::<Recipe>(&text).unwrap().train, compose);
    let json = serde_json::to_string(&compose).unwrap();
    assert_eq!(serde_json::from_str::<Compose>(&json).unwrap(), compose);
}

#[test]
fn unknown_names_in_recipes_are_errors() {
    let error = recipe(r#"{ op = "resise", size = 3 }"#).unwrap_err().to_string();
    assert!(error.contains("unknown variant `resise`"), "{error}");
    let error = recipe(r#"{ op = "resize", sise = 3 }"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `sise`"), "{error}");
    let error = recipe(r#"{ op = "resize", size = "big" }"#).unwrap_err().to_string();
    assert!(error.contains("[height, width]"), "{error}");
}

#[track_caller]
fn check_invalid(text: &str, part: &str) {
    let error = recipe(text).unwrap().validate().expect_err("this must fail").to_string();
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
        (r#"op = "random_rotation", degrees = 3, interpolation = "bicubic""#, "`interpolation`"),
        (r#"op = "color_jitter", brightness = -0.1"#, "`brightness`"),
        (r#"op = "color_jitter", hue = 0.6"#, "`hue`"),
        (r#"op = "grayscale", channels = 2"#, "`channels`"),
        (r#"op = "pad", padding = 99999"#, "`padding`"),
    ] {
        check_invalid(&format!("{{ {step} }}, {tensor}"), part);
    }
    for (values, part) in [
        ("mean = [0], std = [0]", "greater than 0"),
        ("mean = [0], std = [inf]", "finite"),
        ("mean = [0, 1], std = [1]", "one number a channel"),
    ] {
        check_invalid(&format!(r#"{tensor}, {{ op = "normalize", {values} }}"#), part);
    }
}

#[test]
fn channels_must_fit_the_normalisation() {
    let grey = grayscale(&image(), 1);
    let compose = Compose::imagenet_eval();
    let error = compose.apply(&grey, &mut rng(0)).unwrap_err().to_string();
    assert!(error.contains("3 numbers for an image of 1 channels"), "{error}");
    let to_colour = Transform::Grayscale { channels: 3 };
    let with_colour = Compose([vec![to_colour], compose.0].concat());
    assert_eq!(with_colour.output_channels(1), 3);
    assert_eq!(with_colour.apply(&grey, &mut rng(0)).unwrap().shape(), [224, 224, 3]);
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
    let shown = compose.apply_to_image(&image(), &mut rng(0)).unwrap();
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
