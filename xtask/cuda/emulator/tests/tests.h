// `make check`: the emulator held against what it stands for. Silent when everything holds.
#pragma once

#include <vector>

#include "../driver/api.h"

#define CHECK(condition) \
    if (!(condition)) emulated::fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition)

void test_halves();
void test_device();
void test_streams();
void test_graphs();
void test_products();
void test_collectives();
void test_convolutions();

// Small numbers that differ from each other, the same at every run.
inline float sample(size_t i) { return float(int(i * 7919 % 31) - 15) / 8; }

// Waits for the device, whose memory is then up to date for whoever reads it.
void synchronize();

// A copy on the device, which lasts as long as the program.
void* on_device(const void* data, size_t bytes);
template <typename T>
T* on_device(const std::vector<T>& values) {
    return static_cast<T*>(on_device(values.data(), values.size() * sizeof(T)));
}
