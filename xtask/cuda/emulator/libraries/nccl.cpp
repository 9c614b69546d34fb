// libnccl: calls of several ranks together. Here ranks are threads of one process, which may share a
// card, as NVIDIA's do not allow; a process is a rank only of a job of one. A call waits until all
// ranks have made it, and the last one does the work of all.

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../driver/driver.h"
#include "../driver/memory.h"
#include "../driver/streams.h"
#include "elements.h"

using emulated::Element;

enum ncclResult_t {
    SUCCESS = 0,
    UNHANDLED_CUDA_ERROR = 1,
    SYSTEM_ERROR = 2,
    INVALID_ARGUMENT = 4,
    INVALID_USAGE = 5,
    REMOTE_ERROR = 6
};
enum ncclDataType_t { F16 = 6, F32 = 7, F64 = 8, BF16 = 9 };
enum ncclRedOp_t { SUM = 0 };

struct ncclUniqueId {
    char internal[128];
};

API CUresult cuStreamSynchronize(CUstream stream);

namespace {

// How long a rank waits for the others: a test in which one fails has to end.
constexpr std::chrono::seconds PATIENCE(60);

// What a rank asks for.
struct Call {
    const char* name;
    const void* from;
    void* to;
    size_t count;
    Element type;
    CUstream stream;
};

struct Group {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Call> calls;
    size_t here = 0;
    unsigned long long round = 0;
    ncclResult_t result = SUCCESS;

    explicit Group(size_t ranks) : calls(ranks) {}
};

std::mutex groups_mutex;
std::map<std::string, std::shared_ptr<Group>>& groups =
    *new std::map<std::string, std::shared_ptr<Group>>;

bool element_of(int type, Element& element) {
    switch (type) {
        case F16:
            element = Element::f16;
            return true;
        case F32:
            element = Element::f32;
            return true;
        case F64:
            element = Element::f64;
            return true;
        case BF16:
            element = Element::bf16;
            return true;
    }
    return false;
}

// Sums in float or double, in the order of ranks, rounded once.
void sum(const std::vector<Call>& calls) {
    emulated::as_typed(calls[0].type, calls[0].to, [&](auto* first) {
        using T = std::remove_pointer_t<decltype(first)>;
        using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;
        std::vector<Sum> sums(calls[0].count, Sum(0));
        for (const Call& call : calls) {
            const T* values = static_cast<const T*>(call.from);
            for (size_t i = 0; i < call.count; i++) sums[i] += emulated::converted<Sum>(values[i]);
        }
        for (const Call& call : calls) {
            T* values = static_cast<T*>(call.to);
            for (size_t i = 0; i < call.count; i++) values[i] = T(sums[i]);
        }
    });
}

void gather(const std::vector<Call>& calls) {
    const size_t bytes = calls[0].count * emulated::size_of(calls[0].type);
    for (const Call& to : calls)
        for (size_t rank = 0; rank < calls.size(); rank++)
            std::memmove(static_cast<char*>(to.to) + rank * bytes, calls[rank].from, bytes);
}

// Does the work of all ranks as a part of what `stream` does.
void work(CUstream stream, const std::vector<Call>& calls, bool gathers) {
    emulated_compute(stream, calls[0].name, [=] {
        for (const Call& call : calls) {
            const size_t bytes = call.count * emulated::size_of(call.type);
            emulated_require_device(call.from, bytes, call.name);
            emulated_require_device(call.to, gathers ? bytes * calls.size() : bytes, call.name);
        }
        gathers ? gather(calls) : sum(calls);
    });
}

}  // namespace

struct ncclComm {
    std::shared_ptr<Group> group;
    size_t rank;
    // Graphs with its calls have copies of it.
    std::shared_ptr<char> in_graphs;
};

// Waits until all ranks are here. The last one calls `then`, whose result all of them get.
template <typename Then>
static ncclResult_t meet(Group& group, Then then) {
    std::unique_lock<std::mutex> lock(group.mutex);
    const unsigned long long round = group.round;
    if (++group.here == group.calls.size()) {
        group.result = then();
        group.here = 0;
        group.round++;
        group.changed.notify_all();
        return group.result;
    }
    const bool all = group.changed.wait_for(lock, PATIENCE, [&] { return group.round != round; });
    return all ? group.result : REMOTE_ERROR;
}

