//! The part of an image that is computed from its coefficients.

use super::headers::{Component, Frame};

/// Whole units of blocks (MCUs) around a part of an image, as an image of their own.
pub(super) struct Window {
    /// The size of the units, and of the components in them.
    pub(super) frame: Frame,
    /// Row and column of the part within them, and its height and width.
    pub(super) part: [usize; 4],
    /// Row and column of the first unit.
    units: [usize; 2],
}

impl Window {
    /// The units that the part `[top, left, height, width]` needs. It must lie inside the image.
    pub(super) fn around(frame: &Frame, [top, left, height, width]: [usize; 4]) -> Self {
        let (unit_height, unit_width) = (frame.side * frame.down, frame.side * frame.across);
        let [first_row, rows] = units(top, height, frame.height, unit_height);
        let [first_column, columns] = units(left, width, frame.width, unit_width);
        let inside = |whole: usize, first: usize, count: usize, size: usize| {
            (whole - first * size).min(count * size)
        };
        let component = |component: &Component| {
            let (across, down, side) = (component.across, component.down, component.side);
            Component {
                width: inside(component.width, first_column, columns, side * across),
                height: inside(component.height, first_row, rows, side * down),
                columns: columns * across,
                rows: rows * down,
                ..component.clone()
            }
        };
        let window = Frame {
            width: inside(frame.width, first_column, columns, unit_width),
            height: inside(frame.height, first_row, rows, unit_height),
            components: frame.components.iter().map(component).collect(),
            ..frame.clone()
        };
        let part = [top - first_row * unit_height, left - first_column * unit_width, height, width];
        Self { frame: window, part, units: [first_row, first_column] }
    }

    /// Row and column of a component's first block.
    pub(super) fn first_block(&self, component: &Component) -> [usize; 2] {
        [self.units[0] * component.down, self.units[1] * component.across]
    }
}

/// The first unit that pixels need, and the number of units. The filters that enlarge colours reach one sample further.
fn units(first: usize, count: usize, length: usize, size: usize) -> [usize; 2] {
    let begin = (first / size).saturating_sub(1);
    let end = (first + count).div_ceil(size) + 1;
    [begin, end.min(length.div_ceil(size)) - begin]
}
