#pragma once

#include "emulated_half.h"

using __half = Emulated16<EmulatedBinary16>;
using half = __half;
using __half2 = Emulated16Pair<EmulatedBinary16>;
using __half_raw = __half;

inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline float __half2float(__half x) { return x; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short bits) { return __half::from_bits(bits); }
