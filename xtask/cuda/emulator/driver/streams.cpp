#include "streams.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>

#include "counts.h"
#include "driver.h"

using Clock = std::chrono::steady_clock;

struct CUstream_st {
    std::deque<std::function<void()>> pending;
    uint64_t given = 0, done = 0;  // pieces of work
    std::shared_ptr<emulated::Recording> recording;
};

// Stands for everything given to a stream until it was recorded.
struct CUevent_st {
    CUstream_st* stream = nullptr;
    uint64_t position = 0;
    // Milliseconds on the device's clock when the stream came there. Shared with the stream, which may
    // come there after the event is gone.
    std::shared_ptr<double> when;
    // The capture that it was recorded in, and what comes before it there.
    std::shared_ptr<emulated::Recording> recording;
    emulated::Clock clock;
};

namespace {

// Whoever does device work holds it. Work that waits for an event does other work meanwhile.
std::recursive_mutex& device = *new std::recursive_mutex;
// Never freed: events keep pointing to their streams.
std::deque<CUstream_st>& streams = *new std::deque<CUstream_st>(3);

// Time that work said it takes, beside the time that it did take.
double taken = 0;

double device_time() {
    const Clock::duration since = Clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(since).count() + taken;
}

// 0, 1 and 2 are names of default streams: the unnamed, the legacy and the per-thread one.
CUstream_st& stream_of(void* stream) {
    const auto name = reinterpret_cast<uintptr_t>(stream);
    return name < 3 ? streams[name] : *static_cast<CUstream_st*>(stream);
}

void run_until(CUstream_st& stream, uint64_t position) {
    const std::lock_guard<std::recursive_mutex> guard(device);
    while (stream.done < position) {
        const auto work = std::move(stream.pending.front());
        stream.pending.pop_front();
        work();
        stream.done++;
    }
}

}  // namespace

bool emulated::late() {
    static const bool value = [] {
        const char* streams = std::getenv("EMULATED_CUDA_STREAMS");
        return streams && !std::strcmp(streams, "late");
    }();
    return value;
}

void emulated::finish(void* stream) { run_until(stream_of(stream), stream_of(stream).given); }

void emulated::finish_all() {
    const std::lock_guard<std::recursive_mutex> guard(device);
    for (CUstream_st& stream : streams) run_until(stream, stream.given);
}

emulated::Recording* emulated::recording_of(void* stream) {
    const std::lock_guard<std::recursive_mutex> guard(device);
    return stream_of(stream).recording.get();
}

void emulated::begin_recording(void* stream) {
    const std::lock_guard<std::recursive_mutex> guard(device);
    CUstream_st& origin = stream_of(stream);
    origin.recording = std::make_shared<Recording>();
    origin.recording->origin = &origin;
    origin.recording->clocks[&origin];
}

std::shared_ptr<emulated::Recording> emulated::end_recording(void* stream, CUresult* problem) {
    const std::lock_guard<std::recursive_mutex> guard(device);
    const std::shared_ptr<Recording> recording = stream_of(stream).recording;
    if (!recording) return nullptr;
    *problem = CUDA_SUCCESS;
    Clock& joined = recording->clocks[recording->origin];
    for (const auto& [other, clock] : recording->clocks) {
        static_cast<CUstream_st*>(other)->recording = nullptr;
        if (joined[other] < clock.at(other)) *problem = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    }
    if (&stream_of(stream) != recording->origin) *problem = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (recording->broken) *problem = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    recording->ended = true;
    return recording;
}

namespace {

void note(CUstream_st& stream, emulated::Piece piece) {
    stream.recording->work.push_back(std::move(piece));
    stream.recording->clocks[&stream][&stream]++;
}

}  // namespace

API void emulated_meet(void* name, std::function<bool(void*)> meeting) {
    const std::lock_guard<std::recursive_mutex> guard(device);
    note(stream_of(name), {nullptr, std::move(meeting)});
}

API void emulated_enqueue(void* name, std::function<void()> work) {
    const std::lock_guard<std::recursive_mutex> guard(device);
    CUstream_st& stream = stream_of(name);
    if (stream.recording) {
        note(stream, {std::move(work), nullptr});
        return;
    }
    stream.pending.push_back(std::move(work));
    stream.given++;
    if (!emulated::late()) run_until(stream, stream.given);
}

