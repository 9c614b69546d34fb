#include "graphs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

#include "counts.h"
#include "memory.h"
#include "streams.h"

using emulated::GraphMemory;
using emulated::Recording;

struct CUgraph_st {
    std::shared_ptr<Recording> recording;
};

struct CUgraphExec_st {
    std::shared_ptr<Recording> recording;
    bool frees_at_launch;
};

using CUgraph = CUgraph_st*;
using CUgraphExec = CUgraphExec_st*;

namespace {

std::mutex& lock = *new std::mutex;
// Of all graphs that were not destroyed.
std::map<CUdeviceptr, std::shared_ptr<GraphMemory>>& graph_memory =
    *new std::map<CUdeviceptr, std::shared_ptr<GraphMemory>>;

CUdeviceptr pointer_to(const GraphMemory& memory) {
    return reinterpret_cast<CUdeviceptr>(memory.start);
}

// What the graphs that can be launched take, as their driver counts it.
size_t reserved = 0, most_reserved = 0;

void reserve(size_t more, size_t less) {
    const std::lock_guard<std::mutex> guard(lock);
    reserved += more;
    reserved -= less;
    most_reserved = std::max(most_reserved, reserved);
}

// From here on it holds nothing: NaN, which is what a card may leave there too.
void blank(const std::shared_ptr<GraphMemory>& memory, bool live) {
    if (!emulated::idle()) std::memset(memory->start, 0xFF, memory->bytes);
    memory->live = live;
}

// What is still live belongs to the program, which frees it as any other memory.
void give_back(Recording& recording) {
    emulated::finish_all();
    const std::lock_guard<std::mutex> guard(lock);
    for (const auto& memory : recording.memory) {
        graph_memory.erase(pointer_to(*memory));
        if (!memory->live) emulated::release(memory->start, "a graph");
    }
}

}  // namespace

CUresult emulated::refuse_in_capture(void* stream) {
    Recording* recording = recording_of(stream);
    if (!recording) return CUDA_SUCCESS;
    recording->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult emulated::allocate_in_capture(Recording& recording, CUdeviceptr* pointer, size_t bytes) {
    void* start = allocate(bytes, Owner::graphs);
    if (!start) return CUDA_ERROR_OUT_OF_MEMORY;
    const auto memory = std::make_shared<GraphMemory>(GraphMemory{start, bytes, false});
    *pointer = pointer_to(*memory);
    recording.memory.push_back(memory);
    recording.live += bytes;
    recording.most_live = std::max(recording.most_live, recording.live);
    recording.work.push_back({[=] { blank(memory, true); }, nullptr});
    const std::lock_guard<std::mutex> guard(lock);
    graph_memory[*pointer] = memory;
    return CUDA_SUCCESS;
}

bool emulated::free_of_graph(CUdeviceptr pointer, CUstream stream, CUresult* result) {
    std::shared_ptr<GraphMemory> memory;
    {
        const std::lock_guard<std::mutex> guard(lock);
        const auto found = graph_memory.find(pointer);
        if (found != graph_memory.end()) memory = found->second;
    }
    Recording* recording = recording_of(stream);
    *result = CUDA_SUCCESS;
    if (memory) {
        if (recording) recording->live -= memory->bytes;
        // In a capture this becomes a part of the graph.
        emulated_enqueue(stream, [=] { blank(memory, false); });
    } else if (recording) {
        // A graph frees only what it allocated.
        recording->broken = true;
        *result = CUDA_ERROR_INVALID_VALUE;
    }
    return memory || recording;
}

API CUresult cuStreamBeginCapture_v2(CUstream stream, int) {
    REQUIRE_CONTEXT();
    // The default streams are not captured, nor a stream twice.
    if (reinterpret_cast<uintptr_t>(stream) < 3) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (emulated::recording_of(stream)) return CUDA_ERROR_INVALID_VALUE;
    emulated::begin_recording(stream);
    return CUDA_SUCCESS;
}

API CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
    REQUIRE_CONTEXT();
    *graph = nullptr;
    CUresult problem;
    const std::shared_ptr<Recording> recording = emulated::end_recording(stream, &problem);
    if (!recording) return CUDA_ERROR_INVALID_VALUE;
    if (problem) {
        give_back(*recording);
        return problem;
    }
    *graph = new CUgraph_st{recording};
    return CUDA_SUCCESS;
}

API CUresult cuStreamIsCapturing(CUstream stream, int* status) {
    const Recording* recording = emulated::recording_of(stream);
    *status = !recording ? 0 : recording->broken ? 2 : 1;  // CU_STREAM_CAPTURE_STATUS
    return CUDA_SUCCESS;
}

API CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph,
                                         unsigned long long flags) {
    REQUIRE_CONTEXT();
    constexpr unsigned long long AUTO_FREE_ON_LAUNCH = 1;
    reserve(graph->recording->most_live, 0);
    *executable = new CUgraphExec_st{graph->recording, (flags & AUTO_FREE_ON_LAUNCH) != 0};
    return CUDA_SUCCESS;
}

API CUresult cuGraphUpload(CUgraphExec, CUstream stream) {
    REQUIRE_CONTEXT();
    return emulated::refuse_in_capture(stream);
}

API CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    REQUIRE_CONTEXT();
    if (const CUresult refused = emulated::refuse_in_capture(stream)) return refused;
    emulated_count("graph launch");
    const std::shared_ptr<Recording> recording = executable->recording;
    const bool frees = executable->frees_at_launch;
    emulated_enqueue(stream, [=] {
        for (const auto& memory : recording->memory) {
            if (memory->live && !frees)
                emulated::fail("a graph is launched while memory of its last launch is not freed");
            if (memory->live) blank(memory, false);
        }
    });
    // What comes before a meeting is given to the stream by then, and no lock is held while the host waits for others.
    const std::vector<emulated::Piece>& all = recording->work;
    for (size_t from = 0; from < all.size();) {
        if (all[from].meeting) {
            if (!all[from++].meeting(stream)) return CUDA_ERROR_LAUNCH_FAILED;
            continue;
        }
        size_t end = from;
        while (end < all.size() && !all[end].meeting) end++;
        emulated_enqueue(stream, [=] {
            for (size_t i = from; i < end; i++) recording->work[i].work();
        });
        from = end;
    }
    return CUDA_SUCCESS;
}

API CUresult cuGraphExecDestroy(CUgraphExec executable) {
    REQUIRE_CONTEXT();
    if (!executable) return CUDA_ERROR_INVALID_VALUE;
    reserve(0, executable->recording->most_live);
    give_back(*executable->recording);
    delete executable;
    return CUDA_SUCCESS;
}

API CUresult cuGraphDestroy(CUgraph graph) {
    REQUIRE_CONTEXT();
    delete graph;
    return graph ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuDeviceGetGraphMemAttribute(CUdevice, int attribute, uint64_t* value) {
    const std::lock_guard<std::mutex> guard(lock);
    // 0 and 1: in use, now and at most; 2 and 3: reserved.
    if (attribute < 0 || attribute > 3) return CUDA_ERROR_INVALID_VALUE;
    *value = attribute % 2 ? most_reserved : reserved;
    return CUDA_SUCCESS;
}

// What is reserved belongs to graphs that can still be launched.
API CUresult cuDeviceGraphMemTrim(CUdevice) { return CUDA_SUCCESS; }
