// Device memory: pages of the host, each allocation ending at a page that can't be touched.
#pragma once

#include "api.h"

namespace emulated {

// Whose memory it is: the context's, the memory pool's, or that of graphs.
enum class Owner { context, pool, graphs };

// Null when the device or its memory pool is full. Fresh memory holds 0xFF bytes, which are NaN in every float type.
void* allocate(size_t bytes, Owner owner);
// Fails on anything that `allocate` did not return or that was released before. Null is allowed.
void release(void* start, const char* who);

struct MemoryUse {
    size_t total, used;
    size_t in_pool, most_in_pool;
    size_t reserved;  // by a pool that keeps what is freed
};
MemoryUse memory_use();

// The most that the memory pool may have in use.
void limit_pool(size_t bytes);
// The memory pool keeps at most so much of what was freed.
void trim_pool(size_t bytes);

}  // namespace emulated

// Fails unless `bytes` bytes from `pointer` lie in one live allocation. The other emulated
// libraries call it too; `who` (text that outlives the call) names the caller in the message.
API void emulated_require_device(const void* pointer, size_t bytes, const char* who);

// What the calling thread does on the device, for the message when it touches foreign memory; null
// when it is back in the program.
API void emulated_now(const char* operation);
