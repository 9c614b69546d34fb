// Moves neighbouring pixels into channels (space to depth), so that a convolution of few channels becomes one of stride 1
// and of as many channels as tensor cores take.
//
// Any one-dimensional launch along x will do. Threads step over the elements until none are left.

#include "packs.cuh"

// Pairs are height and width.
struct Depth {
    // Of the images.
    unsigned size[2];
    unsigned channels;
    // Pixels of a block along each axis, which become channels: the convolution's stride.
    unsigned block[2];
    // Blocks in front of the image, which are zero.
    unsigned lead[2];
    // Blocks of the map, with those in front.
    unsigned blocks[2];
    // Channels of the map. Those behind block[0] * block[1] * channels are zero.
    unsigned depth;
    // Of the kernel, in pixels, and the pixels in front of it in its first block.
    unsigned kernel[2], offset[2];
    // Of the kernel, in blocks.
    unsigned taps[2];
};

// A channel of the map: a pixel within the block, and its channel.
struct Place {
    unsigned row, column, channel;
    bool is_used;
};

__device__ inline Place place_of(const Depth& d, unsigned channel) {
    const unsigned pixel = channel / d.channels;
    return {
        pixel / d.block[1], pixel % d.block[1], channel % d.channels,
        pixel < d.block[0] * d.block[1],
    };
}

// `[batch, blocks, blocks, depth]` of `[batch, size, size, channels]`. `n` counts packs of the map.
template <int N, typename T>
__device__ void space_to_depth(size_t n, const Depth& d, const T* x, T* y) {
    const unsigned packs = d.depth / N;
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        const size_t block = i / packs, line = block / d.blocks[1];
        const unsigned first = unsigned(i % packs) * N;
        const unsigned across = unsigned(block % d.blocks[1]);
        const unsigned down = unsigned(line % d.blocks[0]);
        const size_t image = line / d.blocks[0];
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const Place place = place_of(d, first + k);
            // In front of the image they wrap around to large numbers.
            const unsigned row = (down - d.lead[0]) * d.block[0] + place.row;
            const unsigned column = (across - d.lead[1]) * d.block[1] + place.column;
            const bool is_inside = place.is_used && row < d.size[0] && column < d.size[1];
            const size_t pixel = (image * d.size[0] + row) * d.size[1] + column;
            pack.at[k] = is_inside ? x[pixel * d.channels + place.channel] : narrow<T>(0.0f);
        }
        store(y, i, pack);
    }
}

// The distances between neighbours of a kernel `[out, channels, height, width]`.
struct Strides {
    unsigned long long out, channel, row, column;
};

// `[out, taps, taps, depth]` of a kernel. `n` counts elements of the result.
template <typename T>
__device__ void kernel_to_depth(size_t n, const Depth& d, const Strides& s, const T* x, T* y) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        const size_t tap = i / d.depth, line = tap / d.taps[1];
        const Place place = place_of(d, unsigned(i % d.depth));
        // In front of the kernel they wrap around to large numbers.
        const unsigned row = unsigned(line % d.taps[0]) * d.block[0] + place.row - d.offset[0];
        const unsigned column = unsigned(tap % d.taps[1]) * d.block[1] + place.column - d.offset[1];
        const bool is_inside = place.is_used && row < d.kernel[0] && column < d.kernel[1];
        const size_t from = line / d.taps[0] * s.out + place.channel * s.channel + row * s.row +
                            column * s.column;
        y[i] = is_inside ? x[from] : narrow<T>(0.0f);
    }
}

// A kernel `[out, channels, height, width]` of what `kernel_to_depth` makes. `n` counts elements of the kernel.
template <typename T> __device__ void kernel_from_depth(size_t n, const Depth& d, const T* x, T* y) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        const size_t line = i / d.kernel[1], plane = line / d.kernel[0];
        const unsigned row = unsigned(line % d.kernel[0]) + d.offset[0];
        const unsigned column = unsigned(i % d.kernel[1]) + d.offset[1];
        const size_t out = plane / d.channels;
        const unsigned channel = unsigned(plane % d.channels);
        const unsigned pixel = row % d.block[0] * d.block[1] + column % d.block[1];
        const size_t tap =
            (out * d.taps[0] + row / d.block[0]) * d.taps[1] + column / d.block[1];
        y[i] = x[tap * d.depth + pixel * d.channels + channel];
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_space_to_depth_##TYPE(                  \
        size_t n, Depth depth, const T* __restrict__ x, T* __restrict__ y                         \
    ) {                                                                                           \
        space_to_depth<FULL<T>>(n, depth, x, y);                                                  \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_kernel_to_depth_##TYPE(                 \
        size_t n, Depth depth, Strides strides, const T* __restrict__ x, T* __restrict__ y        \
    ) {                                                                                           \
        kernel_to_depth(n, depth, strides, x, y);                                                 \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_kernel_from_depth_##TYPE(               \
        size_t n, Depth depth, const T* __restrict__ x, T* __restrict__ y                         \
    ) {                                                                                           \
        kernel_from_depth(n, depth, x, y);                                                        \
    }

FOR_EACH_TYPE(KERNELS)
