// A fiber takes one thread of the block after another and runs the kernel for it. It stops only
// where a thread waits for others (`__syncthreads`, a shuffle); then the next fiber goes on with
// the threads that are left. A kernel without barriers therefore runs as a plain loop in one fiber.

#include "execution.h"

#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#include "../include/cuda_runtime.h"
#include "memory.h"

EXPORTED uint3 emulated_thread, emulated_block;
EXPORTED dim3 emulated_block_size, emulated_grid_size;
EXPORTED char* emulated_dynamic_shared;

namespace emulated {
namespace {

constexpr unsigned WARP = 32;
constexpr unsigned MOST_THREADS = 1024, WARPS = MOST_THREADS / WARP;
constexpr size_t STACK_BYTES = 128 << 10;

enum class Waits { no, for_warp, for_block };

struct Fiber {
    jmp_buf place;
    bool begun = false;
    Waits waits = Waits::no;
    unsigned thread = 0;     // its number in the block
    unsigned exchanges = 0;  // shuffles that the thread has taken part in
};

struct Warp {
    std::vector<Fiber*> waiting;  // in the order in which its threads began
    bool released = false;        // from `__syncthreads`
};

// What a lane hands to its warp. Two sets in turn, so that a quick lane's next value can't
// overwrite one that a slow lane has yet to read.
struct Handed {
    unsigned exchange;  // which shuffle it belongs to; 0: none yet
    alignas(16) char bytes[16];
};

const EmulatedKernel* kernel;
void** parameters;
unsigned threads, begun_threads;
uint3 places[MOST_THREADS];  // the threadIdx of each thread
Fiber fibers[MOST_THREADS];
Warp warps[WARPS];
std::vector<Fiber*> idle = [] {
    std::vector<Fiber*> all;
    for (Fiber& fiber : fibers) all.push_back(&fiber);
    return all;
}();
Fiber* running;
jmp_buf scheduler;
Handed handed[2][MOST_THREADS];
bool handed_any = false;

// Threads that need a barrier and lack one often come out right in one order and wrong in the
// other.
bool reversed() {
    static const bool value = [] {
        const char* order = std::getenv("EMULATED_CUDA_ORDER");
        return order && !std::strcmp(order, "reversed");
    }();
    return value;
}

void become(unsigned thread) {
    running->thread = thread;
    emulated_thread = places[thread];
}

void back_to_scheduler() {
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

void fiber_main() {
    for (;;) {
        while (begun_threads < threads) {
            const unsigned number = begun_threads++;
            running->exchanges = 0;
            become(reversed() ? threads - 1 - number : number);
            kernel->run(parameters);
        }
        running->waits = Waits::no;
        back_to_scheduler();
    }
}

void begin(Fiber& fiber) {
    fiber.begun = true;
    void* stack =
        mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) fail("no memory for the stack of a thread");
    static ucontext_t entry;  // static: still read after the jump back
    getcontext(&entry);
    entry.uc_stack.ss_sp = stack;
    entry.uc_stack.ss_size = STACK_BYTES;
    entry.uc_link = nullptr;
    makecontext(&entry, fiber_main, 0);
    setcontext(&entry);
}

// Lets a fiber run until it waits or has no thread left to take.
void resume(Fiber& fiber) {
    running = &fiber;
    if (!_setjmp(scheduler)) {
        if (!fiber.begun) begin(fiber);
        if (fiber.waits != Waits::no) become(fiber.thread);
        _longjmp(fiber.place, 1);
    }
    (fiber.waits == Waits::no ? idle : warps[fiber.thread / WARP].waiting).push_back(&fiber);
}

unsigned used_warps() { return (threads + WARP - 1) / WARP; }

// Whether all threads of the warp wait for each other. Threads that returned are not waited for.
bool is_whole(const Warp& warp) {
    for (const Fiber* fiber : warp.waiting)
        if (fiber->waits != Waits::for_warp) return false;
    return true;
}

// Lets a warp run until it waits for the block or is done.
void run_warp(Warp& warp) {
    while (!warp.waiting.empty() && (warp.released || is_whole(warp))) {
        warp.released = false;
        std::vector<Fiber*> before;
        before.swap(warp.waiting);
        for (Fiber* fiber : before) resume(*fiber);
    }
}

// Lets every thread that is left pass `__syncthreads`; whether there is any.
bool release_block() {
    bool any = false;
    for (unsigned i = 0; i < used_warps(); i++) {
        Warp& warp = warps[i];
        for (const Fiber* fiber : warp.waiting)
            if (fiber->waits != Waits::for_block)
                fail("%s: of one warp, some threads wait at a shuffle and some at __syncthreads",
                     kernel->name);
        warp.released = !warp.waiting.empty();
        any |= warp.released;
    }
    return any;
}

void run_block() {
    if (handed_any) std::memset(handed, 0, sizeof handed);
    handed_any = false;
    begun_threads = 0;
    while (begun_threads < threads) {
        Fiber* fiber = idle.back();
        idle.pop_back();
        resume(*fiber);
    }
    // One warp runs ahead as far as it can before the next has its turn, as it may on a card.
    do {
        const unsigned count = used_warps();
        for (unsigned i = 0; i < count; i++) run_warp(warps[reversed() ? count - 1 - i : i]);
    } while (release_block());
}

}  // namespace

void launch(const EmulatedKernel& which, Size3 grid, Size3 block, size_t shared_bytes,
            void** given) {
    kernel = &which;
    parameters = given;
    threads = block.x * block.y * block.z;
    emulated_block_size = {block.x, block.y, block.z};
    emulated_grid_size = {grid.x, grid.y, grid.z};
    uint3* place = places;
    for (unsigned z = 0; z < block.z; z++)
        for (unsigned y = 0; y < block.y; y++)
            for (unsigned x = 0; x < block.x; x++) *place++ = {x, y, z};
    std::vector<char> shared(shared_bytes + 16, char(0xFF));
    emulated_dynamic_shared =
        shared.data() + (16 - reinterpret_cast<uintptr_t>(shared.data()) % 16);
    emulated_now(kernel->name);
    kernel->check(kernel->name, parameters);
    const size_t blocks = size_t(grid.x) * grid.y * grid.z;
    for (size_t step = 0; step < blocks; step++) {
        const size_t number = reversed() ? blocks - 1 - step : step;
        emulated_block = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y),
                          unsigned(number / grid.x / grid.y)};
        run_block();
    }
    emulated_now(nullptr);
}

}  // namespace emulated

API void emulated_wait_for_block() {
    emulated::running->waits = emulated::Waits::for_block;
    emulated::back_to_scheduler();
}

API void emulated_wait_for_warp() {
    emulated::running->waits = emulated::Waits::for_warp;
    emulated::back_to_scheduler();
}

API void emulated_exchange(void* value, size_t bytes, unsigned source_lane) {
    using namespace emulated;
    Fiber& self = *running;
    handed_any = true;
    const unsigned exchange = ++self.exchanges;
    Handed* set = handed[exchange % 2];
    set[self.thread].exchange = exchange;
    std::memcpy(set[self.thread].bytes, value, bytes);
    emulated_wait_for_warp();
    // A lane that returned or never was gives an undefined value: make it one that shows.
    const unsigned source = self.thread / WARP * WARP + source_lane;
    if (source < threads && set[source].exchange == exchange)
        std::memcpy(value, set[source].bytes, bytes);
    else
        std::memset(value, 0xFF, bytes);
}
