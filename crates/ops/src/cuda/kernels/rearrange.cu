// Moves, repeats, drops or adds up elements, and multiplies with broadcasting. See
// `cuda/rearrange.rs` for the tables.

#include "packs.cuh"

constexpr int MOST_AXES = 8;

enum Kind { SHIFTED, REPEATED, SUM, LISTED };

// The five numbers of an axis.
struct AxisPlaces {
    int outputs, inputs, stride, kind, parameter;
};

// The input positions of one output position: `count` positions starting at `first`, or those of a
// list.
struct Places {
    const int* list;
    int first, count;

    __device__ int at(int i) const { return list == nullptr ? first + i : list[i]; }
};

__device__ inline Places places(const AxisPlaces& axis, const int* table, int output) {
    switch (axis.kind) {
    case SHIFTED: {
        const int place = output + axis.parameter;
        return {nullptr, place, place >= 0 && place < axis.inputs ? 1 : 0};
    }
    case REPEATED: return {nullptr, 0, 1};
    case SUM: return {nullptr, 0, axis.inputs};
    default: {
        const int* starts = table + axis.parameter;
        const int begin = starts[output];
        return {table + begin, 0, starts[output + 1] - begin};
    }
    }
}

template <typename T>
__device__ void rearrange(size_t n, int axes, const int* table, const T* x, float fill, T* y) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        Places lists[MOST_AXES];
        int strides[MOST_AXES], at[MOST_AXES];
        size_t rest = i;
        bool is_empty = false;
        for (int a = axes - 1; a >= 0; a--) {
            const int* row = table + 5 * a;
            const AxisPlaces axis{row[0], row[1], row[2], row[3], row[4]};
            lists[a] = places(axis, table, int(rest % axis.outputs));
            strides[a] = axis.stride;
            at[a] = 0;
            rest /= axis.outputs;
            is_empty = is_empty || lists[a].count == 0;
        }
        if (is_empty) {
            y[i] = narrow<T>(fill);
            continue;
        }
        float sum = 0.0f;
        bool is_left = true;
        while (is_left) {
            size_t place = 0;
            for (int a = 0; a < axes; a++) place += size_t(lists[a].at(at[a])) * strides[a];
            sum += widen(x[place]);
            is_left = false;
            for (int a = axes - 1; a >= 0 && !is_left; a--) {
                at[a]++;
                is_left = at[a] < lists[a].count;
                if (!is_left) at[a] = 0;
            }
        }
        y[i] = narrow<T>(sum);
    }
}

template <typename T>
__device__ void mul(size_t n, int axes, const int* table, const T* a, const T* b, T* y) {
    const int *dims = table, *of_a = table + axes, *of_b = table + 2 * axes;
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        size_t rest = i, at_a = 0, at_b = 0;
        for (int axis = axes - 1; axis >= 0; axis--) {
            const size_t position = rest % dims[axis];
            at_a += position * of_a[axis];
            at_b += position * of_b[axis];
            rest /= dims[axis];
        }
        y[i] = narrow<T>(widen(a[at_a]) * widen(b[at_b]));
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_rearrange_##TYPE(                       \
        size_t n, int axes, const int* __restrict__ table, const T* __restrict__ x, float fill,   \
        T* __restrict__ y                                                                         \
    ) {                                                                                           \
        rearrange(n, axes, table, x, fill, y);                                                    \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_mul_##TYPE(                             \
        size_t n, int axes, const int* __restrict__ table, const T* __restrict__ a,               \
        const T* __restrict__ b, T* __restrict__ y                                                \
    ) {                                                                                           \
        mul(n, axes, table, a, b, y);                                                             \
    }

FOR_EACH_TYPE(KERNELS)
