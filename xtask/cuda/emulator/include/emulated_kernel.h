// Makes a `__global__` function callable by name: the build appends `EMULATED_KERNEL(name)` for
// each kernel of a source file.
#pragma once

#include <cstddef>
#include <cstdio>
#include <type_traits>
#include <utility>
#include <vector>

// One kernel. `check` is called once a launch, `run` once a thread.
struct EmulatedKernel {
    const char* name;
    void (*check)(const char* name, void** parameters);
    void (*run)(void** parameters);
    std::vector<size_t> sizes;  // of the arguments, in bytes
};

extern "C" void emulated_add_kernel(const EmulatedKernel& kernel);
extern "C" void emulated_require_device(const void* pointer, size_t bytes, const char* who);

template <typename Function>
struct EmulatedLaunch;

// A launch hands over one pointer to each argument; the function's own type says how to read them.
template <typename... Arguments>
struct EmulatedLaunch<void (*)(Arguments...)> {
    template <void (*kernel)(Arguments...), size_t... I>
    static void call(void** parameters, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<Arguments>*>(parameters[I])...);
    }

    template <void (*kernel)(Arguments...)>
    static void run(void** parameters) {
        call<kernel>(parameters, std::index_sequence_for<Arguments...>());
    }

    // A pointer that is neither null nor device memory gives away arguments in the wrong order.
    template <typename Argument>
    static void check_one(const char* name, size_t position, void* parameter) {
        if constexpr (std::is_pointer_v<std::remove_cv_t<Argument>>) {
            const void* pointer = *static_cast<void**>(parameter);
            if (!pointer) return;
            char who[128];
            std::snprintf(who, sizeof who, "%s, argument %zu", name, position);
            emulated_require_device(pointer, 0, who);
        }
    }

    template <size_t... I>
    static void check_all(const char* name, void** parameters, std::index_sequence<I...>) {
        (check_one<Arguments>(name, I, parameters[I]), ...);
    }

    static std::vector<size_t> sizes() { return {sizeof(Arguments)...}; }

    static void check(const char* name, void** parameters) {
        check_all(name, parameters, std::index_sequence_for<Arguments...>());
    }
};

#define EMULATED_KERNEL(name)                                                             \
    [[maybe_unused]] static const bool emulated_added_##name = [] {                       \
        using Launch = EmulatedLaunch<decltype(&name)>;                                   \
        emulated_add_kernel({#name, Launch::check, Launch::run<&name>, Launch::sizes()}); \
        return true;                                                                      \
    }();
