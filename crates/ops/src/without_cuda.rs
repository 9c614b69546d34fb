//! The public items of `cuda` in a build without the feature. Functions that need CUDA fail and name the
//! feature.

use candle_core::{DType, Device, Error, Result, Shape, Tensor, bail};

use crate::{AcrossRanks, CardMemory, Generator};

/// A CUDA device set up for training, in a build with the feature `cuda`.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn cuda_device(_ordinal: usize) -> Result<Device> {
    bail!("cuda_device: built without the feature `cuda` of candle-vision-ops")
}

/// The kernels that the driver has to translate into a GPU's machine code, in a build with the feature
/// `cuda`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Number of candle's kernels.
    pub kernels: usize,
    /// Whether this crate's kernels have to be translated too.
    pub ours_too: bool,
}

/// Loads the kernels that networks use onto a CUDA device, in a build with the feature `cuda`. This build
/// has none, so it does nothing.
///
/// # Errors
/// None.
pub fn load_kernels(_device: &Device, _notice: impl FnOnce(Translation) + Send) -> Result<()> {
    Ok(())
}

/// Bytes of a CUDA card's memory that are taken, in a build with the feature `cuda`. This build knows no card.
pub fn card_memory_in_use(_device: &Device) -> Option<u64> {
    None
}

/// The memory of a CUDA card, in a build with the feature `cuda`. This build knows no card.
pub fn card_memory(_device: &Device) -> Option<CardMemory> {
    None
}

/// Limits what this process takes of a CUDA card's memory, in a build with the feature `cuda`.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn limit_card_memory(_device: &Device, _bytes: u64) -> Result<()> {
    bail!("limit_card_memory: built without the feature `cuda` of candle-vision-ops")
}

/// Number of CUDA cards, in a build with the feature `cuda`.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn cuda_device_count() -> Result<usize> {
    bail!("cuda_device_count: built without the feature `cuda` of candle-vision-ops")
}

/// Work that was captured and not launched yet, in a build with the feature `cuda`.
#[derive(Debug)]
#[must_use = "nothing is done before it is launched"]
pub struct PreparedWork<T> {
    _results: T,
    work: Captured,
}

impl<T> PreparedWork<T> {
    /// Launches the work for the first time.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn launch(self) -> Result<(T, Captured)> {
        match self.work.0 {}
    }
}

/// Work of a CUDA device that was captured once and can be launched any number of times, in a build with the feature
/// `cuda`.
#[derive(Debug)]
pub struct Captured(std::convert::Infallible);

impl Captured {
    /// Captures what `work` asks of a CUDA device, in a build with the feature `cuda`.
    ///
    /// # Errors
    /// Always: this build has no CUDA.
    pub fn new<T, E: From<Error>>(
        _device: &Device,
        _work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Self), E> {
        let why = "capture: built without the feature `cuda` of candle-vision-ops";
        Err(Error::Msg(why.to_owned()).into())
    }

    /// Captures and launches nothing yet, in a build with the feature `cuda`.
    ///
    /// # Errors
    /// Always: this build has no CUDA.
    pub fn prepare<T, E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<PreparedWork<T>, E> {
        Self::new(device, work).map(|(results, work)| PreparedWork { _results: results, work })
    }

    /// Number of words that the work which this thread captures has drawn on the device so far. This build captures
    /// nothing.
    pub fn drawn_words() -> u64 {
        0
    }

    /// Sets the generator that the following launches draw from.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn draw_from(&mut self, _generator: &Generator) -> Result<()> {
        match self.0 {}
    }

    /// Launches the work.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn launch(&mut self) -> Result<()> {
        match self.0 {}
    }

    /// Launches the work with the numbers of the optimizer steps that `steps` takes.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn launch_with<E: From<Error>>(
        &mut self,
        _steps: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        match self.0 {}
    }
}

/// The cards of several processes, which NCCL connects, in a build with the feature `cuda`.
#[derive(Debug)]
pub struct CardRanks(std::convert::Infallible);

impl CardRanks {
    /// Looks for NCCL, in a build with the feature `cuda`.
    ///
    /// # Errors
    /// Always: this build has no CUDA.
    pub fn find_library() -> Result<()> {
        bail!("CardRanks: built without the feature `cuda` of candle-vision-ops")
    }

    /// A new id, by which ranks find each other, in a build with the feature `cuda`.
    ///
    /// # Errors
    /// Always: this build has no CUDA.
    pub fn new_id() -> Result<Vec<u8>> {
        bail!("CardRanks: built without the feature `cuda` of candle-vision-ops")
    }

    /// Joins the ranks that have `id`, in a build with the feature `cuda`.
    ///
    /// # Errors
    /// Always: this build has no CUDA.
    pub fn join(_device: &Device, _id: &[u8], _rank: usize, _ranks: usize) -> Result<Self> {
        bail!("CardRanks: built without the feature `cuda` of candle-vision-ops")
    }

    /// Checks that what is asked of the ranks can be captured.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn check_capturable(&self) -> Result<()> {
        match self.0 {}
    }

    /// Replaces the values of `tensor` by their sums over all ranks.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn sum(&self, _tensor: &Tensor) -> Result<()> {
        match self.0 {}
    }

    /// Lets the card's following work wait for the sums that were asked for so far.
    ///
    /// # Errors
    /// None: there is no such value.
    pub fn wait(&self) -> Result<()> {
        match self.0 {}
    }
}

impl AcrossRanks for CardRanks {
    fn all_gather(&self, _tensor: &Tensor) -> Result<Vec<Tensor>> {
        match self.0 {}
    }
}

/// Uploads numbers to a CUDA device, in a build with the feature `cuda`.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn upload(_values: &[f32], _shape: impl Into<Shape>, _device: &Device) -> Result<Tensor> {
    bail!("upload: built without the feature `cuda` of candle-vision-ops")
}

/// Uploads labels to a CUDA device, in a build with the feature `cuda`.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn upload_labels(_labels: &[u32], _device: &Device) -> Result<Tensor> {
    bail!("upload_labels: built without the feature `cuda` of candle-vision-ops")
}

/// Uploads pixels to a CUDA device, in a build with the feature `cuda`.
///
/// # Errors
/// Always: this build has no CUDA.
pub fn upload_pixels(
    _pixels: &[u8],
    _shape: impl Into<Shape>,
    _scale_and_shift: [&[f32]; 2],
    _dtype: DType,
    _device: &Device,
) -> Result<Tensor> {
    bail!("upload_pixels: built without the feature `cuda` of candle-vision-ops")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_is_named() {
        let device = &Device::Cpu;
        let errors = [
            cuda_device(0).unwrap_err(),
            cuda_device_count().unwrap_err(),
            limit_card_memory(device, 1 << 30).unwrap_err(),
            upload(&[1.0], 1, device).unwrap_err(),
            upload_labels(&[1], device).unwrap_err(),
            upload_pixels(&[1], 1, [&[1.0], &[0.0]], DType::F32, device).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains("feature `cuda`"), "{error}");
        }
    }
}
