// A function that the emulator leaves out: a program can be linked with it, but not call it.
#pragma once

#include "driver/api.h"

#define MISSING(name) \
    API __attribute__((weak)) void name() { emulated::fail("%s is not emulated", #name); }
