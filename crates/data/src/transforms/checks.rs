//! Checks of the transforms' settings.

use super::Size;
use crate::error::{Error, Result};
use crate::image::MAX_SIDE;

/// Fails with the message `rule` unless `holds` is true.
pub(super) fn check(op: &'static str, holds: bool, rule: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::transform(op, rule)) }
}

pub(super) fn check_size(op: &'static str, size: Size) -> Result<()> {
    let (height, width) = size.square();
    let sides = 1..=MAX_SIDE;
    let possible = sides.contains(&height) && sides.contains(&width);
    check(op, possible, "`size` must be 1 to 16384 pixels a side")
}

pub(super) fn check_probability(op: &'static str, p: f64) -> Result<()> {
    check_range(op, "p", [p, p], [0.0, 1.0])
}

pub(super) fn check_range(
    op: &'static str,
    name: &str,
    [low, high]: [f64; 2],
    [least, most]: [f64; 2],
) -> Result<()> {
    // The comparisons are false for NaN.
    if least <= low && low <= high && high <= most {
        return Ok(());
    }
    let found = if low == high { format!("{low}") } else { format!("{low} to {high}") };
    let reason = format!("`{name}` is out of range or not ascending: {found}");
    Err(Error::transform(op, reason))
}
