// One step of an optimizer for up to 48 tensors in one launch, as in
// `crates/kernels/src/optimizer_step.rs`.
//
// The grid is (blocks, tensors). Blocks step over the elements of their tensor. A network has
// hundreds of small parameters, and one launch for each would take longer than all the arithmetic.

#include <math.h>

#include "block.cuh"
#include "packs.cuh"

constexpr int TENSORS = 48;

// What all gradients are multiplied by, as the device has computed it from the gradients.
struct GradScale {
    // Of all their elements.
    double sum_of_squares;
    // Of the gradients of the loss itself, if it was scaled.
    double norm;
    double factor;
    // 0 if the gradients must not be used.
    double applies;
};

// The values that differ between tensors. For SGD, `a` is the share of the gradient that enters the
// momentum buffer, and `b` is unused. For Adam, `a` is the step size (the learning rate divided by
// the correction of the first moment), and `b` is the factor that corrects the root of the second
// moment.
struct Tensors {
    float* parameter[TENSORS];
    const float* grad[TENSORS];
    float* first[TENSORS];
    float* second[TENSORS];
    float* third[TENSORS];
    unsigned long long size[TENSORS];
    // How the gradient of a kernel `[out, in, height, width]` lies in memory if it lies channels-last: `in`, and height
    // times width. Otherwise 0: as the parameter lies.
    unsigned in[TENSORS];
    unsigned taps[TENSORS];
    float lr[TENSORS];
    float weight_decay[TENSORS];
    float a[TENSORS];
    float b[TENSORS];
    // The last four lists above, one after the other, if they are in device memory: a captured launch has new ones each time.
    const float* numbers;
};
static_assert(sizeof(Tensors) <= 4000, "a kernel's parameters have room in 4 KiB");

// One of the tensors. A state that the optimizer does not keep is null.
struct Tensor {
    float* parameter;
    const float* grad;
    float *first, *second, *third;
    size_t size;
    unsigned in, taps;
    float lr, weight_decay, a, b;

    // The gradients of `N` parameters from the parameter `N * i` on.
    template <int N> __device__ Pack<float, N> gradient(size_t i) const {
        if (taps == 0) return load<N>(grad, i);
        Pack<float, N> pack;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const unsigned place = unsigned(i) * N + k, of_out = in * taps;
            const unsigned out = place / of_out, channel = place % of_out / taps;
            pack.at[k] = grad[(out * taps + place % taps) * in + channel];
        }
        return pack;
    }
};

// Of the list, which stays where it is: one that is indexed as a function's argument would be copied to local memory.
#define NUMBER_OF_BLOCK(t, place, list) \
    (t.numbers != nullptr ? t.numbers[place * TENSORS + blockIdx.y] : t.list[blockIdx.y])
#define TENSOR_OF_BLOCK(t)                                                                      \
    Tensor {                                                                                    \
        t.parameter[blockIdx.y], t.grad[blockIdx.y], t.first[blockIdx.y], t.second[blockIdx.y], \
            t.third[blockIdx.y], t.size[blockIdx.y], t.in[blockIdx.y], t.taps[blockIdx.y],      \
            NUMBER_OF_BLOCK(t, 0, lr), NUMBER_OF_BLOCK(t, 1, weight_decay),                     \
            NUMBER_OF_BLOCK(t, 2, a), NUMBER_OF_BLOCK(t, 3, b)                                  \
    }

// Replaces each parameter and its state by the results of `update(parameter, grad, first, second, third)`.
// Returns whether all parameters that this thread wrote are finite.
template <int N, typename Update> __device__ bool update_in_packs(const Tensor& t, Update update) {
    bool finite = true;
    for (size_t i = thread_index(); i < t.size / N; i += thread_count()) {
        Pack<float, N> parameter = load<N>(t.parameter, i), first{}, second{}, third{};
        const Pack<float, N> grad = t.gradient<N>(i);
        if (t.first != nullptr) first = load<N>(t.first, i);
        if (t.second != nullptr) second = load<N>(t.second, i);
        if (t.third != nullptr) third = load<N>(t.third, i);
#pragma unroll
        for (int k = 0; k < N; k++) {
            update(parameter.at[k], grad.at[k], first.at[k], second.at[k], third.at[k]);
            finite = finite && fabsf(parameter.at[k]) < INFINITY;
        }
        store(t.parameter, i, parameter);
        if (t.first != nullptr) store(t.first, i, first);
        if (t.second != nullptr) store(t.second, i, second);
        if (t.third != nullptr) store(t.third, i, third);
    }
    return finite;
}

