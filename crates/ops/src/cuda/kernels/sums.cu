// Sums over the rows of a matrix, in two stages.

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
