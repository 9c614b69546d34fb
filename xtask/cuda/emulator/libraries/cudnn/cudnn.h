// Types of cuDNN's classic interface, version 9, as far as two-dimensional convolutions need them.
#pragma once

#include "../../driver/api.h"
#include "../elements.h"

enum cudnnStatus_t {
    CUDNN_STATUS_SUCCESS = 0,
    CUDNN_STATUS_NOT_INITIALIZED = 1001,
    CUDNN_STATUS_BAD_PARAM = 2000,
    CUDNN_STATUS_NOT_SUPPORTED = 3000,
};

enum cudnnTensorFormat_t { CUDNN_TENSOR_NCHW = 0, CUDNN_TENSOR_NHWC = 1 };
enum cudnnDataType_t { CUDNN_DATA_FLOAT = 0, CUDNN_DATA_HALF = 2, CUDNN_DATA_BFLOAT16 = 9 };
enum cudnnConvolutionMode_t { CUDNN_CONVOLUTION = 0, CUDNN_CROSS_CORRELATION = 1 };

// Both kinds of descriptor hold a packed block of four sizes: images are [n, c, h, w], filters
// [out, in / groups, h, w]; with NHWC the second size is the innermost in memory.
struct Block {
    bool set = false;
    emulated::Element type;
    cudnnTensorFormat_t format;
    int n, c, h, w;

    size_t count() const { return size_t(n) * c * h * w; }
    size_t bytes() const { return count() * emulated::size_of(type); }
    size_t at(size_t in, size_t ic, size_t ih, size_t iw) const {
        return format == CUDNN_TENSOR_NHWC ? ((in * h + ih) * w + iw) * c + ic
                                           : ((in * c + ic) * h + ih) * w + iw;
    }
};

struct cudnnTensorStruct : Block {};
struct cudnnFilterStruct : Block {};
struct cudnnConvolutionStruct {
    bool set = false;
    int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
    int groups = 1, math = 0;
};
// cudnnActivationMode_t, as far as a convolution can end so.
enum { CUDNN_ACTIVATION_RELU = 1, CUDNN_ACTIVATION_IDENTITY = 5 };
struct cudnnActivationStruct {
    bool set = false;
    int mode;
};
struct cudnnContext {
    void* stream = nullptr;
};

using cudnnTensorDescriptor_t = cudnnTensorStruct*;
using cudnnFilterDescriptor_t = cudnnFilterStruct*;
using cudnnConvolutionDescriptor_t = cudnnConvolutionStruct*;
using cudnnActivationDescriptor_t = cudnnActivationStruct*;
using cudnnHandle_t = cudnnContext*;