// Multiplies the factor of the gradients by the scale. False if no step is to be taken.
__device__ inline bool read_scale(const GradScale* scale, float& factor) {
    if (scale == nullptr) return true;
    if (scale->applies == 0.0) return false;
    factor = float(double(factor) * scale->factor);
    return true;
}

template <typename Update>
__device__ void update_all(const Tensor& t, int* not_finite, Update update) {
    constexpr int N = FULL<float>;
    const bool in_packs = t.size % N == 0 && aligned(t.parameter, t.grad, t.first, t.second, t.third);
    const bool finite = in_packs ? update_in_packs<N>(t, update) : update_in_packs<1>(t, update);
    if (!finite) atomicOr(not_finite + blockIdx.y, 1);
}

extern "C" __global__ void __launch_bounds__(1024) cv_sgd_f32(
    Tensors tensors, float momentum, int nesterov, float grad_scale, const GradScale* scale,
    int* not_finite
) {
    if (!read_scale(scale, grad_scale)) return;
    const Tensor t = TENSOR_OF_BLOCK(tensors);
    const bool has_momentum = t.first != nullptr;
    update_all(t, not_finite, [=](float& p, float grad, float& buffer, float&, float&) {
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
    float grad_scale, const GradScale* scale, int* not_finite
) {
    if (!read_scale(scale, grad_scale)) return;
    const Tensor t = TENSOR_OF_BLOCK(tensors);
    // One minus a float near one would lose most of its digits.
    const float beta1 = beta1_exact, gain1 = 1.0 - beta1_exact;
    const float beta2 = beta2_exact, gain2 = 1.0 - beta2_exact;
    const float shrink = decoupled != 0 ? 1.0f - t.lr * t.weight_decay : 1.0f;
    const float in_gradient = decoupled != 0 ? 0.0f : t.weight_decay;
    update_all(t, not_finite, [=](float& p, float grad, float& m, float& v, float&) {
        const float g = grad * grad_scale + in_gradient * p;
        m = beta1 * m + gain1 * g;
        v = beta2 * v + gain2 * g * g;
        const float scale = sqrtf(v) * t.b + eps;
        p = p * shrink - t.a * m / scale;
    });
}

// The first state is the mean of the squares, the second that of the gradients, the third the momentum.
extern "C" __global__ void __launch_bounds__(1024) cv_rms_prop_f32(
    Tensors tensors, double alpha_exact, float eps, float momentum, float grad_scale,
    const GradScale* scale, int* not_finite
) {
    if (!read_scale(scale, grad_scale)) return;
    const Tensor t = TENSOR_OF_BLOCK(tensors);
    // One minus a float near one would lose most of its digits.
    const float alpha = alpha_exact, gain = 1.0 - alpha_exact;
    const bool is_centered = t.second != nullptr, has_momentum = t.third != nullptr;
    update_all(t, not_finite, [=](float& p, float grad, float& v, float& mean, float& buffer) {
        const float g = grad * grad_scale + t.weight_decay * p;
        v = alpha * v + gain * (g * g);
        float variance = v;
        if (is_centered) {
            mean = alpha * mean + gain * g;
            variance -= mean * mean;
        }
        float direction = g / (sqrtf(variance) + eps);
        if (has_momentum) {
            buffer = momentum * buffer + direction;
            direction = buffer;
        }
        p -= t.lr * direction;
    });
}

// `y[i] = x[i] / max(norm / divisor, least)`, where the squares of the elements of `x` add up to the sum of `partial`. Every
// block adds them up in the same order.
extern "C" __global__ void __launch_bounds__(1024) cv_over_norm_f32(
    size_t n, const float* x, unsigned sums, const double* __restrict__ partial, double divisor,
    double least, float* y
) {
    __shared__ float shared;
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < sums; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) shared = float(1.0 / fmax(sqrt(sum) / divisor, least));
    __syncthreads();
    const float factor = shared;
    for (size_t i = thread_index(); i < n; i += thread_count()) y[i] = x[i] * factor;
}

// In any order: only their squares are summed.
struct Gradients {
    const float* grad[TENSORS];
    unsigned long long size[TENSORS];
};

template <int N> __device__ double squares(size_t n, const float* x) {
    double sum = 0.0;
    for (size_t i = thread_index(); i < n / N; i += thread_count()) {
        const Pack<float, N> pack = load<N>(x, i);
#pragma unroll
        for (int k = 0; k < N; k++) sum += double(pack.at[k]) * double(pack.at[k]);
    }
    return sum;
}

// The sum of squares for each block of each tensor.
extern "C" __global__ void __launch_bounds__(1024)
cv_squares_f32(Gradients gradients, double* __restrict__ partial) {
    const float* grad = gradients.grad[blockIdx.y];
    const size_t n = gradients.size[blockIdx.y];
    const bool in_packs = n % FULL<float> == 0 && aligned(grad);
    const double sum = block_sum(in_packs ? squares<FULL<float>>(n, grad) : squares<1>(n, grad));
    if (threadIdx.x == 0) partial[size_t(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

// The factor that scales gradients down to the norm `largest`, as PyTorch's `clip_grad_norm_` has it. If the loss was
// scaled, the factor makes up for that too, and gradients that are not finite are not to be used. One block.
extern "C" __global__ void __launch_bounds__(1024) cv_grad_scale_f32(
    unsigned sums, const double* __restrict__ partial, double largest,
    const float* __restrict__ loss_scale, GradScale* __restrict__ scale
) {
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < sums; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    const double of_loss = loss_scale != nullptr ? double(*loss_scale) : 1.0;
    const double norm = sqrt(sum) / of_loss;
    // A NaN is no reason to clip.
    const double clipping = fmin(largest / (norm + 1e-6), 1.0);
    const bool applies = loss_scale == nullptr || norm < INFINITY;
    *scale = {sum, norm, clipping / of_loss, applies ? 1.0 : 0.0};
}

// `y[i] = x[i] * factor` of the scale, whether it applies or not.
extern "C" __global__ void __launch_bounds__(1024)
cv_times_scale_f32(size_t n, const float* x, const GradScale* __restrict__ scale, float* y) {
    const float factor = float(scale->factor);
    for (size_t i = thread_index(); i < n; i += thread_count()) y[i] = x[i] * factor;
}

// The same scale for gradients that were multiplied by its factor. One thread.
extern "C" __global__ void __launch_bounds__(1024)
cv_without_factor_f32(const GradScale* __restrict__ scale, GradScale* __restrict__ left) {
    *left = {scale->sum_of_squares, scale->norm, 1.0, scale->applies};
}

// Copies `n` values if the gradients may be used.
extern "C" __global__ void __launch_bounds__(1024)
cv_set_if_used_f32(size_t n, const float* from, const GradScale* __restrict__ scale, float* to) {
    if (scale->applies == 0.0) return;
    for (size_t i = thread_index(); i < n; i += thread_count()) to[i] = from[i];
}

// For each tensor of the list: adds its gradient to the sum (`parameter`) of those before, which is multiplied by `kept`.
// With 0 there are none before. The two are rounded one by one, as if they were two operations.
extern "C" __global__ void __launch_bounds__(1024)
cv_accumulate_f32(Tensors tensors, const float* __restrict__ kept) {
    const Tensor t = TENSOR_OF_BLOCK(tensors);
    const float of_sum = *kept;
    const auto add = [=](float& sum, float grad, float&, float&, float&) {
        if (of_sum == 0.0f) {
            sum = grad;
        } else {
            const float before = of_sum == 1.0f ? sum : __fmul_rn(sum, of_sum) + 0.0f;
            sum = __fadd_rn(before, grad);
        }
    };
    constexpr int N = FULL<float>;
    const bool in_packs = t.size % N == 0 && aligned(t.parameter, t.grad);
    in_packs ? update_in_packs<N>(t, add) : update_in_packs<1>(t, add);
}
