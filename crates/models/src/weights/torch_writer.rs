//! Writes tensors as `torch.save(state_dict)` writes them: a zip archive of a pickle and its storages.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use candle_core::{DType, Error, Result, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The folder of all entries, as `torch.save` calls it for a file without a name.
const FOLDER: &str = "archive";

/// Opcodes of pickle's protocol 2, as Python's `pickletools` names them.
mod op {
    pub(super) const PROTO_2: &[u8] = b"\x80\x02";
    pub(super) const MARK: u8 = b'(';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const STOP: u8 = b'.';
}

/// `tensors` as the bytes of a file that `torch.load` reads, also with `weights_only=True`: an `OrderedDict` of
/// tensors on the CPU.
///
/// ```
/// use candle_vision_models::candle_core::{Device, Tensor};
/// use candle_vision_models::weights::{WeightFile, to_torch};
///
/// let tensors = [("fc.bias".to_owned(), Tensor::new(&[1f32, 2.0], &Device::Cpu)?)];
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("weights.pth");
/// std::fs::write(&path, to_torch(tensors)?)?;
/// let read = WeightFile::read(&path)?;
/// assert_eq!(read.tensors["fc.bias"].to_vec1::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a tensor cannot be read, or has a number type that PyTorch lacks.
pub fn to_torch(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Vec<u8>> {
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut entry = |name: &str, bytes: &[u8]| -> Result<()> {
        let options = stored.large_file(bytes.len() >= u32::MAX as usize);
        zip.start_file(format!("{FOLDER}/{name}"), options).map_err(Error::wrap)?;
        zip.write_all(bytes).map_err(Error::wrap)
    };
    entry("data.pkl", &pickle(&tensors)?)?;
    entry("byteorder", b"little")?;
    for (number, tensor) in tensors.values().enumerate() {
        entry(&format!("data/{number}"), &little_endian(tensor)?)?;
    }
    entry("version", b"3\n")?;
    Ok(zip.finish().map_err(Error::wrap)?.into_inner())
}

/// The pickle of an `OrderedDict` whose tensors refer to the storages `0`, `1` and so on.
fn pickle(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let mut out = Pickler(op::PROTO_2.to_vec());
    out.ordered_dict();
    out.0.push(op::MARK);
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        out.text(name);
        out.global("torch._utils", "_rebuild_tensor_v2");
        out.0.push(op::MARK);
        // The storage: its class, its key, its device and its number of elements.
        out.0.push(op::MARK);
        out.text("storage");
        out.global("torch", storage_class(tensor.dtype())?);
        out.text(&number.to_string());
        out.text("cpu");
        out.integer(tensor.elem_count());
        out.0.extend([op::TUPLE, op::BINPERSID]);
        // The offset, the shape, the strides, `requires_grad`, and hooks, of which there are none.
        out.integer(0);
        out.integers(tensor.dims());
        out.integers(tensor.contiguous()?.stride());
        out.0.push(op::NEWFALSE);
        out.ordered_dict();
        out.0.extend([op::TUPLE, op::REDUCE]);
    }
    out.0.extend([op::SETITEMS, op::STOP]);
    Ok(out.0)
}

struct Pickler(Vec<u8>);

impl Pickler {
    fn global(&mut self, module: &str, name: &str) {
        self.0.push(op::GLOBAL);
        self.0.extend(format!("{module}\n{name}\n").into_bytes());
    }

    /// An empty one.
    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.0.extend([op::EMPTY_TUPLE, op::REDUCE]);
    }

    fn text(&mut self, text: &str) {
        self.0.push(op::BINUNICODE);
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    /// Nine bytes, of which the last is zero: the number is not negative.
    fn integer(&mut self, number: usize) {
        self.0.extend([op::LONG1, 9]);
        self.0.extend((number as u64).to_le_bytes());
        self.0.push(0);
    }

    fn integers(&mut self, numbers: &[usize]) {
        self.0.push(op::MARK);
        numbers.iter().for_each(|&number| self.integer(number));
        self.0.push(op::TUPLE);
    }
}

fn storage_class(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F64 => "DoubleStorage",
        DType::F32 => "FloatStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::U8 => "ByteStorage",
        other => {
            candle_core::bail!("PyTorch's files hold no {other:?} numbers; convert them first")
        }
    })
}

fn little_endian(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tensor.flatten_all()?.write_bytes(&mut bytes)?;
    Ok(bytes)
}
