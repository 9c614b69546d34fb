//! The summary's numbers against torchinfo's.

use candle_core::{Device, Result};
use candle_vision_models::summary::summarize;
use candle_vision_models::{ModelSpec, build};

#[test]
fn resnet18_has_the_published_parameters_and_multiply_adds() -> Result<()> {
    let model = build(&ModelSpec::new("resnet18", 1000), 0, &Device::Cpu)?;
    let summary = summarize(model.as_ref(), 1)?;
    assert_eq!(summary.parameters, 11_689_512);
    // fvcore's and torchvision's figure: 1.814 G.
    assert_eq!(summary.multiply_adds, 1_814_073_344);
    let shape = |path: &str| {
        let layer = summary.layers.iter().find(|layer| layer.path == path);
        layer.map(|layer| layer.output.clone())
    };
    assert_eq!(shape("conv1"), Some(vec![1, 64, 112, 112]));
    assert_eq!(shape("layer4.1"), Some(vec![1, 512, 7, 7]));
    assert_eq!(shape("fc"), Some(vec![1, 1000]));
    let per_layer: usize = summary.layers.iter().map(|layer| layer.parameters).sum();
    assert_eq!(per_layer, summary.parameters, "every parameter belongs to one layer");
    let blocks = summary.at_depth(2);
    let block = blocks.layers.iter().find(|layer| layer.path == "layer4.1");
    let block = block.expect("layer4 has two blocks");
    assert_eq!((block.parameters, &*block.output), (4_720_640, &[1, 512, 7, 7][..]));
    assert_eq!((blocks.parameters, blocks.multiply_adds), (11_689_512, 1_814_073_344));
    assert_eq!(summary.layers[0].kernel, Some([7, 7]));
    // torchinfo: input 0.60 MB, forward/backward pass 39.75 MB, parameters 46.76 MB, in all 87.11 MB.
    for summary in [&summary, &blocks] {
        let bytes =
            [summary.input_bytes, summary.forward_backward_bytes, summary.parameter_bytes()];
        assert_eq!(bytes, [602_112, 39_747_392, 46_758_048]);
        assert_eq!(summary.total_bytes(), 87_107_552);
    }
    let two = summarize(model.as_ref(), 2)?;
    assert_eq!(two.forward_backward_bytes, 2 * summary.forward_backward_bytes);
    Ok(())
}

/// torchvision counts the products of attention too, 4.409 G and 4.491 G in all.
#[test]
fn products_of_attention_are_counted() -> Result<()> {
    for (name, parameters, million) in
        [("vit_b_32", 88_224_232, 4_409), ("swin_t", 28_288_354, 4_491)]
    {
        let model = build(&ModelSpec::new(name, 1000), 0, &Device::Cpu)?;
        let summary = summarize(model.as_ref(), 1)?;
        assert_eq!(summary.parameters, parameters, "{name}");
        assert_eq!((summary.multiply_adds + 500_000) / 1_000_000, million, "{name}");
    }
    Ok(())
}

#[test]
fn frozen_layers_are_marked() -> Result<()> {
    let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
    model.parameters().freeze("conv1")?;
    let summary = summarize(model.as_ref(), 2)?;
    let trainable: Vec<(&str, Option<bool>)> = summary
        .layers
        .iter()
        .filter(|layer| layer.parameters > 0)
        .map(|layer| (layer.path.as_str(), layer.trainable))
        .collect();
    let expected =
        [("conv1", Some(false)), ("conv2", Some(true)), ("conv3", Some(true)), ("fc", Some(true))];
    assert_eq!(trainable, expected);
    Ok(())
}
