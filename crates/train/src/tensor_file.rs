//! Writes tensors to a safetensors file piece by piece.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_vision_files::NewFile;
use safetensors::View;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::atomic_file::describe;
use crate::{Error, Result};

/// Number of elements that are turned into bytes at a time.
const PIECE: usize = 1 << 20;

/// Writes the file that [`safetensors::serialize`] makes of the tensors. Only a piece of a tensor is in memory as bytes, or comes from
/// a card, at a time. So a run does not take its weights and the optimizer's state twice whenever it saves them.
///
/// # Errors
/// If it cannot be written; what was there before is intact then.
pub(crate) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let mut tensors: Vec<(&String, &Tensor)> = tensors.iter().collect();
    // Types with large elements come first, so that all elements are aligned. The sort is stable.
    tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(View::dtype(*tensor)));
    let mut end = 0;
    let info = |(name, tensor): &(&String, &Tensor)| {
        let start = end;
        end += View::data_len(*tensor);
        let (dtype, shape) = (View::dtype(*tensor), tensor.dims().to_vec());
        ((*name).clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    };
    let infos = tensors.iter().map(info).collect();
    let header = Metadata::new(Some(metadata), infos).map_err(candle_core::Error::from)?;
    let mut header =
        serde_json::to_vec(&header).map_err(|error| Error::io("write", path)(error.into()))?;
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');
    let length = (header.len() as u64).to_le_bytes();
    let bytes = length.len() + header.len() + end;
    let failed = |error| describe(error, path, bytes);

    let mut file = NewFile::create(path).map_err(failed)?;
    file.write_all(&length).map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    for (_, tensor) in tensors {
        let flat = tensor.flatten_all()?;
        for start in (0..flat.elem_count()).step_by(PIECE) {
            let piece = flat.narrow(0, start, PIECE.min(flat.elem_count() - start))?;
            // Serialising any other tensor may panic.
            let piece = piece.to_device(&Device::Cpu)?.contiguous()?;
            file.write_all(&View::data(&piece)).map_err(failed)?;
        }
    }
    file.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_safetensors() -> Result<()> {
        let cpu = Device::Cpu;
        let long = Tensor::arange(0f32, (PIECE + 5) as f32, &cpu)?;
        let tensors = BTreeMap::from([
            ("b.long".to_owned(), long),
            ("a.turned".to_owned(), Tensor::arange(0f32, 6f32, &cpu)?.reshape((2, 3))?.t()?),
            ("c.counts".to_owned(), Tensor::arange(0i64, 3, &cpu)?),
            ("d.half".to_owned(), Tensor::ones((3, 1), DType::BF16, &cpu)?),
            ("e.none".to_owned(), Tensor::zeros((0, 4), DType::F32, &cpu)?),
            ("f.scalar".to_owned(), Tensor::new(7u32, &cpu)?),
        ]);
        let metadata = HashMap::from([("key".to_owned(), "\"text\"".to_owned())]);
        let folder = tempfile::tempdir().map_err(Error::io("make", Path::new("a folder")))?;
        let path = folder.path().join("tensors.safetensors");
        write(&path, &tensors, metadata.clone())?;

        let mut whole = BTreeMap::new();
        for (name, tensor) in &tensors {
            whole.insert(name, tensor.contiguous()?);
        }
        let expected =
            safetensors::serialize(whole, Some(metadata)).map_err(candle_core::Error::from)?;
        let found = std::fs::read(&path).map_err(Error::io("read", &path))?;
        assert!(found == expected, "{} and {} bytes", found.len(), expected.len());
        Ok(())
    }
}
