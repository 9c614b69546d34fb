// Sums over the rows of a `[rows, channels]` matrix in one launch. Every launch gives the same bits.
//
// The grid is (columns of blocks, chunks of rows). A block sums the rows of its chunk (blockIdx.y) for
// the channels of its column (blockIdx.x). The block that ends last in its column adds up the chunks.
// It does so in their order, so no sum depends on which block that is. Nothing but the number of blocks
// that have ended is counted atomically.

#pragma once

#include "packs.cuh"

// A sum with the part that rounding took from it (Kahan's). In plain float, small terms that come
// late would be lost beside a large sum. Double is slow on most cards.
struct Sum {
    float total = 0.0f, excess = 0.0f;

    __device__ void add(float x) {
        const float term = x - excess;
        const float sum = total + term;
        excess = (sum - total) - term;
        total = sum;
    }
};

template <int SUMS> struct Terms {
    float at[SUMS];
};

// What a kernel needs to know of a channel that is like all others.
struct Nothing {};

// Threads of a block, (32, 8) or in any other shape.
constexpr unsigned SUM_THREADS = 256;

// Number of terms that plain float adds up before they go into a `Sum`.
constexpr unsigned GROUP = 16;

// Where the blocks of a launch leave their sums, and count those that have left them.
struct Chunks {
    // `[chunks, SUMS, channels]`. Not `__restrict__`: other blocks write what this one reads.
    float* partial;
    // One number for each column of blocks. It is 0 before the launch and after it.
    unsigned* ended;
};

__device__ inline unsigned thread_in_block() { return threadIdx.y * blockDim.x + threadIdx.x; }

// Writes the sums over this block's chunk for `width` packs of channels from the pack `left` on.
template <int N, int SUMS, typename Of, typename On, typename F, typename... X>
__device__ void sum_chunk(
    size_t rows, unsigned channels, unsigned left, unsigned width, float* partial, Of of_channel,
    On on_packs, F f, const X*... x
) {
    __shared__ float sums[SUMS * N][SUM_THREADS];
    const unsigned packs = channels / N, at_once = SUM_THREADS / width;
    const size_t chunk_rows = (rows + gridDim.y - 1) / gridDim.y;
    const size_t start = blockIdx.y * chunk_rows;
    const size_t end = start + chunk_rows < rows ? start + chunk_rows : rows;
    const unsigned thread = thread_in_block();
    const unsigned column = left + thread % width;
    Sum totals[SUMS][N];
    if (column < packs) {
        decltype(of_channel(0u)) constants[N];
#pragma unroll
        for (int k = 0; k < N; k++) constants[k] = of_channel(column * N + k);

        for (size_t row = start + thread / width; row < end; row += GROUP * at_once) {
            const size_t group = row + GROUP * at_once;
            const size_t group_end = group < end ? group : end;
            float near[SUMS][N] = {};
            const auto add = [&](size_t row, auto... pack) {
                on_packs(row * packs + column, pack...);
#pragma unroll
                for (int k = 0; k < N; k++) {
                    const Terms<SUMS> terms = f(constants[k], row, widen(pack.at[k])...);
#pragma unroll
                    for (int s = 0; s < SUMS; s++) near[s][k] += terms.at[s];
                }
            };
#pragma unroll 4
            for (size_t i = row; i < group_end; i += at_once) {
                add(i, load<N>(x, i * packs + column)...);
            }
#pragma unroll
            for (int s = 0; s < SUMS; s++) {
#pragma unroll
                for (int k = 0; k < N; k++) totals[s][k].add(near[s][k]);
            }
        }
    }
#pragma unroll
    for (int s = 0; s < SUMS; s++) {
#pragma unroll
        for (int k = 0; k < N; k++) sums[s * N + k][thread] = totals[s][k].total;
    }
    __syncthreads();
    for (unsigned i = thread; i < SUMS * N * width; i += SUM_THREADS) {
        const unsigned which = i / width, column = i % width;
        Sum total;
        for (unsigned row = 0; row < at_once; row++) {
            total.add(sums[which][row * width + column]);
        }
        const unsigned channel = (left + column) * N + which % N;
        const size_t line = size_t(blockIdx.y) * SUMS + which / N;
        if (left + column < packs) partial[line * channels + channel] = total.total;
    }
    __syncthreads();
}

