//! The bits of entropy-coded data, and the Huffman codes in them.

use super::Reason;

/// The reason if a marker ends the data too early.
pub(super) const SHORT: &str = "its coded data ends before its last block";

/// Reads the coded data of one scan bit by bit, up to the next marker. It never invents bits. Decoders that
/// continue with zeros after the data return an image with a grey part, without an error.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, starting at the highest bit.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0 }
    }

    /// The position from which to search for the next marker.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline(always)]
    fn fill(&mut self) {
        // The next bytes are nearly always only data and can be taken at once.
        if let Some(&next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && self.count <= 32
            && !next.contains(&0xFF)
        {
            self.buffer |= u64::from(u32::from_be_bytes(next)) << (32 - self.count);
            self.count += 32;
            self.at += 4;
            return;
        }
        self.fill_by_bytes();
    }

    /// Takes bytes one by one, up to a marker.
    #[cold]
    fn fill_by_bytes(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            let mut next = self.at + 1;
            if byte == 0xFF {
                // Fill bytes may come before a marker, and before the zero that means "no marker".
                while self.bytes.get(next) == Some(&0xFF) {
                    next += 1;
                }
                if self.bytes.get(next) != Some(&0) {
                    return;
                }
                next += 1;
            }
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.at = next;
        }
    }

    /// The next 16 bits, with zeros after the end.
    #[inline(always)]
    fn peek(&mut self) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        (self.buffer >> 48) as u32
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) -> Result<(), Reason> {
        if count > self.count {
            // The file ends here without a marker.
            let is_cut = self.bytes.get(self.at..).is_none_or(|rest| rest.len() < 2);
            return Err(if is_cut { super::CUT_OFF } else { SHORT }.into());
        }
        self.buffer <<= count;
        self.count -= count;
        Ok(())
    }

    /// Takes the next `count` bits, at most 16, as a number.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> Result<u32, Reason> {
        if count == 0 {
            return Ok(0);
        }
        let value = self.peek() >> (16 - count);
        self.skip(count)?;
        Ok(value)
    }

    /// Takes the next bit.
    pub(super) fn bit(&mut self) -> Result<bool, Reason> {
        Ok(self.take(1)? == 1)
    }

    /// Takes a number of `size` bits in JPEG's code for signed numbers: a leading 0 makes it negative.
    #[inline(always)]
    pub(super) fn signed(&mut self, size: u32) -> Result<i32, Reason> {
        Ok(extended(self.take(size)? as i32, size))
    }

    /// Takes the next code of an AC coefficient with the bits of its value: how many zeros come before it, and the value.
    /// The value is 0 at the end of a block, where the zeros are 0, and for 16 zeros, where they are 15.
    #[inline(always)]
    pub(super) fn coefficient(&mut self, table: &Table) -> Result<(usize, i32), Reason> {
        if self.count < 32 {
            self.fill();
        }
        let whole = table.whole[(self.buffer >> (64 - WHOLE)) as usize];
        let length = u32::from(whole.length);
        if length > 0 && length <= self.count {
            self.buffer <<= length;
            self.count -= length;
            return Ok((usize::from(whole.zeros), i32::from(whole.value)));
        }
        let symbol = self.symbol(table)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        Ok((zeros, self.signed(size)?))
    }

    /// Takes the symbol of the next code.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Reason> {
        let bits = self.peek();
        let entry = table.short[(bits >> (16 - SHORT_CODE)) as usize];
        if entry.length > 0 {
            self.skip(u32::from(entry.length))?;
            return Ok(entry.symbol);
        }
        for length in SHORT_CODE + 1..=16 {
            let code = (bits >> (16 - length)) as i32;
            if code <= table.last_code[length as usize] {
                self.skip(length)?;
                let place = code + table.offset[length as usize];
                return table.symbols.get(place as usize).copied().ok_or_else(bad_code);
            }
        }
        // If the data has ended, report that. The zeros after it are not a code in the file.
        self.skip(16)?;
        Err(bad_code())
    }
}

fn bad_code() -> Reason {
    "its coded data is damaged (no such Huffman code)".into()
}

/// Codes up to this length, in bits, are found with one look-up.
const SHORT_CODE: u32 = 9;

