// Batch normalisation over the rows of a `[rows, channels]` matrix, as in
// `crates/kernels/src/batch_norm.rs`. Parameters, statistics and sums are float for any type of
// matrix.

#include <math.h>

#include "column_sums.cuh"
#include "relu.cuh"

// Normalisation and scaling of a channel as one multiplication and one addition. The backward
// kernels compute the ReLU's input again. `fmaf` gives them the same bits. A plain expression might
// be fused by the compiler in one kernel and not in another.
struct Affine {
    float scale, shift;

    __device__ float operator()(float x) const { return fmaf(x, scale, shift); }
};

// The values of every channel.
struct Parameters {
    unsigned channels;
    const float *weight, *bias, *mean, *variance;
    float eps;

    // Not `rsqrtf`, which is wrong in the last bits.
    __device__ float inv_std(unsigned channel) const {
        return 1.0f / sqrtf(variance[channel] + eps);
    }

    __device__ Affine of(unsigned channel) const {
        const float scale = weight[channel] * inv_std(channel);
        return {scale, fmaf(-mean[channel], scale, bias[channel])};
    }
};

struct Relu {
    bool is_there;
    float ceiling;

    __device__ float value(float x) const { return is_there ? relu_up_to(x, ceiling) : x; }
    __device__ float gradient(float x, float grad) const {
        return is_there ? masked(x, grad, ceiling) : grad;
    }
};

// The statistics that evaluation uses, and the share of a batch in their new values. Null if the launch
// leaves them alone.
struct Running {
    float *mean, *variance;
    long long* batches;
    float momentum, unbiased;

    __device__ void move(unsigned channel, float batch_mean, float batch_variance) const {
        if (mean == nullptr) return;
        const float kept = 1.0f - momentum;
        mean[channel] = kept * mean[channel] + momentum * batch_mean;
        variance[channel] = kept * variance[channel] + momentum * (batch_variance * unbiased);
        if (channel == 0) *batches += 1;
    }
};

// Sums the offsets from a sample and their squares. Without subtracting a sample first, the
// difference of squares below would cancel if the mean is far larger than the standard deviation.
template <typename T>
__device__ void moments(
    size_t rows, unsigned channels, const T* x, const Chunks& chunks, Running running,
    float* moments
) {
    const auto origin = [=](unsigned channel) { return widen(x[channel]); };
    const auto as_they_are = [](size_t, auto&) {};
    const auto terms = [](float origin, size_t, float x) {
        const float offset = x - origin;
        return Terms<2>{{offset, offset * offset}};
    };
    const auto end = [=](unsigned channel, const double* sums) {
        const double offset = sums[0] / double(rows);
        const double exact = sums[1] / double(rows) - offset * offset;
        const float mean = float(double(widen(x[channel])) + offset);
        // Rounding may make the variance of a constant channel slightly negative.
        const float variance = exact < 0.0 ? 0.0f : float(exact);
        moments[channel] = mean;
        moments[channels + channel] = variance;
        running.move(channel, mean, variance);
    };
    sum_columns<2>(rows, channels, chunks, origin, as_they_are, terms, end, x);
}

template <typename T>
__device__ void normalize(
    size_t n, const Parameters& parameters, const T* x, const T* residual, Relu relu, T* y
) {
    const auto of_channel = [=](unsigned channel) { return parameters.of(channel); };
    if (residual == nullptr) {
        const auto end = [=](Affine affine, float x) { return relu.value(affine(x)); };
        map_channels(n, parameters.channels, y, of_channel, end, x);
    } else {
        const auto end = [=](Affine affine, float x, float residual) {
            return relu.value(affine(x) + residual);
        };
        map_channels(n, parameters.channels, y, of_channel, end, x, residual);
    }
}

struct Centred {
    Affine affine;
    float mean;
};

// The gradients of weights and biases, `[2, channels]`. If `output` is not null, the ReLU comes after a
// residual sum and only the output tells where it was at work; the gradient behind it goes to `passed`.
template <typename T>
__device__ void gradient_sums(
    size_t rows, const Parameters& parameters, const T* x, const T* grad, const T* output,
    Relu relu, const Chunks& chunks, T* passed, float* sums
) {
    const unsigned channels = parameters.channels;
    const auto end = [=](unsigned channel, const double* totals) {
        sums[channel] = float(totals[0] * double(parameters.inv_std(channel)));
        sums[channels + channel] = float(totals[1]);
    };
    if (output == nullptr) {
        const auto of_channel = [=](unsigned channel) {
            return Centred{parameters.of(channel), parameters.mean[channel]};
        };
        const auto as_they_are = [](size_t, auto&, auto&) {};
        const auto terms = [=](Centred channel, size_t, float x, float grad) {
            const float passed = relu.gradient(channel.affine(x), grad);
            return Terms<2>{{passed * (x - channel.mean), passed}};
        };
        sum_columns<2>(rows, channels, chunks, of_channel, as_they_are, terms, end, x, grad);
    } else {
        const auto mean = [=](unsigned channel) { return parameters.mean[channel]; };
        // The output was rounded, so its ceiling is the rounded one too.
        const Relu rounded{relu.is_there, widen(narrow<T>(relu.ceiling))};
        const auto mask = [=](size_t i, auto&, auto& grad, auto& output) {
#pragma unroll
            for (int k = 0; k < int(sizeof grad / sizeof(T)); k++) {
                const float behind = rounded.gradient(widen(output.at[k]), widen(grad.at[k]));
                grad.at[k] = narrow<T>(behind);
            }
            store(passed, i, grad);
        };
        const auto terms = [](float mean, size_t, float x, float grad, float) {
            return Terms<2>{{grad * (x - mean), grad}};
        };
        sum_columns<2>(rows, channels, chunks, mean, mask, terms, end, x, grad, output);
    }
}

