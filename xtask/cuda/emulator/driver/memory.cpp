#include "memory.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "counts.h"

namespace emulated {
namespace {

struct Allocation {
    size_t bytes;
    void* pages;
    size_t mapped;
    Owner owner;
};

// Leaked on purpose: a program may free device memory from its own destructors at exit.
std::mutex& lock = *new std::mutex;
std::map<uintptr_t, Allocation>& allocations = *new std::map<uintptr_t, Allocation>;
size_t used = 0, in_pool = 0, most_in_pool = 0, reserved = 0;
size_t pool_limit = SIZE_MAX;

// cudaMalloc promises 256 bytes, but the narrower the gap before the guard page, the more overruns
// show. 16 is what the widest vector loads need.
constexpr size_t ALIGNMENT = 16;

size_t rounded_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t total_memory() {
    static const size_t total = [] {
        const char* text = std::getenv("EMULATED_CUDA_MEMORY");
        const size_t bytes = text ? std::strtoull(text, nullptr, 10) : 0;
        return bytes ? bytes : size_t(8) << 30;
    }();
    return total;
}

// The allocation that holds `address`, its end included: a view of no elements may point there.
std::map<uintptr_t, Allocation>::iterator holder(uintptr_t address) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return allocations.end();
    --next;
    return address <= next->first + next->second.bytes ? next : allocations.end();
}

thread_local const char* operation = nullptr;
struct sigaction handler_before;

// A kernel that runs past the end of an allocation hits its guard page: say which kernel.
void on_fault(int, siginfo_t* info, void*) {
    if (!operation) {
        sigaction(SIGSEGV, &handler_before, nullptr);  // the program's own fault, met again at once
        return;
    }
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin())
        fail("%s touches %p, which is no device memory", operation, info->si_addr);
    --next;
    fail("%s touches %p, %zu bytes from the start of an allocation of %zu", operation,
         info->si_addr, size_t(address - next->first), next->second.bytes);
}

void watch_faults() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &action, &handler_before);
    });
}

// An idle device takes the time of a pool that has enough: a block of the size that was freed last.
struct Pool {
    std::map<size_t, std::vector<void*>> free;
    std::unordered_map<void*, size_t> sizes;
} & pool = *new Pool;

void* take_from_pool(size_t bytes) {
    const std::lock_guard<std::mutex> guard(lock);
    const size_t size = rounded_up(bytes, 512);
    std::vector<void*>& free = pool.free[size];
    if (free.empty()) {
        void* fresh = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fresh == MAP_FAILED) return nullptr;
        pool.sizes[fresh] = size;
        return fresh;
    }
    void* block = free.back();
    free.pop_back();
    return block;
}

void give_to_pool(void* start) {
    const std::lock_guard<std::mutex> guard(lock);
    pool.free[pool.sizes.at(start)].push_back(start);
}

}  // namespace

void* allocate(size_t bytes, Owner owner) {
    if (idle()) return take_from_pool(bytes);
    watch_faults();
    const std::lock_guard<std::mutex> guard(lock);
    if (bytes > total_memory() - used) return nullptr;
    const bool of_pool = owner == Owner::pool;
    if (of_pool && (in_pool > pool_limit || bytes > pool_limit - in_pool)) return nullptr;
    const size_t page = sysconf(_SC_PAGESIZE);
    const size_t room = rounded_up(bytes, page), mapped = room + page;
    void* pages =
        mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    if (mprotect(pages, room, PROT_READ | PROT_WRITE) != 0) fail("mprotect fails");
    std::memset(pages, 0xFF, room);
    char* start = static_cast<char*>(pages) + room - rounded_up(bytes, ALIGNMENT);
    allocations[reinterpret_cast<uintptr_t>(start)] = {bytes, pages, mapped, owner};
    used += bytes;
    if (of_pool) in_pool += bytes;
    most_in_pool = std::max(most_in_pool, in_pool);
    reserved = std::max(reserved, in_pool);
    return start;
}

void release(void* start, const char* who) {
    if (!start) return;
    if (idle()) return give_to_pool(start);
    const std::lock_guard<std::mutex> guard(lock);
    auto found = allocations.find(reinterpret_cast<uintptr_t>(start));
    if (found == allocations.end()) fail("%s(%p): not the start of live device memory", who, start);
    munmap(found->second.pages, found->second.mapped);
    used -= found->second.bytes;
    if (found->second.owner == Owner::pool) in_pool -= found->second.bytes;
    allocations.erase(found);
}

MemoryUse memory_use() {
    const std::lock_guard<std::mutex> guard(lock);
    return {total_memory(), used, in_pool, most_in_pool, reserved};
}

void limit_pool(size_t bytes) {
    const std::lock_guard<std::mutex> guard(lock);
    pool_limit = bytes;
}

void trim_pool(size_t bytes) {
    const std::lock_guard<std::mutex> guard(lock);
    reserved = std::max(in_pool, std::min(reserved, bytes));
}

}  // namespace emulated

API void emulated_now(const char* operation) { emulated::operation = operation; }

API void emulated_require_device(const void* pointer, size_t bytes, const char* who) {
    using namespace emulated;
    if (idle()) return;
    const std::lock_guard<std::mutex> guard(lock);
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    const auto found = holder(address);
    if (found == allocations.end()) fail("%s: %p is no live device memory", who, pointer);
    const size_t left = found->first + found->second.bytes - address;
    if (bytes > left)
        fail("%s: %zu bytes at %p, where the allocation has only %zu left", who, bytes, pointer,
             left);
}
