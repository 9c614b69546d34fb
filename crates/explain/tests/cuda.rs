//! Explanations that a CUDA device repeats from a graph, against plain ones. Skipped where there is no device.

#![cfg(feature = "cuda")]

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use candle_vision_explain::{CamOptions, ClassActivationMap, Explainer, Method, Target};
use candle_vision_models::{
    Model, ModelSpec, Parameters, SwinTransformer, SwinTransformerConfig, VisionTransformer,
    VisionTransformerConfig, build,
};
use candle_vision_ops::{cuda_device, set_cuda_graphs, set_tf32};

type TestResult = Result<(), Box<dyn std::error::Error>>;

const METHODS: [Method; 5] = [
    Method::GRAD_CAM,
    Method::GRAD_CAM_PLUS_PLUS,
    Method::XGRAD_CAM,
    Method::HIRES_CAM,
    Method::LAYER_CAM,
];

/// Calls `test` with the first device, if there is one; one test at a time.
fn on_cuda(test: impl FnOnce(&Device) -> TestResult) -> TestResult {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match cuda_device(0) {
        Ok(device) => {
            set_tf32(false);
            test(&device)
        }
        Err(error) => {
            tell_of_skipping(&error);
            Ok(())
        }
    }
}

#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn tell_of_skipping(error: &candle_core::Error) {
    eprintln!("skipped: no CUDA device: {error}");
}

fn network(name: &str, device: &Device) -> candle_core::Result<Box<dyn Model>> {
    let input = [3, 32, 32];
    let vb = Parameters::new().builder(0, DType::F32, device);
    Ok(match name {
        "small_vit" => {
            let config = VisionTransformerConfig::new(8, 2, 2, 32).input(input).num_classes(10);
            Box::new(VisionTransformer::new(config, vb)?)
        }
        "small_swin" => {
            let config = SwinTransformerConfig::new(16, [2, 2], [2, 4]).window_size(4);
            Box::new(SwinTransformer::new(config.input(input).num_classes(10), vb)?)
        }
        _ => build(&ModelSpec::new(name, 10).input(input), 0, device)?,
    })
}

fn images(seed: usize, count: usize, device: &Device) -> candle_core::Result<Tensor> {
    let values: Vec<f32> =
        (0..count * 3 * 32 * 32).map(|i| ((i * 7 + i / 50 * seed + seed) % 11) as f32).collect();
    Tensor::from_vec(values, (count, 3, 32, 32), device)
}

fn asked(target: Target) -> CamOptions {
    CamOptions { target, ..CamOptions::default() }
}

/// Explains batch after batch, by a graph where there is one, and compares the maps with plain ones.
#[track_caller]
fn check<M: Model>(
    explainer: &Explainer<M>,
    method: &Method,
    batches: &[(usize, usize, CamOptions)],
    device: &Device,
) -> TestResult {
    for (seed, count, options) in batches {
        let images = images(*seed, *count, device)?;
        let found = explainer.maps(method, &images, options)?;
        let expected = method.maps(explainer.model(), &images, options)?;
        assert_eq!(bits(&found), bits(&expected), "{method} {seed} {options:?}");
        assert_eq!(found, expected);
    }
    Ok(())
}

fn bits(maps: &[ClassActivationMap]) -> Vec<u32> {
    maps.iter().flat_map(|map| map.map.iter().map(|value| value.to_bits())).collect()
}

#[test]
fn captured_maps_are_plain_ones() -> TestResult {
    on_cuda(|device| {
        for name in ["gap_cnn", "resnet20_cifar", "small_vit", "small_swin"] {
            let explainer = Explainer::new(network(name, device)?);
            for method in &METHODS {
                let batches: Vec<_> = (0..5).map(|seed| (seed, 2, CamOptions::default())).collect();
                check(&explainer, method, &batches, device)?;
                assert_eq!(explainer.take_reason(), None, "{name} {method}");
                assert!(explainer.is_captured(method), "{name} {method}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_graph_is_asked_about_other_classes_each_time() -> TestResult {
    on_cuda(|device| {
        let explainer = Explainer::new(network("resnet20_cifar", device)?);
        let method = Method::GRAD_CAM;
        let batches = [
            (0, 2, asked(Target::Class(3))),
            (1, 2, asked(Target::Class(4))),
            (2, 2, asked(Target::Class(3))),
            (3, 2, asked(Target::Class(5))),
            (3, 2, asked(Target::Classes(vec![1, 0]))),
            (4, 2, asked(Target::Difference { class: 2, other: 9 })),
            // Another question, and fewer images, come between.
            (4, 2, asked(Target::Predicted)),
            (4, 1, asked(Target::Class(7))),
            (4, 2, asked(Target::Class(7))),
            (5, 2, CamOptions { layer: Some("layer1".into()), ..asked(Target::Class(1)) }),
            (5, 2, asked(Target::Class(1))),
            // The variants of the images are asked about the classes of the images themselves.
            (6, 2, CamOptions { aug_smooth: true, ..CamOptions::default() }),
        ];
        check(&explainer, &method, &batches, device)?;
        assert!(explainer.is_captured(&method));
        // Weights that change in place are seen.
        for parameter in explainer.model().parameters().trainable() {
            parameter.var().set(&(parameter.detached() * 1.5)?)?;
        }
        check(&explainer, &method, &batches[..2], device)
    })
}

#[test]
fn maps_that_cannot_be_captured_say_why_once() -> TestResult {
    on_cuda(|device| {
        let explainer = Explainer::new(network("gap_cnn", device)?);
        let smooth = CamOptions { eigen_smooth: true, ..CamOptions::default() };
        let batches: Vec<_> = (0..4).map(|seed| (seed, 1, smooth.clone())).collect();
        check(&explainer, &Method::GRAD_CAM, &batches[..2], device)?;
        assert_eq!(explainer.take_reason(), None);
        check(&explainer, &Method::GRAD_CAM, &batches, device)?;
        let reason = explainer.take_reason().unwrap_or_default();
        assert_eq!(reason, "eigen-smoothing computes on the host");
        check(&explainer, &Method::LAYER_CAM, &batches, device)?;
        assert_eq!(explainer.take_reason(), None);
        assert!(!explainer.is_captured(&Method::GRAD_CAM));
        // A method with many passes has nothing to say.
        check(&explainer, &Method::EIGEN_CAM, &batches, device)?;
        assert_eq!(explainer.take_reason(), None);

        set_cuda_graphs(false);
        let explainer = Explainer::new(explainer.model());
        let plain: Vec<_> = (0..4).map(|seed| (seed, 1, CamOptions::default())).collect();
        let done = check(&explainer, &Method::GRAD_CAM, &plain, device);
        set_cuda_graphs(true);
        assert!(!explainer.is_captured(&Method::GRAD_CAM));
        done
    })
}
