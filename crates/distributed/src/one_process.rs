//! A job of one rank.

use std::sync::Arc;

use crate::communicator::{Communicator, Traffic};
use crate::error::{Error, Result};

/// The only rank of a job of one process. Its calls return at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneProcess;

impl Communicator for OneProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn host(&self) -> &str {
        "this computer"
    }

    fn all_reduce(&self, _values: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn all_to_all(&self, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        check_pieces(pieces, 1)?;
        Ok(pieces.to_vec())
    }

    fn broadcast(&self, _bytes: &mut Vec<u8>, root: usize) -> Result<()> {
        check_root(root, 1)
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn duplicate(&self) -> Result<Arc<dyn Communicator>> {
        Ok(Arc::new(Self))
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

pub(crate) fn check_root(root: usize, size: usize) -> Result<()> {
    match root < size {
        true => Ok(()),
        false => Err(Error::Launch(format!("broadcast: there is no rank {root} among {size}"))),
    }
}

pub(crate) fn check_pieces(pieces: &[Vec<u8>], size: usize) -> Result<()> {
    match pieces.len() == size {
        true => Ok(()),
        false => {
            let found = pieces.len();
            Err(Error::Launch(format!("all_to_all: {found} pieces for {size} ranks")))
        }
    }
}
