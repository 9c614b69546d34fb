//! Batches of stored images: the same bits as on the CPU.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{Edge, ImageBatch, PixelStep, image_batch};

use crate::twins::cuda;

/// Images with every kind of pixel: colours, greys, black and white.
fn images(count: usize, height: usize, width: usize, channels: usize) -> Result<Tensor> {
    let byte = |i: usize| match i / channels % 7 {
        0 => 0,
        1 => 255,
        2 => (i / channels * 31 % 256) as u8,
        _ => (i * 97 % 251 + i / 13) as u8,
    };
    let bytes: Vec<u8> = (0..count * height * width * channels).map(byte).collect();
    Tensor::from_vec(bytes, (count, height, width, channels), &Device::Cpu)
}

fn window(corner: [i32; 2], size: [usize; 2], edge: Edge) -> PixelStep {
    PixelStep::Window { corner, size, edge }
}

/// A turn about the middle of an image of this size.
fn turn(degrees: f64, [height, width]: [usize; 2], is_bilinear: bool) -> PixelStep {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    let matrix = [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y];
    PixelStep::Affine { matrix, is_bilinear, fill: [11, 0, 250] }
}

/// Steps that leave images of this size as large as they are, in lists of different lengths.
fn lists([height, width]: [usize; 2]) -> Vec<Vec<PixelStep>> {
    let size = [height, width];
    let jitter = [
        PixelStep::Hue(20),
        PixelStep::Contrast(1.17),
        PixelStep::Brightness(0.83),
        PixelStep::Saturation(1.4),
    ];
    vec![
        vec![],
        vec![window([-2, 3], size, Edge::Constant([9, 200, 90])), PixelStep::HorizontalFlip],
        vec![window([1, -3], size, Edge::Reflect), PixelStep::VerticalFlip],
        vec![
            window([-4, -4], [height + 8, width + 8], Edge::Symmetric),
            window([5, 2], size, Edge::Nearest),
        ],
        vec![turn(14.0, size, false)],
        vec![turn(-33.0, size, true), PixelStep::HorizontalFlip],
        jitter.to_vec(),
        jitter.iter().rev().copied().collect(),
        vec![PixelStep::Hue(236), PixelStep::Contrast(0.4), PixelStep::Brightness(3.0)],
        vec![PixelStep::Contrast(f32::INFINITY), PixelStep::Hue(128), PixelStep::Saturation(0.0)],
        vec![PixelStep::Fill { corner: [1, 2], size: [height - 2, 1], color: [7, 99, 200] }],
    ]
}

/// A batch in which each image has its own list of steps. `last` comes after it.
fn check(stored: &Tensor, last: Option<PixelStep>, dtype: DType) -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let (count, height, width, channels) = stored.dims4()?;
    let (mut steps, mut ends) = (Vec::new(), Vec::new());
    let (mut indices, mut labels) = (Vec::new(), Vec::new());
    for (i, list) in lists([height, width]).into_iter().enumerate() {
        steps.extend(list);
        steps.extend(last);
        ends.push(steps.len());
        indices.push((i * 5 % count) as u32);
        labels.push((i * 7 % 10) as u32);
    }
    let channels =
        if let Some(PixelStep::Grayscale { channels }) = last { channels } else { channels };
    let scale: Vec<f32> = (0..channels).map(|c| 0.017 + 0.001 * c as f32).collect();
    let shift: Vec<f32> = (0..channels).map(|c| c as f32 - 1.9).collect();
    let batch = ImageBatch {
        indices: &indices,
        labels: &labels,
        steps: &steps,
        ends: &ends,
        scale: &scale,
        shift: &shift,
    };
    let (expected, _) = image_batch(stored, &batch, dtype)?;
    let (found, found_labels) = image_batch(&stored.to_device(&cuda.device)?, &batch, dtype)?;
    assert_eq!((found.dims(), found.dtype()), (expected.dims(), dtype));
    assert_eq!(found_labels.to_vec1::<u32>()?, labels);
    let values = |x: &Tensor| {
        let x = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        x.flatten_from(1)?.to_vec2::<f32>()
    };
    for (i, (found, expected)) in values(&found)?.iter().zip(values(&expected)?).enumerate() {
        assert!(found == &expected, "image {i} of {:?} in {dtype:?}", stored.dims());
    }
    Ok(())
}

#[test]
fn images_are_the_cpus_bit_for_bit() -> Result<()> {
    // The second size is too large for a block's own memory.
    for (height, width) in [(7, 9), (61, 60)] {
        for channels in [1, 3] {
            let stored = images(6, height, width, channels)?;
            check(&stored, None, DType::F32)?;
            for grey in [1, 3] {
                check(&stored, Some(PixelStep::Grayscale { channels: grey }), DType::F32)?;
            }
        }
    }
    for dtype in [DType::F16, DType::BF16] {
        check(&images(6, 7, 9, 3)?, None, dtype)?;
    }
    Ok(())
}

#[test]
fn every_colour_is_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let levels = (0..=255u8).step_by(5);
    let colors = levels.clone().flat_map(|r| levels.clone().map(move |g| [r, g]));
    let bytes: Vec<u8> =
        colors.flat_map(|[r, g]| (0..=255).step_by(5).flat_map(move |b| [r, g, b])).collect();
    let side = bytes.len() / (52 * 3);
    let stored = Tensor::from_vec(bytes, (1, side, 52, 3), &Device::Cpu)?;
    for step in [PixelStep::Hue(1), PixelStep::Hue(100), PixelStep::Saturation(1.3)] {
        let batch = ImageBatch {
            indices: &[0],
            labels: &[0],
            steps: &[step],
            ends: &[1],
            scale: &[1.0; 3],
            shift: &[0.0; 3],
        };
        let made = |stored: &Tensor| -> Result<Vec<f32>> {
            image_batch(stored, &batch, DType::F32)?.0.flatten_all()?.to_vec1()
        };
        assert!(made(&stored)? == made(&stored.to_device(&cuda.device)?)?, "{step:?}");
    }
    Ok(())
}
