//! What the decoder of WebP files sees too late.

use super::details::chunks;

/// The width and height of a frame that is larger than the image the file states. The decoder would take memory for it before it
/// compares the two, hundreds of megabytes for a file of some bytes.
pub(super) fn larger_frame(bytes: &[u8]) -> Option<[u32; 2]> {
    let mut all = chunks(bytes, 12);
    let Some((b"VP8X", header)) = all.next() else { return None };
    let side = |at: usize| {
        let [low, middle, high] = *header.get(at..)?.first_chunk::<3>()?;
        Some(u32::from_le_bytes([low, middle, high, 0]) + 1)
    };
    let (width, height) = (side(4)?, side(7)?);
    let mut frames = all.filter_map(|(name, content)| match name {
        // Sixteen bytes say where a frame of an animation lies and how long it stays.
        b"ANMF" => chunks(content, 16).find_map(size_of_frame),
        _ => size_of_frame((name, content)),
    });
    frames.find(|[frame_width, frame_height]| *frame_width > width || *frame_height > height)
}

/// Width and height of the frame in a chunk, if it has one.
fn size_of_frame((name, content): (&[u8; 4], &[u8])) -> Option<[u32; 2]> {
    const SIDE: u32 = 0x3fff;
    match name {
        // Behind a tag of three bytes and the three bytes of the start code.
        b"VP8 " => {
            let [a, b, c, d] = *content.get(6..)?.first_chunk::<4>()?;
            Some([[a, b], [c, d]].map(|side| u32::from(u16::from_le_bytes(side)) & SIDE))
        }
        b"VP8L" => {
            let sides = u32::from_le_bytes(*content.get(1..)?.first_chunk::<4>()?);
            Some([(sides & SIDE) + 1, ((sides >> 14) & SIDE) + 1])
        }
        _ => None,
    }
}
