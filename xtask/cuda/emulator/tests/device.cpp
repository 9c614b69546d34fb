#include "tests.h"

#include <cstring>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#include "../driver/driver.h"
#include "../include/cuda_runtime.h"
#include "../include/emulated_kernel.h"

API CUresult cuInit(unsigned);
API CUresult cuDevicePrimaryCtxRetain(CUcontext*, CUdevice);
API CUresult cuCtxSetCurrent(CUcontext);
API CUresult cuCtxSynchronize();
API CUresult cuMemAlloc_v2(CUdeviceptr*, size_t);
API CUresult cuMemFree_v2(CUdeviceptr);
API CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, size_t);
API CUresult cuMemcpyDtoH_v2(void*, CUdeviceptr, size_t);
API CUresult cuMemAllocAsync(CUdeviceptr*, size_t, CUstream);
API CUresult cuMemFreeAsync(CUdeviceptr, CUstream);
API CUresult cuMemPoolCreate(CUmemoryPool*, const void*);
API CUresult cuMemPoolDestroy(CUmemoryPool);
API CUresult cuMemPoolGetAttribute(CUmemoryPool, int, void*);
API CUresult cuMemPoolSetAttribute(CUmemoryPool, int, void*);
API CUresult cuMemPoolTrimTo(CUmemoryPool, size_t);
API CUresult cuDeviceGetMemPool(CUmemoryPool*, CUdevice);
API CUresult cuDeviceSetMemPool(CUdevice, CUmemoryPool);
API CUresult cuModuleLoadData(CUmodule*, const void*);
API CUresult cuModuleGetFunction(CUfunction*, CUmodule, const char*);
API CUresult cuLaunchKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                            unsigned, CUstream, void**, void**);

// The sum of each block's numbers: shuffles within a warp, shared memory and barriers between them.
extern "C" __global__ void test_block_sums(unsigned n, const int* x, int* sums) {
    __shared__ int of_warp[32];
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    int sum = i < n ? x[i] : 0;
    for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_down_sync(0xffffffff, sum, distance);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    sum = threadIdx.x < blockDim.x / 32 ? of_warp[threadIdx.x] : 0;
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffff, sum, mask);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
EMULATED_KERNEL(test_block_sums)

// Each thread takes what its neighbour has, again and again. Without the second barrier a thread
// may overwrite what its neighbour has yet to read.
extern "C" __global__ void test_rotate(int* x, int steps, int second_barrier) {
    __shared__ int values[128];
    values[threadIdx.x] = x[threadIdx.x];
    for (int step = 0; step < steps; step++) {
        __syncthreads();
        const int next = values[(threadIdx.x + 1) % blockDim.x];
        if (second_barrier) __syncthreads();
        values[threadIdx.x] = next;
    }
    x[threadIdx.x] = values[threadIdx.x];
}
EMULATED_KERNEL(test_rotate)

extern "C" __global__ void test_absent_lane(int* x) {
    x[threadIdx.x] = __shfl_xor_sync(0xffffffff, 1, 16);
}
EMULATED_KERNEL(test_absent_lane)

static CUfunction kernel(const char* name) {
    static CUmodule module = [] {
        CUmodule loaded;
        CHECK(cuModuleLoadData(&loaded, "") == CUDA_SUCCESS);
        return loaded;
    }();
    CUfunction found;
    CHECK(cuModuleGetFunction(&found, module, name) == CUDA_SUCCESS);
    return found;
}

static CUresult launch(const char* name, unsigned blocks, unsigned threads,
                       std::vector<void*> arguments) {
    const CUresult result = cuLaunchKernel(kernel(name), blocks, 1, 1, threads, 1, 1, 0, nullptr,
                                           arguments.data(), nullptr);
    synchronize();
    return result;
}

void synchronize() { CHECK(cuCtxSynchronize() == CUDA_SUCCESS); }

static CUdeviceptr allocated(size_t bytes) {
    CUdeviceptr pointer;
    CHECK(cuMemAlloc_v2(&pointer, bytes) == CUDA_SUCCESS);
    return pointer;
}

void* on_device(const void* data, size_t bytes) {
    const CUdeviceptr pointer = allocated(bytes);
    CHECK(cuMemcpyHtoD_v2(pointer, data, bytes) == CUDA_SUCCESS);
    return emulated::address(pointer);
}

// Whether `action` ends a process with `message` among its last words.
template <typename Action>
static bool fails(const char* message, Action action) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        action();
        _exit(0);
    }
    close(ends[1]);
    std::string words;
    for (char next; read(ends[0], &next, 1) == 1;) words += next;
    int status;
    waitpid(child, &status, 0);
    close(ends[0]);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && words.find(message) != words.npos;
}

