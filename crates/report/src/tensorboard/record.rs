//! The frame around each message of an event file (TensorFlow's `TFRecord`): the length, a checksum of the
//! length, the message, a checksum of the message. Numbers are little-endian.

use std::io::{self, Write};

pub(super) fn write_record(file: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = (message.len() as u64).to_le_bytes();
    file.write_all(&length)?;
    file.write_all(&masked_checksum(&length).to_le_bytes())?;
    file.write_all(message)?;
    file.write_all(&masked_checksum(message).to_le_bytes())
}

/// CRC-32C, rotated and shifted. A plain checksum is of no use for data that holds its own checksum.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    // TensorBoard's own RecordWriter writes these bytes for the message b"abc".
    #[test]
    fn frames_are_those_of_tensorboard() -> io::Result<()> {
        let mut frame = Vec::new();
        write_record(&mut frame, b"abc")?;
        let length = [3, 0, 0, 0, 0, 0, 0, 0, 176, 153, 73, 14];
        assert_eq!(frame, [&length[..], b"abc", &[110, 87, 241, 33]].concat());
        Ok(())
    }
}