/// Codes that have, with the bits of their value, up to this length are found together with the value.
const WHOLE: u32 = 10;

/// A code with the value after it.
#[derive(Clone, Copy, Default)]
struct Whole {
    /// The length of both in bits. 0 if they are longer than the look-up table allows.
    length: u8,
    zeros: u8,
    value: i16,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// The length of the code in bits. 0 if the code is longer than the look-up table allows.
    length: u8,
    symbol: u8,
}

/// A Huffman table.
#[derive(Clone)]
pub(super) struct Table {
    short: Vec<Entry>,
    whole: Vec<Whole>,
    /// The largest code of each length. -1 if there is none.
    last_code: [i32; 17],
    /// Added to a code of each length, it gives the code's index in `symbols`.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// A table with `counts[i]` codes of `i + 1` bits, for `symbols` in order.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Reason> {
        let mut table = Self {
            short: vec![Entry::default(); 1 << SHORT_CODE],
            whole: vec![Whole::default(); 1 << WHOLE],
            last_code: [-1; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            if code + u32::from(count) > 1 << length {
                return Err("a Huffman table of it is not possible".into());
            }
            table.offset[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                let symbol =
                    symbols.get(place).copied().ok_or("a Huffman table of it is too short")?;
                if length <= SHORT_CODE {
                    let first = (code << (SHORT_CODE - length)) as usize;
                    let entry = Entry { length: length as u8, symbol };
                    table.short[first..first + (1 << (SHORT_CODE - length))].fill(entry);
                }
                table.add_whole(code, length, symbol);
                table.last_code[length as usize] = code as i32;
                code += 1;
                place += 1;
            }
            code <<= 1;
        }
        Ok(table)
    }

    /// Notes a code of `length` bits with each value that may follow it, if both fit into the look-up table.
    fn add_whole(&mut self, code: u32, length: u32, symbol: u8) {
        let size = u32::from(symbol & 15);
        if length + size > WHOLE {
            return;
        }
        let span = 1 << (WHOLE - length - size);
        for value in 0..1 << size {
            let first = (((code << size) | value) as usize) * span;
            let value = extended(value as i32, size) as i16;
            let whole = Whole { length: (length + size) as u8, zeros: symbol >> 4, value };
            self.whole[first..first + span].fill(whole);
        }
    }
}

/// A number of `size` bits in JPEG's code for signed numbers: a leading 0 makes it negative.
fn extended(value: i32, size: u32) -> i32 {
    let is_negative = size > 0 && value < 1 << (size - 1);
    if is_negative { value - (1 << size) + 1 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_end_at_a_marker_and_stuffed_zeros_are_left_out() {
        let mut bits = Bits::new(&[0xA5, 0xFF, 0x00, 0xFF, 0xFF, 0xD9], 0);
        assert_eq!(bits.take(4), Ok(0xA));
        assert_eq!(bits.take(12), Ok(0x5FF));
        assert_eq!(bits.take(1), Err(SHORT.into()));
        assert_eq!(bits.position(), 3);
    }

    #[test]
    fn numbers_with_a_leading_zero_are_negative() {
        let mut bits = Bits::new(&[0b0110_1000], 0);
        assert_eq!([bits.signed(2), bits.signed(2), bits.signed(1)], [Ok(-2), Ok(2), Ok(1)]);
    }

    #[test]
    fn symbols_follow_their_codes() {
        // 0 -> 7, 10 -> 8, and a code of 11 bits that begins 110.
        let mut counts = [0; 16];
        (counts[0], counts[1], counts[10]) = (1, 1, 1);
        let table = Table::new(&counts, &[7, 8, 9]).unwrap();
        let mut bits = Bits::new(&[0b0101_1000, 0b0000_0011], 0);
        let symbols = [bits.symbol(&table), bits.symbol(&table), bits.symbol(&table)];
        assert_eq!(symbols, [Ok(7), Ok(8), Ok(9)]);
        assert!(bits.symbol(&table).is_err());
    }

    #[test]
    fn impossible_tables_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_err());
        counts[0] = 2;
        assert!(Table::new(&counts, &[1]).is_err());
    }
}
