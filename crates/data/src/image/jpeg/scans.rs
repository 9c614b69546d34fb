//! Reads the coefficients of an image, scan by scan.

use super::bits::{BEYOND, Bits, Table};
use super::headers::{Component, Frame, Headers, Scan};
use super::samples::Samples;
use super::units::{marker_before, restart, units};
use super::window::Window;
use super::zigzag::{ZIGZAG, position};
use super::{CUT_OFF, Reason, sequential};

pub(super) const NO_CODES: &str = "a Huffman table of it is missing";
pub(super) const NO_STEPS: &str = "a quantisation table of it is missing";
pub(super) const TOO_LARGE: &str = "its coded data is damaged (a DC difference of too many bits)";

/// The largest number of scans. Progressive files of real encoders have about ten.
const MOST_SCANS: usize = 200;

/// The coefficients of one component: block by block in rows, each block row by row.
pub(super) struct Plane {
    /// Empty until a scan needs all of them at once.
    blocks: Vec<[i16; 64]>,
    /// Its quantisation table at the start of its first scan, row by row.
    pub(super) table: Option<[u16; 64]>,
    /// How many low bits of each coefficient are still missing. `None` if all are missing.
    missing: [Option<u32>; 64],
}

/// Reads all scans, from the first on, and computes the samples of a window. `scan` is the header of the first.
///
/// # Errors
/// If the coded data is damaged or too short for every block of every component. A wrong image must not be
/// accepted as a right one.
pub(super) fn read(
    headers: &mut Headers<'_>,
    bytes: &[u8],
    scan: Scan,
    window: &Window,
) -> Result<Vec<Samples>, Reason> {
    let frame = headers.frame.clone().ok_or(CUT_OFF)?;
    let plane = |_: &Component| Plane { blocks: Vec::new(), table: None, missing: [None; 64] };
    let mut planes: Vec<Plane> = frame.components.iter().map(plane).collect();
    let mut samples: Vec<Samples> = window.frame.components.iter().map(Samples::new).collect();
    let mut next = Some(scan);
    let mut count = 0;
    while let Some(scan) = next {
        count += 1;
        if count > MOST_SCANS {
            return Err(format!("it has more than {MOST_SCANS} scans").into());
        }
        begin(headers, &frame, &scan, &mut planes)?;
        let end = if frame.is_progressive {
            read_scan(headers, bytes, &frame, &scan, &mut planes)?
        } else {
            sequential::read(headers, bytes, &frame, &scan, &planes, window, &mut samples)?
        };
        headers.go_to(end);
        next = headers.next_scan()?;
    }
    let is_whole = |plane: &Plane| plane.missing.iter().all(|missing| *missing == Some(0));
    if !planes.iter().all(is_whole) {
        return Err("some of its scans are missing".into());
    }
    if frame.is_progressive {
        for ((whole, plane), (component, samples)) in frame
            .components
            .iter()
            .zip(&planes)
            .zip(window.frame.components.iter().zip(&mut samples))
        {
            let table = plane.table.as_ref().ok_or(NO_STEPS)?;
            let [top, left] = window.first_block(whole);
            for row in 0..component.rows {
                let blocks = &plane.blocks[(top + row) * whole.columns + left..];
                samples.put_row(row, &blocks[..component.columns], table);
            }
        }
    }
    Ok(samples)
}

