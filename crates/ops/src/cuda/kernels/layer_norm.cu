// Layer norm along rows, as in `crates/kernels/src/layer_norm.rs`. Weight, bias and statistics are
// float for any type of rows. Each row has one one-dimensional block of a multiple of 32 threads.

#include <math.h>

#include "block.cuh"
#include "column_sums.cuh"
#include "packs.cuh"

template <typename F> __device__ float row_mean(unsigned columns, F f) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) sum += f(i);
    return block_sum(sum) / float(columns);
}

// Writes mean and inverse standard deviation of each row to `statistics`, `[rows, 2]`, and the
// normalised rows to `y`.
template <typename T>
__device__ void layer_norm(
    unsigned rows, unsigned columns, const T* x, const float* weight, const float* bias, float eps,
    float* statistics, T* y
) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const size_t start = size_t(row) * columns;
        const auto at = [=](unsigned i) { return widen(x[start + i]); };
        const float mean = row_mean(columns, at);
        // Squares of differences, because squares of the values themselves could cancel.
        const float variance = row_mean(columns, [=](unsigned i) {
            return (at(i) - mean) * (at(i) - mean);
        });
        const float inv_std = 1.0f / sqrtf(variance + eps);
        if (threadIdx.x == 0) {
            statistics[2 * size_t(row)] = mean;
            statistics[2 * size_t(row) + 1] = inv_std;
        }
        for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) {
            y[start + i] = narrow<T>((at(i) - mean) * inv_std * weight[i] + bias[i]);
        }
    }
}

template <typename T>
__device__ void layer_norm_gradient(
    unsigned rows, unsigned columns, const T* x, const T* grad, const float* weight,
    const float* statistics, T* dx
) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const size_t start = size_t(row) * columns;
        const float mean = statistics[2 * size_t(row)], inv_std = statistics[2 * size_t(row) + 1];
        const auto normal = [=](unsigned i) { return (widen(x[start + i]) - mean) * inv_std; };
        const auto flowing = [=](unsigned i) { return widen(grad[start + i]) * weight[i]; };
        const float of_mean = row_mean(columns, flowing);
        const float of_scale =
            row_mean(columns, [=](unsigned i) { return flowing(i) * normal(i); });
        for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) {
            dx[start + i] = narrow<T>(inv_std * (flowing(i) - of_mean - normal(i) * of_scale));
        }
    }
}

// Sums the gradients of weights and biases, `[2, columns]`. `statistics` holds mean and inverse standard
// deviation of each row. Blocks and chunks are those of `column_sums.cuh`.
template <typename T>
__device__ void layer_norm_sums(
    size_t rows, unsigned columns, const T* x, const T* grad, const float* statistics,
    const Chunks& chunks, float* sums
) {
    const auto of_column = [](unsigned) { return Nothing{}; };
    const auto as_they_are = [](size_t, auto&, auto&) {};
    const auto terms = [=](Nothing, size_t row, float x, float grad) {
        const float mean = statistics[2 * row], inv_std = statistics[2 * row + 1];
        return Terms<2>{{grad * (x - mean) * inv_std, grad}};
    };
    const auto end = [=](unsigned column, const double* totals) {
        sums[column] = float(totals[0]);
        sums[columns + column] = float(totals[1]);
    };
    sum_columns<2>(rows, columns, chunks, of_column, as_they_are, terms, end, x, grad);
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_layer_norm_##TYPE(                      \
        unsigned rows, unsigned columns, const T* x, const float* weight, const float* bias,      \
        float eps, float* statistics, T* y                                                        \
    ) {                                                                                           \
        layer_norm(rows, columns, x, weight, bias, eps, statistics, y);                           \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_layer_norm_gradient_##TYPE(             \
        unsigned rows, unsigned columns, const T* x, const T* grad, const float* weight,          \
        const float* statistics, T* dx                                                            \
    ) {                                                                                           \
        layer_norm_gradient(rows, columns, x, grad, weight, statistics, dx);                      \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_layer_norm_sums_##TYPE(                  \
        size_t rows, unsigned columns, const T* __restrict__ x, const T* __restrict__ grad,       \
        const float* __restrict__ statistics, float* partial, unsigned* ended,                    \
        float* __restrict__ sums                                                                  \
    ) {                                                                                           \
        layer_norm_sums(rows, columns, x, grad, statistics, Chunks{partial, ended}, sums);        \
    }

FOR_EACH_TYPE(KERNELS)
