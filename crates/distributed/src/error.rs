//! Errors of this crate.

/// What can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another rank ended before it made a call that this one waits in.
    #[error(
        "rank {rank} ended while rank {waiting} waited for it in {call}; its own message says why"
    )]
    RankEnded {
        /// The rank that ended.
        rank: usize,
        /// The rank that waited.
        waiting: usize,
        /// The call in which it waited.
        call: &'static str,
    },
    /// Ranks made different calls, or calls with other sizes.
    #[error(
        "{call}: rank {rank} gave {found} bytes where rank 0 gave {expected}; all ranks must make the same calls"
    )]
    Mismatch {
        /// The call.
        call: &'static str,
        /// The first rank that differs.
        rank: usize,
        /// Bytes that it gave.
        found: usize,
        /// Bytes that rank 0 gave.
        expected: usize,
    },
    /// The environment does not say what is needed, or says what cannot be.
    #[error("{0}")]
    Launch(String),
    /// The library between the ranks failed.
    #[error("{library}: {reason}")]
    Library {
        /// Its name.
        library: &'static str,
        /// What it said.
        reason: String,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
