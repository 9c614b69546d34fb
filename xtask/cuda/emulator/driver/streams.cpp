// Streams and events. Every operation is done before its call returns, so streams order nothing
// and an event is over as soon as it is recorded.

#include <chrono>
#include <cstdint>

#include "driver.h"

using Clock = std::chrono::steady_clock;

struct CUstream_st {};

struct CUevent_st {
    bool recorded = false;
    Clock::time_point when;
};

API CUresult cuStreamCreate(CUstream* stream, unsigned) {
    REQUIRE_CONTEXT();
    *stream = new CUstream_st;
    return CUDA_SUCCESS;
}

API CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) {
    return cuStreamCreate(stream, flags);
}

API CUresult cuStreamDestroy_v2(CUstream stream) {
    REQUIRE_CONTEXT();
    // 1 and 2 stand for the legacy and the per-thread default stream.
    if (reinterpret_cast<uintptr_t>(stream) > 2) delete stream;
    return CUDA_SUCCESS;
}

API CUresult cuStreamSynchronize(CUstream) { return emulated::require_context(); }

API CUresult cuStreamQuery(CUstream) { return emulated::require_context(); }

API CUresult cuStreamWaitEvent(CUstream, CUevent event, unsigned) {
    REQUIRE_CONTEXT();
    return event ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

API CUresult cuStreamIsCapturing(CUstream, int* status) {
    *status = 0;  // CU_STREAM_CAPTURE_STATUS_NONE
    return CUDA_SUCCESS;
}

API CUresult cuStreamBeginCapture_v2(CUstream, int) { return CUDA_ERROR_NOT_SUPPORTED; }

API CUresult cuLaunchHostFunc(CUstream, void (*function)(void*), void* argument) {
    REQUIRE_CONTEXT();
    function(argument);
    return CUDA_SUCCESS;
}

API CUresult cuEventCreate(CUevent* event, unsigned) {
    REQUIRE_CONTEXT();
    *event = new CUevent_st;
    return CUDA_SUCCESS;
}

API CUresult cuEventDestroy_v2(CUevent event) {
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    delete event;
    return CUDA_SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream) {
    REQUIRE_CONTEXT();
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    event->recorded = true;
    event->when = Clock::now();
    return CUDA_SUCCESS;
}

API CUresult cuEventQuery(CUevent event) {
    return event ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

API CUresult cuEventSynchronize(CUevent event) { return cuEventQuery(event); }

API CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    if (!start || !end || !start->recorded || !end->recorded) return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return CUDA_SUCCESS;
}

API CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}
