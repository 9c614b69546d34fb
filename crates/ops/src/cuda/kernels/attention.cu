// What attention needs besides matrix products: heads brought together in memory, and the softmax
// of scores with a bias and a mask. See `cuda/attention.rs`.

#include <math.h>

#include "block.cuh"
#include "packs.cuh"

struct Heads {
    unsigned tokens, parts, heads, dim;
};

// Brings part `part` of `[batch, tokens, parts, heads, dim]` to `[batch, heads, tokens, dim]`, or
// the other way round if `back`, and multiplies it by `scale`. `n` is the number of elements of a
// part.
template <typename T>
__device__ void move_heads(
    size_t n, Heads of, unsigned part, bool back, float scale, const T* x, T* y
) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        size_t rest = i;
        const unsigned d = rest % of.dim;
        rest /= of.dim;
        const unsigned token = rest % of.tokens;
        rest /= of.tokens;
        const unsigned head = rest % of.heads;
        const size_t image = rest / of.heads;
        const size_t row = (image * of.tokens + token) * of.parts + part;
        const size_t among_others = (row * of.heads + head) * of.dim + d;
        const size_t from = back ? i : among_others, to = back ? among_others : i;
        y[to] = narrow<T>(widen(x[from]) * scale);
    }
}

// The softmax of every row of `scores`, `[batch, heads, tokens, tokens]`, in place. `bias` is
// `[heads, tokens, tokens]` or null, `mask` is `[windows, tokens, tokens]` or null. One block
// processes a row and then steps over further rows.
template <typename T>
__device__ void attention_softmax(
    size_t rows, unsigned tokens, unsigned heads, unsigned windows, const T* bias, const T* mask,
    T* scores
) {
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const size_t token = row % tokens, head = row / tokens % heads;
        const size_t window = row / tokens / heads % windows;
        T* of_row = scores + row * tokens;
        const T* of_bias = bias == nullptr ? nullptr : bias + (head * tokens + token) * tokens;
        const T* of_mask = mask == nullptr ? nullptr : mask + (window * tokens + token) * tokens;
        const auto score = [=](unsigned i) {
            float sum = widen(of_row[i]);
            if (of_bias != nullptr) sum += widen(of_bias[i]);
            if (of_mask != nullptr) sum += widen(of_mask[i]);
            return sum;
        };
        float largest = -INFINITY;
        for (unsigned i = threadIdx.x; i < tokens; i += blockDim.x) {
            largest = fmaxf(largest, score(i));
        }
        largest = block_max(largest);
        // A query that sees no key gets zeros instead of NaN.
        if (largest == -INFINITY) largest = 0.0f;
        float sum = 0.0f;
        for (unsigned i = threadIdx.x; i < tokens; i += blockDim.x) {
            sum += expf(score(i) - largest);
        }
        sum = block_sum(sum);
        const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
        // Each thread replaces the scores that it alone reads.
        for (unsigned i = threadIdx.x; i < tokens; i += blockDim.x) {
            of_row[i] = narrow<T>(expf(score(i) - largest) * factor);
        }
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(1024) cv_move_heads_##TYPE(                      \
        size_t n, unsigned tokens, unsigned parts, unsigned heads, unsigned dim, unsigned part,   \
        int back, float scale, const T* __restrict__ x, T* __restrict__ y                         \
    ) {                                                                                           \
        move_heads(n, Heads{tokens, parts, heads, dim}, part, back != 0, scale, x, y);            \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(1024) cv_attention_softmax_##TYPE(               \
        size_t rows, unsigned tokens, unsigned heads, unsigned windows, const T* bias,            \
        const T* mask, T* scores                                                                  \
    ) {                                                                                           \
        attention_softmax(rows, tokens, heads, windows, bias, mask, scores);                      \
    }

FOR_EACH_TYPE(KERNELS)
