//! Matching colours that colour-blind readers can tell apart (Okabe and Ito 2008).

use crate::canvas::Color;

/// Text and the strongest lines.
pub(crate) const INK: Color = [0x22, 0x28, 0x2e];
/// Captions, tick labels.
pub(crate) const MUTED: Color = [0x5a, 0x64, 0x6e];
/// Axes and frames.
pub(crate) const RULE: Color = [0x9a, 0xa4, 0xae];
/// Grid lines.
pub(crate) const GRID: Color = [0xe4, 0xe8, 0xec];
/// Training.
pub(crate) const BLUE: Color = [0x00, 0x72, 0xb2];
/// Single batches of training: the same hue, faint.
pub(crate) const FAINT_BLUE: Color = [0xa6, 0xcf, 0xe9];
/// Validation.
pub(crate) const VERMILLION: Color = [0xd5, 0x5e, 0x00];
/// Runs shown beside each other.
pub(crate) const SERIES: [Color; 8] = [
    BLUE,
    VERMILLION,
    GREEN,
    [0xb3, 0x5a, 0x92],
    [0xc7, 0x8a, 0x00],
    [0x4f, 0xa6, 0xd8],
    [0x7f, 0x5a, 0x46],
    MUTED,
];
/// Learning rate.
pub(crate) const GREEN: Color = [0x00, 0x86, 0x62];
