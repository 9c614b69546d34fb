//! Random numbers that the device draws from a generator of the host.

use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, LaunchArgs, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor, bail};

use super::array::{stored, tensor, unwritten};
use super::capture;
use super::function::{Argument, Source, device_function, launch, over_threads};
use crate::Generator;

/// Where the kernels draw: the key, the stream, and the position in it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stream {
    key: [u32; 8],
    number: [u32; 2],
    /// Where the number lies on the device. 0 if the launch brings it.
    number_on_device: u64,
    position: u64,
}

// SAFETY: numbers and an address, laid out as the kernels' structure is.
unsafe impl DeviceRepr for Stream {}

impl<'a> Argument<'a> for &'a Stream {
    fn push(self, arguments: &mut LaunchArgs<'a>) {
        arguments.arg(self);
    }
}

impl Stream {
    /// The next `words` words of `generator`, which goes on behind them.
    fn take(generator: &mut Generator, words: usize) -> Result<Self> {
        let words = words as u64;
        let Ok(position) = u64::try_from(generator.get_word_pos()) else {
            bail!("random: the generator is at word {}", generator.get_word_pos())
        };
        let seed = generator.get_seed();
        let number = generator.get_stream();
        let stream = Self {
            key: std::array::from_fn(|i| {
                let bytes = &seed[4 * i..4 * i + 4];
                bytes.iter().rev().fold(0, |key, byte| key << 8 | u32::from(*byte))
            }),
            number: [number as u32, (number >> 32) as u32],
            number_on_device: capture::note_draws(generator, words)?.unwrap_or(0),
            position,
        };
        generator.set_word_pos(u128::from(position) + u128::from(words));
        Ok(stream)
    }
}

/// A mask of `count` elements: 1 where the next word of `generator` is at least `threshold`, otherwise 0.
pub(crate) fn kept(
    device: &CudaDevice,
    count: usize,
    threshold: u64,
    generator: &mut Generator,
) -> Result<Tensor> {
    // SAFETY: the kernel writes every element.
    let mut kept = unsafe { device.alloc::<u8>(count)? };
    let stream = Stream::take(generator, count)?;
    let function = device_function::<f32>(device, Source::Random, "kept")?;
    let config = over_threads(count.div_ceil(16) + 1);
    // SAFETY: kept has as many elements as the kernel is told.
    unsafe { launch!(function, config, &count, &stream, &threshold, &mut kept) }
    Ok(tensor(stored(kept, device, count)))
}

/// `[rows]`: `factor` where the next 53 random bits of `generator` are below `threshold`, otherwise 0.
pub(crate) fn row_factors(
    device: &CudaDevice,
    rows: usize,
    threshold: u64,
    factor: f32,
    generator: &mut Generator,
) -> Result<Tensor> {
    let mut factors = unwritten::<f32>(device, rows)?;
    let stream = Stream::take(generator, 2 * rows)?;
    let function = device_function::<f32>(device, Source::Random, "row_factors")?;
    let config = over_threads(rows);
    // SAFETY: factors has as many elements as the kernel is told.
    unsafe { launch!(function, config, &rows, &stream, &threshold, &factor, &mut factors) }
    Ok(tensor(stored(factors, device, rows)))
}
