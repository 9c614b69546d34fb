// The part of CUDA C++ that candle's kernels and this project's use, for a plain host compiler.
// Every kernel source is compiled with this header included first, as nvcc does with its own.
#pragma once

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One launch at a time and one block at a time, so a static is as good as a block's own memory.
#define __shared__ static
#define __constant__ static
#ifndef __global__  // the build defines it as a word of its own when it lists the kernels of a file
#define __global__
#endif

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// The vectors that kernels load and store whole, aligned as on the device.
#define EMULATED_VECTORS(type, name)                                                            \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                    \
    struct name##3 { type x, y, z; };                                                           \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; }; \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                 \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(double, double)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(unsigned char, uchar)
EMULATED_VECTORS(unsigned short, ushort)
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Where the running thread is; the emulated driver sets them.
extern "C" uint3 emulated_thread, emulated_block;
extern "C" dim3 emulated_block_size, emulated_grid_size;
extern "C" char* emulated_dynamic_shared;
#define threadIdx emulated_thread
#define blockIdx emulated_block
#define blockDim emulated_block_size
#define gridDim emulated_grid_size
constexpr int warpSize = 32;

extern "C" void emulated_wait_for_block();
extern "C" void emulated_wait_for_warp();
extern "C" void emulated_exchange(void* value, size_t bytes, unsigned source_lane);

inline void __syncthreads() { emulated_wait_for_block(); }
inline void __syncwarp(unsigned = 0xffffffff) { emulated_wait_for_warp(); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline unsigned emulated_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

template <typename T>
T emulated_shuffle(T value, unsigned source_lane) {
    static_assert(sizeof(T) <= 16);
    emulated_exchange(&value, sizeof value, source_lane);
    return value;
}

// A source outside the lane's own group of `width` gives the lane its own value, as on the device.
template <typename T>
T __shfl_sync(unsigned, T value, int source, int width = 32) {
    const unsigned lane = emulated_lane();
    return emulated_shuffle(value, lane / width * width + unsigned(source) % width);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
    const unsigned lane = emulated_lane(), source = lane ^ mask;
    return emulated_shuffle(value, source / width <= lane / width ? source : lane);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned distance, int width = 32) {
    const unsigned lane = emulated_lane(), source = lane + distance;
    return emulated_shuffle(value, source / width == lane / width ? source : lane);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned distance, int width = 32) {
    const unsigned lane = emulated_lane();
    return emulated_shuffle(value, lane % width >= distance ? lane - distance : lane);
}

// Fibers switch only at barriers, so an atomic operation is a plain one.
template <typename T, typename U>
T emulated_swap(T* address, U value) {
    const T before = *address;
    *address = value;
    return before;
}
template <typename T>
using EmulatedSame = std::common_type_t<T>;  // lets the address alone decide the type
template <typename T>
T atomicAdd(T* address, EmulatedSame<T> value) {
    return emulated_swap(address, *address + value);
}
template <typename T>
T atomicMin(T* address, EmulatedSame<T> value) {
    return emulated_swap(address, value < *address ? value : *address);
}
template <typename T>
T atomicMax(T* address, EmulatedSame<T> value) {
    return emulated_swap(address, *address < value ? value : *address);
}
template <typename T>
T atomicOr(T* address, EmulatedSame<T> value) {
    return emulated_swap(address, *address | value);
}
template <typename T>
T atomicExch(T* address, EmulatedSame<T> value) {
    return emulated_swap(address, value);
}
template <typename T>
T atomicCAS(T* address, EmulatedSame<T> expected, EmulatedSame<T> value) {
    return emulated_swap(address, *address == expected ? value : *address);
}

template <typename T>
T __ldg(const T* address) {
    return *address;
}

// CUDA's min and max mix types, and of a number and a NaN they give the number.
template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>)
        return std::fmin(T(a), T(b));
    else
        return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>)
        return std::fmax(T(a), T(b));
    else
        return T(a) < T(b) ? T(b) : T(a);
}

template <typename To, typename From>
To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return emulated_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulated_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulated_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulated_bits<double>(x); }

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
// Kernels are compiled without contraction here, so these are plain operations.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }
inline float normcdff(float x) { return float(normcdf(x)); }
