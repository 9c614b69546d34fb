// The patches of a convolution as rows of a matrix (im2col), and the reverse. This computes
// convolutions as matrix products on machines without cuDNN.
//
// Any one-dimensional launch along x will do.

#include "packs.cuh"
#include "place.cuh"

struct ConvShape {
    int batch, in_h, in_w, in_c, out_h, out_w, out_c, k_h, k_w, stride_h, stride_w, pad_h, pad_w,
        dil_h, dil_w, groups;
};

// Writes `[images * out_h * out_w, k_h * k_w * in_c / groups]`. There is one row per position of
// the output. A row holds kernel rows, kernel columns and channels of the group, in that order.
template <int N, typename T>
__device__ void im2col(
    const ConvShape& s, int first_image, int images, int group, const T* x, T* columns
) {
    const unsigned depth = s.in_c / s.groups / N, packs = depth * s.k_h * s.k_w;
    const size_t total = size_t(images) * s.out_h * s.out_w * packs;
    for (size_t i = thread_index(); i < total; i += thread_count()) {
        const Place place = place_of(i, s.out_h, s.out_w, packs);
        const unsigned tap = place.pack / depth;
        const int row = int(place.row) * s.stride_h - s.pad_h + int(tap / s.k_w) * s.dil_h;
        const int column = int(place.column) * s.stride_w - s.pad_w + int(tap % s.k_w) * s.dil_w;
        Pack<T, N> pack;
        if (row >= 0 && row < s.in_h && column >= 0 && column < s.in_w) {
            const size_t pixel = ((first_image + place.image) * s.in_h + row) * s.in_w + column;
            pack = load<N>(x, (pixel * s.groups + group) * depth + place.pack % depth);
        } else {
#pragma unroll
            for (int k = 0; k < N; k++) pack.at[k] = narrow<T>(0.0f);
        }
        store(columns, i, pack);
    }
}

// The output position that reads input `position` through tap `tap` of one axis, or -1.
__device__ inline int seen_by(int position, int tap, int stride, int pad, int dilation, int out) {
    const int start = position + pad - tap * dilation;
    if (start < 0 || start % stride != 0 || start / stride >= out) return -1;
    return start / stride;
}

// For every input of the group and of the images, the sum of the columns that hold it.
template <int N, typename T>
__device__ void col2im(
    const ConvShape& s, int first_image, int images, int group, const T* columns, T* dx
) {
    const unsigned depth = s.in_c / s.groups / N;
    const size_t total = size_t(images) * s.in_h * s.in_w * depth;
    for (size_t i = thread_index(); i < total; i += thread_count()) {
        const Place place = place_of(i, s.in_h, s.in_w, depth);
        float sums[N] = {};
        for (int a = 0; a < s.k_h; a++) {
            const int row = seen_by(place.row, a, s.stride_h, s.pad_h, s.dil_h, s.out_h);
            if (row < 0) continue;
            for (int b = 0; b < s.k_w; b++) {
                const int column = seen_by(place.column, b, s.stride_w, s.pad_w, s.dil_w, s.out_w);
                if (column < 0) continue;
                const size_t position = (place.image * s.out_h + row) * s.out_w + column;
                const size_t tap = (position * s.k_h + a) * s.k_w + b;
                const Pack<T, N> pack = load<N>(columns, tap * depth + place.pack);
#pragma unroll
                for (int k = 0; k < N; k++) sums[k] += widen(pack.at[k]);
            }
        }
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; k++) pack.at[k] = narrow<T>(sums[k]);
        const size_t line = (first_image + place.image) * s.in_h + place.row;
        const size_t pixel = line * s.in_w + place.column;
        store(dx, (pixel * s.groups + group) * depth + place.pack, pack);
    }
}

template <typename T> __device__ bool in_packs(const ConvShape& s, const T* x, const T* columns) {
    return s.in_c / s.groups % FULL<T> == 0 && aligned(x, columns);
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void UNCROWDED(1024) cv_im2col_##TYPE(                                  \
        ConvShape s, int first_image, int images, int group, const T* __restrict__ x,             \
        T* __restrict__ columns                                                                   \
    ) {                                                                                           \
        if (in_packs(s, x, columns)) {                                                            \
            im2col<FULL<T>>(s, first_image, images, group, x, columns);                           \
        } else {                                                                                  \
            im2col<1>(s, first_image, images, group, x, columns);                                 \
        }                                                                                         \
    }                                                                                             \
    extern "C" __global__ void UNCROWDED(1024) cv_col2im_##TYPE(                                  \
        ConvShape s, int first_image, int images, int group, const T* __restrict__ columns,       \
        T* __restrict__ dx                                                                        \
    ) {                                                                                           \
        if (in_packs(s, dx, columns)) {                                                           \
            col2im<FULL<T>>(s, first_image, images, group, columns, dx);                          \
        } else {                                                                                  \
            col2im<1>(s, first_image, images, group, columns, dx);                                \
        }                                                                                         \
    }

FOR_EACH_TYPE(KERNELS)