// Whether all other blocks of this one's column have ended. All threads of the block get the same
// answer, and may then read what the others wrote.
__device__ inline bool is_last_of_column(unsigned* ended) {
    __shared__ unsigned before;
    // Each thread's sums are to be seen on all multiprocessors before the block is counted.
    __threadfence();
    __syncthreads();
    if (thread_in_block() == 0) {
        before = atomicAdd(ended + blockIdx.x, 1);
        // The next launch counts from 0 again.
        if (before + 1 == gridDim.y) ended[blockIdx.x] = 0;
    }
    __syncthreads();
    __threadfence();
    return before + 1 == gridDim.y;
}

// Adds up the chunks of `width` packs of `N` channels, and calls `end(channel, sums)` in one thread for
// each channel.
template <int N, int SUMS, typename End>
__device__ void add_up_chunks(
    unsigned channels, unsigned left, unsigned width, const float* partial, End end
) {
    // Sums are floats whatever the matrix consists of, so fewer fill a pack of 16 bytes.
    constexpr int M = N < FULL<float> ? N : FULL<float>;
    __shared__ double shared[M][SUM_THREADS];
    const unsigned across = width * N / M, slices = SUM_THREADS / across;
    const unsigned thread = thread_in_block(), slice = thread / across;
    const unsigned channel = left * N + thread % across * M;
    double totals[SUMS][M] = {};
    if (channel < channels) {
#pragma unroll 4
        for (unsigned chunk = slice; chunk < gridDim.y; chunk += slices) {
#pragma unroll
            for (int s = 0; s < SUMS; s++) {
                const size_t first = (size_t(chunk) * SUMS + s) * channels + channel;
                const Pack<float, M> pack = load<M>(partial, first / M);
#pragma unroll
                for (int k = 0; k < M; k++) totals[s][k] += pack.at[k];
            }
        }
    }
#pragma unroll
    for (int s = 0; s < SUMS; s++) {
#pragma unroll
        for (int k = 0; k < M; k++) shared[k][thread] = totals[s][k];
        __syncthreads();
        for (unsigned other = thread + across; slice == 0 && other < SUM_THREADS; other += across) {
#pragma unroll
            for (int k = 0; k < M; k++) totals[s][k] += shared[k][other];
        }
        __syncthreads();
    }
    if (slice != 0 || channel >= channels) return;
#pragma unroll
    for (int k = 0; k < M; k++) {
        double sums[SUMS];
#pragma unroll
        for (int s = 0; s < SUMS; s++) sums[s] = totals[s][k];
        end(channel + k, sums);
    }
}

template <int N, int SUMS, typename Of, typename On, typename F, typename End, typename... X>
__device__ void sum_columns_in_packs(
    size_t rows, unsigned channels, const Chunks& chunks, Of of_channel, On on_packs, F f, End end,
    const X*... x
) {
    // A block reads up to 32 packs of a row side by side. It reads several rows of a narrow matrix
    // at once. So its threads read one contiguous stretch of memory.
    const unsigned packs = channels / N;
    unsigned width = 1;
    while (width < packs && width < 32) width *= 2;
    for (unsigned left = blockIdx.x * width; left < packs; left += gridDim.x * width) {
        sum_chunk<N, SUMS>(
            rows, channels, left, width, chunks.partial, of_channel, on_packs, f, x...
        );
    }
    if (!is_last_of_column(chunks.ended)) return;
    for (unsigned left = blockIdx.x * width; left < packs; left += gridDim.x * width) {
        add_up_chunks<N, SUMS>(channels, left, width, chunks.partial, end);
    }
}

