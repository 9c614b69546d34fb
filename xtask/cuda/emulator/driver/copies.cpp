// Allocation, copies and fills. What would fault or corrupt memory on a card ends the program.

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "counts.h"
#include "driver.h"
#include "graphs.h"
#include "memory.h"
#include "streams.h"

using emulated::address;

// Pools give out ordinary device memory, at most `most` bytes at a time. What they keep of freed memory is only counted.
struct CUmemPoolHandle_st {
    uint64_t release_threshold = 0;
    size_t most = SIZE_MAX;
};
static CUmemPoolHandle_st default_pool;
static CUmemoryPool current_pool = &default_pool;

// CUmemPoolProps of a driver that knows the size, from CUDA 12.2 on.
struct PoolProperties {
    int kind, handles, place, device;
    void* security;
    size_t most;
    unsigned short usage;
    unsigned char reserved[54];
};

static std::mutex pinned_lock;
static std::map<char*, size_t> pinned;  // host memory that the device may reach by itself

static bool is_pinned(const void* pointer) {
    const std::lock_guard<std::mutex> guard(pinned_lock);
    const auto next = pinned.upper_bound(static_cast<char*>(const_cast<void*>(pointer)));
    return next != pinned.begin() && pointer < std::prev(next)->first + std::prev(next)->second;
}

// For calls that return when they are done, and that all streams are ordered with.
static CUresult waited_for(CUresult result) {
    emulated::finish_all();
    return result;
}

static CUresult allocate(CUdeviceptr* pointer, size_t bytes, emulated::Owner owner) {
    void* memory = emulated::allocate(bytes, owner);
    if (!memory) {
        emulated::finish_all();  // there may be memory whose turn to be freed has not come
        memory = emulated::allocate(bytes, owner);
    }
    *pointer = reinterpret_cast<CUdeviceptr>(memory);
    return memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

API CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    return allocate(pointer, bytes, emulated::Owner::context);
}

// Unlike cuMemAlloc it takes a size of zero, which cudarc relies on for empty slices.
API CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t bytes, CUstream stream) {
    REQUIRE_CONTEXT_OF(stream);
    *pointer = 0;
    if (bytes == 0) return CUDA_SUCCESS;
    emulated_count("allocate");
    if (emulated::Recording* recording = emulated::recording_of(stream))
        return emulated::allocate_in_capture(*recording, pointer, bytes);
    return allocate(pointer, bytes, emulated::Owner::pool);
}

API CUresult cuMemAllocFromPoolAsync(CUdeviceptr* pointer, size_t bytes, CUmemoryPool,
                                     CUstream stream) {
    return cuMemAllocAsync(pointer, bytes, stream);
}

API CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
    REQUIRE_CONTEXT_OF(stream);
    emulated_count("free");
    CUresult result;
    if (pointer && emulated::free_of_graph(pointer, stream, &result)) return result;
    emulated_enqueue(stream, [=] { emulated::release(address(pointer), "cuMemFree"); });
    return CUDA_SUCCESS;
}

API CUresult cuMemFree_v2(CUdeviceptr pointer) {
    emulated::finish_all();
    return waited_for(cuMemFreeAsync(pointer, nullptr));
}

API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    REQUIRE_CONTEXT();
    const emulated::MemoryUse use = emulated::memory_use();
    *free = use.total - use.used;
    *total = use.total;
    return CUDA_SUCCESS;
}

API CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    REQUIRE_CONTEXT();
    *pointer = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*pointer) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*pointer, 0xFF, bytes);
    const std::lock_guard<std::mutex> guard(pinned_lock);
    pinned[static_cast<char*>(*pointer)] = bytes;
    return CUDA_SUCCESS;
}

