//! GIF: the first frame on its canvas.
//!
//! `image` leaves pixels black that the first frame does not cover. Pillow gives them the transparent colour,
//! or else the first colour of the palette. So the palette indices are placed on the canvas here.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Image, ReadOptions, broken};
use crate::error::Result;

pub(super) fn decode(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Image> {
    let failed = |error: DecodingError| broken(name, error.to_string());
    let mut settings = DecodeOptions::new();
    settings.set_color_output(ColorOutput::Indexed);
    // The size is checked below, with our own message.
    settings.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = settings.read_info(Cursor::new(bytes)).map_err(failed)?;
    let canvas = [decoder.width(), decoder.height()].map(usize::from);
    let frame = decoder.next_frame_info().map_err(failed)?.cloned();
    let frame = frame.ok_or_else(|| broken(name, "it holds no image"))?;
    let [left, top, width, height] =
        [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    // A frame that extends beyond the canvas enlarges it, as in Pillow.
    let canvas = [canvas[0].max(left + width), canvas[1].max(top + height)];
    options.check_size(canvas[0] as u64, canvas[1] as u64, name)?;
    let palette = decoder.palette().map_err(failed)?.to_vec();
    let mut indices = vec![0; width * height];
    decoder.read_into_buffer(&mut indices).map_err(failed)?;

    let color = |index: u8| {
        let color = palette.get(3 * usize::from(index)..).and_then(|rest| rest.first_chunk::<3>());
        color.copied().unwrap_or_default()
    };
    let around = color(frame.transparent.unwrap_or(0));
    let mut pixels = vec![around; canvas[0] * canvas[1]];
    let rows = pixels.chunks_exact_mut(canvas[0].max(1)).skip(top);
    for (row, indices) in rows.zip(indices.chunks_exact(width.max(1))) {
        for (pixel, &index) in row[left..].iter_mut().zip(indices) {
            *pixel = color(index);
        }
    }
    Image::new(canvas[0], canvas[1], 3, pixels.into_flattened())
}
