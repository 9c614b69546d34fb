//! The units of blocks in the coded data of a scan, and the markers between them.

use super::bits::Bits;
use super::headers::{Component, Frame, Scan};
use super::{CUT_OFF, Reason};

/// The units (MCUs) of a scan.
pub(super) struct Units {
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Whether each unit is a single block, as in scans of one component.
    pub(super) is_single: bool,
}

pub(super) fn units(frame: &Frame, scan: &Scan) -> Units {
    if let &[[place, ..]] = scan.components.as_slice() {
        // In a scan of its own, a component is padded only to whole blocks.
        let Component { width, height, .. } = frame.components[place];
        return Units { columns: width.div_ceil(8), rows: height.div_ceil(8), is_single: true };
    }
    let columns = frame.width.div_ceil(8 * frame.across);
    let rows = frame.height.div_ceil(8 * frame.down);
    Units { columns, rows, is_single: false }
}

/// The number of the restart marker before a unit, if one must be there.
pub(super) fn marker_before(unit: usize, interval: usize) -> Option<u8> {
    (unit > 0 && unit.is_multiple_of(interval)).then(|| ((unit / interval - 1) % 8) as u8)
}

/// Continues after the restart marker that must come next. libjpeg would continue at a later marker and leave a
/// part of the image grey. Here that is an error.
pub(super) fn restart(bytes: &[u8], at: usize, number: u8) -> Result<Bits<'_>, Reason> {
    let mut at = at;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let marker =
            rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF));
        let marker = marker.ok_or(CUT_OFF)?;
        if rest[marker + 1] == 0xD0 + number {
            return Ok(Bits::new(bytes, at + marker + 2));
        }
        if !matches!(rest[marker + 1], 0x01) {
            return Err("its coded data is damaged (a restart marker is missing)".into());
        }
        at += marker + 2;
    }
}
