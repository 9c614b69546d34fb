// Work on the device, in the order that streams and events give it.
#pragma once

#include <functional>

#include "api.h"

namespace emulated {

// Whether streams put their work off, by EMULATED_CUDA_STREAMS=late: a piece of work is then done
// only when the host waits for it or other work has to come after it. What was never told to wait
// for it finds memory as it was before.
EXPORTED bool late();

// Everything that was given to a stream, or to all of them, so far.
void finish(void* stream);
void finish_all();

}  // namespace emulated

// Gives work to a stream (a CUstream; null is the default one). The emulated libraries use it too.
API void emulated_enqueue(void* stream, std::function<void()> work);

// Lets so much time pass on the device, of which only events know: called by work that should seem to
// take that long.
API void emulated_take_time(double milliseconds);
