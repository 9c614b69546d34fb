// Elementwise operations: bias and ReLU, activation functions, dropout, conversion of pixels to
// numbers.
//
// Any one-dimensional launch along x will do. Threads step over the elements until none are left.

#include <math.h>

#include "packs.cuh"
#include "relu.cuh"

// The functions and their derivatives are those of the CPU kernels. At a kink the derivative is
// PyTorch's. The second argument is the parameter that some functions have. The comparisons send a
// NaN into the branch that keeps it.

__device__ inline float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

// The probability that a standard normal number is below `x`.
__device__ inline float normal_cdf(float x) { return 0.5f * (1.0f + erff(x * 0.70710678f)); }

struct Relu {
    static __device__ float value(float x, float) { return x < 0.0f ? 0.0f : x; }
    static __device__ float derivative(float x, float) { return x <= 0.0f ? 0.0f : 1.0f; }
};

struct Relu6 {
    static __device__ float value(float x, float) { return relu_up_to(x, 6.0f); }
    static __device__ float derivative(float x, float) { return masked(x, 1.0f, 6.0f); }
};

struct Sigmoid {
    static __device__ float value(float x, float) { return logistic(x); }
    static __device__ float derivative(float x, float) {
        const float y = logistic(x);
        return y * (1.0f - y);
    }
};

struct Silu {
    static __device__ float value(float x, float) { return x / (1.0f + expf(-x)); }
    static __device__ float derivative(float x, float) {
        const float y = logistic(x);
        return y * (1.0f + x * (1.0f - y));
    }
};

struct Gelu {
    static __device__ float value(float x, float) { return x * normal_cdf(x); }
    static __device__ float derivative(float x, float) {
        const float density = 0.39894228f * expf(-0.5f * x * x);
        return normal_cdf(x) + x * density;
    }
};

struct HardSigmoid {
    static __device__ float value(float x, float) { return relu_up_to(x + 3.0f, 6.0f) / 6.0f; }
    static __device__ float derivative(float x, float) {
        return x > -3.0f && x < 3.0f ? 1.0f / 6.0f : 0.0f;
    }
};

struct HardSwish {
    static __device__ float value(float x, float) { return x * HardSigmoid::value(x, 0.0f); }
    static __device__ float derivative(float x, float) {
        return x <= -3.0f ? 0.0f : x < 3.0f ? x / 3.0f + 0.5f : 1.0f;
    }
};

struct LeakyRelu {
    static __device__ float value(float x, float slope) { return x > 0.0f ? x : x * slope; }
    static __device__ float derivative(float x, float slope) { return x > 0.0f ? 1.0f : slope; }
};

struct Elu {
    static __device__ float value(float x, float alpha) {
        return x > 0.0f ? x : alpha * expm1f(x);
    }
    static __device__ float derivative(float x, float alpha) {
        return x > 0.0f ? 1.0f : alpha * expf(x);
    }
};

struct Tanh {
    static __device__ float value(float x, float) { return tanhf(x); }
    static __device__ float derivative(float x, float) {
        const float y = tanhf(x);
        return 1.0f - y * y;
    }
};

struct Softplus {
    static __device__ float value(float x, float) { return x > 20.0f ? x : log1pf(expf(x)); }
    static __device__ float derivative(float x, float) {
        return x > 20.0f ? 1.0f : logistic(x);
    }
};

struct Mish {
    static __device__ float value(float x, float) {
        return x * tanhf(Softplus::value(x, 0.0f));
    }
    static __device__ float derivative(float x, float) {
        const float y = tanhf(Softplus::value(x, 0.0f));
        return y + x * logistic(x) * (1.0f - y * y);
    }
};

template <typename Curve, typename T>
__device__ void value(size_t n, const T* x, float parameter, T* y) {
    map(n, y, [=](float x) { return Curve::value(x, parameter); }, x);
}

template <typename Curve, typename T>
__device__ void gradient(size_t n, const T* x, const T* grad, float parameter, T* dx) {
    const auto back = [=](float x, float grad) { return Curve::derivative(x, parameter) * grad; };
    map(n, dx, back, x, grad);
}

// `y` may be `x`.
template <typename T>
__device__ void finish(
    size_t n, unsigned channels, const T* x, const T* bias, bool has_relu, float ceiling, T* y
) {
    const auto end = [=](float x) { return has_relu ? relu_up_to(x, ceiling) : x; };
    if (bias == nullptr) {
        map(n, y, end, x);
    } else {
        const auto of_channel = [=](unsigned channel) { return widen(bias[channel]); };
        const auto add = [=](float bias, float x) { return end(x + bias); };
        map_channels(n, channels, y, of_channel, add, x);
    }
}

