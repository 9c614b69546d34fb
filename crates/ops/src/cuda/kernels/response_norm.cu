// Local response normalisation, as in `crates/kernels/src/local_response_norm.rs`.
//
// A thread computes one element. It adds up the squares of its neighbours, and for the gradient
// those of its neighbours' neighbours, which are all in the cache.

#include "packs.cuh"

struct ResponseNorm {
    int channels, size;
    // `alpha` is already divided by the size.
    float alpha, beta, k;

    // The base of the power at `channel` of a row.
    template <typename T> __device__ float base(const T* row, int channel) const {
        const int first = max(channel - size / 2, 0);
        const int last = min(channel + (size - 1) / 2, channels - 1);
        float sum = 0.0f;
        for (int i = first; i <= last; i++) sum += widen(row[i]) * widen(row[i]);
        return k + alpha * sum;
    }
};

template <typename T>
__device__ void response_norm(size_t n, ResponseNorm norm, const T* x, T* y) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        const int channel = i % norm.channels;
        const float base = norm.base(x + i - channel, channel);
        y[i] = narrow<T>(widen(x[i]) * powf(base, -norm.beta));
    }
}

template <typename T>
__device__ void response_norm_gradient(
    size_t n, ResponseNorm norm, const T* x, const T* grad, T* dx
) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        const int channel = i % norm.channels;
        const T *row = x + i - channel, *of_row = grad + i - channel;
        // The channels whose sums this one is in.
        const int first = max(channel - (norm.size - 1) / 2, 0);
        const int last = min(channel + norm.size / 2, norm.channels - 1);
        float sum = 0.0f;
        for (int j = first; j <= last; j++) {
            const float base = norm.base(row, j);
            sum += widen(of_row[j]) * widen(row[j]) * powf(base, -norm.beta - 1.0f);
        }
        const float direct = widen(grad[i]) * powf(norm.base(row, channel), -norm.beta);
        dx[i] = narrow<T>(direct - 2.0f * norm.alpha * norm.beta * widen(x[i]) * sum);
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_response_norm_##TYPE(                   \
        size_t n, unsigned channels, int size, float alpha, float beta, float k,                  \
        const T* __restrict__ x, T* __restrict__ y                                                \
    ) {                                                                                           \
        response_norm(n, ResponseNorm{int(channels), size, alpha, beta, k}, x, y);                \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_response_norm_gradient_##TYPE(          \
        size_t n, unsigned channels, int size, float alpha, float beta, float k,                  \
        const T* __restrict__ x, const T* __restrict__ grad, T* __restrict__ dx                   \
    ) {                                                                                           \
        const ResponseNorm norm{int(channels), size, alpha, beta, k};                             \
        response_norm_gradient(n, norm, x, grad, dx);                                             \
    }

FOR_EACH_TYPE(KERNELS)
