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
template <typename T, typename By>
__device__ void moments(
    size_t rows, unsigned channels, const T* x, const By& by, Running running, float* moments
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
    by.template sum<2>(rows, channels, origin, as_they_are, terms, end, x);
}

// `map(of_channel, end, x...)` maps the matrices.
template <typename T, typename Map>
__device__ void normalize(
    const Parameters& parameters, const T* x, const T* residual, Relu relu, Map map
) {
    const auto of_channel = [=](unsigned channel) { return parameters.of(channel); };
    if (residual == nullptr) {
        const auto end = [=](Affine affine, float x) { return relu.value(affine(x)); };
        map(of_channel, end, x);
    } else {
        const auto end = [=](Affine affine, float x, float residual) {
            return relu.value(affine(x) + residual);
        };
        map(of_channel, end, x, residual);
    }
}

// All of a forward pass: the statistics, then what they normalise.
template <typename T>
__device__ void whole(
    size_t rows, const Parameters& parameters, const T* x, const T* residual, Running running,
    Relu relu, float* partial, float* results, T* y
) {
    const unsigned channels = parameters.channels;
    const auto of_columns = [=](const auto& own) {
        moments(rows, channels, x, own, running, results);
        const auto map = [&](auto... arguments) { own.map(rows, channels, y, arguments...); };
        normalize(parameters, x, residual, relu, map);
    };
    for_own_columns<T>(channels, partial, of_columns, x, residual, y);
}

struct Centred {
    Affine affine;
    float mean;
};

// What is known behind a residual sum: the gradient of the output `grad + more` (`more` may be null), the output, by which
// the ReLU after the sum was at work or not, and the place for the gradient behind it.
template <typename T> struct BehindSum {
    const T *more, *output;
    T* passed;
    Relu relu;

    // The output was rounded, so its ceiling is the rounded one too.
    __device__ BehindSum(const T* more, const T* output, T* passed, Relu relu)
        : more(more), output(output), passed(passed),
          relu{relu.is_there, widen(narrow<T>(relu.ceiling))} {}

    // Replaces pack `i` of the gradient by the gradient behind the ReLU, and stores it.
    template <int N> __device__ void mask(size_t i, Pack<T, N>& grad, const Pack<T, N>& output) const {
        if (more != nullptr) {
            Pack<T, N> other;
            if (aligned(more)) {
                other = load<N>(more, i);
            } else {
#pragma unroll
                for (int k = 0; k < N; k++) other.at[k] = more[i * N + k];
            }
            // Rounded as a sum of its own would be.
#pragma unroll
            for (int k = 0; k < N; k++) {
                grad.at[k] = narrow<T>(widen(grad.at[k]) + widen(other.at[k]));
            }
        }
#pragma unroll
        for (int k = 0; k < N; k++) {
            grad.at[k] = narrow<T>(relu.gradient(widen(output.at[k]), widen(grad.at[k])));
        }
        store(passed, i, grad);
    }
};

// The gradients of weights and biases, `[2, channels]`. If `behind.output` is not null, the ReLU comes after a residual sum.
template <typename T, typename By>
__device__ void gradient_sums(
    size_t rows, const Parameters& parameters, const T* x, const T* grad,
    const BehindSum<T>& behind, Relu relu, const By& by, float* sums
) {
    const unsigned channels = parameters.channels;
    const auto end = [=](unsigned channel, const double* totals) {
        sums[channel] = float(totals[0] * double(parameters.inv_std(channel)));
        sums[channels + channel] = float(totals[1]);
    };
    if (behind.output == nullptr) {
        const auto of_channel = [=](unsigned channel) {
            return Centred{parameters.of(channel), parameters.mean[channel]};
        };
        const auto as_they_are = [](size_t, auto&, auto&) {};
        const auto terms = [=](Centred channel, size_t, float x, float grad) {
            const float passed = relu.gradient(channel.affine(x), grad);
            return Terms<2>{{passed * (x - channel.mean), passed}};
        };
        by.template sum<2>(rows, channels, of_channel, as_they_are, terms, end, x, grad);
    } else {
        const auto mean = [=](unsigned channel) { return parameters.mean[channel]; };
        const auto mask = [=](size_t i, auto&, auto& grad, auto& output) {
            behind.mask(i, grad, output);
        };
        const auto terms = [](float mean, size_t, float x, float grad, float) {
            return Terms<2>{{grad * (x - mean), grad}};
        };
        const T* output = behind.output;
        by.template sum<2>(rows, channels, mean, mask, terms, end, x, grad, output);
    }
}

// How the gradient of the input is computed from the gradient after the ReLU:
// `dx = scale * grad + (of_x * x + shift)`.
struct InputGradient {
    Affine affine;
    float of_x, shift;
};

