//! What is kept for each device: cuDNN's handle, its plans and workspace, and small tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::{CudaDevice, DeviceId};

use super::cudnn::Cudnn;
use super::upload::Staging;

/// What one of candle's devices has of ours. It lives as long as the process.
pub(super) struct State {
    /// `None` where the library is not installed.
    pub(super) cudnn: Option<Mutex<Cudnn>>,
    /// Tables that kernels read, by their content.
    tables: Mutex<HashMap<Vec<i32>, Arc<CudaSlice<i32>>>>,
    pub(super) staging: Mutex<Staging>,
}

/// The state of `device`, made when it is first asked for.
pub(super) fn of(device: &CudaDevice) -> Result<Arc<State>> {
    static STATES: OnceLock<Mutex<HashMap<DeviceId, Arc<State>>>> = OnceLock::new();
    let mut states = locked(STATES.get_or_init(Mutex::default));
    if let Some(state) = states.get(&device.id()) {
        return Ok(state.clone());
    }
    let state = Arc::new(State {
        cudnn: Cudnn::open(device)?.map(Mutex::new),
        tables: Mutex::default(),
        staging: Mutex::default(),
    });
    states.insert(device.id(), state.clone());
    Ok(state)
}

impl State {
    /// `values` on the device. Uploaded once: a network asks for the same few tables at every step.
    pub(super) fn table(
        &self,
        device: &CudaDevice,
        values: Vec<i32>,
    ) -> Result<Arc<CudaSlice<i32>>> {
        let mut tables = locked(&self.tables);
        if let Some(table) = tables.get(&values) {
            return Ok(table.clone());
        }
        let table = Arc::new(device.clone_htod(&values)?);
        tables.insert(values, table.clone());
        Ok(table)
    }
}

/// Nothing here is left half done by a panic.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