API CUresult cuMemFreeHost(void* pointer) {
    emulated::finish_all();
    const std::lock_guard<std::mutex> guard(pinned_lock);
    if (!pinned.erase(static_cast<char*>(pointer)))
        emulated::fail("cuMemFreeHost(%p): not from cuMemHostAlloc", pointer);
    std::free(pointer);
    return CUDA_SUCCESS;
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_SUCCESS;
    emulated_count("copy to the device");
    // A graph would read ordinary memory again at each launch, when it may be gone.
    if (!is_pinned(from))
        if (const CUresult refused = emulated::refuse_in_capture(stream)) return refused;
    // Ordinary memory is read before the call returns, pinned memory when the copy's turn comes.
    std::vector<char> taken;
    if (emulated::late() && !is_pinned(from)) {
        const char* start = static_cast<const char*>(from);
        taken.assign(start, start + bytes);
    }
    emulated_enqueue(stream, [=] {
        emulated_require_device(address(to), bytes, "copy to the device");
        std::memcpy(address(to), taken.empty() ? from : taken.data(), bytes);
    });
    return CUDA_SUCCESS;
}

API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_SUCCESS;
    emulated_count("copy from the device");
    if (!is_pinned(to))
        if (const CUresult refused = emulated::refuse_in_capture(stream)) return refused;
    emulated_enqueue(stream, [=] {
        emulated_require_device(address(from), bytes, "copy from the device");
        std::memcpy(to, address(from), bytes);
    });
    // The driver waits where the destination is ordinary memory.
    if (!is_pinned(to)) emulated::finish(stream);
    return CUDA_SUCCESS;
}

API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_SUCCESS;
    emulated_compute(stream, "copy on the device", [=] {
        emulated_require_device(address(from), bytes, "copy on the device, source");
        emulated_require_device(address(to), bytes, "copy on the device, destination");
        std::memmove(address(to), address(from), bytes);
    });
    return CUDA_SUCCESS;
}

API CUresult cuMemsetD8Async(CUdeviceptr pointer, unsigned char value, size_t bytes,
                             CUstream stream) {
    REQUIRE_CONTEXT();
    if (bytes == 0) return CUDA_SUCCESS;
    emulated_compute(stream, "fill", [=] {
        emulated_require_device(address(pointer), bytes, "fill");
        std::memset(address(pointer), value, bytes);
    });
    return CUDA_SUCCESS;
}

API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    emulated::finish_all();
    return waited_for(cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr));
}

API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    emulated::finish_all();
    return waited_for(cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr));
}

API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    emulated::finish_all();
    return waited_for(cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr));
}

API CUresult cuMemsetD8_v2(CUdeviceptr pointer, unsigned char value, size_t bytes) {
    emulated::finish_all();
    return waited_for(cuMemsetD8Async(pointer, value, bytes, nullptr));
}

API CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice) {
    *pool = &default_pool;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice) {
    *pool = current_pool;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceSetMemPool(CUdevice, CUmemoryPool pool) {
    current_pool = pool;
    emulated::limit_pool(pool->most);
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolCreate(CUmemoryPool* pool, const PoolProperties* properties) {
    REQUIRE_CONTEXT();
    constexpr int PINNED = 1, DEVICE = 1;
    if (properties->kind != PINNED || properties->place != DEVICE) return CUDA_ERROR_INVALID_VALUE;
    *pool = new CUmemPoolHandle_st;
    if (properties->most) (*pool)->most = properties->most;
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    if (pool == &default_pool) return CUDA_ERROR_INVALID_VALUE;
    // The device falls back on its default pool.
    if (pool == current_pool) cuDeviceSetMemPool(0, &default_pool);
    delete pool;
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolTrimTo(CUmemoryPool, size_t bytes) {
    emulated::trim_pool(bytes);
    return CUDA_SUCCESS;
}

API CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void* value) {
    // 4 is the release threshold; 1 to 3 allow reuse between streams, which changes nothing here.
    if (attribute == 4)
        std::memcpy(&pool->release_threshold, value, sizeof pool->release_threshold);
    return attribute >= 1 && attribute <= 4 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void* value) {
    const emulated::MemoryUse use = emulated::memory_use();
    uint64_t answer;
    switch (attribute) {
        case 4:
            answer = pool->release_threshold;
            break;
        case 5:  // reserved now
            answer = pool->release_threshold ? use.reserved : use.in_pool;
            break;
        case 7:
            answer = use.in_pool;
            break;  // used now
        case 6:
        case 8:
            answer = use.most_in_pool;
            break;  // reserved, used: at most
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
    std::memcpy(value, &answer, sizeof answer);
    return CUDA_SUCCESS;
}
