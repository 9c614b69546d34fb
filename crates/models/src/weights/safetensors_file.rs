//! safetensors files.

use std::collections::HashMap;

use safetensors::SafeTensors;

use super::WeightFile;
use super::elements::Element;

/// Largest header that is read: ten times that of any network here.
const MAX_HEADER_BYTES: u64 = 10 << 20;

pub(super) fn read(bytes: &[u8]) -> Result<WeightFile, String> {
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    match header {
        Some(length) if length <= MAX_HEADER_BYTES => {}
        _ => {
            return Err(
                "its header is cut short or too long: this is no safetensors file, or a damaged \
                        one; fetch or copy it again"
                    .to_owned(),
            );
        }
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        format!("it is a safetensors file that is cut short or damaged ({error}); fetch or copy it again")
    })?;
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
    Ok(WeightFile { tensors, dictionary: None, left_out: Vec::new() })
}
