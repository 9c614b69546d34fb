// One step of an optimizer for up to 48 tensors in one launch, as in
// `crates/kernels/src/optimizer_step.rs`.
//
// The grid is (blocks, tensors). Blocks step over the elements of their tensor. A network has
// hundreds of small parameters, and one launch for each would take longer than all the arithmetic.

#include <math.h>

#include "packs.cuh"

constexpr int TENSORS = 48;

// The values that differ between tensors. For SGD, `a` is the share of the gradient that enters the
// momentum buffer, and `b` is unused. For Adam, `a` is the step size (the learning rate divided by
// the correction of the first moment), and `b` is the factor that corrects the root of the second
// moment.
struct Tensors {
    float* parameter[TENSORS];
    const float* grad[TENSORS];
    float* first[TENSORS];
    float* second[TENSORS];
    unsigned long long size[TENSORS];
    float lr[TENSORS];
    float weight_decay[TENSORS];
    float a[TENSORS];
    float b[TENSORS];
    // The four lists above, one after the other, if they are in device memory: a captured launch has new ones each time.
    const float* numbers;
};
static_assert(sizeof(Tensors) <= 4000, "a kernel's parameters have room in 4 KiB");

// One of the tensors. A state that the optimizer does not keep is null.
struct Tensor {
    float* parameter;
    const float* grad;
    float *first, *second;
    size_t size;
    float lr, weight_decay, a, b;
};

// Of the list, which stays where it is: one that is indexed as a function's argument would be copied to local memory.
#define NUMBER_OF_BLOCK(t, place, list) \
    (t.numbers != nullptr ? t.numbers[place * TENSORS + blockIdx.y] : t.list[blockIdx.y])
#define TENSOR_OF_BLOCK(t)                                                                      \
    Tensor {                                                                                    \
        t.parameter[blockIdx.y], t.grad[blockIdx.y], t.first[blockIdx.y], t.second[blockIdx.y], \
            t.size[blockIdx.y], NUMBER_OF_BLOCK(t, 0, lr),                                      \
            NUMBER_OF_BLOCK(t, 1, weight_decay), NUMBER_OF_BLOCK(t, 2, a),                      \
            NUMBER_OF_BLOCK(t, 3, b)                                                            \
    }

// Replaces each parameter and its state by the results of `update(parameter, grad, first, second)`.
// Returns whether all parameters that this thread wrote are finite.
template <int N, typename Update> __device__ bool update_in_packs(const Tensor& t, Update update) {
    bool finite = true;
    for (size_t i = thread_index(); i < t.size / N; i += thread_count()) {
        Pack<float, N> parameter = load<N>(t.parameter, i), first{}, second{};
        const Pack<float, N> grad = load<N>(t.grad, i);
        if (t.first != nullptr) first = load<N>(t.first, i);
        if (t.second != nullptr) second = load<N>(t.second, i);
#pragma unroll
        for (int k = 0; k < N; k++) {
            update(parameter.at[k], grad.at[k], first.at[k], second.at[k]);
            finite = finite && fabsf(parameter.at[k]) < INFINITY;
        }
        store(t.parameter, i, parameter);
        if (t.first != nullptr) store(t.first, i, first);
        if (t.second != nullptr) store(t.second, i, second);
    }
    return finite;
}

template <typename Update>
__device__ void update_all(const Tensor& t, int* not_finite, Update update) {
    constexpr int N = FULL<float>;
    const bool in_packs = t.size % N == 0 && aligned(t.parameter, t.grad, t.first, t.second);
    const bool finite = in_packs ? update_in_packs<N>(t, update) : update_in_packs<1>(t, update);
    if (!finite) atomicOr(not_finite + blockIdx.y, 1);
}

extern "C" __global__ void __launch_bounds__(1024) cv_sgd_f32(
    Tensors tensors, float momentum, int nesterov, float grad_scale, int* not_finite
) {
    const Tensor t = TENSOR_OF_BLOCK(tensors);
    const bool has_momentum = t.first != nullptr;
    update_all(t, not_finite, [=](float& p, float grad, float& buffer, float&) {
        const float g = grad * grad_scale + t.weight_decay * p;
        float direction = g;
        if (has_momentum) {
            buffer = momentum * buffer + t.a * g;
            direction = nesterov != 0 ? g + momentum * buffer : buffer;
        }
        p -= t.lr * direction;
    });
}

extern "C" __global__ void __launch_bounds__(1024) cv_adam_f32(
    Tensors tensors, double beta1_exact, double beta2_exact, float eps, int decoupled,
    float grad_scale, int* not_finite
) {
    const Tensor t = TENSOR_OF_BLOCK(tensors);
    // One minus a float near one would lose most of its digits.
    const float beta1 = beta1_exact, gain1 = 1.0 - beta1_exact;
    const float beta2 = beta2_exact, gain2 = 1.0 - beta2_exact;
    const float shrink = decoupled != 0 ? 1.0f - t.lr * t.weight_decay : 1.0f;
    const float in_gradient = decoupled != 0 ? 0.0f : t.weight_decay;
    update_all(t, not_finite, [=](float& p, float grad, float& m, float& v) {
        const float g = grad * grad_scale + in_gradient * p;
        m = beta1 * m + gain1 * g;
        v = beta2 * v + gain2 * g * g;
        const float scale = sqrtf(v) * t.b + eps;
        p = p * shrink - t.a * m / scale;
    });
}
