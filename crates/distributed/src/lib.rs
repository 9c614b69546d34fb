//! Processes that train one network together: what one of them has, the others get.
//!
//! | item | what |
//! |---|---|
//! | [`Communicator`] | broadcast, all-reduce, all-gather and barrier between the ranks of a job |
//! | [`OneProcess`] | the only rank of a job of one |
//! | [`threads`] | ranks that are threads of one process, for tests and for programs of their own |
//! | `Mpi` | ranks that an MPI launcher started, with the feature `mpi` |
//! | [`Launch`] | what the environment says about the launcher that started this process |
//! | [`Buckets`] | gradients that are summed over all ranks while more of them are computed |
//! | [`StepWork`], [`Link`] | how long a step of many ranks would take, from measured figures |
//! | [`even_part`] | the part of a row of things that a rank gets |
//!
//! A rank is one process of a job, by its number from 0. Every call of a [`Communicator`] is collective: all ranks make
//! the same calls in the same order, and a call returns when all ranks have made it.
//!
//! The crate knows no tensors, networks or files.

mod buckets;
mod communicator;
mod error;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod one_process;
mod part;
mod plan;
mod threads;

pub use buckets::{Buckets, Compression};
pub use communicator::{Communicator, Traffic, Values, WorksAlone};
pub use error::{Error, Result};
pub use launch::{Launch, Launcher};
#[cfg(feature = "mpi")]
pub use mpi::{Mpi, MpiOptions};
pub use one_process::OneProcess;
pub use part::even_part;
pub use plan::{Link, PlannedStep, StepWork, bucket_bytes};
pub use threads::{ThreadRank, threads};

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