/// Checks which coefficients a scan contains, and records that they were read.
fn begin(
    headers: &Headers<'_>,
    frame: &Frame,
    scan: &Scan,
    planes: &mut [Plane],
) -> Result<(), Reason> {
    let (first, last) = if frame.is_progressive { (scan.first, scan.last) } else { (0, 63) };
    if frame.is_progressive {
        let is_dc = first == 0 && last == 0;
        let is_ac = 1 <= first && first <= last && last <= 63 && scan.components.len() == 1;
        let is_next_bit = scan.high == 0 || scan.high == scan.low + 1;
        if !(is_dc || is_ac) || !is_next_bit || scan.low > 13 {
            return Err("a scan of it brings an impossible part of the coefficients".into());
        }
    }
    for &[place, ..] in &scan.components {
        let component = &frame.components[place];
        let plane = &mut planes[place];
        if plane.table.is_none() {
            let table = headers.quantisation.get(component.table).copied().flatten();
            let table = table.ok_or(NO_STEPS)?;
            let mut by_rows = [0; 64];
            ZIGZAG.iter().zip(table).for_each(|(&place, step)| by_rows[usize::from(place)] = step);
            plane.table = Some(by_rows);
        }
        for missing in &mut plane.missing[first..=last] {
            let expected =
                if frame.is_progressive && scan.high > 0 { Some(scan.high) } else { None };
            if *missing != expected {
                return Err("its scans do not follow one another".into());
            }
            *missing = Some(if frame.is_progressive { scan.low } else { 0 });
        }
    }
    Ok(())
}

/// The state of a scan between two blocks.
struct State {
    /// The last DC coefficient of each component of the frame.
    dc: [i32; 4],
    /// The number of following blocks without new coefficients.
    empty_blocks: u32,
}

/// Reads the coded data after a progressive scan's header. Returns the position of its end.
fn read_scan(
    headers: &Headers<'_>,
    bytes: &[u8],
    frame: &Frame,
    scan: &Scan,
    planes: &mut [Plane],
) -> Result<usize, Reason> {
    let coder = Coder::new(headers, scan);
    for &[place, ..] in &scan.components {
        let Component { columns, rows, .. } = frame.components[place];
        planes[place].blocks.resize(columns * rows, [0; 64]);
    }
    let mut bits = Bits::new(bytes, headers.position());
    let mut state = State { dc: [0; 4], empty_blocks: 0 };
    let units = units(frame, scan);
    for unit in 0..units.columns * units.rows {
        if let Some(number) = marker_before(unit, headers.restart_interval) {
            bits = restart(bytes, bits.position(), number)?;
            state = State { dc: [0; 4], empty_blocks: 0 };
        }
        let (row, column) = (unit / units.columns, unit % units.columns);
        for (part, &[place, ..]) in scan.components.iter().enumerate() {
            let component = &frame.components[place];
            let [across, down] =
                if units.is_single { [1, 1] } else { [component.across, component.down] };
            for y in row * down..(row + 1) * down {
                for x in column * across..(column + 1) * across {
                    let block = &mut planes[place].blocks[y * component.columns + x];
                    coder.block(&mut bits, &mut state, part, block)?;
                }
            }
        }
    }
    Ok(bits.position())
}

/// Decodes the blocks of one progressive scan.
struct Coder<'a> {
    tables: Vec<(Option<&'a Table>, Option<&'a Table>)>,
    places: Vec<usize>,
    first: usize,
    last: usize,
    is_refining: bool,
    low: u32,
}

impl<'a> Coder<'a> {
    fn new(headers: &'a Headers<'_>, scan: &Scan) -> Self {
        let tables = |&[_, dc, ac]: &[usize; 3]| {
            (
                headers.dc.get(dc).and_then(Option::as_ref),
                headers.ac.get(ac).and_then(Option::as_ref),
            )
        };
        Self {
            tables: scan.components.iter().map(tables).collect(),
            places: scan.components.iter().map(|[place, ..]| *place).collect(),
            first: scan.first,
            last: scan.last,
            is_refining: scan.high > 0,
            low: scan.low,
        }
    }

