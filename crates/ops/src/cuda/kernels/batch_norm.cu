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

// The values of every channel. `affine` is `[2, channels]`: weights, then biases.
struct Parameters {
    unsigned channels;
    const float *affine, *mean, *variance;
    float eps;

    // Not `rsqrtf`, which is wrong in the last bits.
    __device__ float inv_std(unsigned channel) const {
        return 1.0f / sqrtf(variance[channel] + eps);
    }

    __device__ Affine of(unsigned channel) const {
        const float scale = affine[channel] * inv_std(channel);
        return {scale, fmaf(-mean[channel], scale, affine[channels + channel])};
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

// Sums of the offsets from a sample and of their squares. Without subtracting a sample first, the
// difference of squares below would cancel if the mean is far larger than the standard deviation.
template <typename T>
__device__ void moments(size_t rows, unsigned channels, const T* x, float* partial) {
    const auto origin = [=](unsigned channel) { return widen(x[channel]); };
    const auto terms = [](float origin, float x) {
        const float offset = x - origin;
        return Terms<2>{{offset, offset * offset}};
    };
    sum_chunk<2>(rows, channels, partial, origin, terms, x);
}

template <typename T>
__device__ void moments_finish(
    unsigned chunks, unsigned channels, double count, const T* x, const float* partial,
    float* moments
) {
    sum_chunks<2>(chunks, channels, partial, [=](unsigned channel, const double* sums) {
        const double offset = sums[0] / count;
        const double variance = sums[1] / count - offset * offset;
        moments[channel] = float(double(widen(x[channel])) + offset);
        // Rounding may make the variance of a constant channel slightly negative.
        moments[channels + channel] = variance < 0.0 ? 0.0f : float(variance);
    });
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

template <typename T>
__device__ void gradient_sums(
    size_t rows, const Parameters& parameters, const T* x, const T* grad, Relu relu,
    float* partial
) {
    const auto of_channel = [=](unsigned channel) {
        return Centred{parameters.of(channel), parameters.mean[channel]};
    };
    const auto terms = [=](Centred channel, float x, float grad) {
        const float passed = relu.gradient(channel.affine(x), grad);
        return Terms<2>{{passed * (x - channel.mean), passed}};
    };
    sum_chunk<2>(rows, parameters.channels, partial, of_channel, terms, x, grad);
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

extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_sums_finish_f32(
    unsigned chunks, unsigned channels, const float* __restrict__ partial,
    const float* __restrict__ variance, float eps, float* __restrict__ sums
) {
    const Parameters parameters{channels, nullptr, nullptr, variance, eps};
    sum_chunks<2>(chunks, channels, partial, [=](unsigned channel, const double* near) {
        sums[channel] = float(near[0] * double(parameters.inv_std(channel)));
        sums[channels + channel] = float(near[1]);
    });
}

extern "C" __global__ void __launch_bounds__(1024) cv_running_statistics_f32(
    unsigned channels, const float* __restrict__ moments, float momentum, float unbiased,
    float* __restrict__ running_mean, float* __restrict__ running_var, long long* batches
) {
    for (size_t i = thread_index(); i < channels; i += thread_count()) {
        const float mean = moments[i], variance = moments[channels + i] * unbiased;
        running_mean[i] = (1.0f - momentum) * running_mean[i] + momentum * mean;
        running_var[i] = (1.0f - momentum) * running_var[i] + momentum * variance;
    }
    if (thread_index() == 0) *batches += 1;
}

#define STATISTICS                                                                                \
    const float *__restrict__ affine, const float *__restrict__ mean,                             \
        const float *__restrict__ variance, float eps

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_moments_##TYPE(                          \
        size_t rows, unsigned channels, const T* __restrict__ x, float* __restrict__ partial      \
    ) {                                                                                           \
        moments(rows, channels, x, partial);                                                      \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_moments_finish_##TYPE(                  \
        unsigned chunks, unsigned channels, double count, const T* __restrict__ x,                \
        const float* __restrict__ partial, float* __restrict__ moments                            \
    ) {                                                                                           \
        moments_finish(chunks, channels, count, x, partial, moments);                             \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_##TYPE(                      \
        size_t n, unsigned channels, const T* __restrict__ x, const T* __restrict__ residual,     \
        STATISTICS, int has_relu, float ceiling, T* __restrict__ y                                 \
    ) {                                                                                           \
        const Parameters parameters{channels, affine, mean, variance, eps};                       \
        normalize(n, parameters, x, residual, Relu{has_relu != 0, ceiling}, y);               \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_batch_norm_sums_##TYPE(                  \
        size_t rows, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,      \
        STATISTICS, int has_relu, float ceiling, float* __restrict__ partial                       \
    ) {                                                                                           \
        const Parameters parameters{channels, affine, mean, variance, eps};                       \
        gradient_sums(rows, parameters, x, grad, Relu{has_relu != 0, ceiling}, partial);      \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_gradient_##TYPE(             \
        size_t n, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,         \
        STATISTICS, const float* __restrict__ sums, float count, int has_relu, float ceiling,      \
        T* __restrict__ dx                                                                        \
    ) {                                                                                           \
        const Parameters parameters{channels, affine, mean, variance, eps};                       \
        const Relu relu{has_relu != 0, ceiling};                                         \
        input_gradient(n, parameters, x, grad, sums, count, relu, dx);                       \
    }

FOR_EACH_TYPE(KERNELS)
