// libcudnn: algorithms and convolutions. All algorithms compute the same; they differ in what cuDNN
// says of them, so that a program's choice among them can be tested.

#include <cstring>

#include "../../driver/memory.h"
#include "loops.h"

using emulated::Convolution;

namespace {

struct Algorithm {
    int number;
    bool deterministic;
    size_t workspace;
    bool channels_last;  // whether it takes NHWC
};
// In the order of preference. The first gradients are the ones that may differ from run to run.
constexpr Algorithm FORWARD[] = {
    {1, true, 4096, true}, {0, true, 0, true}, {7, true, 1 << 20, false}};
constexpr Algorithm INPUT_GRADIENT[] = {
    {0, false, 0, true}, {1, true, 8192, true}, {5, true, 1 << 20, false}};
constexpr Algorithm FILTER_GRADIENT[] = {
    {0, false, 0, true}, {3, false, 4096, true}, {1, true, 12288, true}, {5, true, 1 << 20, false}};

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

template <size_t N>
cudnnStatus_t list(const Algorithm (&algorithms)[N], const Convolution& convolution,
                   cudnnHandle_t handle, int most, int* count, Performance* out) {
    if (const cudnnStatus_t problem = check(convolution, handle)) return problem;
    *count = 0;
    for (const Algorithm& algorithm : algorithms)
        if (*count < most) {
            const bool taken = takes(algorithm, convolution);
            out[(*count)++] = {algorithm.number,
                               taken ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED,
                               taken ? 1.0f : -1.0f,
                               algorithm.workspace,
                               algorithm.deterministic,
                               convolution.how.math,
                               {}};
        }
    return CUDNN_STATUS_SUCCESS;
}

template <size_t N>
cudnnStatus_t workspace(const Algorithm (&algorithms)[N], const Convolution& convolution,
                        cudnnHandle_t handle, int number, size_t* bytes) {
    if (const cudnnStatus_t problem = check(convolution, handle)) return problem;
    for (const Algorithm& algorithm : algorithms)
        if (algorithm.number == number && takes(algorithm, convolution)) {
            *bytes = algorithm.workspace;
            return CUDNN_STATUS_SUCCESS;
        }
    return CUDNN_STATUS_NOT_SUPPORTED;
}

// Checks everything that a convolution is given, and leaves NaN in the workspace as if it were
// used.
template <size_t N>
cudnnStatus_t prepare(const Algorithm (&algorithms)[N], const Convolution& convolution,
                      cudnnHandle_t handle, int number, void* space, size_t space_bytes,
                      const void* x, const void* filter, const void* y) {
    size_t needed = 0;
    if (const cudnnStatus_t problem = workspace(algorithms, convolution, handle, number, &needed))
        return problem;
    if (needed > space_bytes) return CUDNN_STATUS_BAD_PARAM;
    if (!x || !filter || !y || (needed && !space)) return CUDNN_STATUS_BAD_PARAM;
    emulated_require_device(x, convolution.x.bytes(), "convolution, x");
    emulated_require_device(filter, convolution.filter.bytes(), "convolution, filter");
    emulated_require_device(y, convolution.y.bytes(), "convolution, y");
    if (needed) {
        emulated_require_device(space, needed, "convolution, workspace");
        std::memset(space, 0xFF, needed);
    }
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
    using namespace emulated;
    const Convolution convolution = described(x_block, filter_block, y_block, how);
    if (const auto problem =
            prepare(FORWARD, convolution, handle, algorithm, space, space_bytes, x, filter, y))
        return problem;
    const Floats result =
        forward(convolution, read_image(convolution.x, x), read_filter(convolution, filter, false));
    write_image(convolution.y, result, factor(alpha), factor(beta), y);
    return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                               cudnnFilterDescriptor_t filter_block,
                                               const void* filter, cudnnTensorDescriptor_t y_block,
                                               const void* y_gradient,
                                               cudnnConvolutionDescriptor_t how, int algorithm,
                                               void* space, size_t space_bytes, const void* beta,
                                               cudnnTensorDescriptor_t x_block, void* x_gradient) {
    using namespace emulated;
    const Convolution convolution = described(x_block, filter_block, y_block, how);
    if (const auto problem = prepare(INPUT_GRADIENT, convolution, handle, algorithm, space,
                                     space_bytes, x_gradient, filter, y_gradient))
        return problem;
    const Floats result = input_gradient(convolution, read_filter(convolution, filter, true),
                                         read_image(convolution.y, y_gradient));
    write_image(convolution.x, result, factor(alpha), factor(beta), x_gradient);
    return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnConvolutionBackwardFilter(
    cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x_block, const void* x,
    cudnnTensorDescriptor_t y_block, const void* y_gradient, cudnnConvolutionDescriptor_t how,
    int algorithm, void* space, size_t space_bytes, const void* beta,
    cudnnFilterDescriptor_t filter_block, void* filter_gradient_out) {
    using namespace emulated;
    const Convolution convolution = described(x_block, filter_block, y_block, how);
    if (const auto problem = prepare(FILTER_GRADIENT, convolution, handle, algorithm, space,
                                     space_bytes, x, filter_gradient_out, y_gradient))
        return problem;
    const auto result = filter_gradient(convolution, read_image(convolution.x, x),
                                        read_image(convolution.y, y_gradient));
    write_filter(convolution, result, factor(alpha), factor(beta), filter_gradient_out);
    return CUDNN_STATUS_SUCCESS;
}