    fn block(
        &self,
        bits: &mut Bits<'_>,
        state: &mut State,
        part: usize,
        block: &mut [i16; 64],
    ) -> Result<(), Reason> {
        let dc = || self.tables[part].0.ok_or(NO_CODES);
        let ac = || self.tables[part].1.ok_or(NO_CODES);
        let last_dc = &mut state.dc[self.places[part]];
        match (self.first, self.is_refining) {
            (0, false) => {
                block[0] = (next_dc(bits, dc()?, last_dc)? << self.low) as i16;
                Ok(())
            }
            (0, true) => {
                block[0] |= i16::from(bits.bit()?) << self.low;
                Ok(())
            }
            (_, false) => self.first_ac(bits, ac()?, &mut state.empty_blocks, block),
            (_, true) => self.refine_ac(bits, ac()?, &mut state.empty_blocks, block),
        }
    }

    fn first_ac(
        &self,
        bits: &mut Bits<'_>,
        table: &Table,
        empty_blocks: &mut u32,
        block: &mut [i16; 64],
    ) -> Result<(), Reason> {
        if *empty_blocks > 0 {
            *empty_blocks -= 1;
            return Ok(());
        }
        let mut place = self.first;
        while place <= self.last {
            let symbol = bits.symbol(table)?;
            let (run, size) = (symbol >> 4, u32::from(symbol & 15));
            place += usize::from(run);
            if size > 0 {
                let value = bits.signed(size)? << self.low;
                *coefficient(block, place, self.last)? = value as i16;
            } else if run < 15 {
                *empty_blocks = (1 << run) - 1 + bits.take(u32::from(run))?;
                return Ok(());
            }
            place += 1;
        }
        Ok(())
    }

    fn refine_ac(
        &self,
        bits: &mut Bits<'_>,
        table: &Table,
        empty_blocks: &mut u32,
        block: &mut [i16; 64],
    ) -> Result<(), Reason> {
        let bit = 1_i16 << self.low;
        let mut place = self.first;
        if *empty_blocks == 0 {
            while place <= self.last {
                let symbol = bits.symbol(table)?;
                let (run, size) = (symbol >> 4, symbol & 15);
                let new = match size {
                    0 if run < 15 => {
                        *empty_blocks = (1 << run) + bits.take(u32::from(run))?;
                        break;
                    }
                    0 => 0,
                    1 if bits.bit()? => bit,
                    1 => -bit,
                    _ => {
                        return Err(
                            "its coded data is damaged (a refinement of several bits)".into()
                        );
                    }
                };
                place = refine(bits, block, place..=self.last, usize::from(run), bit)?;
                if new != 0 {
                    *coefficient(block, place, self.last)? = new;
                }
                place += 1;
            }
        }
        if *empty_blocks > 0 {
            refine(bits, block, place..=self.last, usize::MAX, bit)?;
            *empty_blocks -= 1;
        }
        Ok(())
    }
}

/// The coefficient at a place in the order of coding.
fn coefficient(block: &mut [i16; 64], place: usize, last: usize) -> Result<&mut i16, Reason> {
    if place > last {
        return Err(BEYOND.into());
    }
    Ok(&mut block[position(place)])
}

fn next_dc(bits: &mut Bits<'_>, table: &Table, last: &mut i32) -> Result<i32, Reason> {
    let size = bits.symbol(table)?;
    if size > 15 {
        return Err(TOO_LARGE.into());
    }
    *last = last.wrapping_add(bits.signed(u32::from(size))?);
    Ok(*last)
}

/// Reads the next bit of each coefficient that is not 0, and skips `zeros` coefficients that are 0. Returns the
/// position of the zero after them.
fn refine(
    bits: &mut Bits<'_>,
    block: &mut [i16; 64],
    places: std::ops::RangeInclusive<usize>,
    zeros: usize,
    bit: i16,
) -> Result<usize, Reason> {
    let mut zeros = zeros;
    let end = *places.end();
    for place in places {
        let value = &mut block[position(place)];
        if *value == 0 {
            if zeros == 0 {
                return Ok(place);
            }
            zeros -= 1;
        } else if bits.bit()? && *value & bit == 0 {
            *value = value.wrapping_add(if *value > 0 { bit } else { -bit });
        }
    }
    Ok(end + 1)
}
