// How a kernel runs: block after block, the threads of a block as fibers of the calling thread.
#pragma once

#include "api.h"

namespace emulated {

struct Kernel {
    const char* name;
    void (*check)(const char* name,
                  void** parameters);  // once a launch: pointers are device memory
    void (*run)(void** parameters);    // once a thread
};

struct Size3 {
    unsigned x, y, z;
};

// Runs the whole grid before it returns. One launch at a time: `__shared__` variables are statics.
void launch(const Kernel& kernel, Size3 grid, Size3 block, size_t shared_bytes, void** parameters);

}  // namespace emulated
