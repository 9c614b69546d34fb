//! Layout changes: values, memory and gradients.

use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, nchw, nhwc, random};
use candle_core::{Device, Result, Storage, Tensor, Var};
use candle_vision_ops::{channels_first, channels_last};

const SHAPES: [[usize; 4]; 5] =
    [[2, 3, 4, 5], [1, 1, 7, 3], [3, 17, 1, 1], [2, 33, 13, 9], [1, 3, 97, 101]];

/// Where a tensor's elements lie.
fn address(x: &Tensor) -> *const f64 {
    let (storage, _) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => storage.as_slice::<f64>().expect("f64").as_ptr(),
        _ => panic!("on the CPU"),
    }
}

#[test]
fn values_move_with_their_channel() -> Result<()> {
    for dims in SHAPES {
        let x = random("layout", &dims);
        let last = channels_last(&x)?;
        assert!(last.is_contiguous(), "{dims:?}");
        assert_eq!(last.dims(), nhwc(&x).dims());
        assert_eq!(
            last.flatten_all()?.to_vec1::<f64>()?,
            nhwc(&x).flatten_all()?.to_vec1::<f64>()?
        );
        let first = channels_first(&last)?;
        assert!(first.is_contiguous(), "{dims:?}");
        assert_eq!(first.dims(), dims);
        assert_eq!(first.flatten_all()?.to_vec1::<f64>()?, x.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok(())
}

#[test]
fn a_view_of_channels_last_memory_is_not_copied() -> Result<()> {
    let memory = random("memory", &[2, 4, 5, 3]);
    let view = memory.permute([0, 3, 1, 2])?;
    assert_eq!(address(&channels_last(&view)?), address(&memory));
    assert_ne!(address(&channels_last(&view.contiguous()?)?), address(&memory));
    // One image out of a batch is still such a view.
    assert_eq!(address(&channels_last(&view.narrow(0, 1, 1)?)?), address(&memory));
    Ok(())
}

#[test]
fn gradients_move_back() {
    for dims in [[2, 3, 4, 5], [1, 1, 7, 3], [3, 7, 1, 1]] {
        let x = [random("layout", &dims)];
        check_gradients("channels_last", &x, |x| channels_last(&x[0]));
        check_gradients("channels_first", &x, |x| channels_first(&x[0]));
        check_gradients("of a view", &x, |x| channels_last(&x[0].permute([0, 3, 1, 2])?));
        check_gradients("of another view", &x, |x| channels_last(&x[0].transpose(1, 2)?));
    }
}

#[test]
fn gradients_are_contiguous() -> Result<()> {
    let x = Var::from_tensor(&random("contiguous", &[2, 4, 5, 3]))?;
    let y = channels_first(&x)?;
    let dx = y.sqr()?.sum_all()?.backward()?.remove(&x).expect("a gradient");
    assert!(dx.is_contiguous());
    assert_eq!(
        dx.flatten_all()?.to_vec1::<f64>()?,
        (x.as_tensor() * 2.0)?.flatten_all()?.to_vec1::<f64>()?
    );
    assert_eq!(nchw(&x).dims(), y.dims());
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = reference::image_batch("threads", &[3, 37, 41, 43])?;
        let last = channels_last(&x)?;
        Ok(vec![channels_first(&last)?, last])
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    check_error(channels_last(&random("wrong", &[3, 4])), &["channels_last", "[3, 4]"]);
    let bytes = Tensor::new(&[0u8], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
    check_error(channels_first(&bytes), &["channels_first", "U8"]);
    Ok(())
}
