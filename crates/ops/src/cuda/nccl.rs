//! Sums and copies between the cards of several processes, by NCCL and without the memory of the host.

mod library;

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

use super::array::{Array, kept, stored, tensor};
use super::capture;
use crate::AcrossRanks;
use library::{Functions, Handle, SUM, UniqueId};

/// The cards of several processes, which NCCL connects. Each process ("rank") has a card of its own.
///
/// What is asked of it is collective: all ranks ask the same in the same order, with as many values. The host does not
/// wait: calls return when the work is on the card's stream. So a rank that does not come lets the cards of the others wait
/// without an end, and whoever asks has to notice that by other means. Dropping it ends work that is not done, on the other
/// ranks as well.
///
/// # Example
/// ```no_run
/// use candle_core::{DType, Tensor};
/// use candle_vision_ops::{CardRanks, cuda_device};
///
/// // With several ranks, the first makes the id and the others get it by a connection between the hosts.
/// let (id, device) = (CardRanks::new_id()?, cuda_device(0)?);
/// let ranks = CardRanks::join(&device, &id, 0, 1)?;
/// let sums = Tensor::ones(5, DType::F32, &device)?;
/// ranks.sum(&sums)?;
/// ranks.wait()?;
/// # candle_core::Result::Ok(())
/// ```
pub struct CardRanks(Arc<Joined>);

/// A rank of a communicator. Graphs that were captured keep it: NCCL waits for them when it is left.
struct Joined {
    functions: &'static Functions,
    communicator: Handle,
    device: CudaDevice,
    /// On which NCCL works, so that the card computes meanwhile.
    stream: Arc<CudaStream>,
    rank: usize,
    ranks: usize,
}

// SAFETY: NCCL's communicators may be used from any thread. Calls of several threads at a time would be in an order that no
// other rank knows, which is for the callers to avoid as the order between ranks is; NCCL itself locks.
unsafe impl Send for Joined {}
// SAFETY: as above.
unsafe impl Sync for Joined {}

impl fmt::Debug for CardRanks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("CardRanks");
        text.field("rank", &self.0.rank).field("ranks", &self.0.ranks).finish_non_exhaustive()
    }
}

impl CardRanks {
    /// Looks for NCCL.
    ///
    /// # Errors
    /// If it is not installed. The error says where to get it.
    pub fn find_library() -> Result<()> {
        Functions::get().map(|_| ())
    }

    /// A new id, by which ranks find each other. One rank makes it, and the others get it from that one.
    ///
    /// # Errors
    /// If NCCL is not installed, or finds no network.
    pub fn new_id() -> Result<Vec<u8>> {
        let functions = Functions::get()?;
        let mut id = UniqueId([0; UniqueId::BYTES]);
        // SAFETY: NCCL writes an id there.
        let status = unsafe { (functions.unique_id)(&raw mut id) };
        functions.check("ncclGetUniqueId", status)?;
        Ok(id.0.to_vec())
    }

    /// Joins the ranks that have `id`, as number `rank` of `ranks`. It waits for all of them.
    ///
    /// # Errors
    /// If `device` is no card, NCCL is not installed, two ranks have the same card, or the ranks do not reach each other.
    pub fn join(device: &Device, id: &[u8], rank: usize, ranks: usize) -> Result<Self> {
        let Device::Cuda(device) = device else {
            bail!("CardRanks: expected a CUDA device, got {:?}", device.location())
        };
        let Ok(id) = id.try_into() else {
            bail!("CardRanks: an id has {} bytes, got {}", UniqueId::BYTES, id.len())
        };
        if rank >= ranks || c_int::try_from(ranks).is_err() {
            bail!("CardRanks: there is no rank {rank} among {ranks}")
        }
        let functions = Functions::get()?;
        let stream = device.cuda_stream().context().new_stream().w()?;
        stream.context().bind_to_thread().w()?;
        let mut communicator = ptr::null_mut();
        let (count, number) = (ranks as c_int, rank as c_int);
        // SAFETY: NCCL writes a handle there, for the card of this thread's context.
        let status =
            unsafe { (functions.join)(&raw mut communicator, count, UniqueId(id), number) };
        functions.check("ncclCommInitRank", status)?;
        let device = device.clone();
        Ok(Self(Arc::new(Joined { functions, communicator, device, stream, rank, ranks })))
    }

