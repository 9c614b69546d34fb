// libcudnn: the handle and the descriptors. A descriptor takes its values only if they make sense.

#include <climits>

#include "cudnn.h"

namespace {

template <typename T>
cudnnStatus_t create(T** place) {
    *place = new T;
    return CUDNN_STATUS_SUCCESS;
}

template <typename T>
cudnnStatus_t destroy(T* object) {
    delete object;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t set_block(Block* block, cudnnTensorFormat_t format, cudnnDataType_t type, int n,
                        int c, int h, int w) {
    if (!block || n <= 0 || c <= 0 || h <= 0 || w <= 0) return CUDNN_STATUS_BAD_PARAM;
    if (size_t(n) * c > INT_MAX / (size_t(h) * w)) return CUDNN_STATUS_NOT_SUPPORTED;
    if (format != CUDNN_TENSOR_NCHW && format != CUDNN_TENSOR_NHWC)
        return CUDNN_STATUS_NOT_SUPPORTED;
    switch (type) {
        case CUDNN_DATA_FLOAT:
            block->type = emulated::Element::f32;
            break;
        case CUDNN_DATA_HALF:
            block->type = emulated::Element::f16;
            break;
        case CUDNN_DATA_BFLOAT16:
            block->type = emulated::Element::bf16;
            break;
        default:
            return CUDNN_STATUS_NOT_SUPPORTED;
    }
    block->set = true;
    block->format = format;
    block->n = n, block->c = c, block->h = h, block->w = w;
    return CUDNN_STATUS_SUCCESS;
}

}  // namespace

API size_t cudnnGetVersion() { return 91900; }

API const char* cudnnGetErrorString(cudnnStatus_t status) {
    switch (status) {
        case CUDNN_STATUS_SUCCESS:
            return "CUDNN_STATUS_SUCCESS";
        case CUDNN_STATUS_NOT_INITIALIZED:
            return "CUDNN_STATUS_NOT_INITIALIZED";
        case CUDNN_STATUS_BAD_PARAM:
            return "CUDNN_STATUS_BAD_PARAM";
        case CUDNN_STATUS_NOT_SUPPORTED:
            return "CUDNN_STATUS_NOT_SUPPORTED";
    }
    return "CUDNN_UNKNOWN_STATUS";
}

API cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return create(handle); }
API cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }
API cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, void* stream) {
    if (!handle) return CUDNN_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) {
    return create(tensor);
}
API cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) {
    return destroy(tensor);
}
API cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor,
                                             cudnnTensorFormat_t format, cudnnDataType_t type,
                                             int n, int c, int h, int w) {
    return set_block(tensor, format, type, n, c, h, w);
}

// The type and the format come in the other order than for tensors.
API cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) {
    return create(filter);
}
API cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) {
    return destroy(filter);
}
API cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                             cudnnTensorFormat_t format, int out, int in, int h,
                                             int w) {
    return set_block(filter, format, type, out, in, h, w);
}

API cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* convolution) {
    return create(convolution);
}
API cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t convolution) {
    return destroy(convolution);
}
API cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution,
                                                  int pad_h, int pad_w, int stride_h, int stride_w,
                                                  int dilation_h, int dilation_w,
                                                  cudnnConvolutionMode_t mode,
                                                  cudnnDataType_t compute) {
    if (!convolution || pad_h < 0 || pad_w < 0 || stride_h <= 0 || stride_w <= 0 ||
        dilation_h <= 0 || dilation_w <= 0)
        return CUDNN_STATUS_BAD_PARAM;
    if (mode != CUDNN_CROSS_CORRELATION || compute != CUDNN_DATA_FLOAT)
        return CUDNN_STATUS_NOT_SUPPORTED;
    *convolution = {true, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w};
    return CUDNN_STATUS_SUCCESS;
}
API cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t convolution,
                                                int groups) {
    if (!convolution || groups <= 0) return CUDNN_STATUS_BAD_PARAM;
    convolution->groups = groups;
    return CUDNN_STATUS_SUCCESS;
}
API cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convolution, int math) {
    if (!convolution || math < 0 || math > 3) return CUDNN_STATUS_BAD_PARAM;
    convolution->math = math;
    return CUDNN_STATUS_SUCCESS;
}

API cudnnStatus_t cudnnCreateActivationDescriptor(cudnnActivationDescriptor_t* activation) {
    return create(activation);
}
API cudnnStatus_t cudnnDestroyActivationDescriptor(cudnnActivationDescriptor_t activation) {
    return destroy(activation);
}
API cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t activation, int mode,
                                               int nan, double) {
    if (!activation || mode < 0 || mode > 7 || nan < 0 || nan > 1) return CUDNN_STATUS_BAD_PARAM;
    *activation = {true, mode};
    return CUDNN_STATUS_SUCCESS;
}