// `sums` holds the gradients of weights and biases. It is null if the statistics are constants.
template <typename T, typename Map>
__device__ void input_gradient(
    const Parameters& parameters, const T* x, const T* grad, const float* sums, float count,
    Relu relu, Map map
) {
    const unsigned channels = parameters.channels;
    if (sums == nullptr) {
        const auto of_channel = [=](unsigned channel) { return parameters.of(channel); };
        const auto end = [=](Affine affine, float x, float grad) {
            return affine.scale * relu.gradient(affine(x), grad);
        };
        map(of_channel, end, x, grad);
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
        map(of_channel, end, x, grad);
    }
}

// All of a backward pass through the statistics of this batch: the sums, then the gradient of the input.
template <typename T>
__device__ void whole_gradient(
    size_t rows, const Parameters& parameters, const T* x, const T* grad,
    const BehindSum<T>& behind, Relu relu, float* partial, float* sums, T* dx
) {
    const unsigned channels = parameters.channels;
    const bool is_behind = behind.output != nullptr;
    const auto of_columns = [=](const auto& own) {
        gradient_sums(rows, parameters, x, grad, behind, relu, own, sums);
        const auto map = [&](auto... arguments) { own.map(rows, channels, dx, arguments...); };
        const T* incoming = is_behind ? behind.passed : grad;
        const Relu left{relu.is_there && !is_behind, relu.ceiling};
        input_gradient(parameters, x, incoming, sums, float(rows), left, map);
    };
    for_own_columns<T>(channels, partial, of_columns, x, grad, behind.output, dx);
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
        const InChunks by{Chunks{partial, ended}};                                                \
        moments(rows, channels, x, by, running, results);                                         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_##TYPE(                      \
        size_t n, unsigned channels, const T* __restrict__ x, const T* __restrict__ residual,     \
        PARAMETERS, int has_relu, float ceiling, T* __restrict__ y                                \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        const auto map = [=](auto... arguments) { map_channels(n, channels, y, arguments...); };  \
        normalize(parameters, x, residual, Relu{has_relu != 0, ceiling}, map);                    \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_batch_norm_whole_##TYPE(                 \
        size_t rows, unsigned channels, const T* __restrict__ x, const T* __restrict__ residual,  \
        const float* __restrict__ weight, const float* __restrict__ bias, float* running_mean,    \
        float* running_var, long long* batches, float momentum, float unbiased, float eps,        \
        int has_relu, float ceiling, float* partial, float* results, T* __restrict__ y            \
    ) {                                                                                           \
        const Running running{running_mean, running_var, batches, momentum, unbiased};            \
        const Parameters parameters{channels, weight, bias, results, results + channels, eps};    \
        const Relu relu{has_relu != 0, ceiling};                                                  \
        whole(rows, parameters, x, residual, running, relu, partial, results, y);                 \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_batch_norm_sums_##TYPE(                  \
        size_t rows, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,      \
        const T* __restrict__ more, const T* __restrict__ output, PARAMETERS, int has_relu,       \
        float ceiling, float* partial, unsigned* ended, T* __restrict__ passed,                   \
        float* __restrict__ sums                                                                  \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        const Relu relu{has_relu != 0, ceiling};                                                  \
        const InChunks by{Chunks{partial, ended}};                                                \
        const BehindSum<T> behind(more, output, passed, relu);                                    \
        gradient_sums(rows, parameters, x, grad, behind, relu, by, sums);                         \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(SUM_THREADS) cv_batch_norm_gradient_whole_##TYPE(        \
        size_t rows, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,      \
        const T* __restrict__ more, const T* __restrict__ output, PARAMETERS, int has_relu,       \
        float ceiling, float* partial, T* passed, float* sums, T* __restrict__ dx                 \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        const Relu relu{has_relu != 0, ceiling};                                                  \
        const BehindSum<T> behind(more, output, passed, relu);                                    \
        whole_gradient(rows, parameters, x, grad, behind, relu, partial, sums, dx);               \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_batch_norm_gradient_##TYPE(             \
        size_t n, unsigned channels, const T* __restrict__ x, const T* __restrict__ grad,         \
        PARAMETERS, const float* __restrict__ sums, float count, int has_relu, float ceiling,     \
        T* __restrict__ dx                                                                        \
    ) {                                                                                           \
        const Parameters parameters{channels, weight, bias, mean, variance, eps};                 \
        const Relu relu{has_relu != 0, ceiling};                                                  \
        const auto map = [=](auto... arguments) { map_channels(n, channels, dx, arguments...); }; \
        input_gradient(parameters, x, grad, sums, count, relu, map);                              \
    }

FOR_EACH_TYPE(KERNELS)
