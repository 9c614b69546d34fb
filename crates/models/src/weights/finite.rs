//! Weights that a network cannot compute with.

use candle_core::{CpuStorage, Error, Result, Storage, Tensor};

/// Fails if `tensor`, which a message calls `name`, holds a NaN or an infinity. Integers are always finite.
///
/// # Errors
/// With the name, the shape and the number of such values.
pub fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    let count = not_finite(tensor)?;
    if count == 0 {
        return Ok(());
    }
    Err(Error::Msg(format!(
        "`{name}` {:?} holds {count} of {} values that are NaN or infinite; take the weights from another file, or from an \
         earlier checkpoint",
        tensor.dims(),
        tensor.elem_count()
    )))
}

/// The number of values that are not finite.
fn not_finite(tensor: &Tensor) -> Result<usize> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return Ok(0) };
    let place = layout.start_offset()..layout.start_offset() + tensor.elem_count();
    Ok(match storage {
        CpuStorage::F32(values) => values[place].iter().filter(|x| !x.is_finite()).count(),
        CpuStorage::F64(values) => values[place].iter().filter(|x| !x.is_finite()).count(),
        CpuStorage::F16(values) => values[place].iter().filter(|x| !x.is_finite()).count(),
        CpuStorage::BF16(values) => values[place].iter().filter(|x| !x.is_finite()).count(),
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};

    use super::*;
    use crate::weights::{Strictness, load, tensors};
    use crate::{ModelSpec, build};

    #[test]
    fn values_are_counted_in_every_type() -> Result<()> {
        let x = Tensor::new(&[1f32, f32::NAN, f32::INFINITY, -2.0], &Device::Cpu)?;
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            assert_eq!(not_finite(&x.to_dtype(dtype)?)?, 2);
            assert_eq!(not_finite(&x.to_dtype(dtype)?.narrow(0, 2, 2)?)?, 1);
        }
        assert_eq!(not_finite(&Tensor::new(&[1u32], &Device::Cpu)?)?, 0);
        Ok(())
    }

    #[test]
    fn a_network_takes_no_weights_that_are_not_finite() -> Result<()> {
        let model = build(&ModelSpec::new("resnet20_cifar", 10), 0, &Device::Cpu)?;
        let before = tensors(model.parameters());
        let mut all: HashMap<String, Tensor> = before.clone().into_iter().collect();
        let name = "bn1.running_var";
        all.insert(name.to_owned(), (all[name].ones_like()? * f64::NAN)?);
        let error = load(&*model, &all, Strictness::Strict).expect_err("NaN").to_string();
        let expected = "the weights of `resnet20_cifar` cannot be used: `bn1.running_var` [16] holds 16 of 16 values";
        assert!(error.starts_with(expected), "{error}");
        let after = model.parameters().get(name).expect("a buffer").detached();
        assert_eq!(after.to_vec1::<f32>()?, before[name].to_vec1::<f32>()?);
        Ok(())
    }
}
