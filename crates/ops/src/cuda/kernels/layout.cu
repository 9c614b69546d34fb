// Changes of layout: channels last to channels first and back.

#include "packs.cuh"

// A square of the matrix. A block reads it along rows and writes it along columns, so both access
// memory in order.
constexpr unsigned TILE = 32;
constexpr unsigned TILE_ROWS_AT_ONCE = 8;

// Transposes `[batch, rows, columns]` to `[batch, columns, rows]`. The block is (32, 8). The grid
// covers columns and rows in tiles, and the batch. It may be smaller than they are.
template <typename T>
__device__ void transpose(
    unsigned batch, unsigned rows, unsigned columns, const T* __restrict__ x, T* __restrict__ y
) {
    // One column more than needed, so that the elements of a column are in different banks.
    __shared__ T tile[TILE][TILE + 1];
    const unsigned row_tiles = (rows + TILE - 1) / TILE;
    const unsigned left = blockIdx.x * TILE;
    for (unsigned image = blockIdx.z; image < batch; image += gridDim.z) {
        const size_t start = size_t(image) * rows * columns;
        for (unsigned row_tile = blockIdx.y; row_tile < row_tiles; row_tile += gridDim.y) {
            const unsigned top = row_tile * TILE;
            for (unsigned i = threadIdx.y; i < TILE; i += TILE_ROWS_AT_ONCE) {
                const unsigned row = top + i, column = left + threadIdx.x;
                if (row < rows && column < columns) {
                    tile[i][threadIdx.x] = x[start + size_t(row) * columns + column];
                }
            }
            __syncthreads();
            for (unsigned i = threadIdx.y; i < TILE; i += TILE_ROWS_AT_ONCE) {
                const unsigned row = top + threadIdx.x, column = left + i;
                if (row < rows && column < columns) {
                    y[start + size_t(column) * rows + row] = tile[threadIdx.x][i];
                }
            }
            __syncthreads();
        }
    }
}

constexpr int MOST_KERNELS = 48;

// Kernels of convolutions: where each lies as `[out, in, taps]`, and where it goes as `[out, taps, in]`.
struct Kernels {
    const float* from[MOST_KERNELS];
    void* to[MOST_KERNELS];
    unsigned out[MOST_KERNELS], in[MOST_KERNELS], taps[MOST_KERNELS];
};
static_assert(sizeof(Kernels) <= 4000, "a kernel's parameters have room in 4 KiB");

// A block takes one output channel at a time: what its threads leave of a line of the cache, they read from there next.
template <typename T>
__device__ void in_order(const float* from, T* to, unsigned out, unsigned in, unsigned taps) {
    const unsigned size = in * taps;
    for (unsigned row = blockIdx.x; row < out; row += gridDim.x) {
        const size_t start = size_t(row) * size;
        for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
            to[start + i] = narrow<T>(from[start + i % in * taps + i / in]);
        }
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void UNCROWDED(256) cv_transpose_##TYPE(                                \
        unsigned batch, unsigned rows, unsigned columns, const T* __restrict__ x,                 \
        T* __restrict__ y                                                                         \
    ) {                                                                                           \
        transpose(batch, rows, columns, x, y);                                                    \
    }                                                                                             \
    /* The grid is (blocks, kernels). */                                                          \
    extern "C" __global__ void __launch_bounds__(1024)                                            \
        cv_kernels_in_order_##TYPE(Kernels kernels) {                                             \
        const unsigned which = blockIdx.y;                                                        \
        in_order(                                                                                 \
            kernels.from[which], static_cast<T*>(kernels.to[which]), kernels.out[which],          \
            kernels.in[which], kernels.taps[which]                                                \
        );                                                                                        \
    }

FOR_EACH_TYPE(KERNELS)