API void emulated_compute(void* stream, const char* name, std::function<void()> work) {
    emulated_count(name);
    if (!emulated::idle()) emulated_enqueue(stream, std::move(work));
}

API void emulated_take_time(double milliseconds) { taken += milliseconds; }

API CUresult cuStreamCreate(CUstream* stream, unsigned) {
    REQUIRE_CONTEXT();
    const std::lock_guard<std::recursive_mutex> guard(device);
    *stream = &streams.emplace_back();
    return CUDA_SUCCESS;
}

API CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) {
    return cuStreamCreate(stream, flags);
}

API CUresult cuStreamSynchronize(CUstream stream) {
    REQUIRE_CONTEXT();
    if (const CUresult refused = emulated::refuse_in_capture(stream)) return refused;
    emulated_count("wait");
    emulated::finish(stream);
    return CUDA_SUCCESS;
}

API CUresult cuStreamQuery(CUstream stream) { return cuStreamSynchronize(stream); }

API CUresult cuStreamDestroy_v2(CUstream stream) { return cuStreamSynchronize(stream); }

API CUresult cuCtxSynchronize() {
    REQUIRE_CONTEXT();
    emulated::finish_all();
    return CUDA_SUCCESS;
}

API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    REQUIRE_CONTEXT();
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    const std::lock_guard<std::recursive_mutex> guard(device);
    CUstream_st& waiting = stream_of(stream);
    if (const auto& recording = event->recording) {
        if (waiting.recording && waiting.recording != recording) {
            waiting.recording->broken = recording->broken = true;
            return CUDA_ERROR_STREAM_CAPTURE_MERGE;
        }
        if (recording->ended) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
        emulated::Clock& clock = recording->clocks[&waiting];
        // It takes part from now on.
        if (!waiting.recording) clock[&waiting]++;
        waiting.recording = recording;
        for (const auto& [other, position] : event->clock)
            clock[other] = std::max(clock[other], position);
        return CUDA_SUCCESS;
    }
    // A capture knows no work outside of it.
    if (event->stream && waiting.recording) {
        emulated::refuse_in_capture(stream);
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    // An event that was never recorded has nothing to wait for.
    CUstream_st* other = event->stream;
    const uint64_t position = event->position;
    if (other) emulated_enqueue(stream, [=] { run_until(*other, position); });
    return CUDA_SUCCESS;
}

API CUresult cuLaunchHostFunc(CUstream stream, void (*function)(void*), void* argument) {
    REQUIRE_CONTEXT();
    emulated_enqueue(stream, [=] { function(argument); });
    return CUDA_SUCCESS;
}

API CUresult cuEventCreate(CUevent* event, unsigned) {
    REQUIRE_CONTEXT();
    *event = new CUevent_st;
    return CUDA_SUCCESS;
}

API CUresult cuEventDestroy_v2(CUevent event) {
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    delete event;
    return CUDA_SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
    REQUIRE_CONTEXT();
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    const auto when = std::make_shared<double>();
    emulated_enqueue(stream, [=] { *when = device_time(); });
    event->stream = &stream_of(stream);
    event->recording = event->stream->recording;
    if (event->recording) event->clock = event->recording->clocks[event->stream];
    event->position = event->stream->given;
    event->when = when;
    return CUDA_SUCCESS;
}

API CUresult cuEventSynchronize(CUevent event) {
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->recording) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (event->stream) run_until(*event->stream, event->position);
    return CUDA_SUCCESS;
}

API CUresult cuEventQuery(CUevent event) { return cuEventSynchronize(event); }

API CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    if (!start || !end || !start->stream || !end->stream) return CUDA_ERROR_INVALID_HANDLE;
    const std::lock_guard<std::recursive_mutex> guard(device);
    for (const CUevent event : {start, end})
        if (event->stream->done < event->position) return CUDA_ERROR_NOT_READY;
    *milliseconds = float(*end->when - *start->when);
    return CUDA_SUCCESS;
}

API CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}
