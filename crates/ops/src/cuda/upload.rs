//! Upload of images to the device. It goes through pinned memory and its own stream, so the copy runs at
//! the same time as the computation of the previous step.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DeviceRepr, PinnedHostSlice,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, DType, Device, Result, Shape, Tensor, bail};

use super::array::{stored, tensor, unwritten};
use super::capture;
use super::element::{Element, with_dtype};
use super::function::{Source, device_function, launch, over_packs};
use super::state::{self, locked};

/// Largest number of copies in progress.
const SLOTS: usize = 3;

/// Memory on both sides of the copies in progress, which is reused in turn.
#[derive(Default)]
pub(super) struct Staging {
    stream: Option<Arc<CudaStream>>,
    slots: Vec<Slot>,
    next: usize,
}

struct Slot {
    pinned: PinnedHostSlice<u8>,
    device: CudaSlice<u8>,
    /// Signals that the copy has arrived.
    copied: CudaEvent,
    /// Signals that the reader of `device` is done.
    read: CudaEvent,
}

impl Slot {
    fn new(device: &CudaDevice, bytes: usize) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context();
        // SAFETY: both sides of a copy are written before they are read.
        let (pinned, memory) =
            unsafe { (context.alloc_pinned::<u8>(bytes).w()?, stream.alloc::<u8>(bytes).w()?) };
        let read = context.new_event(None).w()?;
        // Orders the first copy after the allocation.
        read.record(&stream).w()?;
        Ok(Self { pinned, device: memory, copied: context.new_event(None).w()?, read })
    }
}

impl Staging {
    /// Memory for at least `bytes` bytes.
    fn slot(&mut self, place: usize, device: &CudaDevice, bytes: usize) -> Result<&mut Slot> {
        match self.slots.get(place) {
            Some(slot) if slot.device.len() >= bytes => {}
            Some(slot) => {
                // Memory must not be freed while it is being copied from.
                slot.copied.synchronize().w()?;
                self.slots[place] = Slot::new(device, bytes)?;
            }
            None => self.slots.push(Slot::new(device, bytes)?),
        }
        Ok(&mut self.slots[place])
    }

    /// Uploads `bytes` and passes them to `f`, which puts its work on the device's stream.
    pub(super) fn with<R>(
        &mut self,
        device: &CudaDevice,
        bytes: &[u8],
        f: impl FnOnce(&CudaSlice<u8>) -> Result<R>,
    ) -> Result<R> {
        let compute = device.cuda_stream();
        let copies = match &self.stream {
            Some(stream) => stream.clone(),
            None => self.stream.insert(compute.context().new_stream().w()?).clone(),
        };
        let place = self.next % SLOTS;
        self.next += 1;
        let slot = self.slot(place, device, bytes.len())?;
        slot.copied.synchronize().w()?;
        slot.pinned.as_mut_slice().w()?[..bytes.len()].copy_from_slice(bytes);
        copies.wait(&slot.read).w()?;
        let written = &slot.pinned.as_slice().w()?[..bytes.len()];
        copies.memcpy_htod(written, &mut slot.device).w()?;
        slot.copied.record(&copies).w()?;
        compute.wait(&slot.copied).w()?;
        let result = f(&slot.device)?;
        slot.read.record(&compute).w()?;
        Ok(result)
    }
}

/// `values` as a tensor on `device`. It does not wait for the device's other work.
///
/// # Errors
/// If `device` is not a CUDA device, the shape has another number of elements, or memory runs out.
pub fn upload(values: &[f32], shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    uploaded("upload", values, shape.into(), device)
}

/// `labels` as a tensor on `device`. It does not wait for the device's other work, and may be called while another
/// thread captures work.
///
/// # Errors
/// If `device` is not a CUDA device, or memory runs out.
pub fn upload_labels(labels: &[u32], device: &Device) -> Result<Tensor> {
    uploaded("upload_labels", labels, labels.len().into(), device)
}