static ncclResult_t together(const std::shared_ptr<Group>& group, size_t rank, const Call& call,
                             bool gathers) {
    // Before the lock: this stream's work may wait for work of others.
    if (cuStreamSynchronize(call.stream)) return UNHANDLED_CUDA_ERROR;
    {
        const std::lock_guard<std::mutex> lock(group->mutex);
        group->calls[rank] = call;
    }
    return meet(*group, [&] {
        for (const Call& other : group->calls)
            if (other.count != call.count || other.type != call.type || other.name != call.name)
                return INVALID_USAGE;
        work(call.stream, group->calls, gathers);
        return cuStreamSynchronize(call.stream) ? UNHANDLED_CUDA_ERROR : SUCCESS;
    });
}

static ncclResult_t call_together(ncclComm* comm, Call call, bool gathers) {
    const std::shared_ptr<Group> group = comm->group;
    if (!call.from || !call.to) return INVALID_ARGUMENT;
    const emulated::Recording* recording = emulated::recording_of(call.stream);
    if (recording && recording->broken) return UNHANDLED_CUDA_ERROR;
    // Alone it is work like any other, which a stream may put off.
    if (group->calls.size() == 1) {
        work(call.stream, {call}, gathers);
        return SUCCESS;
    }
    if (!recording) return together(group, comm->rank, call, gathers);
    // Ranks meet at each launch of the graph.
    emulated_meet(call.stream, [=, in_graph = comm->in_graphs, rank = comm->rank](void* stream) {
        Call now = call;
        now.stream = static_cast<CUstream>(stream);
        return together(group, rank, now, gathers) == SUCCESS;
    });
    return SUCCESS;
}

API ncclResult_t ncclGetVersion(int* version) {
    *version = 22703;
    return SUCCESS;
}

API ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    static std::mutex mutex;
    static unsigned number = 0;
    const std::lock_guard<std::mutex> lock(mutex);
    std::memset(id, 0, sizeof *id);
    std::snprintf(id->internal, sizeof id->internal, "%d %u", int(getpid()), number++);
    return SUCCESS;
}

API ncclResult_t ncclCommInitRank(ncclComm** comm, int ranks, ncclUniqueId id, int rank) {
    if (ranks < 1 || rank < 0 || rank >= ranks) return INVALID_ARGUMENT;
    const std::string name(id.internal, sizeof id.internal);
    if (ranks > 1 && std::atoi(id.internal) != int(getpid())) return SYSTEM_ERROR;
    std::shared_ptr<Group> group;
    {
        const std::lock_guard<std::mutex> lock(groups_mutex);
        std::shared_ptr<Group>& known = groups[name];
        if (!known) known = std::make_shared<Group>(ranks);
        group = known;
    }
    if (group->calls.size() != size_t(ranks)) return INVALID_USAGE;
    *comm = new ncclComm{group, size_t(rank), std::make_shared<char>()};
    return meet(*group, [] { return SUCCESS; });
}

API ncclResult_t ncclCommDestroy(ncclComm* comm) {
    // NVIDIA's waits for their end.
    if (comm->in_graphs.use_count() > 1) emulated::fail("NCCL is left before graphs with its calls");
    delete comm;
    return SUCCESS;
}

API ncclResult_t ncclCommAbort(ncclComm* comm) { return ncclCommDestroy(comm); }

API ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, int type, int operation,
                               ncclComm* comm, void* stream) {
    Element element;
    if (operation != SUM || !element_of(type, element)) return INVALID_ARGUMENT;
    const auto on = static_cast<CUstream>(stream);
    return call_together(comm, {"NCCL sum", from, to, count, element, on}, false);
}

API ncclResult_t ncclAllGather(const void* from, void* to, size_t count, int type, ncclComm* comm,
                               void* stream) {
    Element element;
    if (!element_of(type, element)) return INVALID_ARGUMENT;
    const auto on = static_cast<CUstream>(stream);
    return call_together(comm, {"NCCL gathering", from, to, count, element, on}, true);
}

API const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
        case SUCCESS:
            return "no error";
        case UNHANDLED_CUDA_ERROR:
            return "unhandled cuda error";
        case SYSTEM_ERROR:
            return "unhandled system error";
        case INVALID_ARGUMENT:
            return "invalid argument";
        case INVALID_USAGE:
            return "invalid usage";
        case REMOTE_ERROR:
            return "remote process exited or there was a network error";
    }
    return "unknown result code";
}
