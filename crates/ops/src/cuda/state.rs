//! The state that is kept for each device: cuDNN's handle, its plans and workspace, and small tables.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::{CudaDevice, DeviceId};

use super::bounded::Bounded;
use super::capture;
use super::cudnn::Cudnn;
use super::function::{Functions, MOST_SUM_COLUMNS};
use super::modules::Modules;
use super::upload::Staging;

/// Largest total size in bytes of the tables of a device, and the smallest size that a table counts as.
const MOST_TABLE_BYTES: usize = 16 << 20;
const LEAST_TABLE_BYTES: usize = 4096;

/// Largest number of devices whose state is kept. A state that was dropped is made again when it is needed.
/// Without the limit, a program that opens ever new devices would keep the state of each.
const MOST_DEVICES: usize = 16;

/// Our state for one of candle's devices.
pub(super) struct State {
    /// `None` if the library is not installed.
    pub(super) cudnn: Option<Mutex<Cudnn>>,
    /// The tables that kernels read, by their contents.
    tables: Mutex<Bounded<Vec<i32>, Arc<CudaSlice<i32>>>>,
    /// For each column of blocks of a kernel that sums, how many of them have ended. The kernels leave zeros, and one
    /// stream runs them one after the other.
    pub(super) ended_blocks: CudaSlice<u32>,
    pub(super) staging: Mutex<Staging>,
    pub(super) modules: Modules,
    pub(super) functions: Functions,
}

/// The state of `device`. It is made when it is first needed.
pub(super) fn of(device: &CudaDevice) -> Result<Arc<State>> {
    static STATES: OnceLock<Mutex<Bounded<DeviceId, Arc<State>>>> = OnceLock::new();
    let mut states = locked(STATES.get_or_init(|| Mutex::new(Bounded::new(MOST_DEVICES))));
    if let Some(state) = states.get(&device.id()) {
        return Ok(state.clone());
    }
    let state = Arc::new(State {
        cudnn: Cudnn::open(device)?.map(Mutex::new),
        tables: Mutex::new(Bounded::new(MOST_TABLE_BYTES)),
        ended_blocks: device.alloc_zeros::<u32>(MOST_SUM_COLUMNS)?,
        staging: Mutex::default(),
        modules: Modules::default(),
        functions: Functions::default(),
    });
    states.insert(device.id(), state.clone(), 1);
    Ok(state)
}

impl State {
    /// `values` on the device. They are uploaded once, because a network uses the same few tables in every
    /// step.
    pub(super) fn table(
        &self,
        device: &CudaDevice,
        values: Vec<i32>,
    ) -> Result<Arc<CudaSlice<i32>>> {
        let mut tables = locked(&self.tables);
        if let Some(table) = tables.get(&values) {
            // It may not stay among the tables as long as the graph.
            capture::hold(table);
            return Ok(table.clone());
        }
        let table = Arc::new(device.clone_htod(&values)?);
        let bytes = size_of_val(values.as_slice()).max(LEAST_TABLE_BYTES);
        tables.insert(values, table.clone(), bytes);
        Ok(table)
    }
}

/// A panic leaves nothing here in a half-finished state.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::cuda_device;

    /// Skipped where there is no device, which the emulator is too.
    #[test]
    fn tables_and_devices_are_kept_up_to_a_number() {
        let _alone = crate::cuda::device::alone();
        let Ok(Device::Cuda(device)) = cuda_device(0) else { return };
        let state = of(&device).expect("a state");
        let kept = || locked(&state.tables).len();
        let most = MOST_TABLE_BYTES / LEAST_TABLE_BYTES;
        for number in 0..most as i32 + 100 {
            let table = state.table(&device, vec![number, 7]).expect("room for two numbers");
            assert_eq!(table.len(), 2);
        }
        assert_eq!(kept(), most);
        let last = most as i32 + 99;
        let again = state.table(&device, vec![last, 7]).expect("a table");
        assert_eq!(device.clone_dtoh(&*again).expect("a copy"), [last, 7]);
        assert_eq!(kept(), most);

        let weak = Arc::downgrade(&state);
        drop((state, again, device));
        assert!(weak.upgrade().is_some());
        for _ in 0..MOST_DEVICES {
            let Ok(Device::Cuda(device)) = cuda_device(0) else { return };
            of(&device).expect("a state");
        }
        assert!(weak.upgrade().is_none(), "a device's state outlived {MOST_DEVICES} later ones");
    }
}
