//! Networks with values that any language can rebuild.
#![allow(dead_code, reason = "each test uses its own part")]

use candle_core::{Device, Tensor};
use candle_vision_explain::ClassActivationMap;
use candle_vision_models::parity::fill;
use candle_vision_models::{Model, ModelSpec, build};

use crate::reference;

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

pub(crate) fn recipe_network(name: &str, input: [usize; 3]) -> candle_core::Result<Box<dyn Model>> {
    let model = build(&ModelSpec::new(name, 10).input(input), 0, &Device::Cpu)?;
    fill(&*model, 1.0)?;
    Ok(model)
}

pub(crate) fn tensor(map: &ClassActivationMap) -> candle_core::Result<Tensor> {
    Tensor::from_slice(&map.map, (map.height, map.width), &Device::Cpu)
}

/// A network of `explain.json` and the image it was asked about.
pub(crate) fn case(name: &str) -> candle_core::Result<(Box<dyn Model>, Tensor)> {
    let side = if name == "resnet18" { 96 } else { 32 };
    let images = reference::image_batch(&format!("cam.{name}"), &[1, 3, side, side])?;
    Ok((recipe_network(name, [3, side, side])?, images))
}
