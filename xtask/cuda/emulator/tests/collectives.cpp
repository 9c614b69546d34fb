#include <thread>

#include "../driver/driver.h"
#include "../include/cuda_bf16.h"
#include "tests.h"

struct ncclUniqueId {
    char internal[128];
};
API int ncclGetUniqueId(ncclUniqueId*);
API int ncclCommInitRank(void**, int, ncclUniqueId, int);
API int ncclCommDestroy(void*);
API int ncclAllReduce(const void*, void*, size_t, int, int, void*, void*);
API int ncclAllGather(const void*, void*, size_t, int, void*, void*);
API CUresult cuDevicePrimaryCtxRetain(CUcontext*, CUdevice);
API CUresult cuCtxSetCurrent(CUcontext);
API CUresult cuStreamCreate(CUstream*, unsigned);
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;
API CUresult cuStreamBeginCapture_v2(CUstream, int);
API CUresult cuStreamEndCapture(CUstream, CUgraph*);
API CUresult cuStreamSynchronize(CUstream);
API CUresult cuGraphInstantiateWithFlags(CUgraphExec*, CUgraph, unsigned long long);
API CUresult cuGraphLaunch(CUgraphExec, CUstream);
API CUresult cuGraphExecDestroy(CUgraphExec);
API CUresult cuGraphDestroy(CUgraph);

constexpr int FLOAT = 7, BFLOAT16 = 9, SUM = 0;

// `work` with the communicator and the stream of each of so many ranks.
template <typename Work>
static void on_ranks(int ranks, Work work) {
    ncclUniqueId id;
    CHECK(ncclGetUniqueId(&id) == 0);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; rank++)
        threads.emplace_back([=] {
            CUcontext context;
            CUstream stream;
            CHECK(!cuDevicePrimaryCtxRetain(&context, 0) && !cuCtxSetCurrent(context));
            CHECK(!cuStreamCreate(&stream, 0));
            void* comm;
            CHECK(ncclCommInitRank(&comm, ranks, id, rank) == 0);
            work(rank, comm, stream);
            synchronize();
            CHECK(ncclCommDestroy(comm) == 0);
        });
    for (std::thread& thread : threads) thread.join();
}

void test_collectives() {
    for (int ranks : {1, 2, 3}) {
        on_ranks(ranks, [=](int rank, void* comm, CUstream stream) {
            // In place, several times, and beside it.
            float* values = on_device<float>({1.f + rank, 10.f * rank});
            for (int round = 0; round < 20; round++)
                CHECK(ncclAllReduce(values, values, 1, FLOAT, SUM, comm, stream) == 0);
            float* all = on_device(std::vector<float>(2 * ranks, -1));
            CHECK(ncclAllGather(values, all, 2, FLOAT, comm, stream) == 0);
            synchronize();
            float expected = 0;
            for (int other = 0; other < ranks; other++) expected += 1 + other;
            for (int round = 1; round < 20; round++) expected *= ranks;
            CHECK(values[0] == expected);
            for (int other = 0; other < ranks; other++)
                CHECK(all[2 * other] == expected && all[2 * other + 1] == 10.f * other);
            // 1 and 2^-8 in float, rounded once.
            __nv_bfloat16* half = on_device<__nv_bfloat16>({__nv_bfloat16(rank ? 0.00390625f : 1)});
            CHECK(ncclAllReduce(half, half, 1, BFLOAT16, SUM, comm, stream) == 0);
            synchronize();
            CHECK(float(*half) == (ranks == 3 ? 1.0078125f : 1.f));
        });
    }
    // Captured calls do nothing and wait for nobody. Those of a launch meet, also ones that were not captured.
    for (int ranks : {1, 2}) {
        on_ranks(ranks, [=](int rank, void* comm, CUstream stream) {
            float* values = on_device<float>({1.f + rank});
            CHECK(!cuStreamBeginCapture_v2(stream, 2));
            CHECK(ncclAllReduce(values, values, 1, FLOAT, SUM, comm, stream) == 0);
            CHECK(ncclAllReduce(values, values, 1, FLOAT, SUM, comm, stream) == 0);
            CUgraph graph;
            CHECK(!cuStreamEndCapture(stream, &graph));
            synchronize();
            CHECK(values[0] == 1.f + rank);
            CUgraphExec executable;
            CHECK(!cuGraphInstantiateWithFlags(&executable, graph, 1) && !cuGraphDestroy(graph));
            for (int round = 0; round < 2; round++) CHECK(!cuGraphLaunch(executable, stream));
            if (rank == 0) {
                CHECK(!cuGraphLaunch(executable, stream));
            } else {
                CHECK(ncclAllReduce(values, values, 1, FLOAT, SUM, comm, stream) == 0);
                CHECK(ncclAllReduce(values, values, 1, FLOAT, SUM, comm, stream) == 0);
            }
            CHECK(!cuStreamSynchronize(stream));
            CHECK(values[0] == (ranks == 1 ? 1 : 96));
            CHECK(!cuGraphExecDestroy(executable));
            // A call that a capture does not allow has broken it.
            CHECK(!cuStreamBeginCapture_v2(stream, 2) && cuStreamSynchronize(stream));
            CHECK(ncclAllReduce(values, values, 1, FLOAT, SUM, comm, stream) == 1);
            CHECK(cuStreamEndCapture(stream, &graph));
        });
    }
    // What does not fit together.
    on_ranks(2, [](int rank, void* comm, CUstream stream) {
        float* values = on_device<float>({1, 2});
        CHECK(ncclAllReduce(values, values, 1 + rank, FLOAT, SUM, comm, stream) == 5);
        CHECK(ncclAllReduce(values, values, 1, 99, SUM, comm, stream) == 4);
    });
    ncclUniqueId elsewhere = {"1 0"};
    void* comm;
    CHECK(ncclCommInitRank(&comm, 2, elsewhere, 0) == 2);
    CHECK(ncclCommInitRank(&comm, 2, elsewhere, 2) == 4);
}
