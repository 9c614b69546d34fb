// The devices, their contexts, and what the driver says about errors.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "driver.h"
#include "memory.h"

struct CUctx_st {
    CUdevice device;
};

namespace {

// Cards that a program finds. They share one memory: each process is to use one of them.
int cards() {
    static const int cards = [] {
        const char* text = std::getenv("EMULATED_CUDA_CARDS");
        return text ? std::max(std::atoi(text), 0) : 1;
    }();
    return cards;
}

CUctx_st& primary_context_of(CUdevice device) {
    static std::deque<CUctx_st>& contexts = *new std::deque<CUctx_st>(cards());
    return contexts[device];
}
std::atomic<bool> initialised{false}, ended{false};
// As the driver, whose exit handler takes it from under threads that still use it.
struct AtExit {
    ~AtExit() { ended = true; }
} at_exit;
thread_local CUcontext current_context = nullptr;

struct Attribute {
    int number, value;
};
// The numbers are CUdevice_attribute's; the values a Hopper card's where code may depend on them.
constexpr Attribute ATTRIBUTES[] = {
    {1, 1024},        // MAX_THREADS_PER_BLOCK
    {2, 1024},        // MAX_BLOCK_DIM_X
    {3, 1024},        // MAX_BLOCK_DIM_Y
    {4, 64},          // MAX_BLOCK_DIM_Z
    {5, 2147483647},  // MAX_GRID_DIM_X
    {6, 65535},       // MAX_GRID_DIM_Y
    {7, 65535},       // MAX_GRID_DIM_Z
    {8, 49152},       // MAX_SHARED_MEMORY_PER_BLOCK
    {10, 32},         // WARP_SIZE
    {12, 65536},      // MAX_REGISTERS_PER_BLOCK
    {13, 1000000},    // CLOCK_RATE
    {16, 2},          // MULTIPROCESSOR_COUNT: few, since blocks run one after another
    {39, 2048},       // MAX_THREADS_PER_MULTIPROCESSOR
    {41, 1},          // UNIFIED_ADDRESSING
    {75, 9},          // COMPUTE_CAPABILITY_MAJOR
    {76, 0},          // COMPUTE_CAPABILITY_MINOR
    {97, 49152},      // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    {115, 1},         // MEMORY_POOLS_SUPPORTED
};

struct ErrorText {
    CUresult code;
    const char *name, *text;
};
#define ERROR_TEXT(code, text) {code, #code, text}
constexpr ErrorText ERRORS[] = {
    ERROR_TEXT(CUDA_SUCCESS, "no error"),
    ERROR_TEXT(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR_TEXT(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR_TEXT(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR_TEXT(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR_TEXT(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR_TEXT(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR_TEXT(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    ERROR_TEXT(CUDA_ERROR_NOT_READY, "device not ready"),
    ERROR_TEXT(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
               "operation not permitted when stream is capturing"),
    ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
               "operation failed due to a previous error during capture"),
    ERROR_TEXT(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
               "dependency created on uncaptured work in another stream"),
};

const ErrorText* find_error(CUresult code) {
    for (const ErrorText& error : ERRORS)
        if (error.code == code) return &error;
    return nullptr;
}

}  // namespace

CUresult emulated::require_context() {
    if (ended) return CUDA_ERROR_DEINITIALIZED;
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return current_context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

API CUresult cuInit(unsigned) {
    initialised = true;
    return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int* version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

API CUresult cuGetErrorName(CUresult code, const char** name) {
    const ErrorText* error = find_error(code);
    *name = error ? error->name : nullptr;
    return error ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuGetErrorString(CUresult code, const char** text) {
    if (ended) return CUDA_ERROR_DEINITIALIZED;
    const ErrorText* error = find_error(code);
    *text = error ? error->text : nullptr;
    return error ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuDeviceGetCount(int* count) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    *count = cards();
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    *device = ordinal;
    return 0 <= ordinal && ordinal < cards() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

API CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    std::snprintf(name, length, "emulated");
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetUuid_v2(char* uuid, CUdevice) {
    std::memset(uuid, 0, 16);
    return CUDA_SUCCESS;
}

API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
    *bytes = emulated::memory_use().total;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetAttribute(int* value, int number, CUdevice) {
    for (const Attribute& attribute : ATTRIBUTES)
        if (attribute.number == number) {
            *value = attribute.value;
            return CUDA_SUCCESS;
        }
    emulated::fail("no value for device attribute %d", number);
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    *context = &primary_context_of(device);
    (*context)->device = device;
    return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }

API CUresult cuCtxGetCurrent(CUcontext* context) {
    *context = current_context;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetCurrent(CUcontext context) {
    current_context = context;
    return CUDA_SUCCESS;
}

API CUresult cuCtxGetDevice(CUdevice* device) {
    REQUIRE_CONTEXT();
    *device = current_context->device;
    return CUDA_SUCCESS;
}

API CUresult cuCtxSetFlags(unsigned) { return emulated::require_context(); }

API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    REQUIRE_CONTEXT();
    *least = *greatest = 0;
    return CUDA_SUCCESS;
}
