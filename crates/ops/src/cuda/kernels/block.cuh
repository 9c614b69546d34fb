// Computations that all threads of a block share.

#pragma once

// Combines the values of all threads of the block by `combine`, in a fixed order. Every thread gets
// the result. The block is one-dimensional, of a multiple of 32 threads.
template <typename V, typename Combine> __device__ V over_block(V value, Combine combine) {
    __shared__ V of_warps[32];
    for (int distance = 16; distance > 0; distance /= 2) {
        value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    // Some threads may still read the values of the previous call.
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warps[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; warp++) value = combine(value, of_warps[warp]);
    return value;
}

template <typename V> __device__ V block_sum(V value) {
    return over_block(value, [](V a, V b) { return a + b; });
}

// The largest of the threads' numbers. NaNs are ignored.
__device__ inline float block_max(float value) {
    return over_block(value, [](float a, float b) { return fmaxf(a, b); });
}
