// Sums over the rows of a matrix.

#include "column_sums.cuh"

template <typename T>
__device__ void column_sums(
    size_t rows, unsigned channels, const T* x, const Chunks& chunks, T* sums
) {
    const auto of_channel = [](unsigned) { return Nothing{}; };
    const auto as_they_are = [](size_t, auto&) {};
    const auto term = [](Nothing, size_t, float x) { return Terms<1>{{x}}; };
    const auto end = [=](unsigned channel, const double* sum) {
        sums[channel] = narrow<T>(float(*sum));
    };
    sum_columns<1>(rows, channels, chunks, of_channel, as_they_are, term, end, x);
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_column_sums_##TYPE(                      \
        size_t rows, unsigned channels, const T* __restrict__ x, float* partial,                  \
        unsigned* ended, T* __restrict__ sums                                                     \
    ) {                                                                                           \
        column_sums(rows, channels, x, Chunks{partial, ended}, sums);                             \
    }

FOR_EACH_TYPE(KERNELS)
