//! The backward pass.
//!
//! With the probabilities `p` and the output's gradient `dy`: `dv = p^T dy`, `dp = dy v^T`,
//! `ds = p * (dp - rowsum(p * dp))`, `dq = scale * ds k`, `dk = scale * ds^T q`, and the bias gets the sum of
//! `ds` over the images.

use std::ops::Range;

use rayon::prelude::*;

use super::engine::Engine;
use super::packed::{pack, pack_transposed, product_of_packed, product_of_scores};
use super::{AttentionShape, BLOCK, Call, Gradients, Part, Scores};
use crate::channel_sums::sum_rows;
use crate::float::Float;
use crate::gemm::{MULTIPLICATIONS, MatrixMut};
use crate::output::filled_by;
use crate::parallel::for_each_of;
use crate::pieces::{even_ranges, split};
use crate::scratch::Scratch;

/// Number of tasks from which on more would not help, if each needs a sum of its own for the bias.
const TASKS: usize = 64;

/// See [`super::attention_gradients`].
pub(super) fn run<T: Float, E: Engine<T>>(
    engine: E,
    qkv: &[T],
    [statistics, grad]: [&[T]; 2],
    shape: &AttentionShape,
    scores: &Scores<'_, T>,
    of_bias: bool,
) -> Gradients<T> {
    let call = Call::new(engine, qkv, shape, scores);
    let backward = BackwardCall { call, statistics, grad };
    let AttentionShape { batch, tokens, heads, head_dim } = *shape;
    // The number of parts depends only on the sizes, so the sums for the bias have the same bits every time.
    let parts = split(batch, if of_bias { TASKS.div_ceil(heads) } else { batch });
    let matrix = tokens * tokens;
    let mut sums = vec![T::ZERO; if of_bias { parts.len() * heads * matrix } else { 0 }];
    let write = |dqkv: &mut [T]| {
        let rows = split(batch * tokens, batch);
        let columns = split(3 * heads * head_dim, 3 * heads);
        let tiles = MatrixMut::new(dqkv, batch * tokens, 3 * heads * head_dim);
        let tiles = tiles.tiles(&rows, &columns).into_iter();
        let tiles: Vec<_> = tiles.map(|tile| Some(tile.matrix)).collect();
        let tasks = tasks(tiles, &parts, heads, sums.chunks_exact_mut(matrix));
        for_each_of(shape.multiplications() / MULTIPLICATIONS, tasks.into_par_iter(), |task| {
            backward.run(task);
        });
    };
    // SAFETY: the tiles cover the gradient, and the tasks write all of their tiles without reading them.
    let dqkv = unsafe { filled_by(shape.qkv_len(), write) };
    let bias = of_bias.then(|| sum_rows(&sums, heads * matrix));
    Gradients { qkv: dqkv, bias }
}

/// Some images of one head.
struct Task<'a, T> {
    images: Range<usize>,
    head: usize,
    /// For each image, where the gradients of its queries, keys and values go.
    to: Vec<[MatrixMut<'a, T>; 3]>,
    /// The sum of the gradients of the scores.
    bias: Option<&'a mut [T]>,
}

/// The tasks, part by part and head by head. `tiles` is ordered by image, part of `qkv`, and head.
fn tasks<'a, T>(
    mut tiles: Vec<Option<MatrixMut<'a, T>>>,
    parts: &[Range<usize>],
    heads: usize,
    mut sums: impl Iterator<Item = &'a mut [T]>,
) -> Vec<Task<'a, T>> {
    let mut tasks = Vec::with_capacity(parts.len() * heads);
    for images in parts {
        for head in 0..heads {
            let mut tile = |image: usize, part: Part| {
                let tile = &mut tiles[(3 * image + part as usize) * heads + head];
                tile.take().expect("each tile belongs to one task")
            };
            let parts = [Part::Query, Part::Key, Part::Value];
            let to = images.clone().map(|image| parts.map(|part| tile(image, part))).collect();
            tasks.push(Task { images: images.clone(), head, to, bias: sums.next() });
        }
    }
    tasks
}

struct BackwardCall<'a, T, E> {
    call: Call<'a, T, E>,
    statistics: &'a [T],
    /// The gradient of the output, `[batch, tokens, heads, head_dim]`.
    grad: &'a [T],
}

