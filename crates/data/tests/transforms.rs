//! Transforms against torchvision (PIL backend): values, recipes and random parameters.

#[path = "../../../tests/support/reference.rs"]
#[allow(
    unreachable_pub,
    reason = "shared by test crates, each of which is a root of its own"
)]
mod reference;

use candle_core::{DType, Tensor};
use candle_vision_data::Picture;
use candle_vision_data::transforms::functional::*;
use candle_vision_data::transforms::{Compose, Interpolation, PaddingMode, Size, Transform};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn picture() -> Picture {
    Picture::open(reference::path("picture.png")).expect("the reference picture is a PNG")
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[track_caller]
fn check(name: &str, picture: Picture, largest_difference: u8) {
    let expected: &Tensor = &reference::tensors("transforms.safetensors")[name];
    let shape = [picture.height(), picture.width(), picture.channels()];
    assert_eq!(expected.dims(), shape, "{name}");
    let expected = expected
        .flatten_all()
        .and_then(|t| t.to_vec1::<u8>())
        .expect("u8 values");
    let differences = picture
        .pixels()
        .iter()
        .zip(&expected)
        .map(|(a, b)| a.abs_diff(*b));
    let largest = differences.max().expect("a picture has pixels");
    assert!(
        largest <= largest_difference,
        "{name}: {largest} levels apart"
    );
}

#[test]
fn resizing_is_pillows() {
    use Interpolation::{Bicubic, Bilinear, Nearest};
    let picture = picture();
    check(
        "resize_32x40_bilinear",
        resize(&picture, 32, 40, Bilinear).unwrap(),
        1,
    );
    check(
        "resize_short_24",
        resize(&picture, 24, 32, Bilinear).unwrap(),
        1,
    );
    check(
        "resize_96x128_bilinear",
        resize(&picture, 96, 128, Bilinear).unwrap(),
        1,
    );
    check(
        "resize_32x40_bicubic",
        resize(&picture, 32, 40, Bicubic).unwrap(),
        1,
    );
    check(
        "resize_32x40_nearest",
        resize(&picture, 32, 40, Nearest).unwrap(),
        0,
    );
    let part = resized_crop(&picture, [5, 7, 30, 40], 32, 32, Bilinear).unwrap();
    check("resized_crop_5_7_30_40_to_32", part, 1);
}

#[test]
fn moved_pixels_are_exact() {
    let picture = picture();
    check("center_crop_32", center_crop(&picture, 32, 32).unwrap(), 0);
    check(
        "center_crop_56x72_padded",
        center_crop(&picture, 56, 72).unwrap(),
        0,
    );
    check("hflip", hflip(&picture), 0);
    check("vflip", vflip(&picture), 0);
    check(
        "pad_4",
        pad(&picture, [4; 4], 0, PaddingMode::Constant).unwrap(),
        0,
    );
    check(
        "pad_4_reflect",
        pad(&picture, [4; 4], 0, PaddingMode::Reflect).unwrap(),
        0,
    );
}

#[test]
fn colours_are_pillows() {
    let picture = picture();
    check("grayscale_3", grayscale(&picture, 3), 0);
    for factor in [0.6, 1.4] {
        check(
            &format!("brightness_{factor}"),
            adjust_brightness(&picture, factor),
            0,
        );
        check(
            &format!("contrast_{factor}"),
            adjust_contrast(&picture, factor),
            0,
        );
        check(
            &format!("saturation_{factor}"),
            adjust_saturation(&picture, factor),
            0,
        );
    }
    for turn in [-0.1, 0.1, 0.4] {
        check(&format!("hue_{turn}"), adjust_hue(&picture, turn), 0);
    }
}

#[test]
fn rotations_are_pillows() {
    let picture = picture();
    for degrees in [15.0, -30.0, 90.0] {
        let turn = |interpolation| rotate(&picture, degrees, interpolation, 0).unwrap();
        check(
            &format!("rotate_{degrees:.1}_nearest"),
            turn(Interpolation::Nearest),
            0,
        );
        check(
            &format!("rotate_{degrees:.1}_bilinear"),
            turn(Interpolation::Bilinear),
            0,
        );
    }
}

#[test]
fn to_tensor_and_normalize_are_torchvisions() {
    let normalize = Compose::imagenet_eval().0.pop().unwrap();
    let compose = Compose::new(vec![Transform::ToTensor, normalize]).unwrap();
    let array = compose.apply(&picture(), &mut rng(0)).unwrap();
    let batch = array.to_batch(&candle_core::Device::Cpu).unwrap();
    let expected = &reference::tensors("transforms.safetensors")["to_tensor_normalize_chw_f32"];
    let difference = (batch.squeeze(0).unwrap() - expected)
        .unwrap()
        .abs()
        .unwrap();
    let largest = difference.max_all().unwrap().to_dtype(DType::F64).unwrap();
    assert_eq!(largest.to_scalar::<f64>().unwrap(), 0.0);
}
