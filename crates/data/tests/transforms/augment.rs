//! The transforms for augmentation: values against torchvision (`tests/reference/augment.py`), and lists within lists.

use candle_vision_data::Image;
use candle_vision_data::transforms::*;

use crate::*;

const KINDS: [(&str, Interpolation); 3] = [
    ("nearest", Interpolation::Nearest),
    ("bilinear", Interpolation::Bilinear),
    ("bicubic", Interpolation::Bicubic),
];

#[track_caller]
fn check_augment(name: &str, image: Image, largest: u8) {
    check_in("augment.safetensors", name, image, largest);
}

#[test]
fn warps_are_pillows() {
    let image = image();
    for (name, kind) in KINDS {
        let change = functional::Affine {
            degrees: 20.0,
            translate: [5.0, 3.0],
            scale: 1.2,
            shear: [10.0, -4.0],
            center: Some([12.0, 30.0]),
        };
        let warped = affine(&image, &change, kind, [255, 0, 9]).unwrap();
        check_augment(&format!("affine_{name}"), warped, 0);
        let change =
            functional::Affine { translate: [3.0, -2.0], scale: 0.7, ..Default::default() };
        let scaled = affine(&image, &change, kind, [7; 3]).unwrap();
        check_augment(&format!("affine_scaled_{name}"), scaled, 0);
        let start = [[0.0, 0.0], [63.0, 0.0], [63.0, 47.0], [0.0, 47.0]];
        let end = [[5.0, 3.0], [55.0, 6.0], [62.0, 40.0], [3.0, 47.0]];
        let seen = perspective(&image, start, end, kind, [9, 8, 7]).unwrap();
        check_augment(&format!("perspective_{name}"), seen, 1);
        let turn = |settings: String| {
            let list = recipe(&format!(
                r#"{{ op = "random_rotation", interpolation = "{name}", {settings} }}, {{ op = "to_tensor" }}"#
            ));
            list.unwrap().apply_to_image(&image, &mut rng(0)).unwrap()
        };
        let turned = turn("degrees = [33, 33], fill = [1, 2, 3]".to_owned());
        check_augment(&format!("rotate_33_{name}"), turned, 0);
        let turned = turn("degrees = [-27, -27], expand = true, fill = 5".to_owned());
        check_augment(&format!("rotate_expanded_{name}"), turned, 0);
        let turned = turn("degrees = [40, 40], center = [10, 40]".to_owned());
        check_augment(&format!("rotate_about_{name}"), turned, 0);
    }
    let change = functional::Affine {
        degrees: 20.0,
        translate: [5.0, 3.0],
        scale: 1.2,
        shear: [10.0, 0.0],
        center: None,
    };
    let warped = affine(&image, &change, Interpolation::Nearest, [0; 3]).unwrap();
    check("affine_20deg_t5_3_s1.2_shear10_nearest", warped, 0);
}

#[test]
fn elastic_displacements_are_torchvisions() {
    let image = image();
    let places = (0..48).flat_map(|y| (0..64).map(move |x| (x as f32, y as f32)));
    let displacement: Vec<[f32; 2]> =
        places.map(|(x, y)| [4.0 * (y / 5.0).sin(), 3.0 * (x / 7.0).cos() - 1.0]).collect();
    for (name, kind) in &KINDS[..2] {
        let warped = elastic(&image, &displacement, *kind, [200, 0, 50]).unwrap();
        check_augment(&format!("elastic_{name}"), warped, 1);
    }
}