// Sums the terms `f(of_channel(c), row, x...)` of every channel `c`, and calls `end(c, sums)` in one
// thread for each channel. `on_packs(i, packs...)` comes before the terms of each pack `i` of the
// matrices. It may change the packs.
//
// The block has 256 threads. gridDim.y is the number of chunks. gridDim.x is best the number of
// channels divided by 32 packs, rounded up.
template <
    int SUMS, typename T, typename Of, typename On, typename F, typename End, typename... X>
__device__ void sum_columns(
    size_t rows, unsigned channels, const Chunks& chunks, Of of_channel, On on_packs, F f, End end,
    const T* x, const X*... more
) {
    if (channels % FULL<T> == 0 && aligned(x, more...)) {
        sum_columns_in_packs<FULL<T>, SUMS>(
            rows, channels, chunks, of_channel, on_packs, f, end, x, more...
        );
    } else {
        sum_columns_in_packs<1, SUMS>(
            rows, channels, chunks, of_channel, on_packs, f, end, x, more...
        );
    }
}

// The sums of a launch with several blocks for the rows of a column.
struct InChunks {
    Chunks chunks;

    template <int SUMS, typename Of, typename On, typename F, typename End, typename... X>
    __device__ void sum(
        size_t rows, unsigned channels, Of of_channel, On on_packs, F f, End end, const X*... x
    ) const {
        sum_columns<SUMS>(rows, channels, chunks, of_channel, on_packs, f, end, x...);
    }
};

// `width` packs of `N` channels from the pack `left` on, which a block has for itself with all their rows. So it can go on
// with the sums without another launch. This is for matrices of few rows: gridDim.y is 1.
template <int N> struct OwnColumns {
    unsigned left, width;
    // `[SUMS, channels]`
    float* partial;

    // As `sum_columns`. What `end` writes can be read afterwards.
    template <int SUMS, typename Of, typename On, typename F, typename End, typename... X>
    __device__ void sum(
        size_t rows, unsigned channels, Of of_channel, On on_packs, F f, End end, const X*... x
    ) const {
        sum_chunk<N, SUMS>(rows, channels, left, width, partial, of_channel, on_packs, f, x...);
        add_up_chunks<N, SUMS>(channels, left, width, partial, end);
        __syncthreads();
    }

    // As `map_channels`. A thread gets the packs that it got for the sums.
    template <typename T, typename Of, typename F, typename... X>
    __device__ void map(
        size_t rows, unsigned channels, T* y, Of of_channel, F f, const X*... x
    ) const {
        const unsigned packs = channels / N, at_once = SUM_THREADS / width;
        const unsigned column = left + thread_in_block() % width;
        if (column >= packs) return;
        decltype(of_channel(0u)) constants[N];
#pragma unroll
        for (int k = 0; k < N; k++) constants[k] = of_channel(column * N + k);
        const auto with_constants = [&](int k, auto... x) { return f(constants[k], x...); };
#pragma unroll 2
        for (size_t row = thread_in_block() / width; row < rows; row += at_once) {
            const size_t i = row * packs + column;
            map_pack<N>(i, y, with_constants, load<N>(x, i)...);
        }
    }
};

// Calls `f` with each `OwnColumns` of this block, of at most 8 packs: a row of them fills a line of the cache, and more blocks
// share the work than with 32.
template <int N, typename F>
__device__ void for_own_columns_in_packs(unsigned channels, float* partial, F f) {
    const unsigned packs = channels / N;
    unsigned width = 1;
    while (width < packs && width < 8) width *= 2;
    for (unsigned left = blockIdx.x * width; left < packs; left += gridDim.x * width) {
        f(OwnColumns<N>{left, width, partial});
    }
}

template <typename T, typename F, typename... X>
__device__ void for_own_columns(unsigned channels, float* partial, F f, const X*... x) {
    if (channels % FULL<T> == 0 && aligned(x...)) {
        for_own_columns_in_packs<FULL<T>>(channels, partial, f);
    } else {
        for_own_columns_in_packs<1>(channels, partial, f);
    }
}
