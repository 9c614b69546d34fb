//! Images on their way to the device.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{upload, upload_labels, upload_pixels};

use crate::measure::assert_near;
use crate::twins::{TYPES, cuda, random};

#[test]
fn numbers_arrive_as_they_left() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    // More uploads than are under way at once, of growing and shrinking sizes.
    let mut arrived = Vec::new();
    for size in [5, 700, 3, 4000, 4000, 1, 2000] {
        let x = random(&format!("upload {size}"), &[size, 3]);
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        arrived.push((upload(&values, (size, 3), &cuda.device)?, x));
    }
    for (found, expected) in arrived {
        assert_eq!(found.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
    }
    let labels = upload_labels(&[7, 0, u32::MAX], &cuda.device)?;
    assert_eq!(labels.to_vec1::<u32>()?, [7, 0, u32::MAX]);
    assert!(upload_labels(&[7], &Device::Cpu).is_err());
    Ok(())
}

#[test]
fn pixels_are_normalised_on_the_way() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for channels in [1, 3, 4] {
        let shape = (2, 5, 7, channels);
        let pixels: Vec<u8> = (0..70 * channels).map(|i| (i * 37 % 256) as u8).collect();
        let scale: Vec<f32> = (0..channels).map(|c| 0.01 + 0.001 * c as f32).collect();
        let shift: Vec<f32> = (0..channels).map(|c| c as f32 - 1.5).collect();
        let expected = Tensor::from_vec(pixels.clone(), shape, &Device::Cpu)?
            .to_dtype(DType::F32)?
            .broadcast_mul(&Tensor::new(scale.as_slice(), &Device::Cpu)?)?
            .broadcast_add(&Tensor::new(shift.as_slice(), &Device::Cpu)?)?;
        for (dtype, tolerance) in TYPES {
            let by = [scale.as_slice(), &shift];
            let found = upload_pixels(&pixels, shape, by, dtype, &cuda.device)?;
            assert_eq!(found.dtype(), dtype);
            let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            assert_near(&format!("{channels} channels, {dtype:?}"), &found, &expected, tolerance);
        }
    }
    Ok(())
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let error = upload(&[1.0, 2.0], 3, &cuda.device).expect_err("two are not three").to_string();
    assert!(error.contains("upload") && error.contains("[3]"), "{error}");
    let error = upload(&[1.0], 1, &Device::Cpu).expect_err("no CUDA device").to_string();
    assert!(error.contains("CUDA"), "{error}");
    let by = [&[1f32, 1.0][..], &[0.0]];
    let found = upload_pixels(&[1, 2], (1, 2), by, DType::F32, &cuda.device);
    let error = found.expect_err("a shift is missing").to_string();
    assert!(error.contains("2 channels") && error.contains("1 shifts"), "{error}");
    Ok(())
}