// How the gradient of the input is computed from the gradient after the ReLU:
// `dx = scale * grad + (of_x * x + shift)`.
struct InputGradient {
    Affine affine;
    float of_x, shift;
};

// `sums` holds the gradients of weights and biases. It is null if the statistics are constants.
template <typename T>
__device__ void input_gradient(
    size_t n, const Parameters& parameters, const T* x, const T* grad, const float* sums,
    float count, Relu relu, T* dx
) {
    const unsigned channels = parameters.channels;
    if (sums == nullptr) {
        const auto of_channel = [=](unsigned channel) { return parameters.of(channel); };
        const auto end = [=](Affine affine, float x, float grad) {
            return affine.scale * relu.gradient(affine(x), grad);
        };
        map_channels(n, channels, dx, of_channel, end, x, grad);
    } else {
        const auto of_channel = [=](unsigned channel) {
            const Affine affine = parameters.of(channel);
            const float slope = affine.scale / count;
            const float of_x = -slope * parameters.inv_std(channel) * sums[channel];
            const float shift = -slope * sums[channels + channel] - of_x * parameters.mean[channel];
            return InputGradient{affine, of_x, shift};
        };
        const auto end = [=](InputGradient channel, float x, float grad) {
            const float passed = relu.gradient(channel.affine(x), grad);
            return fmaf(channel.affine.scale, passed, fmaf(channel.of_x, x, channel.shift));
        };
        map_channels(n, channels, dx, of_channel, end, x, grad);
    }
}

// Moves running statistics towards `[2, channels]`, those of the batches of several processes.
extern "C" __global__ void __launch_bounds__(1024) cv_running_statistics_f32(
    unsigned channels, const float* __restrict__ moments, float* mean, float* variance,
    long long* batches, float momentum, float unbiased
) {
    const Running running{mean, variance, batches, momentum, unbiased};
    for (size_t i = thread_index(); i < channels; i += thread_count()) {
        running.move(i, moments[i], moments[channels + i]);
    }
}

#define PARAMETERS                                                                                \
    const float *__restrict__ weight, const float *__restrict__ bias,                             \
        const float *__restrict__ mean, const float *__restrict__ variance, float eps

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_moments_##TYPE(                          \
        size_t rows, unsigned channels, const T* __restrict__ x, float* running_mean,             \
        float* running_var, long long* batches, float momentum, float unbiased, float* partial,   \
        unsigned* ended, float* __restrict__ results                                              \
    ) {                                                                                           \
        const Running running{running_mean, running_var, batches, momentum, unbiased};            \
        moments(rows, channels, x, Chunks{partial, ended}, running, results);                     \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_##TYPE(                      \
        size_t n, unsigned channels, const T* __restrict__ x, const T* __restrict__ residual,     \
        PARAMETERS, int has_relu, float ceiling, T* __restrict__ y                                \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        normalize(n, parameters, x, residual, Relu{has_relu != 0, ceiling}, y);                   \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_batch_norm_sums_##TYPE(                  \
        size_t rows, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,      \
        const T* __restrict__ output, PARAMETERS, int has_relu, float ceiling, float* partial,    \
        unsigned* ended, T* __restrict__ passed, float* __restrict__ sums                         \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        const Relu relu{has_relu != 0, ceiling};                                                  \
        const Chunks chunks{partial, ended};                                                      \
        gradient_sums(rows, parameters, x, grad, output, relu, chunks, passed, sums);             \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_gradient_##TYPE(             \
        size_t n, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,         \
        PARAMETERS, const float* __restrict__ sums, float count, int has_relu, float ceiling,     \
        T* __restrict__ dx                                                                        \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        const Relu relu{has_relu != 0, ceiling};                                                  \
        input_gradient(n, parameters, x, grad, sums, count, relu, dx);                            \
    }

FOR_EACH_TYPE(KERNELS)
