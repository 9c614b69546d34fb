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

// Sums the gradients of weights and biases over a chunk of rows of `columns` elements. `statistics`
// holds mean and inverse standard deviation of each row.
template <typename T>
__device__ void layer_norm_sums(
    size_t rows, unsigned columns, const T* x, const T* grad, const float* statistics,
    float* partial
) {
    const size_t chunk = (rows + gridDim.y - 1) / gridDim.y;
    const size_t start = blockIdx.y * chunk;
    const size_t end = start + chunk < rows ? start + chunk : rows;
    const unsigned threads = gridDim.x * blockDim.x;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < columns; i += threads) {
        Sum of_weight, of_bias;
        for (size_t row = start; row < end; row++) {
            const float g = widen(grad[row * columns + i]);
            const float mean = statistics[2 * row], inv_std = statistics[2 * row + 1];
            of_weight.add(g * (widen(x[row * columns + i]) - mean) * inv_std);
            of_bias.add(g);
        }
        partial[2 * size_t(blockIdx.y) * columns + i] = of_weight.total;
        partial[(2 * size_t(blockIdx.y) + 1) * columns + i] = of_bias.total;
    }
}

extern "C" __global__ void __launch_bounds__(1024) cv_layer_norm_sums_finish_f32(
    unsigned chunks, unsigned columns, const float* partial, float* sums
) {
    sum_chunks<2>(chunks, columns, partial, [=](unsigned column, const double* totals) {
        sums[column] = totals[0];
        sums[columns + column] = totals[1];
    });
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
    extern "C" __global__ void __launch_bounds__(1024) cv_layer_norm_sums_##TYPE(                 \
        size_t rows, unsigned columns, const T* x, const T* grad, const float* statistics,        \
        float* partial                                                                            \
    ) {                                                                                           \
        layer_norm_sums(rows, columns, x, grad, statistics, partial);                             \
    }
FOR_EACH_TYPE(KERNELS)
