// How often the program calls the device, and a device that computes nothing: what is left is the time
// of the host.
#pragma once

#include "api.h"

namespace emulated {

// Whether kernels and libraries return at once, by EMULATED_CUDA_KERNELS=none. Memory is then handed
// out as by a pool that has enough of it.
EXPORTED bool idle();

}  // namespace emulated

// Counts a call under a name (text that lasts). EMULATED_CUDA_COUNTS=FILE has all of them written to a
// file when the program ends: a line with a number and a name each.
API void emulated_count(const char* name);
