//! Data sets and weights that can be fetched.

use candle_vision::models::weights;
use candle_vision::train::write_atomically;
use candle_vision_fetch::{Conversion, FetchOptions, Fetched, Item, fetch};

use crate::{Error, Result};

/// Fetches an item, verified, and turns a PyTorch file into safetensors.
///
/// # Errors
/// If it is not to be had, is not what its checksum says, or cannot be written.
pub fn bring(item: &Item, options: &FetchOptions<'_>) -> Result<Fetched> {
    let fetched = fetch(item, options)?;
    if let Some(conversion) = &fetched.conversion {
        convert(conversion)?;
    }
    Ok(fetched)
}

fn convert(conversion: &Conversion) -> Result<()> {
    let tensors = weights::read(&conversion.pickle)?;
    write_atomically(&conversion.safetensors, &weights::to_safetensors(tensors)?)?;
    std::fs::remove_file(&conversion.pickle).map_err(Error::io("remove", &conversion.pickle))
}

/// What to type to bring a data set or weights.
pub fn fetch_command(name: &str) -> String {
    format!("`candle-vision fetch {name}`, or `cargo xtask fetch-data {name}`")
}
