//! Steps that move pixels.

use super::{Edge, Pixels};

/// Whether a window of `count` rows (or columns) from `first` on is possible where an image has `length` of them.
pub(super) fn reaches(first: i32, count: usize, length: usize, edge: Edge) -> bool {
    let most = match edge {
        Edge::Constant(_) | Edge::Nearest => usize::MAX,
        Edge::Reflect => length.saturating_sub(1),
        Edge::Symmetric => length,
    };
    let Ok(before) = usize::try_from(-i64::from(first)) else {
        let end = (first as usize).saturating_add(count);
        return end.saturating_sub(length) <= most;
    };
    before <= most && count.saturating_sub(before).saturating_sub(length) <= most
}

pub(super) fn window(image: &Pixels, corner: [i32; 2], size: [usize; 2], edge: Edge) -> Pixels {
    let fill = if let Edge::Constant(fill) = edge { fill } else { [0; 3] };
    let [rows, columns, _] = image.shape;
    image.moved(size, fill, |y, x| {
        let row = source(i64::from(corner[0]) + y as i64, rows, edge)?;
        Some([row, source(i64::from(corner[1]) + x as i64, columns, edge)?])
    })
}

/// The row (or column) whose content is at `position`. `None` for a constant.
fn source(position: i64, length: usize, edge: Edge) -> Option<usize> {
    let last = length as i64 - 1;
    let mirrored = |offset: i64| {
        if position < 0 { -position - offset } else { 2 * last - position + offset }
    };
    let place = match edge {
        _ if (0..=last).contains(&position) => position,
        Edge::Constant(_) => return None,
        Edge::Nearest => position.clamp(0, last),
        Edge::Reflect => mirrored(0),
        Edge::Symmetric => mirrored(1),
    };
    Some(place as usize)
}

/// The numbers of a matrix in 16.16 fixed-point arithmetic, as in `affine_fixed` of Pillow's `Geometry.c`: where the
/// first pixel comes from, the step from column to column, and the step from row to row. Columns come before rows.
pub fn fixed_point([a, b, c, d, e, f]: [f64; 6]) -> [[i64; 2]; 3] {
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let start = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    [start, [fixed(a), fixed(d)], [fixed(b), fixed(e)]]
}

pub(super) fn affine_nearest(image: &Pixels, matrix: [f64; 6], fill: [u8; 3]) -> Pixels {
    let [rows, columns, _] = image.shape;
    let [start, by_column, by_row] = fixed_point(matrix);
    let inside = |position: i64, length: usize| {
        usize::try_from(position >> 16).ok().filter(|&index| index < length)
    };
    image.moved([rows, columns], fill, |y, x| {
        let at = |axis: usize| start[axis] + by_column[axis] * x as i64 + by_row[axis] * y as i64;
        Some([inside(at(1), rows)?, inside(at(0), columns)?])
    })
}

/// As `bilinear_filter` in Pillow's `Geometry.c`. Beyond the outermost centres the edge is repeated. Results are
/// truncated.
pub(super) fn affine_bilinear(
    image: &Pixels,
    [a, b, c, d, e, f]: [f64; 6],
    fill: [u8; 3],
) -> Pixels {
    let [rows, columns, channels] = image.shape;
    let mut turned = image.moved([rows, columns], fill, |_, _| None);
    let clamped = |place: f64, length: usize| place.clamp(0.0, (length - 1) as f64) as usize;
    for row in 0..rows {
        for column in 0..columns {
            let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
            let (source_x, source_y) = (a * x + b * y + c, d * x + e * y + f);
            let inside =
                (0.0..columns as f64).contains(&source_x) && (0.0..rows as f64).contains(&source_y);
            if !inside {
                continue;
            }
            let (x, y) = (source_x - 0.5, source_y - 0.5);
            let (left, top) = (x.floor(), y.floor());
            let [left_x, right_x] = [left, left + 1.0].map(|place| clamped(place, columns));
            let [upper, lower] = [top, top + 1.0].map(|place| clamped(place, rows));
            for channel in 0..channels {
                let at = |y: usize, x: usize| f64::from(image.pixel([y, x])[channel]);
                let mix = |from: f64, to: f64, share: f64| from + (to - from) * share;
                let above = mix(at(upper, left_x), at(upper, right_x), x - left);
                let below = mix(at(lower, left_x), at(lower, right_x), x - left);
                turned.pixel_mut([row, column])[channel] = mix(above, below, y - top) as u8;
            }
        }
    }
    turned
}