#[test]
fn filters_are_torchvisions() {
    let image = image();
    for ([across, down], [x, y]) in [([3, 3], ["0.5", "0.5"]), ([23, 9], ["2.0", "1.3"])] {
        let sigma = [x, y].map(|text| text.parse().unwrap());
        let blurred = gaussian_blur(&image, [across, down], sigma).unwrap();
        check_augment(&format!("blur_{across}x{down}_{x}_{y}"), blurred, 1);
    }
    check("gaussian_blur_5_1.0", gaussian_blur(&image, [5, 5], [1.0, 1.0]).unwrap(), 1);
    for factor in [0.0, 0.5, 3.0] {
        let sharp = adjust_sharpness(&image, factor);
        check_augment(&format!("sharpness_{factor:.1}"), sharp, 0);
    }
    check("sharpness_1.8", adjust_sharpness(&image, 1.8), 0);
    let kinds = [
        ("box", Interpolation::Box),
        ("hamming", Interpolation::Hamming),
        ("lanczos", Interpolation::Lanczos),
    ];
    for (name, kind) in kinds {
        let small = resize(&image, 32, 40, kind).unwrap();
        check_augment(&format!("resize_32x40_{name}"), small, 1);
        let large = resize(&image, 96, 100, kind).unwrap();
        check_augment(&format!("resize_96x100_{name}"), large, 1);
    }
    let most = recipe(r#"{ op = "resize", size = 40, max_size = 44 }, { op = "to_tensor" }"#);
    check_augment("resize_short_40_most_44", most.unwrap().eval_to_image(&image).unwrap(), 1);
    // torchvision's `Resize(None, max_size=60)` computes this size for a height and width.
    for ([height, width], expected) in
        [([48, 64], (45, 60)), ([64, 48], (60, 45)), ([33, 100], (19, 60)), ([20, 20], (60, 60))]
    {
        assert_eq!(Resize::longest(60).output_size(Some((height, width))), Some(expected));
    }
    let longest = recipe(r#"{ op = "resize", max_size = 60 }, { op = "to_tensor" }"#).unwrap();
    let (height, width) =
        Resize::longest(60).output_size(Some((image.height(), image.width()))).unwrap();
    let expected = resize(&image, height, width, Interpolation::Bilinear).unwrap();
    assert_eq!(longest.eval_to_image(&image).unwrap(), expected);
    let grey = |name: &str| {
        let list = format!("{{ op = \"grayscale\", {name} = 3 }}, {{ op = \"to_tensor\" }}");
        recipe(&list).unwrap().eval_to_image(&image).unwrap()
    };
    assert_eq!(grey("num_output_channels"), grey("channels"));
}

#[test]
fn levels_are_pillows() {
    let image = image();
    check("invert", invert(&image), 0);
    check("autocontrast", autocontrast(&image), 0);
    check("equalize", equalize(&image), 0);
    check("posterize_3", posterize(&image, 3), 0);
    check("solarize_128", solarize(&image, 128.0), 0);
    for bits in [1, 5] {
        check_augment(&format!("posterize_{bits}"), posterize(&image, bits), 0);
    }
    for threshold in [0.0, 77.5, 255.0] {
        check_augment(&format!("solarize_{threshold:.1}"), solarize(&image, threshold), 0);
    }
    let dark = adjust_brightness(&image, 0.4);
    check_augment("dark_autocontrast", autocontrast(&dark), 0);
    check_augment("dark_equalize", equalize(&dark), 0);
}

/// Another encoder rounds its coefficients differently, so single values differ by some levels.
#[test]
fn jpeg_looks_as_libjpegs() {
    for (quality, most) in [(10, 2.5), (50, 1.0), (95, 0.5)] {
        let expected = expected_in("augment.safetensors", &format!("jpeg_{quality}"));
        let found = jpeg(&image(), quality).unwrap();
        let differences = found.pixels().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
        let differences: Vec<f64> = differences.map(f64::from).collect();
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        assert!(mean < most, "{quality}: {mean} levels apart");
        let grey = jpeg(&grayscale(&image(), 1), quality).unwrap();
        assert_eq!(grey.channels(), 1);
    }
    assert!(jpeg(&image(), 0).is_err() && jpeg(&image(), 101).is_err());
}

#[test]
fn crops_of_five_and_ten() {
    let image = image();
    let crops = ten_crop(&image, 20, 30).unwrap();
    assert_eq!(crops[3], crop(&image, 28, 34, 20, 30).unwrap());
    assert_eq!(crops[4], center_crop(&image, 20, 30).unwrap());
    assert_eq!(crops[5], hflip(&crops[1]));
    assert_eq!(crops[9], hflip(&crops[4]));
    assert_eq!(crops[..5], five_crop(&image, 20, 30).unwrap());
    assert!(five_crop(&image, 49, 30).is_err());
}

// Lists within lists

#[test]
fn nested_lists_can_stand_in_a_recipe() {
    let list = recipe(
        r#"{ op = "random_apply", p = 0.5, transforms = [
            { op = "color_jitter", brightness = 0.4 },
            { op = "random_choice", p = [3, 1], transforms = [
                { op = "gaussian_blur", kernel_size = 5 }, { op = "random_rotation", degrees = 20 },
            ] },
        ] },
        { op = "random_order", transforms = [{ op = "random_invert" }, { op = "aug_mix" }] },
        { op = "to_tensor" }"#,
    )
    .unwrap();
    let description = list.describe();
    let json = serde_json::to_string(&description).unwrap();
    assert!(json.contains(r#"{"kernel_size":5,"op":"gaussian_blur","sigma":[0.1,2.0]}"#), "{json}");
    let again = serde_json::from_str::<ComposeDescription>(&json).unwrap();
    assert_eq!(again.build(&Transforms::standard()).unwrap(), list);
    assert_eq!(description.filled(&Transforms::standard()), description);
    let table = std::collections::BTreeMap::from([("train", &description)]);
    assert!(toml::to_string(&table).is_ok());
}

#[test]
fn nested_lists_are_checked() {
    let to_tensor = r#"{ op = "to_tensor" }"#;
    for (step, part) in [
        (r#"op = "random_apply", transforms = []"#, "`transforms` is empty"),
        (r#"op = "random_apply", transforms = [{ op = "resise" }]"#, "did you mean `resize`?"),
        (r#"op = "random_apply", transforms = [{ op = "resize", size = 0 }]"#, "`size` must be"),
        (r#"op = "random_order", transforms = [{ op = "to_tensor" }]"#, "in the outer list"),
        (r#"op = "random_order", transforms = [{ op = "grayscale" }]"#, "three channels"),
        (
            r#"op = "random_choice", p = [1], transforms = [{ op = "jpeg", quality = 3 }, { op = "jpeg", quality = 5 }]"#,
            "one number for each transform",
        ),
        (r#"op = "random_choice", p = [0], transforms = [{ op = "aug_mix" }]"#, "not all 0"),
        (r#"op = "random_apply", transforms = [{ op = "jpeg", qualiti = 3 }]"#, "`quality`?"),
        (r#"op = "jpeg", quality = [40, 30]"#, "`quality` must be"),
        (r#"op = "gaussian_blur", kernel_size = 4"#, "must be odd"),
        (r#"op = "gaussian_blur", kernel_size = 3, sigma = 0"#, "`sigma`"),
        (r#"op = "random_affine", degrees = 3, translate = [1.5, 0]"#, "`translate`"),
        (r#"op = "random_affine", degrees = 3, scale = [0, 1]"#, "`scale`"),
        (r#"op = "random_affine", degrees = 3, shear = 90"#, "`shear`"),
        (r#"op = "random_affine", degrees = 3, interpolation = "lanczos""#, "`interpolation`"),
        (r#"op = "random_erasing", value = "noise""#, "\"random\""),
        (r#"op = "random_posterize", bits = 9"#, "`bits`"),
        (r#"op = "random_solarize", threshold = 256"#, "`threshold`"),
        (r#"op = "random_zoom_out", side_range = [0.5, 2]"#, "`side_range`"),
        (r#"op = "rand_augment", magnitude = 31"#, "`magnitude`"),
        (r#"op = "aug_mix", severity = 11"#, "`severity`"),
        (r#"op = "auto_augment", policy = "mnist""#, "cifar10"),
        (r#"op = "elastic_transform", sigma = [-1, 2]"#, "`sigma`"),
        (r#"op = "resize", size = 40, max_size = 40"#, "`max_size`"),
        (r#"op = "resize""#, "needs `size`, or `max_size`"),
    ] {
        check_invalid(&format!("{{ {step} }}, {to_tensor}"), part);
    }
}

/// Switching a transform off must not change what the others draw: neither in the list nor inside another.
#[test]
fn nested_transforms_draw_on_their_own() {
    let noise = |first: &str| {
        let text = format!(
            r#"{{ op = "random_order", transforms = [{first}] }},
            {{ op = "random_apply", p = 1, transforms = [{first}, {{ op = "gaussian_noise" }}] }},
            {{ op = "to_tensor" }}"#
        );
        let grey = Image::new(40, 30, 3, vec![128; 40 * 30 * 3]).unwrap();
        recipe(&text).unwrap().apply_to_image(&grey, &mut rng(5)).unwrap()
    };
    let off = noise(r#"{ op = "random_invert", p = 0 }"#);
    assert_eq!(off, noise(r#"{ op = "random_erasing", p = 0 }"#));
}

/// A mask moves as its image does, and keeps its values.
#[test]
fn masks_move_with_nested_lists_and_augmentations() {
    let text = r#"
        { op = "random_choice", transforms = [
            { op = "random_order", transforms = [
                { op = "random_affine", degrees = 20, translate = [0.1, 0.1] },
                { op = "random_solarize", threshold = 50 },
            ] },
            { op = "random_invert", p = 1 },
            { op = "random_perspective", p = 1, interpolation = "nearest" },
        ] },
        { op = "trivial_augment_wide" }, { op = "rand_augment" },
        { op = "auto_augment", policy = "svhn" }, { op = "to_tensor" }"#;
    let list = recipe(text).unwrap();
    let geometry = list.geometry();
    let mut moved = 0;
    let mask_pixels: Vec<u8> =
        (0..48 * 64 * 3).map(|i| if (i / 3) % 64 < 20 { 255 } else { 0 }).collect();
    let mask = Image::new(64, 48, 3, mask_pixels).unwrap();
    for seed in 0..60 {
        let after = geometry.apply_to_image(&mask, &mut rng(seed)).unwrap();
        assert!(after.pixels().iter().all(|value| [0, 255].contains(value)), "{seed}");
        moved += usize::from(after != mask);
    }
    assert!(moved > 40, "{moved}");
}

#[test]
fn every_new_transform_is_deterministic_and_keeps_small_images() {
    let to_tensor = r#"{ op = "to_tensor" }"#;
    let settings = [
        ("random_affine", "degrees = 30, translate = [0.2, 0.2], scale = [0.5, 2], shear = 10"),
        ("random_perspective", "p = 1"),
        ("elastic_transform", ""),
        ("gaussian_blur", "kernel_size = [5, 9]"),
        ("gaussian_noise", ""),
        ("random_adjust_sharpness", "sharpness_factor = 2, p = 1"),
        ("random_autocontrast", "p = 1"),
        ("random_equalize", "p = 1"),
        ("random_invert", "p = 1"),
        ("random_posterize", "bits = 3, p = 1"),
        ("random_solarize", "threshold = 100, p = 1"),
        ("random_photometric_distort", "p = 1"),
        ("random_channel_permutation", ""),
        ("random_erasing", "p = 1, value = \"random\""),
        ("jpeg", "quality = [5, 90]"),
        ("auto_augment", ""),
        ("rand_augment", ""),
        ("trivial_augment_wide", ""),
        ("aug_mix", ""),
    ];
    for (op, settings) in settings {
        let list = recipe(&format!(r#"{{ op = "{op}", {settings} }}, {to_tensor}"#)).unwrap();
        let mut shown = std::collections::BTreeSet::new();
        for seed in 0..12 {
            for (width, height, channels) in [(1, 1, 3), (5, 1, 1), (1, 7, 3), (64, 48, 3)] {
                let value = |i: usize| (i * 31 % 253) as u8;
                let pixels = (0..width * height * channels).map(value).collect();
                let image = Image::new(width, height, channels, pixels).unwrap();
                let changed = list.apply_to_image(&image, &mut rng(seed)).unwrap();
                assert_eq!(changed, list.apply_to_image(&image, &mut rng(seed)).unwrap(), "{op}");
                let shape = [changed.width(), changed.height(), changed.channels()];
                assert_eq!(shape, [width, height, channels], "{op}");
                shown.insert(changed.into_pixels());
            }
        }
        assert!(shown.len() > 3, "{op} changes nothing");
    }
    // Its steps on a card are those that it does here.
    for text in [
        r#"{ op = "random_affine", degrees = 30, scale = [0.5, 2] }"#,
        r#"{ op = "random_erasing", p = 0.5, value = [1, 2, 3] }"#,
        r#"{ op = "random_zoom_out" }"#,
        r#"{ op = "random_apply", transforms = [{ op = "color_jitter", hue = 0.2 }, { op = "cutout", size = 3 }] }"#,
        r#"{ op = "random_choice", transforms = [{ op = "random_vertical_flip" }, { op = "random_rotation", degrees = 9 }] }"#,
        r#"{ op = "random_order", transforms = [{ op = "random_affine", degrees = 9 }, { op = "random_horizontal_flip" }] }"#,
    ] {
        let list = recipe(&format!("{text}, {to_tensor}")).unwrap();
        let image = image();
        for seed in 0..20 {
            let drawn = list.draw([48, 64, 3], &mut rng(seed)).unwrap();
            let by_steps = drawn.apply(Cow::Borrowed(&image)).unwrap();
            let direct = list.apply_to_image(&image, &mut rng(seed)).unwrap();
            assert!(*by_steps == direct, "{text}, seed {seed}");
        }
    }
    let error = recipe(&format!(
        r#"{{ op = "random_apply", transforms = [{{ op = "aug_mix" }}] }}, {to_tensor}"#
    ));
    let error = error.unwrap().draw([48, 64, 3], &mut rng(0)).unwrap_err().to_string();
    assert!(error.contains("works on the host only"), "{error}");
}
