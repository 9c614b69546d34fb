// Work on the device, in the order that streams and events give it.
#pragma once

#include <functional>
#include <memory>

#include "api.h"
#include "graphs.h"

namespace emulated {

// Whether streams put their work off, by EMULATED_CUDA_STREAMS=late: a piece of work is then done
// only when the host waits for it or other work has to come after it. What was never told to wait
// for it finds memory as it was before.
EXPORTED bool late();

// Everything that was given to a stream, or to all of them, so far.
void finish(void* stream);
void finish_all();

// What a stream records, or null if it does its work.
Recording* recording_of(void* stream);
// Sets what it records from now on, null for nothing. Returns what it recorded so far.
std::shared_ptr<Recording> record(void* stream, std::shared_ptr<Recording> recording);

}  // namespace emulated

// Gives work to a stream (a CUstream; null is the default one). The emulated libraries use it too.
API void emulated_enqueue(void* stream, std::function<void()> work);

// The same for work that computes, which is counted under `name` and left out on an idle device.
API void emulated_compute(void* stream, const char* name, std::function<void()> work);

// Lets so much time pass on the device, of which only events know: called by work that should seem to
// take that long.
API void emulated_take_time(double milliseconds);
