//! The directories of TIFF files, and of EXIF data, which is a TIFF file without an image.

/// How the numbers of a file lie: their byte order, and whether it is a BigTIFF, whose counts and offsets are wider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) is_little: bool,
    is_big: bool,
}

/// An entry of a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tag: u16,
    /// The number of the values' type.
    pub(super) kind: u16,
    /// The number of its values.
    pub(super) count: u64,
    /// Where its values lie if they fit there, else their offset.
    pub(super) place: usize,
}

impl Entry {
    /// The bytes of its values.
    fn size(&self) -> u64 {
        let one = match self.kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        self.count.saturating_mul(one)
    }
}

impl Layout {
    /// `None` if the bytes do not begin like a TIFF file.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (is_little, is_big) = match bytes.get(..4)? {
            b"II*\0" => (true, false),
            b"MM\0*" => (false, false),
            b"II+\0" => (true, true),
            b"MM\0+" => (false, true),
            _ => return None,
        };
        Some(Self { is_little, is_big })
    }

    /// A number of so many bytes.
    pub(super) fn number<const BYTES: usize>(self, bytes: &[u8], at: usize) -> Option<u64> {
        let number = bytes.get(at..)?.first_chunk::<BYTES>()?.iter();
        let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.is_little { number.rev().fold(0, push) } else { number.fold(0, push) })
    }

    /// A number that is wider in a BigTIFF.
    fn wide(self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.is_big { self.number::<8>(bytes, at) } else { self.number::<4>(bytes, at) }
    }

    /// The offset at a place. 0 stands for none.
    fn offset(self, bytes: &[u8], at: usize) -> Option<usize> {
        usize::try_from(self.wide(bytes, at)?).ok().filter(|offset| *offset > 0)
    }

    /// Where the first entry of the directory at an offset lies, the number of entries, and the length of one.
    fn directory(self, bytes: &[u8], at: usize) -> Option<(usize, usize, usize)> {
        let (count, header, length) = match self.is_big {
            true => (self.number::<8>(bytes, at)?, 8, 20),
            false => (self.number::<2>(bytes, at)?, 2, 12),
        };
        Some((at.checked_add(header)?, usize::try_from(count).ok()?, length))
    }

    /// The entries of the first directory, as far as the file goes.
    pub(super) fn entries(self, bytes: &[u8]) -> impl Iterator<Item = Entry> {
        let start = self.offset(bytes, if self.is_big { 8 } else { 4 });
        let directory = start.and_then(|at| self.directory(bytes, at));
        let (first, count, length) = directory.unwrap_or((0, 0, 1));
        let places = std::iter::successors(Some(first), move |at| at.checked_add(length));
        places.take(count).map_while(move |at| {
            let tag = self.number::<2>(bytes, at)? as u16;
            let kind = self.number::<2>(bytes, at.checked_add(2)?)? as u16;
            let count = self.wide(bytes, at.checked_add(4)?)?;
            // The value is as wide as its count.
            let place = at.checked_add(if self.is_big { 12 } else { 8 })?;
            Some(Entry { tag, kind, count, place })
        })
    }

    /// The number of directories in the chain. Only their lengths are read: to read the entries of each takes seconds for a
    /// chain of thousands that overlap.
    pub(super) fn pages(self, bytes: &[u8]) -> usize {
        // A file may chain its pages in a circle.
        const MOST: usize = 10_000;
        let next = |at: usize| -> Option<usize> {
            let (first, count, length) = self.directory(bytes, self.offset(bytes, at)?)?;
            first.checked_add(count.checked_mul(length)?)
        };
        let first = next(if self.is_big { 8 } else { 4 });
        std::iter::successors(first, |at| next(*at)).take(MOST).count()
    }
}

/// An entry of the first directory whose values have no room in the file.
pub(super) fn oversized(bytes: &[u8]) -> Option<Entry> {
    /// From here on, tags belong to programs. Readers of images pass over them.
    const PRIVATE: u16 = 1 << 15;
    let is_too_large = |entry: &Entry| entry.tag < PRIVATE && entry.size() > bytes.len() as u64;
    Layout::of(bytes)?.entries(bytes).find(is_too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(bytes: &[u8]) -> usize {
        Layout::of(bytes).unwrap().pages(bytes)
    }

    #[test]
    fn pages_of_a_circle_are_counted_fast() {
        // A directory of 60,000 entries that is its own successor.
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend(60_000_u16.to_le_bytes());
        bytes.resize(bytes.len() + 12 * 60_000, 1);
        bytes.extend(8_u32.to_le_bytes());
        let started = std::time::Instant::now();
        assert_eq!(pages(&bytes), 10_000);
        assert!(started.elapsed().as_secs() < 1, "{:?}", started.elapsed());
        assert_eq!(pages(b"MM\0*\0\0\0\x08\0\0\0\0\0\0"), 1);
    }

    #[test]
    fn entries_of_both_kinds_are_read() {
        let small = b"MM\0*\0\0\0\x08\0\x01\x01\x06\0\x03\0\0\0\x01\0\x02\0\0\0\0\0\0";
        let mut big = b"II+\0\x08\0\0\0".to_vec();
        for number in [16_u64, 1] {
            big.extend(number.to_le_bytes());
        }
        big.extend(b"\x06\x01\x03\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        for bytes in [&small[..], &big] {
            let layout = Layout::of(bytes).unwrap();
            let entries: Vec<Entry> = layout.entries(bytes).collect();
            let [Entry { tag: 262, kind: 3, count: 1, place }] = entries[..] else {
                panic!("{entries:?}")
            };
            assert_eq!(layout.number::<2>(bytes, place), Some(2));
            assert!(oversized(bytes).is_none());
        }
        // Its count.
        big[28..36].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(oversized(&big).map(|entry| entry.tag), Some(262));
    }
}
