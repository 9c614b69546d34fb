//! safetensors files.

use std::collections::HashMap;
use std::fmt;

use safetensors::{SafeTensorError, SafeTensors};

use super::WeightFile;
use super::elements::{Element, check_shape};

/// The largest header that is read, in bytes. It is ten times that of any network here.
const MAX_HEADER_BYTES: u64 = 10 << 20;

/// Why bytes are not a complete safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes are of another format.
    NotSafetensors,
    /// The bytes begin as a safetensors file but are cut short or damaged. The text says what is wrong.
    Damaged(String),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSafetensors => f.write_str(
                "its header is cut short or too long: this is no safetensors file, or a damaged one; fetch \
                 or copy it again",
            ),
            Self::Damaged(problem) => write!(
                f,
                "it is a safetensors file that is cut short or damaged ({problem}); fetch or copy it again"
            ),
        }
    }
}

impl std::error::Error for HeaderError {}

/// The texts in the header of a safetensors file (its `__metadata__`), by name. `bytes` must be the whole file.
/// No tensor is read, but the positions of the tensors are checked.
///
/// ```
/// use candle_vision_models::weights::{HeaderError, safetensors_header};
///
/// assert_eq!(safetensors_header(b"GIF89a, and more").unwrap_err(), HeaderError::NotSafetensors);
/// ```
///
/// # Errors
/// If the bytes are of another format, cut short or damaged.
pub fn safetensors_header(bytes: &[u8]) -> Result<HashMap<String, String>, HeaderError> {
    check_length(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(header_error)?;
    for (name, tensor) in header.tensors() {
        let checked = check_shape(&tensor.shape);
        checked.map_err(|error| HeaderError::Damaged(format!("tensor `{name}`: {error}")))?;
    }
    Ok(header.metadata().clone().unwrap_or_default())
}

fn check_length(bytes: &[u8]) -> Result<(), HeaderError> {
    match bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length)) {
        Some(length) if length <= MAX_HEADER_BYTES => Ok(()),
        Some(_) => Err(HeaderError::NotSafetensors),
        None => Err(HeaderError::Damaged("not even the length of its header is there".to_owned())),
    }
}

fn header_error(error: SafeTensorError) -> HeaderError {
    match error {
        // The errors for a text file or an image.
        SafeTensorError::HeaderTooLarge
        | SafeTensorError::InvalidHeader(_)
        | SafeTensorError::InvalidHeaderDeserialization(_) => HeaderError::NotSafetensors,
        error => HeaderError::Damaged(error.to_string()),
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<WeightFile, String> {
    check_length(bytes).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| HeaderError::Damaged(error.to_string()).to_string())?;
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        let element = Element::of_safetensors(view.dtype()).ok_or_else(|| {
            format!("its tensor `{name}` holds {:?} numbers, which are not read", view.dtype())
        })?;
        let tensor = element
            .tensor(view.data(), view.shape())
            .map_err(|error| format!("its tensor `{name}` cannot be read: {error}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(WeightFile { tensors, dictionary: None, left_out: Vec::new(), other_network: None })
}
