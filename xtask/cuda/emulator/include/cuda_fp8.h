// candle's kernels name this type in every file; nothing in this project computes with it.
#pragma once

#include "cuda_fp16.h"

enum __nv_fp8_interpretation_t { __NV_E4M3 };

struct __nv_fp8_e4m3 {  // 1 sign, 4 exponent (bias 7), 3 fraction bits; no infinity, one NaN
    uint8_t __x;

    __nv_fp8_e4m3() = default;
    template <typename T>
    explicit __nv_fp8_e4m3(T value) : __x(encode(float(value))) {}

    static uint8_t encode(float value) {
        const uint8_t sign = std::signbit(value) ? 0x80 : 0;
        const float magnitude = std::fabs(value);
        if (std::isnan(value)) return 0x7f;
        if (magnitude == 0) return sign;
        if (magnitude >= 448) return sign | 0x7e;  // saturates at the largest
        int exponent;
        std::frexp(magnitude, &exponent);
        if (exponent < -5) exponent = -5;
        return uint8_t(sign | (((exponent + 5) << 3) +
                               unsigned(std::nearbyint(std::ldexp(magnitude, 4 - exponent)))));
    }
};

inline __half __nv_cvt_fp8_to_halfraw(uint8_t bits, __nv_fp8_interpretation_t) {
    const int exponent = bits >> 3 & 15, fraction = bits & 7;
    float magnitude =
        std::ldexp(float(exponent ? 8 + fraction : fraction), (exponent ? exponent : 1) - 10);
    if ((bits & 0x7f) == 0x7f) magnitude = NAN;
    return bits & 0x80 ? -magnitude : magnitude;
}
