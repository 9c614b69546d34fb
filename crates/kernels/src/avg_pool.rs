//! Average pooling over any windows.

use super::compiled::compiled;
use super::float::Float;
use super::output::build;
use super::pool::{Window, Windows};
use super::vectorize::vectorize;

compiled! {
    trait Kernels<T>;

    /// The sum of every window divided by its count.
    pub fn average(x: &[T], channels: usize, windows: &Windows) -> Vec<T> {
        let image_len = windows.image_len(channels);
        let row_len = windows.columns.output() * channels;
        let batch = x.len() / image_len;
        build(batch * windows.output_len(channels), row_len, |row, y| {
            let (image, row) = (row / windows.rows.output(), row % windows.rows.output());
            let image = &x[image * image_len..][..image_len];
            average_row(image, windows, windows.rows.windows[row], channels, y);
        })
    }

    /// The gradient of the input. Each window spreads its gradient evenly over its inputs.
    pub fn gradient(grad: &[T], channels: usize, windows: &Windows) -> Vec<T> {
        let output_len = windows.output_len(channels);
        let row_len = windows.columns.input() * channels;
        let batch = grad.len() / output_len;
        build(batch * windows.image_len(channels), row_len, |row, dx| {
            let (image, row) = (row / windows.rows.input(), row % windows.rows.input());
            let grad = &grad[image * output_len..][..output_len];
            gradient_row(grad, windows, row, channels, dx);
        })
    }
}

vectorize! {
    fn average_row<T: Float>(
        image: &[T],
        windows: &Windows,
        rows: Window,
        channels: usize,
        y: &mut [T],
    ) {
        let width = windows.columns.input();
        // Each window row is summed separately before it is added to the total. So rounding errors grow
        // with the side of a large window (a global average) and not with its area.
        let mut row_sum = vec![T::ZERO; channels];
        for (columns, y) in windows.columns.windows.iter().zip(y.chunks_exact_mut(channels)) {
            for row in rows.start..rows.end {
                let start = (row * width + columns.start) * channels;
                row_sum.fill(T::ZERO);
                for x in image[start..][..columns.len() * channels].chunks_exact(channels) {
                    for (sum, &x) in row_sum.iter_mut().zip(x) {
                        *sum += x;
                    }
                }
                for (y, &sum) in y.iter_mut().zip(&row_sum) {
                    *y += sum;
                }
            }
            let count = T::narrow((rows.count * columns.count) as f64);
            for y in y {
                *y /= count;
            }
        }
    }

    fn gradient_row<T: Float>(
        grad: &[T],
        windows: &Windows,
        row: usize,
        channels: usize,
        dx: &mut [T],
    ) {
        for (column, dx) in dx.chunks_exact_mut(channels).enumerate() {
            for i in windows.rows.holders[row].clone() {
                for j in windows.columns.holders[column].clone() {
                    let count = windows.rows.windows[i].count * windows.columns.windows[j].count;
                    let share = T::narrow(1.0 / count as f64);
                    let start = (i * windows.columns.output() + j) * channels;
                    for (dx, &grad) in dx.iter_mut().zip(&grad[start..][..channels]) {
                        *dx += grad * share;
                    }
                }
            }
        }
    }
}
