//! Number types in weight files, and tensors made from their bytes.

use candle_core::{DType, Device, Tensor};

/// A supported number type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U32,
    U16,
    U8,
    Bool,
}

impl Element {
    /// The type with this name of a PyTorch storage class, such as `FloatStorage`.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// The type with this name in PyTorch, such as `float32`.
    pub(super) fn of_torch(dtype: &str) -> Option<Self> {
        Some(match dtype {
            "float64" | "double" => Self::F64,
            "float32" | "float" => Self::F32,
            "float16" | "half" => Self::F16,
            "bfloat16" => Self::BF16,
            "int64" | "long" => Self::I64,
            "int32" | "int" => Self::I32,
            "int16" | "short" => Self::I16,
            "int8" => Self::I8,
            "uint32" => Self::U32,
            "uint16" => Self::U16,
            "uint8" => Self::U8,
            "bool" => Self::Bool,
            _ => return None,
        })
    }

    pub(super) fn of_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype;
        Some(match dtype {
            Dtype::F64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::I64 => Self::I64,
            Dtype::I32 => Self::I32,
            Dtype::I16 => Self::I16,
            Dtype::I8 => Self::I8,
            Dtype::U32 => Self::U32,
            Dtype::U16 => Self::U16,
            Dtype::U8 => Self::U8,
            Dtype::BOOL => Self::Bool,
            _ => return None,
        })
    }

    /// The size of one number in bytes.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// A tensor from little-endian bytes. candle has no `i8`, `u16` and `bool`. They become `i16`, `u32` and
    /// `u8`.
    pub(super) fn tensor(self, bytes: &[u8], shape: &[usize]) -> candle_core::Result<Tensor> {
        check_shape(shape)?;
        let raw = |dtype| Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu);
        match self {
            Self::F64 => raw(DType::F64),
            Self::F32 => raw(DType::F32),
            Self::F16 => raw(DType::F16),
            Self::BF16 => raw(DType::BF16),
            Self::I64 => raw(DType::I64),
            Self::I32 => raw(DType::I32),
            Self::I16 => raw(DType::I16),
            Self::U32 => raw(DType::U32),
            Self::U8 => raw(DType::U8),
            Self::I8 => {
                let wide = bytes.iter().map(|byte| i16::from(byte.cast_signed()));
                Tensor::from_iter(wide, &Device::Cpu)?.reshape(shape)
            }
            Self::U16 => {
                let (pairs, _) = bytes.as_chunks::<2>();
                let wide = pairs.iter().map(|pair| u32::from(u16::from_le_bytes(*pair)));
                Tensor::from_iter(wide, &Device::Cpu)?.reshape(shape)
            }
            Self::Bool => {
                let bits = bytes.iter().map(|byte| u8::from(*byte != 0));
                Tensor::from_iter(bits, &Device::Cpu)?.reshape(shape)
            }
        }
    }
}

/// Checks that the strides of a shape are numbers of 64 bits. candle multiplies the sizes without a check, and those of an
/// empty tensor (`[0, 2^63, 4]`) may be anything.
pub(super) fn check_shape(shape: &[usize]) -> candle_core::Result<()> {
    let mut sizes = shape.iter().filter(|size| **size > 0);
    let product = sizes.try_fold(1_usize, |product, size| product.checked_mul(*size));
    match product.filter(|product| isize::try_from(*product).is_ok()) {
        Some(_) => Ok(()),
        None => candle_core::bail!("its shape {shape:?} is impossible"),
    }
}

/// Copies the numbers of a strided view into one contiguous array, in the order of its shape. `size` is the
/// number of bytes of one number; `offset` and `stride` count numbers. Returns `None` if a number lies outside
/// `bytes`.
pub(super) fn gathered(
    bytes: &[u8],
    size: usize,
    offset: usize,
    shape: &[usize],
    stride: &[usize],
) -> Option<Vec<u8>> {
    let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size))?;
    let total = count.checked_mul(size)?;
    if total == 0 {
        return Some(Vec::new());
    }
    let at = |element: usize| {
        let start = element.checked_mul(size)?;
        bytes.get(start..start.checked_add(size)?)
    };
    if is_contiguous(shape, stride) {
        let start = offset.checked_mul(size)?;
        return bytes.get(start..start.checked_add(total)?).map(<[u8]>::to_vec);
    }
    let mut gathered = Vec::with_capacity(total);
    let mut index = vec![0usize; shape.len()];
    let mut element = offset;
    for _ in 0..count {
        gathered.extend_from_slice(at(element)?);
        // Moves to the next position; the last dimension changes fastest.
        for ((position, size), stride) in index.iter_mut().zip(shape).zip(stride).rev() {
            *position += 1;
            element = element.checked_add(*stride)?;
            if *position < *size {
                break;
            }
            element = element.checked_sub(size.checked_mul(*stride)?)?;
            *position = 0;
        }
    }
    Some(gathered)
}

fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(stride).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected = expected.saturating_mul(*size);
        fits
    })
}

/// Reverses the byte order of every number.
pub(super) fn swap_bytes(bytes: &mut [u8], size: usize) {
    for number in bytes.chunks_exact_mut(size) {
        number.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_gathered_in_the_order_of_their_shape() {
        let bytes: Vec<u8> = (0..12).collect();
        let view =
            |offset, shape: &[usize], stride: &[usize]| gathered(&bytes, 1, offset, shape, stride);
        assert_eq!(view(0, &[2, 3], &[3, 1]), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(view(1, &[3, 2], &[1, 3]), Some(vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(view(7, &[2, 2], &[0, 0]), Some(vec![7; 4]));
        assert_eq!(view(11, &[], &[]), Some(vec![11]));
        assert_eq!(view(99, &[0, 5], &[5, 1]), Some(vec![]));
        assert_eq!(view(11, &[2], &[1]), None);
        assert_eq!(view(0, &[usize::MAX, 3], &[0, 0]), None);
        assert_eq!(view(0, &[3], &[usize::MAX]), None);
    }

    #[test]
    fn shapes_whose_strides_overflow_are_refused() {
        for element in [Element::F32, Element::Bool] {
            let error = element.tensor(&[], &[0, usize::MAX, 2]).unwrap_err().to_string();
            assert!(error.contains("is impossible"), "{error}");
            assert_eq!(element.tensor(&[], &[0, 5]).unwrap().dims(), [0, 5]);
        }
    }

    #[test]
    fn numbers_keep_their_values() -> candle_core::Result<()> {
        let values = |element: Element, bytes: &[u8]| -> candle_core::Result<Vec<f64>> {
            let tensor = element.tensor(bytes, &[bytes.len() / element.size()])?;
            tensor.to_dtype(DType::F64)?.to_vec1()
        };
        assert_eq!(values(Element::I8, &[1, 0xff])?, [1.0, -1.0]);
        assert_eq!(values(Element::U16, &[1, 0x80])?, [32769.0]);
        assert_eq!(values(Element::Bool, &[0, 7])?, [0.0, 1.0]);
        assert_eq!(values(Element::BF16, &[0x80, 0xbf])?, [-1.0]);
        assert_eq!(values(Element::F16, &[0x00, 0x3c])?, [1.0]);
        assert_eq!(values(Element::I32, &(-5i32).to_le_bytes())?, [-5.0]);
        let mut big = 1.5f32.to_be_bytes();
        swap_bytes(&mut big, 4);
        assert_eq!(values(Element::F32, &big)?, [1.5]);
        Ok(())
    }
}
