// The number types of feature maps, and the loops of kernels over them.
//
// Arithmetic is done in float for any type of map. Most kernels here are limited by memory alone.
// So elements are moved in packs of 16 bytes, the most that a thread can load at once. Every loop
// takes the width of its packs as a parameter. With a width of 1 the same code handles maps that do
// not consist of whole packs.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Instantiates the kernels that the macro `KERNELS(name, type)` defines, for every number type.
#define FOR_EACH_TYPE(KERNELS) \
    KERNELS(f32, float)        \
    KERNELS(f16, __half)       \
    KERNELS(bf16, __nv_bfloat16)

// Launch bounds for kernels for which one block per multiprocessor is enough. The assembler would
// rather have more blocks, and would spill registers of these kernels to make room for them.
#define UNCROWDED(threads) __launch_bounds__(threads, 1)

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(unsigned char x) { return float(x); }

template <typename T> __device__ T narrow(float x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline __half narrow<__half>(float x) { return __float2half(x); }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
    return __float2bfloat16(x);
}

// `N` neighbours in memory that are loaded and stored together.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

// How many elements of `T` a full pack holds.
template <typename T> constexpr int FULL = 16 / sizeof(T);

template <int N, typename T> __device__ Pack<T, N> load(const T* x, size_t i) {
    return reinterpret_cast<const Pack<T, N>*>(x)[i];
}

template <typename T, int N> __device__ void store(T* y, size_t i, Pack<T, N> pack) {
    reinterpret_cast<Pack<T, N>*>(y)[i] = pack;
}

// Whether all pointers are aligned to 16 bytes. Null counts as aligned.
template <typename... X> __device__ bool aligned(const X*... x) {
    return (reinterpret_cast<size_t>(x) | ...) % 16 == 0;
}

// The index of this thread in a launch along x, and the number of threads.
__device__ inline size_t thread_index() { return size_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline size_t thread_count() { return size_t(gridDim.x) * blockDim.x; }

// Computes `f` of the elements of some packs, one from each, and stores the results.
template <int N, typename T, typename F, typename... X>
__device__ void map_pack(size_t i, T* y, F f, Pack<X, N>... x) {
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; k++) out.at[k] = narrow<T>(f(k, widen(x.at[k])...));
    store(y, i, out);
}

template <int N, typename T, typename F, typename... X>
__device__ void map_in_packs(size_t n, T* y, F f, const X*... x) {
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        map_pack<N>(i, y, [=](int, auto... x) { return f(x...); }, load<N>(x, i)...);
    }
}

// `y[i] = f(x[i]...)` for all `n` elements.
template <typename T, typename F, typename... X>
__device__ void map(size_t n, T* y, F f, const X*... x) {
    if (n % FULL<T> == 0 && aligned(y, x...)) {
        map_in_packs<FULL<T>>(n, y, f, x...);
    } else {
        map_in_packs<1>(n, y, f, x...);
    }
}

template <int N, typename T, typename Of, typename F, typename... X>
__device__ void map_channels_in_packs(
    size_t n, unsigned channels, T* y, Of of_channel, F f, const X*... x
) {
    // The channels that a pack holds repeat after so many packs: the number of channels divided by
    // its common factor with the power of two `N`. All threads together step over whole periods. So
    // each thread gets the same channels at every step and computes their constants once.
    const unsigned shared = channels & (0u - channels);
    const size_t period = channels / (shared < N ? shared : N);
    const size_t periods = thread_count() / period;
    const size_t step = (periods > 0 ? periods : 1) * period;
    const size_t packs = n / N;
    for (size_t first = thread_index(); first < step && first < packs; first += thread_count()) {
        decltype(of_channel(0u)) constants[N];
        unsigned channel = unsigned(first * N % channels);
#pragma unroll
        for (int k = 0; k < N; k++) {
            constants[k] = of_channel(channel);
            channel = channel + 1 < channels ? channel + 1 : 0;
        }
        // Two packs are in flight at a time. With their constants, threads take too many registers
        // for a multiprocessor to hide the wait for memory with other threads alone.
#pragma unroll 2
        for (size_t i = first; i < packs; i += step) {
            const auto with_constants = [&](int k, auto... x) { return f(constants[k], x...); };
            map_pack<N>(i, y, with_constants, load<N>(x, i)...);
        }
    }
}

// `y[i] = f(of_channel(i % channels), x[i]...)` for all `n` elements.
template <typename T, typename Of, typename F, typename... X>
__device__ void map_channels(
    size_t n, unsigned channels, T* y, Of of_channel, F f, const X*... x
) {
    if (n % FULL<T> == 0 && aligned(y, x...)) {
        map_channels_in_packs<FULL<T>>(n, channels, y, of_channel, f, x...);
    } else {
        map_channels_in_packs<1>(n, channels, y, of_channel, f, x...);
    }
}
