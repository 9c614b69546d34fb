//! The functions of NCCL that are used here. They are found in the library at run time.
//!
//! cudarc has NCCL too. But candle has cudarc link its libraries, so with it every CUDA binary would need NCCL to be built
//! and to start, also on a computer with one card. The signatures are those of `nccl.h` of NCCL 2.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use candle_core::{Error, Result};
use libloading::Library;

use crate::cuda::library::functions;

/// An opaque communicator.
pub(super) type Handle = *mut c_void;
pub(super) type Status = c_int;

pub(super) const SUCCESS: Status = 0;
/// `ncclSum`.
pub(super) const SUM: c_int = 0;

/// `ncclUniqueId`: what ranks find each other by. It is passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub(super) [u8; UniqueId::BYTES]);

impl UniqueId {
    pub(super) const BYTES: usize = 128;
}

functions! {
    version: c"ncclGetVersion", unsafe extern "C" fn(*mut c_int) -> Status;
    unique_id: c"ncclGetUniqueId", unsafe extern "C" fn(*mut UniqueId) -> Status;
    join: c"ncclCommInitRank", unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> Status;
    leave: c"ncclCommAbort", unsafe extern "C" fn(Handle) -> Status;
    error_string: c"ncclGetErrorString", unsafe extern "C" fn(Status) -> *const c_char;
    // Takes what is sent, what is written, the number of elements, their type, the operation, the stream last.
    all_reduce: c"ncclAllReduce", unsafe extern "C" fn(
        *const c_void, *mut c_void, usize, c_int, c_int, Handle, *mut c_void,
    ) -> Status;
    // The number of elements is that of one rank.
    all_gather: c"ncclAllGather", unsafe extern "C" fn(
        *const c_void, *mut c_void, usize, c_int, Handle, *mut c_void,
    ) -> Status;
}

impl Functions {
    /// The library, opened by one of its usual names and kept from then on.
    pub(super) fn get() -> Result<&'static Self> {
        static FOUND: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
            // SAFETY: NCCL's initialisers have no requirements.
            let library = NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
            let library = library.ok_or(
                "NCCL is not installed: there is no libnccl.so.2 (on Debian and Ubuntu, NVIDIA's package libnccl2 has it)",
            )?;
            Self::find(library).map_err(|error| {
                format!("NCCL is installed but too old or incomplete ({error}); update it to version 2")
            })
        });
        found.as_ref().map_err(|reason| Error::msg(reason.clone()))
    }

    /// Returns an error that names the called function unless it succeeded.
    pub(super) fn check(&self, function: &str, status: Status) -> Result<()> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: NCCL hands out a static string for any status.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) };
        let text = text.to_string_lossy();
        Err(Error::msg(format!(
            "NCCL: {function} failed: {text}; NCCL_DEBUG=WARN in the environment makes it say more"
        )))
    }
}
