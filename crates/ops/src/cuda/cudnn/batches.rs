//! Splits batches that are too large for cuDNN.

use candle_core::{Result, bail};

use super::Operands;
use candle_vision_kernels::conv_shape::ConvShape;

/// Some images of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first_image: usize,
    /// The shape of the whole convolution with fewer images.
    pub(super) shape: ConvShape,
}

impl Part {
    /// The arrays of these images. The kernel is the same for all.
    pub(super) fn operands<'a, T>(&self, whole: &'a Operands<'_, T>) -> Operands<'a, T> {
        let of = |len: usize| {
            let image = len / self.shape.batch;
            let start = self.first_image * image;
            start..start + len
        };
        Operands {
            x: whole.x.slice(of(self.shape.input_len())),
            kernel: whole.kernel.slice(..),
            y: whole.y.slice(of(self.shape.output_len())),
        }
    }
}

/// Splits the batch into as few parts as possible. Each has at most `most` elements in the input and in the
/// output.
///
/// # Errors
/// If one image or the kernel has more.
pub(super) fn parts(shape: &ConvShape, most: usize) -> Result<impl Iterator<Item = Part> + use<>> {
    let shape = *shape;
    if shape.kernel_len() > most {
        let ([height, width], out, group_in) = (shape.kernel, shape.out_channels, shape.group_in());
        bail!(
            "conv2d: the kernel, [{out}, {group_in}, {height}, {width}], has {} elements, and cuDNN takes \
             at most {most}; use fewer channels",
            shape.kernel_len()
        )
    }
    let ConvShape { in_size, in_channels, out_size, out_channels, .. } = shape;
    let sides = [("input", in_size, in_channels), ("output", out_size, out_channels)];
    let mut at_once = shape.batch;
    for (side, [height, width], channels) in sides {
        let image = height * width * channels;
        if image > most {
            bail!(
                "conv2d: one image of the {side}, [{height}, {width}, {channels}], has {image} \
                 elements, and cuDNN takes at most {most}; use smaller images"
            )
        }
        at_once = at_once.min(most / image);
    }
    Ok((0..shape.batch).step_by(at_once).map(move |first_image| {
        let batch = at_once.min(shape.batch - first_image);
        Part { first_image, shape: ConvShape { batch, ..shape } }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::size::MOST_ELEMENTS;

    /// A 3x3 convolution of so many images of a side.
    fn shape(batch: usize, side: usize, channels: [usize; 2]) -> ConvShape {
        ConvShape {
            batch,
            in_size: [side; 2],
            in_channels: channels[0],
            out_size: [side; 2],
            out_channels: channels[1],
            kernel: [3; 2],
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups: 1,
            exact: false,
        }
    }

    #[track_caller]
    fn check(shape: ConvShape, expected: &[usize]) {
        let parts: Vec<Part> = parts(&shape, MOST_ELEMENTS).unwrap().collect();
        let sizes: Vec<usize> = parts.iter().map(|part| part.shape.batch).collect();
        assert_eq!(sizes, expected);
        let mut next = 0;
        for part in parts {
            assert_eq!(part.first_image, next);
            next += part.shape.batch;
            assert!(part.shape.input_len() <= MOST_ELEMENTS);
            assert!(part.shape.output_len() <= MOST_ELEMENTS);
            assert_eq!(ConvShape { batch: shape.batch, ..part.shape }, shape);
        }
        assert_eq!(next, shape.batch);
    }

    #[test]
    fn a_batch_is_split_where_it_is_too_large() {
        check(shape(256, 224, [3, 64]), &[256]);
        // 240 images of 2000x2000 in three channels: 2.88 thousand millions.
        check(shape(240, 2000, [3, 3]), &[178, 62]);
        // The output decides.
        check(shape(20, 2000, [3, 64]), &[8, 8, 4]);
        check(shape(2, 32_768, [1, 1]), &[1, 1]);
    }

    #[test]
    fn the_most_fits_and_one_more_does_not() {
        let row = |width: usize, batch| ConvShape {
            in_size: [1, width],
            out_size: [1, width],
            ..shape(batch, 1, [1, 1])
        };
        check(row(MOST_ELEMENTS, 1), &[1]);
        check(row(MOST_ELEMENTS, 2), &[1, 1]);
        let error = parts(&row(MOST_ELEMENTS + 1, 2), MOST_ELEMENTS).err().unwrap().to_string();
        assert!(error.contains("conv2d: one image of the input, [1, 2147483648, 1]"), "{error}");
        assert!(error.contains("2147483648 elements") && error.contains("smaller"), "{error}");
        let kernel = shape(1, 3, [1 << 15, 1 << 16]);
        let error = parts(&kernel, MOST_ELEMENTS).err().unwrap().to_string();
        assert!(error.contains("the kernel, [65536, 32768, 3, 3], has 19327352832"), "{error}");
    }
}
