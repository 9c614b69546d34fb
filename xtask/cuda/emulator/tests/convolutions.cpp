#include "tests.h"

#include <cmath>

#include "../libraries/cudnn/cudnn.h"

#define CREATE(kind) API cudnnStatus_t cudnnCreate##kind##Descriptor(cudnn##kind##Descriptor_t*)
CREATE(Tensor);
CREATE(Filter);
CREATE(Convolution);
API cudnnStatus_t cudnnCreate(cudnnHandle_t*);
API cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t, cudnnTensorFormat_t,
                                             cudnnDataType_t, int, int, int, int);
API cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t, cudnnDataType_t,
                                             cudnnTensorFormat_t, int, int, int, int);
API cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t, int, int, int, int,
                                                  int, int, cudnnConvolutionMode_t,
                                                  cudnnDataType_t);
API cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t, int);
API cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t, int);
API cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t,
                                                          cudnnFilterDescriptor_t,
                                                          cudnnConvolutionDescriptor_t,
                                                          cudnnTensorDescriptor_t, int, size_t*);
API cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, const void*, cudnnTensorDescriptor_t,
                                          const void*, cudnnFilterDescriptor_t, const void*,
                                          cudnnConvolutionDescriptor_t, int, void*, size_t,
                                          const void*, cudnnTensorDescriptor_t, void*);
API cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, const void*, cudnnFilterDescriptor_t,
                                               const void*, cudnnTensorDescriptor_t, const void*,
                                               cudnnConvolutionDescriptor_t, int, void*, size_t,
                                               const void*, cudnnTensorDescriptor_t, void*);
API cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, const void*,
                                                 cudnnTensorDescriptor_t, const void*,
                                                 cudnnTensorDescriptor_t, const void*,
                                                 cudnnConvolutionDescriptor_t, int, void*, size_t,
                                                 const void*, cudnnFilterDescriptor_t, void*);

namespace {

// Two groups, sizes and steps that differ between height and width.
constexpr int N = 2, C = 4, H = 7, W = 6, K = 6, GROUPS = 2, KH = 3, KW = 2;
constexpr int PAD_H = 1, PAD_W = 2, STRIDE_H = 2, STRIDE_W = 1, DILATION_H = 1, DILATION_W = 3;
constexpr int OUT_H = 4, OUT_W = 7;

struct Descriptors {
    cudnnHandle_t handle;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t filter;
    cudnnConvolutionDescriptor_t how;

