// Max and average pooling over any windows, and their gradients, with the windows of
// `crates/kernels/src/pool.rs`.
//
// The backward kernels gather: a thread sums what an input gets from the windows that hold it. So
// each element is written once and in a fixed order. Any one-dimensional launch along x will do.

#include <math.h>

#include "packs.cuh"
#include "place.cuh"

// The windows along one axis. For each output position: its start, its end and the divisor of an
// average. For each input position: the first window that holds it and the one past the last.
struct Window {
    int start, end, count;
};
struct Holders {
    int first, end;
};

__device__ inline Window window_at(const int* windows, unsigned i) {
    return {windows[3 * i], windows[3 * i + 1], windows[3 * i + 2]};
}

__device__ inline Holders holders_at(const int* holders, unsigned i) {
    return {holders[2 * i], holders[2 * i + 1]};
}

// The sizes and windows of a pool. Only the backward kernels need the holders.
struct Axes {
    unsigned channels, in_h, in_w, out_h, out_w;
    const int *rows_win, *cols_win, *rows_hold = nullptr, *cols_hold = nullptr;

    template <int N> __device__ Place output(size_t i) const {
        return place_of(i, out_h, out_w, channels / N);
    }
    template <int N> __device__ Place input(size_t i) const {
        return place_of(i, in_h, in_w, channels / N);
    }
    // Index of the pack of an output, and of an input, of the image and channels of `place`.
    template <int N> __device__ size_t output_pack(Place place, int row, int column) const {
        return ((place.image * out_h + row) * out_w + column) * (channels / N) + place.pack;
    }
    template <int N> __device__ size_t input_pack(Place place, int row, int column) const {
        return ((place.image * in_h + row) * in_w + column) * (channels / N) + place.pack;
    }
};

template <int N, typename T> __device__ Pack<T, N> narrowed(const float (&values)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int k = 0; k < N; k++) pack.at[k] = narrow<T>(values[k]);
    return pack;
}

// The largest element of each window. If wanted, also the position in the window of the first such
// element, counted row by row. A NaN is larger than anything.
template <int N, typename T>
__device__ void max_pool(size_t n, const Axes& axes, const T* x, T* y, unsigned short* positions) {
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Place place = axes.output<N>(i);
        const Window rows = window_at(axes.rows_win, place.row);
        const Window columns = window_at(axes.cols_win, place.column);
        float max[N];
        Pack<unsigned short, N> best;
#pragma unroll
        for (int k = 0; k < N; k++) {
            max[k] = -INFINITY;
            best.at[k] = 0;
        }
        unsigned short position = 0;
        for (int row = rows.start; row < rows.end; row++) {
            for (int column = columns.start; column < columns.end; column++) {
                const Pack<T, N> pack = load<N>(x, axes.input_pack<N>(place, row, column));
#pragma unroll
                for (int k = 0; k < N; k++) {
                    const float value = widen(pack.at[k]);
                    if (value > max[k] || value != value) {
                        max[k] = value;
                        best.at[k] = position;
                    }
                }
                position++;
            }
        }
        store(y, i, narrowed<N, T>(max));
        if (positions != nullptr) store(positions, i, best);
    }
}

template <int N, typename T>
__device__ void max_pool_gradient(
    size_t n, const Axes& axes, const T* grad, const unsigned short* positions, T* dx
) {
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Place place = axes.input<N>(i);
        const Holders rows = holders_at(axes.rows_hold, place.row);
        const Holders columns = holders_at(axes.cols_hold, place.column);
        float sums[N] = {};
        for (int row = rows.first; row < rows.end; row++) {
            const int from_top = int(place.row) - window_at(axes.rows_win, row).start;
            for (int column = columns.first; column < columns.end; column++) {
                const Window window = window_at(axes.cols_win, column);
                const int from_left = int(place.column) - window.start;
                const int position = from_top * (window.end - window.start) + from_left;
                const size_t pack = axes.output_pack<N>(place, row, column);
                const auto best = load<N>(positions, pack);
                const Pack<T, N> of_output = load<N>(grad, pack);
#pragma unroll
                for (int k = 0; k < N; k++) {
                    if (best.at[k] == position) sums[k] += widen(of_output.at[k]);
                }
            }
        }
        store(dx, i, narrowed<N, T>(sums));
    }
}

