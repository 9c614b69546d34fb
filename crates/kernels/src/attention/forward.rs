//! The forward pass.

use rayon::prelude::*;

use super::engine::Engine;
use super::packed::{pack, pack_transposed, product_of_packed, product_of_scores};
use super::{AttentionShape, BLOCK, Call, Part, Scores};
use crate::float::Float;
use crate::gemm::{MULTIPLICATIONS, MatrixMut};
use crate::output::filled_by;
use crate::parallel::for_each_of;
use crate::pieces::{even_ranges, split};
use crate::scratch::Scratch;

/// See [`super::attention`].
pub(super) fn run<T: Float, E: Engine<T>>(
    engine: E,
    qkv: &[T],
    shape: &AttentionShape,
    scores: &Scores<'_, T>,
) -> (Vec<T>, Vec<T>) {
    let call = Call::new(engine, qkv, shape, scores);
    let AttentionShape { batch, tokens, heads, head_dim } = *shape;
    let (images, features) = (split(batch * tokens, batch), split(heads * head_dim, heads));
    let mut statistics = vec![T::ZERO; 2 * shape.rows()];
    let write = |y: &mut [T]| {
        let tiles = MatrixMut::new(y, batch * tokens, heads * head_dim).tiles(&images, &features);
        let tasks =
            tiles.into_par_iter().zip(statistics.par_chunks_exact_mut(2 * tokens)).enumerate();
        for_each_of(shape.multiplications() / MULTIPLICATIONS, tasks, |(i, (tile, statistics))| {
            call.forward(i / heads, i % heads, tile.matrix, statistics);
        });
    };
    // SAFETY: the tiles cover the output, and a task writes all of its tile without reading it.
    let y = unsafe { filled_by(shape.output_len(), write) };
    (y, statistics)
}

impl<T: Float, E: Engine<T>> Call<'_, T, E> {
    fn forward(&self, image: usize, head: usize, mut y: MatrixMut<'_, T>, statistics: &mut [T]) {
        let AttentionShape { tokens, head_dim, .. } = *self.shape;
        let (engine, width, stride) = (self.engine, self.width(), self.stride());
        let blocks = even_ranges(tokens, BLOCK);
        let most = blocks.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut memory = Scratch::take(
            head_dim * self.padded_keys() + tokens * width + most * (2 * width + stride),
        );
        let (keys, rest) = memory.split_at_mut(head_dim * self.padded_keys());
        let (values, rest) = rest.split_at_mut(tokens * width);
        let (queries, rest) = rest.split_at_mut(most * width);
        let (sums, scores) = rest.split_at_mut(most * width);

        let size = [tokens, head_dim];
        let rows = |part| self.rows(part, image, head, 0);
        pack_transposed(rows(Part::Key), self.qkv_stride(), size, &self.keys, keys);
        let of_values = (rows(Part::Value), self.qkv_stride());
        pack(engine, of_values.0, of_values.1, size, T::ONE, &self.features, values);
        for block in blocks {
            let (count, scale) = (block.len(), self.scores.scale);
            let of_block = self.rows(Part::Query, image, head, block.start);
            let size = [count, head_dim];
            pack(engine, of_block, self.qkv_stride(), size, scale, &self.features, queries);
            let queries = (&*queries, size, &self.features[..]);
            product_of_packed(engine, queries, (keys, &self.keys), (scores, stride));
            let terms = self.terms(image, head, block.start);
            let statistics = &mut statistics[2 * block.start..2 * block.end];
            engine.softmax(scores, stride, tokens, terms, statistics);
            let of_scores = (&*scores, [count, tokens], [stride, 1]);
            let of_values = (&*values, &self.features[..]);
            product_of_scores(engine, of_scores, of_values, (sums, width), false);
            engine.write(sums, width, |row| statistics[2 * row + 1], &mut y, block);
        }
    }
}