    Descriptors(cudnnTensorFormat_t format, cudnnDataType_t type) {
        cudnnCreate(&handle);
        cudnnCreateTensorDescriptor(&x);
        cudnnCreateTensorDescriptor(&y);
        cudnnCreateFilterDescriptor(&filter);
        cudnnCreateConvolutionDescriptor(&how);
        CHECK(!cudnnSetTensor4dDescriptor(x, format, type, N, C, H, W));
        CHECK(!cudnnSetTensor4dDescriptor(y, format, type, N, K, OUT_H, OUT_W));
        CHECK(!cudnnSetFilter4dDescriptor(filter, type, format, K, C / GROUPS, KH, KW));
        CHECK(!cudnnSetConvolution2dDescriptor(how, PAD_H, PAD_W, STRIDE_H, STRIDE_W, DILATION_H,
                                               DILATION_W, CUDNN_CROSS_CORRELATION,
                                               CUDNN_DATA_FLOAT));
        CHECK(!cudnnSetConvolutionGroupCount(how, GROUPS));
    }
};

// The definition: calls `use` with the places of every product in the three arrays.
template <typename Use>
void each_product(const Descriptors& d, Use use) {
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            for (int oh = 0; oh < OUT_H; oh++)
                for (int ow = 0; ow < OUT_W; ow++)
                    for (int c = 0; c < C / GROUPS; c++)
                        for (int kh = 0; kh < KH; kh++)
                            for (int kw = 0; kw < KW; kw++) {
                                const int h = oh * STRIDE_H - PAD_H + kh * DILATION_H,
                                          w = ow * STRIDE_W - PAD_W + kw * DILATION_W;
                                const int channel = k / (K / GROUPS) * (C / GROUPS) + c;
                                if (h >= 0 && h < H && w >= 0 && w < W)
                                    use(d.x->at(n, channel, h, w), d.filter->at(k, c, kh, kw),
                                        d.y->at(n, k, oh, ow));
                            }
}

template <typename T>
std::vector<T> samples(const Block& block, size_t offset) {
    std::vector<T> values(block.count());
    for (size_t i = 0; i < values.size(); i++) values[i] = sample(i + offset);
    return values;
}

template <typename T>
void near(const T* result, const std::vector<double>& expected, double tolerance) {
    synchronize();
    for (size_t i = 0; i < expected.size(); i++)
        CHECK(std::fabs(float(result[i]) - expected[i]) <=
              tolerance * (1 + std::fabs(expected[i])));
}

template <typename T>
void test_type(cudnnTensorFormat_t format, cudnnDataType_t type, double tolerance) {
    const Descriptors d(format, type);
    const auto x = samples<T>(*d.x, 0), filter = samples<T>(*d.filter, 1), y = samples<T>(*d.y, 2);
    std::vector<double> dx(x.size()), dw(filter.size()), out(y.size());
    each_product(d, [&](size_t in_x, size_t in_filter, size_t in_y) {
        out[in_y] += double(float(x[in_x])) * float(filter[in_filter]);
        dx[in_x] += double(float(y[in_y])) * float(filter[in_filter]);
        dw[in_filter] += double(float(y[in_y])) * float(x[in_x]);
    });
    const T *device_x = on_device(x), *device_filter = on_device(filter), *device_y = on_device(y);
    void* space = on_device(std::vector<char>(1 << 20));
    const float one = 1, zero = 0;

    const bool half = type != CUDNN_DATA_FLOAT;
    T* result = on_device(y);
    CHECK(!cudnnSetConvolutionMathType(d.how, half ? 1 : 0));
    CHECK(!cudnnConvolutionForward(d.handle, &one, d.x, device_x, d.filter, device_filter, d.how, 1,
                                   space, 1 << 20, &zero, d.y, result));
    near(result, out, tolerance);
    CHECK(!cudnnSetConvolutionMathType(d.how, half ? 3 : 0));
    CHECK(!cudnnConvolutionForward(d.handle, &one, d.x, device_x, d.filter, device_filter, d.how, 0,
                                   nullptr, 0, &one, d.y, result));
    for (double& value : out) value *= 2;
    near(result, out, 2 * tolerance);

    T* x_gradient = on_device(x);
    CHECK(!cudnnSetConvolutionMathType(d.how, half ? 1 : 0));
    CHECK(!cudnnConvolutionBackwardData(d.handle, &one, d.filter, device_filter, d.y, device_y,
                                        d.how, 1, space, 1 << 20, &zero, d.x, x_gradient));
    near(x_gradient, dx, tolerance);
    T* filter_gradient = on_device(filter);
    CHECK(!cudnnConvolutionBackwardFilter(d.handle, &one, d.x, device_x, d.y, device_y, d.how, 1,
                                          space, 1 << 20, &zero, d.filter, filter_gradient));
    near(filter_gradient, dw, tolerance);
}

void test_refusals() {
    const Descriptors d(CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT);
    float* anything = on_device(std::vector<float>(1000));
    const float one = 1, zero = 0;
    const auto status = [&](int algorithm, size_t space) {
        return cudnnConvolutionForward(d.handle, &one, d.x, anything, d.filter, anything, d.how,
                                       algorithm, anything, space, &zero, d.y, anything);
    };
    CHECK(status(0, 0) == CUDNN_STATUS_SUCCESS);
    CHECK(status(1, 100) == CUDNN_STATUS_BAD_PARAM);       // too small a workspace
    CHECK(status(7, 4000) == CUDNN_STATUS_NOT_SUPPORTED);  // NCHW only
    CHECK(cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, N, K, OUT_H, 0) ==
          CUDNN_STATUS_BAD_PARAM);
    CHECK(cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 240, 3, 2000,
                                     2000) == CUDNN_STATUS_NOT_SUPPORTED);  // over 2^31 elements
    CHECK(!cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 178, 3, 2000,
                                      2000));
    cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, N, K, OUT_H, OUT_W + 1);
    CHECK(status(0, 0) == CUDNN_STATUS_BAD_PARAM);
    cudnnSetTensor4dDescriptor(d.y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, N, K, OUT_H, OUT_W);
    CHECK(status(0, 0) == CUDNN_STATUS_NOT_SUPPORTED);
}

// In half precision the descriptor has to carry the math type of the algorithm's record.
void test_math_types() {
    const Descriptors d(CUDNN_TENSOR_NHWC, CUDNN_DATA_BFLOAT16);
    __nv_bfloat16* anything = on_device(std::vector<__nv_bfloat16>(1000));
    void* space = on_device(std::vector<char>(4096));
    const float one = 1, zero = 0;
    constexpr int FMA = 3, TENSOR_OP = 1;
    for (const auto& [algorithm, own] : {std::pair(1, TENSOR_OP), std::pair(0, FMA)})
        for (int math = 0; math < 4; math++) {
            CHECK(!cudnnSetConvolutionMathType(d.how, math));
            const auto expected =
                math == own ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
            size_t bytes;
            CHECK(cudnnGetConvolutionForwardWorkspaceSize(d.handle, d.x, d.filter, d.how, d.y,
                                                          algorithm, &bytes) == expected);
            CHECK(cudnnConvolutionForward(d.handle, &one, d.x, anything, d.filter, anything, d.how,
                                          algorithm, space, 4096, &zero, d.y,
                                          anything) == expected);
        }
}

}  // namespace

void test_convolutions() {
    for (const auto format : {CUDNN_TENSOR_NCHW, CUDNN_TENSOR_NHWC}) {
        test_type<float>(format, CUDNN_DATA_FLOAT, 1e-5);
        test_type<__half>(format, CUDNN_DATA_HALF, 1e-3);
        test_type<__nv_bfloat16>(format, CUDNN_DATA_BFLOAT16, 8e-3);
    }
    test_refusals();
    test_math_types();
}
