//! Text widths, and shortening of text to a width.

use unicode_segmentation::UnicodeSegmentation;

use super::Color;
use super::lettering::{self, is_embedded};

/// Advance widths of the printable ASCII characters in DejaVu Sans, regular and bold. The unit is 1/2048 of
/// the font size. They come from the `hmtx` tables of the font files that the drawing library embeds.
const REGULAR: [u16; 95] = [
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303,
    1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048,
    1401, 1405, 1430, 1577, 1294, 1178, 1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235,
    1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403, 799, 690, 799, 1716, 1024, 1024,
    1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298, 1253, 1300,
    1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
];
const BOLD: [u16; 95] = [
    713, 934, 1067, 1716, 1425, 2052, 1786, 627, 936, 936, 1071, 1716, 778, 850, 778, 748, 1425,
    1425, 1425, 1425, 1425, 1425, 1425, 1425, 1425, 1425, 819, 819, 1716, 1716, 1716, 1188, 2048,
    1585, 1561, 1503, 1700, 1399, 1399, 1681, 1714, 762, 762, 1587, 1305, 2038, 1714, 1741, 1501,
    1741, 1577, 1475, 1397, 1663, 1585, 2259, 1579, 1483, 1485, 936, 748, 936, 1716, 1024, 1024,
    1382, 1466, 1214, 1466, 1389, 891, 1466, 1458, 702, 702, 1362, 702, 2134, 1458, 1407, 1466,
    1466, 1010, 1219, 979, 1458, 1335, 1892, 1321, 1335, 1192, 1458, 748, 1458, 1716,
];
/// Width of every other character of the embedded font, in the same unit. Wider ones are rare, and spare
/// room does no harm.
const OTHER: u16 = 2048;

const ELLIPSIS: &str = "…";

/// Size (in pixels), weight and colour of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Font {
    pub(crate) size: u32,
    pub(crate) bold: bool,
    pub(crate) color: Color,
}

impl Font {
    pub(crate) fn new(size: u32, color: Color) -> Self {
        Self { size, bold: false, color }
    }

    pub(crate) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The width of a line, in pixels.
    pub(crate) fn width(&self, text: &str) -> f64 {
        if !is_embedded(text) {
            return lettering::width(text, *self);
        }
        let table = if self.bold { &BOLD } else { &REGULAR };
        let advance = |character: char| {
            let index = (character as usize).wrapping_sub(32);
            u64::from(*table.get(index).unwrap_or(&OTHER))
        };
        text.chars().map(advance).sum::<u64>() as f64 * f64::from(self.size) / 2048.0
    }
}

/// The text, or as much of its beginning as fits into `width` pixels.
pub(crate) fn shorten(text: &str, font: Font, width: f64) -> String {
    fit(text, font, width, |kept| (kept, 0))
}

/// The text, or as much of its beginning and end as fits into `width` pixels. Both ends of a path are
/// informative.
pub(crate) fn shorten_middle(text: &str, font: Font, width: f64) -> String {
    fit(text, font, width, |kept| (kept - kept / 2, kept / 2))
}

fn fit(text: &str, font: Font, width: f64, split: impl Fn(usize) -> (usize, usize)) -> String {
    if font.width(text) <= width {
        return text.to_owned();
    }
    // Accents and joined emoji stay together with their base characters.
    let characters: Vec<&str> = text.graphemes(true).collect();
    let cut = |kept: usize| {
        let (front, back) = split(kept);
        let (front, back) = (&characters[..front], &characters[characters.len() - back..]);
        front.iter().chain([&ELLIPSIS]).chain(back).copied().collect::<String>()
    };
    let kept = (1..characters.len()).rev().find(|kept| font.width(&cut(*kept)) <= width);
    cut(kept.unwrap_or(0))
}

/// Breaks a text into at most `lines` lines of at most `width` pixels. Lines are broken at spaces (not at
/// no-break spaces) if possible. Text that does not fit is cut off visibly.
pub(crate) fn wrap(text: &str, font: Font, width: f64, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
    while words.peek().is_some() && wrapped.len() + 1 < lines {
        let mut line = String::new();
        while let Some(word) = words.peek() {
            let longer =
                if line.is_empty() { (*word).to_owned() } else { format!("{line} {word}") };
            if !line.is_empty() && font.width(&longer) > width {
                break;
            }
            line = longer;
            words.next();
        }
        wrapped.push(shorten(&line, font, width));
    }
    let rest: Vec<&str> = words.collect();
    if !rest.is_empty() {
        wrapped.push(shorten(&rest.join(" "), font, width));
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FONT: Font = Font { size: 16, bold: false, color: [0; 3] };

    #[test]
    fn widths_are_those_of_the_font() {
        assert_eq!(Font { size: 2048, ..FONT }.width("Wi"), 2025.0 + 569.0);
        assert_eq!(Font { size: 2048, ..FONT }.bold().width("Wi"), 2259.0 + 702.0);
        assert_eq!(FONT.width("éß"), 32.0);
    }

    #[test]
    fn what_fits_is_kept_and_the_rest_cut_visibly() {
        assert_eq!(shorten("bees", FONT, 100.0), "bees");
        let cut = shorten("a rather long caption", FONT, 100.0);
        assert!(cut.starts_with("a rath") && cut.ends_with('…'), "{cut}");
        assert!(FONT.width(&cut) <= 100.0);
        let path = shorten_middle("hymenoptera/val/bees/1234.jpg", FONT, 150.0);
        assert!(path.starts_with("hym") && path.ends_with(".jpg") && path.contains('…'), "{path}");
        assert_eq!(shorten("wide", FONT, 1.0), "…");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(
            wrap("true ants predicted bees", FONT, 130.0, 2),
            ["true ants", "predicted bees"]
        );
        assert_eq!(wrap("bees 97\u{a0}%", FONT, 60.0, 2), ["bees", "97\u{a0}%"]);
        assert_eq!(wrap("one", FONT, 100.0, 2), ["one"]);
        assert!(wrap("", FONT, 100.0, 2).is_empty());
        assert_eq!(wrap("one two three four five", FONT, 60.0, 2).len(), 2);
    }
}
