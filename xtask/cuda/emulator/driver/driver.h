// Types and codes of the CUDA driver interface (cuda.h), as far as the emulated driver needs them.
#pragma once

#include <cstdint>

#include "api.h"

enum CUresult {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_DEINITIALIZED = 4,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
    CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
};

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = const struct CUfunc_st*;
using CUmemoryPool = struct CUmemPoolHandle_st*;

namespace emulated {

// CUDA_SUCCESS when the calling thread has a context, else what a driver answers.
CUresult require_context();

inline void* address(CUdeviceptr pointer) { return reinterpret_cast<void*>(pointer); }

}  // namespace emulated

#define REQUIRE_CONTEXT()                                                              \
    if (const CUresult problem = emulated::require_context(); problem != CUDA_SUCCESS) \
    return problem

// For calls that take the context from their stream, unless that is a default one (0, 1 or 2).
#define REQUIRE_CONTEXT_OF(stream) \
    if (reinterpret_cast<uintptr_t>(stream) < 3) REQUIRE_CONTEXT()