    /// Replaces the values of `tensor` by their sums over all ranks. The card computes them beside its other work, so
    /// nobody may read, change or drop the tensor before [`CardRanks::wait`]. Every rank gets the same bits.
    ///
    /// # Shapes
    /// - `tensor`: any, contiguous, `f32`, `f64`, `f16` or `bf16`; of the same size on all ranks. Other tensors that share
    ///   its memory see the sums too.
    ///
    /// # Errors
    /// If `tensor` does not lie on the card or not in order, or NCCL refuses.
    pub fn sum(&self, tensor: &Tensor) -> Result<()> {
        let kept = kept(tensor);
        let array = kept.array()?;
        match tensor.dtype() {
            DType::F32 => self.sum_of::<f32>(array),
            DType::F64 => self.sum_of::<f64>(array),
            DType::F16 => self.sum_of::<f16>(array),
            DType::BF16 => self.sum_of::<bf16>(array),
            other => bail!("CardRanks: sums of {other:?} are not supported"),
        }
    }

    fn sum_of<T: NcclType>(&self, array: Array<'_>) -> Result<()> {
        let values = array.view::<T>()?;
        self.begin()?;
        let (place, _) = values.device_ptr(&self.0.stream);
        let (count, stream) = (array.len(), self.0.stream.cu_stream().cast());
        // SAFETY: the view has so many values of this type. The stream has waited for whoever wrote them, and whoever reads
        // them waits for the stream.
        let status = unsafe {
            let (from, to) = (place as *const c_void, place as *mut c_void);
            (self.0.functions.all_reduce)(
                from,
                to,
                count,
                T::TYPE,
                SUM,
                self.0.communicator,
                stream,
            )
        };
        self.0.functions.check("ncclAllReduce", status)
    }

    /// Lets the card's following work wait for the sums that were asked for so far. The host does not wait.
    ///
    /// # Errors
    /// If the card fails.
    pub fn wait(&self) -> Result<()> {
        self.0.device.cuda_stream().join(&self.0.stream).w()
    }

    /// Checks that what is asked of the ranks can be captured ([`Captured`](crate::Captured)).
    ///
    /// # Errors
    /// If NCCL is too old.
    pub fn check_capturable(&self) -> Result<()> {
        /// 2.9.6.
        const FIRST: c_int = 20_906;
        let mut version = 0;
        // SAFETY: NCCL writes a number there.
        let status = unsafe { (self.0.functions.version)(&raw mut version) };
        self.0.functions.check("ncclGetVersion", status)?;
        if version < FIRST {
            bail!("NCCL before version 2.9.6 cannot be captured: its number is {version}")
        }
        Ok(())
    }

    /// NCCL's work waits for what the card was asked for so far.
    fn begin(&self) -> Result<()> {
        capture::hold(&self.0);
        self.0.stream.context().bind_to_thread().w()?;
        self.0.stream.join(&self.0.device.cuda_stream()).w()
    }

    fn gathered<T: NcclType>(&self, array: Array<'_>) -> Result<Tensor> {
        let values = array.view::<T>()?;
        let count = array.len();
        // SAFETY: NCCL writes every value before the following work reads one.
        let all: CudaSlice<T> = unsafe { self.0.device.alloc(count * self.0.ranks)? };
        self.begin()?;
        let ((from, _), (to, _)) =
            (values.device_ptr(&self.0.stream), all.device_ptr(&self.0.stream));
        let stream = self.0.stream.cu_stream().cast();
        // SAFETY: the first has so many values of this type, the second as many for each rank; the streams wait for each
        // other before and after.
        let status = unsafe {
            let (from, to) = (from as *const c_void, to as *mut c_void);
            (self.0.functions.all_gather)(from, to, count, T::TYPE, self.0.communicator, stream)
        };
        let waits = self.wait();
        self.0.functions.check("ncclAllGather", status)?;
        waits?;
        let shape = [&[self.0.ranks], array.dims()].concat();
        Ok(tensor(stored(all, &self.0.device, shape)))
    }
}

impl AcrossRanks for CardRanks {
    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let tensor = tensor.contiguous()?;
        let kept = kept(&tensor);
        let array = kept.array()?;
        let all = match tensor.dtype() {
            DType::F32 => self.gathered::<f32>(array)?,
            DType::F64 => self.gathered::<f64>(array)?,
            DType::F16 => self.gathered::<f16>(array)?,
            DType::BF16 => self.gathered::<bf16>(array)?,
            other => bail!("CardRanks: gathering {other:?} is not supported"),
        };
        (0..self.0.ranks).map(|rank| all.get(rank)).collect()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.stream.context().bind_to_thread();
        // Not `ncclCommDestroy`, which waits for the other ranks, and so for ever after a failure of one.
        // SAFETY: nobody uses the handle after this.
        unsafe { (self.functions.leave)(self.communicator) };
    }
}

/// A number type that NCCL has a name for.
trait NcclType: CudaDType + DeviceRepr {
    /// `ncclDataType_t`.
    const TYPE: c_int;
}

impl NcclType for f16 {
    const TYPE: c_int = 6;
}

impl NcclType for f32 {
    const TYPE: c_int = 7;
}

impl NcclType for f64 {
    const TYPE: c_int = 8;
}

impl NcclType for bf16 {
    const TYPE: c_int = 9;
}