static void test_memory() {
    std::vector<float> fresh(100);
    CHECK(cuMemcpyDtoH_v2(fresh.data(), allocated(400), 400) == CUDA_SUCCESS);
    for (float value : fresh) CHECK(std::isnan(value));

    CUdeviceptr pointer;
    CHECK(cuMemAlloc_v2(&pointer, size_t(1) << 50) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(fails("not the start of live device memory", [] { cuMemFree_v2(allocated(64) + 16); }));
    CHECK(fails("has only 64 left", [] {
        char bytes[65] = {};
        cuMemcpyHtoD_v2(allocated(64), bytes, 65);
    }));
}

// A pool with a largest size refuses more, until something is freed.
static void test_pools() {
    struct {
        int kind = 1, handles = 0, place = 1, device = 0;
        void* security = nullptr;
        size_t most = 100;
        unsigned char rest[56] = {};
    } properties;
    CUmemoryPool pool;
    CHECK(!cuMemPoolCreate(&pool, &properties) && !cuDeviceSetMemPool(0, pool));
    const CUstream per_thread = reinterpret_cast<CUstream>(2);
    CUdeviceptr first, second;
    CHECK(!cuMemAllocAsync(&first, 80, per_thread));
    CHECK(cuMemAllocAsync(&second, 40, per_thread) == CUDA_ERROR_OUT_OF_MEMORY);
    uint64_t reserved;
    CHECK(!cuMemPoolGetAttribute(pool, 5, &reserved) && reserved == 80);
    allocated(1000);  // not the pool's
    CHECK(!cuMemFreeAsync(first, per_thread) && !cuMemAllocAsync(&second, 100, per_thread));
    // It keeps what is freed if it is told to.
    uint64_t everything = UINT64_MAX;
    CHECK(!cuMemPoolSetAttribute(pool, 4, &everything) && !cuMemFreeAsync(second, per_thread));
    CHECK(!cuCtxSynchronize());
    CHECK(!cuMemPoolGetAttribute(pool, 5, &reserved) && reserved >= 100);
    CHECK(!cuMemPoolGetAttribute(pool, 7, &reserved) && reserved == 0);
    CHECK(!cuMemPoolTrimTo(pool, 0) && !cuMemPoolGetAttribute(pool, 5, &reserved) && reserved == 0);
    CHECK(!cuMemPoolDestroy(pool));
    CHECK(!cuMemAllocAsync(&second, 101, per_thread) && !cuMemFreeAsync(second, per_thread));
    CHECK(!cuDeviceGetMemPool(&pool, 0) && cuMemPoolDestroy(pool) == CUDA_ERROR_INVALID_VALUE);
}

static void test_launches() {
    constexpr unsigned N = 300, THREADS = 96;
    std::vector<int> x(N), sums(4);
    for (unsigned i = 0; i < N; i++) x[i] = int(i * i % 101);
    int *device_x = on_device(x), *device_sums = on_device(sums);
    unsigned n = N;
    CHECK(launch("test_block_sums", 4, THREADS, {&n, &device_x, &device_sums}) == CUDA_SUCCESS);
    for (unsigned block = 0; block < 4; block++) {
        int expected = 0;
        for (unsigned i = block * THREADS; i < min(N, (block + 1) * THREADS); i++) expected += x[i];
        CHECK(device_sums[block] == expected);
    }

    int steps = 5, barrier = 1;
    CHECK(launch("test_rotate", 1, 128, {&device_x, &steps, &barrier}) == CUDA_SUCCESS);
    for (unsigned i = 0; i < 128; i++) CHECK(device_x[i] == x[(i + 5) % 128]);
    int *flawed = on_device(x), no_barrier = 0, wrong = 0;
    CHECK(launch("test_rotate", 1, 128, {&flawed, &steps, &no_barrier}) == CUDA_SUCCESS);
    for (unsigned i = 0; i < 128; i++) wrong += flawed[i] != x[(i + 5) % 128];
    CHECK(wrong > 0);

    CHECK(launch("test_absent_lane", 1, 16, {&device_x}) == CUDA_SUCCESS);
    CHECK(device_x[0] == -1);

    CHECK(launch("test_rotate", 0, 128, {&device_x, &steps, &barrier}) == CUDA_ERROR_INVALID_VALUE);
    CHECK(launch("test_rotate", 1, 2048, {&device_x, &steps, &barrier}) ==
          CUDA_ERROR_INVALID_VALUE);
    CHECK(fails("test_block_sums, argument 2", [&] {
        int* on_the_host = x.data();
        launch("test_block_sums", 1, 32, {&n, &device_x, &on_the_host});
    }));
    CHECK(fails("test_block_sums touches", [&] {
        unsigned too_many = 100000;
        launch("test_block_sums", 100, 1024, {&too_many, &device_x, &device_sums});
    }));
}

static void test_modules() {
    CUmodule module;
    CUfunction function;
    CHECK(cuModuleLoadData(&module, ".visible .entry test_rotate(") == CUDA_SUCCESS);
    CHECK(cuModuleGetFunction(&function, module, "test_rotate") == CUDA_SUCCESS);
    CHECK(cuModuleGetFunction(&function, module, "test_block_sums") == CUDA_ERROR_NOT_FOUND);
    CHECK(cuModuleGetFunction(&function, module, "nothing") == CUDA_ERROR_NOT_FOUND);
}

void test_device() {
    CUdeviceptr pointer;
    CHECK(cuMemAlloc_v2(&pointer, 4) == CUDA_ERROR_NOT_INITIALIZED);
    CHECK(cuInit(0) == CUDA_SUCCESS);
    CHECK(cuMemAlloc_v2(&pointer, 4) == CUDA_ERROR_INVALID_CONTEXT);
    CUcontext context;
    CHECK(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    CHECK(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    test_memory();
    test_pools();
    test_launches();
    test_modules();
}
