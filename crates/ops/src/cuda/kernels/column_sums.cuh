// Sums over the rows of a `[rows, channels]` matrix, in two stages and without atomics, so that
// every launch gives the same bits.
//
// First every block sums the rows of one chunk (blockIdx.y) for some channels (blockIdx.x). Then a
// few blocks add up the chunks.

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

// Threads of a block of the first stage, (32, 8) or in any other shape.
constexpr unsigned SUM_THREADS = 256;

// Number of terms that plain float adds up before they go into a `Sum`.
constexpr unsigned GROUP = 16;

__device__ inline unsigned thread_in_block() { return threadIdx.y * blockDim.x + threadIdx.x; }

template <int N, int SUMS, typename Of, typename F, typename... X>
__device__ void sum_chunk_in_packs(
    size_t rows, unsigned channels, float* partial, Of of_channel, F f, const X*... x
) {
    __shared__ float sums[SUMS * N][SUM_THREADS];
    // A block reads up to 32 packs of a row side by side. It reads several rows of a narrow matrix
    // at once. So its threads read one contiguous stretch of memory.
    const unsigned packs = channels / N;
    unsigned width = 1;
    while (width < packs && width < 32) width *= 2;
    const unsigned at_once = SUM_THREADS / width;
    const size_t chunk_rows = (rows + gridDim.y - 1) / gridDim.y;
    const size_t start = blockIdx.y * chunk_rows;
    const size_t end = start + chunk_rows < rows ? start + chunk_rows : rows;
    const unsigned thread = thread_in_block();

    for (unsigned left = blockIdx.x * width; left < packs; left += gridDim.x * width) {
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
                const auto add = [&](auto... pack) {
#pragma unroll
                    for (int k = 0; k < N; k++) {
                        const Terms<SUMS> terms = f(constants[k], widen(pack.at[k])...);
#pragma unroll
                        for (int s = 0; s < SUMS; s++) near[s][k] += terms.at[s];
                    }
                };
#pragma unroll 4
                for (size_t i = row; i < group_end; i += at_once) {
                    add(load<N>(x, i * packs + column)...);
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
}

// First stage: writes the sums over this block's chunk of the terms `f(of_channel(c), x...)` to
// `partial`, `[chunks, SUMS, channels]`.
//
// The block has 256 threads. gridDim.y is the number of chunks. gridDim.x is best the number of
// channels divided by 32 packs, rounded up.
template <int SUMS, typename T, typename Of, typename F, typename... X>
__device__ void sum_chunk(
    size_t rows, unsigned channels, float* partial, Of of_channel, F f, const T* x,
    const X*... more
) {
    if (channels % FULL<T> == 0 && aligned(x, more...)) {
        sum_chunk_in_packs<FULL<T>, SUMS>(rows, channels, partial, of_channel, f, x, more...);
    } else {
        sum_chunk_in_packs<1, SUMS>(rows, channels, partial, of_channel, f, x, more...);
    }
}

// Second stage: calls `f(channel, sums)` in one thread for each channel, with the sums over all
// chunks.
//
// The block may have any shape of a multiple of 32 threads. It takes 32 channels at a time.
template <int SUMS, typename F>
__device__ void sum_chunks(unsigned chunks, unsigned channels, const float* partial, F f) {
    __shared__ double sums[SUMS][32][32];
    const unsigned lane = thread_in_block() % 32, slice = thread_in_block() / 32;
    const unsigned slices = blockDim.x * blockDim.y / 32;
    for (unsigned left = blockIdx.x * 32; left < channels; left += gridDim.x * 32) {
        const unsigned channel = left + lane;
        double near[SUMS] = {};
        if (channel < channels) {
#pragma unroll 4
            for (unsigned chunk = slice; chunk < chunks; chunk += slices) {
#pragma unroll
                for (int s = 0; s < SUMS; s++) {
                    near[s] += partial[(size_t(chunk) * SUMS + s) * channels + channel];
                }
            }
        }
#pragma unroll
        for (int s = 0; s < SUMS; s++) sums[s][slice][lane] = near[s];
        __syncthreads();
        if (slice == 0 && channel < channels) {
            for (unsigned other = 1; other < slices; other++) {
#pragma unroll
                for (int s = 0; s < SUMS; s++) near[s] += sums[s][other][lane];
            }
            f(channel, near);
        }
        __syncthreads();
    }
}
