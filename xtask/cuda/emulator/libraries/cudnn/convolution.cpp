// libcudnn: algorithms and convolutions. All algorithms compute the same; they differ in what cuDNN
// says of them, so that a program's choice among them can be tested.

#include <cstring>

#include "../../driver/memory.h"
#include "../../driver/streams.h"
#include "loops.h"

using namespace emulated;

namespace {

// One of a direction's algorithms.
struct Algorithm {
    int number;
    bool deterministic;
    size_t workspace;
    bool channels_last;   // whether it takes NHWC
    bool tensor_cores;    // what it computes half precision with
    double milliseconds;  // of the emulated device's time
};
constexpr size_t TOO_MUCH = size_t(4) << 30;
// In the order of preference, which is not that of speed: the fastest want too much memory, or may
// differ from run to run, or take another layout; then comes one that is listed late.
constexpr Algorithm FORWARD[] = {{6, true, TOO_MUCH, true, true, 500},
                                 {1, true, 4096, true, true, 2000},
                                 {0, true, 0, true, false, 1000},
                                 {7, true, 1 << 20, false, true, 500}};
constexpr Algorithm INPUT_GRADIENT[] = {{0, false, 0, true, true, 500},
                                        {1, true, 8192, true, true, 2000},
                                        {4, true, 4096, true, false, 1000},
                                        {5, true, 1 << 20, false, true, 500}};
constexpr Algorithm FILTER_GRADIENT[] = {{0, false, 0, true, true, 500},
                                         {3, false, 4096, true, true, 500},
                                         {1, true, 12288, true, true, 2000},
                                         {4, true, 0, true, false, 1000},
                                         {5, true, 1 << 20, false, true, 500}};

// cudnnMathType_t
enum Math { DEFAULT = 0, TENSOR_OP = 1, ALLOW_CONVERSION = 2, FMA = 3 };

// cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t
struct Performance {
    int algorithm;
    cudnnStatus_t status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};

cudnnStatus_t check(const Convolution& convolution, cudnnHandle_t handle) {
    const auto& [x, filter, y, how] = convolution;
    if (!handle) return CUDNN_STATUS_NOT_INITIALIZED;
    if (!x.set || !filter.set || !y.set || !how.set) return CUDNN_STATUS_BAD_PARAM;
    if (x.type != filter.type || x.type != y.type) return CUDNN_STATUS_BAD_PARAM;
    if (x.format != filter.format || x.format != y.format) return CUDNN_STATUS_NOT_SUPPORTED;
    const auto size = [](int in, int pad, int kernel, int dilation, int stride) {
        const int span = in + 2 * pad - dilation * (kernel - 1) - 1;
        return span < 0 ? 0 : span / stride + 1;
    };
    const bool fits = x.n == y.n && x.c == filter.c * how.groups && y.c == filter.n &&
                      filter.n % how.groups == 0 &&
                      y.h == size(x.h, how.pad_h, filter.h, how.dilation_h, how.stride_h) &&
                      y.w == size(x.w, how.pad_w, filter.w, how.dilation_w, how.stride_w);
    return fits ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

bool takes(const Algorithm& algorithm, const Convolution& convolution) {
    return algorithm.channels_last || convolution.x.format == CUDNN_TENSOR_NCHW;
}

// The math type that an algorithm's performance record names. In half precision it is the algorithm's
// own, whatever the descriptor asks for.
int math_of(const Algorithm& algorithm, const Convolution& convolution) {
    if (convolution.x.type == Element::f32) return convolution.how.math;
    return algorithm.tensor_cores ? TENSOR_OP : FMA;
}

// Whether a query lists the algorithm: half precision on tensor cores has to be asked for.
bool listed(const Algorithm& algorithm, const Convolution& convolution) {
    if (convolution.x.type == Element::f32 || !algorithm.tensor_cores) return true;
    return convolution.how.math == TENSOR_OP || convolution.how.math == ALLOW_CONVERSION;
}

template <size_t N>
cudnnStatus_t list(const Algorithm (&algorithms)[N], const Convolution& convolution,
                   cudnnHandle_t handle, int most, int* count, Performance* out) {
    if (const cudnnStatus_t problem = check(convolution, handle)) return problem;
    *count = 0;
    for (const Algorithm& algorithm : algorithms)
        if (*count < most && listed(algorithm, convolution)) {
            const bool taken = takes(algorithm, convolution);
            out[(*count)++] = {algorithm.number,
                               taken ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED,
                               taken ? float(algorithm.milliseconds) : -1.0f,
                               algorithm.workspace,
                               algorithm.deterministic,
                               math_of(algorithm, convolution),
                               {}};
        }
    return CUDNN_STATUS_SUCCESS;
}

// The algorithm of that number, or null. A card computes a half-precision convolution whose descriptor
// has another math type than the algorithm's record all the same, up to a hundred times slower; here
// nothing takes it, so that a test notices.
template <size_t N>
const Algorithm* find(const Algorithm (&algorithms)[N], const Convolution& convolution,
                      int number) {
    for (const Algorithm& algorithm : algorithms)
        if (algorithm.number == number && takes(algorithm, convolution) &&
            convolution.how.math == math_of(algorithm, convolution))
            return &algorithm;
    return nullptr;
}

template <size_t N>
cudnnStatus_t workspace(const Algorithm (&algorithms)[N], const Convolution& convolution,
                        cudnnHandle_t handle, int number, size_t* bytes) {
    if (const cudnnStatus_t problem = check(convolution, handle)) return problem;
    const Algorithm* algorithm = find(algorithms, convolution, number);
    if (!algorithm) return CUDNN_STATUS_NOT_SUPPORTED;
    *bytes = algorithm->workspace;
    return CUDNN_STATUS_SUCCESS;
}

struct Arrays {
    const void *x, *filter, *y;
};

// Checks everything that a convolution is given, and lets the handle's stream compute it.
template <size_t N, typename Compute>
cudnnStatus_t start(const Algorithm (&algorithms)[N], const Convolution& convolution,
                    cudnnHandle_t handle, int number, void* space, size_t space_bytes,
                    const Arrays& arrays, Compute compute) {
    size_t needed = 0;
    if (const cudnnStatus_t problem = workspace(algorithms, convolution, handle, number, &needed))
        return problem;
    const double milliseconds = find(algorithms, convolution, number)->milliseconds;
    if (needed > space_bytes || (needed && !space)) return CUDNN_STATUS_BAD_PARAM;
    if (!arrays.x || !arrays.filter || !arrays.y) return CUDNN_STATUS_BAD_PARAM;
    emulated_compute(handle->stream, "cuDNN convolution", [=] {
        emulated_require_device(arrays.x, convolution.x.bytes(), "convolution, x");
        emulated_require_device(arrays.filter, convolution.filter.bytes(), "convolution, filter");
        emulated_require_device(arrays.y, convolution.y.bytes(), "convolution, y");
        if (needed) {
            emulated_require_device(space, needed, "convolution, workspace");
            std::memset(space, 0xFF, needed);  // as if it had been used
        }
        compute();
        emulated_take_time(milliseconds);
    });
    return CUDNN_STATUS_SUCCESS;
}

Convolution described(const Block* x, const Block* filter, const Block* y,
                      cudnnConvolutionDescriptor_t how) {
    Convolution convolution;
    if (x) convolution.x = *x;
    if (filter) convolution.filter = *filter;
    if (y) convolution.y = *y;
    if (how) convolution.how = *how;
    return convolution;
}

float factor(const void* pointer) { return *static_cast<const float*>(pointer); }

}  // namespace

API cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle,
                                                         cudnnTensorDescriptor_t x,
                                                         cudnnFilterDescriptor_t filter,
                                                         cudnnConvolutionDescriptor_t how,
                                                         cudnnTensorDescriptor_t y, int most,
                                                         int* count, Performance* out) {
    return list(FORWARD, described(x, filter, y, how), handle, most, count, out);
}

API cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t handle,
                                                              cudnnFilterDescriptor_t filter,
                                                              cudnnTensorDescriptor_t y,
                                                              cudnnConvolutionDescriptor_t how,
                                                              cudnnTensorDescriptor_t x, int most,
                                                              int* count, Performance* out) {
    return list(INPUT_GRADIENT, described(x, filter, y, how), handle, most, count, out);
}

API cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t y,
    cudnnConvolutionDescriptor_t how, cudnnFilterDescriptor_t filter, int most, int* count,
    Performance* out) {
    return list(FILTER_GRADIENT, described(x, filter, y, how), handle, most, count, out);
}

API cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t filter,
    cudnnConvolutionDescriptor_t how, cudnnTensorDescriptor_t y, int algorithm, size_t* bytes) {
    return workspace(FORWARD, described(x, filter, y, how), handle, algorithm, bytes);
}

API cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t handle, cudnnFilterDescriptor_t filter, cudnnTensorDescriptor_t y,
    cudnnConvolutionDescriptor_t how, cudnnTensorDescriptor_t x, int algorithm, size_t* bytes) {
    return workspace(INPUT_GRADIENT, described(x, filter, y, how), handle, algorithm, bytes);
}

API cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t handle,
                                                                 cudnnTensorDescriptor_t x,
                                                                 cudnnTensorDescriptor_t y,
                                                                 cudnnConvolutionDescriptor_t how,
                                                                 cudnnFilterDescriptor_t filter,
                                                                 int algorithm, size_t* bytes) {
    return workspace(FILTER_GRADIENT, described(x, filter, y, how), handle, algorithm, bytes);
}

API cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                          cudnnTensorDescriptor_t x_block, const void* x,
                                          cudnnFilterDescriptor_t filter_block, const void* filter,
                                          cudnnConvolutionDescriptor_t how, int algorithm,
                                          void* space, size_t space_bytes, const void* beta,
                                          cudnnTensorDescriptor_t y_block, void* y) {
    const Convolution all = described(x_block, filter_block, y_block, how);
    const auto compute = [=, a = factor(alpha), b = factor(beta)] {
        const auto result = forward(all, read_image(all.x, x), read_filter(all, filter, false));
        write_image(all.y, result, a, b, y);
    };
    return start(FORWARD, all, handle, algorithm, space, space_bytes, {x, filter, y}, compute);
}

// y = activation(alpha1 * convolution + alpha2 * z + bias). Not every convolution has this form: here those in groups
// have none, so that a program's other way is tested.
API cudnnStatus_t cudnnConvolutionBiasActivationForward(
    cudnnHandle_t handle, const void* alpha1, cudnnTensorDescriptor_t x_block, const void* x,
    cudnnFilterDescriptor_t filter_block, const void* filter, cudnnConvolutionDescriptor_t how,
    int algorithm, void* space, size_t space_bytes, const void* alpha2,
    cudnnTensorDescriptor_t z_block, const void* z, cudnnTensorDescriptor_t bias_block,
    const void* bias, cudnnActivationDescriptor_t activation, cudnnTensorDescriptor_t y_block,
    void* y) {
    const Convolution all = described(x_block, filter_block, y_block, how);
    if (const cudnnStatus_t problem = check(all, handle)) return problem;
    if (!z_block || !z_block->set || !bias_block || !bias_block->set || !activation ||
        !activation->set || !z || !bias)
        return CUDNN_STATUS_BAD_PARAM;
    const bool fits = z_block->bytes() == all.y.bytes() && z_block->format == all.y.format &&
                      bias_block->type == all.y.type && bias_block->n == 1 &&
                      bias_block->c == all.y.c && bias_block->h == 1 && bias_block->w == 1;
    if (!fits) return CUDNN_STATUS_BAD_PARAM;
    const bool has_relu = activation->mode == CUDNN_ACTIVATION_RELU;
    const bool is_plain = activation->mode == CUDNN_ACTIVATION_IDENTITY && algorithm == 1;
    if (all.how.groups != 1 || (!has_relu && !is_plain)) return CUDNN_STATUS_NOT_SUPPORTED;
    const auto compute = [=, of_y = factor(alpha1), of_z = factor(alpha2), z_all = *z_block,
                          bias_all = *bias_block] {
        auto result = forward(all, read_image(all.x, x), read_filter(all, filter, false));
        emulated_require_device(bias, bias_all.bytes(), "convolution, bias");
        const auto offsets = read_image(bias_all, bias);
        if (of_z != 0) emulated_require_device(z, z_all.bytes(), "convolution, z");
        const auto added = of_z != 0 ? read_image(z_all, z) : Floats(result.size(), 0.0f);
        for (size_t i = 0; i < result.size(); i++) {
            const float sum = of_y * result[i] + of_z * added[i] + offsets[i % all.y.c];
            result[i] = has_relu && sum < 0 ? 0 : sum;
        }
        write_image(all.y, result, 1, 0, y);
    };
    return start(FORWARD, all, handle, algorithm, space, space_bytes, {x, filter, y}, compute);
}

API cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                               cudnnFilterDescriptor_t filter_block,
                                               const void* filter, cudnnTensorDescriptor_t y_block,
                                               const void* dy, cudnnConvolutionDescriptor_t how,
                                               int algorithm, void* space, size_t space_bytes,
                                               const void* beta, cudnnTensorDescriptor_t x_block,
                                               void* dx) {
    const Convolution all = described(x_block, filter_block, y_block, how);
    const auto compute = [=, a = factor(alpha), b = factor(beta)] {
        const auto result =
            input_gradient(all, read_filter(all, filter, true), read_image(all.y, dy));
        write_image(all.x, result, a, b, dx);
    };
    return start(INPUT_GRADIENT, all, handle, algorithm, space, space_bytes, {dx, filter, dy},
                 compute);
}

API cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                                 cudnnTensorDescriptor_t x_block, const void* x,
                                                 cudnnTensorDescriptor_t y_block, const void* dy,
                                                 cudnnConvolutionDescriptor_t how, int algorithm,
                                                 void* space, size_t space_bytes, const void* beta,
                                                 cudnnFilterDescriptor_t filter_block, void* dw) {
    const Convolution all = described(x_block, filter_block, y_block, how);
    const auto compute = [=, a = factor(alpha), b = factor(beta)] {
        const auto result = filter_gradient(all, read_image(all.x, x), read_image(all.y, dy));
        write_filter(all, result, a, b, dw);
    };
    return start(FILTER_GRADIENT, all, handle, algorithm, space, space_bytes, {x, dw, dy}, compute);
}
