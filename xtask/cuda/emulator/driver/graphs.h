// Captures: work that a stream records instead of doing it, and graphs that do it again and again.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "driver.h"

namespace emulated {

// Memory that a graph allocates: at the same place in each launch.
struct GraphMemory {
    void* start;
    size_t bytes;
    bool live;  // since its turn in a launch, until it is freed
};

// A piece of recorded work: what the device does, or what the host does when it launches the graph, given the stream of
// the launch. The host may wait for others, and says whether they came.
struct Piece {
    std::function<void()> work;
    std::function<bool(void*)> meeting;
};

// How many pieces of work of each stream come before something in a capture.
using Clock = std::map<void*, size_t>;

// What the streams of a capture were given since it began.
struct Recording {
    std::vector<Piece> work;
    void* origin = nullptr;  // the stream that it began on
    // Of its streams. One comes in when it waits for an event of the capture, which counts as work.
    std::map<void*, Clock> clocks;
    bool ended = false;
    std::vector<std::shared_ptr<GraphMemory>> memory;
    // Of memory that is live at one place of the work. A card's graph uses the place of what was freed again, so this is
    // what it takes; here each piece has its own place.
    size_t live = 0, most_live = 0;
    bool broken = false;  // by a call that a capture does not allow
};

// For a call that a capture does not allow: what the driver answers, if `stream` captures.
CUresult refuse_in_capture(void* stream);

// Memory for a stream, which belongs to the graph if the stream captures.
CUresult allocate_in_capture(Recording& recording, CUdeviceptr* pointer, size_t bytes);

// Frees memory of a graph, within its capture or after a launch. Whether it was such memory.
bool free_of_graph(CUdeviceptr pointer, CUstream stream, CUresult* result);

}  // namespace emulated
