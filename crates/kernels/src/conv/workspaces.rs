//! The working memory of a convolution, from its shape alone. It follows the choices of the functions that
//! compute, so a change of theirs belongs here too; a test compares both.

use super::gather::tile_ranges;
use super::kernel_reads::KernelReads;
use super::patches::Patches;
use super::{BLOCK_COLS, BLOCK_ROWS, TASKS};
use super::{pointwise, reads_nothing, scatter, strided, thin_groups, weight_gradient, winograd};
use crate::conv_shape::ConvShape;
use crate::winograd as tiles;
use crate::workspace::{Product, Workspace};

/// The working memory that `product` of a convolution in `f32` takes.
pub fn workspace(shape: &ConvShape, product: Product) -> Workspace {
    if reads_nothing(shape) {
        Workspace::default()
    } else if let Some((_, size)) = winograd::<f32>(shape) {
        tiles::workspace(size, shape, product)
    } else if shape.is_depthwise() {
        depthwise(shape, product)
    } else if let Some(merged) = thin_groups::merged(shape) {
        let mut whole = workspace(&merged, product);
        whole.shared.insert(0, merged.kernel_len() * size_of::<f32>());
        whole
    } else if pointwise::applies::<f32>(shape, product) {
        pointwise::workspace(shape, product)
    } else {
        match product {
            Product::Output => output(shape),
            Product::InputGradient if scatter::applies(shape) => scattered(shape),
            Product::InputGradient if shape.stride == [1, 1] => input_gradient(shape),
            Product::InputGradient => strided(shape),
            Product::KernelGradient => weight_gradient::workspace(shape),
        }
    }
}

fn depthwise(shape: &ConvShape, product: Product) -> Workspace {
    let copies = match product {
        Product::KernelGradient => TASKS.min(shape.batch * shape.out_size[0]),
        Product::Output | Product::InputGradient => 1,
    };
    Workspace::of_floats(&[copies * shape.kernel_len()], &[])
}

fn output(shape: &ConvShape) -> Workspace {
    let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
    let packed = height.taps.len() * width.taps.len() * shape.group_in() * shape.out_channels;
    let (channels, group) = (shape.in_channels, shape.group_in());
    let patches = Patches::<'_, f32>::new(&[], channels, 0..group, &height, &width);
    let rows = largest_tile(shape.out_pixels(), shape.group_out(), shape.groups);
    Workspace::of_floats(&[packed], &[block(&patches, rows)])
}

fn input_gradient(shape: &ConvShape) -> Workspace {
    let (height, width) = (KernelReads::backward(shape, 0, 0), KernelReads::backward(shape, 1, 0));
    let taps = height.taps.len() * width.taps.len();
    let is_kernel = shape.taps() == 1 && taps == 1;
    let packed = if is_kernel { 0 } else { taps * shape.group_out() * shape.in_channels };
    let (channels, group) = (shape.out_channels, shape.group_out());
    let patches = Patches::<'_, f32>::new(&[], channels, 0..group, &height, &width);
    let rows = largest_tile(shape.in_pixels(), shape.group_in(), shape.groups);
    Workspace::of_floats(&[packed], &[block(&patches, rows)])
}

fn scattered(shape: &ConvShape) -> Workspace {
    let taps = |axis| KernelReads::forward(shape, axis).taps.len();
    let patch_len = taps(0) * taps(1) * shape.in_channels;
    let [lines, width] = shape.out_size;
    let pixels = lines.min(BLOCK_ROWS.div_ceil(width)) * width;
    Workspace::of_floats(&[patch_len * shape.out_channels], &[pixels * patch_len])
}

fn strided(shape: &ConvShape) -> Workspace {
    let rows = strided::bands(shape).iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    let classes = (0..shape.stride[0]).flat_map(|y| (0..shape.stride[1]).map(move |x| [y, x]));
    let of_class = |[y, x]: [usize; 2]| {
        let height = KernelReads::backward(shape, 0, y);
        let width = KernelReads::backward(shape, 1, x);
        let positions = rows.div_ceil(shape.stride[0]) * width.positions;
        let (channels, group) = (shape.out_channels, shape.group_out());
        let patches = Patches::<'_, f32>::new(&[], channels, 0..group, &height, &width);
        [positions * shape.group_in(), block(&patches, positions)]
    };
    let largest = classes.map(of_class).reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])]);
    Workspace::of_floats(&[shape.kernel_len()], &largest.unwrap_or_default())
}

/// Rows of the largest tile of a product.
fn largest_tile(rows: usize, group_cols: usize, groups: usize) -> usize {
    let (rows, _) = tile_ranges(rows, group_cols, groups);
    rows.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
}

/// Number of elements of a block of `rows` patches.
fn block(patches: &Patches<'_, f32>, rows: usize) -> usize {
    let slices = patches.slices(BLOCK_COLS);
    let widest = slices.iter().map(|slice| patches.slice_width(slice)).max().unwrap_or(0);
    patches.scratch_len(rows, widest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv;
    use crate::scratch::kept_bytes;
    use crate::workspace::KeptBuffers;

    fn shape(batch: usize, side: usize, channels: [usize; 2], kernel: usize) -> ConvShape {
        ConvShape {
            batch,
            in_size: [side; 2],
            in_channels: channels[0],
            out_size: [side; 2],
            out_channels: channels[1],
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
            exact: false,
        }
    }

    /// Computes all three products on a new thread and compares what it keeps then with the estimate. Packing
    /// takes one small buffer more.
    #[track_caller]
    fn check(shape: &ConvShape) {
        let [mut x, mut kernel, mut dy] = [vec![1.0f32], vec![1.0], vec![1.0]];
        x.resize(shape.input_len(), 1.0);
        kernel.resize(shape.kernel_len(), 1.0);
        dy.resize(shape.output_len(), 1.0);
        for product in Product::ALL {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let (found, expected) = pool.install(|| {
                match product {
                    Product::Output => conv::output(&x, &kernel, shape).len(),
                    Product::InputGradient => conv::input_gradient(&dy, &kernel, shape).len(),
                    Product::KernelGradient => conv::kernel_gradient(&x, &dy, shape).len(),
                };
                let mut kept = KeptBuffers::default();
                kept.take_all(&workspace(shape, product));
                (kept_bytes(), kept.bytes())
            });
            let packing = 4 * 16 * 16 * shape.taps();
            // Blocks that differ by one row leave a second buffer of almost the same size.
            let most = 2 * expected + packing + 4 * shape.in_channels * shape.taps();
            assert!(
                found <= most && expected <= found + found / 4 + 4096,
                "{product:?} of {shape:?} keeps {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn the_estimate_is_what_a_thread_keeps() {
        check(&shape(2, 14, [64, 64], 3));
        check(&shape(4, 7, [256, 256], 3));
        check(&shape(4, 14, [32, 64], 1));
        check(&shape(2, 28, [3, 16], 5));
        check(&ConvShape { exact: true, ..shape(2, 28, [32, 32], 3) });
        let strided = shape(2, 28, [32, 64], 3);
        check(&ConvShape { stride: [2; 2], out_size: [14; 2], ..strided });
        check(&ConvShape { groups: 32, ..shape(2, 14, [32, 32], 3) });
    }
}