impl<T: Float, E: Engine<T>> BackwardCall<'_, T, E> {
    fn run(&self, task: Task<'_, T>) {
        let Task { images, head, to, mut bias } = task;
        for (image, to) in images.zip(to) {
            self.backward(image, head, to, bias.as_deref_mut());
        }
    }

    fn backward(
        &self,
        image: usize,
        head: usize,
        [mut dq, mut dk, mut dv]: [MatrixMut<'_, T>; 3],
        mut bias: Option<&mut [T]>,
    ) {
        let Self { call, statistics, grad } = self;
        let AttentionShape { tokens, heads, head_dim, .. } = *call.shape;
        let (engine, width, stride) = (call.engine, call.width(), call.stride());
        let (padded_keys, scale) = (call.padded_keys(), call.scores.scale);
        let (features, of_keys) = (&call.features[..], &call.keys[..]);
        let blocks = even_ranges(tokens, BLOCK);
        let most = blocks.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut memory = Scratch::take(
            2 * head_dim * padded_keys + 3 * tokens * width + most * (3 * width + 2 * stride),
        );
        let (keys_transposed, rest) = memory.split_at_mut(head_dim * padded_keys);
        let (values_transposed, rest) = rest.split_at_mut(head_dim * padded_keys);
        let (keys, rest) = rest.split_at_mut(tokens * width);
        let (of_key, rest) = rest.split_at_mut(tokens * width);
        let (of_value, rest) = rest.split_at_mut(tokens * width);
        let (queries, rest) = rest.split_at_mut(most * width);
        let (of_query, rest) = rest.split_at_mut(most * width);
        let (grads, rest) = rest.split_at_mut(most * width);
        let (scores, of_scores) = rest.split_at_mut(most * stride);

        let (size, qkv_stride) = ([tokens, head_dim], call.qkv_stride());
        let rows = |part| call.rows(part, image, head, 0);
        pack_transposed(rows(Part::Key), qkv_stride, size, of_keys, keys_transposed);
        pack_transposed(rows(Part::Value), qkv_stride, size, of_keys, values_transposed);
        pack(engine, rows(Part::Key), qkv_stride, size, T::ONE, features, keys);
        let statistics = &statistics[2 * (image * heads + head) * tokens..][..2 * tokens];
        for block in blocks {
            let (count, is_later) = (block.len(), block.start > 0);
            let size = [count, head_dim];
            let of_block = call.rows(Part::Query, image, head, block.start);
            pack(engine, of_block, qkv_stride, size, scale, features, queries);
            let grad = &grad[((image * tokens + block.start) * heads + head) * head_dim..];
            pack(engine, grad, heads * head_dim, size, T::ONE, features, grads);
            let of_queries = (&*queries, size, features);
            product_of_packed(engine, of_queries, (keys_transposed, of_keys), (scores, stride));
            let of_grads = (&*grads, size, features);
            product_of_packed(engine, of_grads, (values_transposed, of_keys), (of_scores, stride));

            let terms = call.terms(image, head, block.start);
            let statistics = &statistics[2 * block.start..2 * block.end];
            let of_bias = bias.as_deref_mut().map(|bias| &mut bias[block.start * tokens..]);
            engine.softmax_gradient(
                [scores, of_scores],
                stride,
                tokens,
                terms,
                statistics,
                of_bias,
            );

            let of_grads = (&*grads, features);
            let transposed = (&*scores, [tokens, count], [1, stride]);
            product_of_scores(engine, transposed, of_grads, (of_value, width), is_later);
            let of_queries = (&*queries, features);
            let transposed = (&*of_scores, [tokens, count], [1, stride]);
            product_of_scores(engine, transposed, of_queries, (of_key, width), is_later);
            let of_scores = (&*of_scores, [count, tokens], [stride, 1]);
            product_of_scores(engine, of_scores, (keys, features), (of_query, width), false);
            engine.write(of_query, width, |_| scale, &mut dq, block);
        }
        engine.write(of_key, width, |_| T::ONE, &mut dk, 0..tokens);
        engine.write(of_value, width, |_| T::ONE, &mut dv, 0..tokens);
    }
}