template <int N, typename T>
__device__ void avg_pool(size_t n, const Axes& axes, const T* x, T* y) {
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Place place = axes.output<N>(i);
        const Window rows = window_at(axes.rows_win, place.row);
        const Window columns = window_at(axes.cols_win, place.column);
        float sums[N] = {};
        for (int row = rows.start; row < rows.end; row++) {
            // Each row is summed separately, so that rounding errors grow with the side of a large
            // window (a global average) and not with its area.
            float row_sums[N] = {};
            for (int column = columns.start; column < columns.end; column++) {
                const Pack<T, N> pack = load<N>(x, axes.input_pack<N>(place, row, column));
#pragma unroll
                for (int k = 0; k < N; k++) row_sums[k] += widen(pack.at[k]);
            }
#pragma unroll
            for (int k = 0; k < N; k++) sums[k] += row_sums[k];
        }
        const float count = float(rows.count) * float(columns.count);
#pragma unroll
        for (int k = 0; k < N; k++) sums[k] /= count;
        store(y, i, narrowed<N, T>(sums));
    }
}

template <int N, typename T>
__device__ void avg_pool_gradient(size_t n, const Axes& axes, const T* grad, T* dx) {
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Place place = axes.input<N>(i);
        const Holders rows = holders_at(axes.rows_hold, place.row);
        const Holders columns = holders_at(axes.cols_hold, place.column);
        float sums[N] = {};
        for (int row = rows.first; row < rows.end; row++) {
            const int row_count = window_at(axes.rows_win, row).count;
            for (int column = columns.first; column < columns.end; column++) {
                const int column_count = window_at(axes.cols_win, column).count;
                const float share = 1.0f / (float(row_count) * float(column_count));
                const Pack<T, N> pack = load<N>(grad, axes.output_pack<N>(place, row, column));
#pragma unroll
                for (int k = 0; k < N; k++) sums[k] += widen(pack.at[k]) * share;
            }
        }
        store(dx, i, narrowed<N, T>(sums));
    }
}

#define IN_PACKS(T, ...) (channels % FULL<T> == 0 && aligned(__VA_ARGS__))

#define SIZES                                                                                     \
    size_t n, unsigned channels, unsigned in_h, unsigned in_w, unsigned out_h, unsigned out_w
#define WINDOWS const int *__restrict__ rows_win, const int *__restrict__ cols_win
#define HOLDERS const int *__restrict__ rows_hold, const int *__restrict__ cols_hold

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_max_pool_##TYPE(                        \
        SIZES, WINDOWS, const T* __restrict__ x, T* __restrict__ y,                               \
        unsigned short* __restrict__ positions                                                    \
    ) {                                                                                           \
        const Axes axes{channels, in_h, in_w, out_h, out_w, rows_win, cols_win};                  \
        if (IN_PACKS(T, x, y, positions)) {                                                       \
            max_pool<FULL<T>>(n, axes, x, y, positions);                                          \
        } else {                                                                                  \
            max_pool<1>(n, axes, x, y, positions);                                                \
        }                                                                                         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_max_pool_gradient_##TYPE(               \
        SIZES, WINDOWS, HOLDERS, const T* __restrict__ grad,                                      \
        const unsigned short* __restrict__ positions, T* __restrict__ dx                          \
    ) {                                                                                           \
        const Axes axes{channels, in_h,     in_w,     out_h,     out_w,                           \
                        rows_win, cols_win, rows_hold, cols_hold};                                \
        if (IN_PACKS(T, grad, positions, dx)) {                                                   \
            max_pool_gradient<FULL<T>>(n, axes, grad, positions, dx);                             \
        } else {                                                                                  \
            max_pool_gradient<1>(n, axes, grad, positions, dx);                                   \
        }                                                                                         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024)                                            \
    cv_avg_pool_##TYPE(SIZES, WINDOWS, const T* __restrict__ x, T* __restrict__ y) {              \
        const Axes axes{channels, in_h, in_w, out_h, out_w, rows_win, cols_win};                  \
        if (IN_PACKS(T, x, y)) {                                                                  \
            avg_pool<FULL<T>>(n, axes, x, y);                                                     \
        } else {                                                                                  \
            avg_pool<1>(n, axes, x, y);                                                           \
        }                                                                                         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_avg_pool_gradient_##TYPE(               \
        SIZES, WINDOWS, HOLDERS, const T* __restrict__ grad, T* __restrict__ dx                   \
    ) {                                                                                           \
        const Axes axes{channels, in_h,     in_w,     out_h,     out_w,                           \
                        rows_win, cols_win, rows_hold, cols_hold};                                \
        if (IN_PACKS(T, grad, dx)) {                                                              \
            avg_pool_gradient<FULL<T>>(n, axes, grad, dx);                                        \
        } else {                                                                                  \
            avg_pool_gradient<1>(n, axes, grad, dx);                                              \
        }                                                                                         \
    }

FOR_EACH_TYPE(KERNELS)
