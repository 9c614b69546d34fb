// Device memory: pages of the host, each allocation ending at a page that can't be touched.
#pragma once

#include "api.h"

namespace emulated {

// Null when the device is full. Fresh memory holds 0xFF bytes, which are NaN in every float type.
void* allocate(size_t bytes);
// Fails on anything that `allocate` did not return or that was released before. Null is allowed.
void release(void* start, const char* who);

struct MemoryUse {
    size_t total, used, most;
};
MemoryUse memory_use();

}  // namespace emulated

// Fails unless `bytes` bytes from `pointer` lie in one live allocation. The other emulated
// libraries call it too; `who` (text that outlives the call) names the caller in the message.
API void emulated_require_device(const void* pointer, size_t bytes, const char* who);

// What the calling thread does on the device, for the message when it touches foreign memory; null
// when it is back in the program.
API void emulated_now(const char* operation);
