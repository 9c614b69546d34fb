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
EXPORTED Recording* recording_of(void* stream);
// Lets a stream record from now on.
void begin_recording(void* stream);
// Ends the recording of all streams that take part in that of `stream`. Returns it, or null if it does not record. `problem`
// is why it is no graph.
std::shared_ptr<Recording> end_recording(void* stream, CUresult* problem);

}  // namespace emulated

// Gives work to a stream (a CUstream; null is the default one). The emulated libraries use it too.
API void emulated_enqueue(void* stream, std::function<void()> work);

// The same for work that computes, which is counted under `name` and left out on an idle device.
API void emulated_compute(void* stream, const char* name, std::function<void()> work);

// What the host does whenever it launches the graph that `stream` records, before it asks for what comes after it.
API void emulated_meet(void* stream, std::function<bool(void*)> meeting);

// Lets so much time pass on the device, of which only events know: called by work that should seem to
// take that long.
API void emulated_take_time(double milliseconds);