template <typename T>
__device__ void relu_mask(
    size_t n, const T* output, const T* grad, float ceiling, T* dx
) {
    // The output was rounded, so its ceiling is the rounded one too.
    const float met = widen(narrow<T>(ceiling));
    const auto mask = [=](float output, float grad) { return masked(output, grad, met); };
    map(n, dx, mask, output, grad);
}

template <typename T>
__device__ void dropout(size_t n, const T* x, const unsigned char* keep, float scale, T* y) {
    const auto drop = [=](float x, float keep) { return keep == 0.0f ? 0.0f : x * scale; };
    map(n, y, drop, x, keep);
}

struct Affine {
    float scale, shift;
};

template <typename T>
__device__ void pixels_to_numbers(
    size_t n, unsigned channels, const unsigned char* pixels, const float* scale,
    const float* shift, T* y
) {
    const auto of_channel = [=](unsigned channel) {
        return Affine{scale[channel], shift[channel]};
    };
    const auto convert = [](Affine affine, float pixel) {
        return fmaf(pixel, affine.scale, affine.shift);
    };
    map_channels(n, channels, y, of_channel, convert, pixels);
}

template <int N> __device__ bool all_finite(size_t n, const float* x) {
    bool all = true;
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Pack<float, N> pack = load<N>(x, i);
#pragma unroll
        for (int k = 0; k < N; k++) all = all && fabsf(pack.at[k]) < INFINITY;
    }
    return all;
}

extern "C" __global__ void __launch_bounds__(1024)
cv_not_finite_f32(size_t n, const float* x, int* flag) {
    const bool in_packs = n % FULL<float> == 0 && aligned(x);
    if (!(in_packs ? all_finite<FULL<float>>(n, x) : all_finite<1>(n, x))) atomicOr(flag, 1);
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_finish_##TYPE(                          \
        size_t n, unsigned channels, const T* x, const T* bias, int has_relu, float ceiling, T* y \
    ) {                                                                                           \
        finish(n, channels, x, bias, has_relu != 0, ceiling, y);                                  \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_relu_mask_##TYPE(                       \
        size_t n, const T* __restrict__ output, const T* __restrict__ grad, float ceiling,        \
        T* __restrict__ dx                                                                        \
    ) {                                                                                           \
        relu_mask(n, output, grad, ceiling, dx);                                                  \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_dropout_##TYPE(                         \
        size_t n, const T* __restrict__ x, const unsigned char* __restrict__ keep, float scale,   \
        T* __restrict__ y                                                                         \
    ) {                                                                                           \
        dropout(n, x, keep, scale, y);                                                            \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_pixels_##TYPE(                          \
        size_t n, unsigned channels, const unsigned char* __restrict__ pixels,                    \
        const float* __restrict__ scale, const float* __restrict__ shift, T* __restrict__ y       \
    ) {                                                                                           \
        pixels_to_numbers(n, channels, pixels, scale, shift, y);                                  \
    }                                                                                             \
    CURVE(relu, Relu, TYPE, T)                                                                    \
    CURVE(relu6, Relu6, TYPE, T)                                                                  \
    CURVE(sigmoid, Sigmoid, TYPE, T)                                                              \
    CURVE(silu, Silu, TYPE, T)                                                                    \
    CURVE(gelu, Gelu, TYPE, T)                                                                    \
    CURVE(hardswish, HardSwish, TYPE, T)                                                          \
    CURVE(hardsigmoid, HardSigmoid, TYPE, T)                                                      \
    CURVE(leaky_relu, LeakyRelu, TYPE, T)                                                         \
    CURVE(elu, Elu, TYPE, T)                                                                      \
    CURVE(tanh, Tanh, TYPE, T)                                                                    \
    CURVE(softplus, Softplus, TYPE, T)                                                            \
    CURVE(mish, Mish, TYPE, T)

#define CURVE(NAME, Curve, TYPE, T)                                                               \
    extern "C" __global__ void __launch_bounds__(1024) cv_##NAME##_##TYPE(                        \
        size_t n, const T* __restrict__ x, float parameter, T* __restrict__ y                     \
    ) {                                                                                           \
        value<Curve>(n, x, parameter, y);                                                         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_##NAME##_gradient_##TYPE(               \
        size_t n, const T* __restrict__ x, const T* __restrict__ grad, float parameter,           \
        T* __restrict__ dx                                                                        \
    ) {                                                                                           \
        gradient<Curve>(n, x, grad, parameter, dx);                                               \
    }

FOR_EACH_TYPE(KERNELS)
