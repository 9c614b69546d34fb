//! The bits of entropy-coded data, and the Huffman codes in them.

use super::Reason;
use super::zigzag::position;

/// The reason if a marker ends the data too early.
pub(super) const SHORT: &str = "its coded data ends before its last block";

pub(super) const BEYOND: &str = "its coded data is damaged (a coefficient beyond its block)";

/// Reads the coded data of one scan bit by bit, up to the next marker. It never invents bits. Decoders that
/// continue with zeros after the data return an image with a grey part, without an error.
///
/// It is copied freely: a loop over codes keeps it in registers, and nothing that the loop calls gets its address.
#[derive(Clone, Copy)]
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

    /// Adds the bits of the next bytes. At most 32 may be at hand.
    #[inline(always)]
    fn fill(&mut self) {
        match four_bytes(self.bytes, self.at) {
            Some(next) => {
                self.buffer |= u64::from(next) << (32 - self.count);
                self.count += 32;
                self.at += 4;
            }
            None => *self = self.filled_by_bytes(),
        }
    }

    /// Takes bytes one by one, up to a marker.
    #[cold]
    #[inline(never)]
    fn filled_by_bytes(mut self) -> Self {
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return self };
            let mut next = self.at + 1;
            if byte == 0xFF {
                // Fill bytes may come before a marker, and before the zero that means "no marker".
                while self.bytes.get(next) == Some(&0xFF) {
                    next += 1;
                }
                if self.bytes.get(next) != Some(&0) {
                    return self;
                }
                next += 1;
            }
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.at = next;
        }
        self
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

    /// Takes a block of a sequential image. Returns how much its DC coefficient is larger than that of the block before. The AC
    /// coefficients are written to `block`, where they must be 0.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        [dc, ac]: [&Table; 2],
        block: &mut [i16; 64],
    ) -> Result<i32, Reason> {
        // A copy, which stays in registers.
        let mut bits = *self;
        let difference = bits.whole(dc)?.value;
        let mut place = 1;
        while place < 64 {
            let code = bits.whole(ac)?;
            place += usize::from(code.zeros);
            if place > 63 {
                check_end(code)?;
                break;
            }
            block[position(place)] = code.value;
            place += 1;
        }
        *self = bits;
        Ok(i32::from(difference))
    }

    /// As [`Bits::block`], without the AC coefficients. `runs` are those of `ac`.
    #[inline(always)]
    pub(super) fn skip_block(&mut self, [dc, ac]: [&Table; 2], runs: &Runs) -> Result<i32, Reason> {
        let mut bits = *self;
        let difference = bits.whole(dc)?.value;
        let mut place = 1;
        while place < 64 {
            if bits.count < 32 {
                bits.fill();
            }
            let run = runs.0[(bits.buffer >> (64 - WHOLE)) as usize];
            let next = place + usize::from(run.places);
            // Codes that do not fit into the block belong to the next one.
            if u32::from(run.length) <= bits.count && next + usize::from(run.ends) <= 64 {
                bits.buffer <<= run.length;
                bits.count -= u32::from(run.length);
                if run.ends {
                    break;
                }
                place = next;
                continue;
            }
            let code = bits.whole(ac)?;
            place += usize::from(code.zeros);
            if place > 63 {
                check_end(code)?;
            }
            place += 1;
        }
        *self = bits;
        Ok(i32::from(difference))
    }

    /// Takes a code with the bits of its value.
    #[inline(always)]
    fn whole(&mut self, table: &Table) -> Result<Whole, Reason> {
        if self.count < 32 {
            self.fill();
        }
        let code = table.whole[(self.buffer >> (64 - WHOLE)) as usize];
        let length = u32::from(code.length);
        if length <= self.count {
            self.buffer <<= length;
            self.count -= length;
            return Ok(code);
        }
        let (rest, code) = self.long_code(table)?;
        *self = rest;
        Ok(code)
    }

    /// Takes a code that the table of whole codes does not have, with the bits of its value.
    #[inline(never)]
    fn long_code(mut self, table: &Table) -> Result<(Self, Whole), Reason> {
        let symbol = self.symbol(table)?;
        let value = self.signed(u32::from(symbol & 15))? as i16;
        Ok((self, Whole { length: 0, zeros: zeros_of(symbol), value }))
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

/// The next four bytes, if they are only data. They nearly always are.
#[inline(always)]
fn four_bytes(bytes: &[u8], at: usize) -> Option<u32> {
    let next = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
    // A byte of 0xFF is zero in the complement, and the subtraction borrows only at such a byte.
    let is_marked = (!next).wrapping_sub(0x0101_0101) & next & 0x8080_8080 != 0;
    (!is_marked).then_some(next)
}

/// A code that leads beyond a block must be the one that ends it, or stand for zeros.
#[inline(always)]
fn check_end(code: Whole) -> Result<(), Reason> {
    match code.value {
        0 => Ok(()),
        _ => Err(BEYOND.into()),
    }
}

/// How many zeros come before the value of an AC code. After the code that ends a block there are only zeros.
fn zeros_of(symbol: u8) -> u8 {
    match (symbol >> 4, symbol & 15) {
        (0..15, 0) => END,
        (zeros, _) => zeros,
    }
}

fn bad_code() -> Reason {
    "its coded data is damaged (no such Huffman code)".into()
}

/// Codes up to this length, in bits, are found with one look-up.
const SHORT_CODE: u32 = 9;

/// Codes that have, with the bits of their value, up to this length are found together with the value.
const WHOLE: u32 = 11;

/// A code of an AC coefficient with the value after it.
#[derive(Clone, Copy)]
struct Whole {
    /// The length of both in bits. [`LONG`] if they are longer than the look-up table allows.
    length: u8,
    zeros: u8,
    value: i16,
}

/// The zeros of the code that ends a block.
const END: u8 = 64;

/// More bits than are ever at hand.
const LONG: u8 = u8::MAX;

/// Codes of AC coefficients that follow one another, with their values.
#[derive(Clone, Copy)]
struct Run {
    /// The length of all in bits. [`LONG`] if not even one fits into the look-up table.
    length: u8,
    /// How many places of a block they take.
    places: u8,
    /// Whether the last of them ends the block. It takes no place.
    ends: bool,
}

/// For each [`WHOLE`] bits, all codes in them. Blocks that nobody needs are passed over several codes at a time.
pub(super) struct Runs(Box<[Run; 1 << WHOLE]>);

impl Runs {
    pub(super) fn of(table: &Table) -> Self {
        let mut runs = Box::new([Run { length: 0, places: 0, ends: false }; 1 << WHOLE]);
        for (bits, run) in runs.iter_mut().enumerate() {
            loop {
                let rest = bits << run.length & ((1 << WHOLE) - 1);
                let code = table.whole[rest];
                let (length, places) = (u32::from(code.length), run.places + code.zeros + 1);
                // The bits after the first `WHOLE` are not known.
                if length > WHOLE - u32::from(run.length) {
                    break;
                }
                run.length += code.length;
                if code.zeros == END {
                    run.ends = true;
                    break;
                }
                run.places = places;
            }
            if run.length == 0 {
                run.length = LONG;
            }
        }
        Self(runs)
    }
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
    whole: Box<[Whole; 1 << WHOLE]>,
    /// The largest code of each length. -1 if there is none.
    last_code: [i32; 17],
    /// Added to a code of each length, it gives the code's index in `symbols`.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Whether all symbols can be sizes of DC differences.
    pub(super) fn is_of_dc(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol <= 15)
    }

    /// A table with `counts[i]` codes of `i + 1` bits, for `symbols` in order.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Reason> {
        let mut table = Self {
            short: vec![Entry::default(); 1 << SHORT_CODE],
            whole: Box::new([Whole { length: LONG, zeros: 0, value: 0 }; 1 << WHOLE]),
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
            let whole = Whole { length: (length + size) as u8, zeros: zeros_of(symbol), value };
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

    /// An AC table with values, zeros, sixteen zeros, an end, and codes that are longer than the look-up tables allow.
    fn ac_table() -> Table {
        let mut counts = [0; 16];
        (counts[1], counts[2], counts[3], counts[4], counts[12]) = (2, 2, 3, 1, 255);
        let symbols = [0x01, 0x00, 0x11, 0xF0, 0x53, 0x02, 0xE1, 0x0A];
        Table::new(&counts, &[&symbols[..], &[0x21; 255]].concat()).unwrap()
    }

    #[test]
    fn a_block_that_is_passed_over_ends_where_it_ends_when_it_is_read() {
        let mut counts = [0; 16];
        (counts[0], counts[1]) = (1, 2);
        let dc = Table::new(&counts, &[3, 0, 9]).unwrap();
        let ac = ac_table();
        let runs = Runs::of(&ac);
        let (mut seed, mut read, mut damaged) = (1_u64, 0, 0);
        for _ in 0..200 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .take(300)
            .collect();
            let (mut one, mut other) = (Bits::new(&bytes, 0), Bits::new(&bytes, 0));
            loop {
                let mut block = [0; 64];
                let expected = one.block([&dc, &ac], &mut block);
                assert_eq!(other.skip_block([&dc, &ac], &runs), expected);
                if expected.is_err() {
                    damaged += 1;
                    break;
                }
                read += 1;
                let rest = |bits: &Bits<'_>| 8 * bits.at - bits.count as usize;
                assert_eq!(rest(&one), rest(&other));
            }
        }
        assert!(read > 1000 && damaged == 200, "{read} {damaged}");
    }

    #[test]
    fn symbols_of_dc_tables_are_sizes() {
        let mut counts = [0; 16];
        counts[1] = 2;
        assert!(Table::new(&counts, &[0, 15]).unwrap().is_of_dc());
        assert!(!Table::new(&counts, &[0, 16]).unwrap().is_of_dc());
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
