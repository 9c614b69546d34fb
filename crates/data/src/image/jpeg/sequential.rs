//! Reads a scan that has all coefficients of its components.
//!
//! The samples of a row of units are computed as soon as it is read, so its coefficients are still in the fastest cache.
//! Blocks that nobody needs are passed over.

use std::ops::Range;

use super::Reason;
use super::bits::{Bits, Runs, Table};
use super::headers::{Frame, Headers, Scan};
use super::samples::Samples;
use super::scans::{NO_CODES, NO_STEPS, Plane, TOO_LARGE};
use super::units::{marker_before, restart, units};
use super::window::Window;

/// Reads the coded data after a scan's header, and computes the samples of a window. Returns the position of its end.
pub(super) fn read(
    headers: &Headers<'_>,
    bytes: &[u8],
    frame: &Frame,
    scan: &Scan,
    planes: &[Plane],
    window: &Window,
    samples: &mut [Samples],
) -> Result<usize, Reason> {
    let units = units(frame, scan);
    let part = |&[place, dc, ac]: &[usize; 3]| {
        let (whole, component) = (&frame.components[place], &window.frame.components[place]);
        let dc = headers.dc.get(dc).and_then(Option::as_ref).ok_or(NO_CODES)?;
        let ac = headers.ac.get(ac).and_then(Option::as_ref).ok_or(NO_CODES)?;
        let table = planes[place].table.as_ref().ok_or(NO_STEPS)?;
        if !dc.is_of_dc() {
            return Err(TOO_LARGE.into());
        }
        let [top, left] = window.first_block(whole);
        let is_part = [component.rows, component.columns] != [whole.rows, whole.columns];
        let [across, down] = if units.is_single { [1, 1] } else { [whole.across, whole.down] };
        Ok(Part {
            place,
            tables: [dc, ac],
            runs: is_part.then(|| Runs::of(ac)),
            table,
            across,
            down,
            rows: top..top + component.rows,
            columns: left..left + component.columns,
            blocks: vec![[0; 64]; down * component.columns],
            last_dc: 0,
        })
    };
    let mut parts = scan.components.iter().map(part).collect::<Result<Vec<_>, Reason>>()?;
    let mut bits = Bits::new(bytes, headers.position());
    for row in 0..units.rows {
        for column in 0..units.columns {
            let unit = row * units.columns + column;
            if let Some(number) = marker_before(unit, headers.restart_interval) {
                bits = restart(bytes, bits.position(), number)?;
                parts.iter_mut().for_each(|part| part.last_dc = 0);
            }
            for part in &mut parts {
                part.read(&mut bits, row, column)?;
            }
        }
        for part in &mut parts {
            part.end_row(row, &mut samples[part.place]);
        }
    }
    Ok(bits.position())
}

/// A component of a scan.
struct Part<'a> {
    /// Its number in the frame.
    place: usize,
    /// The codes of its DC and AC coefficients.
    tables: [&'a Table; 2],
    /// For blocks that nobody needs, if there are any.
    runs: Option<Runs>,
    /// Its quantisation table.
    table: &'a [u16; 64],
    /// Number of its blocks in a row and in a column of a unit.
    across: usize,
    down: usize,
    /// The rows and columns of blocks that the window needs.
    rows: Range<usize>,
    columns: Range<usize>,
    /// Those blocks of a row of units.
    blocks: Vec<[i16; 64]>,
    /// The DC coefficient of the block before.
    last_dc: i32,
}

impl Part<'_> {
    /// Reads the blocks of a unit.
    fn read(&mut self, bits: &mut Bits<'_>, row: usize, column: usize) -> Result<(), Reason> {
        for y in 0..self.down {
            let is_needed = self.rows.contains(&(row * self.down + y));
            for x in column * self.across..(column + 1) * self.across {
                if let Some(runs) = &self.runs
                    && !(is_needed && self.columns.contains(&x))
                {
                    let difference = bits.skip_block(self.tables, runs)?;
                    self.last_dc = self.last_dc.wrapping_add(difference);
                    continue;
                }
                let place = y * self.columns.len() + x - self.columns.start;
                let block = &mut self.blocks[place];
                let difference = bits.block(self.tables, block)?;
                self.last_dc = self.last_dc.wrapping_add(difference);
                block[0] = self.last_dc as i16;
            }
        }
        Ok(())
    }

    /// Computes the samples of the blocks of a row of units.
    fn end_row(&mut self, row: usize, samples: &mut Samples) {
        let blocks = self.blocks.chunks_exact_mut(self.columns.len());
        for (y, blocks) in (row * self.down..).zip(blocks) {
            if self.rows.contains(&y) {
                samples.put_row(y - self.rows.start, blocks, self.table);
                blocks.fill([0; 64]);
            }
        }
    }
}