fn uploaded<T: CudaDType + DeviceRepr>(
    op: &str,
    values: &[T],
    shape: Shape,
    device: &Device,
) -> Result<Tensor> {
    check(op, values.len(), &shape)?;
    let cuda = cuda(op, device)?;
    let state = state::of(cuda)?;
    // Before anything is asked of the device, which may be capturing the work of another thread.
    let mut staging = locked(&state.staging);
    // SAFETY: the copy writes every element.
    let mut y = unsafe { cuda.alloc::<T>(values.len())? };
    // SAFETY: any bytes of numbers may be read as bytes.
    let bytes =
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    staging.with(cuda, bytes, |arrived| {
        // SAFETY: as many bytes as were written are as many numbers.
        let arrived = unsafe { arrived.transmute::<T>(values.len()) };
        match arrived {
            Some(arrived) => cuda.memcpy_dtod(&arrived, &mut y),
            None => bail!("{op}: {} numbers did not arrive", values.len()),
        }
    })?;
    Ok(tensor(stored(y, cuda, shape)))
}

/// Pixels as a tensor of `dtype` on `device`. The device computes `pixel * scale + shift` for every
/// channel, so only one byte per value is transferred.
///
/// # Shapes
/// - `pixels`: as many as `shape` has elements; the last dimension of `shape` is the channels
/// - `scale`, `shift`: one number per channel
///
/// # Errors
/// If `device` is not a CUDA device, a size does not fit, `dtype` is not `f32`, `f16` or `bf16`, or memory
/// runs out.
pub fn upload_pixels(
    pixels: &[u8],
    shape: impl Into<Shape>,
    [scale, shift]: [&[f32]; 2],
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    check("upload_pixels", pixels.len(), &shape)?;
    let channels = shape.dims().last().copied().unwrap_or(1);
    if scale.len() != channels || shift.len() != channels {
        bail!(
            "upload_pixels: {channels} channels, but {} scales and {} shifts",
            scale.len(),
            shift.len()
        )
    }
    let cuda = cuda("upload_pixels", device)?;
    with_dtype!("upload_pixels", dtype, T => {
        normalized::<T>(cuda, pixels, shape, channels, [scale, shift])
    })
}

fn normalized<T: Element>(
    device: &CudaDevice,
    pixels: &[u8],
    shape: Shape,
    channels: usize,
    [scale, shift]: [&[f32]; 2],
) -> Result<Tensor> {
    let state = state::of(device)?;
    let mut staging = locked(&state.staging);
    // The bits of the numbers, because tables are kept by their contents.
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits() as i32).collect();
    let scale = state.table(device, bits(scale))?;
    let shift = state.table(device, bits(shift))?;
    let (n, channels) = (pixels.len(), channels as u32);
    let mut y = unwritten::<T>(device, n)?;
    staging.with(device, pixels, |arrived| {
        let function = device_function::<T>(device, Source::Elementwise, "pixels")?;
        // SAFETY: arrived and y have n elements, the bits of scale and shift are a number for each
        // of the channels.
        unsafe {
            launch!(function, over_packs::<T>(n), &n, &channels, arrived, &*scale, &*shift, &mut y)
        }
        Ok(())
    })?;
    Ok(tensor(stored(y, device, shape)))
}

fn check(op: &str, found: usize, shape: &Shape) -> Result<()> {
    if found == shape.elem_count() {
        return Ok(());
    }
    bail!("{op}: {found} values for a tensor of shape {:?}", shape.dims())
}

fn cuda<'a>(op: &str, device: &'a Device) -> Result<&'a CudaDevice> {
    match device {
        Device::Cuda(cuda) => refuse_capture(op).map(|()| cuda),
        _ => bail!("{op}: expected a CUDA device, got {:?}", device.location()),
    }
}

/// Fails if this thread captures work.
pub(super) fn refuse_capture(op: &str) -> Result<()> {
    if capture::is_capturing() {
        bail!("{op}: work that is captured cannot copy from the host")
    }
    Ok(())
}
