// Sums over the rows of a matrix, and of the squares of a vector, in two stages each.

#include "block.cuh"
#include "column_sums.cuh"

struct Nothing {};

template <typename T>
__device__ void column_sums(size_t rows, unsigned channels, const T* x, float* partial) {
    const auto of_channel = [](unsigned) { return Nothing{}; };
    const auto term = [](Nothing, float x) { return Terms<1>{{x}}; };
    sum_chunk<1>(rows, channels, partial, of_channel, term, x);
}

template <typename T>
__device__ void column_sums_finish(
    unsigned chunks, unsigned channels, const float* partial, T* sums
) {
    sum_chunks<1>(chunks, channels, partial, [=](unsigned channel, const double* sum) {
        sums[channel] = narrow<T>(float(*sum));
    });
}

template <int N> __device__ double squares(size_t n, const float* x) {
    double sum = 0.0;
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Pack<float, N> pack = load<N>(x, i);
#pragma unroll
        for (int k = 0; k < N; k++) sum += double(pack.at[k]) * double(pack.at[k]);
    }
    return sum;
}

// One sum for each block.
extern "C" __global__ void __launch_bounds__(1024)
cv_squares_f32(size_t n, const float* __restrict__ x, double* __restrict__ partial) {
    const bool in_packs = n % FULL<float> == 0 && aligned(x);
    const double sum = block_sum(in_packs ? squares<FULL<float>>(n, x) : squares<1>(n, x));
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block.
extern "C" __global__ void __launch_bounds__(1024) cv_squares_finish_f32(
    unsigned blocks, const double* __restrict__ partial, double* __restrict__ sum
) {
    double near = 0.0;
    for (unsigned i = threadIdx.x; i < blocks; i += blockDim.x) near += partial[i];
    near = block_sum(near);
    if (threadIdx.x == 0) *sum = near;
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_column_sums_##TYPE(                      \
        size_t rows, unsigned channels, const T* __restrict__ x, float* __restrict__ partial      \
    ) {                                                                                           \
        column_sums(rows, channels, x, partial);                                                  \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_column_sums_finish_##TYPE(              \
        unsigned chunks, unsigned channels, const float* __restrict__ partial,                    \
        T* __restrict__ sums                                                                      \
    ) {                                                                                           \
        column_sums_finish(chunks, channels, partial, sums);                                      \
    }

FOR_EACH_TYPE(KERNELS)
