#include <cmath>

#include "../driver/driver.h"
#include "../driver/streams.h"
#include "tests.h"

API CUresult cuStreamCreate(CUstream*, unsigned);
API CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned);
API CUresult cuStreamSynchronize(CUstream);
API CUresult cuEventCreate(CUevent*, unsigned);
API CUresult cuEventRecord(CUevent, CUstream);
API CUresult cuEventElapsedTime(float*, CUevent, CUevent);
API CUresult cuMemHostAlloc(void**, size_t, unsigned);
API CUresult cuMemFreeHost(void*);
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void*, size_t, CUstream);
API CUresult cuMemcpyDtoHAsync_v2(void*, CUdeviceptr, size_t, CUstream);
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, size_t, CUstream);

// A number on its way through two streams: pinned memory, `between`, `end`. What arrives when the
// second stream does or does not wait for the first.
static float arrives(bool waits) {
    CUstream first, second;
    CUevent copied;
    CHECK(!cuStreamCreate(&first, 0) && !cuStreamCreate(&second, 0) && !cuEventCreate(&copied, 0));
    void* memory;
    CHECK(!cuMemHostAlloc(&memory, sizeof(float), 0));
    auto* pinned = static_cast<float*>(memory);
    *pinned = 3;
    float* blank = on_device<float>({NAN, NAN});
    const auto between = reinterpret_cast<CUdeviceptr>(blank), end = between + sizeof(float);
    CHECK(!cuMemcpyHtoDAsync_v2(between, pinned, sizeof(float), first));
    CHECK(!cuEventRecord(copied, first));
    if (waits) CHECK(!cuStreamWaitEvent(second, copied, 0));
    CHECK(!cuMemcpyDtoDAsync_v2(end, between, sizeof(float), second));
    float arrived;
    CHECK(!cuMemcpyDtoHAsync_v2(&arrived, end, sizeof(float), second));
    CHECK(!cuMemFreeHost(pinned));
    return arrived;
}

// What is copied from host memory that is changed behind the call.
static float copied_from(float* host) {
    float* device = on_device<float>({NAN});
    *host = 1;
    CHECK(
        !cuMemcpyHtoDAsync_v2(reinterpret_cast<CUdeviceptr>(device), host, sizeof(float), nullptr));
    *host = 2;
    CHECK(!cuStreamSynchronize(nullptr));
    return *device;
}

// Events tell the time that work says it takes.
static void test_time() {
    CUevent start, end;
    float milliseconds;
    CHECK(!cuEventCreate(&start, 0) && !cuEventCreate(&end, 0));
    CHECK(!cuEventRecord(start, nullptr));
    emulated_enqueue(nullptr, [] { emulated_take_time(3e6); });
    CHECK(!cuEventRecord(end, nullptr));
    if (emulated::late()) CHECK(cuEventElapsedTime(&milliseconds, start, end));
    CHECK(!cuStreamSynchronize(nullptr));
    CHECK(!cuEventElapsedTime(&milliseconds, start, end));
    CHECK(milliseconds >= 3e6f && milliseconds < 4e6f);
}

void test_streams() {
    test_time();
    CHECK(arrives(true) == 3);
    CHECK(emulated::late() ? std::isnan(arrives(false)) : arrives(false) == 3);

    float ordinary;
    void* pinned;
    CHECK(!cuMemHostAlloc(&pinned, sizeof(float), 0));
    CHECK(copied_from(&ordinary) == 1);
    CHECK(copied_from(static_cast<float*>(pinned)) == (emulated::late() ? 2 : 1));
    CHECK(!cuMemFreeHost(pinned));
}
