//! Batches of stored images. `crates/train/tests/on_device.rs` compares the steps with the transforms.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{Edge, ImageBatch, PixelStep, image_batch};

/// Two grey images of 2x3 pixels.
fn images() -> Result<Tensor> {
    Tensor::from_vec((0..12u8).collect::<Vec<_>>(), (2, 2, 3, 1), &Device::Cpu)
}

const BATCH: ImageBatch<'static> = ImageBatch {
    indices: &[1, 0, 1],
    labels: &[4, 5, 6],
    steps: &[PixelStep::HorizontalFlip, PixelStep::VerticalFlip],
    ends: &[1, 1, 2],
    scale: &[2.0],
    shift: &[-1.0],
};

fn error(batch: ImageBatch<'_>) -> String {
    image_batch(&images().unwrap(), &batch, DType::F32).unwrap_err().to_string()
}

#[test]
fn each_image_has_its_own_steps() -> Result<()> {
    let (numbers, labels) = image_batch(&images()?, &BATCH, DType::F32)?;
    assert_eq!(numbers.dims(), [3, 2, 3, 1]);
    let rows = numbers.flatten_from(1)?.to_vec2::<f32>()?;
    assert_eq!(rows[0], [15.0, 13.0, 11.0, 21.0, 19.0, 17.0]);
    assert_eq!(rows[1], [-1.0, 1.0, 3.0, 5.0, 7.0, 9.0]);
    assert_eq!(rows[2], [17.0, 19.0, 21.0, 11.0, 13.0, 15.0]);
    assert_eq!(labels.to_vec1::<u32>()?, [4, 5, 6]);
    let (half, _) = image_batch(&images()?, &BATCH, DType::BF16)?;
    assert_eq!(half.dtype(), DType::BF16);
    Ok(())
}

#[test]
fn wrong_batches_are_errors_that_name_the_fault() -> Result<()> {
    let reach = PixelStep::Window { corner: [-2, 0], size: [2, 3], edge: Edge::Reflect };
    let narrow = PixelStep::Window { corner: [0, 0], size: [2, 2], edge: Edge::Nearest };
    let outside = PixelStep::Fill { corner: [0, 3], size: [1, 1], color: [0; 3] };
    for (batch, part) in [
        (ImageBatch { indices: &[1, 2, 0], ..BATCH }, "no image 2, but only 2"),
        (ImageBatch { labels: &[1], ..BATCH }, "1 labels"),
        (ImageBatch { ends: &[1, 2], ..BATCH }, "2 ends"),
        (ImageBatch { ends: &[1, 0, 2], ..BATCH }, "1..0 of 2"),
        (ImageBatch { ends: &[1, 1, 3], ..BATCH }, "1..3 of 2"),
        (ImageBatch { scale: &[1.0; 3], ..BATCH }, "1 channels, but 3 scales"),
        (ImageBatch { indices: &[], labels: &[], ends: &[], ..BATCH }, "at least one"),
        (ImageBatch { steps: &[reach, reach], ..BATCH }, "does not fit"),
        (ImageBatch { steps: &[outside, outside], ..BATCH }, "does not fit"),
        (ImageBatch { steps: &[narrow, narrow], ..BATCH }, "becomes [2, 3, 1], others [2, 2, 1]"),
    ] {
        let error = error(batch);
        assert!(error.contains("image_batch") || part == "does not fit", "{error}");
        assert!(error.contains(part), "{error}");
    }
    let floats = images()?.to_dtype(DType::F32)?;
    assert!(image_batch(&floats, &BATCH, DType::F32).is_err());
    assert!(image_batch(&images()?.flatten_all()?, &BATCH, DType::F32).is_err());
    assert!(image_batch(&images()?, &BATCH, DType::F64).is_err());
    Ok(())
}
