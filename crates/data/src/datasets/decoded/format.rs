//! The layout of a file of decoded images: a mark, all pixels, the index, and at the end where the index begins with a sum
//! of it. All numbers are little-endian.

use std::io::{self, Write};

use super::ReadAt;
use crate::dataset::Fingerprint;

pub(super) const MARK: &[u8; 16] = b"candle-vision 1\n";

/// Bytes of an image in the index: where its pixels begin, width, height, channels, label.
const ENTRY: usize = 8 + 4 * 4;

/// Bytes after the index: where it begins, and its sum of 16 hexadecimal digits.
const END: u64 = 8 + 16;

/// Where an image lies in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    /// 0 if the image is not in the file.
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) label: u32,
}

impl Entry {
    pub(super) fn is_there(&self) -> bool {
        self.width > 0
    }

    /// Whether its pixels lie before `end`.
    fn fits(&self, end: u64) -> bool {
        let area = (self.width as u64).checked_mul(self.height as u64);
        let bytes = area.and_then(|area| area.checked_mul(self.channels as u64));
        let last = bytes.and_then(|bytes| self.offset.checked_add(bytes));
        !self.is_there()
            || (self.height > 0
                && matches!(self.channels, 1 | 3)
                && self.offset >= MARK.len() as u64
                && last.is_some_and(|last| last <= end))
    }

    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        // An image has at most 2^32 pixels in a row, because decoders' headers have no more.
        let numbers = [self.width as u32, self.height as u32, self.channels as u32, self.label];
        for (place, number) in bytes[8..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn of_bytes(bytes: &[u8; ENTRY]) -> Self {
        let (offset, rest) = bytes.split_at(8);
        let offset = offset.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let numbers = rest.as_chunks::<4>().0;
        let side = |i: usize| u32::from_le_bytes(numbers[i]) as usize;
        let label = u32::from_le_bytes(numbers[3]);
        Self { offset, width: side(0), height: side(1), channels: side(2), label }
    }
}

/// All images of a file.
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
}

impl Index {
    /// Writes the index at the end of a file in which the pixels end at `at`.
    pub(super) fn write(
        &self,
        file: &mut impl Write,
        at: u64,
        fingerprint: &str,
    ) -> io::Result<()> {
        let bytes: Vec<u8> = self.entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        file.write_all(&bytes)?;
        file.write_all(&at.to_le_bytes())?;
        file.write_all(sum(&bytes, at, fingerprint).as_bytes())
    }

    /// Reads the index of a file for a data set with this fingerprint.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub(super) fn read(file: &dyn ReadAt, fingerprint: &str) -> Result<Self, String> {
        let size = file.size();
        let read = |offset: u64, bytes: &mut [u8]| {
            file.read_at(offset, bytes).map_err(|error| error.to_string())
        };
        let cut_off = || "was cut off, or holds no decoded images".to_owned();
        let end = size.checked_sub(END).filter(|&end| end >= MARK.len() as u64);
        let end = end.ok_or_else(cut_off)?;
        let (mut mark, mut place, mut expected) = ([0; 16], [0; 8], [0; 16]);
        read(0, &mut mark)?;
        read(end, &mut place)?;
        read(end + 8, &mut expected)?;
        let at = u64::from_le_bytes(place);
        let length = end.checked_sub(at).filter(|length| length.is_multiple_of(ENTRY as u64));
        let length = length.filter(|_| &mark == MARK && at >= MARK.len() as u64);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(cut_off)?;
        let mut bytes = vec![0; length];
        read(at, &mut bytes)?;
        if sum(&bytes, at, fingerprint).as_bytes() != expected {
            return Err("has a damaged index, or is of another data set".to_owned());
        }
        let entries: Vec<Entry> =
            bytes.as_chunks::<ENTRY>().0.iter().map(Entry::of_bytes).collect();
        match entries.iter().all(|entry| entry.fits(at)) {
            true => Ok(Self { entries }),
            false => Err("has an index that does not fit its pixels".to_owned()),
        }
    }
}

fn sum(index: &[u8], at: u64, fingerprint: &str) -> String {
    Fingerprint::new("index of decoded images").text(fingerprint).number(at).bytes(index).finish()
}
