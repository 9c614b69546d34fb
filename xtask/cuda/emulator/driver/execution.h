// How a kernel runs: block after block, the threads of a block as fibers of the calling thread.
#pragma once

#include "../include/emulated_kernel.h"
#include "api.h"

namespace emulated {

struct Size3 {
    unsigned x, y, z;
};

// Runs the whole grid before it returns. One at a time, as streams see to: `__shared__` variables
// are statics.
void launch(const EmulatedKernel& kernel, Size3 grid, Size3 block, size_t shared_bytes,
            void** parameters);

}  // namespace emulated
