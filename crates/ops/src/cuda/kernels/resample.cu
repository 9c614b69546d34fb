// Resizing as a sparse matrix along each axis, as in `crates/kernels/src/resample.rs`. The gradient
// is the same kernel with transposed matrices. A thread computes the sum for one element, in a
// fixed order.

#include "packs.cuh"
#include "place.cuh"

// The inputs that an output position of an axis is computed from,
// `places[starts[i] .. starts[i + 1]]`, and their weights.
struct Taps {
    const int *starts, *places;
    const float* weights;
};

template <int N, typename T>
__device__ void resample(
    size_t n, unsigned channels, unsigned in_h, unsigned in_w, unsigned out_h, unsigned out_w,
    Taps rows, Taps columns, const T* x, T* y
) {
    const unsigned packs = channels / N;
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Place place = place_of(i, out_h, out_w, packs);
        float sums[N] = {};
        for (int row = rows.starts[place.row]; row < rows.starts[place.row + 1]; row++) {
            const size_t line = (place.image * in_h + rows.places[row]) * in_w;
            const int end = columns.starts[place.column + 1];
            for (int column = columns.starts[place.column]; column < end; column++) {
                const float weight = rows.weights[row] * columns.weights[column];
                const size_t pixel = line + columns.places[column];
                const Pack<T, N> pack = load<N>(x, pixel * packs + place.pack);
#pragma unroll
                for (int k = 0; k < N; k++) sums[k] += weight * widen(pack.at[k]);
            }
        }
        Pack<T, N> out;
#pragma unroll
        for (int k = 0; k < N; k++) out.at[k] = narrow<T>(sums[k]);
        store(y, i, out);
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_resample_##TYPE(                        \
        size_t n, unsigned channels, unsigned in_h, unsigned in_w, unsigned out_h,                \
        unsigned out_w, const int* row_starts, const int* row_places, const float* row_weights,   \
        const int* column_starts, const int* column_places, const float* column_weights,          \
        const T* x, T* y                                                                          \
    ) {                                                                                           \
        const Taps rows{row_starts, row_places, row_weights};                                     \
        const Taps columns{column_starts, column_places, column_weights};                         \
        if (channels % FULL<T> == 0 && aligned(x, y)) {                                           \
            resample<FULL<T>>(n, channels, in_h, in_w, out_h, out_w, rows, columns, x, y);        \
        } else {                                                                                  \
            resample<1>(n, channels, in_h, in_w, out_h, out_w, rows, columns, x, y);              \
        }                                                                                         \
    }
FOR_EACH_TYPE(KERNELS)
