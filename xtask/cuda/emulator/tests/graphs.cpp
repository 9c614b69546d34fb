#include <cmath>

#include "../driver/driver.h"
#include "../driver/graphs.h"
#include "../driver/memory.h"
#include "../driver/streams.h"
#include "tests.h"

using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;
API CUresult cuStreamCreate(CUstream*, unsigned);
API CUresult cuStreamSynchronize(CUstream);
API CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned);
API CUresult cuStreamIsCapturing(CUstream, int*);
API CUresult cuStreamBeginCapture_v2(CUstream, int);
API CUresult cuStreamEndCapture(CUstream, CUgraph*);
API CUresult cuGraphInstantiateWithFlags(CUgraphExec*, CUgraph, unsigned long long);
API CUresult cuGraphLaunch(CUgraphExec, CUstream);
API CUresult cuGraphExecDestroy(CUgraphExec);
API CUresult cuGraphDestroy(CUgraph);
API CUresult cuEventCreate(CUevent*, unsigned);
API CUresult cuEventRecord(CUevent, CUstream);
API CUresult cuMemAllocAsync(CUdeviceptr*, size_t, CUstream);
API CUresult cuMemFreeAsync(CUdeviceptr, CUstream);
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void*, size_t, CUstream);
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, size_t, CUstream);

API CUresult cuDeviceGetGraphMemAttribute(CUdevice, int, uint64_t*);

static uint64_t reserved_by_graphs() {
    uint64_t bytes;
    CHECK(!cuDeviceGetGraphMemAttribute(0, 2, &bytes));
    return bytes;
}

static CUdeviceptr place(const float* memory) { return reinterpret_cast<CUdeviceptr>(memory); }

// A captured copy, through memory of the graph, is done again at each launch with what lies there then.
static void test_replay(CUstream stream) {
    float* from = on_device<float>({1});
    float* to = on_device<float>({NAN});
    CHECK(!cuStreamBeginCapture_v2(stream, 2));
    int status;
    CHECK(!cuStreamIsCapturing(stream, &status) && status == 1);
    CUdeviceptr between;
    CHECK(!cuMemAllocAsync(&between, sizeof(float), stream));
    CHECK(!cuMemcpyDtoDAsync_v2(between, place(from), sizeof(float), stream));
    CHECK(!cuMemcpyDtoDAsync_v2(place(to), between, sizeof(float), stream));
    CHECK(!cuMemFreeAsync(between, stream));
    CUdeviceptr kept;
    CHECK(!cuMemAllocAsync(&kept, sizeof(float), stream));
    CHECK(reserved_by_graphs() == 0);
    CHECK(!cuMemcpyDtoDAsync_v2(kept, place(from), sizeof(float), stream));
    CUgraph graph;
    CHECK(!cuStreamEndCapture(stream, &graph) && graph);
    synchronize();
    CHECK(std::isnan(*to));  // nothing was done yet
    CUgraphExec executable;
    CHECK(!cuGraphInstantiateWithFlags(&executable, graph, 1) && !cuGraphDestroy(graph));
    // The second float may lie where the first was.
    CHECK(reserved_by_graphs() == sizeof(float));
    for (float value : {2.f, 3.f}) {
        *from = value;
        CHECK(!cuGraphLaunch(executable, stream) && !cuStreamSynchronize(stream));
        CHECK(*to == value);
        CHECK(*reinterpret_cast<float*>(kept) == value);
        CHECK(std::isnan(*reinterpret_cast<float*>(between)));
    }
    // Freed by the program, it is gone until the next launch.
    CHECK(!cuMemFreeAsync(kept, stream) && !cuStreamSynchronize(stream));
    CHECK(std::isnan(*reinterpret_cast<float*>(kept)));
    CHECK(!cuGraphExecDestroy(executable));
}

// Each of these calls is refused, and the capture with it.
template <typename Call>
static void refused(CUstream stream, CUresult expected, Call call) {
    CHECK(!cuStreamBeginCapture_v2(stream, 2));
    CHECK(call() == expected);
    int status;
    CHECK(!cuStreamIsCapturing(stream, &status) && status == 2);
    CUgraph graph;
    CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED && !graph);
    CHECK(!cuStreamIsCapturing(stream, &status) && status == 0);
}

// A stream takes part in a capture once it waits for an event of it, and the first one has to wait for what it is given.
static void test_forks(CUstream stream) {
    CUstream other, outside;
    CHECK(!cuStreamCreate(&other, 0) && !cuStreamCreate(&outside, 0));
    CUevent fork, join;
    CHECK(!cuEventCreate(&fork, 0) && !cuEventCreate(&join, 0));
    float* from = on_device<float>({1});
    float* to = on_device<float>({NAN});
    for (bool joins : {true, false}) {
        CHECK(!cuStreamBeginCapture_v2(stream, 2));
        CHECK(!cuEventRecord(fork, stream) && !cuStreamWaitEvent(other, fork, 0));
        int status;
        CHECK(!cuStreamIsCapturing(other, &status) && status == 1);
        CHECK(!cuMemcpyDtoDAsync_v2(place(to), place(from), sizeof(float), other));
        CHECK(!cuEventRecord(join, other));
        if (joins) CHECK(!cuStreamWaitEvent(stream, join, 0));
        CUgraph graph;
        const CUresult ended = cuStreamEndCapture(stream, &graph);
        CHECK(!cuStreamIsCapturing(other, &status) && status == 0);
        CHECK(cuStreamWaitEvent(outside, fork, 0) == CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        if (!joins) {
            CHECK(ended == CUDA_ERROR_STREAM_CAPTURE_UNJOINED && !graph);
            continue;
        }
        CHECK(!ended);
        synchronize();
        CHECK(std::isnan(*to));
        CUgraphExec executable;
        CHECK(!cuGraphInstantiateWithFlags(&executable, graph, 1) && !cuGraphDestroy(graph));
        CHECK(!cuGraphLaunch(executable, stream) && !cuStreamSynchronize(stream));
        CHECK(*to == 1 && !cuGraphExecDestroy(executable));
    }
    CHECK(!cuStreamBeginCapture_v2(stream, 2));
    CHECK(!cuEventRecord(fork, stream) && !cuStreamWaitEvent(other, fork, 0));
    CUgraph graph;
    CHECK(cuStreamEndCapture(other, &graph) == CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    CHECK(!cuStreamBeginCapture_v2(stream, 2) && !cuStreamBeginCapture_v2(other, 2));
    CHECK(!cuEventRecord(fork, stream));
    CHECK(cuStreamWaitEvent(other, fork, 0) == CUDA_ERROR_STREAM_CAPTURE_MERGE);
    for (CUstream ends : {stream, other})
        CHECK(cuStreamEndCapture(ends, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

void test_graphs() {
    CUstream stream;
    CHECK(!cuStreamCreate(&stream, 0));
    test_replay(stream);
    test_forks(stream);

    float number = 1;
    float* outside = on_device<float>({1});
    CUevent before;
    CHECK(!cuEventCreate(&before, 0) && !cuEventRecord(before, stream));
    refused(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
            [&] { return cuStreamSynchronize(stream); });
    refused(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
            [&] { return cuMemcpyHtoDAsync_v2(place(outside), &number, sizeof number, stream); });
    refused(stream, CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
            [&] { return cuStreamWaitEvent(stream, before, 0); });
    refused(stream, CUDA_ERROR_INVALID_VALUE,
            [&] { return cuMemFreeAsync(place(outside), stream); });
    CHECK(cuStreamBeginCapture_v2(nullptr, 2) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}
