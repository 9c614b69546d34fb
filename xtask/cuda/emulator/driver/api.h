// What every emulated library shares: how a function is exported and how the emulator gives up.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#define EXPORTED __attribute__((visibility("default")))
#define API extern "C" EXPORTED

namespace emulated {

// A call that a card would answer with undefined behaviour ends the program with a message instead.
[[noreturn, gnu::format(printf, 1, 2)]] inline void fail(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::fputs("emulated CUDA: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
    std::abort();
}

}  // namespace emulated
