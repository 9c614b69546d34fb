// Softmax, its logarithm, the largest element, and the cross entropy, as in `crates/kernels/src/softmax.rs`.
//
// One block processes a row and then steps over further rows. It is one-dimensional, of a multiple
// of 32 threads. The row's maximum is subtracted before `expf`, which would overflow otherwise.

#include <math.h>

#include "block.cuh"
#include "packs.cuh"

// The sum over the columns of a row of `f(column)`, in every thread.
template <typename F> __device__ float row_sum(unsigned columns, F f) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) sum += f(i);
    return block_sum(sum);
}

template <typename T> __device__ float row_max(unsigned columns, const T* x) {
    float max = -INFINITY;
    for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) max = fmaxf(max, widen(x[i]));
    return block_max(max);
}

template <typename T> __device__ float sum_of_exp(unsigned columns, const T* x, float max) {
    return row_sum(columns, [=](unsigned i) { return expf(widen(x[i]) - max); });
}

template <typename T>
__device__ void softmax(unsigned rows, unsigned columns, bool logarithm, const T* x, T* y) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* of_x = x + size_t(row) * columns;
        T* of_y = y + size_t(row) * columns;
        const float max = row_max(columns, of_x);
        const float sum = sum_of_exp(columns, of_x, max);
        const float scale = 1.0f / sum, log_sum = logf(sum);
        for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) {
            const float below = widen(of_x[i]) - max;
            of_y[i] = narrow<T>(logarithm ? below - log_sum : expf(below) * scale);
        }
    }
}

template <typename T>
__device__ void softmax_gradient(
    unsigned rows, unsigned columns, bool logarithm, const T* y, const T* grad, T* dx
) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const size_t start = size_t(row) * columns;
        const auto y_at = [=](unsigned i) { return widen(y[start + i]); };
        const auto grad_at = [=](unsigned i) { return widen(grad[start + i]); };
        const float sum = row_sum(columns, [=](unsigned i) {
            return logarithm ? grad_at(i) : y_at(i) * grad_at(i);
        });
        for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) {
            const float of_x =
                logarithm ? grad_at(i) - expf(y_at(i)) * sum : y_at(i) * (grad_at(i) - sum);
            dx[start + i] = narrow<T>(of_x);
        }
    }
}

// 1 at the first of the largest elements of a row, and 0 elsewhere.
template <typename T>
__device__ void one_hot_largest(unsigned rows, unsigned columns, const T* x, T* y) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* of_x = x + size_t(row) * columns;
        T* of_y = y + size_t(row) * columns;
        const float max = row_max(columns, of_x);
        unsigned first = columns;
        for (unsigned i = threadIdx.x; i < columns && first == columns; i += blockDim.x) {
            if (widen(of_x[i]) == max) first = i;
        }
        first = over_block(first, [](unsigned a, unsigned b) { return a < b ? a : b; });
        for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) {
            of_y[i] = narrow<T>(i == first ? 1.0f : 0.0f);
        }
    }
}

// The targets of labels, `[rows, classes]`, as `label_targets` in `cross_entropy.rs` makes them. A
// label that is not below `classes` makes its row NaN, and with it the loss.
extern "C" __global__ void __launch_bounds__(1024) cv_label_targets_f32(
    unsigned rows, unsigned classes, const unsigned* __restrict__ labels,
    const float* __restrict__ weights, float smoothing, float* __restrict__ targets
) {
    const auto weight_of = [=](unsigned label) {
        return label >= classes ? 0.0f : weights == nullptr ? 1.0f : weights[label];
    };
    // Every block computes this sum by itself, because a pass over the labels costs less than
    // another launch.
    const float sum = row_sum(rows, [=](unsigned row) { return weight_of(labels[row]); });
    const float total = sum == 0.0f ? 1.0f : sum;
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const unsigned label = labels[row];
        for (unsigned i = threadIdx.x; i < classes; i += blockDim.x) {
            const float spread = smoothing / classes, own = i == label ? 1.0f - smoothing : 0.0f;
            const float target = (spread + own) * weight_of(i) / total;
            targets[size_t(row) * classes + i] = label < classes ? target : NAN;
        }
    }
}

// `-sum(targets * log_softmax(logits))` of every row.
extern "C" __global__ void __launch_bounds__(1024) cv_cross_entropy_f32(
    unsigned rows, unsigned columns, const float* __restrict__ logits,
    const float* __restrict__ targets, float* __restrict__ losses
) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* x = logits + size_t(row) * columns;
        const float* of_row = targets + size_t(row) * columns;
        const float max = row_max(columns, x);
        const float log_sum = logf(sum_of_exp(columns, x, max));
        const float loss = row_sum(columns, [=](unsigned i) {
            // A class with zero weight may have a logit of minus infinity.
            return of_row[i] == 0.0f ? 0.0f : of_row[i] * (log_sum - (x[i] - max));
        });
        if (threadIdx.x == 0) losses[row] = loss;
    }
}

// The gradient of the logits for a gradient `grad[0]` of the loss. The targets of a row may have
// any sum.
extern "C" __global__ void __launch_bounds__(1024) cv_cross_entropy_gradient_f32(
    unsigned rows, unsigned columns, const float* __restrict__ logits,
    const float* __restrict__ targets, const float* __restrict__ grad, float* __restrict__ dx
) {
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        const size_t start = size_t(row) * columns;
        const float *x = logits + start, *of_row = targets + start;
        const float max = row_max(columns, x);
        const float log_sum = logf(sum_of_exp(columns, x, max));
        const float mass = row_sum(columns, [=](unsigned i) { return of_row[i]; });
        for (unsigned i = threadIdx.x; i < columns; i += blockDim.x) {
            const float probability = expf(x[i] - max - log_sum);
            dx[start + i] = (probability * mass - of_row[i]) * grad[0];
        }
    }
}

// One block.
extern "C" __global__ void __launch_bounds__(1024)
cv_sum_f32(unsigned n, const float* __restrict__ x, float* __restrict__ sum) {
    const float total = row_sum(n, [=](unsigned i) { return x[i]; });
    if (threadIdx.x == 0) *sum = total;
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_softmax_##TYPE(                         \
        unsigned rows, unsigned columns, int logarithm, const T* __restrict__ x,                  \
        T* __restrict__ y                                                                         \
    ) {                                                                                           \
        softmax(rows, columns, logarithm != 0, x, y);                                             \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_softmax_gradient_##TYPE(                \
        unsigned rows, unsigned columns, int logarithm, const T* __restrict__ y,                  \
        const T* __restrict__ grad, T* __restrict__ dx                                            \
    ) {                                                                                           \
        softmax_gradient(rows, columns, logarithm != 0, y, grad, dx);                             \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_one_hot_largest_##TYPE(                 \
        unsigned rows, unsigned columns, const T* __restrict__ x, T* __restrict__ y               \
    ) {                                                                                           \
        one_hot_largest(rows, columns, x, y);                                                     \
    }

FOR_EACH_TYPE(KERNELS)
